//! What the core has done and what it holds, as plain numbers. Counting is part of `apply`, so that `decide` stays read-only.

/// Something to count that no other change tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tally {
    /// A publish was taken, whether or not anything matched.
    Published,
    /// A publish matched nothing.
    Unmatched,
    /// A publish, or one of its targets, was refused.
    RefusedPublish,
    /// Any other command was refused.
    Refused,
    /// A repeat of an exactly-once publish or of a dedup id.
    Duplicate,
    /// A QoS 0 delivery found no room in the outbox, or its client away.
    DroppedNoRoom,
    /// A message was larger than its receiver takes.
    DroppedTooLarge,
    /// A client session's queue was full.
    DroppedClientFull,
    /// A dead-lettered message had nowhere to go, or one of those that it was for did not take it.
    DroppedDeadLetter,
    /// A dead-letter cycle was cut.
    DroppedCycle,
    /// A message's retention was over, or it had expired without a dead-letter target.
    DroppedExpired,
    /// A queue was full and the message had no dead-letter target.
    DroppedMaxLen,
    /// A message was rejected and had no dead-letter target.
    DroppedRejected,
    /// A message was delivered too often and had no dead-letter target.
    DroppedDeliveries,
    /// A dead-lettered message was stored elsewhere.
    DeadLettered,
    /// A will was published.
    Will,
    /// A subscription's filter policy did not let a message pass.
    Filtered,
    /// A subscription's target did not take a message, and there was no dead-letter queue that did.
    DroppedSubscription,
    /// Records of streams were read or pushed.
    RecordsRead,
}

/// One number with its name, for whoever exports them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// In snake case.
    pub name: &'static str,
    /// A sentence.
    pub help: &'static str,
    /// It may fall.
    pub gauge: bool,
    /// The number.
    pub value: u64,
}

macro_rules! counters {
    ($(#[doc = $doc:literal] $name:ident,)*) => {
        /// Counters and gauges of the core.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Counters { $(#[doc = $doc] pub $name: u64,)* }
        impl Counters {
            /// All of them, in a fixed order.
            #[must_use]
            pub fn metrics(&self) -> Vec<Metric> {
                vec![$(Metric {
                    name: stringify!($name),
                    help: $doc.trim_ascii(),
                    gauge: $doc.trim_ascii().starts_with("Gauge"),
                    value: self.$name,
                },)*]
            }
        }
    };
}

counters! {
    /// Publishes taken.
    published,
    /// Publishes that matched nothing.
    unmatched,
    /// Publishes, or targets of them, refused.
    refused_publishes,
    /// Other commands refused.
    refused_commands,
    /// Repeats of exactly-once publishes and dedup ids.
    duplicates,
    /// Entries made in queues.
    enqueued,
    /// Deliveries handed out, those of QoS 0 included.
    delivered,
    /// Deliveries that were not the first of their message.
    redelivered,
    /// Entries settled for good.
    settled,
    /// Entries released.
    released,
    /// QoS 0 deliveries dropped for want of room.
    dropped_no_room,
    /// Messages dropped because their receiver does not take so large ones.
    dropped_too_large,
    /// Messages dropped because a client session's queue was full.
    dropped_client_full,
    /// Dead-lettered messages that had nowhere to go, and refusals of one where it was to go.
    dropped_dead_letter,
    /// Dead-letter cycles cut.
    dropped_cycle,
    /// Messages expired and dropped.
    dropped_expired,
    /// Messages dropped from full queues.
    dropped_max_len,
    /// Messages rejected and dropped.
    dropped_rejected,
    /// Messages dropped after too many deliveries.
    dropped_deliveries,
    /// Messages dead-lettered into another place.
    dead_lettered,
    /// Wills published.
    wills,
    /// Messages that filter policies of subscriptions did not let pass, once for each.
    filtered,
    /// Messages dropped because a subscription's target did not take them, and no dead-letter queue either.
    dropped_subscription,
    /// Gauge: topic objects.
    topics,
    /// Gauge: subscriptions of topic objects, and routes.
    subscriptions,
    /// Gauge: queues, client sessions' own included.
    queues,
    /// Gauge: exchanges.
    exchanges,
    /// Gauge: connections, the broker's own parts left out.
    sessions,
    /// Gauge: client sessions.
    clients,
    /// Gauge: consumers.
    consumers,
    /// Gauge: entries in queues that are not out.
    messages_ready,
    /// Gauge: entries out to a consumer or leased.
    messages_unacked,
    /// Gauge: retained messages.
    retained,
    /// Records that streams took.
    records_written,
    /// Records of streams read.
    records_read,
    /// Gauge: streams.
    streams,
    /// Gauge: records in streams.
    stream_records,
    /// Gauge: those of them that lie in stream files.
    stream_records_filed,
    /// Gauge: bytes of bodies and keys in streams.
    stream_bytes,
    /// Gauge: bytes of messages that live in memory only.
    transient_bytes,
}

impl Counters {
    pub(crate) const fn count(&mut self, tally: Tally, by: u64) {
        let field = match tally {
            Tally::Published => &mut self.published,
            Tally::Unmatched => &mut self.unmatched,
            Tally::RefusedPublish => &mut self.refused_publishes,
            Tally::Refused => &mut self.refused_commands,
            Tally::Duplicate => &mut self.duplicates,
            Tally::DroppedNoRoom => &mut self.dropped_no_room,
            Tally::DroppedTooLarge => &mut self.dropped_too_large,
            Tally::DroppedClientFull => &mut self.dropped_client_full,
            Tally::DroppedDeadLetter => &mut self.dropped_dead_letter,
            Tally::DroppedCycle => &mut self.dropped_cycle,
            Tally::DroppedExpired => &mut self.dropped_expired,
            Tally::DroppedMaxLen => &mut self.dropped_max_len,
            Tally::DroppedRejected => &mut self.dropped_rejected,
            Tally::DroppedDeliveries => &mut self.dropped_deliveries,
            Tally::DeadLettered => &mut self.dead_lettered,
            Tally::Will => &mut self.wills,
            Tally::Filtered => &mut self.filtered,
            Tally::DroppedSubscription => &mut self.dropped_subscription,
            Tally::RecordsRead => &mut self.records_read,
        };
        *field += by;
    }
}
