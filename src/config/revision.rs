//! The revision of a configuration: a digest of its file, and of all that the file names.
//!
//! `6687ad24ccda` is a file that names nothing else. `6687ad24ccda-93ab12` has the digest of the named content behind
//! the dash: values of variables, certificates, and key files of issuers. Secrets are among the values. So only a few
//! bits of a slow digest of all values together are shown, which does not help to guess one of them. A private key
//! belongs to its certificate, a self-signed pair is made by the gateway, and a token for fetching is read at each
//! fetch: none of them counts.

use std::num::NonZeroU32;

use aws_lc_rs::digest::{Context, SHA256, digest};
use aws_lc_rs::pbkdf2;
use zeroize::Zeroizing;

/// The content that a configuration file names.
#[derive(Debug, Default)]
pub(super) struct NamedContent {
    values: Zeroizing<Vec<u8>>,
    files: Vec<u8>,
}

/// Some 20 ms.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(50_000).expect("it is not zero");

impl NamedContent {
    /// A text in which variables and files were replaced by their values.
    pub(super) fn add_value(&mut self, text: &str) {
        self.values.extend_from_slice(&text.len().to_le_bytes());
        self.values.extend_from_slice(text.as_bytes());
    }

    /// A file, in parts.
    pub(super) fn add_file<'p>(&mut self, parts: impl IntoIterator<Item = &'p [u8]>) {
        let mut context = Context::new(&SHA256);
        for part in parts {
            context.update(&part.len().to_le_bytes());
            context.update(part);
        }
        self.files.extend_from_slice(context.finish().as_ref());
    }

    /// The revision of the file with this text.
    pub(super) fn revision(&self, text: &str) -> String {
        let of_file = file_id(text);
        if self.values.is_empty() && self.files.is_empty() {
            return of_file;
        }
        let mut of_values = [0; 32];
        if !self.values.is_empty() {
            let salt = digest(&SHA256, text.as_bytes());
            pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ITERATIONS, salt.as_ref(), &self.values, &mut of_values);
        }
        let both = digest(&SHA256, &[&of_values[..], &self.files].concat());
        format!("{of_file}-{}", hex(&both.as_ref()[..3]))
    }
}

/// The part of a revision that is about the file alone.
pub(crate) fn file_part(revision: &str) -> &str {
    revision.split('-').next().unwrap_or_default()
}

/// The first 48 bits of the file's SHA-256.
fn file_id(text: &str) -> String {
    hex(&digest(&SHA256, text.as_bytes()).as_ref()[..6])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_changes_with_the_file_and_with_all_that_it_names() {
        let with = |value: &str, file: &str| {
            let mut named = NamedContent::default();
            named.add_value(value);
            named.add_file([file.as_bytes()]);
            named.revision("a: b")
        };
        let alone = NamedContent::default().revision("a: b");
        assert_eq!((alone.len(), file_part(&alone)), (12, &*alone));
        let named = with("secret", "certificate");
        assert_eq!((named.len(), file_part(&named)), (19, &*alone));
        assert_eq!(named, with("secret", "certificate"));
        for other in [with("secret", "another"), with("another", "certificate")] {
            assert!(other != named && file_part(&other) == alone);
        }
        assert_ne!(NamedContent::default().revision("a: c"), alone);
    }
}
