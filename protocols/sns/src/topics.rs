//! Topics: CreateTopic, DeleteTopic, ListTopics, GetTopicAttributes, SetTopicAttributes.
//!
//! A topic's attributes are notes of its object, by their names; its tags are notes that begin with [`TAG`].

use std::sync::Arc;

use aws::{Call, Input, Manners, MemberName, SignatureVersion, Value};
use bytes::Bytes;
use message::{Levels, escape_level};
use session::{
    Command, Event, Fifo, Flow, Lane, List, Listed, Notes, RefusalKind, Token, TopicInfo, TopicTo,
};

use crate::{
    delivery_policy::DeliveryPolicy,
    faults::{self, invalid, no_topic},
    json, names, permissions,
    steps::{self, Altered, Run, done, fail, go, note, nothing, refused_as, set_note, topic},
    tags,
};

/// How notes that are tags begin.
pub(crate) const TAG: &str = "tag:";
/// Topics, subscriptions and endpoints in one page.
pub(crate) const PAGE: u32 = 100;
/// Tokens of pages that name where to go on.
const PAGE_TOKEN: &str = "after:";
/// The longest display name, in characters.
const DISPLAY_NAME_LEN_MAX: usize = 100;

/// The topic of a call, looked at. `then` gets it with its ARN as the caller gave it.
pub(crate) fn with_topic(
    call: &Arc<Call>,
    operation: &'static str,
    arn: &str,
    then: impl FnOnce(Box<TopicInfo>) -> Run + Send + 'static,
) -> Run {
    go(names::topic_name(call, arn, "TopicArn"), |name| {
        let Some(name) = name else {
            return fail(no_topic());
        };
        let refused = refused_as(call, operation, arn, no_topic);
        topic(name, TopicTo::Inspect, move |found| match found {
            Ok(found) => then(found),
            Err(refusal) => fail(refused(&refusal)),
        })
    })
}

/// Changes the topic of a call, which answers nothing.
pub(crate) fn alter(
    call: &Arc<Call>,
    operation: &'static str,
    arn: &str,
    change: impl Fn(&TopicInfo) -> Altered + Send + 'static,
) -> Run {
    go(names::topic_name(call, arn, "TopicArn"), |name| {
        let Some(name) = name else {
            return fail(no_topic());
        };
        let refused = refused_as(call, operation, arn, no_topic);
        steps::alter_topic(name, refused, change, nothing)
    })
}

/// `CreateTopic`.
pub(crate) fn create(input: Input) -> Run {
    let Input { call, value } = input;
    let name = value.text("Name").unwrap_or_default().to_owned();
    if value.member("DataProtectionPolicy").is_some() {
        return fail(faults::unsupported("DataProtectionPolicy"));
    }
    go(NewTopic::read(&call, &name, &value), |new| {
        let key = Bytes::from(name.clone().into_bytes());
        let create = TopicTo::Create {
            address: new.address.clone(),
            fifo: new.fifo,
            notes: new.notes.clone(),
        };
        topic(key.clone(), create, move |made| {
            let arn = call.arn("sns", &name);
            let refused = refused_as(&call, "CreateTopic", &arn, no_topic);
            let answer = move || done([("TopicArn", Value::from(arn))].into());
            match made {
                Ok(_) => answer(),
                Err(refusal) if refusal.kind == RefusalKind::Inequivalent => {
                    topic(key, TopicTo::Inspect, move |found| match found {
                        Ok(found) => go(new.compare(&found), |()| answer()),
                        Err(refusal) => fail(refused(&refusal)),
                    })
                }
                Err(refusal) if refusal.kind == RefusalKind::QuotaExceeded => fail(
                    aws::ApiError::sender("TopicLimitExceeded", refusal.detail).with_status(403),
                ),
                Err(refusal) => fail(refused(&refusal)),
            }
        })
    })
}

/// A topic as a caller wants it.
struct NewTopic {
    address: Levels,
    /// The caller said where.
    addressed: bool,
    fifo: Option<Fifo>,
    notes: Notes,
    /// The attributes that were said, as they are shown.
    said: Vec<(String, String)>,
    tags: Vec<(String, String)>,
}

impl NewTopic {
    fn read(call: &Call, name: &str, value: &Value) -> Result<Self, aws::ApiError> {
        let attributes = texts(value.map("Attributes"));
        let said_fifo = attributes.iter().find(|(name, _)| name == "FifoTopic");
        let fifo = match said_fifo {
            Some((name, value)) => flag(name, value)?,
            None => false,
        };
        names::check_topic_name(name, fifo)?;
        let mut new = Self {
            address: Levels::one(Bytes::copy_from_slice(name.as_bytes())),
            addressed: false,
            fifo: fifo.then_some(Fifo {
                dedup_by_content: false,
                dedup_per_group: false,
            }),
            notes: Notes::new(),
            said: Vec::new(),
            tags: tags::read(value.list("Tags"))?,
        };
        for (name, value) in attributes {
            match &name[..] {
                "FifoTopic" => {}
                "bascule.address" => {
                    new.address = names::address(&value).ok_or_else(|| {
                        invalid(format!(
                            "Attributes Reason: bascule.address {value:?} is no topic"
                        ))
                    })?;
                    new.addressed = true;
                }
                _ => set(
                    call.settings.manners,
                    &mut new.fifo,
                    &mut new.notes,
                    &name,
                    &value,
                )
                .map_err(|error| attribute_error(error, "Attributes", &name))?,
            }
            new.said.push((name, value));
        }
        for (key, value) in &new.tags {
            // A note without a value would be none.
            put_tag(&mut new.notes, key, value);
        }
        permissions::fill_in(&mut new.notes, &call.arn("sns", name));
        Ok(new)
    }

    /// Whether what is there is what the caller wants.
    fn compare(&self, found: &TopicInfo) -> Result<(), aws::ApiError> {
        let shown = attributes(found);
        let differs = self.said.iter().any(|(name, value)| match &name[..] {
            "bascule.address" => found.address != self.address,
            "FifoTopic" => found.fifo.is_some() != self.fifo.is_some(),
            _ => {
                let known = shown.iter().find(|(known, _)| known == name);
                let known = known.map_or("", |(_, value)| &value[..]);
                let wanted = self.shown(name);
                known != value && known != wanted
            }
        });
        if differs {
            return Err(invalid(
                "Attributes Reason: Topic already exists with different attributes",
            ));
        }
        if !self.tags.is_empty() && tags::of(&found.notes) != sorted(self.tags.clone()) {
            return Err(invalid(
                "Tags Reason: Topic already exists with different tags",
            ));
        }
        Ok(())
    }

    /// An attribute as it would be shown had the topic been made so.
    fn shown<'a>(&'a self, name: &str) -> &'a str {
        match (name, &self.fifo) {
            ("ContentBasedDeduplication", Some(fifo)) if fifo.dedup_by_content => "true",
            ("ContentBasedDeduplication", Some(_)) => "false",
            _ => note(&self.notes, name).unwrap_or_default(),
        }
    }
}

fn sorted(mut tags: Vec<(String, String)>) -> Vec<(String, String)> {
    tags.sort();
    tags
}

/// The text of each entry.
pub(crate) fn texts(entries: &[(MemberName, Value)]) -> Vec<(String, String)> {
    let text = |(name, value): &(MemberName, Value)| {
        let Value::Text(text) = value else {
            return None;
        };
        Some((name.to_string(), text.clone()))
    };
    entries.iter().filter_map(text).collect()
}

/// Puts a tag among notes.
pub(crate) fn put_tag(notes: &mut Notes, key: &str, value: &str) {
    let name = format!("{TAG}{key}");
    // The mark keeps the note of an empty value.
    set_note(notes, &name, &format!("={value}"));
}

/// `true` or `false`.
pub(crate) fn flag(name: &str, value: &str) -> Result<bool, aws::ApiError> {
    if value.eq_ignore_ascii_case("true") {
        Ok(true)
    } else if value.eq_ignore_ascii_case("false") {
        Ok(false)
    } else {
        Err(invalid(format!("{name} Reason: must be true or false")))
    }
}

/// What is wrong with an attribute, said of the parameter that it came in.
fn attribute_error(error: AttributeError, parameter: &str, name: &str) -> aws::ApiError {
    match error {
        AttributeError::Unknown => invalid(format!("{parameter} Reason: Unknown attribute {name}")),
        AttributeError::Invalid(error) => error,
    }
}

/// What is wrong with an attribute.
enum AttributeError {
    Unknown,
    Invalid(aws::ApiError),
}

impl From<aws::ApiError> for AttributeError {
    fn from(error: aws::ApiError) -> Self {
        Self::Invalid(error)
    }
}

/// Sets an attribute that may change.
fn set(
    manners: Manners,
    fifo: &mut Option<Fifo>,
    notes: &mut Notes,
    name: &str,
    value: &str,
) -> Result<(), AttributeError> {
    let wrong = |detail: &str| Err(invalid(format!("{name} Reason: {detail}")).into());
    match name {
        "DisplayName" => {
            if value.chars().count() > DISPLAY_NAME_LEN_MAX || value.contains(['\r', '\n']) {
                return wrong("must be one line of at most 100 characters");
            }
        }
        "Policy" => {
            set_note(notes, name, &permissions::checked(value, manners)?);
            return Ok(());
        }
        "DeliveryPolicy" => {
            DeliveryPolicy::of_topic(value)?;
        }
        "KmsMasterKeyId" => {}
        "SignatureVersion" if matches!(value, "1" | "2") => {}
        "SignatureVersion" => return wrong("must be 1 or 2"),
        "TracingConfig" if value == "PassThrough" => {}
        "TracingConfig" if value == "Active" => {
            return wrong("Active is not supported by this broker: there is no X-Ray");
        }
        "TracingConfig" => return wrong("must be PassThrough or Active"),
        "ContentBasedDeduplication" => match fifo {
            Some(fifo) => {
                fifo.dedup_by_content = flag(name, value)?;
                return Ok(());
            }
            None if !flag(name, value)? => return Ok(()),
            None => {
                return wrong("Content-based deduplication can only be set for FIFO topics");
            }
        },
        "FifoThroughputScope" => {
            let Some(fifo) = fifo else {
                return wrong("FifoThroughputScope can only be set for FIFO topics");
            };
            fifo.dedup_per_group = match value {
                "Topic" => false,
                "MessageGroup" => true,
                _ => return wrong("must be Topic or MessageGroup"),
            };
        }
        "ArchivePolicy" if value.is_empty() || value == "{}" => return Ok(()),
        "ArchivePolicy" | "DataProtectionPolicy" => {
            return Err(faults::unsupported(name).into());
        }
        _ if is_feedback(name) => {
            return Err(faults::unsupported(&format!("{name} (CloudWatch Logs)")).into());
        }
        _ => return Err(AttributeError::Unknown),
    }
    set_note(notes, name, value);
    Ok(())
}

/// Attributes that say how deliveries are logged in CloudWatch.
fn is_feedback(name: &str) -> bool {
    let of = |protocol: &str| {
        name.strip_prefix(protocol).is_some_and(|rest| {
            matches!(
                rest,
                "SuccessFeedbackRoleArn" | "SuccessFeedbackSampleRate" | "FailureFeedbackRoleArn"
            )
        })
    };
    ["HTTP", "SQS", "Lambda", "Firehose", "Application"]
        .into_iter()
        .any(of)
}

/// The attributes of a topic that have been set, or that are always there, without those that say where it is.
fn attributes(found: &TopicInfo) -> Vec<(String, String)> {
    let mut shown = Vec::new();
    let mut put = |name: &str, value: &str| shown.push((name.to_owned(), value.to_owned()));
    put("Policy", note(&found.notes, "Policy").unwrap_or_default());
    for name in ["DisplayName", "DeliveryPolicy"] {
        put(name, note(&found.notes, name).unwrap_or_default());
    }
    for name in [
        "KmsMasterKeyId",
        "SignatureVersion",
        "TracingConfig",
        "FifoThroughputScope",
    ] {
        if let Some(value) = note(&found.notes, name) {
            put(name, value);
        }
    }
    if let Some(fifo) = found.fifo {
        put("FifoTopic", "true");
        put(
            "ContentBasedDeduplication",
            if fifo.dedup_by_content {
                "true"
            } else {
                "false"
            },
        );
    }
    shown
}

/// The delivery policy of a topic.
pub(crate) fn delivery_policy(found: &TopicInfo) -> DeliveryPolicy {
    let text = note(&found.notes, "DeliveryPolicy").unwrap_or_default();
    // It was checked when it was set.
    DeliveryPolicy::of_topic(text).unwrap_or_default()
}

/// How a topic's envelopes are signed.
pub(crate) fn signature_version(found: &TopicInfo) -> SignatureVersion {
    match note(&found.notes, "SignatureVersion") {
        Some("2") => SignatureVersion::Sha256,
        _ => SignatureVersion::Sha1,
    }
}

/// `GetTopicAttributes`.
pub(crate) fn get_attributes(input: Input) -> Run {
    let Input { call, value } = input;
    let arn = value.text("TopicArn").unwrap_or_default().to_owned();
    with_topic(
        &Arc::clone(&call),
        "GetTopicAttributes",
        &arn.clone(),
        move |found| {
            let mut shown = attributes(&found);
            let mut put = |name: &str, value: String| shown.push((name.to_owned(), value));
            put("TopicArn", arn);
            put("Owner", call.account.to_string());
            put("SubscriptionsConfirmed", found.confirmed.to_string());
            put("SubscriptionsPending", found.pending.to_string());
            put("SubscriptionsDeleted", found.deleted.to_string());
            put(
                "EffectiveDeliveryPolicy",
                delivery_policy(&found).topic_json(call.settings.manners),
            );
            if found.address.len() != 1 || found.address.level(0) != Some(&found.name) {
                put("bascule.address", address_text(&found.address));
            }
            let entries = shown
                .into_iter()
                .map(|(name, value)| (name.into(), Value::from(value)));
            done([("Attributes", Value::Map(entries.collect()))].into())
        },
    )
}

/// An address as MQTT writes it.
fn address_text(address: &Levels) -> String {
    let levels: Vec<_> = address
        .iter()
        .map(|level| String::from_utf8_lossy(&escape_level(level, b"/+#")).into_owned())
        .collect();
    levels.join("/")
}

/// `SetTopicAttributes`.
pub(crate) fn set_attributes(input: Input) -> Run {
    let Input { call, value } = input;
    let arn = value.text("TopicArn").unwrap_or_default().to_owned();
    let name = value.text("AttributeName").unwrap_or_default().to_owned();
    let new = value.text("AttributeValue").unwrap_or_default().to_owned();
    let manners = call.settings.manners;
    alter(&call, "SetTopicAttributes", &arn.clone(), move |found| {
        let (mut fifo, mut notes) = (found.fifo, found.notes.clone());
        match (&name[..], &new[..]) {
            ("FifoTopic" | "bascule.address", _) => {
                return Err(invalid(format!(
                    "AttributeName Reason: {name} cannot be changed"
                )));
            }
            // An empty policy is the one that a topic begins with.
            ("Policy", "") => set_note(&mut notes, "Policy", ""),
            _ => set(manners, &mut fifo, &mut notes, &name, &new).map_err(|error| match error {
                AttributeError::Unknown => invalid("AttributeName"),
                AttributeError::Invalid(error) => error,
            })?,
        }
        permissions::fill_in(&mut notes, &arn);
        Ok(Some((fifo, notes)))
    })
}

/// `DeleteTopic`: none is success.
pub(crate) fn delete(input: Input) -> Run {
    let Input { call, value } = input;
    let arn = value.text("TopicArn").unwrap_or_default();
    go(names::topic_name(&call, arn, "TopicArn"), |name| {
        let Some(name) = name else {
            return nothing();
        };
        let refused = refused_as(&call, "DeleteTopic", arn, no_topic);
        topic(name, TopicTo::Delete, move |deleted| match deleted {
            Ok(_) => nothing(),
            Err(refusal) if refusal.kind == RefusalKind::NotFound => nothing(),
            Err(refusal) => fail(refused(&refusal)),
        })
    })
}

/// Where a page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// At the beginning.
    Start,
    /// Behind that many: moto's server counts.
    Skip(u32),
    /// Behind this name.
    Behind(String),
}

impl Begin {
    /// Reads a token.
    pub(crate) fn read(token: Option<&str>) -> Result<Self, aws::ApiError> {
        let Some(token) = token.filter(|token| !token.is_empty()) else {
            return Ok(Self::Start);
        };
        if let Ok(skip) = token.parse() {
            return Ok(Self::Skip(skip));
        }
        let name = message::base64::decode(token.as_bytes())
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .and_then(|text| text.strip_prefix(PAGE_TOKEN).map(str::to_owned));
        name.map(Self::Behind).ok_or_else(|| {
            invalid("NextToken Reason: the token is not one that this operation has given")
        })
    }

    /// The token of the next page, which begins behind `last`.
    pub(crate) fn next(&self, call: &Call, shown: usize, last: &str) -> String {
        let skipped = match self {
            Self::Start if call.settings.manners == Manners::Moto => 0,
            Self::Skip(skip) => *skip,
            Self::Start | Self::Behind(_) => {
                return message::base64::encode(format!("{PAGE_TOKEN}{last}").as_bytes());
            }
        };
        (skipped as usize + shown).to_string()
    }
}

/// Lists topic objects whose names begin with `prefix`, a page behind `from`; `then` gets them and the token of the next page.
pub(crate) fn page(
    call: Arc<Call>,
    prefix: &'static str,
    from: Begin,
    then: impl FnOnce(Arc<Call>, Vec<String>, Option<String>) -> Run + Send + 'static,
) -> Run {
    let (after, skip) = match &from {
        Begin::Start => (None, 0),
        Begin::Skip(skip) => (None, *skip),
        Begin::Behind(name) => (Some(Bytes::copy_from_slice(name.as_bytes())), 0),
    };
    // Names of ours come before all others.
    let after = after.or_else(|| {
        prefix
            .is_empty()
            .then(|| Bytes::from_static(names::BEHIND_OURS))
    });
    page_behind(call, prefix, after, skip, from, then)
}

fn page_behind(
    call: Arc<Call>,
    prefix: &'static str,
    after: Option<Bytes>,
    skip: u32,
    from: Begin,
    then: impl FnOnce(Arc<Call>, Vec<String>, Option<String>) -> Run + Send + 'static,
) -> Run {
    let limit = if skip > 0 { skip.min(1000) } else { PAGE };
    let list = Command::List {
        token: Token(0),
        lane: Lane(0),
        list: Box::new(List {
            of: Listed::Topics,
            prefix: Bytes::from_static(prefix.as_bytes()),
            feeding: None,
            after,
            limit,
        }),
    };
    Flow::ask(list, move |event, _| match event {
        Event::Listed { names, more, .. } => {
            if skip > 0 {
                let left = skip - (names.len() as u32).min(skip);
                let Some(last) = names.last().filter(|_| more) else {
                    return then(call, Vec::new(), None);
                };
                return page_behind(call, prefix, Some(last.clone()), left, from, then);
            }
            let text = |name: &Bytes| String::from_utf8_lossy(name).into_owned();
            let names: Vec<String> = names.iter().map(text).collect();
            let next = names
                .last()
                .filter(|_| more)
                .map(|last| from.next(&call, names.len(), last));
            then(call, names, next)
        }
        Event::Refused { refusal, .. } => fail(faults::refused(&call, "ListTopics", "*", &refusal)),
        other => fail(faults::internal(steps::unexpected(&other).detail)),
    })
}

/// `ListTopics`.
pub(crate) fn list(input: Input) -> Run {
    let Input { call, value } = input;
    go(Begin::read(value.text("NextToken")), |from| {
        page(call, "", from, |call, names, next| {
            let topics = names
                .iter()
                .map(|name| [("TopicArn", Value::from(call.arn("sns", name)))].into());
            let topics = Value::List(topics.collect());
            done([("Topics", topics), ("NextToken", next.into())].into())
        })
    })
}

/// A policy of JSON: the object in its shortest form.
pub(crate) fn compact(text: &str) -> Option<String> {
    json::object(text)?;
    message::Value::from_json(text.as_bytes()).map(|value| value.to_json())
}
