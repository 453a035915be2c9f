//! Answers, and refusals of the core as statuses.

use serde_json::{Value, json};
use session::{Refusal, RefusalKind};

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The body. `None`: there is none.
    pub body: Option<Value>,
    /// With 405: the methods that there are.
    pub allow: Option<&'static str>,
}

impl Reply {
    pub(crate) const fn ok(body: Value) -> Self {
        Self {
            status: 200,
            body: Some(body),
            allow: None,
        }
    }

    /// What was asked for has begun.
    pub(crate) const fn begun(body: Value) -> Self {
        Self {
            status: 202,
            body: Some(body),
            allow: None,
        }
    }

    pub(crate) const fn done() -> Self {
        Self {
            status: 204,
            body: None,
            allow: None,
        }
    }

    /// An error: a word for programs, and a sentence for people.
    #[must_use]
    pub fn error(status: u16, error: &str, reason: &str) -> Self {
        Self {
            status,
            body: Some(json!({ "error": error, "reason": reason })),
            allow: None,
        }
    }

    /// What the core refused.
    #[must_use]
    pub fn refused(refusal: &Refusal) -> Self {
        let (status, error) = match refusal.kind {
            RefusalKind::BadCredentials => (401, "not_authorised"),
            RefusalKind::AccessDenied | RefusalKind::Unexplained => (403, "access_refused"),
            RefusalKind::NotFound => (404, "not_found"),
            RefusalKind::Inequivalent => (409, "exists"),
            RefusalKind::Locked
            | RefusalKind::InUse
            | RefusalKind::NotEmpty
            | RefusalKind::NotOut
            | RefusalKind::UnknownDelivery => (409, "conflict"),
            RefusalKind::TooLarge => (413, "too_large"),
            RefusalKind::QuotaExceeded | RefusalKind::RateExceeded | RefusalKind::QueueFull => {
                (429, "quota_exceeded")
            }
            RefusalKind::InvalidName | RefusalKind::InvalidArgument => (400, "bad_request"),
            RefusalKind::NotImplemented => (501, "not_implemented"),
            RefusalKind::StorageFull | RefusalKind::NotActive => (503, "unavailable"),
            RefusalKind::Internal => (500, "internal_error"),
        };
        Self::error(status, error, &refusal.detail)
    }

    /// The same to a peer that came through that listener, with where the active node has it, should this be about that.
    pub(crate) fn refused_at(listener: &str, refusal: &Refusal) -> Self {
        let mut reply = Self::refused(refusal);
        if let (Some(address), Some(body)) = (refusal.active_at(listener), &mut reply.body) {
            body["active"] = Value::from(&**address);
        }
        reply
    }

    /// The core's answer is none to this question: a defect of ours.
    pub(crate) fn unexpected() -> Self {
        Self::error(500, "internal_error", "the core gave another answer")
    }
}
