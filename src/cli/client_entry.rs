//! The YAML of a new client, and the file of its private key.

use std::path::{Path, PathBuf};

use super::client_secret::quoted;
use super::terminal::{DIM, note, out, styled};

/// The client that is made.
pub(super) struct Given<'a> {
    pub(super) id: &'a str,
    pub(super) scopes: &'a [String],
    pub(super) issuer: &'a str,
}

/// Prints the YAML of the client with this credential.
pub(super) fn print_entry(given: &Given<'_>, credential: &str) {
    note(styled(DIM, "\nAdd this under oauth.clients in gateway.yaml, and reload it (`portcullis reload`):"));
    let scopes: Vec<String> = given.scopes.iter().map(|scope| quoted(scope)).collect();
    out(format_args!("    {}:\n      {credential}\n      scopes: [{}]", quoted(given.id), scopes.join(", ")));
}

/// The file for the private key of a client, in the current folder.
pub(super) fn key_file_name(id: &str) -> PathBuf {
    let is_harmless = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
    let name: String = id.chars().map(|character| if is_harmless(character) { character } else { '_' }).collect();
    // A name must be neither hidden nor an option, and a file system takes 255 bytes.
    let name: String = name.trim_start_matches(['.', '-']).chars().take(100).collect();
    let name = if name.is_empty() { "client".to_owned() } else { name };
    Path::new(&name).with_file_name(format!("{name}.key.pem"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_key_file_stays_in_its_folder() {
        for (id, name) in [
            ("billing", "billing.key.pem"),
            ("https://a.example/x", "https___a.example_x.key.pem"),
            ("../../etc/passwd", "_.._etc_passwd.key.pem"),
            ("-rf", "rf.key.pem"),
            ("..", "client.key.pem"),
        ] {
            assert_eq!(key_file_name(id), Path::new(name), "{id}");
        }
        assert_eq!(key_file_name(&"x".repeat(1024)).as_os_str().len(), 108);
    }
}
