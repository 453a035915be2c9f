//! Subprotocols (RFC 6455, 1.9 and 4.2.2) and the answer to the key.

use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::Kind;

/// The protocol inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// MQTT, any version.
    Mqtt,
    /// AMQP, any version.
    Amqp,
    /// STOMP, any version.
    Stomp,
}

impl Protocol {
    /// Which messages carry it.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::Mqtt | Self::Amqp => Kind::Binary,
            Self::Stomp => Kind::TextIfUtf8,
        }
    }
}

/// A subprotocol that we speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subprotocol {
    /// `v12.stomp`
    StompV12,
    /// `v11.stomp`
    StompV11,
    /// `v10.stomp`
    StompV10,
    /// `mqtt`
    Mqtt,
    /// `mqttv3.1`
    MqttV31,
    /// `amqp`: either version, told apart by the protocol header.
    Amqp,
}

impl Subprotocol {
    /// In the order in which we prefer them.
    const ALL: [Self; 6] = [
        Self::StompV12,
        Self::StompV11,
        Self::StompV10,
        Self::Mqtt,
        Self::MqttV31,
        Self::Amqp,
    ];

    /// As in `Sec-WebSocket-Protocol`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StompV12 => "v12.stomp",
            Self::StompV11 => "v11.stomp",
            Self::StompV10 => "v10.stomp",
            Self::Mqtt => "mqtt",
            Self::MqttV31 => "mqttv3.1",
            Self::Amqp => "amqp",
        }
    }

    /// The protocol that it names.
    #[must_use]
    pub const fn protocol(self) -> Protocol {
        match self {
            Self::StompV12 | Self::StompV11 | Self::StompV10 => Protocol::Stomp,
            Self::Mqtt | Self::MqttV31 => Protocol::Mqtt,
            Self::Amqp => Protocol::Amqp,
        }
    }
}

/// Chooses from the value of `Sec-WebSocket-Protocol` (several such headers are joined by commas). `None`: none of them
/// is ours; a client that named one will then not accept the connection (RFC 6455, 4.1).
#[must_use]
pub fn choose_subprotocol(offered: &str) -> Option<Subprotocol> {
    let is_offered = |ours: &Subprotocol| {
        offered
            .split(',')
            .any(|theirs| theirs.trim() == ours.as_str())
    };
    // [MQTT-6.0.0-4]
    Subprotocol::ALL.into_iter().find(is_offered)
}

/// The `Sec-WebSocket-Accept` to a `Sec-WebSocket-Key` (RFC 6455, 4.2.2).
#[must_use]
pub fn accept_key(key: &str) -> String {
    derive_accept_key(key.trim().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doors_e28_the_highest_common_version_is_chosen_by_us() {
        for (offered, chosen) in [
            (
                "v10.stomp, v12.stomp,v11.stomp",
                Some(Subprotocol::StompV12),
            ),
            ("v10.stomp,v11.stomp", Some(Subprotocol::StompV11)),
            ("mqttv3.1, mqtt", Some(Subprotocol::Mqtt)),
            ("mqttv3.1", Some(Subprotocol::MqttV31)),
            ("amqp", Some(Subprotocol::Amqp)),
            ("chat, MQTT", None),
            ("", None),
        ] {
            assert_eq!(choose_subprotocol(offered), chosen, "{offered}");
        }
    }

    #[test]
    fn rfc_6455_1_3_the_key_of_the_specification() {
        let answer = accept_key("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(answer, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
