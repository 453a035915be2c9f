//! Runs the dialogues of `scripts/*.txt`.
//!
//! ```text
//! ## name              a dialogue begins; `whole` at the end: it depends on what arrives in one read
//! config name=value    a limit, before anything else
//! @ v5 ...             CONNECT with these words, authenticated and opened as `c1`; what it yields is not compared
//! > PACKET             from the client; lines that follow each other arrive in one read
//! = event              from the core
//! +5s                  time passes
//! ! command            \
//! < PACKET              | what the session must yield for the line before
//! x fault|done         /
//! ```
//! With `MQTT_SCRIPTS=write` in the environment the yields are written into the files instead, to be reviewed.

use bytes::{Buf, BytesMut};
use message::Timestamp;
use mqtt::{
    Config, Manners, MqttSession,
    codec::{Decoder, Limits, Version},
};
use session::{Close, Output, Session};

use crate::{contract::Memory, notation};

#[derive(Clone, Copy, PartialEq)]
enum Reads {
    Whole,
    ByteByByte,
}

struct Talk {
    session: MqttSession,
    now: Timestamp,
    out: Output,
    input: BytesMut,
    /// Sent by the client while the session wanted nothing.
    backlog: BytesMut,
    client: Decoder,
    memory: Memory,
    closed: bool,
    reads: Reads,
}

impl Talk {
    fn new(config: Config, reads: Reads) -> Self {
        let now = Timestamp(1_000_000);
        Self {
            session: MqttSession::new(config, now),
            now,
            out: Output::default(),
            input: BytesMut::new(),
            backlog: BytesMut::new(),
            client: Decoder::new(Version::V311, Limits::default()),
            memory: Memory::default(),
            closed: false,
            reads,
        }
    }

    /// One input line, or several packets of one read; the lines that it yields.
    fn step(&mut self, lines: &[&str]) -> Vec<String> {
        assert!(!self.closed, "closed before {lines:?}");
        let mut result = Ok(());
        let (sign, rest) = lines[0].split_at(1);
        match sign {
            ">" => {
                for line in lines {
                    let line = line[1..].trim();
                    if let Some(version) = line.strip_prefix("CONNECT ") {
                        let version = match version.split_whitespace().next() {
                            Some("v5") => Version::V5,
                            Some("v311") => Version::V311,
                            _ => Version::V31,
                        };
                        self.client = Decoder::new(version, Limits::default());
                    }
                    let bytes = notation::bytes(line, self.client.version());
                    self.backlog.extend_from_slice(&bytes);
                }
                result = self.feed();
            }
            "=" => {
                let event = self.memory.event(rest.trim(), self.now);
                result = self
                    .session
                    .handle_event(event, self.now, &mut self.out)
                    .and_then(|()| self.feed());
            }
            "+" => {
                let ms = match rest.strip_suffix("ms") {
                    Some(ms) => ms.parse().expect("ms"),
                    None => {
                        let seconds = rest.strip_suffix('s').expect("+5s or +5ms");
                        seconds.parse::<u64>().expect("seconds") * 1000
                    }
                };
                self.now = self.now.plus_ms(ms);
                if self
                    .session
                    .poll_timeout()
                    .is_some_and(|due| due <= self.now)
                {
                    result = self.session.handle_timeout(self.now, &mut self.out);
                    assert!(
                        result.is_err() || self.session.poll_timeout() > Some(self.now),
                        "a timer that went off is re-armed later"
                    );
                }
            }
            _ => panic!("{} is no input", lines[0]),
        }
        self.yields(result)
    }

    fn feed(&mut self) -> Result<(), Close> {
        while self.session.wants_bytes() && !self.backlog.is_empty() {
            let count = match self.reads {
                Reads::Whole => self.backlog.len(),
                Reads::ByteByByte => 1,
            };
            self.input.extend_from_slice(&self.backlog.split_to(count));
            self.session
                .handle_bytes(&mut self.input, self.now, &mut self.out)?;
        }
        Ok(())
    }

    fn yields(&mut self, result: Result<(), Close>) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(command) = self.out.commands.pop_front() {
            lines.push(format!("! {}", self.memory.show(&command)));
        }
        let len = self.out.wire.remaining();
        let mut wire = BytesMut::from(&self.out.wire.copy_to_bytes(len)[..]);
        // A CONNACK may be in another version than what was sent, when that was no version at all.
        while !wire.is_empty() {
            let before = wire.clone();
            match self.client.decode(&mut wire) {
                Ok(Some(packet)) if before.len() - wire.len() <= 2_000 => {
                    lines.push(format!("< {}", notation::show(&packet)));
                }
                Ok(Some(packet)) => lines.push(format!(
                    "< {} of {} bytes",
                    packet.name(),
                    before.len() - wire.len()
                )),
                Ok(None) => panic!("half a packet"),
                Err(_) => {
                    let digits: String = before.iter().map(|b| format!("{b:02x}")).collect();
                    lines.push(format!("< HEX {digits}"));
                    wire.clear();
                }
            }
        }
        if let Err(close) = result {
            self.closed = true;
            let kind = if close.fault { "fault" } else { "done" };
            lines.push(format!("x {kind} {}", close.reason));
            self.session.handle_hangup(self.now, &mut self.out);
            assert!(self.out.commands.is_empty());
        }
        lines
    }
}

fn configure(config: &mut Config, line: &str) {
    for word in line.split_whitespace() {
        let (name, value) = word.split_once('=').expect("name=value");
        match (name, value) {
            ("manners", "mosquitto") => {
                config.manners = Manners::Mosquitto;
                continue;
            }
            ("reason_strings", "off") => {
                config.reason_strings = false;
                continue;
            }
            _ => {}
        }
        let number: u64 = value.parse().expect("a number");
        match name {
            "receive_max" => config.receive_max = number as u16,
            "window_max" => config.window_max = number as u16,
            "packet_len_max" => config.packet_len_max = number as usize,
            "connect_len_max" => config.connect_len_max = number as usize,
            "properties_max" => config.properties_max = number as usize,
            "filters_max" => config.filters_max = number as usize,
            "levels_max" => config.levels_max = number as usize,
            "topic_alias_in_max" => config.topic_alias_in_max = number as u16,
            "topic_alias_out_max" => config.topic_alias_out_max = number as u16,
            "session_expiry_max_s" => config.session_expiry_max_s = number as u32,
            "keep_alive_max_s" => config.keep_alive_max_s = number as u16,
            "client_id_len_max" => config.client_id_len_max = number as usize,
            other => panic!("no setting {other}"),
        }
    }
    config.check().expect("in bounds");
}

const fn is_yield(line: &str) -> bool {
    matches!(line.as_bytes(), [b'!' | b'<' | b'x', ..])
}

/// Runs one dialogue; its lines with what was really yielded.
fn run(lines: &[&str], reads: Reads) -> Vec<String> {
    let mut config = Config::default();
    let mut talk: Option<Talk> = None;
    let mut written = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at];
        at += 1;
        if line.is_empty() || line.starts_with('#') {
            written.push(line.to_owned());
            continue;
        }
        if is_yield(line) {
            continue;
        }
        if let Some(settings) = line.strip_prefix("config ") {
            configure(&mut config, settings);
            written.push(line.to_owned());
            continue;
        }
        let talk = talk.get_or_insert_with(|| Talk::new(config.clone(), reads));
        if let Some(words) = line.strip_prefix("@ ") {
            talk.step(&[&format!("> CONNECT {words} id=c1")]);
            talk.step(&["= authenticated t1"]);
            let yields = talk.step(&["= opened t2 id=c1"]);
            assert!(yields[0].starts_with("< CONNACK code=00"), "{yields:?}");
            written.push(line.to_owned());
            continue;
        }
        let mut group = vec![line];
        while line.starts_with('>') && lines.get(at).is_some_and(|next| next.starts_with('>')) {
            group.push(lines[at]);
            at += 1;
        }
        written.extend(group.iter().map(|line| (*line).to_owned()));
        written.extend(talk.step(&group));
    }
    written
}

#[test]
fn dialogues() {
    let write = std::env::var("MQTT_SCRIPTS").is_ok_and(|value| value == "write");
    let mut failures = Vec::new();
    let mut count = 0;
    for (path, text) in crate::files("scripts") {
        let mut rewritten = String::new();
        for script in split(&text) {
            let lines: Vec<&str> = script.lines().map(str::trim_end).collect();
            let title = lines[0];
            if !title.starts_with("## ") {
                rewritten += script;
                continue;
            }
            count += 1;
            let expected: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            let mut kinds = vec![Reads::Whole];
            if !title.ends_with(" whole") && !write {
                kinds.push(Reads::ByteByByte);
            }
            for reads in kinds {
                let run = std::panic::AssertUnwindSafe(|| run(&lines, reads));
                let Ok(actual) = std::panic::catch_unwind(run) else {
                    failures.push(format!("{}: {title}: panicked", path.display()));
                    break;
                };
                if write {
                    rewritten += &actual.join("\n");
                    rewritten.push('\n');
                } else if actual != expected {
                    let how = match reads {
                        Reads::Whole => "in whole reads",
                        Reads::ByteByByte => "byte by byte",
                    };
                    failures.push(format!(
                        "{}: {title} ({how})\n--- expected\n{}\n--- yielded\n{}\n",
                        path.display(),
                        expected.join("\n"),
                        actual.join("\n")
                    ));
                    break;
                }
            }
        }
        if write && failures.is_empty() {
            std::fs::write(&path, rewritten).expect("writable");
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(count >= 60, "dialogues were found: {count}");
}

/// The preface of a file and its dialogues.
fn split(text: &str) -> Vec<&str> {
    let mut starts: Vec<usize> = vec![0];
    starts.extend(text.match_indices("\n## ").map(|(at, _)| at + 1));
    starts.push(text.len());
    starts
        .windows(2)
        .map(|pair| &text[pair[0]..pair[1]])
        .filter(|part| !part.is_empty())
        .collect()
}
