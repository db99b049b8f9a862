//! The default places of the audit log and the signing keys, below `state_directory`.
//!
//! Earlier, these defaults did not depend on `state_directory`. It is a fault if the gateway would begin anew while the
//! files of an earlier start are at the old place: tokens would fail, and the audit log would begin a second chain.

use std::path::{Path, PathBuf};

use super::super::raw::{AuditFile, RawAudit, STATE_DIRECTORY};
use super::super::source::At;
use super::Resolver;
use crate::audit::log_paths;
use crate::issuer::ring_store;

/// A default below the state directory.
struct DefaultPlace {
    /// The name below the state directory.
    name: &'static str,
    /// The content, for messages.
    content: &'static str,
    key: &'static str,
    is_there: fn(&Path) -> bool,
}

const LOG: DefaultPlace = DefaultPlace {
    name: "audit.jsonl",
    content: "the audit log is",
    key: "audit.file",
    is_there: log_paths::has_lines,
};
const KEYS: DefaultPlace = DefaultPlace {
    name: "keys",
    content: "the signing keys are",
    key: "oauth.signing_keys.directory",
    is_there: ring_store::holds_keys,
};

impl Resolver<'_> {
    /// The target of the audit log, as written or by default.
    pub(super) fn audit_file(&mut self, raw: &RawAudit, state_directory: &At<PathBuf>) -> At<AuditFile> {
        if let Some(given) = &raw.file {
            return given.clone();
        }
        let At { value, span } = self.default_place(&LOG, state_directory);
        At { value: AuditFile::Path(value), span }
    }

    pub(super) fn keys_directory(&mut self, given: Option<&At<PathBuf>>, state_directory: &At<PathBuf>) -> At<PathBuf> {
        given.cloned().unwrap_or_else(|| self.default_place(&KEYS, state_directory))
    }

    fn default_place(&mut self, place: &DefaultPlace, state_directory: &At<PathBuf>) -> At<PathBuf> {
        let path = state_directory.value.join(place.name);
        let (old, new) = (self.source.locate(&Path::new(STATE_DIRECTORY).join(place.name)), self.source.locate(&path));
        let is_used = self.needs.includes(place.key);
        if is_used && old != new && (place.is_there)(&old) && !(place.is_there)(&new) {
            let message = format!(
                "{} at `{}`, the earlier default, and the present one, `{}`, has none: move the files there, or set \
                 `{}: {STATE_DIRECTORY}/{}`",
                place.content,
                old.display(),
                new.display(),
                place.key,
                place.name,
            );
            let message = self.redact_path(message, state_directory.span, &path);
            self.faults.at(state_directory.span, message);
        }
        At { value: path, span: state_directory.span }
    }
}
