//! Python, Node and Go: looked for, and filled through their own package clients.
//!
//! Python packages go into `conformance/.venv`, Node's into `conformance/node_modules`, archives into the target folder;
//! versions are pinned in `conformance/requirements.txt` and `conformance/package.json`. The packages that only suites of
//! Amazon's APIs need are many: they are in the same files and folders of `conformance/aws`.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, bail};

use super::{Bench, Origin};
use crate::{root, run_with, target};

/// What a suite needs and this machine does not have.
#[derive(Debug)]
pub(super) struct Missing(String);

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Missing {}

fn missing(what: impl Into<String>) -> anyhow::Error {
    Missing(what.into()).into()
}

/// Whether a program is there and starts.
fn have(program: &str, argument: &str) -> bool {
    Command::new(program)
        .arg(argument)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The folder of a suite's sources, fetched where a registry has them.
pub(super) fn sources(bench: &Bench, origin: &Origin) -> anyhow::Result<PathBuf> {
    match origin {
        Origin::Repository { folder, url, at } => {
            let Some(sources) = &bench.sources else {
                return Err(missing(format!(
                    "it needs its sources: git clone {url} (at {at}) into DIR/{folder}, then --sources DIR"
                )));
            };
            let path = sources.join(folder);
            if !path.is_dir() {
                return Err(missing(format!(
                    "{} is not there: git clone {url} (at {at}) there",
                    path.display()
                )));
            }
            Ok(path)
        }
        Origin::Npm(package) => Ok(node_modules()?.join(package)),
        Origin::Pip { package, version } => archive(package, version),
        Origin::Go { module, version } => go_module(bench, module, version),
    }
}

/// The Python of the virtual environment, made on first use.
pub(super) fn python() -> anyhow::Result<PathBuf> {
    python_of(&root().join("conformance"))
}

/// The same, with what the suites of Amazon's APIs need.
pub(super) fn aws_python() -> anyhow::Result<PathBuf> {
    python_of(&root().join("conformance/aws"))
}

fn python_of(place: &Path) -> anyhow::Result<PathBuf> {
    let folder = place.join(".venv");
    let python = folder.join("bin/python");
    let requirements = place.join("requirements.txt");
    if is_installed(&folder, &requirements) {
        return Ok(python);
    }
    if !python.exists() {
        if !have("python3", "--version") {
            return Err(missing(
                "python3 was not found; it needs Python 3.9 or newer",
            ));
        }
        let made = Command::new("python3")
            .args(["-m", "venv"])
            .arg(&folder)
            .status();
        if !made.is_ok_and(|status| status.success()) {
            return Err(missing("python3 has no venv module (Debian: python3-venv)"));
        }
    }
    run_with(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--requirement"])
            .arg(&requirements),
    )?;
    installed(&folder, &requirements)?;
    Ok(python)
}

/// The folder of the Node packages, filled on first use.
pub(super) fn node_modules() -> anyhow::Result<PathBuf> {
    node_modules_of(&root().join("conformance"))
}

/// The same, with what the suites of Amazon's APIs need.
pub(super) fn aws_node_modules() -> anyhow::Result<PathBuf> {
    node_modules_of(&root().join("conformance/aws"))
}

fn node_modules_of(place: &Path) -> anyhow::Result<PathBuf> {
    if !have("node", "--version") || !have("npm", "--version") {
        return Err(missing(
            "node or npm was not found; it needs Node 20 or newer",
        ));
    }
    let folder = place.join("node_modules");
    let wanted = place.join("package.json");
    if !is_installed(&folder, &wanted) {
        run_with(
            Command::new("npm")
                .args(["install", "--no-audit", "--no-fund", "--no-package-lock"])
                .args(["--loglevel", "error", "--ignore-scripts"])
                .current_dir(place),
        )?;
        installed(&folder, &wanted)?;
    }
    Ok(folder)
}

/// Whether what a file asks for is what a folder was filled from.
fn is_installed(folder: &Path, wanted: &Path) -> bool {
    let installed = std::fs::read(folder.join("installed.txt"));
    installed.is_ok_and(|installed| std::fs::read(wanted).is_ok_and(|wanted| wanted == installed))
}

fn installed(folder: &Path, wanted: &Path) -> anyhow::Result<()> {
    std::fs::copy(wanted, folder.join("installed.txt"))?;
    Ok(())
}

/// A Python package's source archive, unpacked.
fn archive(package: &str, version: &str) -> anyhow::Result<PathBuf> {
    let python = python()?;
    let folder = scratch("archives")?;
    let unpacked = folder.join(format!("{package}-{version}"));
    if !unpacked.is_dir() {
        run_with(
            Command::new(&python)
                .args(["-m", "pip", "download", "--quiet", "--no-deps"])
                .args(["--no-binary", ":all:", "--dest"])
                .arg(&folder)
                .arg(format!("{package}=={version}")),
        )?;
        run_with(
            Command::new(&python)
                .args(["-m", "tarfile", "-e"])
                .arg(folder.join(format!("{package}-{version}.tar.gz")))
                .arg(&folder),
        )?;
    }
    Ok(unpacked)
}

/// A Go module: the checkout that was given, else what the Go tool fetches.
fn go_module(bench: &Bench, module: &str, version: &str) -> anyhow::Result<PathBuf> {
    if !have("go", "version") {
        return Err(missing("go was not found; it needs Go 1.20 or newer"));
    }
    let folder = module.rsplit('/').next().unwrap_or(module);
    if let Some(path) = bench.sources.as_ref().map(|sources| sources.join(folder))
        && path.is_dir()
    {
        return Ok(path);
    }
    let output = Command::new("go")
        .args(["mod", "download", "-json", &format!("{module}@{version}")])
        .current_dir(scratch("go")?)
        .output()?;
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout)
        .context("failed to read what `go mod download` answered")?;
    let Some(path) = answer["Dir"].as_str() else {
        bail!("failed to download {module}@{version}: {}", answer["Error"]);
    };
    Ok(PathBuf::from(path))
}

/// A folder of ours below the target folder.
pub(super) fn scratch(name: &str) -> anyhow::Result<PathBuf> {
    let folder = target().join("conformance").join(name);
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}
