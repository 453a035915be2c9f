//! Filter policies, in the words of SNS.

use aws::ApiError;
use session::PolicyScope;

use crate::{faults::invalid, json};

/// Checks a policy.
pub(crate) fn check(policy: &[u8], _scope: PolicyScope) -> Result<(), ApiError> {
    let text = std::str::from_utf8(policy).unwrap_or_default();
    json::object(text)
        .map(|_| ())
        .ok_or_else(|| invalid("FilterPolicy: failed to parse JSON."))
}
