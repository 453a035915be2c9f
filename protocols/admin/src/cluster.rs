//! The pair: what a node knows of it, and the change of places that an administrator asks for.
//!
//! | request | answer |
//! |---|---|
//! | `GET /api/cluster` | [`show`]; 401: it takes a login, on every node |
//! | `POST /api/cluster/switchover` | 202: it has begun; 409: there is nobody to hand over to; 403: the user is no administrator |
//!
//! A node that is not the active one has no core, but verifies logins for this all the same
//! ([`Authenticate::verified_anywhere`](session::Authenticate)): what it knows it tells whom the active one would tell. Without a login there are
//! `/health/ready` and `/metrics`. It hands nothing over: 503, with where the active one is.

use serde_json::{Map, Value, json};
use session::{Active, Cluster, Damage, JournalView, Refusal, RefusalKind, Role, Takeover};

use crate::{Reply, Request};

/// What the API asks of the node. Called on the task of a connection, so none of it waits.
pub struct Operator {
    /// What the node knows of the pair.
    pub cluster: Box<dyn Fn() -> Cluster + Send + Sync>,
    /// Begins to hand over to the standby. `Err`: a sentence that says why that cannot be.
    pub switch_over: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// Whether the user is an administrator.
    pub is_administrator: Box<dyn Fn(&str) -> bool + Send + Sync>,
}

/// Who asks.
pub(crate) enum Asker<'a> {
    /// A user with a password.
    User(&'a str),
    /// Somebody without.
    Anybody,
    /// Who came through that listener, and whose login was refused.
    Refused(&'static str, &'a Refusal),
}

/// Whether the request is about the pair.
pub(crate) fn is_about_pair(request: &Request) -> bool {
    let segments = request.segments();
    segments.is_ok_and(|segments| segments.first().is_some_and(|first| first == "cluster"))
}

/// The answer, if the request is about the pair.
pub(crate) fn answer(operator: &Operator, request: &Request, asker: &Asker<'_>) -> Option<Reply> {
    let segments = request.segments().ok()?;
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    match (parts.as_slice(), request.method.as_str()) {
        (["cluster"], "GET") => Some(match asker {
            Asker::Refused(listener, refusal) if refusal.kind != RefusalKind::NotActive => {
                Reply::refused_at(listener, refusal)
            }
            // The login is right, wherever it was verified.
            _ => Reply::ok(show(&(operator.cluster)())),
        }),
        (["cluster", "switchover"], "POST") => Some(match asker {
            Asker::Refused(listener, refusal) => Reply::refused_at(listener, refusal),
            Asker::User(user) if (operator.is_administrator)(user) => {
                // Once it has begun this node may know nothing of the other one any more.
                let known = show(&(operator.cluster)());
                match (operator.switch_over)() {
                    Ok(()) => Reply::begun(known),
                    Err(reason) => Reply::error(409, "conflict", &reason),
                }
            }
            Asker::User(_) | Asker::Anybody => Reply::error(
                403,
                "access_refused",
                "this is for administrators: users with administrator = true",
            ),
        }),
        (["cluster"], _) => Some(request.not_allowed("GET")),
        (["cluster", "switchover"], _) => Some(request.not_allowed("POST")),
        _ => None,
    }
}

/// What `GET /health/ready` says: a part of [`show`], flat. `draining`: the server takes nobody any more, whatever the role.
#[must_use]
pub fn health(cluster: &Cluster, draining: bool) -> Value {
    let lag = cluster.lag;
    json!({
        "role": if draining { "draining" } else { cluster.role.as_str() },
        "epoch": cluster.epoch,
        "lag_batches": lag.map(|lag| lag.batches),
        "lag_bytes": lag.map(|lag| lag.bytes),
        "lag_ms": lag.map(|lag| lag.ms),
        "active": cluster.active.as_deref().map(addresses),
    })
}

/// Whether clients are served here.
#[must_use]
pub fn is_ready(cluster: &Cluster) -> bool {
    cluster.role == Role::Active
}

/// What a node knows of the pair, as JSON: everything in [`Cluster`]. `node` is no name of a machine or a place: it changes with each step down. What is not known, or has no meaning in its role, is null.
#[must_use]
pub fn show(cluster: &Cluster) -> Value {
    let standbys: Vec<Value> = cluster
        .standbys
        .iter()
        .map(|standby| {
            json!({
                "node": standby.node,
                "lag_batches": standby.lag_batches,
                "seen_ms_ago": standby.seen_ms_ago,
                "can_take_over": standby.can_take_over,
                "addresses": addresses(&standby.addresses),
            })
        })
        .collect();
    json!({
        "role": cluster.role.as_str(),
        "node": cluster.node,
        "epoch": cluster.epoch,
        "committed": cluster.committed,
        "lag": cluster.lag.map(|lag| json!({
            "batches": lag.batches,
            "bytes": lag.bytes,
            "ms": lag.ms,
        })),
        "active": cluster.active.as_deref().map(addresses),
        "standbys": standbys,
        "clock_ahead_ms": cluster.clock_ahead_ms,
        "takeovers": cluster.takeovers,
        "last_takeover": cluster.last_takeover.as_ref().map(takeover),
        "journal": journal(&cluster.journal),
    })
}

/// `damages` and `losses` say how many places there are in all: the lists name [`JournalView::TOLD_MAX`] at most.
/// `damages_beyond`: there are more damaged places, which are not counted.
fn journal(journal: &JournalView) -> Value {
    let shown = |damage: &Damage| {
        json!({
            "file": damage.file,
            "offset": damage.offset,
            "what": damage.what,
            "first_batch": damage.batches.map(|(first, _)| first),
            "last_batch": damage.batches.map(|(_, last)| last),
            "records": (damage.records > 0).then_some(damage.records),
            "given_up_ms": damage.given_up.map(|at| at.0),
            "kept": damage.kept,
        })
    };
    json!({
        "given_up": journal.given_up.iter().map(shown).collect::<Vec<_>>(),
        "losses": journal.losses,
        "passed_over_records": journal.passed_over,
        "damaged": journal.damaged.iter().map(shown).collect::<Vec<_>>(),
        "damages": journal.damages,
        "damages_beyond": journal.damages_beyond,
        "repaired_records": journal.repaired,
        "scrubbed_bytes": journal.scrubbed_bytes,
        "scrub_passes": journal.scrub_passes,
        "disk": journal.disk.map(|disk| json!({
            "free_bytes": disk.free_bytes,
            "low": disk.low,
        })),
    })
}

fn addresses(active: &Active) -> Value {
    let mut object = Map::new();
    for (listener, address) in &active.addresses {
        object.insert(listener.to_string(), Value::from(&**address));
    }
    Value::Object(object)
}

fn takeover(takeover: &Takeover) -> Value {
    let mut phases = Map::new();
    for (phase, us) in takeover.phases() {
        phases.insert(phase.to_owned(), us.into());
    }
    json!({
        "at_ms": takeover.at.0,
        "reason": takeover.reason,
        "phases_us": phases,
    })
}
