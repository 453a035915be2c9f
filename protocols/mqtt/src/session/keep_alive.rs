//! Keep Alive (MQTT 5, 3.1.2.10): silence for one and a half times the interval ends the connection.

use std::num::NonZeroU64;

use message::Timestamp;

#[derive(Debug)]
pub(super) struct KeepAlive {
    /// How long the client may be silent; `None`: for ever.
    patience_ms: Option<NonZeroU64>,
    heard: Timestamp,
}

impl KeepAlive {
    /// From the interval in force, in seconds; 0 is off.
    pub(super) fn new(interval_s: u16, now: Timestamp) -> Self {
        Self {
            // [MQTT-3.1.2-22]
            patience_ms: NonZeroU64::new(u64::from(interval_s) * 1500),
            heard: now,
        }
    }

    /// A packet arrived.
    pub(super) const fn on_packet(&mut self, now: Timestamp) {
        self.heard = now;
    }

    /// When the patience ends.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.patience_ms.map(|ms| self.heard.plus_ms(ms.get()))
    }

    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        self.deadline().is_some_and(|deadline| now >= deadline)
    }
}
