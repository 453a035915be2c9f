//! Subscriptions: Subscribe, ConfirmSubscription, Unsubscribe, and their lists and attributes.
//!
//! | protocol | where it delivers | confirmed |
//! |---|---|---|
//! | `sqs` | the queue, which need not be there | at once |
//! | `http`, `https`, `email`, `email-json` | the deliverer's queue | by the endpoint, with the token that it is sent, in two days; else it ends |
//! | `sms`, `application` | the deliverer's queue | at once |
//! | `lambda`, `firehose` | refused: there is neither here | |
//!
//! With `aws.transitions = "instant"` all are confirmed at once. What the core does not know of a subscription is in its notes.

use std::sync::Arc;

use aws::{ApiError, Call, Input, SnsSettings, Transitions, Value, digest};
use bytes::Bytes;
use message::Name;
use session::{
    Command, Event, Flow, Lane, ListSubscriptions, NewSubscription, Notes, RefusalKind,
    SubscriptionId, SubscriptionInfo, SubscriptionTarget, SubscriptionTo, Token, TopicInfo,
};

use crate::{
    attributes::{self, Own},
    control,
    egress::{self, Egress, Target},
    faults::{self, invalid, no_subscription, no_topic, plain},
    guard,
    names::{self, Arn, subscription_arn},
    platform,
    steps::{
        self, Becomes, Run, alter_subscription, done, fail, go, note, nothing, refused_as,
        set_note, subscription,
    },
    topics::{self, Begin, PAGE, with_topic},
};

/// The note of a subscription that is about to be deleted as nobody has confirmed it: nobody can any more.
const LAPSED: &str = "Lapsed";

/// Claims a subscription that nobody has confirmed. It is deleted if this succeeds; else somebody has changed it meanwhile.
pub(crate) fn lapsed(found: &SubscriptionInfo) -> SubscriptionTo {
    let mut notes = found.notes.clone();
    set_note(&mut notes, LAPSED, "true");
    SubscriptionTo::Alter {
        id: found.id,
        version: found.version,
        settings: found.settings.clone(),
        confirmed: false,
        notes,
        identity: None,
    }
}

/// How a subscription is delivered to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// An SQS queue.
    Sqs,
    /// A `POST` over HTTP.
    Http,
    /// The same over TLS.
    Https,
    /// Mail with the message alone.
    Email,
    /// Mail with the envelope.
    EmailJson,
    /// A text message.
    Sms,
    /// A push notification.
    Application,
}

impl Protocol {
    const NAMES: [(&'static str, Self); 7] = [
        ("sqs", Self::Sqs),
        ("http", Self::Http),
        ("https", Self::Https),
        ("email", Self::Email),
        ("email-json", Self::EmailJson),
        ("sms", Self::Sms),
        ("application", Self::Application),
    ];

    /// Its name in SNS.
    #[must_use]
    pub fn name(self) -> &'static str {
        let known = Self::NAMES.iter().find(|(_, it)| *it == self);
        known.map_or("", |(name, _)| name)
    }

    /// The protocol of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let known = Self::NAMES.iter().find(|(known, _)| *known == name);
        known.map(|(_, it)| *it)
    }

    /// Its endpoint says itself that it wants to be subscribed.
    const fn is_confirmed_by_endpoint(self) -> bool {
        matches!(
            self,
            Self::Http | Self::Https | Self::Email | Self::EmailJson
        )
    }

    /// Whether it is a request of its own.
    pub(crate) const fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Https)
    }

    /// Reads the parameter `Protocol`, and whether what it needs is here.
    fn read(name: &str, call: &Call) -> Result<Self, ApiError> {
        if matches!(name, "lambda" | "firehose") {
            return Err(faults::unsupported(&format!("Protocol Reason: {name}")));
        }
        let Some(protocol) = Self::named(name) else {
            return Err(invalid(format!(
                "Amazon SNS does not support this protocol string: {name}"
            )));
        };
        let on = &call.settings.sns;
        let (is_on, setting) = match protocol {
            Self::Email | Self::EmailJson => (on.email, "sns.email"),
            Self::Sms => (on.sms, "sns.sms"),
            Self::Application => (on.push, "sns.push"),
            Self::Sqs | Self::Http | Self::Https => return Ok(protocol),
        };
        if is_on {
            Ok(protocol)
        } else {
            Err(off(&format!("Protocol Reason: {name}"), setting))
        }
    }

    /// Checks an endpoint as far as its text tells.
    fn check(self, endpoint: &str, on: &SnsSettings) -> Result<(), ApiError> {
        let mismatch = || invalid("Endpoint must match the specified protocol");
        match self {
            Self::Http if !endpoint.starts_with("http://") => Err(mismatch()),
            Self::Https if !endpoint.starts_with("https://") => Err(mismatch()),
            Self::Http | Self::Https => {
                let (url, _) = egress::without_login(endpoint);
                let legal = endpoint.bytes().all(|byte| byte.is_ascii_graphic());
                let Some(target) = Target::read(&url).filter(|_| legal) else {
                    return Err(invalid("Endpoint Reason: not a URL"));
                };
                let rules = Egress::read(on.endpoints.iter().map(String::as_str));
                if !rules.is_ok_and(|rules| rules.may_allow(&target)) {
                    return Err(invalid(
                        "Endpoint Reason: sns.endpoints of the operator does not allow it",
                    ));
                }
                Ok(())
            }
            Self::Email | Self::EmailJson if !is_mail_address(endpoint) => {
                Err(invalid("Email address"))
            }
            Self::Sms => {
                let mark = |c: char| matches!(c, '.' | '/' | '-');
                let doubled = endpoint
                    .as_bytes()
                    .windows(2)
                    .any(|pair| pair.iter().all(|byte| mark(char::from(*byte))));
                let reduced: String = endpoint.chars().filter(|c| !mark(*c)).collect();
                if doubled
                    || endpoint.starts_with(mark)
                    || endpoint.ends_with(mark)
                    || !names::is_phone_number(&reduced)
                {
                    return Err(plain(format!("Invalid SMS endpoint: {endpoint}")));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Something that the operator has not switched on.
pub(crate) fn off(what: &str, setting: &str) -> ApiError {
    invalid(format!(
        "{what} is off here: the operator has not set {setting}"
    ))
}

/// One mailbox, and nothing that could be more than that in a mail's head.
pub(crate) fn is_mail_address(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else {
        return false;
    };
    let legal = |c: char| c.is_alphanumeric() || "!#$%&'*+/=?^_`{|}~.-".contains(c);
    let host = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-');
    text.len() <= 254
        && !local.is_empty()
        && local.chars().all(legal)
        && !domain.is_empty()
        && domain.chars().all(host)
}

/// The queue that an ARN names: its virtual host and its name.
pub(crate) fn queue_of(call: &Call, arn: &str) -> Option<(Arc<str>, Name)> {
    let arn = Arn::read(arn, "").ok()?;
    let name = arn.resource;
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let stem = name.strip_suffix(".fifo").unwrap_or(name);
    if arn.service != "sqs" || stem.is_empty() || name.len() > 80 || !stem.bytes().all(legal) {
        return None;
    }
    let vhost = (call.vhost_of)(call, arn.account, arn.region)?;
    Some((vhost, Bytes::copy_from_slice(name.as_bytes())))
}

/// `Subscribe`.
pub(crate) fn subscribe(input: Input) -> Run {
    let Input { call, value } = input;
    let arn = value.text("TopicArn").unwrap_or_default().to_owned();
    with_topic(
        &Arc::clone(&call),
        "Subscribe",
        &arn.clone(),
        move |found| {
            go(NewOne::read(&call, &arn, &found, &value), |new| {
                if new.protocol == Protocol::Application {
                    let endpoint = new.endpoint.clone();
                    return platform::with_endpoint(
                        Arc::clone(&call),
                        endpoint,
                        |endpoint| {
                            // The missing space is AWS's.
                            invalid(format!(
                                "Endpoint Reason: Endpoint does not exist for endpoint arn{endpoint}"
                            ))
                        },
                        move |_| create(call, new),
                    );
                }
                create(call, new)
            })
        },
    )
}

/// A subscription as a caller wants it.
struct NewOne {
    topic: Name,
    topic_arn: String,
    protocol: Protocol,
    endpoint: String,
    target: SubscriptionTarget,
    own: Own,
    said: Vec<(String, String)>,
    return_arn: bool,
}

impl NewOne {
    fn read(call: &Call, arn: &str, topic: &TopicInfo, value: &Value) -> Result<Self, ApiError> {
        let protocol = Protocol::read(value.text("Protocol").unwrap_or_default(), call)?;
        let endpoint = value.text("Endpoint").unwrap_or_default();
        if endpoint.is_empty() {
            return Err(invalid("Endpoint Reason: Endpoint is required"));
        }
        protocol.check(endpoint, &call.settings.sns)?;
        let target = if protocol == Protocol::Sqs {
            let Some((vhost, name)) = queue_of(call, endpoint) else {
                return Err(invalid("SQS endpoint ARN"));
            };
            if topic.fifo.is_none() && name.ends_with(b".fifo") {
                return Err(invalid(
                    "Invalid parameter: Endpoint Reason: FIFO SQS Queues can not be subscribed to standard SNS topics",
                ));
            }
            let vhost = (vhost != call.vhost_name).then_some(vhost);
            SubscriptionTarget::Queue { vhost, name }
        } else {
            if topic.fifo.is_some() {
                return Err(invalid(
                    "Invalid parameter: Endpoint Reason: FIFO topics deliver to SQS queues only",
                ));
            }
            SubscriptionTarget::Queue {
                vhost: Some(names::DELIVERY_VHOST.into()),
                name: Bytes::from_static(names::DELIVERY_QUEUE.as_bytes()),
            }
        };
        let said = topics::texts(value.map("Attributes"));
        let mut own = Own::new(protocol, topic.fifo.is_some());
        // What a policy may say depends on its scope.
        let scope_first = |(name, _): &&(String, String)| name != "FilterPolicyScope";
        let mut ordered: Vec<_> = said.iter().collect();
        ordered.sort_by_key(scope_first);
        for (name, value) in ordered {
            own.set(call, name, value)
                .map_err(|error| error.in_subscribe(name, call.settings.manners))?;
        }
        Ok(Self {
            topic: topic.name.clone(),
            topic_arn: arn.to_owned(),
            protocol,
            endpoint: endpoint.to_owned(),
            target,
            own,
            said,
            return_arn: value.flag("ReturnSubscriptionArn"),
        })
    }

    fn notes(&self, call: &Call, confirmed: bool) -> Notes {
        let mut notes = self.own.notes.clone();
        set_note(&mut notes, "Protocol", self.protocol.name());
        set_note(&mut notes, "Endpoint", &self.endpoint);
        set_note(&mut notes, "TopicArn", &self.topic_arn);
        set_note(&mut notes, "Owner", &call.caller_account);
        // Where links in what it is sent lead to.
        set_note(&mut notes, "BaseUrl", &call.base_url);
        if confirmed {
            set_note(&mut notes, "Authenticated", "true");
        }
        notes
    }
}

/// What tells a subscription from the topic's others.
fn identity(protocol: Protocol, endpoint: &str) -> Bytes {
    format!("{}\0{endpoint}", protocol.name()).into()
}

fn create(call: Arc<Call>, new: NewOne) -> Run {
    let instant = call.settings.transitions == Transitions::Instant;
    let confirmed = instant || !new.protocol.is_confirmed_by_endpoint();
    let mut random = [0; 16];
    random.copy_from_slice(&call.random[..16]);
    let id = SubscriptionId(digest::random_uuid(random));
    let wanted = NewSubscription {
        id,
        topic: Some(new.topic.clone()),
        filter: new.own.filter(),
        target: new.target.clone(),
        settings: new.own.settings.clone(),
        confirmed,
        identity: identity(new.protocol, &new.endpoint),
        notes: new.notes(&call, confirmed),
    };
    let refused = refused_as(&call, "Subscribe", &new.topic_arn, no_topic);
    subscription(SubscriptionTo::Create(Box::new(wanted)), move |made| {
        let made = match made {
            Ok(made) => made,
            Err(refusal)
                if refusal.kind == RefusalKind::QuotaExceeded
                    && !faults::has_too_many_policies(&refusal) =>
            {
                return fail(
                    ApiError::sender("SubscriptionLimitExceeded", refusal.detail).with_status(403),
                );
            }
            Err(refusal) => return fail(refused(&refusal)),
        };
        if made.id != id && attributes::differ(&made, &new.said) {
            return fail(invalid(
                "Attributes Reason: Subscription already exists with different attributes",
            ));
        }
        let arn = if made.confirmed || new.return_arn {
            subscription_arn(&new.topic_arn, made.id)
        } else {
            "pending confirmation".to_owned()
        };
        let answer = done([("SubscriptionArn", Value::from(arn))].into());
        let asks = new.protocol.is_confirmed_by_endpoint() && (made.id == id || !made.confirmed);
        if !asks {
            return answer;
        }
        let ask = control::Control::Confirm {
            vhost: call.vhost_name.to_string(),
            id: made.id,
        };
        // One that was asked for before ends when it would have.
        if made.id != id || made.confirmed {
            return control::send(&call, "Subscribe", ask, |()| answer);
        }
        let lapse = control::Control::Lapse { id };
        let also = Arc::clone(&call);
        control::send(&call, "Subscribe", ask, move |()| {
            control::send_later(&also, "Subscribe", lapse, names::TOKEN_MS, |()| answer)
        })
    })
}

/// The token of a confirmation, and whom it is for: the account and the region of an ARN.
pub(crate) fn place_of_topic(input: &Value) -> Option<(String, String)> {
    place(input.text("TopicArn")?)
}

/// The same for a subscription.
pub(crate) fn place_of_subscription(input: &Value) -> Option<(String, String)> {
    place(input.text("SubscriptionArn")?)
}

fn place(arn: &str) -> Option<(String, String)> {
    let arn = Arn::read(arn, "").ok()?;
    Some((arn.account.to_owned(), arn.region.to_owned()))
}

/// Whether a request came without a signature.
fn is_unsigned(call: &Call) -> bool {
    call.access_key.is_empty()
}

/// `ConfirmSubscription`.
pub(crate) fn confirm(input: Input) -> Run {
    let Input { call, value } = input;
    let arn = value.text("TopicArn").unwrap_or_default().to_owned();
    let token = value.text("Token").unwrap_or_default().to_owned();
    let authenticate = match value.text("AuthenticateOnUnsubscribe") {
        Some(text) => text.eq_ignore_ascii_case("true"),
        None => false,
    };
    if authenticate && is_unsigned(&call) {
        return fail(
            ApiError::sender(
                "AuthorizationError",
                "AuthenticateOnUnsubscribe needs a signed request",
            )
            .with_status(403),
        );
    }
    with_topic(
        &Arc::clone(&call),
        "ConfirmSubscription",
        &arn.clone(),
        move |topic| {
            let bad = || invalid("Token Reason: Invalid token");
            if let Some((protocol, endpoint)) =
                control::subscribed_again(&call, &topic.name, &token)
            {
                return subscribe_again(call, &topic, arn, protocol, endpoint);
            }
            let Some(id) = names::confirmed_by(&call.secret, &token, call.now) else {
                return fail(bad());
            };
            let refused = refused_as(&call, "ConfirmSubscription", &arn, || {
                invalid("Token Reason: the subscription of the token does not exist any more")
            });
            let change = move |found: &SubscriptionInfo| {
                if found.topic.as_ref() != Some(&topic.name) {
                    return Err(bad());
                }
                if found.confirmed {
                    return Ok(None);
                }
                if note(&found.notes, LAPSED).is_some() {
                    return Err(bad());
                }
                let mut notes = found.notes.clone();
                if !is_unsigned(&call) {
                    set_note(&mut notes, "Authenticated", "true");
                }
                if authenticate {
                    set_note(&mut notes, "AuthenticateOnUnsubscribe", "true");
                }
                Ok(Some(Becomes {
                    settings: found.settings.clone(),
                    confirmed: true,
                    notes,
                    identity: None,
                }))
            };
            alter_subscription(id, refused, change, move |found| {
                let arn = subscription_arn(&arn, found.id);
                done([("SubscriptionArn", Value::from(arn))].into())
            })
        },
    )
}

/// Takes the end of a subscription back, as the endpoint wishes that was told of it.
fn subscribe_again(
    call: Arc<Call>,
    topic: &TopicInfo,
    arn: String,
    protocol: Protocol,
    endpoint: String,
) -> Run {
    let own = Own::new(protocol, topic.fifo.is_some());
    let new = NewOne {
        topic: topic.name.clone(),
        topic_arn: arn.clone(),
        protocol,
        endpoint,
        target: SubscriptionTarget::Queue {
            vhost: Some(names::DELIVERY_VHOST.into()),
            name: Bytes::from_static(names::DELIVERY_QUEUE.as_bytes()),
        },
        own,
        said: Vec::new(),
        return_arn: true,
    };
    let mut random = [0; 16];
    random.copy_from_slice(&call.random[..16]);
    let wanted = NewSubscription {
        id: SubscriptionId(digest::random_uuid(random)),
        topic: Some(new.topic.clone()),
        filter: None,
        target: new.target.clone(),
        settings: new.own.settings.clone(),
        confirmed: true,
        identity: identity(new.protocol, &new.endpoint),
        notes: new.notes(&call, false),
    };
    let refused = refused_as(&call, "ConfirmSubscription", &arn, no_topic);
    subscription(
        SubscriptionTo::Create(Box::new(wanted)),
        move |made| match made {
            Ok(made) => {
                let arn = subscription_arn(&arn, made.id);
                done([("SubscriptionArn", Value::from(arn))].into())
            }
            Err(refusal) => fail(refused(&refusal)),
        },
    )
}

/// `Unsubscribe`: a subscription that is gone is success.
pub(crate) fn unsubscribe(input: Input) -> Run {
    let Input { call, value } = input;
    let arn = value.text("SubscriptionArn").unwrap_or_default().to_owned();
    go(names::subscription_id(&call, &arn), |named| {
        let Some((topic, id)) = named else {
            return nothing();
        };
        let refused = refused_as(&call, "Unsubscribe", &arn, no_subscription);
        subscription(SubscriptionTo::Inspect { id }, move |found| {
            let found = match found {
                Ok(found) if found.topic == Some(topic) => found,
                Ok(_) => return nothing(),
                Err(refusal) if refusal.kind == RefusalKind::NotFound => return nothing(),
                Err(refusal) => return fail(refused(&refusal)),
            };
            if !guard::is_of_caller(&call, &found) {
                return fail(guard::not_of_caller(&call, "Unsubscribe", &arn));
            }
            let locked = note(&found.notes, "AuthenticateOnUnsubscribe").is_some();
            if locked && is_unsigned(&call) {
                return fail(
                    ApiError::sender(
                        "AuthorizationError",
                        "The subscription can be ended by a signed request only",
                    )
                    .with_status(403),
                );
            }
            subscription(
                SubscriptionTo::Delete { id },
                move |deleted| match deleted {
                    Ok(deleted) => tell(&call, &deleted),
                    Err(refusal) if refusal.kind == RefusalKind::NotFound => nothing(),
                    Err(refusal) => fail(refused(&refusal)),
                },
            )
        })
    })
}

/// Tells an endpoint that its subscription has ended.
fn tell(call: &Arc<Call>, deleted: &SubscriptionInfo) -> Run {
    let note = |name| note(&deleted.notes, name).unwrap_or_default().to_owned();
    let protocol = Protocol::named(&note("Protocol"));
    match protocol {
        Some(protocol) if protocol.is_http() && deleted.confirmed => {
            let ended = control::Control::Ended {
                protocol,
                endpoint: note("Endpoint"),
                topic_arn: note("TopicArn"),
                base_url: note("BaseUrl"),
                topic: deleted.topic.clone().unwrap_or_default(),
                made: call.now,
            };
            control::send(call, "Unsubscribe", ended, |_| nothing())
        }
        _ => nothing(),
    }
}

/// `ListSubscriptions`.
pub(crate) fn list(input: Input) -> Run {
    let Input { call, value } = input;
    go(Begin::read(value.text("NextToken")), |from| {
        page(call, "ListSubscriptions", None, from, answer)
    })
}

/// `ListSubscriptionsByTopic`.
pub(crate) fn list_by_topic(input: Input) -> Run {
    let Input { call, value } = input;
    let arn = value.text("TopicArn").unwrap_or_default();
    go(Begin::read(value.text("NextToken")), |from| {
        with_topic(
            &Arc::clone(&call),
            "ListSubscriptionsByTopic",
            arn,
            move |topic| {
                page(
                    call,
                    "ListSubscriptionsByTopic",
                    Some(topic.name),
                    from,
                    answer,
                )
            },
        )
    })
}

fn answer(_: Arc<Call>, found: Vec<SubscriptionInfo>, next: Option<String>) -> Run {
    let shown = found.iter().map(|it| {
        let note = |name| note(&it.notes, name).unwrap_or_default();
        let arn = if it.confirmed {
            subscription_arn(note("TopicArn"), it.id)
        } else {
            "PendingConfirmation".to_owned()
        };
        let mut members = vec![("SubscriptionArn".into(), Value::from(arn))];
        for name in attributes::SHOWN {
            members.push((name.into(), Value::from(attributes::shown_note(it, name))));
        }
        Value::Map(members)
    });
    let shown = Value::List(shown.collect());
    done([("Subscriptions", shown), ("NextToken", next.into())].into())
}

/// Lists subscriptions, of one topic or of all that are not ours, a page behind `from`.
pub(crate) fn page(
    call: Arc<Call>,
    operation: &'static str,
    topic: Option<Name>,
    from: Begin,
    then: impl FnOnce(Arc<Call>, Vec<SubscriptionInfo>, Option<String>) -> Run + Send + 'static,
) -> Run {
    let behind = |name: &str| {
        let (topic, id) = name.rsplit_once(':')?;
        let topic = Bytes::copy_from_slice(topic.as_bytes());
        Some((topic, SubscriptionId(digest::read_uuid(id)?)))
    };
    let (after, skip) = match &from {
        Begin::Start => (None, 0),
        Begin::Skip(skip) => (None, *skip),
        Begin::Behind(name) => match behind(name) {
            Some(after) => (Some(after), 0),
            None => {
                return fail(invalid(
                    "NextToken Reason: the token is not one that this operation has given",
                ));
            }
        },
    };
    let ours = || {
        (
            Bytes::from_static(names::BEHIND_OURS),
            SubscriptionId([0xff; 16]),
        )
    };
    let after = after.or_else(|| topic.is_none().then(ours));
    page_behind(call, operation, topic, (after, skip), from, then)
}

fn page_behind(
    call: Arc<Call>,
    operation: &'static str,
    topic: Option<Name>,
    (after, skip): (Option<(Name, SubscriptionId)>, u32),
    from: Begin,
    then: impl FnOnce(Arc<Call>, Vec<SubscriptionInfo>, Option<String>) -> Run + Send + 'static,
) -> Run {
    let list = ListSubscriptions {
        token: Token(0),
        lane: Lane(0),
        topic: topic.clone(),
        after,
        limit: if skip > 0 { skip.min(1000) } else { PAGE },
    };
    Flow::ask(
        Command::ListSubscriptions(Box::new(list)),
        move |event, _| {
            let (found, more) = match event {
                Event::ListedSubscriptions {
                    subscriptions,
                    more,
                    ..
                } => (subscriptions, more),
                Event::Refused { refusal, .. } => {
                    return fail(faults::refused(&call, operation, "*", &refusal));
                }
                other => return fail(faults::internal(steps::unexpected(&other).detail)),
            };
            let last = found.last().filter(|_| more);
            let last = last.map(|it| (it.topic.clone().unwrap_or_default(), it.id));
            if skip > 0 {
                let left = skip - (found.len() as u32).min(skip);
                if last.is_none() {
                    return then(call, Vec::new(), None);
                }
                return page_behind(call, operation, topic, (last, left), from, then);
            }
            let next = last.map(|(topic, id)| {
                let topic = String::from_utf8_lossy(&topic);
                let last = format!("{topic}:{}", digest::uuid_text(&id.0));
                from.next(&call, found.len(), &last)
            });
            then(call, found, next)
        },
    )
}

/// `GetSubscriptionAttributes`.
pub(crate) fn get_attributes(input: Input) -> Run {
    let Input { call, value } = input;
    let arn = value.text("SubscriptionArn").unwrap_or_default().to_owned();
    go(names::subscription_id(&call, &arn), |named| {
        let Some((topic, id)) = named else {
            return fail(no_subscription());
        };
        let refused = refused_as(&call, "GetSubscriptionAttributes", &arn, no_subscription);
        subscription(SubscriptionTo::Inspect { id }, move |found| {
            let found = match found {
                Ok(found) if found.topic.as_ref() == Some(&topic) => found,
                Ok(_) => return fail(no_subscription()),
                Err(refusal) => return fail(refused(&refusal)),
            };
            if !guard::is_of_caller(&call, &found) {
                let operation = "GetSubscriptionAttributes";
                return fail(guard::not_of_caller(&call, operation, &arn));
            }
            steps::topic(topic, session::TopicTo::Inspect, move |topic| match topic {
                Ok(topic) => {
                    let shown = attributes::shown(&found, &topic, &arn, call.settings.manners);
                    done([("Attributes", shown)].into())
                }
                Err(refusal) => fail(refused(&refusal)),
            })
        })
    })
}

/// `SetSubscriptionAttributes`.
pub(crate) fn set_attributes(input: Input) -> Run {
    let Input { call, value } = input;
    let arn = value.text("SubscriptionArn").unwrap_or_default().to_owned();
    let name = value.text("AttributeName").unwrap_or_default().to_owned();
    let new = value.text("AttributeValue").unwrap_or_default().to_owned();
    go(names::subscription_id(&call, &arn), |named| {
        let Some((topic, id)) = named else {
            return fail(no_subscription());
        };
        let refused = refused_as(&call, "SetSubscriptionAttributes", &arn, no_subscription);
        let change = move |found: &SubscriptionInfo| {
            if found.topic.as_ref() != Some(&topic) {
                return Err(no_subscription());
            }
            if !guard::is_of_caller(&call, found) {
                let operation = "SetSubscriptionAttributes";
                return Err(guard::not_of_caller(&call, operation, &arn));
            }
            let mut own = Own::of(found, topic.ends_with(b".fifo"));
            own.set(&call, &name, &new)
                .map_err(|error| error.in_set(call.settings.manners))?;
            Ok(Some(Becomes {
                settings: own.settings,
                confirmed: found.confirmed,
                notes: own.notes,
                identity: None,
            }))
        };
        alter_subscription(id, refused, change, |_| nothing())
    })
}
