//! The requests of the control socket: one line, answered by one line of JSON.
//!
//! `reload` is the only one. The answer has both revisions and the warnings, or the problems of a refused file. A
//! connection that is not of the user of the gateway or of root is closed without an answer. Their number, the
//! length of a line, and the time for reading and writing are bounded.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::warn;

use super::super::config_tests::TestsFailed;
use super::super::reload_error::ReloadError;
use super::super::reload_handle::{ReloadHandle, Reloaded};
use crate::config::diagnostics::Diagnostic;
use crate::pipeline::routing::snapshot::Snapshot;

/// The subject of the requests: the configuration in use, and its reloads.
#[derive(Debug)]
pub(in super::super) struct ControlRequests {
    /// The file that is reloaded.
    pub(in super::super) config_file: PathBuf,
    pub(in super::super) reloads: ReloadHandle,
    pub(in super::super) published: Arc<ArcSwap<Snapshot>>,
}

const MAX_CONNECTIONS: usize = 8;
const MAX_LINE: u64 = 1024;
const TIMEOUT: Duration = Duration::from_secs(5);
const ROOT: u32 = 0;

impl ControlRequests {
    /// Never ends.
    pub(super) async fn serve(self: Arc<Self>, listener: UnixListener) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut answers = JoinSet::new();
        loop {
            while answers.try_join_next().is_some() {}
            // It is never closed.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) if may_control(&stream) => {
                    let this = Arc::clone(&self);
                    answers.spawn(async move {
                        this.answer(stream).await;
                        drop(place);
                    });
                }
                Ok(_) => warn!("a connection to the control socket by another user was closed"),
                Err(error) => {
                    warn!(%error, "cannot accept a connection to the control socket");
                    sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    async fn answer(&self, mut stream: UnixStream) {
        let mut line = String::new();
        let mut reader = BufReader::new((&mut stream).take(MAX_LINE));
        let Ok(Ok(1..)) = timeout(TIMEOUT, reader.read_line(&mut line)).await else { return };
        let answer = match line.strip_suffix('\n') {
            Some("reload") => self.reload().await,
            Some(_) | None => problem(&self.config_file, "this gateway does not know the request"),
        };
        // The other end may have gone.
        let _ = timeout(TIMEOUT, stream.write_all(format!("{answer}\n").as_bytes())).await;
    }

    async fn reload(&self) -> Value {
        let file = self.config_file.display().to_string();
        match self.reloads.reload().await {
            Ok(Reloaded { old, new, warnings }) => {
                json!({ "ok": true, "file": file, "previous": old, "config": new, "warnings": warnings })
            }
            Err(error) => {
                let mut answer = match &error {
                    ReloadError::Config { faults, rendered } => json!({ "problems": faults, "rendered": rendered }),
                    ReloadError::Tests(TestsFailed::Failed(faults)) => json!({ "problems": faults }),
                    _ => json!({ "problems": problems(&file, error.texts()) }),
                };
                answer["ok"] = json!(false);
                answer["file"] = json!(file);
                answer["config"] = json!(self.published.load().config);
                answer
            }
        }
    }
}

fn may_control(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == ROOT)
}

fn problem(file: &Path, message: &str) -> Value {
    json!({ "ok": false, "problems": problems(&file.display().to_string(), vec![message.to_owned()]) })
}

fn problems(file: &str, messages: Vec<String>) -> Vec<Diagnostic> {
    let of_file = |message| Diagnostic { file: file.to_owned(), line: None, column: None, message };
    messages.into_iter().map(of_file).collect()
}
