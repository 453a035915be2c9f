//! The small files of a journal: FORMAT and the epoch records.

use std::path::Path;

use crate::batch::BLOCK;
use crate::error::{Corruption, OpenError};
use crate::layout::{EpochRecord, FORMAT_LEVEL, Format, Paths, Uuid};
use crate::vfs::{Access, Vfs};

/// Reads a small file; `None` if it is not there.
pub(crate) fn read_small(vfs: &dyn Vfs, path: &Path) -> Result<Option<Vec<u8>>, OpenError> {
    let file = match vfs.open(path, Access::Read, false) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OpenError::io("open", path)(error)),
    };
    let mut bytes = vec![0; 2 * BLOCK];
    let n = file
        .read_at(&mut bytes, 0)
        .map_err(OpenError::io("read", path))?;
    bytes.truncate(n);
    Ok(Some(bytes))
}

/// Reads FORMAT; `None` if there is none.
pub(crate) fn read_format(vfs: &dyn Vfs, paths: &Paths) -> Result<Option<Format>, OpenError> {
    let path = paths.format();
    let Some(bytes) = read_small(vfs, &path)? else {
        return Ok(None);
    };
    let Some(format) = Format::decode(&bytes) else {
        return Err(Corruption::new(&path, 0, "it is not a FORMAT file of ours").into());
    };
    check_level(&path, format.level)?;
    Ok(Some(format))
}

fn check_level(path: &Path, level: u32) -> Result<(), OpenError> {
    if level > FORMAT_LEVEL {
        return Err(OpenError::Newer {
            path: path.to_owned(),
            found: level,
            known: FORMAT_LEVEL,
        });
    }
    Ok(())
}

/// The published epochs in order. They are never deleted, so a gap is damage (RULES 17).
pub(crate) fn read_epochs(vfs: &dyn Vfs, paths: &Paths) -> Result<Vec<u64>, OpenError> {
    let dir = paths.epochs();
    let names = vfs.list(&dir).map_err(OpenError::io("list", &dir))?;
    let mut epochs: Vec<u64> = names.iter().filter_map(|name| name.parse().ok()).collect();
    epochs.sort_unstable();
    for (expected, &found) in (1..).zip(&epochs) {
        if found != expected {
            let path = paths.epoch(expected);
            return Err(Corruption::new(
                &path,
                0,
                format!("it is missing, but epoch {found} is there"),
            )
            .into());
        }
    }
    Ok(epochs)
}

pub(crate) fn read_epoch(
    vfs: &dyn Vfs,
    paths: &Paths,
    epoch: u64,
) -> Result<EpochRecord, OpenError> {
    let path = paths.epoch(epoch);
    let bytes = read_small(vfs, &path)?.unwrap_or_default();
    let record = EpochRecord::decode(&bytes).filter(|record| record.epoch == epoch);
    let Some(record) = record else {
        return Err(
            Corruption::new(&path, 0, "the epoch record does not match its checksum").into(),
        );
    };
    check_level(&path, record.level)?;
    Ok(record)
}

/// Whose an epoch is; `None` if it was never published.
pub(crate) fn writer_of(
    vfs: &dyn Vfs,
    paths: &Paths,
    epoch: u64,
) -> Result<Option<Uuid>, OpenError> {
    match read_small(vfs, &paths.epoch(epoch))? {
        Some(_) => read_epoch(vfs, paths, epoch).map(|record| Some(record.writer)),
        None => Ok(None),
    }
}
