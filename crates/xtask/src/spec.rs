//! Which normative statements of the specifications have code and a test that cite them: `cargo xtask spec`.
//!
//! The statements are in `protocols/*/spec/*.toml`, each with an id and a few words of ours; a citation is that id in brackets,
//! such as `[MQTT-3.3.1-2]`, anywhere in a line. `protocols/README.md` says what counts as code and what as a test, and shows the
//! counts; the tests here fail when a citation names no statement, when a statement of ours lacks code or test, or when the
//! counts shown are not the counts.
//!
//! Deliberately absent: any judgement whether the code that cites a statement keeps it. That is for the tests and for review.

mod citations;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail};
use serde::Deserialize;

use citations::{Citation, Kind};

/// Protocol, as on the command line; its name; the list.
const LISTS: &[(&str, &str, &str)] = &[
    ("mqtt", "MQTT 3.1.1", "protocols/mqtt/spec/mqtt-3.1.1.toml"),
    ("mqtt", "MQTT 5.0", "protocols/mqtt/spec/mqtt-5.0.toml"),
    (
        "amqp",
        "AMQP 0-9-1",
        "protocols/amqp091/spec/amqp-0-9-1.toml",
    ),
    (
        "amqp",
        "RabbitMQ's extensions",
        "protocols/amqp091/spec/rabbitmq.toml",
    ),
    (
        "stomp",
        "STOMP 1.0, 1.1, 1.2",
        "protocols/stomp/spec/stomp.toml",
    ),
];
const README: &str = "protocols/README.md";
const BEGIN: &str = "<!-- counts: cargo xtask spec --write -->\n";
const END: &str = "<!-- end of counts -->";

/// Whose duty a statement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Side {
    Server,
    Client,
    Both,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Statement {
    id: String,
    side: Side,
    words: String,
    /// Which versions say so, where a list is of several.
    versions: Option<String>,
    /// Another list's statement whose code is this one's too.
    like: Option<String>,
    /// What is done otherwise on purpose, and why. Code and test are due all the same: they show that.
    differs: Option<String>,
    /// Why there is nothing to show.
    note: Option<String>,
    /// What is missing or different here, known and not mended.
    open: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    prefix: String,
    statements: Vec<Statement>,
}

/// A list with what cites it.
struct Specification {
    protocol: &'static str,
    name: &'static str,
    statements: Vec<Accounted>,
}

struct Accounted {
    /// With its prefix.
    id: String,
    statement: Statement,
    code: Vec<String>,
    tests: Vec<String>,
}

impl Accounted {
    /// Whether code and test are due.
    const fn is_due(&self) -> bool {
        !matches!(self.statement.side, Side::Client)
            && self.statement.note.is_none()
            && self.statement.open.is_none()
    }

    /// What is due and not there.
    fn missing(&self) -> Option<&'static str> {
        match (self.is_due(), self.code.is_empty(), self.tests.is_empty()) {
            (true, true, true) => Some("neither code nor test"),
            (true, true, false) => Some("no code"),
            (true, false, true) => Some("no test"),
            _ => None,
        }
    }

    fn line(&self) -> String {
        let Statement {
            words,
            note,
            open,
            differs,
            versions,
            ..
        } = &self.statement;
        let versions = versions
            .as_ref()
            .map(|versions| format!(", {versions}"))
            .unwrap_or_default();
        let differs = differs
            .as_ref()
            .map(|differs| format!("; otherwise on purpose: {differs}"))
            .unwrap_or_default();
        let side = match self.statement.side {
            Side::Server => "server",
            Side::Client => "client",
            Side::Both => "both",
        };
        let state = match (self.missing(), note, open) {
            (Some(missing), ..) => format!("MISSING: {missing}"),
            (None, Some(note), _) => format!("nothing to show: {note}"),
            (None, None, Some(open)) => format!("open: {open}"),
            (None, None, None) => {
                format!("code {}; tests {}", places(&self.code), places(&self.tests))
            }
        };
        format!(
            "{} ({side}{versions}) {words}\n    {state}{differs}",
            self.id
        )
    }
}

fn places(places: &[String]) -> String {
    match places {
        [] => "none".to_owned(),
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    }
}

/// All lists, and the citations that name no statement.
struct Coverage {
    specifications: Vec<Specification>,
    strangers: Vec<Citation>,
}

impl Coverage {
    fn read() -> anyhow::Result<Self> {
        Self::of(citations::scan()?)
    }

    fn of(citations: Vec<Citation>) -> anyhow::Result<Self> {
        let mut lists = Vec::new();
        let mut known = BTreeSet::new();
        for (protocol, name, path) in LISTS {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("failed to read {path}"))?;
            let list: List =
                toml::from_str(&text).with_context(|| format!("failed to parse {path}"))?;
            for statement in &list.statements {
                if !known.insert([&*list.prefix, &*statement.id].concat()) {
                    bail!("{path}: {} is there twice", statement.id);
                }
            }
            lists.push((*protocol, *name, list));
        }
        let mut cited: BTreeMap<&str, (Vec<String>, Vec<String>)> = BTreeMap::new();
        for citation in &citations {
            let (code, tests) = cited.entry(&citation.id).or_default();
            match citation.kind {
                Kind::Code => code.push(citation.place.clone()),
                Kind::Test => tests.push(citation.place.clone()),
            }
        }
        let mut specifications = Vec::new();
        for (protocol, name, list) in lists {
            let mut statements = Vec::new();
            for statement in list.statements {
                let id = [&*list.prefix, &*statement.id].concat();
                let (mut code, tests) = cited.get(&*id).cloned().unwrap_or_default();
                if let Some(like) = &statement.like {
                    if !known.contains(like) {
                        bail!("{id} is like {like}, which is in no list");
                    }
                    code.extend(
                        cited
                            .get(&**like)
                            .map(|(code, _)| code.clone())
                            .unwrap_or_default(),
                    );
                }
                statements.push(Accounted {
                    id,
                    statement,
                    code,
                    tests,
                });
            }
            specifications.push(Specification {
                protocol,
                name,
                statements,
            });
        }
        let strangers = citations
            .into_iter()
            .filter(|citation| !known.contains(&citation.id))
            .collect();
        Ok(Self {
            specifications,
            strangers,
        })
    }

    /// The table of `protocols/README.md`.
    fn table(&self) -> String {
        let mut table = String::from(
            "| specification | statements | on clients only | nothing to show | open | with code and test | of these otherwise on purpose | missing |\n\
             |---|---|---|---|---|---|---|---|\n",
        );
        for specification in &self.specifications {
            let all = &specification.statements;
            let count = |which: fn(&Accounted) -> bool| all.iter().filter(|one| which(one)).count();
            let client = count(|one| one.statement.side == Side::Client);
            let noted =
                count(|one| one.statement.side != Side::Client && one.statement.note.is_some());
            let open =
                count(|one| one.statement.side != Side::Client && one.statement.open.is_some());
            let missing = count(|one| one.missing().is_some());
            let shown = count(|one| one.is_due() && one.missing().is_none());
            let differs = count(|one| one.is_due() && one.statement.differs.is_some());
            table += &format!(
                "| {} | {} | {client} | {noted} | {open} | {shown} | {differs} | {missing} |\n",
                specification.name,
                all.len(),
            );
        }
        table
    }
}

/// What `README` holds between its two marks, and what is around it.
fn split_readme(readme: &str) -> anyhow::Result<(&str, &str, &str)> {
    let begin = readme.find(BEGIN).context("the counts have no beginning")? + BEGIN.len();
    let end = readme[begin..]
        .find(END)
        .context("the counts have no end")?
        + begin;
    Ok((&readme[..begin], &readme[begin..end], &readme[end..]))
}

/// Prints the statements of one protocol or of all with what cites them, or only those that lack something.
pub(crate) fn run(protocol: Option<&str>, missing: bool, write: bool) -> anyhow::Result<()> {
    if let Some(protocol) = protocol
        && !LISTS.iter().any(|(of, ..)| *of == protocol)
    {
        bail!("there is no list of statements for '{protocol}'");
    }
    let coverage = Coverage::read()?;
    for specification in &coverage.specifications {
        if protocol.is_some_and(|protocol| protocol != specification.protocol) {
            continue;
        }
        println!("# {}", specification.name);
        for one in &specification.statements {
            if !missing || one.missing().is_some() {
                println!("{}", one.line());
            }
        }
    }
    for stranger in &coverage.strangers {
        println!("{}: [{}] is in no list", stranger.place, stranger.id);
    }
    println!("{}", coverage.table());
    if write {
        let readme = std::fs::read_to_string(README)?;
        let (before, _, after) = split_readme(&readme)?;
        std::fs::write(README, [before, &coverage.table(), after].concat())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coverage() -> Coverage {
        std::env::set_current_dir(crate::root()).expect("the checkout is there");
        Coverage::read().expect("readable")
    }

    #[test]
    fn every_citation_names_a_statement() {
        let strangers: Vec<String> = coverage()
            .strangers
            .iter()
            .map(|one| format!("{}: [{}]", one.place, one.id))
            .collect();
        assert!(
            strangers.is_empty(),
            "in no list:\n{}",
            strangers.join("\n")
        );
    }

    #[test]
    fn every_statement_of_ours_has_code_and_a_test_or_a_reason() {
        let missing: Vec<String> = coverage()
            .specifications
            .iter()
            .flat_map(|specification| &specification.statements)
            .filter(|one| one.missing().is_some())
            .map(Accounted::line)
            .collect();
        assert!(missing.is_empty(), "{}", missing.join("\n"));
    }

    #[test]
    fn the_readme_shows_the_counts() {
        let table = coverage().table();
        let readme = std::fs::read_to_string(README).expect("readable");
        let (_, shown, _) = split_readme(&readme).expect("marked");
        assert_eq!(shown, table, "cargo xtask spec --write");
    }

    #[test]
    fn lists_tell_sides_and_reasons_apart() {
        let code = |id: &str| Citation {
            id: id.to_owned(),
            kind: Kind::Code,
            place: "a.rs:1".to_owned(),
        };
        std::env::set_current_dir(crate::root()).expect("the checkout is there");
        let coverage =
            Coverage::of(vec![code("MQTT-1.5.4-1"), code("MQTT-0.0.0-0")]).expect("lists");
        let find = |id: &str| {
            coverage
                .specifications
                .iter()
                .flat_map(|specification| &specification.statements)
                .find(|one| one.id == id)
                .expect("listed")
        };
        assert_eq!(find("MQTT-1.5.4-1").missing(), Some("no test"));
        assert_eq!(
            find("MQTT3-1.5.3-1").missing(),
            Some("no test"),
            "its code is the same"
        );
        assert_eq!(
            find("MQTT-1.5.4-2").missing(),
            Some("neither code nor test")
        );
        assert_eq!(find("MQTT-3.1.2-20").missing(), None, "a client's");
        assert_eq!(find("MQTT-3.2.2-9").missing(), None, "has a reason");
        assert_eq!(coverage.strangers.len(), 1);
    }
}
