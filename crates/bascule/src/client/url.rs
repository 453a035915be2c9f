//! Where a client connects, and what it names there: `scheme://[user[:password]@]host[:port][/path][?vhost=name]`.
//!
//! User, password, path and virtual host are percent-decoded (RFC 3986, 2.1). There are no fragments: `#` stands for itself,
//! because MQTT filters end with it.

use std::{fmt, str::FromStr};

/// User and password.
pub(crate) type Login = (String, String);

/// Which protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Mqtt,
    Amqp,
    Stomp,
}

/// A parsed URL.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Url {
    pub(super) scheme: Scheme,
    pub(super) login: Option<Login>,
    pub(super) host: String,
    pub(super) port: u16,
    /// With its leading slash; empty when there is none.
    pub(super) path: String,
    pub(super) vhost: Option<String>,
}

impl fmt::Debug for Url {
    /// Without the login.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} {}:{}{}",
            self.scheme, self.host, self.port, self.path
        )
    }
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or("a URL is mqtt://, amqp:// or stomp://, then host and path")?;
        let (scheme, port) = match scheme {
            "mqtt" => (Scheme::Mqtt, 1883),
            "amqp" => (Scheme::Amqp, 5672),
            "stomp" => (Scheme::Stomp, 61613),
            "mqtts" | "amqps" | "stomps" | "stomp+ssl" => {
                return Err("TLS is not implemented in this client".to_owned());
            }
            other => return Err(format!("{other:?} is not mqtt, amqp or stomp")),
        };
        let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (path, query) = match rest.rsplit_once("?vhost=") {
            Some((path, vhost)) => (path, Some(vhost)),
            None => (rest, None),
        };
        let (login, host, port) = self::authority(authority, port)?;
        Ok(Self {
            scheme,
            login,
            host,
            port,
            path: decode(path)?,
            vhost: query.map(decode).transpose()?,
        })
    }
}

/// `[user[:password]@]host[:port]`: the login, the host and the port.
pub(super) fn authority(text: &str, default: u16) -> Result<(Option<Login>, String, u16), String> {
    let (login, place) = match text.rsplit_once('@') {
        Some((login, place)) => (Some(login), place),
        None => (None, text),
    };
    let login = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
        Some((user, password)) => Some((decode(user)?, decode(password)?)),
        None => None,
    };
    let (host, port) = split_port(place, default)?;
    Ok((login, host, port))
}

fn split_port(place: &str, default: u16) -> Result<(String, u16), String> {
    let (host, port) = match place.strip_prefix('[') {
        // RFC 3986, 3.2.2: an IPv6 address stands in brackets.
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or("a ] is missing")?;
            (host, rest.strip_prefix(':'))
        }
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    if host.is_empty() {
        return Err("the host is missing".to_owned());
    }
    let port = match port {
        None => default,
        Some(port) => port
            .parse()
            .map_err(|_| format!("{port:?} is not a port"))?,
    };
    Ok((host.to_owned(), port))
}

fn decode(text: &str) -> Result<String, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(bytes.next()), digit(bytes.next())) else {
            return Err(format!("{text:?}: two hexadecimal digits must follow a %"));
        };
        out.push((high << 4 | low) as u8);
    }
    String::from_utf8(out).map_err(|_| format!("{text:?} is not UTF-8 after decoding"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().expect(text)
    }

    #[test]
    fn parts_are_found() {
        let plain = url("mqtt://localhost/sensors/+/#");
        assert_eq!(
            (plain.scheme, &*plain.host, plain.port),
            (Scheme::Mqtt, "localhost", 1883)
        );
        assert_eq!(
            (&*plain.path, plain.login, plain.vhost),
            ("/sensors/+/#", None, None)
        );
        let full = url("amqp://a%40b:p%3A%2Fw@[::1]:99/queue/a%2Fb?vhost=%2Ftest");
        assert_eq!(full.login, Some(("a@b".to_owned(), "p:/w".to_owned())));
        assert_eq!(
            (&*full.host, full.port, &*full.path),
            ("::1", 99, "/queue/a/b")
        );
        assert_eq!(full.vhost.as_deref(), Some("/test"));
        assert_eq!(
            url("stomp://u@h").login,
            Some(("u".to_owned(), String::new()))
        );
        assert_eq!(url("mqtt://h/what?").path, "/what?");
        assert!(!format!("{:?}", url("mqtt://u:secret@h/t")).contains("secret"));
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for text in [
            "localhost",
            "http://h/",
            "mqtts://h/",
            "mqtt:///t",
            "mqtt://h:port/",
            "mqtt://[::1/t",
            "mqtt://h/%2",
            "mqtt://h/%ff",
        ] {
            assert!(text.parse::<Url>().is_err(), "{text}");
        }
    }
}
