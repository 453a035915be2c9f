//! Limits, timeouts and choices of an MQTT listener, with units, defaults and bounds, and what it counts.
//!
//! Deliberately absent: what the core limits (queue lengths, number of sessions and subscriptions).

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::names::{Dialect, Names};

/// What a listener counts; shared by its sessions.
#[derive(Debug, Default)]
pub struct Counters {
    deliveries_unnameable: AtomicU64,
    properties_omitted: AtomicU64,
    names_ambiguous: AtomicU64,
}

impl Counters {
    /// Messages that were not delivered because MQTT cannot write the name of where they were published (DOORS rule 3).
    pub fn deliveries_unnameable(&self) -> u64 {
        self.deliveries_unnameable.load(Relaxed)
    }

    /// Properties of other protocols' messages left out of a PUBLISH because MQTT cannot write them.
    pub fn properties_omitted(&self) -> u64 {
        self.properties_omitted.load(Relaxed)
    }

    /// Topic names, in and out, that do not come back as they were: in the dialect of RabbitMQ only (DOORS rule 2).
    pub fn names_ambiguous(&self) -> u64 {
        self.names_ambiguous.load(Relaxed)
    }

    pub(crate) fn add_delivery_unnameable(&self) {
        self.deliveries_unnameable.fetch_add(1, Relaxed);
    }

    pub(crate) fn add_properties_omitted(&self, count: u64) {
        if count > 0 {
            self.properties_omitted.fetch_add(count, Relaxed);
        }
    }

    pub(crate) fn add_name_ambiguous(&self) {
        self.names_ambiguous.fetch_add(1, Relaxed);
    }
}

/// Whose way is gone where the specification leaves a choice, or where Mosquitto leaves the specification.
///
/// | | `Standard` | `Mosquitto` |
/// |---|---|---|
/// | a CONNECT of MQTT 5 that is malformed, or whose will may not be published | CONNACK with the reason (4.13.1: may) | closed without a word |
/// | SUBSCRIBE without a filter, with QoS 3, retain handling 3 or subscription identifier 0 | 0x82, as 3.8.2 and 3.8.3 say | 0x81 |
/// | PUBREC of a PUBLISH that nobody subscribes to | 0x10 (3.5.2.1: may) | 0x00 |
/// | a PUBLISH of QoS 2 repeated for the second time in one connection | PUBREC \[MQTT-4.3.3-10\] | 0x82 |
/// | a will without delay, when another connection resumes the session | published \[MQTT-3.1.2-8\] | not published |
/// | a PUBLISH one byte longer than the client's Maximum Packet Size | not sent \[MQTT-3.1.2-24\] | sent: its first byte is not counted |
/// | a will delay without a session expiry | the session has ended: published at once (3.1.3.2.2) | the delay counts |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manners {
    /// The letter of the specification, and where it leaves a choice the answer that tells most.
    #[default]
    Standard,
    /// As Mosquitto.
    Mosquitto,
}

/// What a listener allows. [`Config::check`] is called once, before the first connection.
#[derive(Clone, Debug)]
pub struct Config {
    /// How topics become levels.
    pub dialect: Dialect,
    /// How long a new connection may take until its CONNECT is complete, in ms. 1 to 600,000.
    pub connect_timeout_ms: u64,
    /// The longest CONNECT, in bytes. 64 to 1 MiB. Bounds what a stranger can make us hold.
    pub connect_len_max: usize,
    /// The longest packet taken after CONNECT, in bytes, fixed header included. 1 KiB to 268,435,460.
    pub packet_len_max: usize,
    /// The longest body of a PUBLISH, in bytes. 1 to 268,435,455. `packet_len_max` leaves room for topic and properties beside it.
    pub body_len_max: usize,
    /// Most properties in one packet. 8 to 65,535.
    pub properties_max: usize,
    /// Most topic filters in one SUBSCRIBE or UNSUBSCRIBE. 1 to 65,535.
    pub filters_max: usize,
    /// Most levels of a topic or filter. 1 to 256. The default is 200 separators, as many as Mosquitto takes.
    pub levels_max: usize,
    /// The longest client identifier, in bytes. 23 to 65,535.
    pub client_id_len_max: usize,
    /// Most publishes of QoS 1 and 2 that an MQTT 5 client may have unacknowledged (our Receive Maximum). 1 to 65,535.
    pub receive_max: u16,
    /// Most deliveries of QoS 1 and 2 out to a client, whatever it allows. 1 to 65,535.
    pub window_max: u16,
    /// Most topic aliases that a client may use. 0 to 65,535.
    pub topic_alias_in_max: u16,
    /// Most topic aliases that we use towards a client, whatever it allows. 0 to 65,535.
    pub topic_alias_out_max: u16,
    /// The longest session expiry, in seconds; 4,294,967,295 is no limit. Applies to 3.1.1 sessions that are not clean too.
    pub session_expiry_max_s: u32,
    /// The longest keep alive, in seconds; longer ones, and none, are shortened for MQTT 5 clients. 0 is no limit.
    pub keep_alive_max_s: u16,
    /// Whether MQTT 5 clients that ask for problem information are told a reason in words too.
    pub reason_strings: bool,
    /// Whose way is gone where there are several.
    pub manners: Manners,
    /// Counts.
    pub counters: Arc<Counters>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dialect: Dialect::Levels,
            connect_timeout_ms: 10_000,
            connect_len_max: 256 * 1024,
            // A body of 16 MiB and room for topic and properties.
            packet_len_max: 16 * 1024 * 1024 + 128 * 1024,
            body_len_max: 16 * 1024 * 1024,
            properties_max: 512,
            filters_max: 1_000,
            levels_max: 201,
            client_id_len_max: 1_024,
            receive_max: 1_000,
            window_max: 1_000,
            topic_alias_in_max: 32,
            topic_alias_out_max: 32,
            session_expiry_max_s: u32::MAX,
            keep_alive_max_s: 0,
            reason_strings: true,
            manners: Manners::Standard,
            counters: Arc::default(),
        }
    }
}

/// A setting out of its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} is {value}, outside {low} to {high}")]
pub struct ConfigError {
    /// The field.
    pub key: &'static str,
    /// Its value.
    pub value: u64,
    /// The least.
    pub low: u64,
    /// The most.
    pub high: u64,
}

impl Config {
    /// How names are read and written.
    #[must_use]
    pub const fn names(&self) -> Names {
        Names {
            dialect: self.dialect,
            levels_max: self.levels_max,
        }
    }

    /// Checks every bound.
    pub fn check(&self) -> Result<(), ConfigError> {
        let bounds = [
            (
                "connect_timeout_ms",
                self.connect_timeout_ms,
                1_u64,
                600_000_u64,
            ),
            (
                "connect_len_max",
                self.connect_len_max as u64,
                64,
                1024 * 1024,
            ),
            (
                "packet_len_max",
                self.packet_len_max as u64,
                1024,
                268_435_460,
            ),
            ("body_len_max", self.body_len_max as u64, 1, 268_435_455),
            ("properties_max", self.properties_max as u64, 8, 65_535),
            ("filters_max", self.filters_max as u64, 1, 65_535),
            ("levels_max", self.levels_max as u64, 1, 256),
            (
                "client_id_len_max",
                self.client_id_len_max as u64,
                23,
                65_535,
            ),
            ("receive_max", u64::from(self.receive_max), 1, 65_535),
            ("window_max", u64::from(self.window_max), 1, 65_535),
        ];
        match bounds
            .into_iter()
            .find(|(_, value, low, high)| value < low || value > high)
        {
            None => Ok(()),
            Some((key, value, low, high)) => Err(ConfigError {
                key,
                value,
                low,
                high,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_within_bounds_and_the_bounds_hold() {
        assert_eq!(Config::default().check(), Ok(()));
        let config = Config {
            receive_max: 0,
            ..Config::default()
        };
        let error = config.check().expect_err("0 is below the least");
        assert_eq!(error.key, "receive_max");
        let config = Config {
            levels_max: 257,
            ..Config::default()
        };
        assert_eq!(config.check().expect_err("too many").high, 256);
    }
}
