//! From the first byte to `connection.open-ok` (AMQP 0-9-1, 2.2.4 and 1.4.2).
//!
//! ```text
//!  peer                                    we                      core
//!  "AMQP" 0 0 9 1              ─────▶
//!                              ◀─────  start
//!  start-ok mechanism response ─────▶          authenticate ─────▶
//!                              ◀─────  tune    ◀───── authenticated
//!  tune-ok                     ─────▶
//!  open vhost                  ─────▶          authenticate, if it is another virtual host ─────▶
//!                              ◀─────  open-ok ◀───── authenticated
//! ```
//! The core checks user and virtual host together, the protocol asks for them one after the other. So the credentials are
//! checked first against the listener's default virtual host; a user who may not enter that one is known all the same, and
//! is asked again for the one that `open` names. While the core is asked nothing is read.

use bytes::{BufMut, Bytes, BytesMut};
use message::{Properties, Value};
use session::{Authenticate, Close, Command, Credentials, Event, RefusalKind};

use super::{AmqpSession, Phase, consume::has_capability, step::token};
use crate::{
    Config,
    codec::{FRAME_LEN_MIN, Long, Method, PROTOCOL_HEADER, connection},
    error::{Fault, ReplyCode},
    session::step::Step,
};

/// What this server can do and a client can ask for.
const CAPABILITIES: [&str; 9] = [
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "consumer_priorities",
    "authentication_failure_close",
    "per_consumer_qos",
    "direct_reply_to",
];

/// Who is at the door, until it is open.
#[derive(Debug)]
pub(super) struct Visitor {
    credentials: Credentials,
    mechanism: &'static str,
    /// The peer wants to be told of a failed login.
    failure_close: bool,
    /// The name that the client gives its connection, for logs.
    client: Bytes,
    /// Let into the listener's default virtual host, of that name.
    known_vhost: Option<std::sync::Arc<str>>,
}

impl AmqpSession {
    /// The protocol header. 4.2.2: to any other one the answer is ours, and the end.
    /// [AMQP-connection.start.protocol-name].
    pub(super) fn on_protocol_header(
        &mut self,
        input: &mut BytesMut,
        step_out: &mut session::Output,
    ) -> Result<bool, Close> {
        let known = input.len().min(PROTOCOL_HEADER.len());
        if input[..known] != PROTOCOL_HEADER[..known] {
            // An AMQP 1.0 or SASL header differs in its fifth byte: wait for it, so as to answer one whole header.
            let is_amqp = input.starts_with(b"AMQP");
            if is_amqp && input.len() < PROTOCOL_HEADER.len() {
                return Ok(false);
            }
            step_out.wire.put(&PROTOCOL_HEADER);
            step_out.wire.end_frame();
            return Err(Close::fault(format!(
                "the peer does not speak AMQP 0-9-1 but {}",
                spoken(input)
            )));
        }
        if known < PROTOCOL_HEADER.len() {
            return Ok(false);
        }
        let _ = input.split_to(known);
        let mut step = Step {
            shared: &mut self.shared,
            now: message::Timestamp::default(),
            out: step_out,
        };
        step.send(
            0,
            connection::Start {
                // [AMQP-connection.start.server-support]
                version_major: 0,
                version_minor: 9,
                server_properties: server_properties(&step.shared.config),
                mechanisms: Long(Bytes::from_static(b"PLAIN AMQPLAIN")),
                // [AMQP-connection.start.locales.required-support]
                locales: Long(Bytes::from_static(b"en_US")),
            },
        );
        self.phase = Phase::Start;
        Ok(true)
    }

    /// Methods of channel 0 before the connection is open.
    pub(super) fn on_handshake(
        &mut self,
        method: Method,
        now: message::Timestamp,
        out: &mut session::Output,
    ) -> Result<(), Fault> {
        match (self.phase, method) {
            (Phase::Start, Method::ConnectionStartOk(start_ok)) => self.on_start_ok(start_ok, out),
            (Phase::Tune, Method::ConnectionTuneOk(tune_ok)) => self.on_tune_ok(&tune_ok, now),
            (Phase::Open, Method::ConnectionOpen(open)) => self.on_open(&open, out),
            (_, method) => Err(Fault::new(
                ReplyCode::CommandInvalid,
                format!("{} is not expected here", method.name()),
            )),
        }
    }

    fn on_start_ok(
        &mut self,
        start_ok: connection::StartOk,
        out: &mut session::Output,
    ) -> Result<(), Fault> {
        let (mechanism, credentials) = match &start_ok.mechanism[..] {
            b"PLAIN" => ("PLAIN", plain(&start_ok.response.0)),
            // [AMQP-connection.start-ok.mechanism.validity]
            b"AMQPLAIN" => ("AMQPLAIN", amqplain(&start_ok.response.0)),
            other => {
                return Err(Fault::new(
                    ReplyCode::CommandInvalid,
                    format!(
                        "unknown authentication mechanism '{}'",
                        String::from_utf8_lossy(other)
                    ),
                ));
            }
        };
        let credentials = credentials.ok_or_else(|| {
            Fault::new(
                ReplyCode::SyntaxError,
                format!("malformed {mechanism} response"),
            )
        })?;
        let properties = &start_ok.client_properties;
        self.shared.cancel_notify = has_capability(properties, "consumer_cancel_notify");
        self.shared.blocked_notify = has_capability(properties, "connection.blocked");
        let client = match properties.first(b"connection_name") {
            Some(Value::Text(name)) => Bytes::copy_from_slice(name),
            _ => Bytes::new(),
        };
        self.visitor = Some(Visitor {
            credentials,
            mechanism,
            failure_close: has_capability(properties, "authentication_failure_close"),
            client,
            known_vhost: None,
        });
        self.authenticate(None, out);
        self.phase = Phase::Verifying;
        Ok(())
    }

    fn authenticate(&mut self, vhost: Option<String>, out: &mut session::Output) {
        let number = self.shared.number();
        let Some(visitor) = &self.visitor else { return };
        out.commands
            .push_back(Command::Authenticate(Box::new(Authenticate {
                token: token(0, number),
                credentials: visitor.credentials.clone(),
                vhost_follows: vhost.is_none(),
                vhost_create: false,
                verified_anywhere: false,
                vhost,
                vhost_fallback: false,
                vhost_in_user: false,
                protocol: "AMQP 0-9-1",
                client: visitor.client.clone(),
            })));
    }

    fn on_tune_ok(
        &mut self,
        tune_ok: &connection::TuneOk,
        now: message::Timestamp,
    ) -> Result<(), Fault> {
        // 1.4.2.6: the peer may lower a limit and not raise it; 0 is "no limit of mine".
        let frame_max = within(
            "frame_max",
            tune_ok.frame_max,
            self.shared.config.frame_len_max,
        )?;
        // [AMQP-connection.tune.frame-max.minimum], [AMQP-connection.tune-ok.frame-max.minimum]
        if frame_max < FRAME_LEN_MIN {
            return Err(Fault::new(
                ReplyCode::NotAllowed,
                format!(
                    "negotiated frame_max = {frame_max} is lower than the minimum allowed value ({FRAME_LEN_MIN})"
                ),
            ));
        }
        let channel_max = within(
            "channel_max",
            u32::from(tune_ok.channel_max),
            u32::from(self.shared.config.channel_max),
        )?;
        self.shared.frame_max = frame_max;
        self.shared.channel_max = channel_max as u16;
        self.keep_alive.start(tune_ok.heartbeat, now);
        self.phase = Phase::Open;
        Ok(())
    }

    fn on_open(&mut self, open: &connection::Open, out: &mut session::Output) -> Result<(), Fault> {
        let name = String::from_utf8_lossy(&open.virtual_host).into_owned();
        let known = self
            .visitor
            .as_ref()
            .and_then(|visitor| visitor.known_vhost.as_deref());
        if known == Some(&name) {
            self.enter(out);
            return Ok(());
        }
        self.wanted_vhost = name.clone();
        self.authenticate(Some(name), out);
        self.phase = Phase::Entering;
        Ok(())
    }

    /// The door is open.
    fn enter(&mut self, out: &mut session::Output) {
        self.visitor = None;
        self.phase = Phase::Running;
        self.keep_alive.set_deadline(None);
        let mut step = Step {
            shared: &mut self.shared,
            now: message::Timestamp::default(),
            out,
        };
        step.send(0, connection::OpenOk::default());
    }

    /// The core's answer to a question about the visitor.
    pub(super) fn on_verdict(
        &mut self,
        event: Event,
        out: &mut session::Output,
    ) -> Result<(), Verdict> {
        match (self.phase, event) {
            (
                Phase::Verifying,
                Event::Authenticated {
                    vhost,
                    vhost_name,
                    user,
                    ..
                },
            ) => {
                if let Some(visitor) = &mut self.visitor {
                    visitor.known_vhost = Some(vhost_name.clone());
                }
                self.shared.vhost = vhost;
                self.shared.vhost_name = vhost_name;
                self.shared.user = user;
                self.tune(out);
                Ok(())
            }
            // The default virtual host is not for this user; another one may be. And that this node is not the active one
            // is said when the connection is about to open, as RabbitMQ does: clients take an end before that for a failed login.
            (Phase::Verifying, Event::Refused { refusal, .. })
                if matches!(
                    refusal.kind,
                    RefusalKind::AccessDenied | RefusalKind::NotFound | RefusalKind::NotActive
                ) =>
            {
                self.tune(out);
                Ok(())
            }
            (Phase::Verifying, Event::Refused { refusal, .. }) => {
                let Some(visitor) = self.visitor.take() else {
                    return Ok(());
                };
                if refusal.kind != RefusalKind::BadCredentials {
                    return Err(Verdict::Fault(Fault::from(refusal)));
                }
                // Peers that do not announce the capability take a closed socket for a failed login.
                // [RABBIT-authentication-failure-1]
                if !visitor.failure_close {
                    return Err(Verdict::Close(Close::fault("login refused")));
                }
                Err(Verdict::Fault(Fault::new(
                    ReplyCode::AccessRefused,
                    format!(
                        "Login was refused using authentication mechanism {}. For details see the broker logfile.",
                        visitor.mechanism
                    ),
                )))
            }
            (
                Phase::Entering,
                Event::Authenticated {
                    vhost,
                    vhost_name,
                    user,
                    ..
                },
            ) => {
                self.shared.vhost = vhost;
                self.shared.vhost_name = vhost_name;
                self.shared.user = user;
                self.enter(out);
                Ok(())
            }
            (Phase::Entering, Event::Refused { refusal, .. }) => {
                let vhost = &self.wanted_vhost;
                let user = match self.visitor.take().map(|visitor| visitor.credentials) {
                    Some(Credentials::Plain { user, .. }) => user,
                    _ => String::new(),
                };
                Err(Verdict::Fault(
                    match refusal.kind {
                        RefusalKind::NotFound => {
                            Fault::new(ReplyCode::NotAllowed, format!("vhost {vhost} not found"))
                        }
                        // [AMQP-connection.open.virtual-host.security]
                        RefusalKind::AccessDenied | RefusalKind::BadCredentials => Fault::new(
                            ReplyCode::NotAllowed,
                            format!("access to vhost '{vhost}' refused for user '{user}'"),
                        ),
                        _ => Fault::from(refusal.naming(self.listener)),
                    }
                    .by((10, 40)),
                ))
            }
            _ => Ok(()),
        }
    }

    fn tune(&mut self, out: &mut session::Output) {
        let config = &self.shared.config;
        let method = connection::Tune {
            channel_max: config.channel_max,
            frame_max: config.frame_len_max,
            heartbeat: config.heartbeat_s,
        };
        let mut step = Step {
            shared: &mut self.shared,
            now: message::Timestamp::default(),
            out,
        };
        step.send(0, method);
        self.phase = Phase::Tune;
    }
}

/// What a peer speaks that begins otherwise than with our header, for the log (4.2.2, and the headers of AMQP 1.0).
fn spoken(input: &[u8]) -> String {
    match *input {
        [b'A', b'M', b'Q', b'P', id, major, minor, revision, ..] => match (id, major) {
            (0, 1) => format!("AMQP {major}.{minor}.{revision}"),
            (2, 1) => format!("AMQP {major}.{minor}.{revision} with TLS"),
            (3, 1) => format!("AMQP {major}.{minor}.{revision} with SASL"),
            // Before 0-9-1 the first two numbers were the class and the instance of the protocol.
            (1, 1) if minor >= 8 => "AMQP 0-8".to_owned(),
            (1, 1) => format!("AMQP {minor}-{revision}"),
            _ => format!("AMQP with the numbers {id} {major} {minor} {revision}"),
        },
        [0x16, ..] => "TLS".to_owned(),
        _ => "something else".to_owned(),
    }
}

/// How a visitor is turned away.
pub(super) enum Verdict {
    /// With a `connection.close`.
    Fault(Fault),
    /// Without a word.
    Close(Close),
}

/// [AMQP-connection.tune-ok.channel-max.upper-limit], [AMQP-connection.tune-ok.frame-max.upper-limit].
fn within(what: &str, wanted: u32, offered: u32) -> Result<u32, Fault> {
    if wanted == 0 {
        return Ok(offered);
    }
    if wanted > offered {
        return Err(Fault::new(
            ReplyCode::NotAllowed,
            format!(
                "negotiated {what} = {wanted} is higher than the maximum allowed value ({offered})"
            ),
        ));
    }
    Ok(wanted)
}

/// [AMQP-connection.start.server-properties.required-fields].
fn server_properties(config: &Config) -> Properties {
    let mut properties = Properties::default();
    let capabilities = CAPABILITIES
        .iter()
        .map(|name| (Value::text(*name), Value::Bool(true)))
        .collect();
    properties.push("capabilities", Value::Map(capabilities));
    properties.push("product", Value::text(config.product.to_string()));
    properties.push("version", Value::text(config.product_version.to_string()));
    properties.push("platform", Value::text("Rust"));
    properties
}

/// RFC 4616: authorization identity, NUL, user, NUL, password.
fn plain(response: &Bytes) -> Option<Credentials> {
    let mut parts = response.splitn(3, |byte| *byte == 0);
    let (_authorization, user, password) = (parts.next()?, parts.next()?, parts.next()?);
    Some(Credentials::Plain {
        user: std::str::from_utf8(user).ok()?.to_owned(),
        password: Bytes::copy_from_slice(password),
    })
}

/// The fields of a table, without the table's length: LOGIN and PASSWORD.
fn amqplain(response: &Bytes) -> Option<Credentials> {
    let mut table = BytesMut::with_capacity(response.len() + 4);
    table.put_u32(u32::try_from(response.len()).ok()?);
    table.put_slice(response);
    let table = crate::codec::read_table(table.freeze()).ok()?;
    let (Some(Value::Text(user)), Some(Value::Text(password) | Value::LongString(password))) =
        (table.first(b"LOGIN"), table.first(b"PASSWORD"))
    else {
        return None;
    };
    Some(Credentials::Plain {
        user: std::str::from_utf8(user).ok()?.to_owned(),
        password: Bytes::copy_from_slice(password),
    })
}
