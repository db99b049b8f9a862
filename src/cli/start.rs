//! Why the gateway cannot start, with the key of the configuration to change.

use std::net::SocketAddr;
use std::process::ExitCode;

use super::terminal::{failed, failed_with};
use crate::app::start_error::StartError;
use crate::server::listener::ListenError;

/// `control` are the configured addresses of the control plane's listeners, with their keys.
pub(super) fn cannot_start(error: &StartError, control: &[(&'static str, SocketAddr)]) -> ExitCode {
    let (StartError::Listen(ListenError::Taken { address }) | StartError::Listen(ListenError::Io { address, .. })) =
        error
    else {
        return failed(error);
    };
    let of_control = control.iter().find(|(_, configured)| configured == address);
    let key = of_control.map_or("listeners[].address", |(key, _)| key);
    failed_with(error, &format!("change `{key}` in the configuration, or stop the other process"))
}
