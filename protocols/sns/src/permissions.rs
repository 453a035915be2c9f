//! The policy of a topic: AddPermission and RemovePermission work on its statements.
//!
//! It is checked when it is set, and shown as tools expect it. `guard.rs` asks it who may do what.

use aws::{
    ApiError, Input, Manners, Value,
    policy::{Policy, PolicyFault},
};
use message::Value as Json;
use session::Notes;

use crate::{
    faults::{invalid, plain},
    json::{member, members, object},
    steps::{Run, fail, note, set_note},
    topics,
};

/// The longest policy, in bytes.
const LEN_MAX: usize = 30_720;

/// What a statement may allow.
pub(crate) const ACTIONS: [&str; 9] = [
    "GetTopicAttributes",
    "SetTopicAttributes",
    "AddPermission",
    "RemovePermission",
    "DeleteTopic",
    "Subscribe",
    "ListSubscriptionsByTopic",
    "Publish",
    "Receive",
];

fn text(text: &str) -> Json {
    Json::text(text)
}

fn map(pairs: Vec<(&str, Json)>) -> Json {
    let pairs = pairs.into_iter().map(|(name, value)| (text(name), value));
    Json::Map(pairs.collect())
}

/// One value as itself, several as a list.
fn one_or_list(mut values: Vec<Json>) -> Json {
    match (values.len(), values.pop()) {
        (1, Some(value)) => value,
        (_, Some(last)) => {
            values.push(last);
            Json::List(values)
        }
        (_, None) => Json::List(values),
    }
}

/// A policy in its shortest form, if it is one: see [`Policy::read`]. With the manners of moto any JSON object is.
pub(crate) fn checked(policy: &str, manners: Manners) -> Result<String, ApiError> {
    let short = topics::compact(policy).filter(|it| it.len() <= LEN_MAX);
    let short = short.ok_or_else(|| invalid("Policy Error: null"))?;
    match Policy::read(&short, "sns") {
        Err(_) if manners == Manners::Moto => Ok(short),
        Ok(_) => Ok(short),
        Err(PolicyFault::OutOfScope(_)) => {
            Err(invalid("Policy statement action out of service scope!"))
        }
        Err(fault) => Err(invalid(format!("Policy Error: {fault}"))),
    }
}

/// Gives a topic that has no policy the one that AWS gives it: its owner may do everything.
pub(crate) fn fill_in(notes: &mut Notes, arn: &str) {
    if note(notes, "Policy").is_some() {
        return;
    }
    let account = arn.split(':').nth(4).unwrap_or_default();
    let actions = ACTIONS[..8]
        .iter()
        .map(|action| text(&format!("SNS:{action}")));
    let statement = map(vec![
        ("Effect", text("Allow")),
        ("Sid", text("__default_statement_ID")),
        ("Principal", map(vec![("AWS", text("*"))])),
        ("Action", Json::List(actions.collect())),
        ("Resource", text(arn)),
        (
            "Condition",
            map(vec![(
                "StringEquals",
                map(vec![("AWS:SourceOwner", text(account))]),
            )]),
        ),
    ]);
    let policy = map(vec![
        ("Version", text("2008-10-17")),
        ("Id", text("__default_policy_ID")),
        ("Statement", Json::List(vec![statement])),
    ]);
    set_note(notes, "Policy", &policy.to_json());
}

/// The statements of a policy, and the rest of it.
fn open(policy: &str) -> (Vec<(String, Json)>, Vec<Json>) {
    let mut rest = object(policy).unwrap_or_default();
    let statements = match member(&rest, "Statement") {
        Some(Json::List(statements)) => statements.clone(),
        Some(single) => vec![single.clone()],
        None => Vec::new(),
    };
    rest.retain(|(name, _)| name != "Statement");
    (rest, statements)
}

fn close(rest: Vec<(String, Json)>, statements: Vec<Json>) -> String {
    let mut pairs: Vec<(Json, Json)> = rest
        .into_iter()
        .map(|(name, value)| (text(&name), value))
        .collect();
    pairs.push((text("Statement"), Json::List(statements)));
    Json::Map(pairs).to_json()
}

fn is_labelled(statement: &Json, label: &str) -> bool {
    members(statement.clone())
        .is_some_and(|it| member(&it, "Sid").and_then(Json::as_str) == Some(label))
}

fn list(values: &[Value]) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    };
    values.iter().filter_map(text).collect()
}

/// `AddPermission`.
pub(crate) fn add(input: Input) -> Run {
    let Input { call, value } = input;
    let arn = value.text("TopicArn").unwrap_or_default().to_owned();
    let label = value.text("Label").unwrap_or_default().to_owned();
    let accounts = list(value.list("AWSAccountId"));
    let actions = list(value.list("ActionName"));
    if label.is_empty() || accounts.is_empty() || actions.is_empty() {
        return fail(invalid(
            "Label, AWSAccountId and ActionName must not be empty",
        ));
    }
    let is_account = |it: &String| it.len() == 12 && it.bytes().all(|byte| byte.is_ascii_digit());
    if !accounts.iter().all(is_account) {
        return fail(invalid(
            "AWSAccountId Reason: not an account of twelve digits",
        ));
    }
    topics::alter(&call, "AddPermission", &arn.clone(), move |found| {
        let (rest, mut statements) = open(note(&found.notes, "Policy").unwrap_or_default());
        if statements.iter().any(|it| is_labelled(it, &label)) {
            return Err(plain("Statement already exists"));
        }
        if actions.iter().any(|action| !ACTIONS.contains(&&action[..])) {
            return Err(plain("Policy statement action out of service scope!"));
        }
        let principals = accounts
            .iter()
            .map(|account| text(&format!("arn:aws:iam::{account}:root")));
        let allowed = actions.iter().map(|action| text(&format!("SNS:{action}")));
        statements.push(map(vec![
            ("Sid", text(&label)),
            ("Effect", text("Allow")),
            (
                "Principal",
                map(vec![("AWS", one_or_list(principals.collect()))]),
            ),
            ("Action", one_or_list(allowed.collect())),
            ("Resource", text(&arn)),
        ]));
        let mut notes = found.notes.clone();
        set_note(&mut notes, "Policy", &close(rest, statements));
        Ok(Some((found.fifo, notes)))
    })
}

/// `RemovePermission`: a label that is not there is no error.
pub(crate) fn remove(input: Input) -> Run {
    let Input { call, value } = input;
    let arn = value.text("TopicArn").unwrap_or_default();
    let label = value.text("Label").unwrap_or_default().to_owned();
    topics::alter(&call, "RemovePermission", arn, move |found| {
        let (rest, mut statements) = open(note(&found.notes, "Policy").unwrap_or_default());
        let before = statements.len();
        statements.retain(|it| !is_labelled(it, &label));
        if statements.len() == before {
            return Ok(None);
        }
        let mut notes = found.notes.clone();
        set_note(&mut notes, "Policy", &close(rest, statements));
        Ok(Some((found.fifo, notes)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(policy: &str) -> String {
        let error = checked(policy, Manners::Standard).expect_err(policy);
        assert_eq!(error.code, "InvalidParameter");
        error.message.into_owned()
    }

    #[test]
    fn a_policy_that_could_not_be_judged_is_refused() {
        let mut notes = Notes::new();
        fill_in(&mut notes, "arn:aws:sns:us-east-1:111111111111:news");
        let default = note(&notes, "Policy").expect("filled in");
        assert_eq!(
            checked(default, Manners::Standard).ok().as_deref(),
            Some(default)
        );
        assert_eq!(
            checked(r#"{ "Statement": [] }"#, Manners::Standard).ok(),
            Some(r#"{"Statement":[]}"#.to_owned())
        );
        assert_eq!(refusal("[]"), "Invalid parameter: Policy Error: null");
        assert_eq!(
            refusal(r#"{"foo":"bar"}"#),
            "Invalid parameter: Policy Error: unknown or repeated element foo"
        );
        assert_eq!(
            refusal(
                r#"{"Statement":{"Effect":"Deny","Principal":"*","Action":"sqs:SendMessage"}}"#
            ),
            "Invalid parameter: Policy statement action out of service scope!"
        );
        let long = "x".repeat(LEN_MAX);
        assert_eq!(
            refusal(&format!(r#"{{"Id":"{long}","Statement":[]}}"#)),
            "Invalid parameter: Policy Error: null"
        );
        assert!(checked(r#"{"foo":"bar"}"#, Manners::Moto).is_ok());
        assert!(checked("[]", Manners::Moto).is_err());
    }
}
