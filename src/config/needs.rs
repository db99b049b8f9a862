//! Which sections of a configuration a command uses.
//!
//! Faults outside of these sections are not reported, and secrets that cannot be resolved are left out. So `keys list`
//! or `audit tail` works in a shell without the variables of the service, and for a user who cannot read its private
//! keys.

use super::source::{At, Span};
use super::suggest;
use super::tree::YamlNode;

/// The sections that a command uses, and `version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Needs(Option<&'static [&'static str]>);

impl Needs {
    /// The sections that `run` needs. `check` needs the same, because it gives the same answer.
    pub(crate) const EVERYTHING: Self = Self(None);
    pub(crate) const AUDIT_LOG: Self = Self(Some(&["audit", "state_directory"]));
    pub(crate) const OAUTH: Self = Self(Some(&["oauth"]));
    pub(crate) const ISSUERS: Self = Self(Some(&["oauth", "issuers", "admin"]));
    pub(crate) const REVOCATIONS: Self = Self(Some(&["oauth", "issuers", "state_directory"]));
    /// The sections that decide about a token at every route.
    pub(crate) const ACCESS: Self = Self(Some(&[
        "limits",
        "trusted_proxies",
        "oauth",
        "issuers",
        "upstreams",
        "rate_limits",
        "routes",
        "state_directory",
        "revoked",
    ]));

    pub(super) fn is_everything(self) -> bool {
        self.0.is_none()
    }

    /// The sections of the file that the command does not use, with their keys. `all` are the names of all sections.
    pub(super) fn unused(self, root: &At<YamlNode<'_>>, all: &[&str]) -> Vec<Span> {
        let (Some(used), YamlNode::Map(pairs)) = (self.0, &root.value) else {
            return Vec::new();
        };
        let is_unused =
            |key: &str| suggest::closest(key, all).is_some_and(|key| key != "version" && !used.contains(&key));
        let unused = pairs.iter().filter(|(key, _)| is_unused(&key.value));
        unused.map(|(key, value)| Span { start: key.span.start, end: value.span.end }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::decode::Mirrored as _;
    use crate::config::raw::RawConfig;

    #[test]
    fn every_section_exists() {
        for needs in [Needs::AUDIT_LOG, Needs::OAUTH, Needs::ISSUERS, Needs::REVOCATIONS, Needs::ACCESS] {
            assert!(needs.0.unwrap().iter().all(|section| RawConfig::KEYS.contains(section)), "{needs:?}");
        }
    }
}
