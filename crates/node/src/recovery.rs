//! From the journal to a core: the snapshot, then every record after it, through the same `apply` as live traffic.

use std::{
    cell::Cell,
    io::{self, Read, Write},
    panic::{self, AssertUnwindSafe},
    sync::atomic::{AtomicBool, Ordering},
};

use broker::{Broker, Change, Lost, RecordKind};
use journal::{Engine, Journal, Loss, Replay};
use message::{StoredId, Timestamp};
use session::Secret;

use crate::{Config, Host, clock::Clock, node::StartError, step::BODY_PART};

/// The least that a segment must take, in bytes: half of it is the longest record, a part of a body or a long head among them.
const SEGMENT_LEN_MIN: u64 = 1 << 20;

/// A node's memory, rebuilt.
pub(crate) struct Recovered {
    pub(crate) journal: Journal,
    /// What commits, where the caller steps it: else the journal's own thread does.
    pub(crate) engine: Option<Engine>,
    pub(crate) broker: Broker,
    pub(crate) epoch: u64,
    /// The latest time in the journal, its leases included.
    pub(crate) last: Timestamp,
    /// This process: sixteen random bytes.
    pub(crate) uuid: [u8; 16],
    /// Entropy for made-up names.
    pub(crate) seed: u64,
    /// The store's secret, should it have none.
    pub(crate) fresh_secret: Secret,
    /// What the core refers to and cannot be read, and was given up: to be let go first.
    pub(crate) lost: Lost,
}

/// Opens the journal and replays it. `stepped`: the caller commits.
pub(crate) fn recover(
    config: &Config,
    clock: &Clock,
    stepped: bool,
) -> Result<Recovered, StartError> {
    let host = &**clock.host();
    let uuid = fresh_uuid(host);
    let now_ms = clock.now().0;
    let mut sizes = if stepped {
        config.journal.clone()
    } else {
        sizes(config)
    };
    sizes.accept_loss = sizes.accept_loss && is_served_without_what_is_lost(config, host);
    let accepts = sizes.accept_loss;
    let (opened, engine) = if stepped {
        let (opened, engine) =
            journal::open_stepped(host.vfs(), &config.data_dir, sizes, now_ms, uuid)?;
        (opened, Some(engine))
    } else {
        let opened = journal::open(host.vfs(), &config.data_dir, sizes, now_ms, uuid)?;
        (opened, None)
    };
    let replay_error = |what| Unreplayed::Unread(what).of(config);
    let never = AtomicBool::new(false);
    let replayed = replay(opened.replay, config.broker.clone(), &never, false);
    let (broker, last) = replayed.map_err(|why| why.of(config))?;
    opened
        .journal
        .add_refs(|count| broker.for_each_stored(count));
    let lost = unreadable(&opened.journal, &broker, accepts).map_err(replay_error)?;
    tell(&broker, &lost);
    crate::stream_files::check(&opened.journal, &broker).map_err(replay_error)?;
    let counters = broker.counters();
    tracing::info!(
        epoch = opened.epoch,
        queues = counters.queues,
        messages = counters.messages_ready,
        retained = counters.retained,
        "recovered from the journal"
    );
    let last = last.max(Timestamp(opened.seen_ms));
    let recovered = Recovered::of(opened.journal, engine, broker, last, uuid, host)?;
    Ok(Recovered { lost, ..recovered })
}

impl Recovered {
    pub(crate) fn of(
        journal: Journal,
        engine: Option<Engine>,
        broker: Broker,
        last: Timestamp,
        uuid: [u8; 16],
        host: &dyn Host,
    ) -> Result<Self, StartError> {
        Ok(Self {
            epoch: journal.epoch(),
            journal,
            engine,
            broker,
            last,
            uuid,
            seed: u64::from_le_bytes(uuid[..8].try_into().expect("a uuid has 16 bytes")),
            fresh_secret: fresh_secret(host).map_err(StartError::Entropy)?,
            lost: Lost::default(),
        })
    }
}

/// What the core refers to and cannot be read, of what was given up: what lay in batches that were, and, if the operator says so now
/// (`accepts`), what is in no file.
///
/// # Errors
/// If more than that is missing.
pub(crate) fn unreadable(
    journal: &Journal,
    broker: &Broker,
    accepts: bool,
) -> Result<Lost, String> {
    let dangling = journal.stats().dangling > 0;
    let given_up = journal.given_up_batches();
    if !dangling && !given_up.iter().any(|range| journal.covers_any(*range)) {
        return Ok(Lost::default());
    }
    let was_given_up = |id: StoredId| {
        let batch = journal::batch_of(id);
        let behind = given_up.partition_point(|(first, _)| *first <= batch);
        behind > 0 && batch <= given_up[behind - 1].1
    };
    let mut missing = 0_u64;
    if dangling && !accepts {
        broker.for_each_stored(|id| missing += u64::from(!journal.holds(id) && !was_given_up(id)));
    }
    if missing > 0 {
        return Err(format!(
            "{missing} queued messages are in no segment: files are missing"
        ));
    }
    // What was moved out of a lost batch, or lies there whole, is not lost.
    Ok(
        broker
            .find_lost(|id| (was_given_up(id) || !journal.holds(id)) && journal.read(id).is_err()),
    )
}

/// Says what is given up, if anything is.
pub(crate) fn tell(broker: &Broker, lost: &Lost) {
    if let Some(loss) = broker.pending_loss() {
        tracing::error!(
            lost = loss.records,
            passed_over = loss.passed_over,
            "records are lost and given up; passed over are others that rest on them"
        );
    }
    if lost.messages() > 0 {
        tracing::error!(
            messages = lost.messages(),
            of = named(lost),
            "messages that cannot be read are given up"
        );
    }
}

/// Names that are told one by one.
const NAMES_TOLD: usize = 5;
/// Places of damage that are told one by one.
const PLACES_TOLD: usize = 3;

/// The queues and streams with something lost, and retained messages.
fn named(lost: &Lost) -> String {
    let mut told: Vec<String> = lost
        .names
        .iter()
        .take(NAMES_TOLD)
        .map(|name| format!("{name:?}"))
        .collect();
    if lost.names.len() > NAMES_TOLD {
        told.push(format!("{} more", lost.names.len() - NAMES_TOLD));
    }
    if !lost.retained.is_empty() {
        told.push(format!("{} topics", lost.retained.len()));
    }
    told.join(", ")
}

/// A damaged journal as it would be served without what is lost.
struct Rest {
    damage: Vec<Loss>,
    broker: Broker,
    lost: Lost,
}

/// Reads every byte of a journal that nobody serves, and changes nothing.
///
/// # Errors
/// If the damage cannot be given up: why.
fn rest(config: &Config, host: &dyn Host) -> Result<Rest, StartError> {
    let (vfs, uuid) = (host.vfs(), fresh_uuid(host));
    let assessed = journal::assess(vfs, &config.data_dir, sizes(config), uuid)?;
    let never = AtomicBool::new(false);
    let replayed = replay(assessed.replay, config.broker.clone(), &never, false);
    let (broker, _) = replayed.map_err(|why| why.of(config))?;
    let unread = |what| Unreplayed::Unread(what).of(config);
    let lost = unreadable(&assessed.journal, &broker, true).map_err(unread)?;
    crate::stream_files::check(&assessed.journal, &broker).map_err(unread)?;
    Ok(Rest {
        damage: assessed.damage,
        broker,
        lost,
    })
}

/// Whether what is left of a journal, once the damage is given up, can be served: what is given up is so for good.
fn is_served_without_what_is_lost(config: &Config, host: &dyn Host) -> bool {
    match rest(config, host) {
        Ok(_) => true,
        // It is to be made.
        Err(StartError::Journal(journal::OpenError::Absent { .. })) => true,
        Err(error) => {
            tracing::error!(%error, "nothing is given up: what is left cannot be served");
            false
        }
    }
}

/// What a journal that cannot be opened would lose if the damage were given up: a sentence or two for the operator. `None`: it cannot
/// be said, or is nothing.
pub(crate) fn assess(config: &Config, host: &dyn Host) -> Option<String> {
    let rest = rest(config, host);
    let Rest {
        damage,
        broker,
        lost,
    } = rest
        .inspect_err(|error| tracing::error!(%error, "what is left cannot be served"))
        .ok()?;
    if damage.is_empty() && lost.messages() == 0 {
        return None;
    }
    for loss in &damage {
        tracing::error!(%loss, "damage");
    }
    let mut places: Vec<String> = damage
        .iter()
        .take(PLACES_TOLD)
        .map(ToString::to_string)
        .collect();
    if damage.len() > PLACES_TOLD {
        places.push(format!("{} places more", damage.len() - PLACES_TOLD));
    }
    let mut told = match places.is_empty() {
        true => String::new(),
        false => format!("damage: {}. ", places.join("; ")),
    };
    let passed_over = broker.pending_loss().map_or(0, |loss| loss.passed_over);
    if passed_over > 0 {
        told.push_str(&format!(
            "{passed_over} later records rest on what is lost, and would be passed over. "
        ));
    }
    match lost.messages() {
        0 => told.push_str("No other message is lost"),
        messages => {
            told.push_str(&format!(
                "{messages} messages cannot be read: {}",
                named(&lost)
            ));
        }
    }
    Some(told)
}

/// The journal's sizes, no smaller than the longest record needs.
pub(crate) fn sizes(config: &Config) -> journal::Config {
    let mut sizes = config.journal.clone();
    sizes.segment_len = sizes.segment_len.max(SEGMENT_LEN_MIN);
    sizes.first_segment_len = sizes.first_segment_len.max(SEGMENT_LEN_MIN);
    sizes
}

/// Bytes of a snapshot on their way, until they are not wanted any more: an end in order does not wait for a large one.
pub(crate) struct Stoppable<'a, T> {
    io: T,
    stopping: &'a AtomicBool,
    yielding: Yielding,
}

impl<'a, T> Stoppable<'a, T> {
    pub(crate) const fn new(io: T, stopping: &'a AtomicBool, yields: bool) -> Self {
        Self {
            io,
            stopping,
            yielding: Yielding::when(yields),
        }
    }

    fn wanted(&mut self) -> io::Result<&mut T> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err(io::Error::other(STOPPED));
        }
        Ok(&mut self.io)
    }
}

impl<T: Read> Read for Stoppable<'_, T> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let n = self.wanted()?.read(bytes)?;
        self.yielding.passed(n);
        Ok(n)
    }
}

impl<T: Write> Write for Stoppable<'_, T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.wanted()?.write(bytes)?;
        self.yielding.passed(n);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.io.flush()
    }
}

const STOPPED: &str = "the node is stopping";

/// Why a history was not replayed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreplayed {
    /// It cannot be read, or is not wanted any more.
    #[error("{0}")]
    Unread(String),
    /// That record does not fit what is in front of it.
    #[error("record {}, kind {kind}, does not fit what is in front of it", id.0)]
    Unfit { id: StoredId, kind: u8 },
}

impl Unreplayed {
    /// Of that directory.
    pub(crate) fn of(self, config: &Config) -> StartError {
        let dir = config.data_dir.clone();
        let what = self.to_string();
        match self {
            Self::Unread(_) => StartError::Replay { dir, what },
            Self::Unfit { .. } => StartError::Unfit { dir, what },
        }
    }
}

/// The record that is being applied.
pub(crate) type At = Cell<(StoredId, u8)>;

/// Applies records, each of which says so in `At`. One that does not fit is refused like one that cannot be read: the core that it left
/// half changed is to be dropped.
pub(crate) fn fitting<T>(apply: impl FnOnce(&At) -> T) -> Result<T, Unreplayed> {
    let at = At::new((StoredId(0), 0));
    panic::catch_unwind(AssertUnwindSafe(|| apply(&at))).map_err(|_| {
        let (id, kind) = at.get();
        Unreplayed::Unfit { id, kind }
    })
}

/// Builds a core from a snapshot and the records after it, or fails soon once `stopping` is set.
pub(crate) fn replay(
    mut replay: Replay,
    config: broker::Config,
    stopping: &AtomicBool,
    yields: bool,
) -> Result<(Broker, Timestamp), Unreplayed> {
    let mut broker = match replay.snapshot() {
        Some(io) => Broker::decode_snapshot(config, &mut Stoppable::new(io, stopping, yields))
            .map_err(|error| Unreplayed::Unread(format!("the snapshot: {error}")))?,
        None => Broker::new(config),
    };
    let mut last = broker.last_time();
    let mut effects = Vec::new();
    let mut yielding = Yielding::when(yields);
    let mut gaps = replay.lost().into_iter().peekable();
    let replayed = fitting(|at| {
        replay.for_each(|id, kind, payload| -> Result<(), String> {
            if stopping.load(Ordering::Relaxed) {
                return Err(STOPPED.to_owned());
            }
            at.set((id, kind));
            while let Some((_, records)) = gaps.next_if(|(end, _)| journal::batch_of(id) > *end) {
                broker.after_loss(records);
            }
            if kind == BODY_PART {
                return Ok(());
            }
            let (time, change) = Change::decode(RecordKind(kind), payload)
                .map_err(|error| format!("record {}, kind {kind}: {error}", id.0))?;
            last = last.max(time);
            broker.apply(&change, time, Some(id), &mut effects);
            effects.clear();
            yielding.applied();
            Ok(())
        })
    })?;
    replayed.map_err(|error| Unreplayed::Unread(error.to_string()))?;
    for (_, records) in gaps {
        broker.after_loss(records);
    }
    Ok((broker, last))
}

/// Who applies much that nobody waits for lets those go first who wait for the processor: on a machine whose cores are all busy they
/// would wait for milliseconds else, and a confirmation with them. Who is late does not: each time may cost as long.
pub(crate) struct Yielding {
    yields: bool,
    /// In bytes of a snapshot.
    done: usize,
}

impl Yielding {
    /// Between two times: some tens of microseconds of work.
    const EVERY: usize = 8 << 10;
    /// What a record costs in bytes of a snapshot.
    const RECORD: usize = Self::EVERY / 64;

    pub(crate) const fn when(yields: bool) -> Self {
        Self { yields, done: 0 }
    }

    /// A record was applied.
    pub(crate) fn applied(&mut self) {
        self.passed(Self::RECORD);
    }

    /// So many bytes of a snapshot were read or written.
    fn passed(&mut self, bytes: usize) {
        self.done += bytes;
        if self.done >= Self::EVERY {
            self.done = 0;
            if self.yields {
                std::thread::yield_now();
            }
        }
    }
}

/// Bytes that nobody can guess. Whoever knew them could forge receipts, so there is nothing to fall back to.
fn fresh_secret(host: &dyn Host) -> io::Result<Secret> {
    let mut bytes = [0u8; 32];
    host.random(&mut bytes)?;
    Ok(Secret(bytes))
}

/// A random uuid (version 4).
pub(crate) fn fresh_uuid(host: &dyn Host) -> [u8; 16] {
    let mut bytes = [0u8; 16];
    if host.random(&mut bytes).is_err() {
        // No /dev/urandom: the time and this process' number differ from any other writer's on this host.
        bytes[..8].copy_from_slice(&host.clocks().wall_ms.to_le_bytes());
        bytes[8..12].copy_from_slice(&std::process::id().to_le_bytes());
    }
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    bytes
}
