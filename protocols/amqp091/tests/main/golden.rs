//! Runs `../frames/*.txt`: `bytes in hexadecimal = frame as Debug shows it`, `bytes ! error`, or `bytes ? not all here`.

use std::{fs, path::Path};

use amqp091::codec;
use bytes::BytesMut;

use crate::script::unhex;

#[test]
fn golden_frames_decode_and_encode_byte_for_byte() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frames");
    let bless = std::env::var_os("BLESS").is_some();
    let mut count = 0;
    for entry in fs::read_dir(folder).expect("the frames are there") {
        let path = entry.expect("a directory entry").path();
        let file = fs::read_to_string(&path).expect("a file of frames is text");
        let mut seen = String::new();
        for line in file.lines() {
            if line.is_empty() || line.starts_with('#') {
                seen += &format!("{line}\n");
                continue;
            }
            count += 1;
            let hex = line
                .split(['=', '!', '?'])
                .next()
                .unwrap_or_default()
                .trim();
            let bytes = unhex(hex);
            let mut input = BytesMut::from(&bytes[..]);
            match codec::decode(&mut input, 4096) {
                Ok(Some(frame)) => {
                    assert!(input.is_empty(), "one frame a line: {line}");
                    let mut out = BytesMut::new();
                    frame.encode(&mut out);
                    assert_eq!(&out[..], &bytes[..], "{line}");
                    seen += &format!("{hex} = {frame:?}\n");
                }
                Ok(None) => seen += &format!("{hex} ? not all here\n"),
                Err(error) => seen += &format!("{hex} ! {error}\n"),
            }
        }
        if bless {
            fs::write(&path, seen).expect("the file can be written");
        } else {
            assert_eq!(seen, file, "{}", path.display());
        }
    }
    assert!(count > 15, "the frames were found");
}
