//! Finds the caller in the claims of a token: its client, its subject and its scopes.
//!
//! Takes the claims and the settings of their issuer; gives a caller that has a client, a subject or both. Does not
//! verify the token.

use serde_json::Value;

use super::issuer::{IssuerSettings, Profile};
use super::scope_claim::{ScopeClaimFault, claim_at};
use crate::jose::claims::{Claims, ClaimsFault};
use crate::oauth::caller::Caller;
use crate::oauth::discrepancy::Discrepancy;
use crate::oauth::identity::{Identity, InvalidIdentity};

/// Why the claims name no caller.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CallerFault {
    Claims(ClaimsFault),
    TooManyScopes(Box<Discrepancy>),
}

/// The claims in which issuers name the client, first present wins.
pub(crate) const CLIENT_CLAIMS: [&str; 4] = ["client_id", "azp", "appid", "cid"];

pub(crate) fn caller(settings: &IssuerSettings, claims: &Claims) -> Result<Caller, CallerFault> {
    let subject = subject(settings, claims)?;
    let client = client(settings.profile, claims)?;
    let scope = settings.scope_claim.read(&claims.all, settings.allow_scopes.as_ref())?;
    let tenant = settings.tenant_of(claims);
    let iss = tenant.map_or(&settings.issuer, |tenant| tenant.issuer);
    let caller = Caller::new(settings.name.clone(), iss, client, subject, scope);
    let caller = match tenant {
        Some(tenant) => caller.map(|caller| caller.of_tenant(tenant.name)),
        None => caller,
    };
    caller.ok_or_else(|| {
        let subject_claims = settings.subject_claims.iter().map(String::as_str);
        let others = CLIENT_CLAIMS.into_iter().filter(|name| !settings.subject_claims.iter().any(|own| own == name));
        ClaimsFault::none_of(&subject_claims.chain(others).collect::<Vec<_>>()).into()
    })
}

/// The first of the issuer's subject claims that is present and not empty.
fn subject(settings: &IssuerSettings, claims: &Claims) -> Result<Option<Identity>, ClaimsFault> {
    for name in &settings.subject_claims {
        let text = match claim_at(&claims.all, name) {
            _ if name == "sub" => claims.subject.as_deref().unwrap_or_default(),
            None | Some(Value::Null) => "",
            Some(Value::String(text)) => text,
            Some(value) => return Err(ClaimsFault::wrong_type(name, value, "a string")),
        };
        if !text.is_empty() {
            return identity(name, text).map(Some);
        }
    }
    match settings.profile {
        Profile::Own => Err(ClaimsFault::missing("sub")),
        Profile::External => Ok(None),
    }
}

fn client(profile: Profile, claims: &Claims) -> Result<Option<Identity>, ClaimsFault> {
    let present = |name: &'static str| Some((name, claims.all.get(name).filter(|value| !value.is_null())?));
    let found = match profile {
        Profile::Own => Some(present("client_id").ok_or_else(|| ClaimsFault::missing("client_id"))?),
        Profile::External => CLIENT_CLAIMS.into_iter().find_map(present),
    };
    let Some((name, value)) = found else { return Ok(None) };
    let text = value.as_str().ok_or_else(|| ClaimsFault::wrong_type(name, value, "a string"))?;
    identity(name, text).map(Some)
}

fn identity(name: &str, text: &str) -> Result<Identity, ClaimsFault> {
    Identity::parse(text).map_err(|_: InvalidIdentity| {
        let has_control = text.chars().any(char::is_control);
        let hint = if has_control { " with a control character" } else { "" };
        let wanted = format!("{name} of 1 to {} bytes without control characters", Identity::MAX_BYTES);
        ClaimsFault::malformed(format!("{name} of {} bytes{hint}", text.len()), wanted)
    })
}

impl From<ClaimsFault> for CallerFault {
    fn from(fault: ClaimsFault) -> Self {
        Self::Claims(fault)
    }
}

impl From<ScopeClaimFault> for CallerFault {
    fn from(fault: ScopeClaimFault) -> Self {
        match fault {
            ScopeClaimFault::Malformed(values) => Self::Claims(ClaimsFault::Malformed(values)),
            ScopeClaimFault::TooMany(values) => Self::TooManyScopes(values),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::example::{claims as good, settings};
    use super::*;

    /// The client and the subject of a good token with these claims changed. `null` removes one.
    fn names(subject_claims: &[&str], changes: &Value) -> Result<(Option<String>, Option<String>), CallerFault> {
        let subject_claims = subject_claims.iter().map(|name| (*name).to_owned()).collect();
        let settings = IssuerSettings { subject_claims, ..settings() };
        let mut claims = good();
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let caller = caller(&settings, &Claims::parse(claims.to_string().as_bytes()).unwrap())?;
        let text = |name: Option<Identity>| name.map(|name| name.as_str().to_owned());
        Ok((text(caller.client), text(caller.subject)))
    }

    #[track_caller]
    fn are(subject_claims: &[&str], changes: &Value, client: Option<&str>, subject: Option<&str>) {
        let expected = (client.map(str::to_owned), subject.map(str::to_owned));
        assert_eq!(names(subject_claims, changes).unwrap(), expected, "{changes}");
    }

    #[test]
    fn a_token_of_a_client_needs_no_subject() {
        for sub in [json!(null), json!("")] {
            are(&["sub"], &json!({"sub": sub}), Some("app"), None);
        }
        are(&["sub"], &json!({"azp": null}), None, Some("someone"));
        are(&["sub"], &json!({"client_id": null, "azp": null, "cid": "x"}), Some("x"), Some("someone"));
    }

    #[test]
    fn the_first_subject_claim_that_is_present_and_not_empty_counts() {
        let both = ["sub", "names.common"];
        are(&both, &json!({"names": {"common": "x"}}), Some("app"), Some("someone"));
        are(&both, &json!({"sub": "", "names": {"common": "x"}}), Some("app"), Some("x"));
        are(&both, &json!({"sub": null, "azp": null, "names.common": "x"}), None, Some("x"));
        are(&["names.common"], &json!({"names": {"common": ""}}), Some("app"), None);
        are(&["azp"], &json!({"azp": "a"}), Some("a"), Some("a"));
    }

    #[test]
    fn a_token_without_subject_and_client_lacks_a_claim() {
        let missing = ["sub", "client_id", "azp", "appid", "cid"];
        let refused = names(&["sub"], &json!({"sub": "", "azp": null})).unwrap_err();
        assert_eq!(refused, ClaimsFault::none_of(&missing).into());
        let refused = names(&["azp", "name"], &json!({"sub": "someone", "azp": null})).unwrap_err();
        assert_eq!(refused, ClaimsFault::none_of(&["azp", "name", "client_id", "appid", "cid"]).into());
    }

    #[test]
    fn a_subject_or_client_of_the_wrong_type_or_form_is_malformed() {
        for (claims, changes) in [
            (&["name", "sub"][..], json!({"name": 7})),
            (&["name"], json!({"name": ["x"]})),
            (&["name"], json!({"name": "a\nb"})),
            (&["sub"], json!({"sub": "s".repeat(1025)})),
            (&["sub"], json!({"azp": 7})),
            (&["sub"], json!({"azp": ""})),
            (&["sub"], json!({"client_id": {}})),
        ] {
            let refused = names(claims, &changes);
            assert!(matches!(refused, Err(CallerFault::Claims(ClaimsFault::Malformed(_)))), "{changes}");
        }
    }

    #[test]
    fn our_own_tokens_need_a_subject_and_a_client_id() {
        let settings = IssuerSettings { profile: Profile::Own, ..settings() };
        let check = |changes: &Value| {
            let mut claims = good();
            claims["client_id"] = json!("app");
            claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            caller(&settings, &Claims::parse(claims.to_string().as_bytes()).unwrap()).map(drop)
        };
        assert_eq!(check(&json!({})), Ok(()));
        for name in ["sub", "client_id"] {
            assert_eq!(check(&json!({name: null})), Err(ClaimsFault::missing(name).into()));
        }
        assert_eq!(check(&json!({"sub": ""})), Err(ClaimsFault::missing("sub").into()));
    }
}
