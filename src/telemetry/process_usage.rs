//! The resources of the process, for the metrics.

/// The resources of a process. Values that the system does not report are absent.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProcessUsage {
    /// Seconds since 1970.
    pub(crate) started: f64,
    pub(crate) cpu_seconds: Option<f64>,
    pub(crate) resident_bytes: Option<u64>,
    pub(crate) virtual_bytes: Option<u64>,
    pub(crate) open_files: Option<u64>,
    pub(crate) max_files: Option<u64>,
    pub(crate) threads: Option<u64>,
}
