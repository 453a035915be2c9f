//! The two processes of the pair: started, signalled, asked.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{faults::Chance, hosts::Host};
use crate::{load::server::serve, tied};

/// Ports that the system gives to no outgoing connection: a client that calls a dead node would else, some day, be given the
/// port that it calls, and answer itself.
const PORTS: std::ops::Range<u64> = 10_000..32_000;
/// How long a node may take to answer what it is asked.
const ANSWER: Duration = Duration::from_secs(1);

/// Where a node listens.
pub(crate) struct Doors {
    pub(crate) mqtt: SocketAddr,
    pub(crate) amqp: SocketAddr,
    pub(crate) stomp: SocketAddr,
    pub(crate) aws: SocketAddr,
    http: SocketAddr,
}

/// One of the two, killed when dropped.
pub(crate) struct Node {
    pub(crate) name: &'static str,
    pub(crate) doors: Doors,
    binary: PathBuf,
    data: PathBuf,
    log: PathBuf,
    pub(crate) host: Option<Host>,
    child: Option<Child>,
}

fn port(chance: &mut Chance) -> SocketAddr {
    loop {
        let port = chance.within(PORTS) as u16;
        // A machine may have no IPv6.
        let taken = |error: io::Error| error.kind() == io::ErrorKind::AddrInUse;
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
            && !TcpListener::bind((Ipv6Addr::LOCALHOST, port)).is_err_and(taken);
        if free {
            return (Ipv4Addr::LOCALHOST, port).into();
        }
    }
}

impl Node {
    /// One that is not started. Its journal is in `data`, its log in `directory`; it runs on that host, or on ours.
    pub(crate) fn new(
        name: &'static str,
        binary: &Path,
        [directory, data]: [&Path; 2],
        host: Option<Host>,
        chance: &mut Chance,
    ) -> Self {
        let mut port = |for_clients| {
            let mut address = port(chance);
            if let Some(host) = &host {
                address.set_ip(host.address(for_clients).into());
            }
            address
        };
        Self {
            name,
            doors: Doors {
                mqtt: port(true),
                amqp: port(true),
                stomp: port(true),
                aws: port(true),
                http: port(false),
            },
            binary: binary.to_owned(),
            data: data.join("journal"),
            log: directory.join(format!("{name}.log")),
            host,
            child: None,
        }
    }

    pub(crate) fn start(&mut self) -> anyhow::Result<()> {
        let doors = &self.doors;
        let ports = [doors.mqtt, doors.amqp, doors.stomp, doors.http, doors.aws];
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&self.log)?;
        let mut command = match &self.host {
            Some(host) => serve(host.command(&self.binary), &self.data, ports),
            None => serve(tied::command(&self.binary), &self.data, ports),
        };
        if let Some(host) = &self.host {
            command.arg("--config").arg(host.config());
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("failed to start {}", self.binary.display()))?;
        // It says each change of its role, and would end if nobody heard it.
        let said = BufReader::new(child.stdout.take().context("stdout is piped")?);
        std::thread::Builder::new().spawn(move || said.lines().for_each(drop))?;
        self.child = Some(child);
        Ok(())
    }

    fn child(&mut self) -> anyhow::Result<&mut Child> {
        let name = self.name;
        self.child
            .as_mut()
            .with_context(|| format!("{name} does not run"))
    }

    /// Whether it was started and has not been seen to end.
    pub(crate) fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// Its process id.
    pub(crate) fn process(&mut self) -> anyhow::Result<u32> {
        Ok(self.child()?.id())
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.child()?.kill()?;
        self.child()?.wait()?;
        self.child = None;
        Ok(())
    }

    pub(crate) fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        let pid = Pid::from_child(self.child()?);
        Ok(kill_process(pid, signal)?)
    }

    /// How it ended, once.
    pub(crate) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        let Some(child) = &mut self.child else {
            return Ok(None);
        };
        let ended = child.try_wait()?;
        if ended.is_some() {
            self.child = None;
        }
        Ok(ended)
    }

    /// What it knows of the pair, if it answers.
    pub(crate) fn cluster(&self) -> Option<Value> {
        let (status, body) = self.ask("GET /api/cluster").ok()?;
        (status == 200).then_some(body)
    }

    /// How long each phase of its last takeover was, in us.
    pub(crate) fn takeover_us(&self) -> BTreeMap<String, u64> {
        let known = self.cluster().unwrap_or_default();
        let phases = known["last_takeover"]["phases_us"].as_object();
        let phases = phases.into_iter().flatten();
        phases
            .filter_map(|(name, us)| Some((name.clone(), us.as_u64()?)))
            .collect()
    }

    /// Begins a change of places.
    pub(crate) fn switch_over(&self) -> anyhow::Result<()> {
        match self.ask("POST /api/cluster/switchover")? {
            (202, _) => Ok(()),
            (status, body) => bail!("{} answers {status}: {body}", self.name),
        }
    }

    fn ask(&self, line: &str) -> anyhow::Result<(u16, Value)> {
        let mut stream = TcpStream::connect_timeout(&self.doors.http, ANSWER)?;
        stream.set_read_timeout(Some(ANSWER))?;
        write!(
            stream,
            "{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
        let status = head.split(' ').nth(1).context("no status")?.parse()?;
        Ok((status, serde_json::from_str(body).unwrap_or_default()))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child
            && child.kill().is_ok()
        {
            child.wait().ok();
        }
    }
}
