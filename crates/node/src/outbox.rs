//! What waits to leave towards one connection (named invariant: *safe before shown*).
//!
//! The node puts effects in, each with the batch that it waits for; the connection's task takes out what may leave.
//! Order holds within a lane, not between lanes: an effect with nothing to wait for leaves at once, unless its lane has
//! something waiting, then it joins that lane's tail. Waits are batch numbers and few, so what waits lies in one bucket a batch.
//!
//! A delivery whose message is only in the journal is read when it leaves: from the batch cache at once, else by the
//! reader pool; meanwhile only its own lane stands.
//!
//! Lock order: the node's lock may be held while an outbox's is taken, never the other way round.

use std::{
    cell::RefCell,
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
};

use broker::{Content, OutLane, PendingDelivery, PendingRecords};
use message::{Message, StoredId};
use rustc_hash::FxHashMap;
use session::{Burst, CloseReason, Delivery, DeliveryId, Event, Token};
use smallvec::SmallVec;

/// A connection that has been told no more than so much gives the room for it back when there is nothing to do: most hear the
/// few words of a login and are silent then. Who hears more keeps room for so many items, and allocates nothing for them.
const FEW_EVENTS: u32 = 8;
const ROOM_KEPT: usize = 8;
/// Room for so many items, a hundred bytes each, that a thread keeps for whoever has none.
const SPARE_ROOM_MAX: usize = 16 * 1024;
/// Bytes of deliveries that are with the connection at a time: when so many are handed out, the rest stays here until they have
/// gone to the socket. Room comes back with the last byte of what was handed out, so without this bound a reader that is
/// never behind could have its whole outbox handed out and be sent as much again meanwhile, for which there is no room.
const HANDED_OUT_MAX: u64 = 256 * 1024;
/// Lanes whose last wait is remembered before those that wait no more are looked for.
const LANES_KEPT: usize = 1024;

type Ready = VecDeque<(OutLane, Item)>;

thread_local! {
    static SPARES: RefCell<Spares> = RefCell::default();
}

/// Queues of outboxes whose connections have nothing to do, and that had much.
#[derive(Default)]
struct Spares {
    queues: Vec<Ready>,
    /// Their capacities together.
    room: usize,
}

impl Spares {
    fn take() -> Ready {
        SPARES.with_borrow_mut(|spares| {
            let spare = spares.queues.pop().unwrap_or_default();
            spares.room -= spare.capacity();
            spare
        })
    }

    fn give_back(queue: Ready) {
        SPARES.with_borrow_mut(|spares| {
            if queue.capacity() > ROOM_KEPT && spares.room + queue.capacity() <= SPARE_ROOM_MAX {
                spares.room += queue.capacity();
                spares.queues.push(queue);
            }
        });
    }
}

/// Something on its way out.
pub(crate) enum Item {
    /// Ready as it is.
    Event(Event),
    /// A delivery, and its size as the core counted it.
    Delivery { delivery: Arc<Delivery>, bytes: u64 },
    /// The same of several that come together.
    Burst { burst: Arc<Burst>, bytes: u64 },
    /// The same without its message.
    Stored {
        delivery: Box<PendingDelivery>,
        id: StoredId,
        bytes: u64,
        /// Dropped with the item.
        _held: Option<Arc<Held>>,
    },
    /// The answer to a read of a stream. Takes no room.
    Records {
        token: Token,
        records: Box<PendingRecords>,
        /// Records before this one have been looked for.
        looked: usize,
        /// The stored ones, so that they outlive their time in the stream until they are read.
        _held: Option<Arc<Held>>,
    },
    /// The answer to a pull. Takes no room.
    Pulled {
        token: Token,
        deliveries: Vec<(PendingDelivery, Content)>,
        epoch: u64,
        remaining: u64,
        /// Dropped with the item.
        _held: Option<Arc<Held>>,
    },
}

/// References that a decision gave up while its own deliveries have yet to be read: dropped with the last of them, so that
/// no segment is given back under a reader.
pub(crate) struct Held {
    pub(crate) journal: journal::Journal,
    pub(crate) ids: Vec<StoredId>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut count = self.journal.counting();
        for id in &self.ids {
            count.count(*id, -1);
        }
    }
}

impl Item {
    /// Looks for messages in memory. The first that must be read from the disk comes back.
    fn resolve(&mut self, memory: &mut Memory<'_>) -> Option<StoredId> {
        let mut look = |content: &mut Content| {
            let Content::Stored(id, _) = *content else {
                return None;
            };
            match memory.find(id) {
                Some(message) => {
                    *content = Content::Resident(message);
                    None
                }
                None => Some(id),
            }
        };
        match self {
            Self::Event(_) | Self::Delivery { .. } | Self::Burst { .. } => None,
            Self::Stored { id, .. } => match memory.find(*id) {
                Some(message) => {
                    self.complete(message);
                    None
                }
                None => Some(*id),
            },
            Self::Pulled { deliveries, .. } => {
                deliveries.iter_mut().find_map(|(_, content)| look(content))
            }
            Self::Records {
                records, looked, ..
            } => {
                while let Some(record) = records.records.get_mut(*looked) {
                    if let Some(id) = look(&mut record.content) {
                        return Some(id);
                    }
                    *looked += 1;
                }
                None
            }
        }
    }

    /// Makes a delivery whole.
    fn complete(&mut self, message: Arc<Message>) {
        let item = std::mem::replace(self, Self::Event(Event::Reached { token: Token(0) }));
        *self = match item {
            Self::Stored {
                delivery,
                bytes,
                id: _,
                _held: _,
            } => Self::Delivery {
                delivery: Arc::new(delivery.into_delivery(message)),
                bytes,
            },
            other => other,
        };
    }

    /// Puts the message in that [`Item::resolve`] asked for.
    fn fill(&mut self, id: StoredId, message: &Arc<Message>) {
        let put = |content: &mut Content| {
            if matches!(content, Content::Stored(stored, _) if *stored == id) {
                *content = Content::Resident(Arc::clone(message));
            }
        };
        match self {
            Self::Event(_) | Self::Delivery { .. } | Self::Burst { .. } => {}
            Self::Stored { id: stored, .. } => {
                if *stored == id {
                    self.complete(Arc::clone(message));
                }
            }
            Self::Pulled { deliveries, .. } => {
                deliveries.iter_mut().for_each(|(_, content)| put(content))
            }
            Self::Records {
                records, looked, ..
            } => {
                if let Some(record) = records.records.get_mut(*looked) {
                    put(&mut record.content);
                }
            }
        }
    }

    /// Leaves the message out that [`Item::resolve`] asked for. `Err`: nothing is left, but the room to be given back.
    fn without(self, id: StoredId) -> Result<Self, u64> {
        match self {
            Self::Stored { bytes, .. } => Err(bytes),
            Self::Pulled {
                token,
                mut deliveries,
                epoch,
                remaining,
                _held,
            } => {
                deliveries.retain(
                    |(_, content)| !matches!(content, Content::Stored(stored, _) if *stored == id),
                );
                Ok(Self::Pulled {
                    token,
                    deliveries,
                    epoch,
                    remaining,
                    _held,
                })
            }
            other => Ok(other),
        }
    }

    /// The deliveries of a message that may be settled, or replaced where it was retained, before it is read: by whoever has its receipt, or
    /// purges the queue. `None`: of what must be there.
    fn deliveries_of(&self, id: StoredId) -> Option<Vec<DeliveryId>> {
        match self {
            Self::Stored { delivery, .. } => Some(delivery.id.into_iter().collect()),
            Self::Pulled { deliveries, .. } => {
                let of = deliveries.iter().filter(
                    |(_, content)| matches!(content, Content::Stored(stored, _) if *stored == id),
                );
                Some(of.filter_map(|(delivery, _)| delivery.id).collect())
            }
            Self::Event(_) | Self::Delivery { .. } | Self::Burst { .. } | Self::Records { .. } => {
                None
            }
        }
    }

    /// The event, once nothing is missing, and the room that it gives back when sent.
    fn into_event(self) -> (Event, u64) {
        let resident = |content| match content {
            Content::Resident(message) => message,
            Content::Stored(..) => {
                unreachable!("an item leaves only when nothing of it is missing")
            }
        };
        match self {
            Self::Event(event) => (event, 0),
            Self::Delivery { delivery, bytes } => (Event::Delivery(delivery), bytes),
            Self::Burst { burst, bytes } => (Event::Burst(burst), bytes),
            Self::Stored { .. } => {
                unreachable!("an item leaves only when nothing of it is missing")
            }
            Self::Records {
                token,
                records,
                looked: _,
                _held: _,
            } => {
                let records = Box::new(records.into_records(resident));
                (Event::Records { token, records }, 0)
            }
            Self::Pulled {
                token,
                deliveries,
                epoch,
                remaining,
                _held: _,
            } => {
                let deliveries = deliveries
                    .into_iter()
                    .map(|(delivering, content)| delivering.into_delivery(resident(content)))
                    .collect();
                (
                    Event::Pulled {
                        token,
                        deliveries,
                        epoch,
                        remaining,
                    },
                    0,
                )
            }
        }
    }
}

/// What came of a read.
pub(crate) enum Fetched {
    Message(Arc<Message>),
    /// Nothing refers to it any more.
    Gone,
    /// It cannot be read: that has been logged.
    Unreadable,
    /// This node has a successor, which may have given it back: every connection is about to hear of that.
    Succeeded,
}

/// Finds messages in memory: many, most of which lie one behind the other.
pub(crate) type Finds<'a> = Box<dyn FnMut(StoredId) -> Option<Arc<Message>> + 'a>;

/// Where stored messages come from.
pub(crate) trait Messages: Send + Sync {
    /// What finds them in memory.
    fn in_memory(&self) -> Finds<'_>;
    /// Reads it in the background, then calls [`Outbox::fetched`].
    fn fetch(&self, id: StoredId, lane: OutLane, outbox: Arc<Outbox>);
}

/// Messages in memory, for as long as an outbox is looked through.
struct Memory<'a> {
    messages: &'a dyn Messages,
    /// Made for the first one that is looked for.
    finds: Option<Finds<'a>>,
}

impl<'a> Memory<'a> {
    const fn of(messages: &'a dyn Messages) -> Self {
        Self {
            messages,
            finds: None,
        }
    }

    fn find(&mut self, id: StoredId) -> Option<Arc<Message>> {
        self.finds.get_or_insert_with(|| self.messages.in_memory())(id)
    }
}

#[derive(Default)]
struct State {
    ready: Ready,
    /// Made by the first item that waits.
    waits: Option<Box<Waits>>,
    /// There while something is read.
    reads: Option<Box<Reads>>,
    waker: Option<Waker>,
    /// Events that it was told so far, or the most that can be counted.
    told: u32,
    /// Commands were left; submit again.
    retry: bool,
    /// Bytes of deliveries handed out since the last `drained`.
    handed_out: u64,
    /// Some of them were of messages that are gone: no event tells the connection to drain, so [`Outbox::poll`] does.
    gone: bool,
    /// Something may leave and was kept back by [`HANDED_OUT_MAX`]: who drains looks again, nothing else need wake it.
    kept_back: bool,
    closed: bool,
    /// The node serves no more: only the goodbye is left.
    expelled: bool,
}

/// What waits for batches.
#[derive(Default)]
struct Waits {
    /// By batch, rising.
    waiting: VecDeque<(u64, Vec<(OutLane, Item)>)>,
    /// The batch that a lane's last waiting item waits for.
    last_wait: FxHashMap<OutLane, u64>,
}

/// What waits for messages that are on the disk only.
#[derive(Default)]
struct Reads {
    /// Lanes that stand until a read is done: what is being read for, and what is behind it.
    reading: FxHashMap<OutLane, (Item, VecDeque<Item>)>,
    /// What lanes let go when their reads were done: ahead of what is behind in them.
    released: Vec<Event>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
}

impl Wake for Outbox {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        let waker = self.lock().take_waker();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an item in. `wait` is the batch that it waits for, 0 for none; `committed` is the newest that is safe. Returns the
    /// task to wake, if the item may leave now, and whether this outbox must be registered for the commit of a batch.
    pub(crate) fn push(&self, lane: OutLane, wait: u64, committed: u64, item: Item) -> Pushed {
        self.lock().put(lane, wait, committed, item)
    }

    /// The same with several.
    pub(crate) fn fill(&self) -> Filling<'_> {
        Filling {
            state: self.lock(),
            filled: Filled::default(),
        }
    }

    /// Commands were left by the port; [`Outbox::poll`] reports when to try again.
    pub(crate) fn left(&self) {
        self.lock().retry = true;
    }

    /// Moves what may leave to `events`. `room` is asked when commands were left, with no lock held: it tells whether they may
    /// be tried again, and sees to it that this outbox is woken if they may not.
    pub(crate) fn poll(
        self: &Arc<Self>,
        cx: &Context<'_>,
        committed: impl FnOnce() -> u64,
        room: impl FnOnce() -> bool,
        messages: &dyn Messages,
        events: &mut Vec<Event>,
    ) -> Poll<()> {
        let before = events.len();
        let mut wanted = Vec::new();
        let mut memory = Memory::of(messages);
        let mut state = self.lock();
        // Read under the lock: a commit after this point finds the waker that is stored below.
        let committed = committed();
        state.ripen(committed);
        if let Some(reads) = &mut state.reads {
            events.append(&mut reads.released);
        }
        while state.handed_out < HANDED_OUT_MAX
            && let Some((lane, item)) = state.ready.pop_front()
        {
            if let Some(reads) = &mut state.reads
                && let Some((_, behind)) = reads.reading.get_mut(&lane)
            {
                behind.push_back(item);
            } else {
                state.release(lane, item, &mut memory, events, &mut wanted);
            }
        }
        state.kept_back = !state.ready.is_empty();
        let told = events.len() - before;
        let gone = std::mem::take(&mut state.gone);
        let nothing = told == 0 && !gone;
        state.told = state.told.saturating_add(told as u32);
        if nothing {
            if !state.kept_back {
                state.rest();
            }
            match &mut state.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
        }
        let left = state.retry;
        let expelled = state.expelled;
        drop(state);
        for (id, lane) in wanted {
            messages.fetch(id, lane, Arc::clone(self));
        }
        // Asked behind the waker, so that whoever makes room from now on finds it; and without the lock, as steps take this
        // lock under the journal's.
        let retry = left && (expelled || room());
        // Whoever has been told goodbye comes back for them before it ends.
        if retry && !expelled {
            self.lock().retry = false;
        }
        if nothing && !retry {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }

    /// As [`Item::deliveries_of`], of what a lane reads for.
    pub(crate) fn deliveries_of(&self, lane: OutLane, id: StoredId) -> Option<Vec<DeliveryId>> {
        let state = self.lock();
        let (item, _) = state.reads.as_ref()?.reading.get(&lane)?;
        item.deliveries_of(id)
    }

    /// A read that [`Messages::fetch`] started is done. What is gone is left out; for what cannot be read the connection is closed. What is
    /// to be read next for that lane comes back: the caller reads on, or hands it to [`Messages::fetch`]; then it wakes the outbox.
    pub(crate) fn fetched(
        &self,
        lane: OutLane,
        id: StoredId,
        fetched: Fetched,
        messages: &dyn Messages,
    ) -> Option<StoredId> {
        if matches!(fetched, Fetched::Succeeded) {
            // It stays where it is, or what is behind it would overtake it.
            return None;
        }
        let mut events = Vec::new();
        let mut wanted = Vec::new();
        let mut memory = Memory::of(messages);
        let mut state = self.lock();
        let (mut item, mut behind) = state.reads.as_mut()?.reading.remove(&lane)?;
        match fetched {
            Fetched::Message(message) => {
                item.fill(id, &message);
                behind.push_front(item);
            }
            Fetched::Gone => match item.without(id) {
                Ok(item) => behind.push_front(item),
                Err(bytes) => {
                    state.handed_out += bytes;
                    state.gone = true;
                }
            },
            Fetched::Unreadable | Fetched::Succeeded => events.push(Event::Closing {
                reason: CloseReason::Internal,
            }),
        }
        while let Some(item) = behind.pop_front() {
            state.release(lane, item, &mut memory, &mut events, &mut wanted);
            if let Some(reads) = &mut state.reads
                && let Some((_, rest)) = reads.reading.get_mut(&lane)
            {
                rest.append(&mut behind);
            }
        }
        state
            .reads
            .get_or_insert_default()
            .released
            .append(&mut events);
        wanted.first().map(|(id, _)| *id)
    }

    /// The bytes of deliveries that have gone to the socket, or nowhere, since the last call. What was kept back may leave:
    /// look again.
    pub(crate) fn drained(&self) -> u64 {
        let mut state = self.lock();
        state.kept_back = false;
        std::mem::take(&mut state.handed_out)
    }

    /// The node serves no more: nothing that waits leaves, only this. The task to wake comes back.
    pub(crate) fn expel(&self, goodbye: Event) -> Option<Waker> {
        let mut state = self.lock();
        if state.closed {
            return None;
        }
        let waker = state.waker.take();
        *state = State {
            closed: true,
            expelled: true,
            reads: Some(Box::new(Reads {
                released: vec![goodbye],
                ..Reads::default()
            })),
            retry: state.retry,
            ..State::default()
        };
        waker
    }

    /// Keeps the task to wake for the goodbye. `false`: it is there.
    pub(crate) fn await_goodbye(&self, waker: &Waker) -> bool {
        let mut state = self.lock();
        if !state.expelled {
            state.waker = Some(waker.clone());
        }
        !state.expelled
    }

    /// Whether commands are taken no more: then those that were left are worth nothing.
    pub(crate) fn takes_no_more(&self) -> bool {
        let mut state = self.lock();
        if state.expelled {
            state.retry = false;
        }
        state.expelled
    }

    /// The connection is gone: nothing more is kept for it.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        *state = State {
            closed: true,
            ..State::default()
        };
    }
}

/// What to do after a [`Outbox::push`].
#[derive(Default)]
pub(crate) struct Pushed {
    /// Wake this once the node's lock is free.
    pub(crate) wake: Option<Waker>,
    /// Register the outbox for the commit of this batch: the first item waits for it.
    pub(crate) register: Option<u64>,
}

/// An outbox into which several are put, one after the other.
pub(crate) struct Filling<'a> {
    state: MutexGuard<'a, State>,
    filled: Filled,
}

/// What to do after that, when the outbox is free: see [`Pushed`].
#[derive(Default)]
pub(crate) struct Filled {
    pub(crate) wake: Option<Waker>,
    pub(crate) register: SmallVec<[u64; 2]>,
}

impl Filling<'_> {
    /// As [`Outbox::push`].
    pub(crate) fn push(&mut self, lane: OutLane, wait: u64, committed: u64, item: Item) {
        let pushed = self.state.put(lane, wait, committed, item);
        if pushed.wake.is_some() {
            self.filled.wake = pushed.wake;
        }
        if let Some(batch) = pushed.register {
            self.filled.register.push(batch);
        }
    }

    /// Frees the outbox.
    pub(crate) fn end(self) -> Filled {
        self.filled
    }
}

/// Room for what waits for one batch, which becomes ready as it lies, in an outbox that was told of so many events.
fn room_for_waiting(told: u32) -> Vec<(OutLane, Item)> {
    if told > FEW_EVENTS {
        Spares::take().into()
    } else {
        Vec::new()
    }
}

impl State {
    /// The task to wake for something new, unless it looks again by itself.
    fn take_waker(&mut self) -> Option<Waker> {
        if self.kept_back && !self.retry {
            return None;
        }
        self.waker.take()
    }

    /// See [`Outbox::push`].
    fn put(&mut self, lane: OutLane, wait: u64, committed: u64, item: Item) -> Pushed {
        if self.closed {
            return Pushed::default();
        }
        if wait > committed
            && let Some(waits) = &mut self.waits
            && let Some((batch, items)) = waits.waiting.back_mut()
            && *batch == wait
            && items.last().is_some_and(|(last, _)| *last == lane)
        {
            // The answers to commands that came together: this is what the lane waits for already.
            items.push((lane, item));
            return Pushed::default();
        }
        let mut wait = wait;
        let mut last = 0;
        if let Some(waits) = &self.waits
            && !waits.waiting.is_empty()
        {
            last = self.last_wait(lane, committed);
            wait = wait.max(last);
        }
        if wait <= committed {
            self.make_room();
            self.ready.push_back((lane, item));
            return Pushed {
                wake: self.take_waker(),
                register: None,
            };
        }
        Pushed {
            wake: None,
            register: self.wait_for(wait, last, lane, item).then_some(wait),
        }
    }

    /// Something becomes ready: who has no room for it takes some that others left.
    fn make_room(&mut self) {
        if self.ready.capacity() == 0 && self.told > FEW_EVENTS {
            self.ready = Spares::take();
        }
    }

    /// Nothing is ready: gives back room that is not worth keeping, or more than that.
    fn rest(&mut self) {
        if self.reads.as_ref().is_some_and(|it| it.reading.is_empty()) {
            self.reads = None;
        }
        if self.told <= FEW_EVENTS {
            self.ready = Ready::new();
            if self.waits.as_ref().is_some_and(|it| it.waiting.is_empty()) {
                self.waits = None;
            }
        } else if self.ready.capacity() > ROOM_KEPT {
            Spares::give_back(std::mem::take(&mut self.ready));
        }
    }

    /// The batch that the next item of a lane waits for because of those before it; 0 for none. What has become safe stands
    /// before that item, though nobody has looked since.
    #[inline(never)]
    fn last_wait(&mut self, lane: OutLane, committed: u64) -> u64 {
        self.ripen(committed);
        let last = self.waits.as_ref().and_then(|it| it.last_wait.get(&lane));
        last.copied().unwrap_or(0)
    }

    /// Puts an item of a lane whose last one waits for `last` among those that wait. Whether it is the first for its batch. Apart,
    /// as what waits for nothing is to pass without it.
    #[inline(never)]
    fn wait_for(&mut self, wait: u64, last: u64, lane: OutLane, item: Item) -> bool {
        let told = self.told;
        let waits = self.waits.get_or_insert_default();
        if last != wait {
            waits.last_wait.insert(lane, wait);
        }
        let at = waits.waiting.partition_point(|(batch, _)| *batch < wait);
        match waits.waiting.get_mut(at) {
            Some((batch, items)) if *batch == wait => {
                items.push((lane, item));
                false
            }
            _ => {
                let mut items = room_for_waiting(told);
                items.push((lane, item));
                waits.waiting.insert(at, (wait, items));
                true
            }
        }
    }

    /// Moves what waits for committed batches to what may leave.
    #[inline]
    fn ripen(&mut self, committed: u64) {
        if let Some(waits) = &self.waits
            && let Some((batch, _)) = waits.waiting.front()
            && *batch <= committed
        {
            self.ripen_some(committed);
        }
    }

    #[inline(never)]
    fn ripen_some(&mut self, committed: u64) {
        let before = self.waits.as_ref().map_or(0, |it| it.waiting.len());
        while let Some(waits) = &mut self.waits
            && let Some((batch, _)) = waits.waiting.front()
            && *batch <= committed
        {
            let (_, mut items) = waits.waiting.pop_front().expect("there is a front");
            let room = if self.ready.is_empty() {
                std::mem::replace(&mut self.ready, items.into())
            } else {
                self.ready.extend(items.drain(..));
                items.into()
            };
            Spares::give_back(room);
        }
        let Some(waits) = &mut self.waits else { return };
        if waits.waiting.is_empty() {
            waits.last_wait.clear();
        } else if waits.waiting.len() < before && waits.last_wait.len() >= LANES_KEPT {
            // Under steady load something always waits; lanes that are gone must not pile up.
            waits.last_wait.retain(|_, wait| *wait > committed);
        }
    }

    /// Lets an item of a lane that does not stand go, or starts its read.
    #[inline(always)]
    fn release(
        &mut self,
        lane: OutLane,
        item: Item,
        memory: &mut Memory<'_>,
        events: &mut Vec<Event>,
        wanted: &mut Vec<(StoredId, OutLane)>,
    ) {
        let (event, bytes) = match item {
            // Nothing of these is ever missing.
            Item::Event(event) => (event, 0),
            Item::Delivery { delivery, bytes } => (Event::Delivery(delivery), bytes),
            Item::Burst { burst, bytes } => (Event::Burst(burst), bytes),
            item => match self.complete(lane, item, memory, wanted) {
                Some(whole) => whole,
                None => return,
            },
        };
        self.handed_out += bytes;
        events.push(event);
    }

    /// The event, if nothing of it is missing. Else its read starts.
    fn complete(
        &mut self,
        lane: OutLane,
        mut item: Item,
        memory: &mut Memory<'_>,
        wanted: &mut Vec<(StoredId, OutLane)>,
    ) -> Option<(Event, u64)> {
        if let Some(id) = item.resolve(memory) {
            let reads = self.reads.get_or_insert_default();
            reads.reading.insert(lane, (item, VecDeque::new()));
            wanted.push((id, lane));
            return None;
        }
        Some(item.into_event())
    }
}

#[cfg(test)]
mod tests;
