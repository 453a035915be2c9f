//! Streams: listed, made, shown, deleted, read.

use bytes::Bytes;
use message::{Name, Timestamp, base64};
use serde::Deserialize;
use serde_json::{Value, json};
use session::{
    Command, Event, Flow, Lane, List, Listed, ReadStream, Records, ShardInfo, ShardNo,
    StreamAttributes, StreamInfo, StreamStart, StreamTo, Token, partition_key,
};

use crate::{Reply, Request};

/// Most bytes of bodies in one answer.
const READ_BYTES_MAX: u64 = 4 << 20;
/// Most records in one answer.
const RECORDS_MAX: u64 = 10_000;
/// The longest that a read waits, in ms.
const WAIT_MS_MAX: u64 = 20_000;

/// The command for a page of names of one kind.
pub(crate) fn page(request: &Request, of: Listed) -> Result<Command, Reply> {
    if request.method != "GET" {
        return Err(request.not_allowed("GET"));
    }
    request.knows(&["after", "limit"])?;
    let list = List {
        of,
        after: request.parameter("after").map(Name::from),
        limit: request.number("limit", 100, (1, 1_000))? as u32,
        ..List::default()
    };
    Ok(Command::List {
        token: Token(0),
        lane: Lane(0),
        list: Box::new(list),
    })
}

/// Names of one kind, in pages.
pub(crate) fn names(request: &Request, of: Listed) -> Result<Flow<Reply>, Reply> {
    let command = page(request, of)?;
    Ok(Flow::ask(command, |event, _| {
        Flow::Done(match event {
            Event::Listed { names, more, .. } => {
                let names: Vec<_> = names.iter().map(|name| text(name)).collect();
                Reply::ok(json!({ "names": names, "more": more }))
            }
            Event::Refused { refusal, .. } => Reply::refused(&refusal),
            _ => Reply::unexpected(),
        })
    }))
}

pub(crate) fn list(request: &Request) -> Result<Flow<Reply>, Reply> {
    names(request, Listed::Streams)
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct NewStream {
    shards: Option<u32>,
    retention_ms: Option<u64>,
    bytes_max: Option<u64>,
}

pub(crate) fn one(request: &Request, stream: &str) -> Result<Flow<Reply>, Reply> {
    let (to, status) = match &*request.method {
        "GET" => (StreamTo::Inspect, 200),
        "DELETE" => (StreamTo::Delete, 204),
        "PUT" => {
            let new: NewStream = request.json()?;
            let mut attributes = StreamAttributes {
                bytes_max: new.bytes_max,
                ..StreamAttributes::default()
            };
            attributes.retention_ms = new.retention_ms.unwrap_or(attributes.retention_ms);
            let to = StreamTo::Create {
                attributes,
                shards: new.shards.unwrap_or(1),
                notes: Vec::new(),
            };
            (to, 201)
        }
        _ => return Err(request.not_allowed("GET, PUT, DELETE")),
    };
    request.knows(&[])?;
    let command = Command::Stream {
        token: Token(0),
        lane: Lane(0),
        name: Name::copy_from_slice(stream.as_bytes()),
        to: Box::new(to),
    };
    Ok(Flow::ask(command, move |event, _| {
        Flow::Done(match event {
            Event::Stream { .. } if status == 204 => Reply::done(),
            Event::Stream { stream, .. } => Reply {
                status,
                body: Some(show(&stream)),
                allow: None,
            },
            Event::Refused { refusal, .. } => Reply::refused(&refusal),
            _ => Reply::unexpected(),
        })
    }))
}

pub(crate) fn records(request: &Request, stream: &str, shard: &str) -> Result<Flow<Reply>, Reply> {
    if request.method != "GET" {
        return Err(request.not_allowed("GET"));
    }
    request.knows(&["from", "limit", "wait_ms"])?;
    let from = match request.parameter("from") {
        None => StreamStart::First,
        Some(text) => start(&text)?,
    };
    let read = ReadStream {
        token: Token(0),
        lane: Lane(0),
        stream: Name::copy_from_slice(stream.as_bytes()),
        id: None,
        shard: shard_no(shard)?,
        from,
        count: request.number("limit", 100, (1, RECORDS_MAX))? as u32,
        bytes_max: READ_BYTES_MAX,
        wait_ms: request.number("wait_ms", 0, (0, WAIT_MS_MAX))?,
        limited: true,
    };
    Ok(Flow::ask(
        Command::ReadStream(Box::new(read)),
        |event, _| {
            Flow::Done(match event {
                Event::Records { records, .. } => Reply::ok(show_records(&records)),
                Event::Refused { refusal, .. } => Reply::refused(&refusal),
                _ => Reply::unexpected(),
            })
        },
    ))
}

/// Where reading begins, as a query says it.
pub(crate) fn start(text: &str) -> Result<StreamStart, Reply> {
    let number = |digits: &str| digits.parse::<u64>().ok();
    let start = match text.split_once(':') {
        None => match text {
            "first" => Some(StreamStart::First),
            "last" => Some(StreamStart::Last),
            "next" => Some(StreamStart::Next),
            _ => None,
        },
        Some(("offset", digits)) => number(digits).map(StreamStart::Offset),
        Some(("time", digits)) => number(digits).map(|ms| StreamStart::Time(Timestamp(ms))),
        Some(_) => None,
    };
    start.ok_or_else(|| {
        let reason = "a start is first, last, next, offset:N or time:MILLISECONDS";
        Reply::error(400, "bad_request", reason)
    })
}

pub(crate) fn shard_no(text: &str) -> Result<ShardNo, Reply> {
    text.parse()
        .map(ShardNo)
        .map_err(|_| Reply::error(400, "bad_request", "a shard is a number"))
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn show(stream: &StreamInfo) -> Value {
    json!({
        "name": text(&stream.name),
        "retention_ms": (stream.attributes.retention_ms != u64::MAX).then_some(stream.attributes.retention_ms),
        "bytes_max": stream.attributes.bytes_max,
        "created_ms": stream.created.0,
        "first_offset": stream.first_offset,
        "next_offset": stream.next_offset,
        "consumers": stream.consumers,
        "shards": stream.shards.iter().map(show_shard).collect::<Vec<_>>(),
    })
}

fn show_shard(shard: &ShardInfo) -> Value {
    json!({
        "shard": shard.shard.0,
        "parents": shard.parents.iter().map(|parent| parent.0).collect::<Vec<_>>(),
        "first_hash": shard.first_hash.to_string(),
        "last_hash": shard.last_hash.to_string(),
        "opened_ms": shard.opened.0,
        "first_offset": shard.first_offset,
        "end_offset": shard.closed.map(|(_, end)| end),
        "records": shard.records,
    })
}

/// A body is text where it is UTF-8, else base64.
fn show_records(read: &Records) -> Value {
    let records: Vec<Value> = read
        .records
        .iter()
        .map(|record| {
            let key: Bytes = partition_key(&record.message);
            let mut shown = json!({
                "offset": record.offset,
                "time_ms": record.time.0,
                "key": text(&key),
            });
            let (name, body) = match std::str::from_utf8(&record.message.body) {
                Ok(body) => ("text", body.to_owned()),
                Err(_) => ("base64", base64::encode(&record.message.body)),
            };
            shown[name] = Value::String(body);
            shown
        })
        .collect();
    json!({
        "records": records,
        "next": read.next,
        "ended": read.ended,
        "children": read.children.iter().map(|child| child.shard.0).collect::<Vec<_>>(),
        "behind_ms": read.behind_ms,
    })
}
