//! Checks the golden frames of `frames/*.txt`.
//!
//! ```text
//! v5 | 30 05 00 01 61 00 78 | PUBLISH topic=a body=x         decodes to it and encodes to the same bytes
//! v5 ~ 40 03 00 01 00       | PUBACK id=1                    decodes to it; its own encoding is another
//! v5 ! 36 ..                | 81 quality of service is 3     does not decode, for that reason
//! v5 ? 30 05 00             |                                is not all there
//! ```

use bytes::BytesMut;
use mqtt::codec::{Decoder, Limits, Version};

use crate::notation;

fn check(line: &str) -> Result<(), String> {
    let (head, wanted) = line.split_once('|').ok_or("no |")?;
    // With `|` as the sign there are two of them.
    let (version, sign, digits, wanted) = match head.split_once(['~', '!', '?']) {
        Some((version, digits)) => {
            let sign = head.as_bytes()[version.len()];
            (version, sign, digits, wanted.trim())
        }
        None => {
            let (digits, wanted) = wanted.split_once('|').ok_or("no second |")?;
            (head, b'|', digits, wanted.trim())
        }
    };
    let version = match version.trim() {
        "v31" => Version::V31,
        "v311" => Version::V311,
        "v5" => Version::V5,
        other => return Err(format!("no version {other}")),
    };
    let bytes = notation::hex(digits);
    let limits = Limits {
        packet_len_max: 1024,
        properties_max: 4,
        filters_max: 3,
    };
    let mut input = BytesMut::from(&bytes[..]);
    let decoded = Decoder::new(version, limits).decode(&mut input);
    match (sign, decoded) {
        (b'?', Ok(None)) => Ok(()),
        (b'!', Err(error)) => {
            let said = format!("{:02x} {error}", error.reason().0);
            (said == wanted)
                .then_some(())
                .ok_or_else(|| format!("refused as: {said}"))
        }
        (b'|' | b'~', Ok(Some(packet))) => {
            let shown = notation::show(&packet);
            if shown != wanted {
                return Err(format!("decoded as: {shown}"));
            }
            if notation::parse(wanted) != packet {
                return Err("the notation does not come back".into());
            }
            if !input.is_empty() {
                return Err("bytes left".into());
            }
            let mut out = BytesMut::new();
            packet.encode(version, &mut out);
            if (out == bytes[..]) != (sign == b'|') {
                return Err(format!("encodes to {out:02x?}"));
            }
            Ok(())
        }
        (_, other) => Err(format!("got {other:?}")),
    }
}

#[test]
fn golden_frames() {
    let mut failures = Vec::new();
    let mut count = 0;
    for (path, text) in crate::files("frames") {
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            count += 1;
            if let Err(why) = check(line) {
                failures.push(format!(
                    "{}:{}: {line}\n    {why}",
                    path.display(),
                    number + 1
                ));
            }
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    assert!(count >= 100, "frames were found: {count}");
}
