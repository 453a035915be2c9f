//! How a command fails: with which exit code, and with one line.

use std::{fmt, process::ExitCode};

/// A failed command.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    error: anyhow::Error,
}

impl Failure {
    /// The command line, the configuration or the start-up is wrong: exit code 2.
    pub(crate) fn setup(error: impl Into<anyhow::Error>) -> Self {
        Self {
            code: 2,
            error: error.into(),
        }
    }

    /// The work failed: exit code 1.
    pub(crate) fn work(error: impl Into<anyhow::Error>) -> Self {
        Self {
            code: 1,
            error: error.into(),
        }
    }

    /// Says so on stderr. A closed pipe on stdout (`bascule sub ... | head`) is not worth a word.
    pub(crate) fn report(&self) -> ExitCode {
        let closed_pipe = self.error.chain().any(|cause| {
            cause
                .downcast_ref::<std::io::Error>()
                .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
        });
        if closed_pipe && self.code == 1 {
            return ExitCode::SUCCESS;
        }
        eprintln!("bascule: {self}");
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Some errors say themselves what caused them.
        let mut line = String::new();
        for cause in self.error.chain().map(ToString::to_string) {
            if line.is_empty() {
                line = cause;
            } else if !line.ends_with(&cause) {
                line.push_str(": ");
                line.push_str(&cause);
            }
        }
        let words: Vec<&str> = line.lines().map(str::trim).collect();
        f.write_str(words.join(" ").trim())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn a_cause_is_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("failed to create x: {source}")]
        struct Telling {
            source: std::io::Error,
        }
        let source = std::io::Error::other("no\n  room");
        let telling = Failure::setup(Telling { source });
        assert_eq!(telling.to_string(), "failed to create x: no room");
        let silent: anyhow::Result<()> = Err(std::io::Error::other("no room")).context("failed");
        let silent = Failure::setup(silent.expect_err("it failed"));
        assert_eq!(silent.to_string(), "failed: no room");
    }
}
