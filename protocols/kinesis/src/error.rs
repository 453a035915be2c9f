//! Errors in the words of Kinesis.

use aws::{ApiError, Call, Operation};
use session::{Event, Refusal, RefusalKind, ShardNo};

use crate::shard;

/// The code of what is not there.
pub(crate) const NOT_FOUND: &str = "ResourceNotFoundException";
/// The code of what does not go now, or is there.
pub(crate) const IN_USE: &str = "ResourceInUseException";
/// The code of a bad argument.
pub(crate) const INVALID: &str = "InvalidArgumentException";
/// The code of what is against the shape, or the mode, of something.
pub(crate) const VALIDATION: &str = "ValidationException";
/// The code of a limit on how many.
pub(crate) const LIMIT: &str = "LimitExceededException";
/// The code of a limit on how much a second.
pub(crate) const THROUGHPUT: &str = "ProvisionedThroughputExceededException";
/// The code of a defect of ours.
pub(crate) const INTERNAL: &str = "InternalFailure";

/// How violated constraints are worded.
pub(crate) fn violations(all: &[String]) -> ApiError {
    let plural = if all.len() == 1 { "" } else { "s" };
    ApiError::sender(
        VALIDATION,
        format!(
            "{} validation error{plural} detected: {}",
            all.len(),
            all.join("; ")
        ),
    )
}

/// How a member that is missing is worded.
pub(crate) fn missing(_operation: &Operation, member: &str) -> ApiError {
    let mut path = Vec::new();
    for part in member.split('.') {
        let mut part = part.to_owned();
        if let Some(first) = part.get_mut(..1) {
            first.make_ascii_lowercase();
        }
        let is_number = part.bytes().all(|byte| byte.is_ascii_digit());
        path.push(part);
        if is_number {
            path.push("member".to_owned());
        }
    }
    violations(&[format!(
        "Value null at '{}' failed to satisfy constraint: Member must not be null",
        path.join(".")
    )])
}

/// A bad argument.
pub(crate) fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::sender(INVALID, message.into())
}

/// There is no such stream.
pub(crate) fn no_stream(call: &Call, name: &str) -> ApiError {
    ApiError::sender(
        NOT_FOUND,
        format!("Stream {name} under account {} not found.", call.account),
    )
}

/// There is no such shard.
pub(crate) fn no_shard(call: &Call, stream: &str, shard: &str) -> ApiError {
    ApiError::sender(
        NOT_FOUND,
        format!(
            "Could not find shard {shard} in stream {stream} under account {}.",
            call.account
        ),
    )
}

/// There is no such shard to read.
pub(crate) fn no_such_shard(call: &Call, stream: &str, shard: &str) -> ApiError {
    ApiError::sender(
        NOT_FOUND,
        format!(
            "Shard {shard} in stream {stream} under account {} does not exist",
            call.account
        ),
    )
}

/// The stream is there.
pub(crate) fn exists(call: &Call, name: &str) -> ApiError {
    ApiError::sender(
        IN_USE,
        format!(
            "Stream {name} under account {} already exists.",
            call.account
        ),
    )
}

/// Not with an on-demand stream.
pub(crate) fn on_demand(call: &Call, name: &str) -> ApiError {
    ApiError::sender(
        VALIDATION,
        format!(
            "Request is invalid. Stream {name} under account {} is in On-Demand mode.",
            call.account
        ),
    )
}

/// Too many shards.
pub(crate) fn too_many_shards(call: &Call, open: u64, more: u64) -> ApiError {
    ApiError::sender(
        LIMIT,
        format!(
            "This request would exceed the shard limit for the account {} in {}. Current shard count for the account: {open}. \
             Limit: {}. Number of additional shards that would have resulted from this request: {more}.",
            call.account, call.region, call.settings.shards_max
        ),
    )
}

/// More in this second than the shard takes or gives.
pub(crate) fn rate(call: &Call, stream: &str, shard: &str) -> ApiError {
    ApiError::sender(
        THROUGHPUT,
        format!(
            "Rate exceeded for shard {shard} in stream {stream} under account {}.",
            call.account
        ),
    )
}

/// What the core refused, about a stream of that name.
pub(crate) fn refused(call: &Call, name: &str, refusal: &Refusal) -> ApiError {
    let detail = || refusal.detail.clone();
    match refusal.kind {
        RefusalKind::NotFound => no_stream(call, name),
        RefusalKind::BadCredentials | RefusalKind::AccessDenied | RefusalKind::Unexplained => {
            ApiError::sender(
                "AccessDeniedException",
                format!(
                    "User: {} is not authorized to perform this on resource: {}",
                    call.caller_arn(),
                    call.arn("kinesis", &format!("stream/{name}"))
                ),
            )
        }
        RefusalKind::RateExceeded => rate(call, name, &shard_of(refusal)),
        RefusalKind::QuotaExceeded => ApiError::sender(LIMIT, detail()),
        RefusalKind::Inequivalent
        | RefusalKind::InUse
        | RefusalKind::Locked
        | RefusalKind::NotEmpty
        | RefusalKind::UnknownDelivery
        | RefusalKind::NotOut => ApiError::sender(
            IN_USE,
            format!(
                "Stream {name} under account {} is being changed by another request.",
                call.account
            ),
        ),
        RefusalKind::TooLarge
        | RefusalKind::InvalidName
        | RefusalKind::InvalidArgument
        | RefusalKind::NotImplemented => ApiError::sender(INVALID, detail()),
        RefusalKind::StorageFull | RefusalKind::QueueFull | RefusalKind::NotActive => {
            ApiError::receiver(503, "ServiceUnavailable", detail())
        }
        RefusalKind::Internal => ApiError::receiver(500, INTERNAL, detail()),
    }
}

/// The shard that a rate is exceeded for, as far as the core says which.
fn shard_of(refusal: &Refusal) -> String {
    refusal
        .known
        .as_deref()
        .and_then(|number| std::str::from_utf8(number).ok()?.parse().ok())
        .map_or_else(
            || "of the record".to_owned(),
            |number| shard::id(ShardNo(number)),
        )
}

/// What an event says that is not the one that was asked for.
pub(crate) fn unexpected(call: &Call, name: &str, event: &Event) -> ApiError {
    match event {
        Event::Refused { refusal, .. } => refused(call, name, refusal),
        _ => ApiError::receiver(
            500,
            INTERNAL,
            "The request was answered with something else.",
        ),
    }
}
