//! Finds the citations of normative statements in the sources.
//!
//! | where | counts as |
//! |---|---|
//! | a `.rs` file in a folder `tests` or `fuzz`, or named `tests.rs` | test |
//! | another `.rs` file, from the line `#[cfg(test)]` before `mod name {` on | test |
//! | the rest of it | code |
//! | a `.txt` file (dialogues, golden frames) in a folder `tests` | test |
//! | a `.py` file in `conformance/` | test |
//!
//! Deliberately absent: this crate itself, whose tests cite statements as examples.

use std::path::{Path, PathBuf};

use anyhow::Context;

/// Folders with sources.
const ROOTS: &[&str] = &["crates", "protocols", "tests", "conformance"];
/// How an id begins.
const PREFIXES: &[&str] = &["MQTT-", "MQTT3-", "AMQP-", "RABBIT-", "STOMP-"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Code,
    Test,
}

/// An id in brackets.
#[derive(Clone, Debug)]
pub(super) struct Citation {
    pub(super) id: String,
    pub(super) kind: Kind,
    /// File and line.
    pub(super) place: String,
}

/// All citations, in the order of the files' names.
pub(super) fn scan() -> anyhow::Result<Vec<Citation>> {
    let mut files = Vec::new();
    for root in ROOTS {
        walk(Path::new(root), &mut files)?;
    }
    files.sort();
    let mut citations = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("failed to read {}", file.display()))?;
        collect(&file, &text, &mut citations);
    }
    Ok(citations)
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("failed to read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') || matches!(&*name, "target" | "xtask" | "corpus") {
            continue;
        }
        if path.is_dir() {
            walk(&path, files)?;
        } else if kind_of_file(&path).is_some() {
            files.push(path);
        }
    }
    Ok(())
}

/// What a file's first line counts as, if its citations count at all.
fn kind_of_file(path: &Path) -> Option<Kind> {
    let within = |folder: &str| {
        path.parent()
            .is_some_and(|parent| parent.iter().any(|part| part == folder))
    };
    let in_tests = within("tests") || within("fuzz");
    match path.extension()?.to_str()? {
        "rs" if in_tests || path.ends_with("tests.rs") => Some(Kind::Test),
        "rs" => Some(Kind::Code),
        "txt" if in_tests => Some(Kind::Test),
        "py" if within("conformance") => Some(Kind::Test),
        _ => None,
    }
}

fn collect(path: &Path, text: &str, citations: &mut Vec<Citation>) {
    let Some(mut kind) = kind_of_file(path) else {
        return;
    };
    let mut lines = text.lines().enumerate().peekable();
    while let Some((at, line)) = lines.next() {
        if line == "#[cfg(test)]"
            && lines
                .peek()
                .is_some_and(|(_, next)| next.starts_with("mod ") && next.ends_with('{'))
        {
            kind = Kind::Test;
        }
        for id in ids(line) {
            citations.push(Citation {
                id: id.to_owned(),
                kind,
                place: format!("{}:{}", path.display(), at + 1),
            });
        }
    }
}

/// The ids in brackets of a line.
fn ids(line: &str) -> impl Iterator<Item = &str> {
    line.split('[').skip(1).filter_map(|rest| {
        let (id, _) = rest.split_once(']')?;
        let known = PREFIXES.iter().any(|prefix| id.starts_with(prefix));
        let plain = id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
        (known && plain).then_some(id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_ids_of_a_line_are_found_and_other_brackets_are_not() {
        let line =
            "// [MQTT-1.5.4-1], [MQTT3-1.5.3-1]: a[0] [AMQP-queue.declare.01] [MQTT x] [STOMP-";
        let found: Vec<&str> = ids(line).collect();
        assert_eq!(
            found,
            ["MQTT-1.5.4-1", "MQTT3-1.5.3-1", "AMQP-queue.declare.01"]
        );
    }

    #[test]
    fn code_ends_where_the_tests_of_a_file_begin() {
        let text = "// [MQTT-1.1.1-1]\n#[cfg(test)]\nmod other;\n// [MQTT-1.1.1-2]\n#[cfg(test)]\nmod tests {\n// [MQTT-1.1.1-3]\n}\n";
        let mut found = Vec::new();
        collect(Path::new("protocols/mqtt/src/a.rs"), text, &mut found);
        let kinds: Vec<Kind> = found.iter().map(|citation| citation.kind).collect();
        assert_eq!(kinds, [Kind::Code, Kind::Code, Kind::Test]);
        assert_eq!(found[2].place, "protocols/mqtt/src/a.rs:7");
    }

    #[test]
    fn folders_tell_tests_from_code() {
        let kind = |path: &str| kind_of_file(Path::new(path));
        assert_eq!(kind("protocols/mqtt/src/codec.rs"), Some(Kind::Code));
        assert_eq!(kind("protocols/mqtt/tests/scripts/a.txt"), Some(Kind::Test));
        assert_eq!(
            kind("protocols/mqtt/src/session/tests.rs"),
            Some(Kind::Test)
        );
        assert_eq!(kind("tests/limits.rs"), Some(Kind::Test));
        assert_eq!(kind("protocols/mqtt/fuzz/decode.rs"), Some(Kind::Test));
        assert_eq!(kind("conformance/crossings.py"), Some(Kind::Test));
        assert_eq!(kind("protocols/README.md"), None);
        assert_eq!(kind("protocols/mqtt/notes.txt"), None);
    }
}
