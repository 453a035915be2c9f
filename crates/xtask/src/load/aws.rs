//! Amazon's JSON protocol by hand: HTTP/1.1, connections that are kept, every request signed (Signature Version 4).
//!
//! A client that is measured with its server must not cost more than it: a thread has many connections ([`Fleet`]), writes a
//! request on each and then reads an answer from each, so that it wakes once for many of them.

use std::{
    io::Write as _,
    net::SocketAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail, ensure};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use super::Socket;

type Signature = Hmac<Sha256>;

const REGION: &str = "us-east-1";
/// Access key and secret: what works from loopback out of the box.
const USER: &str = "guest";

/// How a service is called.
#[derive(Clone, Copy)]
pub(crate) struct Service {
    name: &'static str,
    /// What comes before the operation in `X-Amz-Target`.
    target: &'static str,
    content_type: &'static str,
}

pub(crate) const SQS: Service = Service {
    name: "sqs",
    target: "AmazonSQS",
    content_type: "application/x-amz-json-1.0",
};
pub(crate) const KINESIS: Service = Service {
    name: "kinesis",
    target: "Kinesis_20131202",
    content_type: "application/x-amz-json-1.1",
};

/// One connection.
pub(crate) struct Aws {
    socket: Socket,
    service: Service,
    host: String,
    /// The second that `date` and `signature` are of.
    second: u64,
    date: String,
    /// Keyed with the day's key.
    signature: Signature,
    request: Vec<u8>,
    /// The last answer's.
    body: Vec<u8>,
}

impl Aws {
    pub(crate) fn connect(address: SocketAddr, service: Service) -> anyhow::Result<Self> {
        Self::over(Socket::connect(address)?, address, service)
    }

    /// The same on a socket of the caller's, which is connected to `address`.
    pub(crate) fn over(
        socket: Socket,
        address: SocketAddr,
        service: Service,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            socket,
            service,
            host: address.to_string(),
            second: 0,
            date: String::new(),
            signature: keyed(&[])?,
            request: Vec::new(),
            body: Vec::new(),
        })
    }

    /// One request and its answer, which must be good.
    pub(crate) fn call(
        &mut self,
        operation: &str,
        body: &[u8],
    ) -> anyhow::Result<serde_json::Value> {
        self.ask(operation, body)?;
        let answer = self.answer(operation)?;
        if answer.is_empty() {
            return Ok(serde_json::Value::Null);
        }
        Ok(serde_json::from_slice(answer)?)
    }

    /// Writes a signed request.
    pub(crate) fn ask(&mut self, operation: &str, body: &[u8]) -> anyhow::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        if now != self.second {
            self.turn(now)?;
        }
        let (service, host, date) = (self.service, &self.host, &self.date);
        let (target, kind) = (service.target, service.content_type);
        let canonical = format!(
            "POST\n/\n\ncontent-type:{kind}\nhost:{host}\nx-amz-date:{date}\nx-amz-target:{target}.{operation}\n\n\
             content-type;host;x-amz-date;x-amz-target\n{}",
            hex(&Sha256::digest(body))
        );
        let scope = format!("{}/{REGION}/{}/aws4_request", &date[..8], service.name);
        let text = format!(
            "AWS4-HMAC-SHA256\n{date}\n{scope}\n{}",
            hex(&Sha256::digest(canonical.as_bytes()))
        );
        let mut signature = self.signature.clone();
        signature.update(text.as_bytes());
        let signature = hex(&signature.finalize().into_bytes());
        self.request.clear();
        write!(
            self.request,
            "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\nX-Amz-Date: {date}\r\nX-Amz-Target: {target}.{operation}\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential={USER}/{scope}, \
             SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature={signature}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )?;
        self.request.extend_from_slice(body);
        self.socket.write(&self.request)
    }

    /// Another second; perhaps another day, and with it another key.
    fn turn(&mut self, now: u64) -> anyhow::Result<()> {
        let date = amz_date(now);
        if self.date.get(..8) != date.get(..8) {
            let mut key = format!("AWS4{USER}").into_bytes();
            for part in [&date[..8], REGION, self.service.name, "aws4_request"] {
                let mut step = keyed(&key)?;
                step.update(part.as_bytes());
                key = step.finalize().into_bytes().to_vec();
            }
            self.signature = keyed(&key)?;
        }
        (self.second, self.date) = (now, date);
        Ok(())
    }

    /// The body of the next answer, which must be good.
    pub(crate) fn answer(&mut self, operation: &str) -> anyhow::Result<&[u8]> {
        let mut want = 1;
        let head_len = loop {
            self.socket.fill(want)?;
            let unread = self.socket.unread();
            if let Some(at) = unread.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            want = unread.len() + 1;
        };
        let head = std::str::from_utf8(&self.socket.unread()[..head_len])?;
        let good = head.split(' ').nth(1).is_some_and(|status| status == "200");
        let len = head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .with_context(|| format!("{operation}: an answer without a length: {head}"))?
            .1
            .trim()
            .parse::<usize>()?;
        self.socket.fill(head_len + len)?;
        self.body.clear();
        let whole = &self.socket.unread()[head_len..head_len + len];
        self.body.extend_from_slice(whole);
        self.socket.take(head_len + len);
        if !good {
            bail!("{operation}: {}", String::from_utf8_lossy(&self.body));
        }
        Ok(&self.body)
    }
}

/// The connections of one thread.
pub(crate) struct Fleet(Vec<Aws>);

impl Fleet {
    pub(crate) fn connect(
        address: SocketAddr,
        service: Service,
        count: usize,
    ) -> anyhow::Result<Self> {
        let connections = (0..count).map(|_| Aws::connect(address, service));
        Ok(Self(connections.collect::<anyhow::Result<_>>()?))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// One request on each of the first connections, then their answers, in the same order.
    pub(crate) fn round<B: AsRef<[u8]>>(
        &mut self,
        operation: &str,
        bodies: &[B],
        mut see: impl FnMut(usize, &[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        ensure!(bodies.len() <= self.0.len(), "one request a connection");
        for (connection, body) in self.0.iter_mut().zip(bodies) {
            connection.ask(operation, body.as_ref())?;
        }
        for (at, connection) in self.0.iter_mut().take(bodies.len()).enumerate() {
            see(at, connection.answer(operation)?)?;
        }
        Ok(())
    }
}

fn keyed(key: &[u8]) -> anyhow::Result<Signature> {
    Ok(Signature::new_from_slice(key)?)
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)]));
    digits.map(char::from).collect()
}

/// A moment as `YYYYMMDDTHHMMSSZ`.
fn amz_date(seconds: u64) -> String {
    let (mut days, rest) = (seconds / 86_400, seconds % 86_400);
    let mut year = 1970;
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    loop {
        let len = 365 + u64::from(leap(year));
        if days < len {
            break;
        }
        days -= len;
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for len in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < len {
            break;
        }
        days -= len;
        month += 1;
    }
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!(
        "{year:04}{month:02}{:02}T{hour:02}{minute:02}{second:02}Z",
        days + 1
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, date) in [
            (0, "19700101T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (1_709_251_199, "20240229T235959Z"),
            (1_735_689_600, "20250101T000000Z"),
        ] {
            assert_eq!(amz_date(seconds), date);
        }
    }
}
