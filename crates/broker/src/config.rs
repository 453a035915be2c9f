//! The limits of the core: names, units, defaults, bounds. Checked once, when the configuration is read.

/// Limits of the core. Every field has a default that suits a machine with 4 GiB of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Bytes of deliveries that may be out to one connection and not yet written to its socket. 4 KiB or more. Default 256 KiB (RULES 13).
    pub outbox_bytes_max: u64,
    /// The same for QoS 0, which is dropped and counted beyond it: one read of a publisher alone is thousands of short
    /// messages. 4 KiB or more. Default 8 MiB.
    pub outbox_qos0_bytes_max: u64,
    /// Bytes of messages that live in memory only, all queues together. Default 512 MiB.
    pub transient_bytes_max: u64,
    /// Bytes of durable messages kept in memory because they were only just published. Default 4 MiB; 0 keeps none.
    pub recent_bytes_max: u64,
    /// The same, as a count: each may pin a whole read buffer. One that nobody takes goes after eight times as many. Default 2,048.
    pub recent_count_max: u64,
    /// Virtual hosts. Default 10,000.
    pub vhosts_max: u64,
    /// Queues, client sessions' own included. Default 10,000,000.
    pub queues_max: u64,
    /// Exchanges, predeclared ones left out. Default 100,000.
    pub exchanges_max: u64,
    /// Client sessions. Default 5,000,000.
    pub clients_max: u64,
    /// Topic subscriptions of one client session. Default 100,000.
    pub client_subscriptions_max: u64,
    /// Messages waiting for one client session; what comes after is dropped and counted. Default 1,000,000.
    pub client_queue_length_max: u64,
    /// Exactly-once publishes of one client session that wait for its release. Default 65,535.
    pub client_inbound_max: u64,
    /// Consumers of one connection. Default 65,535.
    pub consumers_max: u64,
    /// Queues that are exclusive to one connection. Default 20,000.
    pub connection_queues_max: u64,
    /// Bindings, all exchanges together. Default 10,000,000.
    pub bindings_max: u64,
    /// Unsettled deliveries of a consumer that names no window of its own. Default 1,000,000.
    pub unsettled_max: u32,
    /// Bytes of a will's head and body. Default 256 KiB.
    pub will_len_max: u64,
    /// Retained messages. Default 10,000,000.
    pub retained_max: u64,
    /// Operations in one transaction (RULES 7). Default 10,000.
    pub transaction_operations_max: u64,
    /// Bytes of bodies in one transaction (RULES 7). Default 64 MiB.
    pub transaction_bytes_max: u64,
    /// Routing keys of one publish, the first included. Default 1,024.
    pub carbon_copies_max: u64,
    /// Messages that one pull may take, at most 16,384. Default 1,024.
    pub pull_count_max: u32,
    /// Pulls of one connection that may wait at a time, and reads of streams. Default 1,024.
    pub pulls_waiting_max: u64,
    /// Streams. Default 100,000.
    pub streams_max: u64,
    /// Topic objects. Default 1,000,000.
    pub topics_max: u64,
    /// Subscriptions of topic objects, and routes. Default 20,000,000.
    pub subscriptions_max: u64,
    /// FIFO topic objects of one virtual host. Default 1,000.
    pub fifo_topics_max: u64,
    /// Subscriptions of one FIFO topic object. Default 100.
    pub fifo_subscriptions_max: u64,
    /// Subscriptions of one topic object that have filter policies. Default 200.
    pub topic_policies_max: u64,
    /// The same, of all topic objects of one virtual host. Default 10,000.
    pub policies_max: u64,
    /// Subscriptions of one virtual host that are not confirmed. Default 5,000.
    pub pending_subscriptions_max: u64,
    /// Consumer groups of one stream. Default 1,000.
    pub stream_groups_max: u64,
    /// Records that one read may take. Default 10,000.
    pub read_count_max: u32,
    /// Bytes of bodies and keys that one read may take; one record always fits. Default 16 MiB.
    pub read_bytes_max: u64,
    /// Messages that purging or deleting a queue drops in one go, 1 or more; the rest follows, in turn with others' work.
    /// Default 4,096.
    pub empty_slice: u32,
    /// Retained messages that a new subscription is shown in one go, 1 or more; the rest follows, in turn with others' work.
    /// Default 256.
    pub replay_slice: u32,
    /// Messages waiting for a client session beyond which it is shown no further retained ones. 1 or more. Default 1,024.
    pub replay_held_max: u64,
    /// How long a dedup id is remembered, in ms. Default five minutes.
    pub dedup_ms: u64,
    /// How long a pull that names an attempt may be asked for again, in ms. Default five minutes.
    pub attempt_ms: u64,
    /// Deliveries of one FIFO group that may be out at a time (DOORS 20). Default 10.
    pub group_window: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            outbox_bytes_max: 256 << 10,
            outbox_qos0_bytes_max: 8 << 20,
            transient_bytes_max: 512 << 20,
            recent_bytes_max: 4 << 20,
            recent_count_max: 2048,
            vhosts_max: 10_000,
            queues_max: 10_000_000,
            exchanges_max: 100_000,
            clients_max: 5_000_000,
            client_subscriptions_max: 100_000,
            client_queue_length_max: 1_000_000,
            client_inbound_max: 65_535,
            consumers_max: 65_535,
            connection_queues_max: 20_000,
            bindings_max: 10_000_000,
            unsettled_max: 1_000_000,
            will_len_max: 256 << 10,
            retained_max: 10_000_000,
            transaction_operations_max: 10_000,
            transaction_bytes_max: 64 << 20,
            carbon_copies_max: 1024,
            pull_count_max: 1024,
            pulls_waiting_max: 1024,
            streams_max: 100_000,
            topics_max: 1_000_000,
            subscriptions_max: 20_000_000,
            fifo_topics_max: 1000,
            fifo_subscriptions_max: 100,
            topic_policies_max: 200,
            policies_max: 10_000,
            pending_subscriptions_max: 5000,
            stream_groups_max: 1000,
            read_count_max: 10_000,
            read_bytes_max: 16 << 20,
            empty_slice: 4096,
            replay_slice: 256,
            replay_held_max: 1024,
            dedup_ms: 5 * 60 * 1000,
            attempt_ms: 5 * 60 * 1000,
            group_window: 10,
        }
    }
}
