//! The load generators: hand-written blocking clients, so that the client is never what is measured.
//!
//! Each publisher has a thread that writes and one that counts confirmations; each consumer has one thread. Bodies start with
//! the publisher's number and a sequence number, so that loss, repetition and disorder are seen.

pub(crate) mod amqp;
pub(crate) mod aws;
pub(crate) mod mqtt;
pub(crate) mod server;
pub(crate) mod stomp;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Condvar, Mutex},
    time::Duration,
};

use anyhow::Context;

/// What a read has room for at least.
const ROOM: usize = 1 << 16;

/// A socket with a read buffer that frames are cut from.
pub(crate) struct Socket {
    stream: TcpStream,
    /// What is unread lies between `start` and `end`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Socket {
    pub(crate) fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)
            .with_context(|| format!("failed to connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self::of(stream))
    }

    fn of(stream: TcpStream) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            start: 0,
            end: 0,
        }
    }

    /// One that gives up what it waits for after `patience`.
    pub(crate) fn connect_within(address: SocketAddr, patience: Duration) -> anyhow::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, patience)
            .with_context(|| format!("failed to connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(Self::of(stream))
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// The connection without its buffer, for who has nothing more to read.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    pub(crate) fn writer(&self) -> anyhow::Result<TcpStream> {
        Ok(self.stream.try_clone()?)
    }

    /// What has been read and not been taken.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    pub(crate) fn take(&mut self, len: usize) {
        self.start += len;
    }

    /// Reads until at least `len` bytes are unread.
    pub(crate) fn fill(&mut self, len: usize) -> anyhow::Result<()> {
        while self.end - self.start < len {
            if self.buffer.len() < (self.start + len).max(self.end + ROOM) {
                self.make_room(len);
            }
            let got = self.stream.read(&mut self.buffer[self.end..])?;
            if got == 0 {
                anyhow::bail!("the server closed the connection");
            }
            self.end += got;
        }
        Ok(())
    }

    /// Has the unread begin at the front, with room for `len` bytes and for a read behind them.
    fn make_room(&mut self, len: usize) {
        let unread = self.end - self.start;
        let wanted = len.max(unread) + ROOM;
        if self.buffer.len() < wanted {
            // Zeroed by the kernel, and only where it is used.
            let mut larger = vec![0; wanted.next_power_of_two()];
            larger[..unread].copy_from_slice(self.unread());
            self.buffer = larger;
        } else {
            self.buffer.copy_within(self.start..self.end, 0);
        }
        (self.start, self.end) = (0, unread);
    }
}

/// How many confirmations have come, and whoever waits for them.
#[derive(Default)]
pub(crate) struct Confirmed {
    /// How many, and once the connection has ended, why.
    state: Mutex<(u64, Option<String>)>,
    more: Condvar,
}

impl Confirmed {
    pub(crate) fn set(&self, count: u64) {
        self.state.lock().expect("no thread panics with it").0 = count;
        self.more.notify_all();
    }

    /// No more will come: in order, or for that reason.
    pub(crate) fn end(&self, why: Option<&anyhow::Error>) {
        let why = why.map_or_else(|| "in order".to_owned(), |why| format!("{why:#}"));
        self.state.lock().expect("no thread panics with it").1 = Some(why);
        self.more.notify_all();
    }

    /// Waits until at least `count` are confirmed.
    pub(crate) fn wait(&self, count: u64) -> anyhow::Result<u64> {
        let mut state = self.state.lock().expect("no thread panics with it");
        while state.0 < count {
            if let Some(why) = &state.1 {
                anyhow::bail!(
                    "the connection ended at {} of {count} confirmations: {why}",
                    state.0
                );
            }
            state = self.more.wait(state).expect("no thread panics with it");
        }
        Ok(state.0)
    }
}

/// A body of `len` bytes that names its publisher and its place.
pub(crate) fn body(publisher: u32, sequence: u64, len: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + len.max(12), b'.');
    out[start..start + 4].copy_from_slice(&publisher.to_be_bytes());
    out[start + 4..start + 12].copy_from_slice(&sequence.to_be_bytes());
}

/// Checks what a consumer gets: per publisher 0, 1, 2, ...
#[derive(Default)]
pub(crate) struct Ledger {
    next: std::collections::BTreeMap<u32, u64>,
    pub(crate) received: u64,
    pub(crate) gaps: u64,
    pub(crate) repeats: u64,
}

impl Ledger {
    /// What was counted elsewhere, where nothing promises an order.
    pub(crate) fn counted(received: u64, lost: u64, repeats: u64) -> Self {
        Self {
            next: std::collections::BTreeMap::new(),
            received,
            gaps: lost,
            repeats,
        }
    }

    pub(crate) fn see(&mut self, body: &[u8]) {
        let publisher =
            u32::from_be_bytes(body[..4].try_into().expect("a body has at least 12 bytes"));
        let sequence = u64::from_be_bytes(
            body[4..12]
                .try_into()
                .expect("a body has at least 12 bytes"),
        );
        let next = self.next.entry(publisher).or_default();
        match sequence.cmp(next) {
            std::cmp::Ordering::Equal => *next += 1,
            std::cmp::Ordering::Greater => {
                self.gaps += sequence - *next;
                *next = sequence + 1;
            }
            std::cmp::Ordering::Less => self.repeats += 1,
        }
        self.received += 1;
    }
}
