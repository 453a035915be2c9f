//! Whether a request may become a WebSocket: RFC 6455, 4.2.1, and the origin rule.
//!
//! A browser lets every page open a WebSocket to every host, and says only in `Origin` whose page it is. So a page may do it
//! if the configuration lists it, or, when nothing is listed, if it was served from here (its origin is our `Host`) or from
//! this machine. Programs send no `Origin` and are always let in. One exception: a page whose *name* was pointed at a loopback
//! address (DNS rebinding) looks as if it were served from here; so a peer that comes from loopback is not trusted for
//! saying the same foreign name twice.

use hyper::{
    HeaderMap, Method, Request, StatusCode, Version,
    header::{self, HeaderName},
};
use session::{Peer, address_of_host, host_of, is_loopback_host};

use super::{Answer, set, text};

/// Whose pages may open a WebSocket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origins {
    /// Pages served from here or from this machine.
    #[default]
    Own,
    /// These, as browsers write them: `https://example.com`, `http://example.com:8080`.
    Listed(Vec<String>),
    /// Every page.
    Any,
}

impl Origins {
    /// From the configuration: an empty list is [`Origins::Own`], `*` alone is [`Origins::Any`]. `Err` is the entry that no browser
    /// would ever send.
    pub fn from_list(list: &[String]) -> Result<Self, String> {
        match list {
            [] => return Ok(Self::Own),
            [all] if all == "*" => return Ok(Self::Any),
            _ => {}
        }
        let origins = list.iter().map(|entry| entry.to_ascii_lowercase());
        let origins: Vec<String> = origins.collect();
        match origins.iter().position(|origin| !is_origin(origin)) {
            Some(at) => Err(list[at].clone()),
            None => Ok(Self::Listed(origins)),
        }
    }

    fn allow(&self, origin: &str, host: &str, peer: &Peer) -> bool {
        let origin = origin.to_ascii_lowercase();
        match self {
            Self::Any => true,
            Self::Listed(list) => list.contains(&origin),
            Self::Own => {
                let Some((scheme, authority)) = origin.split_once("://") else {
                    return false; // "null": a sandboxed page or a file
                };
                if is_loopback_host(host_of(authority)) {
                    return true;
                }
                let port = if scheme == "https" { ":443" } else { ":80" };
                let host = host.to_ascii_lowercase();
                let same = authority.strip_suffix(port).unwrap_or(authority)
                    == host.strip_suffix(port).unwrap_or(&host);
                let rebound = peer.address.ip().to_canonical().is_loopback()
                    && address_of_host(host_of(&host)).is_none();
                same && !rebound
            }
        }
    }
}

/// Whether a browser could say so, in small letters (RFC 6454, 6.2): a scheme, a host, and a port unless it is the scheme's own.
fn is_origin(text: &str) -> bool {
    let Some((scheme, authority)) = text.split_once("://") else {
        return false;
    };
    let host = host_of(authority);
    let in_brackets = authority.starts_with('[');
    let brackets = if in_brackets { 2 } else { 0 };
    let port = authority.get(host.len() + brackets..).unwrap_or("?");
    let usual = match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    let port_is_said = |port: &str| port.parse().is_ok_and(|port: u16| Some(port) != usual);
    let is_name = |host: &str| {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        !host.is_empty() && host.bytes().all(legal)
    };
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let is_host = if in_brackets {
        address_of_host(host).is_some_and(|it| it.is_ipv6())
    } else {
        is_name(host)
    };
    is_scheme && is_host && (port.is_empty() || port.strip_prefix(':').is_some_and(port_is_said))
}

/// The key of a request that may be upgraded, else the answer to it.
pub(super) fn check<'a, B>(
    request: &'a Request<B>,
    origins: &Origins,
    peer: &Peer,
) -> Result<&'a str, Box<Answer>> {
    let headers = request.headers();
    // RFC 6455, 4.2.1: GET, HTTP/1.1 or higher, Upgrade, Connection
    if *request.method() != Method::GET
        || request.version() < Version::HTTP_11
        || !lists(headers, header::UPGRADE, "websocket")
        || !lists(headers, header::CONNECTION, "upgrade")
    {
        let mut answer = text(
            StatusCode::UPGRADE_REQUIRED,
            "this is a WebSocket endpoint; health is under /health, metrics under /metrics",
        );
        set(&mut answer, header::UPGRADE, "websocket");
        set(&mut answer, header::CONNECTION, "Upgrade");
        return Err(answer.into());
    }
    // RFC 6455, 4.4: a version that we do not speak is answered with the one that we do
    if one(headers, header::SEC_WEBSOCKET_VERSION) != Some("13") {
        let mut answer = text(
            StatusCode::UPGRADE_REQUIRED,
            "only WebSocket version 13 is spoken here",
        );
        set(&mut answer, header::SEC_WEBSOCKET_VERSION, "13");
        return Err(answer.into());
    }
    let bad = |words| Box::new(text(StatusCode::BAD_REQUEST, words));
    let key = one(headers, header::SEC_WEBSOCKET_KEY)
        .filter(|key| is_key(key))
        .ok_or_else(|| bad("Sec-WebSocket-Key is missing or not 16 bytes in base64"))?;
    let host = one(headers, header::HOST).ok_or_else(|| bad("Host is missing"))?;
    if headers.contains_key(header::ORIGIN) {
        let origin = one(headers, header::ORIGIN);
        if !origin.is_some_and(|origin| origins.allow(origin, host, peer)) {
            tracing::info!(
                peer = %peer.address, ?origin,
                "refused a WebSocket to a page of another origin"
            );
            return Err(Box::new(text(
                StatusCode::FORBIDDEN,
                "pages of this origin are not allowed here; list it in `websocket.origins`",
            )));
        }
    }
    Ok(key)
}

/// All subprotocols offered, in order, as one list (RFC 6455, 11.3.4: the header may be repeated).
pub(super) fn protocols(headers: &HeaderMap) -> Option<String> {
    let lines: Vec<_> = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .collect();
    (!lines.is_empty()).then(|| lines.join(", "))
}

/// The value of a header that stands there once.
fn one(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// Whether a header that is a list names `token`.
fn lists(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .any(|item| item.trim().eq_ignore_ascii_case(token))
}

/// Base64 of 16 bytes: 22 digits and two signs of equality.
fn is_key(key: &str) -> bool {
    key.strip_suffix("==").is_some_and(|digits| {
        digits.len() == 22
            && digits
                .bytes()
                .all(|it| it.is_ascii_alphanumeric() || it == b'+' || it == b'/')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str) -> Peer {
        Peer {
            address: address.parse().expect("an address"),
            listener: "http",
            default_vhost: "/".into(),
        }
    }

    #[test]
    fn doors_28_pages_of_other_origins_are_kept_out() {
        let (near, far) = (peer("127.0.0.1:5"), peer("10.0.0.9:5"));
        let own = Origins::Own;
        for (origin, host, peer, allowed) in [
            ("http://broker.lan:8161", "broker.lan:8161", &far, true),
            ("HTTP://Broker.LAN:8161", "broker.lan:8161", &far, true),
            ("https://broker.lan", "broker.lan", &far, true),
            ("https://broker.lan", "broker.lan:443", &far, true),
            ("http://broker.lan:81", "broker.lan:8161", &far, false),
            ("http://evil.example", "broker.lan:8161", &far, false),
            ("null", "broker.lan:8161", &far, false),
            ("http://localhost:3000", "broker.lan:8161", &far, true),
            ("http://app.localhost", "127.0.0.1:8161", &near, true),
            ("http://127.0.0.1:9000", "127.0.0.1:8161", &near, true),
            ("http://[::1]:9000", "[::1]:8161", &near, true),
            (
                "http://localhost.evil.example",
                "localhost:8161",
                &near,
                false,
            ),
            (
                "http://127.0.0.1.evil.example",
                "localhost:8161",
                &near,
                false,
            ),
            // the name of a foreign page, pointed at us
            (
                "http://evil.example:8161",
                "evil.example:8161",
                &near,
                false,
            ),
        ] {
            assert_eq!(own.allow(origin, host, peer), allowed, "{origin} at {host}");
        }
    }

    #[test]
    fn doors_28_listed_origins_are_the_only_ones() {
        let list = Origins::from_list(&["https://Console.example".to_owned()]);
        let list = list.expect("an origin");
        let near = peer("127.0.0.1:5");
        assert!(list.allow("https://console.example", "x", &near));
        assert!(!list.allow("http://console.example", "x", &near));
        assert!(!list.allow("http://localhost", "localhost", &near));
        assert_eq!(Origins::from_list(&["*".to_owned()]), Ok(Origins::Any));
        assert_eq!(Origins::from_list(&[]), Ok(Origins::Own));
        for right in [
            "http://example.com:8080",
            "https://[2001:DB8::1]:8443",
            "chrome-extension://abcdef",
            "capacitor://localhost",
        ] {
            let list = Origins::from_list(&[right.to_owned()]).expect(right);
            assert!(list.allow(right, "x", &near), "{right}");
        }
        for wrong in [
            "example.com",
            "https://",
            "://example.com",
            "https://example.com/",
            "https://example.com:443",
            "http://example.com:0x50",
            "http://example.com:",
            "https://*.example.com",
            "https://müller.example",
            "https://ann@example.com",
            "https://exa mple.com",
            "https://[::g]",
            "https://[::1",
            "https://[a.example]",
            "null",
        ] {
            assert_eq!(
                Origins::from_list(&[wrong.to_owned()]),
                Err(wrong.to_owned())
            );
        }
        // Who lets all in needs no others.
        let both = ["https://example.com".to_owned(), "*".to_owned()];
        assert_eq!(Origins::from_list(&both), Err("*".to_owned()));
    }

    #[test]
    fn a_key_is_sixteen_bytes_in_base64() {
        assert!(is_key("dGhlIHNhbXBsZSBub25jZQ=="));
        for wrong in [
            "",
            "==",
            "dGhlIHNhbXBsZSBub25jZQ=",
            "dGhlIHNhbXBsZSBub25!ZQ==",
        ] {
            assert!(!is_key(wrong), "{wrong}");
        }
    }
}
