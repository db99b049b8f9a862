//! Decides how many connections are allowed, given the number of files that the process may open.
//!
//! Client connections may use at most half of the file descriptors. Each client connection may need an upstream
//! connection. The admin listener, the audit log and the key files need descriptors as well.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

/// Descriptors kept for listeners, files and runtimes.
const RESERVED: u64 = 256;

/// The effective connection limit. Raises the soft limit on open files up to the need or to the hard limit.
pub(super) fn connections(configured: Option<usize>) -> Option<usize> {
    let limit = getrlimit(Resource::Nofile);
    let needed = configured.map_or(u64::MAX, |configured| 2 * configured as u64 + RESERVED);
    let raised = raised(&limit, needed);
    let files = match raised {
        // If the soft limit cannot be raised, its current value is used.
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
            "`limits.connections` exceeds half of the open file limit and is reduced to it: raise the file limit (LimitNOFILE, ulimit -n)"
        ),
        (None, Some(kept)) => {
            info!(kept, files, "connections are limited to half of the open file limit")
        }
        (Some(_), _) | (None, None) => {}
    }
    kept
}

/// The new soft limit, or `None` to leave it unchanged.
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
