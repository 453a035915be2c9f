//! What all connections of a server share: the core's port, the limits, who is open, and the drain.
//!
//! The drain has three phases, and a connection learns of each by being woken:
//!
//! | phase | listeners | a connection |
//! |---|---|---|
//! | quiet | accept no more | reads no more; what it handed in is still confirmed |
//! | closing | | its session hears `Closing { Shutdown }` after all events that were ready, and may read again for the goodbye |
//! | abort | | is dropped as if its peer had vanished |

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Waker},
    time::Duration,
};

use message::Timestamp;
use session::{LogRate, Peer, Port};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use crate::{
    Limits, Traffic,
    admission::{Admission, Admitted},
    alarms::{Alarms, NEVER},
    exchange::Spares,
    stranger::{Stranger, TooMuch},
    traffic,
};

/// Where the drain is. Only ever grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    Open,
    Quiet,
    Closing,
    Abort,
}

/// What was still open when a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that had to be dropped.
    pub dropped: usize,
}

/// What all connections share.
pub struct Server {
    port: Arc<dyn Port>,
    limits: Limits,
    phase: AtomicU8,
    open: AtomicUsize,
    none_open: Notify,
    wakers: Mutex<Wakers>,
    alarms: Arc<Alarms>,
    listeners: Mutex<Vec<(&'static str, Arc<Traffic>)>>,
    /// Lines about connections that ended through their peers' fault.
    endings: LogRate,
    /// Lines about connections that were not let in, and about accepts that failed.
    refusals: LogRate,
    admission: Admission,
    /// Bytes that strangers have sent beyond what each may.
    login_pool: AtomicUsize,
    /// Bytes of bodies of requests that are being read.
    bodies: AtomicUsize,
    spare_bodies: Spares,
}

#[derive(Default)]
struct Wakers {
    slots: Vec<Option<Waker>>,
    free: Vec<u32>,
}

impl Server {
    /// One with no listeners yet.
    #[must_use]
    pub fn new(port: Arc<dyn Port>, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            port,
            limits,
            phase: AtomicU8::new(Phase::Open as u8),
            open: AtomicUsize::new(0),
            none_open: Notify::new(),
            wakers: Mutex::default(),
            alarms: Alarms::new(),
            listeners: Mutex::default(),
            endings: LogRate::new(),
            refusals: LogRate::new(),
            admission: Admission::default(),
            login_pool: AtomicUsize::new(0),
            bodies: AtomicUsize::new(0),
            spare_bodies: Spares::default(),
        })
    }

    /// The core.
    #[must_use]
    pub fn port(&self) -> &Arc<dyn Port> {
        &self.port
    }

    /// The limits of each connection.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Connections open, over all listeners.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub(crate) const fn bodies(&self) -> &AtomicUsize {
        &self.bodies
    }

    pub(crate) const fn spare_bodies(&self) -> &Spares {
        &self.spare_bodies
    }

    pub(crate) const fn endings(&self) -> &LogRate {
        &self.endings
    }

    pub(crate) const fn refusals(&self) -> &LogRate {
        &self.refusals
    }

    /// Whether a connection from there may stay; what is let in is given a seat.
    pub(crate) fn admit(&self, address: SocketAddr) -> Admitted {
        self.admission
            .come(address.ip(), &self.limits, self.port.now())
    }

    /// A connection that was admitted is not there any more.
    pub(crate) fn dismiss(&self, address: SocketAddr) {
        self.admission.leave(address.ip(), &self.limits);
    }

    /// Whether a drain has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.phase() != Phase::Open
    }

    /// Bytes read and written since the start, all listeners together.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        let listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        listeners
            .iter()
            .fold((0, 0), |(read, written), (_, traffic)| {
                let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
                (
                    read + load(&traffic.bytes_in),
                    written + load(&traffic.bytes_out),
                )
            })
    }

    /// Appends the counters of all listeners in the Prometheus text format.
    pub fn write_metrics(&self, out: &mut String) {
        let listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        traffic::write_metrics(
            listeners.iter().map(|(name, traffic)| (*name, &**traffic)),
            out,
        );
    }

    /// A place for one more connection. `None`, counted as refused: the limit is reached, or the server drains.
    pub fn seat(self: &Arc<Self>, traffic: &Arc<Traffic>, peer: Peer) -> Option<Seat> {
        let taken = self
            .open
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |open| {
                (open < self.limits.connections_max && !self.is_draining()).then(|| open + 1)
            });
        if taken.is_err() {
            Traffic::add(&traffic.refused, 1);
            return None;
        }
        Traffic::add(&traffic.accepted, 1);
        Traffic::add(&traffic.open, 1);
        Some(Seat {
            traffic: Arc::clone(traffic),
            peer,
            stranger: Stranger::default(),
            watch: Watch::new(Arc::clone(self)),
        })
    }

    /// Ends all connections in order, within `limit`: no more are accepted and nothing more is read; `settled` is awaited,
    /// at most half of the time (the core's word that everything handed in is safe, so that it is confirmed before the
    /// goodbye); each session is told; what is left at nine tenths of the time is dropped.
    pub async fn drain(&self, settled: impl Future<Output = ()>, limit: Duration) -> Drained {
        let start = Instant::now();
        self.enter(Phase::Quiet);
        let _ = timeout_at(start + limit / 2, settled).await;
        self.enter(Phase::Closing);
        let _ = timeout_at(start + limit / 10 * 9, self.none_open()).await;
        let dropped = self.connections();
        if dropped > 0 {
            self.enter(Phase::Abort);
            let _ = timeout_at(start + limit, self.none_open()).await;
        }
        Drained { dropped }
    }

    async fn none_open(&self) {
        loop {
            let notified = self.none_open.notified();
            if self.connections() == 0 {
                return;
            }
            notified.await;
        }
    }

    fn enter(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::SeqCst);
        let mut wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        for waker in wakers.slots.iter_mut().flatten() {
            waker.wake_by_ref();
        }
    }

    /// Wakes those in these slots.
    pub(crate) fn wake(&self, slots: impl Iterator<Item = u32>) {
        let mut slots = slots.peekable();
        if slots.peek().is_none() {
            return;
        }
        let wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        for slot in slots {
            if let Some(Some(waker)) = wakers.slots.get(slot as usize) {
                waker.wake_by_ref();
            }
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::SeqCst) {
            0 => Phase::Open,
            1 => Phase::Quiet,
            2 => Phase::Closing,
            _ => Phase::Abort,
        }
    }

    pub(crate) fn add_listener(&self, name: &'static str, traffic: Arc<Traffic>) {
        let mut listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // A door in several places counts once.
        if !listeners
            .iter()
            .any(|(_, known)| Arc::ptr_eq(known, &traffic))
        {
            listeners.push((name, traffic));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.alarms.end();
    }
}

/// Wakes a task at each new phase, and when its alarm goes off.
pub(crate) struct Watch {
    server: Arc<Server>,
    slot: u32,
    /// What its waker in the server's table is of, which keeps that from being anything else; null: there is none yet.
    woken: usize,
    /// [`NEVER`]: none is set.
    alarm: u64,
}

impl Watch {
    pub(crate) fn new(server: Arc<Server>) -> Self {
        let mut wakers = server.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = wakers.free.pop().unwrap_or_else(|| {
            wakers.slots.push(None);
            u32::try_from(wakers.slots.len() - 1).expect("connections are fewer than 2^32")
        });
        drop(wakers);
        Self {
            server,
            slot,
            woken: 0,
            alarm: NEVER,
        }
    }

    /// The phase; the task is woken at the next one.
    pub(crate) fn poll_phase(&mut self, cx: &Context<'_>) -> Phase {
        // The lock is taken when the task polls for the first time, not at each poll.
        let woken = cx.waker().data().addr();
        if self.woken != woken {
            self.woken = woken;
            let mut wakers = self.wakers();
            wakers.slots[self.slot as usize] = Some(cx.waker().clone());
        }
        self.server.phase()
    }

    /// Has the task woken in so many ms, and not when its alarm said that was set before. Only once the phase was polled.
    fn set_alarm(&mut self, ms: u64) {
        let server = &self.server;
        self.alarm = server.alarms.set(server, self.slot, self.alarm, ms);
    }

    /// Whether the alarm has gone off since the last call.
    fn take_alarm(&mut self) -> bool {
        let rung = self.alarm != NEVER && self.server.alarms.has_rung(self.alarm);
        if rung {
            self.alarm = NEVER;
        }
        rung
    }

    fn wakers(&self) -> std::sync::MutexGuard<'_, Wakers> {
        self.server
            .wakers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.alarm != NEVER {
            self.server.alarms.cancel(self.slot, self.alarm);
        }
        let mut wakers = self.wakers();
        wakers.slots[self.slot as usize] = None;
        wakers.free.push(self.slot);
    }
}

/// The place of one open connection: it counts as open while this lives.
pub struct Seat {
    traffic: Arc<Traffic>,
    peer: Peer,
    stranger: Stranger,
    watch: Watch,
}

impl Seat {
    /// Who sits there.
    #[must_use]
    pub const fn peer(&self) -> &Peer {
        &self.peer
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.peer.address
    }

    pub(crate) const fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    pub(crate) fn server(&self) -> &Arc<Server> {
        &self.watch.server
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.watch.server.limits
    }

    /// So many bytes were read.
    pub(crate) fn hear(&mut self, len: usize) -> Result<(), TooMuch> {
        Traffic::add(&self.traffic.bytes_in, len);
        let server = &self.watch.server;
        self.stranger.hear(len, &server.login_pool, &server.limits)
    }

    /// The core knows the peer.
    pub(crate) fn make_known(&mut self) {
        self.stranger.give_back(&self.watch.server.login_pool);
    }

    pub(crate) const fn stranger(&self) -> &Stranger {
        &self.stranger
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.watch.server.port.now()
    }

    pub(crate) fn poll_phase(&mut self, cx: &Context<'_>) -> Phase {
        self.watch.poll_phase(cx)
    }

    /// Has the task woken in so many ms, and not when it was said before.
    pub(crate) fn set_alarm(&mut self, ms: u64) {
        self.watch.set_alarm(ms);
    }

    /// Whether the alarm has gone off since the last call.
    pub(crate) fn take_alarm(&mut self) -> bool {
        self.watch.take_alarm()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.make_known();
        self.server().dismiss(self.peer.address);
        self.traffic.open.fetch_sub(1, Ordering::Relaxed);
        if self.server().open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.server().none_open.notify_waiters();
        }
    }
}
