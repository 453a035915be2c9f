//! Where the doors are: an address and a port, or `off`.

use std::{fmt, net::SocketAddr, str::FromStr};

use serde::{Deserialize, Serialize};

use super::ConfigError;

/// A listener's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum Endpoint {
    /// Not there.
    Off,
    /// There; port 0 lets the system choose.
    At(SocketAddr),
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        text.parse().map(Self::At).map_err(|_| {
            format!(
                "{text:?} is not an IP address and a port, such as \"127.0.0.1:1883\" or \"[::]:1883\", nor \"off\""
            )
        })
    }
}

impl TryFrom<String> for Endpoint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address) => address.fmt(f),
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
}

impl Default for Listeners {
    fn default() -> Self {
        let loopback = |port| Endpoint::At(SocketAddr::from(([127, 0, 0, 1], port)));
        Self {
            mqtt: loopback(1883),
            amqp: loopback(5672),
            stomp: loopback(61613),
            http: loopback(8161),
        }
    }
}

impl Listeners {
    /// The doors by name, in the order in which they are shown.
    pub(crate) const fn by_name(&self) -> [(&'static str, Endpoint); 4] {
        [
            ("mqtt", self.mqtt),
            ("amqp", self.amqp),
            ("stomp", self.stomp),
            ("http", self.http),
        ]
    }

    /// Whether at least one is open, and no two at one place.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let all = self.by_name();
        if all.iter().all(|(_, endpoint)| *endpoint == Endpoint::Off) {
            return Err(ConfigError::Value {
                key: "listeners",
                fault: "are all off: nobody could connect".to_owned(),
            });
        }
        for (at, (name, endpoint)) in all.iter().enumerate() {
            let Endpoint::At(address) = endpoint else {
                continue;
            };
            let twin = all[..at].iter().find(|(_, other)| other == endpoint);
            if let Some((other, _)) = twin
                && address.port() != 0
            {
                return Err(ConfigError::Value {
                    key: "listeners",
                    fault: format!("{other} and {name} have the same address {address}"),
                });
            }
        }
        Ok(())
    }
}
