//! One request over HTTP/1.1 to the admin API of a node, on a connection of its own (RFC 9112). Answers are JSON with a length.

use std::{fmt, str::FromStr, time::Instant};

use anyhow::{Context as _, anyhow, bail};
use message::base64;
use serde_json::Value;

use super::{
    transport::Transport,
    url::{Login, authority},
};

/// The port of the HTTP listener.
const PORT: u16 = 8161;
/// The longest answer that is read, in bytes.
const ANSWER_LEN_MAX: usize = 4 << 20;

/// Where the HTTP listener of a node is, and who asks: `http://[user[:password]@]host[:port]`, or without the scheme.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Without one it is `guest`.
    login: Option<Login>,
    host: String,
    port: u16,
}

impl fmt::Display for Endpoint {
    /// Without the login.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(f, "http://[{}]:{}", self.host, self.port);
        }
        write!(f, "http://{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = match text.split_once("://") {
            Some(("http", rest)) => rest.strip_suffix('/').unwrap_or(rest),
            Some((scheme, _)) => {
                return Err(format!(
                    "{scheme:?} is not http, which is all that is spoken"
                ));
            }
            None => text,
        };
        if rest.contains(['/', '?', '#']) {
            return Err(format!("{text:?} names more than a host and a port"));
        }
        let (login, host, port) = authority(rest, PORT)?;
        Ok(Self { login, host, port })
    }
}

impl Endpoint {
    /// The same with that login, unless it has one.
    pub(super) fn or_login(mut self, login: Option<&Login>) -> Self {
        self.login = self.login.or_else(|| login.cloned());
        self
    }

    /// Who asks, if that was said.
    pub(super) const fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }

    /// Asks, and waits for the answer until then: its status and its body.
    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        deadline: Instant,
    ) -> anyhow::Result<(u16, Value)> {
        let mut transport = Transport::connect(&self.host, self.port, Some(deadline))?;
        let (user, password) = match &self.login {
            Some((user, password)) => (&**user, &**password),
            None => ("guest", "guest"),
        };
        let login = base64::encode(format!("{user}:{password}").as_bytes());
        let host = self.to_string();
        let host = host.trim_start_matches("http://");
        transport.send(
            format!(
                "{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Basic {login}\r\n\
                 Content-Length: 0\r\nConnection: close\r\n\r\n"
            )
            .as_bytes(),
        )?;
        loop {
            if let Some(answer) = parse(&transport.input)? {
                return Ok(answer);
            }
            if transport.input.len() > ANSWER_LEN_MAX {
                bail!("the answer is longer than {ANSWER_LEN_MAX} bytes");
            }
            transport.fill()?;
        }
    }
}

/// The answer, once all of it is there.
fn parse(bytes: &[u8]) -> anyhow::Result<Option<(u16, Value)>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&bytes[..end]).context("what answers does not speak HTTP")?;
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1.1 "))
        .and_then(|rest| rest.get(..3)?.parse().ok())
        .ok_or_else(|| anyhow!("what answers does not speak HTTP/1.1"))?;
    let len: usize = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())
        .ok_or_else(|| anyhow!("the answer with status {status} has no length"))?;
    let body = &bytes[end + 4..];
    if body.len() < len {
        return Ok(None);
    }
    let body = serde_json::from_slice(&body[..len])
        .with_context(|| format!("the answer with status {status} is not JSON"))?;
    Ok(Some((status, body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_with_and_without_scheme_login_and_port() {
        for (text, shown, login) in [
            ("http://a.example", "http://a.example:8161", None),
            ("a.example:1", "http://a.example:1", None),
            ("http://[::1]:2/", "http://[::1]:2", None),
            (
                "http://ada:p%40ss@a:3",
                "http://a:3",
                Some(("ada".to_owned(), "p@ss".to_owned())),
            ),
        ] {
            let endpoint: Endpoint = text.parse().expect(text);
            assert_eq!(
                (endpoint.to_string(), endpoint.login),
                (shown.to_owned(), login)
            );
        }
        for text in ["https://a", "http://a/x", "http://", "a:b"] {
            text.parse::<Endpoint>().expect_err(text);
        }
    }

    #[test]
    fn an_answer_is_read_when_all_of_it_is_there() {
        let whole = b"HTTP/1.1 409 Conflict\r\ncontent-length: 9\r\n\r\n{\"a\":\"b\"}";
        for len in 0..whole.len() {
            assert_eq!(parse(&whole[..len]).expect("right so far"), None);
        }
        let (status, body) = parse(whole).expect("right").expect("whole");
        assert_eq!((status, &body["a"]), (409, &Value::from("b")));
        for wrong in [
            &b"SSH-2.0-x\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx",
        ] {
            parse(wrong).expect_err("wrong");
        }
    }
}
