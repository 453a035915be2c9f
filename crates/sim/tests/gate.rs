//! The mutation gate itself: `cargo xtask sim --mutations`, and what `--search` writes down. Only with the feature `mutations`.
#![cfg(feature = "mutations")]

use std::path::PathBuf;
use std::process::Command;

/// Runs the gate about one part. Returns whether it was missed, and what was said.
fn gate(part: &str, more: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
    command.args(["--mutations", "--part", part]).args(more);
    let output = command.output().expect("it can be started");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success(), said)
}

fn file(name: &str, text: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("bascule-gate-{}-{name}", std::process::id()));
    std::fs::write(&path, text).expect("there is room");
    path
}

#[test]
fn a_search_writes_the_seed_down_that_it_finds_and_leaves_the_others() {
    let before = "SkipFenceCheck 77\nDropTail 5000000\nNoSecondLook 2\n";
    let path = file("found", before);
    let named = path.to_str().expect("it is UTF-8");
    let (missed, said) = gate("DropTail", &["--record", named, "--seeds", "200"]);
    assert!(missed, "{said}");
    let after = std::fs::read_to_string(&path).expect("it is there");
    std::fs::remove_file(&path).expect("it is there");
    let lines: Vec<&str> = after.lines().collect();
    let [first, found, last] = lines[..] else {
        panic!("a line each: {after}");
    };
    assert_eq!((first, last), ("SkipFenceCheck 77", "NoSecondLook 2"));
    let seed = found
        .strip_prefix("DropTail ")
        .expect("its name comes first");
    let seed: u64 = seed.parse().expect("a number");
    assert!(seed < 200, "what was known did not count");
    // That very seed misses it again.
    let (missed, said) = gate("DropTail", &["--from", &seed.to_string(), "--seeds", "1"]);
    assert!(missed, "{said}");
}

#[test]
fn a_part_that_no_seed_misses_fails_the_gate() {
    let path = file("survived", "RecycleClosedSegment 1\n");
    let named = path.to_str().expect("it is UTF-8");
    let (missed, said) = gate("RecycleClosedSegment", &["--record", named, "--seeds", "1"]);
    assert!(!missed && said.contains("NOT MISSED"), "{said}");
    let after = std::fs::read_to_string(&path).expect("it is there");
    std::fs::remove_file(&path).expect("it is there");
    assert_eq!(after, "", "what is not missed any more is not written down");
}
