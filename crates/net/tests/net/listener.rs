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
