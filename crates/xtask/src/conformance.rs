//! Other people's clients and test suites against our server.
//!
//! | file | what |
//! |---|---|
//! | `conformance/suite.rs` | the suites: protocol, where their sources come from, which settings our server gets |
//! | `conformance/tools.rs` | Python, Node and Go: looked for, and filled by their own package clients |
//! | `conformance/run.rs` | one suite: a server, the suite's own runner, a list of cases |
//! | `conformance/verdict.rs` | the cases against `conformance/expected.toml` |
//!
//! Nothing of a suite is in the repository: some come with the clients from the package registries, the others need a
//! checkout of their sources (`--sources DIR`, with one folder a suite). What cannot run says so; with `CI=true`, or when
//! it was asked for by name, that is a failure.

mod run;
mod suite;
mod tools;
mod verdict;

use std::{path::PathBuf, process::Command};

use anyhow::{Context, bail};

use crate::{binary, cargo, root, run as shell, run_with, target};
use suite::{Origin, SUITES, Suite};

/// Scripts of ours with real clients, and the arguments of a quick run.
const SCRIPTS: &[(&str, &[&str])] = &[
    ("aws_smoke", &[]),
    ("crossings", &[]),
    ("kill9", &["5", "0.6"]),
    ("kill9_aws", &["3", "0.6"]),
];
/// The others, at their full length.
const LONG: &[(&str, &[&str])] = &[("kill9", &["50"]), ("kill9_aws", &["20"])];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// `mqtt`, `amqp`, `stomp`, `aws`: the public suites of a protocol; `aws_smoke`, `crossings`, `kill9`, `kill9_aws`: our own scripts, with real clients;
    /// `oracle`: our MQTT codec against others'.
    /// Nothing: what the gate runs, the scripts (short) and the suites that need no sources.
    what: Vec<String>,
    /// Only the suite of that name (again for more).
    #[arg(long)]
    suite: Vec<String>,
    /// Only cases whose name contains this; nothing is then expected of the others.
    #[arg(long)]
    case: Option<String>,
    /// A folder with the suites' sources, one folder each; conformance/README.md has the list.
    #[arg(long)]
    sources: Option<PathBuf>,
    /// Builds and tests the release server instead of the debug one.
    #[arg(long)]
    release: bool,
    /// Tests that server and builds none.
    #[arg(long, conflicts_with = "release")]
    bin: Option<PathBuf>,
}

/// What a run works with.
struct Bench {
    binary: PathBuf,
    sources: Option<PathBuf>,
    case: Option<String>,
    /// Whether a tool that is missing is a failure.
    strict: bool,
}

/// What the gate runs, against the release server.
pub(crate) fn quick() -> anyhow::Result<()> {
    run(&Arguments {
        what: Vec::new(),
        suite: Vec::new(),
        case: None,
        sources: None,
        release: true,
        bin: None,
    })
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.what == ["oracle"] {
        return oracle();
    }
    let (scripts, suites) = choose(arguments)?;
    let built = match &arguments.bin {
        Some(path) => std::path::absolute(path)?,
        None => {
            let mut build = vec!["build", "--package", "bascule"];
            if arguments.release {
                build.push("--release");
            }
            shell("cargo", &build)?;
            binary(arguments.release)
        }
    };
    let sources = arguments.sources.as_ref().map(std::path::absolute);
    let named = !arguments.what.is_empty() || !arguments.suite.is_empty();
    let bench = Bench {
        binary: built,
        sources: sources.transpose()?,
        case: arguments.case.clone(),
        strict: std::env::var_os("CI").is_some_and(|value| value == "true"),
    };
    let mut passed = scripts.len();
    for (name, extra) in scripts {
        let python = tools::python()?;
        let script = root().join("conformance").join(format!("{name}.py"));
        run_with(
            Command::new(&python)
                .arg(script)
                .args(extra)
                .env("BASCULE", &bench.binary),
        )?;
    }
    let mut lines = Vec::new();
    let mut bad = Vec::new();
    for suite in suites {
        println!("== {} ({})", suite.name, suite.protocol);
        match run::run(&bench, suite).and_then(|cases| verdict::judge(suite.name, &cases, &bench)) {
            Ok(line) => {
                passed += 1;
                lines.push(line);
            }
            Err(error) if error.is::<tools::Missing>() => {
                let asked = arguments.suite.iter().any(|name| name == suite.name);
                let line = format!("{}: NOT RUN: {error}", suite.name);
                println!("{line}");
                // Of a protocol's suites those run that can; sources cannot be expected of the gate, tools can.
                let only_sources = matches!(suite.origin, Origin::Repository { .. });
                if asked || (bench.strict && !(only_sources && named)) {
                    bad.push(suite.name);
                }
                lines.push(line);
            }
            Err(error) => {
                lines.push(format!("{}: FAILED: {error:#}", suite.name));
                bad.push(suite.name);
            }
        }
    }
    for line in lines {
        println!("{line}");
    }
    println!("{passed} passed, {} failed", bad.len());
    if !bad.is_empty() {
        bail!("not as expected: {}", bad.join(", "));
    }
    Ok(())
}

/// Our MQTT codec against those of two other projects: a workspace of its own, see `conformance/oracle`.
fn oracle() -> anyhow::Result<()> {
    let built = target().join("oracle");
    run_with(
        cargo()
            .args(["build", "--quiet", "--target-dir"])
            .arg(&built)
            .current_dir(root().join("conformance/oracle")),
    )?;
    // One of the others writes notes to itself on stderr.
    run_with(Command::new(built.join("debug/oracle")).stderr(std::process::Stdio::null()))
}

type Chosen = (
    Vec<(&'static str, &'static [&'static str])>,
    Vec<&'static Suite>,
);

fn choose(arguments: &Arguments) -> anyhow::Result<Chosen> {
    if arguments.what.is_empty() && arguments.suite.is_empty() {
        let needs_no_sources = |suite: &&Suite| suite.quick;
        return Ok((
            SCRIPTS.to_vec(),
            SUITES.iter().filter(needs_no_sources).collect(),
        ));
    }
    let mut scripts = Vec::new();
    let mut suites: Vec<&Suite> = Vec::new();
    for word in &arguments.what {
        if let Some(script) = LONG.iter().chain(SCRIPTS).find(|(name, _)| name == word) {
            scripts.push(*script);
            continue;
        }
        let before = suites.len();
        suites.extend(SUITES.iter().filter(|suite| {
            suite.protocol == word
                && (arguments.suite.is_empty()
                    || arguments.suite.iter().any(|name| name == suite.name))
        }));
        if suites.len() == before {
            bail!(
                "'{word}' has no such suite; there are mqtt, amqp, stomp, aws, aws_smoke, crossings, kill9, kill9_aws and, alone, oracle"
            );
        }
    }
    if arguments.what.is_empty() {
        for name in &arguments.suite {
            suites.push(
                SUITES
                    .iter()
                    .find(|suite| suite.name == name)
                    .with_context(|| {
                        let names: Vec<&str> = SUITES.iter().map(|suite| suite.name).collect();
                        format!("no suite '{name}'; there are {}", names.join(", "))
                    })?,
            );
        }
    }
    Ok((scripts, suites))
}
