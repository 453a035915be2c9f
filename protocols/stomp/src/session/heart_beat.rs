//! Heart-beats in both directions (STOMP 1.2, "Heart-beating").

use message::Timestamp;
use session::Wire;

use crate::{Config, error::Fault};

/// The deadlines of both directions.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HeartBeat {
    /// We send something at least so often.
    send_ms: Option<u64>,
    last_sent: Timestamp,
    /// The peer sends something at least so often, the grace included.
    receive_ms: Option<u64>,
    last_received: Timestamp,
}

impl HeartBeat {
    /// From what the peer can do and what it wants; 0 is "cannot" and "does not want".
    /// [STOMP-heart-beat-3].
    pub(crate) fn agree(config: &Config, can_ms: u32, wants_ms: u32, now: Timestamp) -> Self {
        let both =
            |ours: u32, theirs: u32| (ours > 0 && theirs > 0).then(|| u64::from(ours.max(theirs)));
        let grace = |ms: u64| ms + ms * u64::from(config.heart_beat_grace_percent) / 100;
        Self {
            send_ms: both(config.heart_beat_send_ms, wants_ms),
            last_sent: now,
            receive_ms: both(config.heart_beat_receive_ms, can_ms).map(grace),
            last_received: now,
        }
    }

    pub(crate) const fn sent(&mut self, now: Timestamp) {
        self.last_sent = now;
    }

    pub(crate) const fn received(&mut self, now: Timestamp) {
        self.last_received = now;
    }

    /// [STOMP-heart-beat-5].
    pub(crate) fn silent_too_long(&self, now: Timestamp) -> bool {
        self.receive_ms
            .is_some_and(|ms| self.last_received.plus_ms(ms) <= now)
    }

    pub(crate) fn fault(&self) -> Fault {
        let ms = self.receive_ms.unwrap_or(0);
        Fault::peer("heart-beat missing", format!("nothing came for {ms} ms"))
    }

    /// Sends a heart-beat if it is time.
    /// [STOMP-heart-beat-4].
    pub(crate) fn beat(&mut self, now: Timestamp, wire: &mut Wire) {
        if self.next_beat().is_some_and(|at| at <= now) {
            wire.put(b"\n");
            wire.end_frame();
            self.last_sent = now;
        }
    }

    /// The interval is a promise: half of it leaves room for the way.
    fn next_beat(&self) -> Option<Timestamp> {
        self.send_ms
            .map(|ms| self.last_sent.plus_ms((ms / 2).max(1)))
    }

    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        let silence = self.receive_ms.map(|ms| self.last_received.plus_ms(ms));
        [self.next_beat(), silence].into_iter().flatten().min()
    }
}
