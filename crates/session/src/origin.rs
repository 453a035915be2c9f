//! Hosts as browsers write them, in `Origin` and `Host`: for the doors that must not let in every page that somebody looks at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The host of `host:port`, without the brackets of an IPv6 address.
#[must_use]
pub fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(host, _)| host),
        None => authority
            .split_once(':')
            .map_or(authority, |(host, _)| host),
    }
}

/// The address that a host is, if it is no name.
#[must_use]
pub fn address_of_host(host: &str) -> Option<IpAddr> {
    let v4 = host.parse::<Ipv4Addr>().map(IpAddr::V4);
    v4.or_else(|_| host.parse::<Ipv6Addr>().map(IpAddr::V6))
        .ok()
}

/// Whether a host is this machine wherever it is said: a loopback address, or a name that stands for one (RFC 6761, 6.3).
#[must_use]
pub fn is_loopback_host(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    host == "localhost"
        || host.ends_with(".localhost")
        || address_of_host(&host).is_some_and(|it| it.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_authorities() {
        for (authority, host) in [
            ("a.example:80", "a.example"),
            ("a.example", "a.example"),
            ("[::1]:80", "::1"),
            ("[::1", "::1"),
            ("", ""),
        ] {
            assert_eq!(host_of(authority), host, "{authority}");
        }
    }

    #[test]
    fn this_machine_has_several_names() {
        for host in [
            "localhost",
            "LocalHost.",
            "app.localhost",
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "::ffff:127.0.0.1",
        ] {
            assert!(is_loopback_host(host), "{host}");
        }
        for host in ["", "localhost.example", "notlocalhost", "10.0.0.1", "::2"] {
            assert!(!is_loopback_host(host), "{host}");
        }
    }
}
