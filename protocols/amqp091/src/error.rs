//! What can be wrong: bytes ([`DecodeError`]) and behaviour ([`Fault`]), and the reply codes that say so (AMQP 0-9-1, 1.1 constants).

use session::{Refusal, RefusalKind};

/// Bytes that are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum DecodeError {
    #[error("frame ends inside a value")]
    Truncated,
    #[error("unknown frame type {0}")]
    FrameType(u8),
    #[error("frame of {len} bytes is larger than the negotiated {frame_max}")]
    FrameTooLarge { len: u64, frame_max: u32 },
    #[error("frame ends with octet {0} instead of 206")]
    FrameEnd(u8),
    #[error("heartbeat on channel {0}")]
    HeartbeatChannel(u16),
    #[error("unknown method {method} of class {class}")]
    UnknownMethod { class: u16, method: u16 },
    #[error("malformed arguments of method {method} of class {class}")]
    Arguments { class: u16, method: u16 },
    #[error("unknown field type {0}")]
    FieldType(u8),
    #[error("tables are nested too deeply")]
    TooDeep,
    #[error("weight {0} in a content header instead of 0")]
    Weight(u16),
    #[error("unknown property flags {0:#06x}")]
    PropertyFlags(u16),
    #[error("octets behind the last property")]
    TrailingProperties,
}

/// The reply codes in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
#[expect(missing_docs, reason = "the specification's constants")]
pub enum ReplyCode {
    ReplySuccess = 200,
    ContentTooLarge = 311,
    NoRoute = 312,
    NoConsumers = 313,
    ConnectionForced = 320,
    InvalidPath = 402,
    AccessRefused = 403,
    NotFound = 404,
    ResourceLocked = 405,
    PreconditionFailed = 406,
    FrameError = 501,
    SyntaxError = 502,
    CommandInvalid = 503,
    ChannelError = 504,
    UnexpectedFrame = 505,
    ResourceError = 506,
    NotAllowed = 530,
    NotImplemented = 540,
    InternalError = 541,
}

impl ReplyCode {
    /// As it stands in front of a reply text.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReplySuccess => "OK",
            Self::ContentTooLarge => "CONTENT_TOO_LARGE",
            Self::NoRoute => "NO_ROUTE",
            Self::NoConsumers => "NO_CONSUMERS",
            Self::ConnectionForced => "CONNECTION_FORCED",
            Self::InvalidPath => "INVALID_PATH",
            Self::AccessRefused => "ACCESS_REFUSED",
            Self::NotFound => "NOT_FOUND",
            Self::ResourceLocked => "RESOURCE_LOCKED",
            Self::PreconditionFailed => "PRECONDITION_FAILED",
            Self::FrameError => "FRAME_ERROR",
            Self::SyntaxError => "SYNTAX_ERROR",
            Self::CommandInvalid => "COMMAND_INVALID",
            Self::ChannelError => "CHANNEL_ERROR",
            Self::UnexpectedFrame => "UNEXPECTED_FRAME",
            Self::ResourceError => "RESOURCE_ERROR",
            Self::NotAllowed => "NOT_ALLOWED",
            Self::NotImplemented => "NOT_IMPLEMENTED",
            Self::InternalError => "INTERNAL_ERROR",
        }
    }

    /// Whether it ends the connection (a connection exception) rather than the channel.
    /// [AMQP-4.8-1].
    #[must_use]
    pub const fn is_hard(self) -> bool {
        !matches!(
            self,
            Self::ContentTooLarge
                | Self::NoRoute
                | Self::NoConsumers
                | Self::AccessRefused
                | Self::NotFound
                | Self::ResourceLocked
                | Self::PreconditionFailed
        )
    }
}

/// An exception: the code, a text for people, and the method that caused it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The code; it also decides what ends.
    pub code: ReplyCode,
    /// Behind the code's name and a dash.
    pub text: String,
    /// Class and method number of the culprit, or zeros.
    pub method: (u16, u16),
    by_none: bool,
}

impl Fault {
    /// One that no method caused, until [`Fault::by`] says which.
    pub fn new(code: ReplyCode, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
            method: (0, 0),
            by_none: false,
        }
    }

    /// Names the culprit unless it has been named.
    #[must_use]
    pub const fn by(mut self, method: (u16, u16)) -> Self {
        if self.method.0 == 0 && !self.by_none {
            self.method = method;
        }
        self
    }

    /// Says that no method is to blame, whatever was going on.
    #[must_use]
    pub const fn by_none(mut self) -> Self {
        self.method = (0, 0);
        self.by_none = true;
        self
    }

    /// The reply text as it goes out.
    #[must_use]
    pub fn reply_text(&self) -> String {
        format!("{} - {}", self.code.name(), self.text)
    }
}

impl From<DecodeError> for Fault {
    fn from(error: DecodeError) -> Self {
        let code = match error {
            // [AMQP-4.2.4-1]
            DecodeError::UnknownMethod { .. } => ReplyCode::CommandInvalid,
            // 4.2.6.1, and RabbitMQ takes it for no content header at all.
            DecodeError::Weight(_) => ReplyCode::UnexpectedFrame,
            DecodeError::FrameType(_)
            | DecodeError::FrameTooLarge { .. }
            | DecodeError::FrameEnd(_)
            | DecodeError::HeartbeatChannel(_) => ReplyCode::FrameError,
            _ => ReplyCode::SyntaxError,
        };
        let method = match error {
            DecodeError::UnknownMethod { class, method }
            | DecodeError::Arguments { class, method } => (class, method),
            _ => (0, 0),
        };
        Self::new(code, error.to_string()).by(method)
    }
}

/// The code for a refusal of the core. Callers that know more of the case choose the text.
#[must_use]
pub(crate) const fn code_of(kind: RefusalKind) -> ReplyCode {
    match kind {
        RefusalKind::BadCredentials
        | RefusalKind::AccessDenied
        | RefusalKind::Unexplained
        | RefusalKind::InUse
        | RefusalKind::InvalidName => ReplyCode::AccessRefused,
        RefusalKind::NotFound => ReplyCode::NotFound,
        // [AMQP-queue.declare.exclusive.exclusive]
        RefusalKind::Locked => ReplyCode::ResourceLocked,
        RefusalKind::Inequivalent
        | RefusalKind::NotEmpty
        | RefusalKind::QuotaExceeded
        | RefusalKind::RateExceeded
        | RefusalKind::TooLarge
        | RefusalKind::QueueFull
        | RefusalKind::InvalidArgument
        | RefusalKind::StorageFull
        | RefusalKind::UnknownDelivery
        | RefusalKind::NotOut => ReplyCode::PreconditionFailed,
        RefusalKind::NotImplemented => ReplyCode::NotImplemented,
        RefusalKind::NotActive => ReplyCode::ConnectionForced,
        RefusalKind::Internal => ReplyCode::InternalError,
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::new(code_of(refusal.kind), refusal.detail)
    }
}
