//! Heart-beats and the deadline of the handshake (AMQP 0-9-1, 4.2.7): when to speak, and when the peer counts as gone.

use message::Timestamp;

/// The timers of one connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KeepAlive {
    /// Negotiated, in ms; 0: none.
    interval_ms: u64,
    sent: Timestamp,
    heard: Timestamp,
    /// For the handshake, or for the answer to our close.
    deadline: Option<Timestamp>,
}

/// What has become due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    /// Send a heart-beat.
    Speak,
    /// Nothing was heard for two intervals.
    Silent,
    /// The deadline has passed.
    Late,
}

impl KeepAlive {
    pub(crate) const fn start(&mut self, interval_s: u16, now: Timestamp) {
        self.interval_ms = interval_s as u64 * 1000;
        self.sent = now;
        self.heard = now;
    }

    pub(crate) const fn stop(&mut self) {
        self.interval_ms = 0;
    }

    pub(crate) const fn on_sent(&mut self, now: Timestamp) {
        self.sent = now;
    }

    pub(crate) const fn on_heard(&mut self, now: Timestamp) {
        self.heard = now;
    }

    pub(crate) const fn set_deadline(&mut self, deadline: Option<Timestamp>) {
        self.deadline = deadline;
    }

    /// `listening`: the session reads. While it does not, silence proves nothing.
    /// [AMQP-4.2.7-2].
    pub(crate) fn due(&mut self, now: Timestamp, listening: bool) -> Due {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return Due::Late;
        }
        if self.interval_ms == 0 {
            return Due::Nothing;
        }
        if !listening {
            self.heard = now;
        }
        if self.heard.plus_ms(2 * self.interval_ms) <= now {
            return Due::Silent;
        }
        if self.sent.plus_ms(self.interval_ms / 2) <= now {
            return Due::Speak;
        }
        Due::Nothing
    }

    pub(crate) fn next(&self) -> Option<Timestamp> {
        let beats = (self.interval_ms != 0).then(|| {
            self.sent
                .plus_ms(self.interval_ms / 2)
                .min(self.heard.plus_ms(2 * self.interval_ms))
        });
        match (self.deadline, beats) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}
