//! Room for a takeover: whoever writes keeps it apart while there is some, so that a standby that comes when the disk is full finds all
//! that it takes to follow and to take over: a first segment, a fence, a lease, the record of the epoch, and its own file.
//!
//! The file is zeros, and its owner never gives it up for anything else. A standby that makes ready unlinks it if there is no room
//! otherwise, and so does a start (`claim.rs`); then what they have made is that room.

use std::io;

use crate::batch::BLOCK;
use crate::config::Config;
use crate::layout::{Paths, Uuid};
use crate::shared::Shared;
use crate::vfs::Vfs;

/// The names of such files begin so.
pub(crate) const PREFIX: &str = "takeover-";
/// What it takes beside the first segment: fence, lease, record and the standby's file are six, directories may grow by the rest.
const BLOCKS: u64 = 8;

fn len(config: &Config) -> u64 {
    config.first_segment_len + BLOCKS * BLOCK as u64
}

/// Keeps the room of this writer, unless the disk is so full that settling needs it more.
pub(crate) fn keep(shared: &Shared) {
    let len = len(&shared.config);
    let free = shared.vfs.space(&shared.paths.root);
    if free.map_or(0, |free| free.free) < 2 * len {
        return;
    }
    match shared.vfs.allocate(&shared.paths.room(&shared.writer), len) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            tracing::warn!(%error, "failed to keep room for a takeover");
        }
        _ => {}
    }
}

/// Takes the room that others keep. False if there is none.
pub(crate) fn take(vfs: &dyn Vfs, paths: &Paths, own: &Uuid) -> bool {
    let own = paths.room(own);
    let names = vfs.list(&paths.root).unwrap_or_default();
    let rooms = names.iter().filter(|name| name.starts_with(PREFIX));
    let others = rooms
        .map(|name| paths.root.join(name))
        .filter(|path| *path != own);
    let taken = others.filter(|path| vfs.unlink(path).is_ok()).count();
    taken > 0
}
