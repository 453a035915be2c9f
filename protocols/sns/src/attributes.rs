//! Attributes of subscriptions.

use std::sync::Arc;

use aws::{ApiError, Call, Manners, Value};
use bytes::Bytes;
use message::{Filter, Name, PolicyError};
use session::{Notes, PolicyScope, SubscriptionInfo, SubscriptionSettings, TopicInfo};

use crate::{
    delivery_policy::DeliveryPolicy,
    egress,
    faults::{self, invalid},
    filter, json, names,
    steps::{note, set_note},
    subscriptions::{Protocol, queue_of},
    topics,
};

/// What is wrong with an attribute.
pub(crate) enum Wrong {
    /// There is none of that name.
    Unknown,
    /// The filter policy.
    Policy(PolicyError),
    /// Something else.
    Invalid(ApiError),
}

impl Wrong {
    /// As an error of Subscribe.
    pub(crate) fn in_subscribe(self, name: &str, manners: Manners) -> ApiError {
        match self {
            Self::Policy(error) => filter::fault(&error, true, manners),
            Self::Unknown => invalid(format!("Attributes Reason: Unknown attribute: {name}")),
            Self::Invalid(error) => error,
        }
    }

    /// As an error of SetSubscriptionAttributes.
    pub(crate) fn in_set(self, manners: Manners) -> ApiError {
        match self {
            Self::Policy(error) => filter::fault(&error, false, manners),
            Self::Unknown => invalid("AttributeName"),
            Self::Invalid(error) => error,
        }
    }
}

impl From<ApiError> for Wrong {
    fn from(error: ApiError) -> Self {
        Self::Invalid(error)
    }
}

impl From<PolicyError> for Wrong {
    fn from(error: PolicyError) -> Self {
        Self::Policy(error)
    }
}

/// What a subscription's attributes make of it.
pub(crate) struct Own {
    protocol: Protocol,
    fifo: bool,
    pub(crate) settings: SubscriptionSettings,
    pub(crate) notes: Notes,
}

impl Own {
    /// Without attributes.
    pub(crate) fn new(protocol: Protocol, fifo: bool) -> Self {
        Self {
            protocol,
            fifo,
            settings: SubscriptionSettings::default(),
            notes: Notes::new(),
        }
    }

    /// Those of a subscription.
    pub(crate) fn of(found: &SubscriptionInfo, fifo: bool) -> Self {
        let protocol = note(&found.notes, "Protocol").and_then(Protocol::named);
        Self {
            // Every subscription of ours has one.
            protocol: protocol.unwrap_or(Protocol::Sqs),
            fifo,
            settings: found.settings.clone(),
            notes: found.notes.clone(),
        }
    }

    /// What it reads instead of the topic's address.
    pub(crate) fn filter(&self) -> Option<Filter> {
        names::pattern(note(&self.notes, "bascule.pattern")?)
    }

    /// Sets one.
    pub(crate) fn set(&mut self, call: &Call, name: &str, value: &str) -> Result<(), Wrong> {
        match name {
            "RawMessageDelivery" => {
                let raw = topics::flag(name, value)?;
                match self.protocol {
                    Protocol::Sqs => self.settings.raw = raw,
                    protocol if protocol.is_http() => {}
                    protocol if raw => {
                        return Err(invalid(format!(
                            "RawMessageDelivery Reason: not supported for protocol {}",
                            protocol.name()
                        ))
                        .into());
                    }
                    _ => {}
                }
                set_note(&mut self.notes, name, if raw { "true" } else { "" });
            }
            "FilterPolicy" => self.set_policy(value)?,
            "FilterPolicyScope" => {
                let scope = match value {
                    "MessageAttributes" => PolicyScope::Attributes,
                    "MessageBody" => PolicyScope::Body,
                    _ => {
                        return Err(invalid(format!(
                            "FilterPolicyScope: Invalid value [{value}]. Please use either MessageBody or MessageAttributes"
                        ))
                        .into());
                    }
                };
                if let Some((policy, _)) = &self.settings.policy {
                    let policy = policy.clone();
                    filter::check(&policy, scope)?;
                    self.settings.policy = Some((policy, scope));
                }
                set_note(&mut self.notes, name, value);
            }
            "DeliveryPolicy" => {
                if !self.protocol.is_http() && !value.is_empty() {
                    return Err(invalid(
                        "DeliveryPolicy Reason: only HTTP and HTTPS subscriptions have one",
                    )
                    .into());
                }
                DeliveryPolicy::default().of_subscription(value)?;
                set_note(&mut self.notes, name, value);
            }
            "RedrivePolicy" => {
                self.settings.dead_letter = if value.is_empty() {
                    None
                } else {
                    Some(self.redrive(call, value)?)
                };
                set_note(&mut self.notes, name, value);
            }
            "SubscriptionRoleArn" => set_note(&mut self.notes, name, value),
            "bascule.pattern" if note(&self.notes, "TopicArn").is_none() => {
                let Some(filter) = names::pattern(value) else {
                    return Err(invalid(format!(
                        "Attributes Reason: bascule.pattern {value:?} is no topic filter"
                    ))
                    .into());
                };
                if filter.is_reserved() {
                    return Err(invalid(format!(
                        "Attributes Reason: bascule.pattern {value:?} matches nothing: nobody publishes there"
                    ))
                    .into());
                }
                if self.fifo {
                    return Err(invalid(
                        "Attributes Reason: subscriptions of FIFO topics have no bascule.pattern",
                    )
                    .into());
                }
                set_note(&mut self.notes, name, value);
            }
            "bascule.pattern" => {
                return Err(
                    invalid("AttributeName Reason: bascule.pattern cannot be changed").into(),
                );
            }
            "ReplayPolicy" => return Err(faults::unsupported("ReplayPolicy").into()),
            _ => return Err(Wrong::Unknown),
        }
        Ok(())
    }

    fn set_policy(&mut self, value: &str) -> Result<(), PolicyError> {
        let scope = match note(&self.notes, "FilterPolicyScope") {
            Some("MessageBody") => PolicyScope::Body,
            _ => PolicyScope::Attributes,
        };
        if value.is_empty() {
            self.settings.policy = None;
            set_note(&mut self.notes, "FilterPolicyScope", "");
            return Ok(());
        }
        let policy = Bytes::copy_from_slice(value.as_bytes());
        filter::check(&policy, scope)?;
        self.settings.policy = Some((policy, scope));
        Ok(())
    }

    fn redrive(&self, call: &Call, value: &str) -> Result<(Option<Arc<str>>, Name), ApiError> {
        let object =
            json::object(value).ok_or_else(|| invalid("RedrivePolicy: failed to parse JSON."))?;
        let arn = json::member(&object, "deadLetterTargetArn").and_then(message::Value::as_str);
        let Some(arn) = arn.filter(|_| object.len() == 1) else {
            return Err(invalid(
                "RedrivePolicy: deadLetterTargetArn must be the one member",
            ));
        };
        let Some((vhost, name)) = queue_of(call, arn) else {
            return Err(invalid(
                "RedrivePolicy: deadLetterTargetArn is an invalid arn",
            ));
        };
        if self.fifo != name.ends_with(b".fifo") {
            return Err(invalid(if self.fifo {
                "RedrivePolicy: must use a FIFO queue as DLQ for a FIFO topic"
            } else {
                "RedrivePolicy: must use a standard queue as DLQ for a standard topic"
            }));
        }
        Ok(((vhost != call.vhost_name).then_some(vhost), name))
    }
}

/// The attributes that can be set, as they are.
fn settable(found: &SubscriptionInfo) -> Vec<(&'static str, String)> {
    let mut shown = Vec::new();
    let raw = note(&found.notes, "RawMessageDelivery").is_some();
    shown.push(("RawMessageDelivery", raw.to_string()));
    if let Some((policy, scope)) = &found.settings.policy {
        let text = String::from_utf8_lossy(policy).into_owned();
        shown.push(("FilterPolicy", text));
        let scope = match scope {
            PolicyScope::Attributes => "MessageAttributes",
            PolicyScope::Body => "MessageBody",
        };
        shown.push(("FilterPolicyScope", scope.to_owned()));
    }
    for name in [
        "DeliveryPolicy",
        "RedrivePolicy",
        "SubscriptionRoleArn",
        "bascule.pattern",
    ] {
        if let Some(value) = note(&found.notes, name) {
            shown.push((name, value.to_owned()));
        }
    }
    shown
}

/// Whether a subscription is otherwise than attributes say.
pub(crate) fn differ(found: &SubscriptionInfo, said: &[(String, String)]) -> bool {
    let known = settable(found);
    said.iter().any(|(name, value)| {
        let known = known.iter().find(|(known, _)| known == name);
        let same = |known: &str| known == value || known.eq_ignore_ascii_case(value);
        !known.is_some_and(|(_, known)| same(known))
    })
}

/// The delivery policy that holds for a subscription.
pub(crate) fn delivery_policy(found: &SubscriptionInfo, topic: &TopicInfo) -> DeliveryPolicy {
    let own = note(&found.notes, "DeliveryPolicy").unwrap_or_default();
    // It was checked when it was set.
    topics::delivery_policy(topic)
        .of_subscription(own)
        .unwrap_or_default()
}

/// What everyone sees of a subscription who may see it: the first words of its attributes and all of an entry of a list.
pub(crate) const SHOWN: [&str; 4] = ["Owner", "Protocol", "Endpoint", "TopicArn"];

/// A note of a subscription as it is shown. The password of an endpoint is for its deliveries alone.
pub(crate) fn shown_note(found: &SubscriptionInfo, name: &str) -> String {
    let note = note(&found.notes, name).unwrap_or_default();
    match name {
        "Endpoint" => egress::without_password(note).into_owned(),
        _ => note.to_owned(),
    }
}

/// All of a subscription.
pub(crate) fn shown(
    found: &SubscriptionInfo,
    topic: &TopicInfo,
    arn: &str,
    manners: Manners,
) -> Value {
    let mut shown = settable(found);
    let note = |name| note(&found.notes, name).unwrap_or_default().to_owned();
    for name in SHOWN {
        shown.push((name, shown_note(found, name)));
    }
    shown.push(("SubscriptionArn", arn.to_owned()));
    shown.push(("PendingConfirmation", (!found.confirmed).to_string()));
    let authenticated = note("Authenticated") == "true";
    shown.push(("ConfirmationWasAuthenticated", authenticated.to_string()));
    shown.push((
        "SubscriptionPrincipal",
        format!("arn:aws:iam::{}:user/{}", note("Owner"), found.owner),
    ));
    if Protocol::named(&note("Protocol")).is_some_and(Protocol::is_http) {
        shown.push((
            "EffectiveDeliveryPolicy",
            delivery_policy(found, topic).subscription_json(manners),
        ));
    }
    let entries = shown
        .into_iter()
        .map(|(name, value)| (name.into(), Value::from(value)));
    Value::Map(entries.collect())
}
