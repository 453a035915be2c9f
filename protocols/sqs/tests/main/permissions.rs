//! AddPermission and RemovePermission.

use aws::{ApiError, Value};
use session::{QueueAttributes, QueueInfo};

use crate::client::{Client, made, map, queue};

fn add(label: &str, accounts: &[&str], actions: &[&str]) -> Value {
    let list = |texts: &[&str]| Value::List(texts.iter().map(|text| (*text).into()).collect());
    map([
        ("QueueUrl", "q".into()),
        ("Label", label.into()),
        ("AWSAccountIds", list(accounts)),
        ("Actions", list(actions)),
    ])
}

fn added(queue: &QueueInfo, input: Value) -> QueueInfo {
    let client = Client::default();
    let mut dialogue = client.call("AddPermission", input);
    dialogue.look(queue);
    let altered = made(&dialogue.declares());
    dialogue.output();
    altered
}

fn refused(queue: &QueueInfo, input: Value) -> ApiError {
    let client = Client::default();
    let mut dialogue = client.call("AddPermission", input);
    dialogue.look(queue);
    dialogue.error()
}

fn policy(queue: &QueueInfo) -> Option<&str> {
    let (_, policy) = queue.notes.iter().find(|(name, _)| name == "sqs.Policy")?;
    std::str::from_utf8(policy).ok()
}

#[test]
fn permissions_are_statements_of_the_policy() {
    let client = Client::default();
    let plain = queue("q", QueueAttributes::default());
    let one = added(&plain, add("account1", &["111111111111"], &["*"]));
    let two = added(
        &one,
        add(
            "account2",
            &["222222222222", "333333333333"],
            &["SendMessage", "ReceiveMessage"],
        ),
    );
    let arn = "arn:aws:sqs:us-east-1:000000000000:q";
    let first = format!(
        "{{\"Sid\":\"account1\",\"Effect\":\"Allow\",\"Principal\":{{\"AWS\":\"arn:aws:iam::111111111111:root\"}},\
         \"Action\":\"SQS:*\",\"Resource\":\"{arn}\"}}"
    );
    let second = format!(
        "{{\"Sid\":\"account2\",\"Effect\":\"Allow\",\"Principal\":{{\"AWS\":[\"arn:aws:iam::222222222222:root\",\
         \"arn:aws:iam::333333333333:root\"]}},\"Action\":[\"SQS:SendMessage\",\"SQS:ReceiveMessage\"],\"Resource\":\"{arn}\"}}"
    );
    let whole = |statements: &str| {
        format!(
            "{{\"Version\":\"2012-10-17\",\"Id\":\"{arn}/SQSDefaultPolicy\",\"Statement\":[{statements}]}}"
        )
    };
    assert_eq!(policy(&two), Some(&whole(&format!("{first},{second}"))[..]));
    let remove = |label: &str| map([("QueueUrl", "q".into()), ("Label", label.into())]);
    let mut dialogue = client.call("RemovePermission", remove("account2"));
    dialogue.look(&two);
    let left = made(&dialogue.declares());
    assert_eq!(policy(&left), Some(&whole(&first)[..]));
    let mut dialogue = client.call("RemovePermission", remove("account1"));
    dialogue.look(&left);
    assert_eq!(policy(&made(&dialogue.declares())), None);
    let mut dialogue = client.call("RemovePermission", remove("test"));
    dialogue.look(&plain);
    assert_eq!(
        dialogue.error().message,
        "Value test for parameter Label is invalid. Reason: can't find label on existing policy."
    );
}

#[test]
fn what_cannot_be_permitted_is_refused() {
    let plain = queue("q", QueueAttributes::default());
    let one = added(&plain, add("test", &["111111111111"], &["ReceiveMessage"]));
    let message = |input| refused(&one, input).message.into_owned();
    assert_eq!(
        message(add("test", &["111111111111"], &["SendMessage"])),
        "Value test for parameter Label is invalid. Reason: Already exists."
    );
    assert_eq!(
        message(add("two", &["111111111111"], &["RemovePermission"])),
        "Value SQS:RemovePermission for parameter ActionName is invalid. Reason: Only the queue owner is allowed to invoke this \
         action."
    );
    assert_eq!(
        message(add("two", &["111111111111"], &[])),
        "The request must contain the parameter Actions."
    );
    assert_eq!(
        message(add("two", &[], &["SendMessage"])),
        "Value [] for parameter PrincipalId is invalid. Reason: Unable to verify."
    );
    let many = refused(&one, add("two", &["111111111111"], &["SendMessage"; 8]));
    assert_eq!((&many.code[..], many.status), ("OverLimit", 403));
    assert_eq!(many.message, "8 Actions were found, maximum allowed is 7.");
    assert!(message(add("two", &["111111111111"], &["Fly"])).contains("SQS:Fly"));
}

#[test]
fn a_policy_that_could_not_be_judged_is_refused() {
    let client = Client::default();
    let set = |policy: &str| {
        let attributes = map([("Policy", policy.into())]);
        map([("QueueUrl", "q".into()), ("Attributes", attributes)])
    };
    let statement = |rest: &str| {
        format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Deny","Principal":"*","Action":"sqs:*"{rest}}}]}}"#
        )
    };
    let mut dialogue = client.call("SetQueueAttributes", set(&statement("")));
    dialogue.look(&queue("q", QueueAttributes::default()));
    assert_eq!(
        policy(&made(&dialogue.declares())),
        Some(&statement("")[..])
    );
    dialogue.output();

    let many: Vec<&str> = [r#"{"Effect":"Deny","Principal":"*","Action":"*"}"#; 21].into();
    for (text, reason) in [
        (
            "{",
            "the policy is not a JSON object, or is nested deeper than 64.",
        ),
        (
            &statement(r#","Condition":{"StringEquals":{"aws:PrincipalOrgID":"o-1"}}"#),
            "Condition key aws:PrincipalOrgID is not supported.",
        ),
        (
            r#"{"Statement":{"Effect":"Deny","Principal":"*","Action":"sns:Publish"}}"#,
            "policy statement action out of service scope: sns:Publish.",
        ),
        (
            &format!(r#"{{"Statement":[{}]}}"#, many.join(",")),
            "the policy has more than 20 statements.",
        ),
        (
            &statement(&format!(r#","Sid":"{}""#, "x".repeat(8192))),
            "the policy is longer than 8192 bytes.",
        ),
    ] {
        let mut dialogue = client.call("SetQueueAttributes", set(text));
        dialogue.look(&queue("q", QueueAttributes::default()));
        let error = dialogue.error();
        assert_eq!(error.code, "InvalidAttributeValue");
        assert_eq!(
            error.message,
            format!("Invalid value for the parameter Policy. Reason: {reason}")
        );
    }
}

#[test]
fn a_permission_makes_no_policy_longer_than_one_may_be() {
    let accounts: Vec<String> = (0..100).map(|n| format!("{n:012}")).collect();
    let accounts: Vec<&str> = accounts.iter().map(String::as_str).collect();
    let plain = queue("q", QueueAttributes::default());
    let one = added(&plain, add("one", &accounts, &["SendMessage"]));
    let two = added(&one, add("two", &accounts, &["SendMessage"]));
    let error = refused(&two, add("three", &accounts, &["SendMessage"]));
    assert_eq!(error.code, "InvalidParameterValue");
    assert!(error.message.contains("8192 bytes"), "{}", error.message);
}
