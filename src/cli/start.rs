//! Why the gateway cannot start, with the key of the configuration to change.

use std::net::SocketAddr;
use std::process::ExitCode;

use super::terminal::{failed, failed_with};
use crate::app::start_error::StartError;
use crate::server::listener::ListenError;

/// `admin` is the configured address of the admin listener.
pub(super) fn cannot_start(error: &StartError, admin: Option<SocketAddr>) -> ExitCode {
    let (StartError::Listen(ListenError::Taken { address }) | StartError::Listen(ListenError::Io { address, .. })) =
        error
    else {
        return failed(error);
    };
    let key = if Some(*address) == admin { "admin.address" } else { "listeners[].address" };
    failed_with(error, &format!("change `{key}` in the configuration, or stop the other process"))
}
