//! Our MQTT codec against two that others wrote: rumqttd's and mqttbytes'. Where both read a packet, the fields agree.
//!
//! The packets are the golden frames of `protocols/mqtt` and very many small changes of each. A packet that both read is
//! written again by the other codec, from the fields that it read; ours must read from that what it read at first. Order among
//! properties does not count. What only one of them reads is counted: who is right there is decided by the golden frames.
//!
//! Not compared: packets that the other reads and has no complete form for; the list is in [`is_comparable`]
//! and [`is_theirs`].
#![forbid(unsafe_code)]

use std::{fs, panic, path::Path, process::ExitCode};

use bytes::BytesMut;
use mqtt::codec::{Decoder, Limits, Packet, Properties, Version};
use rumqttd::protocol::{Protocol, v4::V4, v5::V5};

/// Changes of each golden frame.
const CHANGES: u64 = 4_000;
/// The longest packet.
const LEN_MAX: usize = 64 * 1024;

/// Reads a packet and writes it again: `None` when it is not read, or cannot be written.
type Other = fn(Version, &[u8]) -> Option<Vec<u8>>;

const OTHERS: &[(&str, Other)] = &[("rumqttd", rumqttd_again), ("mqttbytes", mqttbytes_again)];

fn rumqttd_again(version: Version, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut stream = BytesMut::from(bytes);
    let mut out = BytesMut::new();
    if version == Version::V5 {
        let packet = V5.read_mut(&mut stream, LEN_MAX).ok()?;
        V5.write(packet, &mut out).ok()?;
    } else {
        let packet = V4.read_mut(&mut stream, LEN_MAX).ok()?;
        V4.write(packet, &mut out).ok()?;
    }
    stream.is_empty().then(|| out.to_vec())
}

fn mqttbytes_again(version: Version, bytes: &[u8]) -> Option<Vec<u8>> {
    use mqttbytes::{v4, v5};
    let mut stream = BytesMut::from(bytes);
    let mut out = BytesMut::new();
    if version == Version::V5 {
        match v5::read(&mut stream, LEN_MAX).ok()? {
            v5::Packet::Connect(it) => it.write(&mut out),
            v5::Packet::ConnAck(it) => it.write(&mut out),
            v5::Packet::Publish(it) => it.write(&mut out),
            v5::Packet::PubAck(it) => it.write(&mut out),
            v5::Packet::PubRec(it) => it.write(&mut out),
            v5::Packet::PubRel(it) => it.write(&mut out),
            v5::Packet::PubComp(it) => it.write(&mut out),
            v5::Packet::Subscribe(it) => it.write(&mut out),
            v5::Packet::SubAck(it) => it.write(&mut out),
            v5::Packet::Unsubscribe(it) => it.write(&mut out),
            v5::Packet::UnsubAck(it) => it.write(&mut out),
            v5::Packet::PingReq => v5::PingReq.write(&mut out),
            v5::Packet::PingResp => v5::PingResp.write(&mut out),
            v5::Packet::Disconnect(it) => it.write(&mut out),
        }
        .ok()?;
    } else {
        match v4::read(&mut stream, LEN_MAX).ok()? {
            v4::Packet::Connect(it) => it.write(&mut out),
            v4::Packet::ConnAck(it) => it.write(&mut out),
            v4::Packet::Publish(it) => it.write(&mut out),
            v4::Packet::PubAck(it) => it.write(&mut out),
            v4::Packet::PubRec(it) => it.write(&mut out),
            v4::Packet::PubRel(it) => it.write(&mut out),
            v4::Packet::PubComp(it) => it.write(&mut out),
            v4::Packet::Subscribe(it) => it.write(&mut out),
            v4::Packet::SubAck(it) => it.write(&mut out),
            v4::Packet::Unsubscribe(it) => it.write(&mut out),
            v4::Packet::UnsubAck(it) => it.write(&mut out),
            v4::Packet::PingReq => v4::PingReq.write(&mut out),
            v4::Packet::PingResp => v4::PingResp.write(&mut out),
            v4::Packet::Disconnect => v4::Disconnect.write(&mut out),
        }
        .ok()?;
    }
    stream.is_empty().then(|| out.to_vec())
}

/// What the others have a complete form for.
const fn is_comparable(packet: &Packet) -> bool {
    // AUTH is unknown to both.
    !matches!(packet, Packet::Auth(_))
}

/// What another codec is known to write wrongly: mqttbytes leaves out the property length of a CONNACK without properties
/// (MQTT 5, 3.2.2.3.1).
fn is_theirs(name: &str, version: Version, packet: &Packet) -> bool {
    let bare = matches!(packet, Packet::ConnAck(ack) if ack.properties.0.is_empty());
    name == "mqttbytes" && version == Version::V5 && bare
}

/// The packet that is all of these bytes.
fn ours(version: Version, bytes: &[u8]) -> Option<(Version, Packet)> {
    let mut decoder = Decoder::new(version, Limits::default());
    let mut buffer = BytesMut::from(bytes);
    let packet = decoder.decode(&mut buffer).ok()??;
    (buffer.is_empty() && is_comparable(&packet)).then(|| (decoder.version(), packet))
}

/// The packet with its properties in one order.
fn sorted(mut packet: Packet) -> Packet {
    let sort = |properties: &mut Properties| {
        // Stable: user properties keep theirs.
        properties.0.sort_by_key(mqtt::codec::Property::id);
    };
    match &mut packet {
        Packet::Connect(it) => {
            sort(&mut it.properties);
            if let Some(will) = &mut it.will {
                sort(&mut will.properties);
            }
        }
        Packet::ConnAck(it) => sort(&mut it.properties),
        Packet::Publish(it) => sort(&mut it.properties),
        Packet::PubAck(it) | Packet::PubRec(it) | Packet::PubRel(it) | Packet::PubComp(it) => {
            sort(&mut it.properties);
        }
        Packet::Subscribe(it) => sort(&mut it.properties),
        Packet::Unsubscribe(it) => sort(&mut it.properties),
        Packet::SubAck(it) | Packet::UnsubAck(it) => sort(&mut it.properties),
        Packet::Disconnect(it) | Packet::Auth(it) => sort(&mut it.properties),
        Packet::PingReq | Packet::PingResp => {}
    }
    packet
}

/// The golden frames that are whole and right: version and bytes.
fn golden() -> Vec<(Version, Vec<u8>)> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../protocols/mqtt/tests/frames/packets.txt");
    let text = fs::read_to_string(&path).expect("the golden frames are in the repository");
    let one = |line: &str| {
        let (version, rest) = line.split_once(' ')?;
        // MQTT 3.1 is unknown to the others.
        let version = match version {
            "v311" => Version::V311,
            "v5" => Version::V5,
            _ => return None,
        };
        let digits: Vec<u32> = rest
            .get(1..)?
            .split('|')
            .next()?
            .chars()
            .filter(|char| !char.is_whitespace())
            .map(|char| char.to_digit(16))
            .collect::<Option<_>>()?;
        let bytes = digits
            .chunks_exact(2)
            .map(|pair| (pair[0] << 4 | pair[1]) as u8)
            .collect::<Vec<u8>>();
        (!bytes.is_empty()).then_some((version, bytes))
    };
    text.lines().filter_map(one).collect()
}

/// SplitMix64.
fn chance(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// One or two bytes other than they were; the length stays right.
fn changed(frame: &[u8], seed: u64) -> Vec<u8> {
    let mut seed = seed;
    let mut bytes = frame.to_vec();
    for _ in 0..=chance(&mut seed) % 2 {
        let at = chance(&mut seed) as usize % bytes.len();
        if at != 1 {
            let values = [0, 1, 2, 0x26, b'a', 0xff, chance(&mut seed) as u8];
            bytes[at] = values[chance(&mut seed) as usize % values.len()];
        }
    }
    bytes
}

fn main() -> ExitCode {
    // The others panic at some lengths; that is theirs.
    panic::set_hook(Box::new(|_| {}));
    let frames = golden();
    let mut code = ExitCode::SUCCESS;
    for (name, other) in OTHERS {
        let (mut both, mut only_ours, mut panics) = (0u32, 0u32, 0u32);
        let mut differences = Vec::new();
        for (version, frame) in &frames {
            for seed in 0..=CHANGES {
                let bytes = if seed == 0 {
                    frame.clone()
                } else {
                    changed(frame, seed)
                };
                let Some((spoken, packet)) = ours(*version, &bytes) else {
                    continue;
                };
                if spoken == Version::V31 || is_theirs(name, spoken, &packet) {
                    continue;
                }
                let Ok(again) = panic::catch_unwind(|| other(spoken, &bytes)) else {
                    panics += 1;
                    continue;
                };
                let Some(again) = again else {
                    only_ours += 1;
                    continue;
                };
                both += 1;
                let back = ours(spoken, &again).map(|(_, packet)| sorted(packet));
                let packet = sorted(packet);
                if back.as_ref() != Some(&packet) {
                    differences.push(format!(
                        "{bytes:02x?}\n  ours   {packet:?}\n  theirs {back:?}"
                    ));
                }
            }
        }
        println!(
            "{name}: {both} packets read by both, {} differ; {only_ours} that it does not read, {panics} panics of it",
            differences.len()
        );
        let mut shown = std::collections::BTreeSet::new();
        for difference in differences {
            // One of each kind of packet.
            if shown.insert(
                difference
                    .split("ours   ")
                    .nth(1)
                    .map(|text| text[..8].to_owned()),
            ) {
                println!("{difference}");
            }
            code = ExitCode::FAILURE;
        }
        if both < 10_000 {
            println!("{name}: too few to say anything");
            code = ExitCode::FAILURE;
        }
    }
    code
}
