//! What a peer tries that wants to cost much: logins without an end, thousands of properties, ids that are never released.

use bytes::{Buf as _, Bytes, BytesMut};
use message::{Timestamp, VhostId};
use mqtt::{
    Config, MqttSession,
    codec::{
        Connect, Decoder, Limits, Options, Packet, Properties, Property, Publish, ReasonCode,
        Subscribe, Text, Version, Will,
    },
};
use session::{Close, Command, Event, Output, Session as _};

const NOW: Timestamp = Timestamp(1_000_000);

struct Peer {
    session: MqttSession,
    version: Version,
    input: BytesMut,
    out: Output,
    closed: Option<Close>,
}

impl Peer {
    fn stranger(version: Version, config: Config) -> Self {
        Self {
            session: MqttSession::new(config, NOW),
            version,
            input: BytesMut::new(),
            out: Output::default(),
            closed: None,
        }
    }

    fn known(version: Version, config: Config) -> Self {
        let mut peer = Self::stranger(version, config);
        peer.send(&Packet::Connect(Box::new(connect(version))));
        let token = match peer.out.commands.pop_front() {
            Some(Command::Authenticate(ask)) => ask.token,
            other => panic!("asks who it is, not {other:?}"),
        };
        peer.tell(Event::Authenticated {
            token,
            vhost: VhostId::ROOT,
            vhost_name: "/".into(),
            user: "guest".into(),
            secret: session::Secret([0; 32]),
        });
        let token = match peer.out.commands.pop_front() {
            Some(Command::OpenClient(open)) => open.token,
            other => panic!("asks for its session, not {other:?}"),
        };
        peer.tell(Event::Opened {
            token,
            client_id: Bytes::from_static(b"c"),
            present: false,
        });
        assert!(matches!(peer.heard()[..], [Packet::ConnAck(_)]));
        peer
    }

    fn tell(&mut self, event: Event) {
        let told = self.session.handle_event(event, NOW, &mut self.out);
        assert_eq!(told, Ok(()));
    }

    /// True while the session has not ended.
    fn say(&mut self, bytes: &[u8]) -> bool {
        if self.closed.is_none() {
            self.input.extend_from_slice(bytes);
            let step = self
                .session
                .handle_bytes(&mut self.input, NOW, &mut self.out);
            self.closed = step.err();
        }
        self.closed.is_none()
    }

    fn send(&mut self, packet: &Packet) -> bool {
        let mut bytes = BytesMut::new();
        packet.encode(self.version, &mut bytes);
        self.say(&bytes)
    }

    fn heard(&mut self) -> Vec<Packet> {
        let len = self.out.wire.remaining();
        let mut wire = BytesMut::from(&self.out.wire.copy_to_bytes(len)[..]);
        let mut decoder = Decoder::new(self.version, Limits::default());
        let mut packets = Vec::new();
        while let Some(packet) = decoder
            .decode(&mut wire)
            .expect("our own packets are right")
        {
            packets.push(packet);
        }
        packets
    }

    /// The reason that it was told for the end.
    fn reason(&mut self) -> u8 {
        match self.heard().pop() {
            Some(Packet::Disconnect(farewell)) => farewell.reason.0,
            Some(Packet::ConnAck(ack)) => ack.code,
            other => panic!("told why it ends, not {other:?}"),
        }
    }
}

fn connect(version: Version) -> Connect {
    Connect {
        version,
        clean_start: true,
        keep_alive_s: 0,
        properties: Properties::default(),
        client_id: "c".into(),
        will: None,
        user_name: Some("guest".into()),
        password: Some(Bytes::from_static(b"guest")),
    }
}

fn publish(qos: u8, packet_id: u16, properties: Properties) -> Packet {
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        topic: "a".into(),
        packet_id: (qos > 0).then_some(packet_id),
        properties,
        payload: Bytes::from_static(b"x"),
    })
}

fn users(count: usize) -> Properties {
    Properties(vec![
        Property::UserProperty(Text::from("k"), Text::from("v"));
        count
    ])
}

fn will(payload_len: usize, properties: Properties) -> Will {
    Will {
        properties,
        topic: "gone".into(),
        payload: Bytes::from(vec![b'x'; payload_len]),
        qos: 1,
        retain: false,
    }
}

#[test]
fn a_login_is_no_longer_than_its_limit_and_is_told_so_at_its_length() {
    for len_max in [1_024, 256 * 1_024] {
        let config = || Config {
            connect_len_max: len_max,
            ..Config::default()
        };
        // A fixed header that announces one byte more: nothing of it is waited for.
        for (remaining, taken) in [(len_max - 4, true), (len_max, false)] {
            let mut peer = Peer::stranger(Version::V5, config());
            let head = [
                0x10,
                (remaining & 127) as u8 | 128,
                (remaining >> 7 & 127) as u8 | 128,
                (remaining >> 14) as u8,
            ];
            assert_eq!(peer.say(&head), taken, "{remaining} of {len_max}");
            assert!(peer.out.commands.is_empty());
        }
    }
    // Four bytes of a length, and one more: no length.
    let mut peer = Peer::stranger(Version::V5, Config::default());
    assert!(peer.say(b"\x10\xff\xff\xff"));
    assert!(!peer.say(b"\xff"));
}

#[test]
fn thousands_of_user_properties_are_refused_wherever_they_stand() {
    let config = Config::default;
    let max = config().properties_max;
    for (count, taken) in [(max, true), (max + 1, false), (16_000, false)] {
        let mut peer = Peer::stranger(Version::V5, config());
        let mut login = connect(Version::V5);
        login.properties = users(count);
        assert_eq!(
            peer.send(&Packet::Connect(Box::new(login))),
            taken,
            "{count}"
        );
        let mut peer = Peer::stranger(Version::V5, config());
        let mut login = connect(Version::V5);
        login.will = Some(will(1, users(count)));
        assert_eq!(
            peer.send(&Packet::Connect(Box::new(login))),
            taken,
            "will, {count}"
        );
    }
    for (count, taken) in [(max, true), (max + 1, false), (65_535, false)] {
        let mut peer = Peer::known(Version::V5, config());
        assert_eq!(peer.send(&publish(1, 1, users(count))), taken, "{count}");
        assert_eq!(peer.out.commands.len(), usize::from(taken));
        if !taken {
            assert_eq!(peer.reason(), ReasonCode::QUOTA_EXCEEDED.0, "{count}");
        }
        let mut peer = Peer::known(Version::V5, config());
        let subscribe = Packet::Subscribe(Subscribe {
            packet_id: 1,
            properties: users(count),
            filters: vec![("a".into(), Options::default())],
        });
        assert_eq!(peer.send(&subscribe), taken, "SUBSCRIBE, {count}");
    }
}

#[test]
fn a_subscribe_has_so_many_filters() {
    let max = Config::default().filters_max;
    for (count, taken) in [(max, true), (max + 1, false), (65_535, false)] {
        for version in [Version::V311, Version::V5] {
            let mut peer = Peer::known(version, Config::default());
            let subscribe = Packet::Subscribe(Subscribe {
                packet_id: 1,
                properties: Properties::default(),
                filters: vec![("a".into(), Options::default()); count],
            });
            assert_eq!(peer.send(&subscribe), taken, "{version:?}, {count}");
        }
    }
}

/// [MQTT-3.3.4-7], [MQTT-3.3.4-9]: ids of QoS 2 that are never released stay out, and count.
#[test]
fn exactly_once_ids_that_are_never_released_use_up_the_receive_maximum() {
    let config = Config::default();
    let receive_max = config.receive_max;
    let mut peer = Peer::known(Version::V5, config);
    for id in 1..=receive_max {
        assert!(peer.send(&publish(2, id, Properties::default())), "{id}");
    }
    // The same one again takes no more room.
    assert!(peer.send(&publish(2, 1, Properties::default())));
    assert!(!peer.send(&publish(2, receive_max + 1, Properties::default())));
    assert_eq!(peer.reason(), ReasonCode::RECEIVE_MAXIMUM_EXCEEDED.0);
}

#[test]
fn aliases_hold_so_many_topics_and_no_more() {
    let config = Config::default();
    let max = config.topic_alias_in_max;
    let mut peer = Peer::known(Version::V5, config);
    let long = Text::try_from("x".repeat(65_535)).expect("text");
    let with = |alias: u16| {
        Packet::Publish(Publish {
            dup: false,
            qos: 0,
            retain: false,
            topic: long.clone(),
            packet_id: None,
            properties: Properties(vec![Property::TopicAlias(alias)]),
            payload: Bytes::new(),
        })
    };
    for _ in 0..3 {
        for alias in 1..=max {
            assert!(peer.send(&with(alias)));
            peer.out.commands.clear();
        }
    }
    assert!(!peer.send(&with(max + 1)));
    assert_eq!(peer.reason(), ReasonCode::TOPIC_ALIAS_INVALID.0);
}

#[test]
fn a_flood_of_pings_is_answered_byte_for_byte() {
    let mut peer = Peer::known(Version::V311, Config::default());
    for _ in 0..10 {
        assert!(peer.say(&b"\xc0\x00".repeat(10_000)));
    }
    assert_eq!(
        peer.out.wire.remaining(),
        200_000,
        "what the connection loop counts"
    );
    assert!(peer.out.commands.is_empty() && peer.input.is_empty());
}
