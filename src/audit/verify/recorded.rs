//! Events that the log records about itself: lines that rotation removed, lines that were missing, lines that a crash tore.

use memchr::memmem;

use crate::audit::log_paths;

// A quote in a value is escaped: no value that a client sends can look like this.
const RECOVERED: &[u8] = b",\"gateway.event\":\"recovered\",";
const REMOVED: &[u8] = b",\"gateway.event\":\"removed\",";
const MISSING: &[u8] = b",\"gateway.event\":\"missing\",";
const FILE: &[u8] = b",\"gateway.file\":\"";
const MISSING_FROM: &[u8] = b",\"gateway.missing_from\":";
const MISSING_UP_TO: &[u8] = b",\"gateway.missing_up_to\":";

/// How many of these lines record that a torn line was cut off.
pub(super) fn recovered(lines: &[u8]) -> u64 {
    memmem::find_iter(lines, RECOVERED).count() as u64
}

/// The last line that rotation has removed, or 0. Rotation removes the oldest file first, so that all lines before are gone too.
pub(crate) fn removed_up_to(lines: &[u8]) -> u64 {
    let last_of_file = |line: &[u8]| {
        let name = std::str::from_utf8(text_after(line, FILE)?).ok()?;
        Some(log_paths::numbers(name.rsplit_once('.')?.1)?.1)
    };
    events(lines, REMOVED).filter_map(last_of_file).max().unwrap_or(0)
}

/// The first and last number of lines that the gateway found to be missing.
pub(super) fn missing(lines: &[u8]) -> impl Iterator<Item = (u64, u64)> {
    events(lines, MISSING)
        .filter_map(|line| Some((number_after(line, MISSING_FROM)?, number_after(line, MISSING_UP_TO)?)))
}

/// The rest of each line that holds this event.
fn events<'l>(lines: &'l [u8], event: &'static [u8]) -> impl Iterator<Item = &'l [u8]> {
    memmem::find_iter(lines, event).map(|at| {
        let rest = lines.get(at..).unwrap_or_default();
        memchr::memchr(b'\n', rest).and_then(|end| rest.get(..end)).unwrap_or(rest)
    })
}

pub(super) fn text_after<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    let rest = line.get(memmem::find(line, name)? + name.len()..)?;
    rest.get(..memchr::memchr(b'"', rest)?)
}

pub(super) fn number_after(line: &[u8], name: &[u8]) -> Option<u64> {
    let rest = line.get(memmem::find(line, name)? + name.len()..)?;
    let end = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(rest.get(..end)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_the_log_are_read_line_by_line() {
        let lines = b"{\"seq\":1,\"gateway.event\":\"removed\",\"gateway.file\":\"a.000000000001-000000000009\"}\n\
            {\"seq\":2,\"gateway.event\":\"missing\",\"gateway.missing_from\":3,\"gateway.missing_up_to\":7}\n\
            {\"seq\":3,\"gateway.event\":\"missing\"}\n{\"seq\":4,\"gateway.missing_from\":3}\n";
        assert_eq!((removed_up_to(lines), recovered(lines)), (9, 0));
        assert_eq!(missing(lines).collect::<Vec<_>>(), [(3, 7)]);
        assert_eq!(removed_up_to(b"{\"seq\":1,\"gateway.event\":\"removed\",\"gateway.file\":\"a.1\"}\n"), 0);
    }
}
