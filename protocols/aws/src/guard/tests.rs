//! A table: policies, and whom they let in.

use std::sync::Arc;

use bytes::Bytes;
use message::{Timestamp, VhostId};
use session::{Flow, Secret};

use super::*;
use crate::{Answer, Settings, Shape};

const OWNER: &str = "111111111111";
const OTHER: &str = "222222222222";
const ARN: &str = "arn:aws:toys:us-east-1:111111111111:ball";

static GUARD: Guard = Guard {
    owner: |_, _, _| None,
    subject: |operation, input| {
        let name = input.value.text("Name")?.to_owned();
        (operation.name != "List").then(|| Subject::whole(Object::Queue, name.into()))
    },
    deeds: |operation, _| match operation.name {
        "Juggle" => vec![
            ("Kick", Subject::whole(Object::Queue, "ball".into())),
            ("Look", Subject::whole(Object::Queue, "bell".into())),
        ],
        _ => Vec::new(),
    },
    note: |_| Cow::Borrowed("policy"),
    arn: |call, subject, _| call.arn("toys", &String::from_utf8_lossy(&subject.name)),
    opened: &["Kick", "Look"],
    seeing: &["End"],
    keys: &[("toys:Colour", "Colour")],
    barred: |call, action, arn, barred| {
        let who = call.caller_arn();
        let because = barred.because(action);
        ApiError::sender("Barred", format!("{who} {action} {arn} {because}"))
    },
};

/// A ball with a policy, or none.
struct Toys(Option<Bytes>);

impl Kept for Toys {
    fn note(&self, _: VhostId, object: Object, name: &Name, note: &str) -> Option<Bytes> {
        let is_ball = object == Object::Queue && name == "ball" && note == "policy";
        self.0.clone().filter(|_| is_ball)
    }
}

fn input(account: &str, manners: Manners, name: &str) -> Input {
    let call = Call {
        account: OWNER.into(),
        region: "us-east-1".into(),
        caller_account: account.into(),
        vhost: VhostId::ROOT,
        vhost_name: "/".into(),
        vhost_of: |_, _, _| None,
        user: "ann".into(),
        access_key: "k".into(),
        base_url: "http://b".into(),
        path: "/".into(),
        request_id: "r".into(),
        // 2026-03-01T12:00:00Z.
        now: Timestamp(1_772_366_400_000),
        random: [9; 32],
        secret: Secret([3; 32]),
        settings: Arc::new(Settings {
            manners,
            ..Settings::default()
        }),
        judge: Judge::default(),
    };
    Input {
        call: Arc::new(call),
        value: Value::from([("Name", name.into()), ("Colour", "red".into())]),
    }
}

fn admitted(operation: &'static str, input: &Input, policy: Option<&str>) -> Result<(), String> {
    let operation = Operation::new(operation, &Shape::EMPTY, &Shape::EMPTY, |_| {
        Flow::Done(Answer::End)
    });
    let origin = Origin {
        address: "::ffff:10.1.2.3".parse().expect("an address"),
        secure: true,
        agent: Some(HeaderValue::from_static("boto3/1")),
    };
    let toys = Toys(policy.map(|policy| Bytes::copy_from_slice(policy.as_bytes())));
    let kept: Arc<dyn Kept> = Arc::new(toys);
    let known = Arc::new(Known::new(|_, _| {}));
    let input = Input {
        call: Arc::new(Call {
            judge: Judge::new(origin, &kept, &known),
            ..(*input.call).clone()
        }),
        value: input.value.clone(),
    };
    let admitted = GUARD.admit("toys", &operation, &input);
    admitted.map_err(|error| error.message.into_owned())
}

fn policy(effect: &str, action: &str, condition: &str) -> String {
    format!(
        r#"{{"Version":"2012-10-17","Statement":{{"Effect":"{effect}","Principal":"*","Action":"{action}","Condition":{condition}}}}}"#
    )
}

#[test]
fn ones_own_are_let_in_unless_denied_and_others_if_allowed() {
    let allow = |action: &str| policy("Allow", action, "{}");
    let deny = |action: &str| policy("Deny", action, "{}");
    for (operation, policy, own, other) in [
        ("Kick", None, true, false),
        ("Kick", Some("no policy".to_owned()), true, false),
        ("Kick", Some(allow("toys:Kick")), true, true),
        ("Kick", Some(allow("toys:Look")), true, false),
        ("Kick", Some(deny("toys:Look")), true, false),
        ("Kick", Some(deny("toys:Kick")), false, false),
        ("KickBatch", Some(allow("toys:Kick")), true, true),
        ("KickBatch", Some(deny("toys:Kick")), false, false),
        // What the service lets nobody else do, and what sees for itself.
        ("Burst", Some(allow("*")), true, false),
        ("Burst", Some(deny("*")), false, false),
        ("End", None, true, true),
        ("End", Some(deny("toys:End")), false, false),
        // About nothing that has a policy.
        ("List", Some(allow("*")), true, false),
        ("List", Some(deny("*")), true, false),
    ] {
        let policy = policy.as_deref();
        let is_in = |account, manners| {
            admitted(operation, &input(account, manners, "ball"), policy).is_ok()
        };
        assert_eq!(
            is_in(OWNER, Manners::Standard),
            own,
            "{operation} {policy:?}"
        );
        assert_eq!(
            is_in(OTHER, Manners::Standard),
            other,
            "{operation} {policy:?}"
        );
        assert!(is_in(OWNER, Manners::Moto) && is_in(OTHER, Manners::Moto));
    }
    // Another one's policy.
    let other = input(OTHER, Manners::Standard, "bell");
    assert!(admitted("Kick", &other, Some(&allow("*"))).is_err());
}

/// An operation that does others is let in if each of them is.
#[test]
fn what_an_operation_does_besides_is_judged_too() {
    let own = input(OWNER, Manners::Standard, "ball");
    let juggled = |policy: Option<String>| admitted("Juggle", &own, policy.as_deref());
    let deny = |action: &str| Some(policy("Deny", action, "{}"));
    assert_eq!(juggled(None), Ok(()));
    // The bell has no policy.
    assert_eq!(juggled(deny("toys:Look")), Ok(()));
    for action in ["toys:Juggle", "toys:Kick"] {
        let error = juggled(deny(action)).expect_err("it is denied");
        let wanted = format!("{action} {ARN} with an explicit deny in a resource-based policy");
        assert!(error.ends_with(&wanted), "{error}");
    }
    // Of another account nobody may, whatever the policy says of the parts.
    let other = input(OTHER, Manners::Standard, "ball");
    let allow = policy("Allow", "*", "{}");
    assert!(admitted("Juggle", &other, Some(&allow)).is_err());
}

#[test]
fn where_a_request_came_from_is_asked_for() {
    for (condition, holds) in [
        (r#"{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}"#, true),
        (r#"{"IpAddress":{"aws:SourceIp":"11.0.0.0/8"}}"#, false),
        (r#"{"Bool":{"aws:SecureTransport":"true"}}"#, true),
        (r#"{"StringLike":{"aws:UserAgent":"boto3/*"}}"#, true),
        (
            r#"{"StringEquals":{"aws:PrincipalAccount":"222222222222"}}"#,
            true,
        ),
        (r#"{"StringEquals":{"aws:username":"bob"}}"#, false),
        (r#"{"DateLessThan":{"aws:CurrentTime":"2026-03-02"}}"#, true),
        (
            r#"{"DateLessThan":{"aws:CurrentTime":"2026-03-01"}}"#,
            false,
        ),
        // Nobody calls on behalf of a topic.
        (r#"{"Null":{"aws:SourceArn":"true"}}"#, true),
    ] {
        let policy = policy("Allow", "*", condition);
        let other = input(OTHER, Manners::Standard, "ball");
        let admitted = admitted("Kick", &other, Some(&policy));
        assert_eq!(admitted.is_ok(), holds, "{condition}: {admitted:?}");
    }
}

#[test]
fn a_refusal_says_who_and_why() {
    let other = input(OTHER, Manners::Standard, "ball");
    assert_eq!(
        admitted("KickBatch", &other, None),
        Err(format!(
            "arn:aws:iam::222222222222:user/ann toys:Kick {ARN} because no resource-based policy allows the toys:Kick action"
        ))
    );
    assert_eq!(
        admitted("Kick", &other, Some(&policy("Deny", "*", "{}"))),
        Err(format!(
            "arn:aws:iam::222222222222:user/ann toys:Kick {ARN} with an explicit deny in a resource-based policy"
        ))
    );
}
