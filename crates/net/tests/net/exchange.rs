//! Protocols of requests over real sockets: bodies and their limits, logins, flows in steps and in parts, what waits.

use std::{net::SocketAddr, sync::Arc};

use message::VhostId;
use net::{Limits, Listener, Server};
use session::{Command, Event, Refusal, RefusalKind, Secret};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    toy_exchange::{ToyExchange, answer, said, send},
    toys::{ToyLink, ToyPort, until},
};

struct Stage {
    address: SocketAddr,
    port: Arc<ToyPort>,
    server: Arc<Server>,
}

impl Stage {
    fn new(limits: Limits) -> Self {
        let port = ToyPort::new(2);
        let server = Server::new(Arc::clone(&port) as _, limits);
        let listener = Listener::bind("toy", "127.0.0.1:0").expect("a free port");
        let address = listener.address();
        tokio::spawn(listener.serve_exchange(Arc::clone(&server), Arc::new(ToyExchange)));
        Self {
            address,
            port,
            server,
        }
    }

    async fn open(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("it listens")
    }

    /// The link that was made last, when it has been given `count` commands.
    async fn link(&self, count: usize) -> Arc<ToyLink> {
        until(|| {
            let links = self.port.links.lock().expect("no test panics with it");
            let link = links.last()?;
            (link.core().taken.len() >= count).then(|| Arc::clone(link))
        })
        .await
    }
}

fn welcome(link: &ToyLink) {
    let token = match link.core().taken.last() {
        Some(Command::Authenticate(asked)) => asked.token,
        other => panic!("{other:?}"),
    };
    link.tell([Event::Authenticated {
        token,
        vhost: VhostId::ROOT,
        vhost_name: "/".into(),
        user: "guest".into(),
        secret: Secret([0; 32]),
    }]);
}

fn refused(link: &ToyLink, at: usize) -> Event {
    let mut command = link.core().taken[at].clone();
    Event::Refused {
        token: *command.token_mut().expect("it is answered"),
        refusal: Refusal::new(RefusalKind::NotFound, "none"),
    }
}

#[tokio::test]
async fn bodies_are_read_up_to_their_limit_and_one_announced_as_longer_is_not_read() {
    let stage = Stage::new(Limits::default());
    let mut socket = stage.open().await;
    send(&mut socket, "/body", "0123456789").await;
    assert_eq!(answer(&mut socket).await, said(200, "0123456789"));
    let text = "POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 11\r\n\r\n";
    socket.write_all(text.as_bytes()).await.expect("open");
    assert_eq!(answer(&mut socket).await, said(413, "TooLong"));

    let mut socket = stage.open().await;
    let text = "POST /body HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
                6\r\n012345\r\n6\r\n012345\r\n0\r\n\r\n";
    socket.write_all(text.as_bytes()).await.expect("open");
    assert_eq!(answer(&mut socket).await, said(413, "TooLong"));

    let mut socket = stage.open().await;
    let text = "POST /no HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n";
    socket.write_all(text.as_bytes()).await.expect("open");
    assert_eq!(answer(&mut socket).await, said(403, "no"));
}

#[tokio::test]
async fn bodies_of_all_requests_have_one_room() {
    let stage = Stage::new(Limits {
        http_bodies_len_max: 5,
        ..Limits::default()
    });
    let mut socket = stage.open().await;
    send(&mut socket, "/body", "012345").await;
    assert_eq!(answer(&mut socket).await, said(503, "Busy"));
    // What was refused gives its room back.
    let mut socket = stage.open().await;
    send(&mut socket, "/body", "01234").await;
    assert_eq!(answer(&mut socket).await.0, 200);
}

#[tokio::test]
async fn a_link_is_logged_in_once_and_serves_one_request_after_the_other() {
    let stage = Stage::new(Limits::default());
    let mut socket = stage.open().await;
    send(&mut socket, "/who", "").await;
    let link = stage.link(1).await;
    welcome(&link);
    assert_eq!(answer(&mut socket).await, said(200, "guest"));
    send(&mut socket, "/two", "").await;
    stage.link(3).await;
    // In the other order: each is told apart by its token.
    link.tell([refused(&link, 2), refused(&link, 1)]);
    assert_eq!(answer(&mut socket).await, said(200, "/two 2"));
    assert_eq!(stage.port.links.lock().expect("no panic").len(), 1);
}

#[tokio::test]
async fn a_login_that_is_refused_is_told_and_asked_for_again() {
    let stage = Stage::new(Limits::default());
    let mut socket = stage.open().await;
    send(&mut socket, "/who", "").await;
    let link = stage.link(1).await;
    link.tell([refused(&link, 0)]);
    assert_eq!(answer(&mut socket).await, said(401, "none"));
    send(&mut socket, "/who", "").await;
    until(|| {
        let links = stage.port.links.lock().expect("no panic");
        (links.len() == 2).then_some(())
    })
    .await;
    welcome(&*stage.link(1).await);
    assert_eq!(answer(&mut socket).await.0, 200);
}

#[tokio::test]
async fn an_answer_may_come_in_parts() {
    let stage = Stage::new(Limits::default());
    let mut socket = stage.open().await;
    let text =
        "POST /steps HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    socket.write_all(text.as_bytes()).await.expect("open");
    welcome(&*stage.link(1).await);
    let mut whole = String::new();
    socket.read_to_string(&mut whole).await.expect("to its end");
    assert!(whole.contains("transfer-encoding: chunked"), "{whole}");
    assert!(
        whole.ends_with("5\r\nhead,\r\n5\r\nmore,\r\n3\r\nend\r\n0\r\n\r\n"),
        "{whole}"
    );
}

#[tokio::test]
async fn what_waits_is_given_up_when_its_peer_goes_and_when_the_server_does() {
    let stage = Stage::new(Limits::default());
    let mut socket = stage.open().await;
    send(&mut socket, "/wait", "").await;
    welcome(&*stage.link(1).await);
    let link = stage.link(2).await;
    drop(socket);
    // The one in the list of links, and ours.
    until(|| (Arc::strong_count(&link) == 2).then_some(())).await;

    let mut socket = stage.open().await;
    send(&mut socket, "/wait", "").await;
    let second = until(|| {
        let links = stage.port.links.lock().expect("no panic");
        links.get(1).cloned()
    })
    .await;
    until(|| (second.core().taken.len() == 1).then_some(())).await;
    welcome(&second);
    until(|| (second.core().taken.len() == 2).then_some(())).await;
    let drained = stage
        .server
        .drain(std::future::ready(()), std::time::Duration::from_secs(20));
    let (told, drained) = tokio::join!(answer(&mut socket), drained);
    assert_eq!(told, said(503, "Stopping"));
    assert_eq!(drained.dropped, 0);
}

#[tokio::test]
async fn a_defect_costs_one_request() {
    let stage = Stage::new(Limits::default());
    let mut socket = stage.open().await;
    send(&mut socket, "/panic", "").await;
    welcome(&*stage.link(1).await);
    assert_eq!(answer(&mut socket).await, said(500, "Internal"));
    send(&mut socket, "/body", "still").await;
    assert_eq!(answer(&mut socket).await, said(200, "still"));
}

/// RFC 9113, 3.4: a client that knows starts with the preface; the server's own settings are its first frame.
#[tokio::test]
async fn http_2_is_spoken_to_who_begins_with_it() {
    let stage = Stage::new(Limits::default());
    let mut socket = stage.open().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    socket.write_all(preface).await.expect("open");
    let mut head = [0; 9];
    socket.read_exact(&mut head).await.expect("a frame");
    assert_eq!((head[3], head[4], &head[5..]), (4, 0, &[0; 4][..]));
}
