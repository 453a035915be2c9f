//! All settings: one structure, its defaults and its bounds.
//!
//! Sources, later ones first: `--data`, `--set`, the file, the defaults (`config/load.rs`). Checked once at the start and passed on by
//! value; nothing reads a setting later, but for users, virtual hosts, rules and routes (`reload.rs`). `config/default.toml` says the defaults in words, and a test holds it to [`Config::default`].
//! Deliberately absent: environment variables, includes.

mod aws;
mod bounds;
mod listeners;
mod load;
mod parts;
mod routes;
mod sections;
mod sns;
mod suggest;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

#[cfg(test)]
pub(crate) use self::aws::AccessKey;
pub(crate) use self::{
    aws::Aws,
    listeners::{Listeners, Place, loopback},
    load::ConfigError,
    routes::{Route, Way},
    sections::{Amqp, Journal, Limits, Log, LogFormat, Memory, Mqtt, Pair, Stomp, WebSocket},
    sns::{Email, Gateway, MailSecurity, Sns},
};

/// The defaults with their explanations, as `bascule config default` prints them.
pub(crate) const DEFAULT_TOML: &str = include_str!("../../../config/default.toml");

/// All settings, by section.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// The data directory.
    pub(crate) data: PathBuf,
    /// Threads that serve connections; 0: one a core.
    pub(crate) threads: usize,
    /// Topics that lead into queues and streams.
    pub(crate) routes: Vec<Route>,
    pub(crate) listeners: Listeners,
    pub(crate) memory: Memory,
    pub(crate) limits: Limits,
    pub(crate) journal: Journal,
    pub(crate) pair: Pair,
    pub(crate) auth: auth::Config,
    pub(crate) mqtt: Mqtt,
    pub(crate) amqp: Amqp,
    pub(crate) stomp: Stomp,
    pub(crate) aws: Aws,
    pub(crate) sns: Sns,
    pub(crate) websocket: WebSocket,
    pub(crate) log: Log,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("./data"),
            threads: 0,
            routes: Vec::new(),
            listeners: Listeners::default(),
            memory: Memory::default(),
            limits: Limits::default(),
            journal: Journal::default(),
            pair: Pair::default(),
            auth: auth::Config::default(),
            mqtt: Mqtt::default(),
            amqp: Amqp::default(),
            stomp: Stomp::default(),
            aws: Aws::default(),
            sns: Sns::default(),
            websocket: WebSocket::default(),
            log: Log::default(),
        }
    }
}
