//! Resource policies: documents in IAM's language, read once and judged often (IAM User Guide, "Policy evaluation logic" and
//! "IAM JSON policy elements").
//!
//! [`Policy::read`] takes only what [`Policy::judge`] can judge: an element, an operator, a condition key or a kind of principal that
//! is not known here is refused when the policy is set, never passed over, since passing over a condition opens what it should close.
//!
//! | of a statement | how it is judged |
//! |---|---|
//! | `Principal`, `NotPrincipal` | `*`; `AWS`: an account, its root, a user; `Service`. Roles, federated and canonical users are refused |
//! | `Action`, `NotAction` | patterns, whatever the case; `SendMessageBatch` and its like are judged as the single action |
//! | `Resource`, `NotResource` | patterns; neither: the resource that has the policy |
//! | `Condition` | see `policy/condition.rs` |
//!
//! Requests are judged by them in `guard.rs`, what a topic brings to a queue in the crate of SNS.
//!
//! Policy variables (`${aws:username}`) are refused. What a verdict means is the service's: see [`Verdict`].

mod condition;
mod known;

use message::{Timestamp, VALUE_DEPTH_MAX, Value};

use self::condition::Condition;
pub use self::known::{Known, Unreadable};

/// The note in which the policy of an SQS queue is.
pub const QUEUE_NOTE: &str = "sqs.Policy";

/// Why a text is no policy that can be judged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyFault {
    /// It is no JSON object.
    #[error("the policy is not a JSON object, or is nested deeper than {VALUE_DEPTH_MAX}")]
    NotJson,
    /// An element that policies have not, or one twice.
    #[error("unknown or repeated element {0}")]
    Element(String),
    /// A statement without one of these.
    #[error("missing required field {0}")]
    Missing(&'static str),
    /// A value that an element cannot have.
    #[error("invalid value for {element}: {value}")]
    Invalid {
        /// The element.
        element: &'static str,
        /// The value.
        value: String,
    },
    /// An action of another service.
    #[error("policy statement action out of service scope: {0}")]
    OutOfScope(String),
    /// What IAM knows and this does not.
    #[error("{element} {value} is not supported")]
    Unsupported {
        /// The element.
        element: &'static str,
        /// What it says.
        value: String,
    },
}

fn invalid(element: &'static str, value: &str) -> PolicyFault {
    PolicyFault::Invalid {
        element,
        value: value.to_owned(),
    }
}

fn unsupported(element: &'static str, value: &str) -> PolicyFault {
    PolicyFault::Unsupported {
        element,
        value: value.to_owned(),
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Principal<'a> {
    /// A user of an account.
    User {
        /// The account.
        account: &'a str,
        /// The user's name.
        user: &'a str,
    },
    /// An account as a whole, whichever of its users it was.
    Account(&'a str),
    /// A service on its own behalf: `sns.amazonaws.com`.
    Service(&'a str),
}

/// A question to a policy.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// Who asks.
    pub principal: Principal<'a>,
    /// What for: `sqs:SendMessage`.
    pub action: &'a str,
    /// The ARN of what.
    pub resource: &'a str,
    /// When.
    pub now: Timestamp,
    /// Values of further condition keys, by their names in any case: `aws:SourceArn`. What the principal and the time say of themselves
    /// is not among them.
    pub keys: &'a [(&'a str, &'a str)],
}

/// What a policy says. A denial counts before all allowances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A statement denies it.
    Denied,
    /// A statement allows it, and none denies it.
    Allowed,
    /// No statement is about it.
    Silent,
}

/// A policy that can be judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    statements: Vec<Statement>,
}

#[derive(Clone, Debug, PartialEq)]
struct Statement {
    allow: bool,
    principals: Listed<Named>,
    actions: Listed<String>,
    /// `None`: the resource that has the policy.
    resources: Option<Listed<String>>,
    conditions: Vec<Condition>,
}

/// One of a list, or none of it.
#[derive(Clone, Debug, PartialEq)]
struct Listed<T> {
    not: bool,
    list: Vec<T>,
}

impl<T> Listed<T> {
    fn has(&self, is: impl Fn(&T) -> bool) -> bool {
        self.list.iter().any(is) != self.not
    }
}

/// A principal as a policy names it.
#[derive(Clone, Debug, PartialEq)]
enum Named {
    Anyone,
    Account(String),
    User { account: String, user: String },
    Service(String),
}

impl Named {
    fn of_aws(text: &str) -> Result<Self, PolicyFault> {
        if text == "*" {
            return Ok(Self::Anyone);
        }
        if crate::is_account(text) {
            return Ok(Self::Account(text.to_owned()));
        }
        let Some((account, rest)) = text
            .strip_prefix("arn:aws:iam::")
            .and_then(|rest| rest.split_once(':'))
            .filter(|(account, _)| crate::is_account(account))
        else {
            return Err(invalid("Principal", text));
        };
        let account = account.to_owned();
        match rest.split_once('/') {
            None if rest == "root" => Ok(Self::Account(account)),
            Some(("user", user)) if !user.is_empty() && !user.contains(['*', '?']) => {
                let user = user.to_owned();
                Ok(Self::User { account, user })
            }
            Some(("role", _)) => Err(unsupported("Principal", text)),
            _ => Err(invalid("Principal", text)),
        }
    }

    fn is(&self, principal: Principal<'_>) -> bool {
        match (self, principal) {
            (Self::Anyone, _) => true,
            (Self::Account(it), Principal::User { account, .. } | Principal::Account(account)) => {
                it == account
            }
            (
                Self::User {
                    account: its,
                    user: it,
                },
                Principal::User { account, user },
            ) => its == account && it == user,
            (Self::Service(it), Principal::Service(service)) => it.eq_ignore_ascii_case(service),
            _ => false,
        }
    }
}

impl Policy {
    /// Reads one. `service` is what its actions begin with, without the colon.
    ///
    /// # Errors
    /// See [`PolicyFault`].
    pub fn read(text: &str, service: &str) -> Result<Self, PolicyFault> {
        let document = Value::from_json(text.as_bytes()).ok_or(PolicyFault::NotJson)?;
        let Value::Map(members) = &document else {
            return Err(PolicyFault::NotJson);
        };
        let members = Elements::of(members, &["Version", "Id", "Statement"])?;
        let version = members.text("Version")?;
        if let Some(version) = version
            && !["2012-10-17", "2008-10-17"].contains(&version)
        {
            return Err(invalid("Version", version));
        }
        members.text("Id")?;
        let one;
        let statements = match members.find("Statement") {
            None => return Err(PolicyFault::Missing("Statement")),
            Some(Value::List(list)) => &list[..],
            Some(single) => {
                one = [single.clone()];
                &one[..]
            }
        };
        // Before the later version `${` was a text like any other.
        let variables = version == Some("2012-10-17");
        let mut labels = Vec::new();
        let mut read = Vec::with_capacity(statements.len());
        for statement in statements {
            let Value::Map(members) = statement else {
                return Err(invalid("Statement", &statement.to_json()));
            };
            let elements = Elements::of(members, STATEMENT)?;
            if let Some(label) = elements.text("Sid")? {
                if labels.contains(&label) {
                    return Err(invalid("Sid", label));
                }
                labels.push(label);
            }
            read.push(Statement::read(&elements, service, variables)?);
        }
        Ok(Self { statements: read })
    }

    /// Whether it has a statement that denies: without one, a caller of the owner's account need not be judged.
    #[must_use]
    pub fn denies(&self) -> bool {
        self.statements.iter().any(|statement| !statement.allow)
    }

    /// How many statements it has.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.statements.len()
    }

    /// Whether it has no statement.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.statements.is_empty()
    }

    /// Judges.
    #[must_use]
    pub fn judge(&self, question: &Question<'_>) -> Verdict {
        let mut verdict = Verdict::Silent;
        for statement in &self.statements {
            if !statement.is_about(question) {
                continue;
            }
            if !statement.allow {
                return Verdict::Denied;
            }
            verdict = Verdict::Allowed;
        }
        verdict
    }
}

/// The elements of a statement.
const STATEMENT: &[&str] = &[
    "Sid",
    "Effect",
    "Principal",
    "NotPrincipal",
    "Action",
    "NotAction",
    "Resource",
    "NotResource",
    "Condition",
];

impl Statement {
    fn read(elements: &Elements<'_>, service: &str, variables: bool) -> Result<Self, PolicyFault> {
        let allow = match elements.text("Effect")? {
            Some("Allow") => true,
            Some("Deny") => false,
            Some(other) => return Err(invalid("Effect", other)),
            None => return Err(PolicyFault::Missing("Effect")),
        };
        let principals = elements
            .either("Principal", "NotPrincipal")?
            .ok_or(PolicyFault::Missing("Principal"))?;
        let actions = elements
            .either("Action", "NotAction")?
            .ok_or(PolicyFault::Missing("Action"))?;
        let actions = actions.try_texts("Action")?;
        for action in &actions.list {
            check_action(action, service)?;
        }
        let resources = match elements.either("Resource", "NotResource")? {
            None => None,
            Some(resources) => Some(resources.try_texts("Resource")?),
        };
        let conditions = match elements.find("Condition") {
            None => Vec::new(),
            Some(conditions) => condition::read(conditions, variables)?,
        };
        let listed = resources.iter().flat_map(|resources| &resources.list);
        for resource in listed {
            check_variables("Resource", resource, variables)?;
        }
        Ok(Self {
            allow,
            principals: Listed {
                not: principals.not,
                list: named(principals.list[0])?,
            },
            actions,
            resources,
            conditions,
        })
    }

    fn is_about(&self, question: &Question<'_>) -> bool {
        let action = single(question.action);
        self.principals.has(|named| named.is(question.principal))
            && self
                .actions
                .has(|pattern| is_like(&pattern.to_ascii_lowercase(), &action.to_ascii_lowercase()))
            && self.resources.as_ref().is_none_or(|resources| {
                resources.has(|pattern| is_like(pattern, question.resource))
            })
            && self
                .conditions
                .iter()
                .all(|condition| condition.holds(question))
    }
}

/// An action without what makes it one of a batch.
fn single(action: &str) -> &str {
    action.strip_suffix("Batch").unwrap_or(action)
}

fn check_action(action: &str, service: &str) -> Result<(), PolicyFault> {
    if action == "*" {
        return Ok(());
    }
    match action.split_once(':') {
        // AWS knows no such actions: the single ones are meant.
        Some((_, name)) if name.to_ascii_lowercase().ends_with("batch") => {
            Err(invalid("Action", action))
        }
        Some((of, name)) if of.eq_ignore_ascii_case(service) && !name.is_empty() => Ok(()),
        Some((_, name)) if !name.is_empty() => Err(PolicyFault::OutOfScope(action.to_owned())),
        _ => Err(invalid("Action", action)),
    }
}

fn check_variables(element: &'static str, text: &str, variables: bool) -> Result<(), PolicyFault> {
    if variables && text.contains("${") {
        return Err(unsupported(element, text));
    }
    Ok(())
}

fn named(value: &Value) -> Result<Vec<Named>, PolicyFault> {
    if value.as_str() == Some("*") {
        return Ok(vec![Named::Anyone]);
    }
    let Value::Map(kinds) = value else {
        return Err(invalid("Principal", &value.to_json()));
    };
    let mut list = Vec::new();
    for (kind, names) in kinds {
        let kind = kind.as_str().unwrap_or_default();
        for name in texts("Principal", names)? {
            list.push(match kind {
                "AWS" => Named::of_aws(&name)?,
                "Service" if name.contains(['*', '?']) => {
                    return Err(invalid("Principal", &name));
                }
                "Service" => Named::Service(name),
                "Federated" | "CanonicalUser" => return Err(unsupported("Principal", kind)),
                _ => return Err(invalid("Principal", kind)),
            });
        }
    }
    if list.is_empty() {
        return Err(invalid("Principal", &value.to_json()));
    }
    Ok(list)
}

/// A text, or texts in a list: at least one.
fn texts(element: &'static str, value: &Value) -> Result<Vec<String>, PolicyFault> {
    let wrong = || invalid(element, &value.to_json());
    let list = match value {
        Value::List(list) => &list[..],
        single => std::slice::from_ref(single),
    };
    if list.is_empty() {
        return Err(wrong());
    }
    list.iter()
        .map(|value| match value.as_str() {
            Some(text) if !text.is_empty() => Ok(text.to_owned()),
            _ => Err(wrong()),
        })
        .collect()
}

/// The members of an object, each known and there once.
struct Elements<'a>(Vec<(&'a str, &'a Value)>);

impl<'a> Elements<'a> {
    fn of(members: &'a [(Value, Value)], known: &[&str]) -> Result<Self, PolicyFault> {
        let mut elements: Vec<(&str, &Value)> = Vec::with_capacity(members.len());
        for (name, value) in members {
            let name = name.as_str().unwrap_or_default();
            if !known.contains(&name) || elements.iter().any(|(other, _)| *other == name) {
                return Err(PolicyFault::Element(name.to_owned()));
            }
            elements.push((name, value));
        }
        Ok(Self(elements))
    }

    fn find(&self, name: &str) -> Option<&'a Value> {
        let (_, value) = self.0.iter().find(|(known, _)| *known == name)?;
        Some(value)
    }

    fn text(&self, name: &'static str) -> Result<Option<&'a str>, PolicyFault> {
        match self.find(name) {
            None => Ok(None),
            Some(value) => match value.as_str() {
                Some(text) => Ok(Some(text)),
                None => Err(invalid(name, &value.to_json())),
            },
        }
    }

    /// An element or its opposite, and not both.
    fn either(
        &self,
        name: &'static str,
        opposite: &str,
    ) -> Result<Option<Listed<&'a Value>>, PolicyFault> {
        match (self.find(name), self.find(opposite)) {
            (Some(_), Some(_)) => Err(PolicyFault::Element(opposite.to_owned())),
            (Some(value), None) => Ok(Some(Listed {
                not: false,
                list: vec![value],
            })),
            (None, Some(value)) => Ok(Some(Listed {
                not: true,
                list: vec![value],
            })),
            (None, None) => Ok(None),
        }
    }
}

impl Listed<&Value> {
    fn try_texts(&self, element: &'static str) -> Result<Listed<String>, PolicyFault> {
        Ok(Listed {
            not: self.not,
            list: texts(element, self.list[0])?,
        })
    }
}

/// Whether a text is like a pattern, in which `*` is any run of characters and `?` any one. Takes time of the product of both lengths
/// at most.
fn is_like(pattern: &str, text: &str) -> bool {
    let next = |mut at: usize| {
        at += 1;
        while !text.is_char_boundary(at) {
            at += 1;
        }
        at
    };
    let (pattern, bytes) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut read) = (0, 0);
    // Where the last star stands, and what of the text it has been given: whole characters.
    let mut star: Option<(usize, usize)> = None;
    while read < bytes.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, read));
                at += 1;
            }
            Some(b'?') => {
                at += 1;
                read = next(read);
            }
            Some(byte) if *byte == bytes[read] => {
                at += 1;
                read += 1;
            }
            _ => {
                let Some((before, given)) = star else {
                    return false;
                };
                let given = next(given);
                star = Some((before, given));
                at = before + 1;
                read = given;
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests;
