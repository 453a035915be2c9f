//! What a command comes to: reads, changes nothing.

use message::{Message, Timestamp};
use session::{Command, SessionId};
use std::sync::Arc;

use crate::{Broker, Context, Decision, Effect, Fetch, SessionInfo};

impl Broker {
    /// Decides a command.
    pub fn decide(&self, _from: SessionId, _command: &Command, _cx: &Context, _out: &mut Decision) {}
    /// A connection has been authenticated.
    pub fn decide_attach(&self, _id: SessionId, _who: &SessionInfo, _cx: &Context, _out: &mut Decision) {}
    /// A connection is gone.
    pub fn decide_detach(&self, _id: SessionId, _cx: &Context, _out: &mut Decision) {}
    /// What is due: `true` when more is.
    pub fn decide_tick(&self, _cx: &Context, _limit: usize, _out: &mut Decision) -> bool { false }
    /// Deliveries that have become possible: `true` when there may be more.
    pub fn decide_deliveries(&self, _cx: &Context, _limit: usize, _out: &mut Decision) -> bool { false }
    /// A message asked for is here.
    pub fn decide_fetched(&self, _fetched: Fetch, _message: Arc<Message>, _cx: &Context, _out: &mut Decision) {}
    /// The first change of an epoch.
    pub fn decide_epoch(&self, _epoch: u64, _cx: &Context, _out: &mut Decision) {}
    /// Makes sure that these virtual hosts exist.
    pub fn decide_vhosts(&self, _names: &[&str], _cx: &Context, _out: &mut Decision) {}
    /// Its outbox has been drained by so many bytes.
    pub fn returned_room(&mut self, _session: SessionId, _bytes: u64) {}
    /// Applies a change.
    pub fn apply(&mut self, _change: &crate::Change, _now: Timestamp, _stored: Option<message::StoredId>, _effects: &mut Vec<Effect>) {}
    /// A core without anything.
    #[must_use]
    pub fn new(config: crate::Config) -> Self {
        Self { config, durable: Default::default(), soft: Default::default(), counters: Default::default() }
    }
}
