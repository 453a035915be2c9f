//! Delivery policies: how often and when a delivery to an HTTP endpoint is tried again, and how many a second.
//!
//! ```text
//! attempt 1 ─ numNoDelayRetries ─ numMinDelayRetries ─ backoffFunction ─ numMaxDelayRetries ─ dead-letter queue
//!              at once             minDelayTarget       min … max         maxDelayTarget
//! ```
//! All of them together are `numRetries`. A subscription's policy wins over its topic's unless the topic forbids it.

use aws::{ApiError, Manners};
use message::Value;

use crate::{faults::invalid, json};

/// The longest delay, in seconds.
const DELAY_MAX_S: u32 = 3600;
/// The most retries.
const RETRIES_MAX: u32 = 100;
/// What a `Content-Type` is when nobody says.
const CONTENT_TYPE: &str = "text/plain; charset=UTF-8";
/// What `headerContentType` may be, up to a parameter.
const CONTENT_TYPES: [&str; 10] = [
    "text/plain",
    "text/css",
    "text/csv",
    "text/html",
    "text/xml",
    "application/json",
    "application/xml",
    "application/atom+xml",
    "application/octet-stream",
    "application/x-www-form-urlencoded",
];

/// How delays grow from the least to the greatest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backoff {
    /// By the same step.
    #[default]
    Linear,
    /// By steps that grow by the same amount.
    Arithmetic,
    /// By the same factor.
    Geometric,
    /// By steps that double.
    Exponential,
}

impl Backoff {
    const NAMES: [(&'static str, Self); 4] = [
        ("linear", Self::Linear),
        ("arithmetic", Self::Arithmetic),
        ("geometric", Self::Geometric),
        ("exponential", Self::Exponential),
    ];

    fn name(self) -> &'static str {
        let known = Self::NAMES.iter().find(|(_, it)| *it == self);
        known.map_or("linear", |(name, _)| name)
    }

    /// The delay of step `at` of `steps`, counted from 0, in ms.
    fn delay_ms(self, at: u32, steps: u32, least_ms: f64, most_ms: f64) -> u64 {
        let last = steps.saturating_sub(1);
        if last == 0 {
            return least_ms as u64;
        }
        let (at, last) = (f64::from(at), f64::from(last));
        let share = match self {
            Self::Linear => at / last,
            Self::Arithmetic => at * (at + 1.0) / (last * (last + 1.0)),
            // Divided by the greatest power, so that none is too large for a float.
            Self::Exponential => ((at - last).exp2() - (-last).exp2()) / (1.0 - (-last).exp2()),
            Self::Geometric => {
                return (least_ms * (most_ms / least_ms).powf(at / last)).round() as u64;
            }
        };
        (most_ms - least_ms).mul_add(share, least_ms).round() as u64
    }
}

/// A retry policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// Retries together.
    pub count: u32,
    /// Of these, the first so many at once.
    pub immediate: u32,
    /// Then so many after the least delay.
    pub least: u32,
    /// The last so many after the greatest delay.
    pub most: u32,
    /// The least delay, in seconds.
    pub least_s: u32,
    /// The greatest delay, in seconds.
    pub most_s: u32,
    /// How the others grow.
    pub backoff: Backoff,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            count: 3,
            immediate: 0,
            least: 0,
            most: 0,
            least_s: 20,
            most_s: 20,
            backoff: Backoff::Linear,
        }
    }
}

impl Retries {
    /// How long to wait after attempt `attempt` (the first is 1) has failed, in ms. `None`: that was the last.
    #[must_use]
    pub fn after(&self, attempt: u32) -> Option<u64> {
        let retry = attempt.max(1);
        if retry > self.count {
            return None;
        }
        let (least_ms, most_ms) = (f64::from(self.least_s) * 1e3, f64::from(self.most_s) * 1e3);
        let before = self.immediate + self.least;
        Some(if retry <= self.immediate {
            0
        } else if retry <= before {
            least_ms as u64
        } else if retry > self.count - self.most {
            most_ms as u64
        } else {
            let steps = self.count - self.most - before;
            self.backoff
                .delay_ms(retry - before - 1, steps, least_ms, most_ms)
        })
    }

    fn to_json(self) -> String {
        format!(
            "{{\"minDelayTarget\":{},\"maxDelayTarget\":{},\"numRetries\":{},\"numMaxDelayRetries\":{},\"numNoDelayRetries\":{},\
             \"numMinDelayRetries\":{},\"backoffFunction\":\"{}\"}}",
            self.least_s,
            self.most_s,
            self.count,
            self.most,
            self.immediate,
            self.least,
            self.backoff.name()
        )
    }

    fn read(value: &Value, name: &str) -> Result<Self, ApiError> {
        let object = object_of(value, name)?;
        let mut read = Self::default();
        let mut said = (false, false);
        for (member, value) in &object {
            let number = |least: u32, most: u32| -> Result<u32, ApiError> {
                let number = value.as_i64().and_then(|number| u32::try_from(number).ok());
                number
                    .filter(|number| (least..=most).contains(number))
                    .ok_or_else(|| {
                        fault(format!(
                            "{name}.{member} must be between {least} and {most}"
                        ))
                    })
            };
            match &member[..] {
                "minDelayTarget" => {
                    (read.least_s, said.0) = (number(1, DELAY_MAX_S)?, true);
                }
                "maxDelayTarget" => {
                    (read.most_s, said.1) = (number(1, DELAY_MAX_S)?, true);
                }
                "numRetries" => read.count = number(0, RETRIES_MAX)?,
                "numNoDelayRetries" => read.immediate = number(0, RETRIES_MAX)?,
                "numMinDelayRetries" => read.least = number(0, RETRIES_MAX)?,
                "numMaxDelayRetries" => read.most = number(0, RETRIES_MAX)?,
                "backoffFunction" => {
                    let named = value
                        .as_str()
                        .and_then(|name| Backoff::NAMES.iter().find(|(known, _)| *known == name));
                    let Some((_, backoff)) = named else {
                        return Err(fault(format!(
                            "{name}.backoffFunction must be one of linear, arithmetic, geometric, exponential"
                        )));
                    };
                    read.backoff = *backoff;
                }
                other => return Err(unexpected(other)),
            }
        }
        // One that is said moves the other that is not.
        match said {
            (true, false) => read.most_s = read.most_s.max(read.least_s),
            (false, true) => read.least_s = read.least_s.min(read.most_s),
            _ => {}
        }
        if read.least_s > read.most_s {
            return Err(fault(format!(
                "{name}.minDelayTarget must not be greater than maxDelayTarget"
            )));
        }
        if read.immediate + read.least + read.most > read.count {
            return Err(fault(format!(
                "{name}.numNoDelayRetries, numMinDelayRetries and numMaxDelayRetries must not be more than numRetries together"
            )));
        }
        Ok(read)
    }
}

/// What holds for one subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryPolicy {
    /// When a delivery is tried again.
    pub retries: Retries,
    /// Most deliveries a second. `None`: no limit.
    pub per_second: Option<u32>,
    /// The `Content-Type` of requests.
    pub content_type: String,
    /// Subscriptions have no say.
    overrides_disabled: bool,
}

impl Default for DeliveryPolicy {
    fn default() -> Self {
        Self {
            retries: Retries::default(),
            per_second: None,
            content_type: CONTENT_TYPE.to_owned(),
            overrides_disabled: false,
        }
    }
}

impl DeliveryPolicy {
    /// Reads a topic's policy, an empty text is the default one.
    pub(crate) fn of_topic(text: &str) -> Result<Self, ApiError> {
        let mut read = Self::default();
        if text.is_empty() {
            return Ok(read);
        }
        let outer = json::object(text).ok_or_else(|| fault("JSON parsing error".to_owned()))?;
        for (name, value) in &outer {
            if name != "http" {
                return Err(unexpected(name));
            }
            for (name, value) in &object_of(value, "http")? {
                match &name[..] {
                    "defaultHealthyRetryPolicy" => read.retries = Retries::read(value, name)?,
                    "defaultThrottlePolicy" => read.per_second = throttle(value, name)?,
                    "defaultRequestPolicy" => read.content_type = content_type(value, name)?,
                    "disableSubscriptionOverrides" => {
                        let Value::Bool(flag) = value else {
                            return Err(fault(format!("{name} must be true or false")));
                        };
                        read.overrides_disabled = *flag;
                    }
                    "defaultSicklyRetryPolicy" if *value == Value::Null => {}
                    other => return Err(unexpected(other)),
                }
            }
        }
        Ok(read)
    }

    /// The policy of a subscription whose own is `text`, with its topic's beneath.
    pub(crate) fn of_subscription(mut self, text: &str) -> Result<Self, ApiError> {
        let read = Self::read_subscription(&self, text)?;
        if !self.overrides_disabled {
            self = read;
        }
        Ok(self)
    }

    fn read_subscription(topic: &Self, text: &str) -> Result<Self, ApiError> {
        let mut read = topic.clone();
        if text.is_empty() {
            return Ok(read);
        }
        let object = json::object(text).ok_or_else(|| fault("JSON parsing error".to_owned()))?;
        for (name, value) in &object {
            match &name[..] {
                "healthyRetryPolicy" => read.retries = Retries::read(value, name)?,
                "throttlePolicy" if *value == Value::Null => {}
                "throttlePolicy" => read.per_second = throttle(value, name)?,
                "requestPolicy" => read.content_type = content_type(value, name)?,
                "sicklyRetryPolicy" if *value == Value::Null => {}
                "guaranteed" if *value == Value::Bool(false) => {}
                other => return Err(unexpected(other)),
            }
        }
        Ok(read)
    }

    /// Either, as moto's server has it.
    fn moto_json(&self) -> String {
        format!(
            "{{\"defaultHealthyRetryPolicy\":{},\"sicklyRetryPolicy\":null,\"throttlePolicy\":null,\"guaranteed\":false}}",
            self.retries.to_json()
        )
    }

    /// `EffectiveDeliveryPolicy` of a topic.
    pub(crate) fn topic_json(&self, manners: Manners) -> String {
        if manners == Manners::Moto {
            return self.moto_json();
        }
        let throttle = self.per_second.map_or_else(String::new, |most| {
            format!(",\"defaultThrottlePolicy\":{{\"maxReceivesPerSecond\":{most}}}")
        });
        format!(
            "{{\"http\":{{\"defaultHealthyRetryPolicy\":{},\"disableSubscriptionOverrides\":{}{throttle},\
             \"defaultRequestPolicy\":{{\"headerContentType\":{}}}}}}}",
            self.retries.to_json(),
            self.overrides_disabled,
            json::quoted(&self.content_type)
        )
    }

    /// `EffectiveDeliveryPolicy` of a subscription.
    pub(crate) fn subscription_json(&self, manners: Manners) -> String {
        if manners == Manners::Moto {
            return self.moto_json();
        }
        let throttle = self.per_second.map_or_else(
            || "null".to_owned(),
            |most| format!("{{\"maxReceivesPerSecond\":{most}}}"),
        );
        format!(
            "{{\"healthyRetryPolicy\":{},\"sicklyRetryPolicy\":null,\"throttlePolicy\":{throttle},\
             \"requestPolicy\":{{\"headerContentType\":{}}},\"guaranteed\":false}}",
            self.retries.to_json(),
            json::quoted(&self.content_type)
        )
    }
}

fn fault(detail: String) -> ApiError {
    invalid(format!("DeliveryPolicy: {detail}"))
}

fn unexpected(member: &str) -> ApiError {
    fault(format!("Unexpected JSON member: {member}"))
}

fn object_of(value: &Value, name: &str) -> Result<Vec<(String, Value)>, ApiError> {
    json::members(value.clone()).ok_or_else(|| fault(format!("{name} must be an object")))
}

fn throttle(value: &Value, name: &str) -> Result<Option<u32>, ApiError> {
    let mut most = None;
    for (member, value) in &object_of(value, name)? {
        if member != "maxReceivesPerSecond" {
            return Err(unexpected(member));
        }
        let number = value.as_i64().and_then(|number| u32::try_from(number).ok());
        most = Some(number.filter(|number| *number > 0).ok_or_else(|| {
            fault(format!(
                "{name}.maxReceivesPerSecond must be greater than or equal to 1"
            ))
        })?);
    }
    Ok(most)
}

fn content_type(value: &Value, name: &str) -> Result<String, ApiError> {
    let mut read = CONTENT_TYPE.to_owned();
    for (member, value) in &object_of(value, name)? {
        if member != "headerContentType" {
            return Err(unexpected(member));
        }
        let text = value.as_str().unwrap_or_default();
        let (kind, parameter) = text.split_once(';').unwrap_or((text, ""));
        let visible = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
        if !CONTENT_TYPES.contains(&kind.trim()) || !parameter.bytes().all(visible) {
            return Err(fault(format!(
                "{name}.headerContentType must be one of {}",
                CONTENT_TYPES.join(", ")
            )));
        }
        read = text.to_owned();
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(text: &str) -> Vec<u64> {
        let policy = DeliveryPolicy::default()
            .of_subscription(text)
            .expect("valid");
        let mut attempt = 0;
        std::iter::from_fn(|| {
            attempt += 1;
            policy.retries.after(attempt)
        })
        .collect()
    }

    #[test]
    fn retries_go_through_their_phases() {
        assert_eq!(delays(""), [20_000, 20_000, 20_000]);
        let with = |function: &str| {
            delays(&format!(
                r#"{{"healthyRetryPolicy":{{"numRetries":9,"numNoDelayRetries":1,"numMinDelayRetries":2,"numMaxDelayRetries":2,
                "minDelayTarget":1,"maxDelayTarget":16,"backoffFunction":"{function}"}}}}"#
            ))
        };
        assert_eq!(
            with("linear"),
            [0, 1000, 1000, 1000, 6000, 11_000, 16_000, 16_000, 16_000]
        );
        assert_eq!(
            with("arithmetic"),
            [0, 1000, 1000, 1000, 3500, 8500, 16_000, 16_000, 16_000]
        );
        assert_eq!(
            with("geometric"),
            [0, 1000, 1000, 1000, 2520, 6350, 16_000, 16_000, 16_000]
        );
        assert_eq!(
            with("exponential"),
            [0, 1000, 1000, 1000, 3143, 7429, 16_000, 16_000, 16_000]
        );
    }

    #[test]
    fn a_subscription_says_more_unless_its_topic_forbids_it() {
        let own = r#"{"healthyRetryPolicy":{"numRetries":7},"throttlePolicy":{"maxReceivesPerSecond":5},
                      "requestPolicy":{"headerContentType":"application/json"}}"#;
        let topic = |disabled: bool| {
            DeliveryPolicy::of_topic(&format!(
                r#"{{"http":{{"defaultHealthyRetryPolicy":{{"numRetries":5}},"disableSubscriptionOverrides":{disabled}}}}}"#
            ))
            .expect("valid")
        };
        let free = topic(false).of_subscription(own).expect("valid");
        assert_eq!((free.retries.count, free.per_second), (7, Some(5)));
        assert_eq!(free.content_type, "application/json");
        let bound = topic(true).of_subscription(own).expect("valid");
        assert_eq!((bound.retries.count, bound.per_second), (5, None));
    }

    #[test]
    fn what_no_policy_may_say_is_refused() {
        for bad in [
            "x",
            "[]",
            r#"{"http":{}}"#,
            r#"{"healthyRetryPolicy":1}"#,
            r#"{"healthyRetryPolicy":{"numRetries":101}}"#,
            r#"{"healthyRetryPolicy":{"numRetries":-1}}"#,
            r#"{"healthyRetryPolicy":{"minDelayTarget":0}}"#,
            r#"{"healthyRetryPolicy":{"maxDelayTarget":3601}}"#,
            r#"{"healthyRetryPolicy":{"minDelayTarget":9,"maxDelayTarget":8}}"#,
            r#"{"healthyRetryPolicy":{"numRetries":1,"numNoDelayRetries":2}}"#,
            r#"{"healthyRetryPolicy":{"backoffFunction":"random"}}"#,
            r#"{"throttlePolicy":{"maxReceivesPerSecond":0}}"#,
            r#"{"requestPolicy":{"headerContentType":"image/png"}}"#,
            r#"{"guaranteed":true}"#,
        ] {
            let read = DeliveryPolicy::default().of_subscription(bad);
            assert!(read.is_err(), "{bad}");
        }
        assert!(DeliveryPolicy::of_topic(r#"{"healthyRetryPolicy":{}}"#).is_err());
        let default = DeliveryPolicy::default();
        let again =
            DeliveryPolicy::of_topic(&default.topic_json(Manners::Standard)).expect("valid");
        assert_eq!(again, default);
    }
}
