//! The parameters of a token or revocation request, from a form or from JSON.
//!
//! Parameters without a value count as omitted, unknown ones are ignored, repeated ones are refused (RFC 6749 §3.2).
//! Only `resource` and `audience` may be repeated (RFC 8707 §2, RFC 8693 §2.1). In JSON they and `scope` may be lists.

use std::fmt;

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde_json::Value;

use super::client_auth::CredentialParameters;
use super::grant::GrantFault;
use crate::jose::strict_json;

/// The known parameters of a request, unvalidated.
#[derive(Debug, Default)]
pub(crate) struct Parameters {
    pub(crate) grant_type: Option<String>,
    pub(crate) credentials: CredentialParameters,
    pub(crate) scope: Option<String>,
    /// The values of `audience` and `resource`, in their order. Empty: not asked for.
    pub(crate) audiences: Vec<String>,
    /// The token to be revoked (RFC 7009 §2.1).
    pub(crate) token: Option<PresentedToken>,
}

/// A token that may be valid: never printed.
pub(crate) struct PresentedToken(String);

impl PresentedToken {
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PresentedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresentedToken(..)")
    }
}

pub(super) const CLIENT_CREDENTIALS: &str = "client_credentials";
pub(super) const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

impl Parameters {
    pub(crate) fn read(
        headers: &HeaderMap,
        query: Option<&str>,
        body: &[u8],
        json_allowed: bool,
    ) -> Result<Self, GrantFault> {
        let query = query.unwrap_or_default().as_bytes();
        if form_urlencoded::parse(query).any(|(name, _)| is_secret(&name)) {
            return Err(GrantFault::InvalidRequest("credentials in the query string"));
        }
        if headers.get_all(CONTENT_TYPE).iter().nth(1).is_some() {
            return Err(GrantFault::InvalidRequest("more than one Content-Type header"));
        }
        match media_type(headers).as_deref() {
            Some("application/x-www-form-urlencoded") if is_json(body) => {
                Err(GrantFault::InvalidRequest(if json_allowed { JSON_AS_FORM } else { ONLY_FORMS }))
            }
            Some("application/x-www-form-urlencoded") => Self::from_form(body),
            Some("application/json") if json_allowed => Self::from_json(body),
            Some(_) | None => Err(GrantFault::UnsupportedMediaType),
        }
    }

    pub(super) fn from_form(body: &[u8]) -> Result<Self, GrantFault> {
        if std::str::from_utf8(body).is_err() {
            return Err(GrantFault::InvalidRequest("the body is not UTF-8"));
        }
        let mut seen = Vec::new();
        let mut parameters = Self::default();
        for (name, value) in form_urlencoded::parse(without_line_break(body)) {
            if seen.contains(&name) {
                return Err(GrantFault::InvalidRequest("a parameter is repeated"));
            }
            parameters.set(&name, &value);
            if is_known(&name) && !is_audience(&name) {
                seen.push(name);
            }
        }
        Ok(parameters)
    }

    pub(super) fn from_json(body: &[u8]) -> Result<Self, GrantFault> {
        let members =
            strict_json::object(body).map_err(|_| GrantFault::InvalidRequest("the body is not a JSON object"))?;
        let mut parameters = Self::default();
        for (name, value) in members.iter().filter(|(name, _)| is_known(name)) {
            match value {
                Value::Null => {}
                Value::String(text) => parameters.set(name, text),
                Value::Array(list) if name == "scope" || is_audience(name) => parameters.set_list(name, list)?,
                Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                    return Err(GrantFault::InvalidRequest("a parameter is not a string"));
                }
            }
        }
        // Scripts that were written for Auth0 and similar services often omit it.
        parameters.grant_type.get_or_insert_with(|| CLIENT_CREDENTIALS.to_owned());
        Ok(parameters)
    }

    /// True if an assertion is the grant (RFC 7523 §2.1).
    pub(crate) fn is_assertion_grant(&self) -> bool {
        self.grant_type.as_deref() == Some(JWT_BEARER)
    }

    /// For every other grant.
    pub(crate) fn check_grant_type(&self) -> Result<(), GrantFault> {
        match self.grant_type.as_deref() {
            None => Err(GrantFault::InvalidRequest("grant_type is missing")),
            Some(CLIENT_CREDENTIALS) => Ok(()),
            Some(_) => Err(GrantFault::UnsupportedGrant),
        }
    }

    /// A list of scopes has one in each item. An empty list is refused: it does not ask for all scopes, as an omitted
    /// parameter does.
    fn set_list(&mut self, name: &str, list: &[Value]) -> Result<(), GrantFault> {
        let texts: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
        let is_item = |text: &&str| !text.is_empty() && (is_audience(name) || !text.contains(' '));
        let texts = texts.filter(|texts| !texts.is_empty() && texts.iter().all(is_item));
        let texts = texts.ok_or(GrantFault::InvalidRequest("a list is empty, or an item of it is not one value"))?;
        if is_audience(name) {
            texts.into_iter().for_each(|text| self.set(name, text));
        } else {
            self.set(name, &texts.join(" "));
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        let value = value.to_owned();
        match name {
            "grant_type" => self.grant_type = Some(value),
            "scope" => self.scope = Some(value),
            "audience" | "resource" => self.audiences.push(value),
            "token" => self.token = Some(PresentedToken(value)),
            _ => self.credentials.set(name, value),
        }
    }
}

const JSON_AS_FORM: &str = "the body is JSON, but Content-Type names a form: send Content-Type application/json";
const ONLY_FORMS: &str = "the body is JSON, and this endpoint takes forms only";

/// Tools such as `curl -d` name a form whatever they send. A form never begins like this: `{` is encoded there.
fn is_json(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"{")
}

/// Without the line break that editors and shells add; one within a value is encoded.
fn without_line_break(body: &[u8]) -> &[u8] {
    let body = body.strip_suffix(b"\n").unwrap_or(body);
    body.strip_suffix(b"\r").unwrap_or(body)
}

fn is_audience(name: &str) -> bool {
    matches!(name, "audience" | "resource")
}

fn is_known(name: &str) -> bool {
    let of_tokens = matches!(name, "grant_type" | "scope" | "audience" | "resource");
    of_tokens || matches!(name, "token" | "token_type_hint") || CredentialParameters::is_known(name)
}

/// Parameters that must not be in a query string, because they are credentials, here or in other servers.
fn is_secret(name: &str) -> bool {
    CredentialParameters::is_known(name) || matches!(name, "client_assertion" | "password" | "token")
}

/// Lower case, without parameters such as `charset`.
fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let essence = value.split(';').next().unwrap_or_default();
    Some(essence.trim().to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    #[track_caller]
    fn form_is_refused(body: &str) {
        let refused = Parameters::from_form(body.as_bytes()).and_then(|parameters| parameters.check_grant_type());
        assert!(matches!(refused, Err(GrantFault::InvalidRequest(_))), "{body}: {refused:?}");
    }

    #[track_caller]
    fn json_is_refused(body: &str) {
        let refused = Parameters::from_json(body.as_bytes()).and_then(|parameters| parameters.check_grant_type());
        assert!(matches!(refused, Err(GrantFault::InvalidRequest(_))), "{body}: {refused:?}");
    }

    fn read(content_type: Option<&str>, query: Option<&str>, json: bool) -> Result<Parameters, GrantFault> {
        let mut headers = HeaderMap::new();
        if let Some(value) = content_type {
            headers.insert(CONTENT_TYPE, HeaderValue::from_str(value).unwrap());
        }
        let is_form = content_type.is_some_and(|value| value.contains("form"));
        Parameters::read(&headers, query, if is_form { b"" } else { b"{}" }, json)
    }

    #[test]
    fn repeated_parameters_are_refused() {
        for name in ["grant_type", "client_id", "client_secret", "scope", "token", "token_type_hint"] {
            form_is_refused(&format!("grant_type=client_credentials&{name}=a&{name}=a"));
            json_is_refused(&format!(r#"{{"{name}":"a","{name}":"a"}}"#));
        }
        json_is_refused(r#"{"resource":"a","resource":"b"}"#);
    }

    #[test]
    fn grant_type_is_required_in_a_form_and_optional_in_json() {
        form_is_refused("");
        form_is_refused("grant_type=");
        assert!(Parameters::from_json(b"{}").unwrap().check_grant_type().is_ok());
        assert!(Parameters::from_json(br#"{"grant_type":null}"#).unwrap().check_grant_type().is_ok());
    }

    #[test]
    fn other_grants_are_unsupported() {
        for grant in ["password", "authorization_code", "refresh_token", "Client_Credentials", "client_credentials "] {
            let body = format!("grant_type={grant}");
            let fault = Parameters::from_form(body.as_bytes()).unwrap().check_grant_type();
            assert!(matches!(fault, Err(GrantFault::UnsupportedGrant)), "{grant}");
        }
    }

    #[test]
    fn json_of_the_wrong_shape_is_refused() {
        for body in
            ["", "[]", "7", "{} x", r#"{"scope":{}}"#, r#"{"client_id":7}"#, r#"{"client_id":["a"]}"#, "{\"a\":1"]
        {
            json_is_refused(body);
        }
    }

    #[test]
    fn lists_in_json_are_scopes_and_audiences() {
        let body = br#"{"scope":["a","b"],"audience":["x y","z"],"resource":"r"}"#;
        let parameters = Parameters::from_json(body).unwrap();
        assert_eq!(
            (parameters.scope.as_deref(), parameters.audiences),
            (Some("a b"), ["x y", "z", "r"].map(str::to_owned).to_vec())
        );
        for name in ["scope", "audience", "resource"] {
            for list in ["[]", "[7]", "[\"\"]", "[\"a\",null]", "[[\"a\"]]"] {
                json_is_refused(&format!("{{\"{name}\":{list}}}"));
            }
        }
        json_is_refused(r#"{"scope":["a b"]}"#);
    }

    #[test]
    fn a_line_break_at_the_end_of_a_form_is_ignored() {
        for end in ["\r\n", "\n", "\r"] {
            let form = Parameters::from_form(format!("grant_type=client_credentials&scope=a{end}").as_bytes()).unwrap();
            assert_eq!(form.scope.as_deref(), Some("a"), "{end:?}");
        }
        for (scope, read) in [("a%0D%0A", "a\r\n"), ("a\n\n", "a\n")] {
            let form = Parameters::from_form(format!("scope={scope}").as_bytes()).unwrap();
            assert_eq!(form.scope.as_deref(), Some(read), "{scope:?}");
        }
    }

    #[test]
    fn json_under_the_name_of_a_form_is_told_so() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        for body in ["{}", " \r\n{\"grant_type\":\"client_credentials\"}", "{"] {
            for (json_allowed, hint) in [(true, JSON_AS_FORM), (false, ONLY_FORMS)] {
                let refused = Parameters::read(&headers, None, body.as_bytes(), json_allowed);
                assert!(matches!(refused, Err(GrantFault::InvalidRequest(text)) if text == hint), "{body}");
            }
        }
        assert!(Parameters::read(&headers, None, b"x=%7B&grant_type=client_credentials", true).is_ok());
    }

    #[test]
    fn unknown_parameters_are_ignored_and_empty_ones_omitted() {
        let form = Parameters::from_form(b"grant_type=client_credentials&scope=&x=1&x=2").unwrap();
        assert!(form.scope.is_none() && form.check_grant_type().is_ok());
        assert!(Parameters::from_json(br#"{"x":[1],"scope":""}"#).unwrap().scope.is_none());
    }

    #[test]
    fn audience_and_resource_may_be_repeated() {
        let form = Parameters::from_form(b"resource=a&audience=b&resource=c&audience=&resource=a").unwrap();
        assert_eq!(form.audiences, ["a", "b", "c", "a"]);
        assert!(Parameters::from_form(b"resource=").unwrap().audiences.is_empty());
    }

    #[test]
    fn only_forms_and_where_allowed_json_are_read() {
        assert!(read(Some("application/JSON; charset=utf-8"), None, true).is_ok());
        assert!(read(Some("application/x-www-form-urlencoded;charset=UTF-8"), None, false).is_ok());
        for content_type in [None, Some("multipart/form-data"), Some("text/plain"), Some("application/jsonx")] {
            assert!(
                matches!(read(content_type, None, true), Err(GrantFault::UnsupportedMediaType)),
                "{content_type:?}"
            );
        }
        assert!(matches!(read(Some("application/json"), None, false), Err(GrantFault::UnsupportedMediaType)));
    }

    #[test]
    fn two_content_types_are_refused() {
        let mut headers = HeaderMap::new();
        for value in ["application/json", "application/x-www-form-urlencoded"] {
            headers.append(CONTENT_TYPE, HeaderValue::from_static(value));
        }
        assert!(matches!(Parameters::read(&headers, None, b"{}", true), Err(GrantFault::InvalidRequest(_))));
    }

    #[test]
    fn credentials_in_the_query_string_are_refused() {
        for query in ["client_secret=x", "a=b&client_id=x", "client%5Fsecret=x"] {
            assert!(
                matches!(read(Some("application/json"), Some(query), true), Err(GrantFault::InvalidRequest(_))),
                "{query}"
            );
        }
        assert!(read(Some("application/json"), Some("tenant=x"), true).is_ok());
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Parameters::from_form(&body);
            let _ = Parameters::from_json(&body);
        }
    }
}
