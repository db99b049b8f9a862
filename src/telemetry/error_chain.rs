//! Prints an error with its causes, once, where it is handled.

use std::error::Error;
use std::fmt;
use std::io;

/// Prints an error and its causes: `cannot fetch …: connection refused`.
pub(crate) struct ErrorChain<'e>(pub(crate) &'e (dyn Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors = std::iter::successors(Some(self.0), |&error| error.source());
        for (index, error) in errors.enumerate() {
            let separator = if index == 0 { "" } else { ": " };
            match error.downcast_ref() {
                Some(error) => write!(f, "{separator}{}", reason(error))?,
                None => write!(f, "{separator}{error}")?,
            }
        }
        Ok(())
    }
}

/// The message of the operating system, in the style of the gateway's own messages.
pub(crate) fn reason(error: &io::Error) -> String {
    if error.get_ref().is_some() {
        return error.to_string();
    }
    match error.kind() {
        io::ErrorKind::NotFound => "no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::AddrInUse => "another process has the address".to_owned(),
        io::ErrorKind::IsADirectory => "it is a folder".to_owned(),
        io::ErrorKind::NotADirectory => "a part of the path is a file, not a folder".to_owned(),
        _ => error.to_string(),
    }
}
