//! The counters as Prometheus text (exposition format 0.0.4).

use std::{fmt::Write as _, sync::atomic::Ordering};

use crate::node::Shared;

/// All of them. Takes the node's lock for as long as copying the counters takes.
pub(crate) fn text(shared: &Shared) -> String {
    let mut out = String::with_capacity(8 * 1024);
    let counters = shared.core().broker.counters().clone();
    for metric in counters.metrics() {
        let (suffix, kind) = if metric.gauge {
            ("", "gauge")
        } else {
            ("_total", "counter")
        };
        let name = format!("{}{suffix}", metric.name);
        put(&mut out, &name, metric.help, kind, metric.value as f64);
    }
    put(
        &mut out,
        "unconfirmed_refused_total",
        "Publishes without a confirmation that were refused before the core.",
        "counter",
        shared.refused_unconfirmed.load(Ordering::Relaxed) as f64,
    );
    put(
        &mut out,
        "snapshots_total",
        "Snapshots written.",
        "counter",
        shared.snapshots.load(Ordering::Relaxed) as f64,
    );
    put(
        &mut out,
        "snapshot_seconds",
        "How long the last snapshot took.",
        "gauge",
        shared.snapshot_ms.load(Ordering::Relaxed) as f64 / 1000.0,
    );
    put(
        &mut out,
        "journal_moved_total",
        "Messages moved out of sparse segments.",
        "counter",
        shared.moved.load(Ordering::Relaxed) as f64,
    );
    put(
        &mut out,
        "stream_files_written_total",
        "Stream files written.",
        "counter",
        shared.filed.load(Ordering::Relaxed) as f64,
    );
    shared.audit.write_metrics(&mut out);
    let stats = shared.journal.stats();
    let counters = [
        ("journal_batches_total", "Batches committed.", stats.batches),
        ("journal_records_total", "Records committed.", stats.records),
        (
            "journal_payload_bytes_total",
            "Bytes of records committed.",
            stats.payload_bytes,
        ),
        (
            "journal_written_bytes_total",
            "Bytes written for them, headers and padding included.",
            stats.written_bytes,
        ),
        ("journal_syncs_total", "Durable writes.", stats.syncs),
        (
            "journal_cache_hits_total",
            "Stored messages found in memory.",
            stats.cache_hits,
        ),
        (
            "journal_reads_total",
            "Stored messages read from the disk.",
            stats.reads,
        ),
        (
            "journal_segments_recycled_total",
            "Segment files used again.",
            stats.recycled,
        ),
        (
            "journal_segments_unlinked_total",
            "Segment files given back.",
            stats.unlinked,
        ),
    ];
    for (name, help, value) in counters {
        put(&mut out, name, help, "counter", value as f64);
    }
    put(
        &mut out,
        "journal_sync_seconds_total",
        "Time spent writing and reading the fence.",
        "counter",
        stats.sync_micros as f64 / 1e6,
    );
    let gauges = [
        (
            "journal_cache_bytes",
            "Committed batches kept in memory.",
            stats.cache_bytes,
        ),
        (
            "journal_staged_bytes",
            "Accepted and not yet durable.",
            stats.staged_bytes,
        ),
        (
            "journal_segments",
            "Segment files of the journal.",
            stats.segments,
        ),
        (
            "journal_segment_bytes",
            "Bytes of those.",
            stats.segment_bytes,
        ),
        (
            "journal_spare_bytes",
            "Bytes of segment files that wait to be used.",
            stats.spare_bytes,
        ),
        (
            "journal_live_references",
            "References to stored messages.",
            stats.live,
        ),
        (
            "journal_dangling_references",
            "References that no segment holds: damage, always 0.",
            stats.dangling,
        ),
        (
            "journal_snapshot_batch",
            "The batch that the newest snapshot covers.",
            stats.snapshot,
        ),
        (
            "journal_direct",
            "1 when the page cache is bypassed.",
            u64::from(stats.direct),
        ),
    ];
    for (name, help, value) in gauges {
        put(&mut out, name, help, "gauge", value as f64);
    }
    out
}

fn put(out: &mut String, name: &str, help: &str, kind: &str, value: f64) {
    writeln!(
        out,
        "# HELP bascule_{name} {help}\n# TYPE bascule_{name} {kind}\nbascule_{name} {value}"
    )
    .expect("writing to a string");
}
