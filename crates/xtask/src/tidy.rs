//! The rules of the house that a tool can keep.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use anyhow::{Context, bail};

use crate::cargo;

/// Which of our crates a crate may import. Arrows never turn back; protocols and the core never meet.
const IMPORTS: &[(&str, &[&str])] = &[
    ("allocator", &[]),
    ("message", &[]),
    ("session", &["message"]),
    ("broker", &["message", "session"]),
    ("journal", &["message"]),
    ("auth", &["message", "session"]),
    ("net", &["message", "session"]),
    ("node", &["auth", "broker", "journal", "message", "session"]),
    (
        "sim",
        &["auth", "broker", "journal", "message", "node", "session"],
    ),
    ("mqtt", &["message", "session"]),
    ("amqp091", &["message", "session"]),
    ("stomp", &["message", "session"]),
    ("websocket", &["message", "session"]),
    ("aws", &["message", "session"]),
    ("sqs", &["aws", "message", "session"]),
    ("sns", &["aws", "message", "session"]),
    ("kinesis", &["aws", "message", "session"]),
    ("admin", &["message", "session"]),
    (
        "bascule",
        &[
            "admin",
            "allocator",
            "amqp091",
            "auth",
            "aws",
            "broker",
            "journal",
            "kinesis",
            "message",
            "mqtt",
            "net",
            "node",
            "session",
            "sns",
            "sqs",
            "stomp",
            "websocket",
        ],
    ),
    (
        "counts",
        &[
            "amqp091", "auth", "aws", "journal", "kinesis", "message", "mqtt", "net", "node",
            "session", "sqs",
        ],
    ),
    ("xtask", &["amqp091", "message", "mqtt", "session", "stomp"]),
    (
        "conversions",
        &["amqp091", "message", "mqtt", "session", "stomp"],
    ),
    (
        "e2e",
        &["amqp091", "message", "mqtt", "node", "session", "stomp"],
    ),
];

/// Crates that may use tokio.
const TOKIO: &[&str] = &["net", "bascule", "counts", "e2e"];
/// Crates whose root need not forbid unsafe code.
const UNSAFE: &[&str] = &["allocator", "counts"];
/// Words that name nothing.
const EMPTY_NAMES: &[&str] = &[
    "manager", "handler", "helper", "helpers", "util", "utils", "common", "misc", "base", "wrapper",
];
/// Longest file, in lines.
const LINES_MAX: usize = 1000;

pub(crate) fn run() -> anyhow::Result<()> {
    let mut faults = Vec::new();
    imports(&mut faults)?;
    files(&mut faults)?;
    if faults.is_empty() {
        println!("tidy: nothing to mend");
        return Ok(());
    }
    for fault in &faults {
        println!("tidy: {fault}");
    }
    bail!("{} faults", faults.len());
}

fn imports(faults: &mut Vec<String>) -> anyhow::Result<()> {
    let output = cargo()
        .args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--offline",
        ])
        .output()?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("failed to read cargo metadata")?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata has no packages")?;
    let ours: BTreeSet<&str> = packages
        .iter()
        .filter_map(|package| package["name"].as_str())
        .collect();
    let allowed: BTreeMap<&str, &[&str]> = IMPORTS.iter().copied().collect();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(may) = allowed.get(name) else {
            faults.push(format!(
                "crate {name} is not in the table of imports (crates/xtask/src/tidy.rs)"
            ));
            continue;
        };
        let dependencies = package["dependencies"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        for dependency in dependencies
            .iter()
            .filter(|dependency| dependency["kind"].is_null())
        {
            let import = dependency["name"].as_str().unwrap_or_default();
            if ours.contains(import) && !may.contains(&import) {
                faults.push(format!("crate {name} must not import {import}"));
            }
            if import == "tokio" && !TOKIO.contains(&name) {
                faults.push(format!("crate {name} must not import tokio"));
            }
        }
        let Some(manifest) = package["manifest_path"].as_str() else {
            continue;
        };
        let folder = Path::new(manifest)
            .parent()
            .context("a manifest lies in a folder")?;
        let root = ["src/lib.rs", "src/main.rs", "main.rs"]
            .iter()
            .map(|file| folder.join(file))
            .find(|file| file.exists());
        let Some(root) = root else { continue };
        if !UNSAFE.contains(&name)
            && !std::fs::read_to_string(&root)?.contains("#![forbid(unsafe_code)]")
        {
            faults.push(format!(
                "{}: `#![forbid(unsafe_code)]` is missing",
                root.display()
            ));
        }
    }
    Ok(())
}

fn files(faults: &mut Vec<String>) -> anyhow::Result<()> {
    // In parts, so that this file does not find itself.
    let forbidden = [
        ["/wor", "k/"].concat(),
        ["../sha", "red"].concat(),
        ["index.cra", "tes.io"].concat(),
        ["pypi.", "org"].concat(),
        ["registry.npm", "js"].concat(),
    ];
    let output = Command::new("git").args(["ls-files"]).output()?;
    for path in String::from_utf8(output.stdout)?.lines() {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                faults.push(format!(
                    "{path}: is no text; what is built or fetched is not kept"
                ));
                continue;
            }
            // Removed, and not yet committed.
            Err(_) => continue,
        };
        if path != "Cargo.lock" {
            for word in &forbidden {
                if text.contains(word.as_str()) {
                    faults.push(format!("{path}: mentions {word}"));
                }
            }
        }
        if !path.ends_with(".rs") {
            continue;
        }
        let lines = text.lines().count();
        if lines > LINES_MAX {
            faults.push(format!(
                "{path}: {lines} lines; split it by subject (at most {LINES_MAX})"
            ));
        }
        if !opens_with_purpose(&text) {
            faults.push(format!(
                "{path}: does not open with `//!` (its job, the specification, its invariants)"
            ));
        }
        let stem = Path::new(path)
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or_default();
        if EMPTY_NAMES.contains(&stem) {
            faults.push(format!("{path}: '{stem}' names nothing"));
        }
    }
    Ok(())
}

/// Whether the first thing in a file, inner attributes aside, says what it is for.
fn opens_with_purpose(text: &str) -> bool {
    let mut in_attribute = false;
    for line in text.lines() {
        in_attribute |= line.starts_with("#![");
        if !in_attribute && !line.is_empty() {
            return line.starts_with("//!");
        }
        in_attribute &= !line.ends_with(']');
    }
    false
}

#[cfg(test)]
mod tests {
    use super::opens_with_purpose;

    #[test]
    fn attributes_may_stand_before_the_purpose() {
        assert!(opens_with_purpose(
            "#![expect(\n    a,\n    reason = \"b\"\n)]\n//! Its job.\n"
        ));
        assert!(opens_with_purpose("//! Its job.\n"));
        assert!(!opens_with_purpose(
            "#![forbid(unsafe_code)]\nmod a;\n//! Late.\n"
        ));
        assert!(!opens_with_purpose("use std::fmt;\n"));
    }
}
