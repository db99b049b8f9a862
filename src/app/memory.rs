//! The memory budget. Above 92 % of it, no new connections are accepted. Above 95 %, new requests are refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::sleep;
use tracing::{info, warn};

use crate::server::connection_limiter::ConnectionLimiter;

const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// Percentage of the budget.
const REFUSE_CONNECTIONS_AT: u64 = 92;
const REFUSE_REQUESTS_AT: u64 = 95;

/// Measures the memory use for as long as the gateway runs.
pub(super) async fn watch(budget: u64, limiter: Arc<ConnectionLimiter>, is_short: Arc<AtomicBool>) {
    let mut was_short = false;
    loop {
        sleep(CHECK_INTERVAL).await;
        // If the memory use is unknown, this check is skipped. The other limits still apply.
        let Some(used) = resident() else { continue };
        let per_cent = used.saturating_mul(100) / budget.max(1);
        limiter.close(per_cent >= REFUSE_CONNECTIONS_AT);
        let short = per_cent >= REFUSE_REQUESTS_AT;
        is_short.store(short, Ordering::Relaxed);
        if short != was_short {
            if short {
                warn!(
                    memory.used_bytes = used,
                    memory.budget_bytes = budget,
                    "memory use is near the budget: requests are refused"
                );
            } else {
                info!(
                    memory.used_bytes = used,
                    memory.budget_bytes = budget,
                    "memory use is below the budget again: requests are accepted"
                );
            }
            was_short = short;
        }
    }
}

/// Resident memory of this process, in bytes.
fn resident() -> Option<u64> {
    kibibytes(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

/// Memory that this process may use: 90 % of the control group's limit or of the machine's memory, whichever is less.
pub(super) fn available() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| kibibytes(&text, "MemTotal:"));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let files = groups.lines().flat_map(limit_files);
    let limits = files.filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok());
    limits.chain(machine).min().map(|bytes: u64| bytes / 10 * 9)
}

/// Limit files of a control group and of its parents, given its line in `/proc/self/cgroup`. A line is `0::/path` in
/// version 2 and `4:memory:/path` in version 1.
fn limit_files(line: &str) -> Vec<PathBuf> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { return Vec::new() };
    let (root, file) = match controllers {
        "" => ("/sys/fs/cgroup", "memory.max"),
        _ if controllers.split(',').any(|name| name == "memory") => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        _ => return Vec::new(),
    };
    let groups = Path::new(path).ancestors().map(|group| group.strip_prefix("/").unwrap_or(group));
    groups.map(|group| Path::new(root).join(group).join(file)).collect()
}

/// A line of a file of the kernel, in bytes.
pub(super) fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_group_limits_are_found_with_those_of_its_parents() {
        let files = |line: &str| limit_files(line).iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
        let v2 = [
            "/sys/fs/cgroup/a.slice/b.service/memory.max",
            "/sys/fs/cgroup/a.slice/memory.max",
            "/sys/fs/cgroup/memory.max",
        ];
        assert_eq!(files("0::/a.slice/b.service"), v2);
        assert_eq!(
            files("4:memory:/a"),
            ["/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        );
        assert!(files("3:cpu,cpuacct:/a").is_empty() && files("garbage").is_empty());
    }

    #[test]
    fn the_files_of_the_kernel_are_parsed() {
        assert_eq!(kibibytes("VmPeak:\t 100 kB\nVmRSS:\t   17408 kB\n", "VmRSS:"), Some(17_825_792));
        assert_eq!(kibibytes("VmRSS: much\n", "VmRSS:"), None);
        assert!(resident().is_some_and(|bytes| bytes > 1024 * 1024));
        assert!(available().is_some_and(|bytes| bytes > resident().unwrap()));
    }
}
