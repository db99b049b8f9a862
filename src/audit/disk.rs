//! Checks that the disk can hold all files that rotation keeps.
//!
//! Runs once, at the start. Only warns: space may be freed before the log needs it.

use std::fs;
use std::io;
use std::path::Path;

use tracing::warn;

use super::log_paths::{beside, folder};
use super::rotation::Rotation;

/// Warns if the log may become larger than the disk has room for.
pub(super) fn warn_if_short(log: &Path, rotation: &Rotation) {
    match shortage(log, rotation) {
        Ok(Some(shortage)) => warn!(path = %log.display(), "{shortage}"),
        Ok(None) => {}
        Err(error) => {
            warn!(%error, path = %log.display(), "cannot read the free space of the audit log's disk: it is not known whether all files of the log have room")
        }
    }
}

/// A warning if the log may become larger than the disk has room for.
pub(crate) fn shortage(log: &Path, rotation: &Rotation) -> io::Result<Option<String>> {
    let Some(max_total) = rotation.max_total() else { return Ok(None) };
    let free = available(log)?;
    let message = || {
        format!(
            "the disk cannot hold the audit log: {} by audit.rotate.size and audit.rotate.keep, {} free or taken by it; lower \
             one of the two, or set audit.file",
            shown(max_total),
            shown(free)
        )
    };
    Ok((free < max_total).then(message))
}

/// Bytes that are free, and those that the log has taken.
fn available(log: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(folder(log))?;
    let files = beside(log)?;
    let lengths = files.iter().map(|path| path.as_path()).chain([log]).filter_map(|path| fs::metadata(path).ok());
    let taken: u64 = lengths.map(|metadata| metadata.len()).sum();
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize).saturating_add(taken))
}

/// A number of bytes with one decimal, in the largest unit that fits.
fn shown(bytes: u64) -> String {
    let units = [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let fitting = units.into_iter().find(|(_, size)| bytes >= *size);
    fitting.map_or_else(
        || format!("{bytes} B"),
        |(unit, size)| {
            let tenths = u128::from(bytes) * 10 / u128::from(size);
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_with_their_unit() {
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (4 << 30, "4.0 GiB"), (u64::MAX, "17179869183.9 GiB")]
        {
            assert_eq!(shown(bytes), text);
        }
    }
}
