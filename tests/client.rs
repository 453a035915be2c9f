//! Clients. They block, with [`LIMIT`] as their patience; what they get wrong ends the test.

mod amqp;
mod amqp_frames;
pub(crate) mod aws;
mod mqtt;
mod signed;
mod stomp;
mod web;
pub(crate) mod wire;

pub(crate) use amqp::{Amqp, Deliveries, durable, persistent, table, text, wait};
pub(crate) use amqp_frames::AmqpFrames;
pub(crate) use mqtt::{Mqtt, connect, present};
pub(crate) use signed::Aws;
pub(crate) use stomp::Stomp;
pub(crate) use web::{get, upgrade};

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use bytes::{Bytes, BytesMut};
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

use crate::server::LIMIT;

/// The bodies of a crossing: text, all byte values, nothing, and more than any buffer holds at once.
pub(crate) fn bodies() -> [(&'static str, Vec<u8>); 4] {
    [
        ("text", "Grüße, Welt ✓".into()),
        ("binary", (0..=255).collect()),
        ("empty", Vec::new()),
        ("200 kB", pattern(200_000)),
    ]
}

/// So many bytes that no shift leaves alike.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 % 251) as u8).collect()
}

/// What carries a protocol's bytes.
pub(crate) enum Transport {
    Tcp(TcpStream),
    /// STOMP in text frames, or all in binary ones.
    Web {
        socket: Box<WebSocket<TcpStream>>,
        text: bool,
    },
}

impl Transport {
    pub(crate) fn tcp(address: SocketAddr) -> Self {
        Self::Tcp(dial(address))
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes)?,
            Self::Web { socket, text } => {
                let message = match std::str::from_utf8(bytes) {
                    Ok(words) if *text => Message::text(words),
                    _ => Message::binary(Bytes::copy_from_slice(bytes)),
                };
                socket.send(message)?;
            }
        }
        Ok(())
    }

    /// Reads some more; `false` at the end.
    pub(crate) fn fill(&mut self, input: &mut BytesMut) -> anyhow::Result<bool> {
        match self {
            Self::Tcp(stream) => {
                let mut part = [0; 16 * 1024];
                match stream.read(&mut part) {
                    Ok(0) => Ok(false),
                    Ok(len) => {
                        input.extend_from_slice(&part[..len]);
                        Ok(true)
                    }
                    Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(false),
                    Err(error) => Err(error.into()),
                }
            }
            Self::Web { socket, .. } => match socket.read() {
                Ok(Message::Binary(bytes)) => {
                    input.extend_from_slice(&bytes);
                    Ok(true)
                }
                Ok(Message::Text(text)) => {
                    input.extend_from_slice(text.as_bytes());
                    Ok(true)
                }
                Ok(Message::Close(_)) => Ok(false),
                Ok(_) => Ok(true),
                Err(
                    tungstenite::Error::ConnectionClosed
                    | tungstenite::Error::AlreadyClosed
                    | tungstenite::Error::Protocol(_),
                ) => Ok(false),
                Err(error) => Err(error.into()),
            },
        }
    }
}

/// A socket with our patience.
pub(crate) fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, LIMIT).expect("the server listens");
    stream
        .set_read_timeout(Some(LIMIT))
        .and_then(|()| stream.set_write_timeout(Some(LIMIT)))
        .and_then(|()| stream.set_nodelay(true))
        .expect("sockets take options");
    stream
}
