//! What a stream is in the words of Kinesis: its status, its mode, its id, its limits.

use aws::{ApiError, Call, Settings, Transitions, Value};
use message::Timestamp;
use session::{Growth, Notes, ShardLimits, StreamInfo};

use crate::{error, notes, stream::RETENTION_HOURS};

/// For how long a change is shown as going on, in ms.
const TRANSITION_MS: u64 = 500;
/// What a shard takes and gives with AWS: 1,000 records and 1 MiB a second in, 5 reads and 2 MiB a second out.
const AWS_LIMITS: ShardLimits = ShardLimits {
    write_records: 1_000,
    write_bytes: 1 << 20,
    reads: 5,
    read_bytes: 2 << 20,
};
/// The tag that says what the shards of a stream take and give.
pub(crate) const LIMITS_TAG: &str = "bascule.limits";

/// How a stream's capacity is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// By the number of shards.
    Provisioned,
    /// By what is written: shards take without limit.
    OnDemand,
}

impl Mode {
    pub(crate) fn of(kept: &Notes) -> Self {
        Self::named(notes::read(kept, notes::MODE).unwrap_or_default())
    }

    pub(crate) fn named(name: &str) -> Self {
        if name == "ON_DEMAND" {
            Self::OnDemand
        } else {
            Self::Provisioned
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Provisioned => "PROVISIONED",
            Self::OnDemand => "ON_DEMAND",
        }
    }

    pub(crate) fn keep(self, kept: &mut Notes) {
        match self {
            Self::Provisioned => {
                notes::remove(kept, notes::MODE);
            }
            Self::OnDemand => notes::write(kept, notes::MODE, self.name()),
        }
    }

    pub(crate) fn details(self) -> Value {
        Value::from([("StreamMode", Value::from(self.name()))])
    }
}

/// `CREATING`, `UPDATING` or `ACTIVE`. What is deleted is gone at once.
pub(crate) fn status(settings: &Settings, stream: &StreamInfo, now: Timestamp) -> &'static str {
    let lately = |time: Timestamp| {
        settings.transitions == Transitions::Brief && now.since(time) < TRANSITION_MS
    };
    let updated = notes::read(&stream.notes, notes::UPDATED)
        .and_then(|time| time.parse().ok())
        .map(Timestamp);
    let resharded = stream
        .shards
        .iter()
        .map(|shard| shard.opened)
        .filter(|opened| *opened > stream.created)
        .max();
    if lately(stream.created) {
        "CREATING"
    } else if updated.into_iter().chain(resharded).any(lately) {
        "UPDATING"
    } else {
        "ACTIVE"
    }
}

/// Refuses what goes with an active stream only.
pub(crate) fn active(call: &Call, stream: &StreamInfo, now: Timestamp) -> Result<(), ApiError> {
    match status(&call.settings, stream, now) {
        "ACTIVE" => Ok(()),
        status => Err(ApiError::sender(
            error::IN_USE,
            format!(
                "Stream {} under account {} not ACTIVE, instead in state {status}",
                name(stream),
                call.account
            ),
        )),
    }
}

/// Marks a change that is shown as going on.
pub(crate) fn mark_updated(settings: &Settings, kept: &mut Notes, now: Timestamp) {
    if settings.transitions == Transitions::Brief {
        notes::write(kept, notes::UPDATED, &now.0.to_string());
    }
}

/// The stream's name as text.
pub(crate) fn name(stream: &StreamInfo) -> String {
    String::from_utf8_lossy(&stream.name).into_owned()
}

/// The stream's ARN.
pub(crate) fn arn(call: &Call, stream: &str) -> String {
    call.arn("kinesis", &format!("stream/{stream}"))
}

/// The stream's id: its incarnation and when it was made.
pub(crate) fn stream_id(stream: &StreamInfo) -> String {
    let digits = |mut number: u64, len: usize| {
        let mut text = vec![b'0'; len];
        for digit in text.iter_mut().rev() {
            *digit = b"0123456789abcdefghijklmnopqrstuvwxyz"[(number % 36) as usize];
            number /= 36;
        }
        String::from_utf8_lossy(&text).into_owned()
    };
    format!(
        "{}{}-{}",
        digits(stream.id.0, 10),
        digits(stream.created.0, 10),
        digits(stream.id.0 ^ stream.created.0, 3)
    )
}

/// For how long records are kept, in hours, as it is shown: streams of other doors may keep them for longer, or forever.
pub(crate) fn retention_hours(stream: &StreamInfo) -> i64 {
    let hours = (stream.attributes.retention_ms / 3_600_000) as i64;
    hours.min(*RETENTION_HOURS.end())
}

/// What the shards of a stream take and give: as its tag says, else as the operator chose for its mode.
pub(crate) fn limits(settings: &Settings, kept: &Notes) -> Result<Option<ShardLimits>, ApiError> {
    let tag = format!("{}{LIMITS_TAG}", notes::TAGS);
    let aws = || match Mode::of(kept) {
        Mode::Provisioned => AWS_LIMITS,
        Mode::OnDemand => ShardLimits {
            write_records: 0,
            write_bytes: 0,
            ..AWS_LIMITS
        },
    };
    match notes::read(kept, &tag) {
        None => Ok(settings.shard_limits.then(aws)),
        Some("off") => Ok(None),
        Some("aws") => Ok(Some(aws())),
        Some(text) => said_limits(text).map(Some).ok_or_else(|| {
            error::invalid(format!(
                "The tag {LIMITS_TAG} must be off, aws, or limits a second and a shard such as \
                 records=1000 bytes=1048576 reads=5 read-bytes=2097152."
            ))
        }),
    }
}

/// How the shards of a stream follow what is written: those of an on-demand stream split.
pub(crate) fn growth(settings: &Settings, mode: Mode) -> Option<Growth> {
    (mode == Mode::OnDemand).then_some(Growth {
        write_records: AWS_LIMITS.write_records,
        write_bytes: AWS_LIMITS.write_bytes,
        shards_max: settings.shards_max,
    })
}

fn said_limits(text: &str) -> Option<ShardLimits> {
    let mut limits = ShardLimits {
        write_records: 0,
        write_bytes: 0,
        reads: 0,
        read_bytes: 0,
    };
    for word in text.split_ascii_whitespace() {
        let (name, number) = word.split_once('=')?;
        let number = number.parse().ok()?;
        match name {
            "records" => limits.write_records = number,
            "bytes" => limits.write_bytes = number,
            "reads" => limits.reads = number,
            "read-bytes" => limits.read_bytes = number,
            _ => return None,
        }
    }
    (!text.trim().is_empty()).then_some(limits)
}
