//! The admin API: queues, streams, consumer groups and the pair over HTTP and JSON, without I/O.
//!
//! | request | does |
//! |---|---|
//! | `GET /api/queues` | durable queues with what is available, delayed and out in each, and how many consumers: `?after=NAME&limit=N` |
//! | `GET /api/queues/Q` | one of them, or any other queue |
//! | `GET /api/streams` | names, `?after=NAME&limit=N` |
//! | `PUT /api/streams/S` | makes a stream: `{"shards":1,"retention_ms":86400000,"bytes_max":null}`, all of it optional |
//! | `GET /api/streams/S`, `DELETE` | a stream with its shards |
//! | `GET /api/streams/S/shards/N/records` | records: `?from=first` (`last`, `next`, `offset:N`, `time:MS`), `&limit=N&wait_ms=N` |
//! | `GET /api/streams/S/groups` | names of consumer groups |
//! | `PUT /api/streams/S/groups/G` | makes a group: `{"start":"first"}` (`next`, `{"time_ms":N}`); one that is there stays as it is |
//! | `GET /api/streams/S/groups/G`, `DELETE` | its shards: where each goes on, whose it is, whether it is ready |
//! | `POST /api/streams/S/groups/G/shards/N/lease` | takes or renews the lease of a shard: `{"owner":"w1","ms":30000}` |
//! | `POST .../shards/N/yield` | gives it back: `{"owner":"w1"}` |
//! | `POST .../shards/N/checkpoint` | all below that offset is done: `{"owner":"w1","next":42}` |
//! | `GET /api/cluster` | role, epoch and lag of this node, what it knows of the other one, and the last takeover |
//! | `POST /api/cluster/switchover` | the active node hands over to its standby; for administrators |
//!
//! `?vhost=NAME` names the virtual host. Names in paths are percent-encoded. Errors are `{"error":"...","reason":"..."}`. A worker's
//! life is: look at the group, lease a shard that is `ready` and nobody's, read from its `next` on, checkpoint, renew; when a
//! read says `ended` and everything is checkpointed, the shard is `done` and its children become ready.
//!
//! | file | what |
//! |---|---|
//! | `request.rs` | [`Request`]: paths, queries, bodies |
//! | `queues.rs`, `streams.rs`, `groups.rs` | the operations |
//! | `cluster.rs` | [`Operator`]: the pair |
//! | `door.rs` | [`Door`]: HTTP heads, Basic logins |
//! | `reply.rs` | [`Reply`], refusals as statuses, what is shown |
//!
//! A login is HTTP Basic; without one it is anonymous, which is for who may be so by `auth.anonymous` (`admin`).
//!
//! Not here: sockets; exchanges and users; changing queues, which each protocol can.
#![forbid(unsafe_code)]

mod cluster;
mod door;
mod groups;
mod queues;
mod reply;
mod request;
mod streams;

pub use cluster::{Operator, health, is_ready, show};
pub use door::Door;
pub use reply::Reply;
pub use request::Request;

use session::Flow;

/// What every path of this API starts with.
pub const PREFIX: &str = "/api/";

/// Answers a request.
#[must_use]
pub fn answer(request: &Request) -> Flow<Reply> {
    route(request).unwrap_or_else(Flow::Done)
}

fn route(request: &Request) -> Result<Flow<Reply>, Reply> {
    let segments = request.segments()?;
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    match parts[..] {
        ["queues"] => queues::list(request),
        ["queues", queue] => queues::one(request, queue),
        ["streams"] => streams::list(request),
        ["streams", stream] => streams::one(request, stream),
        ["streams", stream, "shards", shard, "records"] => streams::records(request, stream, shard),
        ["streams", stream, "groups"] => groups::list(request, stream),
        ["streams", stream, "groups", group] => groups::one(request, stream, group),
        ["streams", stream, "groups", group, "shards", shard, act] => {
            groups::shard(request, (stream, group), shard, act)
        }
        _ => Err(Reply::error(404, "not_found", "nothing is here")),
    }
}
