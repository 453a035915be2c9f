//! Statements of MQTT that a line of bytes cannot show well: what is written, and lengths at their bounds.

use bytes::{Bytes, BytesMut};
use mqtt::{
    codec::{Decoder, Limits, Packet, Properties, Publish, Text, VARINT_MAX, Version},
    encode_topic,
};

fn publish(len: usize) -> Vec<u8> {
    let mut out = BytesMut::new();
    let packet = Packet::Publish(Publish {
        dup: false,
        qos: 0,
        retain: false,
        topic: "t".into(),
        packet_id: None,
        properties: Properties::default(),
        payload: Bytes::from(vec![0; len]),
    });
    packet.encode(Version::V311, &mut out);
    out.to_vec()
}

/// [MQTT-1.5.5-1]: at each bound of a Variable Byte Integer, here the Remaining Length.
#[test]
fn a_variable_byte_integer_is_as_short_as_can_be() {
    for (bytes, largest) in [(1, 0x7f), (2, 0x3fff), (3, 0x1f_ffff)] {
        // Three bytes of the remaining length are the topic.
        let written = publish(largest - 3);
        assert_eq!(written.len(), 1 + bytes + largest);
        let written = publish(largest - 2);
        assert_eq!(written.len(), 1 + bytes + 1 + largest + 1);
    }
    assert_eq!(VARINT_MAX, 0x0fff_ffff, "four bytes hold no more");
}

/// [MQTT-4.7.3-3], [MQTT3-4.7.3-3]: longer topics cannot be written by a client, and are not written by us.
#[test]
fn a_topic_has_at_most_65_535_bytes() {
    let longest = "t".repeat(65_535);
    assert!(Text::try_from(longest.clone()).is_ok());
    assert!(Text::try_from(format!("{longest}t")).is_err());
    let mut packet = BytesMut::from(&b"\x30\x81\x80\x04\xff\xff"[..]);
    packet.extend_from_slice(longest.as_bytes());
    let decoded = Decoder::new(Version::V311, Limits::default()).decode(&mut packet);
    let Ok(Some(Packet::Publish(publish))) = decoded else {
        panic!("{decoded:?}");
    };
    assert_eq!(publish.topic.as_str(), longest);
    // Escaping may make it longer than it came.
    let level = Bytes::from([&longest.as_bytes()[1..], b"+"].concat());
    let levels = message::Levels::one(level);
    let mut out = Vec::new();
    assert!(!encode_topic(&levels, &mut out));
    assert!(out.is_empty());
}
