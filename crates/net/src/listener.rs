//! Listeners for TCP, an ordered and lossless stream both ways ([MQTT-4.2-1]): bind, accept, back off when the process is out of descriptors.

use std::{
    future::poll_fn,
    io,
    net::{SocketAddr, ToSocketAddrs},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::BytesMut;
use session::{Exchange, Peer, Session};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::{
    Http, Seat, Server, Traffic,
    admission::{Admitted, Limited},
    exchange, http, serve_connection,
    server::{Phase, Watch},
};

/// Connections that the kernel holds for us until they are accepted.
const BACKLOG: u32 = 1024;
/// The pause after an accept that failed for want of descriptors or memory.
const BACK_OFF: Duration = Duration::from_millis(100);

/// A listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("failed to listen for {listener} on {address}: {source}")]
pub struct BindError {
    /// Which, as the configuration names it.
    pub listener: &'static str,
    /// Where.
    pub address: String,
    /// Why not.
    pub source: io::Error,
}

/// A bound socket that does not accept yet.
pub struct Listener {
    name: &'static str,
    socket: TcpListener,
    address: SocketAddr,
    default_vhost: Arc<str>,
    traffic: Arc<Traffic>,
}

impl Listener {
    /// Binds `address`, "host:port"; port 0 takes any that is free. Must be called within a runtime.
    pub fn bind(name: &'static str, address: &str) -> Result<Self, BindError> {
        bind(address)
            .and_then(|socket| {
                Ok(Self {
                    name,
                    address: socket.local_addr()?,
                    socket,
                    default_vhost: "/".into(),
                    traffic: Arc::default(),
                })
            })
            .map_err(|source| BindError {
                listener: name,
                address: address.to_owned(),
                source,
            })
    }

    /// The virtual host of peers that name none; `/` unless set.
    #[must_use]
    pub fn default_vhost(mut self, name: &str) -> Self {
        self.default_vhost = name.into();
        self
    }

    /// Counts in the counters of another listener of the same name, for a door in several places.
    #[must_use]
    pub fn counting_in(mut self, traffic: Arc<Traffic>) -> Self {
        self.traffic = traffic;
        self
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// As the configuration names it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Its counters.
    #[must_use]
    pub const fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// Accepts until the server drains. `session` makes the session of one connection.
    pub async fn serve<S: Session + Send + 'static>(
        self,
        server: Arc<Server>,
        session: impl Fn(&Peer) -> S + Send,
    ) {
        self.accept(server, |socket, seat| {
            let Some(link) = seat.server().port().attach(seat.peer().clone()) else {
                Traffic::add(&seat.traffic().refused, 1);
                return;
            };
            let session = Box::new(session(seat.peer()));
            tokio::spawn(serve_connection(
                socket,
                BytesMut::new(),
                session,
                link,
                seat,
            ));
        })
        .await;
    }

    /// Accepts HTTP until the server drains.
    pub async fn serve_http(self, server: Arc<Server>, http: Arc<Http>) {
        self.accept(server, |socket, seat| {
            let http = Arc::clone(&http);
            tokio::spawn(http::serve_socket(socket, http, seat));
        })
        .await;
    }

    /// Accepts HTTP for a protocol of requests until the server drains.
    pub async fn serve_exchange(self, server: Arc<Server>, exchange: Arc<dyn Exchange>) {
        self.accept(server, |socket, seat| {
            let exchange = Arc::clone(&exchange);
            tokio::spawn(exchange::serve_socket(socket, exchange, seat));
        })
        .await;
    }

    async fn accept(self, server: Arc<Server>, open: impl Fn(TcpStream, Seat)) {
        server.add_listener(self.name, Arc::clone(&self.traffic));
        let mut watch = Watch::new(Arc::clone(&server));
        loop {
            let accepted = poll_fn(|cx| {
                if watch.poll_phase(cx) != Phase::Open {
                    return Poll::Ready(None);
                }
                self.socket.poll_accept(cx).map(Some)
            });
            match accepted.await {
                None => return,
                Some(Ok((socket, address))) => {
                    let pause_ms = match server.admit(address) {
                        Admitted::Yes { pause_ms } => pause_ms,
                        Admitted::No(limited) => {
                            self.turn_away(address, limited, &server);
                            continue;
                        }
                    };
                    let peer = Peer {
                        address,
                        listener: self.name,
                        default_vhost: Arc::clone(&self.default_vhost),
                    };
                    if let Some(seat) = server.seat(&self.traffic, peer) {
                        // Frames are written whole, so waiting to fill a segment only adds latency.
                        let _ = socket.set_nodelay(true);
                        let open = AssertUnwindSafe(|| open(socket, seat));
                        if catch_unwind(open).is_err() {
                            // RULES 15: a defect in opening one connection does not end the listener.
                            Traffic::add(&self.traffic.panics, 1);
                            tracing::error!(
                                listener = self.name, peer = %address,
                                "failed to open a connection: its session panicked"
                            );
                        }
                    } else {
                        server.dismiss(address);
                    }
                    if pause_ms > 0 {
                        pause(&mut watch, Duration::from_millis(pause_ms)).await;
                    }
                }
                Some(Err(error)) if is_of_one_connection(&error) => {}
                Some(Err(error)) => {
                    Traffic::add(&self.traffic.accept_failures, 1);
                    if let Some(left_out) = server.refusals().admit(server.port().now()) {
                        tracing::warn!(listener = self.name, %error, left_out, "failed to accept; pausing");
                    }
                    pause(&mut watch, BACK_OFF).await;
                }
            }
        }
    }

    /// Closes a connection at once, because of its address.
    fn turn_away(&self, address: SocketAddr, limited: Limited, server: &Server) {
        Traffic::add(&self.traffic.limited, 1);
        if let Some(left_out) = server.refusals().admit(server.port().now()) {
            tracing::info!(
                listener = self.name, peer = %address, limit = limited.key(), left_out,
                "turned a connection away: its address has too many"
            );
        }
    }
}

/// Waits, unless the server begins to drain.
async fn pause(watch: &mut Watch, wait: Duration) {
    let drains = poll_fn(|cx| match watch.poll_phase(cx) {
        Phase::Open => Poll::Pending,
        _ => Poll::Ready(()),
    });
    let _ = tokio::time::timeout(wait, drains).await;
}

fn bind(address: &str) -> io::Result<TcpListener> {
    let mut failed = None;
    for address in address.to_socket_addrs()? {
        let bound = || {
            let socket = if address.is_ipv4() {
                TcpSocket::new_v4()?
            } else {
                TcpSocket::new_v6()?
            };
            socket.set_reuseaddr(true)?;
            // Inherited by what is accepted: a peer that lost its power is noticed even by a protocol without heart-beats.
            socket.set_keepalive(true)?;
            socket.bind(address)?;
            socket.listen(BACKLOG)
        };
        match bound() {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such host")))
}

/// The connection failed before it was accepted; the listener is well.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}
