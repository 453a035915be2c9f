//! `$SYS/broker/...`: what MQTT users watch of a broker, told at intervals under the names that Mosquitto gives it.
//!
//! The numbers are those of `/metrics`, read once an interval: no message pays for them. They are not retained: a subscriber
//! sees the next ones when the interval is over. In the first virtual host only, where MQTT clients are by default.
//!
//! Deliberately absent: averages over minutes, and what is not counted (packets that are no publishes, bytes of bodies).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use message::Levels;
use net::Server;
use node::Node;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// Tells them until the process ends.
pub(crate) async fn tell(every: Duration, vhost: String, node: Arc<Node>, server: Arc<Server>) {
    let start = Instant::now();
    let mut tick = interval_at(start + every, every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let now = tick.tick().await;
        let topics = topics(&node.counters(), server.bytes(), now - start);
        node.report(&vhost, topics);
    }
}

/// All topics with their values.
fn topics(
    counters: &broker::Counters,
    (bytes_read, bytes_written): (u64, u64),
    uptime: Duration,
) -> Vec<(Levels, Bytes)> {
    let dropped = counters.dropped_no_room
        + counters.dropped_too_large
        + counters.dropped_client_full
        + counters.dropped_max_len;
    let numbers = [
        ("bytes/received", bytes_read),
        ("bytes/sent", bytes_written),
        // Of every protocol: each is a client of the broker.
        ("clients/connected", counters.sessions),
        ("clients/total", counters.clients),
        ("publish/messages/received", counters.published),
        ("publish/messages/sent", counters.delivered),
        ("publish/messages/dropped", dropped),
        (
            "store/messages/count",
            counters.messages_ready + counters.messages_unacked,
        ),
        ("retained messages/count", counters.retained),
    ];
    let texts = [
        (
            "version",
            concat!("bascule version ", env!("CARGO_PKG_VERSION")).to_owned(),
        ),
        ("uptime", format!("{} seconds", uptime.as_secs())),
    ];
    numbers
        .into_iter()
        .map(|(name, number)| (name, number.to_string()))
        .chain(texts)
        .map(|(name, value)| {
            let text = Bytes::from(format!("$SYS/broker/{name}"));
            let levels = Levels::split(text, b'/').expect("short, and of few levels");
            (levels, Bytes::from(value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topics_are_mosquittos_and_tell_the_counters() {
        let counters = broker::Counters {
            published: 7,
            sessions: 2,
            messages_ready: 3,
            messages_unacked: 4,
            ..broker::Counters::default()
        };
        let told: Vec<(String, String)> = topics(&counters, (10, 20), Duration::from_secs(61))
            .into_iter()
            .map(|(levels, value)| {
                let levels: Vec<_> = levels.iter().map(String::from_utf8_lossy).collect();
                let value = String::from_utf8_lossy(&value).into_owned();
                (levels.join("/"), value)
            })
            .collect();
        for (topic, value) in [
            ("$SYS/broker/uptime", "61 seconds"),
            ("$SYS/broker/clients/connected", "2"),
            ("$SYS/broker/publish/messages/received", "7"),
            ("$SYS/broker/store/messages/count", "7"),
            ("$SYS/broker/bytes/received", "10"),
            ("$SYS/broker/bytes/sent", "20"),
        ] {
            assert!(
                told.contains(&(topic.to_owned(), value.to_owned())),
                "{topic} in {told:?}"
            );
        }
    }
}
