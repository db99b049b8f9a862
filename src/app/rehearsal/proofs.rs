//! The proofs of a rehearsed request: a caller with a token that is bound to the key or to the certificate of the
//! rehearsal has them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderName;
use serde_json::{Map, Value, json};

use super::requests::RequestText;
use super::{Rehearsal, RehearsedRequest};
use crate::clock;
use crate::http1::fault::WireFault;
use crate::issuer::client::Client;
use crate::issuer::client_auth::KeptCredentials;
use crate::jose::token::unverified_claims;
use crate::oauth::bound::TokenBinding;
use crate::oauth::confirmation::{Confirmation, Thumbprint};
use crate::pipeline::routing::access::Access;
use crate::pipeline::routing::route::Route;
use crate::trust::known_proof::token_digest;

impl Rehearsal {
    /// Reads a request. A token that is bound to the key of the rehearsal gets a good proof, unless there is a proof.
    /// One that is bound to its certificate comes from a client that has presented it.
    pub(crate) fn read(&self, text: &RequestText<'_>) -> Result<RehearsedRequest, WireFault> {
        let (limits, trusted) = (&self.snapshot.limits, &self.snapshot.trusted_proxies);
        let proof = self.proof(text).map(|proof| ("dpop".to_owned(), proof));
        let fields: Vec<(String, String)> = text.fields.iter().cloned().chain(proof).collect();
        let request = RehearsedRequest::read(&RequestText { fields: &fields, ..*text }, limits, trusted)?;
        let is_own = |certificate: &Thumbprint| Some(*certificate) == self.own_certificate();
        let tokens = text.fields.iter().filter_map(|(_, value)| value.rsplit(' ').next());
        let certificate = tokens.filter_map(|token| confirmation_of(token).certificate).find(is_own);
        Ok(match certificate {
            Some(certificate) => request.with_certificate(certificate),
            None => request,
        })
    }

    /// The keys that a token of a client is bound to: with `either`, to both.
    pub(super) fn confirmation(&self, client: &Client) -> Confirmation {
        let KeptCredentials { secrets, keys, certificates, federation } = &client.credentials;
        let has_only_certificates =
            secrets.is_empty() && keys.is_empty() && federation.is_empty() && !certificates.is_empty();
        let (by_key, by_certificate) = match client.bound {
            TokenBinding::None => (false, false),
            TokenBinding::Dpop => (true, false),
            TokenBinding::Mtls => (false, true),
            TokenBinding::Either => (true, true),
        };
        let certificate = self.own_certificate().filter(|_| by_certificate || has_only_certificates);
        Confirmation { key: self.own_key().filter(|_| by_key), certificate }
    }

    /// Binds a token with these claims to what the rehearsal has, in the ways of its `cnf`: a named caller with a
    /// bound token can prove it.
    pub(super) fn bind(&self, claims: &mut Map<String, Value>) {
        let Some(Ok(named)) = claims.get("cnf").map(Confirmation::parse) else { return };
        let bound = Confirmation {
            key: named.key.and_then(|_| self.own_key()),
            certificate: named.certificate.and_then(|_| self.own_certificate()),
        };
        claims.extend(bound.to_claim().map(|cnf| ("cnf".to_owned(), cnf)));
    }

    /// The `cnf` of a token with every binding that a request with this field can prove. None where no route demands
    /// one.
    pub(super) fn every_binding(&self, field: Option<&HeaderName>) -> Confirmation {
        let demands = |route: &Arc<Route>| match &route.access {
            Access::Public => false,
            Access::Protected(rule) => rule.bound != TokenBinding::None,
        };
        if !self.snapshot.routes.routes().iter().any(demands) {
            return Confirmation::default();
        }
        Confirmation { key: self.own_key().filter(|_| field.is_none()), certificate: self.own_certificate() }
    }

    /// Whether the proof of this token can be made here.
    pub(super) fn has_key_of(&self, token: &str) -> bool {
        let key = confirmation_of(token).key;
        key.is_some() && key == self.own_key()
    }

    fn own_key(&self) -> Option<Thumbprint> {
        Thumbprint::parse(self.signer.key.thumbprint())
    }

    /// Stands for a certificate: no real one has the digest of this key.
    fn own_certificate(&self) -> Option<Thumbprint> {
        self.own_key()
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

/// The `cnf` of a token, which is not verified.
pub(crate) fn confirmation_of(token: &str) -> Confirmation {
    let claims = unverified_claims(token).unwrap_or_default();
    claims.get("cnf").and_then(|cnf| Confirmation::parse(cnf).ok()).unwrap_or_default()
}
