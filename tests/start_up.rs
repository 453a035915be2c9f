//! A start that cannot succeed: exit code 2 and one clear line. What serves already goes on.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::server::{Dir, Server, serve_to_end, until};

/// It ends with 2, and its one line on stderr says all of this.
fn refused(data: &Path, settings: &[&str], words: &[&str]) {
    let output = serve_to_end(data, settings);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 1, "one line: {said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
    assert!(output.stdout.is_empty(), "it did not say that it is ready");
}

#[test]
fn a_wrong_setting_is_named() {
    let dir = Dir::new();
    let data = dir.data();
    refused(
        &data,
        &["journal.segment_byte=1"],
        &["journal.segment_byte"],
    );
    refused(
        &data,
        &["listeners.mqtt=nowhere"],
        &["listeners.mqtt", "nowhere"],
    );
    refused(
        &data,
        &["journal.segment_bytes=5"],
        &["journal.segment_bytes"],
    );
    refused(
        &data,
        &["websocket.origins=[\"example\"]"],
        &["websocket.origins", "example"],
    );
    assert!(
        !data.exists(),
        "nothing was made for a configuration that is wrong"
    );
}

#[test]
fn a_port_in_use_is_named() -> anyhow::Result<()> {
    let dir = Dir::new();
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let setting = format!("listeners.stomp={address}");
    refused(&dir.data(), &[&setting], &["stomp", &address]);
    Ok(())
}

#[test]
fn a_directory_that_is_not_ours_is_left_alone() -> anyhow::Result<()> {
    let dir = Dir::new();
    let data = dir.data();
    fs::create_dir_all(&data)?;
    fs::write(data.join("letter.txt"), "dear reader")?;
    refused(&data, &[], &["data", "letter.txt"]);
    let left: Vec<_> = fs::read_dir(&data)?.collect::<Result<_, _>>()?;
    assert_eq!(left.len(), 1, "nothing was added");
    assert_eq!(fs::read_to_string(data.join("letter.txt"))?, "dear reader");

    let file = dir.file("plain");
    fs::write(&file, "")?;
    refused(&file, &[], &["plain"]);
    Ok(())
}

#[test]
fn a_clock_that_is_far_from_what_the_journal_has_seen_is_told() -> anyhow::Result<()> {
    let server = Server::start_with(&["journal.clock_off_max_s=1"]);
    let (dir, data) = (Arc::clone(server.dir()), server.dir().data());
    server.stop();
    // To the journal, that more time has passed than may is the same as a clock that was set.
    let ended = Instant::now();
    until("more than a second passes", || {
        (ended.elapsed() > Duration::from_millis(2_200)).then_some(())
    });
    refused(
        &data,
        &["journal.clock_off_max_s=1"],
        &[
            "clock of this machine",
            "s after the last sign of life",
            "journal.clock_off_max_s",
        ],
    );
    let server = Server::start_in(dir, vec!["journal.clock_off_max_s=86400".to_owned()]);
    server.stop();
    Ok(())
}
