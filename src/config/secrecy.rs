//! Decides which parts of a config file may be secrets and are never shown.
//!
//! Returns spans for [`Source::hide`](super::source::Source::hide). Inside `oauth.clients` and under unknown keys, only
//! values known to be harmless are shown. Elsewhere, only values under names that suggest a secret are hidden. If the
//! syntax is broken there is no tree, and almost nothing is shown.
//!
//! Decides by the names of keys and never by values: it must work for misspelt keys, wrong types and secrets at wrong
//! places.

use std::borrow::Cow;

use super::decode::Mirrored as _;
use super::raw::RawConfig;
use super::raw::oauth::{RawClient, RawOauth};
use super::source::{At, Span, has_credentials, mentions_secrets};
use super::suggest;
use super::tree::{YamlNode, YamlTree};

/// The secret spans of a file, in order and without overlap.
pub(super) fn hidden(text: &str, tree: &YamlTree<'_>) -> Vec<Span> {
    let mut spans = tree.dropped.clone();
    if let Some(root) = &tree.root {
        hide(text, root, SecrecyRule::Root, &mut spans);
    }
    spans.sort_unstable();
    spans.dedup_by(|later, kept| {
        let overlaps = later.start <= kept.end;
        kept.end = if overlaps { kept.end.max(later.end) } else { kept.end };
        overlaps
    });
    spans
}

/// Keys below `oauth.clients` that may be shown although their lines have secrets: client ids, and text in the form of
/// our keys. In order.
pub(super) fn shown_keys(tree: &YamlTree<'_>) -> Vec<Span> {
    let mut keys = Vec::new();
    let clients = tree.root.iter().flat_map(|root| below(root, RawConfig::KEYS, "oauth"));
    for (id, client) in clients.flat_map(|oauth| below(oauth, RawOauth::KEYS, "clients")).flat_map(pairs) {
        keys.extend((matches!(client.value, YamlNode::Map(_)) && is_written_as_id(&id.value)).then_some(id.span));
        for (key, value) in pairs(client).iter().filter(|(key, _)| is_written_as_key(&key.value)) {
            keys.push(key.span);
            if let (Some(_), YamlNode::List(secrets)) = (suggest::closest(&key.value, &["secrets"]), &value.value) {
                let of_secrets = secrets.iter().flat_map(pairs).map(|(key, _)| key);
                keys.extend(of_secrets.filter(|key| is_written_as_key(&key.value)).map(|key| key.span));
            }
        }
    }
    keys.sort_unstable();
    keys
}

type KeyAndNode<'n> = (At<Cow<'n, str>>, At<YamlNode<'n>>);

fn pairs<'t, 'n>(node: &'t At<YamlNode<'n>>) -> &'t [KeyAndNode<'n>] {
    if let YamlNode::Map(pairs) = &node.value { pairs } else { &[] }
}

/// The value of this key, also if the key is misspelt.
fn below<'t, 'n>(
    node: &'t At<YamlNode<'n>>,
    known: &'static [&'static str],
    name: &'static str,
) -> impl Iterator<Item = &'t At<YamlNode<'n>>> {
    let is_meant = move |(key, _): &&KeyAndNode<'n>| suggest::closest(&key.value, known) == Some(name);
    pairs(node).iter().filter(is_meant).map(|(_, value)| value)
}

fn is_written_as_id(id: &str) -> bool {
    id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// Whether a text has the form of our keys: short, and of few characters. Strong secrets do not.
fn is_written_as_key(key: &str) -> bool {
    key.len() <= 16 && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// The hidden parts of a file with a syntax error: all lines except that of the error. That line is hidden too, unless
/// its section has no secrets.
pub(super) fn hidden_around(text: &str, at: Span) -> Vec<Span> {
    let offset = at.start as usize;
    let start = text[..offset].rfind(['\n', '\r']).map_or(0, |at| at + 1);
    let end = text[offset..].find(['\n', '\r']).map_or(text.len(), |at| offset + at);
    if !is_harmless(section(text, end)) {
        return vec![Span::new(0, text.len())];
    }
    let before = start.checked_sub(1).map(|end| Span::new(0, end));
    let after = (end < text.len()).then(|| Span::new(end + 1, text.len()));
    before.into_iter().chain(after).collect()
}

/// The secret parts of a map. Misspelt keys are treated as the keys that they resemble.
#[derive(Clone, Copy)]
enum SecrecyRule {
    Root,
    Oauth,
    Clients,
    Client,
    Headers,
    /// Header values are often credentials for the upstream.
    HeaderValues,
    /// Has secrets only under names that suggest one.
    Open,
    Secret,
}

impl SecrecyRule {
    fn below(self, key: &str) -> Self {
        match self {
            // The key is a client's id.
            Self::Clients => Self::Client,
            _ if suggests_secret(key) => Self::Secret,
            Self::Root => match suggest::closest(key, RawConfig::KEYS) {
                Some("oauth") => Self::Oauth,
                Some(_) => Self::Open,
                None => Self::Secret,
            },
            Self::Oauth => match suggest::closest(key, RawOauth::KEYS) {
                Some("clients") => Self::Clients,
                Some(_) => Self::Open,
                None => Self::Secret,
            },
            Self::Client if suggest::closest(key, RawClient::KEYS).is_some_and(|key| !RawClient::is_secret(key)) => {
                Self::Open
            }
            Self::Client | Self::Secret | Self::HeaderValues => Self::Secret,
            Self::Headers if suggest::closest(key, &["set", "add"]).is_some() => Self::HeaderValues,
            Self::Open if suggest::closest(key, &["headers", "response_headers"]).is_some() => Self::Headers,
            Self::Headers => Self::Open,
            Self::Open => Self::Open,
        }
    }
}

fn hide(text: &str, node: &At<YamlNode<'_>>, rule: SecrecyRule, spans: &mut Vec<Span>) {
    match (&node.value, rule) {
        (YamlNode::Map(pairs), rule) if !matches!(rule, SecrecyRule::Secret) => {
            for (key, value) in pairs {
                hide_below(text, key, value, rule, spans);
            }
        }
        (YamlNode::List(items), SecrecyRule::Open | SecrecyRule::Headers) => {
            items.iter().for_each(|item| hide(text, item, rule, spans))
        }
        (_, SecrecyRule::Open) if !has_credentials(&text[node.span.start as usize..node.span.end as usize]) => {}
        _ => spans.push(node.span),
    }
}

fn hide_below(text: &str, key: &At<Cow<'_, str>>, value: &At<YamlNode<'_>>, rule: SecrecyRule, spans: &mut Vec<Span>) {
    let below = if has_credentials(&key.value) { SecrecyRule::Secret } else { rule.below(&key.value) };
    if !matches!(below, SecrecyRule::Secret) {
        return hide(text, value, below, spans);
    }
    let start = if may_be_shown(&key.value, rule) { value_start(text, key.span, value.span) } else { key.span.start };
    spans.push(Span { start, end: value.span.end });
}

/// Whether a key is certainly not a secret: a value may have become a key by mistake.
fn may_be_shown(key: &str, rule: SecrecyRule) -> bool {
    match rule {
        SecrecyRule::Client => suggest::closest(key, &["secrets"]).is_some(),
        SecrecyRule::HeaderValues => key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'),
        SecrecyRule::Root | SecrecyRule::Oauth | SecrecyRule::Open | SecrecyRule::Headers => {
            key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        }
        SecrecyRule::Clients | SecrecyRule::Secret => false,
    }
}

/// The start of a value, including an anchor, an alias or a tag before it.
fn value_start(text: &str, key: Span, value: Span) -> u32 {
    let gap = &text[key.end as usize..value.start as usize];
    let blank = gap.len() - gap.trim_start_matches(|c: char| c == ':' || c.is_whitespace()).len();
    Span::new(key.end as usize + blank, text.len()).start
}

/// Whether the name of a key suggests that its value is a secret.
fn suggests_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    SECRET_NAMES.iter().any(|name| key.contains(name))
        || suggest::closest(&key, &["secrets", "hash", "value"]).is_some()
}

/// The text from the last key without indentation up to `end`.
fn section(text: &str, end: usize) -> &str {
    let mut start = 0;
    let mut at = 0;
    for line in text[..end].split_inclusive('\n') {
        if line.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '"' || first == '\'') {
            start = at;
        }
        at += line.len();
    }
    &text[start..end]
}

fn is_harmless(section: &str) -> bool {
    let name = section.split(':').next().unwrap_or_default();
    let suspicious =
        |line: &str| mentions_secrets(line) || line.trim_end().ends_with("clients:") || line.contains("headers:");
    RawConfig::KEYS.contains(&name) && name != "oauth" && !section.lines().any(suspicious)
}

const SECRET_NAMES: [&str; 9] =
    ["secret", "passw", "credential", "hash", "value", "authorization", "api-key", "api_key", "apikey"];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::source::Source;
    use super::super::tree;
    use super::*;

    const CANARY: &str = "s3cr3t";

    fn source(text: &str) -> Source {
        let source = Source::new(Path::new("gateway.yaml"), text.to_owned());
        source.hide(match tree::read(text) {
            Ok(tree) => {
                source.show_keys(shown_keys(&tree));
                hidden(text, &tree)
            }
            Err(fault) => hidden_around(text, fault.span),
        });
        source
    }

    /// For a fault at any place, the shown text does not contain the canary.
    #[track_caller]
    fn never_shown(text: &str) {
        let source = source(text);
        for start in text.char_indices().map(|(start, _)| start) {
            for end in [text.len(), text.len().min(start + 1)] {
                let span = Span::new(start, if text.is_char_boundary(end) { end } else { start });
                let excerpt = source.excerpt(span).map(|excerpt| excerpt.line.into_owned()).unwrap_or_default();
                assert!(!excerpt.contains(CANARY), "{excerpt}\nof\n{text}");
                let quoted = [source.quote(span), source.quote_key(span)].into_iter().flatten().collect::<String>();
                assert!(!quoted.contains("3cr3"), "{quoted}\nof\n{text}");
            }
        }
    }

    #[track_caller]
    fn shown(text: &str, part: &str) {
        let start = text.find(part).unwrap();
        assert_eq!(source(text).quote(Span::new(start, start + part.len())), Some(format!("`{part}`")), "{text}");
    }

    #[test]
    fn of_the_keys_of_a_client_only_its_secrets_are_marked() {
        let secret: Vec<&&str> = RawClient::KEYS.iter().filter(|key| RawClient::is_secret(key)).collect();
        assert_eq!(secret, [&"secrets"]);
        assert!(RawOauth::is_secret("clients") && !RawOauth::is_secret("signing_keys"));
    }

    #[test]
    fn a_secret_is_never_shown() {
        for secrets in [
            "secrets: [{value: s3cr3t}]",
            "secrets: [{hash: s3cr3t}]",
            "secrets: s3cr3t",
            "secrets: [s3cr3t]",
            "secrets: {s3cr3t: }",
            "secrets:\n        - s3cr3t",
            "secrets:\n        - \"s3cr3t\": x",
            "secrets:\n        - value:\n            - s3cr3t\n",
            "secrets:\n        # s3cr3t\n        - value: |\n            s3cr3t\n",
            "secrets: [{vlaue: s3cr3t}]",
            "secrets: [{value: !s3cr3t x}]",
            "secrets: [{value: !s3cr3t }]",
            "secrets: [{value: &s3cr3t x}]",
            "secrets: [{value: *s3cr3t }]",
            "secrets: [{? [s3cr3t] : x}]",
            "secrets: [{<<: {x: s3cr3t}}]",
            "secrets: [{value: ok, value: s3cr3t}]",
        ] {
            never_shown(&format!("oauth:\n  clients:\n    a:\n      {secrets}"));
        }
    }

    #[test]
    fn a_secret_in_the_wrong_place_is_never_shown() {
        for text in [
            "s3cr3t",
            "[s3cr3t]",
            "oauth: s3cr3t",
            "oauth: {clients: s3cr3t}",
            "oauth: {clients: [s3cr3t]}",
            "oauth: {clients: {a: s3cr3t}}",
            "oauth: {clients: {a: {s3cr3t}}}",
            "oauth: {clients: {a: {x: s3cr3t}}}",
            "oauth: {clients: {a: {secret: s3cr3t}}}",
            "oauth: {clients: {a: {sercets: [s3cr3t]}}}",
            "oauth: {clients: {a: {<<: {x: s3cr3t}}}}",
            "oauth: {client: {a: {x: s3cr3t}}}",
            "oauth: {x: s3cr3t}",
            "ouath: {clients: {a: {x: s3cr3t}}}",
            "clients: {a: s3cr3t}",
            "x: s3cr3t",
            "routes: [{client_secret: s3cr3t}]",
            "routes: [{headers: {set: {Password: s3cr3t, \nX-Api-Key: s3cr3t}}}]",
            "routes: [{headers: {set: {X-Upstream: s3cr3t}}}]",
            "routes: [{headers: {set: {\"X-Upstream s3cr3t\": x}}}]",
            "routes: [{headers: s3cr3t}]",
            "routes: [{headers: {set: s3cr3t}}]",
            "routes: [{headers: {set: [s3cr3t]}}]",
            "upstreams: {a: \"http://user:s3cr3t@host\"}",
            "upstreams: {a: [http://user:s3cr3t@host]}",
            "routes: [{\"http://user:s3cr3t@host\": x}]",
            "issuers: {a: {credentials: s3cr3t}}",
            "limits: {<<: {x: s3cr3t}}",
            "version: 1\n---\nx: s3cr3t",
        ] {
            never_shown(text);
        }
    }

    #[test]
    fn a_secret_near_broken_syntax_is_never_shown() {
        for text in [
            "oauth:\n  clients:\n    a:\n      secrets:\n        - s3cr3t: x: y",
            "oauth:\n  clients:\n    a: {secrets: [{value: ${s3cr3t}}]}",
            "oauth:\n  clients:\n    a:\n      secrets: [\ns3cr3t: \"x",
            "secrets:\n- value: \"s3cr3t",
            "clients:\n  a: \"s3cr3t",
            "s3cr3t: x: y",
            "\"oauth\": {\"x\": \"s3cr3t\" \"y\"}",
            "{oauth: {clients: {a: @s3cr3t}}}",
            "routes:\n  clients:\n    a: [s3cr3t, @]",
            "routes:\n  password: @s3cr3t",
            "routes:\n  - headers:\n      set:\n        X-Upstream: @s3cr3t",
            "oauth: [\nroutes:\n  - @s3cr3t # secret",
        ] {
            never_shown(text);
        }
    }

    #[track_caller]
    fn excerpt(text: &str, part: &str) -> String {
        let start = text.find(part).unwrap();
        let source = source(text);
        let excerpt = source.excerpt(Span::new(start, start + part.len())).unwrap();
        format!("{}|{}", excerpt.line, &excerpt.line[excerpt.marked])
    }

    #[test]
    fn of_a_line_with_a_secret_the_keys_are_shown() {
        let text = "oauth:\n  clients:\n    app: {secrets: [{value: s3cr3t, expires: 1}], scops: [a], token_ttl: 99h} # s3cr3t";
        let line = "    app: {secrets: [{value: ***, expires: ***}], scops: [***], token_ttl: ***";
        for (part, marked) in [
            ("app", "app"),
            ("value", "value"),
            ("s3cr3t", "***"),
            ("expires", "expires"),
            ("scops", "scops"),
            ("99h", "***"),
        ] {
            assert_eq!(excerpt(text, part), format!("{line}|{marked}"), "{part}");
        }
        let text = "oauth:\n  clients:\n    app:\n      secrets:\n        - hash: \"s3cr3t\"\n          value: -s3cr3t";
        assert_eq!(excerpt(text, "\"s3cr3t"), "        - hash: ***|***");
        assert_eq!(excerpt(text, "-s3cr3t"), "          value: ***|***");
        let text = "oauth:\n  clients:\n    app: {secrets: [{valu: 1, 's3cr3t': 2, SECRET: 3, s_c_r_t_s_c_r_t_s_: 4}]}";
        assert_eq!(excerpt(text, "valu"), "    app: {secrets: [{valu: ***}]}|valu");
    }

    #[test]
    fn harmless_values_are_shown() {
        shown("workers: many", "many");
        shown("oauth:\n  token_ttl: 1y", "1y");
        shown("oauth:\n  clients:\n    a:\n      secrets: [{value: x}]\n      scopes: [a b]", "a b");
        shown("routes:\n  - access: {issuers: [corp]}", "corp");
        shown("oauth: {clients: {secret-service: {\nscopes: [a b]}}}", "a b");
        shown("hosts: x\nroutes:\n  - hosts: [*.example.com]", "*.example.com");
        shown("rotues:\n  - path: x", "x");
    }

    #[test]
    fn broken_syntax_is_shown_where_no_secret_can_be() {
        shown("oauth: {clients: {a: s3cr3t}}\nroutes:\n  - path: @x\n", "@x");
    }

    #[test]
    fn an_unknown_key_is_shown_without_its_value() {
        let text = "servers: s3cr3t";
        assert_eq!(source(text).quote_key(Span::new(0, 7)).unwrap(), "`servers`");
        never_shown(text);
    }
}
