//! What figures were taken on, and what else it was doing.

use std::process::Command;

/// The load of the last minute and of the last five.
pub(crate) fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace()
        .take(2)
        .collect::<Vec<_>>()
        .join(" ")
}

/// The release of the kernel.
pub(crate) fn kernel() -> anyhow::Result<String> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(release.trim().to_owned())
}

/// Processors, of what kind.
pub(crate) fn machine() -> anyhow::Result<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = text
        .lines()
        .find(|line| line.starts_with("model name"))
        .and_then(|line| line.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    let file_system = Command::new("stat")
        .args(["-f", "-c", "%T", "target"])
        .output()?;
    let file_system = String::from_utf8_lossy(&file_system.stdout);
    let threads = std::thread::available_parallelism()?;
    Ok(format!("{threads} x {model}, {}", file_system.trim()))
}
