//! Errors as the services word them.

use std::borrow::Cow;

use session::{Refusal, RefusalKind};

/// Nothing can be done at this time.
const UNAVAILABLE: &str = "ServiceUnavailable";
/// There is no room for what was sent, or it came too fast.
const THROTTLING: &str = "ThrottlingException";

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

    /// What the core refused, for which a service has no words of its own: those of all services. Want of room is worded so
    /// that SDKs try again, later and later.
    #[must_use]
    pub fn refused(refusal: &Refusal) -> Self {
        let detail = refusal.detail.clone();
        match refusal.kind {
            RefusalKind::StorageFull | RefusalKind::NotActive => Self::unavailable(detail),
            RefusalKind::QuotaExceeded | RefusalKind::RateExceeded | RefusalKind::QueueFull => {
                Self::sender(THROTTLING, detail).in_query("Throttling")
            }
            RefusalKind::BadCredentials => Self::sender("UnrecognizedClientException", detail)
                .in_query("InvalidClientTokenId")
                .with_status(403),
            RefusalKind::AccessDenied | RefusalKind::Unexplained => {
                Self::sender("AccessDeniedException", detail)
                    .in_query("AccessDenied")
                    .with_status(403)
            }
            RefusalKind::NotFound => Self::sender("ResourceNotFoundException", detail),
            RefusalKind::Inequivalent
            | RefusalKind::Locked
            | RefusalKind::InUse
            | RefusalKind::NotEmpty => Self::sender("ResourceInUseException", detail),
            RefusalKind::TooLarge
            | RefusalKind::InvalidName
            | RefusalKind::InvalidArgument
            | RefusalKind::UnknownDelivery
            | RefusalKind::NotOut => {
                Self::sender("ValidationException", detail).in_query("InvalidParameterValue")
            }
            RefusalKind::NotImplemented => Self::sender("UnsupportedOperation", detail),
            RefusalKind::Internal => Self::receiver(500, "InternalFailure", detail),
        }
    }

    /// Whether [`Self::refused`] made it of want of room: SDKs try again.
    #[must_use]
    pub fn is_want_of_room(&self) -> bool {
        matches!(&*self.code, UNAVAILABLE | THROTTLING)
    }

    /// Nothing can be done at this time: 503, and SDKs try again.
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::receiver(503, UNAVAILABLE, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn want_of_room_is_worded_so_that_clients_try_again() {
        for kind in [
            RefusalKind::QuotaExceeded,
            RefusalKind::RateExceeded,
            RefusalKind::QueueFull,
            RefusalKind::StorageFull,
            RefusalKind::NotActive,
        ] {
            assert!(kind.is_want_of_room());
            let error = ApiError::refused(&Refusal::new(kind, "no room"));
            assert!(error.is_want_of_room());
            // What botocore's retry rules know.
            let throttled = error.code == "ThrottlingException"
                && error.query_code.as_deref() == Some("Throttling");
            assert!(throttled || error.status == 503, "{kind:?}: {error:?}");
        }
    }
}
