//! What a node is started with.

use std::{path::PathBuf, sync::Arc};

use session::Gate;

/// Settings of a node. Components (users) are arguments of [`crate::Node::start`], not settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// The data directory.
    pub data_dir: PathBuf,
    /// The core's limits.
    pub broker: broker::Config,
    /// The journal's sizes.
    pub journal: journal::Config,
    /// Virtual hosts that exist from the start. `/` always does.
    pub vhosts: Vec<String>,
    /// Threads that read messages back from the journal. Default 2, 1 to 64.
    pub reader_threads: usize,
    /// Bytes of records of streams that a snapshot covers above which they are copied out of the journal into a stream file.
    /// Default 64 MiB, 1 MiB to 1 GiB.
    pub stream_file_bytes: u64,
    /// Bytes a second that are read again, of what is sealed in the journal, to find damage before it is needed; 0: none. Default
    /// 4 MiB, at most 1 GiB.
    pub scrub_bytes_per_s: u64,
    /// Threads that verify passwords. Default 1, 1 to 16.
    pub verify_threads: usize,
    /// Password verifications that may wait; more are refused. Default 1,024.
    pub verify_queue_max: usize,
    /// Most connections. Default 100,000.
    pub connections_max: usize,
    /// Which queues take what topics bring. Default: each takes everything.
    pub gate: Option<Arc<dyn Gate>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("data"),
            broker: broker::Config::default(),
            journal: journal::Config::default(),
            vhosts: vec!["/".to_owned()],
            reader_threads: 2,
            stream_file_bytes: 64 << 20,
            scrub_bytes_per_s: 4 << 20,
            verify_threads: 1,
            verify_queue_max: 1024,
            connections_max: 100_000,
            gate: None,
        }
    }
}
