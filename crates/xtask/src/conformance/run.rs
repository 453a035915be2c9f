//! One suite: a server of ours, the suite's own runner, a list of cases.
//!
//! The runners write their cases as lines of JSON into a file named by `BASCULE_REPORT` (adapters for pytest, Node's test
//! runner and Jasmine are in `conformance/adapters`); Paho's, mosquitto's and Go's cases are processes whose exit code
//! counts. Whatever a suite prints is kept below the target folder.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    sync::Mutex,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use super::{
    Bench,
    suite::{Runner, Suite},
    tools::{self, scratch},
    verdict::{Case, Outcome, expected},
};
use crate::{load::server::Server, root};

/// Cases, each with a server of its own, that run at a time.
const PARALLEL: usize = 3;
/// How long one case may take that is a process of its own.
const CASE_TIMEOUT: Duration = Duration::from_secs(150);
/// How long a whole suite may take.
const SUITE_TIMEOUT: Duration = Duration::from_secs(900);

pub(super) fn run(bench: &Bench, suite: &Suite) -> anyhow::Result<Vec<Case>> {
    let sources = tools::sources(bench, &suite.origin)?;
    match suite.runner {
        Runner::Paho(file) => paho(bench, suite, &sources.join("interoperability"), file),
        Runner::Mosquitto => mosquitto(bench, suite, &sources.join("test/broker")),
        Runner::Pytest(files) => pytest(bench, suite, &tools::python()?, &sources, None, files),
        Runner::Boto {
            folder,
            plugin,
            files,
        } => {
            let python = tools::aws_python()?;
            pytest(bench, suite, &python, &sources.join(folder), plugin, files)
        }
        Runner::Vitest { folder, files } => vitest(bench, suite, &sources.join(folder), files),
        Runner::Node(files) => node(bench, suite, &sources, files),
        Runner::Script(script) => node_script(bench, suite, &sources, script),
        Runner::Go { tag, file } => go(bench, suite, &sources, tag, file),
    }
}

/// The arguments of `serve` for a case of a suite.
fn settings(suite: &Suite, case: &str) -> anyhow::Result<Vec<String>> {
    let mut arguments = Vec::new();
    if suite.protocol == "aws" {
        // As whoever tests a program of theirs has it.
        arguments.extend(["--profile".to_owned(), "test".to_owned()]);
    }
    if let Some(file) = suite.settings {
        let path = root().join("conformance").join(file);
        arguments.extend(["--config".to_owned(), path.display().to_string()]);
    }
    if let Some(setting) = expected(suite.name)?.set.get(case) {
        arguments.extend(["--set".to_owned(), setting.clone()]);
    }
    Ok(arguments)
}

fn serve(bench: &Bench, suite: &Suite, name: &str) -> anyhow::Result<Server> {
    let data = scratch(suite.name)?.join(format!("data-{name}"));
    Server::start(&bench.binary, &data, settings(suite, name)?)
}

/// Runs a command to its end, or kills it; its output goes into a file.
fn finish(command: &mut Command, output: &Path, limit: Duration) -> anyhow::Result<ExitStatus> {
    let file = File::create(output)?;
    let mut child = command
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .with_context(|| format!("failed to start {command:?}"))?;
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if began.elapsed() > limit {
            child.kill()?;
            writeln!(
                File::options().append(true).open(output)?,
                "TIMED OUT after {limit:?}"
            )?;
            return Ok(child.wait()?);
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "a child is waited for, with a limit"
        )]
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The last lines of what a case printed.
fn tail(output: &Path) -> String {
    let bytes = std::fs::read(output).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    // The server's own log is between the lines of some suites.
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with("{\"timestamp\""))
        .collect();
    let from = lines.len().saturating_sub(5);
    let mut said = lines[from..].join(" / ");
    said.truncate(said.floor_char_boundary(800));
    said
}

/// Runs cases that are processes, `parallel` at a time, and begins them in their order. What fails gets a second try, alone:
/// these suites wait for fixed times, which a machine that is busy with their neighbours may miss.
fn processes(
    bench: &Bench,
    suite: &Suite,
    names: Vec<String>,
    parallel: usize,
    one: impl Fn(&str, &Path) -> anyhow::Result<ExitStatus> + Sync,
) -> anyhow::Result<Vec<Case>> {
    let folder = scratch(suite.name)?;
    let wanted = |name: &String| {
        bench
            .case
            .as_ref()
            .is_none_or(|part| name.contains(part.as_str()))
    };
    let waiting = Mutex::new(names.into_iter().filter(wanted).rev().collect::<Vec<_>>());
    let done = Mutex::new(Vec::new());
    let attempt = |name: String| -> anyhow::Result<Case> {
        let output = folder.join(format!("{name}.txt"));
        let passed = one(&name, &output)?.success();
        println!("{} {name}", if passed { "passed" } else { "failed" });
        let (outcome, detail) = if passed {
            (Outcome::Passed, String::new())
        } else {
            (Outcome::Failed, tail(&output))
        };
        Ok(Case {
            name,
            outcome,
            detail,
        })
    };
    let work = || -> anyhow::Result<()> {
        loop {
            let next = waiting.lock().expect("nobody panics holding it").pop();
            let Some(name) = next else { return Ok(()) };
            let case = attempt(name)?;
            done.lock().expect("nobody panics holding it").push(case);
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..parallel).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            thread.join().expect("it returns its errors")?;
        }
        anyhow::Ok(())
    })?;
    let mut cases = done.into_inner().expect("the threads have ended");
    let known = expected(suite.name)?;
    for case in &mut cases {
        if case.outcome == Outcome::Failed && !known.is_known_to_fail(&case.name) {
            println!("once more, alone: {}", case.name);
            *case = attempt(case.name.clone())?;
        }
    }
    Ok(cases)
}

fn paho(bench: &Bench, suite: &Suite, folder: &Path, file: &str) -> anyhow::Result<Vec<Case>> {
    let python = tools::python()?;
    let text = std::fs::read_to_string(folder.join(format!("{file}.py")))?;
    let names = text
        .lines()
        .filter_map(|line| line.strip_prefix("    def test"))
        .filter_map(|rest| rest.split('(').next())
        .map(|rest| format!("test{rest}"))
        .collect();
    processes(bench, suite, names, PARALLEL, |name, output| {
        let server = serve(bench, suite, name)?;
        finish(
            Command::new(&python)
                .arg("-B")
                .arg(root().join("conformance/adapters/paho_case.py"))
                .args([file, &server.mqtt.port().to_string(), name])
                .current_dir(folder),
            output,
            CASE_TIMEOUT,
        )
    })
}

fn mosquitto(bench: &Bench, suite: &Suite, folder: &Path) -> anyhow::Result<Vec<Case>> {
    let python = tools::python()?;
    // A script starts its server by itself, with the same settings for each.
    let arguments = settings(suite, "")?.join("\n");
    processes(
        bench,
        suite,
        expected(suite.name)?.only,
        PARALLEL,
        |name, output| {
            let port = std::net::TcpListener::bind("127.0.0.1:0")?
                .local_addr()?
                .port();
            finish(
                Command::new(&python)
                    .arg("-B")
                    .arg(root().join("conformance/adapters/mosquitto_case.py"))
                    .args([name, &port.to_string()])
                    .env("BASCULE", &bench.binary)
                    .env("BASCULE_ARGUMENTS", &arguments)
                    .current_dir(folder),
                output,
                CASE_TIMEOUT,
            )
        },
    )
}

/// What the adapters are told.
fn tell(command: &mut Command, server: &Server, report: &Path) {
    command
        .env("BASCULE_REPORT", report)
        .env("BASCULE_MQTT", server.mqtt.port().to_string())
        .env("BASCULE_AMQP", server.amqp.port().to_string())
        .env("BASCULE_STOMP", server.stomp.port().to_string())
        .env("BASCULE_HTTP", server.http.port().to_string())
        .env("BASCULE_AWS", server.aws.port().to_string())
        .env("FLOCI_ENDPOINT", format!("http://{}", server.aws));
}

/// Runs a command that reports its cases.
fn reported(bench: &Bench, suite: &Suite, command: &mut Command) -> anyhow::Result<Vec<Case>> {
    let server = serve(bench, suite, "all")?;
    let folder = scratch(suite.name)?;
    let (report, output) = (folder.join("report.jsonl"), folder.join("output.txt"));
    if report.exists() {
        std::fs::remove_file(&report)?;
    }
    tell(command, &server, &report);
    let status = finish(command, &output, SUITE_TIMEOUT)?;
    let Ok(text) = std::fs::read_to_string(&report) else {
        bail!(
            "{command:?} ended with {status} and reported nothing: {}",
            tail(&output)
        );
    };
    let mut cases = Vec::new();
    for line in text.lines() {
        let mut case: Case = serde_json::from_str(line)
            .with_context(|| format!("failed to read {}: {line}", report.display()))?;
        case.detail.truncate(case.detail.floor_char_boundary(800));
        cases.push(case);
    }
    if let Some(part) = &bench.case {
        cases.retain(|case| case.name.contains(part));
    }
    println!("its output is in {}", output.display());
    Ok(cases)
}

fn pytest(
    bench: &Bench,
    suite: &Suite,
    python: &Path,
    folder: &Path,
    plugin: Option<&str>,
    files: &[&str],
) -> anyhow::Result<Vec<Case>> {
    let adapters = root().join("conformance/adapters");
    let mut words: Vec<String> = Vec::new();
    let left_out = expected(suite.name)?.left_out;
    if !left_out.is_empty() {
        let names: Vec<String> = left_out.into_keys().collect();
        words.push(format!("not ({})", names.join(" or ")));
    }
    words.extend(bench.case.clone());
    let mut command = Command::new(python);
    command
        .args(["-B", "-m", "pytest", "-q", "--tb=short", "--timeout=60"])
        .args([
            "-p",
            "no:cacheprovider",
            "-p",
            "pytest_report",
            "-o",
            "addopts=",
        ])
        .args(files)
        .current_dir(folder)
        .env(
            "PYTHONPATH",
            std::env::join_paths([adapters.as_path(), folder])?,
        );
    if let Some(plugin) = plugin {
        command.args(["-p", plugin]);
    }
    if !words.is_empty() {
        command.args(["-k", &words.join(" and ")]);
    }
    reported(bench, suite, &mut command)
}

/// Node looks for packages in the folders above a file: the tests are copied to where a link to ours is.
fn vitest(
    bench: &Bench,
    suite: &Suite,
    folder: &Path,
    files: &[&str],
) -> anyhow::Result<Vec<Case>> {
    let modules = tools::aws_node_modules()?;
    let place = scratch(suite.name)?.join("tests-beside-packages");
    if place.exists() {
        std::fs::remove_dir_all(&place)?;
    }
    for file in files {
        let copy = place.join(file);
        std::fs::create_dir_all(copy.parent().unwrap_or(&place))?;
        std::fs::copy(folder.join(file), copy)
            .with_context(|| format!("failed to copy {file} of {}", folder.display()))?;
    }
    std::os::unix::fs::symlink(&modules, place.join("node_modules"))?;
    let mut command = Command::new("node");
    command
        .arg(modules.join("vitest/vitest.mjs"))
        .args(["run", "--reporter"])
        .arg(root().join("conformance/adapters/vitest_report.mjs"))
        .current_dir(&place);
    reported(bench, suite, &mut command)
}

fn node(bench: &Bench, suite: &Suite, folder: &Path, files: &[&str]) -> anyhow::Result<Vec<Case>> {
    let adapters = root().join("conformance/adapters");
    let mut command = Command::new("node");
    command
        .args([
            "--test",
            "--test-concurrency=1",
            "--test-reporter-destination=stdout",
        ])
        .arg("--test-reporter")
        .arg(adapters.join("node_report.mjs"))
        .args(files)
        .current_dir(folder)
        .env("NODE_PATH", tools::node_modules()?)
        .env(
            "NODE_OPTIONS",
            format!("--require={}", adapters.join("node_ports.cjs").display()),
        );
    reported(bench, suite, &mut command)
}

fn node_script(
    bench: &Bench,
    suite: &Suite,
    folder: &Path,
    script: &str,
) -> anyhow::Result<Vec<Case>> {
    tools::node_modules()?;
    let mut command = Command::new("node");
    command
        .arg(root().join("conformance/adapters").join(script))
        .arg(folder)
        .current_dir(root().join("conformance"));
    reported(bench, suite, &mut command)
}

fn go(
    bench: &Bench,
    suite: &Suite,
    folder: &Path,
    tag: &str,
    file: &str,
) -> anyhow::Result<Vec<Case>> {
    let scratch = scratch(suite.name)?;
    let program: PathBuf = scratch.join("suite.test");
    let built = finish(
        Command::new("go")
            .args(["test", "-c", "-tags", tag, "-o"])
            .arg(&program)
            .arg(".")
            .current_dir(folder),
        &scratch.join("build.txt"),
        SUITE_TIMEOUT,
    )?;
    if !built.success() {
        bail!("failed to build it: {}", tail(&scratch.join("build.txt")));
    }
    let text = std::fs::read_to_string(folder.join(file))?;
    let names = text
        .lines()
        .filter_map(|line| line.strip_prefix("func Test"))
        .filter_map(|rest| rest.split('(').next())
        .filter(|name| *name != "Main")
        .map(|name| format!("Test{name}"))
        .collect();
    // A process each: a test that panics would end the others. One server and the order of the file: TestIntegrationGetEmpty
    // gets what TestIntegrationGetOk left behind.
    let server = serve(bench, suite, "all")?;
    let mut cases = processes(bench, suite, names, 1, |name, output| {
        finish(
            Command::new(&program)
                .args(["-test.v", "-test.timeout", "120s", "-test.run"])
                .arg(format!("^{name}$"))
                .env("AMQP_URL", format!("amqp://guest:guest@{}/", server.amqp))
                .current_dir(folder),
            output,
            CASE_TIMEOUT,
        )
    })?;
    for case in &mut cases {
        let output = std::fs::read(scratch.join(format!("{}.txt", case.name)))?;
        if case.outcome == Outcome::Passed && is_go_skip(&String::from_utf8_lossy(&output)) {
            case.outcome = Outcome::Skipped;
        }
    }
    Ok(cases)
}

/// Whether a Go test ended by skipping itself: its result is not indented, those of its parts are.
fn is_go_skip(output: &str) -> bool {
    output.lines().any(|line| line.starts_with("--- SKIP: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_go_test_that_skips_itself_is_no_pass() {
        assert!(is_go_skip(
            "=== RUN   TestB\n--- SKIP: TestB (0.00s)\nPASS\n"
        ));
        assert!(!is_go_skip(
            "--- PASS: TestA (0.01s)\n    --- SKIP: TestA/part (0.00s)\n"
        ));
    }
}
