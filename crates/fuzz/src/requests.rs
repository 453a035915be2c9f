//! Requests of all three services of AWS, one after the other, to the broker's own core.
//!
//! The input chooses operations and fills their inputs as their shapes say, with words that were answered before (ARNs, URLs,
//! receipt handles, iterators) among others. No request may panic or go on for ever, each is answered as the shape of its
//! output says, and what was journaled is replayed to the same state.
//!
//! ```text
//! 0..=239 form ...   a request: which operation, its form, and what its input is made of
//! 240..=250 t        time passes, t * t seconds       251..=255   a restart
//! ```

use aws::{
    Operation, Service, Settings, Shape, Value,
    codec::{cbor, json},
};
use bytes::Bytes;
use message::{Timestamp, VhostId};
use session::{Asked, Exchange, Flow, LoggedIn, Reply};

use crate::{
    core::{Core, SECRET},
    envelope::{endpoint, peer, read_event, write_query},
    memory::bounded,
};

/// Requests of one input.
const REQUESTS_MAX: usize = 60;
/// Words that are remembered.
const WORDS_MAX: usize = 48;
/// Parts of an answer after which the client goes away.
const PARTS_MAX: usize = 6;

/// Words that mean something to some operation.
const WORDS: &[&str] = &[
    "a",
    "b",
    "a.fifo",
    "All",
    "true",
    "false",
    "0",
    "5",
    "300",
    "1024",
    "http://127.0.0.1:4566/000000000000/a",
    "http://127.0.0.1:4566/000000000000/a.fifo",
    "arn:aws:sqs:us-east-1:000000000000:a",
    "arn:aws:sqs:us-east-1:000000000000:b",
    "arn:aws:sqs:us-east-1:000000000000:a.fifo",
    "arn:aws:sns:us-east-1:000000000000:a",
    "arn:aws:sns:us-east-1:000000000000:a.fifo",
    "arn:aws:kinesis:us-east-1:000000000000:stream/a",
    "arn:aws:kinesis:us-east-1:000000000000:stream/a/consumer/b:1577934245",
    "sqs",
    "http",
    "http://example.com/x",
    "email",
    "ada@example.com",
    "sms",
    "+15550001111",
    "application",
    "GCM",
    "FifoQueue",
    "FifoTopic",
    "ContentBasedDeduplication",
    "VisibilityTimeout",
    "DelaySeconds",
    "RedrivePolicy",
    "{\"deadLetterTargetArn\":\"arn:aws:sqs:us-east-1:000000000000:b\",\"maxReceiveCount\":1}",
    "FilterPolicy",
    "{\"x\":[\"y\",{\"numeric\":[\">\",1]}]}",
    "RawMessageDelivery",
    "DeliveryPolicy",
    "{\"healthyRetryPolicy\":{\"numRetries\":2}}",
    "Policy",
    "String",
    "Number",
    "Binary",
    "shardId-000000000000",
    "shardId-000000000001",
    "TRIM_HORIZON",
    "LATEST",
    "AT_TIMESTAMP",
    "170141183460469231731687303715884105728",
    "PlatformCredential",
    "Token",
    "Enabled",
];

struct Script<'a> {
    rest: &'a [u8],
    /// What was answered.
    words: Vec<String>,
}

impl Script<'_> {
    fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else {
            return 0;
        };
        self.rest = rest;
        *first
    }

    fn bytes(&mut self) -> &[u8] {
        let len = usize::from(self.next()).min(self.rest.len());
        let (bytes, rest) = self.rest.split_at(len);
        self.rest = rest;
        bytes
    }

    fn text(&mut self) -> String {
        let choice = usize::from(self.next());
        match choice {
            0..=127 => WORDS[choice % WORDS.len()].to_owned(),
            128..=239 if !self.words.is_empty() => self.words[choice % self.words.len()].clone(),
            _ => String::from_utf8_lossy(self.bytes()).into_owned(),
        }
    }

    fn value(&mut self, shape: &Shape, now: Timestamp, depth: usize) -> Value {
        match shape {
            Shape::Text { .. } => Value::Text(self.text()),
            Shape::Choice(words) => {
                let choice = usize::from(self.next());
                if choice < 250 {
                    words[choice % words.len()].into()
                } else {
                    self.text().into()
                }
            }
            Shape::Blob { .. } => Bytes::copy_from_slice(self.bytes()).into(),
            Shape::Int { min, max } => match self.next() {
                small @ 0..=199 => i64::from(small).into(),
                200..=209 => (*min).into(),
                210..=219 => (*max).into(),
                220..=229 => min.saturating_sub(1).into(),
                230..=239 => max.saturating_add(1).into(),
                _ => i64::from_be_bytes([0; 8].map(|_| self.next())).into(),
            },
            Shape::Float => Value::Float(f64::from(self.next()) / 4.0),
            Shape::Bool => (self.next() & 1 == 1).into(),
            Shape::Time => {
                let ago = u64::from(self.next()) * 1000;
                Value::Time(Timestamp(now.0 + 10_000 - ago.min(now.0)))
            }
            Shape::List { of, .. } => {
                let count = if depth > 4 { 0 } else { self.next() % 5 };
                let list = (0..count).map(|_| self.value(of, now, depth + 1));
                Value::List(list.collect())
            }
            Shape::Map { of, .. } => {
                let count = if depth > 4 { 0 } else { self.next() % 5 };
                let entries =
                    (0..count).map(|_| (self.text().into(), self.value(of, now, depth + 1)));
                Value::Map(entries.collect())
            }
            Shape::Structure(members) => {
                let mut known = Vec::new();
                let mut chosen = 0;
                for (at, member) in members.iter().enumerate() {
                    if at % 8 == 0 {
                        chosen = self.next();
                    }
                    // One that must be there is absent now and then.
                    let there = chosen >> (at % 8) & 1 == 1;
                    if there || member.required && chosen != 0xfe {
                        let value = self.value(member.shape, now, depth + 1);
                        known.push((member.name.into(), value));
                    }
                }
                Value::Map(known)
            }
        }
    }

    /// Remembers the words of an answer.
    fn learn(&mut self, value: &Value) {
        match value {
            Value::Text(text) if (8..2000).contains(&text.len()) => {
                if self.words.len() >= WORDS_MAX {
                    self.words.remove(0);
                }
                self.words.push(text.clone());
            }
            Value::List(list) => list.iter().take(4).for_each(|value| self.learn(value)),
            Value::Map(members) => members.iter().for_each(|(_, value)| self.learn(value)),
            _ => {}
        }
    }
}

pub(crate) fn run(input: &[u8]) {
    let mut core = Core::new(Timestamp(1_577_934_245_000));
    let mut settings = Settings {
        any_signature: true,
        ..Settings::default()
    };
    settings.sns.email = true;
    settings.sns.sms = true;
    settings.sns.push = true;
    let endpoint = endpoint(settings);
    let services: [&'static Service; 3] = [&sqs::SERVICE, &sns::SERVICE, &kinesis::SERVICE];
    let mut script = Script {
        rest: input,
        words: Vec::new(),
    };
    for _ in 0..REQUESTS_MAX {
        if script.rest.is_empty() {
            break;
        }
        match script.next() {
            240..=250 => {
                let t = u64::from(script.next());
                core.pass(t * t * 1000);
            }
            251.. => core.restart(),
            which => {
                let which = usize::from(which);
                let service = services[which % 3];
                let operations = service.operations;
                let operation = &operations[which / 3 % operations.len()];
                request(&mut script, &mut core, &endpoint, service, operation);
            }
        }
    }
    core.restart();
}

fn request(
    script: &mut Script<'_>,
    core: &mut Core,
    endpoint: &aws::Endpoint,
    service: &Service,
    operation: &Operation,
) {
    let how = script.next();
    let value = script.value(operation.input, core.now, 0);
    let mut builder = http::Request::post("/").header("host", "127.0.0.1:4566");
    let mut body = Vec::new();
    match (service.target, service.query) {
        (Some(target), _) if service.query.is_none() || how & 1 == 0 => {
            let kind = if service.cbor && how & 2 == 0 {
                cbor::encode(&value, &mut body);
                "application/x-amz-cbor-1.1"
            } else {
                json::encode(&value, &mut body);
                "application/x-amz-json-1.1"
            };
            builder = builder
                .header("content-type", kind)
                .header("x-amz-target", format!("{target}.{}", operation.name));
        }
        (_, Some((version, _))) => {
            let first = format!("Action={}&Version={version}", operation.name);
            body = write_query(&first, &value, operation.input).into_bytes();
            builder = builder.header("content-type", "application/x-www-form-urlencoded");
        }
        _ => panic!("a service speaks one of them"),
    }
    let (head, ()) = builder.body(()).expect("a request").into_parts();
    let begun = endpoint
        .begin(head, &peer(), core.now)
        .unwrap_or_else(|reply| panic!("it is refused by its head: {reply:?}"));
    let len = body.len();
    let asked = bounded(len * 4, || begun.request.take(body.into(), core.now));
    let mut replies = Vec::new();
    match asked {
        Asked::Reply(reply) => replies.push(reply),
        Asked::Login(login) => {
            let logged_in = LoggedIn {
                vhost: VhostId::ROOT,
                vhost_name: "/".into(),
                user: "guest".into(),
                secret: SECRET,
            };
            drive((login.then)(Ok(logged_in), core.now), core, &mut replies);
        }
    }
    judge(replies, operation, script);
}

/// Drives a flow to its end, or until the client goes away.
fn drive(mut flow: Flow<Reply>, core: &mut Core, replies: &mut Vec<Reply>) {
    for _ in 0..300 {
        flow = match flow {
            Flow::Done(reply) => return replies.push(reply),
            Flow::Part(reply, then) => {
                replies.push(reply);
                if replies.len() > PARTS_MAX {
                    return;
                }
                then(core.now)
            }
            Flow::Until(at, then) => {
                assert!(
                    at.0 <= core.now.0 + 400_000,
                    "an answer that takes too long"
                );
                core.pass(at.0.saturating_sub(core.now.0));
                then(core.now)
            }
            Flow::Ask(commands, then) => match core.ask(commands) {
                Some(events) => then(events, core.now),
                None => panic!("the core does not answer"),
            },
        };
    }
    panic!("a request that does not end");
}

/// Whether the answer is one, and what it says.
fn judge(replies: Vec<Reply>, operation: &Operation, script: &mut Script<'_>) {
    let mut replies = replies.into_iter();
    let (head, mut body) = match replies.next() {
        Some(Reply::Head(first)) => {
            let (head, first) = first.into_parts();
            (head, first.to_vec())
        }
        Some(Reply::Pieces(first)) => {
            let (head, first) = first.into_parts();
            (head, first.concat())
        }
        _ => panic!("an answer begins with a head"),
    };
    for reply in replies {
        match reply {
            Reply::More(more) => body.extend_from_slice(&more),
            Reply::Head(_) | Reply::Pieces(_) => panic!("an answer has one head"),
        }
    }
    let name = operation.name;
    let status = head.status.as_u16();
    assert!(
        status < 500 || status == 503 || status == 501,
        "{name}: {}",
        String::from_utf8_lossy(&body)
    );
    let kind = head.headers["content-type"].to_str().expect("ASCII");
    if kind == "application/vnd.amazon.eventstream" {
        let mut rest = &body[..];
        while !rest.is_empty() {
            rest = read_event(rest).2;
        }
        return;
    }
    let shape = if status == 200 {
        operation.output
    } else {
        &Shape::EMPTY
    };
    let value = match kind {
        "application/x-amz-cbor-1.1" => cbor::decode(&body.into(), shape),
        "text/xml" => return read_xml(&body, script),
        _ => json::decode(&body, shape),
    };
    script.learn(&value.unwrap_or_else(|error| panic!("{name}: {error:?}")));
}

/// Whether its elements are closed as they are opened, and the texts in it.
fn read_xml(body: &[u8], script: &mut Script<'_>) {
    let text = std::str::from_utf8(body).expect("a text");
    let mut rest = text
        .strip_prefix("<?xml version=\"1.0\"?>\n")
        .expect("a declaration");
    let mut open = Vec::new();
    while let Some(inside) = rest.strip_prefix('<') {
        let (tag, behind) = inside.split_once('>').expect("a tag ends");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "{text}");
        } else if !tag.ends_with('/') {
            open.push(tag.split(' ').next().unwrap_or_default());
        }
        let (content, behind) = behind.split_at(behind.find('<').unwrap_or(behind.len()));
        rest = behind;
        assert!(!content.contains('>'), "{text}");
        let content = content.replace("&quot;", "\"").replace("&amp;", "&");
        script.learn(&Value::Text(content));
    }
    assert!(open.is_empty() && rest.is_empty(), "{text}");
}
