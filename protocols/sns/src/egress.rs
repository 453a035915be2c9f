//! Where endpoints may be: who may subscribe names any URL, and the broker must not become their way into a private network.
//!
//! A rule is `SCHEME://HOST` or `SCHEME://HOST:PORT`: the host is a name, an address, `*`, or `*.` and a domain; the port a number or
//! `*`; without one, any port. A target must match a rule. Addresses that are not of the public internet (loopback, private,
//! link-local and with it the metadata services of clouds, and all other special ones) are allowed only by a rule whose host is written
//! out: `http://127.0.0.1:*`, `http://intranet.example.org`. What counts is the address that is connected to, not the name.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use session::is_loopback_host;

/// A URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// It is `https`.
    pub is_tls: bool,
    /// The host, in lower case; an IPv6 address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Path and query.
    pub path: String,
}

impl Target {
    /// Reads a URL. `None`: it is none of `http` or `https`, or says who visits it.
    #[must_use]
    pub fn read(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let is_tls = match scheme {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let rest = rest.split('#').next()?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (host, port) = host_and_port(authority)?;
        if host.is_empty() || authority.contains('@') || is_odd_address(host) {
            return None;
        }
        let port = match port {
            Some(port) => port.parse().ok().filter(|port| *port > 0)?,
            None if is_tls => 443,
            None => 80,
        };
        if !url.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        Some(Self {
            is_tls,
            host: host.to_ascii_lowercase(),
            port,
            path: format!("{slash}{path}"),
        })
    }

    /// The header `Host`.
    #[must_use]
    pub fn host_header(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        match (self.is_tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

/// A URL without the user and the password in it, and these as they stand there.
pub(crate) fn without_login(url: &str) -> (String, Option<&str>) {
    let parted = url.split_once("://").and_then(|(scheme, rest)| {
        let authority = rest.find(['/', '?', '#']).map_or(rest, |end| &rest[..end]);
        let (login, host) = authority.rsplit_once('@')?;
        let behind = &rest[authority.len()..];
        Some((format!("{scheme}://{host}{behind}"), login))
    });
    match parted {
        Some((url, login)) => (url, Some(login)),
        None => (url.to_owned(), None),
    }
}

/// A URL as it is shown: with asterisks for the password in it, as AWS has them.
pub(crate) fn without_password(url: &str) -> Cow<'_, str> {
    let (bare, login) = without_login(url);
    let user = login.and_then(|login| login.split_once(':'));
    match (user, bare.split_once("://")) {
        (Some((user, _)), Some((scheme, rest))) => format!("{scheme}://{user}:****@{rest}").into(),
        _ => url.into(),
    }
}

/// Whether a host is an IPv4 address in a spelling that systems read and nobody expects: `127.1`, `0x7f.1`, `2130706433`. No name ends with
/// a number.
fn is_odd_address(host: &str) -> bool {
    let last = host.trim_end_matches('.').rsplit('.').next();
    let last = last.unwrap_or_default().to_ascii_lowercase();
    let is_number = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit())
        || last
            .strip_prefix("0x")
            .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    is_number && host.parse::<IpAddr>().is_err()
}

/// Host and port of an authority, the port as text.
fn host_and_port(authority: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, behind) = rest.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        return match behind.strip_prefix(':') {
            Some(port) => Some((host, Some(port))),
            None if behind.is_empty() => Some((host, None)),
            None => None,
        };
    }
    match authority.split_once(':') {
        Some((host, port)) if !port.contains(':') => Some((host, Some(port))),
        Some(_) => None,
        None => Some((authority, None)),
    }
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    is_tls: bool,
    host: Host,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Any,
    Under(String),
    Exact(String),
}

impl Rule {
    fn read(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let is_tls = match scheme {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let (host, port) = host_and_port(authority)?;
        let host = host.to_ascii_lowercase();
        let legal = |it: &str| {
            let byte = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
            !it.is_empty() && it.bytes().all(byte)
        };
        let host = match host.strip_prefix("*.") {
            _ if host == "*" => Host::Any,
            Some(domain) if legal(domain) => Host::Under(format!(".{domain}")),
            None if legal(&host) => Host::Exact(host),
            _ => return None,
        };
        let port = match port {
            None | Some("*") => None,
            Some(port) => Some(port.parse().ok().filter(|port| *port > 0)?),
        };
        Some(Self { is_tls, host, port })
    }

    fn matches(&self, target: &Target) -> bool {
        self.is_tls == target.is_tls
            && self.port.is_none_or(|port| port == target.port)
            && match &self.host {
                Host::Any => true,
                Host::Under(domain) => target.host.ends_with(domain.as_str()),
                Host::Exact(host) => *host == target.host,
            }
    }
}

/// The operator's rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Egress(Vec<Rule>);

impl Egress {
    /// Reads rules; the one that is none is the error.
    pub fn read<'a>(rules: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let rules = rules
            .into_iter()
            .map(|text| Rule::read(text).ok_or_else(|| text.to_owned()));
        Ok(Self(rules.collect::<Result<_, _>>()?))
    }

    /// Whether a target may be reached as far as its text tells: what a name leads to is known when it is connected to, but for the
    /// names of this machine.
    #[must_use]
    pub fn may_allow(&self, target: &Target) -> bool {
        match target.host.parse() {
            Ok(address) => self.allows(target, address),
            Err(_) if is_loopback_host(&target.host) => {
                self.allows(target, Ipv4Addr::LOCALHOST.into())
            }
            Err(_) => self.0.iter().any(|rule| rule.matches(target)),
        }
    }

    /// Whether a target may be reached at an address.
    #[must_use]
    pub fn allows(&self, target: &Target, address: IpAddr) -> bool {
        let public = is_public(address);
        self.0
            .iter()
            .any(|rule| rule.matches(target) && (public || matches!(rule.host, Host::Exact(_))))
    }
}

/// Whether an address is one of the public internet.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || address.is_documentation()
        || a == 0
        || a >= 240
        // Shared by carriers, IETF protocols, relays, benchmarks.
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19)))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    // What carries an IPv4 address is as public as that: mapped, translated (NAT64), 6to4.
    let segments = address.segments();
    let v4 = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] => false,
        // Global unicast is 2000::/3; everything else is special.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn egress(rules: &[&str]) -> Egress {
        Egress::read(rules.iter().copied()).expect("rules")
    }

    fn allows(rules: &[&str], url: &str, address: &str) -> bool {
        let target = Target::read(url).expect("a URL");
        egress(rules).allows(&target, address.parse().expect("an address"))
    }

    #[test]
    fn a_password_is_not_shown() {
        for (url, shown) in [
            ("https://ann:secret@h/x", "https://ann:****@h/x"),
            ("http://a:b:c@d@h:8080?x=@y", "http://a:****@h:8080?x=@y"),
            ("https://:secret@h", "https://:****@h"),
            ("https://ann@h/x", "https://ann@h/x"),
            ("https://h:80/a:b@c", "https://h:80/a:b@c"),
            ("ann:x@example.org", "ann:x@example.org"),
        ] {
            assert_eq!(without_password(url), shown, "{url}");
        }
    }

    #[test]
    fn wildcards_reach_public_addresses_only() {
        let all = &["http://*", "https://*"];
        assert!(allows(all, "https://example.org/x", "93.184.216.34"));
        assert!(allows(all, "http://example.org:8080", "2606:2800:220:1::1"));
        for special in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:db8::1",
        ] {
            assert!(
                !allows(all, "http://rebound.example.org/", special),
                "{special}"
            );
        }
    }

    #[test]
    fn the_names_of_this_machine_are_no_names_of_the_internet() {
        let may = |rules: &[&str], url: &str| {
            let target = Target::read(url).expect("a URL");
            egress(rules).may_allow(&target)
        };
        let all = &["http://*", "https://*"];
        for own in [
            "http://localhost/",
            "http://LocalHost.:8080/",
            "https://app.localhost/",
            "http://127.0.0.1/",
            "http://[::1]/",
        ] {
            assert!(!may(all, own), "{own}");
        }
        assert!(may(all, "http://localhost.example.org/"));
        assert!(may(&["http://localhost:8080"], "http://localhost:8080/x"));
        assert!(!may(&["http://localhost:8080"], "http://localhost/x"));
    }

    #[test]
    fn a_host_that_is_written_out_may_be_private() {
        let rules = &[
            "http://127.0.0.1:*",
            "https://intranet.example.org:8443",
            "http://[::1]",
        ];
        assert!(allows(rules, "http://127.0.0.1:9999/", "127.0.0.1"));
        assert!(allows(rules, "http://[::1]:9999/", "::1"));
        assert!(allows(
            rules,
            "https://INTRANET.example.org:8443/a?b",
            "10.0.0.7"
        ));
        assert!(!allows(rules, "https://intranet.example.org/", "10.0.0.7"));
        assert!(!allows(rules, "https://127.0.0.1:9999/", "127.0.0.1"));
        assert!(!allows(rules, "http://localhost/", "127.0.0.1"));
        let domain = &["https://*.example.org"];
        assert!(allows(domain, "https://a.b.example.org/", "93.184.216.34"));
        assert!(!allows(domain, "https://example.org/", "93.184.216.34"));
        assert!(!allows(domain, "https://badexample.org/", "93.184.216.34"));
    }

    #[test]
    fn urls_and_rules_that_are_none_are_told() {
        for bad in [
            "ftp://example.org",
            "http://",
            "http://user@example.org/",
            "http://example.org:0/",
            "http://example.org:99999/",
            "http://a:b:c/",
            "http://[::1/",
            "http://exa mple.org/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f.0.0.1/",
            "http://a.0x7f/",
            "http://127.0.0.1./",
        ] {
            assert_eq!(Target::read(bad), None, "{bad}");
        }
        for bad in [
            "*",
            "example.org",
            "http://",
            "http://a*b",
            "http://a:x",
            "http://*:0",
        ] {
            assert_eq!(Egress::read([bad]), Err(bad.to_owned()));
        }
        let target = Target::read("http://Example.org?x=1#y").expect("a URL");
        assert_eq!(
            (&target.host[..], target.port, &target.path[..]),
            ("example.org", 80, "/?x=1")
        );
    }
}
