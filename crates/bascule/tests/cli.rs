//! The command line as a user sees it: exit codes, and what is said where.

use std::{
    io::Write as _,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

fn bascule(arguments: &[&str]) -> Output {
    with_stdin(arguments, "")
}

fn with_stdin(arguments: &[&str], stdin: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_bascule"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut input = child.stdin.take().expect("stdin is piped");
    // A command that does not read its stdin may be gone by then.
    let _ = input.write_all(stdin.as_bytes());
    drop(input);
    child.wait_with_output().expect("the binary ends")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Exit code 2 and exactly one line on stderr that says all of `words`.
fn refused(output: &Output, words: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(output.stdout.is_empty());
    for word in words {
        assert!(stderr.contains(word), "{word:?} is not in {stderr}");
    }
}

fn file(name: &str, text: &str) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).expect("a file is written");
    path.into_os_string()
        .into_string()
        .expect("a path in UTF-8")
}

#[test]
fn the_version_is_said() {
    let output = bascule(&["--version"]);
    assert!(output.status.success() && stdout(&output).starts_with("bascule "));
}

#[test]
fn the_printed_default_is_a_right_configuration() {
    let default = bascule(&["config", "default"]);
    assert!(default.status.success());
    let path = file("printed-default.toml", &stdout(&default));
    assert!(bascule(&["config", "check", &path]).status.success());
    assert!(bascule(&["config", "check"]).status.success());
}

#[test]
fn a_wrong_configuration_is_one_line_and_exit_code_2() {
    let unknown = file("unknown.toml", "[listeners]\nmqt = 'off'\n");
    refused(
        &bascule(&["config", "check", &unknown]),
        &[
            "listeners.mqt",
            "did you mean listeners.mqtt?",
            "unknown.toml",
        ],
    );
    let syntax = file("syntax.toml", "data = 'x'\nthreads = = 2\n");
    refused(
        &bascule(&["config", "check", &syntax]),
        &["syntax.toml:2:11"],
    );
    let kind = file("kind.toml", "[memory]\nbodies_bytes_max = 'much'\n");
    refused(
        &bascule(&["config", "check", &kind]),
        &["kind.toml", "memory.bodies_bytes_max"],
    );
    refused(
        &bascule(&["config", "check", "/nowhere/at/all.toml"]),
        &["/nowhere/at/all.toml"],
    );
    refused(
        &bascule(&["config", "check", "--set", "limits.message_bytes_max=0"]),
        &["limits.message_bytes_max = 0 is out of bounds"],
    );
}

#[test]
fn an_unknown_command_is_exit_code_2() {
    for arguments in [
        &["serf"][..],
        &[],
        &["config"],
        &["config", "check", "--sett", "a=b"],
    ] {
        assert_eq!(bascule(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_hash_is_accepted_as_password_hash() {
    let output = with_stdin(&["user", "hash"], "s3cret\n");
    let hash = stdout(&output);
    assert!(
        output.status.success() && hash.starts_with("$argon2id$v=19$"),
        "{hash}"
    );
    let again = stdout(&with_stdin(&["user", "hash"], "s3cret\n"));
    assert_ne!(hash, again, "the salt is random");
    let set = format!("users=[{{name='ada',password_hash='{}'}}]", hash.trim());
    assert!(
        bascule(&["config", "check", "--set", &set])
            .status
            .success()
    );
    refused(&with_stdin(&["user", "hash"], "\n"), &["empty"]);
}

#[test]
fn completions_are_printed() {
    for shell in ["bash", "zsh", "fish"] {
        let output = bascule(&["completions", shell]);
        assert!(
            output.status.success() && stdout(&output).contains("bascule"),
            "{shell}"
        );
    }
}

#[test]
fn a_client_says_why_it_failed() {
    // Bound and closed again: nobody listens there.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = closed.local_addr().expect("is bound");
    drop(closed);
    for scheme in ["mqtt", "amqp", "stomp"] {
        let url = format!("{scheme}://{address}/queue/x");
        for command in [&["pub", "-m", "x", "--url"][..], &["sub", "--url"]] {
            let output = bascule(&[command, &[&url]].concat());
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{stderr}");
            assert!(
                stderr.starts_with("bascule: failed to connect to 127.0.0.1:"),
                "{stderr}"
            );
            assert_eq!(stderr.lines().count(), 1, "{stderr}");
        }
    }
    for url in ["nonsense", "http://x/", "mqtts://x/y"] {
        assert_eq!(
            bascule(&["pub", "-m", "x", "--url", url]).status.code(),
            Some(2),
            "{url}"
        );
    }
    refused(
        &bascule(&[
            "pub",
            "-f",
            "/nowhere/at/all",
            "--url",
            "mqtt://127.0.0.1/x",
        ]),
        &["/nowhere/at/all"],
    );
}

#[test]
fn a_directory_that_is_no_journal_is_exit_code_2() {
    for command in ["verify", "dump"] {
        let output = bascule(&["journal", command, "/nowhere/at/all"]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(
            stderr.contains("/nowhere/at/all") && stderr.lines().count() == 1,
            "{stderr}"
        );
    }
}
