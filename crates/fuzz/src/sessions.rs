//! The three protocol sessions between a client that does what the input says and a naive core that keeps the contract.
//!
//! The input is a list of deeds. A session must not panic; what it writes must be frames that its own decoder reads; it must
//! keep the contract (`naive.rs`); and after its end it must say nothing more.
//!
//! ```text
//! 0..=5 n bytes*n    the client sends n bytes        8, 9 w h    the core delivers
//! 6 how              the core answers one question   10 t        time passes, 16 ms a unit
//! 7 how              the core answers everything     11 k        the core cancels, blocks, or closes
//!                                                    12 n bytes  a whole frame of the protocol, by number
//! ```

use bytes::{Buf, Bytes, BytesMut};
use message::Timestamp;
use session::{CloseReason, Event, Output, Session};

use crate::naive::Core;

const START: Timestamp = Timestamp(1_000_000);

/// What differs between the protocols.
struct Door {
    /// Sent first, one piece after each answer of the core.
    prelude: Vec<Vec<u8>>,
    /// Frames that a client sends, so that an input need not spell them.
    frames: Vec<Vec<u8>>,
    /// Takes a whole frame off what the session wrote; false when there is none, a panic when it is none.
    read: Box<dyn FnMut(&mut BytesMut) -> bool>,
}

fn run(mut session: impl Session, mut door: Door, input: &[u8]) {
    let mut world = World {
        core: Core::default(),
        out: Output::default(),
        buffer: BytesMut::new(),
        wire: BytesMut::new(),
        now: START,
        over: false,
    };
    for piece in std::mem::take(&mut door.prelude) {
        world.bytes(&mut session, &piece);
        world.settle(&mut session, &mut door);
        while world.core.is_asked() && !world.over {
            world.answer(&mut session, 3);
            world.settle(&mut session, &mut door);
        }
    }
    assert!(!world.over, "the prelude of a target is right");
    let mut script = input.iter().copied();
    let mut deeds = 0;
    while let Some(deed) = script.next()
        && !world.over
        && deeds < 4_000
    {
        deeds += 1;
        let mut next = || script.next().unwrap_or_default();
        match deed % 13 {
            0..=5 => {
                let bytes: Vec<u8> = (0..next()).map(|_| next()).collect();
                world.bytes(&mut session, &bytes);
            }
            6 => world.answer(&mut session, next()),
            7 => {
                let how = next();
                for _ in 0..200 {
                    if !world.core.is_asked() || world.over {
                        break;
                    }
                    world.answer(&mut session, how);
                    world.settle(&mut session, &mut door);
                }
            }
            8 | 9 => {
                let event = world.core.deliver(next(), next());
                world.event(&mut session, event);
            }
            10 => {
                world.now = world.now.plus_ms(u64::from(next()) * 16);
                if session.poll_timeout().is_some_and(|due| due <= world.now) {
                    let step = session.handle_timeout(world.now, &mut world.out);
                    world.over |= step.is_err();
                    let again = session.poll_timeout();
                    assert!(
                        world.over || again.is_none_or(|due| due > world.now),
                        "a timer that is never over"
                    );
                }
            }
            11 => {
                let how = next();
                let event = match how % 8 {
                    0 => Some(Event::Closing {
                        reason: CloseReason::Shutdown,
                    }),
                    1 => Some(Event::Blocked {
                        blocked: how & 64 != 0,
                        reason: "disk",
                    }),
                    _ => world.core.cancel(how / 8),
                };
                world.event(&mut session, event);
            }
            _ => {
                let frame = &door.frames[usize::from(next()) % door.frames.len()];
                world.bytes(&mut session, &frame.clone());
            }
        }
        world.settle(&mut session, &mut door);
    }
    session.handle_hangup(world.now, &mut world.out);
    for command in world.out.commands.drain(..) {
        world.core.take(command);
    }
}

struct World {
    core: Core,
    out: Output,
    /// Sent and not yet taken by the session.
    buffer: BytesMut,
    /// Written by the session and not yet read.
    wire: BytesMut,
    now: Timestamp,
    over: bool,
}

impl World {
    fn bytes(&mut self, session: &mut impl Session, bytes: &[u8]) {
        if self.over {
            return;
        }
        self.buffer.extend_from_slice(bytes);
        if session.wants_bytes() {
            let step = session.handle_bytes(&mut self.buffer, self.now, &mut self.out);
            self.over |= step.is_err();
        }
    }

    fn event(&mut self, session: &mut impl Session, event: Option<Event>) {
        if let (Some(event), false) = (event, self.over) {
            let step = session.handle_event(event, self.now, &mut self.out);
            self.over |= step.is_err();
        }
    }

    fn answer(&mut self, session: &mut impl Session, how: u8) {
        let event = self.core.answer(how);
        self.event(session, event);
        // The answer may be what the session waited for before it read on.
        self.bytes(session, &[]);
    }

    /// What happens at the end of a step of the connection loop.
    fn settle(&mut self, session: &mut impl Session, door: &mut Door) {
        session.flush(self.now, &mut self.out);
        for command in self.out.commands.drain(..) {
            self.core.take(command);
        }
        let len = self.out.wire.remaining();
        self.wire
            .extend_from_slice(&self.out.wire.copy_to_bytes(len));
        while !self.wire.is_empty() && (door.read)(&mut self.wire) {}
        assert!(self.wire.is_empty(), "only whole frames are written");
    }
}

/// MQTT: the first byte says the version.
pub(crate) fn mqtt(input: &[u8]) {
    use mqtt::codec::{Decoder, Limits, Version};
    let [version, script @ ..] = input else {
        return;
    };
    let five = version % 2 == 0;
    let version = if five { Version::V5 } else { Version::V311 };
    let connect: &[u8] = if five {
        // Receive Maximum 5, Topic Alias Maximum 3.
        b"\x10\x16\0\x04MQTT\x05\x02\0\x1e\x06\x21\0\x05\x22\0\x03\0\x03one\0"
    } else {
        b"\x10\x0f\0\x04MQTT\x04\x02\0\x1e\0\x03one"
    };
    // A client identifier of three bytes, and nothing behind it.
    let mut connect = connect.to_vec();
    if five {
        connect.pop();
    }
    connect[1] = u8::try_from(connect.len() - 2).expect("short");
    let subscribe: &[u8] = if five {
        b"\x82\x09\0\x07\0\0\x03a/#\x02"
    } else {
        b"\x82\x08\0\x07\0\x03a/#\x02"
    };
    let none: &[u8] = if five { b"\0" } else { b"" };
    let publish = |qos: u8, topic: &[u8], id: u8| {
        let mut packet = vec![0x30 | qos << 1, 0, 0, topic.len() as u8];
        packet.extend_from_slice(topic);
        if qos > 0 {
            packet.extend_from_slice(&[0, id]);
        }
        packet.extend_from_slice(none);
        packet.extend_from_slice(b"body");
        packet[1] = packet.len() as u8 - 2;
        packet
    };
    let mut unsubscribe = vec![0xa2, 0, 0, 9];
    unsubscribe.extend_from_slice(none);
    unsubscribe.extend_from_slice(b"\0\x03a/#");
    unsubscribe[1] = unsubscribe.len() as u8 - 2;
    let mut frames = vec![
        subscribe.to_vec(),
        unsubscribe,
        publish(0, b"a/b", 0),
        publish(1, b"a/b", 1),
        publish(2, b"a/b", 2),
        publish(1, b"$queue/q", 3),
        publish(2, b"$SYS/x", 4),
        b"\x62\x02\0\x02".to_vec(),
        b"\xc0\0".to_vec(),
        b"\xe0\0".to_vec(),
    ];
    for kind in [0x40, 0x50, 0x70, 0x62] {
        frames.extend((1..5).map(|id| vec![kind, 2, 0, id]));
    }
    let mut client = Decoder::new(version, Limits::default());
    let door = Door {
        prelude: vec![connect],
        frames,
        read: Box::new(move |wire| {
            let packet = client.decode(wire).expect("packets are written");
            packet.is_some()
        }),
    };
    run(
        mqtt::MqttSession::new(mqtt::Config::default(), START),
        door,
        script,
    );
}

/// AMQP 0-9-1.
pub(crate) fn amqp(input: &[u8]) {
    use amqp091::codec::{
        Long, Method, PROTOCOL_HEADER, basic, channel, confirm, connection, decode, encode_header,
        encode_method, queue, tx,
    };
    let on = |number: u16, method: Method| {
        let mut out = BytesMut::new();
        encode_method(&mut out, number, &method);
        out.to_vec()
    };
    let first = |number: u16, method: Method| [&PROTOCOL_HEADER[..], &on(number, method)].concat();
    let start_ok = connection::StartOk {
        mechanism: "PLAIN".into(),
        response: Long(Bytes::from_static(b"\0guest\0guest")),
        locale: "en_US".into(),
        ..connection::StartOk::default()
    };
    let tune_ok = connection::TuneOk {
        channel_max: 8,
        frame_max: 4096,
        heartbeat: 10,
    };
    let open = connection::Open {
        virtual_host: "/".into(),
        ..connection::Open::default()
    };
    let prelude = vec![
        first(0, start_ok.into()),
        [on(0, tune_ok.into()), on(0, open.into())].concat(),
        on(1, channel::Open::default().into()),
    ];
    let mut frames = Vec::new();
    for number in [1, 2] {
        let content = |method: Method| {
            let mut out = BytesMut::from(&on(number, method)[..]);
            encode_header(&mut out, number, 60, 4, &[0, 0]);
            out.extend_from_slice(&[3, 0, number as u8, 0, 0, 0, 4]);
            out.extend_from_slice(b"body\xce");
            out.to_vec()
        };
        let publish = |mandatory| basic::Publish {
            routing_key: "q".into(),
            mandatory,
            ..basic::Publish::default()
        };
        frames.push(content(publish(false).into()));
        frames.push(content(publish(true).into()));
        let consume = |tag: &'static str, no_ack| basic::Consume {
            queue: "q".into(),
            consumer_tag: tag.into(),
            no_ack,
            ..basic::Consume::default()
        };
        let cancel = basic::Cancel {
            consumer_tag: "a".into(),
            ..basic::Cancel::default()
        };
        let get = basic::Get {
            queue: "q".into(),
            ..basic::Get::default()
        };
        let methods: Vec<Method> = vec![
            channel::Open::default().into(),
            channel::Close::default().into(),
            channel::CloseOk::default().into(),
            channel::Flow { active: false }.into(),
            channel::Flow { active: true }.into(),
            confirm::Select::default().into(),
            tx::Select::default().into(),
            tx::Commit::default().into(),
            tx::Rollback::default().into(),
            queue::Declare::default().into(),
            consume("a", false).into(),
            consume("b", true).into(),
            cancel.into(),
            get.into(),
            basic::Recover { requeue: true }.into(),
        ];
        frames.extend(methods.into_iter().map(|method| on(number, method)));
        for delivery_tag in 0..4 {
            for multiple in [false, true] {
                let ack = basic::Ack {
                    delivery_tag,
                    multiple,
                };
                let nack = basic::Nack {
                    delivery_tag,
                    multiple,
                    requeue: true,
                };
                let reject = basic::Reject {
                    delivery_tag,
                    requeue: multiple,
                };
                frames.push(on(number, ack.into()));
                frames.push(on(number, nack.into()));
                frames.push(on(number, reject.into()));
            }
        }
    }
    let door = Door {
        prelude,
        frames,
        read: Box::new(|wire| {
            if wire.starts_with(b"AMQP") {
                return wire.split_to(8).len() == 8;
            }
            decode(wire, 4096).expect("frames are written").is_some()
        }),
    };
    run(
        amqp091::AmqpSession::new(amqp091::Config::default()),
        door,
        input,
    );
}

/// STOMP: the first byte says the version.
pub(crate) fn stomp(input: &[u8]) {
    use stomp::{
        Version,
        codec::{Decoder, Limits},
    };
    let [version, script @ ..] = input else {
        return;
    };
    let version = [Version::V1_0, Version::V1_1, Version::V1_2][usize::from(version % 3)];
    let connect = format!(
        "CONNECT\naccept-version:{}\nhost:/\nlogin:guest\npasscode:guest\nheart-beat:5000,5000\n\n\0",
        version.as_str()
    );
    let frames = [
        "SUBSCRIBE\nid:1\ndestination:/queue/a\nack:client\n\n\0",
        "SUBSCRIBE\nid:2\ndestination:/queue/b\nack:client-individual\n\n\0",
        "SUBSCRIBE\nid:3\ndestination:/topic/c\nreceipt:s\n\n\0",
        "SUBSCRIBE\nid:4\ndestination:/temp-queue/t\n\n\0",
        "UNSUBSCRIBE\nid:1\n\n\0",
        "UNSUBSCRIBE\nid:3\nreceipt:u\n\n\0",
        "SEND\ndestination:/queue/a\nreceipt:r\n\nbody\0",
        "SEND\ndestination:/topic/a.b\ncontent-length:3\n\na\0b\0",
        "SEND\ndestination:/queue/a\ntransaction:t\n\nx\0",
        "SEND\ndestination:/queue/a\nreply-to:/temp-queue/r\n\nx\0",
        "BEGIN\ntransaction:t\n\n\0",
        "COMMIT\ntransaction:t\nreceipt:c\n\n\0",
        "ABORT\ntransaction:t\n\n\0",
        "DISCONNECT\nreceipt:d\n\n\0",
        "\n",
    ];
    let mut client = Decoder::new(
        version,
        Limits {
            header_count_max: 1_000,
            header_len_max: 64 << 10,
            head_len_max: 64 << 10,
            body_len_max: 1 << 20,
        },
    );
    let door = Door {
        prelude: vec![connect.into_bytes()],
        frames: frames
            .iter()
            .map(|frame| frame.as_bytes().to_vec())
            .collect(),
        read: Box::new(move |wire| {
            let before = wire.len();
            let frame = client.decode(wire).expect("frames are written");
            frame.is_some() || wire.len() < before
        }),
    };
    run(
        stomp::StompSession::new(stomp::Config::default()),
        door,
        script,
    );
}
