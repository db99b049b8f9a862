//! Decides which parts of a config file may be secrets and are never shown.
//!
//! Returns spans for [`Source::hide`](super::source::Source::hide). Inside `oauth.clients` and under unknown keys, only
//! values known to be harmless are shown. Elsewhere, only values under names that suggest a secret are hidden. If the
//! syntax is broken there is no tree, and almost nothing is shown.
//!
//! Decides by the names of keys and never by values: it must work for misspelt keys, wrong types and secrets at wrong
//! places.

pub(super) mod masked;

use std::borrow::Cow;

use super::decode::Mirrored as _;
use super::raw::RawConfig;
use super::raw::authorization::{RawAuthorizationKeys, RawBasic};
use super::raw::client_key::RawClientKeyKeys;
use super::raw::config_test::RawTest;
use super::raw::issuer::RawIssuer;
use super::raw::key_source::RawFetch;
use super::raw::oauth::{RawClient, RawOauth, RawSigningKeys};
use super::raw::shared::RawShared;
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

/// Keys that may be shown although their lines have secrets: below `oauth.clients` client ids, and text in the form of
/// our keys; of an upstream's `authorization` the known keys. In order.
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
    let upstreams = tree.root.iter().flat_map(|root| below(root, RawConfig::KEYS, "upstreams"));
    for (key, credential) in upstreams.flat_map(pairs).flat_map(|(_, upstream)| pairs(upstream)) {
        if suggest::closest(&key.value, &["authorization"]).is_some() {
            let inner = pairs(credential);
            let of_basic = inner.iter().flat_map(|(_, basic)| pairs(basic));
            let known = inner.iter().chain(of_basic).filter(|(key, _)| is_credential_key(&key.value));
            keys.extend([key.span].into_iter().chain(known.map(|(key, _)| key.span)));
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
    /// `oauth.signing_keys`: a wrapping key is a secret.
    SigningKeys,
    Clients,
    Client,
    /// The public keys of a client: a private key has no place in them, but may be there.
    ClientKeys,
    Issuers,
    Issuer,
    /// `fetch` of an issuer: the values of its headers are secrets.
    Fetch,
    /// `introspection` of an issuer: the endpoint and the client's id are shown.
    Introspection,
    /// A proxy's URL, which may have credentials.
    Proxy,
    /// `jwks` of an issuer: a private key has no place in it, but may be there.
    Jwks,
    Headers,
    /// Header values are often credentials for the upstream.
    HeaderValues,
    /// The credential of an upstream: only its keys and the name of its header are shown.
    Authorization,
    HeaderName,
    /// `shared`: the stores of several replicas.
    Shared,
    /// The database: its URL may have a password.
    SharedDatabase,
    /// Tests of the configuration.
    Tests,
    /// Requests of a test, which are keys too.
    Requests,
    /// Has secrets only under names that suggest one.
    Open,
    Secret,
}

impl SecrecyRule {
    fn below(self, key: &str) -> Self {
        match self {
            // The key is a client's id, or an issuer's name.
            Self::Clients => Self::Client,
            Self::Issuers => Self::Issuer,
            Self::Issuer if suggest::closest(key, RawIssuer::KEYS) == Some("fetch") => Self::Fetch,
            Self::Issuer if suggest::closest(key, RawIssuer::KEYS) == Some("jwks") => Self::Jwks,
            Self::Issuer if suggest::closest(key, RawIssuer::KEYS) == Some("introspection") => Self::Introspection,
            Self::Introspection if ["endpoint", "client_id", "cache"].contains(&key) => Self::Open,
            Self::Introspection => Self::Secret,
            Self::Fetch if key == "bearer_token_file" => Self::Open,
            Self::Fetch if suggest::closest(key, RawFetch::KEYS) == Some("headers") => Self::HeaderValues,
            Self::Fetch if suggest::closest(key, RawFetch::KEYS) == Some("proxy") => Self::Proxy,
            Self::Fetch | Self::Proxy => Self::Secret,
            Self::Client if suggest::closest(key, RawClient::KEYS) == Some("keys") => Self::ClientKeys,
            Self::ClientKeys => match suggest::closest(key, RawClientKeyKeys::KEYS) {
                Some("jwk") => Self::Jwks,
                Some(_) => Self::Open,
                None => Self::Secret,
            },
            Self::Jwks if PUBLIC_MEMBERS.contains(&key) => Self::Jwks,
            Self::Jwks => Self::Secret,
            Self::Open if suggest::closest(key, &["authorization"]).is_some() => Self::Authorization,
            Self::Authorization if key == "header" => Self::HeaderName,
            Self::Authorization if suggest::closest(key, RawAuthorizationKeys::KEYS) == Some("basic") => {
                Self::Authorization
            }
            Self::Requests => Self::Requests,
            Self::Shared if suggest::closest(key, RawShared::KEYS) == Some("postgres") => Self::SharedDatabase,
            Self::Shared => Self::Open.below(key),
            Self::SharedDatabase if ["ca", "stale"].contains(&key) => Self::Open,
            Self::SharedDatabase => Self::Secret,
            _ if suggests_secret(key) => Self::Secret,
            Self::Tests => match suggest::closest(key, RawTest::KEYS) {
                Some("headers") => Self::HeaderValues,
                Some("allowed" | "refused") => Self::Requests,
                Some(_) => Self::Open,
                None => Self::Secret,
            },
            Self::Root => match suggest::closest(key, RawConfig::KEYS) {
                Some("oauth") => Self::Oauth,
                Some("issuers") => Self::Issuers,
                Some("tests") => Self::Tests,
                Some("shared") => Self::Shared,
                Some(_) => Self::Open,
                None => Self::Secret,
            },
            Self::Oauth if suggest::closest(key, RawOauth::KEYS) == Some("signing_keys") => Self::SigningKeys,
            Self::SigningKeys => match suggest::closest(key, RawSigningKeys::KEYS) {
                Some(known) if !RawSigningKeys::is_secret(known) => Self::Open,
                Some(_) | None => Self::Secret,
            },
            Self::Oauth => match suggest::closest(key, RawOauth::KEYS) {
                Some("clients") => Self::Clients,
                Some(_) => Self::Open,
                None => Self::Secret,
            },
            Self::Client if suggest::closest(key, RawClient::KEYS).is_some_and(|key| !RawClient::is_secret(key)) => {
                Self::Open
            }
            Self::Client | Self::Secret | Self::HeaderValues | Self::Authorization | Self::HeaderName => Self::Secret,
            Self::Headers if suggest::closest(key, &["set", "add"]).is_some() => Self::HeaderValues,
            Self::Open if suggest::closest(key, &["headers", "response_headers"]).is_some() => Self::Headers,
            Self::Headers => Self::Open,
            // Keys of `fetch` that stand beside it.
            Self::Issuer if suggest::closest(key, RawIssuer::KEYS).is_none() => Self::Secret,
            Self::Open | Self::Issuer => Self::Open,
        }
    }
}

impl SecrecyRule {
    /// Whether a value at this place is shown, unless it has credentials.
    fn is_open(self) -> bool {
        match self {
            Self::Open | Self::Issuers | Self::Issuer | Self::Jwks | Self::Tests | Self::Requests => true,
            Self::Root
            | Self::Shared
            | Self::SharedDatabase
            | Self::Fetch
            | Self::Introspection
            | Self::Proxy
            | Self::Oauth
            | Self::SigningKeys
            | Self::Clients
            | Self::Client
            | Self::ClientKeys
            | Self::Headers
            | Self::HeaderValues
            | Self::Authorization
            | Self::HeaderName
            | Self::Secret => false,
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
        (YamlNode::List(items), rule)
            if rule.is_open() || matches!(rule, SecrecyRule::Headers | SecrecyRule::ClientKeys) =>
        {
            items.iter().for_each(|item| hide(text, item, rule, spans))
        }
        (_, rule) if rule.is_open() && !has_credentials(&text[node.span.start as usize..node.span.end as usize]) => {}
        (YamlNode::Scalar(scalar), SecrecyRule::HeaderName) if is_written_as_header(&scalar.text) => {}
        (YamlNode::Scalar(scalar), SecrecyRule::Proxy) if is_written_as_origin(&scalar.text) => {}
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
        SecrecyRule::HeaderValues => is_written_as_header(key),
        SecrecyRule::Authorization => is_credential_key(key),
        SecrecyRule::Root
        | SecrecyRule::Oauth
        | SecrecyRule::SigningKeys
        | SecrecyRule::Shared
        | SecrecyRule::SharedDatabase
        | SecrecyRule::Issuer
        | SecrecyRule::Fetch
        | SecrecyRule::Introspection
        | SecrecyRule::Open
        | SecrecyRule::Tests
        | SecrecyRule::Headers => key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
        SecrecyRule::Requests => true,
        // A private member such as `d`.
        SecrecyRule::Jwks | SecrecyRule::ClientKeys => is_written_as_key(key),
        SecrecyRule::Clients
        | SecrecyRule::Issuers
        | SecrecyRule::Secret
        | SecrecyRule::HeaderName
        | SecrecyRule::Proxy => false,
    }
}

/// Whether this is a key of an upstream's `authorization`, also if it is misspelt.
fn is_credential_key(key: &str) -> bool {
    suggest::closest(key, &[RawAuthorizationKeys::KEYS, RawBasic::KEYS].concat()).is_some()
}

fn is_written_as_header(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Whether a text is a URL without credentials. After a colon there is a port, never a password.
fn is_written_as_origin(text: &str) -> bool {
    let Some((_, authority)) = text.split_once("://").filter(|(_, rest)| !rest.contains('@')) else { return false };
    let port = authority.split_once(':').map_or("", |(_, port)| port.split('/').next().unwrap_or_default());
    port.bytes().all(|byte| byte.is_ascii_digit())
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
    let suspicious = |line: &str| {
        mentions_secrets(line)
            || line.trim_end().ends_with("clients:")
            || ["headers:", "fetch:", "introspection:", "postgres:"].iter().any(|key| line.contains(key))
    };
    RawConfig::KEYS.contains(&name) && name != "oauth" && !section.lines().any(suspicious)
}

/// The members of a JWK Set that are public (RFC 7517, RFC 7518 §6). All others may be parts of a private key.
const PUBLIC_MEMBERS: [&str; 17] = [
    "keys", "kty", "use", "key_ops", "alg", "kid", "n", "e", "crv", "x", "y", "x5u", "x5c", "x5t", "x5t#S256", "ext",
    "exp",
];

const SECRET_NAMES: [&str; 10] =
    ["secret", "passw", "credential", "hash", "value", "authorization", "bearer", "api-key", "api_key", "apikey"];

#[cfg(test)]
mod tests;
