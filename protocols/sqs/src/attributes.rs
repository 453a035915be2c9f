//! Queue attributes: read, kept and shown.
//!
//! | attribute | kept as | shown when not set |
//! |---|---|---|
//! | VisibilityTimeout, DelaySeconds | the core's | 30, 0 |
//! | MessageRetentionPeriod | the core's retention | 1209600, with `bascule.retention` = `unlimited` (DOORS 12); CreateQueue sets 345600 |
//! | RedrivePolicy | the core's redrive target and greatest count, and its text | |
//! | FifoQueue, ContentBasedDeduplication, DeduplicationScope | the core's | for FIFO queues: `false`, `queue` |
//! | MaximumMessageSize | note: binds SendMessage only (DOORS 15) | what the operator allows: 1048576 |
//! | ReceiveMessageWaitTimeSeconds | note: the core is told with each pull | 0 |
//! | FifoThroughputLimit | note: there is no such limit here | for FIFO queues: `perQueue` |
//! | Policy, RedriveAllowPolicy | note | |
//! | KmsMasterKeyId, KmsDataKeyReusePeriodSeconds, SqsManagedSseEnabled | note | SqsManagedSseEnabled: `false` |
//! | `bascule.body` | note: how bodies are shown (DOORS 22) | `auto` |
//!
//! Policies say who may do what in AWS; here users and rules do (DOORS 29), and a policy is checked, kept and shown.
//! RedriveAllowPolicy is enforced. The encryption attributes are kept, so that tools that set them find them again; they
//! encrypt nothing.

use aws::{ApiError, Call, Manners, body::Showing};
use message::Name;
use session::{Fifo, QueueInfo};

use crate::{
    asked::Made,
    queue,
    redrive::{AllowPolicy, RedrivePolicy},
    words,
};

/// The core's default, in seconds.
const VISIBILITY: u64 = 30;
/// The longest visibility timeout, in seconds.
pub(crate) const VISIBILITY_MAX: u64 = 43_200;
/// What CreateQueue sets, and the longest, in seconds.
const RETENTION_S: u64 = 345_600;
const RETENTION_MAX: u64 = 1_209_600;
/// The smallest and the largest of MaximumMessageSize, in bytes; the operator may allow more.
pub(crate) const MESSAGE_LEN_LEAST: u64 = 1024;
const MESSAGE_LEN_MAX: u64 = 1 << 20;
/// The longest poll, in seconds.
pub(crate) const WAIT_MAX: u64 = 20;
/// The longest delay, in seconds.
pub(crate) const DELAY_MAX: u64 = 900;

/// Attributes that can be asked for, in the order in which they are shown.
pub(crate) const SHOWN: &[&str] = &[
    "QueueArn",
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
    "CreatedTimestamp",
    "LastModifiedTimestamp",
    "VisibilityTimeout",
    "MaximumMessageSize",
    RETENTION,
    "DelaySeconds",
    "ReceiveMessageWaitTimeSeconds",
    "Policy",
    "RedrivePolicy",
    "RedriveAllowPolicy",
    "FifoQueue",
    "ContentBasedDeduplication",
    "DeduplicationScope",
    "FifoThroughputLimit",
    "KmsMasterKeyId",
    "KmsDataKeyReusePeriodSeconds",
    "SqsManagedSseEnabled",
    BODY,
    RETENTION_OURS,
];

const BODY: &str = "bascule.body";
const RETENTION: &str = "MessageRetentionPeriod";
const RETENTION_OURS: &str = "bascule.retention";
/// Names the queue where the alphabet of SQS is too small; on CreateQueue only.
pub(crate) const ADDRESS: &str = "bascule.address";

/// The name of an attribute as it is meant: white space around it is passed over, as some programs write it.
pub(crate) fn meant(name: &str) -> &str {
    name.trim()
}

/// What a queue is made with.
pub(crate) fn fresh(fifo: bool) -> Made {
    let mut made = Made::default();
    made.attributes.retention_ms = Some(RETENTION_S * 1000);
    if fifo {
        made.attributes.fifo = Some(Fifo {
            dedup_by_content: false,
            dedup_per_group: false,
        });
    }
    made
}

fn number(name: &str, value: &str, min: u64, max: u64) -> Result<u64, ApiError> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    value
        .parse()
        .ok()
        .filter(|number| digits && (min..=max).contains(number))
        .ok_or_else(|| words::invalid_attribute(name))
}

fn flag(name: &str, value: &str) -> Result<bool, ApiError> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(words::invalid_attribute(name)),
    }
}

/// Sets those of a request, whatever their order.
pub(crate) fn set_all<'a>(
    made: &mut Made,
    given: impl Iterator<Item = &'a (String, String)> + Clone,
    call: &Call,
) -> Result<(), ApiError> {
    let said = |wanted| {
        let mut given = given.clone();
        given.find(|(name, _)| name == wanted)
    };
    let unlimited = said(RETENTION_OURS);
    // What is kept for ever is shown with the longest time too, and may be set so.
    let longest = RETENTION_MAX.to_string();
    if unlimited.is_some() && said(RETENTION).is_some_and(|(_, period)| *period != longest) {
        return Err(words::invalid_attribute_because(
            RETENTION_OURS,
            "MessageRetentionPeriod says otherwise.",
        ));
    }
    for (name, value) in given.clone().chain(unlimited) {
        set(made, name, value, call)?;
    }
    check(made)
}

/// Sets one attribute. The redrive policy is checked against its target by the caller.
pub(crate) fn set(made: &mut Made, name: &str, value: &str, call: &Call) -> Result<(), ApiError> {
    // An empty value takes these away.
    let given = (!value.is_empty()).then_some(value);
    let attributes = &mut made.attributes;
    match name {
        "VisibilityTimeout" => {
            let seconds = number(name, value, 0, VISIBILITY_MAX)?;
            attributes.visibility_timeout_ms = Some(seconds * 1000);
        }
        "DelaySeconds" => attributes.delay_ms = number(name, value, 0, DELAY_MAX)? * 1000,
        RETENTION => {
            let least = if call.settings.manners == Manners::Moto {
                1
            } else {
                60
            };
            attributes.retention_ms = Some(number(name, value, least, RETENTION_MAX)? * 1000);
        }
        "MaximumMessageSize" => {
            number(
                name,
                value,
                MESSAGE_LEN_LEAST,
                message_len_limit(call).max(MESSAGE_LEN_MAX),
            )?;
            made.keep(name, Some(value));
        }
        "ReceiveMessageWaitTimeSeconds" => {
            number(name, value, 0, WAIT_MAX)?;
            made.keep(name, Some(value));
        }
        "RedrivePolicy" => match given.and_then(RedrivePolicy::empty_is_none) {
            Some(text) => {
                let policy = RedrivePolicy::read(text, call)?;
                policy.put_into(made);
            }
            None => RedrivePolicy::take_from(made),
        },
        "RedriveAllowPolicy" => {
            let text = given.and_then(RedrivePolicy::empty_is_none);
            if let Some(text) = text {
                AllowPolicy::read(text)?;
            }
            made.keep(name, text);
        }
        "Policy" => {
            if let Some(text) = given {
                crate::policy::check(text)?;
            }
            made.keep(name, given);
        }
        "KmsMasterKeyId" => made.keep(name, given),
        "KmsDataKeyReusePeriodSeconds" => {
            number(name, value, 60, 86_400)?;
            made.keep(name, Some(value));
        }
        "SqsManagedSseEnabled" => {
            flag(name, value)?;
            made.keep(name, Some(value));
        }
        "FifoQueue" => {
            let fifo = attributes.fifo.is_some();
            if wants_fifo(value, call)? != fifo {
                return Err(words::invalid_attribute_because(
                    name,
                    "Modifying queue type is not supported.",
                ));
            }
        }
        "ContentBasedDeduplication" | "DeduplicationScope" | "FifoThroughputLimit" => {
            return set_fifo(made, name, value);
        }
        BODY => {
            Showing::named(value).ok_or_else(|| words::invalid_attribute(name))?;
            made.keep(name, Some(value));
        }
        RETENTION_OURS if value == "unlimited" => attributes.retention_ms = None,
        RETENTION_OURS => return Err(words::invalid_attribute(name)),
        _ => return Err(words::unknown_attribute(name)),
    }
    Ok(())
}

fn set_fifo(made: &mut Made, name: &str, value: &str) -> Result<(), ApiError> {
    let Some(fifo) = &mut made.attributes.fifo else {
        return Err(words::unknown_attribute(name));
    };
    match (name, value) {
        ("ContentBasedDeduplication", _) => fifo.dedup_by_content = flag(name, value)?,
        ("DeduplicationScope", "queue") => fifo.dedup_per_group = false,
        ("DeduplicationScope", "messageGroup") => fifo.dedup_per_group = true,
        ("FifoThroughputLimit", "perQueue" | "perMessageGroupId") => made.keep(name, Some(value)),
        _ => return Err(words::invalid_attribute(name)),
    }
    Ok(())
}

/// Whether `FifoQueue` asks for a FIFO queue.
pub(crate) fn wants_fifo(value: &str, call: &Call) -> Result<bool, ApiError> {
    match flag("FifoQueue", value) {
        Err(_) if call.settings.manners == Manners::Moto => Ok(false),
        wants => wants,
    }
}

/// What several attributes together may not be.
fn check(made: &Made) -> Result<(), ApiError> {
    if made.note("FifoThroughputLimit") == Some("perMessageGroupId")
        && !made
            .attributes
            .fifo
            .is_some_and(|fifo| fifo.dedup_per_group)
    {
        return Err(words::invalid_attribute_because(
            "FifoThroughputLimit",
            "The perMessageGroupId value is allowed only when the value for DeduplicationScope is messageGroup.",
        ));
    }
    if made.note("SqsManagedSseEnabled") == Some("true") && made.note("KmsMasterKeyId").is_some() {
        return Err(words::invalid_attribute_because(
            "SqsManagedSseEnabled",
            "You can use one type of server-side encryption (SSE) at one time. You can either enable KMS SSE or SQS SSE.",
        ));
    }
    Ok(())
}

/// What a queue has for an attribute that can be set. `None`: nothing.
pub(crate) fn kept(made: &Made, name: &str, call: &Call) -> Option<String> {
    let attributes = &made.attributes;
    let seconds = |ms: u64| (ms / 1000).to_string();
    let note = |default: Option<&str>| made.note(name).or(default).map(str::to_owned);
    match name {
        "VisibilityTimeout" => Some(seconds(
            attributes
                .visibility_timeout_ms
                .unwrap_or(VISIBILITY * 1000),
        )),
        "DelaySeconds" => Some(seconds(attributes.delay_ms)),
        RETENTION => Some(seconds(
            attributes.retention_ms.unwrap_or(RETENTION_MAX * 1000),
        )),
        "MaximumMessageSize" => note(Some(&message_len_limit(call).to_string())),
        "ReceiveMessageWaitTimeSeconds" => note(Some("0")),
        "SqsManagedSseEnabled" => note(Some("false")),
        "RedrivePolicy" => RedrivePolicy::of(made, call),
        "FifoQueue" => attributes.fifo.map(|_| "true".to_owned()),
        "ContentBasedDeduplication" => attributes
            .fifo
            .map(|fifo| fifo.dedup_by_content.to_string()),
        "DeduplicationScope" => attributes.fifo.map(|fifo| {
            let scope = if fifo.dedup_per_group {
                "messageGroup"
            } else {
                "queue"
            };
            scope.to_owned()
        }),
        "FifoThroughputLimit" => attributes.fifo.and_then(|_| note(Some("perQueue"))),
        "Policy" | "RedriveAllowPolicy" | "KmsMasterKeyId" | BODY => note(None),
        "KmsDataKeyReusePeriodSeconds" => {
            // Known where there is a key.
            note(made.note("KmsMasterKeyId").map(|_| "300"))
        }
        RETENTION_OURS => attributes
            .retention_ms
            .is_none()
            .then(|| "unlimited".to_owned()),
        _ => None,
    }
}

/// What a queue shows for an attribute. `None`: nothing.
pub(crate) fn show(queue: &QueueInfo, made: &Made, name: &str, call: &Call) -> Option<String> {
    Some(match name {
        "QueueArn" => queue::arn(call, &queue.name),
        "ApproximateNumberOfMessages" => queue.available.to_string(),
        "ApproximateNumberOfMessagesNotVisible" => queue.out.to_string(),
        "ApproximateNumberOfMessagesDelayed" => queue.delayed.to_string(),
        "CreatedTimestamp" => (queue.created.0 / 1000).to_string(),
        "LastModifiedTimestamp" => (queue.changed.0 / 1000).to_string(),
        _ => return kept(made, name, call),
    })
}

/// The largest message that a queue takes through SQS, in bytes.
pub(crate) fn message_len_max(made: &Made, call: &Call) -> u64 {
    let own = made
        .note("MaximumMessageSize")
        .and_then(|text| text.parse().ok());
    own.unwrap_or(u64::MAX).min(message_len_limit(call))
}

/// The largest message of all queues, and the largest batch, in bytes.
pub(crate) fn message_len_limit(call: &Call) -> u64 {
    u64::from(call.settings.message_len_max)
}

/// How long a receive waits that does not say, in ms.
pub(crate) fn wait_ms(made: &Made) -> u64 {
    let seconds = made
        .note("ReceiveMessageWaitTimeSeconds")
        .and_then(|text| text.parse::<u64>().ok());
    seconds.unwrap_or(0) * 1000
}

/// How bodies are shown.
pub(crate) fn showing(made: &Made) -> Showing {
    made.note(BODY).and_then(Showing::named).unwrap_or_default()
}

/// The queue that dead letters go to.
pub(crate) fn redrive_target(made: &Made) -> Option<&Name> {
    made.attributes
        .redrive
        .as_ref()
        .map(|redrive| &redrive.target)
}
