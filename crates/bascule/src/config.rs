//! All settings: one structure, its defaults and its bounds.
//!
//! Sources, later ones first: `--data`, `--set`, the file, the defaults (`config/load.rs`). Checked once at the start and passed on by
//! value; nothing reads a setting later. `config/default.toml` says the defaults in words, and a test holds it to [`Config::default`].
//! Deliberately absent: environment variables, includes, reloading.

mod listeners;
mod load;
mod suggest;

use std::{ops::RangeInclusive, path::PathBuf};

use serde::{Deserialize, Serialize};

pub(crate) use self::{listeners::Listeners, load::ConfigError};

/// The defaults with their explanations, as `bascule config default` prints them.
pub(crate) const DEFAULT_TOML: &str = include_str!("../../../config/default.toml");

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// All settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// The data directory.
    pub(crate) data: PathBuf,
    /// Threads that serve connections; 0: one a core.
    pub(crate) threads: usize,
    pub(crate) listeners: Listeners,
    pub(crate) memory: Memory,
    pub(crate) limits: Limits,
    pub(crate) journal: Journal,
    pub(crate) auth: auth::Config,
    pub(crate) websocket: WebSocket,
    pub(crate) log: Log,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("./data"),
            threads: 0,
            listeners: Listeners::default(),
            memory: Memory::default(),
            limits: Limits::default(),
            journal: Journal::default(),
            auth: auth::Config::default(),
            websocket: WebSocket::default(),
            log: Log::default(),
        }
    }
}

/// Budgets, in bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Memory {
    /// Durable bodies kept in memory; older ones are read back from the journal.
    pub(crate) bodies_bytes_max: u64,
    /// Messages that are only in memory.
    pub(crate) transient_bytes_max: u64,
    /// Accepted and not yet on stable storage.
    pub(crate) staged_bytes_max: u64,
    /// On their way to one connection.
    pub(crate) outbox_bytes_max: u64,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            bodies_bytes_max: 256 * MIB,
            transient_bytes_max: 256 * MIB,
            staged_bytes_max: 8 * MIB,
            outbox_bytes_max: 256 * KIB,
        }
    }
}

/// Limits of peers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Limits {
    /// Connections at a time, all listeners together.
    pub(crate) connections_max: u64,
    /// The body of one message, in bytes.
    pub(crate) message_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 100_000,
            message_bytes_max: 16 * MIB,
        }
    }
}

/// The journal's files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Journal {
    /// The size of a segment file.
    pub(crate) segment_bytes: u64,
    /// A snapshot is made after so many bytes of journal.
    pub(crate) snapshot_every_bytes: u64,
    /// Space held back, so that a full disk can still be emptied.
    pub(crate) reserve_bytes: u64,
    /// How files are written.
    pub(crate) direct: Direct,
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            segment_bytes: 64 * MIB,
            snapshot_every_bytes: 128 * MIB,
            reserve_bytes: 64 * MIB,
            direct: Direct::Auto,
        }
    }
}

/// How the journal's files are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Direct {
    /// Past the page cache where the file system allows it.
    Auto,
    /// Through the page cache, then synced.
    Never,
}

/// WebSocket, on the HTTP listener.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct WebSocket {
    /// The origins whose pages may connect; empty: the same host, loopback, and clients that name none. `*`: all.
    pub(crate) origins: Vec<String>,
}

/// The log, on stderr.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Log {
    /// A level, or levels by module: `info`, `info,net=debug`.
    pub(crate) level: String,
    /// How lines look.
    pub(crate) format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Auto,
        }
    }
}

/// How lines of the log look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Human on a terminal, else JSON.
    Auto,
    /// For people.
    Human,
    /// For programs.
    Json,
}

impl Config {
    /// Whether every value is within its bounds.
    fn check(&self) -> Result<(), ConfigError> {
        let bounds: [(&'static str, u64, RangeInclusive<u64>); 10] = [
            ("threads", self.threads as u64, 0..=1024),
            (
                "memory.bodies_bytes_max",
                self.memory.bodies_bytes_max,
                4 * MIB..=TIB,
            ),
            (
                "memory.transient_bytes_max",
                self.memory.transient_bytes_max,
                4 * MIB..=TIB,
            ),
            (
                "memory.staged_bytes_max",
                self.memory.staged_bytes_max,
                2 * MIB..=GIB,
            ),
            (
                "memory.outbox_bytes_max",
                self.memory.outbox_bytes_max,
                4 * KIB..=64 * MIB,
            ),
            (
                "limits.connections_max",
                self.limits.connections_max,
                1..=10_000_000,
            ),
            (
                "limits.message_bytes_max",
                self.limits.message_bytes_max,
                KIB..=512 * MIB,
            ),
            (
                "journal.segment_bytes",
                self.journal.segment_bytes,
                4 * MIB..=GIB,
            ),
            (
                "journal.snapshot_every_bytes",
                self.journal.snapshot_every_bytes,
                MIB..=TIB,
            ),
            (
                "journal.reserve_bytes",
                self.journal.reserve_bytes,
                4 * MIB..=GIB,
            ),
        ];
        for (key, value, range) in bounds {
            if !range.contains(&value) {
                let (min, max) = range.into_inner();
                return Err(ConfigError::Bounds {
                    key,
                    value,
                    min,
                    max,
                });
            }
        }
        if !self.journal.segment_bytes.is_multiple_of(4 * KIB) {
            return Err(ConfigError::Value {
                key: "journal.segment_bytes",
                fault: "must be a multiple of 4096".to_owned(),
            });
        }
        if self.data.as_os_str().is_empty() {
            return Err(ConfigError::Value {
                key: "data",
                fault: "must name a directory".to_owned(),
            });
        }
        self.listeners.check()?;
        if let Err(fault) = self.log.level.parse::<tracing_subscriber::EnvFilter>() {
            return Err(ConfigError::Value {
                key: "log.level",
                fault: format!("{:?} is not a level: {fault}", self.log.level),
            });
        }
        self.auth.check().map_err(ConfigError::Auth)
    }
}
