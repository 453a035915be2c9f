//! Listeners over real sockets at port 0.

use std::{
    future::ready, io::ErrorKind, sync::Arc, sync::atomic::Ordering::Relaxed, time::Duration,
};

use net::{Limits, Listener, Server};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::toys::{Toy, ToyPort};

fn listener() -> Listener {
    Listener::bind("toy", "127.0.0.1:0").expect("a free port")
}

#[tokio::test]
async fn a_session_serves_each_connection() {
    let server = Server::new(ToyPort::new(10), Limits::default());
    let listener = listener().default_vhost("tenant");
    let (address, traffic) = (listener.address(), Arc::clone(listener.traffic()));
    let served = tokio::spawn(listener.serve(Arc::clone(&server), |peer| {
        assert_eq!((peer.listener, &*peer.default_vhost), ("toy", "tenant"));
        Toy::new()
    }));
    let mut answer = String::new();
    let mut one = TcpStream::connect(address).await.expect("it listens");
    let mut two = TcpStream::connect(address).await.expect("it listens");
    two.write_all(b"echo two\nquit\n").await.expect("open");
    two.read_to_string(&mut answer).await.expect("text");
    one.write_all(b"big 3000000\nquit\n").await.expect("open");
    one.read_to_string(&mut answer).await.expect("text");
    let expected = format!("two\nbye\n{}bye\n", "x".repeat(3_000_000));
    assert!(answer == expected, "{} bytes", answer.len());
    assert_eq!(traffic.accepted.load(Relaxed), 2);
    assert_eq!(traffic.bytes_out.load(Relaxed), 3_000_012);
    let mut metrics = String::new();
    server.write_metrics(&mut metrics);
    assert!(metrics.contains("bascule_connections_accepted_total{listener=\"toy\"} 2\n"));
    drop((one, two));

    let drained = server.drain(ready(()), Duration::from_secs(60)).await;
    assert_eq!(drained.dropped, 0);
    served.await.expect("the listener ends with the drain");
    let refused = TcpStream::connect(address)
        .await
        .expect_err("nobody listens");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(traffic.open.load(Relaxed), 0);
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_and_counted() {
    let limits = Limits {
        connections_max: 1,
        ..Limits::default()
    };
    let server = Server::new(ToyPort::new(10), limits);
    let listener = listener();
    let (address, traffic) = (listener.address(), Arc::clone(listener.traffic()));
    tokio::spawn(listener.serve(Arc::clone(&server), |_| Toy::new()));
    let mut first = TcpStream::connect(address).await.expect("it listens");
    first.write_all(b"echo x\n").await.expect("open");
    first.read_exact(&mut [0; 2]).await.expect("it answers");
    let mut second = TcpStream::connect(address).await.expect("it listens");
    assert_eq!(second.read(&mut [0; 1]).await.expect("closed in order"), 0);
    assert_eq!(traffic.refused.load(Relaxed), 1);
    assert_eq!(traffic.accepted.load(Relaxed), 1);
}

/// Dials so often, and counts who is answered.
async fn answered(address: std::net::SocketAddr, count: usize) -> (Vec<TcpStream>, usize) {
    let (mut stay, mut away) = (Vec::new(), 0);
    for _ in 0..count {
        let mut peer = TcpStream::connect(address).await.expect("it listens");
        // Who is turned away may be gone before this is written, or read.
        let _ = peer.write_all(b"echo x\n").await;
        match peer.read(&mut [0; 2]).await {
            Ok(1..) => stay.push(peer),
            _ => away += 1,
        }
    }
    (stay, away)
}

#[tokio::test]
async fn an_address_that_dials_too_fast_is_turned_away_and_counted() {
    let limits = Limits {
        address_accepts_per_s: 5,
        loopback_limited: true,
        ..Limits::default()
    };
    let port = ToyPort::new(1_000);
    port.stop_clock();
    let server = Server::new(port, limits);
    let listener = listener();
    let (address, traffic) = (listener.address(), Arc::clone(listener.traffic()));
    tokio::spawn(listener.serve(Arc::clone(&server), |_| Toy::new()));
    let (stay, away) = answered(address, 30).await;
    assert_eq!((stay.len(), away), (20, 10));
    assert_eq!(traffic.accepted.load(Relaxed), 20);
    assert_eq!(traffic.limited.load(Relaxed), 10);
}

#[tokio::test]
async fn an_address_has_its_connections_counted_until_they_end() {
    let limits = Limits {
        address_connections_max: 3,
        loopback_limited: true,
        ..Limits::default()
    };
    let server = Server::new(ToyPort::new(1_000), limits);
    let listener = listener();
    let (address, traffic) = (listener.address(), Arc::clone(listener.traffic()));
    tokio::spawn(listener.serve(Arc::clone(&server), |_| Toy::new()));
    let (stay, away) = answered(address, 5).await;
    assert_eq!((stay.len(), away), (3, 2));
    drop(stay);
    while server.connections() > 0 {
        tokio::task::yield_now().await;
    }
    let (stay, away) = answered(address, 4).await;
    assert_eq!((stay.len(), away), (3, 1));
    assert_eq!(traffic.limited.load(Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn who_dials_faster_than_all_may_waits() {
    let limits = Limits {
        accepts_per_s: 10,
        loopback_limited: true,
        ..Limits::default()
    };
    let server = Server::new(ToyPort::new(1_000), limits);
    let listener = listener();
    let (address, traffic) = (listener.address(), Arc::clone(listener.traffic()));
    tokio::spawn(listener.serve(Arc::clone(&server), |_| Toy::new()));
    let start = tokio::time::Instant::now();
    // The clock runs ahead as soon as everyone waits.
    let (stay, away) = answered(address, 50).await;
    assert_eq!((stay.len(), away), (50, 0));
    assert!(
        start.elapsed() >= Duration::from_millis(3_900),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(traffic.limited.load(Relaxed), 0);
}

#[tokio::test]
async fn connections_that_the_core_does_not_take_are_closed_and_counted() {
    let server = Server::new(ToyPort::new(0), Limits::default());
    let listener = listener();
    let (address, traffic) = (listener.address(), Arc::clone(listener.traffic()));
    tokio::spawn(listener.serve(server, |_| Toy::new()));
    let mut peer = TcpStream::connect(address).await.expect("it listens");
    assert_eq!(peer.read(&mut [0; 1]).await.expect("closed in order"), 0);
    assert_eq!(traffic.refused.load(Relaxed), 1);
}

#[tokio::test]
async fn a_reset_socket_ends_its_connection() {
    let server = Server::new(ToyPort::new(10), Limits::default());
    let listener = listener();
    let address = listener.address();
    tokio::spawn(listener.serve(Arc::clone(&server), |_| Toy::new()));
    let mut peer = TcpStream::connect(address).await.expect("it listens");
    peer.write_all(b"echo x\n").await.expect("open");
    // Bytes unread when it closes: the kernel answers with a reset.
    peer.readable().await.expect("it answers");
    drop(peer);
    // Returns only when the connection is gone.
    let settled = async {
        while server.connections() > 0 {
            tokio::task::yield_now().await;
        }
    };
    settled.await;
}

#[tokio::test]
async fn an_address_that_cannot_be_bound_is_named() {
    let taken = listener();
    let address = taken.address().to_string();
    let error = Listener::bind("mqtt", &address).err().expect("in use");
    let words = error.to_string();
    let start = format!("failed to listen for mqtt on {address}: ");
    assert!(words.starts_with(&start), "{words}");
    assert_eq!(error.source.kind(), ErrorKind::AddrInUse);
    assert!(Listener::bind("mqtt", "127.0.0.1").is_err());
}
