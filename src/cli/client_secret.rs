//! New client secrets, and how they are written in YAML.

use aws_lc_rs::rand;
use base64::Engine as _;
use zeroize::Zeroizing;

use crate::issuer::client_auth::secret::hash::ClientSecret;
use crate::jose::BASE64URL;
use crate::oauth::CLIENT_SECRET_PREFIX;

const SECRET_BYTES: usize = 32;

/// 256 random bits.
pub(super) fn generate() -> Result<ClientSecret, aws_lc_rs::error::Unspecified> {
    let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
    rand::fill(&mut *bytes)?;
    Ok(ClientSecret::new(format!("{CLIENT_SECRET_PREFIX}{}", BASE64URL.encode(*bytes))))
}

/// Whether a secret has the form of a generated one.
pub(super) fn is_generated(secret: &str) -> bool {
    let bytes = secret.strip_prefix(CLIENT_SECRET_PREFIX).and_then(|encoded| BASE64URL.decode(encoded).ok());
    bytes.is_some_and(|bytes| bytes.len() == SECRET_BYTES)
}

/// Text in quotation marks, which JSON and YAML share.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_secret_is_recognized() {
        assert!(is_generated(generate().unwrap().expose()));
        for other in ["correct horse battery staple", "gw_short", "gw_"] {
            assert!(!is_generated(other), "{other}");
        }
    }
}
