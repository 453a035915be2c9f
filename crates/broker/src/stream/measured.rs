//! How much was written lately to each shard of a stream that grows. All soft: after a restart it is measured anew.

use std::collections::BTreeMap;

use message::Timestamp;
use session::{Growth, ShardNo};

/// Over what time it is measured, in ms: what comes in bursts of seconds splits nothing.
pub(crate) const MEASURE_MS: u64 = 60_000;

/// What came to the shards of a stream since the measuring began.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    since: Option<Timestamp>,
    /// Records, and bytes of body and key.
    shards: BTreeMap<ShardNo, (u64, u64)>,
}

impl Measured {
    /// A record came. If nothing was being measured: when there is something to see.
    pub(crate) fn wrote(
        &mut self,
        shard: ShardNo,
        now: Timestamp,
        bytes: u64,
    ) -> Option<Timestamp> {
        let measuring = self.since.is_some();
        // In a replay nobody looks, and what was written hours ago says nothing.
        if self
            .since
            .is_none_or(|since| now >= since.plus_ms(2 * MEASURE_MS))
        {
            self.since = Some(now);
            self.shards.clear();
        }
        let sums = self.shards.entry(shard).or_default();
        sums.0 += 1;
        sums.1 += bytes;
        (!measuring).then(|| now.plus_ms(MEASURE_MS))
    }

    /// When what is being measured began, if anything is.
    pub(crate) const fn since(&self) -> Option<Timestamp> {
        self.since
    }

    /// How heavy a shard's load is, in the unit of [`Self::half`].
    pub(crate) fn of(&self, shard: ShardNo, growth: &Growth) -> u128 {
        let (records, bytes) = self.shards.get(&shard).copied().unwrap_or_default();
        let records = u128::from(records) * u128::from(growth.write_bytes);
        records.max(u128::from(bytes) * u128::from(growth.write_records))
    }

    /// What half of the records, or half of the bytes, weigh that a shard is made for in so many ms.
    pub(crate) fn half(growth: &Growth, ms: u64) -> u128 {
        u128::from(growth.write_records) * u128::from(growth.write_bytes) * u128::from(ms) / 2000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROWTH: Growth = Growth {
        write_records: 1000,
        write_bytes: 1 << 20,
        shards_max: 100,
    };

    #[test]
    fn records_and_bytes_weigh_alike_and_the_heavier_counts() {
        let shard = ShardNo(3);
        let half = Measured::half(&GROWTH, 1000);
        let mut many = Measured::default();
        for _ in 0..500 {
            many.wrote(shard, Timestamp(1), 10);
        }
        assert_eq!(many.of(shard, &GROWTH), half);
        let mut large = Measured::default();
        large.wrote(shard, Timestamp(1), 1 << 19);
        assert_eq!(large.of(shard, &GROWTH), half);
        assert_eq!(large.of(ShardNo(4), &GROWTH), 0);
    }

    #[test]
    fn what_nobody_looked_at_in_time_is_forgotten() {
        let mut measured = Measured::default();
        let shard = ShardNo(0);
        let due = measured.wrote(shard, Timestamp(1000), 1);
        assert_eq!(due, Some(Timestamp(1000 + MEASURE_MS)));
        assert_eq!(measured.wrote(shard, Timestamp(2 * MEASURE_MS), 1), None);
        assert_eq!(measured.since(), Some(Timestamp(1000)));
        let late = Timestamp(1000 + 2 * MEASURE_MS);
        assert_eq!(measured.wrote(shard, late, 1), None);
        assert_eq!(measured.since(), Some(late));
        assert_eq!(measured.of(shard, &GROWTH), u128::from(GROWTH.write_bytes));
    }
}
