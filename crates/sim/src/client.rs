//! Clients: a connection each, and what they want of the broker. They know no more than clients do.

mod publish;
mod receipts;
mod state;
mod steps;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use bytes::Bytes;
use message::{Address, Filter, FilterLevel, Levels, Message, Pattern, VhostId};
use session::{
    Authenticate, CloseReason, Command, ConsumerId, Credentials, Credit, Declare, Delivery,
    DeliveryRange, Event, Fifo, Lane, Lease, Link, Operation, Outcome, Peer, Port as _, Publish,
    PublishOutcome, Pull, QueueAttributes, QueueOptions, ReadStream, Receipt, ReceiptUse, Redrive,
    Settle, ShardNo, Source, StreamAttributes, StreamStart, StreamTo, Submitted, Subscribe,
    SubscriptionOptions, Token, Transact,
};
use smallvec::smallvec;

use self::publish::{apart, name, published_as};
use self::receipts::{Kept, Use};
use self::state::{Question, State};
use self::steps::{Step, Steps};
use crate::history::{self, History, Origin, PullId, Target};
use crate::random::Random;
use crate::rates::{Place, Theme};
use crate::world::{Serving, World};

/// What a client is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Sends(Target),
    Pulls(Target),
    Consumes,
    /// A client session with a subscription that lasts.
    Follows(Target),
    /// A reader of the stream.
    Reads,
    /// Writes what a topic keeps.
    Retains,
    /// Looks what topics keep.
    Looks,
    /// A client session with a will.
    Departs,
    /// A member of a consumer group of the stream.
    Works,
    /// Publishes exactly once.
    Hands,
}

/// What an answer is an answer to.
#[derive(Debug)]
enum Asked {
    Login,
    Setup,
    Publish(u64),
    Transact(Vec<u64>),
    PublishAll(Vec<u64>),
    /// When, and under which lease in ms.
    Pull(u64, u64),
    /// And until when the receipt is good for sure.
    Settle(u64, u64),
    UseAll(Vec<Use>),
    Release,
    Read,
    State(Question),
    Step(Step),
}

/// How long a client waits for an answer, in µs.
const PATIENCE: u64 = 700_000;
/// And one that does not mind.
const LONG_PATIENCE: u64 = 30_000_000;

/// How long a message is delayed at most, in ms.
const DELAY_MAX: u64 = 8_000;

struct Connection {
    serving: Serving,
    at: usize,
    link: Arc<dyn Link>,
    commands: VecDeque<Command>,
    asked: BTreeMap<u64, Asked>,
    /// Everything that it needs is there.
    ready: bool,
    /// When it last heard something, or asked with nothing else to wait for.
    heard_at: u64,
    /// A pull or read is out.
    takes: bool,
    /// Where the next read begins.
    next: u64,
}

/// See the module.
pub(crate) struct Client {
    pub(crate) role: Role,
    number: usize,
    random: Random,
    waker: Waker,
    connection: Option<Connection>,
    /// When it does something by itself.
    pub(crate) timer: u64,
    tokens: u64,
    /// Messages of a FIFO group whose outcome is not known: they are sent again.
    repeats: VecDeque<u64>,
    /// Messages of a FIFO group that were confirmed, and whose dedup ids are free to be used again.
    sure: Vec<u64>,
    kept: VecDeque<Kept>,
    /// Receipts of one command that is yet to be sent.
    uses: Vec<Use>,
    state: State,
    steps: Steps,
    theme: Theme,
    /// Hands in several publishes, and several receipts, in one command.
    batches: bool,
    /// Sends nothing new any more.
    drains: bool,
    message_len_max: u64,
    /// How long it waits for an answer, in µs.
    patience: u64,
    /// How long it rests at most, in µs.
    pace: u64,
    /// For how long it sends again what it does not know the outcome of, in µs.
    repeats_max: u64,
    /// How many messages it sends while things go wrong.
    sends: u64,
}

struct Woken {
    world: Arc<World>,
    client: usize,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.world
            .woken
            .lock()
            .expect("nobody panics with it")
            .push(self.client);
    }
}

/// What happens in a turn of a client.
pub(crate) struct Turn<'a> {
    pub(crate) world: &'a Arc<World>,
    pub(crate) history: &'a mut History,
    /// Links that were given up, by the node that has yet to hear of it.
    pub(crate) hangups: &'a mut Vec<(usize, u64, Arc<dyn Link>)>,
    pub(crate) now: u64,
}

impl Client {
    pub(crate) fn new(world: &Arc<World>, number: usize, role: Role, mut random: Random) -> Self {
        let rates = world.lock().rates.clone();
        let (theme, chaos) = (rates.theme, rates.chaos);
        let sends = random.spread(10, 120);
        let waker = Waker::from(Arc::new(Woken {
            world: Arc::clone(world),
            client: number,
        }));
        let mut client = Self {
            role,
            number,
            waker,
            connection: None,
            timer: 0,
            tokens: 0,
            repeats: VecDeque::new(),
            sure: Vec::new(),
            kept: VecDeque::new(),
            uses: Vec::new(),
            state: State::default(),
            steps: Steps::default(),
            theme,
            batches: rates.batches,
            drains: false,
            message_len_max: random.spread(16, 6_000),
            patience: PATIENCE,
            pace: (chaos / sends).clamp(10_000, 1_000_000),
            repeats_max: rates.repeats_max(),
            sends,
            random,
        };
        match theme {
            Theme::Any | Theme::Rot => {}
            Theme::Leases => {
                client.patience = *client.random.pick(&[PATIENCE, LONG_PATIENCE]);
                client.pace = client.random.spread(5_000, 100_000);
            }
            Theme::House => {
                client.sends = client.random.between(100, 300);
                client.pace = (chaos / client.sends).clamp(10_000, 1_000_000);
            }
            Theme::State | Theme::Steps => client.pace = client.random.spread(20_000, 300_000),
        }
        client
    }

    /// One turn: the node whose process is concerned comes back, so that it may be told.
    pub(crate) fn turn(&mut self, turn: &mut Turn<'_>) -> Result<Option<usize>, String> {
        let due = turn.now >= self.timer;
        if due {
            let calm = !turn.world.lock().chaos;
            let pace = if calm { 50_000 } else { self.pace };
            self.timer = turn.now + self.random.between(pace / 4, pace);
        }
        if let Some(connection) = &self.connection {
            let at = connection.at;
            let (reachable, gone) = {
                let inner = turn.world.lock();
                let incarnation = connection.serving.incarnation;
                let gone = !inner.nodes[at].runs || inner.nodes[at].incarnation != incarnation;
                (inner.reachable(at, incarnation), gone)
            };
            let silent = turn.now - connection.heard_at > self.patience;
            let waits = self.waits();
            if gone || silent && (waits || !reachable) {
                self.hang_up(turn);
                return Ok(Some(at));
            }
            if !reachable {
                return Ok(None);
            }
            self.hear(turn)?;
            // Nobody stays for ever; and a node that has a successor and does not know may have kept it.
            if due && self.random.percent(2) {
                self.hang_up(turn);
                return Ok(Some(at));
            }
            if self.connection.is_some() && due {
                let waited = self.waits();
                self.act(turn);
                if !waited && let Some(connection) = &mut self.connection {
                    connection.heard_at = turn.now;
                }
            }
            self.submit();
            return Ok(Some(at));
        }
        if due {
            return Ok(self.connect(turn));
        }
        Ok(None)
    }

    fn waits(&self) -> bool {
        self.connection
            .as_ref()
            .is_some_and(|connection| !connection.asked.is_empty() || self.steps.waits())
    }

    fn hang_up(&mut self, turn: &mut Turn<'_>) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        for (_, asked) in connection.asked {
            if let Asked::Publish(number) = asked {
                self.is_unsure(number, turn.history);
            }
        }
        self.lose_state(turn);
        let incarnation = connection.serving.incarnation;
        turn.hangups
            .push((connection.at, incarnation, connection.link));
    }

    /// What became of a message that must come in order nobody said.
    fn is_unsure(&mut self, number: u64, history: &History) {
        let message = history.message(number);
        if message.target == Target::Fifo && history.dedup_of(number) == number {
            self.repeats.push_back(number);
        }
    }

    fn connect(&mut self, turn: &mut Turn<'_>) -> Option<usize> {
        let candidates: Vec<(usize, Serving)> = {
            let inner = turn.world.lock();
            let all = inner.nodes.iter().enumerate();
            all.filter_map(|(at, node)| Some((at, node.serving.clone()?)))
                .filter(|(at, serving)| inner.reachable(*at, serving.incarnation))
                .collect()
        };
        if candidates.is_empty() {
            return None;
        }
        let (at, serving) = self.random.pick(&candidates).clone();
        let peer = Peer {
            address: ([127, 0, 0, 1], 9).into(),
            listener: "sim",
            default_vhost: "/".into(),
        };
        let link = serving.node.attach(peer)?;
        self.connection = Some(Connection {
            serving,
            at,
            link,
            commands: VecDeque::new(),
            asked: BTreeMap::new(),
            ready: false,
            heard_at: turn.now,
            takes: false,
            next: 0,
        });
        let token = self.ask(Asked::Login);
        self.push(Command::Authenticate(Box::new(Authenticate {
            token,
            credentials: Credentials::Plain {
                user: "guest".to_owned(),
                password: Bytes::from_static(b"guest"),
            },
            vhost: None,
            vhost_fallback: false,
            vhost_in_user: false,
            vhost_follows: false,
            vhost_create: false,
            verified_anywhere: false,
            protocol: "SIM 1",
            client: Bytes::new(),
        })));
        self.submit();
        Some(at)
    }

    fn ask(&mut self, asked: Asked) -> Token {
        self.tokens += 1;
        if let Some(connection) = &mut self.connection {
            connection.asked.insert(self.tokens, asked);
        }
        Token(self.tokens)
    }

    fn push(&mut self, command: Command) {
        if let Some(connection) = &mut self.connection {
            connection.commands.push_back(command);
        }
    }

    fn submit(&mut self) {
        if let Some(connection) = &mut self.connection
            && !connection.commands.is_empty()
        {
            let submitted = connection.link.submit(&mut connection.commands);
            debug_assert_eq!(
                submitted == Submitted::All,
                connection.commands.is_empty(),
                "what was not left was taken"
            );
        }
    }

    /// Takes what the node has for this connection.
    fn hear(&mut self, turn: &mut Turn<'_>) -> Result<(), String> {
        loop {
            let Some(connection) = &mut self.connection else {
                return Ok(());
            };
            let mut events = Vec::new();
            let mut cx = Context::from_waker(&self.waker);
            if connection
                .link
                .poll_events(&mut cx, &mut events)
                .is_pending()
            {
                return Ok(());
            }
            connection.heard_at = turn.now;
            let origin = Origin {
                epoch: connection.serving.epoch,
                node: connection.at,
                incarnation: connection.serving.incarnation,
            };
            for event in events.into_iter().flat_map(apart) {
                self.event(event, origin, turn)?;
            }
            let Some(connection) = &self.connection else {
                return Ok(());
            };
            connection.link.drained();
            self.submit();
        }
    }

    fn event(&mut self, event: Event, origin: Origin, turn: &mut Turn<'_>) -> Result<(), String> {
        if self.connection.is_none() {
            return Ok(());
        }
        let number = self.number;
        {
            let token = event.token().map_or(0, |token| token.0);
            let mut inner = turn.world.lock();
            let waits = inner.rates.place != Place::Reckless && !inner.rates.clocks_stop;
            if waits && !matches!(event, Event::Closing { .. }) {
                turn.history.hear(origin)?;
            }
            inner.trace(
                || {
                    let mut text = format!("{event:?}");
                    text.truncate(300);
                    format!("client {number} in epoch {} hears {text}", origin.epoch)
                },
                &[5, number as u64, token],
            );
        }
        let connection = self.connection.as_mut().expect("it was just there");
        let token = event.token();
        let asked = token.and_then(|token| connection.asked.remove(&token.0));
        match (event, asked) {
            (event, Some(Asked::State(question))) => {
                self.answered(event, question, origin, turn)?;
            }
            (event, Some(Asked::Step(step))) => self.stepped(event, step, origin, turn)?,
            (Event::InboundReleased { id, known }, _) => self.freed(id, known, turn)?,
            (Event::Resumed { received }, _) => self.resumed(&received, turn)?,
            (Event::Authenticated { secret, .. }, _) => {
                turn.history.unseals(secret, origin)?;
                self.set_up();
            }
            (Event::Closing { reason }, _) => {
                if reason == CloseReason::Internal {
                    turn.world.lock().is_at_a_loss()?;
                }
                self.hang_up(turn);
            }
            (Event::Delivery(delivery), _) => self.deliver(&delivery, origin, turn)?,
            (Event::Burst(burst), _) => {
                for delivery in burst.deliveries() {
                    self.deliver(delivery, origin, turn)?;
                }
            }
            (Event::Published { outcome, .. }, Some(Asked::Publish(message))) => {
                self.published(message, &outcome, origin, turn)?;
            }
            (
                Event::Pulled {
                    deliveries, epoch, ..
                },
                Some(Asked::Pull(at, lease)),
            ) => {
                if epoch != origin.epoch {
                    return Err(format!(
                        "one active: a node of epoch {} gives receipts of {epoch}",
                        origin.epoch
                    ));
                }
                if let Some(connection) = &mut self.connection {
                    connection.takes = false;
                }
                let pull = PullId {
                    client: number,
                    token: token.map_or(0, |token| token.0),
                };
                for delivery in deliveries {
                    self.pulled(&delivery, pull, (at, lease), origin, turn)?;
                }
                self.use_together();
            }
            (Event::PublishedAll { outcomes, .. }, Some(Asked::PublishAll(messages))) => {
                self.published_all(&messages, &outcomes, origin, turn)?;
            }
            (Event::Committed { .. }, Some(Asked::Transact(messages))) => {
                for message in messages {
                    turn.history.confirm(message, origin, turn.now)?;
                }
            }
            (Event::Settled { known, .. }, Some(Asked::Settle(message, until))) => {
                receipts::settled(message, until, Ok(known), origin, turn)?;
            }
            (Event::Refused { refusal, .. }, Some(Asked::Settle(message, until))) => {
                receipts::settled(message, until, Err(refusal.kind), origin, turn)?;
            }
            (Event::SettledAll { outcomes, .. }, Some(Asked::UseAll(used))) => {
                receipts::settled_all(&used, &outcomes, origin, turn)?;
            }
            (Event::Records { records, .. }, Some(Asked::Read)) => {
                let mut next = records.shard.first_offset;
                if let Some(connection) = &mut self.connection {
                    next = next.max(connection.next);
                    connection.takes = false;
                    connection.next = records.next;
                }
                for record in &records.records {
                    turn.history
                        .read(next, record.offset, &record.message.body)?;
                    next = record.offset + 1;
                }
            }
            (Event::Refused { .. }, Some(Asked::Pull(..) | Asked::Read)) => {
                if let Some(connection) = &mut self.connection {
                    connection.takes = false;
                }
            }
            (Event::Refused { .. }, Some(Asked::Login)) => self.hang_up(turn),
            (Event::Refused { .. }, Some(Asked::Setup))
                if !matches!(
                    self.role,
                    Role::Sends(Target::Stream) | Role::Reads | Role::Works
                ) =>
            {
                self.hang_up(turn);
            }
            (
                event @ (Event::Opened { .. }
                | Event::Declared { .. }
                | Event::Subscribed { .. }
                | Event::Stream { .. }
                | Event::Refused { .. }),
                Some(Asked::Setup),
            ) => {
                if let Event::Opened { present, .. } = event
                    && !turn.history.is_excused
                {
                    self.steps.opened(present)?;
                }
                let connection = self.connection.as_mut().expect("it is open");
                connection.ready = connection.asked.is_empty();
                if connection.ready
                    && let Role::Follows(target) = self.role
                {
                    turn.history
                        .subscribed(number + 1, target, origin, turn.now);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn set_up(&mut self) {
        let target = match self.role {
            Role::Sends(target) | Role::Pulls(target) | Role::Follows(target) => target,
            Role::Consumes => Target::Pushed,
            Role::Reads | Role::Works => Target::Stream,
            Role::Retains | Role::Looks => Target::Kept,
            Role::Departs => Target::Wills,
            Role::Hands => Target::Exact,
        };
        self.steps.begin();
        match target {
            Target::Plain | Target::Pushed | Target::Fifo => self.declare(target),
            Target::Risky | Target::Dead => {
                self.declare(Target::Dead);
                self.declare(Target::Risky);
            }
            Target::Stream => {
                let token = self.ask(Asked::Setup);
                self.push(Command::Stream {
                    token,
                    lane: Lane(0),
                    name: name(target),
                    to: Box::new(StreamTo::Ensure {
                        attributes: StreamAttributes::default(),
                        shards: 1,
                        notes: Vec::new(),
                        bare_name: false,
                    }),
                });
            }
            Target::Topic | Target::Kept | Target::Wills | Target::Exact => {}
        }
        match self.role {
            Role::Consumes => self.subscribe(
                ConsumerId(1),
                Source::Queue {
                    name: name(Target::Pushed),
                    create: true,
                },
            ),
            Role::Hands => self.resume(),
            Role::Follows(target) => {
                self.resume();
                let level = FilterLevel::Exact(name(target));
                self.subscribe(
                    ConsumerId::CLIENT,
                    Source::Topic {
                        filter: Filter::Pattern(Pattern(vec![level])),
                    },
                );
            }
            Role::Sends(Target::Topic) => {
                if let Some(connection) = &mut self.connection {
                    connection.ready = true;
                }
            }
            Role::Retains | Role::Looks | Role::Departs => self.set_up_state(),
            Role::Works => self.works_no_more(),
            Role::Sends(_) | Role::Pulls(_) | Role::Reads => {}
        }
    }

    fn declare(&mut self, target: Target) {
        let fifo = (target == Target::Fifo).then_some(Fifo {
            dedup_by_content: false,
            dedup_per_group: false,
        });
        let is_risky = target == Target::Risky;
        let token = self.ask(Asked::Setup);
        self.push(Command::Declare {
            token,
            lane: Lane(0),
            declare: Declare::Queue {
                name: name(target),
                passive: false,
                options: Box::new(QueueOptions {
                    durable: true,
                    attributes: QueueAttributes {
                        fifo,
                        deliveries_max: is_risky.then_some(history::RECEIVES_MAX),
                        redrive: is_risky.then(|| Redrive {
                            target: name(Target::Dead),
                        }),
                        ..QueueAttributes::default()
                    },
                    ..QueueOptions::default()
                }),
            },
        });
    }

    fn subscribe(&mut self, consumer: ConsumerId, source: Source) {
        let token = self.ask(Asked::Setup);
        self.subscribe_as(token, consumer, source);
    }

    fn subscribe_as(&mut self, token: Token, consumer: ConsumerId, source: Source) {
        let window = self.random.between(1, 8) as u32;
        let qos = match self.role {
            Role::Follows(Target::Exact) => 2,
            _ => 1,
        };
        self.push(Command::Subscribe(Box::new(Subscribe {
            token,
            lane: Lane(0),
            consumer,
            source,
            credit: Credit::Window(window),
            group: 0,
            exclusive: false,
            priority: 0,
            through_client: false,
            options: SubscriptionOptions {
                qos,
                ..SubscriptionOptions::default()
            },
        })));
    }

    /// Does what it does by itself.
    fn act(&mut self, turn: &mut Turn<'_>) {
        let Some(connection) = &self.connection else {
            return;
        };
        if !connection.ready || !connection.commands.is_empty() {
            return;
        }
        let (takes, next, waits) = (connection.takes, connection.next, connection.asked.len());
        match self.role {
            Role::Sends(Target::Fifo) => {
                // One at a time, or the order in which they were sent would mean nothing.
                if waits == 0 {
                    self.send_in_order(turn);
                }
            }
            Role::Sends(target) => {
                if self.sends_more(turn) && waits < 20 {
                    let waits_for_all = matches!(target, Target::Plain | Target::Pushed);
                    let numbers: Vec<u64> = (0..self.random.between(1, 3))
                        .map(|_| self.fresh(target, turn))
                        .collect();
                    if waits_for_all && self.random.percent(15) {
                        self.transact(numbers, turn.history);
                    } else if self.batches && numbers.len() > 1 {
                        self.publish_all(numbers, turn.history);
                    } else {
                        for number in numbers {
                            if waits_for_all && self.random.percent(10) {
                                let delay_ms = self.random.spread(10, DELAY_MAX);
                                turn.history.delay(number, delay_ms);
                            }
                            self.publish(number, turn.history);
                        }
                    }
                }
            }
            Role::Pulls(target) => {
                if !self.kept.is_empty() && (self.drains || self.random.percent(30)) {
                    self.use_kept(turn);
                }
                if !takes {
                    self.pull(target, turn);
                }
            }
            Role::Reads => {
                if !takes {
                    let token = self.ask(Asked::Read);
                    self.push(Command::ReadStream(Box::new(ReadStream {
                        token,
                        lane: Lane(0),
                        stream: name(Target::Stream),
                        id: None,
                        shard: ShardNo(0),
                        from: StreamStart::Offset(next),
                        count: 50,
                        bytes_max: 1 << 20,
                        wait_ms: 0,
                        limited: false,
                    })));
                    if let Some(connection) = &mut self.connection {
                        connection.takes = true;
                    }
                }
            }
            Role::Hands | Role::Follows(Target::Exact) => self.act_in_steps(turn),
            Role::Consumes | Role::Follows(_) => {}
            Role::Retains | Role::Looks | Role::Departs | Role::Works => self.act_state(turn),
        }
    }

    /// One that has sent all goes on slowly, so that progress shows.
    fn sends_more(&mut self, turn: &Turn<'_>) -> bool {
        let calm = !turn.world.lock().chaos;
        !self.drains && (calm || self.sends > 0)
    }

    fn fresh(&mut self, target: Target, turn: &mut Turn<'_>) -> u64 {
        self.sends = self.sends.saturating_sub(1);
        let len = self.random.between(8, self.message_len_max.max(9)) as usize;
        turn.history.send(target, self.number, turn.now, len)
    }

    fn send_in_order(&mut self, turn: &mut Turn<'_>) {
        while let Some(number) = self.repeats.pop_front() {
            let age = turn.now - turn.history.message(number).at;
            if age < self.repeats_max {
                self.publish(number, turn.history);
                return;
            }
        }
        if self.sends_more(turn) {
            let number = self.fresh(Target::Fifo, turn);
            if self.theme == Theme::State && !self.sure.is_empty() && self.random.percent(25) {
                let at = self.random.below(self.sure.len() as u64) as usize;
                turn.history.repeat(number, self.sure.swap_remove(at));
            }
            self.publish(number, turn.history);
        }
    }

    fn publish(&mut self, number: u64, history: &History) {
        let token = self.ask(Asked::Publish(number));
        let publish = self.message(Some(token), number, history);
        self.push(Command::Publish(publish));
    }

    fn transact(&mut self, numbers: Vec<u64>, history: &mut History) {
        history.together(&numbers);
        let operations = numbers
            .iter()
            .map(|&number| Operation::Publish(self.message(None, number, history)))
            .collect();
        let token = self.ask(Asked::Transact(numbers));
        self.push(Command::Transact(Box::new(Transact {
            token,
            lane: Lane(0),
            operations,
        })));
    }

    fn message(&self, token: Option<Token>, number: u64, history: &History) -> Publish {
        let sent = history.message(number);
        let name = name(sent.target);
        let address = match sent.target {
            Target::Plain | Target::Pushed | Target::Fifo | Target::Risky | Target::Dead => {
                Address::queue(VhostId::ROOT, name)
            }
            Target::Topic | Target::Kept | Target::Wills | Target::Exact => {
                Address::topic(VhostId::ROOT, Levels::one(name))
            }
            Target::Stream => Address::stream(VhostId::ROOT, name, Levels::none()),
        };
        let mut message = Message::new(address, history::body(number, history.len_of(number)));
        message.durable = true;
        message.qos = 1;
        message.delay_ms = sent.delay_ms;
        if sent.target == Target::Fifo {
            message.group = Some(format!("group-{}", self.number).into());
            let fields = message.fields_mut();
            fields.dedup_id = Some(format!("dedup-{}", history.dedup_of(number)).into());
        }
        Publish {
            // Some doors want to know more than that it was accepted.
            folds: number.is_multiple_of(2),
            ..published_as(token, message)
        }
    }

    fn published(
        &mut self,
        number: u64,
        outcome: &PublishOutcome,
        origin: Origin,
        turn: &mut Turn<'_>,
    ) -> Result<(), String> {
        match outcome {
            PublishOutcome::Accepted {
                matched, record, ..
            } => {
                if let Some(record) = record {
                    turn.history.at_offset(record.offset, number)?;
                }
                turn.history.is_repeat(number, false, turn.now)?;
                let is_first = turn.history.dedup_of(number) == number;
                if is_first && turn.history.message(number).target == Target::Fifo {
                    self.sure.push(number);
                }
                // Of what reached nobody nothing is stored.
                if *matched > 0 || turn.history.has_session(number, origin.epoch) {
                    turn.history.confirm(number, origin, turn.now)?;
                }
            }
            PublishOutcome::Duplicate { .. } if turn.history.dedup_of(number) == number => {
                turn.history.confirm(number, origin, turn.now)?;
            }
            PublishOutcome::Duplicate { .. } => turn.history.is_repeat(number, true, turn.now)?,
            PublishOutcome::Refused(_) => self.is_unsure(number, turn.history),
        }
        Ok(())
    }

    fn pull(&mut self, target: Target, turn: &mut Turn<'_>) {
        let count = self.random.between(1, 10) as u32;
        let lease = match (self.theme, target) {
            (Theme::State, Target::Risky) => self.random.spread(20, 500),
            // So long that a takeover may fall into it.
            (Theme::State, Target::Fifo) => self.random.spread(500, 10_000),
            _ => self.random.spread(50, 3_000),
        };
        let token = self.ask(Asked::Pull(turn.now, lease));
        let wait_ms = if self.random.percent(50) { 0 } else { 200 };
        self.push(Command::Pull(Pull {
            token,
            lane: Lane(0),
            queue: name(target),
            count,
            lease: Lease::Ms(lease),
            wait_ms,
            out_max: None,
            bytes_max: None,
            attempt: None,
        }));
        if let Some(connection) = &mut self.connection {
            connection.takes = true;
        }
    }

    fn pulled(
        &mut self,
        delivery: &Delivery,
        pull: PullId,
        (asked, lease): (u64, u64),
        origin: Origin,
        turn: &mut Turn<'_>,
    ) -> Result<(), String> {
        let from_dead = self.role == Role::Pulls(Target::Dead);
        if delivery.deaths.is_some() != from_dead {
            return Err(format!("dead letters: {delivery:?} is in the wrong queue"));
        }
        let times = (asked, turn.now);
        let number = turn.history.receive(delivery, 0, origin, times)?;
        turn.history.take(number, pull, times, lease, origin)?;
        let Some(id) = delivery.id else {
            return Ok(());
        };
        let receipt = Receipt {
            queue: id.queue,
            qseq: id.qseq,
            count: delivery.count,
            epoch: origin.epoch,
        };
        let kept = Kept {
            number,
            receipt,
            pull,
        };
        if self.theme != Theme::State {
            if self.drains || self.random.percent(80) {
                self.use_receipt(&kept, ReceiptUse::Delete, turn);
            } else if self.batches {
                self.use_otherwise(&kept, turn);
            }
            return Ok(());
        }
        // So many of a hundred are deleted, kept for later, or released.
        let (deletes, keeps, releases) = match self.role {
            _ if self.drains => (100, 0, 0),
            Role::Pulls(Target::Risky) => (15, 10, 50),
            _ => (50, 30, 10),
        };
        let chance = self.random.below(100);
        if chance < deletes {
            self.use_receipt(&kept, ReceiptUse::Delete, turn);
        } else if chance < deletes + keeps {
            self.kept.push_back(kept);
        } else if chance < deletes + keeps + releases {
            self.use_receipt(&kept, ReceiptUse::Visibility { ms: 0 }, turn);
        }
        Ok(())
    }

    fn deliver(
        &mut self,
        delivery: &Delivery,
        origin: Origin,
        turn: &mut Turn<'_>,
    ) -> Result<(), String> {
        if self.role == Role::Looks {
            self.deliver_kept(delivery, turn)?;
            self.settle(delivery, None, Outcome::Accept);
            return Ok(());
        }
        let by = self.number + 1;
        let number = turn
            .history
            .receive(delivery, by, origin, (turn.now, turn.now))?;
        if self.role == Role::Follows(Target::Exact) {
            self.deliver_in_steps(delivery, turn);
            return Ok(());
        }
        let follows = matches!(self.role, Role::Follows(_));
        let outcome = if follows || self.drains || self.random.percent(80) {
            Outcome::Accept
        } else {
            Outcome::Release
        };
        self.settle(delivery, Some(number), outcome);
        Ok(())
    }

    fn settle(&mut self, delivery: &Delivery, number: Option<u64>, outcome: Outcome) {
        let Some(id) = delivery.id else {
            return;
        };
        let asks = number.filter(|_| outcome == Outcome::Accept);
        let token = asks.map(|number| self.ask(Asked::Settle(number, 0)));
        self.push(Command::Settle(Settle {
            token,
            lane: Lane(0),
            deliveries: DeliveryRange {
                queue: id.queue,
                ranges: smallvec![(id.qseq, id.qseq)],
            },
            outcome,
        }));
    }
}
