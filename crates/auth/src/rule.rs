//! A rule as the operator writes it, and what can be wrong with one.
//!
//! ```toml
//! { allow = ["publish"], topic = "sensors/{client_id}/#" }
//! { allow = ["publish", "subscribe"], deny = ["declare"], queue = "jobs.*", vhosts = ["/"] }
//! { deny = ["subscribe"], topic = "secret/#", reason = 0x80 }
//! ```

use serde::{Deserialize, Serialize};

use crate::{
    Action,
    pattern::{Form, Pattern},
};

/// The code of MQTT for a refusal that says no more than that it is one.
pub(crate) const REASON_WITHHELD: i64 = 0x80;
/// The code of MQTT for "not authorized".
pub(crate) const REASON_TOLD: i64 = 0x87;

/// A permission rule. Names exactly one of `topic`, `queue`, `exchange`, `stream` and `everything`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// The users that it is for; absent: every user, anonymous ones too. Not within a user's own rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users: Option<Vec<String>>,
    /// The virtual hosts that it is for; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vhosts: Option<Vec<String>>,
    /// What is allowed.
    pub allow: Vec<Action>,
    /// What is denied.
    pub deny: Vec<Action>,
    /// Topics, as an MQTT filter: `sensors/+/#`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Queues, by name; words at dots: `jobs.*`, `#`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Exchanges other than `amq.topic`, by name as queues.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exchange: Option<String>,
    /// With `exchange`: routing and binding keys, as an AMQP binding key; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Streams, by name as queues.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// Everything there is.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub everything: bool,
    /// With `deny`: the reason code that MQTT 5 clients are told: 0x87 (not authorized; the default) or 0x80 (unspecified).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<i64>,
}

/// What is wrong with a rule; completes "rule 3 of user ada ...".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// It neither allows nor denies.
    #[error(
        "says neither what it allows nor what it denies: allow = [..] or deny = [..] with publish, subscribe, declare"
    )]
    NoAction,
    /// One action in both lists.
    #[error("both allows and denies {0}")]
    Both(Action),
    /// It names nothing, or several things.
    #[error(
        "must name one of topic, queue, exchange, stream, or say everything = true; it names {0}"
    )]
    Target(usize),
    /// A filter that cannot be read.
    #[error("has {what} = {text:?}, which {fault}")]
    Pattern {
        /// The key.
        what: &'static str,
        /// Its value.
        text: String,
        /// What is wrong with it.
        fault: String,
    },
    /// A key without an exchange.
    #[error("has a key without an exchange")]
    KeyAlone,
    /// A key and the action declare.
    #[error("has a key, which says nothing about declare: an exchange is declared as a whole")]
    KeyDeclare,
    /// A reason that cannot be.
    #[error(
        "has reason = {0:#04x}; it can be 0x80 (unspecified error) or 0x87 (not authorized, which is the default)"
    )]
    Reason(i64),
    /// A reason in a rule that denies nothing.
    #[error("has a reason, but denies nothing")]
    ReasonAlone,
    /// An empty list of users or virtual hosts.
    #[error("has an empty list of {0}: leave the key out to mean all of them")]
    Nobody(&'static str),
    /// A user or virtual host that does not exist.
    #[error("is for {what} {name:?}, which does not exist")]
    Unknown {
        /// `user` or `virtual host`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// Users in a rule of one user.
    #[error("stands among a user's own rules and names users")]
    Users,
}

/// What a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Everything,
    Topic(Pattern),
    Queue(Pattern),
    Exchange(Pattern, Option<Pattern>),
    Stream(Pattern),
}

/// A rule that is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Compiled {
    pub(crate) place: Place,
    /// The peer is not told why.
    pub(crate) withheld: bool,
}

impl Rule {
    /// Checks it by itself, and makes what is asked.
    pub(crate) fn compile(&self) -> Result<Compiled, RuleError> {
        if self.allow.is_empty() && self.deny.is_empty() {
            return Err(RuleError::NoAction);
        }
        if let Some(both) = self.allow.iter().find(|action| self.deny.contains(action)) {
            return Err(RuleError::Both(*both));
        }
        for (what, list) in [("users", &self.users), ("vhosts", &self.vhosts)] {
            if list.as_ref().is_some_and(Vec::is_empty) {
                return Err(RuleError::Nobody(what));
            }
        }
        let withheld = match self.reason {
            Some(_) if self.deny.is_empty() => return Err(RuleError::ReasonAlone),
            None | Some(REASON_TOLD) => false,
            Some(REASON_WITHHELD) => true,
            Some(other) => return Err(RuleError::Reason(other)),
        };
        let named = [&self.topic, &self.queue, &self.exchange, &self.stream];
        let count = named.iter().filter(|text| text.is_some()).count();
        if count + usize::from(self.everything) != 1 {
            return Err(RuleError::Target(count + usize::from(self.everything)));
        }
        if self.key.is_some() {
            if self.exchange.is_none() {
                return Err(RuleError::KeyAlone);
            }
            if self.allow.contains(&Action::Declare) || self.deny.contains(&Action::Declare) {
                return Err(RuleError::KeyDeclare);
            }
        }
        let place = if let Some(text) = &self.topic {
            let first = text.split('/').next().unwrap_or_default();
            let key = match first {
                "$queue" => Some("queue"),
                "$stream" => Some("stream"),
                "$share" | "$topic" => Some("topic"),
                _ => None,
            };
            if let Some(key) = key {
                return Err(RuleError::Pattern {
                    what: "topic",
                    text: text.clone(),
                    fault: format!("names no topic: write {key} = \"..\", without {first}"),
                });
            }
            Place::Topic(pattern("topic", text, Form::Topic)?)
        } else if let Some(text) = &self.queue {
            Place::Queue(pattern("queue", text, Form::Words)?)
        } else if let Some(text) = &self.stream {
            Place::Stream(pattern("stream", text, Form::Words)?)
        } else if let Some(text) = &self.exchange {
            if text == "amq.topic" {
                return Err(RuleError::Pattern {
                    what: "exchange",
                    text: text.clone(),
                    fault: "is the topics: write topic = \"..\"".to_owned(),
                });
            }
            let key = self.key.as_ref();
            let key = key.map(|text| pattern("key", text, Form::Words));
            Place::Exchange(
                pattern("exchange", text, Form::Words)?,
                key.transpose()?.filter(|key| !key.is_everything()),
            )
        } else {
            Place::Everything
        };
        Ok(Compiled { place, withheld })
    }
}

fn pattern(what: &'static str, text: &str, form: Form) -> Result<Pattern, RuleError> {
    Pattern::parse(text, form).map_err(|fault| RuleError::Pattern {
        what,
        text: text.to_owned(),
        fault,
    })
}
