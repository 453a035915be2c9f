#![no_main]
//! The fuzz targets, in one program: the environment variable `BASCULE_FUZZ` names the one that runs.
//!
//! | file | targets |
//! |---|---|
//! | `decoders.rs` | every decoder of bytes from a peer or from the disk: no panic, bounded memory, what decodes comes back |
//! | `sessions.rs`, `naive.rs` | the three protocol sessions between a client and a naive core |
//! | `envelope.rs` | what comes to the doors of AWS before an operation sees it: nobody gets in unsigned, what is read comes back |
//! | `requests.rs`, `core.rs` | requests of SQS, SNS and Kinesis to the broker's own core, which is replayed |
//! | `damage.rs` | the journal's recovery from damaged files: it refuses, or what it hands out was written so |
//! | `memory.rs` | the allocator that counts |
//!
//! `targets.txt` lists the names; `cargo xtask fuzz` builds and runs, and makes the seeds from the golden frames.

mod core;
mod damage;
mod decoders;
mod envelope;
mod memory;
mod naive;
mod requests;
mod sessions;

use std::sync::OnceLock;

/// What runs, chosen once.
static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

fn target() -> fn(&[u8]) {
    let name = std::env::var("BASCULE_FUZZ").unwrap_or_default();
    match name.as_str() {
        "mqtt" => decoders::mqtt,
        "amqp" => decoders::amqp,
        "amqp-properties" => decoders::amqp_properties,
        "stomp" => decoders::stomp,
        "websocket" => decoders::websocket,
        "names" => decoders::names,
        "head" => decoders::head,
        "record" => decoders::record,
        "config" => decoders::config,
        "journal" => damage::recovery,
        "mqtt-session" => sessions::mqtt,
        "amqp-session" => sessions::amqp,
        "stomp-session" => sessions::stomp,
        "aws-json" => envelope::json,
        "aws-cbor" => envelope::cbor,
        "aws-query" => envelope::query,
        "aws-signature" => envelope::signature,
        "aws-events" => envelope::events,
        "policy" => envelope::policy,
        "aws-requests" => requests::run,
        other => panic!("BASCULE_FUZZ='{other}' is not in crates/fuzz/targets.txt"),
    }
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    TARGET.get_or_init(target)(input);
});
