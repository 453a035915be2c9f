//! What the gate holds, in the order in which it fails fastest.

use std::process::Command;

use crate::{conformance, run as shell, run_with, tidy};

pub(crate) fn run() -> anyhow::Result<()> {
    shell("cargo", &["fmt", "--all", "--check"])?;
    tidy::run()?;
    shell(
        "cargo",
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ],
    )?;
    run_with(
        Command::new("cargo")
            .args([
                "doc",
                "--workspace",
                "--no-deps",
                "--document-private-items",
            ])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )?;
    // More cases of the property and crash tests than an ordinary `cargo test` runs: the fuzz smoke and the hundred seeds.
    run_with(
        Command::new("cargo")
            .args([
                "test",
                "--workspace",
                "--",
                "fuzz",
                "random",
                "seed",
                "crash",
                "model",
            ])
            .env("BASCULE_SEEDS", "100")
            .env("PROPTEST_CASES", "1000"),
    )?;
    shell("cargo", &["build", "--release", "--package", "bascule"])?;
    conformance::run(&[])
}
