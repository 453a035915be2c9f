//! The state that a takeover rightly forgets: connections, consumers, credit, what is out to whom, messages and queues
//! that live in memory only, and the indexes that are rebuilt from durable state.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use message::{Message, Name, StoredId, Timestamp, VhostId};
use rustc_hash::FxHashMap;
use session::{
    ConsumerId, Credit, DeathReason, ExchangeOptions, Lane, Lease, QueueId, QueueOptions,
    SessionId, StreamId, Token,
};

use crate::{
    change::{Bound, ClientNo, ConsumerAdded, QueueDeclared, Share},
    decide::Routed,
    durable::{Client, Dedup, Queue},
    few::Few,
    pulls::Pulls,
    queue::{Near, Order, Rare, Receiver, Runs},
    recent::Recent,
    routing::{Exchange, Known},
    seldom::{Empty, Seldom},
    stream::{ReadAt, Reader, SoftStream},
    wheel::Wheel,
};

/// What an exchange routes to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    Queue(QueueId),
    Stream(StreamId),
    /// Boxed, as there are few of them and of the others millions.
    Exchange(Box<Name>),
    Client(Subscriber),
}

/// A client session's topic subscription, with what its deliveries need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Subscriber {
    pub(crate) client: ClientNo,
    pub(crate) qos: u8,
    pub(crate) no_local: bool,
    pub(crate) retain_as_published: bool,
    pub(crate) identifier: u32,
}

/// Routing keeps one a subscription.
const _: () = assert!(size_of::<Target>() == 16);

/// Something that is due at a time. What is due at one instant is done in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Timer {
    /// An entry is no longer hidden.
    Visible(QueueId, u64),
    /// An entry's own time to live is over.
    Expiry(QueueId, u64),
    /// The oldest entry of a queue with a time to live or a retention may be over.
    Age(QueueId),
    /// A task that moves messages out of a queue goes on.
    Move(QueueId, u64),
    /// A queue may have been unused for too long.
    Unused(QueueId),
    /// A client session ends.
    ClientEnd(ClientNo),
    /// A will is due.
    Will(ClientNo),
    /// A pull has waited long enough.
    Pull(SessionId, Token),
    /// A read has waited long enough.
    Read(SessionId, Token),
    /// The oldest records of a stream may be too old.
    Trim(StreamId),
    /// Shards of a stream may have been written to so much that they are split.
    Grow(StreamId),
    /// A topic object that was deleted still has subscriptions.
    DoomedTopic(crate::topic::TopicNo),
    /// The lease of a shard lapses that a member of its group waits for.
    Regroup(StreamId),
    /// A dead letter that nobody took is tried again.
    DeadLetter(QueueId, u64, DeathReason),
}

/// Where a soft entry's message is.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Resident(Arc<Message>),
    Stored(StoredId, u32),
}

/// An entry that lives in memory only.
#[derive(Clone, Debug)]
pub(crate) struct SoftEntry {
    pub(crate) place: Place,
    pub(crate) len: u32,
    pub(crate) enqueued: Timestamp,
    pub(crate) count: u32,
    pub(crate) flags: u16,
    pub(crate) priority: u8,
    pub(crate) rare: Option<Box<Rare>>,
    /// The record that was published with it: nothing overtakes it (RULES 4).
    pub(crate) wait: Option<StoredId>,
}

/// An entry that is out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Out {
    /// Whose it is; `None` when a deadline or a link holds it.
    pub(crate) receiver: Option<Receiver>,
    /// What waits for it: the consumer by its place, and its group. They may be gone, or another of that name be there.
    pub(crate) credited: Option<Credited>,
}

/// Whose window a delivery counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Credited {
    /// [`Consumer::place`].
    pub(crate) place: u64,
    pub(crate) group: u32,
}

/// The soft side of a queue, durable or not.
#[derive(Debug)]
pub(crate) struct SoftQueue {
    /// The next number to use.
    pub(crate) next: u64,
    pub(crate) messages: Near<SoftEntry>,
    pub(crate) message_bytes: u64,
    pub(crate) order: Order,
    /// Not visible yet: delayed.
    pub(crate) hidden: BTreeSet<u64>,
    /// Set aside until its message is fetched.
    pub(crate) aside: BTreeSet<u64>,
    pub(crate) out: Near<Out>,
    /// Of what is out, and of what is set aside.
    pub(crate) out_bytes: u64,
    /// In the order in which they came.
    pub(crate) consumers: Few<u64, Receiver>,
    /// Those that may receive now, highest priority first, then who waited longest. Whether their connections hold them up is found out
    /// when it is the queue's turn.
    pub(crate) active: Few<(Reverse<i32>, u64), Receiver>,
    /// The one that receives, of a queue with a single active consumer.
    pub(crate) single: Option<Receiver>,
    pub(crate) exclusive: bool,
    /// Pulls that wait, in the order in which they came.
    pub(crate) pulls: Pulls,
    /// It is being emptied, in slices.
    pub(crate) emptying: Option<Box<Emptying>>,
    /// Place in the round of queues that may have something to deliver.
    pub(crate) pump_at: Option<u64>,
    /// The connection that it is exclusive to.
    pub(crate) owner: Option<SessionId>,
    pub(crate) had_consumer: bool,
    pub(crate) last_used: Timestamp,
    /// What waits and was sent before it came here, and so does not stand in the order of its age (`Rare::sent`).
    pub(crate) elder: BTreeSet<(Timestamp, u64)>,
    /// When the queue's oldest entry is looked at.
    pub(crate) age_at: Option<Timestamp>,
    /// Dedup ids of soft entries.
    pub(crate) dedup: Dedup,
    /// It stands for a consumer of a stream, and holds nothing itself.
    pub(crate) reader: Option<Box<Reader>>,
}

impl SoftQueue {
    pub(crate) fn new(order: Order, now: Timestamp) -> Self {
        Self {
            next: 0,
            messages: Near::default(),
            message_bytes: 0,
            order,
            hidden: BTreeSet::new(),
            aside: BTreeSet::new(),
            out: Near::default(),
            out_bytes: 0,
            consumers: Few::default(),
            active: Few::default(),
            single: None,
            exclusive: false,
            pulls: Pulls::default(),
            emptying: None,
            pump_at: None,
            owner: None,
            had_consumer: false,
            last_used: now,
            elder: BTreeSet::new(),
            age_at: None,
            dedup: Dedup::default(),
            reader: None,
        }
    }

    /// An entry is set aside no longer. `false`: it was not.
    pub(crate) fn take_from_aside(&mut self, qseq: u64, len: u32) -> bool {
        let was_aside = self.aside.remove(&qseq);
        if was_aside {
            self.out_bytes -= u64::from(len);
        }
        was_aside
    }

    /// The first at or behind a number that is ready or delayed.
    pub(crate) fn next_waiting(&self, from: u64) -> Option<u64> {
        let ready = self.order.next_ready(from);
        let hidden = self.hidden.range(from..).next().copied();
        match (ready, hidden) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}

/// A pull that waits for a message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Waiting {
    pub(crate) session: SessionId,
    pub(crate) token: Token,
    pub(crate) lane: Lane,
    pub(crate) count: u32,
    pub(crate) lease: Lease,
    pub(crate) out_max: Option<u64>,
    pub(crate) bytes_max: Option<u64>,
    pub(crate) attempt: Option<Bytes>,
    /// It is to have what is there now, and waits only until all that is there has been looked at.
    pub(crate) at_once: bool,
}

/// Where a pull waits, and until when.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct WaitingAt {
    pub(crate) queue: QueueId,
    pub(crate) place: u64,
    pub(crate) until: Timestamp,
}

/// Who is told when a queue has been emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiter {
    pub(crate) session: SessionId,
    pub(crate) lane: Lane,
    pub(crate) token: Token,
    /// Of how many.
    pub(crate) count: u64,
}

/// How far a queue has been emptied.
#[derive(Clone, Debug, Default)]
pub(crate) struct Emptying {
    /// Place in the round.
    pub(crate) place: u64,
    /// The next number to look at.
    pub(crate) next: u64,
    /// Numbers from here on came later.
    pub(crate) below: u64,
    /// What is out under a lease with a deadline goes too.
    pub(crate) all: bool,
    pub(crate) waiters: Vec<Waiter>,
}

/// A consumer of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Consumer {
    pub(crate) queue: QueueId,
    pub(crate) credit: Credit,
    /// Unsettled deliveries.
    pub(crate) out: u32,
    pub(crate) group: u32,
    pub(crate) priority: i32,
    pub(crate) through_client: bool,
    pub(crate) qos: u8,
    pub(crate) shared: bool,
    pub(crate) identifier: u32,
    /// Place among the queue's consumers.
    pub(crate) place: u64,
    /// Place among the queue's active ones.
    pub(crate) active_at: Option<u64>,
    /// What it waits for in [`AttachedRare::waiting`]: it is not active then.
    pub(crate) waits_for: Option<Hold>,
    /// Its place there: who received something is behind those that did not since.
    pub(crate) turn: u64,
}

/// What holds up several consumers of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hold {
    /// Its outbox is full.
    Room,
    /// The flow of a group is stopped.
    Flow(u32),
    /// The window of a group is full, for those whose deliveries count in it.
    Window(u32),
}

/// Consumers of one queue, or of one connection, that are looked at in one go.
pub(crate) const RECEIVERS_MAX: usize = 64;

/// Consumers with a common window.
#[derive(Clone, Debug)]
pub(crate) struct ConsumerGroup {
    pub(crate) window: u32,
    pub(crate) out: u32,
    pub(crate) active: bool,
}

impl ConsumerGroup {
    /// Whether its window lets nothing more out.
    pub(crate) const fn is_full(&self) -> bool {
        self.window != 0 && self.out >= self.window
    }
}

impl Default for ConsumerGroup {
    fn default() -> Self {
        Self {
            window: 0,
            out: 0,
            active: true,
        }
    }
}

/// A connection.
#[derive(Clone, Debug)]
pub(crate) struct Attached {
    pub(crate) vhost: VhostId,
    pub(crate) user: Arc<str>,
    /// It is a part of the broker itself.
    pub(crate) broker: bool,
    pub(crate) client: Option<ClientNo>,
    pub(crate) consumers: Few<ConsumerId, Consumer>,
    pub(crate) groups: Few<u32, ConsumerGroup>,
    pub(crate) rare: Seldom<AttachedRare>,
    /// Bytes in its outbox.
    pub(crate) room_used: u64,
    /// Queues that may have something out to it, with what is.
    pub(crate) touched: Few<QueueId, Runs>,
}

/// What most connections never have.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct AttachedRare {
    /// Its pulls that wait.
    pub(crate) pulls: BTreeMap<Token, WaitingAt>,
    /// Its reads that wait.
    pub(crate) reads: BTreeMap<Token, ReadAt>,
    /// Queues that are exclusive to it.
    pub(crate) owned: BTreeSet<QueueId>,
    /// Consumers that were found to be held up, in turn.
    pub(crate) waiting: BTreeMap<(Hold, u64), ConsumerId>,
    /// The same, those of the highest priority first: what each queue has of them.
    pub(crate) ranks: BTreeMap<(QueueId, Hold, Reverse<i32>, u64), ConsumerId>,
    /// What no longer does, while some of them are still to be looked at; with its place in [`Soft::waking`].
    pub(crate) waking: BTreeMap<Hold, u64>,
}

impl Empty for AttachedRare {
    const EMPTY: &'static Self = &Self {
        pulls: BTreeMap::new(),
        reads: BTreeMap::new(),
        owned: BTreeSet::new(),
        waiting: BTreeMap::new(),
        ranks: BTreeMap::new(),
        waking: BTreeMap::new(),
    };
}

impl Attached {
    /// A connection that has just come.
    pub(crate) fn new(vhost: VhostId, user: Arc<str>, broker: bool) -> Self {
        Self {
            vhost,
            user,
            broker,
            client: None,
            consumers: Few::default(),
            groups: Few::default(),
            rare: Seldom::default(),
            room_used: 0,
            touched: Few::default(),
        }
    }

    /// Has a consumer wait for its connection, or not any more.
    pub(crate) fn wait(&mut self, id: ConsumerId, hold: Option<Hold>) {
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return;
        };
        let (was, turn) = (consumer.waits_for, consumer.turn);
        if was == hold {
            return;
        }
        consumer.waits_for = hold;
        let rank = |hold| (consumer.queue, hold, Reverse(consumer.priority), turn);
        self.rare.change(|rare| {
            if let Some(was) = was {
                rare.waiting.remove(&(was, turn));
                rare.ranks.remove(&rank(was));
            }
            if let Some(hold) = hold {
                rare.waiting.insert((hold, turn), id);
                rare.ranks.insert(rank(hold), id);
            }
        });
    }

    /// Whose turn it is when a consumer's comes that waits: of those that wait for the same in its queue, who has the highest priority.
    /// The two change places if that is another one: what the others of its connection wait for does not become longer by it.
    pub(crate) fn outranking(&mut self, id: ConsumerId) -> ConsumerId {
        let Some(consumer) = self.consumers.get(&id) else {
            return id;
        };
        let (queue, priority, turn) = (consumer.queue, consumer.priority, consumer.turn);
        let Some(hold) = consumer.waits_for else {
            return id;
        };
        let of_queue = (queue, hold, Reverse(i32::MAX), 0)..(queue, hold, Reverse(priority), 0);
        let mut higher = self.rare.ranks.range(of_queue);
        let Some((_, &first)) = higher.next() else {
            return id;
        };
        let later = self.consumers.get(&first).map_or(turn, |it| it.turn);
        let change_places = [(id, later), (first, turn)];
        for (id, _) in change_places {
            self.wait(id, None);
        }
        for (id, turn) in change_places {
            if let Some(consumer) = self.consumers.get_mut(&id) {
                consumer.turn = turn;
            }
            self.wait(id, Some(hold));
        }
        first
    }

    /// A consumer goes.
    pub(crate) fn remove_consumer(&mut self, id: ConsumerId) -> Option<Consumer> {
        self.wait(id, None);
        self.consumers.remove(&id)
    }
}

/// The connection's side of a client session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connected {
    pub(crate) session: SessionId,
    /// The client session's own, so that routing need not look at that one.
    pub(crate) queue: QueueId,
    /// Place in the round of client sessions that are shown retained messages.
    pub(crate) replay_at: Option<u64>,
    pub(crate) message_len_max: Option<u32>,
    /// Deliveries that may be out to it of the session's own queue.
    pub(crate) window: u16,
}

impl Connected {
    /// It receives what comes into that queue, the session's own.
    pub(crate) fn consumer(&self, queue: QueueId) -> ConsumerAdded {
        ConsumerAdded {
            session: self.session,
            consumer: ConsumerId::CLIENT,
            queue,
            credit: Credit::Window(u32::from(self.window)),
            group: 0,
            exclusive: false,
            priority: 0,
            through_client: false,
            qos: 2,
            shared: false,
            identifier: 0,
        }
    }
}

/// Names of durable queues that were deleted within the last minute.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deleted {
    times: BTreeMap<(VhostId, Name), Timestamp>,
    order: VecDeque<(Timestamp, (VhostId, Name))>,
}

impl Deleted {
    /// How long a name is remembered, in ms.
    const KEPT_MS: u64 = 60_000;

    pub(crate) fn add(&mut self, name: (VhostId, Name), now: Timestamp) {
        while let Some((time, _)) = self.order.front()
            && now.since(*time) >= Self::KEPT_MS
        {
            let Some((time, old)) = self.order.pop_front() else {
                break;
            };
            // A name that was deleted again stays.
            if self.times.get(&old) == Some(&time) {
                self.times.remove(&old);
            }
        }
        self.times.insert(name.clone(), now);
        self.order.push_back((now, name));
    }

    /// When a queue of that name was last deleted.
    pub(crate) fn time(&self, name: &(VhostId, Name)) -> Option<Timestamp> {
        self.times.get(name).copied()
    }
}

/// Options that are remembered to be shared, besides those of client sessions.
const SHARED_OPTIONS_MAX: usize = 16;

/// The options of queues, of which many have the same: they share them, so that what a queue costs is its own, and what says how it
/// behaves is in the processor's cache, whichever of a hundred thousand it is.
pub(crate) struct SharedOptions {
    /// Those of client sessions, of which there may be a million.
    transient: Arc<QueueOptions>,
    durable: Arc<QueueOptions>,
    /// What else was declared lately, the last first.
    lately: Vec<Arc<QueueOptions>>,
}

impl Default for SharedOptions {
    fn default() -> Self {
        let options = |durable| {
            Arc::new(QueueOptions {
                durable,
                ..QueueOptions::default()
            })
        };
        Self {
            transient: options(false),
            durable: options(true),
            lately: Vec::new(),
        }
    }
}

impl SharedOptions {
    pub(crate) fn of_clients(&self, durable: bool) -> &Arc<QueueOptions> {
        if durable {
            &self.durable
        } else {
            &self.transient
        }
    }

    /// Puts the same options that others have in the place of a queue's own.
    pub(crate) fn share(&mut self, declared: &mut QueueDeclared) {
        let of_clients = self.of_clients(declared.options.durable);
        if declared.options == *of_clients {
            declared.options = Arc::clone(of_clients);
            return;
        }
        match self.lately.iter().position(|it| *it == declared.options) {
            Some(at) => self.lately[..=at].rotate_right(1),
            None => {
                self.lately.truncate(SHARED_OPTIONS_MAX - 1);
                self.lately.insert(0, Arc::clone(&declared.options));
            }
        }
        declared.options = Arc::clone(&self.lately[0]);
    }
}

#[cfg(test)]
mod shared_options {
    use super::*;

    fn declared(ttl_ms: u64) -> QueueDeclared {
        let mut options = QueueOptions::default();
        options.attributes.ttl_ms = Some(ttl_ms);
        QueueDeclared {
            options: Arc::new(options),
            ..QueueDeclared::default()
        }
    }

    #[test]
    fn queues_share_equal_options_and_few_are_remembered() {
        let mut shared = SharedOptions::default();
        let mut first = declared(1);
        shared.share(&mut first);
        for ttl_ms in 2..100 {
            let mut other = declared(ttl_ms);
            shared.share(&mut other);
            let mut again = declared(1);
            shared.share(&mut again);
            assert!(Arc::ptr_eq(&first.options, &again.options));
            assert!(!Arc::ptr_eq(&first.options, &other.options));
            assert_eq!(other, declared(ttl_ms));
        }
        assert_eq!(shared.lately.len(), SHARED_OPTIONS_MAX);
        let mut plain = QueueDeclared::default();
        shared.share(&mut plain);
        assert!(Arc::ptr_eq(shared.of_clients(false), &plain.options));
    }
}

/// Everything soft.
#[derive(Default)]
pub(crate) struct Soft {
    pub(crate) sessions: FxHashMap<SessionId, Box<Attached>>,
    /// The soft side of every queue.
    pub(crate) queues: FxHashMap<QueueId, Box<SoftQueue>>,
    /// Queues that live in memory only.
    pub(crate) transient: FxHashMap<QueueId, Box<Queue>>,
    pub(crate) clients: FxHashMap<ClientNo, Box<Client>>,
    pub(crate) connected: FxHashMap<ClientNo, Connected>,
    /// Records of the history that is being replayed were lost and given up: later ones may not fit.
    pub(crate) lossy: bool,
    /// How many, while `lossy`.
    pub(crate) loss: crate::apply::PendingLoss,
    pub(crate) exchanges: BTreeMap<(VhostId, Name), ExchangeOptions>,
    pub(crate) bindings: BTreeMap<(VhostId, Vec<u8>), Bound>,
    pub(crate) next_queue: u64,
    pub(crate) next_client: u64,
    /// Running number for places in rounds.
    pub(crate) next_place: u64,
    pub(crate) transient_bytes: u64,
    pub(crate) recent: Recent,
    pub(crate) deleted: Deleted,

    // Indexes over durable and soft things alike.
    pub(crate) names: FxHashMap<(VhostId, Name), QueueId>,
    /// The soft side of every stream.
    pub(crate) streams: FxHashMap<StreamId, SoftStream>,
    pub(crate) stream_names: BTreeMap<(VhostId, Name), StreamId>,
    /// Client sessions that read a stream as a topic.
    pub(crate) stream_clients: BTreeMap<(VhostId, Name), BTreeSet<ClientNo>>,
    /// The names that lists show.
    pub(crate) listed: BTreeSet<(VhostId, Name)>,
    pub(crate) shares: BTreeMap<(VhostId, Share), QueueId>,
    pub(crate) client_ids: FxHashMap<(VhostId, Bytes), ClientNo>,
    pub(crate) routes: FxHashMap<(VhostId, Name), Exchange<Target>>,
    /// Exchanges that a queue is bound to, with the bindings' keys.
    pub(crate) bound: BTreeMap<QueueId, BTreeSet<Vec<u8>>>,
    /// What addresses lead to.
    pub(crate) known: Known<Routed>,
    /// The same of streams.
    pub(crate) stream_bound: BTreeMap<StreamId, BTreeSet<Vec<u8>>>,
    pub(crate) timers: Wheel<Timer>,
    /// When the tasks that move messages go on.
    pub(crate) moving: BTreeMap<(QueueId, u64), Timestamp>,
    /// Queues that may have something to deliver, in their round.
    pub(crate) pump: BTreeMap<u64, QueueId>,
    /// Streams in which something may be read, in the same round.
    pub(crate) stream_pump: BTreeMap<u64, StreamId>,
    /// Client sessions that are shown retained messages, in the same round.
    pub(crate) replaying: BTreeMap<u64, ClientNo>,
    /// Those for which there is no room at present.
    pub(crate) resting: BTreeSet<ClientNo>,
    /// Queues that are emptied, in the same round.
    pub(crate) emptying: BTreeMap<u64, QueueId>,
    /// What held consumers up and no longer does, in the same round.
    pub(crate) waking: BTreeMap<u64, (SessionId, Hold)>,
    /// Client sessions that read a shared queue.
    pub(crate) sharers: BTreeMap<QueueId, BTreeSet<ClientNo>>,
    pub(crate) part_owners: BTreeMap<StoredId, StoredId>,
    pub(crate) shared_options: SharedOptions,
    /// Runs in stream files that have gone: then a file may be named no longer.
    pub(crate) runs_gone: u64,
}

#[cfg(test)]
mod waiting {
    use super::*;

    #[test]
    fn who_goes_waits_no_longer() {
        let mut attached = Attached::new(VhostId::ROOT, "user".into(), false);
        for number in 0..3 {
            let consumer = Consumer {
                queue: QueueId(1),
                credit: Credit::Settled,
                out: 0,
                group: 0,
                priority: 0,
                through_client: false,
                qos: 0,
                shared: false,
                identifier: 0,
                place: number,
                active_at: None,
                waits_for: None,
                turn: number,
            };
            attached.consumers.insert(ConsumerId(number), consumer);
            attached.wait(ConsumerId(number), Some(Hold::Room));
        }
        attached.wait(ConsumerId(0), Some(Hold::Window(1)));
        let waiting = attached.rare.waiting.values();
        assert_eq!(waiting.map(|it| it.0).collect::<Vec<_>>(), [1, 2, 0]);
        for number in 0..3 {
            assert!(attached.remove_consumer(ConsumerId(number)).is_some());
            assert_eq!(attached.rare.waiting.len(), 2 - number as usize);
            assert_eq!(attached.rare.ranks.len(), 2 - number as usize);
        }
    }
}
