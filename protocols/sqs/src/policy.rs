//! AddPermission and RemovePermission: statements of the queue's `Policy`, which is checked when it is set. `guard.rs` asks it.

use aws::{Answer, ApiError, Input, policy::Policy};
use message::Value;
use session::Flow;

use crate::{
    asked::{Made, alter, failed},
    queue, words,
};

const NAME: &str = "Policy";
/// Most actions of one statement.
const ACTIONS_MAX: usize = 7;
/// Most statements.
const STATEMENTS_MAX: usize = 20;
/// The longest label.
const LABEL_LEN_MAX: usize = 80;

/// Actions that others than the owner can be allowed.
pub(crate) const ACTIONS: &[&str] = &[
    "*",
    "SendMessage",
    "ReceiveMessage",
    "DeleteMessage",
    "ChangeMessageVisibility",
    "GetQueueAttributes",
    "GetQueueUrl",
    "ListDeadLetterSourceQueues",
    "PurgeQueue",
];

/// The longest policy, in bytes.
const LEN_MAX: usize = 8192;

/// Whether a text can be a policy: see [`Policy::read`].
pub(crate) fn check(text: &str) -> Result<(), ApiError> {
    let wrong = |reason: String| Err(words::invalid_attribute_because(NAME, &reason));
    if text.len() > LEN_MAX {
        return wrong(format!("the policy is longer than {LEN_MAX} bytes."));
    }
    match Policy::read(text, "sqs") {
        Ok(policy) if policy.len() > STATEMENTS_MAX => wrong(format!(
            "the policy has more than {STATEMENTS_MAX} statements."
        )),
        Ok(_) => Ok(()),
        Err(fault) => wrong(format!("{fault}.")),
    }
}

fn text(text: &str) -> Value {
    Value::text(text)
}

fn map(members: Vec<(&str, Value)>) -> Value {
    let members = members.into_iter();
    Value::Map(members.map(|(name, value)| (text(name), value)).collect())
}

/// One value alone, several as a list.
fn one_or_many(mut values: Vec<Value>) -> Value {
    match values.len() {
        1 => values.remove(0),
        _ => Value::List(values),
    }
}

/// A policy as a queue keeps it, to be changed.
struct Written {
    /// Version, id, and whatever else there is.
    members: Vec<(Value, Value)>,
    statements: Vec<Value>,
}

impl Written {
    const STATEMENT: &str = "Statement";

    fn of(made: &Made, arn: &str) -> Self {
        let kept = made
            .note(NAME)
            .map(str::as_bytes)
            .and_then(Value::from_json);
        let Some(Value::Map(kept)) = kept else {
            return Self {
                members: vec![
                    (text("Version"), text("2012-10-17")),
                    (text("Id"), text(&format!("{arn}/SQSDefaultPolicy"))),
                ],
                statements: Vec::new(),
            };
        };
        let is_statement = |(name, _): &(Value, Value)| name.as_str() == Some(Self::STATEMENT);
        let (said, members): (Vec<_>, Vec<_>) = kept.into_iter().partition(is_statement);
        let statements = match said.into_iter().next_back() {
            Some((_, Value::List(statements))) => statements,
            // A single one need not be in a list.
            Some((_, statement)) => vec![statement],
            None => Vec::new(),
        };
        Self {
            members,
            statements,
        }
    }

    fn into_json(mut self) -> String {
        let statements = Value::List(self.statements);
        self.members.push((text(Self::STATEMENT), statements));
        Value::Map(self.members).to_json()
    }
}

fn label_of(statement: &Value) -> Option<&str> {
    let Value::Map(members) = statement else {
        return None;
    };
    let (_, label) = members
        .iter()
        .find(|(name, _)| name.as_str() == Some("Sid"))?;
    label.as_str()
}

fn texts(input: &Input, name: &str) -> Vec<String> {
    let texts = input.value.list(name).iter();
    texts
        .filter_map(|value| match value {
            aws::Value::Text(text) => Some(text.clone()),
            _ => None,
        })
        .collect()
}

/// What AddPermission adds.
struct Permission {
    label: String,
    accounts: Vec<String>,
    actions: Vec<String>,
}

impl Permission {
    fn of(input: &Input) -> Self {
        Self {
            label: input.value.text("Label").unwrap_or_default().to_owned(),
            accounts: texts(input, "AWSAccountIds"),
            actions: texts(input, "Actions"),
        }
    }

    fn check(&self) -> Result<(), ApiError> {
        let Self {
            label,
            accounts,
            actions,
        } = self;
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if label.is_empty() || label.len() > LABEL_LEN_MAX || !label.bytes().all(legal) {
            return Err(words::invalid(
                "Label",
                label,
                "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length.",
            ));
        }
        if actions.is_empty() {
            return Err(words::missing("Actions"));
        }
        let is_account =
            |it: &String| it.len() == 12 && it.bytes().all(|byte| byte.is_ascii_digit());
        if accounts.is_empty() || !accounts.iter().all(is_account) {
            let shown = format!("[{}]", accounts.join(", "));
            return Err(words::invalid("PrincipalId", shown, "Unable to verify."));
        }
        if actions.len() > ACTIONS_MAX {
            return Err(words::too_many_actions(actions.len()));
        }
        for action in actions {
            if ACTIONS.contains(&&action[..]) {
                continue;
            }
            let known = crate::SERVICE.operations.iter().any(|it| it.name == action);
            let reason = if known {
                "Only the queue owner is allowed to invoke this action."
            } else {
                "Please refer to the appropriate WSDL for a list of valid actions."
            };
            return Err(words::invalid(
                "ActionName",
                format!("SQS:{action}"),
                reason,
            ));
        }
        Ok(())
    }

    fn statement(&self, arn: &str) -> Value {
        let principals = self
            .accounts
            .iter()
            .map(|account| text(&format!("arn:aws:iam::{account}:root")));
        let actions = self
            .actions
            .iter()
            .map(|action| text(&format!("SQS:{action}")));
        map(vec![
            ("Sid", text(&self.label)),
            ("Effect", text("Allow")),
            (
                "Principal",
                map(vec![("AWS", one_or_many(principals.collect()))]),
            ),
            ("Action", one_or_many(actions.collect())),
            ("Resource", text(arn)),
        ])
    }
}

pub(crate) fn add(input: Input) -> Flow<Answer> {
    let name = match queue::of_input(&input) {
        Ok(name) => name,
        Err(error) => return failed(error),
    };
    let permission = Permission::of(&input);
    let arn = queue::arn(&input.call, &name);
    alter(name, move |_, made, _| {
        let mut policy = Written::of(made, &arn);
        if policy
            .statements
            .iter()
            .any(|it| label_of(it) == Some(&permission.label))
        {
            return Err(words::invalid(
                "Label",
                &permission.label,
                "Already exists.",
            ));
        }
        permission.check()?;
        if policy.statements.len() >= STATEMENTS_MAX {
            let reason = format!("the policy has {STATEMENTS_MAX} statements.");
            return Err(words::invalid("Label", &permission.label, reason));
        }
        policy.statements.push(permission.statement(&arn));
        let policy = policy.into_json();
        if policy.len() > LEN_MAX {
            let reason = format!("the policy would be longer than {LEN_MAX} bytes.");
            return Err(words::invalid("Label", &permission.label, reason));
        }
        made.keep(NAME, Some(&policy));
        Ok(())
    })
}

pub(crate) fn remove(input: Input) -> Flow<Answer> {
    let name = match queue::of_input(&input) {
        Ok(name) => name,
        Err(error) => return failed(error),
    };
    let label = input.value.text("Label").unwrap_or_default().to_owned();
    let arn = queue::arn(&input.call, &name);
    alter(name, move |_, made, _| {
        let mut policy = Written::of(made, &arn);
        let before = policy.statements.len();
        policy.statements.retain(|it| label_of(it) != Some(&label));
        if policy.statements.len() == before {
            return Err(words::invalid(
                "Label",
                &label,
                "can't find label on existing policy.",
            ));
        }
        if policy.statements.is_empty() {
            made.keep(NAME, None);
        } else {
            made.keep(NAME, Some(&policy.into_json()));
        }
        Ok(())
    })
}
