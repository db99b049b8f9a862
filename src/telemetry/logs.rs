//! Logs on stderr: human-readable on a terminal, JSON lines otherwise.

use std::io::{self, IsTerminal as _};

use tracing::Level;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Sets the log filter, such as `debug` or `portcullis::trust=debug`.
const VARIABLE: &str = "PORTCULLIS_LOG";

/// Starts logging; a second call changes nothing.
pub(crate) fn start() {
    let requested = std::env::var(VARIABLE).ok().and_then(|text| text.parse::<Targets>().ok());
    // h2 warns about every unsolicited PING acknowledgement. A client could fill the disk with such warnings.
    let default = || Targets::new().with_default(Level::INFO).with_target("h2", Level::ERROR);
    let filter = requested.unwrap_or_else(default);
    let layer = if io::stderr().is_terminal() {
        fmt::layer().with_writer(io::stderr).with_target(false).compact().boxed()
    } else {
        fmt::layer().with_writer(io::stderr).with_ansi(false).json().flatten_event(true).boxed()
    };
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
}
