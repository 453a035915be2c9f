//! The tables of `protocols/CONVERSIONS.md`: for each protocol that sends, each field and type that it has, and what each protocol that
//! receives is shown of it. Nothing in them is written by hand.
//!
//! A cell is what a bare message would not have shown. It comes back when a client that publishes what it received, in
//! its own protocol, shows the first protocol's client what the first protocol's own road would have shown.

use std::{fmt::Write as _, path::PathBuf};

use mqtt::codec::Version as MqttVersion;
use stomp::Version as StompVersion;

use crate::{
    head::{Head, Received, SPEECHES, Speech, received},
    peer::{BODY, Peer},
    samples::{self, Sample},
};

const BEGIN: &str = "<!-- written by `cargo xtask conversions`: begin -->\n";
const END: &str = "<!-- written by `cargo xtask conversions`: end -->\n";

/// The page, or the golden text, beside the package.
pub(crate) fn file(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Whether texts are written and not compared.
pub(crate) fn is_writing() -> bool {
    std::env::var_os("CONVERSIONS_WRITE").is_some()
}

/// Where the samples are published, in each protocol's words: one topic.
pub(crate) fn place(speech: Speech) -> &'static str {
    match speech {
        Speech::Mqtt(_) => "t/u",
        Speech::Amqp => "amq.topic|t.u",
        Speech::Stomp(_) => "/topic/t.u",
    }
}

/// Publishes a head in its protocol, and shows what a client of another receives.
pub(crate) fn cross(head: &Head, to: Speech) -> Received {
    let message = Peer::new(head.speech())
        .publish(head, place(head.speech()), BODY)
        .unwrap_or_else(|words| panic!("{head:?} is accepted: {words}"));
    let shown = Peer::new(to).deliver(message);
    let shown = received(to, shown).expect("it is delivered");
    assert_eq!(shown.name, place(to));
    assert_eq!(shown.body, BODY);
    shown
}

/// The lines that a client of `to` sees of `head`, and would not see of a bare one.
fn seen(head: &Head, to: Speech) -> Vec<String> {
    let bare = cross(&head.speech().bare(), to).head.lines();
    let mut lines = cross(head, to).head.lines();
    lines.retain(|line| !bare.contains(line));
    lines
}

/// What comes back to the first protocol from a client of `by` that publishes what it received.
fn returned(head: &Head, by: Speech) -> Vec<String> {
    cross(&cross(head, by).head.again(), head.speech())
        .head
        .lines()
}

#[derive(PartialEq)]
struct Cell {
    lines: Vec<String>,
    comes_back: bool,
}

fn cell(sample: &Sample, to: Speech) -> Cell {
    let from = sample.head.speech();
    // What a bare message gains on the way is no fault of the sample.
    let gained = returned(&from.bare(), to);
    let mut back = returned(&sample.head, to);
    back.retain(|line| !gained.contains(line));
    let mut whole = cross(&sample.head, from).head.lines();
    whole.retain(|line| !gained.contains(line));
    back.sort();
    whole.sort();
    Cell {
        lines: seen(&sample.head, to),
        comes_back: back == whole,
    }
}

impl Cell {
    fn text(&self) -> String {
        if self.lines.is_empty() {
            return "-".to_owned();
        }
        let lines: Vec<String> = self.lines.iter().map(|line| code(line)).collect();
        let mark = if self.comes_back { "" } else { " →" };
        format!("{}{mark}", lines.join("<br>"))
    }
}

/// Text as code in a table's cell.
pub(crate) fn code(text: &str) -> String {
    format!(
        "`{}`",
        text.replace('|', "\\|")
            .replace('`', "'")
            .replace('\0', "\\0")
    )
}

/// STOMP's versions differ in what they can write, and in nothing else: one column, with the differences named.
fn stomp_text(sample: &Sample) -> String {
    let newest = cell(sample, Speech::Stomp(StompVersion::V1_2));
    let mut text = newest.text();
    for version in [StompVersion::V1_1, StompVersion::V1_0] {
        let older = cell(sample, Speech::Stomp(version));
        if older != newest {
            let _ = write!(text, "<br>{}: {}", version.as_str(), older.text());
        }
    }
    text
}

fn row(sample: &Sample) -> String {
    let columns = [
        cell(sample, Speech::Mqtt(MqttVersion::V311)).text(),
        cell(sample, Speech::Mqtt(MqttVersion::V5)).text(),
        cell(sample, Speech::Amqp).text(),
        stomp_text(sample),
    ];
    format!("| {} | {} |\n", sample.name, columns.join(" | "))
}

fn table(from: Speech) -> String {
    let mut text = format!(
        "\n### From {}\n\n| sent | to MQTT 3.1.1 | to MQTT 5 | to AMQP 0-9-1 | to STOMP |\n|---|---|---|---|---|\n",
        from.name()
    );
    let newest: Vec<String> = match from {
        Speech::Stomp(StompVersion::V1_1 | StompVersion::V1_0) => {
            let newest = samples::of(Speech::Stomp(StompVersion::V1_2));
            newest.iter().map(row).collect()
        }
        _ => Vec::new(),
    };
    let rows: Vec<String> = samples::of(from)
        .iter()
        .map(row)
        .filter(|row| !newest.contains(row))
        .collect();
    if rows.is_empty() {
        return format!("\n### From {}\n\nAs from STOMP 1.2.\n", from.name());
    }
    if !newest.is_empty() {
        text.insert_str(
            text.find("| sent").unwrap_or_default(),
            "As from STOMP 1.2, but for:\n\n",
        );
    }
    text + &rows.concat()
}

fn tables() -> String {
    let mut text = String::new();
    for from in SPEECHES {
        text.push_str(&table(from));
    }
    text.push_str(&crate::names::table());
    text
}

/// Puts `text` between the marks of the page.
fn replaced(page: &str, text: &str) -> String {
    let (head, rest) = page
        .split_once(BEGIN)
        .expect("the page has a mark where the tables begin");
    let (_, tail) = rest.split_once(END).expect("and one where they end");
    [head, BEGIN, text, "\n", END, tail].concat()
}

/// Compares a file with what it should hold, or writes it.
pub(crate) fn compare(path: &str, expected: &str) {
    let path = file(path);
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    if found == expected {
        return;
    }
    if is_writing() {
        std::fs::write(&path, expected).expect("the file can be written");
        return;
    }
    let differing = found
        .lines()
        .zip(expected.lines())
        .find(|(found, expected)| found != expected);
    panic!(
        "{} is not up to date: run `cargo xtask conversions` and read what has changed\nfirst difference: {differing:#?}",
        path.display()
    );
}

#[test]
fn the_page_is_what_the_protocols_do() {
    let path = "../../protocols/CONVERSIONS.md";
    let page = std::fs::read_to_string(file(path)).expect("the page is there");
    compare(path, &replaced(&page, &tables()));
}

#[test]
fn a_message_stays_as_it_is_within_a_protocol() {
    for speech in SPEECHES {
        for sample in samples::of(speech) {
            let cell = cell(&sample, speech);
            // The one thing that a publisher hides.
            if sample.name != "header `BCC`" {
                assert!(cell.comes_back, "{}: {}", speech.name(), sample.name);
            }
        }
    }
}
