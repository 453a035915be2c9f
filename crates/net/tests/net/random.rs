//! Random histories of one connection: whatever the peer and the core do, in whatever order and through a pipe of whatever
//! size, every answer arrives in order and without the help of a timer, every command is handed in, and the end comes once.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use net::{Ending, Limits, Server};
use proptest::prelude::*;
use session::{Command, Event};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

use crate::toys::{Bench, ToyPort, reached, rest};

#[derive(Clone, Debug)]
enum Act {
    /// The peer sends `echo` with the next number.
    Echo,
    /// The peer asks for so many bytes.
    Big(usize),
    /// The peer sends a command that needs room.
    Pull,
    /// The peer sends a command that does not.
    Fence,
    /// The session wants no bytes before the next event.
    Wait,
    /// The core tells so many events.
    Tell(usize),
    /// The core has room for so many.
    Room(usize),
    /// The peer reads so much.
    Read(usize),
    /// Everyone rests.
    Rest,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Quit,
    HalfClose,
    Vanish,
    Panic,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => Just(Act::Echo),
        1 => (1..400_000usize).prop_map(Act::Big),
        2 => Just(Act::Pull),
        2 => Just(Act::Fence),
        1 => Just(Act::Wait),
        2 => (1..5usize).prop_map(Act::Tell),
        1 => (0..3usize).prop_map(Act::Room),
        2 => (1..100_000usize).prop_map(Act::Read),
        3 => Just(Act::Rest),
    ]
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        Just(End::Quit),
        Just(End::HalfClose),
        Just(End::Vanish),
        Just(End::Panic),
    ]
}

/// What the peer has read: the numbers echoed, how often it heard `reached`, and the bytes of `big`.
#[derive(Debug, Default)]
struct Heard {
    echoed: Vec<usize>,
    reached: usize,
    big: usize,
    line: Vec<u8>,
}

impl Heard {
    fn take(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match byte {
                b'x' => {
                    assert!(self.line.is_empty(), "bytes within a line");
                    self.big += 1;
                }
                b'\n' => {
                    let line = std::mem::take(&mut self.line);
                    let line = String::from_utf8(line).expect("text");
                    if line.starts_with("reached") {
                        self.reached += 1;
                    } else if line != "bye" {
                        self.echoed.push(line.parse().expect("a number"));
                    }
                }
                byte => self.line.push(byte),
            }
        }
    }
}

async fn history(pipe: usize, acts: Vec<Act>, end: End) {
    let server = Server::new(ToyPort::new(1), Limits::default());
    let mut bench = Bench::on(&server, pipe);
    let mut heard = Heard::default();
    let (mut sent, mut echoes, mut told) = (String::new(), 0, 0);
    let (mut pulls, mut fences, mut waits, mut big) = (0, 0, 0, 0);
    let mut buffer = vec![0; 100_000];
    for act in acts {
        match act {
            Act::Echo => {
                sent += &format!("echo {echoes}\n");
                echoes += 1;
            }
            Act::Big(len) => {
                sent += &format!("big {len}\n");
                big += len;
            }
            Act::Pull => {
                sent += "pull\n";
                pulls += 1;
            }
            Act::Fence => {
                sent += "fence\n";
                fences += 1;
            }
            Act::Wait => {
                sent += "wait\n";
                waits += 1;
            }
            Act::Tell(count) => {
                bench.link.tell((0..count).map(|_| reached(1)));
                told += count;
            }
            Act::Room(room) => bench.link.make_room(room),
            Act::Read(len) => {
                let read = bench.peer.read(&mut buffer[..len]);
                if let Ok(len) = tokio::time::timeout(Duration::from_millis(1), read).await {
                    heard.take(&buffer[..len.expect("open")]);
                }
            }
            Act::Rest => rest().await,
        }
        // As much as fits, without waiting.
        let write = bench.peer.write(sent.as_bytes());
        if !sent.is_empty()
            && let Ok(len) = tokio::time::timeout(Duration::from_millis(1), write).await
        {
            sent.drain(..len.expect("open"));
        }
    }
    // Everyone gives way: all that was sent is answered, and no timer is needed for it.
    let start = Instant::now();
    bench.link.make_room(usize::MAX);
    let (mut from, mut to) = tokio::io::split(bench.peer);
    let mut written = 0;
    while written < sent.len()
        || heard.echoed.len() < echoes
        || heard.reached < told
        || heard.big < big
    {
        tokio::select! {
            len = to.write(&sent.as_bytes()[written..]), if written < sent.len() => {
                written += len.expect("open");
            }
            len = from.read(&mut buffer) => heard.take(&buffer[..len.expect("open")]),
            // A session that still wants no bytes waits for an event.
            () = rest() => {
                bench.link.tell([reached(1)]);
                told += 1;
                assert!(start.elapsed() < Duration::from_secs(1), "stuck: {heard:?} of {echoes}, {told}");
            }
        }
    }
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "a timer had to help"
    );
    assert_eq!(heard.echoed, (0..echoes).collect::<Vec<_>>());
    // A session that wants no bytes does not hear of the end either, so each `wait` gets its event.
    for _ in 0..=waits {
        bench
            .link
            .tell([Event::InboundReleased { id: 1, known: true }]);
        rest().await;
    }
    let panics = match end {
        End::Quit => to.write_all(b"quit\n").await.map(|()| 0),
        End::Panic => to.write_all(b"panic\n").await.map(|()| 1),
        End::HalfClose => to.shutdown().await.map(|()| 0),
        End::Vanish => Ok(0),
    };
    let panics = panics.expect("open");
    if let End::Vanish = end {
        drop((from, to));
    } else {
        let mut rest = Vec::new();
        from.read_to_end(&mut rest).await.expect("the end");
        heard.take(&rest);
    }
    let ending = bench.ending.await.expect("no panic escapes");
    assert_eq!(ending == Ending::Panicked, panics == 1);
    let log = bench.log.lock().expect("not poisoned").clone();
    let hangups = log.iter().filter(|it| *it == "hangup").count();
    assert_eq!(hangups, 1 - panics);
    let core = bench.link.core();
    assert_eq!(core.detached, 1);
    let taken = |wanted: fn(&Command) -> bool| core.taken.iter().filter(|it| wanted(it)).count();
    assert_eq!(taken(|it| matches!(it, Command::Pull(_))), pulls);
    let last = hangups;
    assert_eq!(
        taken(|it| matches!(it, Command::Fence { .. })),
        fences + last
    );
    assert_eq!(bench.traffic.commands_dropped.load(Relaxed), 0);
    assert_eq!(server.connections(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn every_history_is_answered_in_order_and_ends_once(
        pipe in prop_oneof![1..100usize, Just(5_000), Just(1 << 20)],
        acts in prop::collection::vec(act(), 0..40),
        end in end(),
    ) {
        // A narrow pipe takes a poll for each few bytes.
        let acts = acts.into_iter().map(|act| match act {
            Act::Big(len) if pipe < 1000 => Act::Big(len % 2000 + 1),
            act => act,
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let history = history(pipe, acts.collect(), end);
        let hour = Duration::from_secs(3600);
        let ended = runtime.block_on(async { tokio::time::timeout(hour, history).await });
        prop_assert!(ended.is_ok(), "it never ended");
    }
}
