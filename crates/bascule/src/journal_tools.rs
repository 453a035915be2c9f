//! `bascule journal verify` and `bascule journal dump`: reading a journal without a lock and without changing it.
//!
//! A directory that is no journal of ours is exit code 2, a damaged journal exit code 1. A broker may be serving the directory
//! meanwhile: then the last batch may look unproven, and nothing else differs.

use std::{
    io::{self, BufWriter, Write},
    path::Path,
};

use anyhow::anyhow;
use journal::{DumpRecord, OpenError, Report};

use crate::failure::Failure;

/// How many bytes of a record a dump shows.
const SHOWN: usize = 64;

/// Checks every byte, and says what it found.
pub(crate) fn verify(dir: &Path) -> Result<(), Failure> {
    let report = journal::verify(dir).map_err(classify)?;
    write_report(&report, &mut io::stdout().lock()).map_err(Failure::work)?;
    match report.damaged.len() {
        0 => Ok(()),
        1 => Err(Failure::work(anyhow!("the journal is damaged"))),
        many => Err(Failure::work(anyhow!(
            "the journal is damaged in {many} places"
        ))),
    }
}

/// Prints every record, a line each: batch, id, kind, bytes, and how they begin.
pub(crate) fn dump(dir: &Path) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut failed = None;
    let header = writeln!(
        out,
        "{:>10} {:>18} {:>4} {:>9}  begins",
        "batch", "id", "kind", "bytes"
    );
    header.map_err(Failure::work)?;
    let walked = journal::dump(dir, |record| match write_record(&record, &mut out) {
        Ok(()) => true,
        Err(error) => {
            failed = Some(error);
            false
        }
    });
    let flushed = out.flush();
    if let Some(error) = failed.or_else(|| flushed.err()) {
        return Err(Failure::work(error));
    }
    walked.map_err(classify)
}

/// Damage is a finding; anything else means that there is nothing of ours to read.
fn classify(error: OpenError) -> Failure {
    if matches!(error, OpenError::Corrupt(_)) {
        Failure::work(error)
    } else {
        Failure::setup(error)
    }
}

fn write_report(report: &Report, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "epoch      {}", report.epoch)?;
    writeln!(
        out,
        "segments   {}, and {} files that belong to nobody",
        report.segments, report.unused_files
    )?;
    writeln!(
        out,
        "batches    {} ({} to {}), {} of them unproven",
        report.batches, report.first_batch, report.last_batch, report.unproven
    )?;
    writeln!(
        out,
        "records    {}, {} bytes",
        report.records, report.payload_bytes
    )?;
    let snapshots: Vec<String> = report.snapshots.iter().map(u64::to_string).collect();
    let snapshots = if snapshots.is_empty() {
        "none".to_owned()
    } else {
        format!("at batch {}", snapshots.join(", "))
    };
    writeln!(out, "snapshots  {snapshots}")?;
    for damage in &report.damaged {
        writeln!(out, "damage     {damage}")?;
    }
    if report.damaged.is_empty() {
        writeln!(out, "every checksum holds")?;
    }
    Ok(())
}

fn write_record(record: &DumpRecord, out: &mut impl Write) -> io::Result<()> {
    let shown = &record.payload[..record.payload.len().min(SHOWN)];
    let more = if record.payload.len() > SHOWN {
        "..."
    } else {
        ""
    };
    let moved = if record.moved { " moved" } else { "" };
    writeln!(
        out,
        "{:>10} {:>18} {:>4} {:>9}  {}{more}{moved}",
        record.batch,
        record.id.0,
        record.kind,
        record.payload.len(),
        shown.escape_ascii()
    )
}
