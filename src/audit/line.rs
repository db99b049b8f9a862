//! JSON lines, written straight into a reused buffer.
//!
//! Everything that could end a line, move a cursor or turn text around is escaped, so that no value can look like a
//! second record, or like other text on a terminal. Long values are cut and say so.

use std::fmt::{self, Write as _};

/// One object under construction. Its opening brace, its number and its hash are the writer's to add.
pub(crate) struct LineBuilder<'b> {
    buffer: &'b mut Vec<u8>,
}

/// Longer values are cut, as they are written.
const MAX_VALUE_BYTES: usize = 2048;
const CUT: &str = "…(cut)";

impl<'b> LineBuilder<'b> {
    pub(crate) fn open(buffer: &'b mut Vec<u8>) -> Self {
        Self { buffer }
    }

    pub(crate) fn text(&mut self, name: &'static str, value: &str) -> &mut Self {
        self.name(name);
        self.buffer.push(b'"');
        if !escape(self.buffer, value) {
            self.buffer.extend_from_slice(CUT.as_bytes());
        }
        self.buffer.push(b'"');
        self
    }

    pub(crate) fn optional(&mut self, name: &'static str, value: Option<&str>) -> &mut Self {
        if let Some(value) = value {
            self.text(name, value);
        }
        self
    }

    /// A constant or generated value that needs no escapes.
    pub(crate) fn literal(&mut self, name: &'static str, value: impl AsRef<[u8]>) -> &mut Self {
        self.name(name);
        self.buffer.push(b'"');
        self.buffer.extend_from_slice(value.as_ref());
        self.buffer.push(b'"');
        self
    }

    /// A value that prints as safe text: no quotes, no escapes.
    pub(crate) fn plain(&mut self, name: &'static str, value: impl fmt::Display) -> &mut Self {
        self.name(name);
        self.buffer.push(b'"');
        // Writing into a Vec does not fail.
        let _ = write!(Bytes(self.buffer), "{value}");
        self.buffer.push(b'"');
        self
    }

    pub(crate) fn number(&mut self, name: &'static str, value: u64) -> &mut Self {
        self.name(name);
        self.buffer.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        self
    }

    /// A number of one of several: `name.of`. Neither needs escapes.
    pub(crate) fn number_of(&mut self, name: &'static str, of: &'static str, value: u64) -> &mut Self {
        self.buffer.extend_from_slice(b",\"");
        self.buffer.extend_from_slice(name.as_bytes());
        self.buffer.push(b'.');
        self.buffer.extend_from_slice(of.as_bytes());
        self.buffer.extend_from_slice(b"\":");
        self.buffer.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        self
    }

    /// Members that were written into another line before.
    pub(crate) fn part(&mut self, members: &[u8]) {
        self.buffer.extend_from_slice(members);
    }

    pub(crate) fn boolean(&mut self, name: &'static str, value: bool) -> &mut Self {
        self.name(name);
        self.buffer.extend_from_slice(if value { b"true" } else { b"false" });
        self
    }

    pub(crate) fn close(&mut self) {
        self.buffer.extend_from_slice(b"}\n");
    }

    fn name(&mut self, name: &'static str) {
        self.buffer.extend_from_slice(b",\"");
        self.buffer.extend_from_slice(name.as_bytes());
        self.buffer.extend_from_slice(b"\":");
    }
}

struct Bytes<'b>(&'b mut Vec<u8>);

impl fmt::Write for Bytes<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// As much of the value as fits, and whether that is all of it.
fn escape(buffer: &mut Vec<u8>, value: &str) -> bool {
    let harmless = |byte: &u8| matches!(byte, 0x20..=0x7e) & (*byte != b'"') & (*byte != b'\\');
    // Without an early exit the compiler vectorizes this loop.
    if value.len() <= MAX_VALUE_BYTES && value.as_bytes().iter().fold(true, |so_far, byte| so_far & harmless(byte)) {
        buffer.extend_from_slice(value.as_bytes());
        return true;
    }
    let end = buffer.len() + MAX_VALUE_BYTES;
    for character in value.chars() {
        if buffer.len() >= end {
            return false;
        }
        match character {
            '"' => buffer.extend_from_slice(b"\\\""),
            '\\' => buffer.extend_from_slice(b"\\\\"),
            hidden if is_hidden(hidden) => {
                let mut units = [0; 2];
                for unit in hidden.encode_utf16(&mut units) {
                    let _ = write!(Bytes(buffer), "\\u{unit:04x}");
                }
            }
            shown => buffer.extend_from_slice(shown.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    true
}

/// The value for a terminal, with the same characters escaped as in a line.
pub(crate) fn shown(value: &str) -> String {
    let mut shown = String::with_capacity(value.len());
    for character in value.chars() {
        if is_hidden(character) {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Control characters, line and paragraph separators, and characters that change the direction of text.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn line(value: &str) -> String {
        let mut buffer = b"{\"seq\":1".to_vec();
        LineBuilder::open(&mut buffer).text("v", value).close();
        String::from_utf8(buffer).unwrap()
    }

    #[test]
    fn long_values_are_cut_and_say_so() {
        for long in ["ä", "\u{1}", "a"] {
            let line = line(&long.repeat(64 * 1024));
            assert!(line.len() < 2200 && line.contains(CUT), "{}", line.len());
        }
    }

    #[test]
    fn terminal_controls_and_separators_are_escaped() {
        let line = line("a\u{1b}[2Jb\u{2028}c\u{202e}d\u{7f}");
        assert_eq!(line, "{\"seq\":1,\"v\":\"a\\u001b[2Jb\\u2028c\\u202ed\\u007f\"}\n");
    }

    proptest! {
        #[test]
        fn any_text_stays_one_line_and_reads_back_as_itself(value in any::<String>()) {
            let line = line(&value);
            prop_assert_eq!(line.matches('\n').count(), 1);
            let read: Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(read["v"].as_str().unwrap(), value);
        }
    }
}
