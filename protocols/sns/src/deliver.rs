//! Delivery to endpoints: what is to be sent for a message in the deliverer's queue, and what its outcome means.
//!
//! ```text
//! message in `$sns` ─ task ─► what must be looked at ─ plan ─► what is sent, how often ─ judge ─► done, again later, dead letter
//! ```
//! Whoever drives this pulls from the queue under a lease, sends, and settles by receipt. How often a message has been tried is
//! how often it has been received, so that a restart changes nothing: everything is sent at least once.

use std::sync::Arc;

use aws::{
    Attributes, Envelope, Notification, Sender, Shown, Signature, SignatureVersion, Signer, body,
    digest,
};
use bytes::Bytes;
use message::{BodyKind, Message, Name, NativeForm, Properties, Timestamp, base64};
use session::{
    Delivery, Notes, Secret, SubscriptionId, SubscriptionInfo, SubscriptionTo, TopicInfo,
};

use crate::{
    attributes,
    control::{self, Control},
    delivery_policy::{Backoff, DeliveryPolicy, Retries},
    egress, json,
    mail::{self, Mail},
    names::{self, subscribe_url, subscription_arn, unsubscribe_url},
    platform, sms,
    steps::note,
    subscriptions::{self, Protocol},
};

/// How endpoints that are not HTTP are tried again, as with AWS: 50 times in six hours.
const PATIENT: Retries = Retries {
    count: 50,
    immediate: 0,
    least: 2,
    most: 38,
    least_s: 10,
    most_s: 600,
    backoff: Backoff::Exponential,
};

/// What a message in the queue is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// A subscription brought it.
    Message(SubscriptionId),
    /// An operation asked for it.
    Control(Control),
}

/// What must be looked at before a task can be planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// The subscription, and in its virtual host the topic object that it belongs to.
    Subscription(SubscriptionId),
    /// The topic object of what is known of phone numbers, in the virtual host of that name. It may not be there.
    Phones(Arc<str>, Name),
}

/// Why nothing is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// Nobody who may has asked for it.
    Forged,
    /// The subscription or the endpoint is gone or has been disabled.
    Gone,
    /// The number has opted out.
    OptedOut,
    /// A subscription was to end unless it was confirmed, and it was.
    Confirmed,
    /// Nobody has confirmed this subscription in time: it is to be deleted, once [`lapsed`] has claimed it.
    Lapsed(SubscriptionId),
}

/// What is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Send {
    /// A `POST` to an endpoint.
    Http {
        /// Where to.
        url: String,
        /// The headers but `Host` and `Content-Length`.
        headers: Vec<(&'static str, String)>,
        /// The body.
        body: Bytes,
    },
    /// A mail.
    Mail(Mail),
    /// A text message: JSON for the gateway.
    Sms(String),
    /// A push notification: JSON for the gateway.
    Push(String),
}

/// What `410 Gone` of a gateway means.
#[derive(Clone, Debug, PartialEq)]
pub enum Gone {
    /// Nothing beyond that it was refused.
    Refused,
    /// The number has opted out.
    Number(String),
    /// The device has another token: the endpoint is to be disabled.
    Endpoint(Box<SubscriptionInfo>),
}

/// Where what cannot be delivered goes.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// The virtual host.
    pub vhost: Arc<str>,
    /// The queue.
    pub queue: Name,
    /// The body that it would have had.
    pub body: Bytes,
}

/// How a message is delivered.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What goes there one after the other, a few at a time, so that it does not hold up the rest.
    pub lane: String,
    /// What is sent.
    pub send: Send,
    /// When it is tried again.
    pub retries: Retries,
    /// Most a second in this lane.
    pub per_second: Option<u32>,
    /// Where it goes when that was in vain.
    pub dead_letter: Option<DeadLetter>,
    /// What `410 Gone` means.
    pub gone: Gone,
    /// It asks an endpoint to confirm its subscription: of which topic, and which, as it is shown.
    pub asks: Option<(String, String)>,
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was taken: mail.
    Taken,
    /// A response with that status.
    Status(u16),
    /// There was no response: no connection, no trust in the certificate, no answer in time.
    NoAnswer,
    /// It will never be taken: the operator's rules forbid the address, the mailbox does not exist.
    Never,
}

/// What follows from an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is delivered.
    Done,
    /// It is tried again so many ms later.
    Again(u64),
    /// It is given up.
    Dead,
    /// It is given up, and see [`Plan::gone`].
    Gone,
}

/// What follows from the outcome of attempt `attempt` (the first is 1).
#[must_use]
pub fn judge(outcome: Outcome, attempt: u32, retries: &Retries) -> Verdict {
    match outcome {
        Outcome::Taken | Outcome::Status(200..=299) => Verdict::Done,
        Outcome::Status(410) => Verdict::Gone,
        Outcome::Status(429 | 500..) | Outcome::NoAnswer => {
            retries.after(attempt).map_or(Verdict::Dead, Verdict::Again)
        }
        // The client's fault, as far as it can tell: it will not think otherwise later. Redirects are not followed.
        Outcome::Status(_) | Outcome::Never => Verdict::Dead,
    }
}

/// What the driver knows and a plan needs.
pub struct Known<'a> {
    /// The subscription or endpoint, if [`Needs::Subscription`].
    pub subscription: Option<&'a SubscriptionInfo>,
    /// Its topic object, or that of [`Needs::Phones`].
    pub topic: Option<&'a TopicInfo>,
    /// The store's secret.
    pub secret: Secret,
    /// Signs.
    pub signer: Option<&'a Signer>,
    /// What the operator set as the sender of mail.
    pub mail_from: &'a str,
}

impl Task {
    /// What a message in the queue is for. `None`: nothing that SNS has asked for.
    #[must_use]
    pub fn of(delivery: &Delivery, secret: &Secret) -> Option<Self> {
        let via = delivery.via.as_ref()?;
        if via.topic == control::OURS.as_bytes() {
            return Some(Self(Kind::Control(Control::of(&delivery.message, secret)?)));
        }
        Some(Self(Kind::Message(via.subscription)))
    }

    /// What must be looked at.
    #[must_use]
    pub fn needs(&self, delivery: &Delivery) -> Needs {
        match &self.0 {
            Kind::Message(id) => Needs::Subscription(*id),
            Kind::Control(
                Control::Confirm { id, .. } | Control::Push { id } | Control::Lapse { id },
            ) => Needs::Subscription(*id),
            Kind::Control(Control::Sms { .. }) => {
                let vhost = delivery.via.as_ref().map(|via| Arc::clone(&via.vhost));
                let phones = Bytes::from_static(names::SMS.as_bytes());
                Needs::Phones(vhost.unwrap_or_default(), phones)
            }
            Kind::Control(Control::Ended { .. }) => Needs::Nothing,
        }
    }

    /// How it is delivered.
    pub fn plan(&self, delivery: &Delivery, known: &Known<'_>) -> Result<Plan, Dropped> {
        let content = Content::of(delivery, known);
        match &self.0 {
            Kind::Message(_) => {
                let found = known.subscription.filter(|it| it.confirmed);
                let found = found.ok_or(Dropped::Gone)?;
                to_subscription(&content, found, known)
            }
            Kind::Control(Control::Confirm { .. }) => {
                let found = known.subscription.ok_or(Dropped::Gone)?;
                confirmation(&content, found, known)
            }
            Kind::Control(Control::Lapse { id }) => {
                let found = known.subscription.ok_or(Dropped::Gone)?;
                Err(if found.confirmed {
                    Dropped::Confirmed
                } else {
                    Dropped::Lapsed(*id)
                })
            }
            Kind::Control(Control::Ended {
                protocol,
                endpoint,
                topic_arn,
                base_url,
                topic,
                made,
            }) => {
                let token = control::again_token(&known.secret, topic, *protocol, endpoint, *made);
                let url = subscribe_url(base_url, topic_arn, &token);
                let text = format!(
                    "You have chosen to deactivate subscription to {topic_arn}.\nTo cancel this operation and restore the \
                     subscription, visit the SubscribeURL included in this message."
                );
                let envelope = Envelope::UnsubscribeConfirmation {
                    token: &token,
                    subscribe_url: &url,
                };
                let json = content.json(envelope, topic_arn, &text, base_url, known);
                Ok(Plan {
                    lane: endpoint.clone(),
                    send: post(
                        endpoint,
                        "UnsubscribeConfirmation",
                        topic_arn,
                        &content.id,
                        &DeliveryPolicy::default().content_type,
                        json,
                    ),
                    retries: Retries::default(),
                    per_second: None,
                    dead_letter: None,
                    gone: Gone::Refused,
                    asks: None,
                })
            }
            Kind::Control(Control::Sms { number }) => {
                let notes = known.topic.map(|it| &it.notes);
                Ok(text_message(&content, number, notes))
            }
            Kind::Control(Control::Push { .. }) => {
                let endpoint = known.subscription.ok_or(Dropped::Gone)?;
                push(&content, endpoint, None)
            }
        }
    }
}

/// What a message has to say.
struct Content {
    id: String,
    shown: Shown,
    subject: Option<String>,
    text: String,
    time: Timestamp,
    sequence: Option<u64>,
}

impl Content {
    fn of(delivery: &Delivery, known: &Known<'_>) -> Self {
        let message = &delivery.message;
        let mut shown = Shown::of(message);
        // It has a place of its own.
        shown.attributes.0.retain(|it| it.name != "bascule.subject");
        let id = shown.id_in_envelope(delivery, &known.secret);
        let subject = message.fields().subject.as_ref();
        Self {
            id: digest::uuid_text(&id),
            subject: subject.and_then(|it| String::from_utf8(it.to_vec()).ok()),
            text: body::show(&message.body, body::Showing::Auto)
                .0
                .into_owned(),
            time: aws::published(delivery),
            sequence: None,
            shown,
        }
    }

    fn text_for(&self, protocol: &str) -> &str {
        self.shown.body_for(protocol).unwrap_or(&self.text)
    }

    fn json(
        &self,
        envelope: Envelope<'_>,
        topic_arn: &str,
        text: &str,
        base_url: &str,
        known: &Known<'_>,
    ) -> String {
        let none = Attributes::default();
        let is_message = matches!(envelope, Envelope::Notification { .. });
        let notification = Notification {
            envelope,
            message_id: &self.id,
            topic_arn,
            subject: self.subject.as_deref().filter(|_| is_message),
            message: text,
            timestamp: self.time,
            sequence: self.sequence,
            attributes: if is_message {
                &self.shown.attributes
            } else {
                &none
            },
        };
        let signature = sign(known.signer, self.shown.signature, &notification, base_url);
        notification.to_json(signature.as_ref())
    }
}

fn sign(
    signer: Option<&Signer>,
    version: SignatureVersion,
    notification: &Notification<'_>,
    base_url: &str,
) -> Option<Signature> {
    (signer?.sign)(version, &notification.text_to_sign(), base_url)
}

/// A request to an endpoint. A user and a password in its URL become basic authentication.
fn post(
    endpoint: &str,
    kind: &str,
    topic_arn: &str,
    id: &str,
    content_type: &str,
    body: impl Into<Bytes>,
) -> Send {
    let mut headers = vec![
        ("x-amz-sns-message-type", kind.to_owned()),
        ("x-amz-sns-message-id", id.to_owned()),
        ("x-amz-sns-topic-arn", topic_arn.to_owned()),
        ("content-type", content_type.to_owned()),
        (
            "user-agent",
            "Amazon Simple Notification Service Agent".to_owned(),
        ),
    ];
    let (url, login) = egress::without_login(endpoint);
    if let Some(login) = login {
        let basic = base64::encode(&percent_decoded(login));
        headers.push(("authorization", format!("Basic {basic}")));
    }
    Send::Http {
        url,
        headers,
        body: body.into(),
    }
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let pair = (*first == b'%').then(|| behind.get(..2)).flatten();
        let byte = pair
            .and_then(|pair| std::str::from_utf8(pair).ok())
            .and_then(|pair| names::from_hex(pair)?.first().copied());
        match byte {
            Some(byte) => {
                out.push(byte);
                rest = &behind[2..];
            }
            None => {
                out.push(*first);
                rest = behind;
            }
        }
    }
    out
}

fn text_note<'a>(found: &'a SubscriptionInfo, name: &str) -> &'a str {
    note(&found.notes, name).unwrap_or_default()
}

fn to_subscription(
    content: &Content,
    found: &SubscriptionInfo,
    known: &Known<'_>,
) -> Result<Plan, Dropped> {
    let protocol = Protocol::named(text_note(found, "Protocol")).ok_or(Dropped::Gone)?;
    let (endpoint, topic_arn) = (text_note(found, "Endpoint"), text_note(found, "TopicArn"));
    let base_url = text_note(found, "BaseUrl");
    let policy = known.topic.map_or_else(DeliveryPolicy::default, |topic| {
        attributes::delivery_policy(found, topic)
    });
    let text = content.text_for(protocol.name());
    let arn = subscription_arn(topic_arn, found.id);
    let unsubscribe = unsubscribe_url(base_url, &arn);
    let is_raw = note(&found.notes, "RawMessageDelivery").is_some();
    let body = || {
        if is_raw {
            return text.to_owned();
        }
        let envelope = Envelope::Notification {
            unsubscribe_url: &unsubscribe,
        };
        content.json(envelope, topic_arn, text, base_url, known)
    };
    let dead_letter = found
        .settings
        .dead_letter
        .as_ref()
        .map(|(vhost, queue)| DeadLetter {
            vhost: vhost.clone().unwrap_or_else(|| Arc::clone(&found.vhost)),
            queue: queue.clone(),
            body: Bytes::from(body().into_bytes()),
        });
    let mail = |text: String| {
        let subject = content
            .subject
            .clone()
            .unwrap_or_else(|| "AWS Notification Message".to_owned());
        Send::Mail(Mail {
            to: endpoint.to_owned(),
            from: mail::sender(known.mail_from, display_name(known)),
            subject,
            text,
            id: content.id.clone(),
            time: content.time,
        })
    };
    let mut plan = Plan {
        lane: arn.clone(),
        send: Send::Sms(String::new()),
        retries: PATIENT,
        per_second: None,
        dead_letter,
        gone: Gone::Refused,
        asks: None,
    };
    plan.send = match protocol {
        Protocol::Http | Protocol::Https => {
            plan.retries = policy.retries;
            plan.per_second = policy.per_second;
            let mut send = post(
                endpoint,
                "Notification",
                topic_arn,
                &content.id,
                &policy.content_type,
                body(),
            );
            if let Send::Http { headers, .. } = &mut send {
                headers.push(("x-amz-sns-subscription-arn", arn));
                if is_raw {
                    headers.push(("x-amz-sns-rawdelivery", "true".to_owned()));
                }
            }
            send
        }
        Protocol::Email => mail(format!(
            "{text}\n\n--\nIf you wish to stop receiving notifications from this topic, visit the link below to unsubscribe:\n\
             {unsubscribe}\n"
        )),
        Protocol::EmailJson => mail(body()),
        Protocol::Sms => {
            let Plan { send, gone, .. } = text_message(content, endpoint, None);
            plan.gone = gone;
            send
        }
        // What it points at is looked up by whoever drives this: see [`pushed_through`].
        Protocol::Application | Protocol::Sqs => return Err(Dropped::Gone),
    };
    Ok(plan)
}

/// The endpoint of a platform application that a subscription delivers to. It must be looked at, and then
/// [`plan_push`] plans.
#[must_use]
pub fn pushed_through(found: &SubscriptionInfo) -> Option<SubscriptionId> {
    if Protocol::named(text_note(found, "Protocol")) != Some(Protocol::Application) {
        return None;
    }
    let (_, id) = text_note(found, "Endpoint").rsplit_once('/')?;
    digest::read_uuid(id).map(SubscriptionId)
}

/// How a message of such a subscription is delivered.
pub fn plan_push(
    delivery: &Delivery,
    through: &SubscriptionInfo,
    endpoint: &SubscriptionInfo,
    known: &Known<'_>,
) -> Result<Plan, Dropped> {
    if !through.confirmed {
        return Err(Dropped::Gone);
    }
    push(&Content::of(delivery, known), endpoint, Some(through))
}

fn display_name<'a>(known: &Known<'a>) -> Option<&'a str> {
    note(&known.topic?.notes, "DisplayName")
}

fn confirmation(
    content: &Content,
    found: &SubscriptionInfo,
    known: &Known<'_>,
) -> Result<Plan, Dropped> {
    let protocol = Protocol::named(text_note(found, "Protocol")).ok_or(Dropped::Gone)?;
    let (endpoint, topic_arn) = (text_note(found, "Endpoint"), text_note(found, "TopicArn"));
    let base_url = text_note(found, "BaseUrl");
    let token = names::confirmation_token(&known.secret, found.id, content.time);
    let url = subscribe_url(base_url, topic_arn, &token);
    let text = format!(
        "You have chosen to subscribe to the topic {topic_arn}.\nTo confirm the subscription, visit the SubscribeURL included \
         in this message."
    );
    let envelope = Envelope::SubscriptionConfirmation {
        token: &token,
        subscribe_url: &url,
    };
    let policy = known.topic.map_or_else(DeliveryPolicy::default, |topic| {
        attributes::delivery_policy(found, topic)
    });
    let mail = |text: String| {
        Send::Mail(Mail {
            to: endpoint.to_owned(),
            from: mail::sender(known.mail_from, display_name(known)),
            subject: "AWS Notification - Subscription Confirmation".to_owned(),
            text,
            id: content.id.clone(),
            time: content.time,
        })
    };
    let (send, retries) = match protocol {
        Protocol::Http | Protocol::Https => {
            let json = content.json(envelope, topic_arn, &text, base_url, known);
            let kind = "SubscriptionConfirmation";
            let send = post(
                endpoint,
                kind,
                topic_arn,
                &content.id,
                &policy.content_type,
                json,
            );
            (send, policy.retries)
        }
        Protocol::EmailJson => {
            let json = content.json(envelope, topic_arn, &text, base_url, known);
            (mail(json), PATIENT)
        }
        Protocol::Email => {
            let text = format!(
                "You have chosen to subscribe to the topic:\n{topic_arn}\n\nTo confirm this subscription, visit the link below \
                 (if this was in error no action is necessary):\n{url}\n"
            );
            (mail(text), PATIENT)
        }
        Protocol::Sqs | Protocol::Sms | Protocol::Application => return Err(Dropped::Gone),
    };
    Ok(Plan {
        lane: subscription_arn(topic_arn, found.id),
        send,
        retries,
        per_second: None,
        dead_letter: None,
        gone: Gone::Refused,
        asks: Some((
            topic_arn.to_owned(),
            egress::without_password(endpoint).into_owned(),
        )),
    })
}

/// The members of a JSON object, written.
fn object(members: &[(&str, String)]) -> String {
    let members: Vec<String> = members
        .iter()
        .map(|(name, value)| format!("{}:{value}", json::quoted(name)))
        .collect();
    format!("{{{}}}", members.join(","))
}

fn attributes_json(shown: &Shown) -> String {
    let members: Vec<(&str, String)> = shown
        .attributes
        .0
        .iter()
        .map(|it| {
            let text = match &it.content {
                aws::Content::Text(text) => json::quoted(text),
                aws::Content::Binary(bytes) => json::quoted(&base64::encode(bytes)),
            };
            let value = object(&[("Type", json::quoted(&it.data_type)), ("Value", text)]);
            (&it.name[..], value)
        })
        .collect();
    object(&members)
}

fn text_message(content: &Content, number: &str, notes: Option<&Notes>) -> Plan {
    let number: String = number
        .chars()
        .filter(|c| !matches!(c, '.' | '/' | '-'))
        .collect();
    let set = notes.map(sms::attributes).unwrap_or_default();
    let set: Vec<(&str, String)> = set
        .iter()
        .map(|(name, value)| (&name[..], json::quoted(value)))
        .collect();
    let request = object(&[
        ("PhoneNumber", json::quoted(&number)),
        ("Message", json::quoted(content.text_for("sms"))),
        ("MessageId", json::quoted(&content.id)),
        ("MessageAttributes", attributes_json(&content.shown)),
        ("SMSAttributes", object(&set)),
    ]);
    Plan {
        lane: "sms".to_owned(),
        send: Send::Sms(request),
        retries: PATIENT,
        per_second: None,
        dead_letter: None,
        gone: Gone::Number(number),
        asks: None,
    }
}

fn push(
    content: &Content,
    endpoint: &SubscriptionInfo,
    through: Option<&SubscriptionInfo>,
) -> Result<Plan, Dropped> {
    if note(&endpoint.notes, "Enabled") == Some("false") {
        return Err(Dropped::Gone);
    }
    let object_name = endpoint.topic.clone().unwrap_or_default();
    let platform = platform::platform_of(&object_name);
    let name = String::from_utf8_lossy(&object_name).into_owned();
    let application = name.rsplit('/').next().unwrap_or_default();
    let payload = content
        .shown
        .body_for(&platform)
        .or_else(|| content.shown.body_for("application"))
        .unwrap_or(&content.text);
    let request = object(&[
        ("Platform", json::quoted(&platform)),
        ("Application", json::quoted(application)),
        ("Token", json::quoted(text_note(endpoint, "Token"))),
        (
            "CustomUserData",
            json::quoted(text_note(endpoint, "CustomUserData")),
        ),
        ("Payload", json::quoted(payload)),
        (
            "Subject",
            content
                .subject
                .as_deref()
                .map_or_else(|| "null".to_owned(), json::quoted),
        ),
        ("MessageId", json::quoted(&content.id)),
        ("MessageAttributes", attributes_json(&content.shown)),
    ]);
    let dead_letter = through.and_then(|it| {
        let (vhost, queue) = it.settings.dead_letter.as_ref()?;
        Some(DeadLetter {
            vhost: vhost.clone().unwrap_or_else(|| Arc::clone(&it.vhost)),
            queue: queue.clone(),
            body: Bytes::copy_from_slice(payload.as_bytes()),
        })
    });
    Ok(Plan {
        lane: "push".to_owned(),
        send: Send::Push(request),
        retries: PATIENT,
        per_second: None,
        dead_letter,
        gone: Gone::Endpoint(Box::new(endpoint.clone())),
        asks: None,
    })
}

/// The message that goes into a dead-letter queue, to an address there.
#[must_use]
pub fn dead_message(delivery: &Delivery, address: message::Address, body: Bytes) -> Message {
    let mut message = (*delivery.message).clone();
    // Through SNS: the bodies for single protocols have been chosen among. The attributes stay.
    if message
        .native
        .as_ref()
        .is_some_and(|it| it.form == NativeForm::AWS)
    {
        let shown = Shown::of(&message);
        message.properties = Properties::default();
        let sender = shown.sender.unwrap_or_default();
        let id = shown.message_id.unwrap_or_default();
        shown.attributes.put_into(
            &mut message,
            Sender::of(&String::from_utf8_lossy(&sender)),
            id,
        );
    }
    message.address = address.into();
    message.body = body;
    message.body_kind = BodyKind::Text;
    message.durable = true;
    message
}

/// What claims a subscription that nobody has confirmed. When it is refused, somebody has changed it, perhaps confirmed it: it
/// is to be looked at again.
#[must_use]
pub fn lapsed(found: &SubscriptionInfo) -> SubscriptionTo {
    subscriptions::lapsed(found)
}

/// The command that disables an endpoint.
#[must_use]
pub fn disable(endpoint: &SubscriptionInfo) -> SubscriptionTo {
    platform::disabled(endpoint)
}

/// The object of what is known of phone numbers.
#[must_use]
pub fn phones() -> Name {
    Bytes::from_static(names::SMS.as_bytes())
}

/// What makes that object where there is none.
#[must_use]
pub fn make_phones() -> session::TopicTo {
    sms::create()
}

/// What is known of phone numbers, once a number has opted out.
pub fn opt_out(notes: &mut Notes, number: &str) {
    sms::opt_out(notes, number);
}

#[cfg(test)]
mod tests;
