//! A process that is tied to another one ends with it.

#![expect(
    clippy::disallowed_methods,
    reason = "processes are watched by the machine's clock"
)]

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");

#[test]
fn a_tied_process_ends_when_its_parent_is_killed() {
    let script = format!("{XTASK} tied $$ sleep 600 & echo $!; wait");
    let mut parent = Command::new("sh")
        .args(["-c", &script])
        .stdout(Stdio::piped())
        .spawn()
        .expect("there is a shell");
    let mut line = String::new();
    let stdout = parent.stdout.take().expect("stdout is piped");
    BufReader::new(stdout)
        .read_line(&mut line)
        .expect("the shell says it");
    let process = PathBuf::from("/proc").join(line.trim());
    let runs = |word: &str| {
        std::fs::read_to_string(process.join("cmdline")).is_ok_and(|line| line.starts_with(word))
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while !runs("sleep") {
        assert!(Instant::now() < deadline, "it did not start");
        std::thread::sleep(Duration::from_millis(5));
    }
    parent.kill().expect("it runs");
    parent.wait().expect("it was killed");
    while runs("sleep") {
        assert!(Instant::now() < deadline, "it outlives its parent");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn nothing_is_started_for_a_parent_that_is_gone() {
    let output = Command::new(XTASK)
        .args(["tied", "1", "echo", "started"])
        .output()
        .expect("xtask runs");
    assert!(!output.status.success());
    assert!(output.stdout.is_empty(), "{output:?}");
}
