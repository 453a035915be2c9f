//! Filter policies, in the words of SNS.

use aws::{ApiError, Manners};
use message::{Policy, PolicyError};
use session::PolicyScope;

use crate::faults::invalid;

/// Checks a policy.
pub(crate) fn check(policy: &[u8], scope: PolicyScope) -> Result<(), PolicyError> {
    let read = match scope {
        PolicyScope::Attributes => Policy::of_attributes(policy),
        PolicyScope::Body => Policy::of_body(policy),
    };
    read.map(|_| ())
}

/// What is wrong with a policy. Subscribe says of what it is the reason, SetSubscriptionAttributes does not; moto does for
/// ranges of numbers only, wherever they are said.
pub(crate) fn fault(error: &PolicyError, subscribes: bool, manners: Manners) -> ApiError {
    let says_of_what = match manners {
        Manners::Standard => subscribes,
        Manners::Moto => matches!(error, PolicyError::Numeric(_)),
    };
    invalid(if says_of_what {
        format!("Attributes Reason: {error}")
    } else {
        error.to_string()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscribe_says_of_what_a_policy_is_the_reason() {
        let said = |policy: &str, subscribes, manners| {
            let error = check(policy.as_bytes(), PolicyScope::Attributes).expect_err(policy);
            fault(&error, subscribes, manners).message.into_owned()
        };
        let (range, text) = (r#"{"a":[{"numeric":["<","1"]}]}"#, r#"{"a":[["b"]]}"#);
        let (range_words, words) = (
            "FilterPolicy: Value of < must be numeric",
            "FilterPolicy: Match value must be String, number, true, false, or null",
        );
        for (subscribes, manners, ranges_too, texts_too) in [
            (true, Manners::Standard, true, true),
            (false, Manners::Standard, false, false),
            (true, Manners::Moto, true, false),
            (false, Manners::Moto, true, false),
        ] {
            for (policy, words, is_prefixed) in
                [(range, range_words, ranges_too), (text, words, texts_too)]
            {
                let reason = if is_prefixed {
                    "Attributes Reason: "
                } else {
                    ""
                };
                assert_eq!(
                    said(policy, subscribes, manners),
                    format!("Invalid parameter: {reason}{words}")
                );
            }
        }
    }
}
