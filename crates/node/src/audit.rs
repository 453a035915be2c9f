//! Who was refused what: a line in the log, and a counter.
//!
//! Lines are made outside the lock, and each kind has a budget of its own (`LogRate`): a flood of refusals leaves lines out
//! and says how many. What a peer wrote of itself is shown escaped and cut short. The counters have no label that a peer chooses.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use auth::{Action, Principal};
use bytes::Bytes;
use message::Timestamp;
use session::{Authenticate, Credentials, LogRate, Peer, Refusal, RefusalKind, SessionId};

use crate::{permission::Forbidden, step::Connection};

/// How much of a name that a peer chose is shown, in bytes.
const SHOWN_LEN_MAX: usize = 200;
/// What a protocol is counted as, by the first word of its name.
const PROTOCOLS: [&str; 7] = ["mqtt", "amqp", "stomp", "sqs", "sns", "kinesis", "other"];
/// What is counted: a login, and each action.
const KINDS: [&str; 4] = ["login", "publish", "subscribe", "declare"];

/// A command that was not permitted.
pub(crate) struct Refused {
    peer: SocketAddr,
    protocol: &'static str,
    client: Bytes,
    principal: Option<Arc<Principal>>,
    action: Action,
    target: String,
}

impl Refused {
    pub(crate) fn new(connection: &Connection, forbidden: &Forbidden) -> Self {
        Self {
            peer: connection.peer.address,
            protocol: connection.protocol,
            client: Bytes::copy_from_slice(&connection.client),
            principal: connection.principal.clone(),
            action: forbidden.action,
            target: forbidden.target.clone(),
        }
    }
}

/// A connection that was closed because its user may not be there any more.
pub(crate) struct Closed {
    pub(crate) peer: SocketAddr,
    pub(crate) protocol: &'static str,
    pub(crate) principal: Arc<Principal>,
    pub(crate) refusal: Refusal,
}

/// The counters and the lines' budgets.
#[derive(Default)]
pub(crate) struct Audit {
    logins: LogRate,
    permissions: LogRate,
    closings: LogRate,
    counts: [[AtomicU64; PROTOCOLS.len()]; KINDS.len()],
}

impl Audit {
    fn count(&self, kind: usize, protocol: &str) {
        let name = protocol.split(' ').next().unwrap_or_default();
        let place = PROTOCOLS
            .iter()
            .position(|known| known.eq_ignore_ascii_case(name))
            .unwrap_or(PROTOCOLS.len() - 1);
        self.counts[kind][place].fetch_add(1, Ordering::Relaxed);
    }

    /// A command was not permitted.
    pub(crate) fn permission(&self, refused: &Refused, now: Timestamp) {
        self.count(1 + refused.action as usize, refused.protocol);
        let Some(left_out) = self.permissions.admit(now) else {
            return;
        };
        let principal = refused.principal.as_deref();
        tracing::info!(
            peer = %refused.peer,
            protocol = refused.protocol,
            user = principal.map(|principal| &*principal.user),
            vhost = principal.map(|principal| &*principal.vhost),
            client = ?shown(&refused.client),
            action = refused.action.as_str(),
            target = ?refused.target,
            left_out,
            "permission refused"
        );
    }

    /// A login was verified, or refused.
    pub(crate) fn login(
        &self,
        session: SessionId,
        peer: &Peer,
        request: &Authenticate,
        answer: Result<Principal, Refusal>,
        now: Timestamp,
    ) {
        let refusal = match answer {
            Ok(principal) => {
                return tracing::debug!(
                    session = session.0, peer = %peer.address, protocol = request.protocol,
                    user = %principal.user, vhost = %principal.vhost,
                    client = ?shown(&request.client), "logged in"
                );
            }
            Err(refusal) => refusal,
        };
        let elsewhere = matches!(
            refusal.kind,
            RefusalKind::AccessDenied | RefusalKind::NotFound
        );
        if request.vhost_follows && elsewhere {
            return;
        }
        self.count(0, request.protocol);
        let Some(left_out) = self.logins.admit(now) else {
            return;
        };
        let user = match &request.credentials {
            Credentials::Anonymous => None,
            Credentials::Plain { user, .. } => Some(shown(user.as_bytes())),
            Credentials::Vouched { user } => Some(shown(user.as_bytes())),
            Credentials::Broker => Some(shown(b"the broker itself")),
        };
        tracing::info!(
            session = session.0,
            peer = %peer.address,
            protocol = request.protocol,
            user = user.map(tracing::field::debug),
            vhost = request.vhost.as_ref().map(|vhost| tracing::field::debug(shown(vhost.as_bytes()))),
            client = ?shown(&request.client),
            refusal = ?shown(refusal.detail.as_bytes()),
            left_out,
            "login refused"
        );
    }

    /// A connection was closed.
    pub(crate) fn closed(&self, closed: &Closed, now: Timestamp) {
        let Some(left_out) = self.closings.admit(now) else {
            return;
        };
        let Closed {
            peer,
            protocol,
            principal,
            refusal,
        } = closed;
        tracing::info!(
            %peer,
            protocol,
            user = &*principal.user,
            vhost = &*principal.vhost,
            refusal = ?shown(refusal.detail.as_bytes()),
            left_out,
            "closed a connection: its user may not be there any more"
        );
    }

    /// The counters as Prometheus text. All of them from the start, so that a first refusal is a step and not a new line.
    pub(crate) fn write_metrics(&self, out: &mut String) {
        out.push_str("# HELP bascule_refused_total Logins, and actions for want of permission, that were refused.\n");
        out.push_str("# TYPE bascule_refused_total counter\n");
        for (kind, row) in KINDS.iter().zip(&self.counts) {
            for (protocol, count) in PROTOCOLS.iter().zip(row) {
                let count = count.load(Ordering::Relaxed);
                writeln!(
                    out,
                    "bascule_refused_total{{action=\"{kind}\",protocol=\"{protocol}\"}} {count}"
                )
                .expect("writing to a string");
            }
        }
    }
}

/// What a peer wrote, as text and cut short.
fn shown(text: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(&text[..text.len().min(SHOWN_LEN_MAX)]).into_owned();
    text.truncate(text.floor_char_boundary(SHOWN_LEN_MAX));
    text
}
