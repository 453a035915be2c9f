//! The JSON protocol of SQS and Kinesis over HTTP/1.1, each request signed (Signature Version 4), as far as it is measured.

use std::{
    net::SocketAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, ensure};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use super::{Socket, wait};
use crate::served::Served;

/// How a service is called: its name, what comes before the operation in `X-Amz-Target`, and the type of its bodies.
pub(crate) type Service = (&'static str, &'static str, &'static str);

pub(crate) const SQS: Service = ("sqs", "AmazonSQS", "application/x-amz-json-1.0");
pub(crate) const KINESIS: Service = ("kinesis", "Kinesis_20131202", "application/x-amz-json-1.1");

/// One connection.
pub(crate) struct Aws {
    socket: Socket,
    host: SocketAddr,
    service: Service,
}

impl Aws {
    pub(crate) fn connect(served: &Served, service: Service) -> anyhow::Result<Self> {
        Ok(Self {
            socket: Socket::connect(served.aws)?,
            host: served.aws,
            service,
        })
    }

    /// One request and the body of its answer, uncounted.
    pub(crate) fn call(
        &mut self,
        served: &mut Served,
        operation: &str,
        body: &str,
    ) -> anyhow::Result<String> {
        self.ask(operation, body)?;
        wait(served, || self.answer())
    }

    /// Writes a signed request.
    pub(crate) fn ask(&mut self, operation: &str, body: &str) -> anyhow::Result<()> {
        let (name, target, kind) = self.service;
        let host = self.host;
        let date = date(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs());
        let scope = format!("{}/us-east-1/{name}/aws4_request", &date[..8]);
        let hash = hex(&Sha256::digest(body.as_bytes()));
        let signed = "content-type;host;x-amz-date;x-amz-target";
        let canonical = format!(
            "POST\n/\n\ncontent-type:{kind}\nhost:{host}\nx-amz-date:{date}\nx-amz-target:{target}.{operation}\n\n{signed}\n{hash}"
        );
        let hash = hex(&Sha256::digest(canonical.as_bytes()));
        let mut key = b"AWS4guest".to_vec();
        let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{hash}");
        for part in [&date[..8], "us-east-1", name, "aws4_request", &text] {
            let mut step = Hmac::<Sha256>::new_from_slice(&key)?;
            step.update(part.as_bytes());
            key = step.finalize().into_bytes().to_vec();
        }
        let signature = hex(&key);
        let request = format!(
            "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\nX-Amz-Date: {date}\r\nX-Amz-Target: {target}.{operation}\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=guest/{scope}, SignedHeaders={signed}, Signature={signature}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.socket.say(request.as_bytes())
    }

    /// The body of the answer, if it has come; it must be good.
    pub(crate) fn answer(&mut self) -> anyhow::Result<Option<String>> {
        self.socket.pump()?;
        let unread = self.socket.unread();
        let Some(end) = unread.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Ok(None);
        };
        let head = std::str::from_utf8(&unread[..end])?.to_ascii_lowercase();
        let len: usize = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .context("an answer has a length")?
            .trim()
            .parse()?;
        if unread.len() < end + 4 + len {
            return Ok(None);
        }
        let good = head.split(' ').nth(1) == Some("200");
        let body = self.socket.take(end + 4 + len).split_off(end + 4);
        let body = String::from_utf8(body)?;
        ensure!(good, "{head}\n{body}");
        Ok(Some(body))
    }
}

/// The strings under that key, in order. Ours hold nothing that JSON escapes.
pub(crate) fn strings<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let key = format!("\"{key}\":\"");
    let values = text.split(key.as_str()).skip(1);
    values.filter_map(|rest| rest.split('"').next()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A moment as `YYYYMMDDTHHMMSSZ`: the civil calendar counted in eras of 400 years from the first of March.
fn date(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, year) = if month < 10 {
        (month + 3, era * 400 + year)
    } else {
        (month - 9, era * 400 + year + 1)
    };
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "19700101T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (1_709_251_199, "20240229T235959Z"),
            (1_735_689_600, "20250101T000000Z"),
        ] {
            assert_eq!(date(seconds), text);
        }
    }

    #[test]
    fn strings_are_found_in_order() {
        let text = r#"{"A":[{"K":"one"},{"K":"two","L":"no"}]}"#;
        assert_eq!(strings(text, "K"), ["one", "two"]);
    }
}
