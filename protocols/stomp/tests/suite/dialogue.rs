//! Dialogues: `tests/scripts/*.txt`, each run with whole reads and byte by byte.
//!
//! ```text
//! == NAME [login=VERSION] [dialect=rabbitmq|activemq] [client=ID]    a connection; with login= CONNECT is behind it
//! > text          a line from the peer; ^@ is NUL (and no line end follows), ^M is CR
//! * event         from the core, in the words of show.rs
//! +500            so many milliseconds pass; timeouts fire in their time
//! +500 unread     the same, while the connection is not read from
//! ! command       what the session asks of the core
//! < text          a line to the peer
//! x done|fault REASON    the session ends
//! ```
//! What follows an input must be exactly what it causes. `BLESS=1` writes down what it does cause, to be reviewed.

use std::{fmt::Write as _, fs, path::Path};

use bytes::{Buf, BytesMut};
use message::Timestamp;
use session::{Close, Output, Session};
use stomp::{Config, Dialect, StompSession};

use crate::show;

const START: Timestamp = Timestamp(1_000_000);

struct Run {
    session: StompSession,
    now: Timestamp,
    input: BytesMut,
    out: Output,
    closed: Option<Close>,
    told: bool,
    byte_by_byte: bool,
}

impl Run {
    fn new(options: &str, byte_by_byte: bool) -> Self {
        let mut config = Config::default();
        let mut login = None;
        let mut client = "";
        for option in options.split_whitespace() {
            match option.split_once('=') {
                Some(("login", version)) => login = Some(version),
                Some(("client", id)) => client = id,
                Some(("dialect", "activemq")) => config.dialect = Dialect::ActiveMq,
                Some(("dialect", "rabbitmq")) => config.dialect = Dialect::RabbitMq,
                Some(("body_len_max", max)) => config.body_len_max = max.parse().expect("a number"),
                Some(("header_count_max", max)) => {
                    config.header_count_max = max.parse().expect("a number");
                }
                Some(("header_len_max", max)) => {
                    config.header_len_max = max.parse().expect("a number");
                }
                Some(("transaction_bytes_max", max)) => {
                    config.transaction_bytes_max = max.parse().expect("a number");
                }
                Some(("operations_max", max)) => {
                    config.transaction_operations_max = max.parse().expect("a number");
                }
                Some(("subscriptions_max", max)) => {
                    config.subscriptions_max = max.parse().expect("a number");
                }
                Some(("temporary_max", max)) => {
                    config.temporary_queues_max = max.parse().expect("a number");
                }
                Some(("host", "refuse")) => config.unknown_host = stomp::UnknownHost::Refuse,
                Some(("heart_beat", "off")) => {
                    (config.heart_beat_send_ms, config.heart_beat_receive_ms) = (0, 0);
                }
                _ => {}
            }
        }
        let mut run = Self {
            session: StompSession::new(config),
            now: START,
            input: BytesMut::new(),
            out: Output::default(),
            closed: None,
            told: false,
            byte_by_byte,
        };
        if let Some(version) = login {
            let connect = format!(
                "CONNECT\naccept-version:{version}\nlogin:guest\npasscode:guest\nclient-id:{client}\n\n\0"
            );
            run.bytes(connect.as_bytes());
            run.event("authenticated guest");
            run.output();
            assert!(run.closed.is_none(), "the login of '{options}' failed");
        }
        run
    }

    fn note(&mut self, result: Result<(), Close>) {
        if let Err(close) = result {
            self.closed.get_or_insert(close);
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let step = if self.byte_by_byte {
            1
        } else {
            bytes.len().max(1)
        };
        for part in bytes.chunks(step) {
            self.input.extend_from_slice(part);
            self.read();
        }
    }

    fn read(&mut self) {
        if self.closed.is_none() && self.session.wants_bytes() {
            let result = self
                .session
                .handle_bytes(&mut self.input, self.now, &mut self.out);
            self.note(result);
        }
    }

    fn event(&mut self, line: &str) {
        if self.closed.is_none() {
            let result = self
                .session
                .handle_event(show::event(line), self.now, &mut self.out);
            self.note(result);
            if !self.input.is_empty() {
                self.read();
            }
        }
    }

    fn pass(&mut self, ms: u64, unread: bool) {
        let end = self.now.plus_ms(ms);
        while self.closed.is_none()
            && let Some(at) = self.session.poll_timeout()
            && at <= end
        {
            self.now = self.now.max(at);
            if unread {
                self.session.handle_unread(self.now);
            }
            let result = self.session.handle_timeout(self.now, &mut self.out);
            self.note(result);
        }
        self.now = end;
        if unread {
            self.session.handle_unread(self.now);
        }
    }

    /// What came out since the last time, as script lines.
    fn output(&mut self) -> String {
        let mut text = String::new();
        for command in self.out.commands.drain(..) {
            let _ = writeln!(text, "! {}", show::command(&command));
        }
        let bytes = self.out.wire.copy_to_bytes(self.out.wire.remaining());
        let shown = String::from_utf8_lossy(&bytes)
            .replace('\0', "^@\n")
            .replace('\r', "^M");
        for line in shown.lines() {
            let _ = writeln!(text, "{}", format!("< {line}").trim_end());
        }
        if let Some(close) = &self.closed
            && !std::mem::replace(&mut self.told, true)
        {
            let how = if close.fault { "fault" } else { "done" };
            let reason = close.reason.replace('\r', "^M");
            let _ = writeln!(text, "x {how} {reason}");
        }
        text
    }
}

fn peer_line(line: &str) -> Vec<u8> {
    let text = line.strip_prefix("> ").or_else(|| line.strip_prefix('>'));
    let text = text.expect("it starts so");
    let end = if text.ends_with("^@") { "" } else { "\n" };
    let text = format!("{text}{end}");
    text.replace("^@", "\0").replace("^M", "\r").into_bytes()
}

/// Runs a script and returns it with what really happened.
fn play(script: &str, byte_by_byte: bool) -> String {
    let mut out = String::new();
    let mut run: Option<Run> = None;
    let mut lines = script.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with(['!', '<']) || line.starts_with("x ") {
            continue;
        }
        let _ = writeln!(out, "{line}");
        if let Some(header) = line.strip_prefix("== ") {
            run = Some(Run::new(header, byte_by_byte));
            continue;
        }
        let Some(run) = &mut run else {
            continue;
        };
        if line.starts_with('>') {
            let mut bytes = peer_line(line);
            while let Some(next) = lines.next_if(|next| next.starts_with('>')) {
                let _ = writeln!(out, "{next}");
                bytes.extend(peer_line(next));
            }
            run.bytes(&bytes);
        } else if let Some(event) = line.strip_prefix("* ") {
            run.event(event);
        } else if let Some(ms) = line.strip_prefix('+') {
            let (ms, unread) = match ms.split_once(" unread") {
                Some((ms, _)) => (ms, true),
                None => (ms, false),
            };
            run.pass(ms.trim().parse().expect("milliseconds"), unread);
        } else {
            continue;
        }
        out.push_str(&run.output());
    }
    out
}

#[test]
fn every_dialogue_goes_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut paths: Vec<_> = fs::read_dir(folder)
        .expect("the folder of the scripts")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    let bless = std::env::var_os("BLESS").is_some();
    let mut wrong = String::new();
    for path in paths {
        let script = fs::read_to_string(&path).expect("a readable script");
        let whole = play(&script, false);
        if bless {
            fs::write(&path, &whole).expect("a writable script");
            continue;
        }
        for (played, how) in [(&whole, "whole"), (&play(&script, true), "byte by byte")] {
            if let Some((at, (expected, found))) = script
                .lines()
                .zip(played.lines())
                .enumerate()
                .find(|(_, (expected, found))| expected != found)
            {
                let _ = writeln!(
                    wrong,
                    "{}:{} ({how})\n  expected {expected}\n  found    {found}",
                    path.display(),
                    at + 1
                );
            } else if script.lines().count() != played.lines().count() {
                let _ = writeln!(wrong, "{} ({how}): lines are missing", path.display());
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}
