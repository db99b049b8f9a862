//! Reads tokens from standard input, so that no process list and no shell history shows them.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _};
use std::process::ExitCode;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use super::USAGE;
use super::terminal::{failed, note};
use crate::jose::token::Unverified;

const MAX_INPUT: u64 = 64 * 1024;
/// A pipe may stay open without input, for example below `ssh`.
const PIPE_TIMEOUT: Duration = Duration::from_secs(1);

/// The token on standard input. `verb` is the command to show if there is none.
pub(super) fn read_token(verb: &str) -> Result<String, ExitCode> {
    let mut text = String::new();
    std::io::stdin().take(MAX_INPUT).read_to_string(&mut text).map_err(|error| failed(&error))?;
    let token = token_in(&text);
    if token.is_empty() {
        note(format_args!("no token on standard input; try: printf %s \"$TOKEN\" | {verb}"));
        return Err(ExitCode::from(USAGE));
    }
    Ok(token.to_owned())
}

/// Whether a token is on standard input although the command does not read one.
///
/// A file keeps its position, so that a loop over its lines can go on. The data of a pipe is consumed.
pub(super) fn holds_token() -> bool {
    let input = fs::metadata("/dev/stdin").map(|metadata| metadata.file_type());
    let text = match input {
        Ok(kind) if kind.is_fifo() => text_in_pipe(),
        Ok(kind) if kind.is_file() => text_in_file(),
        Ok(_) | Err(_) => None,
    };
    text.is_some_and(|text| Unverified::parse(token_in(&text)).is_ok())
}

pub(super) fn token_in(text: &str) -> &str {
    let text = text.trim();
    text.strip_prefix("Bearer ").or_else(|| text.strip_prefix("DPoP ")).unwrap_or(text)
}

fn text_in_pipe() -> Option<String> {
    let (sender, text) = channel();
    thread::spawn(move || {
        let mut text = String::new();
        let read = std::io::stdin().take(MAX_INPUT).read_to_string(&mut text);
        sender.send(read.map(|_| text))
    });
    text.recv_timeout(PIPE_TIMEOUT).ok()?.ok()
}

fn text_in_file() -> Option<String> {
    let mut file = File::from(std::io::stdin().as_fd().try_clone_to_owned().ok()?);
    let position = file.stream_position().ok()?;
    let mut bytes = vec![0; usize::try_from(MAX_INPUT).ok()?];
    let length = file.read_at(&mut bytes, position).ok()?;
    bytes.truncate(length);
    String::from_utf8(bytes).ok()
}
