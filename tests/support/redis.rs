//! A real Redis in a folder of its own, which can be killed, emptied and stopped for a while.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::gateway::{Patience, folder};
use super::port::free_port;
use crate::outside::{installed, runs};

/// Dropping it kills the server.
pub(crate) struct Redis {
    child: Child,
    pub(crate) port: u16,
    folder: PathBuf,
    options: Vec<String>,
}

impl Redis {
    /// `None`: it is not installed, and the test is left out.
    pub(crate) fn start(test: &str) -> Option<Self> {
        Self::with(test, &[], &["--port"])
    }

    /// With these options besides, and by TLS alone.
    pub(crate) fn with_tls(test: &str, options: &[&str]) -> Option<Self> {
        Self::with(test, options, &["--port", "0", "--tls-port"])
    }

    fn with(test: &str, options: &[&str], port_option: &[&str]) -> Option<Self> {
        if !installed(test, "redis-server", runs("redis-server", &["--version"])) {
            return None;
        }
        let (folder, port) = (folder(), free_port());
        let number = port.to_string();
        let options: Vec<String> =
            port_option.iter().chain([&number.as_str()]).chain(options).map(|option| (*option).to_owned()).collect();
        let child = Self::spawn(&folder, &options);
        let server = Self { child, port, folder, options };
        server.wait();
        Some(server)
    }

    /// The section of the configuration that names it.
    pub(crate) fn section(&self) -> String {
        section(self.port)
    }

    /// Ends it at once. Its data is lost.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again, empty.
    pub(crate) fn start_again(&mut self) {
        self.child = Self::spawn(&self.folder, &self.options);
        self.wait();
    }

    /// `STOP` or `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// The answer to a command, as `redis-cli` prints it.
    pub(crate) fn ask(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        let output = command.args(["-p", &self.port.to_string()]).args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn spawn(folder: &PathBuf, options: &[String]) -> Child {
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--dir"]).arg(folder);
        command.args(options).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn wait(&self) {
        let patience = Patience::new();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            patience.check();
            std::thread::yield_now();
        }
    }
}

/// A busy machine answers late, so that the timeout is longer than a user's.
pub(crate) fn section(port: u16) -> String {
    format!("shared: {{redis: {{url: \"redis://127.0.0.1:{port}\", timeout: 2s}}, instance: {{heartbeat: 1s}}}}\n")
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
