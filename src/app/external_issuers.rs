//! The external issuers of a configuration, with what the configuration before knows of them.
//!
//! An issuer whose entry is unchanged stays the same object, so that its verified tokens and its keys live on. Its
//! tokens are verified again if another entry has changed that may be for them. An issuer with another entry keeps
//! fetched keys as long as they come from the same place; its tokens are verified again. Keys that are not fetched have
//! been read with the configuration.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::runtime::Handle;

use super::background;
use super::tasks::{Task, TaskSubject};
use crate::config::types::ExternalIssuer;
use crate::file_watch::FileWatch;
use crate::oauth::caller::IssuerName;
use crate::trust::introspection::Introspection;
use crate::trust::issuer::{IssuerSettings, TrustedIssuer};
use crate::trust::key_cache::KeyCache;
use crate::trust::key_file::WatchedKeyFile;
use crate::trust::key_set_file::KeySetFile;
use crate::trust::key_source::{IssuerCa, KeySource};
use crate::trust::refresher;
use crate::trust::verify::Trust;

/// An external issuer in use.
#[derive(Clone, Debug)]
pub(super) struct IssuerInUse {
    /// Unique in the process, for an entry, its source, and the keys that are not fetched.
    number: u64,
    pub(super) trusted: Arc<TrustedIssuer>,
    pub(super) source: KeySource,
    /// Watches the file of its keys, since before it was read.
    key_watch: Option<FileWatch>,
}

/// The certificates of these issuers, with their watches.
pub(super) fn take_certificates(issuers: &mut [ExternalIssuer]) -> Vec<(IssuerCa, FileWatch)> {
    let taken = issuers.iter_mut().filter_map(|issuer| {
        let ca = issuer.source.ca().cloned()?;
        Some((ca, issuer.watch.take()?))
    });
    taken.collect()
}

/// The entries that are new, or that the configuration before has otherwise.
pub(super) fn changed<'s>(
    all: impl Iterator<Item = &'s IssuerSettings>,
    before: Option<&Trust>,
) -> Vec<IssuerSettings> {
    let known = before.map_or(&[][..], Trust::issuers);
    all.filter(|settings| !known.iter().any(|known| known.settings == **settings)).cloned().collect()
}

impl IssuerInUse {
    /// The issuers of a configuration. Those of the one before go on where they can. `changed` are the changed entries
    /// of all issuers, our own included. `surroundings` are the state directory and the runtime of the control plane.
    /// Blocks.
    pub(super) fn all(
        issuers: Vec<ExternalIssuer>,
        changed: &[IssuerSettings],
        surroundings: (&Path, &Handle),
        before: &[Self],
    ) -> Vec<Self> {
        let names: Vec<IssuerName> = issuers.iter().map(|issuer| issuer.settings.name.clone()).collect();
        let goes_on = |known: &&Self| issuers.iter().any(|issuer| known.is_defined_as(issuer));
        let (going_on, mut former): (Vec<&Self>, Vec<&Self>) = before.iter().partition(goes_on);
        let following = issuers.into_iter().map(|issuer| {
            if let Some(same) = going_on.iter().find(|known| known.is_defined_as(&issuer)) {
                return same.beside(changed);
            }
            Self::new(issuer, |issuer| take_keys(issuer, &names, &mut former), surroundings)
        });
        following.collect()
    }

    fn new(
        issuer: ExternalIssuer,
        known_keys: impl FnOnce(&ExternalIssuer) -> Option<Arc<KeyCache>>,
        (state_directory, control): (&Path, &Handle),
    ) -> Self {
        let known_keys = known_keys(&issuer);
        let ExternalIssuer { settings, source, watch } = issuer;
        let (keys, key_watch) = match &source {
            KeySource::Local(local) => (Arc::new(refresher::local(local)), watch),
            KeySource::Fetched(fetched) => {
                let restored = || {
                    let file = KeySetFile::of(state_directory, &settings.name);
                    Arc::new(refresher::restored(&settings, fetched, &file))
                };
                (known_keys.unwrap_or_else(restored), None)
            }
            KeySource::Introspected(_) => (Arc::new(KeyCache::local(Arc::default())), None),
        };
        let introspection = Introspection::of(&settings.name, &source, control);
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { number, trusted: Arc::new(TrustedIssuer { settings, keys, introspection }), source, key_watch }
    }

    /// The same issuer beside these changed entries.
    fn beside(&self, changed: &[IssuerSettings]) -> Self {
        let mut same = self.clone();
        let TrustedIssuer { settings, keys, introspection } = &*self.trusted;
        if changed.iter().any(|other| other.may_choose_tokens_of(settings)) {
            same.trusted = Arc::new(TrustedIssuer {
                settings: settings.clone(),
                keys: Arc::clone(keys),
                introspection: introspection.clone(),
            });
        }
        same
    }

    fn is_defined_as(&self, issuer: &ExternalIssuer) -> bool {
        let has_same_source = match (&self.source, &issuer.source) {
            (KeySource::Fetched(own), KeySource::Fetched(other)) => own == other,
            // A change of the file that was not noticed yet comes with the new configuration.
            (KeySource::Local(own), KeySource::Local(other)) => {
                own.file == other.file && self.trusted.keys.keys().is_same(&other.keys)
            }
            (KeySource::Introspected(own), KeySource::Introspected(other)) => own == other,
            (KeySource::Fetched(_) | KeySource::Local(_) | KeySource::Introspected(_), _) => false,
        };
        has_same_source && self.trusted.settings == issuer.settings
    }

    /// Whether the keys that were fetched for this entry are those that would be fetched for the other.
    fn has_keys_of(&self, issuer: &ExternalIssuer) -> bool {
        let (own, other) = (&self.trusted.settings, &issuer.settings);
        let sources = self.source.fetched().zip(issuer.source.fetched());
        sources.is_some_and(|(own, other)| own.have_same_place(other))
            && own.metadata_issuer() == other.metadata_issuer()
            && own.algorithms == other.algorithms
    }

    /// It is in use from now on: keys that an earlier configuration has fetched follow its rules.
    pub(super) fn begin(&self) {
        if let KeySource::Fetched(fetched) = &self.source {
            self.trusted.keys.set_max_stale(fetched.max_stale);
        }
    }

    /// The task that keeps its keys fresh. `None` if they change with the configuration only.
    pub(super) fn task(&self, state_directory: &Path) -> Option<Task> {
        let TrustedIssuer { settings, keys, introspection: _ } = &*self.trusted;
        let (settings, cache, subject) = (settings.clone(), Arc::clone(keys), TaskSubject::Issuer(self.number));
        match &self.source {
            KeySource::Fetched(source) => {
                let file = KeySetFile::of(state_directory, &settings.name);
                Some(Task::new(subject, background::refresh_keys(settings, (**source).clone(), Some(file), cache)))
            }
            KeySource::Local(local) => {
                let (path, watch) = local.file.clone().zip(self.key_watch.clone())?;
                let file = WatchedKeyFile { settings, path, watch, cache };
                Some(Task::new(subject, background::watch_key_file(file)))
            }
            // Requests ask about tokens themselves.
            KeySource::Introspected(_) => None,
        }
    }
}

/// The keys of a former entry that has the same name as this one, or whose name is in use no more. They are taken from
/// it: two entries do not share a cache, because each fetches by rules of its own.
fn take_keys(issuer: &ExternalIssuer, names: &[IssuerName], former: &mut Vec<&IssuerInUse>) -> Option<Arc<KeyCache>> {
    let is_free = |name: &IssuerName| *name == issuer.settings.name || !names.contains(name);
    let fits = |known: &&IssuerInUse| is_free(&known.trusted.settings.name) && known.has_keys_of(issuer);
    let at = former.iter().position(fits)?;
    Some(Arc::clone(&former.remove(at).trusted.keys))
}

#[cfg(test)]
mod tests;
