//! Whose page a browser sends a request for. A door that lets anybody in must not let in every page that its user looks at.
//!
//! A page can have its browser send requests to every host. In `Origin` the browser says whose page it is; with a plain GET, such
//! as for an image, it says in `Sec-Fetch-Site` only that it is another's. Programs send neither. The rule is that of WebSockets:
//! pages of this machine may, and those that were served from the host that they ask. One exception: a page whose *name* was
//! pointed at a loopback address (DNS rebinding) looks as if it were served from here; so a peer that comes from loopback is not
//! trusted for saying the same foreign name twice.

use std::net::IpAddr;

use http::{HeaderMap, header, request::Parts};
use session::{address_of_host, host_of, is_loopback_host};

/// Whether it is sent for a page that is neither of this machine nor of the host that it asks.
pub(super) fn is_foreign(head: &Parts, peer: IpAddr) -> bool {
    let mut origins = head.headers.get_all(header::ORIGIN).iter().peekable();
    if origins.peek().is_none() {
        // Who follows a link, of a mail for one, does so himself.
        let is_followed = is(&head.headers, "sec-fetch-user", "?1");
        return is(&head.headers, "sec-fetch-site", "cross-site") && !is_followed;
    }
    let host = head.headers.get(header::HOST);
    let host = host.and_then(|host| host.to_str().ok());
    // HTTP/2 has it in the URI.
    let host = host.or_else(|| head.uri.authority().map(http::uri::Authority::as_str));
    let host = host_of(host.unwrap_or_default());
    !origins.all(|origin| is_own(origin.to_str().unwrap_or_default(), host, peer))
}

fn is(headers: &HeaderMap, name: &str, value: &str) -> bool {
    headers.get(name).is_some_and(|it| it == value)
}

fn is_own(origin: &str, host: &str, peer: IpAddr) -> bool {
    let Some((_, authority)) = origin.split_once("://") else {
        return false; // "null": a sandboxed page or a file
    };
    let of = host_of(authority);
    let is_rebound = peer.to_canonical().is_loopback() && address_of_host(host).is_none();
    is_loopback_host(of) || (of.eq_ignore_ascii_case(host) && !is_rebound)
}
