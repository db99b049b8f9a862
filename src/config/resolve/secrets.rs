//! The clients' secrets, the time in which they are valid, and warnings before they expire.

use std::time::Duration;

use super::super::lint::Lint;
use super::super::raw::oauth::{KeptSecrets, RawClient, RawSecret, Secret};
use super::super::source::At;
use super::Resolver;
use super::federation::FederatedIssuers;
use crate::issuer::client_auth::KeptCredentials;
use crate::issuer::client_auth::secret::hash::{ClientSecret, MIN_WORK_KIB, SecretHash};
use crate::issuer::client_auth::secret::kept_secret::{KeptSecret, Validity};

const MIN_SECRET_CHARACTERS: usize = 16;
/// A secret or certificate that ends sooner is reported: a new one is needed.
pub(super) const WARN_BEFORE: Duration = Duration::from_secs(14 * DAY);
const DAY: u64 = 24 * 3600;

impl Resolver<'_> {
    /// The data by which the gateway authenticates a client.
    pub(super) fn credentials(
        &mut self,
        name: &At<String>,
        client: &RawClient,
        issuers: &FederatedIssuers,
    ) -> KeptCredentials {
        if client.has_no_credential() {
            let quoted = self.source.quote_key(name.span).unwrap_or_else(|| "this client".to_owned());
            let message = format!(
                "{quoted} has no way to authenticate: add `secrets`, as `portcullis client new` prints them, `keys`, `certificates` or `federation`"
            );
            self.faults.at(name.span, message);
        }
        KeptCredentials {
            secrets: self.secrets(name, client.secrets()),
            keys: self.client_keys(name, client.keys()),
            certificates: self.certificate_names(client.certificates.as_ref()),
            federation: self.federation(client.federation(), issuers),
        }
    }

    fn secrets(&mut self, client: &At<String>, raw: &[At<RawSecret>]) -> Vec<KeptSecret> {
        // Only a command that needs everything needs the secrets.
        if !self.needs.is_everything() {
            return Vec::new();
        }
        let kept = raw.iter().filter_map(|secret| {
            let validity = self.validity(&secret.value);
            let hash = match &secret.value.kept {
                KeptSecrets::Hash(hash) => self.hash(hash),
                KeptSecrets::Value(value) => self.value(value),
            };
            hash.map(|hash| KeptSecret::new(hash, validity))
        });
        let kept: Vec<KeptSecret> = kept.collect();
        self.warn_of_expiry(client, raw);
        kept
    }

    fn validity(&mut self, secret: &RawSecret) -> Validity {
        let validity = Validity {
            not_before: secret.not_before.as_ref().map(|time| time.value),
            expires_at: secret.expires_at.as_ref().map(|time| time.value),
        };
        if let (Some(from), Some(until)) = (&secret.not_before, &secret.expires_at)
            && until.value <= from.value
        {
            self.faults.at(until.span, "this secret would never be valid: `expires_at` must be after `not_before`");
        }
        validity
    }

    /// Secrets are numbered from 1, as in the metrics.
    fn warn_of_expiry(&mut self, client: &At<String>, raw: &[At<RawSecret>]) {
        let now = self.now;
        let is_over = |secret: &At<RawSecret>| secret.value.expires_at.as_ref().is_some_and(|end| end.value <= now);
        let name = self.source.quote_key(client.span).unwrap_or_else(|| "this client".to_owned());
        if !raw.is_empty() && raw.iter().all(is_over) {
            let message = format!("every secret of {name} has expired: it gets no tokens");
            return self.warn(Lint::EndingSecret, client.span, message);
        }
        for (number, secret) in (1..).zip(raw) {
            let Some(end) = &secret.value.expires_at else { continue };
            let time = end.value.to_the_second();
            let left = end.value.since(now);
            let message = if end.value <= now {
                format!("secret {number} of {name} expired at {time}: remove it")
            } else if left < WARN_BEFORE {
                format!("secret {number} of {name} expires at {time}, in {}", remaining(left))
            } else {
                continue;
            };
            self.warn(Lint::EndingSecret, end.span, message);
        }
    }

    fn hash(&mut self, hash: &At<Secret>) -> Option<SecretHash> {
        let parsed = SecretHash::parse(hash.value.expose());
        let parsed = parsed.map_err(|fault| self.faults.at(hash.span, fault.to_string())).ok()?;
        if parsed.is_cheap() {
            let message = format!(
                "this argon2id hash is too cheap to guess: memory times passes (`m` × `t`) must be at least {MIN_WORK_KIB} KiB; `portcullis client hash` creates one"
            );
            self.faults.at(hash.span, message);
        }
        Some(parsed)
    }

    fn value(&mut self, value: &At<Secret>) -> Option<SecretHash> {
        if value.value.is_literal() && !self.allow_literal_secrets {
            let message =
                "the secret is written in the file: use `hash` or `${NAME}`, or set `allow_literal_secrets: true`";
            self.faults.at(value.span, message);
        }
        if value.value.expose().chars().count() < MIN_SECRET_CHARACTERS {
            let message = format!(
                "expected at least {MIN_SECRET_CHARACTERS} characters: `portcullis client new` creates a secret"
            );
            self.faults.at(value.span, message);
            return None;
        }
        Some(SecretHash::of(&ClientSecret::new(value.value.expose().to_owned())))
    }
}

pub(super) fn remaining(left: Duration) -> String {
    let (count, unit) = match left.as_secs() {
        seconds @ DAY.. => (seconds / DAY, "day"),
        seconds @ 3600.. => (seconds / 3600, "hour"),
        seconds => (seconds / 60, "minute"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remaining_time_is_shown_in_its_largest_unit() {
        for (seconds, text) in
            [(0, "0 minutes"), (60, "1 minute"), (7199, "1 hour"), (DAY, "1 day"), (13 * DAY, "13 days")]
        {
            assert_eq!(remaining(Duration::from_secs(seconds)), text);
        }
    }
}
