//! A core that keeps what it is given and answers when the test says so, and a session of a protocol of one-word lines.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use message::{Name, Timestamp};
use net::{Ending, Limits, Seat, Server, Traffic, serve_connection};
use session::{
    Close, CloseReason, Command, Event, Lane, Lease, Link, Output, Peer, Port, Pull, Session,
    SessionId, Submitted, Token,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf},
    task::JoinHandle,
    time::Instant,
};

/// What a toy link has seen and will say.
#[derive(Default)]
pub(crate) struct Core {
    /// Commands taken.
    pub(crate) taken: Vec<Command>,
    /// How many more commands that may be left are taken.
    pub(crate) room: usize,
    pub(crate) drained: usize,
    pub(crate) detached: usize,
    events: VecDeque<Event>,
    retry: bool,
    waker: Option<Waker>,
}

#[derive(Default)]
pub(crate) struct ToyLink(Mutex<Core>);

impl ToyLink {
    pub(crate) fn core(&self) -> MutexGuard<'_, Core> {
        self.0.lock().expect("no test panics while it holds this")
    }

    /// Delivers events, with one wake-up.
    pub(crate) fn tell(&self, events: impl IntoIterator<Item = Event>) {
        let mut core = self.core();
        core.events.extend(events);
        if let Some(waker) = core.waker.take() {
            waker.wake();
        }
    }

    /// Makes room for commands that were left.
    pub(crate) fn make_room(&self, room: usize) {
        let mut core = self.core();
        core.room = room;
        core.retry = true;
        if let Some(waker) = core.waker.take() {
            waker.wake();
        }
    }
}

impl Link for ToyLink {
    fn id(&self) -> SessionId {
        SessionId(1)
    }

    fn submit(&self, commands: &mut VecDeque<Command>) -> Submitted {
        let mut core = self.core();
        let mut left = VecDeque::new();
        for command in commands.drain(..) {
            if command.may_be_left() {
                if core.room == 0 {
                    left.push_back(command);
                    continue;
                }
                core.room -= 1;
            }
            core.taken.push(command);
        }
        *commands = left;
        if commands.is_empty() {
            Submitted::All
        } else {
            Submitted::Left
        }
    }

    fn poll_events(&self, cx: &mut Context<'_>, events: &mut Vec<Event>) -> Poll<()> {
        let mut core = self.core();
        if core.events.is_empty() && !core.retry {
            core.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        core.retry = false;
        events.extend(core.events.drain(..));
        Poll::Ready(())
    }

    fn drained(&self) {
        self.core().drained += 1;
    }

    fn detach(&self) {
        self.core().detached += 1;
    }
}

/// Attaches everyone to a link of their own, up to `room` of them.
pub(crate) struct ToyPort {
    start: Instant,
    room: Mutex<usize>,
    stopped: Mutex<bool>,
    pub(crate) links: Mutex<Vec<Arc<ToyLink>>>,
}

impl ToyPort {
    pub(crate) fn new(room: usize) -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            room: Mutex::new(room),
            stopped: Mutex::default(),
            links: Mutex::default(),
        })
    }
}

impl ToyPort {
    /// From now on it is always the same time.
    pub(crate) fn stop_clock(&self) {
        *self.stopped.lock().expect("not poisoned") = true;
    }
}

impl Port for ToyPort {
    fn attach(&self, _peer: Peer) -> Option<Arc<dyn Link>> {
        let mut room = self.room.lock().expect("not poisoned");
        *room = room.checked_sub(1)?;
        let link = Arc::new(ToyLink::default());
        link.core().room = usize::MAX;
        let mut links = self.links.lock().expect("not poisoned");
        links.push(Arc::clone(&link));
        Some(link)
    }

    fn now(&self) -> Timestamp {
        if *self.stopped.lock().expect("not poisoned") {
            return Timestamp(1_000_000);
        }
        let elapsed = self.start.elapsed().as_millis();
        Timestamp(1_000_000 + u64::try_from(elapsed).expect("tests are short"))
    }
}

/// Waits until there is something.
pub(crate) async fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(found) = look() {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// What a toy session was told, in order.
pub(crate) type Log = Arc<Mutex<Vec<String>>>;

/// A protocol of lines:
///
/// | line | what it does |
/// |---|---|
/// | `echo X` | answers `X` |
/// | `later X` | answers `X` at `flush` |
/// | `pull` | a command that may be left |
/// | `fence` | a command that may not |
/// | `big N` | answers N bytes |
/// | `wait` | wants no bytes before the next event |
/// | `timer MS` | sets the timer |
/// | `quit`, `fault` | says `bye` and closes |
/// | `panic` | panics |
pub(crate) struct Toy {
    pub(crate) log: Log,
    waits: bool,
    later: String,
    due: Option<Timestamp>,
}

impl Toy {
    pub(crate) fn new() -> Self {
        Self {
            log: Log::default(),
            waits: false,
            later: String::new(),
            due: None,
        }
    }

    fn note(&self, what: impl Into<String>) {
        self.log.lock().expect("not poisoned").push(what.into());
    }

    fn line(&mut self, line: &str, now: Timestamp, out: &mut Output) -> Result<(), Close> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let number = || rest.parse::<u64>().expect("a number");
        let pull = Pull {
            token: Token(0),
            lane: Lane(0),
            queue: Name::default(),
            count: 1,
            lease: Lease::Connection,
            wait_ms: 0,
            out_max: None,
            bytes_max: None,
            attempt: None,
        };
        match word {
            "echo" => out.wire.put(format!("{rest}\n").as_bytes()),
            "later" => self.later += &format!("{rest}\n"),
            "pull" => out.commands.push_back(Command::Pull(pull)),
            "fence" => out.commands.push_back(fence(0)),
            "big" => {
                let len = usize::try_from(number()).expect("fits");
                out.wire.put_body(&Bytes::from(vec![b'x'; len]));
            }
            "wait" => self.waits = true,
            "timer" => self.due = Some(now.plus_ms(number())),
            "quit" => {
                out.wire.put(b"bye\n");
                return Err(Close::done("quit"));
            }
            "fault" => {
                out.wire.put(b"bye\n");
                return Err(Close::fault("fault"));
            }
            "panic" => {
                out.wire.put(b"half a fra");
                panic!("a toy panics");
            }
            _ => panic!("unknown line {line}"),
        }
        Ok(())
    }
}

pub(crate) fn fence(lane: u32) -> Command {
    Command::Fence {
        token: Token(0),
        lane: Lane(lane),
    }
}

pub(crate) fn reached(token: u64) -> Event {
    Event::Reached {
        token: Token(token),
    }
}

impl Session for Toy {
    fn handle_bytes(
        &mut self,
        input: &mut BytesMut,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<(), Close> {
        while !self.waits
            && let Some(end) = input.iter().position(|&byte| byte == b'\n')
        {
            let line = input.split_to(end + 1);
            let line = str::from_utf8(&line[..end]).expect("tests write text");
            self.line(line, now, out)?;
        }
        Ok(())
    }

    fn handle_event(
        &mut self,
        event: Event,
        _now: Timestamp,
        out: &mut Output,
    ) -> Result<(), Close> {
        self.waits = false;
        match event {
            Event::Reached { token } => out.wire.put(format!("reached {}\n", token.0).as_bytes()),
            Event::Closing {
                reason: CloseReason::Shutdown,
            } => {
                self.note("closing");
                out.wire.put(b"closing\n");
            }
            other => self.note(format!("{other:?}")),
        }
        Ok(())
    }

    fn handle_timeout(&mut self, now: Timestamp, out: &mut Output) -> Result<(), Close> {
        let due = self.due.take().expect("only called when due");
        assert!(now >= due);
        self.note("timeout");
        out.wire.put(b"timeout\n");
        Ok(())
    }

    fn handle_unread(&mut self, _now: Timestamp) {
        self.note("unread");
    }

    fn handle_hangup(&mut self, _now: Timestamp, out: &mut Output) {
        self.note("hangup");
        out.wire.put(b"never sent\n");
        out.commands.push_back(fence(u32::MAX));
    }

    fn flush(&mut self, _now: Timestamp, out: &mut Output) {
        if !self.later.is_empty() {
            self.note("flush");
            out.wire.put(std::mem::take(&mut self.later).as_bytes());
        }
    }

    fn poll_timeout(&self) -> Option<Timestamp> {
        self.due
    }

    fn wants_bytes(&self) -> bool {
        !self.waits
    }
}

/// A connection of a [`Toy`] and its peer's end.
pub(crate) struct Bench {
    pub(crate) peer: DuplexStream,
    pub(crate) link: Arc<ToyLink>,
    pub(crate) log: Log,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) server: Arc<Server>,
    pub(crate) ending: JoinHandle<Ending>,
    pub(crate) writes: Arc<Mutex<Vec<usize>>>,
}

impl Bench {
    /// `pipe` bytes fit between the two.
    pub(crate) fn new(pipe: usize) -> Self {
        Self::on(&Server::new(ToyPort::new(100), Limits::default()), pipe)
    }

    pub(crate) fn on(server: &Arc<Server>, pipe: usize) -> Self {
        let traffic = Arc::<Traffic>::default();
        let (peer, ours) = tokio::io::duplex(pipe);
        let writes = Arc::default();
        let counting = Counting {
            inner: ours,
            writes: Arc::clone(&writes),
        };
        let link = Arc::new(ToyLink::default());
        link.core().room = usize::MAX;
        let toy = Toy::new();
        let log = Arc::clone(&toy.log);
        let seat = seat(server, &traffic);
        let served = serve_connection(
            counting,
            BytesMut::new(),
            Box::new(toy),
            Arc::clone(&link) as Arc<dyn Link>,
            seat,
        );
        Self {
            peer,
            link,
            log,
            traffic,
            server: Arc::clone(server),
            ending: tokio::spawn(served),
            writes,
        }
    }

    pub(crate) async fn send(&mut self, lines: &str) {
        let sent = self.peer.write_all(lines.as_bytes()).await;
        sent.expect("the connection reads");
    }

    /// Reads exactly what is expected.
    pub(crate) async fn expect(&mut self, words: &str) {
        let mut read = vec![0; words.len()];
        let len = self.peer.read_exact(&mut read).await;
        len.expect("the connection answers");
        assert_eq!(str::from_utf8(&read), Ok(words));
    }

    /// Reads to the end.
    pub(crate) async fn rest(&mut self) -> String {
        let mut read = String::new();
        let len = self.peer.read_to_string(&mut read).await;
        len.expect("text, then the end");
        read
    }

    /// What is there to read when everything has come to rest.
    pub(crate) async fn nothing_more(&mut self) {
        rest().await;
        let mut buffer = [0; 64];
        let read = tokio::time::timeout(Duration::from_millis(1), self.peer.read(&mut buffer));
        if let Ok(read) = read.await {
            let len = read.expect("no error");
            panic!("unexpected: {:?}", str::from_utf8(&buffer[..len]));
        }
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().expect("not poisoned").clone()
    }
}

/// Waits until no task has anything to do: with the clock paused, it moves only then.
pub(crate) async fn rest() {
    tokio::time::timeout(Duration::from_millis(1), std::future::pending::<()>())
        .await
        .expect_err("nothing ever comes");
}

pub(crate) fn seat(server: &Arc<Server>, traffic: &Arc<Traffic>) -> Seat {
    let peer = Peer {
        address: "127.0.0.1:4000".parse().expect("an address"),
        listener: "toy",
        default_vhost: "/".into(),
    };
    server.seat(traffic, peer).expect("there is room")
}

/// Notes the length of each write.
pub(crate) struct Counting<I> {
    inner: I,
    writes: Arc<Mutex<Vec<usize>>>,
}

impl<I> Counting<I> {
    fn note(&self, polled: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(len)) = polled {
            self.writes.lock().expect("not poisoned").push(*len);
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Counting<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Counting<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.note(&polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.note(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
