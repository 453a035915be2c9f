//! What holds for every packet, every split of the bytes and every name.

use bytes::{Bytes, BytesMut};
use message::{Filter, FilterLevel, Levels, Pattern, VhostId};
use mqtt::{
    Subject,
    codec::{
        Ack, ConnAck, Connect, Decoder, Farewell, Limits, Options, Packet, Properties, Property,
        Publish, ReasonCode, SubAck, Subscribe, Text, Unsubscribe, Version, Will,
    },
    decode_filter, decode_source, decode_topic, encode_address, encode_filter, encode_topic,
};
use proptest::{collection::vec, option, prelude::*};

fn text() -> impl Strategy<Value = Text> {
    "[a-zé/%$ +#.-]{0,12}".prop_map(|text| Text::try_from(text).expect("no U+0000"))
}

fn topic() -> impl Strategy<Value = Text> {
    "[a-zé/%$ .-]{1,12}".prop_map(|text| Text::try_from(text).expect("no U+0000"))
}

fn data() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn properties(choice: fn() -> BoxedStrategy<Property>) -> impl Strategy<Value = Properties> {
    vec(choice(), 0..4).prop_map(|list| {
        let mut seen = Vec::new();
        Properties(
            list.into_iter()
                .filter(|property| {
                    let id = property.id();
                    let twice = seen.contains(&id) && id != 0x26;
                    seen.push(id);
                    !twice
                })
                .collect(),
        )
    })
}

fn user() -> BoxedStrategy<Property> {
    (text(), text())
        .prop_map(|(name, value)| Property::UserProperty(name, value))
        .boxed()
}

fn publish_property() -> BoxedStrategy<Property> {
    prop_oneof![
        (0u8..2).prop_map(Property::PayloadFormatIndicator),
        any::<u32>().prop_map(Property::MessageExpiryInterval),
        text().prop_map(Property::ContentType),
        text().prop_map(Property::ResponseTopic),
        data().prop_map(Property::CorrelationData),
        (1u16..).prop_map(Property::TopicAlias),
        user(),
    ]
    .boxed()
}

fn will_property() -> BoxedStrategy<Property> {
    prop_oneof![
        any::<u32>().prop_map(Property::WillDelayInterval),
        any::<u32>().prop_map(Property::MessageExpiryInterval),
        user(),
    ]
    .boxed()
}

fn connect_property() -> BoxedStrategy<Property> {
    prop_oneof![
        any::<u32>().prop_map(Property::SessionExpiryInterval),
        (1u16..).prop_map(Property::ReceiveMaximum),
        (1u32..).prop_map(Property::MaximumPacketSize),
        any::<u16>().prop_map(Property::TopicAliasMaximum),
        (0u8..2).prop_map(Property::RequestProblemInformation),
        (0u8..2).prop_map(Property::RequestResponseInformation),
        text().prop_map(Property::AuthenticationMethod),
        data().prop_map(Property::AuthenticationData),
        user(),
    ]
    .boxed()
}

fn connack_property() -> BoxedStrategy<Property> {
    prop_oneof![
        text().prop_map(Property::AssignedClientIdentifier),
        any::<u16>().prop_map(Property::ServerKeepAlive),
        text().prop_map(Property::ResponseInformation),
        text().prop_map(Property::ServerReference),
        text().prop_map(Property::ReasonString),
        (0u8..2).prop_map(Property::MaximumQos),
        (0u8..2).prop_map(Property::RetainAvailable),
        (0u8..2).prop_map(Property::WildcardSubscriptionAvailable),
        (0u8..2).prop_map(Property::SubscriptionIdentifierAvailable),
        (0u8..2).prop_map(Property::SharedSubscriptionAvailable),
        user(),
    ]
    .boxed()
}

fn reason_property() -> BoxedStrategy<Property> {
    prop_oneof![text().prop_map(Property::ReasonString), user()].boxed()
}

fn subscribe_property() -> BoxedStrategy<Property> {
    prop_oneof![
        (1u32..=268_435_455).prop_map(Property::SubscriptionIdentifier),
        user()
    ]
    .boxed()
}

fn ack(codes: &'static [u8]) -> impl Strategy<Value = Ack> {
    let code = prop::sample::select(codes);
    (1u16.., code, properties(reason_property)).prop_map(|(packet_id, code, properties)| Ack {
        packet_id,
        reason: ReasonCode(code),
        properties,
    })
}

fn publish() -> impl Strategy<Value = Publish> {
    (
        (any::<bool>(), 0u8..3, any::<bool>(), 1u16..),
        (topic(), properties(publish_property), data()),
    )
        .prop_map(
            |((dup, qos, retain, id), (topic, properties, payload))| Publish {
                dup: dup && qos > 0,
                qos,
                retain,
                topic,
                packet_id: (qos > 0).then_some(id),
                properties,
                payload,
            },
        )
}

fn connect() -> impl Strategy<Value = Connect> {
    let will = (
        properties(will_property),
        topic(),
        data(),
        0u8..3,
        any::<bool>(),
    )
        .prop_map(|(properties, topic, payload, qos, retain)| Will {
            properties,
            topic,
            payload,
            qos,
            retain,
        });
    (
        (any::<bool>(), any::<u16>(), properties(connect_property)),
        (
            text(),
            option::of(will),
            option::of(text()),
            option::of(data()),
        ),
    )
        .prop_map(
            |((clean_start, keep_alive_s, properties), (client_id, will, user_name, password))| {
                Connect {
                    version: Version::V5,
                    clean_start,
                    keep_alive_s,
                    properties,
                    client_id,
                    will,
                    user_name,
                    password,
                }
            },
        )
}

fn subscribe() -> impl Strategy<Value = Subscribe> {
    let options = (0u8..3, any::<bool>(), any::<bool>(), 0u8..3).prop_map(
        |(qos, no_local, retain_as_published, retain_handling)| Options {
            qos,
            no_local,
            retain_as_published,
            retain_handling,
        },
    );
    (
        1u16..,
        properties(subscribe_property),
        vec((topic(), options), 1..4),
    )
        .prop_map(|(packet_id, properties, filters)| Subscribe {
            packet_id,
            properties,
            filters,
        })
}

fn suback(codes: &'static [u8]) -> impl Strategy<Value = SubAck> {
    (
        1u16..,
        properties(reason_property),
        vec(prop::sample::select(codes), 1..4),
    )
        .prop_map(|(packet_id, properties, codes)| SubAck {
            packet_id,
            properties,
            codes,
        })
}

fn farewell(codes: &'static [u8]) -> impl Strategy<Value = Farewell> {
    (prop::sample::select(codes), properties(reason_property)).prop_map(|(code, properties)| {
        Farewell {
            reason: ReasonCode(code),
            properties,
        }
    })
}

/// Every packet of MQTT 5.
pub(crate) fn packet() -> impl Strategy<Value = Packet> {
    prop_oneof![
        connect().prop_map(|connect| Packet::Connect(Box::new(connect))),
        (any::<bool>(), properties(connack_property)).prop_map(|(session_present, properties)| {
            Packet::ConnAck(ConnAck {
                session_present,
                code: 0,
                properties,
            })
        }),
        publish().prop_map(Packet::Publish),
        ack(&[0, 0x10, 0x80, 0x97]).prop_map(Packet::PubAck),
        ack(&[0, 0x10, 0x87, 0x99]).prop_map(Packet::PubRec),
        ack(&[0, 0x92]).prop_map(Packet::PubRel),
        ack(&[0, 0x92]).prop_map(Packet::PubComp),
        subscribe().prop_map(Packet::Subscribe),
        suback(&[0, 1, 2, 0x80, 0x8f]).prop_map(Packet::SubAck),
        (1u16.., properties(user), vec(topic(), 1..4)).prop_map(
            |(packet_id, properties, filters)| Packet::Unsubscribe(Unsubscribe {
                packet_id,
                properties,
                filters
            })
        ),
        suback(&[0, 0x11, 0x87]).prop_map(Packet::UnsubAck),
        Just(Packet::PingReq),
        Just(Packet::PingResp),
        farewell(&[0, 4, 0x82, 0x9c]).prop_map(Packet::Disconnect),
        farewell(&[0, 0x18, 0x19]).prop_map(Packet::Auth),
    ]
}

/// The packet as an older version can say it.
fn older(packet: Packet) -> Option<Packet> {
    let plain = |ack: Ack| Ack::new(ack.packet_id, ReasonCode::SUCCESS);
    Some(match packet {
        Packet::Connect(mut connect) => {
            connect.version = Version::V311;
            connect.properties = Properties::default();
            if let Some(will) = &mut connect.will {
                will.properties = Properties::default();
            }
            if connect.user_name.is_none() {
                connect.password = None;
            }
            Packet::Connect(connect)
        }
        Packet::ConnAck(mut ack) => {
            ack.properties = Properties::default();
            Packet::ConnAck(ack)
        }
        Packet::Publish(mut publish) => {
            publish.properties = Properties::default();
            Packet::Publish(publish)
        }
        Packet::PubAck(ack) => Packet::PubAck(plain(ack)),
        Packet::PubRec(ack) => Packet::PubRec(plain(ack)),
        Packet::PubRel(ack) => Packet::PubRel(plain(ack)),
        Packet::PubComp(ack) => Packet::PubComp(plain(ack)),
        Packet::Subscribe(mut subscribe) => {
            subscribe.properties = Properties::default();
            for (_, options) in &mut subscribe.filters {
                *options = Options {
                    qos: options.qos,
                    ..Options::default()
                };
            }
            Packet::Subscribe(subscribe)
        }
        Packet::Unsubscribe(mut unsubscribe) => {
            unsubscribe.properties = Properties::default();
            Packet::Unsubscribe(unsubscribe)
        }
        Packet::SubAck(mut ack) => {
            ack.properties = Properties::default();
            for code in &mut ack.codes {
                *code = (*code).min(0x80);
            }
            Packet::SubAck(ack)
        }
        Packet::UnsubAck(mut ack) => {
            ack.properties = Properties::default();
            ack.codes.clear();
            Packet::UnsubAck(ack)
        }
        Packet::PingReq | Packet::PingResp => packet,
        Packet::Disconnect(_) => Packet::Disconnect(Farewell::default()),
        Packet::Auth(_) => return None,
    })
}

proptest! {
    #[test]
    fn packets_come_back(packet in packet()) {
        let mut wire = BytesMut::new();
        packet.encode(Version::V5, &mut wire);
        let back = Decoder::new(Version::V5, Limits::default()).decode(&mut wire);
        prop_assert_eq!(back, Ok(Some(packet.clone())));
        prop_assert!(wire.is_empty());
        if let Some(packet) = older(packet) {
            packet.encode(Version::V311, &mut wire);
            let back = Decoder::new(Version::V311, Limits::default()).decode(&mut wire);
            prop_assert_eq!(back, Ok(Some(packet)));
            prop_assert!(wire.is_empty());
        }
    }

    #[test]
    fn any_split_of_the_bytes_gives_the_same_packets(
        packets in vec(packet(), 1..6),
        cuts in vec(1usize..20, 1..40),
    ) {
        let mut wire = BytesMut::new();
        for packet in &packets {
            packet.encode(Version::V5, &mut wire);
        }
        let mut decoder = Decoder::new(Version::V5, Limits::default());
        let mut input = BytesMut::new();
        let mut decoded = Vec::new();
        let mut cuts = cuts.into_iter().cycle();
        while !wire.is_empty() {
            let cut = cuts.next().expect("endless").min(wire.len());
            input.extend_from_slice(&wire.split_to(cut));
            while let Some(packet) = decoder.decode(&mut input).expect("valid") {
                decoded.push(packet);
            }
        }
        prop_assert_eq!(decoded, packets);
    }

    #[test]
    fn garbage_never_panics_and_what_decodes_comes_back(
        version in prop::sample::select(&[Version::V31, Version::V311, Version::V5]),
        kind in 0u8..16,
        flags in prop::sample::select(&[0u8, 0, 2, 2, 1, 3, 4, 10, 11, 15]),
        body in vec(any::<u8>(), 0..40),
    ) {
        let mut wire = BytesMut::from(&[kind << 4 | flags, body.len() as u8][..]);
        wire.extend_from_slice(&body);
        let limits = Limits { packet_len_max: 64, properties_max: 8, filters_max: 8 };
        let mut decoder = Decoder::new(version, limits);
        if let Ok(Some(packet)) = decoder.decode(&mut wire) {
            let version = decoder.version();
            let mut again = BytesMut::new();
            packet.encode(version, &mut again);
            let back = Decoder::new(version, Limits::default()).decode(&mut again);
            prop_assert_eq!(back, Ok(Some(packet)));
        }
    }

    #[test]
    fn mutated_packets_never_panic(packet in packet(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut wire = BytesMut::new();
        packet.encode(Version::V5, &mut wire);
        let at = at.index(wire.len());
        wire[at] = byte;
        let _ = Decoder::new(Version::V5, Limits::default()).decode(&mut wire);
    }

    #[test]
    fn doors_a2_topics_to_levels_and_back(text in "[a-b/%25FB3é+ .$]{1,20}") {
        let text = text.replace('+', "%2B");
        let bytes = Bytes::from(text.clone());
        let levels = decode_topic(&bytes).expect("few levels");
        let mut out = Vec::new();
        prop_assert!(encode_topic(&levels, &mut out));
        prop_assert_eq!(String::from_utf8(out).expect("text"), text);
    }

    #[test]
    fn doors_a2_levels_to_topics_and_back(levels in vec("[a/+#%25FB3é]{0,6}", 1..5)) {
        let levels = Levels::collect(&levels).expect("short");
        let mut out = Vec::new();
        if !encode_topic(&levels, &mut out) {
            // DOORS rule 3: one empty level is the only list of texts that has no topic.
            prop_assert_eq!(levels, Levels::one(Bytes::new()));
            return Ok(());
        }
        prop_assert!(!out.iter().any(|byte| matches!(byte, b'+' | b'#')));
        prop_assert_eq!(decode_topic(&Bytes::from(out)), Some(levels));
    }

    #[test]
    fn doors_a2_filters_to_patterns_and_back(
        levels in vec(prop_oneof![
            "[a/+#%25F3é]{0,4}".prop_map(|text| FilterLevel::Exact(Bytes::from(text))),
            Just(FilterLevel::One),
        ], 1..5),
        many in any::<bool>(),
    ) {
        let mut levels = levels;
        if many {
            levels.push(FilterLevel::Many);
        }
        let pattern = Pattern(levels);
        let filter = pattern
            .exact()
            .map_or(Filter::Pattern(pattern), Filter::Exact);
        let mut out = Vec::new();
        if encode_filter(&filter, &mut out) {
            prop_assert_eq!(decode_filter(&Bytes::from(out), 16), Ok(filter));
        }
    }

    #[test]
    fn doors_a4_queue_names_to_topics_and_back(name in "[a-c/+#%2B5é$]{1,12}") {
        let address = message::Address::queue(VhostId::ROOT, name);
        let mut out = Vec::new();
        prop_assert!(encode_address(&address, &mut out));
        let back = Subject::decode(&Bytes::from(out), 16).map(|subject| subject.into_address(VhostId::ROOT));
        prop_assert_eq!(back, Ok(address));
    }

    #[test]
    fn sources_never_panic(text in "[$a-cqueueshare/+#%]{1,20}") {
        let _ = decode_source(&Bytes::from(text), 16);
    }
}

#[test]
fn doors_a3_names_that_mqtt_cannot_write_are_refused() {
    let long = vec![b'a'; 65_535];
    for levels in [
        Levels::none(),
        Levels::one(Bytes::new()),
        Levels::one(Bytes::from_static(b"a\0b")),
        Levels::one(Bytes::from_static(b"\xff")),
        Levels::collect([&long[..65_530], b"+++"]).expect("short enough as levels"),
    ] {
        let mut out = b"kept".to_vec();
        assert!(!encode_topic(&levels, &mut out));
        assert_eq!(out, b"kept");
    }
}
