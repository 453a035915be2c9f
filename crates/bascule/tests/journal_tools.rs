//! `bascule journal verify` and `dump` on a journal that was written here.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
};

use journal::{Config, RealVfs, open};

fn bascule(command: &str, dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bascule"))
        .args(["journal", command])
        .arg(dir)
        .output()
        .expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A journal of three records in a directory of its own.
fn written(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    // It may be left from an earlier run.
    let _ = std::fs::remove_dir_all(&dir);
    let config = Config {
        segment_len: 256 << 10,
        first_segment_len: 256 << 10,
        reserve_len: 64 << 10,
        ..Config::default()
    };
    let opened = open(Arc::new(RealVfs), &dir, config, 1, [7; 16]).expect("opens");
    for word in ["first", "second", "third and last"] {
        let mut stage = opened.journal.stage();
        stage.reserve(&[word.len()]);
        stage.push(42, word.as_bytes(), None);
    }
    opened.journal.shutdown();
    dir
}

#[test]
fn a_whole_journal_is_verified_and_dumped() {
    let dir = written("whole");
    let verified = bascule("verify", &dir);
    let said = text(&verified.stdout);
    assert!(
        verified.status.success(),
        "{said}{}",
        text(&verified.stderr)
    );
    assert!(said.contains("every checksum holds"), "{said}");
    let dumped = bascule("dump", &dir);
    assert!(dumped.status.success());
    let lines = text(&dumped.stdout);
    let ours: Vec<&str> = lines
        .lines()
        .filter(|line| line.contains("  42 "))
        .collect();
    assert_eq!(ours.len(), 3, "{lines}");
    assert!(
        ours[0].ends_with("first")
            && ours[1].ends_with("second")
            && ours[2].ends_with("third and last")
    );
}

#[test]
fn damage_is_exit_code_1_and_says_where() {
    let dir = written("damaged");
    let (path, at) = find(&dir, b"second").expect("the record lies in a file");
    let mut bytes = std::fs::read(&path).expect("readable");
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).expect("writable");
    let verified = bascule("verify", &dir);
    let said = text(&verified.stdout) + &text(&verified.stderr);
    assert_ne!(verified.status.code(), Some(0), "{said}");
    let file = path
        .file_name()
        .expect("a file")
        .to_string_lossy()
        .into_owned();
    assert!(said.contains(&file), "{said}");
}

fn find(dir: &Path, needle: &[u8]) -> Option<(PathBuf, usize)> {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(dir)
        .expect("readable")
        .map(|entry| entry.expect("readable").path())
        .collect();
    entries.sort();
    entries.into_iter().find_map(|path| {
        if path.is_dir() {
            return find(&path, needle);
        }
        let bytes = std::fs::read(&path).ok()?;
        let at = bytes
            .windows(needle.len())
            .position(|window| window == needle)?;
        Some((path, at))
    })
}
