//! The Bascule broker: command line, configuration, composition. The only crate that names every protocol.
//!
//! Exit codes: 0 done; 1 the work failed (a client was refused, a journal is damaged, the node broke down); 2 the command
//! line, the configuration or the start-up is wrong. An error is one line on stderr.
//!
//! | file | what |
//! |---|---|
//! | `cli.rs` | the command line |
//! | `client.rs`, `client/` | `bascule pub` and `sub`, `status` and `switchover` |
//! | `config.rs`, `config/` | one TOML file, `--set`, bounds |
//! | `doors.rs` | which session speaks at which door |
//! | `failure.rs` | exit codes |
//! | `journal_tools.rs` | `bascule journal verify` and `dump` |
//! | `log.rs` | the log |
//! | `pair.rs` | the pair, as this node shows it |
//! | `password.rs`, `random.rs` | `bascule user hash` |
//! | `reload.rs` | SIGHUP |
//! | `serve.rs` | `bascule serve`: node, listeners and protocols composed |
#![expect(
    clippy::disallowed_methods,
    reason = "clients have deadlines, and the binary owns the runtime"
)]
#![forbid(unsafe_code)]

mod cli;
mod client;
mod config;
mod deliver;
mod descriptors;
mod doors;
mod failure;
mod gather;
mod journal_tools;
mod log;
mod pair;
mod password;
mod random;
mod reload;
mod routes;
mod serve;
mod sys;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    allocator::keep_freed_memory();
    match cli::Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
