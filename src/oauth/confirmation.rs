//! The keys that a token is bound to, of which its caller must prove the possession.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde_json::Value;

use super::discrepancy::{Discrepancy, short};

/// `cnf` (RFC 7800 §3.1). Every key in it must be proven. Without any, a token is a bearer token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Confirmation {
    /// `jkt`: the key of DPoP proofs (RFC 9449 §6.1).
    pub(crate) key: Option<Thumbprint>,
    /// `x5t#S256`: the client certificate (RFC 8705 §3.1).
    pub(crate) certificate: Option<Thumbprint>,
}

/// A SHA-256 digest: of a JWK (RFC 7638) or of a certificate in DER.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Thumbprint(pub(crate) [u8; 32]);

const KEY: &str = "jkt";
const CERTIFICATE: &str = "x5t#S256";

impl Confirmation {
    /// Reads the value of `cnf`. A way of confirmation that is not known cannot be proven, so it is an error.
    pub(crate) fn parse(value: &Value) -> Result<Self, Discrepancy> {
        let wanted = || format!("cnf with {KEY}, {CERTIFICATE} or both");
        let members = value.as_object().filter(|members| !members.is_empty());
        let members = members.ok_or_else(|| Discrepancy::new("cnf that is no object with members", wanted()))?;
        let mut confirmation = Self::default();
        for (name, value) in members {
            let place = match name.as_str() {
                KEY => &mut confirmation.key,
                CERTIFICATE => &mut confirmation.certificate,
                _ => return Err(Discrepancy::new(format!("cnf with {}", short(name)), wanted())),
            };
            let thumbprint = value.as_str().and_then(Thumbprint::parse);
            let found =
                || Discrepancy::new(format!("cnf with {name} that is no SHA-256 digest in base64url"), wanted());
            *place = Some(thumbprint.ok_or_else(found)?);
        }
        Ok(confirmation)
    }

    /// The value of `cnf`. `None` for a bearer token.
    pub(crate) fn to_claim(self) -> Option<Value> {
        let members = [(KEY, self.key), (CERTIFICATE, self.certificate)];
        let members =
            members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_base64url().into())));
        Some(Value::Object(members.collect())).filter(|_| !self.is_none())
    }

    /// True for a bearer token.
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl Thumbprint {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        BASE64URL.decode(text).ok()?.try_into().map(Self).ok()
    }

    pub(crate) fn to_base64url(self) -> String {
        BASE64URL.encode(self.0)
    }
}

impl std::fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_base64url())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_of_known_ways_are_read() {
        let digest = Thumbprint([7; 32]);
        let text = digest.to_base64url();
        let (key, certificate) = (Some(digest), Some(digest));
        for (cnf, expected) in [
            (json!({"jkt": text}), Confirmation { key, certificate: None }),
            (json!({"x5t#S256": text}), Confirmation { key: None, certificate }),
            (json!({"jkt": text, "x5t#S256": text}), Confirmation { key, certificate }),
        ] {
            assert_eq!(Confirmation::parse(&cnf), Ok(expected));
            assert_eq!(expected.to_claim(), Some(cnf));
            assert!(!expected.is_none());
        }
    }

    #[test]
    fn a_bearer_token_has_no_claim() {
        assert_eq!(Confirmation::default().to_claim(), None);
    }

    #[test]
    fn ways_that_cannot_be_proven_are_refused() {
        let text = Thumbprint([7; 32]).to_base64url();
        for cnf in [
            json!({}),
            json!([]),
            json!("jkt"),
            json!({"kid": "a"}),
            json!({"jkt": text, "jwk": {}}),
            json!({"jkt": ""}),
            json!({"jkt": null}),
            json!({"jkt": format!("{text}=")}),
            json!({"x5t#S256": &text[1..]}),
        ] {
            assert!(Confirmation::parse(&cnf).is_err(), "{cnf}");
        }
    }
}
