//! `# portcullis: allow LINT reason`: comments that silence a lint for what begins on a line.
//!
//! Such a comment counts for the line that it ends, or, if it stands alone, for the line below. The comments are those
//! that the YAML parser finds: a `#` in quotes or in a block of text is none.

use std::collections::HashMap;

use super::lint::Lint;
use super::source::{Source, Span};
use super::suggest;
use super::tree::COMMENT_MARK;
use super::warning::Warning;

const ALLOW: &str = "allow";

/// A comment that silences a lint on a line.
#[derive(Debug)]
struct Allow {
    place: Span,
    is_used: bool,
}

/// A lint, and the line of its warning.
type Subject = (Lint, Option<usize>);

/// The warnings that no comment silences, and those about the comments. `comments` are in the order of the file.
pub(super) fn silence(source: &Source, comments: &[Span], mut warnings: Vec<Warning>) -> Vec<Warning> {
    let (mut allows, mut about_comments): (HashMap<Subject, Allow>, Vec<Warning>) = Default::default();
    // The line of a comment that stands alone, and the line that it is about.
    let mut below: Option<(usize, usize)> = None;
    for comment in comments.iter().rev() {
        let line = source.line(*comment);
        let is_alone = source.before_on_line(*comment).trim().is_empty();
        let next = below.filter(|(below, _)| *below == line + 1).map_or(line + 1, |(_, target)| target);
        let target = if is_alone { next } else { line };
        if is_alone {
            below = Some((line, target));
        }
        match parsed(source, *comment) {
            None => {}
            Some(Err(invalid)) => about_comments.push(invalid),
            Some(Ok(lint)) => {
                let allow = Allow { place: *comment, is_used: false };
                if let Some(twice) = allows.insert((lint, Some(target)), allow) {
                    about_comments.push(unneeded(source, (lint, Some(target)), &twice));
                }
            }
        }
    }
    warnings.retain(|warning| match allows.get_mut(&(warning.lint, warning.diagnostic.line)) {
        Some(allow) => {
            allow.is_used = true;
            false
        }
        None => true,
    });
    let unused = allows.iter().filter(|(_, allow)| !allow.is_used);
    warnings.extend(unused.map(|(subject, allow)| unneeded(source, *subject, allow)));
    warnings.extend(about_comments);
    warnings
}

fn unneeded(source: &Source, (lint, line): Subject, allow: &Allow) -> Warning {
    let line = line.unwrap_or_default();
    let message = format!("the lint `{}` finds nothing on line {line}: remove this comment", lint.id());
    Warning::new(source, Lint::UnneededAllow, Some(allow.place), message)
}

/// The lint that a comment silences. `None` if the comment is not ours.
fn parsed(source: &Source, comment: Span) -> Option<Result<Lint, Warning>> {
    let text = source.verbatim(comment).trim_end();
    let ours = text.trim_start_matches(['#', ' ', '\t']).strip_prefix(COMMENT_MARK)?.trim_start();
    let (verb, rest) = word(ours);
    // Other words after the mark are a remark about the gateway.
    suggest::closest(verb, &[ALLOW])?;
    let (id, reason) = word(rest);
    let start = comment.start as usize + text.len() - rest.len();
    let place = Span::new(start, start + id.len());
    let invalid = |place, message: String| Some(Err(Warning::new(source, Lint::InvalidAllow, Some(place), message)));
    let form = "write `# portcullis: allow LINT reason`";
    if verb != ALLOW || id.is_empty() {
        return invalid(comment, format!("this comment silences nothing: {form}"));
    }
    let Some(lint) = Lint::from_id(id) else {
        let known: Vec<&str> = Lint::ALL.iter().map(|lint| lint.id()).collect();
        let quoted = source.quote(place).map(|quoted| format!(" {quoted}")).unwrap_or_default();
        let meant = match suggest::closest(id, &known) {
            Some(meant) => format!(", did you mean `{meant}`?"),
            None => ": write the id at the end of the warning, in brackets".to_owned(),
        };
        return invalid(place, format!("unknown lint{quoted}{meant}"));
    };
    if reason.trim_matches(|c: char| !c.is_alphanumeric()).is_empty() {
        return invalid(place, format!("a reason is missing, so the lint is not silenced: {form}"));
    }
    Some(Ok(lint))
}

/// The first word, and the rest without the spaces before it.
fn word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
    (word, rest.trim_start())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::tree;
    use super::*;

    /// The warnings that are left of a lint on each of these lines, as (line, id).
    fn left(text: &str, lines: &[usize]) -> Vec<(usize, &'static str)> {
        let source = Source::new(Path::new("gateway.yaml"), text.to_owned());
        source.hide(Vec::new());
        let comments = tree::read(text).ok().unwrap().comments;
        let start = |line: usize| text.split_inclusive('\n').take(line - 1).map(str::len).sum::<usize>();
        let warning = |line: &usize| {
            let place = Span::new(start(*line), start(*line) + 1);
            Warning::new(&source, Lint::UnusedScope, Some(place), "unused")
        };
        let warnings = silence(&source, &comments, lines.iter().map(warning).collect());
        warnings.iter().map(|warning| (warning.diagnostic.line.unwrap(), warning.lint.id())).collect()
    }

    #[test]
    fn a_comment_counts_for_its_line_or_the_line_below() {
        assert_eq!(left("a: 1  # portcullis: allow unused-scope soon\nb: 2\n", &[1, 2]), [(2, "unused-scope")]);
        assert_eq!(left("# portcullis: allow unused-scope soon\na: 1\nb: 2\n", &[2, 3]), [(3, "unused-scope")]);
        let stacked = "# portcullis: allow unused-scope soon\n# a remark\n  # portcullis: allow unused-key x\na: 1\n";
        assert_eq!(left(stacked, &[4]), [(3, "unneeded-allow")]);
        let apart = "# portcullis: allow unused-scope soon\n\na: 1\n";
        assert_eq!(left(apart, &[3]), [(3, "unused-scope"), (1, "unneeded-allow")]);
        assert_eq!(left("a: 1\r\n#portcullis: allow unused-scope soon\r\nb: 2\r\n", &[3]), []);
    }

    #[test]
    fn a_hash_that_begins_no_comment_silences_nothing() {
        for text in [
            "a: 'x # portcullis: allow unused-scope soon'\n",
            "a: \"x # portcullis: allow unused-scope soon\"\n",
            "a: x#portcullis:allow#unused-scope#soon\n",
            "a: |\n  x  # portcullis: allow unused-scope soon\n",
            "a: >\n  x\n  # portcullis: allow unused-scope soon\n\nb: 2\n",
            "a: 'x\n  # portcullis: allow unused-scope soon\n  '\n",
        ] {
            let lines: Vec<usize> = (1..=text.lines().count()).collect();
            assert_eq!(left(text, &lines).len(), lines.len(), "{text}");
        }
        assert_eq!(left("a: |  # portcullis: allow unused-scope soon\n  x\n", &[1]), []);
    }

    #[test]
    fn a_comment_that_cannot_be_used_is_a_warning() {
        for (comment, id) in [
            ("# portcullis: allow unused-scope", "invalid-allow"),
            ("# portcullis: allow unused-scope --", "invalid-allow"),
            ("# portcullis: allow unused-scop soon", "invalid-allow"),
            ("# portcullis: allow", "invalid-allow"),
            ("# portcullis: alow unused-scope soon", "invalid-allow"),
            ("# portcullis: allow unused-key soon", "unneeded-allow"),
        ] {
            assert_eq!(left(&format!("a: 1  {comment}\n"), &[1]), [(1, "unused-scope"), (1, id)], "{comment}");
        }
        assert_eq!(left("a: 1  # portcullis: the gateway itself\n", &[]), []);
    }
}
