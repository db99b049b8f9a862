//! DPoP proofs as clients make them, and hostile ones.

use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderValue, Request};
use http_body_util::Full;
use serde_json::{Value, json};

use super::client::with_header;
use super::issuer::{Key, now};

/// A proof that may be changed before it is signed.
pub(crate) struct Proof<'k> {
    key: &'k Key,
    pub(crate) header: Value,
    pub(crate) claims: Value,
}

impl<'k> Proof<'k> {
    /// A new one for a request.
    pub(crate) fn new(key: &'k Key, method: &str, url: &str) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let id = format!("proof-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let header = json!({"typ": "dpop+jwt", "alg": key.algorithm, "jwk": public(key)});
        Self { key, header, claims: json!({"jti": id, "htm": method, "htu": url, "iat": now()}) }
    }

    /// For a request with this token.
    pub(crate) fn of(self, token: &str) -> Self {
        self.with("ath", hash(token))
    }

    pub(crate) fn with(mut self, claim: &str, value: impl Into<Value>) -> Self {
        self.claims[claim] = value.into();
        self
    }

    pub(crate) fn with_header(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.header[member] = value.into();
        self
    }

    pub(crate) fn sign(&self) -> String {
        self.key.sign_with(&self.header, &self.claims)
    }
}

/// The public members that a thumbprint is made of.
pub(crate) fn public(key: &Key) -> Value {
    let mut jwk = key.jwk();
    jwk.as_object_mut().unwrap().retain(|name, _| !["kid", "alg"].contains(&name.as_str()));
    jwk
}

/// RFC 7638: the members are in the order of their names.
pub(crate) fn thumbprint(key: &Key) -> String {
    let Value::Object(members) = public(key) else { panic!("no object") };
    let sorted: std::collections::BTreeMap<String, Value> = members.into_iter().collect();
    hash(&json!(sorted).to_string())
}

pub(crate) fn hash(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()))
}

/// A request with a bound token and its proof.
pub(crate) fn with_proof(mut request: Request<Full<Bytes>>, token: &str, proof: &str) -> Request<Full<Bytes>> {
    request.headers_mut().insert("authorization", HeaderValue::try_from(format!("DPoP {token}")).unwrap());
    with_header(request, "dpop", proof)
}
