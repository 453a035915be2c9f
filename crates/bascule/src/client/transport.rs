//! A blocking socket with a read buffer and deadlines.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, TcpStream, ToSocketAddrs as _},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use bytes::BytesMut;

/// How long to try one address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait for the broker's end after ours.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

/// The deadline has passed.
#[derive(Debug, thiserror::Error)]
#[error("the broker did not answer in time")]
pub(super) struct TimedOut;

/// What [`Transport::fill`] brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Filled {
    Bytes,
    /// Nothing for as long as `idle`.
    Idle,
}

/// A connection.
pub(super) struct Transport {
    stream: TcpStream,
    /// What has been read and not been taken.
    pub(super) input: BytesMut,
    /// When to give up.
    pub(super) deadline: Option<Instant>,
    /// After how much silence `fill` comes back without bytes.
    pub(super) idle: Option<Duration>,
    scratch: Vec<u8>,
}

impl Transport {
    pub(super) fn connect(
        host: &str,
        port: u16,
        deadline: Option<Instant>,
    ) -> anyhow::Result<Self> {
        let place = || format!("failed to connect to {host}:{port}");
        let mut failed = None;
        for address in (host, port).to_socket_addrs().with_context(place)? {
            let left = deadline.map(|it| it.saturating_duration_since(Instant::now()));
            let timeout = left.map_or(CONNECT_TIMEOUT, |left| left.min(CONNECT_TIMEOUT));
            if timeout.is_zero() {
                return Err(TimedOut.into());
            }
            match TcpStream::connect_timeout(&address, timeout) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(Self {
                        stream,
                        input: BytesMut::new(),
                        deadline,
                        idle: None,
                        scratch: vec![0; 64 * 1024],
                    });
                }
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) => Err(error).with_context(place),
            None => bail!("failed to connect to {host}:{port}: no such host"),
        }
    }

    /// Sends all of it.
    pub(super) fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.stream
            .write_all(bytes)
            .context("failed to send to the broker")
    }

    /// Waits for more bytes.
    pub(super) fn fill(&mut self) -> anyhow::Result<Filled> {
        loop {
            let left = match self.deadline {
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(TimedOut.into());
                    }
                    Some(left)
                }
                None => None,
            };
            let wait = match (left, self.idle) {
                (Some(left), Some(idle)) => Some(left.min(idle)),
                (left, idle) => left.or(idle),
            };
            self.stream.set_read_timeout(wait)?;
            match self.stream.read(&mut self.scratch) {
                Ok(0) => bail!("the broker closed the connection"),
                Ok(count) => {
                    self.input.extend_from_slice(&self.scratch[..count]);
                    return Ok(Filled::Bytes);
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                        if self.idle.is_some() && left.is_none_or(|left| Some(left) > self.idle) {
                            return Ok(Filled::Idle);
                        }
                    }
                    _ => return Err(error).context("failed to read from the broker"),
                },
            }
        }
    }

    /// Ends our side and waits for the broker's end: a socket that closes with bytes unread may destroy what it has sent last.
    pub(super) fn close(&mut self) {
        if self.stream.shutdown(Shutdown::Write).is_err() {
            return;
        }
        self.deadline = Instant::now().checked_add(GOODBYE_TIMEOUT);
        self.idle = None;
        while let Ok(Filled::Bytes) = self.fill() {
            self.input.clear();
        }
    }
}
