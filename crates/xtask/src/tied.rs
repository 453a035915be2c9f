//! Processes that end with the one that started them, however that one ends: a server that outlives its test keeps ports,
//! memory and a journal.
//!
//! Linux kills a process for us when the *thread* ends that started it, so a server is started by a thread that stays: the main one. The
//! request for that survives `exec`, so we make it ourselves, between the fork and the program that is meant.

use std::{ffi::OsString, os::unix::process::CommandExt as _, path::Path, process::Command};

use anyhow::{Context, ensure};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// What starts `program` so that it is killed when the calling thread is gone. Its process id is that of the program.
pub(crate) fn command(program: impl AsRef<Path>) -> Command {
    // Ourselves, even if a build has replaced the file since.
    let mut command = Command::new("/proc/self/exe");
    command
        .arg("tied")
        .arg(std::process::id().to_string())
        .arg(program.as_ref());
    command
}

/// `xtask tied PARENT PROGRAM ARGUMENT...`: becomes the program.
pub(crate) fn run(parent: u32, words: &[OsString]) -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have ended before we asked.
    let ours = getppid().map(|pid| pid.as_raw_nonzero().get() as u32);
    ensure!(ours == Some(parent), "whoever started this is gone");
    let (program, arguments) = words.split_first().context("a program to run")?;
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("failed to start {}", program.display()))
}
