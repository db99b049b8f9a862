//! Prints an error with its causes, once, where it is handled.

use std::error::Error;
use std::fmt;
use std::io;

/// Prints an error and its causes: `cannot fetch …: connection refused`. Some libraries repeat a cause in the text of its
/// error: such a cause is left out.
pub(crate) struct ErrorChain<'e>(pub(crate) &'e (dyn Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = text_of(self.0);
        for cause in std::iter::successors(self.0.source(), |&error| error.source()) {
            if text.contains(&cause.to_string()) {
                continue;
            }
            let cause = text_of(cause);
            if !text.contains(&cause) {
                text = format!("{text}: {cause}");
            }
        }
        f.write_str(&text)
    }
}

fn text_of(error: &(dyn Error + 'static)) -> String {
    error.downcast_ref().map_or_else(|| error.to_string(), reason)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<dyn Error + 'static>>,
    }

    #[track_caller]
    fn prints(texts: &[&'static str], expected: &str) {
        let mut source: Option<Box<dyn Error + 'static>> = None;
        for text in texts.iter().rev() {
            source = Some(Box::new(Layer { text, source }));
        }
        assert_eq!(ErrorChain(source.unwrap().as_ref()).to_string(), expected);
    }

    #[test]
    fn a_cause_is_printed_once() {
        prints(&["cannot fetch x", "no answer"], "cannot fetch x: no answer");
        prints(&["broken pipe", "broken pipe"], "broken pipe");
        prints(&["cannot connect: refused", "refused"], "cannot connect: refused");
        prints(&["cannot call x", "NoPerm: no `get`", "NoPerm: no `get`"], "cannot call x: NoPerm: no `get`");
        prints(&["cannot open x", "no route", "cannot open x", "host down"], "cannot open x: no route: host down");
        prints(&["cannot open x", ""], "cannot open x");
    }

    #[test]
    fn a_cause_of_the_operating_system_is_printed_once() {
        let source = |kind: i32| Some(io::Error::from_raw_os_error(kind).into());
        let refused = Layer { text: "cannot connect: Connection refused (os error 111)", source: source(111) };
        assert_eq!(ErrorChain(&refused).to_string(), refused.text);
        let missing = Layer { text: "cannot open x: No such file or directory (os error 2)", source: source(2) };
        assert_eq!(ErrorChain(&missing).to_string(), missing.text);
        let named = Layer { text: "cannot open x", source: source(2) };
        assert_eq!(ErrorChain(&named).to_string(), "cannot open x: no such file");
    }
}
