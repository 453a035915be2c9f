//! Client sessions in the plainest way.

use message::Levels;

use super::{Model, queues::Incoming, routing::Routed};

/// A subscription of a client session.
#[derive(Clone, Debug)]
pub(crate) struct Subscription {}

impl Model {
    pub(crate) fn route_clients(
        &self,
        _keys: &[Levels],
        _publisher: Option<u64>,
        _routed: &mut Routed,
    ) -> bool {
        false
    }

    pub(crate) fn admit_clients(&mut self, _routed: &Routed, _incoming: &Incoming) {}
}
