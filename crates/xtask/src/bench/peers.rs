//! Other brokers, as far as they are installed: started on loopback ports with a scratch directory and a configuration that we
//! write, measured by their process group, and ended by it. Nothing is installed, and nothing ends that was not started here.
//! One is a library of Rust: a program around it is built when it is asked for by name.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpStream},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::{cargo, load::server::free, root, run_with, target, tied};

/// What ActiveMQ's MQTT rests on.
const MQTT_CODEC: &str = "/usr/share/java/mqtt-client.jar";
/// How long a broker may take to open its doors.
const PATIENCE: Duration = Duration::from_secs(90);

/// A broker that we know how to start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Mosquitto,
    RabbitMq,
    Nats,
    ActiveMq,
    Rumqttd,
}

impl Kind {
    pub(super) const ALL: [Self; 5] = [
        Self::Mosquitto,
        Self::RabbitMq,
        Self::Nats,
        Self::ActiveMq,
        Self::Rumqttd,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Mosquitto => "Mosquitto",
            Self::RabbitMq => "RabbitMQ",
            Self::Nats => "NATS",
            Self::ActiveMq => "ActiveMQ",
            Self::Rumqttd => "rumqttd",
        }
    }

    /// What must be there.
    fn program(self) -> &'static str {
        match self {
            Self::Mosquitto => "mosquitto",
            Self::RabbitMq => "rabbitmq-server",
            Self::Nats => "nats-server",
            Self::ActiveMq => "activemq.jar",
            Self::Rumqttd => "rumqttd-baseline",
        }
    }

    /// Whether it is built here, and so not one of those that may be installed.
    pub(super) fn is_built(self) -> bool {
        self == Self::Rumqttd
    }

    /// Where its program is, if it is installed; one that is built is built here.
    pub(super) fn program_path(self) -> anyhow::Result<Option<PathBuf>> {
        if !self.is_built() {
            return Ok(self.installed());
        }
        let folder = target().join("baseline");
        run_with(
            cargo()
                .args(["build", "--locked", "--release", "--manifest-path"])
                .arg(root().join("crates/xtask/baseline/rumqttd/Cargo.toml"))
                .arg("--target-dir")
                .arg(&folder),
        )?;
        Ok(Some(folder.join("release").join(self.program())))
    }

    fn installed(self) -> Option<PathBuf> {
        let path = std::env::var("PATH").unwrap_or_default();
        // Debian's own /usr/sbin/rabbitmq-server changes the user; the script behind it does not.
        let usual = "/usr/lib/rabbitmq/bin:/usr/share/activemq/bin:/usr/sbin:/usr/local/sbin";
        usual
            .split(':')
            .chain(path.split(':'))
            .map(|folder| Path::new(folder).join(self.program()))
            .find(|file| file.is_file())
    }

    /// What it says of itself.
    pub(super) fn version(self, program: &Path) -> String {
        let output = match self {
            Self::Mosquitto => Command::new(program).arg("-h").output(),
            Self::Nats => Command::new(program).arg("--version").output(),
            Self::Rumqttd => return locked("rumqttd"),
            Self::RabbitMq | Self::ActiveMq => {
                let package = match self {
                    Self::RabbitMq => "rabbitmq-server",
                    _ => "activemq",
                };
                Command::new("dpkg-query")
                    .args(["-W", "-f", "${Version}", package])
                    .output()
            }
        };
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        text.unwrap_or_default()
            .split_whitespace()
            .map(|word| word.trim_start_matches('v'))
            .find(|word| word.starts_with(|first: char| first.is_ascii_digit()))
            .unwrap_or("unknown version")
            .to_owned()
    }
}

/// The version of a library that is built in.
fn locked(name: &str) -> String {
    let lock = root().join("crates/xtask/baseline/rumqttd/Cargo.lock");
    let text = std::fs::read_to_string(lock).unwrap_or_default();
    let mut lines = text
        .lines()
        .skip_while(|line| *line != format!("name = \"{name}\""));
    lines
        .nth(1)
        .and_then(|line| line.split('"').nth(1))
        .unwrap_or("unknown version")
        .to_owned()
}

/// One that runs, ended when dropped.
pub(super) struct Peer {
    /// The broker itself, and what it needs beside it. Their inputs stay open: a broker that reads its own ends with it.
    children: Vec<Child>,
    data: PathBuf,
    pub(super) mqtt: SocketAddr,
    pub(super) amqp: SocketAddr,
    pub(super) stomp: SocketAddr,
}

impl Peer {
    /// Starts it in `data`, which is emptied first, and waits for its doors.
    pub(super) fn start(kind: Kind, program: &Path, data: &Path) -> anyhow::Result<Self> {
        if data.exists() {
            std::fs::remove_dir_all(data)?;
        }
        std::fs::create_dir_all(data)?;
        let data = data.canonicalize()?;
        let (mqtt, amqp, stomp) = (free()?, free()?, free()?);
        let mut peer = Self {
            children: Vec::new(),
            data: data.clone(),
            mqtt,
            amqp,
            stomp,
        };
        let doors: &[SocketAddr] = match kind {
            Kind::Mosquitto => {
                peer.mosquitto(program)?;
                &[mqtt]
            }
            Kind::Nats => {
                peer.nats(program)?;
                &[mqtt]
            }
            Kind::Rumqttd => {
                peer.spawn(tied::command(program).arg(mqtt.to_string()))?;
                &[mqtt]
            }
            Kind::ActiveMq => {
                if peer.activemq(program)? {
                    &[mqtt, stomp]
                } else {
                    &[stomp]
                }
            }
            Kind::RabbitMq => {
                peer.rabbitmq(program)?;
                &[mqtt, amqp, stomp]
            }
        };
        for door in doors {
            let began = Instant::now();
            while TcpStream::connect(door).is_err() {
                let ended = peer.children[0].try_wait()?;
                if ended.is_some() || began.elapsed() > PATIENCE {
                    let said = std::fs::read_to_string(data.join("said")).unwrap_or_default();
                    bail!("{} does not serve {door}: {said}", kind.name());
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        Ok(peer)
    }

    /// The id of the broker's process group.
    pub(super) fn group(&self) -> u32 {
        self.children[0].id()
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.data.join(name);
        std::fs::File::create(&path)?.write_all(text.as_bytes())?;
        Ok(path)
    }

    fn spawn(&mut self, command: &mut Command) -> anyhow::Result<()> {
        let said = std::fs::File::create(self.data.join("said"))?;
        let child = command
            .current_dir(&self.data)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(said.try_clone()?)
            .stderr(said)
            .spawn()
            .with_context(|| format!("failed to start {command:?}"))?;
        self.children.insert(0, child);
        Ok(())
    }

    fn mosquitto(&mut self, program: &Path) -> anyhow::Result<()> {
        let text = format!(
            "listener {} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {}/\n\
             max_queued_messages 0\nmax_inflight_messages 1000\nset_tcp_nodelay true\nlog_type error\n{}",
            self.mqtt.port(),
            self.data.display(),
            // As root it would become another user, who may not write there.
            if rustix::process::getuid().is_root() {
                "user root\n"
            } else {
                ""
            }
        );
        let file = self.write("mosquitto.conf", &text)?;
        self.spawn(tied::command(program).arg("-c").arg(file))
    }

    fn nats(&mut self, program: &Path) -> anyhow::Result<()> {
        let text = format!(
            "listen: \"{}\"\nserver_name: bench\njetstream {{ store_dir: \"{}\" }}\n\
             mqtt {{ listen: \"{}\", max_ack_pending: 1000 }}\n",
            self.amqp,
            self.data.join("store").display(),
            self.mqtt
        );
        let file = self.write("nats.conf", &text)?;
        self.spawn(tied::command(program).arg("-c").arg(file))
    }

    /// Whether it has an MQTT door. The codec of that is a library of its own, which Debian's package does not ask for: without it
    /// the door opens, and every connection ends.
    fn activemq(&mut self, program: &Path) -> anyhow::Result<bool> {
        let lib = program
            .ancestors()
            .nth(2)
            .context("bin lies beside lib")?
            .join("lib");
        let codec = Path::new(MQTT_CODEC);
        let classes = format!("{0}/*:{0}/optional/*:{MQTT_CODEC}", lib.display());
        let mqtt = match codec.exists() {
            true => format!(",mqtt://{}", self.mqtt),
            false => {
                println!("ActiveMQ without {MQTT_CODEC} (libmqtt-client-java) has no MQTT");
                String::new()
            }
        };
        let broker = format!(
            "broker:(stomp://{}{mqtt})?persistent=true&useJmx=false&dataDirectory={}",
            self.stomp,
            self.data.display()
        );
        let java = ["/usr/bin/java", "/usr/local/bin/java"]
            .into_iter()
            .find(|java| Path::new(java).exists())
            .context("java is not installed")?;
        self.spawn(tied::command(java).args([
            "-Xmx1g",
            "-cp",
            &classes,
            "org.apache.activemq.console.command.ShellCommand",
            "start",
            &broker,
        ]))?;
        Ok(codec.exists())
    }

    fn rabbitmq(&mut self, program: &Path) -> anyhow::Result<()> {
        let (names, nodes) = (free()?.port().to_string(), free()?.port().to_string());
        let epmd = "/usr/bin/epmd";
        self.spawn(tied::command(epmd).args(["-port", &names, "-address", "127.0.0.1"]))?;
        let settings = self.write(
            "rabbitmq.conf",
            &format!(
                "listeners.tcp.1 = {}\nstomp.listeners.tcp.1 = {}\nmqtt.listeners.tcp.1 = {}\n\
                 mqtt.allow_anonymous = true\nmqtt.prefetch = 1000\n",
                self.amqp, self.stomp, self.mqtt
            ),
        )?;
        let plugins = self.write("plugins", "[rabbitmq_mqtt,rabbitmq_stomp].\n")?;
        let data = self.data.clone();
        self.spawn(
            tied::command(program)
                .env("HOME", &data)
                .env("ERL_EPMD_PORT", names)
                .env("RABBITMQ_DIST_PORT", nodes)
                .env("RABBITMQ_NODENAME", "bascule-bench@localhost")
                .env("RABBITMQ_MNESIA_BASE", data.join("mnesia"))
                .env("RABBITMQ_LOG_BASE", data.join("log"))
                .env("RABBITMQ_CONFIG_FILE", settings)
                .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
                .env("RABBITMQ_ENABLED_PLUGINS_FILE", plugins)
                .env(
                    "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                    "-kernel inet_dist_use_interface {127,0,0,1}",
                )
                // The script then becomes the broker, which reads the input that we hold open.
                .env("RABBITMQ_ALLOW_INPUT", "1"),
        )
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        for child in &mut self.children {
            let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            if let Some(group) = group {
                kill_process_group(group, Signal::KILL).ok();
            }
            child.wait().ok();
        }
        std::fs::remove_dir_all(&self.data).ok();
    }
}

/// CPU time in microseconds, user and system, and resident bytes of a process group, or of one process.
pub(super) fn used(id: u32) -> anyhow::Result<(u64, u64)> {
    let (mut ticks, mut pages) = (0, 0);
    for entry in std::fs::read_dir("/proc")? {
        let Ok(stat) = std::fs::read_to_string(entry?.path().join("stat")) else {
            continue;
        };
        let pid: u32 = stat
            .split_whitespace()
            .next()
            .context("stat begins with an id")?
            .parse()?;
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .context("stat names the program")?
            .1
            .split_whitespace()
            .collect();
        if pid == id || fields[2].parse::<u32>()? == id {
            ticks += fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
            pages += fields[21].parse::<u64>()?;
        }
    }
    Ok((ticks * 10_000, pages * 4096))
}
