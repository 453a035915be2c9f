//! ReceiveMessage: a pull from the queue, and its messages as SQS shows them.

use std::{borrow::Cow, fmt, sync::Arc};

use aws::{
    Answer, ApiError, Attributes, Call, Envelope, Field, Input, MemberName, Notification, Rows,
    ShowRow, Shown, Value,
    body::{self, Showing},
    digest,
    seal::Sealer,
};
use bytes::Bytes;
use message::{Name, Timestamp};
use session::{Command, Delivery, Event, Flow, Lease, Pull, Receipt, RefusalKind, Secret, Via};

use crate::{
    asked::{LANE, Made, TOKEN, done, failed, look_at, unexpected},
    attributes::{self, VISIBILITY_MAX, WAIT_MAX},
    handle::{self, Handle},
    queue,
    send::{TRACE_HEADER, sequence},
    words,
};

/// Most messages of one receive.
const COUNT_MAX: i64 = 10;
/// Most messages of one queue that are in flight.
const OUT_MAX: u64 = 120_000;
/// Most bytes of bodies of one receive; one message always fits (DOORS 15).
const BYTES_MAX: u64 = 1 << 20;
/// The longest ReceiveRequestAttemptId.
const ATTEMPT_LEN_MAX: usize = 128;

/// System attributes, in the order in which they are shown.
const SYSTEM: &[&str] = &[
    "SenderId",
    "SentTimestamp",
    "ApproximateReceiveCount",
    "ApproximateFirstReceiveTimestamp",
    "SequenceNumber",
    "MessageDeduplicationId",
    "MessageGroupId",
    TRACE_HEADER,
    "DeadLetterQueueSourceArn",
];

/// What a receive asks for.
struct Wanted {
    count: u32,
    lease: Lease,
    /// As long as the queue says.
    wait_ms: Option<u64>,
    attempt: Option<String>,
    /// Names of system attributes.
    system: Vec<&'static str>,
    names: Names,
}

/// Which message attributes are asked for.
#[derive(Default)]
struct Names {
    all: bool,
    prefixes: Vec<String>,
    exact: Vec<String>,
}

impl Names {
    fn of(input: &Input) -> Self {
        let mut names = Self::default();
        for name in input.value.list("MessageAttributeNames") {
            let Value::Text(name) = name else { continue };
            match name.strip_suffix(".*") {
                _ if name == "All" => names.all = true,
                Some("") => names.all = true,
                Some(prefix) => names.prefixes.push(prefix.to_owned()),
                None => names.exact.push(name.clone()),
            }
        }
        names
    }

    fn want(&self, name: &str) -> bool {
        self.all
            || self.exact.iter().any(|exact| exact == name)
            || self.prefixes.iter().any(|prefix| name.starts_with(prefix))
    }
}

/// An integer parameter within bounds.
fn bounded(input: &Input, name: &str, min: i64, max: i64) -> Result<Option<u64>, ApiError> {
    match input.value.int(name) {
        None => Ok(None),
        Some(value) if (min..=max).contains(&value) => Ok(Some(value.unsigned_abs())),
        Some(value) => Err(words::invalid(
            name,
            value,
            if min == 1 {
                format!("Must be between {min} and {max}, if provided.")
            } else {
                format!("Must be >= {min} and <= {max}, if provided.")
            },
        )),
    }
}

impl Wanted {
    fn of(input: &Input, queue: &Name) -> Result<Self, ApiError> {
        let count = bounded(input, "MaxNumberOfMessages", 1, COUNT_MAX)?.unwrap_or(1);
        let visibility = bounded(input, "VisibilityTimeout", 0, VISIBILITY_MAX as i64)?;
        let wait = bounded(input, "WaitTimeSeconds", 0, WAIT_MAX as i64)?;
        let mut system = Vec::new();
        for list in ["AttributeNames", "MessageSystemAttributeNames"] {
            for name in input.value.list(list) {
                let Value::Text(name) = name else { continue };
                let name = attributes::meant(name);
                match SYSTEM.iter().find(|known| **known == name) {
                    Some(known) => system.push(*known),
                    None if name == "All" => system.extend(SYSTEM),
                    None => return Err(words::unknown_attribute(name)),
                }
            }
        }
        let attempt = input
            .value
            .text("ReceiveRequestAttemptId")
            .map(str::to_owned);
        if let Some(attempt) = &attempt
            && !((1..=ATTEMPT_LEN_MAX).contains(&attempt.len())
                && attempt.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            return Err(words::invalid(
                "ReceiveRequestAttemptId",
                attempt,
                "ReceiveRequestAttemptId can only include alphanumeric and punctuation characters. 1 to 128 in length.",
            ));
        }
        if let Some(attempt) = &attempt
            && !queue::is_fifo_name(queue)
        {
            return Err(words::not_for_this_type("ReceiveRequestAttemptId", attempt));
        }
        Ok(Self {
            count: count as u32,
            lease: visibility.map_or(Lease::Queue, |seconds| Lease::Ms(seconds * 1000)),
            wait_ms: wait.map(|seconds| seconds * 1000),
            attempt,
            system,
            names: Names::of(input),
        })
    }

    fn pull(&self, queue: &Name, wait_ms: u64) -> Command {
        let attempt = self.attempt.as_ref();
        Command::Pull(Pull {
            token: TOKEN,
            lane: LANE,
            queue: queue.clone(),
            count: self.count,
            lease: self.lease,
            wait_ms,
            out_max: Some(OUT_MAX),
            bytes_max: Some(BYTES_MAX),
            attempt: attempt.map(|attempt| Bytes::copy_from_slice(attempt.as_bytes())),
        })
    }
}

/// A receive: the queue is looked at and pulled from at once, so that both are one wait. What the queue says of a receive that says
/// nothing itself is known too late then, but only if nothing came does it matter how long to wait.
pub(crate) fn receive(input: Input) -> Flow<Answer> {
    let name = match queue::of_input(&input) {
        Ok(name) => name,
        Err(error) => return failed(error),
    };
    let wanted = match Wanted::of(&input, &name) {
        Ok(wanted) => wanted,
        Err(error) => return look_at(name, |_, _| failed(error)),
    };
    let call = input.call;
    let look = Command::Inspect {
        token: TOKEN,
        lane: LANE,
        name: name.clone(),
    };
    let pull = wanted.pull(&name, wanted.wait_ms.unwrap_or(0));
    Flow::ask_each([look, pull], move |[looked, pulled], now| {
        let Event::Inspected { queue, .. } = looked else {
            // Who may neither look nor receive is told of what was asked for.
            let refused = matches!(pulled, Event::Refused { .. });
            return failed(unexpected(if refused { &pulled } else { &looked }));
        };
        let made = Made::of(&queue);
        let shower = Shower {
            call,
            queue: name,
            fifo: made.attributes.fifo.is_some(),
            showing: attributes::showing(&made),
            wanted,
        };
        let nothing = match &pulled {
            Event::Pulled { deliveries, .. } => deliveries.is_empty(),
            // Who waits is not told that so many are in flight.
            Event::Refused { refusal, .. } => refusal.kind == RefusalKind::QuotaExceeded,
            _ => false,
        };
        let wait_ms = attributes::wait_ms(&made);
        if nothing && shower.wanted.wait_ms.is_none() && wait_ms > 0 {
            let pull = shower.wanted.pull(&shower.queue, wait_ms);
            return Flow::ask(pull, move |pulled, now| shower.answer(pulled, now));
        }
        shower.answer(pulled, now)
    })
}

/// What is known of a receive by the time that messages come.
struct Shower {
    call: Arc<Call>,
    queue: Name,
    fifo: bool,
    showing: Showing,
    wanted: Wanted,
}

impl Shower {
    fn answer(self, pulled: Event, now: Timestamp) -> Flow<Answer> {
        let (deliveries, epoch) = match pulled {
            Event::Pulled {
                deliveries, epoch, ..
            } => (deliveries, epoch),
            Event::Refused { refusal, .. } if refusal.kind == RefusalKind::QuotaExceeded => {
                // A FIFO queue with so many in flight gives nothing, and no error.
                if self.fifo {
                    return done(Ok(Value::empty()));
                }
                return failed(words::too_many_in_flight());
            }
            other => return failed(unexpected(&other)),
        };
        if deliveries.is_empty() {
            return done(Ok(Value::empty()));
        }
        let sealer = handle::sealer(&self.call, &self.queue);
        let view = View {
            shower: self,
            sealer,
            epoch,
            now,
            deliveries,
        };
        done(Ok(Value::from([("Messages", Value::Rows(Arc::new(view)))])))
    }
}

/// Deliveries as they are shown.
struct View {
    shower: Shower,
    sealer: Sealer,
    epoch: u64,
    now: Timestamp,
    deliveries: Vec<Delivery>,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("View").field(&self.deliveries).finish()
    }
}

impl Rows for View {
    fn count(&self) -> usize {
        self.deliveries.len()
    }

    fn len_hint(&self) -> usize {
        // Names and quotes, an id, a handle and a digest.
        const ABOUT: usize = 320;
        let len = |delivery: &Delivery| ABOUT + delivery.message.body.len();
        self.deliveries.iter().map(len).sum()
    }

    fn each(&self, show: &mut ShowRow<'_>) {
        let mut handle = Vec::new();
        let bodies = self.deliveries.iter().map(|it| match it.via {
            None => &it.message.body[..],
            // It goes in an envelope.
            Some(_) => &[],
        });
        let digests = digest::md5_each(bodies);
        for (delivery, md5) in self.deliveries.iter().zip(digests) {
            handle.clear();
            self.message(delivery, md5, &mut handle, show);
        }
    }
}

impl View {
    /// Shows a message, whose own body has this MD5. `handle_text` is memory for its handle.
    fn message(
        &self,
        delivery: &Delivery,
        md5: [u8; 16],
        handle_text: &mut Vec<u8>,
        show: &mut ShowRow<'_>,
    ) {
        let Shower {
            call,
            showing,
            wanted,
            ..
        } = &self.shower;
        let message = &delivery.message;
        let mut shown = Shown::of(message);
        let (queue, qseq) = delivery
            .id
            .map_or((session::QueueId(0), 0), |id| (id.queue, id.qseq));
        // What is in an envelope has an id of its own, and the one of the publish inside.
        let id = shown.message_id.filter(|_| delivery.via.is_none());
        let id = id.unwrap_or_else(|| derived_id(&call.secret, delivery));
        // A property to everyone else: no message attribute.
        shown.attributes.0.retain(|it| it.name != TRACE_HEADER);
        let trace = message.properties.first(TRACE_HEADER.as_bytes());
        let trace = trace.and_then(|trace| trace.as_str());
        let mut attributes = Attributes::default();
        if delivery.via.is_none() {
            attributes = std::mem::take(&mut shown.attributes);
        }
        let body = match &delivery.via {
            None if shown.body_for("sqs").is_some() => {
                Cow::Borrowed(shown.body_for("sqs").unwrap_or_default())
            }
            None => {
                let (text, is_base64) = body::show(&message.body, *showing);
                if is_base64 {
                    attributes.0.push(base64_mark());
                }
                text
            }
            Some(via) => self.envelope(delivery, via, &shown).into(),
        };
        attributes
            .0
            .retain(|it| wanted.names.want(&it.name) || it.name == body::ENCODING);
        let handle = Handle {
            receipt: Receipt {
                queue,
                qseq,
                count: delivery.count,
                epoch: self.epoch,
            },
            received: self.now,
        };
        let system: Vec<(MemberName, Value)> = SYSTEM
            .iter()
            .filter(|name| wanted.system.contains(name))
            .filter_map(|name| {
                let text = self.system(name, delivery, &shown, trace)?;
                Some(((*name).into(), text.into()))
            })
            .collect();
        let system = if system.is_empty() {
            Value::Null
        } else {
            Value::Map(system)
        };
        handle.seal(call, &self.sealer, handle_text);
        let id = digest::uuid_digits(&id);
        // It may be shown as another text.
        let is_own = delivery.via.is_none() && std::ptr::eq(body.as_bytes(), &message.body[..]);
        let md5 = match is_own {
            true => md5,
            false => digest::md5(body.as_bytes()),
        };
        let md5 = digest::hex_digits(&md5);
        show(&[
            ("MessageId", Field::Plain(id.as_bytes())),
            ("ReceiptHandle", Field::Plain(handle_text)),
            ("MD5OfBody", Field::Plain(md5.as_bytes())),
            ("Body", Field::Text(&body)),
            ("Attributes", Field::Other(&system)),
            ("MD5OfMessageAttributes", attributes.md5().as_deref().into()),
            ("MessageAttributes", Field::Other(&attributes.to_value())),
        ]);
    }

    fn system(
        &self,
        name: &str,
        delivery: &Delivery,
        shown: &Shown,
        trace: Option<&str>,
    ) -> Option<String> {
        let message = &delivery.message;
        let fields = message.fields();
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        match name {
            "SenderId" => shown.sender.as_ref().or(fields.user_id.as_ref()).map(text),
            "SentTimestamp" => {
                // A dead letter keeps the time at which it was sent, where that is sure.
                let sent = message.created.filter(|_| shown.sender.is_some());
                Some(sent.unwrap_or(delivery.enqueued).0.to_string())
            }
            "ApproximateReceiveCount" => Some(delivery.count.to_string()),
            "ApproximateFirstReceiveTimestamp" => {
                Some(delivery.first_delivered.unwrap_or(self.now).0.to_string())
            }
            "SequenceNumber" => delivery
                .id
                .filter(|_| self.shower.fifo)
                .map(|id| sequence(id.qseq)),
            "MessageDeduplicationId" => fields.dedup_id.as_ref().map(text),
            "MessageGroupId" => message.group.as_ref().map(text),
            TRACE_HEADER => trace.map(str::to_owned),
            "DeadLetterQueueSourceArn" => {
                let death = delivery.deaths.as_ref()?.first()?;
                Some(queue::arn(&self.shower.call, &death.queue))
            }
            _ => None,
        }
    }

    /// The JSON in which a subscription that is not raw wraps a message.
    fn envelope(&self, delivery: &Delivery, via: &Via, shown: &Shown) -> String {
        let message = &delivery.message;
        // JSON can hold every text.
        let mut attributes = shown.attributes.clone();
        attributes.0.retain(|it| it.name != "bascule.subject");
        let text = shown
            .body_for("sqs")
            .or_else(|| std::str::from_utf8(&message.body).ok());
        let text = if let Some(text) = text {
            text.to_owned()
        } else {
            attributes.0.push(base64_mark());
            message::base64::encode(&message.body)
        };
        let subject = message.fields().subject.as_ref();
        let subject = subject.map(|subject| String::from_utf8_lossy(subject).into_owned());
        let (account, region) = self.place(&via.vhost);
        let topic = String::from_utf8_lossy(&via.topic);
        let topic_arn = format!("arn:aws:sns:{region}:{account}:{topic}");
        let subscription = digest::uuid_text(&via.subscription.0);
        let unsubscribe_url = format!(
            "{}/?Action=Unsubscribe&Version=2010-03-31&SubscriptionArn={topic_arn}:{subscription}",
            self.shower.call.base_url
        );
        let id = shown.id_in_envelope(delivery, &self.shower.call.secret);
        let notification = Notification {
            envelope: Envelope::Notification {
                unsubscribe_url: &unsubscribe_url,
            },
            message_id: &digest::uuid_text(&id),
            topic_arn: &topic_arn,
            subject: subject.as_deref(),
            message: &text,
            timestamp: aws::published(delivery),
            sequence: topic.ends_with(queue::FIFO_SUFFIX).then_some(via.sequence),
            attributes: &attributes,
        };
        let signer = self.shower.call.settings.signer.as_ref();
        let signature = signer.and_then(|signer| {
            let text = notification.text_to_sign();
            (signer.sign)(shown.signature, &text, &self.shower.call.base_url)
        });
        notification.to_json(signature.as_ref())
    }

    /// Account and region of a virtual host that a topic is in.
    fn place(&self, vhost: &str) -> (Arc<str>, Arc<str>) {
        let call = &self.shower.call;
        let elsewhere = (vhost != &call.vhost_name[..])
            .then(|| call.settings.places.of_vhost(vhost))
            .flatten();
        match elsewhere {
            Some(place) => (place.account, place.region),
            None => (Arc::clone(&call.account), Arc::clone(&call.region)),
        }
    }
}

/// What says that a body is base64.
fn base64_mark() -> aws::Attribute {
    aws::Attribute {
        name: body::ENCODING.to_owned(),
        data_type: "String".to_owned(),
        content: aws::Content::Text("base64".to_owned()),
    }
}

/// The id of a message that has none of its own: always the same in its queue, and another for each message of any queue. The time
/// tells those in memory only apart, whose numbers are given again; the store's secret those of one broker from those of another.
fn derived_id(secret: &Secret, delivery: &Delivery) -> [u8; 16] {
    let place = delivery.id.map_or([0; 2], |id| [id.queue.0, id.qseq]);
    let parts = [place[0], place[1], delivery.enqueued.0].map(u64::to_be_bytes);
    let made = digest::hmac_sha256(&secret.0, &[b"sqs id", &parts.concat()]);
    let mut id = [0; 16];
    id.copy_from_slice(&made[..16]);
    let mut id = digest::random_uuid(id);
    // Version 8: a UUID in a form of the maker's own (RFC 9562, 5.8).
    id[6] = id[6] & 0x0f | 0x80;
    id
}
