//! Other people's clients against our server. They are Python packages, installed into a virtual environment of their own.

use std::{path::Path, process::Command};

use anyhow::{Context, bail};

use crate::{root, run_with};

/// Suites that run in minutes, and with which arguments.
const QUICK: &[(&str, &[&str])] = &[("crossings", &[]), ("kill9", &["5", "0.6"])];
/// The others, at their full length.
const LONG: &[(&str, &[&str])] = &[("kill9", &["50"])];

pub(crate) fn run(suites: &[String]) -> anyhow::Result<()> {
    let python = environment()?;
    let binary = root().join("target/release/bascule");
    run_with(Command::new("cargo").args(["build", "--release", "--package", "bascule"]))?;
    let chosen: Vec<(&str, &[&str])> = if suites.is_empty() {
        QUICK.to_vec()
    } else {
        let mut chosen = Vec::new();
        for suite in suites {
            let Some(known) = LONG.iter().chain(QUICK).find(|(name, _)| name == suite) else {
                bail!("no suite '{suite}'; there are crossings and kill9");
            };
            chosen.push(*known);
        }
        chosen
    };
    for (name, arguments) in chosen {
        let script = root().join("conformance").join(format!("{name}.py"));
        run_with(
            Command::new(&python)
                .arg(script)
                .args(arguments)
                .env("BASCULE", &binary),
        )?;
    }
    Ok(())
}

/// The Python of the virtual environment, made on first use.
fn environment() -> anyhow::Result<String> {
    let folder = root().join("conformance/.venv");
    let python = folder.join("bin/python");
    let requirements = root().join("conformance/requirements.txt");
    let stamp = folder.join("installed.txt");
    let wanted = std::fs::read_to_string(&requirements)?;
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python.display().to_string());
    }
    if !Path::new(&python).exists() {
        let made = Command::new("python3")
            .args(["-m", "venv"])
            .arg(&folder)
            .status();
        if !made
            .context("conformance needs python3 with its venv module; it was not found")?
            .success()
        {
            bail!(
                "failed to make a virtual environment in {}",
                folder.display()
            );
        }
    }
    run_with(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--requirement"])
            .arg(&requirements),
    )?;
    std::fs::write(stamp, wanted)?;
    Ok(python.display().to_string())
}
