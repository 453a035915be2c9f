//! What went wrong, as an ERROR frame tells it. STOMP knows one scope only: the connection ends (STOMP 1.2, "ERROR").

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use session::{Close, Refusal, RefusalKind, Wire};

use crate::codec::{DecodeError, Frame, Verb, Version};

/// The reason for an ERROR frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The `message` header: short, always the same for the same cause.
    pub(crate) message: &'static str,
    /// The body: what exactly, for people.
    pub(crate) detail: Cow<'static, str>,
    /// The receipt asked for by the frame that caused it.
    pub(crate) receipt: Option<Bytes>,
    /// Further headers.
    pub(crate) header: Option<(&'static str, Box<str>)>,
    /// The peer broke the protocol.
    pub(crate) peer: bool,
}

impl Fault {
    /// The peer broke the protocol.
    pub(crate) fn peer(message: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            message,
            detail: detail.into(),
            receipt: None,
            header: None,
            peer: true,
        }
    }

    /// Not the peer's fault, or no breach of the protocol.
    pub(crate) fn other(message: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            peer: false,
            ..Self::peer(message, detail)
        }
    }

    pub(crate) fn missing(header: &'static str, verb: Verb) -> Self {
        Self::peer(
            "missing header",
            format!("{} needs the header '{header}'", verb.as_str()),
        )
    }

    pub(crate) fn invalid(header: &str, value: &[u8], wanted: &str) -> Self {
        Self::peer(
            "invalid header",
            format!(
                "the header '{header}' is '{}'; it must be {wanted}",
                String::from_utf8_lossy(value)
            ),
        )
    }

    pub(crate) fn not_built(what: impl Into<Cow<'static, str>>) -> Self {
        Self::other("not implemented", what)
    }

    /// [STOMP-error-3].
    pub(crate) fn with_receipt(mut self, receipt: Option<Bytes>) -> Self {
        self.receipt = self.receipt.or(receipt);
        self
    }

    /// Writes the ERROR frame and ends the session.
    /// [STOMP-error-1], [STOMP-error-2].
    pub(crate) fn close(self, version: Version, wire: &mut Wire) -> Close {
        let mut frame = Frame::new(Verb::Error)
            .with("message", self.message)
            // [STOMP-frame-11]
            .with("content-type", "text/plain");
        if let Some((name, value)) = self.header {
            frame = frame.with(name, value.into_boxed_bytes());
        }
        if let Some(receipt) = self.receipt {
            frame = frame.with("receipt-id", receipt);
        }
        let detail = self.detail;
        let frame = frame.with_body(format!("{detail}\n"));
        frame.encode(version, wire);
        let reason = format!("{}: {detail}", self.message);
        if self.peer {
            Close::fault(reason)
        } else {
            Close::done(reason)
        }
    }
}

impl From<DecodeError> for Fault {
    fn from(error: DecodeError) -> Self {
        let message = match &error {
            DecodeError::TooLarge { .. } => "frame too large",
            DecodeError::UnknownCommand(_) => "unknown command",
            _ => "malformed frame",
        };
        Self::peer(message, error.to_string())
    }
}

/// The header that names the server to use instead, as `host:port`: what MQTT 5 calls so too.
const SERVER_REFERENCE: &str = "server-reference";

impl Fault {
    /// Names the server to use instead, if it is known.
    pub(crate) fn with_server(mut self, address: Option<&Arc<str>>) -> Self {
        if let Some(address) = address {
            self.header = Some((SERVER_REFERENCE, (**address).into()));
        }
        self
    }
}

/// The header that asks for a property of a queue.
fn header_of(property: &str) -> Option<&'static str> {
    Some(match property {
        "ttl_ms" => "x-message-ttl",
        "expires_ms" => "x-expires",
        "length_max" => "x-max-length",
        "bytes_max" => "x-max-length-bytes",
        "overflow" => "x-overflow",
        "deliveries_max" => "x-delivery-limit",
        "priority_max" => "x-max-priority",
        "single_active_consumer" => "x-single-active-consumer",
        _ => return None,
    })
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        let message = match refusal.kind {
            RefusalKind::BadCredentials => "login refused",
            RefusalKind::AccessDenied | RefusalKind::Unexplained => "access denied",
            RefusalKind::NotFound => "not found",
            RefusalKind::Inequivalent => "declared otherwise",
            RefusalKind::Locked => "locked",
            RefusalKind::InUse => "in use",
            RefusalKind::NotEmpty => "not empty",
            RefusalKind::QuotaExceeded => "quota exceeded",
            RefusalKind::RateExceeded => "rate exceeded",
            RefusalKind::TooLarge => "message too large",
            RefusalKind::QueueFull => "queue full",
            RefusalKind::StorageFull => "storage full",
            RefusalKind::InvalidName => "invalid name",
            RefusalKind::InvalidArgument => "invalid argument",
            RefusalKind::NotImplemented => "not implemented",
            RefusalKind::NotActive => "not active",
            RefusalKind::UnknownDelivery | RefusalKind::NotOut => "unknown delivery",
            RefusalKind::Internal => "internal error",
        };
        let header = refusal.unlike.and_then(|unlike| {
            let sentence = refusal.detail.strip_suffix(unlike.property)?;
            Some(format!("{sentence}{}", header_of(unlike.property)?))
        });
        match header {
            Some(detail) => Self::other(message, detail),
            None => Self::other(message, refusal.detail),
        }
    }
}
