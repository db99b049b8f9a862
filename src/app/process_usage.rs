//! The resources that this process uses, as the kernel reports them, for the metrics `process_…`.

use std::fs;

use rustix::process::{Resource, getrlimit};

use super::memory::kibibytes;
use crate::clock::UnixTime;
use crate::telemetry::process_usage::ProcessUsage;

/// Linux reports times in this unit on all machines, independent of the rate of its own clock.
const TICKS_PER_SECOND: f64 = 100.0;

/// Values that cannot be read are absent.
pub(super) fn usage(started: UnixTime) -> ProcessUsage {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    ProcessUsage {
        started: started.seconds() as f64,
        cpu_seconds: fs::read_to_string("/proc/self/stat").ok().and_then(|stat| cpu_seconds(&stat)),
        resident_bytes: kibibytes(&status, "VmRSS:"),
        virtual_bytes: kibibytes(&status, "VmSize:"),
        open_files: fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as u64),
        max_files: getrlimit(Resource::Nofile).current,
        threads: status.lines().find_map(|line| line.strip_prefix("Threads:")?.trim().parse().ok()),
    }
}

/// In user and in kernel mode: the fields 14 and 15 of proc_pid_stat(5). The name of the program, in parentheses, may
/// have spaces.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some((ticks()? + ticks()?) as f64 / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_on_the_processor_is_found_behind_any_name() {
        let stat = "12 (a) b) 3) S 1 12 12 0 -1 4194560 1 2 3 4 150 50 7 8 20 0 4 0 99 1000 200";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!((cpu_seconds("12 (a"), cpu_seconds("12 (a) S 1 2")), (None, None));
    }

    #[test]
    fn the_kernel_reports_the_usage_of_this_process() {
        let usage = usage(UnixTime::from_seconds(1));
        assert!(
            usage.cpu_seconds.is_some() && usage.resident_bytes.is_some_and(|bytes| bytes > 1024 * 1024),
            "{usage:?}"
        );
        assert!(usage.virtual_bytes > usage.resident_bytes && usage.open_files > Some(2) && usage.threads > Some(0));
    }
}
