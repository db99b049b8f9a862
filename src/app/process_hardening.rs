//! Hardens the process: no core dumps, and no access to its memory by other processes of the same user.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use tracing::warn;

/// Must be called before a secret is read. Afterwards only root can read `/proc/PID/environ` and `/proc/PID/mem`.
pub(crate) fn harden_process() {
    let no_core = Rlimit { current: Some(0), maximum: Some(0) };
    let result = setrlimit(Resource::Core, no_core).and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable));
    if let Err(error) = result {
        warn!(%error, "cannot turn off core dumps: a crash may write secrets to disk");
    }
}
