//! Values that are one of a few words.

use super::form::ValueForm;
use super::values::{Hint, ScalarValue};

/// A value that is written as a word. Its words are listed once, for the parser, its messages and the schema.
pub(super) trait Word: Sized {
    fn words() -> Vec<(&'static str, Self)>;
}

impl<T: Word> ScalarValue for T {
    fn expected() -> String {
        let words: Vec<String> = T::words().iter().map(|(word, _)| format!("`{word}`")).collect();
        match words.split_last() {
            Some((last, [])) => last.clone(),
            Some((last, others)) => format!("{} or {last}", others.join(", ")),
            None => String::new(),
        }
    }

    fn form() -> ValueForm {
        ValueForm::Words(T::words().into_iter().map(|(word, _)| word).collect())
    }

    fn parse(text: &str) -> Result<Self, Hint> {
        T::words().into_iter().find(|(word, _)| *word == text).map(|(_, value)| value).ok_or("")
    }
}
