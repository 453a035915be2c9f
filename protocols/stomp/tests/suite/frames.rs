//! Golden frames: `tests/frames/*.txt`, one case a line, under a heading that names the clause.
//!
//! `VERSION BYTES => FRAME` or `=> ERROR` or `=> more`, bytes and frame with C escapes. Each is decoded whole and byte by
//! byte; a frame is encoded again and must decode to the same. `BLESS=1` writes down what happens, to be reviewed.

use std::{fmt::Write as _, fs, path::Path};

use bytes::{Buf, BytesMut};
use session::Wire;
use stomp::{
    Version,
    codec::{Decoder, Frame, Limits},
};

use crate::show::unescape;

const LIMITS: Limits = Limits {
    header_count_max: 4,
    header_len_max: 40,
    head_len_max: 100,
    body_len_max: 20,
};

fn version(text: &str) -> Version {
    match text {
        "1.0" => Version::V1_0,
        "1.1" => Version::V1_1,
        "1.2" => Version::V1_2,
        other => panic!("unknown version {other}"),
    }
}

fn show(frame: &Frame) -> String {
    let mut out = frame.verb.as_str().to_owned();
    for (name, value) in &frame.headers.0 {
        let _ = write!(out, " [{}|{}]", name.escape_ascii(), value.escape_ascii());
    }
    if !frame.body.is_empty() {
        let _ = write!(out, " \"{}\"", frame.body.escape_ascii());
    }
    out
}

/// What the bytes are: frames, then an error or an unfinished frame.
fn decode(version: Version, bytes: &[u8], step: usize) -> String {
    let mut decoder = Decoder::new(version, LIMITS);
    let mut input = BytesMut::new();
    let mut found = Vec::new();
    for part in bytes.chunks(step) {
        input.extend_from_slice(part);
        loop {
            match decoder.decode(&mut input) {
                Ok(Some(frame)) => {
                    again(version, &frame);
                    found.push(show(&frame));
                }
                Ok(None) => break,
                Err(error) => {
                    found.push(format!("error: {error}"));
                    return found.join(" ; ");
                }
            }
        }
    }
    if found.is_empty() || !input.is_empty() {
        found.push("more".to_owned());
    }
    found.join(" ; ")
}

fn again(version: Version, frame: &Frame) {
    let holds_cr = |(_, value): &(bytes::Bytes, bytes::Bytes)| value.contains(&b'\r');
    if version < Version::V1_2 && frame.headers.0.iter().any(holds_cr) {
        // It can come raw, and is not written so.
        return;
    }
    let mut wire = Wire::default();
    assert_eq!(frame.encode(version, &mut wire), 0, "{frame:?}");
    let mut bytes = BytesMut::from(&wire.copy_to_bytes(wire.remaining())[..]);
    let wide = Limits {
        header_count_max: 100,
        header_len_max: 1000,
        head_len_max: 1000,
        body_len_max: 1000,
    };
    let decoded = Decoder::new(version, wide)
        .decode(&mut bytes)
        .expect("what we write is right")
        .expect("and whole");
    // `content-length` is added to a frame that has a body.
    let mut expected = frame.clone();
    if !expected.body.is_empty() && expected.headers.first("content-length").is_none() {
        expected = expected.with("content-length", frame.body.len().to_string());
    }
    assert_eq!(decoded, expected);
    assert!(bytes.is_empty());
}

#[test]
fn every_frame_is_what_it_is_said_to_be() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frames");
    let mut wrong = String::new();
    let mut cases = 0;
    for entry in fs::read_dir(folder).expect("the folder of the frames") {
        let path = entry.expect("an entry").path();
        let text = fs::read_to_string(&path).expect("a readable file");
        let mut blessed = String::new();
        for line in text.lines() {
            let Some((given, expected)) = line.split_once(" =>") else {
                let _ = writeln!(blessed, "{line}");
                continue;
            };
            cases += 1;
            let (number, bytes) = given.split_once(' ').expect("version and bytes");
            let bytes = unescape(bytes);
            let found = decode(version(number), &bytes, bytes.len().max(1));
            let slowly = decode(version(number), &bytes, 1);
            let _ = writeln!(blessed, "{given} => {found}");
            if found != expected.trim() || slowly != found {
                let _ = writeln!(
                    wrong,
                    "{given}\n  expected {expected}\n  found    {found}\n  slowly   {slowly}"
                );
            }
        }
        if std::env::var_os("BLESS").is_some() {
            fs::write(&path, blessed).expect("a writable file");
        }
    }
    assert!(cases > 0);
    assert!(
        wrong.is_empty() || std::env::var_os("BLESS").is_some(),
        "\n{wrong}"
    );
}
