//! Publish and PublishBatch.
//!
//! A publish to a topic is a publish to the topic's address in the root space: its subscriptions take it, and so does whoever
//! reads that address over MQTT, AMQP or STOMP, as it is. With `MessageStructure` `json` they get what is under `default`; the
//! bodies for single protocols travel with the message (`aws::Extras`), and the receiver's door chooses.

use std::sync::Arc;

use aws::{
    ApiError, AttributeFault, Attributes, Call, Content, Extras, Input, Manners, MemberName,
    Sender, SignatureVersion, Value, body, digest,
};
use bytes::Bytes;
use message::{Address, Levels, Message};
use session::{Command, Event, Flow, PublishOutcome, TopicInfo};

use crate::{
    control::{self, Control},
    faults::{self, internal, invalid, plain},
    json,
    names::{self, Arn},
    platform, sms,
    steps::{self, Run, done, fail, go},
    subscriptions::off,
    topics::{signature_version, with_topic},
};

/// The longest message with its attributes, in bytes, unless the operator's limit is lower ([`aws::Settings::message_len_max`]).
const MESSAGE_LEN_MAX: usize = 256 * 1024;
/// The longest text message, in bytes.
const SMS_LEN_MAX: usize = 1600;
/// The longest subject, in characters.
const SUBJECT_LEN_MAX: usize = 100;
/// The longest group or deduplication id, in characters.
const ID_LEN_MAX: usize = 128;
/// Most entries of a batch.
const ENTRIES_MAX: usize = 10;
/// The longest id of an entry, in characters.
const ENTRY_ID_LEN_MAX: usize = 80;

/// `Publish`.
pub(crate) fn publish(input: Input) -> Run {
    let Input { call, value } = input;
    let named = |name: &str| value.text(name).filter(|text| !text.is_empty());
    let (topic, target, phone) = (named("TopicArn"), named("TargetArn"), named("PhoneNumber"));
    match (topic, target, phone) {
        (Some(arn), None, None) => to_topic(call, arn.to_owned(), value),
        (None, Some(arn), None) => {
            let arn = arn.to_owned();
            go(Arn::read(&arn.clone(), "TargetArn"), |read| {
                if read.resource.starts_with("endpoint/") {
                    to_endpoint(call, arn, value)
                } else {
                    to_topic(call, arn, value)
                }
            })
        }
        (None, None, Some(number)) => {
            let number = number.to_owned();
            to_phone(call, number, &value)
        }
        (None, None, None) => fail(invalid(
            "TopicArn or TargetArn Reason: no value for required parameter",
        )),
        _ => fail(invalid(
            "Only one of TopicArn, TargetArn and PhoneNumber can be specified",
        )),
    }
}

/// What is to be published, checked as far as that goes without knowing where to.
struct Written {
    text: String,
    subject: Option<String>,
    /// Bodies by protocol, if there are some beside the one for all.
    bodies: Vec<(String, String)>,
    attributes: Attributes,
    group: Option<String>,
    dedup: Option<String>,
    /// Bytes of the message and its attributes.
    len: usize,
}

/// Whether `MessageStructure` is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Structure {
    Read,
    /// Whatever it is: it goes nowhere.
    Ignored,
}

impl Written {
    fn read(call: &Call, value: &Value, structure: Structure) -> Result<Self, ApiError> {
        let text = value.text("Message").unwrap_or_default();
        if text.is_empty() {
            return Err(invalid("Empty message"));
        }
        let subject = value.text("Subject").map(str::to_owned);
        if let Some(subject) = &subject {
            check_subject(subject)?;
        }
        let attributes = Attributes::read(value.map("MessageAttributes"), false)
            .map_err(|fault| attribute_fault(&fault))?;
        let len = text.len() + attributes.bytes_len();
        if len > MESSAGE_LEN_MAX.min(call.settings.message_len_max as usize) {
            return Err(invalid("Message too long"));
        }
        let (text, bodies) = match value.text("MessageStructure") {
            None | Some("") => (text.to_owned(), Vec::new()),
            Some("json") if structure == Structure::Ignored => (text.to_owned(), Vec::new()),
            Some("json") => by_protocol(text)?,
            Some(_) => return Err(plain("MessageStructure must be 'json' if provided")),
        };
        let id = |name: &str| {
            let id = value.text(name).filter(|id| !id.is_empty());
            match id {
                Some(id) if !is_id(id) => Err(invalid(format!(
                    "{name} Reason: must be 1 to {ID_LEN_MAX} letters, digits and punctuation marks"
                ))),
                id => Ok(id.map(str::to_owned)),
            }
        };
        Ok(Self {
            text,
            subject,
            bodies,
            attributes,
            group: id("MessageGroupId")?,
            dedup: id("MessageDeduplicationId")?,
            len,
        })
    }

    /// Checks the ids against the kind of topic.
    fn check(&self, call: &Call, topic: &TopicInfo) -> Result<(), ApiError> {
        match topic.fifo {
            None if self.dedup.is_some() => Err(invalid(
                "MessageDeduplicationId Reason: The request includes MessageDeduplicationId parameter that is not valid for \
                 this topic type",
            )),
            None => Ok(()),
            Some(_) if self.group.is_none() && call.settings.manners == Manners::Moto => {
                Err(ApiError::sender(
                    "MissingParameter",
                    "The request must contain the parameter MessageGroupId.",
                ))
            }
            Some(_) if self.group.is_none() => Err(no_group()),
            Some(fifo) if self.dedup.is_none() && !fifo.dedup_by_content => Err(invalid(
                "The topic should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly",
            )),
            Some(_) => Ok(()),
        }
    }

    /// The message, to the address.
    fn message(
        self,
        call: &Call,
        address: Address,
        fifo: bool,
        signature: SignatureVersion,
        id: [u8; 16],
    ) -> Result<Message, ApiError> {
        let encoded = |it: &aws::Attribute| {
            it.name == body::ENCODING && it.content == Content::Text("base64".to_owned())
        };
        let is_base64 = self.attributes.0.iter().any(encoded);
        let content_id = fifo.then(|| digest::hex(&digest::sha256(self.text.as_bytes())));
        let Some((body, kind)) = body::read(self.text.into(), is_base64) else {
            return Err(invalid(
                "Message Reason: bascule.body is base64 and the message is not",
            ));
        };
        let mut message = Message::new(address, body);
        message.body_kind = kind;
        message.durable = true;
        message.qos = 1;
        message.created = Some(call.now);
        let extras = Extras {
            bodies: self.bodies,
            signature,
        };
        let bytes = |text: String| Bytes::from(text.into_bytes());
        self.attributes
            .put_with(&mut message, Sender::of(&call.user), id, &extras);
        message.group = self.group.map(bytes);
        let fields = message.fields_mut();
        if let Some(subject) = self.subject {
            fields.subject = Some(bytes(subject));
        }
        fields.dedup_id = self.dedup.or(content_id).map(bytes);
        Ok(message)
    }
}

fn no_group() -> ApiError {
    invalid("The MessageGroupId parameter is required for FIFO topics")
}

fn is_id(id: &str) -> bool {
    id.len() <= ID_LEN_MAX && id.bytes().all(|byte| byte.is_ascii_graphic())
}

fn check_subject(subject: &str) -> Result<(), ApiError> {
    let len = subject.chars().count();
    if len > SUBJECT_LEN_MAX {
        return Err(plain("Subject must be less than 100 characters"));
    }
    if len == 0 || subject.contains(|c: char| c.is_control()) {
        return Err(invalid("Subject"));
    }
    Ok(())
}

/// Faults of attributes in the words of SNS.
fn attribute_fault(fault: &AttributeFault) -> ApiError {
    match fault {
        AttributeFault::Invalid(text) if text.starts_with("Could not cast") => plain(format!(
            "An error occurred (ParameterValueInvalid) when calling the Publish operation: {text}"
        )),
        AttributeFault::Invalid(text) | AttributeFault::Characters(text) => plain(text.clone()),
    }
}

/// The body for all and those for one protocol.
fn by_protocol(text: &str) -> Result<(String, Vec<(String, String)>), ApiError> {
    let Some(object) = json::object(text) else {
        return Err(plain("Message is not valid JSON."));
    };
    let mut default = None;
    let mut bodies: Vec<(String, String)> = Vec::new();
    for (name, value) in object {
        let Some(body) = value.as_str() else {
            return Err(invalid(format!(
                "Message Structure - JSON message body: the value of {name} must be a string"
            )));
        };
        if name == "default" {
            default = Some(body.to_owned());
        } else if !bodies.iter().any(|(known, _)| *known == name) {
            bodies.push((name, body.to_owned()));
        }
    }
    let default = default.ok_or_else(|| plain("Message does not contain sqs or default keys."))?;
    Ok((default, bodies))
}

/// What became of a publish: the id and the number of the message.
fn published(
    outcome: &PublishOutcome,
    id: [u8; 16],
) -> Result<([u8; 16], Option<u64>), &session::Refusal> {
    match outcome {
        PublishOutcome::Accepted { sequence, .. } => Ok((id, *sequence)),
        PublishOutcome::Duplicate { of } => {
            let first = of.and_then(|it| it.message_id);
            Ok((first.unwrap_or(id), of.map(|it| it.place.qseq)))
        }
        PublishOutcome::Refused(refusal) => Err(refusal),
    }
}

fn members((id, sequence): ([u8; 16], Option<u64>)) -> Vec<(MemberName, Value)> {
    let mut members = vec![("MessageId".into(), Value::from(digest::uuid_text(&id)))];
    if let Some(sequence) = sequence {
        members.push((
            "SequenceNumber".into(),
            Value::from(format!("{sequence:020}")),
        ));
    }
    members
}

fn random_id(random: &[u8]) -> [u8; 16] {
    let mut id = [0; 16];
    id.copy_from_slice(&random[..16]);
    digest::random_uuid(id)
}

fn topic_address(call: &Call, levels: &Levels) -> Address {
    Address::topic(call.vhost, levels.clone())
}

fn to_topic(call: Arc<Call>, arn: String, value: Value) -> Run {
    go(Written::read(&call, &value, Structure::Read), |content| {
        with_topic(&Arc::clone(&call), "Publish", &arn.clone(), move |topic| {
            go(content.check(&call, &topic), |()| {
                let id = random_id(&call.random);
                let made = content.message(
                    &call,
                    topic_address(&call, &topic.address),
                    topic.fifo.is_some(),
                    signature_version(&topic),
                    id,
                );
                go(made, |message| {
                    let command = Command::Publish(control::publish(message));
                    Flow::ask(command, move |event, _| answer(&call, &arn, &event, id))
                })
            })
        })
    })
}

fn answer(call: &Call, arn: &str, event: &Event, id: [u8; 16]) -> Run {
    match event {
        Event::Published { outcome, .. } => match published(outcome, id) {
            Ok(published) => done(Value::Map(members(published))),
            Err(refusal) => fail(faults::refused(call, "Publish", arn, refusal)),
        },
        Event::Refused { refusal, .. } => fail(faults::refused(call, "Publish", arn, refusal)),
        other => fail(internal(steps::unexpected(other).detail)),
    }
}

fn to_endpoint(call: Arc<Call>, arn: String, value: Value) -> Run {
    let on = &call.settings.sns;
    if !on.push {
        return fail(off("TargetArn Reason: application", "sns.push"));
    }
    let structure = if on.push_discarded {
        Structure::Ignored
    } else {
        Structure::Read
    };
    let absent =
        |_: &str| invalid("TargetArn Reason: No endpoint found for the target arn specified");
    platform::with_endpoint(Arc::clone(&call), arn, absent, move |found| {
        if !found.is_enabled {
            return fail(ApiError::sender("EndpointDisabled", "Endpoint is disabled"));
        }
        if !found.application_is_enabled {
            return fail(ApiError::sender(
                "PlatformApplicationDisabled",
                "Platform application is disabled",
            ));
        }
        go(Written::read(&call, &value, structure), |content| {
            let push = Control::Push { id: found.id };
            direct(&call, push, content)
        })
    })
}

fn to_phone(call: Arc<Call>, number: String, value: &Value) -> Run {
    if !call.settings.sns.sms {
        return fail(off("PhoneNumber Reason: sms", "sns.sms"));
    }
    if !names::is_phone_number(&number) {
        return fail(invalid(format!(
            "PhoneNumber Reason: {number} does not meet the E164 format"
        )));
    }
    go(Written::read(&call, value, Structure::Read), |content| {
        let text = content.bodies.iter().find(|(name, _)| name == "sms");
        let text = text.map_or(&content.text, |(_, text)| text);
        if text.len() > SMS_LEN_MAX {
            return fail(invalid(format!(
                "SMS message must be less than {SMS_LEN_MAX} bytes"
            )));
        }
        sms::unless_opted_out(&Arc::clone(&call), number.clone(), move || {
            direct(&call, Control::Sms { number }, content)
        })
    })
}

/// Sends something that no topic brings.
fn direct(call: &Arc<Call>, control: Control, content: Written) -> Run {
    let id = random_id(&call.random);
    let address = Address::topic(call.vhost, Levels::none());
    let made = content.message(call, address, false, SignatureVersion::default(), id);
    go(made, |message| {
        control::send_message(call, "Publish", control, message, move |()| {
            done(Value::Map(members((id, None))))
        })
    })
}

/// `PublishBatch`: each entry is a publish of its own. When there was no room for any, the request as a whole has failed.
pub(crate) fn publish_batch(input: Input) -> Run {
    let Input { call, value } = input;
    let arn = value.text("TopicArn").unwrap_or_default().to_owned();
    with_topic(
        &Arc::clone(&call),
        "PublishBatch",
        &arn.clone(),
        move |topic| {
            let entries = value.list("PublishBatchRequestEntries");
            go(check_entries(entries, &topic), |()| {
                batch(call, arn, &topic, entries)
            })
        },
    )
}

fn check_entries(entries: &[Value], topic: &TopicInfo) -> Result<(), ApiError> {
    let error = |code: &'static str, message: &'static str| Err(ApiError::sender(code, message));
    if entries.is_empty() {
        return error(
            "EmptyBatchRequest",
            "The batch request doesn't contain any entries.",
        );
    }
    if entries.len() > ENTRIES_MAX {
        return error(
            "TooManyEntriesInBatchRequest",
            "The batch request contains more entries than permissible.",
        );
    }
    let id = |entry: &Value| entry.text("Id").unwrap_or_default().to_owned();
    let ids: Vec<String> = entries.iter().map(id).collect();
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    // AWS takes spaces there as well, and clients have come to send them.
    let legal = |id: &String| {
        (1..=ENTRY_ID_LEN_MAX).contains(&id.len()) && id.bytes().all(|b| legal(b) || b == b' ')
    };
    if !ids.iter().all(legal) {
        return error(
            "InvalidBatchEntryId",
            "The Id of a batch entry in a batch request doesn't abide by the specification.",
        );
    }
    let repeats = |(at, id): (usize, &String)| ids[..at].contains(id);
    if ids.iter().enumerate().any(repeats) {
        return error(
            "BatchEntryIdsNotDistinct",
            "Two or more batch entries in the request have the same Id.",
        );
    }
    let len = |entry: &Value| entry.text("Message").map_or(0, str::len);
    if entries.iter().map(len).sum::<usize>() > MESSAGE_LEN_MAX {
        return error(
            "BatchRequestTooLong",
            "The length of all the messages put together is more than the limit.",
        );
    }
    let grouped = |entry: &Value| {
        entry
            .text("MessageGroupId")
            .is_some_and(|id| !id.is_empty())
    };
    if topic.fifo.is_some() && !entries.iter().all(grouped) {
        return Err(no_group());
    }
    Ok(())
}

fn failure(id: &str, error: &ApiError) -> Value {
    let code = error.query_code.as_ref().unwrap_or(&error.code);
    Value::from([
        ("Id", Value::from(id)),
        ("Code", Value::from(code.to_string())),
        ("Message", Value::from(error.message.to_string())),
        ("SenderFault", Value::from(!error.receiver)),
    ])
}

fn batch(call: Arc<Call>, arn: String, topic: &TopicInfo, entries: &[Value]) -> Run {
    let mut failed = Vec::new();
    let (mut commands, mut waiting) = (Vec::new(), Vec::new());
    let mut len = 0;
    for (at, entry) in entries.iter().enumerate() {
        let name = entry.text("Id").unwrap_or_default().to_owned();
        // Each its own, out of the chance of the request.
        let random = digest::hmac_sha256(&call.random, &[b"entry", &[at as u8]]);
        let id = random_id(&random);
        let made = Written::read(&call, entry, Structure::Read).and_then(|content| {
            content.check(&call, topic)?;
            len += content.len;
            content.message(
                &call,
                topic_address(&call, &topic.address),
                topic.fifo.is_some(),
                signature_version(topic),
                id,
            )
        });
        match made {
            Ok(message) => {
                commands.push(Command::Publish(control::publish(message)));
                waiting.push((name, id));
            }
            Err(error) => failed.push(failure(&name, &error)),
        }
    }
    if len > MESSAGE_LEN_MAX {
        return fail(ApiError::sender(
            "BatchRequestTooLong",
            "The length of all the messages put together is more than the limit.",
        ));
    }
    if commands.is_empty() {
        return batch_answer(Vec::new(), failed);
    }
    Flow::ask_all(commands, move |events, _| {
        let mut successful = Vec::new();
        let (mut crowded, mut last_crowded) = (0, None);
        for ((name, id), event) in waiting.iter().zip(&events) {
            let outcome = match event {
                Event::Published { outcome, .. } => published(outcome, *id),
                Event::Refused { refusal, .. } => Err(refusal),
                other => return fail(internal(steps::unexpected(other).detail)),
            };
            match outcome {
                Ok(published) => {
                    let mut shown = vec![("Id".into(), Value::from(&name[..]))];
                    shown.extend(members(published));
                    successful.push(Value::Map(shown));
                }
                Err(refusal) => {
                    let error = faults::refused(&call, "Publish", &arn, refusal);
                    failed.push(failure(name, &error));
                    if error.is_want_of_room() {
                        crowded += 1;
                        last_crowded = Some(error);
                    }
                }
            }
        }
        match last_crowded {
            // SDKs try the request again by themselves, and never look into the list.
            Some(error) if successful.is_empty() && crowded == failed.len() => fail(error),
            _ => batch_answer(successful, failed),
        }
    })
}

fn batch_answer(successful: Vec<Value>, failed: Vec<Value>) -> Run {
    done(
        [
            ("Successful", Value::List(successful)),
            ("Failed", Value::List(failed)),
        ]
        .into(),
    )
}
