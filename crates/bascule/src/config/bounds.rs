//! Whether every value is within its bounds: checked once, before anything starts.

use std::ops::RangeInclusive;

use super::{Config, ConfigError};
use crate::doors;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
/// Of a rate that is not 0.
const SCRUB_MIN: u64 = 64 * KIB;
/// More than any machine holds of anything.
const MANY: u64 = 1_000_000_000;

/// The protocols that have a login to do without.
const LOGINS: [&str; 3] = ["mqtt", "amqp", "stomp"];

/// Whether a text says what is logged. To the library a lone word that is no level would name a module.
fn is_level(text: &str) -> bool {
    text.parse::<tracing_subscriber::EnvFilter>().is_ok()
        && text.split(',').all(|part| {
            part.contains('=')
                || part
                    .trim()
                    .parse::<tracing::level_filters::LevelFilter>()
                    .is_ok()
        })
}

/// A key, its value and its bounds.
type Bound = (&'static str, u64, RangeInclusive<u64>);

impl Config {
    /// The first value that cannot be.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for (key, value, range) in self.bounds() {
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
        let fault = |key: &'static str, fault: &str| {
            let fault = fault.to_owned();
            Err(ConfigError::Value { key, fault })
        };
        if !self.journal.segment_bytes.is_multiple_of(4 * KIB) {
            return fault("journal.segment_bytes", "must be a multiple of 4096");
        }
        // What is left in a segment is moved, half of it at most, before its space comes back.
        let least = self.journal.segment_bytes.div_ceil(2);
        if self.journal.reserve_bytes < least {
            return fault(
                "journal.reserve_bytes",
                &format!(
                    "must be at least half of journal.segment_bytes, {least}, so that a full disk can be emptied"
                ),
            );
        }
        // What clients make of it is theirs; that it is a short text is ours.
        if !(1..=255).contains(&self.amqp.product.len()) {
            return fault("amqp.product", "must be 1 to 255 bytes long");
        }
        if self.amqp.product_version.len() > 255 {
            return fault("amqp.product_version", "must be at most 255 bytes long");
        }
        if self.data.as_os_str().is_empty() {
            return fault("data", "must name a directory");
        }
        if !is_level(&self.log.level) {
            let words = format!(
                "{:?} is not a level, nor levels by module such as \"info,net=debug\"",
                self.log.level
            );
            return fault("log.level", &words);
        }
        for protocol in &self.auth.anonymous.protocols {
            if !LOGINS.contains(&protocol.as_str()) {
                let words = format!("{protocol:?} is none of {}", LOGINS.join(", "));
                return fault("auth.anonymous.protocols", &words);
            }
        }
        if let Err(entry) = net::Origins::from_list(&self.websocket.origins) {
            let words = format!(
                "has {entry:?}, which is neither an origin as browsers send it, such as \"https://example.org\" or \"http://example.org:8080\", nor \"*\" alone"
            );
            return fault("websocket.origins", &words);
        }
        let request = doors::request_len_max(self) as u64;
        if request > self.memory.requests_bytes_max {
            let words = format!(
                "leaves no room for one request to the AWS doors, which may have {request} bytes (three times aws.message_bytes_max and more)"
            );
            return fault("memory.requests_bytes_max", &words);
        }
        self.listeners.check()?;
        self.pair.check()?;
        self.check_aws()?;
        self.check_sns()?;
        self.ways()?;
        self.auth.check().map_err(ConfigError::Auth)
    }

    /// Every number.
    pub(super) fn bounds(&self) -> Vec<Bound> {
        let Self {
            threads,
            memory,
            limits,
            journal,
            pair,
            mqtt,
            amqp,
            stomp,
            aws,
            sns,
            ..
        } = self;
        vec![
            ("threads", *threads as u64, 0..=1024),
            (
                "memory.bodies_bytes_max",
                memory.bodies_bytes_max,
                4 * MIB..=TIB,
            ),
            (
                "memory.transient_bytes_max",
                memory.transient_bytes_max,
                4 * MIB..=TIB,
            ),
            (
                "memory.staged_bytes_max",
                memory.staged_bytes_max,
                2 * MIB..=GIB,
            ),
            (
                "memory.outbox_bytes_max",
                memory.outbox_bytes_max,
                4 * KIB..=64 * MIB,
            ),
            (
                "memory.outbox_qos0_bytes_max",
                memory.outbox_qos0_bytes_max,
                4 * KIB..=GIB,
            ),
            (
                "memory.logins_bytes_max",
                memory.logins_bytes_max,
                MIB..=TIB,
            ),
            (
                "memory.requests_bytes_max",
                memory.requests_bytes_max,
                16 * MIB..=TIB,
            ),
            (
                "limits.connections_max",
                limits.connections_max,
                1..=10_000_000,
            ),
            ("limits.accepts_per_s", limits.accepts_per_s, 0..=1_000_000),
            (
                "limits.address_accepts_per_s",
                limits.address_accepts_per_s,
                0..=1_000_000,
            ),
            (
                "limits.address_connections_max",
                limits.address_connections_max,
                0..=10_000_000,
            ),
            (
                "limits.message_bytes_max",
                limits.message_bytes_max,
                KIB..=512 * MIB,
            ),
            (
                "limits.login_timeout_ms",
                limits.login_timeout_ms,
                1..=600_000,
            ),
            (
                "limits.login_bytes_max",
                limits.login_bytes_max,
                4 * KIB..=MIB,
            ),
            (
                "limits.stall_timeout_ms",
                limits.stall_timeout_ms,
                1..=3_600_000,
            ),
            (
                "limits.subscriptions_max",
                limits.subscriptions_max,
                1..=MANY,
            ),
            ("limits.queues_max", limits.queues_max, 1..=MANY),
            (
                "limits.connection_queues_max",
                limits.connection_queues_max,
                1..=MANY,
            ),
            ("limits.bindings_max", limits.bindings_max, 1..=MANY),
            ("limits.unsettled_max", limits.unsettled_max, 1..=MANY),
            ("limits.exchanges_max", limits.exchanges_max, 1..=MANY),
            ("limits.clients_max", limits.clients_max, 1..=MANY),
            (
                "limits.client_queue_length_max",
                limits.client_queue_length_max,
                1..=MANY,
            ),
            ("limits.retained_max", limits.retained_max, 1..=MANY),
            (
                "journal.segment_bytes",
                journal.segment_bytes,
                4 * MIB..=256 * MIB,
            ),
            (
                "journal.snapshot_every_bytes",
                journal.snapshot_every_bytes,
                MIB..=TIB,
            ),
            (
                "journal.reserve_bytes",
                journal.reserve_bytes,
                4 * MIB..=GIB,
            ),
            (
                "journal.free_bytes_min",
                journal.free_bytes_min,
                4 * MIB..=1024 * TIB,
            ),
            (
                "journal.stream_file_bytes",
                journal.stream_file_bytes,
                MIB..=GIB,
            ),
            (
                "journal.clock_off_max_s",
                journal.clock_off_max_s,
                1..=u64::from(u32::MAX),
            ),
            (
                "journal.scrub_bytes_per_s",
                // 0 is off.
                match journal.scrub_bytes_per_s {
                    0 => SCRUB_MIN,
                    rate => rate,
                },
                SCRUB_MIN..=GIB,
            ),
            ("pair.failover_ms", pair.failover_ms, 200..=60_000),
            (
                "mqtt.session_expiry_max_s",
                mqtt.session_expiry_max_s,
                0..=u64::from(u32::MAX),
            ),
            ("mqtt.keep_alive_max_s", mqtt.keep_alive_max_s, 0..=65_535),
            ("mqtt.receive_max", mqtt.receive_max, 1..=65_535),
            ("mqtt.topic_alias_max", mqtt.topic_alias_max, 0..=65_535),
            ("mqtt.properties_max", mqtt.properties_max, 8..=65_535),
            ("mqtt.sys_interval_s", mqtt.sys_interval_s, 0..=3_600),
            (
                "mqtt.client_id_bytes_max",
                mqtt.client_id_bytes_max,
                23..=65_535,
            ),
            // AMQP 0-9-1, 4.2.3: frame-min-size is 4096.
            (
                "amqp.frame_bytes_max",
                amqp.frame_bytes_max,
                4 * KIB..=16 * MIB,
            ),
            ("amqp.channels_max", amqp.channels_max, 1..=65_535),
            ("amqp.heartbeat_s", amqp.heartbeat_s, 0..=65_535),
            ("stomp.heart_beat_ms", stomp.heart_beat_ms, 0..=3_600_000),
            (
                "aws.message_bytes_max",
                aws.message_bytes_max,
                KIB..=16 * MIB,
            ),
            ("aws.shards_max", aws.shards_max, 1..=1_000_000),
            (
                "sns.request_timeout_ms",
                sns.request_timeout_ms,
                100..=50_000,
            ),
            ("sns.lane_concurrency", sns.lane_concurrency, 1..=1_000),
            ("sns.lane_waiting_max", sns.lane_waiting_max, 1..=1_000),
            ("sns.fifo_topics_max", sns.fifo_topics_max, 1..=1_000_000),
            (
                "sns.fifo_subscriptions_max",
                sns.fifo_subscriptions_max,
                1..=20_000_000,
            ),
            (
                "sns.topic_filter_policies_max",
                sns.topic_filter_policies_max,
                1..=20_000_000,
            ),
            (
                "sns.filter_policies_max",
                sns.filter_policies_max,
                1..=20_000_000,
            ),
            (
                "sns.pending_subscriptions_max",
                sns.pending_subscriptions_max,
                1..=20_000_000,
            ),
        ]
    }
}
