//! Time as a plain integer: tests build it, the simulator bends it, the journal stores it.

use std::fmt;

const DAY_MS: u64 = 86_400_000;

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

    /// Year, month and day, in UTC.
    #[must_use]
    pub const fn date(self) -> (u64, u64, u64) {
        // The civil calendar in eras of 400 years that begin with March.
        let day = self.0 / DAY_MS + 719_468;
        let (era, in_era) = (day / 146_097, day % 146_097);
        let year = (in_era - in_era / 1_460 + in_era / 36_524 - in_era / 146_096) / 365;
        let in_year = in_era - (365 * year + year / 4 - year / 100);
        let month = (5 * in_year + 2) / 153;
        let first = (153 * month + 2) / 5;
        let (month, next) = if month < 10 {
            (month + 3, 0)
        } else {
            (month - 9, 1)
        };
        (era * 400 + year + next, month, in_year - first + 1)
    }

    /// `2020-01-02T03:04:05.006Z` (ISO 8601).
    #[must_use]
    pub fn date_time(self) -> String {
        let (year, month, day) = self.date();
        let ms = self.0 % DAY_MS;
        format!(
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
            ms / 3_600_000,
            ms / 60_000 % 60,
            ms / 1000 % 60,
            ms % 1000
        )
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
