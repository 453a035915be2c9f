//! Time as a plain integer: tests build it, the simulator bends it, the journal stores it.

use std::fmt;

/// Milliseconds since the Unix epoch (UTC).
///
/// There is no `now`: time is an argument everywhere. Arithmetic saturates, so an absurd expiry is "never", not the past.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Later than every deadline.
    pub const MAX: Self = Self(u64::MAX);

    /// This instant and `ms` milliseconds more, or [`Timestamp::MAX`].
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this instant, or 0 when `earlier` is the later one.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}
