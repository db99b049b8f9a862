//! How many connections there can be with the files that the process may open.
//!
//! At most half of them are clients' connections: each may call for one to an upstream, and the admin listener, the audit log and
//! the keys must not go without.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

/// What listeners, files and runtimes need.
const OWN: u64 = 256;

/// The bound on connections that is kept. Raises the soft limit on open files as far as it may and must.
pub(super) fn connections(configured: Option<usize>) -> Option<usize> {
    let limit = getrlimit(Resource::Nofile);
    let needed = configured.map_or(u64::MAX, |configured| 2 * configured as u64 + OWN);
    let raised = raised(&limit, needed);
    let files = match raised {
        // A limit that can't be raised is kept.
        Some(current) if setrlimit(Resource::Nofile, Rlimit { current: Some(current), ..limit }).is_ok() => {
            Some(current)
        }
        Some(_) | None => limit.current,
    };
    let kept = bound(configured, files);
    match (configured, kept) {
        (Some(configured), Some(kept)) if kept < configured => warn!(
            configured,
            kept,
            files,
            "`limits.connections` is more than half of the files that the process may open: raise the limit (LimitNOFILE, ulimit -n)"
        ),
        (None, Some(kept)) => {
            info!(kept, files, "connections are bounded by half of the files that the process may open")
        }
        (Some(_), _) | (None, None) => {}
    }
    kept
}

/// Where the soft limit should go; `None` to leave it.
fn raised(limit: &Rlimit, needed: u64) -> Option<u64> {
    let current = limit.current?;
    let target = needed.min(limit.maximum.unwrap_or(u64::MAX));
    (target > current).then_some(target)
}

fn bound(configured: Option<usize>, files: Option<u64>) -> Option<usize> {
    let half = files.map(|files| usize::try_from(files / 2).unwrap_or(usize::MAX).max(1));
    match (configured, half) {
        (Some(configured), Some(half)) => Some(configured.min(half)),
        (either, None) | (None, either) => either,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_take_half_of_the_files_at_most() {
        for (configured, files, kept) in [
            (Some(10_000), Some(1024), Some(512)),
            (Some(100), Some(1024), Some(100)),
            (None, Some(1024), Some(512)),
            (Some(100), None, Some(100)),
            (None, None, None),
        ] {
            assert_eq!(bound(configured, files), kept);
        }
    }

    #[test]
    fn the_soft_limit_goes_as_far_as_it_must_and_may() {
        let limit = |current, maximum| Rlimit { current, maximum };
        assert_eq!(raised(&limit(Some(1024), Some(4096)), 2000), Some(2000));
        assert_eq!(raised(&limit(Some(1024), Some(4096)), 20_000), Some(4096));
        assert_eq!(raised(&limit(Some(1024), None), u64::MAX), Some(u64::MAX));
        assert_eq!(raised(&limit(Some(1024), Some(1024)), 20_000), None);
        assert_eq!(raised(&limit(Some(1024), Some(4096)), 100), None);
        assert_eq!(raised(&limit(None, None), 20_000), None);
    }
}
