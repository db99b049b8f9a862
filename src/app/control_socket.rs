//! The Unix socket in `state_directory` by which commands on this machine control the running gateway.
//!
//! One process has the socket: it holds the lock of a file beside it, which the kernel releases when the process ends
//! in any way. So a socket without a living owner is replaced, and a socket in use is never taken. A gateway that finds
//! the lock taken asks for it again at intervals. Only the user of the gateway and root may connect: the mode of the
//! socket says so, and the gateway asks the kernel for the user of each connection.

mod requests;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::net;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::{Mode, fchmod};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use tokio::net::UnixListener;
use tokio::runtime::Handle;
use tokio::time::sleep;
use tracing::{info, warn};

pub(super) use self::requests::ControlRequests;
use crate::durable_file::make_folder;
use crate::telemetry::error_chain::ErrorChain;

/// The socket of this process.
#[derive(Debug)]
pub(super) struct ControlSocket(Arc<Mutex<SocketState>>);

#[derive(Debug, Default)]
struct SocketState {
    /// `None` if there is no socket, or another process has it.
    file: Option<OwnedSocketFile>,
    has_ended: bool,
}

/// The file of the socket, and the lock that makes it ours. Dropping it removes the file.
#[derive(Debug)]
struct OwnedSocketFile {
    path: PathBuf,
    /// Device and inode.
    id: (u64, u64),
    _lock: File,
}

#[derive(Debug, thiserror::Error)]
enum ControlError {
    #[error("another gateway uses it")]
    Taken,
    #[error("the gateway is shutting down")]
    Ended,
    #[error("there is a file that is no socket")]
    NotASocket,
    #[error("the file system lets others use it (mode {0:o})")]
    TooOpen(u32),
    #[error(transparent)]
    Io(#[from] io::Error),
}

const SOCKET: &str = "control.sock";
const LOCK: &str = "control.lock";
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 16;
/// The address of a Unix socket has room for this many bytes, and for a zero.
const MAX_PATH: usize = 107;
/// Until a gateway without the socket asks for it again: the one that has it may be ending.
const RETRY_AFTER: Duration = Duration::from_secs(2);

impl ControlSocket {
    /// Serves the socket of this folder. Without one the gateway works all the same.
    pub(super) fn start(directory: &Path, requests: ControlRequests, runtime: &Handle) -> Self {
        let state = Arc::<Mutex<SocketState>>::default();
        let this = Self(Arc::clone(&state));
        let (directory, requests) = (directory.to_owned(), Arc::new(requests));
        let _in_runtime = runtime.enter();
        match own(&state, &directory) {
            Ok(listener) => drop(runtime.spawn(requests.serve(listener))),
            Err(ControlError::Taken) => {
                warn!(
                    path = %socket_path(&directory).display(),
                    "another gateway has the control socket: until it ends, `portcullis reload` reaches that one, and \
                     only SIGHUP reloads this one"
                );
                runtime.spawn(async move {
                    match own_later(&state, &directory).await {
                        Ok(listener) => requests.serve(listener).await,
                        Err(error) => log_no_socket(&directory, &error),
                    }
                });
            }
            Err(error) => log_no_socket(&directory, &error),
        }
        this
    }

    /// Removes the file.
    pub(super) fn end(self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.has_ended = true;
        drop(state.file.take());
    }
}

/// Connects to the gateway that has the control socket of this folder.
pub(crate) fn connect(directory: &Path) -> io::Result<net::UnixStream> {
    let path = socket_path(directory);
    let (address, _folder) = short(directory, &path)?;
    net::UnixStream::connect(address)
}

pub(crate) fn socket_path(directory: &Path) -> PathBuf {
    directory.join(SOCKET)
}

fn log_no_socket(directory: &Path, error: &ControlError) {
    warn!(
        path = %socket_path(directory).display(),
        error = %ErrorChain(error),
        "there is no control socket: `portcullis reload` cannot be used, SIGHUP can"
    );
}

/// Waits until the process that has the socket has ended.
async fn own_later(state: &Mutex<SocketState>, directory: &Path) -> Result<UnixListener, ControlError> {
    loop {
        sleep(RETRY_AFTER).await;
        match own(state, directory) {
            Ok(listener) => {
                info!(path = %socket_path(directory).display(), "this gateway has the control socket now");
                return Ok(listener);
            }
            Err(ControlError::Taken) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Must be called inside a runtime.
fn own(state: &Mutex<SocketState>, directory: &Path) -> Result<UnixListener, ControlError> {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    if state.has_ended {
        return Err(ControlError::Ended);
    }
    let (file, listener) = bind_in(directory)?;
    state.file = Some(file);
    listener.set_nonblocking(true)?;
    Ok(UnixListener::from_std(listener)?)
}

fn bind_in(directory: &Path) -> Result<(OwnedSocketFile, net::UnixListener), ControlError> {
    make_folder(directory, FOLDER_MODE)?;
    let lock = OpenOptions::new().create(true).append(true).mode(FILE_MODE).open(directory.join(LOCK))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(ControlError::Taken),
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    let path = socket_path(directory);
    match fs::symlink_metadata(&path) {
        // Its process has ended: the lock was free.
        Ok(found) if found.file_type().is_socket() => fs::remove_file(&path)?,
        Ok(_) => return Err(ControlError::NotASocket),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).map_err(io::Error::from)?;
    // Linux gives the file the mode of the open socket: it is never open to others, not even for a moment.
    fchmod(&socket, Mode::from_raw_mode(FILE_MODE)).map_err(io::Error::from)?;
    let (address, _folder) = short(directory, &path)?;
    bind(&socket, &SocketAddrUnix::new(address).map_err(io::Error::from)?).map_err(io::Error::from)?;
    let made = fs::symlink_metadata(&path)?;
    let file = OwnedSocketFile { path, id: (made.dev(), made.ino()), _lock: lock };
    match made.mode() & 0o777 {
        FILE_MODE => {}
        other => return Err(ControlError::TooOpen(other)),
    }
    listen(&socket, BACKLOG).map_err(io::Error::from)?;
    Ok((file, socket.into()))
}

/// The path, or one through the open folder that is short enough for the address of a socket.
fn short(directory: &Path, path: &Path) -> io::Result<(PathBuf, Option<File>)> {
    if path.as_os_str().as_bytes().len() <= MAX_PATH {
        return Ok((path.to_owned(), None));
    }
    let folder = File::open(directory)?;
    Ok((PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(SOCKET), Some(folder)))
}

impl Drop for OwnedSocketFile {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.id);
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            warn!(path = %self.path.display(), %error, "cannot remove the control socket");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use tempfile::tempdir;

    use super::*;

    #[test]
    fn a_socket_of_a_dead_process_is_replaced() {
        let folder = tempdir().unwrap();
        let path = socket_path(folder.path());
        drop(net::UnixListener::bind(&path).unwrap());
        assert!(connect(folder.path()).is_err());
        let (file, _listener) = bind_in(folder.path()).unwrap();
        assert_eq!(fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o7777, FILE_MODE);
        connect(folder.path()).unwrap();
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_in_use_is_never_taken() {
        let folder = tempdir().unwrap();
        let (file, _listener) = bind_in(folder.path()).unwrap();
        assert!(matches!(bind_in(folder.path()), Err(ControlError::Taken)));
        connect(folder.path()).unwrap();
        drop(file);
        bind_in(folder.path()).unwrap();
    }

    #[test]
    fn another_file_of_that_name_is_left_alone() {
        let folder = tempdir().unwrap();
        fs::write(socket_path(folder.path()), "mine").unwrap();
        assert!(matches!(bind_in(folder.path()), Err(ControlError::NotASocket)));
        assert_eq!(fs::read(socket_path(folder.path())).unwrap(), b"mine");
    }

    #[test]
    fn a_path_that_is_too_long_for_a_socket_works() {
        let folder = tempdir().unwrap();
        let deep = folder.path().join("a".repeat(100)).join("b".repeat(100));
        let (file, _listener) = bind_in(&deep).unwrap();
        connect(&deep).unwrap();
        assert!(socket_path(&deep).exists());
        drop(file);
        assert!(!socket_path(&deep).exists());
    }
}
