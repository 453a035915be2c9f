//! What resource policies open and close: whose a resource is that a request names, and what its policy says to the caller.
//!
//! | the resource is | the request is let in |
//! |---|---|
//! | the caller's account's | unless its policy denies it: what the caller's own account allows him is said by the rules of the configuration |
//! | another account's | if its policy allows it and does not deny it, the service lets others do that at all, and the rules of the configuration let the caller do it there |
//!
//! A request about another account's resource logs in to that account's virtual host, as the caller. A policy that cannot be read
//! says nothing. With [`crate::Manners::Moto`] policies say nothing at all, and what is of another account is not there.

use std::{borrow::Cow, net::IpAddr};

use http::HeaderValue;
use message::Name;
use session::{Kept, Object};

use crate::{
    ApiError, Call, Input, Manners, Operation, Value,
    policy::{Known, Principal, Question, Verdict},
};

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// What it is.
    pub object: Object,
    /// Its name.
    pub name: Name,
    /// A part of it that has a policy of its own: a consumer of a stream.
    pub part: Option<String>,
}

impl Subject {
    /// One without parts.
    #[must_use]
    pub const fn whole(object: Object, name: Name) -> Self {
        Self {
            object,
            name,
            part: None,
        }
    }
}

/// Why a request is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barred {
    /// The policy denies it.
    Denied,
    /// It is another account's, and the policy does not allow it.
    NotAllowed,
}

impl Barred {
    /// As AWS ends the sentence that says who may not do what.
    #[must_use]
    pub fn because(self, action: &str) -> String {
        match self {
            Self::Denied => "with an explicit deny in a resource-based policy".to_owned(),
            Self::NotAllowed => {
                format!("because no resource-based policy allows the {action} action")
            }
        }
    }
}

/// The account that an input names, and the region if it does.
pub type Owner =
    for<'a> fn(&Operation, path: &'a str, &'a Value) -> Option<(&'a str, Option<&'a str>)>;

/// How the resources of a service are guarded.
#[derive(Clone, Copy, Debug)]
pub struct Guard {
    /// Whose an input's resource is, if it says so.
    pub owner: Owner,
    /// What an input is about. `None`: nothing that has a policy.
    pub subject: fn(&Operation, &Input) -> Option<Subject>,
    /// The note in which the policy is.
    pub note: fn(&Subject) -> Cow<'static, str>,
    /// The ARN that policies name it by.
    pub arn: fn(&Call, &Subject, &dyn Kept) -> String,
    /// The operations that a policy can open to other accounts.
    pub opened: &'static [&'static str],
    /// Those that see for themselves what they do for another account.
    pub seeing: &'static [&'static str],
    /// Condition keys, and the members of inputs that they are.
    pub keys: &'static [(&'static str, &'static str)],
    /// How it is worded that a caller may not do something: the operation, its action, the ARN, and why.
    pub barred: fn(&Call, &Operation, action: &str, arn: &str, Barred) -> ApiError,
}

/// Where a request came from.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) address: IpAddr,
    /// A proxy ended TLS.
    pub(crate) secure: bool,
    pub(crate) agent: Option<HeaderValue>,
}

impl Guard {
    /// Lets a request in, or says why not. `service` is what the service's actions begin with.
    pub(crate) fn admit(
        &self,
        service: &str,
        operation: &Operation,
        input: &Input,
        origin: &Origin,
        (kept, known): (&dyn Kept, &Known),
    ) -> Result<(), ApiError> {
        let call = &input.call;
        if call.settings.manners == Manners::Moto {
            return Ok(());
        }
        let across = call.is_across();
        // An operation of a batch is the single one so many times.
        let single = operation.name.strip_suffix("Batch");
        let single = single.unwrap_or(operation.name);
        let seeing = self.seeing.contains(&single);
        let opened = seeing || self.opened.contains(&single);
        let subject = (self.subject)(operation, input);
        let policy = subject.as_ref().and_then(|subject| {
            let note = (self.note)(subject);
            let text = kept.note(call.vhost, subject.object, &subject.name, &note)?;
            known.policy(&text, service)
        });
        // What only allows says nothing to the owner's own.
        let policy = policy.filter(|policy| across || policy.denies());
        let verdict = match (&subject, policy) {
            (Some(subject), Some(policy)) => {
                let arn = (self.arn)(call, subject, kept);
                let address = origin.address.to_canonical().to_string();
                let mut keys = vec![
                    ("aws:SourceIp", &address[..]),
                    (
                        "aws:SecureTransport",
                        if origin.secure { "true" } else { "false" },
                    ),
                ];
                let agent = origin.agent.as_ref().and_then(|it| it.to_str().ok());
                keys.extend(agent.map(|agent| ("aws:UserAgent", agent)));
                for (key, member) in self.keys {
                    let value = input.value.text(member);
                    keys.extend(value.map(|value| (*key, value)));
                }
                policy.judge(&Question {
                    principal: Principal::User {
                        account: &call.caller_account,
                        user: &call.user,
                    },
                    action: &format!("{service}:{single}"),
                    resource: &arn,
                    now: call.now,
                    keys: &keys,
                })
            }
            _ => Verdict::Silent,
        };
        let barred = match verdict {
            Verdict::Denied => Barred::Denied,
            Verdict::Silent if across && !seeing => Barred::NotAllowed,
            Verdict::Allowed if across && !opened => Barred::NotAllowed,
            Verdict::Allowed | Verdict::Silent => return Ok(()),
        };
        let arn = subject.map_or_else(
            || Cow::Borrowed("*"),
            |subject| (self.arn)(call, &subject, kept).into(),
        );
        let action = format!("{service}:{single}");
        Err((self.barred)(call, operation, &action, &arn, barred))
    }
}

#[cfg(test)]
mod tests;
