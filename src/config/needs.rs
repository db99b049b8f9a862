//! Which parts of a configuration a command uses.
//!
//! Faults outside of these parts are not reported, and secrets that cannot be resolved are left out. So `keys list` or
//! `audit tail` works in a shell without the variables of the service, and for a user who cannot read its private keys.

use super::source::{At, Span};
use super::suggest;
use super::tree::YamlNode;

/// The paths of the keys that a command uses, and `version`. `*` stands for any name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Needs(Option<&'static [&'static str]>);

impl Needs {
    /// The sections that `run` needs. `check` needs the same, because it gives the same answer.
    pub(crate) const EVERYTHING: Self = Self(None);
    pub(crate) const AUDIT_LOG: Self = Self(Some(&["audit", "state_directory"]));
    pub(crate) const STORES: Self = Self(Some(&["shared"]));
    pub(crate) const PROBES: Self = Self(Some(&["admin", "probes"]));
    pub(crate) const OAUTH: Self = Self(Some(&["oauth"]));
    /// The clients in a database, and where it is.
    pub(crate) const CLIENTS: Self = Self(Some(&["oauth", "issuers", "shared", "state_directory"]));
    pub(crate) const SIGNING_KEYS: Self = Self(Some(&[
        "oauth.signing_keys",
        "oauth.token_ttl",
        "oauth.clients.*.token_ttl",
        "state_directory",
        "shared",
    ]));
    pub(crate) const ISSUERS: Self =
        Self(Some(&["oauth.issuer", "oauth.signing_keys", "issuers", "admin", "state_directory"]));
    pub(crate) const REVOCATIONS: Self = Self(Some(&["oauth.issuer", "issuers", "state_directory"]));
    /// The place of the token endpoint.
    pub(crate) const TOKEN_ENDPOINT: Self = Self(Some(&["oauth.issuer", "oauth.token_endpoint"]));
    /// The sections that decide about a token at every route.
    pub(crate) const ACCESS: Self = Self(Some(&[
        "limits",
        "trusted_proxies",
        "oauth",
        "issuers",
        "static_tokens",
        "upstreams",
        "rate_limits",
        "routes",
        "state_directory",
        "revoked",
    ]));

    /// The same, and the place of signing keys and clients that are in a database: to judge a real token.
    pub(crate) const TOKENS: Self = Self(Some(&[
        "limits",
        "trusted_proxies",
        "oauth",
        "issuers",
        "static_tokens",
        "upstreams",
        "rate_limits",
        "routes",
        "state_directory",
        "revoked",
        "shared.postgres",
    ]));

    /// The sections that decide about a request, and the tests about it.
    pub(crate) const TESTS: Self = Self(Some(&[
        "limits",
        "trusted_proxies",
        "oauth",
        "issuers",
        "static_tokens",
        "upstreams",
        "rate_limits",
        "routes",
        "revoked",
        "tests",
    ]));

    pub(super) fn is_everything(self) -> bool {
        self.0.is_none()
    }

    /// Whether the command uses the key at this path.
    pub(super) fn includes(self, path: &str) -> bool {
        let leads_to =
            |used: &&str| path.strip_prefix(used).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        self.0.is_none_or(|all| all.iter().any(leads_to))
    }

    /// The parts of the file that the command does not use, with their keys. `all` are the names of all sections.
    pub(super) fn unused(self, root: &At<YamlNode<'_>>, all: &[&str]) -> Vec<Span> {
        let mut unused = Vec::new();
        if let (Some(used), YamlNode::Map(sections)) = (self.0, &root.value) {
            for (key, value) in sections {
                // An unknown key is a fault for every command.
                let Some(section) = suggest::closest(&key.value, all).filter(|key| *key != "version") else { continue };
                add_unused(section, (key, value), used, &mut unused);
            }
        }
        unused
    }
}

/// Adds the parts below one key that none of the paths leads to.
fn add_unused<K>(name: &str, (key, value): (&At<K>, &At<YamlNode<'_>>), used: &[&str], unused: &mut Vec<Span>) {
    let first = |path: &&&str| path.split('.').next().is_some_and(|first| first == "*" || first == name);
    let leading: Vec<&str> = used.iter().filter(first).copied().collect();
    if leading.is_empty() {
        return unused.push(Span { start: key.span.start, end: value.span.end });
    }
    let below: Option<Vec<&str>> = leading.iter().map(|path| path.split_once('.').map(|(_, below)| below)).collect();
    if let (Some(below), YamlNode::Map(pairs)) = (below, &value.value) {
        pairs.iter().for_each(|(key, value)| add_unused(&key.value, (key, value), &below, unused));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::decode::Mirrored as _;
    use crate::config::raw::RawConfig;
    use crate::config::raw::oauth::{RawClient, RawOauth};
    use crate::config::tree;

    #[test]
    fn every_path_exists() {
        let all =
            [Needs::AUDIT_LOG, Needs::OAUTH, Needs::SIGNING_KEYS, Needs::ISSUERS, Needs::REVOCATIONS, Needs::ACCESS];
        for path in all.iter().flat_map(|needs| needs.0.unwrap()) {
            let exists = match path.split('.').collect::<Vec<_>>()[..] {
                [section] => RawConfig::KEYS.contains(&section),
                ["oauth", key] => RawOauth::KEYS.contains(&key),
                ["oauth", "clients", "*", key] => RawClient::KEYS.contains(&key),
                _ => false,
            };
            assert!(exists, "{path}");
        }
    }

    #[test]
    fn the_unused_parts_are_those_that_no_path_leads_to() {
        let text = "version: 1\noauth:\n  issuer: a\n  token_ttl: 1h\n  clients:\n    b: {scopes: c, token_ttl: 2h}\naudit: d\n";
        let root = tree::read(text).ok().and_then(|tree| tree.root).unwrap();
        let unused = Needs::SIGNING_KEYS.unused(&root, RawConfig::KEYS);
        let unused: Vec<&str> = unused.iter().map(|span| &text[span.start as usize..span.end as usize]).collect();
        assert_eq!(unused, ["issuer: a", "scopes: c", "audit: d"]);
        assert_eq!(Needs::EVERYTHING.unused(&root, RawConfig::KEYS), []);
        let includes = |needs: Needs| needs.includes("oauth.signing_keys.directory");
        assert!(includes(Needs::EVERYTHING) && includes(Needs::OAUTH) && includes(Needs::SIGNING_KEYS));
        assert!(!includes(Needs::AUDIT_LOG) && !includes(Needs::REVOCATIONS));
    }
}
