//! ListShards.

use std::sync::Arc;

use aws::{ApiError, Call, Input, Manners, Value};
use message::Timestamp;
use session::{ShardNo, StreamInfo};

use crate::{
    account::{bad_token, open_token},
    error,
    seal::{self, Form},
    shard::{self, Filter},
    state,
    target::{Step, Target, done, or_refuse},
};

/// Shards on a page.
const PAGE_MAX: usize = 1_000;

/// How the list goes on.
#[derive(Clone, Debug, PartialEq)]
struct Page {
    stream: String,
    /// Of this incarnation only.
    id: Option<u64>,
    filter: Filter,
    /// From this shard on.
    from: ShardNo,
}

impl Page {
    fn seal(&self, call: &Call) -> String {
        let (code, time) = self.filter.code();
        let mut content = Vec::new();
        content.extend(self.id.unwrap_or_default().to_be_bytes());
        content.extend(self.from.0.to_be_bytes());
        content.push(code);
        content.extend(time.to_be_bytes());
        content.extend(self.stream.as_bytes());
        seal::seal(call, Form::Shards, call.now, &content)
    }

    fn open(call: &Call, token: &str) -> Result<Self, ApiError> {
        let content = open_token(call, Form::Shards, token, call.now)?;
        Self::read(&content).ok_or_else(bad_token)
    }

    fn read(content: &[u8]) -> Option<Self> {
        let (id, rest) = content.split_first_chunk()?;
        let (from, rest) = rest.split_first_chunk()?;
        let (&[code], rest) = rest.split_first_chunk()?;
        let (time, name) = rest.split_first_chunk()?;
        Some(Self {
            stream: String::from_utf8(name.to_vec()).ok()?,
            id: Some(u64::from_be_bytes(*id)),
            filter: Filter::of_code(code, u64::from_be_bytes(*time))?,
            from: ShardNo(u32::from_be_bytes(*from)),
        })
    }

    /// What a request asks for, with or without a token.
    fn of(call: &Call, value: &Value) -> Result<Self, ApiError> {
        let named = value.text("StreamName").is_some() || value.text("StreamARN").is_some();
        let Some(token) = value.text("NextToken") else {
            if !named {
                return Err(error::invalid(
                    "Either NextToken or StreamName should be provided.",
                ));
            }
            return Self::first(call, value);
        };
        let page = Self::open(call, token)?;
        if named && Target::of(call, value)?.name != page.stream {
            return Err(error::invalid(
                "NextToken and StreamName cannot be provided together.",
            ));
        }
        for other in [
            "ExclusiveStartShardId",
            "ShardFilter",
            "StreamCreationTimestamp",
        ] {
            if value.member(other).is_some() {
                return Err(error::invalid(format!(
                    "NextToken and {other} cannot be provided together."
                )));
            }
        }
        Ok(page)
    }

    fn first(call: &Call, value: &Value) -> Result<Self, ApiError> {
        let target = Target::of(call, value)?;
        let after = |id: &str| {
            shard::number(id)
                .map(|number| ShardNo(number.0 + 1))
                .ok_or_else(|| error::no_shard(call, &target.name, id))
        };
        let mut page = Self {
            stream: target.name.clone(),
            id: None,
            filter: Filter::FromTrimHorizon,
            from: ShardNo(0),
        };
        if let Some(id) = value.text("ExclusiveStartShardId") {
            page.from = after(id)?;
        }
        let Some(filter) = value.member("ShardFilter") else {
            return Ok(page);
        };
        let kind = filter.text("Type").unwrap_or_default();
        let time = || {
            filter.time("Timestamp").ok_or_else(|| {
                error::invalid(format!(
                    "A Timestamp must be specified for a ShardFilter of type {kind}."
                ))
            })
        };
        let unwanted = [
            ("ShardId", kind == "AFTER_SHARD_ID"),
            ("Timestamp", kind.ends_with("_TIMESTAMP")),
        ];
        for (member, wanted) in unwanted {
            if !wanted && filter.member(member).is_some() {
                return Err(error::invalid(format!(
                    "A {member} must not be specified for a ShardFilter of type {kind}."
                )));
            }
        }
        match kind {
            "AFTER_SHARD_ID" => {
                let id = filter.text("ShardId").ok_or_else(|| {
                    error::invalid(format!(
                        "A ShardId must be specified for a ShardFilter of type {kind}."
                    ))
                })?;
                page.from = page.from.max(after(id)?);
            }
            "AT_TRIM_HORIZON" => page.filter = Filter::AtTrimHorizon,
            "AT_LATEST" => page.filter = Filter::AtLatest,
            "AT_TIMESTAMP" => page.filter = Filter::AtTime(time()?),
            "FROM_TIMESTAMP" => page.filter = Filter::FromTime(time()?),
            _ => {}
        }
        Ok(page)
    }

    /// The shards of it, and the page behind it.
    fn list(
        &self,
        manners: Manners,
        stream: &StreamInfo,
        most: usize,
        now: Timestamp,
    ) -> (Vec<Value>, Option<Self>) {
        let mut behind = stream
            .shards
            .iter()
            .filter(|shard| shard.shard >= self.from && self.filter.passes(stream, shard, now));
        let shown = behind
            .by_ref()
            .take(most)
            .map(|shard| shard::show(manners, shard))
            .collect();
        let next = behind.next().map(|shard| Self {
            id: Some(stream.id.0),
            from: shard.shard,
            ..self.clone()
        });
        (shown, next)
    }
}

/// The stream that a page's token goes on with.
pub(crate) fn stream_of(call: &Call, token: &str) -> Option<String> {
    Page::open(call, token).ok().map(|page| page.stream)
}

/// `ListShards`.
pub(crate) fn list(input: Input) -> Step {
    let Input { call, value } = input;
    or_refuse(checked_list(call, &value))
}

fn checked_list(call: Arc<Call>, value: &Value) -> Result<Step, ApiError> {
    let page = Page::of(&call, value)?;
    let most = value
        .int("MaxResults")
        .map_or(PAGE_MAX, |most| (most as usize).min(PAGE_MAX));
    let created = value.time("StreamCreationTimestamp");
    let target = Target::shown_as(page.stream.clone(), &page.stream);
    Ok(target.inspect(call.clone(), move |stream, now| {
        let is_other = page.id.is_some_and(|id| id != stream.id.0)
            || created.is_some_and(|created| created.0 / 1000 != stream.created.0 / 1000);
        if is_other {
            return Err(error::no_stream(&call, &state::name(&stream)));
        }
        let (shown, next) = page.list(call.settings.manners, &stream, most, now);
        Ok(done(Ok(Value::from([
            ("Shards", Value::List(shown)),
            ("NextToken", next.map(|next| next.seal(&call)).into()),
        ]))))
    }))
}
