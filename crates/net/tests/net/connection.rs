//! One connection over an in-memory pipe. The clock is paused: it moves only when every task rests.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::BytesMut;
use net::{Ending, Limits, Server, serve_connection};
use session::{Close, Command, Event, Link, Session, SessionId, Submitted};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, advance},
};

use crate::toys::{Bench, Toy, ToyPort, fence, reached, rest, seat};

#[tokio::test(start_paused = true)]
async fn bytes_in_any_pieces_are_answered_in_order() {
    let mut bench = Bench::new(1 << 16);
    bench.send("echo one\necho two\nec").await;
    bench.expect("one\ntwo\n").await;
    bench.send("ho three\n").await;
    bench.expect("three\n").await;
    for byte in "echo four\n".bytes() {
        bench.peer.write_all(&[byte]).await.expect("it reads");
        rest().await;
    }
    bench.expect("four\n").await;
    assert_eq!(bench.traffic.bytes_in.load(Relaxed), 39);
    assert_eq!(bench.traffic.bytes_out.load(Relaxed), 19);
}

#[tokio::test(start_paused = true)]
async fn all_that_is_at_hand_is_one_write_and_one_flush() {
    let mut bench = Bench::new(1 << 16);
    rest().await;
    bench.link.tell((0..10).map(reached));
    bench.send("echo a\nlater b\nlater c\nbig 5000\n").await;
    rest().await;
    let expected: String = (0..10).map(|token| format!("reached {token}\n")).collect();
    bench.expect("a\n").await;
    bench.expect(&"x".repeat(5000)).await;
    bench.expect(&expected).await;
    bench.expect("b\nc\n").await;
    assert_eq!(bench.log(), ["flush"]);
    assert_eq!(
        *bench.writes.lock().expect("not poisoned"),
        [expected.len() + 5006]
    );
    assert_eq!(bench.link.core().drained, 1);
}

#[tokio::test(start_paused = true)]
async fn room_is_given_back_when_the_last_byte_is_written() {
    let mut bench = Bench::new(64);
    bench.send("big 1000\n").await;
    rest().await;
    bench.link.tell([reached(1)]);
    rest().await;
    assert_eq!(bench.link.core().drained, 0);
    bench.expect(&"x".repeat(1000)).await;
    bench.expect("reached 1\n").await;
    rest().await;
    assert_eq!(bench.link.core().drained, 1);
}

#[tokio::test(start_paused = true)]
async fn events_without_bytes_give_their_room_back_too() {
    let bench = Bench::new(64);
    bench
        .link
        .tell([Event::InboundReleased { id: 1, known: true }]);
    rest().await;
    assert_eq!(bench.link.core().drained, 1);
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_ready_without_an_event_is_drained() {
    let bench = Bench::new(64);
    rest().await;
    bench.link.make_room(1);
    rest().await;
    assert_eq!(bench.link.core().drained, 1);
}

#[tokio::test(start_paused = true)]
async fn rules_c12_commands_left_stop_the_reading_and_are_tried_again() {
    let mut bench = Bench::new(1 << 16);
    bench.link.core().room = 1;
    bench.send("pull\npull\nfence\n").await;
    rest().await;
    // One found room; the fence behind the one that did not is taken all the same.
    assert!(matches!(
        bench.link.core().taken[..],
        [Command::Pull(_), Command::Fence { .. }]
    ));
    bench.send("echo x\n").await;
    bench.nothing_more().await;
    bench.link.tell([reached(7)]);
    bench.expect("reached 7\n").await;
    bench.nothing_more().await;
    bench.link.make_room(1);
    bench.expect("x\n").await;
    assert_eq!(bench.link.core().taken.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn who_is_not_read_from_is_not_silent() {
    let mut bench = Bench::new(1 << 16);
    bench.link.core().room = 0;
    bench.send("timer 1000\npull\n").await;
    rest().await;
    advance(Duration::from_millis(1000)).await;
    // There is no room: the session is told before its time is over, and again before the next bytes.
    bench.expect("timeout\n").await;
    let notes = Arc::clone(&bench.log);
    let log = || notes.lock().expect("not poisoned").clone();
    let ends = |log: &[String], end: &[&str; 2]| log.ends_with(&end.map(str::to_owned));
    assert!(ends(&log(), &["unread", "timeout"]), "{:?}", log());
    bench.link.make_room(1);
    bench.send("timer 1000\n").await;
    rest().await;
    assert!(ends(&log(), &["timeout", "unread"]), "{:?}", log());
    // While there is room it is not.
    advance(Duration::from_millis(1000)).await;
    rest().await;
    assert!(ends(&log(), &["unread", "timeout"]), "{:?}", log());
}

#[tokio::test(start_paused = true)]
async fn who_has_sent_in_time_is_read_before_its_time_is_over() {
    let mut bench = Bench::new(1 << 16);
    bench.send("timer 1000\n").await;
    rest().await;
    // Both at once, as after a pause of the whole process.
    bench.send("timer 1000\n").await;
    advance(Duration::from_millis(1500)).await;
    bench.nothing_more().await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_stops_reading_and_events() {
    let mut bench = Bench::new(1 << 10);
    bench.send("big 300000\necho x\n").await;
    rest().await;
    bench.send("fence\n").await;
    bench.link.tell([reached(1)]);
    rest().await;
    assert!(bench.link.core().taken.is_empty());
    assert_eq!(bench.link.core().drained, 0);
    bench.expect(&"x".repeat(300_000)).await;
    bench.expect("x\nreached 1\n").await;
    rest().await;
    assert_eq!(bench.link.core().taken, [fence(0)]);
}

#[tokio::test(start_paused = true)]
async fn a_wire_that_empties_at_a_stroke_goes_on_with_what_was_put_off() {
    let mut bench = Bench::new(1 << 20);
    bench.send("big 2000000\n").await;
    rest().await;
    bench.send("echo x\n").await;
    bench.link.tell([reached(1)]);
    bench.expect(&"x".repeat(2_000_000)).await;
    let start = Instant::now();
    bench.expect("x\nreached 1\n").await;
    assert_eq!(start.elapsed(), Duration::ZERO, "not woken by a timer");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_for_thirty_seconds_is_disconnected() {
    let mut bench = Bench::new(1 << 10);
    bench.send("big 300000\n").await;
    rest().await;
    // A little now and then keeps it open.
    for _ in 0..3 {
        advance(Duration::from_secs(29)).await;
        bench.expect(&"x".repeat(1024)).await;
        rest().await;
    }
    let start = Instant::now();
    assert_eq!(
        (&mut bench.ending).await.expect("no panic"),
        Ending::Stalled
    );
    let waited = start.elapsed().as_secs_f64();
    assert!((29.0..31.0).contains(&waited), "{waited}");
    assert_eq!(bench.log(), ["hangup"]);
    assert_eq!(bench.link.core().detached, 1);
    assert_eq!(bench.traffic.stalled.load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_never_disconnected_by_the_loop() {
    let mut bench = Bench::new(1 << 10);
    bench.send("echo x\n").await;
    bench.expect("x\n").await;
    advance(Duration::from_secs(100_000)).await;
    bench.send("echo y\n").await;
    bench.expect("y\n").await;
}

#[tokio::test(start_paused = true)]
async fn the_last_words_are_sent_and_the_core_hears_first() {
    let mut bench = Bench::new(1 << 16);
    bench.send("fence\nquit\necho never\n").await;
    bench.expect("bye\n").await;
    assert_eq!(bench.link.core().detached, 1);
    assert_eq!(bench.log(), ["hangup"]);
    // Handed in in order, what the hangup left at the end; and the bytes it left are not sent.
    assert_eq!(bench.link.core().taken, [fence(0), fence(u32::MAX)]);
    assert_eq!(bench.rest().await, "");
    bench.peer.shutdown().await.expect("open");
    let ending = bench.ending.await.expect("no panic");
    assert_eq!(ending, Ending::Closed(Close::done("quit")));
    assert_eq!(bench.traffic.faults.load(Relaxed), 0);
    assert_eq!(bench.server.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_closed_connection_waits_a_second_for_the_peer_to_go() {
    let mut bench = Bench::new(1 << 16);
    bench.send("fault\n").await;
    assert_eq!(bench.rest().await, "bye\n");
    let start = Instant::now();
    let ending = (&mut bench.ending).await.expect("no panic");
    assert_eq!(ending, Ending::Closed(Close::fault("fault")));
    assert!(start.elapsed() <= Duration::from_millis(1100));
    assert_eq!(bench.traffic.faults.load(Relaxed), 1);
}

/// A socket closed over bytes that nobody read is reset, and the last words are lost with it.
#[tokio::test(start_paused = true)]
async fn what_was_on_its_way_behind_a_close_is_read_and_thrown_away() {
    let mut bench = Bench::new(1 << 16);
    bench.send("fault\n").await;
    for _ in 0..4096 {
        bench.send(&"x".repeat(1024)).await;
    }
    assert_eq!(bench.rest().await, "bye\n");
}

#[tokio::test(start_paused = true)]
async fn last_words_that_nobody_reads_are_given_up_after_five_seconds() {
    let mut bench = Bench::new(16);
    bench.send("big 1000\n").await;
    bench.send("quit\n").await;
    let start = Instant::now();
    (&mut bench.ending).await.expect("no panic");
    let waited = start.elapsed().as_secs_f64();
    assert!((5.0..6.5).contains(&waited), "{waited}");
    assert_eq!(bench.link.core().detached, 1);
}

#[tokio::test(start_paused = true)]
async fn rules_c15_a_panic_costs_its_connection_only() {
    let mut bench = Bench::new(1 << 16);
    let mut other = Bench::on(&bench.server, 1 << 16);
    bench.send("echo before\n").await;
    bench.expect("before\n").await;
    bench.send("panic\n").await;
    // What it left half done is not sent, and it is not called again.
    assert_eq!(bench.rest().await, "");
    assert_eq!((&mut bench.ending).await.expect("caught"), Ending::Panicked);
    assert_eq!(bench.log(), [""; 0]);
    assert_eq!(bench.link.core().detached, 1);
    assert_eq!(bench.traffic.panics.load(Relaxed), 1);
    other.send("echo well\n").await;
    other.expect("well\n").await;
    assert_eq!(other.server.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_vanished_peer_sent_is_handed_in_before_it_hangs_up() {
    let mut bench = Bench::new(1 << 16);
    bench.link.core().room = 0;
    bench.send("pull\nfence\n").await;
    drop(bench.peer);
    rest().await;
    assert_eq!(*bench.log.lock().expect("not poisoned"), [""; 0]);
    bench.link.make_room(1);
    assert_eq!(bench.ending.await.expect("no panic"), Ending::Vanished);
    assert_eq!(
        *bench.log.lock().expect("not poisoned"),
        ["unread", "hangup"]
    );
    let core = bench.link.core();
    assert!(matches!(
        core.taken[..],
        [
            Command::Fence { .. },
            Command::Pull(_),
            Command::Fence { .. }
        ]
    ));
    assert_eq!(core.detached, 1);
}

#[tokio::test(start_paused = true)]
async fn a_close_waits_for_room_for_what_came_before_it() {
    let mut bench = Bench::new(1 << 16);
    bench.link.core().room = 0;
    bench.send("pull\nquit\n").await;
    bench.nothing_more().await;
    assert_eq!(bench.link.core().detached, 0);
    bench.link.make_room(1);
    bench.expect("bye\n").await;
    assert_eq!(bench.link.core().taken.len(), 2);
    assert_eq!(bench.link.core().detached, 1);
}

#[tokio::test(start_paused = true)]
async fn commands_of_a_peer_that_has_gone_are_dropped_and_counted_after_thirty_seconds() {
    let mut bench = Bench::new(1 << 16);
    bench.link.core().room = 0;
    bench.send("pull\npull\nquit\n").await;
    let start = Instant::now();
    bench.expect("bye\n").await;
    let waited = start.elapsed().as_secs_f64();
    assert!((30.0..31.0).contains(&waited), "{waited}");
    assert_eq!(bench.traffic.commands_dropped.load(Relaxed), 2);
    assert_eq!(bench.link.core().taken, [fence(u32::MAX)]);
}

#[tokio::test(start_paused = true)]
async fn a_half_closed_peer_reads_what_it_is_owed() {
    let mut bench = Bench::new(1 << 16);
    bench.send("echo x\nbig 5000\n").await;
    bench.peer.shutdown().await.expect("open");
    let expected = format!("x\n{}", "x".repeat(5000));
    assert_eq!(bench.rest().await, expected);
    assert_eq!(bench.ending.await.expect("no panic"), Ending::Vanished);
}

#[tokio::test(start_paused = true)]
async fn what_came_before_a_failed_write_counts() {
    let mut bench = Bench::new(32);
    // The answer does not fit into the pipe; then the peer goes, with bytes of its own underway.
    bench.send("big 100\n").await;
    rest().await;
    bench.send("fence\nfence\n").await;
    drop(bench.peer);
    bench.ending.await.expect("no panic");
    assert_eq!(
        bench.link.core().taken,
        [fence(0), fence(0), fence(u32::MAX)]
    );
    assert_eq!(bench.link.core().detached, 1);
}

#[tokio::test(start_paused = true)]
async fn bytes_wait_while_the_session_wants_none() {
    let mut bench = Bench::new(1 << 16);
    bench.send("wait\necho x\nwait\necho y\n").await;
    bench.send("echo z\n").await;
    bench.nothing_more().await;
    bench.link.tell([reached(1)]);
    // Up to the next `wait`, without another byte from the peer.
    bench.expect("reached 1\nx\n").await;
    bench.nothing_more().await;
    bench.link.tell([reached(2)]);
    bench.expect("reached 2\ny\nz\n").await;
}

#[tokio::test(start_paused = true)]
async fn bytes_read_before_count_as_first() {
    let server = Server::new(ToyPort::new(1), Limits::default());
    let bench = Bench::on(&server, 64);
    let (mut peer, ours) = tokio::io::duplex(64);
    let seat = seat(&server, &bench.traffic);
    let input = BytesMut::from("echo a\necho ");
    let link = Arc::clone(&bench.link) as Arc<dyn Link>;
    tokio::spawn(serve_connection(
        ours,
        input,
        Box::new(Toy::new()),
        link,
        seat,
    ));
    peer.write_all(b"b\n").await.expect("open");
    let mut read = [0; 4];
    peer.read_exact(&mut read).await.expect("answers");
    assert_eq!(&read, b"a\nb\n");
}

#[tokio::test(start_paused = true)]
async fn a_session_hears_of_its_deadline_when_it_is_due() {
    let mut bench = Bench::new(1 << 16);
    bench.send("timer 60000\n").await;
    rest().await;
    // Later: the timer that is set goes off first, and the session is left alone.
    bench.send("timer 90000\n").await;
    let start = Instant::now();
    bench.expect("timeout\n").await;
    let waited = start.elapsed().as_secs_f64();
    assert!((89.9..91.0).contains(&waited), "{waited}");
    // Earlier.
    bench.send("timer 60000\n").await;
    rest().await;
    bench.send("timer 10\n").await;
    let start = Instant::now();
    bench.expect("timeout\n").await;
    assert!(start.elapsed() < Duration::from_millis(20));
    assert_eq!(bench.log(), ["timeout", "timeout"]);
}

#[tokio::test(start_paused = true)]
async fn each_connection_of_a_server_is_woken_at_its_own_time() {
    let server = Server::new(ToyPort::new(100), Limits::default());
    let mut benches: Vec<_> = (0..40).map(|_| Bench::on(&server, 1 << 16)).collect();
    for bench in &mut benches {
        bench.send("timer 86400000\n").await;
    }
    rest().await;
    // In no order, and some at one time.
    let wait = |number: usize| 1000 * (1 + number as u64 * 7 % 20);
    let start = Instant::now();
    for (number, bench) in benches.iter_mut().enumerate() {
        bench.send(&format!("timer {}\n", wait(number))).await;
    }
    rest().await;
    // Others get the places of those that leave, and are not woken in their stead.
    for gone in benches.drain(30..) {
        drop(gone.peer);
    }
    rest().await;
    let mut late = Bench::on(&server, 1 << 16);
    let waits = benches.into_iter().enumerate().map(|(number, mut bench)| {
        tokio::spawn(async move {
            bench.expect("timeout\n").await;
            let (waited, wait) = (start.elapsed(), Duration::from_millis(wait(number)));
            assert!(
                waited >= wait && waited < wait + Duration::from_millis(10),
                "{wait:?}: {waited:?}"
            );
            assert_eq!(bench.log(), ["timeout"]);
        })
    });
    for woken in waits.collect::<Vec<_>>() {
        woken.await.expect("in time");
    }
    late.send("timer 5000\n").await;
    let start = Instant::now();
    late.expect("timeout\n").await;
    assert!(start.elapsed() < Duration::from_millis(5010));
}

/// A core that never runs out of events.
struct Endless;

impl Link for Endless {
    fn id(&self) -> SessionId {
        SessionId(2)
    }
    fn submit(&self, _: &mut std::collections::VecDeque<Command>) -> Submitted {
        Submitted::All
    }
    fn poll_events(&self, _: &mut Context<'_>, events: &mut Vec<Event>) -> Poll<()> {
        events.extend((0..64).map(reached));
        Poll::Ready(())
    }
    fn drained(&self) {}
    fn detach(&self) {}
}

#[tokio::test(start_paused = true)]
async fn a_busy_connection_lets_others_have_their_turn() {
    let server = Server::new(ToyPort::new(10), Limits::default());
    let mut bench = Bench::on(&server, 1 << 16);
    let (mut peer, ours) = tokio::io::duplex(1 << 20);
    let seat = seat(&server, &bench.traffic);
    let session: Box<dyn Session + Send> = Box::new(Toy::new());
    let endless = serve_connection(ours, BytesMut::new(), session, Arc::new(Endless), seat);
    let busy = tokio::spawn(endless);
    let mut sink = vec![0; 1 << 16];
    for _ in 0..10 {
        bench.send("echo x\n").await;
        bench.expect("x\n").await;
        assert!(peer.read(&mut sink).await.expect("open") > 0);
    }
    busy.abort();
}

/// A core that counts how often it is given commands; or one that always leaves one and asks for it again at once.
struct Counting {
    submits: Arc<AtomicUsize>,
    leaves: bool,
}

impl Link for Counting {
    fn id(&self) -> SessionId {
        SessionId(3)
    }
    fn submit(&self, commands: &mut std::collections::VecDeque<Command>) -> Submitted {
        self.submits.fetch_add(1, Relaxed);
        commands.truncate(usize::from(self.leaves));
        if self.leaves {
            Submitted::Left
        } else {
            Submitted::All
        }
    }
    fn poll_events(&self, _: &mut Context<'_>, _: &mut Vec<Event>) -> Poll<()> {
        if self.leaves {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
    fn drained(&self) {}
    fn detach(&self) {}
}

#[tokio::test(start_paused = true)]
async fn commands_are_handed_in_a_few_at_a_time_between_the_turns_of_others() {
    // A stranger's reads are short: a few of them make up the work of one poll.
    for (leaves, submits_max) in [(false, 4), (true, 2)] {
        let server = Server::new(ToyPort::new(10), Limits::default());
        let (mut peer, ours) = tokio::io::duplex(1 << 20);
        peer.write_all("fence\n".repeat(40_000).as_bytes())
            .await
            .expect("there is room");
        let submits = Arc::new(AtomicUsize::new(0));
        let link = Counting {
            submits: Arc::clone(&submits),
            leaves,
        };
        let toy = Box::new(Toy::new());
        let seat = seat(&server, &Arc::default());
        let task = serve_connection(ours, BytesMut::new(), toy, Arc::new(link), seat);
        let busy = tokio::spawn(task);
        let mut before = 0;
        let other = tokio::spawn(std::future::poll_fn(move |cx| {
            let now = submits.load(Relaxed);
            assert!(now - before <= submits_max, "{leaves}: {now} - {before}");
            before = now;
            cx.waker().wake_by_ref();
            // Several turns later it has gone on by itself.
            if now >= 5 * submits_max {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        }));
        other.await.expect("it has its turns");
        busy.abort();
    }
}

#[tokio::test]
async fn an_idle_connection_costs_less_than_a_kibibyte() {
    let server = Server::new(ToyPort::new(10), Limits::default());
    let seat = seat(&server, &Arc::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("bound");
    let socket = tokio::net::TcpStream::connect(address)
        .await
        .expect("it listens");
    let toy = Box::new(Toy::new());
    let link: Arc<dyn Link> = Arc::new(Endless);
    let future = serve_connection(socket, BytesMut::new(), toy, link, seat);
    let len = size_of_val(&future);
    assert!(len < 1024, "{len}");
}

fn authenticated() -> Event {
    Event::Authenticated {
        token: session::Token(0),
        vhost: message::VhostId::default(),
        vhost_name: "/".into(),
        user: "somebody".into(),
        secret: session::Secret([0; 32]),
    }
}

fn login_limits(own: usize, pool: usize) -> Limits {
    Limits {
        login_len_max: own,
        login_pool_len_max: pool,
        ..Limits::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_stranger_may_say_only_so_much() {
    let server = Server::new(ToyPort::new(10), login_limits(20_000, 1 << 30));
    let mut bench = Bench::on(&server, 1 << 16);
    // One endless line.
    bench.send(&"x".repeat(19_999)).await;
    bench.nothing_more().await;
    bench.send("x").await;
    assert_eq!(bench.rest().await, "");
    let Ending::Closed(close) = bench.ending.await.expect("no panic") else {
        panic!("closed");
    };
    assert!(
        close.fault && close.reason.contains("20000 bytes"),
        "{close:?}"
    );
    assert_eq!(bench.traffic.faults.load(Relaxed), 1);

    // Whoever is known may say more.
    let mut bench = Bench::on(&server, 1 << 16);
    bench.link.tell([authenticated()]);
    rest().await;
    bench.send("echo ").await;
    for _ in 0..10 {
        bench.send(&"x".repeat(10_000)).await;
        rest().await;
    }
    bench.send("\n").await;
    bench.expect(&"x".repeat(60_000)).await;
    bench.expect(&"x".repeat(40_000)).await;
}

#[tokio::test(start_paused = true)]
async fn strangers_share_the_room_for_long_logins() {
    let server = Server::new(ToyPort::new(10), login_limits(1 << 20, 100_000));
    let mut benches: Vec<_> = (0..20).map(|_| Bench::on(&server, 1 << 20)).collect();
    let mut dropped = 0;
    for bench in &mut benches {
        bench.send(&"x".repeat(28_192)).await;
        rest().await;
        dropped +=
            usize::from(bench.ending.is_finished() || bench.traffic.faults.load(Relaxed) > 0);
    }
    // Five times 20,000 beyond what everyone may say; one that ends gives its own back at once.
    assert_eq!(dropped, 15);
    // A short login needs none of it.
    let mut short = Bench::on(&server, 1 << 16);
    short.send("echo ").await;
    short.send(&"x".repeat(8_000)).await;
    rest().await;
    short.send("\n").await;
    short.expect(&"x".repeat(8_000)).await;
    // Who becomes known gives its share back.
    benches[0].link.tell([authenticated()]);
    rest().await;
    let mut long = Bench::on(&server, 1 << 20);
    long.send(&"x".repeat(28_192)).await;
    long.nothing_more().await;
    drop(benches);
    rest().await;
    assert_eq!(server.connections(), 2, "the first twenty have vanished");
}
