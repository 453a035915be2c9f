//! Consumer groups: which member reads which shard, and how far it has come.

use bytes::Bytes;
use message::{Name, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use session::{
    Command, Event, Flow, GroupInfo, GroupShard, GroupTo, Lane, Listed, ShardNo, StreamStart, Token,
};

use crate::{
    Reply, Request,
    streams::{names, shard_no, text},
};

pub(crate) fn list(request: &Request, stream: &str) -> Result<Flow<Reply>, Reply> {
    names(
        request,
        Listed::Groups(Name::copy_from_slice(stream.as_bytes())),
    )
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Start {
    Word(String),
    Time { time_ms: u64 },
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct NewGroup {
    start: Option<Start>,
}

pub(crate) fn one(request: &Request, stream: &str, group: &str) -> Result<Flow<Reply>, Reply> {
    let to = match &*request.method {
        "GET" => GroupTo::Inspect,
        "DELETE" => GroupTo::Delete,
        "PUT" => {
            let new: NewGroup = request.json()?;
            let start = match new.start {
                None => StreamStart::First,
                Some(Start::Time { time_ms }) => StreamStart::Time(Timestamp(time_ms)),
                Some(Start::Word(word)) if word == "first" => StreamStart::First,
                Some(Start::Word(word)) if word == "next" => StreamStart::Next,
                Some(Start::Word(_)) => {
                    let reason = "a start is \"first\", \"next\" or {\"time_ms\":N}";
                    return Err(Reply::error(400, "bad_request", reason));
                }
            };
            GroupTo::Create { start }
        }
        _ => return Err(request.not_allowed("GET, PUT, DELETE")),
    };
    request.knows(&[])?;
    let deletes = to == GroupTo::Delete;
    Ok(ask(stream, group, to, move |group| {
        if deletes {
            Reply::done()
        } else {
            Reply::ok(show(group))
        }
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Lease {
    owner: String,
    ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Yield {
    owner: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Checkpoint {
    owner: String,
    next: u64,
}

pub(crate) fn shard(
    request: &Request,
    (stream, group): (&str, &str),
    shard: &str,
    act: &str,
) -> Result<Flow<Reply>, Reply> {
    if request.method != "POST" {
        return Err(request.not_allowed("POST"));
    }
    request.knows(&[])?;
    let shard = shard_no(shard)?;
    let to = match act {
        "lease" => {
            let Lease { owner, ms } = request.json()?;
            let owner = Bytes::from(owner);
            GroupTo::Lease { shard, owner, ms }
        }
        "yield" => {
            let Yield { owner } = request.json()?;
            let owner = Bytes::from(owner);
            GroupTo::Yield { shard, owner }
        }
        "checkpoint" => {
            let Checkpoint { owner, next } = request.json()?;
            let owner = Bytes::from(owner);
            GroupTo::Checkpoint { shard, owner, next }
        }
        _ => return Err(Reply::error(404, "not_found", "nothing is here")),
    };
    Ok(ask(stream, group, to, move |group| show_one(group, shard)))
}

fn ask(
    stream: &str,
    group: &str,
    to: GroupTo,
    show: impl FnOnce(&GroupInfo) -> Reply + Send + 'static,
) -> Flow<Reply> {
    let command = Command::Group {
        token: Token(0),
        lane: Lane(0),
        stream: Name::copy_from_slice(stream.as_bytes()),
        group: Bytes::copy_from_slice(group.as_bytes()),
        to: Box::new(to),
    };
    Flow::ask(command, move |event, _| {
        Flow::Done(match event {
            Event::Group { group, .. } => show(&group),
            Event::Refused { refusal, .. } => Reply::refused(&refusal),
            _ => Reply::unexpected(),
        })
    })
}

fn show(group: &GroupInfo) -> Value {
    json!({
        "stream": text(&group.stream),
        "group": text(&group.group),
        "shards": group.shards.iter().map(show_shard).collect::<Vec<_>>(),
    })
}

fn show_one(group: &GroupInfo, shard: ShardNo) -> Reply {
    match group.shards.iter().find(|one| one.shard == shard) {
        Some(one) => Reply::ok(show_shard(one)),
        None => Reply::unexpected(),
    }
}

/// A lease without an end lasts as long as its owner's connection.
fn show_shard(shard: &GroupShard) -> Value {
    let (owner, until) = match &shard.lease {
        Some((owner, until)) => (Some(text(owner)), (until.0 != u64::MAX).then_some(until.0)),
        None => (None, None),
    };
    json!({
        "shard": shard.shard.0,
        "next": shard.next,
        "owner": owner,
        "until_ms": until,
        "counter": shard.counter,
        "ready": shard.ready,
        "done": shard.done,
    })
}
