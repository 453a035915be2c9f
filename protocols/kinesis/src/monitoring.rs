//! Shard-level metrics and server-side encryption: settings that are kept and shown.
//!
//! The broker's own metrics are there whether or not a stream names any, and the journal is encrypted or not as a whole, by
//! the configuration. So neither setting does more here than answer the tools that ask for it.

use aws::{ApiError, Input, Value};
use session::Notes;

use crate::{
    error, notes, state,
    target::{Step, Target, nothing, or_refuse},
};

/// All of them.
const ALL: &str = "ALL";
const METRICS: [&str; 7] = [
    "IncomingBytes",
    "IncomingRecords",
    "OutgoingBytes",
    "OutgoingRecords",
    "WriteProvisionedThroughputExceeded",
    "ReadProvisionedThroughputExceeded",
    "IteratorAgeMilliseconds",
];

/// `EnhancedMonitoring` of a stream's description.
pub(crate) fn show(kept: &Notes) -> Value {
    Value::List(vec![Value::from([(
        "ShardLevelMetrics",
        list(&metrics(kept)),
    )])])
}

/// `EnableEnhancedMonitoring`.
pub(crate) fn enable(input: Input) -> Step {
    change(input, |known, asked| {
        if has(known, ALL) || has(asked, ALL) {
            return vec![ALL];
        }
        let all = METRICS.into_iter();
        all.filter(|metric| has(known, metric) || has(asked, metric))
            .collect()
    })
}

/// `DisableEnhancedMonitoring`.
pub(crate) fn disable(input: Input) -> Step {
    change(input, |known, asked| {
        METRICS
            .into_iter()
            .filter(|metric| has(known, ALL) || has(known, metric))
            .filter(|metric| !has(asked, ALL) && !has(asked, metric))
            .collect()
    })
}

fn has<'a>(metrics: &[&'a str], metric: &'a str) -> bool {
    metrics.contains(&metric)
}

fn change(input: Input, change: fn(&[&str], &[&str]) -> Vec<&'static str>) -> Step {
    let Input { call, value } = input;
    or_refuse(Target::of(&call, &value).map(|target| {
        let changing = call.clone();
        target.change(call, move |stream, now, _, kept| {
            state::active(&changing, stream, now)?;
            let asked: Vec<_> = value
                .list("ShardLevelMetrics")
                .iter()
                .filter_map(|metric| match metric {
                    Value::Text(metric) => Some(metric.as_str()),
                    _ => None,
                })
                .collect();
            let current = metrics(&stream.notes);
            let desired = change(&current, &asked);
            if desired.is_empty() {
                notes::remove(kept, notes::METRICS);
            } else {
                notes::write(kept, notes::METRICS, &desired.join(","));
            }
            let name = state::name(stream);
            Ok(Value::from([
                ("StreamARN", state::arn(&changing, &name).into()),
                ("StreamName", name.into()),
                ("CurrentShardLevelMetrics", list(&current)),
                ("DesiredShardLevelMetrics", list(&desired)),
            ]))
        })
    }))
}

fn metrics(kept: &Notes) -> Vec<&str> {
    notes::read(kept, notes::METRICS)
        .map(|metrics| metrics.split(',').collect())
        .unwrap_or_default()
}

fn list(metrics: &[&str]) -> Value {
    Value::List(metrics.iter().map(|metric| Value::from(*metric)).collect())
}

/// `StartStreamEncryption`.
pub(crate) fn start_encryption(input: Input) -> Step {
    encrypt(input, |kept, key| notes::write(kept, notes::KEY, key))
}

/// `StopStreamEncryption`.
pub(crate) fn stop_encryption(input: Input) -> Step {
    encrypt(input, |kept, _| {
        notes::remove(kept, notes::KEY);
    })
}

fn encrypt(input: Input, set: fn(&mut Notes, &str)) -> Step {
    let Input { call, value } = input;
    or_refuse(Target::of(&call, &value).map(|target| {
        let changing = call.clone();
        target.change(call, move |stream, now, _, kept| {
            if value.text("EncryptionType") != Some("KMS") {
                return Err(ApiError::sender(
                    error::VALIDATION,
                    "EncryptionType must be KMS.",
                ));
            }
            state::active(&changing, stream, now)?;
            set(kept, value.text("KeyId").unwrap_or_default());
            if *kept != stream.notes {
                state::mark_updated(&changing.settings, kept, now);
            }
            Ok(nothing())
        })
    }))
}
