//! `bascule user hash`: a password in, an Argon2id PHC string out. The password is never an argument, which others could see.

use std::io::{self, IsTerminal as _, Write as _};

use anyhow::{Context as _, bail, ensure};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::{failure::Failure, random::fill_random};

/// The hash of a password that is asked for, with a line end.
pub(crate) fn hash() -> Result<String, Failure> {
    let password = if io::stdin().is_terminal() {
        ask_twice()
    } else {
        read_line()
    }
    .map_err(Failure::setup)?;
    let mut salt = [0u8; auth::SALT_LEN];
    fill_random(&mut salt).map_err(Failure::work)?;
    let hash = auth::hash_password(password.as_bytes(), &salt).map_err(Failure::work)?;
    Ok(hash + "\n")
}

fn ask_twice() -> anyhow::Result<String> {
    let first = ask("Password: ")?;
    let again = ask("Once more: ")?;
    if first != again {
        bail!("the two passwords differ");
    }
    Ok(first)
}

fn ask(prompt: &str) -> anyhow::Result<String> {
    let mut terminal = io::stderr();
    write!(terminal, "{prompt}")?;
    terminal.flush()?;
    let before = tcgetattr(io::stdin()).context("failed to read the terminal's settings")?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(io::stdin(), OptionalActions::Flush, &silent)
        .context("failed to turn the terminal's echo off")?;
    let line = read_line();
    tcsetattr(io::stdin(), OptionalActions::Flush, &before)
        .context("failed to turn the terminal's echo on")?;
    writeln!(terminal)?;
    line
}

fn read_line() -> anyhow::Result<String> {
    let mut line = String::new();
    io::stdin()
        .read_line(&mut line)
        .context("failed to read the password from stdin")?;
    let password = line.strip_suffix('\n').unwrap_or(&line);
    let password = password.strip_suffix('\r').unwrap_or(password);
    ensure!(!password.is_empty(), "the password is empty");
    Ok(password.to_owned())
}
