//! The program under test, run as users run it.

use std::cell::Cell;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::schema;

/// Long enough for a busy machine. A test that passes never waits this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The end of a wait that asks again and again. Each question takes its time, so that none is slept for.
pub(crate) struct Patience(Instant);

impl Patience {
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }

    #[track_caller]
    pub(crate) fn check(&self) {
        assert!(self.0.elapsed() < PATIENCE, "it did not come true within 20 s");
    }
}

/// A running gateway in a folder of its own. Dropping it kills the gateway.
pub(crate) struct Gateway {
    child: Child,
    pub(crate) folder: PathBuf,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) probes: Option<SocketAddr>,
    audit: Arc<Lines>,
    logs: Arc<Lines>,
}

/// Lines as they arrive, and a way to wait for one.
#[derive(Default)]
struct Lines {
    seen: Mutex<Vec<String>>,
    news: Condvar,
}

/// A new empty folder.
pub(crate) fn folder() -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("portcullis-{}-{number}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// The program, to be run in `folder`.
pub(crate) fn program(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.current_dir(folder).env_remove("PORTCULLIS_LOG").stdin(Stdio::null());
    command
}

/// `portcullis run` with listening sockets as file descriptors from 3 on. A shell moves them there, because only the
/// standard streams of a child can be chosen.
pub(crate) fn inheriting(folder: &Path, sockets: &[&TcpListener]) -> Command {
    let program = program(folder);
    let mut command = Command::new("sh");
    let run = "exec 3<&0 4<&1 0</dev/null 1>/dev/null; export LISTEN_PID=$$; exec \"$0\" run";
    let count = sockets.len().to_string();
    command.current_dir(folder).args(["-c", run]).arg(program.get_program());
    command.env_remove("PORTCULLIS_LOG").env("LISTEN_FDS", count).env("LISTEN_FDNAMES", "web:other");
    let stream = |at: usize| {
        let socket = sockets.get(at).map(|socket| OwnedFd::from(socket.try_clone().unwrap()));
        socket.map_or_else(Stdio::null, Stdio::from)
    };
    command.stdin(stream(0)).stdout(stream(1));
    command
}

impl Gateway {
    /// Starts with this configuration and waits until it serves. Audit lines are read from standard output where `yaml`
    /// has `audit: {file: "-"}`.
    pub(crate) fn start(yaml: &str) -> Self {
        Self::start_in(folder(), yaml, &[])
    }

    /// A configuration that the gateway accepts is valid by the schema too.
    pub(crate) fn start_in(folder: PathBuf, yaml: &str, variables: &[(&str, &str)]) -> Self {
        if yaml.len() < 64 << 10 {
            assert_eq!(schema::complaint(yaml), None, "{yaml}");
        }
        fs::write(folder.join("gateway.yaml"), yaml).unwrap();
        let mut command = program(&folder);
        command.arg("run").envs(variables.iter().copied());
        Self::spawn(folder, command, true)
    }

    /// Starts with the configuration in this folder, and never reads its standard output.
    pub(crate) fn start_deaf(folder: PathBuf) -> Self {
        let mut command = program(&folder);
        command.arg("run");
        Self::spawn(folder, command, false)
    }

    /// Starts with the configuration in this folder and these listening sockets, two at most, as a service manager
    /// passes them. The audit log is not read.
    pub(crate) fn start_inheriting(folder: PathBuf, sockets: &[&TcpListener], variables: &[(&str, &str)]) -> Self {
        let mut command = inheriting(&folder, sockets);
        Self::of(folder, command.envs(variables.iter().copied()).stderr(Stdio::piped()).spawn().unwrap(), false)
    }

    /// Starts by this command.
    pub(crate) fn spawn(folder: PathBuf, mut command: Command, listen: bool) -> Self {
        Self::of(folder, command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap(), listen)
    }

    fn of(folder: PathBuf, mut child: Child, listen: bool) -> Self {
        let audit = if listen { Lines::read(child.stdout.take().unwrap()) } else { Arc::default() };
        let (logs, events) = Lines::read_lines(child.stderr.take().unwrap());
        let Listening { addresses, admin, probes } = listening(&events, &logs);
        Self { child, folder, addresses, admin, probes, audit, logs }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// The certificate that the gateway made for itself.
    pub(crate) fn certificate(&self) -> Vec<u8> {
        fs::read(self.folder.join("certs/localhost.crt")).unwrap()
    }

    /// Waits for the first audit line that matches.
    #[track_caller]
    pub(crate) fn audit_line(&self, fits: impl Fn(&Value) -> bool) -> Value {
        let fits = |line: &str| serde_json::from_str(line).ok().filter(|value| fits(value));
        self.audit.wait(fits).unwrap_or_else(|| panic!("no such audit line among:\n{}", self.audit_text()))
    }

    /// The audit line of the request with this id.
    #[track_caller]
    pub(crate) fn audit_of(&self, request_id: &str) -> Value {
        self.audit_line(|line| line["gateway.request_id"] == request_id)
    }

    /// All audit lines so far.
    pub(crate) fn audit_text(&self) -> String {
        self.audit.seen.lock().unwrap().join("\n")
    }

    /// Waits for the first log line that contains this text.
    #[track_caller]
    pub(crate) fn log_line(&self, text: &str) -> String {
        let found = self.logs.wait(|line| line.contains(text).then(|| line.to_owned()));
        found.unwrap_or_else(|| panic!("no log line contains {text:?}:\n{}", self.log_text()))
    }

    /// Replaces the configuration as a whole: a reload that is under way reads this one or the one before.
    pub(crate) fn replace_file(&self, yaml: &str) {
        let written = self.folder.join("gateway.yaml.new");
        fs::write(&written, yaml).unwrap();
        fs::rename(written, self.folder.join("gateway.yaml")).unwrap();
    }

    /// Writes this configuration, asks for a reload, and waits for its end. Gives the last log line of the reload.
    #[track_caller]
    pub(crate) fn reload(&self, yaml: &str) -> String {
        self.replace_file(yaml);
        self.reload_file()
    }

    /// Asks for a reload of the file as it is, and waits for its end.
    #[track_caller]
    pub(crate) fn reload_file(&self) -> String {
        const END: &str = "the configuration was ";
        let before = self.log_text().matches(END).count();
        self.signal("HUP");
        let seen = Cell::new(0);
        let next = self.logs.wait(|line| {
            seen.set(seen.get() + usize::from(line.contains(END)));
            (seen.get() > before).then(|| line.to_owned())
        });
        next.unwrap_or_else(|| panic!("the reload did not end:\n{}", self.log_text()))
    }

    /// The same for a configuration that is taken into use.
    #[track_caller]
    pub(crate) fn reloads(&self, yaml: &str) {
        let end = self.reload(yaml);
        assert!(end.contains("the configuration was reloaded"), "{end}");
    }

    /// The same for one that is refused with this error.
    #[track_caller]
    pub(crate) fn refuses_reload(&self, yaml: &str, error: &str) {
        let end = self.reload(yaml);
        assert!(end.contains("the configuration was not reloaded"), "{end}");
        self.log_line(error);
    }

    pub(crate) fn log_text(&self) -> String {
        self.logs.seen.lock().unwrap().join("\n")
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end, with any exit code or signal. A gateway that does not end is killed.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let (ended, has_ended) = channel::<()>();
        let id = self.id().to_string();
        let watchdog = thread::spawn(move || {
            if has_ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                let _ = Command::new("kill").args(["-s", "KILL", &id]).status();
            }
        });
        let status = self.child.wait().unwrap();
        drop(ended);
        watchdog.join().unwrap();
        status
    }

    /// Sends SIGTERM, as an operator would, and waits for the end.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- logs of the gateway in {}:\n{}", self.folder.display(), self.log_text());
        } else {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

impl Lines {
    fn read(from: impl Read + Send + 'static) -> Arc<Self> {
        Self::read_lines(from).0
    }

    /// Keeps every line, and passes it to the waiting test.
    fn read_lines(from: impl Read + Send + 'static) -> (Arc<Self>, Receiver<String>) {
        let lines = Arc::new(Self::default());
        let (sender, receiver) = channel();
        let writer = Arc::clone(&lines);
        thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                let _ = sender.send(line.clone());
                writer.seen.lock().unwrap().push(line);
                writer.news.notify_all();
            }
        });
        (lines, receiver)
    }

    fn wait<T>(&self, fits: impl Fn(&str) -> Option<T>) -> Option<T> {
        let mut found = None;
        let mut looked_at = 0;
        let seen = self.seen.lock().unwrap();
        let looking = |seen: &mut Vec<String>| {
            found = seen[looked_at..].iter().find_map(|line| fits(line));
            looked_at = seen.len();
            found.is_none()
        };
        drop(self.news.wait_timeout_while(seen, PATIENCE, looking).unwrap());
        found
    }
}

/// The addresses of the listeners.
#[derive(Default)]
struct Listening {
    addresses: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    probes: Option<SocketAddr>,
}

/// The addresses that the log names before the event that the gateway serves.
fn listening(events: &Receiver<String>, logs: &Lines) -> Listening {
    let mut found = Listening::default();
    loop {
        let Ok(line) = events.recv_timeout(PATIENCE) else {
            panic!("the gateway did not start:\n{}", logs.seen.lock().unwrap().join("\n"));
        };
        let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
        let address = || event["address"].as_str().unwrap().parse().unwrap();
        match event["message"].as_str() {
            Some("listening") => found.addresses.push(address()),
            Some("admin listening") => found.admin = Some(address()),
            Some("probes listening") => found.probes = Some(address()),
            Some("serving") => return found,
            _ => {}
        }
    }
}
