//! Header fields: the gateway forwards a field, removes it, or refuses the request because of it.
//!
//! Fields that the gateway sets itself (identity, forwarding) are removed first and set last. CGI, WSGI and PHP read
//! every odd character of a name as `-`. A request is refused if one of its names, read in this way, equals a protected
//! name.

use http::header::{CONNECTION, COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::origin_part::OriginFault;
use super::upgrade::UpgradeFault;
use crate::trust::token_fields::TokenFields;

/// Why a header is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FieldFault {
    #[error("a header name could be taken for a protected one")]
    LookAlike,
    #[error("the Connection header lists a protected name")]
    Connection,
    #[error("X-Forwarded-For and Forwarded name different clients")]
    Contradiction,
    #[error(transparent)]
    PublicOrigin(#[from] OriginFault),
    #[error("Client-Cert is not one byte sequence with a certificate")]
    ClientCertificate,
    #[error("grpc-timeout is not a time, or there are several")]
    GrpcTimeout,
    #[error("the name of a header field is too long")]
    TooLarge,
    #[error("a header field that chooses the route is repeated")]
    Repeated,
    #[error("a header field that chooses the route is not valid base64 of UTF-8 text")]
    Encoding,
    #[error(transparent)]
    Upgrade(#[from] UpgradeFault),
}

/// Servers behind the gateway have limits of their own: HAProxy ends a connection that sends a longer name.
const MAX_NAME_BYTES: usize = 255;

/// The treatment of a request header field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FieldTreatment {
    Pass,
    /// Hop-by-hop, or a name that only the gateway may set.
    Drop,
    /// Forwarded. But a request with another name that is read as this one is refused.
    Guarded,
}

pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(crate) const X_AUTH_CLIENT_ID: HeaderName = HeaderName::from_static("x-auth-client-id");
pub(crate) const X_AUTH_SUBJECT: HeaderName = HeaderName::from_static("x-auth-subject");
pub(crate) const X_AUTH_SCOPE: HeaderName = HeaderName::from_static("x-auth-scope");
pub(crate) const X_AUTH_ISSUER: HeaderName = HeaderName::from_static("x-auth-issuer");
pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(crate) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(crate) const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
pub(crate) const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
/// The prefix of the path that the gateway has removed.
pub(crate) const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
/// Marks a copy of a request. The answer to a copy is not used.
pub(crate) const X_MIRRORED: HeaderName = HeaderName::from_static("x-mirrored");

/// Removes the fields of a request that are not forwarded. Fast if there are none. Returns true if the request says
/// that a proxy has forwarded it. The [token fields](TokenFields) stay; they are protected as `Authorization` is.
pub(crate) fn strip_request(headers: &mut HeaderMap, token_fields: &TokenFields) -> Result<bool, FieldFault> {
    if !token_fields.is_empty() && headers.keys().any(|name| token_fields.are_resembled_by(name)) {
        return Err(FieldFault::LookAlike);
    }
    let mut dropped: Vec<HeaderName> = Vec::new();
    let (mut has_connection, mut cookies) = (false, 0);
    for name in headers.iter().map(|(name, _)| name) {
        let text = name.as_str();
        if text.len() > MAX_NAME_BYTES {
            return Err(FieldFault::TooLarge);
        }
        if is_look_alike(text) {
            return Err(FieldFault::LookAlike);
        }
        has_connection |= *name == CONNECTION;
        cookies += usize::from(*name == COOKIE);
        if fate(text) == FieldTreatment::Drop {
            dropped.push(name.clone());
        }
    }
    if has_connection {
        dropped.extend(listed_in_connection(headers, token_fields)?);
    }
    let is_relayed = dropped.iter().any(|name| is_a_proxys(name.as_str()));
    for name in dropped {
        headers.remove(name);
    }
    if cookies > 1 {
        join_cookies(headers);
    }
    Ok(is_relayed)
}

/// True for names that the configuration can't set or remove.
pub(crate) fn is_protected(name: &HeaderName) -> bool {
    fate(name.as_str()) != FieldTreatment::Pass || is_look_alike(name.as_str())
}

/// True for a name that a service may read as a protected one: CGI and similar interfaces keep letters and digits only.
fn is_look_alike(name: &str) -> bool {
    let kept = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    // Without an early exit the compiler vectorizes this loop.
    if name.bytes().fold(true, |so_far, byte| so_far & kept(byte)) {
        return false;
    }
    fate(&name.replace(|c: char| !(c.is_ascii_alphanumeric() || c == '-'), "-")) != FieldTreatment::Pass
}

fn fate(name: &str) -> FieldTreatment {
    match name {
        "host" | "authorization" | "content-length" => FieldTreatment::Guarded,
        // The connection to the upstream sets its own framing of the body.
        "transfer-encoding" | "expect" => FieldTreatment::Drop,
        "connection"
        | "keep-alive"
        | "proxy-connection"
        | "proxy-authenticate"
        | "proxy-authentication-info"
        | "proxy-authorization"
        | "te"
        | "trailer"
        | "upgrade"
        | "http2-settings" => FieldTreatment::Drop,
        "forwarded"
        | "via"
        | "x-real-ip"
        | "x-original-url"
        | "x-original-uri"
        | "x-rewrite-url"
        | "x-request-id"
        | "x-mirrored"
        | "x-client-ip"
        | "x-cluster-client-ip"
        | "true-client-ip"
        | "cf-connecting-ip"
        | "fastly-client-ip"
        | "x-envoy-external-address"
        | "x-original-forwarded-for"
        | "x-original-host"
        | "x-original-method"
        | "x-forwarded"
        | "x-scheme"
        | "x-url-scheme"
        | "front-end-https"
        | "x-host"
        | "x-http-host-override"
        | "x-script-name"
        | "forwarded-for"
        | "x-proxyuser-ip"
        | "x-ssl"
        | "x-arr-clientcert"
        | "x-arr-ssl"
        | "proxy"
        | "x-http-method-override"
        | "x-http-method"
        | "x-method-override" => FieldTreatment::Drop,
        _ if is_in_protected_group(name) => FieldTreatment::Drop,
        _ => FieldTreatment::Pass,
    }
}

/// True for fields in which proxies describe how a request reached them. Clients do not send these fields.
fn is_a_proxys(name: &str) -> bool {
    let is_listed = matches!(
        name,
        "via"
            | "forwarded"
            | "x-real-ip"
            | "x-client-ip"
            | "x-cluster-client-ip"
            | "true-client-ip"
            | "cf-connecting-ip"
            | "fastly-client-ip"
            | "x-envoy-external-address"
            | "x-original-forwarded-for"
    );
    is_listed || name.starts_with("x-forwarded")
}

/// Names in groups: identity, forwarding, and the fields by which TLS terminators describe the client's certificate
/// (RFC 9440, and the names that nginx, Apache, HAProxy and cloud balancers use).
fn is_in_protected_group(name: &str) -> bool {
    // The first bytes decide for most names.
    let prefixes: &[&str] = match name.as_bytes() {
        [b'x', b'-', ..] => &[
            "x-auth-",
            "x-forwarded-",
            "x-client-cert",
            "x-client-dn",
            "x-client-verif",
            "x-ssl-",
            "x-tls-client",
            "x-amzn-mtls-",
        ],
        [b'c', ..] => &["client-cert"],
        [b's', ..] => &["ssl-client"],
        _ => return false,
    };
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// The names that the sender declares hop-by-hop (RFC 9110 §7.6.1).
fn listed_in_connection(headers: &HeaderMap, token_fields: &TokenFields) -> Result<Vec<HeaderName>, FieldFault> {
    let values = headers.get_all(CONNECTION).iter();
    let listed = values.flat_map(|value| value.to_str().unwrap_or("?").split(',')).map(str::trim);
    let names = listed.filter(|name| !name.is_empty()).map(|name| {
        let name: HeaderName = name.parse().map_err(|_| FieldFault::Connection)?;
        match name.as_str() {
            // Ordinary clients list these names.
            "close" | "keep-alive" | "upgrade" | "te" | "http2-settings" | "proxy-connection" => Ok(name),
            _ if is_protected(&name) || token_fields.contains(&name) => Err(FieldFault::Connection),
            _ => Ok(name),
        }
    });
    names.collect()
}

/// HTTP/2 may send cookies apart; HTTP/1.1 requires one field (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn stripped(fields: &[(&str, &str)]) -> Result<Vec<String>, FieldFault> {
        let mut headers = map(fields);
        strip_request(&mut headers, &TokenFields::new([&HeaderName::from_static("x-own-token")]))?;
        Ok(headers.keys().map(|name| name.as_str().to_owned()).collect())
    }

    #[test]
    fn gateway_headers_are_removed_from_requests() {
        let foreign = [
            "x-auth-client-id",
            "x-auth-subject",
            "x-auth-anything",
            "x-forwarded-for",
            "x-forwarded-user",
            "forwarded",
            "via",
            "x-real-ip",
            "x-scheme",
            "front-end-https",
            "x-host",
            "x-script-name",
            "x-original-url",
            "x-rewrite-url",
            "x-http-method-override",
            "x-request-id",
            "x-client-cert",
            "client-cert",
            "client-cert-chain",
            "ssl-client-verify",
            "x-client-verified",
            "x-ssl-cert",
            "x-ssl-subject",
            "cf-connecting-ip",
            "x-original-forwarded-for",
        ];
        for name in foreign {
            assert_eq!(stripped(&[(name, "x"), ("accept", "y")]), Ok(vec!["accept".to_owned()]), "{name}");
        }
    }

    #[test]
    fn look_alikes_of_protected_names_are_refused_others_pass() {
        for name in [
            "x_auth_subject",
            "x-auth_subject",
            "transfer_encoding",
            "content_length",
            "x_forwarded_for",
            "http2_settings",
            "client_cert",
            "client-cert_chain",
            "ssl_client_s_dn",
            "x_own_token",
            "x-own_token",
        ] {
            assert_eq!(stripped(&[(name, "x")]), Err(FieldFault::LookAlike), "{name}");
        }
        for name in ["api_key", "x-own-token", "x_own_tokens"] {
            assert_eq!(stripped(&[(name, "x")]), Ok(vec![name.to_owned()]));
        }
    }

    #[test]
    fn names_have_a_limit_of_their_own_and_values_have_none() {
        assert!(stripped(&[(&"a".repeat(MAX_NAME_BYTES), "x"), ("x", &"a".repeat(1 << 20))]).is_ok());
        assert_eq!(stripped(&[(&"a".repeat(MAX_NAME_BYTES + 1), "x")]), Err(FieldFault::TooLarge));
    }

    #[test]
    fn hop_by_hop_names_go_with_those_that_connection_lists() {
        let left = stripped(&[
            ("connection", "close, X-Once"),
            ("x-once", "1"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("accept", "a"),
        ]);
        assert_eq!(left, Ok(vec!["accept".to_owned()]));
    }

    #[test]
    fn connection_can_not_list_protected_names() {
        for listed in [
            "X-Auth-Subject",
            "Authorization",
            "host",
            "Content-Length",
            "x-forwarded-for",
            "X-Own-Token",
            "close, x_auth_scope",
            "a b",
        ] {
            assert_eq!(stripped(&[("connection", listed)]), Err(FieldFault::Connection), "{listed}");
        }
    }

    #[test]
    fn cookie_crumbs_become_one_field() {
        let mut headers = map(&[("cookie", "a=1"), ("cookie", "b=2")]);
        strip_request(&mut headers, &TokenFields::default()).unwrap();
        assert_eq!(headers.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    }

    proptest! {
        /// No identity header from outside reaches the upstream, however its letters and dashes are written.
        #[test]
        fn no_disguise_brings_an_identity_header_through(
            name in prop::sample::select(vec!["x-auth-subject", "x-auth-scope", "x-forwarded-for", "forwarded", "via", "x-real-ip", "client-cert"]),
            swaps in prop::collection::vec(any::<(bool, bool)>(), 20),
        ) {
            let disguised: String = name.chars().zip(&swaps).map(|(c, (upper, swap))| match c {
                '-' if *swap => '_',
                c if *upper => c.to_ascii_uppercase(),
                c => c,
            }).collect();
            match stripped(&[(&disguised, "forged")]) {
                Ok(left) => prop_assert!(left.is_empty(), "{} passed", disguised),
                Err(fault) => prop_assert_eq!(fault, FieldFault::LookAlike),
            }
        }
    }
}
