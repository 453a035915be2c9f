//! What a topic brings to a queue, judged by the queue's policy.
//!
//! | the queue is | it takes the message |
//! |---|---|
//! | the topic's account's | unless its policy denies it to SNS; AWS wants an allowance there too |
//! | another account's | if its policy allows it to SNS, or to the topic's account, and denies it to neither |
//!
//! `aws:SourceArn` is the topic, `aws:SourceAccount` and `aws:SourceOwner` its account. With [`aws::Manners::Moto`] each queue takes
//! everything.

use aws::{
    Manners, Places, Settings,
    policy::{Known, Principal, QUEUE_NOTE, Question, Unreadable, Verdict},
};
use session::Brought;

use crate::steps::find;

/// SNS itself.
const SNS: &str = "sns.amazonaws.com";
const ACTION: &str = "sqs:SendMessage";

/// See the module.
#[derive(Debug)]
pub struct Gate {
    places: Places,
    manners: Manners,
    policies: Known,
}

impl Gate {
    /// `unreadable` is told of each policy that cannot be read.
    #[must_use]
    pub fn new(settings: &Settings, unreadable: Unreadable) -> Self {
        Self {
            places: settings.places.clone(),
            manners: settings.manners,
            policies: Known::new(unreadable),
        }
    }
}

impl session::Gate for Gate {
    fn takes(&self, brought: &Brought<'_>) -> bool {
        // No queue of SQS is named so: what is ours has no policy.
        if self.manners == Manners::Moto || brought.queue.starts_with(b"$") {
            return true;
        }
        let place = |vhost| self.places.of_vhost(vhost);
        let (Some(from), Some(to)) = (place(brought.from), place(brought.to)) else {
            // Of no account: there is nobody who could allow it, and within one virtual host nobody to ask.
            return brought.from == brought.to;
        };
        let own = from.account == to.account;
        let policy = find(brought.notes, QUEUE_NOTE);
        let Some(policy) = policy.and_then(|text| self.policies.policy(text, "sqs")) else {
            return own;
        };
        let arn = |service, place: &aws::Placed, name: &[u8]| {
            let name = String::from_utf8_lossy(name);
            format!(
                "arn:aws:{service}:{}:{}:{name}",
                place.region, place.account
            )
        };
        let (topic, queue) = (
            arn("sns", &from, brought.topic),
            arn("sqs", &to, brought.queue),
        );
        let keys = [
            ("aws:SourceArn", &topic[..]),
            ("aws:SourceAccount", &from.account),
            ("aws:SourceOwner", &from.account),
        ];
        let verdict = |principal| {
            policy.judge(&Question {
                principal,
                action: ACTION,
                resource: &queue,
                now: brought.now,
                keys: &keys,
            })
        };
        let service = verdict(Principal::Service(SNS));
        if own {
            return service != Verdict::Denied;
        }
        let verdicts = [service, verdict(Principal::Account(&from.account))];
        verdicts.contains(&Verdict::Allowed) && !verdicts.contains(&Verdict::Denied)
    }
}

#[cfg(test)]
mod tests {
    use aws::Placed;
    use bytes::Bytes;
    use message::Timestamp;
    use session::{Gate as _, Notes};

    use super::*;
    use crate::steps::set_note;

    const OWNER: &str = "111111111111";
    const OTHER: &str = "222222222222";

    fn gate(manners: Manners) -> Gate {
        let place = |account: &str, region: &str, vhost: &str| Placed {
            account: account.into(),
            region: region.into(),
            vhost: vhost.into(),
        };
        let places = vec![
            place(OWNER, "us-east-1", "/"),
            place(OWNER, "eu-west-1", "west"),
            place(OTHER, "us-east-1", "other"),
        ];
        let settings = Settings {
            places: Places::new(places, false, false),
            manners,
            ..Settings::default()
        };
        Gate::new(&settings, |_, _| {})
    }

    fn takes(gate: &Gate, (from, to): (&str, &str), queue: &str, policy: Option<&str>) -> bool {
        let mut notes = Notes::new();
        set_note(&mut notes, QUEUE_NOTE, policy.unwrap_or_default());
        gate.takes(&Brought {
            from,
            topic: &Bytes::from_static(b"news"),
            to,
            queue: &Bytes::copy_from_slice(queue.as_bytes()),
            notes: &notes,
            now: Timestamp(1_772_366_400_000),
        })
    }

    #[test]
    fn a_queue_takes_what_its_policy_lets_in() {
        let policy = |effect: &str, principal: &str, condition: &str| {
            Some(format!(
                r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"{effect}","Principal":{principal},"Action":"sqs:*"{condition}}}]}}"#
            ))
        };
        let source =
            |arn: &str| format!(r#","Condition":{{"ArnLike":{{"aws:SourceArn":"{arn}"}}}}"#);
        let sns = r#"{"Service":"sns.amazonaws.com"}"#;
        let news = "arn:aws:sns:us-east-1:111111111111:news";
        for (policy, at_home, abroad) in [
            (None, true, false),
            (policy("Allow", sns, ""), true, true),
            (policy("Allow", sns, &source(news)), true, true),
            (
                policy("Allow", sns, &source("arn:aws:sns:*:*:n?ws")),
                true,
                true,
            ),
            (
                policy("Allow", sns, &source("arn:aws:sns:*:*:olds")),
                true,
                false,
            ),
            (policy("Allow", r#""*""#, &source(news)), true, true),
            (policy("Allow", r#"{"AWS":"111111111111"}"#, ""), true, true),
            (
                policy("Allow", r#"{"AWS":"222222222222"}"#, ""),
                true,
                false,
            ),
            (
                policy(
                    "Allow",
                    r#"{"AWS":"arn:aws:iam::111111111111:user/ann"}"#,
                    "",
                ),
                true,
                false,
            ),
            (
                policy(
                    "Allow",
                    r#""*""#,
                    r#","Condition":{"StringEquals":{"aws:SourceAccount":"111111111111"}}"#,
                ),
                true,
                true,
            ),
            (policy("Deny", sns, &source(news)), false, false),
            (policy("Deny", r#""*""#, ""), false, false),
            // It cannot be read, so it says nothing.
            (Some("{}".to_owned()), true, false),
        ] {
            let standard = gate(Manners::Standard);
            let policy = policy.as_deref();
            for (from_to, taken) in [
                (("/", "/"), at_home),
                (("/", "west"), at_home),
                (("/", "other"), abroad),
                // Of a place that is not configured any more.
                (("/", "gone"), false),
                (("gone", "gone"), true),
            ] {
                assert_eq!(
                    takes(&standard, from_to, "inbox", policy),
                    taken,
                    "{from_to:?} {policy:?}"
                );
            }
            // What delivers to endpoints is not of any account.
            assert!(takes(&standard, ("other", "/"), "$sns", policy));
            assert!(takes(&gate(Manners::Moto), ("/", "other"), "inbox", policy));
        }
    }
}
