//! `revoked` and the folder in which revocations are kept.

use std::path::PathBuf;

use super::super::decode::Required;
use super::super::diagnostics::Reported;
use super::super::lint::Lint;
use super::super::raw::revocation::RawRevocation;
use super::super::source::At;
use super::super::types::{ExternalIssuer, Oauth};
use super::names::Names;
use super::{Resolved, Resolver};
use crate::audit::audit_key::AuditKey;
use crate::oauth::caller::IssuerName;
use crate::oauth::identity::Identity;
use crate::telemetry::error_chain::ErrorChain;
use crate::trust::issuer::IssuerSettings;
use crate::trust::revocation::{MAX_ENTRIES, RevocationEntry, RevocationTarget};
use crate::trust::revocation_keeper::Keeper;
use crate::trust::revocation_store::Store;

impl Resolver<'_> {
    /// They apply as long as they are in the configuration.
    pub(super) fn revoked(
        &mut self,
        raw: &[At<RawRevocation>],
        names: &Names,
        oauth: Option<&Resolved<Oauth>>,
        issuers: &[ExternalIssuer],
    ) -> Vec<RevocationEntry> {
        if let Some(beyond) = raw.get(MAX_ENTRIES) {
            self.faults.at(beyond.span, format!("expected at most {MAX_ENTRIES} entries"));
        }
        let own = oauth.and_then(|oauth| oauth.as_ref().ok()).map(|oauth| &oauth.trust);
        let known: Vec<&IssuerSettings> =
            own.into_iter().chain(issuers.iter().map(|issuer| &issuer.settings)).collect();
        raw.iter().filter_map(|entry| self.revocation(entry, names, &known)).collect()
    }

    fn revocation(
        &mut self,
        raw: &At<RawRevocation>,
        names: &Names,
        known: &[&IssuerSettings],
    ) -> Option<RevocationEntry> {
        let issuer = self.revoked_issuer(raw, names);
        let target = self.revocation_target(raw);
        let before = raw.value.issued_before.as_ref();
        match (&target, before) {
            (Ok(RevocationTarget::Token(_)), Some(Ok(time))) => {
                self.faults.at(time.span, "`jti` names one token, whenever it was issued: remove `issued_before`");
            }
            (Ok(RevocationTarget::Issuer), None) => {
                let message = "this would revoke all future tokens of the issuer: add `jti`, `client`, `subject` or `issued_before`, or \
                    remove the issuer";
                self.faults.at(raw.span, message);
            }
            _ => {}
        }
        let (issuer, target) = (issuer?, target.ok()?);
        if let RevocationTarget::Client(client) = &target {
            self.warn_of_unknown_client(raw, &issuer, client, names);
        }
        let issuer = known.iter().find(|settings| settings.name == issuer)?;
        let before = before.and_then(|time| time.as_ref().ok()).map(|time| time.value);
        Some(RevocationEntry::standing(issuer, target, before))
    }

    fn revoked_issuer(&mut self, raw: &At<RawRevocation>, names: &Names) -> Option<IssuerName> {
        match &raw.value.issuer {
            Some(name) if names.issuers_complete && !names.issuers.contains(&name.value) => {
                self.unknown("issuer", name, &names.issuers);
                None
            }
            Some(name) => Some(IssuerName::new(&name.value)),
            None if names.has_oauth => Some(IssuerName::own()),
            None => {
                self.faults.at(raw.span, "there is no `oauth`, so there is no issuer `self`: add `issuer`");
                None
            }
        }
    }

    fn revocation_target(&mut self, raw: &At<RawRevocation>) -> Result<RevocationTarget, Reported> {
        let RawRevocation { jti, client, subject, .. } = &raw.value;
        match (jti, client, subject) {
            (None, None, None) => Ok(RevocationTarget::Issuer),
            (Some(jti), None, None) => match jti {
                Ok(jti) if jti.value.is_empty() => Err(self.faults.at(jti.span, "this text is empty")),
                Ok(jti) => Ok(RevocationTarget::token(&jti.value)),
                Err(reported) => Err(*reported),
            },
            (None, Some(client), None) => self.revoked_name(client).map(RevocationTarget::Client),
            (None, None, Some(subject)) => self.revoked_name(subject).map(RevocationTarget::Subject),
            _ => Err(self
                .faults
                .at(raw.span, "expected only one of `jti`, `client` and `subject`: write an item for each")),
        }
    }

    fn revoked_name(&mut self, name: &Required<String>) -> Result<String, Reported> {
        let name = name.as_ref()?;
        let parsed = Identity::parse(&name.value);
        parsed.map(|name| name.as_str().to_owned()).map_err(|fault| self.faults.at(name.span, fault.to_string()))
    }

    /// Not a fault: a client that was removed may still have tokens.
    fn warn_of_unknown_client(&mut self, raw: &At<RawRevocation>, issuer: &IssuerName, client: &str, names: &Names) {
        if issuer.as_str() != IssuerName::OWN || !names.clients_complete || names.clients.contains_key(client) {
            return;
        }
        let message = "`oauth.clients` does not contain the client that is revoked here";
        self.warn(Lint::UnknownRevokedClient, raw.span, message);
    }

    /// Checks that the gateway could read and write it. Its content is read again at the start.
    pub(super) fn state_directory(
        &mut self,
        raw: &At<PathBuf>,
        revoked: &[RevocationEntry],
        (keeps_revocations, signs_checkpoints): (bool, bool),
    ) -> PathBuf {
        let directory = self.source.locate(&raw.value);
        if !self.needs.is_everything() {
            return directory;
        }
        if let Err(error) = Keeper::open(&directory, revoked, self.now) {
            let message = self.redact_path(ErrorChain(&error).to_string(), raw.span, &raw.value);
            self.faults.at(raw.span, message);
            return directory;
        }
        let file = Store::in_directory(&directory);
        let need = "`oauth` needs it for revocations and signing keys: set `state_directory` to a folder on a volume that can be written";
        let checked = if keeps_revocations { self.writable_file(raw, file.path(), need) } else { Ok(()) };
        if checked.is_ok() && signs_checkpoints && !AuditKey::is_in(&directory) {
            let need = "`audit.file` needs it for the key that signs the log: set `state_directory` to a folder on a volume \
                that can be written, or `audit.file` to `-`";
            let _ = self.writable_folder(raw, &directory, need);
        }
        directory
    }
}
