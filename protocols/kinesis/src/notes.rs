//! What this door keeps with a stream, in the stream's notes.
//!
//! ```text
//! kinesis/mode                     ON_DEMAND; without it PROVISIONED
//! kinesis/updated                  when a change began that is shown as UPDATING, in ms
//! kinesis/key                      the key of StartStreamEncryption
//! kinesis/metrics                  the metrics of EnableEnhancedMonitoring, by comma
//! kinesis/warm                     the throughput of UpdateStreamWarmThroughput, in MiB a second
//! kinesis/resized                  when the shard count was last updated, in ms, by comma
//! kinesis/policy                   the resource policy
//! kinesis/tag/KEY                  a tag
//! kinesis/consumer/NAME            when the consumer was registered, in ms
//! kinesis/consumer/NAME/policy     its resource policy
//! kinesis/consumer/NAME/tag/KEY    a tag of it
//! ```

use bytes::Bytes;
use session::Notes;

pub(crate) const MODE: &str = "kinesis/mode";
pub(crate) const UPDATED: &str = "kinesis/updated";
pub(crate) const KEY: &str = "kinesis/key";
pub(crate) const METRICS: &str = "kinesis/metrics";
pub(crate) const WARM: &str = "kinesis/warm";
pub(crate) const RESIZED: &str = "kinesis/resized";
pub(crate) const POLICY: &str = "kinesis/policy";
pub(crate) const TAGS: &str = "kinesis/tag/";
pub(crate) const CONSUMERS: &str = "kinesis/consumer/";

/// The text of a note.
pub(crate) fn read<'a>(notes: &'a Notes, name: &str) -> Option<&'a str> {
    let at = place(notes, name).ok()?;
    std::str::from_utf8(&notes[at].1).ok()
}

/// Sets a note.
pub(crate) fn write(notes: &mut Notes, name: &str, value: &str) {
    let value = Bytes::copy_from_slice(value.as_bytes());
    match place(notes, name) {
        Ok(at) => notes[at].1 = value,
        Err(at) => notes.insert(at, (Bytes::copy_from_slice(name.as_bytes()), value)),
    }
}

/// Removes a note. Whether there was one.
pub(crate) fn remove(notes: &mut Notes, name: &str) -> bool {
    match place(notes, name) {
        Ok(at) => {
            notes.remove(at);
            true
        }
        Err(_) => false,
    }
}

/// The notes whose names begin so: the rest of the name, and the text. In the order of the names.
pub(crate) fn below<'a>(
    notes: &'a Notes,
    prefix: &'a str,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let from = notes.partition_point(|(name, _)| name[..] < *prefix.as_bytes());
    notes[from..]
        .iter()
        .map_while(move |(name, value)| Some((name.strip_prefix(prefix.as_bytes())?, value)))
        .filter_map(|(name, value)| {
            Some((
                std::str::from_utf8(name).ok()?,
                std::str::from_utf8(value).ok()?,
            ))
        })
}

fn place(notes: &Notes, name: &str) -> Result<usize, usize> {
    notes.binary_search_by(|(known, _)| known[..].cmp(name.as_bytes()))
}
