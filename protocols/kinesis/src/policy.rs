//! Resource policies: checked when they are set, kept and shown. `guard.rs` asks them.

use aws::{ApiError, Input, Value, policy::Policy};

use crate::{
    error, notes,
    tags::Resource,
    target::{Step, done, nothing, or_refuse},
};

/// The longest policy, in bytes.
const POLICY_LEN_MAX: usize = 20 * 1024;

/// `PutResourcePolicy`.
pub(crate) fn put(input: Input) -> Step {
    let Input { call, value } = input;
    or_refuse(Resource::of(&call, &value).map(|resource| {
        let changing = call.clone();
        resource
            .target
            .clone()
            .change(call, move |stream, _, _, kept| {
                let policy = value.text("Policy").unwrap_or_default();
                check(policy)?;
                let note = resource.note(&changing, stream, notes::POLICY, "policy")?;
                notes::write(kept, &note, policy);
                Ok(nothing())
            })
    }))
}

fn check(policy: &str) -> Result<(), ApiError> {
    if policy.len() > POLICY_LEN_MAX {
        return Err(error::invalid(format!(
            "The policy is longer than {POLICY_LEN_MAX} bytes."
        )));
    }
    match Policy::read(policy, "kinesis") {
        Ok(_) => Ok(()),
        Err(fault) => Err(error::invalid(format!("Invalid resource policy: {fault}."))),
    }
}

/// `GetResourcePolicy`.
pub(crate) fn get(input: Input) -> Step {
    let Input { call, value } = input;
    or_refuse(Resource::of(&call, &value).map(|resource| {
        let target = resource.target.clone();
        target.inspect(call.clone(), move |stream, _| {
            let note = resource.note(&call, &stream, notes::POLICY, "policy")?;
            let policy = notes::read(&stream.notes, &note).unwrap_or("{}");
            Ok(done(Ok(Value::from([("Policy", Value::from(policy))]))))
        })
    }))
}

/// `DeleteResourcePolicy`.
pub(crate) fn delete(input: Input) -> Step {
    let Input { call, value } = input;
    or_refuse(Resource::of(&call, &value).map(|resource| {
        let target = resource.target.clone();
        let changing = call.clone();
        target.change(call, move |stream, _, _, kept| {
            let note = resource.note(&changing, stream, notes::POLICY, "policy")?;
            if notes::remove(kept, &note) {
                return Ok(nothing());
            }
            Err(ApiError::sender(
                error::NOT_FOUND,
                format!(
                    "No resource policy found for resource ARN {}.",
                    resource.arn()
                ),
            ))
        })
    }))
}
