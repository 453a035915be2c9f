//! The one lock, and one step under it.
//!
//! A step is: decide (reads, may panic, costs then only its connection), encode, reserve room so that all records of the
//! command lie in one batch, apply each change and append its record, route the effects. Then the same for the
//! deliveries that have become possible. A panic from `apply` on aborts the process: memory and journal must not part.

use std::{
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::Waker,
};

use broker::{
    BodyAt, Broker, Change, Content, Context, Decision, Effect, Fetch, Load, OutLane, Outgoing,
    PendingRecord, RecordKind, Wait,
};
use bytes::Bytes;
use journal::{Counting, Journal, Stage};
use message::{Message, StoredId, Timestamp, VhostId};
use rustc_hash::FxHashMap;
use session::{
    CloseReason, Command, ConsumerId, Delivery, Event, Operation, Peer, Publish, PublishOutcome,
    Refusal, RefusalKind, SessionId,
};
use smallvec::SmallVec;

use crate::{
    audit::Refused,
    heads::Heads,
    outbox::{Held, Item, Outbox},
    permission::{self, Asker, Forbidden},
    showing::Showing,
};

/// Bodies longer than this go ahead of their record in parts of this many bytes.
pub(crate) const PART_LEN: usize = 256 * 1024;
/// Deliveries decided in one hold of the lock.
const DELIVERIES_MAX: usize = 1024;
/// The journal's kind for a part of a body. The core's kinds are below it.
pub(crate) const BODY_PART: u8 = 0xF0;

/// One connection as the node knows it.
pub(crate) struct Connection {
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) peer: Peer,
    /// What it spoke at its last login, for the log, the counters, and who may come without a password.
    pub(crate) protocol: &'static str,
    /// The client's own name.
    pub(crate) client: Box<[u8]>,
    /// Set once the peer is known.
    pub(crate) principal: Option<Arc<auth::Principal>>,
    /// The principal's.
    pub(crate) vhost: VhostId,
}

/// A message that the core asked for.
pub(crate) struct Wanted {
    pub(crate) fetch: Fetch,
    pub(crate) id: StoredId,
    /// Not before this batch is committed.
    pub(crate) wait: u64,
}

/// The messages of a command that may reach the root space.
pub(crate) fn each_message<'a>(command: &'a Command, mut each: impl FnMut(&'a Arc<Message>)) {
    let mut one = |publish: &'a Publish| {
        if matches!(
            publish.message.address.kind,
            message::Kind::Topic | message::Kind::Exchange
        ) {
            each(&publish.message);
        }
    };
    match command {
        Command::Publish(publish) => one(publish),
        Command::PublishAll(all) => all.publishes.iter().for_each(one),
        Command::Transact(transact) => {
            for operation in &transact.operations {
                if let Operation::Publish(publish) = operation {
                    one(publish);
                }
            }
        }
        _ => {}
    }
}

/// What the lock holds.
pub(crate) struct Core {
    pub(crate) broker: Broker,
    pub(crate) connections: FxHashMap<SessionId, Box<Connection>>,
    /// Who may log in. Replaced as a whole.
    pub(crate) users: Arc<auth::Users>,
    /// Who logged in last.
    known: Option<Arc<auth::Principal>>,
    pub(crate) wanted: Vec<Wanted>,
    /// Records to be read out of stream files, until the lock is free.
    pub(crate) loads: Vec<Load>,
    /// Publishes are refused: the disk is full.
    pub(crate) blocked: bool,
    /// The last time a step was given.
    pub(crate) now: Timestamp,
    random: u64,
    decision: Decision,
    effects: Vec<Effect>,
    records: Vec<u8>,
    planned: Vec<Planned>,
    lens: Vec<usize>,
}

/// Why a command does not reach the core.
enum Stopped {
    Refused(Refusal),
    Forbidden(Box<Forbidden>),
}

/// A record about to be appended.
struct Planned {
    /// The change's place in its decision.
    change: usize,
    kind: RecordKind,
    /// Where its fields are in `Core::records`.
    head: Range<usize>,
    body: Option<Bytes>,
    /// It stores a message.
    stores: bool,
}

impl Planned {
    fn len(&self) -> usize {
        self.head.len() + self.body.as_ref().map_or(0, Bytes::len)
    }
}

/// Aborts if dropped in a panic that began under it: memory may have run ahead of, or behind, the journal.
struct AbortOnPanic {
    /// A panic elsewhere drops its connection, which steps once more to leave in order.
    panicking: bool,
}

impl AbortOnPanic {
    fn new() -> Self {
        Self {
            panicking: std::thread::panicking(),
        }
    }
}

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.panicking {
            tracing::error!(
                "a panic in the core: aborting, so that memory and journal do not part"
            );
            std::process::abort();
        }
    }
}

impl Core {
    pub(crate) fn new(broker: Broker, users: Arc<auth::Users>, seed: u64) -> Self {
        Self {
            broker,
            connections: FxHashMap::default(),
            users,
            known: None,
            wanted: Vec::new(),
            loads: Vec::new(),
            blocked: false,
            now: Timestamp(0),
            random: seed | 1,
            decision: Decision::default(),
            effects: Vec::new(),
            records: Vec::new(),
            planned: Vec::new(),
            lens: Vec::new(),
        }
    }

    /// The principal of a connection: it shares that of the last one, if it is the same, as in a fleet that comes as one user.
    pub(crate) fn share(&mut self, principal: auth::Principal) -> Arc<auth::Principal> {
        if let Some(known) = &self.known
            && **known == principal
        {
            return Arc::clone(known);
        }
        Arc::clone(self.known.insert(Arc::new(principal)))
    }

    fn context(&mut self) -> Context {
        // SplitMix64: names need to differ, not to be secret.
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.random;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Context {
            now: self.now,
            random: x ^ (x >> 31),
        }
    }

    /// Whether a connection is logged in and may do everything: for as long as the lock is held.
    pub(crate) fn may_all(&self, from: SessionId) -> bool {
        let principal = self
            .connections
            .get(&from)
            .map(|it| it.principal.as_deref());
        principal.flatten().is_some_and(|it| it.rights.is_all())
    }

    /// One command of a known or unknown peer. `Authenticate` is not for the core. `may_all`: [`Core::may_all`].
    pub(crate) fn command(
        &mut self,
        step: &mut Step<'_, '_>,
        from: SessionId,
        may_all: bool,
        command: &Command,
    ) {
        // Rights elsewhere are other rights.
        let refusal = if may_all && !matches!(command, Command::Subscription { .. }) {
            crate::link::measured(command).map_err(Stopped::Refused)
        } else {
            self.refusal(from, command)
        };
        match refusal {
            Ok(()) => {}
            Err(Stopped::Refused(refusal)) => return self.refuse(step, from, command, refusal),
            Err(Stopped::Forbidden(forbidden)) => {
                let connection = &self.connections[&from];
                step.refused.push(Refused::new(connection, &forbidden));
                return self.refuse(step, from, command, forbidden.refusal);
            }
        }
        let context = self.context();
        let Self {
            broker, decision, ..
        } = self;
        decision.clear();
        let decided = catch_unwind(AssertUnwindSafe(|| {
            let bodies = step.heads.bodies_of(command);
            broker.decide_with(from, command, bodies, &context, decision)
        }));
        if decided.is_err() {
            decision.clear();
            tracing::error!(
                session = from.0,
                "deciding a command panicked: its connection is closed"
            );
            return self.tell(
                step,
                from,
                Event::Closing {
                    reason: CloseReason::Internal,
                },
            );
        }
        // What only passes through memory goes on; so does whatever helps to empty the disk: consumers come, declare and settle.
        let durable = decision.is_durable();
        if durable
            && command.brings_messages()
            && (self.blocked || !step.stage.takes_publish(stored_len(decision)))
        {
            decision.clear();
            let refusal = Refusal::new(
                RefusalKind::StorageFull,
                "the disk is full: durable messages are refused until there is room",
            );
            return self.refuse(step, from, command, refusal);
        }
        let together = self.plan(step, durable);
        self.perform(step, durable, together);
        if durable && command.is_awaited() {
            step.stage.awaited();
        }
        if let Command::OpenClient(open) = command {
            self.opened(step, from, &open.client_id);
        }
    }

    /// Publishes that came together ([`crate::link`]), of a connection that may do everything, in one decision. Gives how many
    /// were taken. None: they are commands one by one.
    pub(crate) fn publishes<'a>(
        &mut self,
        step: &mut Step<'_, '_>,
        from: SessionId,
        publishes: impl Iterator<Item = &'a Publish>,
    ) -> usize {
        let context = self.context();
        let Self {
            broker, decision, ..
        } = self;
        decision.clear();
        let decided = catch_unwind(AssertUnwindSafe(|| {
            broker.decide_publishes(from, publishes, &context, decision)
        }));
        let Ok(count @ 1..) = decided else { return 0 };
        let durable = decision.is_durable();
        // Who is refused for want of room is found out one by one; and the records of each lie in one batch.
        let has_room = !durable || !self.blocked && step.stage.takes_publish(stored_len(decision));
        if !has_room || !self.plan(step, durable) {
            return 0;
        }
        self.perform(step, durable, true);
        if durable {
            step.stage.awaited();
        }
        count
    }

    /// Whether the command may reach the core at all: who asks, and with which right.
    fn refusal(&self, from: SessionId, command: &Command) -> Result<(), Stopped> {
        let connection = self.connections.get(&from);
        let known = connection.and_then(|known| Some((known.vhost, known.principal.as_deref()?)));
        let Some((vhost, principal)) = known else {
            return Err(Stopped::Refused(Refusal::new(
                RefusalKind::AccessDenied,
                "not logged in",
            )));
        };
        crate::link::measured(command).map_err(Stopped::Refused)?;
        let asker = Asker {
            session: from,
            vhost,
            principal,
            broker: &self.broker,
            users: &self.users,
        };
        permission::permitted(asker, command).map_err(Stopped::Forbidden)
    }

    fn refuse(
        &mut self,
        step: &mut Step<'_, '_>,
        from: SessionId,
        command: &Command,
        refusal: Refusal,
    ) {
        let event = match command {
            Command::Publish(publish) => match publish.token {
                Some(token) => Event::Published {
                    token,
                    outcome: PublishOutcome::Refused(refusal),
                },
                None => {
                    step.unconfirmed_refused += 1;
                    if refusal.kind.is_want_of_room() {
                        return;
                    }
                    Event::PublishRefused {
                        lane: publish.lane,
                        refusal,
                    }
                }
            },
            Command::Declare { token, .. }
            | Command::Cancel { token, .. }
            | Command::Unsubscribe { token, .. }
            | Command::Fence { token, .. } => Event::Refused {
                token: *token,
                refusal,
            },
            Command::Subscribe(subscribe) => Event::Refused {
                token: subscribe.token,
                refusal,
            },
            Command::OpenClient(open) => Event::Refused {
                token: open.token,
                refusal,
            },
            Command::Pull(pull) => Event::Refused {
                token: pull.token,
                refusal,
            },
            Command::Inspect { token, .. } | Command::List { token, .. } => Event::Refused {
                token: *token,
                refusal,
            },
            Command::UseReceipt(it) => Event::Refused {
                token: it.token,
                refusal,
            },
            Command::PublishAll(it) => Event::Refused {
                token: it.token,
                refusal,
            },
            Command::UseReceipts(it) => Event::Refused {
                token: it.token,
                refusal,
            },
            Command::ReadStream(it) => Event::Refused {
                token: it.token,
                refusal,
            },
            Command::ListSubscriptions(it) => Event::Refused {
                token: it.token,
                refusal,
            },
            Command::Stream { token, .. }
            | Command::Group { token, .. }
            | Command::Topic { token, .. }
            | Command::Subscription { token, .. }
            | Command::MoveTask { token, .. } => Event::Refused {
                token: *token,
                refusal,
            },
            Command::Transact(transact) => Event::Refused {
                token: transact.token,
                refusal,
            },
            Command::Authenticate(_)
            | Command::CloseClient { .. }
            | Command::ReleaseInbound { .. }
            | Command::CancelPull { .. }
            | Command::CancelRead { .. }
            | Command::Credit { .. }
            | Command::GroupWindow { .. }
            | Command::GroupFlow { .. }
            | Command::Settle(_) => return,
        };
        self.tell(step, from, event);
    }

    /// An event that rests on nothing, outside every lane but the first.
    pub(crate) fn tell(&mut self, step: &mut Step<'_, '_>, to: SessionId, event: Event) {
        let lane = OutLane::Reply(session::Lane(0));
        self.send(step, to, lane, 0, Item::Event(event));
    }

    /// Decides with `decide`, then performs what it decided.
    pub(crate) fn decided(
        &mut self,
        step: &mut Step<'_, '_>,
        decide: impl FnOnce(&Broker, &Context, &mut Decision),
    ) {
        // Nobody's command, so nobody's connection to close: a timer that stopped for good would be worse than an end.
        let _guard = AbortOnPanic::new();
        let context = self.context();
        self.decision.clear();
        decide(&self.broker, &context, &mut self.decision);
        self.plan_and_perform(step);
    }

    /// Deliveries that have become possible. `true`: there is more to do, in another hold of the lock.
    pub(crate) fn deliver(&mut self, step: &mut Step<'_, '_>) -> bool {
        let _guard = AbortOnPanic::new();
        // Whoever has deliveries may be among those who are shown something.
        self.show(step);
        let mut more = true;
        while more && step.delivered < DELIVERIES_MAX {
            let context = self.context();
            let Self {
                broker, decision, ..
            } = self;
            decision.clear();
            more = broker.decide_deliveries(&context, DELIVERIES_MAX - step.delivered, decision);
            step.delivered += decision.work();
            if decision.changes.is_empty() && decision.effects.is_empty() {
                break;
            }
            self.plan_and_perform(step);
        }
        more
    }

    fn plan_and_perform(&mut self, step: &mut Step<'_, '_>) {
        let durable = self.decision.is_durable();
        let together = self.plan(step, durable);
        self.perform(step, durable, together);
    }

    /// Applies what was decided and planned, journals it where it is `durable`, and routes what it tells. `together`: [`Core::plan`].
    fn perform(&mut self, step: &mut Step<'_, '_>, durable: bool, together: bool) {
        let _guard = AbortOnPanic::new();
        if durable {
            let changes = std::mem::take(&mut self.decision.changes);
            self.perform_durable(step, &changes, together);
            self.decision.changes = changes;
        } else {
            for change in &self.decision.changes {
                self.broker.apply_soft(change, self.now, &mut self.effects);
            }
        }
        let mut decided = std::mem::take(&mut self.decision.effects);
        // What apply caused comes first: a reply follows what it tells of.
        if !self.effects.is_empty() {
            let mut applied = std::mem::take(&mut self.effects);
            step.held = held(step.journal, &applied, &decided);
            let mut others = false;
            for effect in &applied {
                match effect {
                    Effect::Ref(id) => step.counting.count(*id, 1),
                    // Held ones are dropped with the last delivery that has yet to be read.
                    Effect::Unref(_) if step.held.is_some() => {}
                    Effect::Unref(id) => step.counting.count(*id, -1),
                    _ => others = true,
                }
            }
            if others {
                let is_counted = |it: &Effect| matches!(it, Effect::Ref(_) | Effect::Unref(_));
                applied
                    .drain(..)
                    .filter(|it| !is_counted(it))
                    .for_each(|it| self.route(step, it));
            }
            applied.clear();
            self.effects = applied;
        }
        self.route_decided(step, &mut decided);
        step.held = None;
        self.decision.effects = decided;
    }

    fn perform_durable(&mut self, step: &mut Step<'_, '_>, changes: &[Change], together: bool) {
        let mut planned = std::mem::take(&mut self.planned);
        let mut plans = planned.drain(..);
        for (at, change) in changes.iter().enumerate() {
            let is_next = |plan: &Planned| plan.change == at;
            if !plans.as_slice().first().is_some_and(is_next) {
                self.broker.apply_soft(change, self.now, &mut self.effects);
                continue;
            }
            let plan = plans.next().expect("seen above");
            if !together {
                let fits = step.stage.reserve(&[plan.len()]);
                assert!(fits, "the door bounds heads, and the core everything else");
            }
            let id = step.stage.next_id();
            let stored = plan.stores.then_some(id);
            self.broker
                .apply_durable(change, self.now, stored, &mut self.effects);
            let pushed = step
                .stage
                .push(plan.kind.0, &self.records[plan.head], plan.body);
            assert_eq!(
                pushed, id,
                "the journal keeps the position that it announced"
            );
        }
        drop(plans);
        self.planned = planned;
    }

    /// Encodes the records of a decision that is `durable`, so that their lengths are known before the first is applied. Whether one
    /// batch has room for them. All records of a command lie in one; what the core bounds by records (transactions, very wide
    /// publishes) may take several: they have no effect, and are not confirmed, before the last.
    fn plan(&mut self, step: &mut Step<'_, '_>, durable: bool) -> bool {
        if !durable {
            return true;
        }
        let _guard = AbortOnPanic::new();
        let mut changes = std::mem::take(&mut self.decision.changes);
        self.encode(step, &mut changes);
        self.decision.changes = changes;
        self.lens.clear();
        self.lens.extend(self.planned.iter().map(Planned::len));
        step.stage.reserve(&self.lens)
    }

    fn encode(&mut self, step: &mut Step<'_, '_>, changes: &mut [Change]) {
        self.records.clear();
        self.planned.clear();
        let changes = changes.iter_mut().enumerate();
        for (at, change) in changes.filter(|(_, change)| change.is_durable()) {
            let start = self.records.len();
            let Some(message) = change.message().map(Arc::clone) else {
                let kind = change.encode(self.now, &[], BodyAt::None, &mut self.records);
                self.planned.push(Planned {
                    change: at,
                    kind,
                    head: start..self.records.len(),
                    body: None,
                    stores: false,
                });
                continue;
            };
            let mut late = Vec::new();
            let head = step.heads.find(&message).unwrap_or_else(|| {
                message::encode_head(&message, &mut late);
                &late
            });
            let len = message.body.len() as u64;
            let (kind, body) = if message.body.len() > PART_LEN {
                let parts = put_parts(&mut step.stage, &message.body);
                change.put_parts(parts.clone());
                (
                    change.encode(
                        self.now,
                        head,
                        BodyAt::Parts { parts: &parts, len },
                        &mut self.records,
                    ),
                    None,
                )
            } else {
                let kind = change.encode(self.now, head, BodyAt::Inline { len }, &mut self.records);
                (kind, Some(message.body.clone()))
            };
            self.planned.push(Planned {
                change: at,
                kind,
                head: start..self.records.len(),
                body,
                stores: true,
            });
        }
    }

    /// Routes what was decided. What is told to one connection, one after the other, goes into its outbox together. What nearly all
    /// of it is is taken apart where it lies: an effect is large.
    fn route_decided(&mut self, step: &mut Step<'_, '_>, decided: &mut Vec<Effect>) {
        let mut effects = decided.drain(..);
        loop {
            if let Some(to) = effects.as_slice().first().and_then(told) {
                self.tell_all(step, to, &mut effects);
                continue;
            }
            match effects.next() {
                Some(Effect::Show {
                    to,
                    wait,
                    delivery,
                    bytes,
                }) => self.gather(step, to, wait, delivery, bytes),
                Some(effect) => self.route(step, effect),
                None => break,
            }
        }
    }

    /// Events and deliveries to one connection, as many as come first.
    fn tell_all(
        &mut self,
        step: &mut Step<'_, '_>,
        to: SessionId,
        effects: &mut std::vec::Drain<'_, Effect>,
    ) {
        if step.showing.is_ahead_of(to) {
            self.show(step);
        }
        let next = |effects: &mut std::vec::Drain<'_, Effect>| {
            let is_told = effects.as_slice().first().and_then(told) == Some(to);
            is_told.then(|| effects.next()).flatten()
        };
        let own = step.own_outbox.filter(|_| step.own == Some(to));
        let known = own.or_else(|| self.connections.get(&to).map(|known| &known.outbox));
        let Some(outbox) = known else {
            while next(effects).is_some() {}
            return;
        };
        let mut filling = outbox.fill();
        loop {
            let (lane, wait, item) = match next(effects) {
                Some(Effect::Event {
                    lane, wait, event, ..
                }) => (lane, wait, Item::Event(event)),
                Some(Effect::Deliver {
                    lane,
                    wait,
                    delivery,
                    bytes,
                    ..
                }) => (lane, wait, step.delivering(delivery, bytes)),
                _ => break,
            };
            filling.push(lane, step.wait(wait), step.committed, item);
        }
        let filled = filling.end();
        if step.own != Some(to)
            && let Some(wake) = filled.wake
        {
            step.wakers.push(wake);
        }
        for batch in filled.register {
            let waker = Waker::from(Arc::clone(outbox));
            step.stage.on_commit_of(batch, waker);
        }
    }

    fn route(&mut self, step: &mut Step<'_, '_>, effect: Effect) {
        match effect {
            Effect::Event {
                to,
                lane,
                wait,
                event,
            } => {
                let wait = step.wait(wait);
                self.send(step, to, lane, wait, Item::Event(event));
            }
            Effect::Show {
                to,
                wait,
                delivery,
                bytes,
            } => {
                self.gather(step, to, wait, delivery, bytes);
            }
            Effect::Deliver {
                to,
                lane,
                wait,
                delivery,
                bytes,
            } => {
                let wait = step.wait(wait);
                let item = step.delivering(delivery, bytes);
                self.send(step, to, lane, wait, item);
            }
            Effect::Pulled {
                to,
                lane,
                wait,
                token,
                deliveries,
                epoch,
                remaining,
            } => {
                let wait = step.wait(wait);
                self.send(
                    step,
                    to,
                    lane,
                    wait,
                    Item::Pulled {
                        token,
                        deliveries,
                        epoch,
                        remaining,
                        _held: step.held.clone(),
                    },
                );
            }
            Effect::Records {
                to,
                lane,
                wait,
                token,
                records,
            } => {
                let wait = step.wait(wait);
                let stored = |record: &PendingRecord| match record.content {
                    Content::Stored(id, _) => Some(id),
                    Content::Resident(_) => None,
                };
                let held = hold(step.journal, records.records.iter().filter_map(stored));
                self.send(
                    step,
                    to,
                    lane,
                    wait,
                    Item::Records {
                        token,
                        records,
                        looked: 0,
                        _held: held,
                    },
                );
            }
            Effect::Ref(id) => step.counting.count(id, 1),
            // Held ones are dropped with the last delivery that has yet to be read.
            Effect::Unref(_) if step.held.is_some() => {}
            Effect::Unref(id) => step.counting.count(id, -1),
            Effect::Fetch { fetch, id, wait } => {
                let wait = step.wait(wait);
                self.wanted.push(Wanted { fetch, id, wait });
                step.keeper_wanted = true;
            }
            Effect::Load(load) => self.loads.push(*load),
            Effect::Close { session, reason } => {
                self.tell(step, session, Event::Closing { reason })
            }
        }
    }

    /// Gathers what several are shown, until something else is for one of them.
    fn gather(
        &mut self,
        step: &mut Step<'_, '_>,
        to: SmallVec<[SessionId; 2]>,
        wait: Wait,
        delivery: Arc<Delivery>,
        bytes: u64,
    ) {
        let wait = step.wait(wait);
        step.direct += to.len();
        if to.is_empty() {
            return;
        }
        if !step.showing.takes(&to, wait, bytes) {
            self.show(step);
            step.showing.start(to, wait);
        }
        step.showing.add(delivery, bytes);
    }

    /// Hands out what has been gathered for several.
    pub(crate) fn show(&mut self, step: &mut Step<'_, '_>) {
        let Some((to, wait, shown)) = step.showing.take() else {
            return;
        };
        let lane = OutLane::Consumer(ConsumerId::CLIENT);
        for to in to {
            self.send(step, to, lane, wait, shown.item());
        }
    }

    fn send(
        &mut self,
        step: &mut Step<'_, '_>,
        to: SessionId,
        lane: OutLane,
        wait: u64,
        item: Item,
    ) {
        if step.showing.is_ahead_of(to) {
            self.show(step);
        }
        let own = step.own_outbox.filter(|_| step.own == Some(to));
        let known = own.or_else(|| self.connections.get(&to).map(|known| &known.outbox));
        let Some(outbox) = known else {
            return;
        };
        let pushed = outbox.push(lane, wait, step.committed, item);
        // Whoever runs this step looks into its own outbox right after it.
        if step.own != Some(to)
            && let Some(wake) = pushed.wake
        {
            step.wakers.push(wake);
        }
        if let Some(batch) = pushed.register {
            let waker = Waker::from(Arc::clone(outbox));
            step.stage.on_commit_of(batch, waker);
        }
    }
}

/// Whom an event or a delivery is for.
#[inline]
const fn told(effect: &Effect) -> Option<SessionId> {
    match effect {
        Effect::Event { to, .. } | Effect::Deliver { to, .. } => Some(*to),
        _ => None,
    }
}

/// How many bytes of messages a decision stores, about.
fn stored_len(decision: &Decision) -> usize {
    let stored = decision.changes.iter().filter_map(|it| it.message());
    stored.map(|message| message.body.len()).sum()
}

/// What a decision gives up although deliveries of its own have yet to be read: those that are settled as they leave.
fn held(journal: &Journal, applied: &[Effect], decided: &[Effect]) -> Option<Arc<Held>> {
    let reads = decided.iter().any(|effect| match effect {
        Effect::Deliver {
            delivery: Outgoing::Without(delivery, ..),
            ..
        } => delivery.id.is_none(),
        Effect::Pulled { deliveries, .. } => deliveries
            .iter()
            .any(|(_, content)| matches!(content, Content::Stored(..))),
        _ => false,
    });
    if !reads {
        return None;
    }
    let ids: Vec<StoredId> = applied
        .iter()
        .filter_map(|effect| match effect {
            Effect::Unref(id) => Some(*id),
            _ => None,
        })
        .collect();
    (!ids.is_empty()).then(|| {
        Arc::new(Held {
            journal: journal.clone(),
            ids,
        })
    })
}

/// References of their own for stored messages that are about to be read: a stream lets records go when they are too old,
/// whoever is reading them.
fn hold(journal: &Journal, stored: impl Iterator<Item = StoredId>) -> Option<Arc<Held>> {
    let ids: Vec<StoredId> = stored.collect();
    if ids.is_empty() {
        return None;
    }
    journal.add_refs(|add| ids.iter().for_each(|id| add(*id)));
    Some(Arc::new(Held {
        journal: journal.clone(),
        ids,
    }))
}

/// Appends a long body in parts, each in whatever batch has room: until a record refers to them they are garbage.
fn put_parts(stage: &mut Stage<'_>, body: &Bytes) -> Vec<StoredId> {
    let mut rest = body.clone();
    let mut parts = Vec::with_capacity(body.len().div_ceil(PART_LEN));
    while !rest.is_empty() {
        let part = rest.split_to(rest.len().min(PART_LEN));
        parts.push(stage.push(BODY_PART, &[], Some(part)));
    }
    parts
}

/// One hold of the lock: the open batch, and what to do once the lock is free.
pub(crate) struct Step<'journal, 'heads> {
    /// References that came and went. All are counted before the stage is free, so before a batch is written that needs them.
    pub(crate) counting: Counting<'journal>,
    pub(crate) stage: Stage<'journal>,
    pub(crate) journal: &'journal Journal,
    heads: &'heads Heads,
    committed: u64,
    /// References that the deliveries of the decision at hand hold until they are read.
    held: Option<Arc<Held>>,
    /// The connection whose task runs this step, if it is one's.
    own: Option<SessionId>,
    /// Its outbox, if it is at hand.
    own_outbox: Option<&'heads Arc<Outbox>>,
    /// Tasks to wake once the lock is free.
    pub(crate) wakers: Vec<Waker>,
    /// The keeper has a message to read.
    pub(crate) keeper_wanted: bool,
    /// Unconfirmed publishes refused at the door.
    pub(crate) unconfirmed_refused: u64,
    /// What was not permitted, to be counted and logged once the lock is free.
    pub(crate) refused: Vec<Refused>,
    /// Deliveries that no queue knows of.
    pub(crate) direct: usize,
    /// Those that are not in the outboxes yet.
    showing: Showing,
    delivered: usize,
}

impl<'journal, 'heads> Step<'journal, 'heads> {
    /// Takes the open batch. The core's lock is held.
    pub(crate) fn begin(
        journal: &'journal Journal,
        heads: &'heads Heads,
        wakers: Vec<Waker>,
        own: Option<SessionId>,
        own_outbox: Option<&'heads Arc<Outbox>>,
    ) -> Self {
        let stage = match own {
            Some(own) => journal.stage_of(own.0),
            None => journal.stage(),
        };
        Self {
            committed: journal.committed(),
            counting: journal.counting(),
            stage,
            journal,
            heads,
            held: None,
            own,
            own_outbox,
            wakers,
            keeper_wanted: false,
            unconfirmed_refused: 0,
            refused: Vec::new(),
            direct: 0,
            showing: Showing::default(),
            delivered: 0,
        }
    }

    /// A delivery on its way out.
    fn delivering(&mut self, delivery: Outgoing, bytes: u64) -> Item {
        self.direct += usize::from(delivery.id().is_none());
        match delivery {
            Outgoing::Whole(delivery) => Item::Delivery { delivery, bytes },
            Outgoing::Without(delivery, id, _) => Item::Stored {
                id,
                bytes,
                _held: match delivery.record {
                    Some(_) => hold(self.journal, std::iter::once(id)),
                    None => self.held.clone(),
                },
                delivery,
            },
        }
    }

    /// The batch that an effect waits for: the newest that holds a record, or none when all are committed.
    fn wait(&self, wait: Wait) -> u64 {
        match wait {
            Wait::Nothing => 0,
            Wait::Durable => self.journal.newest(),
            Wait::Stored(id) => journal::batch_of(id),
        }
    }
}
