//! The header fields, besides `Authorization`, in which tokens come.
//!
//! Proxies with a login of their own, such as Cloudflare Access, put their token into a field of their own. Only the
//! tokens of an issuer that is configured for the field count there.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderName};

use crate::oauth::bound::TokenBinding;

/// The names; none at most gateways. Each consists of letters, digits and `-`.
#[derive(Clone, Debug, Default)]
pub(crate) struct TokenFields(Arc<[HeaderName]>);

impl TokenFields {
    /// The fields of these issuers, each once.
    pub(crate) fn new<'n>(names: impl IntoIterator<Item = &'n HeaderName>) -> Self {
        let mut fields: Vec<HeaderName> = Vec::new();
        for name in names {
            if !fields.contains(name) {
                fields.push(name.clone());
            }
        }
        Self(fields.into())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &HeaderName> {
        self.0.iter()
    }

    pub(crate) fn contains(&self, name: &HeaderName) -> bool {
        self.0.contains(name)
    }

    /// The fields that this header has, each once.
    pub(crate) fn present<'f>(&'f self, headers: &'f HeaderMap) -> impl Iterator<Item = &'f HeaderName> {
        self.0.iter().filter(|name| headers.contains_key(*name))
    }

    /// True for another name that a service may read as one of these: CGI and similar interfaces keep letters and
    /// digits only.
    pub(crate) fn are_resembled_by(&self, name: &HeaderName) -> bool {
        let is_kept = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
        let is_same = |(one, other): (&u8, &u8)| one == other || (!is_kept(one) && *other == b'-');
        let is_read_as = |field: &HeaderName| {
            let (one, other) = (name.as_str().as_bytes(), field.as_str().as_bytes());
            one.len() == other.len() && one.iter().zip(other).all(is_same)
        };
        !self.contains(name) && self.0.iter().any(is_read_as)
    }

    /// The credentials that a route wants which demands this binding. A token in a field of its own can have no proof.
    pub(crate) fn wanted(&self, bound: TokenBinding) -> String {
        match bound {
            TokenBinding::None => format!("Authorization: Bearer TOKEN{self}"),
            TokenBinding::Dpop => "Authorization: DPoP TOKEN, with a proof in the field DPoP".to_owned(),
            TokenBinding::Mtls => format!("Authorization: Bearer TOKEN{self}, with the client certificate"),
            TokenBinding::Either => format!(
                "Authorization: DPoP TOKEN, with a proof in the field DPoP, or Authorization: Bearer TOKEN{self}, with the \
                 client certificate"
            ),
        }
    }

    pub(crate) fn remove_from(&self, headers: &mut HeaderMap) {
        for name in &*self.0 {
            headers.remove(name);
        }
    }

    /// Removes them, and names that a service may read as one of them, from trailers.
    pub(crate) fn remove_alike(&self, trailers: &mut HeaderMap) {
        let is_alike = |name: &&HeaderName| self.contains(name) || self.are_resembled_by(name);
        let alike: Vec<HeaderName> = trailers.keys().filter(is_alike).cloned().collect();
        for name in alike {
            trailers.remove(name);
        }
    }
}

/// As alternatives to another field: `, or x-token: TOKEN` for each.
impl fmt::Display for TokenFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|name| write!(f, ", or {name}: TOKEN"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn fields() -> TokenFields {
        let [one, other] = ["cf-access-jwt-assertion", "x-goog-iap-jwt-assertion"].map(HeaderName::from_static);
        TokenFields::new([&one, &other, &one])
    }

    #[test]
    fn names_that_a_service_reads_as_a_field_resemble_it() {
        for bad in ["cf_access_jwt_assertion", "cf-access-jwt_assertion", "cf.access!jwt-assertion"] {
            assert!(fields().are_resembled_by(&HeaderName::from_static(bad)), "{bad}");
        }
        for good in ["cf-access-jwt-assertion", "cf-access-jwt-assertion-", "cfxaccess-jwt-assertion", "accept"] {
            assert!(!fields().are_resembled_by(&HeaderName::from_static(good)), "{good}");
        }
    }

    #[test]
    fn all_fields_and_those_alike_are_removed() {
        let names = ["cf-access-jwt-assertion", "x_goog-iap-jwt-assertion", "x-goog-iap-jwt-assertion", "accept"];
        let value = HeaderValue::from_static("a");
        let mut headers: HeaderMap =
            names.map(|name| (HeaderName::from_static(name), value.clone())).into_iter().collect();
        headers.append("cf-access-jwt-assertion", value);
        assert_eq!((fields().0.len(), fields().present(&headers).count()), (2, 2));
        let mut trailers = headers.clone();
        fields().remove_from(&mut headers);
        assert_eq!(headers.len(), 2);
        fields().remove_alike(&mut trailers);
        assert_eq!(trailers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
    }
}
