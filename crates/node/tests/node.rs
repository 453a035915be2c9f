//! The node composed: a connection's link, the core, a journal in a real directory.
#![expect(
    clippy::disallowed_methods,
    reason = "several connections at a time, and a limit to how long a test may hang"
)]

#[path = "node/clocks.rs"]
mod clocks;
#[path = "node/drained.rs"]
mod drained;
#[path = "node/driven.rs"]
mod driven;
#[path = "node/full.rs"]
mod full;
#[path = "node/logins.rs"]
mod logins;
#[path = "node/lost.rs"]
mod lost;
#[path = "node/pair.rs"]
mod pair;
#[path = "node/rights.rs"]
mod rights;
#[path = "node/shown.rs"]
mod shown;
#[path = "node/stream_files.rs"]
mod stream_files;
#[path = "node/unfit.rs"]
mod unfit;
#[path = "node/unread.rs"]
mod unread;

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use auth::{Action, Rule};
use bytes::Bytes;
use message::{Address, Filter, Levels, Message, VhostId};
use node::{Clocks, Config, Host, Machine, Manners, Node, Reason, Role, Standby, Turn};
use session::{
    Authenticate, ClientExpiry, CloseReason, Command, ConsumerId, Credentials, Credit, Declare,
    DeliveryRange, Event, Lane, Link, NewSubscription, OpenClient, Outcome, Peer, Port, Publish,
    PublishOutcome, ReadStream, RefusalKind, Secret, Settle, ShardNo, Source, StreamAttributes,
    StreamStart, StreamTo, Submitted, Subscribe, SubscriptionId, SubscriptionOptions,
    SubscriptionSettings, SubscriptionTarget, SubscriptionTo, Token,
};

/// A test that waits so long hangs.
const HANGS: Duration = Duration::from_secs(120);

fn directory(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&dir);
    dir
}

fn small(dir: &Path) -> Config {
    Config {
        data_dir: dir.to_owned(),
        journal: journal::Config {
            segment_len: 1 << 20,
            first_segment_len: 256 << 10,
            reserve_len: 64 << 10,
            // The disk of the machine that tests must not matter.
            space_low_percent: 0,
            space_low_bytes: 0,
            ..journal::Config::default()
        },
        ..Config::default()
    }
}

fn start(config: Config) -> Arc<Node> {
    let users = auth::Users::new(&auth::Config::default(), [7; auth::KEY_LEN]);
    let users = users.expect("the default users are right");
    Arc::new(Node::start(config, Arc::new(users)).expect("the node starts"))
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn log_in(name: &str, password: &'static str) -> Command {
    Command::Authenticate(Box::new(Authenticate {
        token: Token(0),
        credentials: Credentials::Plain {
            user: name.to_owned(),
            password: Bytes::from_static(password.as_bytes()),
        },
        vhost: None,
        vhost_fallback: false,
        vhost_in_user: false,
        vhost_follows: false,
        vhost_create: false,
        verified_anywhere: false,
        protocol: "TEST 1",
        client: Bytes::new(),
    }))
}

/// A client, as the connection loop would serve it.
struct User {
    link: Arc<dyn Link>,
    /// Not taken by the node yet.
    commands: VecDeque<Command>,
    events: VecDeque<Event>,
    /// How often commands were left.
    left: usize,
    /// What the login told.
    secret: Secret,
}

impl User {
    fn attach(node: &Node) -> Self {
        Self::attach_as(node, "guest", "guest")
    }

    fn attach_as(node: &Node, name: &str, password: &'static str) -> Self {
        let peer = Peer {
            address: ([127, 0, 0, 1], 9).into(),
            listener: "test",
            default_vhost: "/".into(),
        };
        let mut user = Self {
            link: node.attach(peer).expect("there is room for a connection"),
            commands: VecDeque::new(),
            events: VecDeque::new(),
            left: 0,
            secret: Secret([0; 32]),
        };
        user.submit([log_in(name, password)]);
        let mut early = VecDeque::new();
        loop {
            match user.next() {
                Event::Authenticated { secret, .. } => {
                    user.secret = secret;
                    break;
                }
                blocked @ Event::Blocked { .. } => early.push_back(blocked),
                other => panic!("not logged in: {other:?}"),
            }
        }
        early.append(&mut user.events);
        user.events = early;
        user
    }

    fn submit(&mut self, commands: impl IntoIterator<Item = Command>) {
        self.commands.extend(commands);
        if self.link.submit(&mut self.commands) == Submitted::Left {
            self.left += 1;
        } else {
            assert!(self.commands.is_empty());
        }
    }

    /// The next event, if one comes in time.
    fn next_within(&mut self, limit: Duration) -> Option<Event> {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut cx = Context::from_waker(&waker);
        let until = Instant::now() + limit;
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            let mut events = Vec::new();
            if self.link.poll_events(&mut cx, &mut events).is_ready() {
                for event in events {
                    match event {
                        Event::Burst(burst) => {
                            let each = burst.deliveries().iter().cloned();
                            self.events.extend(each.map(Event::Delivery));
                        }
                        event => self.events.push_back(event),
                    }
                }
                self.link.drained();
                if !self.commands.is_empty() {
                    self.submit([]);
                }
                continue;
            }
            let left = until.checked_duration_since(Instant::now())?;
            thread::park_timeout(left);
        }
    }

    fn next(&mut self) -> Event {
        self.next_within(HANGS).expect("no connection hangs")
    }

    fn confirmed(&mut self, token: u64) {
        let event = self.next();
        assert!(
            matches!(event, Event::Published {
                token: to,
                outcome: PublishOutcome::Accepted { matched: 1, .. }
            } if to == Token(token)),
            "{event:?}"
        );
    }
}

fn publish(queue: &str, number: u64, len: usize) -> Command {
    let mut body = number.to_le_bytes().to_vec();
    body.resize(len.max(8), 0xA5);
    let address = Address::queue(VhostId::ROOT, Bytes::copy_from_slice(queue.as_bytes()));
    let mut message = Message::new(address, Bytes::from(body));
    message.durable = true;
    Command::Publish(Publish {
        token: Some(Token(number)),
        lane: Lane(0),
        message: Arc::new(message),
        mandatory: false,
        create: true,
        inbound_id: None,
        or_stream: false,
        hash_key: None,
        folds: false,
    })
}

fn consume(queue: &str, credit: Credit) -> Command {
    Command::Subscribe(Box::new(Subscribe {
        token: Token(1_000_000),
        lane: Lane(1),
        consumer: ConsumerId(1),
        source: Source::Queue {
            name: Bytes::copy_from_slice(queue.as_bytes()),
            create: true,
        },
        credit,
        group: 0,
        exclusive: false,
        priority: 0,
        through_client: false,
        options: SubscriptionOptions::default(),
    }))
}

fn number_of(body: &Bytes) -> u64 {
    u64::from_le_bytes(body[..8].try_into().expect("bodies here have a number"))
}

/// What a process leaves behind that is killed now.
fn killed(dir: &Path, copy: &Path) {
    std::fs::create_dir_all(copy).expect("a directory");
    for entry in std::fs::read_dir(dir).expect("readable") {
        let entry = entry.expect("readable");
        let to = copy.join(entry.file_name());
        if entry.file_type().expect("readable").is_dir() {
            killed(&entry.path(), &to);
        } else if std::fs::copy(entry.path(), &to).is_err() {
            assert!(!entry.path().exists(), "only what went meanwhile");
        }
    }
}

#[test]
fn what_was_confirmed_is_there_after_a_kill_in_order() {
    let (dir, copy) = (directory("kill"), directory("kill-copy"));
    let node = start(small(&dir));
    let mut user = User::attach(&node);
    // Short ones, long ones, and one in parts.
    let len = |number: u64| match number % 100 {
        7 => 700 * 1024,
        n if n % 10 == 0 => 20 * 1024,
        _ => 64,
    };
    user.submit((0..300).map(|number| publish("orders", number, len(number))));
    for number in 0..300 {
        user.confirmed(number);
    }
    killed(&dir, &copy);
    let again = start(small(&copy));
    let mut user = User::attach(&again);
    user.submit([consume("orders", Credit::Settled)]);
    assert!(matches!(user.next(), Event::Subscribed { .. }));
    for number in 0..300 {
        let Event::Delivery(delivery) = user.next() else {
            panic!("a delivery was to come");
        };
        assert_eq!(number_of(&delivery.message.body), number);
        assert_eq!(delivery.message.body.len(), len(number));
    }
    again.shutdown();
    node.shutdown();
}

/// Bytes of the files in a directory.
fn size_of(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).expect("readable");
    entries
        .filter_map(|entry| {
            let entry = entry.expect("readable");
            let meta = entry.metadata().ok()?;
            Some(if meta.is_dir() {
                size_of(&entry.path())
            } else {
                meta.len()
            })
        })
        .sum()
}

/// Reads a shard from an offset on to its end: numbers in the bodies, and where it went on.
fn read_on(user: &mut User, mut from: u64) -> (Vec<u64>, u64) {
    let mut numbers = Vec::new();
    loop {
        user.submit([Command::ReadStream(Box::new(ReadStream {
            token: Token(2_000_000),
            lane: Lane(0),
            stream: Bytes::from_static(b"log"),
            id: None,
            shard: ShardNo(0),
            from: StreamStart::Offset(from),
            count: 100,
            bytes_max: 1 << 20,
            wait_ms: 0,
            limited: false,
        }))]);
        let Event::Records { records, .. } = user.next() else {
            panic!("records were to come");
        };
        numbers.extend(records.records.iter().map(|it| number_of(&it.message.body)));
        from = records.next;
        if records.records.is_empty() {
            return (numbers, from);
        }
    }
}

#[test]
fn a_stream_is_read_from_the_disk_gives_its_space_back_and_survives_a_restart() {
    const LEN: usize = 8 << 10;
    let dir = directory("stream");
    let mut config = small(&dir);
    // Nothing that was read a moment ago is still in memory.
    config.journal.cache_bytes_max = 256 << 10;
    config.journal.snapshot_every_bytes = 2 << 20;
    config.broker.recent_bytes_max = 0;
    let node = start(config);
    let mut user = User::attach(&node);
    user.submit([Command::Stream {
        token: Token(1_000_000),
        lane: Lane(0),
        name: Bytes::from_static(b"log"),
        to: Box::new(StreamTo::Create {
            attributes: StreamAttributes {
                bytes_max: Some(4 << 20),
                ..StreamAttributes::default()
            },
            shards: 1,
            notes: Vec::new(),
        }),
    }]);
    assert!(matches!(user.next(), Event::Stream { .. }));
    let mut slow = User::attach(&node);
    let mut at = 0;
    let mut seen = Vec::new();
    for round in 0..30 {
        let numbers = round * 100..(round + 1) * 100;
        user.submit(numbers.clone().map(|number| {
            let Command::Publish(mut publish) = publish("log", number, LEN) else {
                unreachable!("it is a publish");
            };
            let message = Arc::get_mut(&mut publish.message).expect("nobody else has it");
            Arc::make_mut(&mut message.address).kind = message::Kind::Stream;
            publish.create = false;
            Command::Publish(publish)
        }));
        for number in numbers {
            user.confirmed(number);
        }
        let (numbers, next) = read_on(&mut slow, at);
        seen.extend(numbers);
        at = next;
    }
    assert_eq!(
        seen,
        (0..3000).collect::<Vec<_>>(),
        "nothing is lost to who keeps up"
    );
    let until = Instant::now() + HANGS;
    while size_of(&dir) > 16 << 20 {
        assert!(Instant::now() < until, "the space of 24 MiB is kept for 4");
        thread::park_timeout(Duration::from_millis(50));
    }
    let (kept, _) = read_on(&mut slow, 0);
    assert_eq!(kept.last(), Some(&2999));
    assert!(kept.len() > 500 && kept.len() * LEN <= 4 << 20);
    assert!(kept.windows(2).all(|pair| pair[1] == pair[0] + 1));
    drop((user, slow));
    node.shutdown();
    let again = start(small(&dir));
    assert_eq!(read_on(&mut User::attach(&again), 0), (kept, 3000));
    again.shutdown();
}

/// RULES 6: receipts are known again, also after a kill, and nobody else's are.
#[test]
fn a_store_keeps_its_secret_and_has_one_of_its_own() {
    let dir = directory("secret");
    let copy = directory("secret-copy");
    let other = directory("secret-other");
    let node = start(small(&dir));
    let mut user = User::attach(&node);
    user.submit([publish("jobs", 1, 10)]);
    user.confirmed(1);
    killed(&dir, &copy);
    let mut secrets = vec![user.secret];
    drop(user);
    node.shutdown();
    // Twice more: from records, and from whatever the second start wrote.
    for _ in 0..2 {
        let node = start(small(&copy));
        secrets.push(User::attach(&node).secret);
        node.shutdown();
    }
    assert_ne!(secrets[0], Secret([0; 32]));
    assert!(secrets.iter().all(|secret| *secret == secrets[0]));
    let node = start(small(&other));
    assert_ne!(User::attach(&node).secret, secrets[0]);
    node.shutdown();
}

#[test]
fn rules_c12_publishers_that_find_no_room_go_on_by_themselves() {
    let dir = directory("staged");
    let mut config = small(&dir);
    config.journal.batch_len_max = 4 << 10;
    config.journal.staged_bytes_max = 4 << 10;
    let node = start(config);
    let users: Vec<_> = (0..8)
        .map(|me| {
            let node = Arc::clone(&node);
            thread::spawn(move || {
                let mut user = User::attach(&node);
                // Each is delivered what its neighbour publishes, so steps of the others look into an outbox that asks for room.
                user.submit([consume(&format!("queue-{me}"), Credit::Settled)]);
                let towards = format!("queue-{}", (me + 1) % 8);
                user.submit((0..400).map(|number| publish(&towards, number, 1024)));
                let (mut confirmed, mut delivered) = (0, 0);
                while confirmed < 400 || delivered < 400 {
                    match user.next() {
                        Event::Published { token, outcome } => {
                            assert!(matches!(
                                outcome,
                                PublishOutcome::Accepted { matched: 1, .. }
                            ));
                            assert_eq!(token.0, confirmed, "order within a lane");
                            confirmed += 1;
                        }
                        Event::Delivery(delivery) => {
                            assert_eq!(number_of(&delivery.message.body), delivered);
                            delivered += 1;
                        }
                        Event::Subscribed { .. } => {}
                        other => panic!("unexpected {other:?}"),
                    }
                }
                user.left
            })
        })
        .collect();
    let left: usize = users
        .into_iter()
        .map(|user| user.join().expect("no user hangs"))
        .sum();
    assert!(left > 0, "room was short");
    node.shutdown();
}

/// A session that reads a topic at QoS 0.
fn reads(user: &mut User, topic: &'static str) {
    let open = OpenClient {
        token: Token(1),
        client_id: Bytes::new(),
        clean_start: true,
        expiry: ClientExpiry::WithConnection,
        window: 10,
        message_len_max: None,
        will: None,
    };
    let subscribe = Subscribe {
        token: Token(2),
        lane: Lane(0),
        consumer: ConsumerId::CLIENT,
        source: Source::Topic {
            filter: Filter::Exact(Levels::one(Bytes::from_static(topic.as_bytes()))),
        },
        credit: Credit::Window(0),
        group: 0,
        exclusive: false,
        priority: 0,
        through_client: false,
        options: SubscriptionOptions::default(),
    };
    user.submit([
        Command::OpenClient(Box::new(open)),
        Command::Subscribe(Box::new(subscribe)),
    ]);
    assert!(matches!(user.next(), Event::Opened { .. }));
    assert!(matches!(user.next(), Event::Subscribed { .. }));
}

#[test]
fn who_publishes_to_many_lets_them_have_their_turn_and_what_is_always_taken_is_taken() {
    const READERS: usize = 50;
    const MESSAGES: usize = 200;
    let node = start(small(&directory("turns")));
    let mut readers: Vec<_> = (0..READERS).map(|_| User::attach(&node)).collect();
    readers.iter_mut().for_each(|reader| reads(reader, "news"));
    let mut publisher = User::attach(&node);
    let message = |number: usize| {
        let key = Levels::one(Bytes::from_static(b"news"));
        let body = Bytes::from((number as u64).to_le_bytes().to_vec());
        Command::Publish(Publish {
            token: None,
            lane: Lane(0),
            message: Arc::new(Message::new(Address::topic(VhostId::ROOT, key), body)),
            mandatory: false,
            create: false,
            inbound_id: None,
            or_stream: false,
            hash_key: None,
            folds: false,
        })
    };
    publisher.submit((0..MESSAGES).map(message));
    let left = publisher.commands.len();
    assert!(
        left > MESSAGES / 2,
        "{left} of {MESSAGES} wait for their turn"
    );
    // They are asked for at once, though nothing else happens.
    let fence = Command::Fence {
        token: Token(3),
        lane: Lane(0),
    };
    let mut calls = 0;
    while !publisher.commands.is_empty() {
        assert!(publisher.next_within(Duration::ZERO).is_none());
        calls += 1;
        assert!(calls < MESSAGES, "each call takes some");
    }
    publisher.submit((MESSAGES..2 * MESSAGES).map(message).chain([fence]));
    assert!(publisher.commands.is_empty(), "a fence is not left");
    assert!(matches!(publisher.next(), Event::Reached { .. }));
    for reader in &mut readers {
        for number in 0..2 * MESSAGES {
            let event = reader.next();
            let Event::Delivery(delivery) = event else {
                panic!("{event:?}");
            };
            assert_eq!(number_of(&delivery.message.body), number as u64);
        }
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A node that the test steps, and a connection to it.
fn stepped(config: &Config) -> (Node, node::Steps, Arc<dyn Link>) {
    let users = auth::Users::new(&auth::Config::default(), [7; auth::KEY_LEN]);
    let users = Arc::new(users.expect("the default users are right"));
    let (node, mut steps) =
        Node::start_stepped(config, users, Arc::new(Machine)).expect("the node starts");
    steps.renew_lease();
    let peer = Peer {
        address: ([127, 0, 0, 1], 9).into(),
        listener: "test",
        default_vhost: "/".into(),
    };
    let link = node.attach(peer).expect("there is room for a connection");
    (node, steps, link)
}

#[test]
fn a_node_that_serves_no_more_lets_those_go_whose_commands_found_no_room() {
    let mut config = small(&directory("expelled"));
    config.journal.batch_len_max = 4 << 10;
    config.journal.staged_bytes_max = 4 << 10;
    let (node, mut steps, link) = stepped(&config);
    let woken = Arc::new(Woken(AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    let mut events = Vec::new();
    let mut commands = VecDeque::from([log_in("guest", "guest")]);
    link.submit(&mut commands);
    assert!(steps.verify());
    assert!(link.poll_events(&mut cx, &mut events).is_ready());
    assert!(
        matches!(events[..], [Event::Authenticated { .. }]),
        "{events:?}"
    );
    // Nobody commits, so there is room for some of them.
    commands.extend((0..20).map(|number| publish("jobs", number, 1024)));
    assert_eq!(link.submit(&mut commands), Submitted::Left);
    assert!(link.poll_events(&mut cx, &mut events).is_pending());

    woken.0.store(false, Ordering::SeqCst);
    node.expel(None);
    assert!(woken.0.load(Ordering::SeqCst));
    events.clear();
    assert!(link.poll_events(&mut cx, &mut events).is_ready());
    assert!(
        matches!(
            events[..],
            [Event::Closing {
                reason: CloseReason::NotActive(None)
            }]
        ),
        "{events:?}"
    );
    // The connection has its goodbye, and hands in what is left before it says it.
    assert!(link.poll_events(&mut cx, &mut events).is_ready());
    assert_eq!(link.submit(&mut commands), Submitted::All);
    assert!(commands.is_empty());
    assert!(link.poll_events(&mut cx, &mut events).is_pending());
}

#[test]
fn who_floods_waits_for_the_disk_and_who_comes_then_does_not() {
    let (node, mut steps, flood) = stepped(&small(&directory("flooded")));
    let peer = Peer {
        address: ([127, 0, 0, 1], 10).into(),
        listener: "test",
        default_vhost: "/".into(),
    };
    let calm = node.attach(peer).expect("there is room for a connection");
    let woken = Arc::new(Woken(AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    let mut events = Vec::new();
    for link in [&flood, &calm] {
        let mut commands = VecDeque::from([log_in("guest", "guest")]);
        link.submit(&mut commands);
        assert!(steps.verify());
        assert!(link.poll_events(&mut cx, &mut events).is_ready());
    }
    // Far less than may be staged: 8 MiB.
    let mut many: VecDeque<_> = (0..1000)
        .map(|number| publish("jobs", number, 1024))
        .collect();
    assert_eq!(flood.submit(&mut many), Submitted::Left);
    assert!(many.len() > 700, "{} are left", many.len());
    assert!(flood.poll_events(&mut cx, &mut events).is_pending());
    let mut one = VecDeque::from([publish("jobs", 1, 1024)]);
    assert_eq!(calm.submit(&mut one), Submitted::All);
    // There is room again when that is durable; while the other one waits for confirmations, for less.
    let before = many.len();
    for _ in 0..2 {
        while flood.poll_events(&mut cx, &mut events).is_ready() {}
        woken.0.store(false, Ordering::SeqCst);
        assert!(matches!(steps.commit(), journal::Step::Committed(_)));
        assert!(woken.0.load(Ordering::SeqCst));
        assert!(flood.poll_events(&mut cx, &mut events).is_ready());
        assert_eq!(flood.submit(&mut many), Submitted::Left);
    }
    let beside = before - many.len();
    assert!(
        (60..1000 - before).contains(&beside),
        "{beside}, and {before} before"
    );
    // And so on to the end.
    while !many.is_empty() {
        while matches!(steps.commit(), journal::Step::Committed(_)) {}
        assert!(flood.poll_events(&mut cx, &mut events).is_ready());
        flood.submit(&mut many);
    }
}

#[test]
fn what_is_handed_in_around_a_login_is_done_in_its_order() {
    let (_node, mut steps, link) = stepped(&small(&directory("around-a-login")));
    let waker = Waker::from(Arc::new(Woken(AtomicBool::new(false))));
    let mut cx = Context::from_waker(&waker);
    let fence = |token| Command::Fence {
        token: Token(token),
        lane: Lane(0),
    };
    let mut told = |commands: Vec<Command>| {
        let mut commands = VecDeque::from(commands);
        assert_eq!(link.submit(&mut commands), Submitted::All);
        assert!(commands.is_empty());
        while steps.verify() {}
        steps.commit();
        let mut events = Vec::new();
        assert!(link.poll_events(&mut cx, &mut events).is_ready());
        let short = events.iter().map(|event| match event {
            Event::Refused { token, .. } => format!("refused {}", token.0),
            Event::Reached { token } => format!("reached {}", token.0),
            Event::Authenticated { .. } => "in".to_owned(),
            other => panic!("unexpected {other:?}"),
        });
        short.collect::<Vec<_>>()
    };
    let first = told(vec![fence(1), fence(2), log_in("guest", "guest"), fence(3)]);
    assert_eq!(first, ["refused 1", "refused 2", "refused 3", "in"]);
    let second = told(vec![fence(4), fence(5), log_in("guest", "guest"), fence(6)]);
    assert_eq!(second, ["reached 4", "reached 5", "reached 6", "in"]);
}

/// This machine, with a clock that the test turns.
struct Turned(AtomicU64);

impl Host for Turned {
    fn vfs(&self) -> Arc<dyn journal::Vfs> {
        Machine.vfs()
    }

    fn clocks(&self) -> Clocks {
        let boot_ms = self.0.load(Ordering::SeqCst);
        Clocks {
            boot_ms,
            wall_ms: 1_600_000_000_000 + boot_ms,
        }
    }

    fn random(&self, bytes: &mut [u8]) -> std::io::Result<()> {
        Machine.random(bytes)
    }
}

#[test]
fn what_a_standby_needs_to_notice_counts_from_the_last_sign_of_life_not_from_the_last_batch() {
    for (reason, name) in [(Reason::Silent, "silent"), (Reason::Dead, "dead")] {
        let config = small(&directory(&format!("noticed-{name}")));
        let users = auth::Users::new(&auth::Config::default(), [7; auth::KEY_LEN]);
        let users = Arc::new(users.expect("the default users are right"));
        let host = Arc::new(Turned(AtomicU64::new(1_000)));
        let (node, mut steps) =
            Node::start_stepped(&config, users, Arc::clone(&host) as _).expect("it starts");
        steps.renew_lease();
        let manners = Manners::default();
        let mut standby =
            Standby::open(&config, Arc::clone(&host) as _, manners).expect("it follows");
        // A while in which nothing is written but the lease.
        for _ in 0..360 {
            host.0.fetch_add(100, Ordering::SeqCst);
            steps.renew_lease();
            while standby.turn().expect("it reads") != Turn::Idle {}
        }
        let active = (reason == Reason::Silent).then_some((node, steps));
        let last = host.0.load(Ordering::SeqCst);
        let noticed = loop {
            host.0.fetch_add(5, Ordering::SeqCst);
            match standby.turn().expect("it reads") {
                Turn::TakeOver(reason) => break reason,
                Turn::Idle | Turn::More => {}
                Turn::Behind => panic!("nothing was given back"),
            }
        };
        assert_eq!(noticed, reason);
        let now = host.0.load(Ordering::SeqCst);
        assert_eq!(standby.quiet_ms(now), now - last, "{name}");
        drop(active);
    }
}

#[test]
fn a_node_whose_lease_is_over_does_not_count_itself_as_active() {
    let config = small(&directory("silent"));
    let users = auth::Users::new(&auth::Config::default(), [7; auth::KEY_LEN]);
    let users = Arc::new(users.expect("the default users are right"));
    let host = Arc::new(Turned(AtomicU64::new(1_000)));
    let (node, mut steps) =
        Node::start_stepped(&config, users, Arc::clone(&host) as _).expect("it starts");
    assert!(!node.is_silent());
    steps.renew_lease();
    assert!(!node.is_silent());
    // It is alone, so its lease lasts four seconds.
    host.0.fetch_add(4_001, Ordering::SeqCst);
    assert!(node.is_silent());
    assert_eq!(node.silent_ms(), 4_001);
    steps.renew_lease();
    assert!(!node.is_silent());
}

#[test]
fn a_full_disk_refuses_publishes_says_so_and_lets_acks_through() {
    let dir = directory("full");
    let node = start(small(&dir));
    let mut user = User::attach(&node);
    user.submit((0..3).map(|number| publish("orders", number, 64)));
    (0..3).for_each(|number| user.confirmed(number));
    node.shutdown();
    drop(user);

    let mut config = small(&dir);
    config.journal.space_low_bytes = u64::MAX;
    let node = start(config);
    let mut early = User::attach(&node);
    // Told after the login, or when the keeper has looked, which may be before.
    let blocked = |event: &Event| matches!(event, Event::Blocked { blocked: true, .. });
    assert!(blocked(&early.next()));
    let mut late = User::attach(&node);
    assert!(
        blocked(&late.next()),
        "who comes later is told after the login"
    );
    // Those that come together are refused one by one.
    late.submit((9..12).map(|number| publish("orders", number, 64)));
    for number in 9..12 {
        let event = late.next();
        let Event::Published {
            token,
            outcome: PublishOutcome::Refused(refusal),
        } = event
        else {
            panic!("the publish is refused: {event:?}");
        };
        assert_eq!(token, Token(number));
        assert_eq!(refusal.kind, RefusalKind::StorageFull);
    }
    // Consumers that come now empty what waits.
    let mut user = late;
    user.submit([consume("orders", Credit::Window(10))]);
    assert!(matches!(user.next(), Event::Subscribed { .. }));
    let (mut delivered, mut settled) = (0, 0);
    while settled < 3 {
        match user.next() {
            Event::Delivery(delivery) => {
                assert_eq!(number_of(&delivery.message.body), delivered);
                let id = delivery.id.expect("to be settled");
                user.submit([Command::Settle(Settle {
                    token: Some(Token(delivered)),
                    lane: Lane(2),
                    deliveries: DeliveryRange {
                        queue: id.queue,
                        ranges: [(id.qseq, id.qseq)].into_iter().collect(),
                    },
                    outcome: Outcome::Accept,
                })]);
                delivered += 1;
            }
            Event::Settled { .. } => settled += 1,
            other => panic!("unexpected {other:?}"),
        }
    }
    node.shutdown();
}

#[test]
fn rules_c15_a_panic_elsewhere_costs_its_connection_only() {
    let dir = directory("panic");
    let node = start(small(&dir));
    let doomed = {
        let node = Arc::clone(&node);
        thread::spawn(move || {
            let mut user = User::attach(&node);
            user.submit([publish("orders", 0, 64)]);
            user.confirmed(0);
            user.submit([consume("orders", Credit::Window(1))]);
            while !matches!(user.next(), Event::Delivery(_)) {}
            // Its link is dropped while the panic is under way; its lease is released.
            std::panic::resume_unwind(Box::new("a connection's task fails"));
        })
    };
    assert!(doomed.join().is_err());
    let mut user = User::attach(&node);
    user.submit([consume("orders", Credit::Window(1))]);
    assert!(matches!(user.next(), Event::Subscribed { .. }));
    let Event::Delivery(delivery) = user.next() else {
        panic!("the delivery comes again");
    };
    assert!(delivery.redelivered);
    node.shutdown();
}

#[test]
fn a_fenced_node_confirms_nothing_says_so_and_ends() {
    let dir = directory("fenced");
    let node = start(small(&dir));
    let mut user = User::attach(&node);
    user.submit([publish("orders", 0, 64)]);
    user.confirmed(0);
    let fences: Vec<_> = std::fs::read_dir(dir.join("fence"))
        .expect("there are fences")
        .map(|entry| entry.expect("readable").path())
        .collect();
    for fence in fences {
        std::fs::write(fence, [1; 4096]).expect("a successor may write there");
    }
    user.submit([publish("orders", 1, 64)]);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let cx = Context::from_waker(&waker);
    let began = Instant::now();
    while node.poll_settled(&cx) == Poll::Pending {
        assert!(
            began.elapsed() < HANGS,
            "whoever waits for the journal is woken"
        );
        thread::park_timeout(HANGS);
    }
    assert_eq!(node.role(), Role::Stopped);
    let failure = node.failure().expect("it has failed");
    assert!(failure.contains("took over"), "{failure}");
    user.submit([publish("orders", 2, 64)]);
    assert_eq!(user.left, 1, "nothing more is taken");
    assert_eq!(
        user.next_within(Duration::ZERO),
        None,
        "nothing is confirmed"
    );
    assert!(
        node.attach(Peer {
            address: ([127, 0, 0, 1], 9).into(),
            listener: "test",
            default_vhost: "/".into(),
        })
        .is_none()
    );
    node.shutdown();
}
