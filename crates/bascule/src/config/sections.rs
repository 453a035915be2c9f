//! The sections of the configuration file: values, defaults, units. Their bounds are in `config/bounds.rs`.

use serde::{Deserialize, Serialize};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

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
    /// The same for QoS 0, which is dropped beyond it.
    pub(crate) outbox_qos0_bytes_max: u64,
    /// Sent by peers that have not logged in, beyond 8 KiB of each.
    pub(crate) logins_bytes_max: u64,
    /// Bodies of HTTP requests that are still coming.
    pub(crate) requests_bytes_max: u64,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            bodies_bytes_max: 128 * MIB,
            transient_bytes_max: 512 * MIB,
            staged_bytes_max: 8 * MIB,
            outbox_bytes_max: 256 * KIB,
            outbox_qos0_bytes_max: 8 * MIB,
            logins_bytes_max: 64 * MIB,
            requests_bytes_max: 256 * MIB,
        }
    }
}

/// What there may be at most.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Limits {
    /// Connections at a time, all listeners together.
    pub(crate) connections_max: u64,
    /// Connections accepted a second, all listeners together; 0: no limit.
    pub(crate) accepts_per_s: u64,
    /// The same from one address; 0: no limit.
    pub(crate) address_accepts_per_s: u64,
    /// Connections at a time from one address; 0: no limit.
    pub(crate) address_connections_max: u64,
    /// Whether the three apply to peers on this machine.
    pub(crate) loopback_limited: bool,
    /// The body of one message, in bytes.
    pub(crate) message_bytes_max: u64,
    /// How long a new connection may take to log in, in ms.
    pub(crate) login_timeout_ms: u64,
    /// What a new connection may send before it is logged in, in bytes.
    pub(crate) login_bytes_max: u64,
    /// How long a peer may take nothing of what waits for it, in ms.
    pub(crate) stall_timeout_ms: u64,
    /// Queues.
    pub(crate) queues_max: u64,
    /// Queues that are exclusive to one connection.
    pub(crate) connection_queues_max: u64,
    /// Exchanges.
    pub(crate) exchanges_max: u64,
    /// Bindings.
    pub(crate) bindings_max: u64,
    /// Unsettled deliveries of a consumer that sets no prefetch.
    pub(crate) unsettled_max: u64,
    /// Client sessions.
    pub(crate) clients_max: u64,
    /// Topic subscriptions of one client session.
    pub(crate) subscriptions_max: u64,
    /// Messages waiting for one client session.
    pub(crate) client_queue_length_max: u64,
    /// Retained messages.
    pub(crate) retained_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 100_000,
            accepts_per_s: 2_000,
            address_accepts_per_s: 500,
            address_connections_max: 0,
            loopback_limited: false,
            message_bytes_max: 16 * MIB,
            login_timeout_ms: 10_000,
            login_bytes_max: 256 * KIB,
            stall_timeout_ms: 30_000,
            queues_max: 10_000_000,
            connection_queues_max: 20_000,
            exchanges_max: 100_000,
            bindings_max: 10_000_000,
            unsettled_max: 1_000_000,
            clients_max: 5_000_000,
            subscriptions_max: 100_000,
            client_queue_length_max: 1_000_000,
            retained_max: 10_000_000,
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
    pub(crate) free_bytes_min: u64,
    /// Records of streams beyond this go into files of their own.
    pub(crate) stream_file_bytes: u64,
    /// How far the clock may be ahead of the last sign of life in the journal at a start, or behind it, in seconds.
    pub(crate) clock_off_max_s: u64,
    /// Bytes a second of what is sealed that are read again; 0 is off.
    pub(crate) scrub_bytes_per_s: u64,
    /// How files are written.
    pub(crate) direct: Direct,
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            segment_bytes: 64 * MIB,
            snapshot_every_bytes: 64 * MIB,
            reserve_bytes: 64 * MIB,
            free_bytes_min: 2048 * MIB,
            stream_file_bytes: 64 * MIB,
            clock_off_max_s: 31 * 86_400,
            scrub_bytes_per_s: 4 * MIB,
            direct: Direct::Auto,
        }
    }
}

/// Two nodes on one data directory, one active, one standby.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Pair {
    /// The host that clients of the other node are told for this one's listeners. Empty: where they listen.
    pub(crate) advertise: String,
    /// How long the lease of the active node may stand still before the standby takes over, in ms.
    pub(crate) failover_ms: u64,
    /// The HTTP listeners of both nodes, which `bascule status` and `bascule switchover` ask.
    pub(crate) peers: Vec<String>,
}

impl Default for Pair {
    fn default() -> Self {
        Self {
            advertise: String::new(),
            failover_ms: 700,
            peers: Vec::new(),
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

/// The MQTT listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Mqtt {
    /// How topics become levels.
    pub(crate) dialect: MqttDialect,
    /// The longest that a session outlives its connection, in seconds; 4,294,967,295 is no limit.
    pub(crate) session_expiry_max_s: u64,
    /// The longest keep alive of MQTT 5 clients, in seconds; 0 is no limit.
    pub(crate) keep_alive_max_s: u64,
    /// Publishes and deliveries of QoS 1 and 2 under way at a time, each way.
    pub(crate) receive_max: u64,
    /// Topic aliases of a connection, each way.
    pub(crate) topic_alias_max: u64,
    /// Properties of one packet.
    pub(crate) properties_max: u64,
    /// The longest client identifier, in bytes.
    pub(crate) client_id_bytes_max: u64,
    /// Tell reasons in words too.
    pub(crate) reason_strings: bool,
    /// Whose way is gone where there are several.
    pub(crate) manners: MqttManners,
    /// How often the topics of `$SYS/broker` are told, in seconds; 0: never.
    pub(crate) sys_interval_s: u64,
}

/// Where the specification leaves a choice, or Mosquitto leaves the specification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MqttManners {
    /// The letter of the specification.
    #[default]
    Standard,
    /// As Mosquitto.
    Mosquitto,
}

impl Default for Mqtt {
    fn default() -> Self {
        Self {
            dialect: MqttDialect::Levels,
            session_expiry_max_s: u64::from(u32::MAX),
            keep_alive_max_s: 0,
            receive_max: 1_000,
            topic_alias_max: 32,
            properties_max: 512,
            client_id_bytes_max: 1_024,
            reason_strings: true,
            manners: MqttManners::Standard,
            sys_interval_s: 10,
        }
    }
}

/// How topics become levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MqttDialect {
    /// Each topic is a list of levels of its own, and comes back.
    Levels,
    /// `/` and `.` are exchanged, as RabbitMQ does.
    RabbitMq,
}

/// The AMQP listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Amqp {
    /// The largest frame offered, in bytes.
    pub(crate) frame_bytes_max: u64,
    /// Channels of a connection.
    pub(crate) channels_max: u64,
    /// The heart-beat interval offered, in seconds; 0: none.
    pub(crate) heartbeat_s: u64,
    /// What the server calls itself to clients, 1 to 255 bytes.
    pub(crate) product: String,
    /// And its version; empty: the broker's own.
    pub(crate) product_version: String,
    /// What `channel.flow` does.
    pub(crate) channel_flow: AmqpChannelFlow,
}

/// What a client gets that asks for its deliveries to be held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AmqpChannelFlow {
    /// They are held until it asks for them again.
    #[default]
    Honour,
    /// 540, as from RabbitMQ.
    Refuse,
}

impl Default for Amqp {
    fn default() -> Self {
        Self {
            frame_bytes_max: 128 * KIB,
            channels_max: 2047,
            heartbeat_s: 60,
            product: "Bascule".to_owned(),
            product_version: String::new(),
            channel_flow: AmqpChannelFlow::Honour,
        }
    }
}

/// The STOMP listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Stomp {
    /// Whose spellings apply.
    pub(crate) dialect: StompDialect,
    /// What a `host` header does that names no virtual host.
    pub(crate) unknown_host: UnknownHost,
    /// The shortest heart-beat interval, each way, in ms; 0: none.
    pub(crate) heart_beat_ms: u64,
}

impl Default for Stomp {
    fn default() -> Self {
        Self {
            dialect: StompDialect::Both,
            unknown_host: UnknownHost::Default,
            heart_beat_ms: 1_000,
        }
    }
}

/// Whose spellings apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StompDialect {
    /// Both brokers'; where they differ, RabbitMQ's.
    Both,
    /// RabbitMQ's.
    RabbitMq,
    /// ActiveMQ's.
    ActiveMq,
}

/// What a `host` header does that names no virtual host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum UnknownHost {
    /// The default virtual host is used.
    Default,
    /// The connection is refused.
    Refuse,
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
