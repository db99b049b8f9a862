//! Fuzz entry points, one for each parser of untrusted input. No input may cause a panic, and accepted input must
//! satisfy the invariants checked here.
//!
//! `fuzz/` has a target for each. The tests run each with its corpus and with mutations of the corpus.

pub mod http1;

use std::cell::RefCell;
use std::env::VarError;
use std::io;
use std::path::Path;
use std::sync::OnceLock;

use http::header::{AUTHORIZATION, CONTENT_TYPE, FORWARDED, ORIGIN};
use http::{HeaderMap, HeaderName, HeaderValue, Request};

use crate::audit::audit_key::PublicKey;
use crate::audit::chain::{Hasher, SealedLine};
use crate::audit::checkpoint;
use crate::clock::UnixTime;
use crate::config;
use crate::config::interpolate::Surroundings;
use crate::issuer::client_auth::PresentedCredentials;
use crate::issuer::request::Parameters;
use crate::jose::algorithm::Algorithm;
use crate::jose::dpop::UnverifiedProof;
use crate::jose::header::KeyReference;
use crate::jose::jwk::VerifyingKey;
use crate::jose::key_set::KeySet;
use crate::jose::signing::SigningKey;
use crate::jose::token::Unverified;
use crate::network::{Network, Networks};
use crate::pipeline::request::authority::Authority;
use crate::pipeline::request::canonical::CanonicalRequest;
use crate::pipeline::request::forwarded;
use crate::pipeline::request::origin_part::BelievedParts;
use crate::pipeline::request::path_forms::{PathForm, PathForms};
use crate::pipeline::request::public_origin::{PublicOrigin, StatedOrigin};
use crate::pipeline::request::spelling::lenient_path;
use crate::pipeline::routing::cors::{OriginPattern, Origins};
use crate::pipeline::routing::pattern::PathPattern;
use crate::pipeline::routing::rewrite::PathTemplate;
use crate::server::limits::Limits;
use crate::server::proxy_header;
use crate::server::received_request::ReceivedHead;

/// The name and the function of an entry point. The fuzz target and the corpus have the same name.
pub type Entrance = (&'static str, fn(&[u8]));

/// All entry points.
pub const ENTRANCES: &[Entrance] = &[
    ("jose", jose),
    ("dpop", dpop),
    ("key_set", key_set),
    ("canonical", canonical),
    ("token_form", token_form),
    ("token_json", token_json),
    ("basic", basic),
    ("config", configuration),
    ("proxy_protocol", proxy_protocol),
    ("forwarded", forwarded_by),
    ("origin", origin),
    ("audit_log", audit_log),
    ("http1_request", http1::http1_request),
    ("http1_response", http1::http1_response),
    ("http1_body", http1::http1_body),
    ("http1_round_trip", http1::http1_round_trip),
];

/// A token (RFC 7519). A fuzzed token never has a valid signature.
pub fn jose(data: &[u8]) {
    static KEYS: OnceLock<Vec<VerifyingKey>> = OnceLock::new();
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(token) = Unverified::parse(text) else { return };
    let keys = KEYS.get_or_init(|| {
        let made = [Algorithm::Es256, Algorithm::EdDsa].map(SigningKey::generate);
        made.into_iter().flatten().filter_map(|(key, _)| key.verifying_key().ok()).collect()
    });
    assert!(!keys.iter().any(|key| token.is_signed_by(key)), "a forged token");
}

/// A DPoP proof (RFC 9449). A fuzzed proof with a key of its own never has a valid signature, but that of the corpus.
pub fn dpop(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(proof) = UnverifiedProof::parse(text) else { return };
    let Ok(key) = proof.key() else { return };
    assert!(proof.has_header_of(&key), "the key of another header");
    assert!(!proof.is_signed_by(&key) || proof.claims.id == "-BwC3ESc6acc2lTc", "a forged proof");
}

/// A JWK Set (RFC 7517). Every usable key is found, and no key is found that was not in the document.
pub fn key_set(data: &[u8]) {
    let mut skipped = Vec::new();
    if let Ok(keys) = KeySet::parse(data, &Algorithm::ALL, &mut skipped) {
        assert!((1..=64).contains(&keys.len()));
        for algorithm in Algorithm::ALL {
            if let Some(key) = keys.find(KeyReference::Unnamed, algorithm) {
                assert!(keys.holds(key) && key.algorithm == algorithm);
            }
        }
    }
}

/// A request target. The canonical form, the forwarded form and the rewritten form keep their meaning when parsed
/// again, also where a route has opted in to every form of paths.
pub fn canonical(data: &[u8]) {
    let Ok(target) = std::str::from_utf8(data) else { return };
    for allowed in [PathForms::default(), PathForm::ALL.into_iter().collect()] {
        canonical_with(target, allowed);
    }
}

fn canonical_with(target: &str, allowed: PathForms) {
    let Some(first) = canonical_request(target, allowed) else { return };
    assert!(first.forms.without(allowed).is_empty(), "{:?}", first.forms);
    let path = first.decoded_path();
    assert!(path.starts_with('/') && !path.contains(['\\', '\0']), "{path:?}");
    assert!(!path.split('/').any(|segment| matches!(segment, "." | "..")), "{path:?}");
    assert!(!lenient_path(first.path()).split('/').any(|segment| matches!(segment, "." | "..")), "{path:?}");
    let received = first.received_target().expect("the received spelling is a target");
    for target in [first.target(), &received] {
        let again = canonical_request(target.as_str(), allowed).expect("the forwarded target is canonical");
        assert_eq!((again.target(), again.decoded_path(), again.forms), (first.target(), path, first.forms));
    }
    let again = canonical_request(received.as_str(), allowed).and_then(|again| again.received_target().ok());
    assert_eq!(again.as_ref(), Some(&received));
    let (Ok(route), false) = (PathPattern::parse("/{x}/**"), path == "/" || path.starts_with("//")) else { return };
    let template = PathTemplate::parse("/v2/{x}/in/**", &route).expect("the template is valid");
    let rewritten = template.path(&route.spell(&first)).expect("the rewritten path is within the length limit");
    let again = canonical_request(&rewritten, allowed).expect("the rewritten path is canonical");
    let (captured, rest) = path[1..].split_once('/').map_or((&path[1..], ""), |(x, _)| (x, &path[1 + x.len()..]));
    assert_eq!(again.decoded_path(), format!("/v2/{captured}/in{rest}"));
}

/// An `Origin` header. Only the listed host and the subdomains of the listed domain are allowed.
pub fn origin(data: &[u8]) {
    let exact = OriginPattern::Exact("https://app.example.com".to_owned());
    let below = OriginPattern::Below { scheme: "https://".to_owned(), suffix: ".example.org:8443".to_owned() };
    let Ok(value) = HeaderValue::from_bytes(data) else { return };
    let headers = HeaderMap::from_iter([(ORIGIN, value)]);
    if Origins::Listed(vec![exact, below]).grant(&headers).is_some() {
        let url = url::Url::parse(std::str::from_utf8(data).expect("ASCII")).expect("an origin is a URL");
        let (host, port) = (url.host_str().unwrap_or_default(), url.port());
        let below = host.strip_suffix(".example.org").is_some_and(|labels| !labels.is_empty());
        assert!((host, port) == ("app.example.com", None) || (below && port == Some(8443)), "{url}");
        assert_eq!((url.scheme(), url.path(), url.username(), url.query()), ("https", "/", "", None));
    }
}

fn canonical_request(target: &str, allowed: PathForms) -> Option<CanonicalRequest> {
    let head = Request::builder().uri(target).header("host", "gateway.example.com").body(()).ok()?.into_parts().0;
    let head = ReceivedHead::from_hyper(head).ok()?;
    CanonicalRequest::new(&head, "https", &RefCell::new(None), &Limits::default(), allowed).ok()
}

/// A token request in a form (RFC 6749 §4.4.2).
pub fn token_form(data: &[u8]) {
    token_request("application/x-www-form-urlencoded", data);
}

/// A token request in JSON.
pub fn token_json(data: &[u8]) {
    token_request("application/json", data);
}

fn token_request(content_type: &'static str, body: &[u8]) {
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
    if let Ok(parameters) = Parameters::read(&headers, None, body, true) {
        let _ = PresentedCredentials::read(&headers, parameters.credentials, None, |_| false);
    }
}

/// Basic credentials (RFC 7617), with an empty form as the body.
pub fn basic(data: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(data) else { return };
    let form = HeaderValue::from_static("application/x-www-form-urlencoded");
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, form), (AUTHORIZATION, value)]);
    if let Ok(parameters) = Parameters::read(&headers, None, b"", true) {
        let _ = PresentedCredentials::read(&headers, parameters.credentials, None, |_| false);
    }
}

/// A configuration, parsed without the files that it names. Every fault has a text.
pub fn configuration(data: &[u8]) {
    let variable = |_: &str| Err(VarError::NotPresent);
    let file = |_: &Path| Err(io::ErrorKind::NotFound.into());
    let surroundings = Surroundings { variable: &variable, file: &file, now: UnixTime::from_seconds(1_800_000_000) };
    let reading = config::parse(Path::new("gateway.yaml"), data.to_vec(), &surroundings);
    assert!(reading.faults.is_empty() || !reading.render().is_empty());
}

/// A PROXY protocol header. It ends within the input.
pub fn proxy_protocol(data: &[u8]) {
    if let Some(length) = proxy_header::length(data) {
        assert!(length <= data.len());
        assert_eq!(
            proxy_header::length(&data[..length]),
            Some(length),
            "bytes after the header do not change its length"
        );
    }
}

/// `X-Forwarded-For` and, on the next line, `Forwarded` (RFC 7239). The number of hops never exceeds the limit, and a
/// stated origin is one that can be sent on.
pub fn forwarded_by(data: &[u8]) {
    let trusted: Networks = Network::parse("10.0.0.0/8").into_iter().collect();
    let mut headers = HeaderMap::new();
    let lines = data.split(|byte| *byte == b'\n');
    for (name, line) in [HeaderName::from_static("x-forwarded-for"), FORWARDED].into_iter().cycle().zip(lines) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(name, value);
        }
    }
    if let Ok(chain) = forwarded::chain(&headers, &trusted) {
        assert!(chain.hops.len() <= 17);
    }
    let believed = BelievedParts { scheme: true, host: true, port: true, client_certificate: false };
    if let Ok(Some(stated)) = StatedOrigin::read(&headers, believed, &trusted, "https") {
        let authority = Authority::parse(b"inner.example", "https").expect("the authority is valid");
        let sent = PublicOrigin::new("https", &authority, Some(&stated)).authority().expect("there is a host");
        Authority::parse(sent.as_bytes(), "https").expect("the stated authority is valid");
    }
}

/// Lines of an audit log and of its checkpoints. A fuzzed line never follows from another, and a fuzzed checkpoint is
/// never signed.
pub fn audit_log(data: &[u8]) {
    let key = PublicKey::parse("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
    let mut before = None;
    for line in data.split(|byte| *byte == b'\n') {
        if let Some(sealed) = SealedLine::parse(line) {
            let previous = before.or_else(|| sealed.previous());
            let _ = previous.map(|previous| sealed.follows(&previous, &mut Hasher::default()));
            before = Some(sealed.link.head);
        }
        if let (Some(key), Ok(text)) = (&key, std::str::from_utf8(line)) {
            assert!(!matches!(checkpoint::read(text, &[*key]), checkpoint::Read::Signed(..)), "a forged checkpoint");
        }
    }
}
