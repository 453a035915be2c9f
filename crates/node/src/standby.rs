//! A node that follows another one: the same core, fed by the journal that the other one writes, until it takes its place.
//!
//! Its caller turns it: each turn reads what is new, and now and then looks whether the active node lives, makes ready
//! what a takeover needs, and writes the snapshots that the active would have to write else.
//! Nothing of it decides; so nothing happens here that is not in the journal.

use std::{
    io,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use broker::{Broker, Change, Effect, RecordKind};
use bytes::Bytes;
use journal::{Holder, Journal, Polled, Standby as Follower, StandbyError, Taken};
use message::{StoredId, Timestamp};
use session::Lag;

use crate::{
    Config, Host,
    clock::Clock,
    node::StartError,
    recovery::{self, At, Recovered, Yielding},
    step::BODY_PART,
};

/// How often it looks whether the active node lives, in ms.
const LOOK_EVERY_MS: u64 = 5;
/// The same while batches come, which are its signs of life: its lease says little more then, and to read it costs the machine as much as to
/// read them. With the first look that finds none it is due as ever.
const LOOK_COMING_MS: u64 = 50;
/// How often it does what else is due where every look finds batches, in ms: who comes while much is written is to be ready too.
const KEEP_COMING_MS: u64 = 100;
/// How often it is to say that it is there ([`Standby::registrar`]).
pub const REGISTER_EVERY: Duration = Duration::from_secs(1);
/// How often it forgets what the active has given back, in ms.
const TIDY_EVERY_MS: u64 = 5_000;
/// Batches that it may be behind and still take over.
const LAG_MAX: u64 = 256;
/// Batches that it may be behind and still let others go first.
const YIELDING_LAG_MAX: u64 = LAG_MAX / 4;
/// A node that was succeeded so often within [`FLAPPING_MS`], though it had only been slow, waits for this much longer than the lease of
/// another one that is silent, in ms; twice that once it happens again, and so on.
const PATIENCE_MS: u64 = 500;
const FLAPS: usize = 3;
const FLAPPING_MS: u64 = 60_000;
/// A write of a standby that takes longer than this tells that the disk is slow, in ms.
const SLOW_MS: u64 = 100;
/// For how long that does not count any more then, in ms.
const PATIENT_AGAIN_MS: u64 = 10_000;

/// Why a standby takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The active node has ended in order.
    Ended,
    /// An operator had the nodes change places.
    HandedOver,
    /// Its process is gone.
    Dead,
    /// Its lease has lapsed: it hangs, or cannot reach the journal.
    Silent,
}

impl Reason {
    /// A sentence for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ended => "the active node ended in order",
            Self::HandedOver => "switchover: an operator had the nodes change places",
            Self::Dead => "the active node's process is gone",
            Self::Silent => "the active node's lease lapsed",
        }
    }
}

/// What a turn came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing was to be done: turn again in a few ms.
    Idle,
    /// There may be more: turn again at once.
    More,
    /// What was to be read next is not there any more: open anew.
    Behind,
    /// The active node is gone: [`crate::Node::take_over_stepped`], or what [`crate::Pair`] does.
    TakeOver(Reason),
}

/// What outlives a standby that opens anew: how often this node was succeeded in vain, and whether it should let the other one go first.
///
/// Taking over costs each client a reconnection, and is in vain if the former node was only slow: then the storage or the machines are slower than
/// `failover_ms` allows for, and the nodes would take turns. Who was succeeded in vain knows that, and is patient with the other
/// one. A node that hung for longer than that was rightly succeeded, however often that happens: it makes nobody slower.
#[derive(Clone, Debug, Default)]
pub struct Manners {
    /// When this node was succeeded in vain, in ms of the host's boot clock.
    in_vain: Vec<u64>,
    /// This node gave up that epoch in order, at that time: it takes it back only if nobody else does.
    gave_up: Option<(u64, u64)>,
}

/// A disk that may have hung for everyone.
#[derive(Debug, Default)]
struct Stall {
    /// Until then the active node is waited for, though it is silent, in ms of the host's boot clock.
    patient_until: u64,
}

impl Stall {
    /// Whether a write took so long that the disk may have hung for everyone until now. Then the active node is about to go on, and has
    /// `failover_ms` for that; but not again and again, as the disk may always be so slow.
    fn may_end(&mut self, began_ms: u64, now_ms: u64, failover_ms: u64) -> bool {
        let took_ms = now_ms.saturating_sub(began_ms);
        let again = self.patient_until > 0 && now_ms < self.patient_until + PATIENT_AGAIN_MS;
        if took_ms <= SLOW_MS || again {
            return false;
        }
        tracing::info!(
            took_ms,
            "the active node is silent, and the disk was slow: it is waited for once more"
        );
        self.patient_until = now_ms + failover_ms;
        true
    }
}

/// How long a node that gave up in order lets others go first, in ms.
const AFTER_YOU_MS: u64 = 3_000;

impl Manners {
    /// Another node took this one's place, which had given no sign of life for `silent_ms` when it found that; `failover_ms` is how long others
    /// wait for one.
    pub fn succeeded(&mut self, silent_ms: u64, failover_ms: u64, now_ms: u64) {
        self.in_vain
            .retain(|at| now_ms.saturating_sub(*at) < FLAPPING_MS);
        if silent_ms <= failover_ms + failover_ms / 2 {
            self.in_vain.push(now_ms);
        }
    }

    /// This node ends its epoch so that another one goes on.
    pub const fn gave_up(&mut self, epoch: u64, now_ms: u64) {
        self.gave_up = Some((epoch, now_ms));
    }

    /// Whether this node is to follow first: it has given up so that another one goes on.
    pub(crate) const fn has_given_up(&self) -> bool {
        self.gave_up.is_some()
    }

    /// This node has an epoch of its own again.
    pub(crate) const fn took_over(&mut self) {
        self.gave_up = None;
    }

    /// How much longer than its lease a silent node is waited for, in ms.
    fn patience_ms(&self, now_ms: u64) -> u64 {
        let recent = self
            .in_vain
            .iter()
            .filter(|at| now_ms.saturating_sub(**at) < FLAPPING_MS)
            .count();
        match recent.saturating_sub(FLAPS - 1) {
            0 => 0,
            n => PATIENCE_MS << (n - 1).min(6),
        }
    }

    fn lets_others_go_first(&self, epoch: u64, now_ms: u64) -> bool {
        self.gave_up
            .is_some_and(|(gave_up, at)| gave_up == epoch && now_ms < at + AFTER_YOU_MS)
    }
}

/// See the module.
pub struct Standby {
    follower: Follower,
    broker: Broker,
    last: Timestamp,
    effects: Vec<Effect>,
    host: Arc<dyn Host>,
    /// Which goes by that of the active node.
    clock: Arc<Clock>,
    config: Config,
    manners: Manners,
    uuid: [u8; 16],
    looked_at: u64,
    kept_at: u64,
    tidied_at: u64,
    silent_since: Option<u64>,
    /// Since when the active node gave no sign of life.
    quiet_since: u64,
    /// A file could not be written: no candidate until one can.
    sick: bool,
    stall: Stall,
}

impl Standby {
    /// Reads the journal in the configured directory as far as it is proven durable, and builds a core from it.
    ///
    /// # Errors
    /// If there is no journal, or it cannot be read.
    pub fn open(
        config: &Config,
        host: Arc<dyn Host>,
        manners: Manners,
    ) -> Result<Self, StartError> {
        Self::open_by(config, Arc::new(Clock::start(host)), manners)
    }

    /// The same, by a clock that others read too.
    pub(crate) fn open_by(
        config: &Config,
        clock: Arc<Clock>,
        manners: Manners,
    ) -> Result<Self, StartError> {
        let host = Arc::clone(clock.host());
        let uuid = recovery::fresh_uuid(&*host);
        let now_ms = host.clocks().boot_ms;
        let sizes = recovery::sizes(config);
        let (follower, replay) = Follower::open(host.vfs(), &config.data_dir, sizes, uuid, now_ms)?;
        let (broker, last) = recovery::replay(
            replay,
            config.broker.clone(),
            &AtomicBool::new(false),
            false,
        )
        .map_err(|why| why.of(config))?;
        follower
            .journal()
            .add_refs(|count| broker.for_each_stored(count));
        tracing::info!(
            epoch = follower.epoch(),
            batch = follower.applied(),
            "following the active node"
        );
        Ok(Self {
            follower,
            broker,
            last,
            effects: Vec::new(),
            host,
            clock,
            config: config.clone(),
            manners,
            uuid,
            looked_at: now_ms,
            kept_at: now_ms,
            tidied_at: now_ms,
            silent_since: None,
            quiet_since: now_ms,
            sick: false,
            stall: Stall::default(),
        })
    }

    /// Whether the active node's process is gone, as far as that shows without reading anything.
    pub(crate) fn is_active_dead(&mut self) -> bool {
        // What cannot be looked at now is told by the next turn.
        let is_dead = self.follower.is_holder_dead().unwrap_or(false);
        if is_dead {
            // Whatever comes yet: it is no sign of life.
            self.looked_at = 0;
        }
        is_dead
    }

    /// The journal, to be asked how it is.
    pub(crate) fn journal(&self) -> &Journal {
        self.follower.journal()
    }

    /// Records that were passed over in the life of the journal, because what they rest on was lost and given up.
    pub(crate) const fn passed_over(&self) -> u64 {
        self.broker.passed_over()
    }

    /// The epoch that is followed.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.follower.epoch()
    }

    /// The last batch that was applied.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.follower.applied()
    }

    /// The history that was applied.
    #[must_use]
    pub fn mark(&self) -> journal::Mark {
        self.follower.mark()
    }

    /// Writes the durable state behind [`Self::mark`], as a snapshot would have it.
    ///
    /// # Errors
    /// Those of `sink`.
    pub fn encode_state(&self, sink: &mut dyn io::Write) -> io::Result<()> {
        self.broker.encode_snapshot(sink)
    }

    /// How far it is behind.
    #[must_use]
    pub fn lag(&self) -> Lag {
        Lag {
            batches: self.follower.lag(),
            bytes: self.follower.unapplied_bytes(),
            ms: self.follower.lag_ms(self.host.clocks().boot_ms),
        }
    }

    /// For how long the active node has given no sign of life, in ms of the host's boot clock: since it was last found alive, or since
    /// the lease of a silent one stands still.
    #[must_use]
    pub const fn quiet_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.quiet_since)
    }

    /// The clock that it goes by.
    pub(crate) const fn clock(&self) -> &Arc<Clock> {
        &self.clock
    }

    /// What the active node says of itself.
    #[must_use]
    pub fn note(&self) -> &[u8] {
        self.follower.note()
    }

    /// This process, sixteen random bytes.
    #[must_use]
    pub const fn uuid(&self) -> [u8; 16] {
        self.uuid
    }

    /// Writes that it is there: to be called every [`REGISTER_EVERY`], by another thread, as a write may take long.
    #[must_use]
    pub fn registrar(&self) -> journal::Registrar {
        self.follower.registrar()
    }

    /// Whether it could take over.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.sick
            && !self.follower.is_lost()
            && self.follower.is_prepared()
            && self.follower.lag() <= LAG_MAX
    }

    /// What outlives it.
    #[must_use]
    pub fn manners(&self) -> Manners {
        self.manners.clone()
    }

    /// Reads what is new, and does what is due.
    ///
    /// # Errors
    /// If the journal cannot be read or applied: open anew.
    pub fn turn(&mut self) -> Result<Turn, StartError> {
        let now_ms = self.host.clocks().boot_ms;
        let epoch = self.follower.epoch();
        let polled = self.poll(now_ms)?;
        if self.follower.epoch() != epoch {
            tracing::info!(epoch = self.follower.epoch(), "another node took over");
            self.silent_since = None;
            self.quiet_since = now_ms;
        }
        match polled {
            Polled::Behind => return Ok(Turn::Behind),
            Polled::More => self.quiet_since = now_ms,
            Polled::Idle => {}
        }
        let every_ms = match polled {
            Polled::More => LOOK_COMING_MS,
            Polled::Idle | Polled::Behind => LOOK_EVERY_MS,
        };
        if now_ms.saturating_sub(self.looked_at) >= every_ms {
            self.looked_at = now_ms;
            if let Some(reason) = self.look()? {
                return Ok(Turn::TakeOver(reason));
            }
        }
        let turn = match polled {
            Polled::More => Turn::More,
            Polled::Idle | Polled::Behind => Turn::Idle,
        };
        if turn == Turn::Idle || now_ms.saturating_sub(self.kept_at) >= KEEP_COMING_MS {
            self.kept_at = now_ms;
            self.keep(now_ms);
        }
        Ok(turn)
    }

    fn poll(&mut self, now_ms: u64) -> Result<Polled, StartError> {
        let journal = self.follower.journal().clone();
        let (broker, last, effects) = (&mut self.broker, &mut self.last, &mut self.effects);
        let in_time = self.follower.lag() <= YIELDING_LAG_MAX;
        let polled = recovery::fitting(|at| {
            let mut counting = journal.counting();
            let count = move |stored, by| counting.count(stored, by);
            let apply = applying(count, broker, last, effects, at, in_time);
            self.follower.poll(now_ms, apply)
        });
        let polled = polled.map_err(|why| why.of(&self.config))?;
        polled.map_err(|error| failed(&self.config, error))
    }

    /// Whether the active node is gone, and this one is fit to take its place.
    fn look(&mut self) -> Result<Option<Reason>, StartError> {
        let host = Arc::clone(&self.host);
        let holder = self.follower.look_at_holder(|| host.clocks().boot_ms)?;
        match self.follower.holder_time() {
            Some((time, boot_ms)) => self.clock.follow(time, boot_ms),
            None if self.clock.is_shown() => {}
            None => self.clock.compare(self.follower.seen_ms()),
        }
        let now_ms = self.host.clocks().boot_ms;
        let reason = match holder {
            Holder::Alive => {
                self.silent_since = None;
                self.quiet_since = now_ms;
                return Ok(None);
            }
            Holder::Ended => Reason::Ended,
            Holder::HandedOver => Reason::HandedOver,
            Holder::Dead => Reason::Dead,
            Holder::Silent => {
                self.quiet_since = now_ms.saturating_sub(self.follower.still_ms(now_ms));
                Reason::Silent
            }
        };
        if self
            .manners
            .lets_others_go_first(self.follower.epoch(), now_ms)
        {
            return Ok(None);
        }
        if reason == Reason::Silent {
            // It may be well, and could not be succeeded.
            if self.follower.is_lost() || now_ms < self.stall.patient_until {
                return Ok(None);
            }
            let since = *self.silent_since.get_or_insert(now_ms);
            if now_ms.saturating_sub(since) < self.manners.patience_ms(now_ms) {
                return Ok(None);
            }
            // The disk may hang for everyone: then nothing is gained.
            if let Err(error) = self.follower.registrar().write() {
                self.sick = true;
                tracing::warn!(%error, "the active node is silent, and this one cannot write either");
                return Ok(None);
            }
            let wrote_ms = self.host.clocks().boot_ms;
            let failover_ms = self.config.journal.lease_ms / 4 * 5;
            if self.stall.may_end(now_ms, wrote_ms, failover_ms) {
                return Ok(None);
            }
        }
        Ok(Some(reason))
    }

    /// What is due besides reading.
    fn keep(&mut self, now_ms: u64) {
        if !self.follower.is_prepared() {
            match self.follower.prepare() {
                Ok(()) => self.sick = false,
                Err(error) => {
                    if !std::mem::replace(&mut self.sick, true) {
                        tracing::warn!(%error, "what a takeover needs cannot be made ready");
                    }
                }
            }
        }
        self.follower.report(self.is_ready());
        let due = |at: u64, every: u64| now_ms.saturating_sub(at) >= every;
        if due(self.tidied_at, TIDY_EVERY_MS) {
            self.tidied_at = now_ms;
            self.clock.watch();
            if let Err(error) = self.follower.tidy() {
                tracing::warn!(%error, "failed to look what the active node has given back");
            }
            self.follower.journal().adopt_snapshots();
        }
        let whole = self.broker.pending_loss().is_none();
        if whole && self.follower.journal().snapshot_due() && self.follower.lag() <= LAG_MAX {
            let broker = &self.broker;
            let written = self
                .follower
                .write_snapshot(|mut sink| broker.encode_snapshot(&mut sink));
            match written {
                Ok(()) => tracing::debug!(batch = self.follower.applied(), "snapshot written"),
                Err(error) => tracing::warn!(%error, "failed to write a snapshot"),
            }
        }
    }

    /// Takes the place of the active node, which confirms nothing more from here on, whatever it is doing.
    pub(crate) fn take_over(mut self, stepped: bool) -> Result<(Recovered, Takeover), StartError> {
        let detect_us = self.quiet_ms(self.host.clocks().boot_ms) * 1000;
        let now_ms = self.clock.now().0;
        if !self.clock.is_confirmed() {
            // The active one was silent from before this one came: then it is as a start.
            self.follower.check_clock(now_ms)?;
        }
        let journal = self.follower.journal().clone();
        let (broker, last, effects) = (&mut self.broker, &mut self.last, &mut self.effects);
        let follower = self.follower;
        let taken = recovery::fitting(|at| {
            // One by one: what nobody refers to is looked for in between.
            let count = |id, by| match by {
                1 => journal.add_ref(id),
                _ => journal.drop_ref(id),
            };
            let apply = applying(count, broker, last, effects, at, false);
            if stepped {
                let (engine, taken) = follower.take_over_stepped(now_ms, apply)?;
                Ok((Some(engine), taken))
            } else {
                let (_, taken) = follower.take_over(now_ms, apply)?;
                Ok((None, taken))
            }
        });
        let taken = taken.map_err(|why| why.of(&self.config))?;
        let (engine, taken) = taken.map_err(|error| failed(&self.config, error))?;
        let lost = recovery::unreadable(&journal, &self.broker, false).map_err(|what| {
            StartError::Replay {
                dir: self.config.data_dir.clone(),
                what,
            }
        })?;
        recovery::tell(&self.broker, &lost);
        crate::stream_files::check(&journal, &self.broker).map_err(|what| StartError::Replay {
            dir: self.config.data_dir.clone(),
            what,
        })?;
        let takeover = Takeover { detect_us, taken };
        let recovered = Recovered::of(
            journal,
            engine,
            self.broker,
            self.last,
            self.uuid,
            &*self.host,
        )?;
        Ok((Recovered { lost, ..recovered }, takeover))
    }

    /// Goes in order: says so, and takes away what it made ready.
    pub fn leave(&self) {
        self.follower.leave();
    }
}

/// How a takeover went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Takeover {
    pub(crate) detect_us: u64,
    pub(crate) taken: Taken,
}

impl Takeover {
    /// As people and programs are told; when it was activated is for the caller to add.
    pub(crate) fn told(&self, reason: Reason, at: Timestamp) -> session::Takeover {
        session::Takeover {
            at,
            reason: reason.as_str().to_owned(),
            detect_us: self.detect_us,
            fence_us: self.taken.fence_us,
            tail_us: self.taken.tail_us,
            publish_us: self.taken.publish_us,
            activate_us: 0,
        }
    }
}

/// Applies records to a core, and counts the references that come and go with them.
fn applying<'a>(
    mut count: impl FnMut(StoredId, i64) + 'a,
    broker: &'a mut Broker,
    last: &'a mut Timestamp,
    effects: &'a mut Vec<Effect>,
    at: &'a At,
    yields: bool,
) -> impl FnMut(StoredId, u8, Bytes) -> Result<(), String> + 'a {
    let mut yielding = Yielding::when(yields);
    move |id, kind, payload| {
        at.set((id, kind));
        if kind == BODY_PART {
            return Ok(());
        }
        let (time, change) = Change::decode(RecordKind(kind), payload)
            .map_err(|error| format!("record {}, kind {kind}: {error}", id.0))?;
        *last = (*last).max(time);
        broker.apply(&change, time, Some(id), effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Ref(id) => count(id, 1),
                Effect::Unref(id) => count(id, -1),
                // Nobody is connected here.
                _ => {}
            }
        }
        yielding.applied();
        Ok(())
    }
}

fn failed(config: &Config, error: StandbyError<String>) -> StartError {
    match error {
        StandbyError::Open(error) => error.into(),
        StandbyError::Apply { source, .. } => StartError::Replay {
            dir: config.data_dir.clone(),
            what: source,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_hung_for_long_makes_nobody_patient() {
        let mut manners = Manners::default();
        for round in 0..40 {
            let now = 1_000_000 + round * 3_000;
            manners.succeeded(1_051, 700, now);
            assert_eq!(manners.patience_ms(now), 0);
        }
    }

    #[test]
    fn a_disk_that_hung_is_an_excuse_once_in_a_while() {
        let mut stall = Stall::default();
        assert!(!stall.may_end(1_000, 1_100, 700), "that was quick enough");
        assert_eq!(stall.patient_until, 0);
        assert!(stall.may_end(1_000, 4_000, 700));
        assert_eq!(stall.patient_until, 4_700);
        assert!(
            !stall.may_end(4_800, 6_000, 700),
            "it is slow, and no more than that"
        );
        assert!(!stall.may_end(13_000, 14_699, 700));
        assert!(stall.may_end(14_000, 14_700, 700));
    }

    #[test]
    fn who_is_succeeded_in_vain_again_and_again_becomes_patient_and_forgets_it_in_a_minute() {
        let mut manners = Manners::default();
        let mut patience = Vec::new();
        for round in 0..12 {
            manners.succeeded(900, 700, round * 1_000);
            patience.push(manners.patience_ms(round * 1_000));
        }
        assert_eq!(
            patience,
            [
                0, 0, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 32_000, 32_000, 32_000
            ]
        );
        assert_eq!(manners.patience_ms(60_000 + 8_999), 500);
        assert_eq!(manners.patience_ms(60_000 + 9_000), 0);
        manners.succeeded(900, 700, 90_000);
        assert_eq!(manners.in_vain.len(), 1, "what is forgotten takes no room");
    }
}
