//! SendMessage and SendMessageBatch.
//!
//! Most messages are published without a look at their queue first: what must be known of a queue before is the largest message
//! that it takes, which is never less than 1,024 bytes, and for FIFO queues, which are told by their names, whether a message
//! without a deduplication id gets one from its body. Only larger messages, and those without, cost a second question.

use std::sync::Arc;

use aws::{
    Answer, ApiError, AttributeFault, Attributes, Call, Content, Field, Input, Manners, Sender,
    ShowRow, Value, body, digest,
};
use bytes::{Bytes, BytesMut};
use message::{Address, Message, Name, Value as Property};
use session::{Command, Event, Flow, Publish, PublishOutcome};

use crate::{
    asked::{LANE, Made, TOKEN, ask_each, done, failed, look_at, unexpected},
    attributes::{DELAY_MAX, MESSAGE_LEN_LEAST, message_len_limit, message_len_max},
    batch, queue, words,
};

/// The name of the one system attribute that can be sent: a property of that name to everyone else.
pub(crate) const TRACE_HEADER: &str = "AWSTraceHeader";
/// Bodies of a batch up to this length share memory, in bytes: what keeps one of them keeps no more than ten times that.
const GATHERED_LEN_MAX: usize = 1 << 10;
/// Most attributes of a message.
const ATTRIBUTES_MAX: usize = 10;
/// The longest group id and the longest deduplication id.
const ID_LEN_MAX: usize = 128;

/// A message as it is to be sent.
struct Sent {
    /// The body as it was sent, where that is another one than the message's.
    text: Option<Bytes>,
    /// Gone with the publish.
    body: Bytes,
    /// Bytes of the body as it was sent.
    text_len: usize,
    /// Its MD5, from before it is published on.
    md5: [u8; 16],
    kind: message::BodyKind,
    attributes: Attributes,
    trace: Option<String>,
    delay_s: Option<i64>,
    group: Option<String>,
    dedup: Option<String>,
    id: [u8; 16],
}

fn fault(fault: AttributeFault) -> ApiError {
    match fault {
        AttributeFault::Invalid(message) => words::invalid_parameter(message),
        AttributeFault::Characters(message) => ApiError::sender("InvalidMessageContents", message),
    }
}

fn check_id(parameter: &str, id: &str) -> Result<(), ApiError> {
    let legal = |byte: u8| byte.is_ascii_graphic();
    if (1..=ID_LEN_MAX).contains(&id.len()) && id.bytes().all(legal) {
        return Ok(());
    }
    Err(words::invalid(
        parameter,
        id,
        format!(
            "{parameter} can only include alphanumeric and punctuation characters. 1 to 128 in length."
        ),
    ))
}

impl Sent {
    /// Reads a message, or an entry of a batch: the `nth`.
    fn read(mut value: Value, call: &Call, nth: u8) -> Result<Self, ApiError> {
        let text = match value.take("MessageBody") {
            Value::Text(text) if !text.is_empty() => text,
            _ => return Err(words::missing("MessageBody")),
        };
        if !body::is_legal_text(&text) {
            return Err(words::invalid_contents());
        }
        let entries = value.map("MessageAttributes");
        if entries.len() > ATTRIBUTES_MAX {
            return Err(words::invalid_parameter(format!(
                "Number of message attributes [{}] exceeds the allowed maximum [{ATTRIBUTES_MAX}].",
                entries.len()
            )));
        }
        let attributes = Attributes::read(entries, true).map_err(fault)?;
        let is_base64 = attributes.0.iter().any(|it| {
            it.name == body::ENCODING && it.content == Content::Text("base64".to_owned())
        });
        let text = Bytes::from(text);
        let text_len = text.len();
        let (text, read) = if is_base64 {
            (Some(text.clone()), body::read(text, true))
        } else {
            (None, body::read(text, false))
        };
        let Some((body, kind)) = read else {
            return Err(words::invalid_parameter(format!(
                "Invalid value for the parameter MessageBody. Reason: It is not base64, though the message attribute {} says so.",
                body::ENCODING
            )));
        };
        let delay_s = value.int("DelaySeconds");
        if let Some(delay) = delay_s
            && !(0..=DELAY_MAX as i64).contains(&delay)
        {
            return Err(words::invalid(
                "DelaySeconds",
                delay,
                format!("DelaySeconds must be >= 0 and <= {DELAY_MAX}."),
            ));
        }
        let id_of = |parameter: &str| -> Result<Option<String>, ApiError> {
            let Some(id) = value.text(parameter) else {
                return Ok(None);
            };
            check_id(parameter, id)?;
            Ok(Some(id.to_owned()))
        };
        Ok(Self {
            trace: trace_header(&value)?,
            text,
            body,
            text_len,
            md5: [0; 16],
            kind,
            attributes,
            delay_s,
            group: id_of("MessageGroupId")?,
            dedup: id_of("MessageDeduplicationId")?,
            id: message_id(call, nth),
        })
    }

    /// Bytes that count towards the limit.
    fn len(&self) -> u64 {
        (self.text_len + self.attributes.bytes_len()) as u64
    }

    /// What the type of the queue forbids.
    fn check_type(&self, fifo: bool, manners: Manners) -> Result<(), ApiError> {
        if !fifo {
            return match &self.dedup {
                Some(_) if manners == Manners::Moto => Ok(()),
                Some(id) => Err(words::not_for_this_type("MessageDeduplicationId", id)),
                None => Ok(()),
            };
        }
        match self.delay_s {
            Some(delay) if delay != 0 => Err(words::not_for_this_type("DelaySeconds", delay)),
            _ => Ok(()),
        }
    }

    /// What a FIFO queue wants of each message: a batch that lacks it is refused as a whole.
    fn check_fifo(&self, by_content: Option<bool>) -> Result<(), ApiError> {
        if self.group.is_none() {
            return Err(words::missing("MessageGroupId"));
        }
        if self.dedup.is_none() && by_content == Some(false) {
            return Err(words::invalid_parameter(
                "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly",
            ));
        }
        Ok(())
    }

    /// The body as it was sent.
    fn text(&self) -> &[u8] {
        self.text.as_ref().unwrap_or(&self.body)
    }

    /// The publish to the queue at that address, which takes the body with it.
    fn publish(
        &mut self,
        queue: &Arc<Address>,
        fifo: bool,
        sender: Sender,
        call: &Call,
    ) -> Publish {
        let text = self.text();
        // The SHA-256 of the body, not of the attributes.
        let by_content = (fifo && self.dedup.is_none()).then(|| digest::hex(&digest::sha256(text)));
        let body = std::mem::take(&mut self.body);
        let mut message = Message::new(Arc::clone(queue), body);
        message.durable = true;
        message.qos = 1;
        message.body_kind = self.kind;
        message.created = Some(call.now);
        message.delay_ms = match self.delay_s {
            Some(0) if !fifo => Message::AT_ONCE,
            Some(seconds) => seconds.unsigned_abs() * 1000,
            None => 0,
        };
        let owned = |text: &String| Bytes::copy_from_slice(text.as_bytes());
        message.group = self.group.as_ref().map(owned);
        let fields = message.fields_mut();
        fields.dedup_id = match &self.dedup {
            Some(id) => Some(owned(id)),
            None => by_content.map(Bytes::from),
        };
        self.attributes.put_into(&mut message, sender, self.id);
        if let Some(trace) = &self.trace {
            message
                .properties
                .push(TRACE_HEADER, Property::text(trace.clone()));
        }
        Publish {
            token: Some(TOKEN),
            lane: LANE,
            message: Arc::new(message),
            mandatory: false,
            create: false,
            inbound_id: None,
            or_stream: false,
            hash_key: None,
            folds: false,
        }
    }

    /// What is answered of the publish.
    fn answer(&self, outcome: PublishOutcome, fifo: bool) -> Result<Taken, ApiError> {
        let (id, place) = match outcome {
            PublishOutcome::Accepted { matched: 0, .. } => return Err(words::no_queue()),
            PublishOutcome::Accepted { place, .. } => (self.id, place),
            PublishOutcome::Duplicate { of: Some(original) } => {
                (original.message_id.unwrap_or(self.id), Some(original.place))
            }
            PublishOutcome::Duplicate { of: None } => (self.id, None),
            PublishOutcome::Refused(refusal) => return Err(words::refused(&refusal)),
        };
        let trace_md5 = self.trace.as_ref().and_then(|trace| {
            let attribute = aws::Attribute {
                name: TRACE_HEADER.to_owned(),
                data_type: "String".to_owned(),
                content: Content::Text(trace.clone()),
            };
            Attributes(vec![attribute]).md5()
        });
        Ok(Taken {
            id,
            md5: self.md5,
            attributes_md5: self.attributes.md5(),
            trace_md5,
            sequence: place.filter(|_| fifo).map(|place| sequence(place.qseq)),
        })
    }
}

/// What is told of a message that was taken.
#[derive(Debug)]
struct Taken {
    id: [u8; 16],
    md5: [u8; 16],
    attributes_md5: Option<String>,
    trace_md5: Option<String>,
    sequence: Option<String>,
}

impl Taken {
    fn value(self) -> Value {
        Value::from([
            ("MessageId", digest::uuid_text(&self.id).into()),
            ("MD5OfMessageBody", digest::hex(&self.md5).into()),
            ("MD5OfMessageAttributes", self.attributes_md5.into()),
            ("MD5OfMessageSystemAttributes", self.trace_md5.into()),
            ("SequenceNumber", self.sequence.into()),
        ])
    }
}

impl batch::Success for Taken {
    fn show(&self, id: &str, show: &mut ShowRow<'_>) {
        let own = digest::uuid_digits(&self.id);
        let md5 = digest::hex_digits(&self.md5);
        show(&[
            ("Id", id.into()),
            ("MessageId", Field::Plain(own.as_bytes())),
            ("MD5OfMessageBody", Field::Plain(md5.as_bytes())),
            (
                "MD5OfMessageAttributes",
                self.attributes_md5.as_deref().into(),
            ),
            (
                "MD5OfMessageSystemAttributes",
                self.trace_md5.as_deref().into(),
            ),
            ("SequenceNumber", self.sequence.as_deref().into()),
        ]);
    }
}

/// A sequence number: it grows with every message of the queue, and has twenty digits, so that it grows as a text too.
pub(crate) fn sequence(qseq: u64) -> String {
    format!("{qseq:020}")
}

/// The id of the `nth` message of a request.
fn message_id(call: &Call, nth: u8) -> [u8; 16] {
    let seed = call.random[16..].try_into().expect("a part of 32 bytes");
    digest::random_uuid(digest::spread(seed, u64::from(nth)))
}

fn trace_header(value: &Value) -> Result<Option<String>, ApiError> {
    let mut trace = None;
    for (name, value) in value.map("MessageSystemAttributes") {
        if name != TRACE_HEADER {
            return Err(words::invalid_parameter(format!(
                "Message system attribute name '{name}' is invalid."
            )));
        }
        let text = value.text("StringValue").filter(|text| !text.is_empty());
        match (value.text("DataType"), text) {
            (Some("String"), Some(text)) if body::is_legal_text(text) => {
                trace = Some(text.to_owned());
            }
            _ => {
                return Err(words::invalid_parameter(format!(
                    "The message system attribute '{name}' must contain a non-empty value of type 'String'."
                )));
            }
        }
    }
    Ok(trace)
}

/// A queue as messages to it are judged.
#[derive(Clone, Copy)]
struct Judge {
    fifo: bool,
    /// Whether messages are known again by their bodies; unknown before the queue is looked at.
    by_content: Option<bool>,
    len_max: u64,
}

impl Judge {
    /// Before the queue is looked at: what every queue of such a name has.
    fn by_name(queue: &Name) -> Self {
        Self {
            fifo: queue::is_fifo_name(queue),
            by_content: None,
            len_max: MESSAGE_LEN_LEAST,
        }
    }

    fn of(made: &Made, call: &Call) -> Self {
        let fifo = made.attributes.fifo;
        Self {
            fifo: fifo.is_some(),
            by_content: fifo.map(|fifo| fifo.dedup_by_content),
            len_max: message_len_max(made, call),
        }
    }

    /// Whether that is enough to judge a message.
    fn suffices(self, sent: &Sent) -> bool {
        sent.len() <= self.len_max && !(self.fifo && sent.dedup.is_none())
    }
}

pub(crate) fn send(input: Input) -> Flow<Answer> {
    let name = match queue::of_input(&input) {
        Ok(name) => name,
        Err(error) => return failed(error),
    };
    let call = input.call;
    let sent = match Sent::read(input.value, &call, 0) {
        Ok(sent) => sent,
        Err(error) => return failed(error),
    };
    let by_name = Judge::by_name(&name);
    if by_name.suffices(&sent) {
        return publish_one(name, sent, by_name, &call);
    }
    look_at(name.clone(), move |queue, _| {
        let judge = Judge::of(&Made::of(&queue), &call);
        publish_one(name, sent, judge, &call)
    })
}

fn publish_one(name: Name, mut sent: Sent, judge: Judge, call: &Call) -> Flow<Answer> {
    let checked = sent
        .check_type(judge.fifo, call.settings.manners)
        .and_then(|()| {
            if sent.len() > judge.len_max {
                return Err(words::too_long(judge.len_max));
            }
            if judge.fifo {
                sent.check_fifo(judge.by_content)?;
            }
            Ok(())
        });
    if let Err(error) = checked {
        return failed(error);
    }
    sent.md5 = digest::md5(sent.text());
    let address = Arc::new(Address::queue(call.vhost, name));
    let publish = sent.publish(&address, judge.fifo, Sender::of(&call.user), call);
    Flow::ask(Command::Publish(publish), move |event, _| {
        let answer = outcome(event).and_then(|outcome| sent.answer(outcome, judge.fifo));
        done(answer.map(Taken::value))
    })
}

/// What became of a publish.
fn outcome(event: Event) -> Result<PublishOutcome, ApiError> {
    match event {
        Event::Published { outcome, .. } => Ok(outcome),
        other => Err(unexpected(&other)),
    }
}

/// An entry of a batch: a message, or why it is none.
type Entry = (String, Result<Sent, ApiError>);

pub(crate) fn send_batch(mut input: Input) -> Flow<Answer> {
    let name = match queue::of_input(&input) {
        Ok(name) => name,
        Err(error) => return failed(error),
    };
    let call = Arc::clone(&input.call);
    let entries = match batch::entries(&mut input, "SendMessageBatchRequestEntry") {
        Ok(entries) => entries,
        // That there is no such queue is told first.
        Err(error) => return look_at(name, |_, _| failed(error)),
    };
    let entries: Vec<Entry> = entries
        .into_iter()
        .enumerate()
        .map(|(nth, (id, value))| (id, Sent::read(value, &call, nth as u8)))
        .collect();
    let sent = |(_, entry): &Entry| entry.as_ref().map_or(0, Sent::len);
    let total: u64 = entries.iter().map(sent).sum();
    let max = message_len_limit(&call);
    if total > max {
        return look_at(name, move |_, _| failed(words::batch_too_long(max, total)));
    }
    let enough = |judge: Judge| {
        let mut messages = entries.iter().filter_map(|(_, entry)| entry.as_ref().ok());
        messages.all(|sent| judge.suffices(sent)) && entries.iter().any(|(_, entry)| entry.is_ok())
    };
    // `enough` borrows what `then` takes, so it is asked here.
    let by_name = Judge::by_name(&name);
    if enough(by_name) {
        return publish_batch(name, entries, by_name, call);
    }
    look_at(name.clone(), move |queue, _| {
        let judge = Judge::of(&Made::of(&queue), &call);
        publish_batch(name, entries, judge, call)
    })
}

fn publish_batch(
    name: Name,
    mut entries: Vec<Entry>,
    judge: Judge,
    call: Arc<Call>,
) -> Flow<Answer> {
    if judge.fifo {
        let messages = entries.iter().filter_map(|(_, entry)| entry.as_ref().ok());
        for sent in messages {
            if let Err(error) = sent.check_fifo(judge.by_content) {
                return failed(error);
            }
        }
    }
    gather(&mut entries);
    let address = Arc::new(Address::queue(call.vhost, name));
    let sender = Sender::of(&call.user);
    let mut publishes = Vec::with_capacity(entries.len());
    let messages = entries.iter().filter_map(|(_, entry)| entry.as_ref().ok());
    let mut digests = digest::md5_each(messages.map(Sent::text)).into_iter();
    for (_, entry) in &mut entries {
        let Ok(sent) = entry else { continue };
        sent.md5 = digests.next().expect("one for each message");
        let judged = sent.check_type(judge.fifo, call.settings.manners);
        if let Err(error) = judged {
            *entry = Err(error);
        } else if sent.len() > judge.len_max {
            *entry = Err(words::too_long(judge.len_max));
        } else {
            publishes.push(sent.publish(&address, judge.fifo, sender.clone(), &call));
        }
    }
    if judge.fifo {
        // A repeat is told of the message that it repeats, which must be there: also one of the same batch.
        let commands = publishes.into_iter().map(Command::Publish).collect();
        return ask_each(commands, move |events| {
            answer_batch(entries, events.into_iter().map(outcome), true)
        });
    }
    if publishes.is_empty() {
        return answer_batch(entries, std::iter::empty(), false);
    }
    Flow::publish_all(publishes, move |outcomes, _| match outcomes {
        Ok(outcomes) => answer_batch(entries, outcomes.into_iter().map(Ok), false),
        Err(event) => failed(unexpected(&event)),
    })
}

/// Puts the short bodies of a batch into one piece of memory: they live about as long as each other, and to allocate each, and what
/// counts who shares it, costs more than to copy it.
fn gather(entries: &mut [Entry]) {
    fn short((_, entry): &mut Entry) -> Option<&mut Bytes> {
        let body = entry.as_mut().ok().map(|sent| &mut sent.body);
        body.filter(|body| body.len() <= GATHERED_LEN_MAX)
    }
    let len = entries
        .iter_mut()
        .filter_map(short)
        .map(|it| it.len())
        .sum();
    let mut all = BytesMut::with_capacity(len);
    let bodies = entries.iter_mut().filter_map(short);
    bodies.for_each(|body| all.extend_from_slice(body));
    let mut all = all.freeze();
    for body in entries.iter_mut().filter_map(short) {
        *body = all.split_to(body.len());
    }
}

/// The answer to a batch. `outcomes`: of the entries that were published.
fn answer_batch(
    entries: Vec<Entry>,
    mut outcomes: impl Iterator<Item = Result<PublishOutcome, ApiError>>,
    fifo: bool,
) -> Flow<Answer> {
    let mut results = batch::Results::of(entries.len());
    for (id, entry) in entries {
        let result = entry.and_then(|sent| {
            let outcome = outcomes.next().expect("one outcome for each publish");
            sent.answer(outcome?, fifo)
        });
        // That there is no queue is no matter of one entry.
        if let Err(error) = &result
            && error.code == "QueueDoesNotExist"
        {
            return failed(error.clone());
        }
        results.put(id, result);
    }
    done(results.answer())
}
