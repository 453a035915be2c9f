//! Streams as wholes: making, showing, changing and deleting them.

use std::sync::Arc;

use aws::{ApiError, Call, Input, MemberName, Value};
use message::Timestamp;
use session::{Event, Flow, Notes, RefusalKind, StreamAttributes, StreamInfo, StreamTo};

use crate::{
    account, error, monitoring, notes, shard,
    state::{self, Mode},
    tags,
    target::{Step, Target, done, nothing, or_refuse},
};

/// The shards of a new on-demand stream.
const ON_DEMAND_SHARDS: u32 = 4;
/// The shortest and the longest retention, in hours.
pub(crate) const RETENTION_HOURS: std::ops::RangeInclusive<i64> = 24..=8_760;
/// The largest record of a stream that was not told otherwise, in KiB.
const RECORD_KIB: i64 = 1_024;
/// The largest record that can be allowed, in KiB.
pub(crate) const RECORD_KIB_MAX: i64 = 10_240;
/// Shards on a page of `DescribeStream`.
const SHARDS_MAX: usize = 100;
/// The highest throughput that can be kept warm, in MiB a second.
const WARM_MIB_MAX: i64 = 10_240;

/// `CreateStream`.
pub(crate) fn create(input: Input) -> Step {
    let Input { call, value } = input;
    or_refuse(checked_create(call, &value))
}

fn checked_create(call: Arc<Call>, value: &Value) -> Result<Step, ApiError> {
    let target = Target::of(&call, value)?;
    let mode = value
        .member("StreamModeDetails")
        .and_then(|details| details.text("StreamMode"))
        .map_or(Mode::Provisioned, Mode::named);
    let shards = match (mode, value.int("ShardCount")) {
        (Mode::Provisioned, Some(count)) => u32::try_from(count).unwrap_or(u32::MAX),
        (Mode::Provisioned, None) => {
            return Err(ApiError::sender(
                error::VALIDATION,
                "ShardCount must be specified for a stream in PROVISIONED mode.",
            ));
        }
        (Mode::OnDemand, None) => ON_DEMAND_SHARDS,
        (Mode::OnDemand, Some(_)) => {
            return Err(ApiError::sender(
                error::VALIDATION,
                "ShardCount must not be specified for a stream in ON_DEMAND mode.",
            ));
        }
    };
    let mut kept = Notes::new();
    mode.keep(&mut kept);
    tags::put(
        &call,
        &target.name,
        &mut kept,
        notes::TAGS,
        value.map("Tags"),
    )?;
    if let Some(warm) = value.int("WarmThroughputMiBps") {
        keep_warm(mode, &mut kept, warm)?;
    }
    let attributes = StreamAttributes {
        record_len_max: Some(record_len(
            value.int("MaxRecordSizeInKiB").unwrap_or(RECORD_KIB),
        )),
        limits: state::limits(&call.settings, &kept)?,
        growth: state::growth(&call.settings, mode),
        ..StreamAttributes::default()
    };
    // The name first: that it is taken says more than that there is no room for another.
    let look = target.command(StreamTo::Inspect);
    Ok(Flow::ask(look, move |event, _| match event {
        Event::Stream { .. } => done(Err(error::exists(&call, &target.name))),
        Event::Refused { refusal, .. } if refusal.kind != RefusalKind::NotFound => {
            done(Err(error::refused(&call, &target.name, &refusal)))
        }
        _ => account::usage(call.clone(), move |usage, _| {
            usage.room_for(&call, shards.into())?;
            if mode == Mode::OnDemand {
                usage.room_for_on_demand(&call)?;
            }
            let create = target.command(StreamTo::Create {
                attributes,
                shards,
                notes: kept,
            });
            Ok(Flow::ask(create, move |event, _| {
                done(match event {
                    Event::Refused { refusal, .. } if refusal.kind == RefusalKind::Inequivalent => {
                        Err(error::exists(&call, &target.name))
                    }
                    event => target.stream(&call, event).map(|_| nothing()),
                })
            }))
        }),
    }))
}

const fn record_len(kib: i64) -> u64 {
    kib as u64 * 1024
}

/// `DescribeStream`.
pub(crate) fn describe(input: Input) -> Step {
    let Input { call, value } = input;
    or_refuse(Target::of(&call, &value).map(|target| {
        target.inspect(call.clone(), move |stream, now| {
            let limit = account::page_len(&value, "Limit").min(SHARDS_MAX);
            let after = value
                .text("ExclusiveStartShardId")
                .map(|id| {
                    shard::number(id)
                        .ok_or_else(|| error::no_shard(&call, &state::name(&stream), id))
                })
                .transpose()?;
            let behind: Vec<_> = stream
                .shards
                .iter()
                .filter(|shard| after.is_none_or(|after| shard.shard > after))
                .collect();
            let page = behind.iter().take(limit);
            let mut shown = common(&call, &stream, now);
            shown.extend(members([
                (
                    "Shards",
                    Value::List(
                        page.map(|known| shard::show(call.settings.manners, known))
                            .collect(),
                    ),
                ),
                ("HasMoreShards", (behind.len() > limit).into()),
            ]));
            Ok(done(Ok(Value::from([(
                "StreamDescription",
                Value::Map(shown),
            )]))))
        })
    }))
}

/// `DescribeStreamSummary`.
pub(crate) fn describe_summary(input: Input) -> Step {
    let Input { call, value } = input;
    or_refuse(Target::of(&call, &value).map(|target| {
        target.inspect(call.clone(), move |stream, now| {
            let mut shown = common(&call, &stream, now);
            shown.extend(members([
                ("StreamId", state::stream_id(&stream).into()),
                (
                    "OpenShardCount",
                    Value::Int(shard::open_count(&stream) as i64),
                ),
                (
                    "ConsumerCount",
                    Value::Int(crate::consumers::count(&stream) as i64),
                ),
                ("MaxRecordSizeInKiB", Value::Int(record_kib(&stream))),
                ("WarmThroughput", warm(&stream.notes)),
            ]));
            Ok(done(Ok(Value::from([(
                "StreamDescriptionSummary",
                Value::Map(shown),
            )]))))
        })
    }))
}

/// The largest record, in KiB, as it is shown: streams of other doors may take larger ones, which Kinesis cannot send.
fn record_kib(stream: &StreamInfo) -> i64 {
    stream
        .attributes
        .record_len_max
        .map_or(RECORD_KIB_MAX, |len| (len / 1024) as i64)
        .min(RECORD_KIB_MAX)
}

fn members<const N: usize>(members: [(&'static str, Value); N]) -> Vec<(MemberName, Value)> {
    members.map(|(name, value)| (name.into(), value)).into()
}

/// What both descriptions show.
fn common(call: &Call, stream: &StreamInfo, now: Timestamp) -> Vec<(MemberName, Value)> {
    let name = state::name(stream);
    let key = notes::read(&stream.notes, notes::KEY);
    members([
        ("StreamARN", state::arn(call, &name).into()),
        ("StreamName", name.into()),
        (
            "StreamStatus",
            state::status(&call.settings, stream, now).into(),
        ),
        ("StreamModeDetails", Mode::of(&stream.notes).details()),
        (
            "RetentionPeriodHours",
            Value::Int(state::retention_hours(stream)),
        ),
        ("StreamCreationTimestamp", stream.created.into()),
        ("EnhancedMonitoring", monitoring::show(&stream.notes)),
        (
            "EncryptionType",
            if key.is_some() { "KMS" } else { "NONE" }.into(),
        ),
        ("KeyId", key.into()),
    ])
}

/// `DeleteStream`.
pub(crate) fn delete(input: Input) -> Step {
    let Input { call, value } = input;
    or_refuse(Target::of(&call, &value).map(|target| {
        let deleted = target.clone();
        target.inspect(call.clone(), move |stream, _| {
            let consumers = crate::consumers::count(&stream);
            if consumers > 0 && !value.flag("EnforceConsumerDeletion") {
                return Err(ApiError::sender(
                    error::IN_USE,
                    format!(
                        "Stream {} under account {} has {consumers} consumers registered and EnforceConsumerDeletion is not set.",
                        deleted.name, call.account
                    ),
                ));
            }
            Ok(deleted.ask(call, StreamTo::Delete, |_, _| Ok(done(Ok(nothing())))))
        })
    }))
}

/// `IncreaseStreamRetentionPeriod`.
pub(crate) fn increase_retention(input: Input) -> Step {
    change_retention(input, |name, hours, known| {
        (hours < known).then(|| {
            format!(
                "Requested retention period ({hours} hours) for stream {name} can not be shorter than existing retention period \
                 ({known} hours). Use DecreaseRetentionPeriod API."
            )
        })
    })
}

/// `DecreaseStreamRetentionPeriod`.
pub(crate) fn decrease_retention(input: Input) -> Step {
    change_retention(input, |name, hours, known| {
        (hours > known).then(|| {
            format!(
                "Requested retention period ({hours} hours) for stream {name} can not be longer than existing retention period \
                 ({known} hours). Use IncreaseRetentionPeriod API."
            )
        })
    })
}

fn change_retention(input: Input, wrong: fn(&str, i64, i64) -> Option<String>) -> Step {
    let Input { call, value } = input;
    let hours = value.int("RetentionPeriodHours").unwrap_or_default();
    or_refuse(Target::of(&call, &value).map(|target| {
        let changing = call.clone();
        target.change(call, move |stream, now, attributes, kept| {
            if hours < *RETENTION_HOURS.start() {
                return Err(error::invalid(format!(
                    "Minimum allowed retention period is {} hours. Requested retention period ({hours} hours) is too short.",
                    RETENTION_HOURS.start()
                )));
            }
            if hours > *RETENTION_HOURS.end() {
                return Err(error::invalid(format!(
                    "Maximum allowed retention period is {} hours. Requested retention period ({hours} hours) is too long.",
                    RETENTION_HOURS.end()
                )));
            }
            if let Some(message) = wrong(&state::name(stream), hours, state::retention_hours(stream)) {
                return Err(error::invalid(message));
            }
            state::active(&changing, stream, now)?;
            attributes.retention_ms = hours as u64 * 3_600_000;
            if attributes != &stream.attributes {
                state::mark_updated(&changing.settings, kept, now);
            }
            Ok(nothing())
        })
    }))
}

/// `UpdateStreamMode`.
pub(crate) fn update_mode(input: Input) -> Step {
    let Input { call, value } = input;
    or_refuse(Target::of(&call, &value).map(|target| {
        account::usage(call.clone(), move |usage, _| {
            let changing = call.clone();
            Ok(target.change(call, move |stream, now, attributes, kept| {
                state::active(&changing, stream, now)?;
                let mode = value
                    .member("StreamModeDetails")
                    .and_then(|details| details.text("StreamMode"))
                    .map_or(Mode::Provisioned, Mode::named);
                if mode != Mode::of(kept) {
                    if mode == Mode::OnDemand {
                        usage.room_for_on_demand(&changing)?;
                    }
                    mode.keep(kept);
                    notes::remove(kept, notes::WARM);
                    attributes.limits = state::limits(&changing.settings, kept)?;
                    attributes.growth = state::growth(&changing.settings, mode);
                    state::mark_updated(&changing.settings, kept, now);
                }
                if let Some(warm) = value.int("WarmThroughputMiBps") {
                    keep_warm(mode, kept, warm)?;
                }
                Ok(nothing())
            }))
        })
    }))
}

/// `UpdateMaxRecordSize`.
pub(crate) fn update_record_size(input: Input) -> Step {
    let Input { call, value } = input;
    or_refuse(Target::of(&call, &value).map(|target| {
        let changing = call.clone();
        target.change(call, move |stream, now, attributes, kept| {
            state::active(&changing, stream, now)?;
            let kib = value.int("MaxRecordSizeInKiB").unwrap_or(RECORD_KIB);
            attributes.record_len_max = Some(record_len(kib));
            if attributes != &stream.attributes {
                state::mark_updated(&changing.settings, kept, now);
            }
            Ok(nothing())
        })
    }))
}

/// `UpdateStreamWarmThroughput`: on-demand streams take whatever comes, so any throughput is there.
pub(crate) fn update_warm_throughput(input: Input) -> Step {
    let Input { call, value } = input;
    or_refuse(Target::of(&call, &value).map(|target| {
        let changing = call.clone();
        target.change(call, move |stream, now, _, kept| {
            state::active(&changing, stream, now)?;
            let wanted = value.int("WarmThroughputMiBps").unwrap_or_default();
            keep_warm(Mode::of(kept), kept, wanted)?;
            let name = state::name(stream);
            Ok(Value::from([
                ("StreamARN", state::arn(&changing, &name).into()),
                ("StreamName", name.into()),
                ("WarmThroughput", warm(kept)),
            ]))
        })
    }))
}

fn keep_warm(mode: Mode, kept: &mut Notes, mib: i64) -> Result<(), ApiError> {
    if mode != Mode::OnDemand {
        return Err(ApiError::sender(
            error::VALIDATION,
            "WarmThroughputMiBps can be specified for a stream in ON_DEMAND mode only.",
        ));
    }
    if mib > WARM_MIB_MAX {
        return Err(error::invalid(format!(
            "WarmThroughputMiBps must be at most {WARM_MIB_MAX}."
        )));
    }
    notes::write(kept, notes::WARM, &mib.to_string());
    Ok(())
}

fn warm(kept: &Notes) -> Value {
    notes::read(kept, notes::WARM)
        .and_then(|mib| mib.parse().ok())
        .map_or(Value::Null, |mib: i64| {
            Value::from([
                ("TargetMiBps", Value::Int(mib)),
                ("CurrentMiBps", Value::Int(mib)),
            ])
        })
}
