//! `oauth.signing_keys`: the ring of signing keys, in files or in a database.

use std::path::PathBuf;
use std::time::Duration;

use super::super::super::raw::RawConfig;
use super::super::super::raw::oauth::{KeysIn, RawOauth, RawSigningKeys, Secret};
use super::super::super::source::At;
use super::super::Resolver;
use super::DEFAULT_TTL;
use crate::issuer::ring_store::{self, RingSettings};
use crate::issuer::rotation::{MAX_PUBLISHED, RotationRules, SHORTEST_ROTATION};
use crate::issuer::wrapping_key::{WrappingKey, WrappingKeys};
use crate::jose::algorithm::Algorithm;
use crate::telemetry::error_chain::ErrorChain;

impl Resolver<'_> {
    /// The signing keys alone.
    pub(in super::super::super) fn only_ring(mut self, raw: RawConfig) -> Option<RingSettings> {
        self.postgres_stale = raw.shared.postgres.as_ref().map(|postgres| postgres.value.stale.value.get());
        self.allow_literal_secrets = true;
        let RawOauth { token_ttl, signing_keys, clients, .. } = raw.oauth?.value;
        let ttl = token_ttl.map_or(DEFAULT_TTL, |ttl| self.ttl(&ttl));
        let of_clients = clients.entries.into_iter().filter_map(|(_, client)| client.ok()?.value.token_ttl);
        let longest_ttl = of_clients.map(|ttl| self.ttl(&ttl)).fold(ttl, Duration::max);
        Some(self.ring(&signing_keys, &raw.state_directory, longest_ttl))
    }

    pub(super) fn ring(
        &mut self,
        raw: &RawSigningKeys,
        state_directory: &At<PathBuf>,
        longest_ttl: Duration,
    ) -> RingSettings {
        let algorithm = self.signing_algorithm(&raw.algorithm).unwrap_or(Algorithm::Rs256);
        let fixed_ends = raw.r#in.value == KeysIn::Postgres;
        let rotate_every = super::super::period(raw.rotate_every.value);
        let rules = RotationRules { algorithm, rotate_every, longest_ttl, fixed_ends };
        let place = self.keys_directory(raw.directory.as_ref(), state_directory);
        let directory = self.source.locate(&place.value);
        let ring = RingSettings { rules, directory, x5c: raw.x5c.value, wrapping_keys: self.wrapping_keys(raw) };
        if rules.rotate_every.is_some_and(|every| every < SHORTEST_ROTATION) {
            let got = self.got(&raw.rotate_every);
            self.faults.at(raw.rotate_every.span, format!("expected at least `5s`{got}"));
        } else if rules.published() > MAX_PUBLISHED {
            let message = format!(
                "with a token lifetime of {}s, {} keys would be published at once, and verifiers read {MAX_PUBLISHED}: rotate less often, or shorten `token_ttl`",
                longest_ttl.as_secs(),
                rules.published(),
            );
            self.faults.at(raw.rotate_every.span, message);
        }
        // A fault of the state directory itself is reported once, there.
        let is_below = raw.directory.is_none() && !self.source.locate(&state_directory.value).is_dir();
        if !self.needs.is_everything() || is_below || ring.wrapping_keys.is_some() {
            return ring;
        }
        if let Err(error) = ring_store::check(&ring) {
            let message = self.redact_path(ErrorChain(&error).to_string(), place.span, &place.value);
            self.faults.at(place.span, message);
        } else if !ring_store::peek(&ring).is_ok_and(|ring| ring.is_some()) {
            // The first key is created at the start.
            let need = "`oauth` needs it for its signing keys: set `oauth.signing_keys.directory` or `state_directory` to a \
                folder on a volume that can be written";
            let _ = self.writable_folder(&place, &ring.directory, need);
        }
        ring
    }

    /// `None` for keys in files.
    fn wrapping_keys(&mut self, raw: &RawSigningKeys) -> Option<WrappingKeys> {
        let [current, other] = [&raw.wrapping_key, &raw.other_wrapping_key].map(Option::as_ref);
        if raw.r#in.value == KeysIn::Files {
            for (key, name) in [(current, "wrapping_key"), (other, "other_wrapping_key")] {
                let Some(unused) = key else { continue };
                let message = format!("`{name}` has no effect for keys in files: set `in: postgres`, or remove it");
                self.faults.at(unused.span, message);
            }
            return None;
        }
        if self.postgres_stale.is_none() && self.needs.includes("shared.postgres") {
            self.faults.at(raw.r#in.span, "`shared.postgres` is missing: add it, with the `url` of the database");
        }
        let other = other.map(|other| self.wrapping_key(other));
        let Some(current) = current else {
            let message = "`wrapping_key` is missing, which encrypts the keys in the database: add one of 32 random bytes, \
                           such as those of `openssl rand 32 | basenc --base64url`, as `${NAME}` or `${file:path}`";
            self.faults.at(raw.r#in.span, message);
            return None;
        };
        Some(WrappingKeys { current: self.wrapping_key(current), other })
    }

    fn wrapping_key(&mut self, key: &At<Secret>) -> WrappingKey {
        self.must_be_kept_apart(key, key.value.is_literal());
        let parsed = WrappingKey::parse(key.value.expose());
        if parsed.is_none() && !key.value.is_absent() {
            let message =
                "expected 32 random bytes in base64url, such as those of `openssl rand 32 | basenc --base64url`";
            self.faults.at(key.span, message);
        }
        // A command that needs no secrets opens no key.
        parsed.unwrap_or_else(WrappingKey::unknown)
    }
}
