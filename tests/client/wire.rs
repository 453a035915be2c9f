//! Requests of the AWS protocols written by hand: JSON, CBOR, and event streams as their bytes come.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use anyhow::{Context as _, ensure};
use message::base64;
use serde_json::{Value as Json, json};

use super::dial;

/// A client of a service in JSON 1.1, over one connection. Nothing is signed: the server takes what comes.
pub(crate) struct Wire {
    stream: BufReader<TcpStream>,
    service: &'static str,
    target: &'static str,
}

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) body: Vec<u8>,
}

impl Wire {
    pub(crate) fn kinesis(address: SocketAddr) -> Self {
        Self {
            stream: BufReader::new(dial(address)),
            service: "kinesis",
            target: "Kinesis_20131202",
        }
    }

    /// SQS takes JSON of any version.
    pub(crate) fn sqs(address: SocketAddr) -> Self {
        Self {
            stream: BufReader::new(dial(address)),
            service: "sqs",
            target: "AmazonSQS",
        }
    }

    /// What an operation answers; a refusal is an error.
    pub(crate) fn call(&mut self, operation: &str, input: &Json) -> anyhow::Result<Json> {
        let answer = self.json(operation, input)?;
        let body = String::from_utf8_lossy(&answer.body);
        ensure!(
            answer.status == 200,
            "{operation} {input}: {} {body}",
            answer.status
        );
        if answer.body.is_empty() {
            return Ok(json!({}));
        }
        Ok(serde_json::from_slice(&answer.body)?)
    }

    /// The status, the code and the message that an operation is refused with.
    pub(crate) fn refusal(
        &mut self,
        operation: &str,
        input: &Json,
    ) -> anyhow::Result<(u16, String, String)> {
        let answer = self.json(operation, input)?;
        let body: Json = serde_json::from_slice(&answer.body)?;
        let word = |name: &str| body[name].as_str().map(str::to_owned);
        let message = word("message").or_else(|| word("Message"));
        Ok((
            answer.status,
            word("__type").context("a type")?,
            message.unwrap_or_default(),
        ))
    }

    fn json(&mut self, operation: &str, input: &Json) -> anyhow::Result<Answer> {
        self.post(
            operation,
            "application/x-amz-json-1.1",
            input.to_string().as_bytes(),
        )
    }

    /// The same in any content type.
    pub(crate) fn post(
        &mut self,
        operation: &str,
        content_type: &str,
        body: &[u8],
    ) -> anyhow::Result<Answer> {
        let mut head = self.ask(operation, content_type, body)?;
        if let Some(len) = head.len {
            head.answer.body.resize(len, 0);
            self.stream.read_exact(&mut head.answer.body)?;
        } else {
            while let Some(part) = self.chunk()? {
                head.answer.body.extend(part);
            }
        }
        Ok(head.answer)
    }

    /// Asks for an event stream; the events are read one by one.
    pub(crate) fn subscribe(
        &mut self,
        operation: &str,
        input: &Json,
    ) -> anyhow::Result<Events<'_>> {
        let head = self.ask(
            operation,
            "application/x-amz-json-1.1",
            input.to_string().as_bytes(),
        )?;
        ensure!(head.answer.status == 200, "{:?}", head.answer);
        ensure!(
            head.answer.content_type == "application/vnd.amazon.eventstream",
            "{:?}",
            head.answer
        );
        ensure!(head.len.is_none(), "an event stream has no length");
        Ok(Events {
            wire: self,
            input: Vec::new(),
        })
    }

    fn ask(&mut self, operation: &str, content_type: &str, body: &[u8]) -> anyhow::Result<Head> {
        let Self {
            service, target, ..
        } = *self;
        let head = format!(
            "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nX-Amz-Target: {target}.{operation}\r\n\
             X-Amz-Date: 20260101T000000Z\r\nAuthorization: AWS4-HMAC-SHA256 Credential=guest/20260101/us-east-1/{service}/aws4_request, \
             SignedHeaders=host, Signature=00\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let socket = self.stream.get_mut();
        socket.write_all(head.as_bytes())?;
        socket.write_all(body)?;
        self.head()
    }

    fn head(&mut self) -> anyhow::Result<Head> {
        let first = self.line()?;
        let status = first.split(' ').nth(1).context("a status")?.parse()?;
        let mut head = Head {
            answer: Answer {
                status,
                content_type: String::new(),
                body: Vec::new(),
            },
            len: None,
        };
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(": ") else {
                return Ok(head);
            };
            match name.to_ascii_lowercase().as_str() {
                "content-type" => head.answer.content_type = value.to_owned(),
                "content-length" => head.len = Some(value.parse()?),
                _ => {}
            }
        }
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        ensure!(
            self.stream.read_line(&mut line)? > 0,
            "the connection has ended"
        );
        Ok(line.trim_end().to_owned())
    }

    /// A part of a body that comes in parts; nothing at its end.
    fn chunk(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        let line = self.line()?;
        let mut part = vec![0; usize::from_str_radix(&line, 16).context(line)?];
        self.stream.read_exact(&mut part)?;
        ensure!(self.line()?.is_empty(), "a part ends with its line");
        Ok((!part.is_empty()).then_some(part))
    }
}

struct Head {
    answer: Answer,
    /// `None`: it comes in parts.
    len: Option<usize>,
}

/// An event stream.
pub(crate) struct Events<'a> {
    wire: &'a mut Wire,
    input: Vec<u8>,
}

impl Events<'_> {
    /// The type and the content of the next event; nothing at the end.
    pub(crate) fn next(&mut self) -> anyhow::Result<Option<(String, Json)>> {
        let number = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0, |number, byte| number << 8 | usize::from(*byte))
        };
        loop {
            if self.input.len() >= 12 && self.input.len() >= number(&self.input[..4]) {
                break;
            }
            match self.wire.chunk()? {
                Some(part) => self.input.extend(part),
                None if self.input.is_empty() => return Ok(None),
                None => anyhow::bail!("it ends within an event"),
            }
        }
        let len = number(&self.input[..4]);
        let event: Vec<u8> = self.input.drain(..len).collect();
        let (headers_len, payload_end) = (number(&event[4..8]), len - 4);
        let mut headers = &event[12..12 + headers_len];
        let payload = &event[12 + headers_len..payload_end];
        let mut kind = String::new();
        while let Some((name_len, rest)) = headers.split_first() {
            let (name, rest) = rest.split_at(usize::from(*name_len));
            ensure!(rest[0] == 7, "headers are texts");
            let (value, rest) = rest[3..].split_at(number(&rest[1..3]));
            if name == b":event-type" || name == b":exception-type" {
                kind = String::from_utf8(value.to_vec())?;
            }
            headers = rest;
        }
        let content = if payload.is_empty() {
            Json::Null
        } else {
            serde_json::from_slice(payload)?
        };
        Ok(Some((kind, content)))
    }
}

/// Bytes as JSON has them.
pub(crate) fn blob(bytes: &[u8]) -> Json {
    json!(base64::encode(bytes))
}

/// And back.
pub(crate) fn from_blob(json: &Json) -> anyhow::Result<Vec<u8>> {
    let text = json.as_str().with_context(|| json.to_string())?;
    base64::decode(text.as_bytes()).context("base64")
}
