//! A naive model of the core, and random histories in which both must agree after every command.
//!
//! The model is plain lists and obvious code. It predicts every answer, and it follows the core's deliveries one by one:
//! each must be the one that the model would have made next from that queue, to whose turn it is, shown as it should be;
//! and when the core rests, nothing may be left that the model would still deliver. The interleaving of *different*
//! queues' deliveries is the core's choice.
//!
//! | file | what |
//! |---|---|
//! | `queues.rs` | entries, limits, dead letters, time |
//! | `turns.rs` | windows, turns, deliveries |
//! | `receivers.rs` | consumers, settlements, pulls |
//! | `routing.rs` | exchanges and bindings, declarations |
//! | `clients.rs` | client sessions |

#[path = "../support/mod.rs"]
mod support;

mod clients;
mod queues;
mod receivers;
mod routing;
mod turns;

use std::collections::VecDeque;

use broker::Config;
use message::{Kind, Timestamp};
use session::{
    Command, ConsumerId, DeathReason, Event, Operation, Publish, PublishOutcome, RefusalKind,
    SessionId, Source, Subscribe,
};
use support::{Action, Node, Play, Step, Theme, history, look, queue_name, seeds, shortest};

use clients::{Client, Retained};
use queues::{Admission, Consumer, Entry, Fresh, Incoming, Queue, Shared};
use routing::{Bound, Exchange};

/// The core as anyone would write it who had all the time in the world.
#[derive(Clone)]
pub(crate) struct Model {
    now: Timestamp,
    said: Vec<(SessionId, String)>,
    queues: Vec<Queue>,
    /// In the order in which they came.
    consumers: Vec<Consumer>,
    shared: Vec<Shared>,
    exchanges: Vec<Exchange>,
    bindings: Vec<Bound>,
    clients: Vec<Client>,
    retained: Vec<Retained>,
    /// What full queues dropped of dead letters and has yet to die itself.
    dying: VecDeque<(u64, Entry, DeathReason)>,
    /// How far dead letters have been followed.
    depth: u32,
    /// What the last pull took.
    pulled: Vec<(u64, u64)>,
    next_number: u64,
    next_arrival: u64,
}

impl Model {
    fn new(now: Timestamp) -> Self {
        Self {
            now,
            said: Vec::new(),
            queues: Vec::new(),
            consumers: Vec::new(),
            shared: Vec::new(),
            exchanges: routing::fixed(),
            bindings: Vec::new(),
            clients: Vec::new(),
            retained: Vec::new(),
            dying: VecDeque::new(),
            depth: 0,
            pulled: Vec::new(),
            next_number: 0,
            next_arrival: 0,
        }
    }

    fn say(&mut self, to: SessionId, what: String) {
        self.said.push((to, what));
    }

    fn give(&mut self, from: SessionId, command: &Command) {
        match command {
            Command::Declare { token, declare, .. } => self.declare(from, *token, declare),
            Command::Publish(publish) => self.publish(from, publish),
            Command::Subscribe(subscribe) => self.subscribe(from, subscribe),
            Command::Cancel {
                token, consumer, ..
            } => self.cancel(from, *token, *consumer),
            Command::Credit { consumer, credit } => {
                let same = |c: &&mut Consumer| c.session == from && c.id == *consumer;
                if let Some(consumer) = self.consumers.iter_mut().find(same) {
                    consumer.credit = *credit;
                }
            }
            Command::GroupWindow { group, window } if *group != 0 => {
                self.group(from, *group).window = *window;
            }
            Command::GroupFlow { group, active } => self.group(from, *group).active = *active,
            Command::Settle(settle) => {
                let known = self.settle(from, settle);
                if let Some(token) = settle.token {
                    self.say(
                        from,
                        if known == 0 {
                            format!("{token:?} refused UnknownDelivery")
                        } else {
                            format!("{token:?} settled {known}")
                        },
                    );
                }
            }
            Command::Pull(pull) => self.pull(from, pull),
            Command::Transact(transact) => self.transact(from, transact),
            Command::OpenClient(open) => self.open(from, open),
            Command::CloseClient {
                publish_will,
                expiry,
            } => self.close(from, *publish_will, *expiry),
            Command::ReleaseInbound { id } => self.release_inbound(from, *id),
            Command::Unsubscribe { token, source } => self.unsubscribe(from, *token, source),
            _ => {}
        }
        self.refresh();
        self.rest();
    }

    /// What was asked is done; what is dying dies, one by one.
    pub(crate) fn rest(&mut self) {
        loop {
            let entries = self.queues.iter_mut().flat_map(|queue| &mut queue.entries);
            entries.for_each(|entry| entry.fresh = Fresh::No);
            let Some((number, entry, reason)) = self.dying.pop_front() else {
                return;
            };
            if self.queue(number).is_some() {
                self.die(number, entry, reason);
            }
            self.refresh();
        }
    }

    fn group(&mut self, session: SessionId, group: u32) -> &mut Shared {
        let same = |s: &Shared| s.session == session && s.group == group;
        let at = self.shared.iter().position(same).unwrap_or_else(|| {
            self.shared.push(Shared {
                session,
                group,
                window: 0,
                active: true,
            });
            self.shared.len() - 1
        });
        &mut self.shared[at]
    }

    fn subscribe(&mut self, from: SessionId, subscribe: &Subscribe) {
        let token = subscribe.token;
        if matches!(subscribe.source, Source::Topic { .. }) {
            if let Err(kind) = self.subscribe_topic(from, subscribe) {
                self.say(from, format!("{token:?} refused {kind:?}"));
            }
            return;
        }
        let before = self.clone();
        let said = match (&subscribe.source, self.consume(from, subscribe)) {
            (Source::Queue { .. }, Ok(())) => format!("{token:?} subscribed"),
            (_, Err(kind)) => {
                *self = before;
                format!("{token:?} refused {kind:?}")
            }
            _ => return,
        };
        self.say(from, said);
    }

    fn publish(&mut self, from: SessionId, publish: &Publish) {
        let confirmed = publish.token.is_some();
        if self.is_repeat(from, publish) {
            if let Some(token) = publish.token {
                self.say(from, format!("{token:?} published duplicate"));
            }
            return;
        }
        let publisher = self.client_of(from);
        let placed = self.place(publish, confirmed, publisher);
        // Also where a queue refused it; not where nothing was looked at.
        if !matches!(
            placed,
            Err(RefusalKind::NotFound | RefusalKind::AccessDenied)
        ) {
            self.take_inbound(from, publish);
        }
        let body = String::from_utf8_lossy(&publish.message.body).into_owned();
        if publish.mandatory && matches!(placed, Ok((0, _))) {
            self.say(from, format!("returned {body}"));
        }
        let Some(token) = publish.token else {
            if let Err(kind) = placed
                && !kind.is_want_of_room()
            {
                let lane = publish.lane;
                self.say(from, format!("{lane:?} unconfirmed refused {kind:?}"));
            }
            return;
        };
        let outcome = match placed {
            Err(kind) => format!("refused {kind:?}"),
            Ok((matched, duplicates)) if duplicates > 0 && duplicates == matched => {
                "duplicate".to_owned()
            }
            Ok((matched, _)) => format!("accepted {matched}"),
        };
        self.say(from, format!("{token:?} published {outcome}"));
    }

    /// Puts a message wherever it goes. How many matched and how many of these knew it already, or why one refused.
    fn place(
        &mut self,
        publish: &Publish,
        confirmed: bool,
        publisher: Option<u64>,
    ) -> Result<(u32, u32), RefusalKind> {
        let message = &publish.message;
        let address = &message.address;
        let (exchange, key) = routing::exchange_and_key(address);
        if self.exchange(&exchange).is_some_and(|e| e.options.internal) {
            return Err(RefusalKind::AccessDenied);
        }
        if address.kind == Kind::Queue && publish.create && self.named(&address.name).is_none() {
            self.make_queue(&address.name);
        }
        let mut keys = vec![key];
        keys.extend(message.fields().carbon_copies.iter().cloned());
        let routed = self.route(&exchange, &keys, message, publisher);
        let routed = routed.ok_or(RefusalKind::NotFound)?;
        let incoming = Incoming {
            message: message.clone(),
            durable: message.durable || confirmed,
            expiry: message.expiry,
            deaths: Vec::new(),
            readdressed: None,
            resident: true,
        };
        self.retain(message, &exchange, &keys[0]);
        let before = self.next_arrival;
        let mut refused = None;
        let mut duplicates = 0;
        let (mut taken, mut dead) = (Vec::new(), Vec::new());
        let targets = self.in_order(routed.queues.clone());
        for target in &targets {
            match self.admit(*target, &incoming) {
                Admission::Taken => taken.push(*target),
                Admission::Duplicate => duplicates += 1,
                Admission::Discarded => dead.push(*target),
                Admission::Refused(kind) => {
                    refused.get_or_insert(kind);
                    let overflow = self.queue_ref(*target).at.overflow;
                    if kind == RefusalKind::QueueFull
                        && overflow == session::Overflow::RejectPublishDeadLetter
                    {
                        dead.push(*target);
                    }
                }
            }
        }
        for target in dead {
            self.dead_letter_refused(target, &incoming, &mut taken);
        }
        let matched = (targets.len() + routed.clients.len()) as u32 + u32::from(routed.withheld);
        self.admit_clients(&routed, &incoming);
        self.settle_down(before, Fresh::Published);
        refused.map_or(Ok((matched, duplicates)), Err)
    }

    /// All or nothing.
    fn transact(&mut self, from: SessionId, transact: &session::Transact) {
        let token = transact.token;
        let before = self.clone();
        let publisher = self.client_of(from);
        let mut returned = Vec::new();
        for operation in &transact.operations {
            let done = match operation {
                Operation::Publish(publish) => {
                    self.place(publish, true, publisher).map(|(matched, _)| {
                        if matched == 0 && publish.mandatory {
                            returned
                                .push(String::from_utf8_lossy(&publish.message.body).into_owned());
                        }
                    })
                }
                Operation::Settle(settle) => match self.settle(from, settle) {
                    0 => Err(RefusalKind::UnknownDelivery),
                    _ => Ok(()),
                },
            };
            if let Err(kind) = done {
                *self = before;
                return self.say(from, format!("{token:?} refused {kind:?}"));
            }
        }
        self.say(from, format!("{token:?} committed, returned {returned:?}"));
    }

    fn detach(&mut self, session: SessionId) {
        if let Some(number) = self.client_of(session) {
            let client = self.clients.iter().find(|c| c.number == number);
            let expiry = client.expect("found above").expiry_ms;
            self.leave(number, expiry, true);
        }
        self.drop_connection(session);
        self.rest();
        self.said.retain(|(to, _)| *to != session);
    }

    /// Everything of a connection but its client session goes.
    fn drop_connection(&mut self, session: SessionId) {
        let before = self.said.len();
        self.release_all(session);
        let owned = self.queues.iter().filter(|q| q.owner == Some(session));
        let owned: Vec<u64> = owned.map(|queue| queue.number).collect();
        for number in owned {
            self.delete_queue(number);
        }
        let mine = self.consumers.iter().filter(|c| c.session == session);
        let mine: Vec<ConsumerId> = mine.map(|consumer| consumer.id).collect();
        for consumer in mine {
            self.consumer_goes(session, consumer);
        }
        self.shared.retain(|shared| shared.session != session);
        // It need not be told what it loses.
        let mut told = self.said.split_off(before);
        told.retain(|(to, what)| *to != session || !what.ends_with("cancelled"));
        self.said.extend(told);
        self.refresh();
    }

    fn restart(&mut self) {
        self.said.clear();
        self.restart_clients();
        self.restart_queues();
        self.restart_routing();
        self.refresh();
    }

    fn next_due(&self) -> Option<Timestamp> {
        let of_clients = self.due_of_clients().map(|due| due.0);
        let in_queues = self.due_in_queues().map(|due| due.0);
        [of_clients, in_queues].into_iter().flatten().min()
    }

    /// Does everything that is due.
    fn tick(&mut self) {
        while let Some(due) = self.next_due().filter(|at| *at <= self.now) {
            match (self.due_in_queues(), self.due_of_clients()) {
                (Some((at, what, number, arrival)), _) if at == due => {
                    self.happen_in_queue(what, number, arrival);
                }
                (_, Some((_, what, number))) => self.happen_to_client(what, number),
                _ => unreachable!("something is due"),
            }
            self.refresh();
            self.rest();
        }
    }
}

/// How an event is told, in the model's words.
fn told(event: &Event) -> String {
    match event {
        Event::Refused { token, refusal } => format!("{token:?} refused {:?}", refusal.kind),
        Event::Declared {
            token,
            messages,
            consumers,
            ..
        } => format!("{token:?} declared {messages} messages {consumers} consumers"),
        Event::Published { token, outcome } => {
            let outcome = match outcome {
                PublishOutcome::Accepted { matched, .. } => format!("accepted {matched}"),
                PublishOutcome::Duplicate { .. } => "duplicate".to_owned(),
                PublishOutcome::Refused(refusal) => format!("refused {:?}", refusal.kind),
            };
            format!("{token:?} published {outcome}")
        }
        Event::PublishRefused { lane, refusal } => {
            format!("{lane:?} unconfirmed refused {:?}", refusal.kind)
        }
        Event::Returned { message, .. } => {
            format!("returned {}", String::from_utf8_lossy(&message.body))
        }
        Event::Subscribed { token } => format!("{token:?} subscribed"),
        Event::Unsubscribed { token, existed } => {
            format!("{token:?} unsubscribed, existed {existed}")
        }
        Event::Cancelled { consumer, .. } => format!("{consumer:?} cancelled"),
        Event::Settled { token, known } => format!("{token:?} settled {known}"),
        Event::Pulled {
            token,
            deliveries,
            epoch: _,
            remaining,
        } => {
            let shown = |delivery: &session::Delivery| {
                format!("{} {}", support::text(delivery), delivery.count)
            };
            let mut taken: Vec<String> = deliveries.iter().map(shown).collect();
            // Dead letters of one command come in any order.
            if deliveries.iter().any(|delivery| delivery.deaths.is_some()) {
                taken.sort();
            }
            receivers::pulled(*token, &taken, *remaining)
        }
        Event::Committed { token, returned } => {
            let body = |message: &std::sync::Arc<message::Message>| {
                String::from_utf8_lossy(&message.body).into_owned()
            };
            let returned: Vec<String> = returned.iter().map(body).collect();
            format!("{token:?} committed, returned {returned:?}")
        }
        Event::Opened { token, present, .. } => format!("{token:?} opened, present {present}"),
        Event::Resumed { received } => format!("resumed {}", received.len()),
        Event::InboundReleased { id, known } => format!("{id} released, known {known}"),
        Event::Closing { reason } => format!("closing {reason:?}"),
        other => format!("{other:?}"),
    }
}

const SNAPSHOTS: bool = true;

/// The core and the model, side by side.
struct Both {
    node: Node,
    play: Play,
    model: Model,
    observer: SessionId,
}

impl Both {
    fn new() -> Self {
        let mut node = Node::with(Config {
            outbox_bytes_max: 1 << 40,
            recent_count_max: 1 << 40,
            recent_bytes_max: 1 << 40,
            ..Config::default()
        });
        let observer = node.attach();
        Self {
            model: Model::new(node.now),
            node,
            play: Play::new(),
            observer,
        }
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        // Consumers through a client session, and shares, are not in the model.
        if matches!(
            step,
            Step::Through { .. } | Step::Unsubscribe { source: 6.., .. }
        ) {
            return Ok(());
        }
        let Some(action) = self.play.action(step, &self.node) else {
            return Ok(());
        };
        match action {
            Action::Attach(slot) => {
                let session = self.node.attach();
                self.play.attached(slot, session);
            }
            Action::Detach(session) => {
                self.node.detach(session);
                self.node.heard.retain(|heard| heard.to != session);
                self.play.detached(session);
                self.model.detach(session);
            }
            Action::Give(session, command) => {
                // No two commands at the same time: what they cause is due at different times.
                self.pass(10)?;
                self.node.give(session, command.clone());
                if let Command::Pull(pull) = &command {
                    for heard in &self.node.heard {
                        if let Event::Pulled { deliveries, .. } = &heard.event {
                            self.model.came_as_pulled(&pull.queue, deliveries);
                        }
                    }
                }
                self.model.give(session, &command);
            }
            Action::Pass(ms) => return self.pass(ms),
            Action::Restart(snapshot) => {
                if snapshot && SNAPSHOTS {
                    self.node.restart_from_snapshot();
                } else {
                    self.node.restart();
                }
                self.play.all_detached();
                self.model.restart();
                self.observer = self.node.attach();
            }
        }
        self.agree()
    }

    /// Stops at every deadline that either knows of.
    fn pass(&mut self, ms: u64) -> Result<(), String> {
        let until = self.node.now.plus_ms(ms);
        loop {
            let next = [self.node.broker.next_deadline(), self.model.next_due()];
            let next = next.into_iter().flatten().min().filter(|at| *at <= until);
            let now = next.unwrap_or(until).max(self.node.now);
            self.node.now = now;
            self.model.now = now;
            self.node.tick();
            self.agree()?;
            if next.is_none() {
                return Ok(());
            }
        }
    }

    fn agree(&mut self) -> Result<(), String> {
        self.model.tick();
        let mut heard = Vec::new();
        for one in std::mem::take(&mut self.node.heard) {
            self.play.hears(one.to, &one.event);
            match &one.event {
                // A client session's delivery that is settled already comes out of no queue.
                Event::Delivery(delivery)
                    if delivery.consumer == ConsumerId::CLIENT && delivery.id.is_none() =>
                {
                    let shown = clients::identifiers(delivery.subscriptions.to_vec());
                    let told = clients::direct(&delivery.message, delivery.retain, &shown);
                    heard.push((one.to, told));
                }
                Event::Delivery(delivery) => self.model.delivered(one.to, delivery)?,
                event => {
                    if let Event::Pulled { deliveries, .. } = event {
                        self.model.learn_pulled(deliveries);
                    }
                    heard.push((one.to, told(event)));
                }
            }
        }
        self.model.quiet()?;
        let mut said = std::mem::take(&mut self.model.said);
        said.sort_by_key(|(to, _)| *to);
        heard.sort_by_key(|(to, _)| *to);
        if said != heard {
            return Err(format!("the core said {heard:?}\nthe model {said:?}"));
        }
        self.counts()
    }

    /// Messages and consumers of every queue, and the gauges.
    fn counts(&mut self) -> Result<(), String> {
        for number in 0..support::QUEUES {
            let name = queue_name(number);
            let core = match self.node.declare(self.observer, look(name)) {
                Event::Declared {
                    messages,
                    consumers,
                    ..
                } => Ok((messages, consumers as usize)),
                Event::Refused { refusal, .. } => Err(refusal.kind),
                other => return Err(format!("looked, and was told {other:?}")),
            };
            let model = match self.model.named(name.as_bytes()) {
                None => Err(RefusalKind::NotFound),
                Some(number) => {
                    let queue = self.model.queue_ref(number);
                    let mine = |c: &&Consumer| c.queue == number;
                    let consumers = self.model.consumers.iter().filter(mine).count();
                    match queue.owner {
                        Some(_) => Err(RefusalKind::Locked),
                        None => Ok((queue.ready(), consumers)),
                    }
                }
            };
            if core != model {
                return Err(format!(
                    "{name}: the core counts {core:?}, the model {model:?}"
                ));
            }
        }
        let entries = self.model.queues.iter().flat_map(|queue| &queue.entries);
        let out = |entry: &&Entry| {
            use queues::Place;
            !matches!(entry.place, Place::Ready | Place::Hidden(_))
        };
        let (all, out) = (entries.clone().count(), entries.filter(out).count());
        let gauges = self.node.broker.counters();
        let core = (
            gauges.messages_ready as usize,
            gauges.messages_unacked as usize,
        );
        if core != (all - out, out) {
            return Err(format!("gauges {core:?}, the model {:?}", (all - out, out)));
        }
        Ok(())
    }
}

fn agree(seed: u64, theme: Theme, len: usize) {
    shortest(seed, history(seed, theme, len), |steps| {
        let mut both = Both::new();
        for step in steps {
            both.step(step)?;
        }
        Ok(())
    });
}

#[test]
fn random_histories_of_queues_agree_with_the_model() {
    for seed in seeds() {
        agree(seed, Theme::Queues, 250);
    }
}

#[test]
fn random_histories_of_clients_agree_with_the_model() {
    for seed in seeds() {
        agree(seed, Theme::Clients, 250);
    }
}

#[test]
fn random_histories_of_everything_agree_with_the_model() {
    for seed in seeds() {
        agree(seed, Theme::Everything, 250);
    }
}

#[test]
fn random_histories_of_exchanges_agree_with_the_model() {
    for seed in seeds() {
        agree(seed, Theme::Exchanges, 250);
    }
}
