//! Streams and consumer groups.

use session::{Lane, RefusalKind, SessionId, Token};

use super::{draft::Draft, refusal};
use crate::Broker;

impl Broker {
    /// What is not built yet.
    pub(super) fn not_built(
        &self,
        from: SessionId,
        token: Token,
        lane: Lane,
        draft: &mut Draft<'_>,
    ) {
        let refusal = refusal(RefusalKind::NotImplemented, "not built yet");
        self.refuse(from, lane, token, refusal, draft);
    }
}
