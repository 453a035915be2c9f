//! The drain: confirmed before told, told before dropped, all within its time.

use std::{future::ready, sync::Arc, time::Duration};

use net::{Drained, Ending, Limits, Server};
use tokio::time::Instant;

use crate::toys::{Bench, ToyPort, reached, rest};

const LIMIT: Duration = Duration::from_secs(5);

fn server() -> Arc<Server> {
    Server::new(ToyPort::new(10), Limits::default())
}

#[tokio::test(start_paused = true)]
async fn what_was_handed_in_is_confirmed_before_the_goodbye() {
    let server = server();
    let mut bench = Bench::on(&server, 1 << 16);
    bench.send("fence\n").await;
    rest().await;
    let link = Arc::clone(&bench.link);
    let settled = async move {
        rest().await;
        link.tell([reached(1)]);
    };
    let drain = {
        let server = Arc::clone(&server);
        tokio::spawn(async move { server.drain(settled, LIMIT).await })
    };
    bench.expect("reached 1\nclosing\n").await;
    // The session waits for the peer's answer, so it may read again.
    bench.send("quit\n").await;
    assert_eq!(bench.rest().await, "bye\n");
    drop(bench.peer);
    assert_eq!(drain.await.expect("no panic"), Drained { dropped: 0 });
    assert!(server.is_draining());
}

#[tokio::test(start_paused = true)]
async fn nothing_more_is_read_while_the_core_settles() {
    let server = server();
    let mut bench = Bench::on(&server, 1 << 16);
    rest().await;
    let drain = {
        let server = Arc::clone(&server);
        let settled = tokio::time::timeout(LIMIT, std::future::pending::<()>());
        tokio::spawn(async move { server.drain(async { drop(settled.await) }, LIMIT).await })
    };
    rest().await;
    bench.send("fence\n").await;
    rest().await;
    assert!(bench.link.core().taken.is_empty());
    // It never settles: at half time the sessions are told all the same.
    let start = Instant::now();
    bench.expect("closing\n").await;
    assert!(start.elapsed() < LIMIT * 6 / 10);
    drop(bench.peer);
    assert_eq!(drain.await.expect("no panic"), Drained { dropped: 0 });
}

#[tokio::test(start_paused = true)]
async fn who_does_not_say_goodbye_is_dropped_in_time() {
    let server = server();
    let mut polite = Bench::on(&server, 1 << 16);
    let mut stuck = Bench::on(&server, 16);
    let deaf = Bench::on(&server, 1 << 16);
    stuck.send("big 1000000\n").await;
    rest().await;
    let start = Instant::now();
    let drain = {
        let server = Arc::clone(&server);
        tokio::spawn(async move { server.drain(ready(()), LIMIT).await })
    };
    polite.expect("closing\n").await;
    polite.send("quit\n").await;
    polite.expect("bye\n").await;
    drop(polite.peer);
    assert_eq!(drain.await.expect("no panic"), Drained { dropped: 2 });
    assert!(start.elapsed() < LIMIT);
    assert_eq!(server.connections(), 0);
    for bench in [stuck, deaf] {
        assert_eq!(bench.ending.await.expect("no panic"), Ending::Aborted);
        let log = bench.log.lock().expect("not poisoned").clone();
        assert_eq!(log.iter().filter(|&it| it == "hangup").count(), 1);
        assert_eq!(bench.link.core().detached, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_without_connections_drains_at_once() {
    let start = Instant::now();
    assert_eq!(
        server().drain(ready(()), LIMIT).await,
        Drained { dropped: 0 }
    );
    assert_eq!(start.elapsed(), Duration::ZERO);
}
