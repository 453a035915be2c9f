//! Randomness of the operating system, for salts and keys. The only place in the binary that has any.

use anyhow::Context as _;
use rustix::rand::{GetRandomFlags, getrandom};

/// Fills the buffer.
pub(crate) fn fill_random(mut buffer: &mut [u8]) -> anyhow::Result<()> {
    while !buffer.is_empty() {
        let filled = getrandom(&mut *buffer, GetRandomFlags::empty())
            .context("failed to get random bytes from the operating system")?;
        buffer = &mut buffer[filled..];
    }
    Ok(())
}
