//! From CONNECT to CONNACK: what is asked of the core, and what the client is granted (MQTT 5, 3.1 and 3.2).

use std::sync::Arc;

use bytes::Bytes;
use message::{Timestamp, VhostId};
use session::{
    Authenticate, ClientExpiry, Command, Credentials, OpenClient, Output, Refusal, RefusalKind,
};

use super::{Fault, reply::Reply, wire::Peer};
use crate::{
    Config, DecodeError, Manners,
    codec::{
        ConnAck, Connect, Packet, Properties, Property, ReasonCode, Text, VARINT_MAX, Version, Will,
    },
    message::{Publisher, decode_will},
    names::SubjectError,
};

/// The longest packet that there can be (MQTT 5, 2.1.4): one byte, a Remaining Length of four, and what that counts.
const PACKET_LEN_MAX: usize = VARINT_MAX as usize + 5;

/// What CONNECT said and what is granted, until CONNACK says it.
#[derive(Debug)]
pub(super) struct Handshake {
    pub(super) peer: Peer,
    client_id: Text,
    clean_start: bool,
    /// What was asked for, in seconds.
    session_expiry_asked_s: u32,
    /// What is granted, in seconds; 4,294,967,295 is for ever.
    pub(super) session_expiry_s: u32,
    keep_alive_asked_s: u16,
    /// The interval in force.
    pub(super) keep_alive_s: u16,
    /// Deliveries that may be out.
    pub(super) window: u16,
    pub(super) alias_out_max: u16,
    will: Option<Will>,
    /// Who it is, once that is known.
    pub(super) user: Arc<str>,
}

impl Handshake {
    /// CONNECT arrived: judges it, and asks who the client is.
    pub(super) fn begin(
        connect: Connect,
        config: &Config,
        out: &mut Output,
    ) -> Result<Self, Fault> {
        let version = connect.version;
        let v5 = version == Version::V5;
        let mut handshake = Self {
            peer: Peer::of(&connect, config),
            client_id: connect.client_id,
            clean_start: connect.clean_start,
            // MQTT 3.1.1, 3.1.2.4: a session that is not clean has no end.
            session_expiry_asked_s: if v5 || connect.clean_start {
                0
            } else {
                u32::MAX
            },
            session_expiry_s: 0,
            keep_alive_asked_s: connect.keep_alive_s,
            keep_alive_s: connect.keep_alive_s,
            window: config.window_max,
            alias_out_max: 0,
            will: connect.will,
            user: Arc::from(""),
        };
        handshake.read_properties(&connect.properties, config)?;
        handshake.session_expiry_s = handshake
            .session_expiry_asked_s
            .min(config.session_expiry_max_s);
        if v5 && config.keep_alive_max_s != 0 {
            let asked = handshake.keep_alive_asked_s;
            if asked == 0 || asked > config.keep_alive_max_s {
                handshake.keep_alive_s = config.keep_alive_max_s;
            }
        }
        handshake.check_client_id(config)?;
        handshake.check_will(config)?;
        let user = connect.user_name.map(|name| name.as_str().to_owned());
        let credentials = match (user, connect.password) {
            (None, None) => Credentials::Anonymous,
            (user, password) => Credentials::Plain {
                user: user.unwrap_or_default(),
                password: password.map_or_else(Bytes::new, |p| Bytes::copy_from_slice(&p)),
            },
        };
        let client = handshake.client_id.as_bytes().clone();
        out.commands
            .push_back(Command::Authenticate(Box::new(Authenticate {
                token: Reply::Authenticate.token(),
                credentials,
                vhost: None,
                vhost_fallback: false,
                vhost_in_user: true,
                vhost_follows: false,
                vhost_create: false,
                verified_anywhere: false,
                protocol: version.name(),
                client,
            })));
        Ok(handshake)
    }

    fn read_properties(&mut self, properties: &Properties, config: &Config) -> Result<(), Fault> {
        let mut authentication_data = false;
        let mut authentication_method = false;
        for property in &properties.0 {
            match property {
                Property::SessionExpiryInterval(seconds) => self.session_expiry_asked_s = *seconds,
                // [MQTT-4.9.0-1]
                Property::ReceiveMaximum(count) => self.window = (*count).min(config.window_max),
                // [MQTT-3.1.2-26], [MQTT-3.1.2-27]
                Property::TopicAliasMaximum(count) => {
                    self.alias_out_max = (*count).min(config.topic_alias_out_max);
                }
                Property::AuthenticationMethod(_) => authentication_method = true,
                Property::AuthenticationData(_) => authentication_data = true,
                _ => {}
            }
        }
        if authentication_method {
            // [MQTT-4.12.0-1]
            return Err(Fault::new(
                ReasonCode::BAD_AUTHENTICATION_METHOD,
                "enhanced authentication is not offered",
            ));
        }
        if authentication_data {
            // MQTT 5, 3.1.2.11.10
            return Err(Fault::new(
                ReasonCode::PROTOCOL_ERROR,
                "authentication data without a method",
            ));
        }
        Ok(())
    }

    /// [MQTT-3.1.3-5], [MQTT-3.1.3-8]: the limit is never below 23 bytes.
    fn check_client_id(&self, config: &Config) -> Result<(), Fault> {
        let client_id = self.client_id.as_bytes();
        // [MQTT3-3.1.3-8]: a made-up identifier cannot be told, so nothing could be resumed. MQTT 3.1 has none.
        let needed = match self.peer.version {
            Version::V31 => true,
            Version::V311 => !self.clean_start,
            Version::V5 => false,
        };
        if (client_id.is_empty() && needed) || client_id.len() > config.client_id_len_max {
            return Err(Fault::new(
                ReasonCode::CLIENT_IDENTIFIER_NOT_VALID,
                "client identifier is empty or too long",
            ));
        }
        Ok(())
    }

    fn check_will(&self, config: &Config) -> Result<(), Fault> {
        let Some(will) = &self.will else {
            return Ok(());
        };
        if will.payload.len() > config.body_len_max {
            return Err(Fault::of_will(
                ReasonCode::PACKET_TOO_LARGE,
                format!("the longest body is {} bytes", config.body_len_max),
            ));
        }
        let topic = will.topic.as_bytes();
        // [MQTT-4.7.3-1], [MQTT-4.7.0-1]
        if topic.is_empty() || topic.iter().any(|b| matches!(b, b'+' | b'#')) {
            return Err(Fault::of_will(
                ReasonCode::MALFORMED_PACKET,
                "topic name of the will is empty or holds a wildcard",
            ));
        }
        match config.names().subject(topic) {
            Ok(_) => Ok(()),
            // DOORS rule 5
            Err(error @ SubjectError::Reserved) => Err(Fault::of_will(
                ReasonCode::NOT_AUTHORIZED,
                error.to_string(),
            )),
            Err(error @ SubjectError::Bounds) => Err(Fault::of_will(
                ReasonCode::MALFORMED_PACKET,
                error.to_string(),
            )),
        }
    }

    /// The core knows the client: asks for its session.
    pub(super) fn on_authenticated(
        &mut self,
        vhost: VhostId,
        user: Arc<str>,
        config: &Config,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<(), Fault> {
        let mut will = match self.will.take() {
            None => None,
            Some(will) => {
                let names = config.names();
                let subject = names.subject(will.topic.as_bytes()).map_err(|error| {
                    Fault::of_will(ReasonCode::NOT_AUTHORIZED, error.to_string())
                })?;
                let by = Publisher {
                    names,
                    user: &user,
                    now,
                };
                let will = decode_will(will, subject, vhost, by)
                    .map_err(|fault| Fault::of_will(fault.reason(), "properties of the will"))?;
                Some(Box::new(will))
            }
        };
        self.user = user;
        let mut expiry = client_expiry(self.session_expiry_s);
        if self.peer.manners == Manners::Mosquitto
            && let Some(will) = &mut will
        {
            match expiry {
                // The delay counts though the session ends with the connection, so the session is kept that long.
                ClientExpiry::WithConnection if will.delay_ms > 0 => {
                    expiry = ClientExpiry::AfterMs(will.delay_ms);
                }
                ClientExpiry::WithConnection => {}
                // A delay of any length is over with the connection, unless another one resumes the session [MQTT-3.1.3-9].
                _ => will.delay_ms = will.delay_ms.max(1),
            }
        }
        let len_max = self.peer.packet_len_max;
        out.commands
            .push_back(Command::OpenClient(Box::new(OpenClient {
                token: Reply::Open.token(),
                // [MQTT-3.1.3-2]; an empty one is replaced by the core [MQTT-3.1.3-6].
                client_id: Bytes::copy_from_slice(self.client_id.as_bytes()),
                clean_start: self.clean_start,
                expiry,
                window: self.window,
                message_len_max: (len_max != u32::MAX).then_some(len_max),
                will,
            })));
        Ok(())
    }

    /// The session is open: CONNACK, once, before anything else [MQTT-3.1.4-5], [MQTT-3.2.0-1], [MQTT-3.2.0-2]. It never has an
    /// authentication method [MQTT-4.12.0-6] or response information [MQTT-3.1.2-28].
    pub(super) fn accept(
        &self,
        client_id: &Bytes,
        present: bool,
        config: &Config,
        out: &mut Output,
    ) -> Result<(), Fault> {
        let version = self.peer.version;
        let mut properties = Properties::default();
        if version == Version::V5 {
            let list = &mut properties.0;
            if self.session_expiry_s != self.session_expiry_asked_s {
                list.push(Property::SessionExpiryInterval(self.session_expiry_s));
            }
            if config.topic_alias_in_max != 0 {
                list.push(Property::TopicAliasMaximum(config.topic_alias_in_max));
            }
            // [MQTT-3.2.2-16], [MQTT-3.1.3-7]
            if self.client_id.is_empty()
                && let Ok(text) = Text::new(client_id.clone())
            {
                list.push(Property::AssignedClientIdentifier(text));
            }
            // [MQTT-3.2.2-21], [MQTT-3.2.2-22]
            if self.keep_alive_s != self.keep_alive_asked_s {
                list.push(Property::ServerKeepAlive(self.keep_alive_s));
            }
            // What is the protocol's own default goes without saying (MQTT 5, 3.2.2.3.3 and 3.2.2.3.6).
            if config.packet_len_max < PACKET_LEN_MAX {
                list.push(Property::MaximumPacketSize(config.packet_len_max as u32));
            }
            if config.receive_max != u16::MAX {
                list.push(Property::ReceiveMaximum(config.receive_max));
            }
        }
        let packet = Packet::ConnAck(ConnAck {
            // [MQTT-3.2.2-2], [MQTT-3.2.2-3]
            // MQTT 3.1 has no such flag.
            session_present: present && version > Version::V31,
            code: 0,
            properties,
        });
        self.peer.put_answer(&packet, out)
    }
}

/// When a session of that expiry interval ends (MQTT 5, 3.1.2.11.2) [MQTT-3.1.2-23], [MQTT-4.1.0-2].
pub(super) fn client_expiry(seconds: u32) -> ClientExpiry {
    match seconds {
        0 => ClientExpiry::WithConnection,
        u32::MAX => ClientExpiry::Never,
        seconds => ClientExpiry::AfterMs(u64::from(seconds) * 1000),
    }
}

/// Says no to a CONNECT, if its version has a word for it; the caller closes [MQTT-3.2.2-7], [MQTT-3.1.4-2], [MQTT-3.2.2-19].
pub(super) fn refuse(peer: &Peer, fault: &Fault, out: &mut Output) {
    if fault.silent && peer.manners == Manners::Mosquitto {
        return;
    }
    let properties = peer.reasons(&fault.why, fault.server.as_ref());
    if let Some(ack) = ConnAck::refusal(peer.version, fault.reason, properties) {
        // A client that takes not even the shortest is told nothing [MQTT-3.1.2-24]. The connection ends in any case.
        let _ = peer.put_answer(&Packet::ConnAck(ack), out);
    }
}

/// Answers bytes that should have been a CONNECT. `version` is what they claimed, when they got that far.
pub(super) fn refuse_malformed(
    version: Option<Version>,
    error: &DecodeError,
    config: &Config,
    out: &mut Output,
) {
    let (version, reason) = match (error, version) {
        // [MQTT-3.1.2-2], [MQTT3-3.1.2-2]. The highest bit is set by bridges, which try again without it.
        (DecodeError::ProtocolLevel(level), _) => {
            let version = if level & 0x7f >= 5 {
                Version::V5
            } else {
                Version::V311
            };
            (version, ReasonCode::UNSUPPORTED_PROTOCOL_VERSION)
        }
        // MQTT 5, 4.13.1: a CONNACK may say why; before MQTT 5 the connection is just closed.
        (error, Some(Version::V5)) => (Version::V5, error.reason()),
        _ => return,
    };
    let mut fault = Fault::new(reason, error.to_string());
    fault.silent = reason == ReasonCode::MALFORMED_PACKET;
    refuse(&Peer::new(version, config), &fault, out);
}

/// The reason code of CONNACK for a refusal (MQTT 5, table 3-1).
pub(super) fn connect_reason(refusal: &Refusal) -> ReasonCode {
    match refusal.kind {
        RefusalKind::BadCredentials => ReasonCode::BAD_USER_NAME_OR_PASSWORD,
        RefusalKind::AccessDenied | RefusalKind::NotFound => ReasonCode::NOT_AUTHORIZED,
        RefusalKind::InvalidName => ReasonCode::CLIENT_IDENTIFIER_NOT_VALID,
        RefusalKind::QuotaExceeded
        | RefusalKind::RateExceeded
        | RefusalKind::StorageFull
        | RefusalKind::QueueFull => ReasonCode::QUOTA_EXCEEDED,
        RefusalKind::TooLarge => ReasonCode::PACKET_TOO_LARGE,
        RefusalKind::NotActive => ReasonCode::USE_ANOTHER_SERVER,
        RefusalKind::Internal
        | RefusalKind::UnknownDelivery
        | RefusalKind::NotOut
        | RefusalKind::Unexplained => ReasonCode::UNSPECIFIED_ERROR,
        RefusalKind::Inequivalent
        | RefusalKind::Locked
        | RefusalKind::InUse
        | RefusalKind::NotEmpty
        | RefusalKind::InvalidArgument
        | RefusalKind::NotImplemented => ReasonCode::IMPLEMENTATION_SPECIFIC,
    }
}
