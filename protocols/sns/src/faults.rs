//! Errors in the words of SNS.

use aws::{ApiError, Call, Operation};
use session::{Refusal, RefusalKind};

/// `InvalidParameter`, in the way SNS begins it.
pub(crate) fn invalid(what: impl AsRef<str>) -> ApiError {
    plain(format!("Invalid parameter: {}", what.as_ref()))
}

/// `InvalidParameter` with a message of its own.
pub(crate) fn plain(message: impl Into<String>) -> ApiError {
    ApiError::sender("InvalidParameter", message.into())
}

/// `NotFound`.
pub(crate) fn not_found(what: &'static str) -> ApiError {
    ApiError::sender("NotFound", what).with_status(404)
}

/// There is no such topic.
pub(crate) fn no_topic() -> ApiError {
    not_found("Topic does not exist")
}

/// There is no such subscription.
pub(crate) fn no_subscription() -> ApiError {
    not_found("Subscription does not exist")
}

/// Something that is understood and that nobody here does.
pub(crate) fn unsupported(what: &str) -> ApiError {
    invalid(format!("{what} is not supported by this broker"))
}

/// All that is wrong with the shape of an input.
pub(crate) fn violations(violations: &[String]) -> ApiError {
    let many = if violations.len() == 1 {
        "error"
    } else {
        "errors"
    };
    ApiError::sender(
        "ValidationError",
        format!(
            "{} validation {many} detected: {}",
            violations.len(),
            violations.join("; ")
        ),
    )
}

/// A member that must be there and is not.
pub(crate) fn missing(_: &Operation, member: &str) -> ApiError {
    let mut name = member.to_owned();
    if let Some(first) = name.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    ApiError::sender(
        "ValidationError",
        format!(
            "1 validation error detected: Value null at '{name}' failed to satisfy constraint: Member must not be null"
        ),
    )
}

/// What a refusal of the core is, where the operation knows no better.
pub(crate) fn refused(call: &Call, operation: &str, resource: &str, refusal: &Refusal) -> ApiError {
    match refusal.kind {
        RefusalKind::BadCredentials | RefusalKind::AccessDenied | RefusalKind::Unexplained => {
            barred(call, &format!("SNS:{operation}"), resource, "")
        }
        RefusalKind::NotFound => no_topic(),
        RefusalKind::TooLarge => invalid("Message too long"),
        RefusalKind::InvalidName | RefusalKind::InvalidArgument | RefusalKind::NotImplemented => {
            invalid(format!("{operation} Reason: {}", refusal.detail))
        }
        RefusalKind::QuotaExceeded if has_too_many_policies(refusal) => {
            ApiError::sender("FilterPolicyLimitExceeded", refusal.detail.clone()).with_status(403)
        }
        // Not `Throttled` 429, which the model has for phone numbers alone: SDKs do not try again by that name.
        RefusalKind::QuotaExceeded
        | RefusalKind::RateExceeded
        | RefusalKind::QueueFull
        | RefusalKind::StorageFull
        | RefusalKind::NotActive => ApiError::refused(refusal),
        RefusalKind::Inequivalent | RefusalKind::InUse | RefusalKind::Locked => ApiError::sender(
            "ConcurrentAccess",
            "The resource was changed by others at the same time. Try again.",
        ),
        RefusalKind::NotEmpty
        | RefusalKind::UnknownDelivery
        | RefusalKind::NotOut
        | RefusalKind::Internal => internal(refusal.detail.clone()),
    }
}

/// Whether it is filter policies that there are too many of.
pub(crate) fn has_too_many_policies(refusal: &Refusal) -> bool {
    refusal.known.as_deref() == Some(Refusal::POLICIES)
}

/// The caller may not do that. `because` is put behind the resource.
pub(crate) fn barred(call: &Call, action: &str, resource: &str, because: &str) -> ApiError {
    ApiError::sender(
        "AuthorizationError",
        format!(
            "User: {} is not authorized to perform: {action} on resource: {resource}{because}",
            call.caller_arn()
        ),
    )
    .with_status(403)
}

/// Our fault.
pub(crate) fn internal(detail: impl Into<std::borrow::Cow<'static, str>>) -> ApiError {
    ApiError::receiver(500, "InternalError", detail)
}
