//! One server process: the binary beside this test's own, in a directory of its own, on ports that the system chose.
//!
//! What it says on stdout is read for the ports and the word `ready`; stderr goes to a file in the directory's parent and is
//! printed when the start fails. A process that is dropped is killed; a directory that is dropped is removed.

use std::{
    collections::BTreeMap,
    env,
    fs::{self, File},
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

use crate::client::get;

/// How long anything may take. Far more than it takes on a slow machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Small and quick: debug builds start often.
const SETTINGS: &[&str] = &[
    "listeners.mqtt=127.0.0.1:0",
    "listeners.amqp=127.0.0.1:0",
    "listeners.stomp=127.0.0.1:0",
    "listeners.http=127.0.0.1:0",
    "listeners.aws=127.0.0.1:0",
    "journal.segment_bytes=4194304",
    "journal.reserve_bytes=4194304",
    "log.level=info",
];

/// The configuration file, where a test has one.
const CONFIG: &str = "bascule.toml";

/// The binary. Built if it is not there, or older than what it is made of.
pub(crate) fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let own = env::current_exe().expect("a test knows its own executable");
        let profile = own
            .parent()
            .and_then(Path::parent)
            .expect("a test lies in target/<profile>/deps");
        let binary = profile.join("bascule");
        if built(&binary) < newest_source() {
            let mut build = Command::new(env!("CARGO"));
            build.args(["build", "-p", "bascule"]);
            build.arg("--target-dir");
            build.arg(profile.parent().expect("a profile lies in target"));
            if profile.ends_with("release") {
                build.arg("--release");
            }
            build.current_dir(root());
            let status = build.status().expect("cargo runs");
            assert!(status.success(), "failed to build the server");
        }
        binary
    })
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("this package lies in the workspace")
}

fn built(binary: &Path) -> Option<SystemTime> {
    fs::metadata(binary).and_then(|data| data.modified()).ok()
}

/// When a source of the server was last changed. Tests, examples and benches are no part of it.
fn newest_source() -> Option<SystemTime> {
    let mut newest = None;
    let mut folders = Vec::new();
    for group in ["crates", "protocols"] {
        for entry in fs::read_dir(root().join(group)).into_iter().flatten() {
            let path = entry.expect("our own folders are readable").path();
            if !path.ends_with("xtask") {
                folders.push(path.join("src"));
            }
        }
    }
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                newest = newest.max(built(&path));
            }
        }
    }
    newest
}

/// A directory that is removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new() -> Arc<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("e2e-{}-{number}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("the target directory is writable");
        Arc::new(Self(path))
    }

    /// The data directory in it.
    pub(crate) fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    /// A file in it, beside the data directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The bytes that its files hold on disk.
    pub(crate) fn len(&self) -> u64 {
        let mut len = 0;
        let mut folders = vec![self.data()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                // Files come and go while they are counted.
                match entry.metadata() {
                    Ok(data) if data.is_dir() => folders.push(entry.path()),
                    Ok(data) => len += data.len(),
                    Err(_) => {}
                }
            }
        }
        len
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The command `bascule serve` on that data directory.
fn serve(data: &Path, settings: &[String]) -> Command {
    let mut command = Command::new(binary());
    command.arg("serve").arg("--data").arg(data);
    let file = data.with_file_name(CONFIG);
    if file.exists() {
        command.arg("--config").arg(file);
    }
    for setting in SETTINGS.iter().copied() {
        command.args(["--set", setting]);
    }
    for setting in settings {
        // An option of its own, or a setting.
        if setting.starts_with("--") {
            command.arg(setting);
        } else {
            command.args(["--set", setting]);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// A `serve` that is expected to end by itself: its output.
pub(crate) fn serve_to_end(data: &Path, settings: &[&str]) -> Output {
    let settings: Vec<String> = settings.iter().map(|&text| text.to_owned()).collect();
    let mut command = serve(data, &settings);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the server starts");
    // Little enough is written that the pipes hold it.
    wait(&mut child);
    child
        .wait_with_output()
        .expect("an ended process has output")
}

fn wait(child: &mut Child) -> ExitStatus {
    let status = until("the server ends", || {
        child.try_wait().expect("a child can be waited for")
    });
    status.expect("until gives what it found")
}

/// Looks again and again until something is there.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        assert!(Instant::now() < deadline, "waited too long: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A server that is `ready`.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    doors: BTreeMap<String, SocketAddr>,
    dir: Arc<Dir>,
    settings: Vec<String>,
    /// What it says on stdout from here on.
    lines: mpsc::Receiver<String>,
}

impl Server {
    /// In a directory of its own, which goes with it.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    pub(crate) fn start_with(settings: &[&str]) -> Self {
        let settings = settings.iter().map(|&text| text.to_owned()).collect();
        Self::start_in(Dir::new(), settings)
    }

    /// As a process that may have only so many files open.
    pub(crate) fn start_with_open_files(count: u32, settings: &[&str]) -> Self {
        Self::start_limited(Dir::new(), &format!("-n {count}"), settings)
    }

    /// Anew, as a process none of whose files may be longer than so many bytes, a multiple of 512.
    pub(crate) fn restart_with_file_len(mut self, len: u64, settings: &[&str]) -> Self {
        self.kill();
        Self::start_limited(
            Arc::clone(&self.dir),
            &format!("-f {}", len / 512),
            settings,
        )
    }

    /// Under that limit of `ulimit`.
    fn start_limited(dir: Arc<Dir>, limit: &str, settings: &[&str]) -> Self {
        let settings: Vec<String> = settings.iter().map(|&text| text.to_owned()).collect();
        let plain = serve(&dir.data(), &settings);
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit {limit}; exec \"$0\" \"$@\"")]);
        command.arg(plain.get_program()).args(plain.get_args());
        command.stdin(Stdio::null());
        Self::start_as(command, dir, settings)
    }

    /// With that configuration file.
    pub(crate) fn start_with_file(text: &str) -> Self {
        let dir = Dir::new();
        fs::write(dir.file(CONFIG), text).expect("the directory is writable");
        Self::start_in(dir, Vec::new())
    }

    /// Another text in the configuration file, and SIGHUP.
    pub(crate) fn hang_up(&self, text: &str) {
        fs::write(self.dir.file(CONFIG), text).expect("the directory is writable");
        self.signal(Signal::HUP);
    }

    /// The same, waiting until it has been taken up.
    pub(crate) fn reload(&self, text: &str) {
        let count = || self.log().matches("reloaded users").count();
        let before = count();
        self.hang_up(text);
        until("the configuration is reloaded", || {
            (count() > before).then_some(())
        });
    }

    /// In a directory that an earlier one used.
    pub(crate) fn start_in(dir: Arc<Dir>, settings: Vec<String>) -> Self {
        Self::start_as(serve(&dir.data(), &settings), dir, settings)
    }

    /// Another process in the same directory, which stands by.
    pub(crate) fn stand_by(&self) -> Self {
        let (dir, settings) = (Arc::clone(&self.dir), self.settings.clone());
        Self::said("standby", serve(&dir.data(), &settings), dir, settings)
    }

    /// Waits until one that stood by serves.
    pub(crate) fn becomes_ready(&self) {
        loop {
            let line = self.lines.recv_timeout(LIMIT);
            let line = line.unwrap_or_else(|_| panic!("it did not take over:\n{}", self.log()));
            if line == "ready" {
                return;
            }
        }
    }

    /// SIGSTOP. Returns once all its threads stand still: the signal reaches one of them, which has to run to stop the others.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
        let tasks = format!("/proc/{}/task", self.child.id());
        let runs = |task: std::io::Result<fs::DirEntry>| {
            let stat = task.and_then(|task| fs::read_to_string(task.path().join("stat")));
            // One that is gone runs no more.
            stat.is_ok_and(|stat| !stat.rsplit(") ").next().unwrap_or("").starts_with('T'))
        };
        while fs::read_dir(&tasks).expect("it is there").any(runs) {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// SIGCONT.
    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn start_as(command: Command, dir: Arc<Dir>, settings: Vec<String>) -> Self {
        Self::said("ready", command, dir, settings)
    }

    /// Starts it, and waits until it says that word.
    fn said(word: &str, mut command: Command, dir: Arc<Dir>, settings: Vec<String>) -> Self {
        let log = dir.file("log");
        command.stdout(Stdio::piped());
        let file = File::options().create(true).append(true).open(&log);
        command.stderr(file.expect("the directory is writable"));
        let mut child = command.spawn().expect("the server starts");
        let stdout = child.stdout.take().expect("stdout is a pipe");
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut server = Self {
            child,
            doors: BTreeMap::new(),
            dir,
            settings,
            lines,
        };
        loop {
            let Ok(line) = server.lines.recv_timeout(LIMIT) else {
                let said = fs::read_to_string(&log).unwrap_or_default();
                panic!("the server did not become ready:\n{said}");
            };
            if line == word {
                return server;
            }
            let mut words = line.split_whitespace();
            if let (Some(name), Some(place)) = (words.next(), words.next())
                && let Ok(address) = place.parse()
            {
                server.doors.insert(name.to_owned(), address);
            }
        }
    }

    /// Where that door is: mqtt, amqp, stomp, http, aws.
    pub(crate) fn door(&self, name: &str) -> SocketAddr {
        self.doors[name]
    }

    pub(crate) fn dir(&self) -> &Arc<Dir> {
        &self.dir
    }

    /// A figure of `/metrics`, by its name behind `bascule_`.
    pub(crate) fn metric(&self, name: &str) -> anyhow::Result<u64> {
        let (_, text) = get(self.door("http"), "/metrics")?;
        let of = |line: &str| {
            let value = line.strip_prefix("bascule_")?.strip_prefix(name)?;
            value.strip_prefix(' ').map(str::to_owned)
        };
        let value = text.lines().find_map(of);
        Ok(value.context("it is counted")?.parse()?)
    }

    /// SIGKILL, and the end of the process.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("our child can be killed");
        wait(&mut self.child);
    }

    /// SIGKILL, then another one in the same directory, on other ports.
    pub(crate) fn restart(mut self) -> Self {
        self.kill();
        Self::start_in(Arc::clone(&self.dir), self.settings.clone())
    }

    /// The same with more settings, or options.
    pub(crate) fn restart_with(mut self, settings: &[&str]) -> Self {
        self.kill();
        let more = settings.iter().map(|&text| text.to_owned());
        Self::start_in(
            Arc::clone(&self.dir),
            self.settings.iter().cloned().chain(more).collect(),
        )
    }

    /// The same without options, with its settings alone.
    pub(crate) fn restart_without_options(mut self) -> Self {
        self.kill();
        self.settings.retain(|setting| !setting.starts_with("--"));
        Self::start_in(Arc::clone(&self.dir), self.settings.clone())
    }

    /// The same, under another text in the configuration file.
    pub(crate) fn restart_with_file(self, text: &str) -> Self {
        fs::write(self.dir.file(CONFIG), text).expect("the directory is writable");
        self.restart()
    }

    /// Another process in the same directory, killed after so long whether it is ready or not.
    pub(crate) fn start_and_kill(&self, after: Duration) {
        let mut command = serve(&self.dir.data(), &self.settings);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the server starts");
        thread::sleep(after);
        child.kill().expect("our child can be killed");
        wait(&mut child);
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("process ids are small");
        let pid = Pid::from_raw(pid).expect("process ids are not 0");
        kill_process(pid, signal).expect("our child can be signalled");
    }

    /// Waits for the end of the process: its exit code.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        wait(&mut self.child).code()
    }

    /// SIGTERM; panics unless it ends with 0.
    pub(crate) fn stop(mut self) {
        self.terminate();
        let code = self.ended();
        assert_eq!(code, Some(0), "an end in order; the log:\n{}", self.log());
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.file("log")).unwrap_or_default()
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(path).expect("the process lives");
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
        let kilobytes: u64 = kilobytes
            .and_then(|text| text.parse().ok())
            .expect("Linux tells the resident size");
        kilobytes * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the server's log:\n{}", self.log());
        }
    }
}
