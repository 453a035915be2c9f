//! What a shard takes and gives a second: token buckets of one second. All soft, so full after a restart.

use message::Timestamp;
use session::ShardLimits;

/// Tokens in thousandths, so that a millisecond brings whole ones.
const SCALE: i64 = 1000;

/// One bucket. What is taken may exceed what is in it: then it stands until the debt is paid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bucket {
    /// Below nothing, thousandths of tokens that are missing from a full bucket.
    missing: i64,
    at: Timestamp,
}

impl Bucket {
    const fn missing(&self, now: Timestamp, per_second: u32) -> i64 {
        let back = now.since(self.at).saturating_mul(per_second as u64);
        let back = if back > i64::MAX as u64 {
            i64::MAX
        } else {
            back as i64
        };
        let missing = self.missing.saturating_sub(back);
        if missing < 0 { 0 } else { missing }
    }

    /// Tokens that are there, in thousandths: those of one second when nothing was taken lately.
    const fn level(&self, now: Timestamp, per_second: u32) -> i64 {
        per_second as i64 * SCALE - self.missing(now, per_second)
    }

    const fn take(&mut self, now: Timestamp, per_second: u32, tokens: u64) {
        let tokens = if tokens > u32::MAX as u64 {
            u32::MAX as i64
        } else {
            tokens as i64
        };
        self.missing = self.missing(now, per_second) + tokens * SCALE;
        self.at = now;
    }
}

/// The buckets of a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Buckets {
    write_records: Bucket,
    write_bytes: Bucket,
    reads: Bucket,
    read_bytes: Bucket,
}

impl Buckets {
    /// Whether it takes so many records and bytes now. A record larger than a second's bytes goes when nothing else did.
    pub(crate) fn takes(
        &self,
        limits: &ShardLimits,
        now: Timestamp,
        records: u64,
        bytes: u64,
    ) -> bool {
        self.takes_behind((0, 0), limits, now, (records, bytes))
    }

    /// The same once so many records and bytes were taken, as if that had been written.
    pub(crate) fn takes_behind(
        &self,
        before: (u64, u64),
        limits: &ShardLimits,
        now: Timestamp,
        (records, bytes): (u64, u64),
    ) -> bool {
        let fits = |bucket: &Bucket, per_second: u32, before: u64, tokens: u64| {
            let level = bucket.level(now, per_second);
            let wanted = tokens.min(u64::from(per_second)) as i64 * SCALE;
            per_second == 0 || level.saturating_sub(before as i64 * SCALE) >= wanted
        };
        fits(&self.write_records, limits.write_records, before.0, records)
            && fits(&self.write_bytes, limits.write_bytes, before.1, bytes)
    }

    pub(crate) const fn wrote(
        &mut self,
        limits: &ShardLimits,
        now: Timestamp,
        records: u64,
        bytes: u64,
    ) {
        self.write_records.take(now, limits.write_records, records);
        self.write_bytes.take(now, limits.write_bytes, bytes);
    }

    /// Whether it gives now: a read takes what it finds, and the next ones wait until that is paid for.
    pub(crate) const fn gives(&self, limits: &ShardLimits, now: Timestamp) -> bool {
        (limits.reads == 0 || self.reads.level(now, limits.reads) >= SCALE)
            && (limits.read_bytes == 0 || self.read_bytes.level(now, limits.read_bytes) > 0)
    }

    pub(crate) const fn read(
        &mut self,
        limits: &ShardLimits,
        now: Timestamp,
        reads: u64,
        bytes: u64,
    ) {
        self.reads.take(now, limits.reads, reads);
        self.read_bytes.take(now, limits.read_bytes, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ShardLimits = ShardLimits {
        write_records: 1000,
        write_bytes: 1 << 20,
        reads: 5,
        read_bytes: 2 << 20,
    };

    #[test]
    fn a_second_of_records_at_once_then_one_each_millisecond() {
        let mut it = Buckets::default();
        let mut now = Timestamp(1000);
        for _ in 0..1000 {
            assert!(it.takes(&LIMITS, now, 1, 1));
            it.wrote(&LIMITS, now, 1, 1);
        }
        assert!(!it.takes(&LIMITS, now, 1, 1));
        for _ in 0..100 {
            now = now.plus_ms(1);
            assert!(it.takes(&LIMITS, now, 1, 1));
            it.wrote(&LIMITS, now, 1, 1);
            assert!(!it.takes(&LIMITS, now, 1, 1));
        }
        assert!(it.takes(&LIMITS, now.plus_ms(1000), 1000, 1));
        assert!(!it.takes(&LIMITS, now.plus_ms(999), 1000, 1));
    }

    #[test]
    fn a_record_larger_than_a_second_goes_alone_and_is_paid_for() {
        let mut it = Buckets::default();
        let now = Timestamp(1000);
        assert!(it.takes(&LIMITS, now, 1, 10 << 20));
        it.wrote(&LIMITS, now, 1, 10 << 20);
        assert!(!it.takes(&LIMITS, now.plus_ms(9000), 1, 1));
        assert!(it.takes(&LIMITS, now.plus_ms(9001), 1, 1));
    }

    #[test]
    fn ten_mebibytes_read_at_once_stop_reading_for_five_seconds() {
        let mut it = Buckets::default();
        let now = Timestamp(1000);
        assert!(it.gives(&LIMITS, now));
        it.read(&LIMITS, now, 1, 10 << 20);
        assert!(!it.gives(&LIMITS, now.plus_ms(4000)));
        assert!(it.gives(&LIMITS, now.plus_ms(4001)));
        for _ in 0..5 {
            assert!(it.gives(&LIMITS, now.plus_ms(9000)));
            it.read(&LIMITS, now.plus_ms(9000), 1, 0);
        }
        assert!(!it.gives(&LIMITS, now.plus_ms(9000)));
        assert!(it.gives(&LIMITS, now.plus_ms(9200)));
    }

    #[test]
    fn no_limit_is_none() {
        let none = ShardLimits {
            write_records: 0,
            write_bytes: 0,
            reads: 0,
            read_bytes: 0,
        };
        let mut it = Buckets::default();
        for _ in 0..10_000 {
            assert!(it.takes(&none, Timestamp(0), 1, 1 << 30) && it.gives(&none, Timestamp(0)));
            it.wrote(&none, Timestamp(0), 1, 1 << 30);
            it.read(&none, Timestamp(0), 1, 1 << 30);
        }
    }
}
