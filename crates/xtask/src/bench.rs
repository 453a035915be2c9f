//! Not built yet: see the README for what is measured and how.

use anyhow::bail;

pub(crate) fn run(_seconds: u64) -> anyhow::Result<()> {
    bail!("the load generators are not built yet")
}
