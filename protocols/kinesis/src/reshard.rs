//! SplitShard, MergeShards and UpdateShardCount.

use std::sync::Arc;

use aws::{ApiError, Call, Input, Value};
use message::Timestamp;
use session::{Flow, Notes, RefusalKind, ShardInfo, ShardNo, StreamInfo, StreamTo};

use crate::{
    account, error, notes, shard,
    state::{self, Mode},
    target::{Step, Target, done, nothing, or_refuse},
};

/// Shards of one stream.
const SHARDS_MAX: u64 = 10_000;
/// How often a stream's shard count may be updated in [`RESIZES_MS`].
const RESIZES_MAX: usize = 10;
const RESIZES_MS: u64 = 24 * 3_600_000;
/// Rounds of splits and merges that an update may take: each at least halves the distance, but for what others do meanwhile.
const ROUNDS_MAX: u32 = 64;

/// Refuses what goes with provisioned, active streams only.
fn reshardable(call: &Call, stream: &StreamInfo, now: Timestamp) -> Result<(), ApiError> {
    if Mode::of(&stream.notes) == Mode::OnDemand {
        return Err(error::on_demand(call, &state::name(stream)));
    }
    state::active(call, stream, now)
}

/// The shard of that id, which must be open.
fn open_shard<'a>(
    call: &Call,
    stream: &'a StreamInfo,
    id: &str,
) -> Result<&'a ShardInfo, ApiError> {
    let name = state::name(stream);
    let found = shard::find(stream, id).ok_or_else(|| error::no_shard(call, &name, id))?;
    if found.closed.is_some() {
        return Err(closed(call, &name, found.shard));
    }
    Ok(found)
}

fn closed(call: &Call, stream: &str, shard: ShardNo) -> ApiError {
    error::invalid(format!(
        "Shard {} in stream {stream} under account {} has already been merged or split, and thus is not eligible for merging or \
         splitting.",
        shard::id(shard),
        call.account
    ))
}

/// `SplitShard`.
pub(crate) fn split(input: Input) -> Step {
    let Input { call, value } = input;
    or_refuse(Target::of(&call, &value).map(|target| {
        account::usage(call.clone(), move |usage, _| {
            let split = target.clone();
            Ok(target.inspect(call.clone(), move |stream, now| {
                let id = value.text("ShardToSplit").unwrap_or_default();
                let shard = open_shard(&call, &stream, id)?;
                reshardable(&call, &stream, now)?;
                usage.room_for(&call, 1)?;
                let at = value.text("NewStartingHashKey").unwrap_or_default();
                let at = splitting_hash(&call, &stream, shard, at)?;
                let to = StreamTo::Split {
                    shard: shard.shard,
                    at,
                };
                Ok(split.ask(call, to, |_, _| Ok(done(Ok(nothing())))))
            }))
        })
    }))
}

fn splitting_hash(
    call: &Call,
    stream: &StreamInfo,
    shard: &ShardInfo,
    text: &str,
) -> Result<u128, ApiError> {
    text.parse()
        .ok()
        .filter(|at| *at > shard.first_hash.saturating_add(1) && *at < shard.last_hash)
        .ok_or_else(|| {
            error::invalid(format!(
                "NewStartingHashKey {text} used in SplitShard() on shard {} in stream {} under account {} is not both greater than \
                 one plus the shard's StartingHashKey {} and less than the shard's EndingHashKey {}.",
                shard::id(shard.shard),
                state::name(stream),
                call.account,
                shard.first_hash,
                shard.last_hash
            ))
        })
}

/// `MergeShards`.
pub(crate) fn merge(input: Input) -> Step {
    let Input { call, value } = input;
    or_refuse(Target::of(&call, &value).map(|target| {
        let merged = target.clone();
        target.inspect(call.clone(), move |stream, now| {
            let one = value.text("ShardToMerge").unwrap_or_default();
            let other = value.text("AdjacentShardToMerge").unwrap_or_default();
            let one = open_shard(&call, &stream, one)?;
            let other = open_shard(&call, &stream, other)?;
            reshardable(&call, &stream, now)?;
            if !are_adjacent(one, other) && !are_adjacent(other, one) {
                return Err(error::invalid(format!(
                    "Shards {} and {} in stream {} under account {} are not an adjacent pair of shards eligible for merging",
                    shard::id(one.shard),
                    shard::id(other.shard),
                    state::name(&stream),
                    call.account
                )));
            }
            let to = StreamTo::Merge {
                shard: one.shard,
                adjacent: other.shard,
            };
            Ok(merged.ask(call, to, |_, _| Ok(done(Ok(nothing())))))
        })
    }))
}

fn are_adjacent(lower: &ShardInfo, upper: &ShardInfo) -> bool {
    lower.last_hash.checked_add(1) == Some(upper.first_hash)
}

/// `UpdateShardCount`.
pub(crate) fn update_count(input: Input) -> Step {
    let Input { call, value } = input;
    or_refuse(Target::of(&call, &value).map(|target| {
        let wanted = value
            .int("TargetShardCount")
            .map_or(0, |count| count as u64);
        account::usage(call.clone(), move |usage, _| {
            let (changing, reshaped) = (call.clone(), target.clone());
            let checked = target.change(call.clone(), move |stream, now, _, kept| {
                reshardable(&changing, stream, now)?;
                let current = shard::open_count(stream);
                check_count(&changing, &state::name(stream), current, wanted)?;
                usage.room_for(&changing, wanted.saturating_sub(current))?;
                count_resize(&changing, &state::name(stream), kept, now)?;
                let name = state::name(stream);
                Ok(Value::from([
                    ("StreamARN", state::arn(&changing, &name).into()),
                    ("StreamName", name.into()),
                    ("CurrentShardCount", Value::Int(current as i64)),
                    ("TargetShardCount", Value::Int(wanted as i64)),
                ]))
            });
            Ok(after_output(checked, move |answer| {
                approach(reshaped, call, wanted, ROUNDS_MAX, answer)
            }))
        })
    }))
}

/// Goes on when a flow has ended with an output.
fn after_output(step: Step, then: impl FnOnce(Value) -> Step + Send + 'static) -> Step {
    match step {
        Flow::Done(aws::Answer::Output(output)) => then(output),
        Flow::Ask(commands, answered) => Flow::ask_all(commands, move |events, now| {
            after_output(answered(events, now), then)
        }),
        other => other,
    }
}

fn check_count(call: &Call, name: &str, current: u64, wanted: u64) -> Result<(), ApiError> {
    let wrong = |why: String| {
        Err(ApiError::sender(
            error::LIMIT,
            format!(
                "UpdateShardCount cannot scale stream {name} under account {} from {current} to {wanted} shards: {why}.",
                call.account
            ),
        ))
    };
    if wanted > SHARDS_MAX {
        return wrong(format!("a stream has at most {SHARDS_MAX} shards"));
    }
    if call.settings.minute_rules && wanted > current * 2 {
        return wrong("at most twice the current open shard count is allowed".to_owned());
    }
    if call.settings.minute_rules && wanted < current.div_ceil(2) {
        return wrong("at least half of the current open shard count is required".to_owned());
    }
    Ok(())
}

/// Counts an update against those of the last day.
fn count_resize(call: &Call, name: &str, kept: &mut Notes, now: Timestamp) -> Result<(), ApiError> {
    if !call.settings.minute_rules {
        return Ok(());
    }
    let known = notes::read(kept, notes::RESIZED).unwrap_or_default();
    let mut times: Vec<u64> = known
        .split(',')
        .filter_map(|time| time.parse().ok())
        .filter(|time| now.since(Timestamp(*time)) < RESIZES_MS)
        .collect();
    if times.len() >= RESIZES_MAX {
        return Err(ApiError::sender(
            error::LIMIT,
            format!(
                "The shard count of stream {name} under account {} has been updated {RESIZES_MAX} times in the last 24 hours, which is \
                 the limit.",
                call.account
            ),
        ));
    }
    times.push(now.0);
    let times: Vec<_> = times.iter().map(u64::to_string).collect();
    notes::write(kept, notes::RESIZED, &times.join(","));
    Ok(())
}

/// Splits and merges until there are so many open shards, a round at a time, each planned from how the stream is then.
///
/// As AWS does it: up by splitting shards in the middle, all of them if need be; down by merging pairs, the smallest first. So
/// multiples give equal shards, and other counts shards of which the largest is twice the smallest.
fn approach(target: Target, call: Arc<Call>, wanted: u64, rounds: u32, answer: Value) -> Step {
    let again = target.clone();
    target.inspect(call.clone(), move |stream, _| {
        let steps = plan(&stream, wanted as usize);
        if steps.is_empty() || rounds == 0 {
            return Ok(done(Ok(answer)));
        }
        let commands = steps.into_iter().map(|step| again.command(step)).collect();
        Ok(Flow::ask_all(commands, move |events, _| {
            let failed = events.into_iter().find_map(|event| match event {
                // Another request was there first: the next round sees what it did.
                session::Event::Refused { refusal, .. }
                    if matches!(
                        refusal.kind,
                        RefusalKind::InUse | RefusalKind::InvalidArgument
                    ) =>
                {
                    None
                }
                event => again.stream(&call, event).err(),
            });
            match failed {
                Some(error) => done(Err(error)),
                None => approach(again, call, wanted, rounds - 1, answer),
            }
        }))
    })
}

/// What to do next to have so many open shards: splits, or merges of pairs that do not overlap, or nothing.
fn plan(stream: &StreamInfo, wanted: usize) -> Vec<StreamTo> {
    let mut open: Vec<_> = shard::open(stream).collect();
    open.sort_by_key(|shard| shard.first_hash);
    let len = |shard: &ShardInfo| shard.last_hash - shard.first_hash;
    if open.len() < wanted {
        // All of the largest are split, also when fewer would do: what is too much is merged then, evenly.
        let largest = open
            .iter()
            .map(|shard| len(shard))
            .max()
            .unwrap_or_default();
        return open
            .iter()
            .filter(|shard| len(shard) > largest / 2 && len(shard) > 2)
            .map(|shard| StreamTo::Split {
                shard: shard.shard,
                at: shard.first_hash + len(shard) / 2 + 1,
            })
            .collect();
    }
    let mut pairs: Vec<_> = open
        .windows(2)
        .enumerate()
        .map(|(at, pair)| (pair[1].last_hash - pair[0].first_hash, at))
        .collect();
    pairs.sort_unstable();
    let smallest = pairs.first().map_or(0, |(len, _)| *len);
    let mut merged = vec![false; open.len()];
    let mut steps = Vec::new();
    for (len, at) in pairs {
        // A few hashes more or less are not larger.
        if steps.len() == open.len() - wanted || len > smallest.saturating_add(smallest / 4) {
            break;
        }
        if !merged[at] && !merged[at + 1] {
            merged[at] = true;
            merged[at + 1] = true;
            steps.push(StreamTo::Merge {
                shard: open[at].shard,
                adjacent: open[at + 1].shard,
            });
        }
    }
    steps
}
