//! The log: on stderr, for people on a terminal and as JSON otherwise.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Starts it. Before it there is nothing worth logging.
pub(crate) fn start(log: &Log) -> anyhow::Result<()> {
    let json = match log.format {
        LogFormat::Auto => !io::stderr().is_terminal(),
        LogFormat::Human => false,
        LogFormat::Json => true,
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(log.level.parse::<EnvFilter>()?)
        .with_writer(io::stderr);
    let started = if json {
        subscriber.json().try_init()
    } else {
        subscriber.with_ansi(io::stderr().is_terminal()).try_init()
    };
    started.map_err(|error| anyhow::anyhow!("failed to start the log: {error}"))
}
