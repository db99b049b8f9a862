//! The audiences that an issuer's tokens may be for, and the claim that names them.

use serde_json::{Map, Value};

use super::scope_claim::claim_at;
use crate::jose::claims::{Claims, ClaimsFault, texts};

/// The audiences of which an issuer's tokens must have one, on routes without audiences of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AcceptedAudiences {
    /// The issuer's tokens are credentials of clients at the token endpoint, and never authenticate a request.
    FederationOnly,
    /// No audience is checked. Every route that accepts the issuer restricts claims, clients or audiences instead.
    Unlimited,
    Listed {
        /// A token must have one of these.
        accepted: Vec<String>,
        /// The claim that names the audience where `aud` is absent or empty.
        instead_of_aud: Option<String>,
    },
}

impl AcceptedAudiences {
    /// These, in `aud`.
    pub(crate) fn listed(accepted: Vec<String>) -> Self {
        Self::Listed { accepted, instead_of_aud: None }
    }

    /// Whether a token for one of these is accepted.
    pub(crate) fn accepts_one_of(&self, audiences: &[String]) -> bool {
        match self {
            Self::FederationOnly => false,
            Self::Unlimited => true,
            Self::Listed { accepted, instead_of_aud: _ } => audiences.iter().any(|one| accepted.contains(one)),
        }
    }

    /// Completes the claims of a token of the issuer: where `aud` is absent or empty, the other claim counts.
    pub(super) fn complete(&self, claims: &mut Claims) -> Result<(), ClaimsFault> {
        if let Self::Listed { instead_of_aud: Some(name), .. } = self
            && claims.audiences.is_empty()
        {
            claims.audiences = texts(name, claim_at(&claims.all, name))?;
        }
        Ok(())
    }

    /// Whether a token with these values of `aud` names one of these, also by the claim in its place.
    pub(super) fn have_one_of(&self, audiences: &[String], claims: &Map<String, Value>) -> bool {
        let (accepted, instead_of_aud) = match self {
            Self::FederationOnly => return false,
            Self::Unlimited => return true,
            Self::Listed { accepted, instead_of_aud } => (accepted, instead_of_aud),
        };
        let is_accepted = |audience: &String| accepted.contains(audience);
        match instead_of_aud {
            // A claim of the wrong type names none.
            Some(name) if audiences.is_empty() => {
                texts(name, claim_at(claims, name)).is_ok_and(|named| named.iter().any(is_accepted))
            }
            Some(_) | None => audiences.iter().any(is_accepted),
        }
    }

    /// The claim that the audiences of this token are from.
    pub(super) fn claim_of(&self, claims: &Claims) -> &str {
        match self {
            Self::Listed { instead_of_aud: Some(name), .. }
                if texts("aud", claims.all.get("aud")).is_ok_and(|audiences| audiences.is_empty()) =>
            {
                name
            }
            Self::Listed { .. } | Self::Unlimited | Self::FederationOnly => "aud",
        }
    }

    /// The audiences that are accepted by name.
    pub(crate) fn listed_ones(&self) -> &[String] {
        match self {
            Self::Unlimited | Self::FederationOnly => &[],
            Self::Listed { accepted, .. } => accepted,
        }
    }

    /// The token names no audience at all.
    pub(super) fn missing(&self) -> ClaimsFault {
        match self {
            Self::Listed { instead_of_aud: Some(name), .. } => ClaimsFault::none_of(&["aud", name]),
            Self::Listed { instead_of_aud: None, .. } | Self::Unlimited | Self::FederationOnly => {
                ClaimsFault::missing("aud")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The audiences of a token with these values of `aud` and `client_id`, at an issuer with `audience_claim:
    /// client_id`.
    fn completed(aud: &Value, client_id: &Value) -> Result<Vec<String>, ClaimsFault> {
        let text = json!({"iss": "i", "exp": 2_000_000_000, "aud": aud, "client_id": client_id}).to_string();
        let mut claims = Claims::parse(text.as_bytes()).unwrap();
        let instead_of_aud = Some("client_id".to_owned());
        AcceptedAudiences::Listed { accepted: Vec::new(), instead_of_aud }.complete(&mut claims)?;
        Ok(claims.audiences)
    }

    #[test]
    fn another_claim_counts_only_where_aud_is_absent_or_empty() {
        for empty in [json!(null), json!(""), json!([])] {
            assert_eq!(completed(&empty, &json!("app")).unwrap(), ["app"], "{empty}");
            assert_eq!(completed(&empty, &json!(["a", "b"])).unwrap(), ["a", "b"], "{empty}");
            assert_eq!(completed(&empty, &json!("")).unwrap(), Vec::<String>::new(), "{empty}");
        }
        for present in [json!("x"), json!(["x"])] {
            assert_eq!(completed(&present, &json!("app")).unwrap(), ["x"], "{present}");
        }
        assert_eq!(completed(&json!([""]), &json!("app")).unwrap(), [""], "a list with a value is not empty");
    }

    #[test]
    fn another_claim_of_the_wrong_type_is_malformed() {
        for value in [json!(7), json!({"a": 1}), json!(["a", 7]), json!(true)] {
            assert!(matches!(completed(&json!([]), &value), Err(ClaimsFault::Malformed(_))), "{value}");
        }
    }
}
