//! Checks that a token came in the header field of its issuer.

use http::HeaderName;

use super::entry_choice::choose;
use super::failed_check::{FailedCheck, TokenError};
use super::verify::{Expectations, Proof, Trust, Verified};
use crate::jose::token::Unverified;

impl Trust {
    /// The field in which this token counts, for a command that checks a token without a request. `None`:
    /// `Authorization`.
    pub(crate) fn field_of(&self, token: &str) -> Option<&HeaderName> {
        if let Some((_, token)) = self.static_tokens().find(token.as_bytes()) {
            return token.settings.field.as_ref();
        }
        if let Some((issuer, _)) = self.introspecting(token, Expectations::any_route()) {
            return issuer.settings.token_field.as_ref();
        }
        let token = Unverified::parse(token).ok()?;
        choose(self.issuers(), |issuer| &issuer.settings, &token.claims).ok()?.settings.token_field.as_ref()
    }
}

impl Verified {
    /// Checks the field that the token came in (`None`: `Authorization`). The tokens of an issuer count in its field
    /// only.
    pub(crate) fn check_field(&self, field: Option<&HeaderName>) -> Result<(), FailedCheck> {
        let expected = match &self.proof {
            Proof::Token(token) => token.issuer.settings.token_field.as_ref(),
            Proof::Static(token) => token.settings.field.as_ref(),
        };
        check_place(field, expected)
    }
}

/// `expected` is the field of the token's issuer.
pub(super) fn check_place(field: Option<&HeaderName>, expected: Option<&HeaderName>) -> Result<(), FailedCheck> {
    if field == expected {
        return Ok(());
    }
    let place =
        |field: Option<&HeaderName>| format!("a token in {}", field.map_or("authorization", |name| name.as_str()));
    Err(FailedCheck::new(TokenError::IssuerNotAllowed, place(field), place(expected)))
}
