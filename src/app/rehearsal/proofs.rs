//! DPoP proofs of rehearsed requests: a caller with a token that is bound to the key of the rehearsal has that key.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value, json};

use super::requests::RequestText;
use super::{Rehearsal, RehearsedRequest};
use crate::clock;
use crate::http1::fault::WireFault;
use crate::jose::token::unverified_claims;
use crate::oauth::bound::TokenBinding;
use crate::oauth::confirmation::{Confirmation, Thumbprint};
use crate::trust::known_proof::token_digest;

impl Rehearsal {
    /// Reads a request. A token that is bound to the key of the rehearsal gets a good proof, unless there is a proof.
    pub(crate) fn read(&self, text: &RequestText<'_>) -> Result<RehearsedRequest, WireFault> {
        let (limits, trusted) = (&self.snapshot.limits, &self.snapshot.trusted_proxies);
        let Some(proof) = self.proof(text) else { return RehearsedRequest::read(text, limits, trusted) };
        let fields: Vec<(String, String)> = text.fields.iter().cloned().chain([("dpop".to_owned(), proof)]).collect();
        RehearsedRequest::read(&RequestText { fields: &fields, ..*text }, limits, trusted)
    }

    /// What a token of a client is bound to.
    pub(super) fn confirmation(&self, bound: TokenBinding) -> Confirmation {
        match bound {
            TokenBinding::None | TokenBinding::Mtls => Confirmation::default(),
            TokenBinding::Dpop | TokenBinding::Either => Confirmation { key: self.own_key(), certificate: None },
        }
    }

    /// Whether the proof of this token can be made here.
    pub(super) fn has_key_of(&self, token: &str) -> bool {
        let claims = unverified_claims(token).unwrap_or_default();
        let confirmation = claims.get("cnf").and_then(|cnf| Confirmation::parse(cnf).ok());
        confirmation.is_some_and(|confirmation| confirmation.key.is_some() && confirmation.key == self.own_key())
    }

    fn own_key(&self) -> Option<Thumbprint> {
        Thumbprint::parse(self.signer.key.thumbprint())
    }

    fn proof(&self, text: &RequestText<'_>) -> Option<String> {
        let value = |wanted: &str| {
            text.fields.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.as_str())
        };
        let token = value("authorization")?.strip_prefix("DPoP ").filter(|token| self.has_key_of(token))?;
        if value("dpop").is_some() {
            return None;
        }
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let (now, id) = (clock::now(), NEXT.fetch_add(1, Ordering::Relaxed));
        let scheme = if text.is_https { "https" } else { "http" };
        let mut claims = json!({
            "jti": format!("rehearsal-{id}"), "htm": text.method, "htu": format!("{scheme}://{}{}", text.host, text.target),
            "iat": now.seconds(), "ath": token_digest(token.as_bytes()),
        });
        if let Some(nonce) = self.snapshot.proofs.nonces.current(now) {
            claims["nonce"] = json!(nonce.to_str().ok()?);
        }
        let key = &self.signer.key;
        let is_of_thumbprint = |name: &str| ["crv", "e", "kty", "n", "x", "y"].contains(&name);
        let jwk: Map<String, Value> =
            key.public_jwk().clone().into_iter().filter(|(name, _)| is_of_thumbprint(name)).collect();
        let header = json!({ "typ": "dpop+jwt", "alg": key.algorithm().as_str(), "jwk": jwk });
        key.sign_under(&header.to_string(), claims.to_string().as_bytes()).ok()
    }
}
