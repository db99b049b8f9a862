//! Finds `state_directory` in a file that may be broken, for commands that talk to the running gateway.
//!
//! No other part of the file counts. If the file has an error of syntax, only the line of the key is read. If it cannot
//! be read at all, the folder is that of the default.

use std::path::{Path, PathBuf};

use super::interpolate::{Strictness, Surroundings};
use super::raw::STATE_DIRECTORY;
use super::read_text;
use super::tree::{self, YamlNode};

/// The folder, or why its place cannot be told.
pub(crate) fn find(path: &Path, surroundings: &Surroundings<'_>) -> Result<PathBuf, String> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let written = written(&read_text(path).unwrap_or_default());
    let text = written.as_deref().unwrap_or(STATE_DIRECTORY);
    match surroundings.interpolate(text, folder, Strictness::Usual) {
        Ok(found) => Ok(folder.join(&*found.text)),
        Err(problem) => Err(problem.to_string()),
    }
}

/// The value of the key as it is written, or `None` for the default.
fn written(text: &str) -> Option<String> {
    value(text).unwrap_or_else(|()| {
        let line = text.lines().find(|line| line.starts_with(KEY) && line[KEY.len()..].trim_start().starts_with(':'));
        value(line.unwrap_or_default()).ok().flatten()
    })
}

const KEY: &str = "state_directory";

fn value(text: &str) -> Result<Option<String>, ()> {
    let root = tree::read(text).map_err(|_| ())?.root;
    let Some(YamlNode::Map(pairs)) = root.map(|root| root.value) else { return Ok(None) };
    let found = pairs.into_iter().find(|(key, _)| key.value == KEY);
    Ok(match found.map(|(_, value)| value.value) {
        Some(YamlNode::Scalar(scalar)) if !scalar.text.is_empty() => Some(scalar.text.into_owned()),
        Some(_) | None => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_found_in_a_broken_file() {
        for (text, expected) in [
            ("version: 1\n", None),
            ("", None),
            ("version: 1\nstate_directory: var\n", Some("var")),
            ("{state_directory: \"a b\", surprise: [1]}", Some("a b")),
            ("version: 1\nstate_directory: 'a b' # here\nroutes: [\n", Some("a b")),
            ("routes: {path: \"\n\nstate_directory : var\n", Some("var")),
            ("routes: [\n  state_directory: var\n", None),
            ("state_directory: [\n", None),
        ] {
            assert_eq!(written(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn the_folder_is_beside_the_file() {
        let surroundings = Surroundings::process();
        let file = tempfile::tempdir().unwrap();
        let path = file.path().join("gateway.yaml");
        assert_eq!(find(&path, &surroundings), Ok(file.path().join("state")));
        std::fs::write(&path, "state_directory: /var/lib/portcullis\nroutes: [").unwrap();
        assert_eq!(find(&path, &surroundings), Ok(PathBuf::from("/var/lib/portcullis")));
        std::fs::write(&path, "state_directory: \"${PORTCULLIS_TEST_UNSET}\"\n").unwrap();
        assert!(find(&path, &surroundings).unwrap_err().contains("PORTCULLIS_TEST_UNSET"));
    }
}
