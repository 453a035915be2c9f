//! All streams of an account and region: listing them, and how many shards they may have together.

use std::sync::Arc;

use aws::{ApiError, Call, Input, Manners, Value};
use bytes::Bytes;
use message::{Name, Timestamp};
use session::{Command, Event, Flow, Lane, List, Listed, StreamInfo, StreamTo, Token};

use crate::{
    error,
    seal::{self, Form},
    shard,
    state::{self, Mode},
    target::{Step, done, or_refuse},
};

/// On-demand streams of an account and region together.
pub(crate) const ON_DEMAND_STREAMS_MAX: u64 = 50;
/// Streams on a page of `ListStreams`.
const PAGE_MAX: usize = 100;
/// The same with the manners of moto, when nothing else is asked for.
const MOTO_PAGE_MAX: usize = 10;
/// Names that the core is asked for at once.
const NAMES_MAX: u32 = 1_000;
/// Streams that are looked at at once.
const LOOKS_MAX: usize = 1_000;
/// For how long a page token is good, in ms.
pub(crate) const TOKEN_MS: u64 = 300_000;

type WithNames = Box<dyn FnOnce(Vec<Name>, bool, Timestamp) -> Result<Step, ApiError> + Send>;
type WithStreams = Box<dyn FnOnce(Vec<StreamInfo>, Timestamp) -> Result<Step, ApiError> + Send>;

/// How much there is of what is limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Open shards.
    pub(crate) open_shards: u64,
    /// On-demand streams.
    pub(crate) on_demand: u64,
}

impl Usage {
    /// Refuses so many shards more if there would be too many.
    pub(crate) fn room_for(self, call: &Call, more: u64) -> Result<(), ApiError> {
        if self.open_shards + more > u64::from(call.settings.shards_max) {
            return Err(error::too_many_shards(call, self.open_shards, more));
        }
        Ok(())
    }

    /// Refuses one on-demand stream more if there would be too many.
    pub(crate) fn room_for_on_demand(self, call: &Call) -> Result<(), ApiError> {
        if self.on_demand >= ON_DEMAND_STREAMS_MAX {
            return Err(ApiError::sender(
                error::LIMIT,
                format!(
                    "This request would exceed the limit of {ON_DEMAND_STREAMS_MAX} on-demand streams for the account {} in {}.",
                    call.account, call.region
                ),
            ));
        }
        Ok(())
    }
}

/// Counts all there is, whoever asks and whatever Kinesis can name, and goes on.
pub(crate) fn usage(
    call: Arc<Call>,
    then: impl FnOnce(Usage, Timestamp) -> Result<Step, ApiError> + Send + 'static,
) -> Step {
    let counting = call.clone();
    names(
        call,
        None,
        (usize::MAX, |_| true),
        Vec::new(),
        Box::new(move |names, _, _| {
            Ok(streams(
                counting,
                StreamTo::Count,
                names,
                Vec::new(),
                Box::new(move |streams, now| {
                    let mut usage = Usage::default();
                    for stream in &streams {
                        usage.open_shards += shard::open_count(stream);
                        usage.on_demand += u64::from(Mode::of(&stream.notes) == Mode::OnDemand);
                    }
                    then(usage, now)
                }),
            ))
        }),
    )
}

/// Names of streams behind one of them, at most so many of those that are wanted, and whether there are more.
fn names(
    call: Arc<Call>,
    after: Option<Name>,
    (most, wanted): (usize, fn(&Name) -> bool),
    mut known: Vec<Name>,
    then: WithNames,
) -> Step {
    let list = List {
        of: Listed::Streams,
        after,
        limit: NAMES_MAX,
        ..List::default()
    };
    let command = Command::List {
        token: Token(0),
        lane: Lane(0),
        list: Box::new(list),
    };
    Flow::ask(command, move |event, now| {
        let (page, more) = match event {
            Event::Listed { names, more, .. } => (names, more),
            event => return done(Err(error::unexpected(&call, "", &event))),
        };
        let last = page.last().cloned();
        known.extend(page.into_iter().filter(wanted));
        if known.len() > most {
            known.truncate(most);
            return or_refuse(then(known, true, now));
        }
        match last.filter(|_| more) {
            Some(last) => names(call, Some(last), (most, wanted), known, then),
            None => or_refuse(then(known, false, now)),
        }
    })
}

/// What streams are; those that have gone meanwhile, or may not be looked at, are left out.
fn streams(
    call: Arc<Call>,
    to: StreamTo,
    mut rest: Vec<Name>,
    mut known: Vec<StreamInfo>,
    then: WithStreams,
) -> Step {
    if rest.is_empty() {
        let now = call.now;
        return or_refuse(then(known, now));
    }
    let later = rest.split_off(rest.len().min(LOOKS_MAX));
    let looks = rest
        .into_iter()
        .map(|name| Command::Stream {
            token: Token(0),
            lane: Lane(0),
            name,
            to: Box::new(to.clone()),
        })
        .collect();
    Flow::ask_all(looks, move |events, now| {
        known.extend(events.into_iter().filter_map(|event| match event {
            Event::Stream { stream, .. } => Some(*stream),
            _ => None,
        }));
        if later.is_empty() {
            or_refuse(then(known, now))
        } else {
            streams(call, to, later, known, then)
        }
    })
}

/// Whether Kinesis can write it.
fn is_nameable(name: &Name) -> bool {
    (1..=128).contains(&name.len())
        && name
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

/// `ListStreams`.
pub(crate) fn list_streams(input: Input) -> Step {
    let Input { call, value } = input;
    let limit = match call.settings.manners {
        Manners::Moto if value.int("Limit").is_none() => MOTO_PAGE_MAX,
        _ => page_len(&value, "Limit"),
    };
    or_refuse(list_page(call, &value, limit))
}

fn list_page(call: Arc<Call>, value: &Value, limit: usize) -> Result<Step, ApiError> {
    let by_token = value
        .text("NextToken")
        .map(|token| {
            let content = open_token(&call, Form::Streams, token, call.now)?;
            String::from_utf8(content).map_err(|_| bad_token())
        })
        .transpose()?;
    let after = by_token.or_else(|| value.text("ExclusiveStartStreamName").map(str::to_owned));
    let after = after.map(|name| Bytes::from(name.into_bytes()));
    let listing = call.clone();
    Ok(names(
        call,
        after,
        (limit, is_nameable),
        Vec::new(),
        Box::new(move |names, more, _| {
            let call = listing.clone();
            let last = names.last().filter(|_| more);
            let next = last.map(|last| seal::seal(&call, Form::Streams, call.now, last));
            Ok(streams(
                listing,
                StreamTo::Inspect,
                names,
                Vec::new(),
                Box::new(move |streams, now| {
                    let names = streams.iter().map(|stream| state::name(stream).into());
                    let shown = streams.iter().map(|stream| summary(&call, stream, now));
                    Ok(done(Ok(Value::from([
                        ("StreamNames", Value::List(names.collect())),
                        ("HasMoreStreams", more.into()),
                        ("NextToken", next.into()),
                        ("StreamSummaries", Value::List(shown.collect())),
                    ]))))
                }),
            ))
        }),
    ))
}

fn summary(call: &Call, stream: &StreamInfo, now: Timestamp) -> Value {
    let name = state::name(stream);
    Value::from([
        ("StreamARN", state::arn(call, &name).into()),
        ("StreamName", name.into()),
        (
            "StreamStatus",
            state::status(&call.settings, stream, now).into(),
        ),
        ("StreamModeDetails", Mode::of(&stream.notes).details()),
        ("StreamCreationTimestamp", stream.created.into()),
    ])
}

/// How many a page holds: as many as asked for, at most 100.
pub(crate) fn page_len(value: &Value, member: &str) -> usize {
    value
        .int(member)
        .and_then(|limit| usize::try_from(limit).ok())
        .map_or(PAGE_MAX, |limit| limit.min(PAGE_MAX))
}

/// What a page token says, if it is one of ours and not too old.
pub(crate) fn open_token(
    call: &Call,
    form: Form,
    token: &str,
    now: Timestamp,
) -> Result<Vec<u8>, ApiError> {
    let (created, content) = seal::open(call, form, token).ok_or_else(bad_token)?;
    if now.since(created) > TOKEN_MS {
        return Err(ApiError::sender(
            "ExpiredNextTokenException",
            format!(
                "The NextToken has expired: it is good for {} seconds.",
                TOKEN_MS / 1000
            ),
        ));
    }
    Ok(content)
}

/// A page token that is none.
pub(crate) fn bad_token() -> ApiError {
    error::invalid("NextToken is invalid.")
}

/// `DescribeLimits`.
pub(crate) fn describe_limits(input: Input) -> Step {
    let call = input.call;
    let shown = call.clone();
    usage(call, move |usage, _| {
        let count = |count: u64| Value::Int(count as i64);
        Ok(done(Ok(Value::from([
            ("ShardLimit", Value::Int(shown.settings.shards_max.into())),
            ("OpenShardCount", count(usage.open_shards)),
            ("OnDemandStreamCount", count(usage.on_demand)),
            ("OnDemandStreamCountLimit", count(ON_DEMAND_STREAMS_MAX)),
        ]))))
    })
}

/// `DescribeAccountSettings`: nothing is billed here, so nothing can be committed to.
pub(crate) fn describe_account_settings(_input: Input) -> Step {
    done(Ok(commitment()))
}

/// `UpdateAccountSettings`: takes what is so anyway.
pub(crate) fn update_account_settings(input: Input) -> Step {
    let wanted = input
        .value
        .member("MinimumThroughputBillingCommitment")
        .and_then(|commitment| commitment.text("Status"));
    done(match wanted {
        Some("DISABLED") => Ok(commitment()),
        _ => Err(ApiError::sender(
            error::VALIDATION,
            "There is no billing here that a minimum throughput could be committed to.",
        )),
    })
}

fn commitment() -> Value {
    Value::from([(
        "MinimumThroughputBillingCommitment",
        Value::from([("Status", Value::from("DISABLED"))]),
    )])
}
