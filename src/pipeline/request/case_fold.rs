//! Case folding of paths: the spellings that a service which ignores case reads as the same path.
//!
//! Pure. Folding is wider than the rule of any single service: too much folding only refuses a path, but too little
//! would let a path bypass a rule. It works character by character and never adds or removes a `/`, so that a folded
//! path has the folded segments of the path.

use std::borrow::Cow;

/// The lower case of the upper case: `ı` and `K` (Kelvin) have the upper case of ASCII letters, `ẞ` that of `ss`.
pub(crate) fn fold(text: &str) -> Cow<'_, str> {
    if !may_change(text) {
        return Cow::Borrowed(text);
    }
    // Lower case comes first as well, since `ẞ` is its own upper case.
    let lower = text.chars().flat_map(char::to_lowercase);
    let folded = lower.flat_map(char::to_uppercase).flat_map(char::to_lowercase);
    // `İ` is `i` to some services, and `i` with a combining dot to others: to both it is `i` without that dot.
    Cow::Owned(folded.filter(|character| *character != COMBINING_DOT_ABOVE).collect())
}

/// False where [`fold`] gives the text itself: ASCII without upper case.
pub(crate) fn may_change(text: &str) -> bool {
    // Without an early exit the compiler vectorizes this loop.
    text.bytes().fold(false, |so_far, byte| so_far | !byte.is_ascii() | byte.is_ascii_uppercase())
}

const COMBINING_DOT_ABOVE: char = '\u{307}';

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn are_one(spellings: &[&str]) {
        for spelling in spellings {
            assert_eq!(fold(spelling), fold(spellings[0]), "{spelling}");
        }
    }

    #[test]
    fn spellings_that_some_service_takes_for_the_same_are_one() {
        are_one(&["/admin", "/ADMIN", "/adm\u{131}n", "/ADM\u{130}N", "/admi\u{307}n"]);
        are_one(&["/secret", "/SECRET", "/\u{17f}ecret"]);
        are_one(&["/keys", "/KEYS", "/\u{212a}eys"]);
        are_one(&["/stra\u{df}e", "/STRASSE", "/STRA\u{1e9e}E", "/strasse"]);
        are_one(&["/\u{3c3}\u{3c2}", "/\u{3a3}\u{3a3}", "/\u{3c3}\u{3c3}"]);
        are_one(&["/\u{fb01}le", "/FILE"]);
        assert_ne!(fold("/a"), fold("/b"));
    }

    #[test]
    fn plain_lower_case_is_not_copied() {
        for text in ["/admin/x-1_2~", "", "/"] {
            assert!(matches!(fold(text), Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn every_character_folds_as_its_other_cases_do_and_once() {
        for character in (char::MIN..=char::MAX).filter(|character| *character != COMBINING_DOT_ABOVE) {
            let text = character.to_string();
            let folded = fold(&text).into_owned();
            assert_eq!(fold(&folded), folded, "{character:?} folds twice");
            let cases: [String; 2] = [text.to_lowercase(), text.to_uppercase()];
            for case in &cases {
                assert_eq!(fold(case), folded, "{character:?} and {case:?}");
            }
            assert_eq!(folded.contains('/'), character == '/', "{character:?}");
        }
    }
}
