//! A server process under load or under test: started on free ports, watched, killed.

use std::{
    io::{BufRead, BufReader, Lines, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use crate::{binary, tied};

/// How often a server is started, each time on other ports, before it is given up.
const ATTEMPTS: u32 = 5;

/// One server process, ended when dropped.
pub(crate) struct Server {
    child: Child,
    binary: PathBuf,
    pub(crate) data: PathBuf,
    pub(crate) mqtt: SocketAddr,
    pub(crate) amqp: SocketAddr,
    pub(crate) stomp: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) aws: SocketAddr,
    arguments: Vec<String>,
    /// From start to the word `ready`.
    pub(crate) started_in: Duration,
}

/// A port that nobody listens on, for now.
pub(crate) fn free() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

impl Server {
    /// Starts a release server in `data`, which is emptied first.
    pub(crate) fn fresh(data: &Path, settings: &[&str]) -> anyhow::Result<Self> {
        let arguments = settings
            .iter()
            .flat_map(|setting| ["--set".to_owned(), (*setting).to_owned()])
            .collect();
        Self::start(&binary(true), data, arguments)
    }

    /// Starts that program in `data`, which is emptied first, with more arguments for `serve`.
    pub(crate) fn start(
        binary: &Path,
        data: &Path,
        arguments: Vec<String>,
    ) -> anyhow::Result<Self> {
        let mut attempts = 1;
        loop {
            if data.exists() {
                std::fs::remove_dir_all(data)?;
            }
            let ports @ [mqtt, amqp, stomp, http, aws] =
                [free()?, free()?, free()?, free()?, free()?];
            let (child, started_in, _) = match spawn(binary, data, ports, &arguments, "ready") {
                Ok(started) => started,
                // Between our look and its bind, a port may be taken by another process or an outgoing connection.
                Err(_) if attempts < ATTEMPTS => {
                    attempts += 1;
                    continue;
                }
                Err(error) => return Err(error),
            };
            return Ok(Self {
                child,
                binary: binary.to_owned(),
                data: data.to_owned(),
                mqtt,
                amqp,
                stomp,
                http,
                aws,
                arguments,
                started_in,
            });
        }
    }

    /// kill -9, then the same again.
    pub(crate) fn kill_and_restart(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        let (child, started_in, _) = spawn(
            &self.binary,
            &self.data,
            [self.mqtt, self.amqp, self.stomp, self.http, self.aws],
            &self.arguments,
            "ready",
        )?;
        self.child = child;
        self.started_in = started_in;
        Ok(())
    }

    /// Another process on the same journal, which stands by until it is dropped.
    pub(crate) fn stand_by(&self) -> anyhow::Result<Standby> {
        let ports = [free()?, free()?, free()?, free()?, free()?];
        let (child, _, said) = spawn(&self.binary, &self.data, ports, &self.arguments, "standby")?;
        Ok(Standby {
            child,
            said,
            amqp: ports[1],
        })
    }

    /// The lines of its metrics.
    fn metrics(&self) -> anyhow::Result<String> {
        let mut socket = TcpStream::connect(self.http)?;
        socket.set_read_timeout(Some(Duration::from_secs(30)))?;
        socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        socket.read_to_string(&mut text)?;
        Ok(text)
    }

    /// A counter or gauge; `name` without the prefix `bascule_`, and with its labels as they are written.
    pub(crate) fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let metrics = self.metrics()?;
        let value = metrics.lines().find_map(|line| {
            let (key, value) = line.split_once(' ')?;
            (key.strip_prefix("bascule_")? == name).then_some(value)
        });
        Ok(value
            .with_context(|| format!("there is no metric {name}"))?
            .parse()?)
    }

    /// Whether the active one knows of a standby that could take over.
    pub(crate) fn is_covered(&self) -> anyhow::Result<bool> {
        let metrics = self.metrics()?;
        let mut lines = metrics.lines();
        Ok(lines
            .any(|line| line.starts_with("bascule_standby_can_take_over{") && line.ends_with(" 1")))
    }

    /// kill -9; how long until the standby says that it serves.
    pub(crate) fn kill_for(&mut self, standby: &mut Standby) -> anyhow::Result<Duration> {
        let began = Instant::now();
        self.child.kill()?;
        standby.serves()?;
        let took = began.elapsed();
        self.child.wait()?;
        Ok(took)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in bytes.
    pub(crate) fn rss(&self) -> anyhow::Result<u64> {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id()))?;
        let pages: u64 = statm
            .split_whitespace()
            .nth(1)
            .context("statm has two fields")?
            .parse()?;
        Ok(pages * 4096)
    }

    /// How often its threads have gone to sleep, each to be woken later.
    pub(crate) fn sleeps(&self) -> anyhow::Result<u64> {
        let mut sum = 0;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            // A thread may end meanwhile.
            let text = std::fs::read_to_string(thread?.path().join("status")).unwrap_or_default();
            let mut lines = text.lines();
            let count = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            sum += count.map_or(Ok(0), |count| count.trim().parse::<u64>())?;
        }
        Ok(sum)
    }

    /// User and system time, in microseconds.
    pub(crate) fn cpu_us(&self) -> anyhow::Result<u64> {
        cpu_us(&self.child)
    }

    /// Bytes of the data directory on the disk.
    pub(crate) fn disk(&self) -> anyhow::Result<u64> {
        let output = Command::new("du")
            .args(["-s", "-B1"])
            .arg(&self.data)
            .output()?;
        let text = String::from_utf8(output.stdout)?;
        Ok(text
            .split_whitespace()
            .next()
            .context("du prints a number")?
            .parse()?)
    }
}

/// User and system time of a process, in microseconds.
fn cpu_us(process: &Child) -> anyhow::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id()))?;
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .context("stat names the program")?
        .1
        .split_whitespace()
        .collect();
    let ticks = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(ticks * 10_000)
}

/// A process that stands by, ended when dropped.
pub(crate) struct Standby {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
    pub(crate) amqp: SocketAddr,
}

impl Standby {
    /// User and system time, in microseconds.
    pub(crate) fn cpu_us(&self) -> anyhow::Result<u64> {
        cpu_us(&self.child)
    }

    /// Waits until it says that it serves.
    fn serves(&mut self) -> anyhow::Result<()> {
        for line in &mut self.said {
            if line? == "ready" {
                return Ok(());
            }
        }
        bail!("the standby ended before it was ready")
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        if self.child.kill().is_ok() {
            self.child.wait().ok();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; nothing else can be done here.
        if self.child.kill().is_ok() {
            self.child.wait().ok();
        }
        std::fs::remove_dir_all(&self.data).ok();
    }
}

/// Has the program `serve` in `data` with its doors (MQTT, AMQP, STOMP, HTTP, AWS) at those addresses.
pub(crate) fn serve(mut program: Command, data: &Path, doors: [SocketAddr; 5]) -> Command {
    program.arg("serve").arg("--data").arg(data);
    for (door, address) in ["mqtt", "amqp", "stomp", "http", "aws"].iter().zip(doors) {
        // Both loopback families, as clients dial them.
        let place = match address.ip().is_loopback() {
            true => format!("localhost:{}", address.port()),
            false => address.to_string(),
        };
        program
            .arg("--set")
            .arg(format!("listeners.{door}={place}"));
    }
    program
}

fn spawn(
    binary: &Path,
    data: &Path,
    ports: [SocketAddr; 5],
    arguments: &[String],
    word: &str,
) -> anyhow::Result<(Child, Duration, Lines<BufReader<ChildStdout>>)> {
    let began = Instant::now();
    let mut command = serve(tied::command(binary), data, ports);
    command.args(arguments);
    let log_path = std::env::temp_dir().join(format!("bascule-load-{}.log", ports[0].port()));
    let log = std::fs::File::create(&log_path)?;
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .with_context(|| format!("failed to start {}: build it first", binary.display()))?;
    let stdout = child.stdout.take().context("stdout is piped")?;
    let mut said = BufReader::new(stdout).lines();
    while let Some(line) = said.next() {
        if line? == word {
            return Ok((child, began.elapsed(), said));
        }
    }
    child.wait()?;
    let said = std::fs::read_to_string(&log_path).unwrap_or_default();
    bail!("the server ended before it was ready: {}", said.trim_end());
}
