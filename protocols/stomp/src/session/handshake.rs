//! CONNECT to CONNECTED (STOMP 1.2, "Connecting").

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use message::{Timestamp, VhostId};
use session::{
    Authenticate, CloseReason, Command, Credentials, Event, Refusal, RefusalKind, Token, Wire,
};

use crate::{
    Config, UnknownHost,
    codec::{Frame, Verb, Version},
    error::Fault,
};

use super::heart_beat::HeartBeat;

/// The token of the one command before the conversation.
const LOGIN: Token = Token(0);

/// What CONNECT agreed, until the core knows the peer.
#[derive(Debug)]
pub(super) struct Greeting {
    pub(super) version: Version,
    pub(super) deadline: Timestamp,
    can_ms: u32,
    wants_ms: u32,
    client: Bytes,
}

/// Who the peer is and where.
#[derive(Debug)]
pub(super) struct Welcome {
    pub(super) vhost: VhostId,
    pub(super) user: Arc<str>,
    /// The `client-id` header: names durable subscriptions ActiveMQ's way.
    pub(super) client: Bytes,
}

/// Reads CONNECT and asks the core.
/// [STOMP-connect-1].
pub(super) fn greet(
    config: &Config,
    frame: &mut Frame,
    deadline: Timestamp,
    commands: &mut VecDeque<Command>,
) -> Result<Greeting, Fault> {
    // STOMP 1.2, "CONNECT or STOMP Frame": nothing else may come first.
    // [STOMP-connect-2]
    if !matches!(frame.verb, Verb::Connect | Verb::Stomp) {
        let detail = format!("{} came before CONNECT", frame.verb.as_str());
        return Err(Fault::peer("not connected", detail));
    }
    let accept = frame.headers.text("accept-version");
    // [STOMP-connect-3], [STOMP-connect-4]
    let Some(version) = Version::highest_common(accept) else {
        let detail = format!("supported versions are {}", Version::ALL);
        let mut fault = Fault::peer("no common version", detail);
        // [STOMP-connect-5]
        fault.header = Some(("version", Version::ALL.into()));
        return Err(fault);
    };
    if version == Version::V1_0 {
        frame.headers.trim();
    }
    let headers = &frame.headers;
    let (can_ms, wants_ms) = match headers.first("heart-beat") {
        // STOMP 1.0 has no heart-beats.
        Some(text) if version > Version::V1_0 => heart_beat(text)?,
        // [STOMP-heart-beat-2]
        _ => (0, 0),
    };
    let credentials = match headers.text("login") {
        Some(user) if !user.is_empty() => Credentials::Plain {
            user: user.to_owned(),
            password: headers.first("passcode").cloned().unwrap_or_default(),
        },
        _ => Credentials::Anonymous,
    };
    let host = headers.text("host").filter(|host| !host.is_empty());
    // It lasts as long as the connection and must not keep the read buffer alive.
    let client = headers
        .first("client-id")
        .map_or_else(Bytes::new, |client| Bytes::copy_from_slice(client));
    commands.push_back(Command::Authenticate(Box::new(Authenticate {
        token: LOGIN,
        credentials,
        vhost: host.map(str::to_owned),
        // [STOMP-connect-7]
        vhost_fallback: config.unknown_host == UnknownHost::Default,
        vhost_in_user: false,
        vhost_follows: false,
        vhost_create: false,
        verified_anywhere: false,
        protocol: version.protocol(),
        client: client.clone(),
    })));
    Ok(Greeting {
        version,
        deadline,
        can_ms,
        wants_ms,
        client,
    })
}

/// [STOMP-heart-beat-1].
fn heart_beat(text: &Bytes) -> Result<(u32, u32), Fault> {
    let parse = || {
        let (can, wants) = std::str::from_utf8(text).ok()?.split_once(',')?;
        Some((can.trim().parse().ok()?, wants.trim().parse().ok()?))
    };
    parse().ok_or_else(|| Fault::invalid("heart-beat", text, "two numbers of milliseconds"))
}

impl Greeting {
    /// The core's answer, if this is it.
    /// [STOMP-connect-10].
    pub(super) fn on_event(
        &self,
        event: Event,
        listener: &'static str,
    ) -> Result<Option<Welcome>, Fault> {
        match event {
            Event::Authenticated { vhost, user, .. } => Ok(Some(Welcome {
                vhost,
                user,
                client: self.client.clone(),
            })),
            Event::Refused { refusal, .. } => {
                let message = match refusal.kind {
                    RefusalKind::BadCredentials | RefusalKind::AccessDenied => "login refused",
                    RefusalKind::NotFound => "no such host",
                    RefusalKind::NotActive => return Err(not_active(refusal, listener)),
                    _ => return Err(refusal.into()),
                };
                Err(Fault::other(message, refusal.detail))
            }
            _ => Ok(None),
        }
    }

    /// Writes CONNECTED.
    pub(super) fn welcome(
        &self,
        config: &Config,
        welcome: &Welcome,
        session: &str,
        now: Timestamp,
        wire: &mut Wire,
    ) -> HeartBeat {
        let mut frame = Frame::new(Verb::Connected)
            // [STOMP-connect-8]
            .with("version", self.version.as_str())
            // STOMP 1.2, "CONNECTED Frame": it uniquely identifies the session.
            .with("session", format!("session-{session}"))
            // [STOMP-connect-9]
            .with("server", concat!("Bascule/", env!("CARGO_PKG_VERSION")))
            .with("user-name", welcome.user.to_string());
        if self.version > Version::V1_0 {
            frame = frame.with(
                "heart-beat",
                format!(
                    "{},{}",
                    config.heart_beat_send_ms, config.heart_beat_receive_ms
                ),
            );
        }
        frame.encode(self.version, wire);
        HeartBeat::agree(config, self.can_ms, self.wants_ms, now)
    }
}

/// The core ends the connection.
pub(super) fn closing(reason: CloseReason, listener: &'static str) -> Fault {
    let detail = match reason {
        CloseReason::TakenOver => "another connection has taken this one's place",
        CloseReason::Shutdown => "the server is shutting down",
        // As at the door of a server that was never active.
        CloseReason::NotActive(active) => {
            return not_active(Refusal::not_active(active), listener);
        }
        CloseReason::Administrative => "an operator has closed the connection",
        CloseReason::Internal => "an internal error",
    };
    Fault::other("connection closed by the server", detail)
}

/// Another server is the active one.
fn not_active(refusal: Refusal, listener: &str) -> Fault {
    let server = refusal.active_at(listener).cloned();
    Fault::from(refusal.naming(listener)).with_server(server.as_ref())
}
