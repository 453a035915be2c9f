//! Filter policies, in the words of SNS.

use aws::ApiError;
use message::Policy;
use session::PolicyScope;

use crate::faults::invalid;

/// Checks a policy.
pub(crate) fn check(policy: &[u8], scope: PolicyScope) -> Result<(), ApiError> {
    let read = match scope {
        PolicyScope::Attributes => Policy::of_attributes(policy),
        PolicyScope::Body => Policy::of_body(policy),
    };
    read.map(|_| ()).map_err(|error| invalid(error.to_string()))
}
