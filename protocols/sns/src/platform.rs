//! Platform applications and their endpoints: where push notifications go.
//!
//! An application is a topic object of ours, [`names::APPLICATION`]`PLATFORM/NAME`, with its attributes as notes. An endpoint is a
//! subscription of it that never delivers: its identity is the token of the device, so that a token has one endpoint; its number
//! is the last part of the endpoint's ARN. What is pushed goes through the operator's gateway (`sns.push`), which knows how to
//! reach the platforms.

use std::sync::Arc;

use aws::{ApiError, Call, Input, Value, digest};
use bytes::Bytes;
use message::{Levels, Name};
use session::{
    NewSubscription, Notes, RefusalKind, SubscriptionId, SubscriptionInfo, SubscriptionSettings,
    SubscriptionTarget, SubscriptionTo, TopicTo,
};

use crate::{
    control::OURS,
    faults::{self, invalid, not_found},
    names::{self, APPLICATION, Arn},
    steps::{
        Becomes, Run, alter_subscription, alter_topic, done, fail, go, note, nothing, refused_as,
        set_note, subscription, topic,
    },
    subscriptions::{self, off},
    topics::{self, Begin},
};

/// The platforms that SNS knows.
const PLATFORMS: [&str; 11] = [
    "ADM",
    "APNS",
    "APNS_SANDBOX",
    "APNS_VOIP",
    "APNS_VOIP_SANDBOX",
    "BAIDU",
    "GCM",
    "MACOS",
    "MACOS_SANDBOX",
    "MPNS",
    "WNS",
];
/// Attributes of applications that mean something here.
const ATTRIBUTES: [&str; 5] = [
    "ApplePlatformBundleID",
    "ApplePlatformTeamID",
    "Enabled",
    "PlatformCredential",
    "PlatformPrincipal",
];
/// Those that SNS has and that nothing here acts on.
const UNSUPPORTED: [&str; 7] = [
    "EventDeliveryFailure",
    "EventEndpointCreated",
    "EventEndpointDeleted",
    "EventEndpointUpdated",
    "FailureFeedbackRoleArn",
    "SuccessFeedbackRoleArn",
    "SuccessFeedbackSampleRate",
];
/// The longest user data of an endpoint, in bytes.
const USER_DATA_LEN_MAX: usize = 2048;
/// The longest token, in bytes.
const TOKEN_LEN_MAX: usize = 4096;

fn no_application() -> ApiError {
    not_found("PlatformApplication does not exist")
}

fn no_endpoint() -> ApiError {
    not_found("Endpoint does not exist")
}

/// The name of an application's object, from its ARN.
fn application(call: &Call, arn: &str) -> Result<Option<Name>, ApiError> {
    let read = Arn::read(arn, "PlatformApplicationArn")?;
    let rest = read.resource.strip_prefix("app/");
    let rest = rest.filter(|_| read.is_here(call));
    Ok(rest.map(|rest| format!("{APPLICATION}{rest}").into()))
}

/// The ARN of an application, from the name of its object.
fn application_arn(call: &Call, name: &str) -> String {
    let rest = name.strip_prefix(APPLICATION).unwrap_or_default();
    call.arn("sns", &format!("app/{rest}"))
}

/// The object of an endpoint's application and its number.
fn endpoint(call: &Call, arn: &str) -> Result<Option<(Name, SubscriptionId)>, ApiError> {
    let read = Arn::read(arn, "EndpointArn")?;
    let parts = read.resource.strip_prefix("endpoint/");
    let parts = parts.and_then(|rest| rest.rsplit_once('/'));
    let named = parts.and_then(|(application, id)| {
        let id = SubscriptionId(digest::read_uuid(id)?);
        Some((Name::from(format!("{APPLICATION}{application}")), id))
    });
    Ok(named.filter(|_| read.is_here(call)))
}

fn endpoint_arn(call: &Call, application: &[u8], id: SubscriptionId) -> String {
    let name = String::from_utf8_lossy(application);
    let rest = name.strip_prefix(APPLICATION).unwrap_or_default();
    call.arn(
        "sns",
        &format!("endpoint/{rest}/{}", digest::uuid_text(&id.0)),
    )
}

/// An endpoint, as far as a publish needs it.
pub(crate) struct Endpoint {
    pub(crate) id: SubscriptionId,
    pub(crate) is_enabled: bool,
    pub(crate) application_is_enabled: bool,
}

/// Looks at an endpoint and its application.
pub(crate) fn with_endpoint(
    call: Arc<Call>,
    arn: String,
    absent: impl Fn(&str) -> ApiError + Send + 'static,
    then: impl FnOnce(Endpoint) -> Run + Send + 'static,
) -> Run {
    let Ok(Some((object, id))) = endpoint(&call, &arn) else {
        return fail(absent(&arn));
    };
    subscription(SubscriptionTo::Inspect { id }, move |found| {
        let found = match found {
            Ok(found) if found.topic.as_ref() == Some(&object) => found,
            Ok(_) => return fail(absent(&arn)),
            Err(refusal) if refusal.kind == RefusalKind::NotFound => return fail(absent(&arn)),
            Err(refusal) => return fail(faults::refused(&call, "Publish", &arn, &refusal)),
        };
        topic(
            object,
            TopicTo::Inspect,
            move |application| match application {
                Ok(application) => then(Endpoint {
                    id,
                    is_enabled: note(&found.notes, "Enabled") != Some("false"),
                    application_is_enabled: note(&application.notes, "Enabled") != Some("false"),
                }),
                Err(refusal) if refusal.kind == RefusalKind::NotFound => fail(absent(&arn)),
                Err(refusal) => fail(faults::refused(&call, "Publish", &arn, &refusal)),
            },
        )
    })
}

fn set_application(notes: &mut Notes, attributes: &[(String, String)]) -> Result<(), ApiError> {
    for (name, value) in attributes {
        let wrong = |detail: &str| Err(invalid(format!("Attributes Reason: {detail}")));
        if UNSUPPORTED.contains(&&name[..]) {
            return Err(faults::unsupported(&format!("Attributes Reason: {name}")));
        }
        if !ATTRIBUTES.contains(&&name[..]) {
            return wrong(&format!("Unknown attribute {name}"));
        }
        if name == "Enabled" {
            let value = topics::flag(name, value)?.to_string();
            set_note(notes, name, &value);
        } else {
            set_note(notes, name, value);
        }
    }
    Ok(())
}

fn shown(notes: &Notes) -> Value {
    let entry = |(name, value): &(Bytes, Bytes)| {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(name).into(), Value::from(text(value)))
    };
    Value::Map(notes.iter().map(entry).collect())
}

/// `CreatePlatformApplication`.
pub(crate) fn create_application(input: Input) -> Run {
    let Input { call, value } = input;
    if !call.settings.sns.push {
        return fail(off("Platform Reason: application", "sns.push"));
    }
    let text = |name| value.text(name).unwrap_or_default();
    let (name, platform) = (text("Name"), text("Platform"));
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if name.is_empty() || name.len() > 256 || !name.bytes().all(legal) {
        return fail(invalid(
            "Name Reason: must be 1 to 256 letters, digits, _ - .",
        ));
    }
    if !PLATFORMS.contains(&platform) {
        return fail(invalid(format!(
            "Platform Reason: {platform} is not supported"
        )));
    }
    let mut notes = Notes::new();
    let attributes = topics::texts(value.map("Attributes"));
    go(set_application(&mut notes, &attributes), |()| {
        let object = format!("{APPLICATION}{platform}/{name}");
        let arn = application_arn(&call, &object);
        let address = Levels::collect([OURS, "app", platform, name]).expect("four short levels");
        let object = Bytes::from(object.into_bytes());
        let create = TopicTo::Create {
            address,
            fifo: None,
            notes: notes.clone(),
        };
        let refused = refused_as(&call, "CreatePlatformApplication", &arn, no_application);
        topic(object.clone(), create, move |made| {
            let answer = move || done([("PlatformApplicationArn", Value::from(arn))].into());
            match made {
                Ok(_) => answer(),
                Err(refusal) if refusal.kind == RefusalKind::Inequivalent => {
                    topic(object, TopicTo::Inspect, move |found| match found {
                        Ok(found) if found.notes == notes => answer(),
                        Ok(_) => fail(invalid(
                            "Attributes Reason: An application with the same name already exists but with different properties",
                        )),
                        Err(refusal) => fail(refused(&refusal)),
                    })
                }
                Err(refusal) => fail(refused(&refusal)),
            }
        })
    })
}

/// Goes on with the object of an application.
fn with_application(call: &Call, value: &Value, then: impl FnOnce(Name, String) -> Run) -> Run {
    let arn = value.text("PlatformApplicationArn").unwrap_or_default();
    go(application(call, arn), |object| match object {
        Some(object) => then(object, arn.to_owned()),
        None => fail(no_application()),
    })
}

/// `GetPlatformApplicationAttributes`.
pub(crate) fn get_application(input: Input) -> Run {
    let Input { call, value } = input;
    with_application(&call, &value, |object, arn| {
        let refused = refused_as(
            &call,
            "GetPlatformApplicationAttributes",
            &arn,
            no_application,
        );
        topic(object, TopicTo::Inspect, move |found| match found {
            Ok(found) => done([("Attributes", shown(&found.notes))].into()),
            Err(refusal) => fail(refused(&refusal)),
        })
    })
}

/// `SetPlatformApplicationAttributes`.
pub(crate) fn set_application_attributes(input: Input) -> Run {
    let Input { call, value } = input;
    let attributes = topics::texts(value.map("Attributes"));
    with_application(&call, &value, |object, arn| {
        let refused = refused_as(
            &call,
            "SetPlatformApplicationAttributes",
            &arn,
            no_application,
        );
        let change = move |found: &session::TopicInfo| {
            let mut notes = found.notes.clone();
            set_application(&mut notes, &attributes)?;
            Ok(Some((None, notes)))
        };
        alter_topic(object, refused, change, nothing)
    })
}

/// `DeletePlatformApplication`: with its endpoints; none is success.
pub(crate) fn delete_application(input: Input) -> Run {
    let Input { call, value } = input;
    let arn = value.text("PlatformApplicationArn").unwrap_or_default();
    go(application(&call, arn), |object| {
        let Some(object) = object else {
            return nothing();
        };
        let refused = refused_as(&call, "DeletePlatformApplication", arn, no_application);
        topic(object, TopicTo::Delete, move |deleted| match deleted {
            Ok(_) => nothing(),
            Err(refusal) if refusal.kind == RefusalKind::NotFound => nothing(),
            Err(refusal) => fail(refused(&refusal)),
        })
    })
}

/// `ListPlatformApplications`.
pub(crate) fn list_applications(input: Input) -> Run {
    let Input { call, value } = input;
    go(Begin::read(value.text("NextToken")), |from| {
        topics::page(call, APPLICATION, from, |call, names, next| {
            show_applications(call, names, Vec::new(), next)
        })
    })
}

/// Looks at one application after the other.
fn show_applications(
    call: Arc<Call>,
    mut names: Vec<String>,
    mut listed: Vec<Value>,
    next: Option<String>,
) -> Run {
    if names.is_empty() {
        let listed = Value::List(listed);
        return done([("PlatformApplications", listed), ("NextToken", next.into())].into());
    }
    let name = names.remove(0);
    let object = Bytes::from(name.clone().into_bytes());
    topic(object, TopicTo::Inspect, move |found| {
        // One that has gone meanwhile is left out.
        if let Ok(found) = found {
            listed.push(
                [
                    (
                        "PlatformApplicationArn",
                        Value::from(application_arn(&call, &name)),
                    ),
                    ("Attributes", shown(&found.notes)),
                ]
                .into(),
            );
        }
        show_applications(call, names, listed, next)
    })
}

/// Sets attributes of an endpoint, but for its token.
fn set_endpoint(notes: &mut Notes, attributes: &[(String, String)]) -> Result<(), ApiError> {
    for (name, value) in attributes {
        match &name[..] {
            "Enabled" => {
                let value = topics::flag(name, value)?.to_string();
                set_note(notes, name, &value);
            }
            "CustomUserData" if value.len() > USER_DATA_LEN_MAX => {
                return Err(invalid(
                    "CustomUserData Reason: must be at most 2048 bytes long",
                ));
            }
            "Token" if value.is_empty() || value.len() > TOKEN_LEN_MAX => {
                return Err(invalid("Token Reason: must be 1 to 4096 bytes long"));
            }
            "CustomUserData" | "Token" => set_note(notes, name, value),
            _ => {
                return Err(invalid(format!(
                    "Attributes Reason: Unknown attribute {name}"
                )));
            }
        }
    }
    Ok(())
}

fn new_endpoint(id: SubscriptionId, object: Name, notes: Notes) -> NewSubscription {
    let token = note(&notes, "Token").unwrap_or_default();
    NewSubscription {
        id,
        topic: Some(object),
        filter: None,
        target: SubscriptionTarget::Queue {
            vhost: Some(names::DELIVERY_VHOST.into()),
            name: Bytes::from_static(names::DELIVERY_QUEUE.as_bytes()),
        },
        settings: SubscriptionSettings::default(),
        // It never delivers: what is published to the application's address, by whomever, is nothing to push.
        confirmed: false,
        identity: Bytes::copy_from_slice(token.as_bytes()),
        notes,
    }
}

/// `CreatePlatformEndpoint`: a token has one endpoint.
pub(crate) fn create_endpoint(input: Input) -> Run {
    let Input { call, value } = input;
    let mut attributes = vec![
        ("Enabled".to_owned(), "true".to_owned()),
        (
            "Token".to_owned(),
            value.text("Token").unwrap_or_default().to_owned(),
        ),
    ];
    if let Some(data) = value.text("CustomUserData") {
        attributes.push(("CustomUserData".to_owned(), data.to_owned()));
    }
    attributes.extend(topics::texts(value.map("Attributes")));
    with_application(&Arc::clone(&call), &value, |object, arn| {
        let mut notes = Notes::new();
        go(set_endpoint(&mut notes, &attributes), |()| {
            let mut random = [0; 16];
            random.copy_from_slice(&call.random[..16]);
            let id = SubscriptionId(digest::random_uuid(random));
            let refused = refused_as(&call, "CreatePlatformEndpoint", &arn, no_application);
            let new = new_endpoint(id, object.clone(), notes.clone());
            subscription(SubscriptionTo::Create(Box::new(new)), move |made| {
                let made = match made {
                    Ok(made) => made,
                    Err(refusal) => return fail(refused(&refusal)),
                };
                let arn = endpoint_arn(&call, &object, made.id);
                if made.id != id && made.notes != notes {
                    return fail(invalid(format!(
                        "Token Reason: Endpoint {arn} already exists with the same Token, but different attributes."
                    )));
                }
                done([("EndpointArn", Value::from(arn))].into())
            })
        })
    })
}

/// `ListEndpointsByPlatformApplication`.
pub(crate) fn list_endpoints(input: Input) -> Run {
    let Input { call, value } = input;
    go(Begin::read(value.text("NextToken")), |from| {
        with_application(&Arc::clone(&call), &value, |object, arn| {
            let operation = "ListEndpointsByPlatformApplication";
            let refused = refused_as(&call, operation, &arn, no_application);
            topic(object.clone(), TopicTo::Inspect, move |found| {
                if let Err(refusal) = found {
                    return fail(refused(&refusal));
                }
                subscriptions::page(call, operation, Some(object), from, show_endpoints)
            })
        })
    })
}

fn show_endpoints(call: Arc<Call>, found: Vec<SubscriptionInfo>, next: Option<String>) -> Run {
    let endpoints = found.iter().map(|it| {
        let arn = endpoint_arn(&call, it.topic.as_deref().unwrap_or_default(), it.id);
        Value::from([
            ("EndpointArn", Value::from(arn)),
            ("Attributes", shown(&it.notes)),
        ])
    });
    let endpoints = Value::List(endpoints.collect());
    done([("Endpoints", endpoints), ("NextToken", next.into())].into())
}

/// Goes on with the number of an endpoint.
fn with_id(
    call: &Call,
    value: &Value,
    absent: impl FnOnce() -> Run,
    then: impl FnOnce(Name, SubscriptionId, String) -> Run,
) -> Run {
    let arn = value.text("EndpointArn").unwrap_or_default();
    go(endpoint(call, arn), |named| match named {
        Some((object, id)) => then(object, id, arn.to_owned()),
        None => absent(),
    })
}

/// `GetEndpointAttributes`.
pub(crate) fn get_endpoint(input: Input) -> Run {
    let Input { call, value } = input;
    let absent = || fail(no_endpoint());
    with_id(&call, &value, absent, |object, id, arn| {
        let refused = refused_as(&call, "GetEndpointAttributes", &arn, no_endpoint);
        subscription(SubscriptionTo::Inspect { id }, move |found| match found {
            Ok(found) if found.topic == Some(object) => {
                done([("Attributes", shown(&found.notes))].into())
            }
            Ok(_) => fail(no_endpoint()),
            Err(refusal) => fail(refused(&refusal)),
        })
    })
}

/// `SetEndpointAttributes`. Another token is what tells it from others from then on.
pub(crate) fn set_endpoint_attributes(input: Input) -> Run {
    let Input { call, value } = input;
    let attributes = topics::texts(value.map("Attributes"));
    let token = attributes.iter().find(|(name, _)| name == "Token");
    let token = token.map(|(_, token)| Bytes::copy_from_slice(token.as_bytes()));
    let absent = || fail(no_endpoint());
    with_id(&call, &value, absent, |object, id, arn| {
        let otherwise = refused_as(&call, "SetEndpointAttributes", &arn, no_endpoint);
        let refused = move |refusal: &session::Refusal| match refusal.kind {
            RefusalKind::InUse => {
                invalid("Token Reason: another endpoint already exists with the same Token")
            }
            _ => otherwise(refusal),
        };
        let change = move |found: &SubscriptionInfo| {
            if found.topic.as_ref() != Some(&object) {
                return Err(no_endpoint());
            }
            let mut notes = found.notes.clone();
            set_endpoint(&mut notes, &attributes)?;
            Ok(Some(Becomes {
                settings: found.settings.clone(),
                confirmed: found.confirmed,
                notes,
                identity: token.clone(),
            }))
        };
        alter_subscription(id, refused, change, |_| nothing())
    })
}

/// `DeleteEndpoint`: none is success.
pub(crate) fn delete_endpoint(input: Input) -> Run {
    let Input { call, value } = input;
    with_id(&call, &value, nothing, |object, id, arn| {
        let refused = refused_as(&call, "DeleteEndpoint", &arn, no_endpoint);
        subscription(SubscriptionTo::Inspect { id }, move |found| match found {
            Ok(found) if found.topic == Some(object) => subscription(
                SubscriptionTo::Delete { id },
                move |deleted| match deleted {
                    Ok(_) => nothing(),
                    Err(refusal) if refusal.kind == RefusalKind::NotFound => nothing(),
                    Err(refusal) => fail(refused(&refusal)),
                },
            ),
            Ok(_) => nothing(),
            Err(refusal) if refusal.kind == RefusalKind::NotFound => nothing(),
            Err(refusal) => fail(refused(&refusal)),
        })
    })
}

/// The platform of an application's object.
pub(crate) fn platform_of(object: &[u8]) -> String {
    let name = String::from_utf8_lossy(object);
    let rest = name.strip_prefix(APPLICATION).unwrap_or_default();
    rest.split('/').next().unwrap_or_default().to_owned()
}

/// Disables an endpoint whose token the platform does not know any more.
pub(crate) fn disabled(found: &SubscriptionInfo) -> SubscriptionTo {
    let mut notes = found.notes.clone();
    set_note(&mut notes, "Enabled", "false");
    SubscriptionTo::Alter {
        id: found.id,
        version: found.version,
        settings: found.settings.clone(),
        confirmed: found.confirmed,
        notes,
        identity: None,
    }
}
