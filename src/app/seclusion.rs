//! What this process has in memory stays there: no core dumps, and no look into it by others of the same user.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use tracing::warn;

/// To be called before a secret is read. `/proc/PID/environ` and `/proc/PID/mem` are root's alone from then on.
pub(crate) fn seclude() {
    let nothing = Rlimit { current: Some(0), maximum: Some(0) };
    let done = setrlimit(Resource::Core, nothing).and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable));
    if let Err(error) = done {
        warn!(%error, "core dumps can't be turned off: a crash may write secrets to disk");
    }
}
