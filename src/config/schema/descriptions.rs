//! The descriptions of keys: the rows of the reference page, or else the comments at the fields.

use std::collections::HashMap;

const REFERENCE: &str = include_str!("../../../docs/reference/configuration.md");
/// The first line of a table of keys.
const HEAD: &str = "| key | default | meaning |";

/// By the path of the key, without the names of the user: `oauth.clients.secrets`.
pub(super) struct Descriptions(HashMap<String, String>);

impl Descriptions {
    pub(super) fn of_the_reference() -> Self {
        Self::of_page(REFERENCE)
    }

    /// The description of a key; `comment` is the one in the code.
    pub(super) fn of(&self, path: &str, comment: &str) -> Option<String> {
        let row = self.0.get(path).map(String::as_str).unwrap_or_default();
        let comment = comment.trim();
        let text = match (row, comment) {
            ("", text) | (text, "") => text.to_owned(),
            // A row without a meaning only has the default.
            (row, comment) if row.starts_with(DEFAULT) && !comment.contains(DEFAULT) => format!("{comment}\n\n{row}"),
            (row, comment) if row.starts_with(DEFAULT) => comment.to_owned(),
            (row, _) => row.to_owned(),
        };
        (!text.is_empty()).then_some(text)
    }

    fn of_page(page: &str) -> Self {
        let mut found = HashMap::new();
        let (mut section, mut is_table) = (String::new(), false);
        for line in page.lines() {
            if let Some(heading) = line.strip_prefix("## ").or_else(|| line.strip_prefix("### ")) {
                section = section_path(heading, &section);
            }
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            if let ([keys, default, meaning], true) = (&cells[..], is_table) {
                add_row(&mut found, &section, (keys, default), meaning);
            }
            is_table = line == HEAD || is_table && line.starts_with('|');
        }
        Self(found)
    }
}

const DEFAULT: &str = "Default: ";

/// The path of the keys of a section: a heading such as `oauth.clients.ID` is one. Below a section of a key, a heading
/// in words belongs to that key; `top level` is the root.
fn section_path(heading: &str, before: &str) -> String {
    let is_path = heading.chars().all(|c| c.is_ascii_alphanumeric() || "._[]".contains(c));
    let is_key = is_path && heading.starts_with(|first: char| first.is_ascii_lowercase());
    if is_key {
        plain_path(heading)
    } else if heading == "Top level" {
        String::new()
    } else {
        before.to_owned()
    }
}

/// The path without `[]` and without names of the user, which are written in capitals.
fn plain_path(path: &str) -> String {
    let is_key = |part: &&str| !part.chars().all(|c| c.is_ascii_uppercase());
    path.replace("[]", "").split('.').filter(is_key).collect::<Vec<_>>().join(".")
}

/// A row may be of several keys, each with a default of its own.
fn add_row(found: &mut HashMap<String, String>, section: &str, (keys, default): (&str, &str), meaning: &str) {
    let keys: Vec<&str> = keys.split('`').skip(1).step_by(2).collect();
    let defaults: Vec<&str> = default.split([',', ';']).map(str::trim).collect();
    for (at, key) in keys.iter().enumerate() {
        let default = if keys.len() > 1 && defaults.len() == keys.len() { defaults[at] } else { default };
        let key = plain_path(key);
        let path = if section.is_empty() { key } else { format!("{section}.{key}") };
        found.insert(path, description(meaning, default));
    }
}

fn description(meaning: &str, default: &str) -> String {
    let meaning = sentence(&without_links(meaning).replace(", see below", ""));
    let default = without_links(default);
    let default = match &*default {
        "" | "required" | "one of three" | "see there" => String::new(),
        condition if condition.starts_with("required") => sentence(condition),
        default => format!("{DEFAULT}{default}."),
    };
    [meaning, default].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n")
}

/// With a capital letter and a full stop.
fn sentence(text: &str) -> String {
    let mut rest = text.chars();
    match rest.next() {
        None => String::new(),
        Some(first) => {
            let stop = if text.ends_with('.') { "" } else { "." };
            format!("{}{}{stop}", first.to_uppercase(), rest.as_str())
        }
    }
}

/// Links lead to places of the page, which a schema does not have.
fn without_links(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, from)) = rest.split_once('[') {
        let link = from.split_once("](").and_then(|(words, rest)| Some((words, rest.split_once(')')?.1)));
        // A list in code such as `[read]` is no link.
        match link.filter(|(words, _)| !words.contains([']', '['])) {
            Some((words, after)) => {
                plain += &format!("{before}{words}");
                rest = after;
            }
            None => {
                plain += &format!("{before}[");
                rest = from;
            }
        }
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_describes_its_keys_at_the_path_of_its_section() {
        let page = "## Top level\n\n| key | default | meaning |\n| --- | --- | --- |\n\
            | `a` | required | see [the page](#b) |\n\n## a.ID\n\n| key | default | meaning |\n| --- | --- | --- |\n\
            | `b`, `c[]` | `[1]`; `2s` | a list |\n\n### In words\n\n| key | other |\n| --- | --- |\n| `d` | e |\n";
        let found = Descriptions::of_page(page);
        assert_eq!(found.of("a", "unused"), Some("See the page.".to_owned()));
        assert_eq!(found.of("a.b", ""), Some("A list.\n\nDefault: `[1]`.".to_owned()));
        assert_eq!(found.of("a.c", ""), Some("A list.\n\nDefault: `2s`.".to_owned()));
        assert_eq!((found.of("a.d", ""), found.of("a.d", " A comment.")), (None, Some("A comment.".to_owned())));
    }

    #[test]
    fn a_row_without_a_meaning_has_the_comment() {
        let found =
            Descriptions::of_page("## a\n\n| key | default | meaning |\n| --- | --- | --- |\n| `b` | `2s` | |\n");
        assert_eq!(found.of("a.b", " A comment."), Some("A comment.\n\nDefault: `2s`.".to_owned()));
    }
}
