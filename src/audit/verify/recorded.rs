//! Events that the log records about itself: lines that rotation removed, lines that were missing, lines that a crash
//! tore.

use memchr::memmem;

use crate::audit::chain::sequence;
use crate::audit::log_paths;

/// An event as a line states it. Anyone who can write to the file can append such a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordedEvent {
    /// A torn line was cut off.
    Recovered,
    /// Rotation removed a file that ends with this line. It removes the oldest file first, so that all lines before are
    /// gone too.
    Removed { up_to: u64 },
    /// The gateway found that these lines are missing.
    Missing { from: u64, up_to: u64 },
}

// A quote in a value is escaped: no value that a client sends can look like this.
const EVENT: &[u8] = b",\"gateway.event\":\"";
const FILE: &[u8] = b",\"gateway.file\":\"";
const MISSING_FROM: &[u8] = b",\"gateway.missing_from\":";
const MISSING_UP_TO: &[u8] = b",\"gateway.missing_up_to\":";

/// The events in these lines, in order, each with an offset within its line.
pub(super) fn events(lines: &[u8]) -> impl Iterator<Item = (usize, RecordedEvent)> {
    memmem::find_iter(lines, EVENT).filter_map(|at| {
        let rest = lines.get(at..).unwrap_or_default();
        let rest = memchr::memchr(b'\n', rest).and_then(|end| rest.get(..end)).unwrap_or(rest);
        Some((at, event(rest)?))
    })
}

/// The event in this part of a line.
fn event(rest: &[u8]) -> Option<RecordedEvent> {
    match text_after(rest, EVENT)? {
        b"recovered" => Some(RecordedEvent::Recovered),
        b"removed" => {
            let name = std::str::from_utf8(text_after(rest, FILE)?).ok()?;
            let (_, up_to) = log_paths::numbers(name.rsplit_once('.')?.1)?;
            Some(RecordedEvent::Removed { up_to })
        }
        b"missing" => {
            let (from, up_to) = (number_after(rest, MISSING_FROM)?, number_after(rest, MISSING_UP_TO)?);
            Some(RecordedEvent::Missing { from, up_to })
        }
        _ => None,
    }
}

/// The last line that rotation has removed, as this line states, or 0.
pub(crate) fn removed_up_to(line: &[u8]) -> u64 {
    let number = sequence(line).unwrap_or(0);
    let removed = events(line).filter_map(|(_, event)| match event {
        RecordedEvent::Removed { up_to } if event.is_possible_at(number) => Some(up_to),
        RecordedEvent::Removed { .. } | RecordedEvent::Missing { .. } | RecordedEvent::Recovered => None,
    });
    removed.max().unwrap_or(0)
}

impl RecordedEvent {
    /// Whether the line with this number can state it: rotation never removes the line that records the removal.
    pub(super) fn is_possible_at(self, number: u64) -> bool {
        match self {
            Self::Removed { up_to } => up_to < number,
            Self::Recovered | Self::Missing { .. } => true,
        }
    }
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
        let lines = b"{\"seq\":10,\"gateway.event\":\"removed\",\"gateway.file\":\"a.000000000001-000000000009\"}\n\
            {\"seq\":11,\"gateway.event\":\"missing\",\"gateway.missing_from\":3,\"gateway.missing_up_to\":7}\n\
            {\"seq\":12,\"gateway.event\":\"missing\"}\n{\"seq\":13,\"gateway.missing_from\":3}\n\
            {\"seq\":14,\"gateway.event\":\"recovered\",\"gateway.cut\":\"\"}\n";
        let found: Vec<_> = events(lines).map(|(_, event)| event).collect();
        let (removed, missing) = (RecordedEvent::Removed { up_to: 9 }, RecordedEvent::Missing { from: 3, up_to: 7 });
        assert_eq!(found, [removed, missing, RecordedEvent::Recovered]);
        assert_eq!(removed_up_to(lines), 9);
        for line in [
            "{\"seq\":9,\"gateway.event\":\"removed\",\"gateway.file\":\"a.1\"}\n",
            "{\"seq\":9,\"gateway.event\":\"removed\",\"gateway.file\":\"a.000000000001-000000000009\"}\n",
        ] {
            assert_eq!(removed_up_to(line.as_bytes()), 0, "{line}");
        }
    }
}
