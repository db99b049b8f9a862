//! The external issuers of a configuration, with what the configuration before knows of them.
//!
//! An issuer whose entry is unchanged stays the same object, so that its verified tokens and its keys live on. An
//! issuer with another entry keeps its keys as long as they come from the same place; its tokens are verified again.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::background;
use super::tasks::{Task, TaskSubject};
use crate::config::types::ExternalIssuer;
use crate::trust::issuer::{KeySource, TrustedIssuer};
use crate::trust::key_set_file::KeySetFile;
use crate::trust::refresher;

/// An external issuer in use.
#[derive(Clone, Debug)]
pub(super) struct IssuerInUse {
    /// Unique in the process, for an entry and its source.
    number: u64,
    pub(super) trusted: Arc<TrustedIssuer>,
    pub(super) source: KeySource,
}

impl IssuerInUse {
    /// The issuers of a configuration. Those of the one before go on where they can. Blocks.
    pub(super) fn all(issuers: Vec<ExternalIssuer>, state_directory: &Path, before: &[Self]) -> Vec<Self> {
        issuers.into_iter().map(|issuer| Self::following(issuer, state_directory, before)).collect()
    }

    fn following(issuer: ExternalIssuer, state_directory: &Path, before: &[Self]) -> Self {
        let ExternalIssuer { settings, source, .. } = issuer;
        let has_same_keys =
            |known: &&Self| known.trusted.settings.issuer == settings.issuer && known.source.is_same_place(&source);
        let mut alike = before.iter().filter(has_same_keys);
        if let Some(same) = alike.clone().find(|known| known.trusted.settings == settings && known.source == source) {
            return same.clone();
        }
        let keys = match alike.next() {
            Some(known) => Arc::clone(&known.trusted.keys),
            None => Arc::new(refresher::restored(&settings, &source, &KeySetFile::of(state_directory, &settings.name))),
        };
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { number, trusted: Arc::new(TrustedIssuer { settings, keys }), source }
    }

    /// It is in use from now on: keys that an earlier configuration has fetched follow its rules.
    pub(super) fn begin(&self) {
        self.trusted.keys.set_max_stale(self.source.max_stale);
    }

    /// The task that keeps its keys fresh.
    pub(super) fn task(&self, state_directory: &Path) -> Task {
        let TrustedIssuer { settings, keys } = &*self.trusted;
        let file = KeySetFile::of(state_directory, &settings.name);
        let run = background::refresh_keys(settings.clone(), self.source.clone(), file, Arc::clone(keys));
        Task::new(TaskSubject::Issuer(self.number), run)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tempfile::tempdir;
    use url::Url;

    use super::*;
    use crate::oauth::caller::IssuerName;
    use crate::oauth::identity::Identity;
    use crate::trust::fetch::ClearText;
    use crate::trust::issuer::{IssuerSettings, Profile, TokenTypes};
    use crate::trust::scope_claim::ScopeClaim;

    fn issuer(name: &str, audience: &str, uri: &str) -> ExternalIssuer {
        let settings = IssuerSettings {
            name: IssuerName::new(name),
            issuer: Identity::parse("https://i.example").unwrap(),
            audiences: vec![audience.to_owned()],
            algorithms: Vec::new(),
            types: TokenTypes { named: Vec::new(), absent: true },
            clock_skew: Duration::ZERO,
            scope_claim: ScopeClaim::Auto,
            allow_scopes: None,
            profile: Profile::External,
        };
        let source = KeySource {
            jwks_uri: Some(Url::parse(uri).unwrap()),
            ca: None,
            max_stale: Duration::ZERO,
            clear_text: ClearText::Loopback,
        };
        ExternalIssuer { settings, source, ca_watch: None }
    }

    #[test]
    fn an_issuer_keeps_its_tokens_and_keys_as_far_as_it_is_the_same() {
        let folder = tempdir().unwrap();
        let after = |issuer, before: &[IssuerInUse]| IssuerInUse::all(vec![issuer], folder.path(), before).remove(0);
        let first = [after(issuer("a", "x", "https://i.example/keys"), &[])];
        let same = after(issuer("a", "x", "https://i.example/keys"), &first);
        assert!(Arc::ptr_eq(&same.trusted, &first[0].trusted) && same.number == first[0].number);
        for other in [issuer("a", "y", "https://i.example/keys"), issuer("b", "x", "https://i.example/keys")] {
            let other = after(other, &first);
            assert!(!Arc::ptr_eq(&other.trusted, &first[0].trusted) && other.number != first[0].number);
            assert!(Arc::ptr_eq(&other.trusted.keys, &first[0].trusted.keys));
        }
        let moved = after(issuer("a", "x", "https://i.example/other"), &first);
        assert!(!Arc::ptr_eq(&moved.trusted.keys, &first[0].trusted.keys));
    }
}
