//! The command line. Parses, and hands each command to its file; no work is done here.

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use toml::Table;

use crate::{
    client,
    config::{self, Config},
    failure::Failure,
    journal_tools, password, serve,
};

/// A protocol bridge broker: MQTT, AMQP 0-9-1, STOMP and the AWS SDKs meet in the same queues, topics and streams.
#[derive(Debug, Parser)]
#[command(name = "bascule", version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves. Says what listens where, then `ready`; ends in order at SIGTERM.
    Serve {
        #[command(flatten)]
        sources: Sources,
        /// Serves what is left of a damaged journal, and gives up for good what cannot be read. A start without it says what that is.
        #[arg(long)]
        accept_loss: bool,
    },
    /// Publishes a message over any of the protocols, and waits until it is confirmed.
    Pub(client::PubArgs),
    /// Prints messages as they come, over any of the protocols.
    Sub(client::SubArgs),
    /// Says which node of a pair is active, how far the other one is behind, and how the last takeover went. Exit code 1 if none is.
    Status(client::StatusArgs),
    /// Has the active node of a pair hand over to the standby, and waits until that one serves. For administrators.
    Switchover(client::SwitchoverArgs),
    /// Looks at configurations.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Reads journals, without changing them.
    Journal {
        #[command(subcommand)]
        command: JournalCommand,
    },
    /// Prepares users.
    User {
        #[command(subcommand)]
        command: UserCommand,
    },
    /// Prints the completions of a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// Where settings come from: the defaults, then a file, then single settings.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Sources {
    /// The configuration file.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The data directory, in place of the setting `data`.
    #[arg(short, long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// A set of settings for a purpose; the file and single settings go before it.
    #[arg(long, value_name = "PROFILE")]
    pub(crate) profile: Option<Profile>,
    /// One setting, such as listeners.mqtt=0.0.0.0:1883. May be repeated; the last one counts.
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

/// A set of settings for a purpose.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Profile {
    /// For tests of programs: any AWS credentials are accepted (on loopback only), accounts and regions are made on first use,
    /// nothing takes time that takes time with AWS, and streams have no rate limits.
    Test,
}

impl Profile {
    /// What it sets.
    pub(crate) fn settings(self) -> Table {
        let text = match self {
            Self::Test => include_str!("../../../config/test.toml"),
        };
        text.parse().expect("a test reads it")
    }
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Says whether a configuration is right, without starting anything.
    Check {
        /// The configuration file; none checks the defaults.
        file: Option<PathBuf>,
        /// The profile under it.
        #[arg(long, value_name = "PROFILE")]
        profile: Option<Profile>,
        /// One setting over it. May be repeated.
        #[arg(short, long, value_name = "KEY=VALUE")]
        set: Vec<String>,
    },
    /// Prints the built-in defaults with their explanations.
    Default,
}

#[derive(Debug, Subcommand)]
enum JournalCommand {
    /// Checks every byte of a journal. Exit code 1 if it is damaged.
    Verify {
        /// The data directory.
        dir: PathBuf,
    },
    /// Prints every record of a journal.
    Dump {
        /// The data directory.
        dir: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Hashes a password for `password_hash`. Asks for it on a terminal, else reads one line from stdin.
    Hash,
}

impl Cli {
    /// Does it.
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Serve {
                sources,
                accept_loss,
            } => serve::serve(&sources, accept_loss),
            Command::Pub(args) => client::publish(args),
            Command::Sub(args) => client::subscribe(&args),
            Command::Status(args) => client::status(args),
            Command::Switchover(args) => client::switchover(args),
            Command::Config { command } => match command {
                ConfigCommand::Check { file, profile, set } => {
                    let sources = Sources {
                        config: file,
                        data: None,
                        profile,
                        set,
                    };
                    Config::load(&sources).map_err(Failure::setup)?;
                    say("the configuration is right\n")
                }
                ConfigCommand::Default => say(config::DEFAULT_TOML),
            },
            Command::Journal { command } => match command {
                JournalCommand::Verify { dir } => journal_tools::verify(&dir),
                JournalCommand::Dump { dir } => journal_tools::dump(&dir),
            },
            Command::User { command } => match command {
                UserCommand::Hash => say(&password::hash()?),
            },
            Command::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Self::command(), "bascule", &mut script);
                io::stdout().write_all(&script).map_err(Failure::work)
            }
        }
    }
}

/// Text on stdout.
fn say(text: &str) -> Result<(), Failure> {
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(Failure::work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
