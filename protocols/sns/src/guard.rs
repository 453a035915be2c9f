//! Which topic a request is about, for the policy that guards it (`aws::Guard`).
//!
//! A subscription has no policy: it is of the topic's account and of whoever made it, so its operations look whose it is.

use std::borrow::Cow;

use aws::{ApiError, Call, Guard, Input, Operation, Subject, Value};
use session::{Object, SubscriptionInfo};

use crate::{
    faults,
    names::{self, Arn},
    permissions::ACTIONS,
    steps::note,
};

/// The note in which a topic's policy is.
pub(crate) const NOTE: &str = "Policy";

/// How topics are guarded.
pub(crate) static GUARD: Guard = Guard {
    owner,
    subject,
    deeds: |_, _| Vec::new(),
    note: |_| Cow::Borrowed(NOTE),
    arn: |call, subject, _| call.arn("sns", &String::from_utf8_lossy(&subject.name)),
    // AWS opens to others what AddPermission can give them.
    opened: &ACTIONS,
    seeing: &[
        "ConfirmSubscription",
        "GetSubscriptionAttributes",
        "SetSubscriptionAttributes",
        "Unsubscribe",
    ],
    keys: &[("sns:Endpoint", "Endpoint"), ("sns:Protocol", "Protocol")],
    barred: |call, action, arn, why| {
        let action = action.replacen("sns:", "SNS:", 1);
        faults::barred(call, &action, arn, &format!(" {}", why.because(&action)))
    },
};

/// The ARN of the topic that an input is about: the member that its operation has.
fn topic_arn(value: &Value) -> Option<&str> {
    ["TopicArn", "TargetArn", "ResourceArn"]
        .into_iter()
        .find_map(|member| value.text(member).filter(|arn| !arn.is_empty()))
}

fn owner<'a>(_: &Operation, _: &'a str, value: &'a Value) -> Option<(&'a str, Option<&'a str>)> {
    let topic = topic_arn(value);
    let arn = Arn::read(topic.or_else(|| value.text("SubscriptionArn"))?, "").ok()?;
    // Applications and their endpoints are for their own account.
    let is_topic = arn.service == "sns" && !arn.resource.contains('/');
    is_topic.then_some((arn.account, Some(arn.region)))
}

fn subject(_: &Operation, input: &Input) -> Option<Subject> {
    let name = names::topic_name(&input.call, topic_arn(&input.value)?, "").ok()??;
    Some(Subject::whole(Object::Topic, name))
}

/// Whether a subscription is the caller's: its topic is, or he has made it.
pub(crate) fn is_of_caller(call: &Call, found: &SubscriptionInfo) -> bool {
    !call.is_across() || note(&found.notes, "Owner") == Some(&*call.caller_account)
}

/// It is not.
pub(crate) fn not_of_caller(call: &Call, operation: &str, arn: &str) -> ApiError {
    faults::barred(call, &format!("SNS:{operation}"), arn, "")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use aws::Settings;
    use message::{Timestamp, VhostId};
    use session::Secret;

    use super::*;

    fn about(operation: &str, value: Value) -> (Option<String>, Option<String>) {
        let mut operations = crate::SERVICE.operations.iter();
        let operation = operations.find(|it| it.name == operation);
        let operation = operation.expect("an operation of the service");
        let owner = owner(operation, "/", &value);
        let owner = owner.map(|(account, region)| format!("{account} {}", region.unwrap_or("-")));
        let call = Call {
            account: "000000000000".into(),
            region: "us-east-1".into(),
            caller_account: "222222222222".into(),
            vhost: VhostId::ROOT,
            vhost_name: "/".into(),
            vhost_of: |call, account, _| {
                (account == &*call.account).then(|| Arc::clone(&call.vhost_name))
            },
            user: "ann".into(),
            access_key: "k".into(),
            base_url: "http://b".into(),
            path: "/".into(),
            request_id: "r".into(),
            now: Timestamp(1),
            random: [9; 32],
            secret: Secret([3; 32]),
            settings: Arc::new(Settings::default()),
            judge: aws::Judge::default(),
        };
        let input = Input {
            call: Arc::new(call),
            value,
        };
        let name = subject(operation, &input).map(|subject| {
            assert_eq!((subject.object, &subject.part), (Object::Topic, &None));
            String::from_utf8(subject.name.to_vec()).expect("text")
        });
        (name, owner)
    }

    #[test]
    fn each_operation_is_about_the_topic_that_it_names() {
        let text = |text: &str| Some(text.to_owned());
        let one = |member: &'static str, arn: &str| Value::from([(member, arn.into())]);
        let topic = "arn:aws:sns:us-east-1:000000000000:news";
        let id = "00000000-0000-0000-0000-000000000000";
        let subscription = format!("{topic}:{id}");
        let endpoint = "arn:aws:sns:us-east-1:000000000000:endpoint/GCM/a/b";
        let (news, home) = (text("news"), text("000000000000 us-east-1"));
        for (operation, value, named, owner) in [
            (
                "Publish",
                one("TopicArn", topic),
                news.clone(),
                home.clone(),
            ),
            (
                "Publish",
                one("TargetArn", topic),
                news.clone(),
                home.clone(),
            ),
            (
                "PublishBatch",
                one("TopicArn", topic),
                news.clone(),
                home.clone(),
            ),
            ("TagResource", one("ResourceArn", topic), news, home.clone()),
            ("Publish", one("TargetArn", endpoint), None, None),
            ("Publish", one("PhoneNumber", "+491"), None, None),
            ("Publish", one("TopicArn", "news"), None, None),
            (
                "Unsubscribe",
                one("SubscriptionArn", &subscription),
                None,
                home,
            ),
            ("ListTopics", Value::empty(), None, None),
            (
                "Publish",
                one("TopicArn", "arn:aws:sns:eu-west-1:222222222222:news"),
                None,
                text("222222222222 eu-west-1"),
            ),
        ] {
            assert_eq!(
                about(operation, value.clone()),
                (named, owner),
                "{operation} {value:?}"
            );
        }
    }
}
