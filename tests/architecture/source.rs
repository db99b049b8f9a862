//! Reads the source as far as imports need it: the module of each file, its `mod` lines, and the paths that it names.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A file below `src`.
pub(super) struct Source {
    pub(super) path: String,
    pub(super) text: String,
    /// `["pipeline", "routing", "table"]`; empty for `lib.rs` and `main.rs`.
    pub(super) module: Vec<String>,
}

/// A path that the code names, from the root of the crate.
pub(super) struct NamedPath {
    pub(super) line: usize,
    pub(super) segments: Vec<String>,
    /// Named by a test module.
    pub(super) is_in_test: bool,
}

/// All files below `src`.
pub(super) fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert!(found.len() > 50, "the source has been read");
    found
}

/// All files of the tests that are written in Rust.
pub(super) fn test_sources() -> Vec<Source> {
    let mut found = Vec::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"), &mut found);
    assert!(found.len() > 50, "the tests have been read");
    found
}

/// Packages of other languages that tests install.
const NOT_OURS: [&str; 2] = [".venv", "node_modules"];

fn read(folder: &Path, found: &mut Vec<Source>) {
    if folder.file_name().is_some_and(|name| NOT_OURS.iter().any(|other| name == *other)) {
        return;
    }
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().to_str().unwrap();
            found.push(Source::new(name, fs::read_to_string(&path).unwrap()));
        }
    }
}

impl Source {
    pub(super) fn new(path: &str, text: String) -> Self {
        let below = path.strip_prefix("src/").unwrap_or(path).trim_end_matches(".rs");
        let mut module: Vec<String> = below.split('/').map(str::to_owned).collect();
        if module.last().is_some_and(|last| matches!(last.as_str(), "mod" | "lib" | "main")) {
            module.pop();
        }
        Self { path: path.to_owned(), text, module }
    }

    /// The modules that the file declares, in their order, and which of them are for tests only.
    pub(super) fn declared(&self) -> Vec<(String, bool)> {
        let mut found = Vec::new();
        let mut is_test = false;
        for line in self.text.lines().map(str::trim) {
            let declared = after_visibility(line).strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';'));
            if let Some(name) = declared {
                found.push((name.to_owned(), is_test));
            }
            is_test = line == "#[cfg(test)]" || (is_test && line.starts_with("///"));
        }
        found
    }

    /// Every path that begins with `crate`, `super` or `self`, one by one where braces name several.
    pub(super) fn paths(&self) -> Vec<NamedPath> {
        let code = blank(&self.text);
        let mut found = Vec::new();
        let mut inner: Vec<String> = Vec::new();
        let (mut is_in_test, mut is_marked) = (false, false);
        let mut offset = 0;
        for (number, line) in (1..).zip(code.lines()) {
            if let Some(name) = after_visibility(line).strip_prefix("mod ").and_then(|rest| rest.strip_suffix(" {")) {
                (inner, is_in_test) = (vec![name.to_owned()], is_marked);
            } else if line == "}" {
                inner.clear();
                is_in_test = false;
            }
            if !line.trim().is_empty() {
                is_marked = line == "#[cfg(test)]";
            }
            let here: Vec<String> = self.module.iter().chain(&inner).cloned().collect();
            for at in starts(line) {
                let mut trees = Vec::new();
                tree(&mut &code[offset + at..], &mut Vec::new(), &mut trees);
                let resolved = trees.into_iter().filter_map(|tree| resolve(&here, &tree));
                found.extend(resolved.map(|segments| NamedPath { line: number, segments, is_in_test }));
            }
            offset += line.len() + 1;
        }
        found
    }

    /// The names of the types that other modules can see, but for those of test modules.
    pub(super) fn types(&self) -> BTreeSet<String> {
        let code = blank(&self.text);
        let end = code.find("#[cfg(test)]\nmod tests {").or(code.find("#[cfg(test)]\npub(crate) mod tests {"));
        let visible = code[..end.unwrap_or(code.len())].lines().map(str::trim);
        let visible = visible.filter_map(|line| line.strip_prefix("pub(crate) ").or(line.strip_prefix("pub ")));
        let kinds = ["struct ", "enum ", "trait ", "type "];
        let named = visible.filter_map(|line| kinds.iter().find_map(|kind| line.strip_prefix(kind)));
        named.map(|rest| rest.split(|c: char| !is_of_word(c)).next().unwrap_or_default().to_owned()).collect()
    }
}

fn after_visibility(line: &str) -> &str {
    let rest = line.strip_prefix("pub").unwrap_or(line);
    let rest = rest.strip_prefix('(').and_then(|rest| rest.split_once(')')).map_or(rest, |(_, rest)| rest);
    rest.trim_start()
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where a path of this crate begins in a line.
fn starts(line: &str) -> Vec<usize> {
    let mut found = Vec::new();
    for keyword in ["crate::", "super::", "self::"] {
        let hits = line.match_indices(keyword).map(|(at, _)| at);
        // `super::super::` begins once.
        found.extend(hits.filter(|at| !line[..*at].ends_with(|c: char| is_of_word(c) || c == ':')));
    }
    found
}

/// Reads a path, or a tree of paths in braces, off the front of the code.
fn tree(code: &mut &str, before: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    let depth = before.len();
    loop {
        *code = code.trim_start();
        if let Some(rest) = code.strip_prefix('{') {
            *code = rest;
            loop {
                tree(code, before, found);
                *code = code.trim_start();
                match code.strip_prefix(',') {
                    Some(rest) => *code = rest,
                    None => break,
                }
            }
            *code = code.strip_prefix('}').unwrap_or(code);
            break;
        }
        let length = code.find(|c: char| !is_of_word(c)).unwrap_or(code.len());
        let (word, rest) = code.split_at(length);
        if word.is_empty() {
            if before.len() > depth || code.starts_with('*') {
                found.push(before.clone());
            }
            *code = code.strip_prefix('*').unwrap_or(code);
            break;
        }
        before.push(word.to_owned());
        match rest.strip_prefix("::") {
            Some(rest) => *code = rest,
            None => {
                found.push(before.clone());
                let alias = rest.strip_prefix(" as ");
                *code = alias.map_or(rest, |rest| rest.trim_start_matches(is_of_word));
                break;
            }
        }
    }
    before.truncate(depth);
}

fn resolve(here: &[String], path: &[String]) -> Option<Vec<String>> {
    let mut resolved = here.to_vec();
    for (place, segment) in path.iter().enumerate() {
        match segment.as_str() {
            "crate" => resolved.clear(),
            "super" => drop(resolved.pop()?),
            "self" if place == 0 || place + 1 == path.len() => {}
            _ => resolved.push(segment.clone()),
        }
    }
    Some(resolved)
}

/// The code with spaces for comments and for the text of strings; line breaks stay.
fn blank(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let before = code.strip_suffix('b').unwrap_or(&code);
        let length = literal(rest, before.ends_with(is_of_word)).unwrap_or(0);
        let (skipped, after) = rest.split_at(if length == 0 { c.len_utf8() } else { length });
        if length == 0 {
            code.push_str(skipped);
        } else {
            // As many bytes as before, so that places stay the same.
            skipped.bytes().for_each(|byte| code.push(if byte == b'\n' { '\n' } else { ' ' }));
        }
        rest = after;
    }
    code
}

/// The length of the comment or literal at the front.
fn literal(text: &str, is_after_word: bool) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return Some(text.find("*/").map_or(text.len(), |end| end + 2));
    }
    let hashes = text.strip_prefix('r').map_or(0, |rest| rest.len() - rest.trim_start_matches('#').len());
    if !is_after_word && text.starts_with('r') && text[1 + hashes..].starts_with('"') {
        let end = format!("\"{}", "#".repeat(hashes));
        let start = 2 + hashes;
        return Some(text[start..].find(&end).map_or(text.len(), |at| start + at + end.len()));
    }
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let second = text[1..].chars().next()?;
    let is_character = second == '\\' || text[1 + second.len_utf8()..].starts_with('\'');
    if quote == '\'' && !is_character {
        return None;
    }
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == quote && !is_escaped {
            return Some(at + 1);
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    Some(text.len())
}
