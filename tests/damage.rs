//! A damaged journal: refused with what it costs, given up at the operator's word, and found before it is needed.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    admin::done,
    client::{Amqp, get, wait},
    server::{Server, binary, serve_to_end, until},
};

/// Where a text lies in the journal's segments: the file, and the offset in it.
fn place_of(data: &Path, text: &str) -> (PathBuf, u64) {
    let entries = fs::read_dir(data.join("seg")).expect("there are segments");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("readable").path())
        .collect();
    paths.sort();
    for path in paths {
        let bytes = fs::read(&path).expect("readable");
        let found = bytes
            .windows(text.len())
            .position(|at| at == text.as_bytes());
        if let Some(at) = found {
            return (path, at as u64);
        }
    }
    panic!("{text} is in no segment");
}

fn flip(path: &Path, at: u64) {
    let file = File::options()
        .read(true)
        .write(true)
        .open(path)
        .expect("a segment opens");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("readable");
    file.write_all_at(&[byte[0] ^ 1], at).expect("writable");
}

fn metric(server: &Server, name: &str) -> u64 {
    let (_, text) = get(server.door("http"), "/metrics").expect("metrics are served");
    let line = text
        .lines()
        .find(|line| line.starts_with(&format!("{name} ")));
    let value = line.and_then(|line| line.split(' ').nth(1));
    value
        .and_then(|value| value.parse().ok())
        .unwrap_or_else(|| panic!("{name} in {text}"))
}

fn status(server: &Server) -> String {
    let url = format!("http://{}", server.door("http"));
    let output = Command::new(binary())
        .args(["status", "--url", &url])
        .output();
    String::from_utf8_lossy(&output.expect("it runs").stdout).into_owned()
}

/// Every message of the queue, in order.
fn drained(server: &Server) -> anyhow::Result<Vec<String>> {
    let client = wait(Amqp::open(server.door("amqp")))?;
    let mut bodies = Vec::new();
    while let Some(delivery) = wait(client.get("jobs"))? {
        let text = String::from_utf8_lossy(&delivery.data);
        bodies.push(text.trim_end_matches('.').to_owned());
    }
    Ok(bodies)
}

#[test]
fn a_damaged_journal_is_refused_with_what_it_costs_and_served_without_it_at_the_operators_word()
-> anyhow::Result<()> {
    let mut server = Server::start();
    let client = wait(Amqp::open(server.door("amqp")))?;
    wait(client.declare("jobs", &[]))?;
    for n in 10..50 {
        wait(client.publish("", "jobs", format!("job {n}").as_bytes()))?;
    }
    server.kill();
    let data = server.dir().data();
    let (path, at) = place_of(&data, "job 27");
    flip(&path, at);
    let name = path
        .file_name()
        .expect("named")
        .to_string_lossy()
        .into_owned();
    for _ in 0..2 {
        let output = serve_to_end(&data, &[]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        let line = said.lines().rfind(|line| line.starts_with("bascule: "));
        let line = line.unwrap_or_default();
        let offset = format!("at offset {}", at / 4096 * 4096);
        for part in [
            &*name,
            &offset,
            "(epoch 1)",
            "; batch ",
            ", 1 records",
            "--accept-loss",
        ] {
            assert!(line.contains(part), "{part:?} is not in: {line}");
        }
    }
    let server = server.restart_with(&["--accept-loss"]);
    let client = wait(Amqp::open(server.door("amqp")))?;
    assert_eq!(wait(client.declare("jobs", &[]))?, 39);
    assert_eq!(metric(&server, "bascule_journal_given_up"), 1);
    assert!(server.log().contains("given up, as the operator said"));
    let said = status(&server);
    assert!(
        said.contains(&format!("given up: seg/{name} at offset")),
        "{said}"
    );
    let kept = format!("lost/{name}.damaged");
    assert!(said.contains(&format!("kept as {kept}")), "{said}");
    assert!(server.log().contains(&kept), "{}", server.log());
    assert!(data.join(&kept).exists(), "the damaged segment stays");
    let cluster = done(server.door("http"), "GET /api/cluster", "")?;
    assert_eq!(cluster["journal"]["losses"], 1, "{cluster}");
    wait(client.publish("", "jobs", b"one more"))?;
    // A standby passes over the same, and the next start needs no option.
    let standby = server.stand_by();
    until("it follows", || {
        (metric(&standby, "bascule_journal_given_up") == 1).then_some(())
    });
    // It was started with the same option, which is for a start that nobody else is in the way of.
    assert!(standby.log().contains("nothing is given up"));
    drop(standby);
    let server = server.restart_without_options();
    let mut expected: Vec<String> = (10..50)
        .filter(|n| *n != 27)
        .map(|n| format!("job {n}"))
        .collect();
    expected.push("one more".to_owned());
    assert_eq!(metric(&server, "bascule_journal_given_up"), 1);
    assert_eq!(drained(&server)?, expected);
    server.stop();
    Ok(())
}

#[test]
fn a_body_that_rotted_behind_a_snapshot_is_found_and_costs_its_message_alone() -> anyhow::Result<()>
{
    let settings = [
        "journal.snapshot_every_bytes=1048576",
        "memory.bodies_bytes_max=4194304",
    ];
    let mut server = Server::start_with(&settings);
    let client = wait(Amqp::open(server.door("amqp")))?;
    wait(client.declare("jobs", &[]))?;
    let filler = ".".repeat(20_000);
    // Enough for more than one segment, and for two snapshots.
    for n in 100..500 {
        wait(client.publish("", "jobs", format!("job {n}{filler}").as_bytes()))?;
    }
    until("a snapshot covers the first segment", || {
        (metric(&server, "bascule_journal_snapshot_batch") > 300).then_some(())
    });
    server.kill();
    let data = server.dir().data();
    let (path, at) = place_of(&data, "job 142.");
    flip(&path, at);
    // A start does not read it. Scrubbing does.
    let server = server.restart_with(&[]);
    until("the damage is found", || {
        (metric(&server, "bascule_journal_damage_total") == 1).then_some(())
    });
    let said = status(&server);
    assert!(said.contains("damaged: seg/"), "{said}");
    assert!(server.log().contains("the journal is damaged"));
    let server = server.restart_with(&["--accept-loss"]);
    let log = server.log();
    assert!(
        log.contains("\"messages\":1,\"of\":\"\\\"jobs\\\"\""),
        "{log}"
    );
    let server = server.restart_without_options();
    let expected: Vec<String> = (100..500)
        .filter(|n| *n != 142)
        .map(|n| format!("job {n}"))
        .collect();
    assert_eq!(drained(&server)?, expected);
    server.stop();
    Ok(())
}

/// A queue with forty jobs, and where one of them lies in the journal's files.
fn forty_jobs(active: &Server) -> anyhow::Result<(PathBuf, u64)> {
    let client = wait(Amqp::open(active.door("amqp")))?;
    wait(client.declare("jobs", &[]))?;
    for n in 10..50 {
        wait(client.publish("", "jobs", format!("job {n}").as_bytes()))?;
    }
    Ok(place_of(&active.dir().data(), "job 27"))
}

#[test]
fn a_standby_that_read_it_before_it_rotted_takes_over_and_serves_all_of_it() -> anyhow::Result<()> {
    let mut active = Server::start();
    let standby = active.stand_by();
    let (path, at) = forty_jobs(&active)?;
    let committed = done(active.door("http"), "GET /api/cluster", "")?["committed"].clone();
    until("it has read all of it", || {
        let cluster = done(standby.door("http"), "GET /api/cluster", "").expect("served");
        (cluster["committed"] == committed && cluster["lag"]["batches"] == 0).then_some(())
    });
    flip(&path, at);
    active.kill();
    standby.becomes_ready();
    let expected: Vec<String> = (10..50).map(|n| format!("job {n}")).collect();
    assert_eq!(drained(&standby)?, expected);
    assert_eq!(metric(&standby, "bascule_journal_given_up"), 0);
    standby.stop();
    Ok(())
}

#[test]
fn a_standby_that_comes_to_what_is_damaged_says_so_and_never_takes_over() -> anyhow::Result<()> {
    let mut active = Server::start();
    let (path, at) = forty_jobs(&active)?;
    flip(&path, at);
    let mut standby = active.stand_by();
    until("it says why it does not follow", || {
        let log = standby.log();
        log.contains("the journal cannot be followed").then_some(())
    });
    let name = path.file_name().expect("named").to_string_lossy();
    assert!(standby.log().contains(&*name), "{}", standby.log());
    until("it is no standby", || {
        let (_, health) = get(standby.door("http"), "/health/ready").expect("its doors are open");
        health.contains("\"role\":\"starting\"").then_some(())
    });
    until("the active node counts on none", || {
        let cluster = done(active.door("http"), "GET /api/cluster", "").expect("served");
        (cluster["standbys"].as_array().map(Vec::len) == Some(0)).then_some(())
    });
    // The active node has all of it, and serves.
    let client = wait(Amqp::open(active.door("amqp")))?;
    assert_eq!(wait(client.declare("jobs", &[]))?, 40);
    active.kill();
    assert_eq!(standby.ended(), Some(2), "{}", standby.log());
    assert!(standby.log().contains("bascule serve --accept-loss"));
    let server = standby.restart_with(&["--accept-loss"]);
    let client = wait(Amqp::open(server.door("amqp")))?;
    assert_eq!(wait(client.declare("jobs", &[]))?, 39);
    server.stop();
    Ok(())
}

/// The option does no harm where nothing is damaged, not even a journal.
#[test]
fn nothing_is_given_up_of_a_journal_that_is_whole() -> anyhow::Result<()> {
    let server = Server::start_with(&["--accept-loss"]);
    forty_jobs(&server)?;
    let server = server.restart();
    let log = server.log();
    assert!(!log.contains("\"ERROR\""), "{log}");
    assert_eq!(metric(&server, "bascule_journal_given_up"), 0);
    let expected: Vec<String> = (10..50).map(|n| format!("job {n}")).collect();
    assert_eq!(drained(&server)?, expected);
    server.stop();
    Ok(())
}

/// Files of another store lie among those of this one, as when two are mounted as one: nothing of it is taken for its own.
#[test]
fn two_stores_mounted_as_one_are_refused() -> anyhow::Result<()> {
    let (mut one, mut other) = (Server::start(), Server::start());
    for server in [&one, &other] {
        let client = wait(Amqp::open(server.door("amqp")))?;
        wait(client.declare("jobs", &[]))?;
        wait(client.publish("", "jobs", b"mine"))?;
    }
    one.kill();
    other.kill();
    let (one, other) = (one.dir().data(), other.dir().data());
    // The other's epochs over this one's FORMAT.
    for folder in ["epochs", "fence", "lease", "seg"] {
        fs::remove_dir_all(one.join(folder))?;
        fs::create_dir(one.join(folder))?;
        for entry in fs::read_dir(other.join(folder))? {
            let entry = entry?;
            fs::copy(entry.path(), one.join(folder).join(entry.file_name()))?;
        }
    }
    for settings in [&[][..], &["--accept-loss"]] {
        let output = serve_to_end(&one, settings);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("it belongs to another journal"), "{said}");
    }
    Ok(())
}
