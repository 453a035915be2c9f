//! Redrive policies: after how many receives a message goes where, and which queues may name a queue as that.

use aws::{ApiError, Call};
use message::{Name, Value};
use session::{QueueInfo, Redrive};

use crate::{asked::Made, queue, words};

const NAME: &str = "RedrivePolicy";
const ALLOW_NAME: &str = "RedriveAllowPolicy";
/// The greatest maxReceiveCount.
const RECEIVES_MAX: i64 = 1000;
/// Most queues in a RedriveAllowPolicy.
const SOURCES_MAX: usize = 10;

fn member<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    let Value::Map(members) = object else {
        return None;
    };
    members
        .iter()
        .find(|(known, _)| known.as_str() == Some(name))
        .map(|(_, value)| value)
}

fn unreadable(name: &str, text: &str) -> ApiError {
    ApiError::sender(
        "InvalidParameterValue",
        format!(
            "Value {text} for parameter {name} is invalid. Reason: Redrive policy is not a valid JSON map."
        ),
    )
}

/// RedrivePolicy.
pub(crate) struct RedrivePolicy {
    target: Name,
    receives_max: u32,
    /// As it was given, if that is how it is shown: a count in quotes is shown as a number.
    text: String,
}

impl RedrivePolicy {
    /// `{}` and the empty text are no policy.
    pub(crate) fn empty_is_none(text: &str) -> Option<&str> {
        let empty = matches!(Value::from_json(text.as_bytes()), Some(Value::Map(members)) if members.is_empty());
        (!text.trim().is_empty() && !empty).then_some(text)
    }

    pub(crate) fn read(text: &str, call: &Call) -> Result<Self, ApiError> {
        let json = Value::from_json(text.as_bytes());
        let Some(object @ Value::Map(_)) = &json else {
            return Err(unreadable(NAME, text));
        };
        let refuse = |reason: &str| Err(words::invalid(NAME, text, reason));
        let Some(arn) = member(object, "deadLetterTargetArn").and_then(Value::as_str) else {
            return refuse(
                "Redrive policy does not contain mandatory attribute: deadLetterTargetArn.",
            );
        };
        let Some(count) = member(object, "maxReceiveCount") else {
            return refuse("Redrive policy does not contain mandatory attribute: maxReceiveCount.");
        };
        let Value::Map(members) = object else {
            return Err(unreadable(NAME, text));
        };
        let known = ["deadLetterTargetArn", "maxReceiveCount"];
        if let Some((name, _)) = members
            .iter()
            .find(|(name, _)| !name.as_str().is_some_and(|name| known.contains(&name)))
        {
            let name = name.as_str().unwrap_or_default();
            return refuse(&format!(
                "Redrive policy contains unknown attribute: {name}."
            ));
        }
        let in_quotes = count.as_str().is_some();
        let receives = count
            .as_i64()
            .or_else(|| count.as_str()?.parse().ok())
            .filter(|count| (1..=RECEIVES_MAX).contains(count));
        let Some(receives) = receives else {
            let shown = count.to_plain_text().unwrap_or_else(|| count.to_json());
            return refuse(&format!(
                "Invalid value for maxReceiveCount: {shown}, valid values are from 1 to {RECEIVES_MAX} both inclusive."
            ));
        };
        let Some(target) = queue::of_arn(call, arn) else {
            return refuse("Dead letter target does not exist.");
        };
        let text = if in_quotes {
            json_of(arn, receives)
        } else {
            text.to_owned()
        };
        Ok(Self {
            target,
            receives_max: receives as u32,
            text,
        })
    }

    pub(crate) fn put_into(self, made: &mut Made) {
        made.attributes.redrive = Some(Redrive {
            target: self.target,
        });
        made.attributes.deliveries_max = Some(self.receives_max);
        made.keep(NAME, Some(&self.text));
    }

    pub(crate) fn take_from(made: &mut Made) {
        // A greatest count without a target is another door's.
        if made.attributes.redrive.take().is_some() {
            made.attributes.deliveries_max = None;
        }
        made.keep(NAME, None);
    }

    /// What is shown of a queue: the text that was given, if it is still what the core does.
    pub(crate) fn of(made: &Made, call: &Call) -> Option<String> {
        let redrive = made.attributes.redrive.as_ref()?;
        let receives = made.attributes.deliveries_max?;
        let given = made.note(NAME).filter(|text| {
            Self::read(text, call).is_ok_and(|policy| {
                policy.target == redrive.target && policy.receives_max == receives
            })
        });
        Some(given.map_or_else(
            || json_of(&queue::arn(call, &redrive.target), i64::from(receives)),
            str::to_owned,
        ))
    }
}

fn json_of(arn: &str, receives: i64) -> String {
    let arn = Value::text(arn).to_json();
    format!("{{\"deadLetterTargetArn\":{arn},\"maxReceiveCount\":{receives}}}")
}

/// RedriveAllowPolicy.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AllowPolicy {
    All,
    None,
    /// The ARNs of those that may.
    Queues(Vec<String>),
}

impl AllowPolicy {
    pub(crate) fn read(text: &str) -> Result<Self, ApiError> {
        let json = Value::from_json(text.as_bytes());
        let Some(object @ Value::Map(_)) = &json else {
            return Err(unreadable(ALLOW_NAME, text));
        };
        let refuse = |reason: &str| Err(words::invalid(ALLOW_NAME, text, reason));
        let sources = match member(object, "sourceQueueArns") {
            None => None,
            Some(Value::List(arns)) => {
                let arns: Option<Vec<String>> = arns
                    .iter()
                    .map(|arn| arn.as_str().map(str::to_owned))
                    .collect();
                match arns {
                    Some(arns) => Some(arns),
                    None => return refuse("sourceQueueArns must be a list of ARNs."),
                }
            }
            Some(_) => return refuse("sourceQueueArns must be a list of ARNs."),
        };
        match (
            member(object, "redrivePermission").and_then(Value::as_str),
            sources,
        ) {
            (Some("allowAll"), None) => Ok(Self::All),
            (Some("denyAll"), None) => Ok(Self::None),
            (Some("byQueue"), Some(arns)) if (1..=SOURCES_MAX).contains(&arns.len()) => {
                Ok(Self::Queues(arns))
            }
            (Some("byQueue"), _) => refuse("sourceQueueArns must name 1 to 10 queues."),
            (Some("allowAll" | "denyAll"), Some(_)) => {
                refuse("sourceQueueArns goes with the permission byQueue only.")
            }
            _ => refuse("redrivePermission must be allowAll, denyAll or byQueue."),
        }
    }
}

/// Whether a queue may send its dead letters to that one.
pub(crate) fn check_target(
    target: &QueueInfo,
    source_arn: &str,
    source_fifo: bool,
    policy: &str,
) -> Result<(), ApiError> {
    let refuse = |reason: &str| Err(words::invalid(NAME, policy, reason));
    let made = Made::of(target);
    if made.attributes.fifo.is_some() != source_fifo {
        return refuse("Dead-letter queue must be same type of queue as the source.");
    }
    let allowed = match made.note(ALLOW_NAME).map(AllowPolicy::read) {
        None | Some(Err(_) | Ok(AllowPolicy::All)) => true,
        Some(Ok(AllowPolicy::None)) => false,
        Some(Ok(AllowPolicy::Queues(arns))) => arns.iter().any(|arn| arn == source_arn),
    };
    if !allowed {
        return refuse("The RedriveAllowPolicy of the dead-letter queue does not allow it.");
    }
    Ok(())
}

pub(crate) fn no_target(policy: &str) -> ApiError {
    words::invalid(NAME, policy, "Dead letter target does not exist.")
}
