//! Counters of a listener: plain atomics, read by whoever writes the metrics.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// What happened at one listener since the start. Only `open` ever falls.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Connections accepted.
    pub accepted: AtomicU64,
    /// Connections closed at once: the limit was reached, or the node takes none.
    pub refused: AtomicU64,
    /// Connections closed at once: their address opens too many, or has too many.
    pub limited: AtomicU64,
    /// Accepts that failed for want of descriptors or memory.
    pub accept_failures: AtomicU64,
    /// Connections open.
    pub open: AtomicU64,
    /// Bytes read.
    pub bytes_in: AtomicU64,
    /// Bytes written.
    pub bytes_out: AtomicU64,
    /// Connections closed because the peer broke the protocol.
    pub faults: AtomicU64,
    /// Connections closed because the peer took nothing for too long.
    pub stalled: AtomicU64,
    /// Connections closed because their session panicked.
    pub panics: AtomicU64,
    /// Commands of peers that had gone which found no room in time.
    pub commands_dropped: AtomicU64,
}

impl Traffic {
    pub(crate) fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Relaxed);
    }

    /// Name, kind, explanation and counter of each metric.
    fn metrics(&self) -> [(&'static str, &'static str, &'static str, &AtomicU64); 11] {
        [
            ("connections_open", "gauge", "Connections open.", &self.open),
            (
                "connections_accepted_total",
                "counter",
                "Connections accepted.",
                &self.accepted,
            ),
            (
                "connections_refused_total",
                "counter",
                "Connections closed at once for want of room.",
                &self.refused,
            ),
            (
                "connections_limited_total",
                "counter",
                "Connections closed at once because of their address's limits.",
                &self.limited,
            ),
            (
                "accept_failures_total",
                "counter",
                "Accepts that failed for want of descriptors or memory.",
                &self.accept_failures,
            ),
            (
                "bytes_received_total",
                "counter",
                "Bytes read from sockets.",
                &self.bytes_in,
            ),
            (
                "bytes_sent_total",
                "counter",
                "Bytes written to sockets.",
                &self.bytes_out,
            ),
            (
                "connections_faulty_total",
                "counter",
                "Connections closed because the peer broke the protocol.",
                &self.faults,
            ),
            (
                "connections_stalled_total",
                "counter",
                "Connections closed because the peer took nothing for too long.",
                &self.stalled,
            ),
            (
                "session_panics_total",
                "counter",
                "Connections lost to a defect of the server.",
                &self.panics,
            ),
            (
                "commands_dropped_total",
                "counter",
                "Commands of peers that had gone which found no room in time.",
                &self.commands_dropped,
            ),
        ]
    }
}

/// Appends the counters of all listeners in the Prometheus text format.
pub(crate) fn write_metrics<'a>(
    listeners: impl Iterator<Item = (&'static str, &'a Traffic)>,
    out: &mut String,
) {
    let listeners: Vec<_> = listeners
        .map(|(name, traffic)| (name, traffic.metrics()))
        .collect();
    let Some((_, first)) = listeners.first() else {
        return;
    };
    for (index, (metric, kind, explanation, _)) in first.iter().enumerate() {
        let _ = writeln!(out, "# HELP bascule_{metric} {explanation}");
        let _ = writeln!(out, "# TYPE bascule_{metric} {kind}");
        for (name, counters) in &listeners {
            let value = counters[index].3.load(Relaxed);
            let _ = writeln!(out, "bascule_{metric}{{listener=\"{name}\"}} {value}");
        }
    }
}
