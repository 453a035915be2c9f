//! What the deliverer is to send that no topic's subscription brings: confirmations and their end, text messages, direct
//! pushes.
//!
//! Such a message is published to the address `$sns/control` of the caller's virtual host, which a topic object of ours,
//! `$sns`, takes into the deliverer's queue. It is a root topic like any other, so what is to be done is sealed: only an
//! operation of SNS can have asked for it.
//!
//! ```text
//! property `bascule.control` = sealed (kind:u8 SHA-256 of the body, fields...)      body, subject, attributes as of any publish
//! ```

use std::sync::Arc;

use aws::{Call, digest, seal};
use bytes::Bytes;
use message::{
    Address, BodyKind, Levels, Message, Name, Properties, Reader, Timestamp, Value, codec,
};
use session::{
    Command, Event, Flow, Lane, NewSubscription, Notes, Publish, PublishOutcome, Refusal,
    RefusalKind, Secret, SubscriptionId, SubscriptionSettings, SubscriptionTarget, SubscriptionTo,
    Token, TopicTo,
};

use crate::{
    faults::{self, internal},
    names,
    steps::{self, Run, fail},
    subscriptions::Protocol,
};

/// The property that holds it.
const PROPERTY: &[u8] = b"bascule.control";
const PURPOSE: &[u8] = b"sns control";
const AGAIN: &[u8] = b"sns subscribe again";
/// How long the token of an end is good.
const AGAIN_MS: u64 = 3 * 24 * 3600 * 1000;
/// The object and the first level of our addresses.
pub(crate) const OURS: &str = "$sns";

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    /// Ask an endpoint whether it wants to be subscribed.
    Confirm {
        /// The virtual host of the subscription.
        vhost: String,
        /// The subscription.
        id: SubscriptionId,
    },
    /// End a subscription that nobody has confirmed.
    Lapse {
        /// The subscription.
        id: SubscriptionId,
    },
    /// Tell an endpoint that its subscription has ended.
    Ended {
        /// How.
        protocol: Protocol,
        /// Whom.
        endpoint: String,
        /// Of which topic.
        topic_arn: String,
        /// Where links lead to.
        base_url: String,
        /// The topic.
        topic: Name,
        /// When it ended.
        made: Timestamp,
    },
    /// Send the body to a phone.
    Sms {
        /// Its number.
        number: String,
    },
    /// Push the body to an endpoint of a platform application.
    Push {
        /// The endpoint.
        id: SubscriptionId,
    },
}

impl Control {
    fn encode(&self, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        out.push(match self {
            Self::Confirm { .. } => 1,
            Self::Ended { .. } => 2,
            Self::Sms { .. } => 3,
            Self::Push { .. } => 4,
            Self::Lapse { .. } => 5,
        });
        out.extend_from_slice(&digest::sha256(body));
        match self {
            Self::Confirm { vhost, id } => {
                codec::put_bytes(&mut out, vhost.as_bytes());
                out.extend_from_slice(&id.0);
            }
            Self::Ended {
                protocol,
                endpoint,
                topic_arn,
                base_url,
                topic,
                made,
            } => {
                for text in [protocol.name(), endpoint, topic_arn, base_url] {
                    codec::put_bytes(&mut out, text.as_bytes());
                }
                codec::put_bytes(&mut out, topic);
                out.extend_from_slice(&made.0.to_be_bytes());
            }
            Self::Sms { number } => codec::put_bytes(&mut out, number.as_bytes()),
            Self::Push { id } | Self::Lapse { id } => out.extend_from_slice(&id.0),
        }
        out
    }

    fn decode(content: Vec<u8>, body: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(content.into());
        let kind = reader.u8().ok()?;
        if reader.take(32).ok()?[..] != digest::sha256(body) {
            return None;
        }
        let id = |reader: &mut Reader| {
            let bytes = reader.take(16).ok()?;
            Some(SubscriptionId(bytes[..].try_into().ok()?))
        };
        Some(match kind {
            1 => Self::Confirm {
                vhost: text(&mut reader)?,
                id: id(&mut reader)?,
            },
            2 => Self::Ended {
                protocol: Protocol::named(&text(&mut reader)?)?,
                endpoint: text(&mut reader)?,
                topic_arn: text(&mut reader)?,
                base_url: text(&mut reader)?,
                topic: reader.bytes().ok()?,
                made: Timestamp(u64::from_be_bytes(
                    reader.take(8).ok()?[..].try_into().ok()?,
                )),
            },
            3 => Self::Sms {
                number: text(&mut reader)?,
            },
            4 => Self::Push {
                id: id(&mut reader)?,
            },
            5 => Self::Lapse {
                id: id(&mut reader)?,
            },
            _ => return None,
        })
    }

    /// What a message asks for, if an operation of SNS has made it.
    pub(crate) fn of(message: &Message, secret: &Secret) -> Option<Self> {
        let sealed = message.properties.first(PROPERTY)?.as_str()?;
        let content = seal::open(secret, &[PURPOSE], sealed)?;
        Self::decode(content, &message.body)
    }
}

fn text(reader: &mut Reader) -> Option<String> {
    String::from_utf8(reader.bytes().ok()?.into()).ok()
}

/// The token by which an endpoint takes the end of its subscription back.
pub(crate) fn again_token(
    secret: &Secret,
    topic: &[u8],
    protocol: Protocol,
    endpoint: &str,
    made: Timestamp,
) -> String {
    let mut content = made.0.to_be_bytes().to_vec();
    codec::put_bytes(&mut content, protocol.name().as_bytes());
    codec::put_bytes(&mut content, endpoint.as_bytes());
    let sealed = seal::seal(secret, &[AGAIN, topic], &content);
    digest::hex(&message::base64::decode(sealed.as_bytes()).expect("what was sealed is base64"))
}

/// What such a token subscribes again.
pub(crate) fn subscribed_again(
    call: &Call,
    topic: &[u8],
    token: &str,
) -> Option<(Protocol, String)> {
    let sealed = names::from_hex(token)?;
    let sealed = message::base64::encode(&sealed);
    let content = seal::open(&call.secret, &[AGAIN, topic], &sealed)?;
    let mut reader = Reader::new(content.into());
    let made = Timestamp(u64::from_be_bytes(
        reader.take(8).ok()?[..].try_into().ok()?,
    ));
    let protocol = Protocol::named(&text(&mut reader)?)?;
    let endpoint = text(&mut reader)?;
    (call.now.since(made) <= AGAIN_MS).then_some((protocol, endpoint))
}

/// The address of all that is ours.
fn address(call: &Call) -> Address {
    let levels = Levels::collect([OURS, "control"]).expect("two short levels");
    Address::topic(call.vhost, levels)
}

/// Has something done whose message has no content of its own.
pub(crate) fn send(
    call: &Arc<Call>,
    operation: &'static str,
    control: Control,
    then: impl FnOnce(()) -> Run + Send + 'static,
) -> Run {
    send_later(call, operation, control, 0, then)
}

/// The same, so many ms later.
pub(crate) fn send_later(
    call: &Arc<Call>,
    operation: &'static str,
    control: Control,
    delay_ms: u64,
    then: impl FnOnce(()) -> Run + Send + 'static,
) -> Run {
    let mut message = Message::new(address(call), Bytes::new());
    message.body_kind = BodyKind::Text;
    message.delay_ms = delay_ms;
    send_message(call, operation, control, message, move |()| then(()))
}

/// Has something done with a message, whose address does not matter.
pub(crate) fn send_message(
    call: &Arc<Call>,
    operation: &'static str,
    control: Control,
    mut message: Message,
    then: impl FnOnce(()) -> Run + Send + 'static,
) -> Run {
    let content = control.encode(&message.body);
    let sealed = seal::seal(&call.secret, &[PURPOSE], &content);
    message.address = address(call).into();
    message.durable = true;
    message.qos = 1;
    let mut properties = Properties::default();
    properties.push(Bytes::from_static(PROPERTY), Value::text(sealed));
    message.properties = properties;
    // Whoever is first makes the way into the deliverer's queue; for all others these two do nothing.
    let object = Command::Topic {
        token: Token(0),
        lane: Lane(0),
        name: Bytes::from_static(OURS.as_bytes()),
        to: Box::new(TopicTo::Create {
            address: message.address.key.clone(),
            fifo: None,
            notes: Notes::new(),
        }),
    };
    let mut id = [0; 16];
    id.copy_from_slice(&call.random[16..]);
    let way = NewSubscription {
        id: SubscriptionId(digest::random_uuid(id)),
        topic: Some(Bytes::from_static(OURS.as_bytes())),
        filter: None,
        target: SubscriptionTarget::Queue {
            vhost: Some(names::DELIVERY_VHOST.into()),
            name: Bytes::from_static(names::DELIVERY_QUEUE.as_bytes()),
        },
        settings: SubscriptionSettings::default(),
        confirmed: true,
        identity: Bytes::from_static(b"control"),
        notes: Notes::new(),
    };
    let way = Command::Subscription {
        token: Token(0),
        lane: Lane(0),
        to: Box::new(SubscriptionTo::Create(Box::new(way))),
    };
    let publish = Command::Publish(publish(message));
    let call = Arc::clone(call);
    Flow::ask_each([object, way, publish], move |events, _| {
        let mut refusals = events.iter().filter_map(|event| match event {
            Event::Refused { refusal, .. } => Some(refusal),
            _ => None,
        });
        let serious = |it: &&Refusal| it.kind != RefusalKind::Inequivalent;
        if let Some(refusal) = refusals.find(serious) {
            return fail(faults::refused(&call, operation, OURS, refusal));
        }
        let [.., published] = &events;
        match published {
            Event::Published { outcome, .. } => match outcome {
                PublishOutcome::Accepted { matched: 0, .. } => fail(internal(
                    "nothing takes what is to be delivered to endpoints",
                )),
                PublishOutcome::Accepted { .. } | PublishOutcome::Duplicate { .. } => then(()),
                PublishOutcome::Refused(refusal) => {
                    fail(faults::refused(&call, operation, OURS, refusal))
                }
            },
            other => fail(internal(steps::unexpected(other).detail)),
        }
    })
}

/// The publish of a message that is confirmed.
pub(crate) fn publish(message: Message) -> Publish {
    Publish {
        token: Some(Token(0)),
        lane: Lane(0),
        message: Arc::new(message),
        mandatory: false,
        create: false,
        inbound_id: None,
        hash_key: None,
        folds: false,
        or_stream: false,
    }
}
