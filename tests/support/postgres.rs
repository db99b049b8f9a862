//! A server of PostgreSQL in a folder of its own, for one test.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::command::{Finished, run};
use super::gateway::{PATIENCE, folder};
use super::port::free_port;

pub(crate) struct Postgres {
    folder: PathBuf,
    port: u16,
    server: Option<Child>,
    is_encrypted: bool,
}

const USER: &str = "portcullis";
/// Has to be encoded in a URL.
const PASSWORD: &str = "p@ss word";

impl Postgres {
    /// `None` if PostgreSQL is not installed, which is a failure where the outside programs are required.
    pub(crate) fn start() -> Option<Self> {
        Self::with(None)
    }

    /// A server that takes connections over TLS only: certificate and key in PEM.
    pub(crate) fn start_with_tls(certificate: &str, key: &str) -> Option<Self> {
        Self::with(Some((certificate, key)))
    }

    fn with(tls: Option<(&str, &str)>) -> Option<Self> {
        let Some(programs) = programs() else {
            let is_required = std::env::var("PORTCULLIS_OUTSIDE").is_ok_and(|value| value == "required");
            assert!(!is_required, "PostgreSQL is not installed: run tests/install-outside.sh");
            eprintln!("left out: PostgreSQL is not installed");
            return None;
        };
        let folder = folder();
        let data = folder.join("data");
        fs::create_dir_all(&data).unwrap();
        give(&folder);
        give(&data);
        let password = folder.join("password");
        fs::write(&password, PASSWORD).unwrap();
        give(&password);
        let made = run(as_postgres(&programs.join("initdb"))
            .args(["--no-sync", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--username", USER])
            .arg("--pwfile")
            .arg(&password)
            .arg(&data));
        assert_eq!(made.code, Some(0), "{made:?}");
        let is_encrypted = tls.is_some();
        if let Some((certificate, key)) = tls {
            for (name, text) in [("server.crt", certificate), ("server.key", key)] {
                fs::write(data.join(name), text).unwrap();
                fs::set_permissions(data.join(name), fs::Permissions::from_mode(0o600)).unwrap();
                give(&data.join(name));
            }
            fs::write(data.join("pg_hba.conf"), "hostssl all all all scram-sha-256\nlocal all all scram-sha-256\n")
                .unwrap();
        }
        let mut postgres = Self { folder, port: free_port(), server: None, is_encrypted };
        postgres.start_again();
        Some(postgres)
    }

    /// Of the database, with user and password.
    pub(crate) fn url(&self) -> String {
        format!("postgres://{USER}:p%40ss%20word@localhost:{}/postgres", self.port)
    }

    pub(crate) fn start_again(&mut self) {
        let tls = if self.is_encrypted { "on" } else { "off" };
        let socket = format!("unix_socket_directories={}", self.folder.display());
        let server = as_postgres(&programs().unwrap().join("postgres"))
            .arg("-D")
            .arg(self.folder.join("data"))
            .args(["-p", &self.port.to_string(), "-c", "listen_addresses=localhost", "-c", "fsync=off", "-c", &socket])
            .args(["-c", &format!("ssl={tls}"), "-c", "max_connections=200"])
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.folder.join("log")).unwrap())
            .spawn();
        self.server = Some(server.unwrap());
        let begun = std::time::Instant::now();
        while self.try_sql("SELECT 1").code != Some(0) {
            assert!(begun.elapsed() < PATIENCE, "{}", fs::read_to_string(self.folder.join("log")).unwrap());
        }
    }

    /// The rows that a statement gives, columns apart by `|`.
    #[track_caller]
    pub(crate) fn sql(&self, statement: &str) -> String {
        let done = self.try_sql(statement);
        assert_eq!(done.code, Some(0), "{statement}: {done:?}");
        done.stdout.trim().to_owned()
    }

    fn try_sql(&self, statement: &str) -> Finished {
        run(Command::new(programs().unwrap().join("psql"))
            .env("PGPASSWORD", PASSWORD)
            .args(["-h", self.folder.to_str().unwrap(), "-p", &self.port.to_string(), "-U", USER, "-d", "postgres"])
            .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", statement]))
    }

    /// Ends the server and all its connections at once, as a crash does.
    pub(crate) fn kill(&mut self) {
        self.signal_all("KILL");
        let mut server = self.server.take().unwrap();
        server.wait().unwrap();
        let _ = fs::remove_file(self.folder.join("data/postmaster.pid"));
    }

    /// The server answers no more, and its connections stay open.
    pub(crate) fn freeze(&self) {
        self.signal_all("STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal_all("CONT");
    }

    /// To the server and its children.
    fn signal_all(&self, name: &str) {
        let main = self.server.as_ref().unwrap().id();
        for process in [vec![main], children(main)].concat() {
            let _ = Command::new("kill").args(["-s", name, &process.to_string()]).status();
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            for process in [vec![server.id()], children(server.id())].concat() {
                let _ = Command::new("kill").args(["-s", "KILL", &process.to_string()]).status();
            }
            let _ = server.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn children(process: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    text.split_whitespace().map(|id| id.parse().unwrap()).collect()
}

/// The folder of the newest version's programs.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let folders = versions.map(|version| version.unwrap().path().join("bin"));
    folders.filter(|folder| folder.join("initdb").exists()).max()
}

/// PostgreSQL refuses to run as root.
fn as_postgres(program: &Path) -> Command {
    let Some(user) = postgres_user() else { return Command::new(program) };
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={}", user.0), &format!("--regid={}", user.1), "--clear-groups"]).arg(program);
    command
}

/// User and group, if this is root.
fn postgres_user() -> Option<(u32, u32)> {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find(|line| line.starts_with("postgres:"))?;
    let mut fields = line.split(':').skip(2).map(|field| field.parse().unwrap_or(0));
    is_root.then_some((fields.next()?, fields.next()?))
}

fn give(path: &Path) {
    if let Some((user, group)) = postgres_user() {
        chown(path, Some(user), Some(group)).unwrap();
    }
}
