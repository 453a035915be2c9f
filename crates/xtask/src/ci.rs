//! What the gate holds, in the order in which it fails fastest.

use crate::{cargo, chaos, conformance, counts, fuzz, run as shell, run_with, sim, tidy};

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
        cargo()
            .args([
                "doc",
                "--workspace",
                "--no-deps",
                "--document-private-items",
            ])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )?;
    // The tests whose inputs are random, with more cases than an ordinary `cargo test` runs: bytes against the codecs,
    // histories against the core and its model, crashes and interleavings against the journal. Of the whole workspace, as those
    // before: without one of its members, others' crates have other features and are built once more.
    run_with(
        cargo()
            .args([
                "test",
                "--workspace",
                "--",
                "properties",
                "random",
                "crash",
                "interleaved",
            ])
            .env("BASCULE_SEEDS", "100")
            .env("PROPTEST_CASES", "1000"),
    )?;
    sim::briefly()?;
    counts::all()?;
    fuzz::briefly()?;
    chaos::briefly()?;
    conformance::quick()
}
