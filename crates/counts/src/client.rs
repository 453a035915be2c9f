//! Clients that never wait: what they have to say is written as far as the socket takes it, and what has come is looked at.
//! Between two looks the server has its turn.

pub(crate) mod amqp;
pub(crate) mod aws;
pub(crate) mod mqtt;

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use anyhow::bail;

use crate::served::Served;

/// Turns after which what does not come is given up.
const TURNS_MAX: u32 = 1_000;

/// One connection.
pub(crate) struct Socket {
    stream: TcpStream,
    unread: Vec<u8>,
    unsent: Vec<u8>,
}

impl Socket {
    pub(crate) fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            unread: Vec::new(),
            unsent: Vec::new(),
        })
    }

    /// Says that, and whatever it could not say before.
    pub(crate) fn say(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.unsent.extend_from_slice(bytes);
        self.pump()
    }

    /// Writes and reads what can be written and read.
    pub(crate) fn pump(&mut self) -> anyhow::Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(len) => drop(self.unsent.drain(..len)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        loop {
            let len = self.unread.len();
            self.unread.resize(len + (1 << 18), 0);
            let got = self.stream.read(&mut self.unread[len..]);
            self.unread.truncate(len + *got.as_ref().unwrap_or(&0));
            match got {
                Ok(0) => bail!("the server closed the connection"),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(crate) fn unread(&self) -> &[u8] {
        &self.unread
    }

    pub(crate) fn take(&mut self, len: usize) -> Vec<u8> {
        self.unread.drain(..len).collect()
    }
}

/// Gives the server turns, uncounted, until something is there.
pub(crate) fn wait<T>(
    served: &mut Served,
    look: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    until(served, Served::work, look)
}

/// The same, counted if the server counts.
pub(crate) fn go<T>(
    served: &mut Served,
    look: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let turn = if served.counts() {
        Served::turn
    } else {
        Served::work
    };
    until(served, turn, look)
}

fn until<T>(
    served: &mut Served,
    turn: fn(&mut Served),
    mut look: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    // Not counted: it is no message's.
    served.renew_lease();
    for _ in 0..TURNS_MAX {
        turn(served);
        if let Some(found) = look()? {
            return Ok(found);
        }
    }
    bail!("nothing comes after {TURNS_MAX} turns");
}
