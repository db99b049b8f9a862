//! Tells the service manager the state of the gateway (sd_notify(3)).
//!
//! Does nothing without `NOTIFY_SOCKET`. A thread of its own sends, because the service manager may be slow to read.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use sd_notify::NotifyState;
use tracing::{error, warn};

/// The way to the service manager. Empty if there is none.
#[derive(Clone, Debug, Default)]
pub(super) struct ServiceManager(Option<SyncSender<Notification>>);

/// A notification of the service manager. Its text is for people.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Notification {
    /// The start, or a reload, is complete.
    Ready(String),
    Reloading,
    Stopping(String),
    /// The workers turn.
    Watchdog,
}

/// Notifications that wait for the thread.
const MAX_WAITING: usize = 64;
/// A status is one line of `systemctl status`.
const MAX_STATUS: usize = 300;

impl ServiceManager {
    /// Starts the thread if the process has a service manager.
    pub(super) fn start() -> Self {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return Self(None);
        }
        let (sender, notifications) = sync_channel(MAX_WAITING);
        let thread = thread::Builder::new().name("service-manager".to_owned()).spawn(move || send(&notifications));
        match thread {
            Ok(_) => Self(Some(sender)),
            Err(error) => {
                error!(%error, "cannot start the thread that notifies the service manager: it is told nothing");
                Self(None)
            }
        }
    }

    /// Never waits. If the service manager has not read for a long time, the notification is lost.
    pub(super) fn notify(&self, notification: Notification) {
        if let Some(sender) = &self.0
            && sender.try_send(notification).is_err()
        {
            warn!("the service manager does not read notifications: one is lost");
        }
    }
}

fn send(notifications: &Receiver<Notification>) {
    let mut failed = false;
    for notification in notifications {
        let sent = match &notification {
            Notification::Ready(text) => sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(&status(text))]),
            Notification::Reloading => NotifyState::monotonic_usec_now()
                .and_then(|now| sd_notify::notify(&[NotifyState::Reloading, now, NotifyState::Status("reloading")])),
            Notification::Stopping(text) => {
                sd_notify::notify(&[NotifyState::Stopping, NotifyState::Status(&status(text))])
            }
            Notification::Watchdog => sd_notify::notify(&[NotifyState::Watchdog]),
        };
        match sent {
            Ok(()) => failed = false,
            // Logged once: a broken socket fails for every notification.
            Err(error) if !failed => {
                failed = true;
                warn!(%error, "cannot notify the service manager: check NOTIFY_SOCKET and NotifyAccess=");
            }
            Err(_) => {}
        }
    }
}

/// One line of limited length: a line break would begin another assignment.
fn status(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_STATUS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_line_of_limited_length() {
        assert_eq!(status("refused: a\nREADY=1"), "refused: a READY=1");
        assert_eq!(status(&"x".repeat(1000)).len(), MAX_STATUS);
    }
}
