//! Runs the keeper of the uses of assertions, on its own thread.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use tracing::error;

use super::background::RESTART_AFTER;
use crate::trust::replay::ReplayKeeper;

pub(super) fn start(mut keeper: ReplayKeeper) -> io::Result<()> {
    let run = move || {
        // Started again if it dies: without it no assertion is accepted.
        while catch_unwind(AssertUnwindSafe(|| keeper.run())).is_err() {
            error!("the thread that records the uses of assertions ended because of a panic; it is started again");
            thread::park_timeout(RESTART_AFTER);
        }
    };
    thread::Builder::new().name("replay".to_owned()).spawn(run).map(drop)
}
