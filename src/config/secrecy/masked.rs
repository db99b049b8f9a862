//! Writes a configuration without its secrets, such that it still loads.
//!
//! Takes the tree of a valid file and writes it anew: comments are left out, and each secret is replaced by a value of
//! its form. References to variables and files stay. The rules about secrecy are those of messages.

use std::fmt::Write as _;

use base64::Engine as _;

use super::super::decode::Mirrored as _;
use super::super::interpolate::is_one_reference;
use super::super::raw::RawConfig;
use super::super::source::{At, has_credentials};
use super::super::tree::{Scalar, YamlNode, YamlTree};
use super::{SecrecyRule, is_written_as_header, is_written_as_origin};
use crate::jose::BASE64URL;

/// The text of the configuration, with its secrets masked.
pub(in crate::config) fn masked(tree: &YamlTree<'_>) -> String {
    let mut writer = MaskedWriter { text: String::new(), hashes: 0 };
    if let Some(At { value: YamlNode::Map(pairs), .. }) = &tree.root {
        for (key, value) in pairs.iter().filter(|(key, _)| key.value != LITERAL_SECRETS) {
            writer.pair(&key.value, value, SecrecyRule::Root, 0);
        }
        // The masks are literal.
        writer.text.push_str(LITERAL_SECRETS);
        writer.text.push_str(": true\n");
    }
    writer.text
}

struct MaskedWriter {
    text: String,
    /// Each hash gets a mask of its own: two static tokens never have the same one.
    hashes: u32,
}

impl MaskedWriter {
    fn pair(&mut self, key: &str, value: &At<YamlNode<'_>>, rule: SecrecyRule, depth: usize) {
        self.indent(depth);
        self.scalar(key, is_plain_key(key));
        self.text.push(':');
        let below = match rule {
            // Times and other parts of a secret's entry that are no secrets.
            SecrecyRule::Secret if HARMLESS.contains(&key) => SecrecyRule::Open,
            _ if has_credentials(key) => SecrecyRule::Secret,
            // The section is unknown to no valid file.
            SecrecyRule::Root if !RawConfig::KEYS.contains(&key) => SecrecyRule::Secret,
            _ => rule.below(key),
        };
        self.node(key, value, below, depth + 1);
    }

    /// The value of a key, after its colon, or an item of a list, after its dash.
    fn node(&mut self, key: &str, node: &At<YamlNode<'_>>, rule: SecrecyRule, depth: usize) {
        match &node.value {
            YamlNode::Map(pairs) if !pairs.is_empty() => {
                self.text.push('\n');
                pairs.iter().for_each(|(key, value)| self.pair(&key.value, value, rule, depth));
            }
            YamlNode::List(items) if !items.is_empty() => {
                self.text.push('\n');
                for item in items {
                    self.indent(depth);
                    self.text.push('-');
                    self.node(key, item, rule, depth + 1);
                }
            }
            YamlNode::Map(_) => self.text.push_str(" {}\n"),
            YamlNode::List(_) => self.text.push_str(" []\n"),
            YamlNode::Scalar(scalar) => {
                self.text.push(' ');
                self.value(key, scalar, rule);
                self.text.push('\n');
            }
            YamlNode::Refused => self.text.push_str(" ~\n"),
        }
    }

    fn value(&mut self, key: &str, scalar: &Scalar<'_>, rule: SecrecyRule) {
        let Scalar { text, plain } = scalar;
        let is_shown = match rule {
            SecrecyRule::HeaderName => is_written_as_header(text),
            SecrecyRule::Proxy => is_written_as_origin(text),
            _ => rule.is_open(),
        };
        let is_truth = *plain && matches!(&**text, "true" | "false" | "");
        if is_truth || is_one_reference(text) || (is_shown && !has_credentials(text)) {
            return self.scalar(text, *plain && is_plain(text));
        }
        match rule {
            SecrecyRule::Proxy => self.scalar(MASKED_PROXY, false),
            _ if is_shown => self.scalar(&without_credentials(text), false),
            _ if key == "hash" => {
                self.hashes += 1;
                let mut digest = [0; 32];
                digest[28..].copy_from_slice(&self.hashes.to_be_bytes());
                self.scalar(&format!("sha256:{}", BASE64URL.encode(digest)), false);
            }
            _ => self.scalar(MASK, true),
        }
    }

    fn scalar(&mut self, text: &str, is_plain: bool) {
        if is_plain {
            return self.text.push_str(text);
        }
        for c in serde_json::Value::from(text).to_string().chars() {
            if c.is_control() {
                let _ = write!(self.text, "\\u{:04x}", u32::from(c));
            } else {
                self.text.push(c);
            }
        }
    }

    fn indent(&mut self, depth: usize) {
        self.text.extend(std::iter::repeat_n("  ", depth));
    }
}

/// Whether a key needs no quotes.
fn is_plain_key(key: &str) -> bool {
    key.starts_with(|c: char| c.is_ascii_alphabetic())
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// Whether a text that had no quotes needs none here.
fn is_plain(text: &str) -> bool {
    let begins = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '~');
    (text.is_empty() || text.starts_with(begins))
        && !text.ends_with(':')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./+~:".contains(&byte))
}

/// URLs without user and password.
fn without_credentials(text: &str) -> String {
    let mut parts = text.split("://");
    let mut masked = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        masked.push_str("://");
        let (url, rest) = part.find(char::is_whitespace).map_or((part, ""), |at| part.split_at(at));
        match url.rsplit_once('@') {
            Some((_, place)) => masked.extend(["masked@", place]),
            None => masked.push_str(url),
        }
        masked.push_str(rest);
    }
    masked
}

const LITERAL_SECRETS: &str = "allow_literal_secrets";
/// As long as a secret must be.
const MASK: &str = "masked-masked-masked";
const MASKED_PROXY: &str = "http://masked.invalid";
const HARMLESS: [&str; 2] = ["not_before", "expires_at"];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::super::interpolate::Surroundings;
    use super::super::super::needs::Needs;
    use super::super::super::{load_text, load_text_part, tree};
    use super::*;
    use crate::config::diff::diff;
    use crate::config::diff::view::AccessView;

    const PATH: &str = "/nowhere/gateway.yaml";

    #[test]
    fn a_masked_configuration_loads_and_lets_in_the_same_requests() {
        let text = r#"
version: 1
allow_literal_secrets: true # s3cr3t
listeners: [{address: "127.0.0.1:0"}]
oauth:
  issuer: https://localhost:8443
  audiences: [https://api.example.com]
  clients:
    app:
      secrets:
      - value: s3cr3t-s3cr3t-s3cr3t # s3cr3t
        not_before: 2020-01-01T00:00:00Z
      - {hash: "sha256:s3cr3ts3cr3ts3cr3ts3cr3ts3cr3ts3cr3ts3cr3t0"}
      scopes: [read:data, 'write:data']
    "other": {secrets: ["a"], scopes: [x]}
upstreams:
  legacy: {servers: ["http://127.0.0.1:9"], authorization: {basic: {user: me, password: s3cr3t}}}
  second: {servers: ["http://127.0.0.1:8"], authorization: {header: X-Api-Key, value: "Key s3cr3t"}}
routes:
  - path: /a/{id}
    access: {scopes: {any_of: [read:data]}}
    upstream: legacy
    headers: {set: {X-Key: s3cr3t, X-Other: "${HOME}"}}
    cors: {origins: [https://a.example], credentials: true}
  - path: "/b/\u00e9\t*"
    access: public
    upstream: second
"#
        .replace(r#"{secrets: ["a"], scopes: [x]}"#, r#"{secrets: [{value: s3cr3t-s3cr3t-s3cr3t}], scopes: [x]}"#)
        .replace("\"/b/\\u00e9\\t*\"", "/b");
        let original = load_text(Path::new(PATH), text.clone(), &Surroundings::process());
        let original = original.map_err(|errors| errors.render(false)).unwrap();
        let written = masked(&tree::read(&text).ok().unwrap());
        assert!(!written.contains("3cr3t"), "{written}");
        assert!(written.contains("${HOME}") && written.contains("2020-01-01"), "{written}");
        let of_part = load_text_part(Path::new(PATH), written.clone(), Needs::ACCESS, &Surroundings::process());
        assert!(of_part.is_ok(), "{written}");
        let again = load_text(Path::new(PATH), written.clone(), &Surroundings::process());
        let again = again.map_err(|errors| format!("{}\n{written}", errors.render(false))).unwrap();
        let changes = diff(&AccessView::of(&original), &AccessView::of(&again));
        let routes: Vec<&str> = changes
            .iter()
            .map(|change| &*change.text)
            .filter(|text| text.contains("route ") && !text.contains("other header fields"))
            .collect();
        assert_eq!(routes, [""; 0], "{written}");
    }

    #[test]
    fn a_url_loses_its_user_and_password() {
        for (text, expected) in [
            ("https://u:s3cr3t@a/b", "https://masked@a/b"),
            ("https://a/b", "https://a/b"),
            ("https://u:p@a https://b", "https://masked@a https://b"),
        ] {
            assert_eq!(without_credentials(text), expected);
        }
    }

    #[test]
    fn texts_are_quoted_where_their_type_would_change() {
        for (text, expected) in
            [("5s", true), ("/a", true), ("10.0.0.0/8", true), ("a: b", false), ("{id}", false), ("*", false)]
        {
            assert_eq!(is_plain(text), expected, "{text}");
        }
    }
}
