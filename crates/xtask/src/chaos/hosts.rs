//! Two hosts on one machine: a network namespace for each node, and a disk that is theirs alone. Needs root.
//!
//! ```text
//!  clients ---- 10.99.N.1 | 10.99.N.2 ---- node N's doors          the link that is cut
//!  we      ---- 10.98.N.1 | 10.98.N.2 ---- its HTTP listener       never cut, so that we see what it says of itself
//!  both    ---- an ext4 file system of its own on a loop device: the journal
//! ```
//!
//! We run in namespaces of our own too: however we end, links and mounts go with us.
//!
//! What tells these from two machines: the death of a process is noticed at once, and the page cache is shared.

use std::{
    ffi::OsStr,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};

use crate::tied;

/// The disk. It is nearly full while less than `free_bytes_min` is free.
const DISK_BYTES: u64 = 320 << 20;
/// What is set, so that a disk of this size is enough, and clients may come from elsewhere.
const SETTINGS: &str = r#"
[journal]
segment_bytes = 4194304
snapshot_every_bytes = 8388608
reserve_bytes = 16777216
free_bytes_min = 50331648
stream_file_bytes = 4194304

[auth.anonymous]
loopback_only = false

[[aws.keys]]
id = "guest"
secret = "guest"
user = "guest"

[[users]]
name = "guest"
administrator = true
"#;
/// What the controller of block devices limits for a group: what it writes. What it reads is let through, since a page that one
/// node waits for is locked for the other one too: on two machines each has pages of its own.
const LIMIT: &str = "blkio.throttle.write_bps_device";
/// Next to nothing: one block a minute. Not quite nothing, so that it passes, should we be killed meanwhile: a process that waits
/// for a disk cannot be.
const STALLED_BYTES_PER_S: u64 = 64;
const CONTROLLER: &str = "/sys/fs/cgroup/blkio";
/// An address that no interface has.
const NOBODY: &str = "02:00:00:00:00:99";

/// Which way nothing gets through.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Way {
    Both,
    ToNode,
    FromNode,
}

impl Way {
    pub(crate) const ALL: [Self; 3] = [Self::Both, Self::ToNode, Self::FromNode];
}

/// The disk of both.
pub(crate) struct Disk {
    mount: PathBuf,
    /// Of the loop device: "7:0".
    device: String,
}

/// Where one node runs.
#[derive(Clone)]
pub(crate) struct Host {
    name: &'static str,
    number: u8,
    config: PathBuf,
    /// The group that its disk can be taken from.
    group: PathBuf,
}

fn tool(program: &str, arguments: &[impl AsRef<OsStr>]) -> anyhow::Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("failed to start {program}"))?;
    ensure!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}

/// The address in what `ip link show` says.
fn ether(shown: &str) -> anyhow::Result<String> {
    let mut words = shown.split(' ').skip_while(|word| *word != "link/ether");
    Ok(words.nth(1).context("a link has an address")?.to_owned())
}

fn words(program: &str, line: &str) -> anyhow::Result<String> {
    tool(program, &line.split(' ').collect::<Vec<_>>())
}

/// Becomes the same command in namespaces of its own.
pub(crate) fn enter() -> anyhow::Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "two hosts need root: for namespaces, a loop device and a control group"
    );
    let error = Command::new("unshare")
        .args(["--net", "--mount", "--"])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .arg("--inside")
        .exec();
    Err(error).context("failed to start unshare")
}

/// Makes both, and the settings of their nodes, in that directory.
pub(crate) fn make(
    directory: &Path,
    names: [&'static str; 2],
    binary: &Path,
) -> anyhow::Result<(Disk, [Host; 2])> {
    ensure!(
        Path::new(CONTROLLER).is_dir(),
        "no controller of block devices at {CONTROLLER} (control groups of version 1)"
    );
    words("ip", "link set lo up")?;
    // The names of namespaces, seen by us alone.
    words("mount", "-t tmpfs tmpfs /run")?;
    let config = directory.join("hosts.toml");
    std::fs::write(&config, settings(binary)?)?;
    let mut number = 0;
    let hosts = names.map(|name| {
        number += 1;
        let group = format!("bascule-chaos-{}-{name}", std::process::id());
        Host {
            name,
            number,
            config: config.clone(),
            group: Path::new(CONTROLLER).join(group),
        }
    });
    for host in &hosts {
        host.make()?;
    }
    Ok((Disk::make(directory)?, hosts))
}

fn settings(binary: &Path) -> anyhow::Result<String> {
    let mut hash = Command::new(binary)
        .args(["user", "hash"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    use std::io::Write as _;
    hash.stdin
        .take()
        .context("stdin is piped")?
        .write_all(b"guest\n")?;
    let hash = String::from_utf8(hash.wait_with_output()?.stdout)?;
    Ok(format!(
        "{SETTINGS}password_hash = \"{}\"\n",
        hash.trim_end()
    ))
}

impl Disk {
    fn make(directory: &Path) -> anyhow::Result<Self> {
        let (image, mount) = (directory.join("disk.img"), directory.join("disk"));
        std::fs::File::create(&image)?.set_len(DISK_BYTES)?;
        tool(
            "mkfs.ext4",
            &[OsStr::new("-q"), "-m0".as_ref(), image.as_os_str()],
        )?;
        std::fs::create_dir(&mount)?;
        let loops = [
            "-o".as_ref(),
            "loop".as_ref(),
            image.as_os_str(),
            mount.as_os_str(),
        ];
        tool("mount", &loops)?;
        let source = ["-no", "SOURCE", "--mountpoint"].map(OsStr::new);
        let source = tool("findmnt", &[&source[..], &[mount.as_os_str()]].concat())?;
        let name = source.rsplit('/').next().context("a device has a name")?;
        let device = std::fs::read_to_string(format!("/sys/class/block/{name}/dev"))?;
        Ok(Self {
            mount,
            device: device.trim_end().to_owned(),
        })
    }

    /// Where the journal is.
    pub(crate) fn directory(&self) -> &Path {
        &self.mount
    }

    fn strangers_file(&self) -> PathBuf {
        self.mount.join("stranger")
    }

    /// Somebody else takes all that is free.
    pub(crate) fn take_all(&self) -> anyhow::Result<()> {
        use std::io::{ErrorKind, Write as _};
        let mut file = std::fs::File::create(self.strangers_file())?;
        // By and by, as the nodes let go of what they hold back or the file system of what it had promised.
        for len in [1 << 20, 4096] {
            loop {
                match file
                    .write_all(&vec![b'.'; len])
                    .and_then(|()| file.sync_data())
                {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// And gives it back.
    pub(crate) fn give_back(&self) -> anyhow::Result<()> {
        Ok(std::fs::remove_file(self.strangers_file())?)
    }
}

impl Host {
    fn make(&self) -> anyhow::Result<()> {
        let (name, n) = (self.name, self.number);
        words("ip", &format!("netns add {name}"))?;
        for (link, net) in [("door", 99), ("look", 98)] {
            let near = format!("{link}-{name}");
            words(
                "ip",
                &format!("link add {near} type veth peer name {link} netns {name}"),
            )?;
            words("ip", &format!("address add 10.{net}.{n}.1/30 dev {near}"))?;
            words("ip", &format!("link set {near} up"))?;
            self.ip(&format!("address add 10.{net}.{n}.2/30 dev {link}"))?;
            self.ip(&format!("link set {link} up"))?;
        }
        self.ip("link set lo up")?;
        std::fs::create_dir_all(&self.group)?;
        Ok(())
    }

    fn ip(&self, line: &str) -> anyhow::Result<String> {
        words("ip", &format!("-netns {} {line}", self.name))
    }

    /// Where it listens for clients, and where we ask it.
    pub(crate) fn address(&self, for_clients: bool) -> [u8; 4] {
        [10, if for_clients { 99 } else { 98 }, self.number, 2]
    }

    /// What starts the program here.
    pub(crate) fn command(&self, binary: &Path) -> Command {
        let mut command = tied::command("ip");
        command.args(["netns", "exec", self.name]).arg(binary);
        command
    }

    /// The configuration file of its node.
    pub(crate) fn config(&self) -> &Path {
        &self.config
    }

    /// Drops what clients send to the node, or it to them, or both.
    pub(crate) fn cut(&self, way: Way) -> anyhow::Result<()> {
        if way != Way::FromNode {
            self.send_to_node(NOBODY)?;
        }
        if way != Way::ToNode {
            self.send_to_clients(NOBODY)?;
        }
        Ok(())
    }

    /// Undoes it.
    pub(crate) fn join(&self) -> anyhow::Result<()> {
        self.send_to_node(&ether(&self.ip("-oneline link show door")?)?)?;
        let near = words("ip", &format!("-oneline link show door-{}", self.name))?;
        self.send_to_clients(&ether(&near)?)
    }

    fn send_to_node(&self, ether: &str) -> anyhow::Result<()> {
        let (n, name) = (self.number, self.name);
        let line =
            format!("neighbour replace 10.99.{n}.2 lladdr {ether} dev door-{name} nud permanent");
        words("ip", &line).map(drop)
    }

    fn send_to_clients(&self, ether: &str) -> anyhow::Result<()> {
        let n = self.number;
        let line = format!("neighbour replace 10.99.{n}.1 lladdr {ether} dev door nud permanent");
        self.ip(&line).map(drop)
    }

    /// From here on nothing that this process writes to that disk gets done.
    pub(crate) fn stall(&self, disk: &Disk, process: u32) -> anyhow::Result<()> {
        let limit = format!("{} {STALLED_BYTES_PER_S}", disk.device);
        std::fs::write(self.group.join(LIMIT), limit)?;
        Ok(std::fs::write(
            self.group.join("cgroup.procs"),
            process.to_string(),
        )?)
    }

    /// It goes on.
    pub(crate) fn unstall(&self, disk: &Disk) -> anyhow::Result<()> {
        let limit = format!("{} 0", disk.device);
        Ok(std::fs::write(self.group.join(LIMIT), limit)?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // If it is still in use it goes with our namespace.
        tool("umount", &[&self.mount]).ok();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Only an empty group goes: the last of the clones removes it, when its node has ended.
        std::fs::remove_dir(&self.group).ok();
    }
}
