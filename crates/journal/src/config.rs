//! Limits and thresholds of the journal, with units, defaults and bounds.

/// Whether the page cache is bypassed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direct {
    /// `O_DIRECT|O_DSYNC` where the file system takes it, else buffered writes with `fdatasync`.
    #[default]
    Auto,
    /// Always buffered writes with `fdatasync`.
    Never,
}

/// A day, in ms.
const DAY_MS: u64 = 86_400_000;

/// How the journal uses memory and disk.
#[derive(Clone, Debug)]
pub struct Config {
    /// Bytes of a segment file. A multiple of 4 KiB, at least 64 KiB.
    pub segment_len: u64,
    /// Bytes of the first segment of an epoch: small, so that a start is quick. A multiple of 4 KiB, at least 64 KiB.
    pub first_segment_len: u64,
    /// Bytes of records in one batch, before a batch is closed. At most 1 MiB.
    pub batch_len_max: usize,
    /// Bytes staged and not yet durable, above which [`crate::Stage::room`] says no. Half of them are shared by all who say who they are
    /// ([`crate::Journal::stage_of`]), a batch and a half to each at most, and an eighth of that while others wait for confirmations
    /// ([`crate::Stage::awaited`]).
    pub staged_bytes_max: usize,
    /// Bytes of committed batches kept in memory (`memory.bodies_bytes_max`).
    pub cache_bytes_max: usize,
    /// Bytes of records after which a snapshot is due, or half the length of the last one, if that is more. It is made of what was committed
    /// since the last one, so this is to be half of [`Config::cache_bytes_max`] at most: more comes while it is made, and what has left
    /// memory is read back, while others wait for the disk.
    pub snapshot_every_bytes: u64,
    /// Prepared segments kept ahead of the writer.
    pub segments_ahead: usize,
    /// Bytes of the reserve file, given up when the disk is full: half a segment or more, as what is left in one is moved before its space
    /// comes back.
    pub reserve_len: u64,
    /// Free space, in percent of the file system, below which space counts as [`crate::Space::High`].
    pub space_high_percent: u64,
    /// Free space, in percent of the file system, below which publishes are refused.
    pub space_low_percent: u64,
    /// Free bytes below which publishes are refused, whatever the percentage.
    pub space_low_bytes: u64,
    /// A segment whose live share is below this many percent has its survivors moved.
    pub sparse_percent: u64,
    /// Whether the page cache is bypassed.
    pub direct: Direct,
    /// With a standby near, for how long from the start of its last renewal the holder of the lease shows anything to anyone,
    /// in ms. It is renewed four times as often; a standby takes over once it has stood still for five quarters of this.
    /// 100 to 60,000.
    pub lease_ms: u64,
    /// A start is refused if the clock is ahead of the last sign of life in the journal by more than this, or behind it, in ms: the
    /// clock is more likely wrong than right, and if it is ahead everything with a time to live would be over.
    pub clock_off_max_ms: u64,
    /// What is damaged is passed over, and written down as given up, instead of refused: an operator said so, for this start.
    /// The binary does not offer it yet.
    pub accept_loss: bool,
    /// What the other nodes read of this one in its lease, or its standby file: at most 3 KiB.
    pub note: Vec<u8>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            segment_len: 64 << 20,
            first_segment_len: 4 << 20,
            batch_len_max: 1 << 20,
            staged_bytes_max: 8 << 20,
            cache_bytes_max: 128 << 20,
            snapshot_every_bytes: 64 << 20,
            segments_ahead: 2,
            reserve_len: 64 << 20,
            space_high_percent: 15,
            space_low_percent: 5,
            space_low_bytes: 2 << 30,
            sparse_percent: 30,
            direct: Direct::Auto,
            lease_ms: 560,
            clock_off_max_ms: 31 * DAY_MS,
            accept_loss: false,
            note: Vec::new(),
        }
    }
}

impl Config {
    /// The same values brought within their bounds.
    #[must_use]
    pub(crate) fn bounded(mut self) -> Self {
        let block = crate::batch::BLOCK as u64;
        let segment = |len: u64| len.clamp(64 << 10, 256 << 20).next_multiple_of(block);
        self.segment_len = segment(self.segment_len);
        self.first_segment_len = segment(self.first_segment_len);
        self.batch_len_max = self.batch_len_max.clamp(
            4 << 10,
            (1 << 20).min(segment_batch_max(
                self.segment_len.min(self.first_segment_len),
            )),
        );
        self.staged_bytes_max = self.staged_bytes_max.max(self.batch_len_max);
        self.segments_ahead = self.segments_ahead.clamp(1, 8);
        self.lease_ms = self.lease_ms.clamp(100, 60_000);
        self
    }
}

/// The largest payload that a segment of this length surely takes: half of it.
fn segment_batch_max(segment_len: u64) -> usize {
    usize::try_from(segment_len / 2).unwrap_or(usize::MAX)
}
