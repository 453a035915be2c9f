//! Errors as the services word them.

use std::borrow::Cow;

/// An error of an operation, or of the envelope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ApiError {
    /// The code: the name of the exception in JSON and CBOR, such as `QueueDoesNotExist`.
    pub code: Cow<'static, str>,
    /// The code in the query protocol, where it is another: `AWS.SimpleQueueService.NonExistentQueue`. Clients that came from the
    /// query protocol are told it in the header `x-amzn-query-error` too.
    pub query_code: Option<Cow<'static, str>>,
    /// The HTTP status.
    pub status: u16,
    /// The message.
    pub message: Cow<'static, str>,
    /// The service is at fault, not the sender.
    pub receiver: bool,
}

impl ApiError {
    /// The sender's fault: status 400.
    pub fn sender(
        code: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            code: code.into(),
            query_code: None,
            status: 400,
            message: message.into(),
            receiver: false,
        }
    }

    /// Our fault, or want of room: status 503 or 500; clients try again.
    pub fn receiver(
        status: u16,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            receiver: true,
            ..Self::sender(code, message)
        }
    }

    /// With another code in the query protocol.
    #[must_use]
    pub fn in_query(mut self, code: impl Into<Cow<'static, str>>) -> Self {
        self.query_code = Some(code.into());
        self
    }

    /// With another status.
    #[must_use]
    pub const fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }
}
