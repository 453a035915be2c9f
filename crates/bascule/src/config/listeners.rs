//! Where the doors are: one or several places, or `off`.
//!
//! | written | listens on |
//! |---|---|
//! | `"127.0.0.1:1883"`, `"[::]:1883"` | that address |
//! | `"localhost:1883"` | 127.0.0.1, and ::1 where the system has it: clients try either first |
//! | `"broker.example:1883"` | every address that the name has when the broker starts |
//! | `["10.0.0.1:1883", "localhost:1883"]` | all of them |
//! | `"off"` | none |

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use super::{ConfigError, Pair};

/// The name that is never looked up.
const LOCALHOST: &str = "localhost";

/// A place: a host and a port. Port 0 lets the system choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// An address.
    At(SocketAddr),
    /// The loopback addresses of both families.
    Loopback(u16),
    /// A name that is looked up at the start.
    Named(String, u16),
}

impl Place {
    /// 0: the system's choice.
    pub(crate) const fn port(&self) -> u16 {
        match self {
            Self::At(address) => address.port(),
            Self::Loopback(port) | Self::Named(_, port) => *port,
        }
    }

    /// The addresses that it is known to mean without looking anything up.
    fn addresses(&self) -> Vec<SocketAddr> {
        match self {
            Self::At(address) => vec![*address],
            Self::Loopback(port) => loopback(*port).to_vec(),
            Self::Named(..) => Vec::new(),
        }
    }
}

/// Both loopback addresses with a port; the second may not be there.
pub(crate) const fn loopback(port: u16) -> [SocketAddr; 2] {
    [
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port),
        SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port),
    ]
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return Ok(Self::At(address));
        }
        let named = text
            .rsplit_once(':')
            .and_then(|(host, port)| Some((host, port.parse().ok()?)));
        match named {
            Some((LOCALHOST, port)) => Ok(Self::Loopback(port)),
            Some((host, port)) if is_host_name(host) => Ok(Self::Named(host.to_owned(), port)),
            _ => Err(format!(
                "{text:?} is not a host and a port, such as \"localhost:1883\", \"0.0.0.0:1883\" or \"[::1]:1883\", nor \"off\""
            )),
        }
    }
}

impl Pair {
    /// Whether what it names are hosts.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let fault = |key, fault| Err(ConfigError::Value { key, fault });
        let host = &self.advertise;
        if !host.is_empty() && host.parse::<IpAddr>().is_err() && !is_host_name(host) {
            let words = format!(
                "{host:?} is not a host without a port, such as \"a.example\", \"10.0.0.1\" or \"2001:db8::1\""
            );
            return fault("pair.advertise", words);
        }
        if host.parse().is_ok_and(|ip: IpAddr| ip.is_unspecified()) {
            let words = format!("{host:?} is every address, and none that a client could go to");
            return fault("pair.advertise", words);
        }
        for peer in &self.peers {
            match peer.parse::<Place>() {
                Ok(place) if place.port() == 0 => {
                    let words = format!("{peer:?} has port 0, where nobody listens");
                    return fault("pair.peers", words);
                }
                Ok(_) => {}
                Err(words) => return fault("pair.peers", words),
            }
        }
        Ok(())
    }
}

/// Letters, digits, hyphens and dots, and not an address that is written wrongly (RFC 1123, 2.1).
fn is_host_name(host: &str) -> bool {
    let labels = host.strip_suffix('.').unwrap_or(host).split('.');
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let last_is_numeric = labels
        .clone()
        .next_back()
        .is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
    host.len() <= 253 && !last_is_numeric && labels.clone().all(is_label)
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(address) => address.fmt(f),
            Self::Loopback(port) => write!(f, "{LOCALHOST}:{port}"),
            Self::Named(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// A listener's places; none: the door is closed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub(crate) struct Endpoint(pub(crate) Vec<Place>);

impl Endpoint {
    const OFF: &str = "off";
}

/// An endpoint as it stands in the file.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    One(String),
    Several(Vec<String>),
}

impl TryFrom<Written> for Endpoint {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::One(text) if text == Self::OFF => Ok(Self::default()),
            Written::One(text) => Ok(Self(vec![text.parse()?])),
            Written::Several(texts) => {
                if texts.is_empty() {
                    return Err("an empty list says nowhere; \"off\" closes a door".to_owned());
                }
                let places: Result<Vec<Place>, String> =
                    texts.iter().map(|text| text.parse()).collect();
                places.map(Self)
            }
        }
    }
}

impl From<Endpoint> for Written {
    fn from(endpoint: Endpoint) -> Self {
        match &endpoint.0[..] {
            [] => Self::One(Endpoint::OFF.to_owned()),
            [place] => Self::One(place.to_string()),
            places => Self::Several(places.iter().map(Place::to_string).collect()),
        }
    }
}

/// The doors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Listeners {
    /// MQTT 3.1.1 and 5.
    pub(crate) mqtt: Endpoint,
    /// AMQP 0-9-1.
    pub(crate) amqp: Endpoint,
    /// STOMP 1.0 to 1.2.
    pub(crate) stomp: Endpoint,
    /// Health, metrics, and WebSocket for every protocol.
    pub(crate) http: Endpoint,
    /// SQS, SNS and Kinesis on one endpoint.
    pub(crate) aws: Endpoint,
}

impl Default for Listeners {
    fn default() -> Self {
        let loopback = |port| Endpoint(vec![Place::Loopback(port)]);
        Self {
            mqtt: loopback(1883),
            amqp: loopback(5672),
            stomp: loopback(61613),
            http: loopback(8161),
            aws: loopback(4566),
        }
    }
}

impl Listeners {
    /// The doors by name, in the order in which they are shown.
    pub(crate) const fn by_name(&self) -> [(&'static str, &Endpoint); 5] {
        [
            ("mqtt", &self.mqtt),
            ("amqp", &self.amqp),
            ("stomp", &self.stomp),
            ("http", &self.http),
            ("aws", &self.aws),
        ]
    }

    /// Whether at least one is open, and no two at one place.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let fault = |fault| {
            Err(ConfigError::Value {
                key: "listeners",
                fault,
            })
        };
        let mut seen: Vec<(&str, SocketAddr)> = Vec::new();
        let mut open = false;
        for (name, endpoint) in self.by_name() {
            for place in &endpoint.0 {
                open = true;
                for address in place.addresses() {
                    let twin = seen.iter().find(|(_, other)| are_one(*other, address));
                    match twin {
                        Some((other, _)) if *other == name => {
                            return fault(format!("{name} names the address {address} twice"));
                        }
                        Some((other, _)) => {
                            return fault(format!(
                                "{other} and {name} have the same address {address}"
                            ));
                        }
                        None => seen.push((name, address)),
                    }
                }
            }
        }
        if open {
            return Ok(());
        }
        fault("are all off: nobody could connect".to_owned())
    }
}

/// Whether two listeners cannot be at both: one of them is the other, or all addresses of its family.
fn are_one(one: SocketAddr, other: SocketAddr) -> bool {
    let (ip, other_ip) = (one.ip(), other.ip());
    let overlaps = ip == other_ip
        || ip.is_ipv4() == other_ip.is_ipv4() && (ip.is_unspecified() || other_ip.is_unspecified());
    one.port() == other.port() && one.port() != 0 && overlaps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back_as_they_were_written() {
        for text in [
            "127.0.0.1:1883",
            "[::1]:0",
            "localhost:65535",
            "broker.example:1883",
            "node-1:80",
        ] {
            let place: Place = text.parse().expect(text);
            assert_eq!(place.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in [
            "",
            "1883",
            ":1883",
            "localhost",
            "localhost:65536",
            "localhost:mqtt",
            "127.0.0.256:1883",
            "::1:1883",
            "a b:1883",
            "-a.example:1883",
            "a..example:1883",
        ] {
            let refused = text.parse::<Place>().expect_err(text);
            assert!(refused.contains("is not a host and a port"), "{refused}");
        }
    }
}
