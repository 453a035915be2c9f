//! Names of topics and queues: from each protocol to each other and back, and the page's table of them.

use std::fmt::Write as _;

use message::{Address, Levels, Message, VhostId};
use mqtt::codec::Version as MqttVersion;
use proptest::prelude::*;
use stomp::Version as StompVersion;

use crate::{
    head::{Received, Speech, received},
    page::code,
    peer::{BODY, Peer},
};

/// Versions differ in what they can escape, not in names.
const DOORS: [Speech; 3] = [
    Speech::Mqtt(MqttVersion::V5),
    Speech::Amqp,
    Speech::Stomp(StompVersion::V1_2),
];

fn publish(speech: Speech, to: &str) -> Result<Message, String> {
    Peer::new(speech).publish(&speech.bare(), to, BODY)
}

/// The address that a text names.
fn address(speech: Speech, to: &str) -> Address {
    let message = publish(speech, to).unwrap_or_else(|words| panic!("{to:?} is accepted: {words}"));
    message.address.as_ref().clone()
}

fn delivered(speech: Speech, address: &Address) -> Option<Received> {
    let message = Message::new(address.clone(), BODY.into());
    let wire = Peer::new(speech).deliver(message);
    received(speech, wire)
}

/// The text under which a message of that address is shown. `None`: it is not.
fn shown(speech: Speech, address: &Address) -> Option<String> {
    Some(delivered(speech, address)?.name)
}

/// A name goes from its protocol to each, and back, and is the same.
fn comes_back(from: Speech, text: &str) {
    let meant = address(from, text);
    for to in DOORS {
        let Some(there) = shown(to, &meant) else {
            panic!("{} cannot show {text:?}", to.name());
        };
        let back = address(to, &there);
        assert_eq!(back, meant, "{text:?} is {there:?} in {}", to.name());
        assert_eq!(
            shown(from, &back).as_deref(),
            Some(text),
            "by {}",
            to.name()
        );
    }
}

fn topic(levels: &[&str]) -> Address {
    crate::peer::topic(levels)
}

#[test]
fn mapping_5_1_topics_of_mqtt_come_back_from_everywhere() {
    let long = "t".repeat(250);
    for text in [
        "a",
        "a/b",
        "a/b.c",
        "a//b",
        "/a",
        "a/",
        "//",
        "/",
        "a b/c",
        "a/*/b",
        "a/>",
        "*",
        "%2F",
        "%252F",
        "%2E",
        "%252E",
        "a/%2B/%23",
        "100%",
        "%",
        "größe/ß/日本",
        "a,b",
        "$other/x",
        "a:b",
        "back\\slash",
        &long,
    ] {
        comes_back(Speech::Mqtt(MqttVersion::V5), text);
    }
}

#[test]
fn mapping_5_1_keys_of_amqp_come_back_from_everywhere() {
    for key in [
        "a",
        "a.b",
        "a.b/c",
        "a..b",
        ".a",
        "a.",
        "..",
        ".",
        "a.+.b",
        "#",
        "*",
        "a.*.#",
        ">",
        "%2E",
        "%252E",
        "%2F",
        "%252F",
        "+",
        "100%",
        "größe.ß",
        "a b",
        "a:b",
        &"k".repeat(250),
        &"k".repeat(255),
    ] {
        comes_back(Speech::Amqp, &format!("amq.topic|{key}"));
    }
}

#[test]
fn mapping_5_1_destinations_of_stomp_come_back_from_everywhere() {
    for key in [
        "a",
        "a.b",
        "a%2Fb.c",
        "a%2Eb",
        "a..b",
        ".a",
        "a.",
        "*",
        "#",
        ">",
        "+",
        "%252F",
        "%252E",
        "%2B",
        "größe.ß",
        &"k".repeat(250),
    ] {
        comes_back(Speech::Stomp(StompVersion::V1_2), &format!("/topic/{key}"));
    }
}

#[test]
fn doors_1_a_queues_name_is_one_level_whatever_is_in_it() {
    for name in [
        "jobs",
        "a.b",
        "a/b.c",
        "a//b",
        "+",
        "#",
        "*",
        "%2F",
        "%252F",
        "%2B",
        "größe",
        "a b",
        &"q".repeat(250),
    ] {
        comes_back(Speech::Amqp, &format!("|{name}"));
        assert_eq!(address(Speech::Amqp, &format!("|{name}")).name, name);
    }
    for (speech, text) in [
        (Speech::Mqtt(MqttVersion::V5), "$queue/a/b.c"),
        (Speech::Stomp(StompVersion::V1_2), "/queue/a%2Fb.c"),
        (Speech::Stomp(StompVersion::V1_2), "/queue/a/b.c"),
        (Speech::Stomp(StompVersion::V1_2), "/amq/queue/a/b.c"),
    ] {
        assert_eq!(
            address(speech, text),
            Address::queue(VhostId::ROOT, "a/b.c")
        );
    }
}

#[test]
fn doors_1_the_empty_key_is_no_level_and_has_no_topic() {
    let nothing = address(Speech::Amqp, "amq.topic|");
    assert_eq!(nothing, Address::topic(VhostId::ROOT, Levels::none()));
    assert_eq!(shown(Speech::Mqtt(MqttVersion::V5), &nothing), None);
    assert_eq!(shown(Speech::Stomp(StompVersion::V1_2), &nothing), None);
    assert_eq!(shown(Speech::Amqp, &nothing).as_deref(), Some("amq.topic|"));
}

#[test]
fn doors_3_what_a_protocol_cannot_write_goes_to_amqp_in_a_header_and_to_the_others_not_at_all() {
    let levels =
        |levels: &[&[u8]]| Address::topic(VhostId::ROOT, Levels::collect(levels).expect("few"));
    for unwritable in [levels(&[b"a\0"]), levels(&[b"\xff"]), levels(&[b""])] {
        for speech in [DOORS[0], DOORS[2]] {
            assert_eq!(shown(speech, &unwritable), None, "{unwritable:?}");
        }
    }
    // Over 255 bytes, and a single empty level.
    let long = "l".repeat(300);
    let dots = ".".repeat(100);
    for (unwritable, text) in [
        (topic(&["a", &long]), format!("a.{long}")),
        (topic(&[&dots]), "%2E".repeat(100)),
        (topic(&[""]), String::new()),
    ] {
        let received = delivered(Speech::Amqp, &unwritable).expect("delivered all the same");
        assert_eq!(received.name, "amq.topic|");
        let line = format!("x-bascule-address='{text}'");
        assert!(received.head.lines().contains(&line), "{:?}", received.head);
    }
    let queue = Address::queue(VhostId::ROOT, long);
    let received = delivered(Speech::Amqp, &queue).expect("delivered all the same");
    assert_eq!(received.name, "|");
}

#[test]
fn doors_5_reserved_first_levels_are_refused_at_every_door() {
    for first in ["$share", "$SYS", "$topic"] {
        for (speech, text) in [
            (DOORS[0], format!("{first}/x")),
            (DOORS[1], format!("amq.topic|{first}.x")),
            (DOORS[1], format!("|$topic/{first}.x")),
            (DOORS[2], format!("/topic/{first}.x")),
        ] {
            assert!(publish(speech, &text).is_err(), "{text}");
        }
    }
    for (speech, text) in [
        (DOORS[1], "amq.topic|$queue.x"),
        (DOORS[1], "amq.topic|$stream.x"),
        (DOORS[2], "/topic/$queue.x"),
        (DOORS[2], "/topic/$stream/x"),
    ] {
        assert!(publish(speech, text).is_err(), "{text}");
    }
    let bridge = "$SYS/broker/connection/b/state";
    assert_eq!(
        address(DOORS[0], bridge),
        topic(&["$SYS", "broker", "connection", "b", "state"])
    );
    assert_eq!(
        address(DOORS[0], "$queue/x"),
        Address::queue(VhostId::ROOT, "x")
    );
}

#[test]
fn mapping_2_8_a_queue_and_a_topic_of_one_name_are_two() {
    let speech = DOORS[2];
    assert_ne!(address(speech, "/queue/foo"), address(speech, "/topic/foo"));
    assert_ne!(
        address(speech, "/queue/foo"),
        address(speech, "/exchange/foo")
    );
}

/// The names of the page's table.
pub(crate) fn table() -> String {
    let mut text =
        "\n## Names\n\n| place | MQTT | AMQP 0-9-1: exchange, key | STOMP |\n|---|---|---|---|\n"
            .to_owned();
    let long = "l".repeat(256);
    let root = VhostId::ROOT;
    let key = Levels::collect(["k", "l/m"]).expect("few levels");
    let mut row = |place: &str, address: &Address| {
        let cells = DOORS.map(|door| {
            let Some(name) = shown(door, address) else {
                return "not delivered, counted".to_owned();
            };
            if door != Speech::Amqp {
                return code(&name);
            }
            let (exchange, key) = name.split_once('|').expect("exchange and key");
            if key.is_empty() && !(address.key.is_empty() && address.name.is_empty()) {
                return format!("`{exchange}`, an empty key and header `x-bascule-address`");
            }
            format!("{}, {}", code(exchange), code(key))
        });
        let _ = writeln!(text, "| {place} | {} |", cells.join(" | "));
    };
    for levels in [
        &["a", "b"][..],
        &["a", "b.c"],
        &["a", "b/c"],
        &["a", "", "b"],
        &["", "a"],
        &["a", ""],
        &["a", "+"],
        &["a", "#"],
        &["a", "*"],
        &["a", "%2F"],
        &["a", "%2E"],
        &["100%"],
        &["größe"],
        &[""],
        &["a\0"],
    ] {
        row(
            &format!("topic of the levels {}", code(&format!("{levels:?}"))),
            &topic(levels),
        );
    }
    row("topic of a level of 256 bytes", &topic(&[&long]));
    row(
        "topic without a level",
        &Address::topic(root, Levels::none()),
    );
    row("queue `jobs`", &Address::queue(root, "jobs"));
    row("queue `a/b.c`", &Address::queue(root, "a/b.c"));
    row("queue `a+b`", &Address::queue(root, "a+b"));
    row(
        "exchange `x`, key `k`, `l/m`",
        &Address::exchange(root, "x", key),
    );
    // Long names make the table wider than the page.
    text.replace(&long, "...")
}

fn level() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("%"),
        Just("25"),
        Just("2E"),
        Just("2F"),
        Just("2B"),
        Just("23"),
        Just("."),
        Just("/"),
        Just("+"),
        Just("#"),
        Just("*"),
        Just("a"),
        Just("é"),
        Just(" "),
    ];
    prop::collection::vec(part, 0..5).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the levels are: each protocol that can write them reads them back.
    #[test]
    fn doors_2_levels_cross_every_protocol_unchanged(levels in prop::collection::vec(level(), 1..5)) {
        let address = Address::topic(VhostId::ROOT, Levels::collect(&levels).expect("few levels"));
        prop_assume!(levels != [""]);
        for door in DOORS {
            let text = shown(door, &address).expect("every protocol can write it");
            prop_assert_eq!(&self::address(door, &text), &address, "{} in {}", text, door.name());
        }
    }

    #[test]
    fn doors_2_names_of_queues_cross_every_protocol_unchanged(name in level()) {
        prop_assume!(!name.is_empty() && !name.starts_with('$'));
        let address = Address::queue(VhostId::ROOT, name);
        for door in DOORS {
            let text = shown(door, &address).expect("every protocol can write it");
            prop_assert_eq!(&self::address(door, &text), &address, "{} in {}", text, door.name());
        }
    }
}
