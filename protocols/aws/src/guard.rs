//! What resource policies open and close: whose a resource is that a request names, and what its policy says to the caller.
//!
//! | the resource is | the request is let in |
//! |---|---|
//! | the caller's account's | unless its policy denies it: what the caller's own account allows him is said by the rules of the configuration |
//! | another account's | if its policy allows it and does not deny it, the service lets others do that at all, and the rules of the configuration let the caller do it there |
//!
//! A request about another account's resource logs in to that account's virtual host, as the caller. A policy that cannot be read
//! says nothing. With [`crate::Manners::Moto`] policies say nothing at all, and what is of another account is not there.

use std::{borrow::Cow, net::IpAddr, sync::Arc};

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

/// Something that an operation does to a resource besides what its own name says: the action, and the resource.
pub type Deed = (&'static str, Subject);

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
    /// What else an operation does: each is judged as if it were asked for by itself.
    pub deeds: fn(&Operation, &Input) -> Vec<Deed>,
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
    /// How it is worded that a caller may not do something: the action (`sqs:SendMessage`), the ARN, and why.
    pub barred: fn(&Call, action: &str, arn: &str, Barred) -> ApiError,
}

/// Where a request came from.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) address: IpAddr,
    /// A proxy ended TLS.
    pub(crate) secure: bool,
    pub(crate) agent: Option<HeaderValue>,
}

/// Asks policies about a caller. The default one has none to ask.
#[derive(Clone, Default)]
pub struct Judge(Option<Asks>);

#[derive(Clone)]
struct Asks {
    origin: Origin,
    kept: Arc<dyn Kept>,
    policies: Arc<Known>,
}

impl std::fmt::Debug for Judge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Judge").finish_non_exhaustive()
    }
}

impl Judge {
    pub(crate) fn new(origin: Origin, kept: &Arc<dyn Kept>, policies: &Arc<Known>) -> Self {
        Self(Some(Asks {
            origin,
            kept: Arc::clone(kept),
            policies: Arc::clone(policies),
        }))
    }
}

impl Guard {
    /// Lets a request in, or says why not. `service` is what the service's actions begin with.
    pub(crate) fn admit(
        &self,
        service: &str,
        operation: &Operation,
        input: &Input,
    ) -> Result<(), ApiError> {
        // An operation of a batch is the single one so many times.
        let single = operation.name.strip_suffix("Batch");
        let single = single.unwrap_or(operation.name);
        let subject = (self.subject)(operation, input);
        self.allow(service, single, input, subject.as_ref())?;
        for (action, subject) in (self.deeds)(operation, input) {
            self.allow(service, action, input, Some(&subject))?;
        }
        Ok(())
    }

    /// Lets the caller do that to a resource, or says why not. Operations ask it of what they find out only on their way.
    pub fn allow(
        &self,
        service: &str,
        action: &str,
        input: &Input,
        subject: Option<&Subject>,
    ) -> Result<(), ApiError> {
        let call = &input.call;
        let Judge(Some(asks)) = &call.judge else {
            return Ok(());
        };
        if call.settings.manners == Manners::Moto {
            return Ok(());
        }
        let kept = &*asks.kept;
        let across = call.is_across();
        let seeing = self.seeing.contains(&action);
        let opened = seeing || self.opened.contains(&action);
        let policy = subject.and_then(|subject| {
            let note = (self.note)(subject);
            let text = kept.note(call.vhost, subject.object, &subject.name, &note)?;
            asks.policies.policy(&text, service)
        });
        // What only allows says nothing to the owner's own.
        let policy = policy.filter(|policy| across || policy.denies());
        let verdict = match (subject, policy) {
            (Some(subject), Some(policy)) => {
                let arn = (self.arn)(call, subject, kept);
                let origin = &asks.origin;
                let address = origin.address.to_canonical().to_string();
                let secure = if origin.secure { "true" } else { "false" };
                let mut keys = vec![
                    ("aws:SourceIp", &address[..]),
                    ("aws:SecureTransport", secure),
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
                    action: &format!("{service}:{action}"),
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
            |subject| (self.arn)(call, subject, kept).into(),
        );
        let action = format!("{service}:{action}");
        Err((self.barred)(call, &action, &arn, barred))
    }
}

#[cfg(test)]
mod tests;
