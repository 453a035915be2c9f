//! The real server, real sockets: crossings, crashes, limits.
//!
//! Each test starts its own server on ports that the system chooses, in a directory of its own, and ends it by its process
//! id. Nothing waits for a fixed time: every wait is for an event, with one generous deadline ([`server::LIMIT`]).
//!
//! | file | what |
//! |---|---|
//! | `server.rs` | one server process and its directory |
//! | `client/` | clients: MQTT and STOMP over our codecs, AMQP over lapin, plain HTTP; TCP or WebSocket below |
//! | `crossings.rs` | every body from every protocol to every protocol, topics and queues |
//! | `mqtt_clauses.rs` | MQTT by its normative statements |
//! | `requests.rs` | request and reply between any two protocols |
//! | `mqtt_sessions.rs` | sessions, retained messages and wills through crashes |
//! | `stomp_queues.rs` | durable queues and transactions |
//! | `amqp_routing.rs` | exchanges, bindings, alternate exchanges |
//! | `amqp_words.rs` | what AMQP clients are told when they ask for what cannot be |
//! | `amqp_queues.rs` | dead letters, time to live, priority, overflow, get, tx |
//! | `streams.rs` | streams through AMQP, MQTT and STOMP |
//! | `routes.rs` | routes of the configuration into queues and streams |
//! | `crashes.rs` | kill -9: under load, with messages out, with bodies in parts, next to a second server |
//! | `damage.rs` | a damaged journal: refused with what it costs, given up at the operator's word, found before it is needed |
//! | `compaction.rs` | an old message outlives the segments around it |
//! | `aws_entry.rs` | the AWS door: who is let in, into which virtual host, long polls, the end |
//! | `policies.rs` | resource policies of AWS: two accounts, and two users of one |
//! | `permissions.rs` | rules, refusals in each protocol's words, SIGHUP |
//! | `start_up.rs` | what cannot be served says so in one line |
//! | `aws_doors.rs` | one queue, topic or stream through Amazon's door and another |
//! | `aws_sdk.rs` | SQS, SNS and Kinesis through the AWS SDK for Rust |
//! | `drain.rs` | SIGTERM |
//! | `admin.rs` | streams and consumer groups by HTTP |
//! | `http.rs` | health, metrics, WebSocket and its refusals |
//! | `kinesis.rs` | streams through Kinesis: order through splits, merges and restarts, limits, subscriptions, CBOR |
//! | `sns.rs` | one topic in all protocols; delivery to HTTP endpoints: confirmation, retries, dead letters, restarts |
//! | `sns_endpoints.rs` | SNS delivers to servers: HTTPS and its signatures, mail, gateways for text messages and pushes |
//! | `sqs.rs` | queues through SQS: handles and deduplication through restarts, long polls, dead letters, purging, other doors |
//! | `full_disk.rs` | a disk without room, through the AWS SDKs |
//! | `limits.rs` | more than memory, readers that do not read, bodies that are too long, users |
//! | `attacks.rs` | thousands of strangers, slow ones, floods, no descriptors left |
//! | `strangers.rs` | wrong passwords, garbage, half-open connections |
//!
//! Deliberately absent: other people's clients (they are in `conformance/`), and what a protocol's own dialogues show.
#![expect(
    clippy::disallowed_methods,
    reason = "these tests run real processes and sockets, with deadlines"
)]
#![forbid(unsafe_code)]

mod admin;
mod amqp_queues;
mod amqp_routing;
mod amqp_words;
mod attacks;
mod aws_doors;
mod aws_entry;
mod aws_sdk;
mod client;
mod compaction;
mod crashes;
mod crossings;
mod damage;
mod drain;
mod full_disk;
mod http;
mod kinesis;
mod limits;
mod mqtt_clauses;
mod mqtt_sessions;
mod pair;
mod permissions;
mod policies;
mod requests;
mod routes;
mod server;
mod sns;
mod sns_endpoints;
mod sqs;
mod start_up;
mod stomp_queues;
mod strangers;
mod stream_files;
mod streams;
