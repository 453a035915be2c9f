//! The AWS door: requests over plain HTTP/1.1, signed here by the rule book and not by the server's own code.

use std::{
    fmt::Write as _,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::SystemTime,
};

use anyhow::{Context as _, bail};
use aws::digest::{hex, hmac_sha256, sha256};

use super::dial;

/// A client with a connection of its own, an access key and a region.
pub(crate) struct Aws {
    stream: BufReader<TcpStream>,
    address: SocketAddr,
    key: (String, String),
    region: String,
    /// What is added to the time of each request, in seconds.
    pub(crate) skew_s: i64,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct AwsAnswer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl AwsAnswer {
    /// The text of a member of flat JSON, wherever it stands.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let (_, rest) = self.body.split_once(&format!("\"{name}\":\""))?;
        rest.split('"').next()
    }
}

impl Aws {
    pub(crate) fn guest(address: SocketAddr) -> Self {
        Self::with(address, ("guest", "guest"), "us-east-1")
    }

    pub(crate) fn with(address: SocketAddr, (id, secret): (&str, &str), region: &str) -> Self {
        Self {
            stream: BufReader::new(dial(address)),
            address,
            key: (id.to_owned(), secret.to_owned()),
            region: region.to_owned(),
            skew_s: 0,
        }
    }

    /// An operation of `AmazonSQS` or `Kinesis_20131202`, in JSON.
    pub(crate) fn json(&mut self, target: &str, body: &str) -> anyhow::Result<AwsAnswer> {
        self.send(target, body)?;
        self.answer()
    }

    /// The same, well done.
    pub(crate) fn done(&mut self, target: &str, body: &str) -> anyhow::Result<AwsAnswer> {
        let answer = self.json(target, body)?;
        if answer.status != 200 {
            bail!("{target} {body}: {answer:?}");
        }
        Ok(answer)
    }

    /// Sends an operation and does not wait for its answer.
    pub(crate) fn send(&mut self, target: &str, body: &str) -> anyhow::Result<()> {
        let service = match target.split('.').next() {
            Some("AmazonSQS") => "sqs",
            _ => "kinesis",
        };
        let headers = [
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-target", target),
        ];
        self.request(service, &headers, body)
    }

    /// An operation of the query protocol.
    pub(crate) fn query(&mut self, service: &str, body: &str) -> anyhow::Result<AwsAnswer> {
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        self.request(service, &headers, body)?;
        self.answer()
    }

    fn request(
        &mut self,
        service: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> anyhow::Result<()> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let at = basic_time(now.as_secs().saturating_add_signed(self.skew_s));
        let host = self.address.to_string();
        let mut all = headers.to_vec();
        all.extend([("host", &*host), ("x-amz-date", &*at)]);
        all.sort_unstable();
        let mut canonical = String::from("POST\n/\n\n");
        let mut head = String::from("POST / HTTP/1.1\r\n");
        for (name, value) in &all {
            writeln!(canonical, "{name}:{value}")?;
            write!(head, "{name}: {value}\r\n")?;
        }
        let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        write!(canonical, "\n{names}\n{}", hex(&sha256(body.as_bytes())))?;
        let scope = format!("{}/{}/{service}/aws4_request", &at[..8], self.region);
        let text = format!(
            "AWS4-HMAC-SHA256\n{at}\n{scope}\n{}",
            hex(&sha256(canonical.as_bytes()))
        );
        let (id, secret) = &self.key;
        let mut signing = format!("AWS4{secret}").into_bytes();
        for part in scope.split('/') {
            signing = hmac_sha256(&signing, &[part.as_bytes()]).to_vec();
        }
        let signature = hex(&hmac_sha256(&signing, &[text.as_bytes()]));
        write!(
            head,
            "authorization: AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        )?;
        let stream = self.stream.get_mut();
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        Ok(())
    }

    pub(crate) fn answer(&mut self) -> anyhow::Result<AwsAnswer> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.stream.read_line(&mut head)? == 0 {
                bail!("the connection ended");
            }
        }
        let status = head.split(' ').nth(1).context("a status")?.parse()?;
        let len = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .context("a length")?
            .parse()?;
        let mut body = vec![0; len];
        self.stream.read_exact(&mut body)?;
        Ok(AwsAnswer {
            status,
            head,
            body: String::from_utf8(body)?,
        })
    }
}

/// `20150830T123600Z`.
fn basic_time(seconds: u64) -> String {
    // Days to a date, year by year: tests live in one century.
    let (mut days, rest) = (seconds / 86_400, seconds % 86_400);
    let is_leap = |year: u64| year.is_multiple_of(4);
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for len in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < len {
            break;
        }
        days -= len;
        month += 1;
    }
    format!(
        "{year:04}{month:02}{:02}T{:02}{:02}{:02}Z",
        days + 1,
        rest / 3_600,
        rest / 60 % 60,
        rest % 60
    )
}
