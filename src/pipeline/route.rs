//! A route with its policy, as compiled from the configuration.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Uri};

use super::access::{Access, AddressRule};
use super::canonical::{Ambiguous, CanonicalRequest};
use super::cors::Cors;
use super::header_rules::HeaderRules;
use super::limits::RateLimit;
use super::mirror::Mirror;
use super::pattern::{HostPattern, PathPattern};
use super::rewrite::PathTemplate;
use super::target::RouteTarget;
use super::upgrade::Upgrades;

#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) name: String,
    /// Empty: any host.
    pub(crate) hosts: Vec<HostPattern>,
    pub(crate) path: PathPattern,
    pub(crate) methods: MethodSet,
    pub(crate) target: RouteTarget,
    pub(crate) access: Access,
    pub(crate) from: AddressRule,
    pub(crate) limits: Vec<Arc<RateLimit>>,
    /// How many leading segments of the path stay behind.
    pub(crate) strip_segments: usize,
    /// What the upstream is asked for instead.
    pub(crate) rewrite: Option<Box<PathTemplate>>,
    /// Of the request on its way to the upstream.
    pub(crate) request_headers: HeaderRules,
    /// Of every answer.
    pub(crate) response_headers: Option<Box<HeaderRules>>,
    /// Pass `Authorization` on although the route is protected.
    pub(crate) forward_token: bool,
    /// To the first byte of the answer. `None`: the upstream's own.
    pub(crate) timeout: Option<Duration>,
    pub(crate) body_bytes: Option<u64>,
    /// Between two pieces of a body, either way: its own limit, which may be none.
    pub(crate) body_idle: Option<Option<Duration>>,
    /// Who gets a copy.
    pub(crate) mirror: Option<Box<Mirror>>,
    /// What pages of other origins may do.
    pub(crate) cors: Option<Box<Cors>>,
    /// What other protocols it may be asked for; none on most.
    pub(crate) upgrades: Upgrades,
}

/// The methods that a route takes. HEAD follows GET.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MethodSet(Vec<Method>);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidMethod {
    #[error("methods are upper case, such as `GET`")]
    Case,
    #[error("CONNECT and TRACE are never forwarded")]
    Never,
    #[error("a method is a token such as `GET`")]
    Token,
}

/// What a route takes that lists none.
pub(crate) const STANDARD: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

impl Route {
    /// What the upstream is asked for.
    pub(crate) fn upstream_uri(&self, request: &CanonicalRequest) -> Result<Uri, Ambiguous> {
        match &self.rewrite {
            None => request.target_without(self.strip_segments),
            Some(template) => request.target_at(&template.path(request)?),
        }
    }

    /// Adds what this route has all its answers say; `granted` is whose pages may read them.
    pub(crate) fn apply_response_rules(
        &self,
        headers: &mut HeaderMap,
        is_refusal: bool,
        granted: Option<&HeaderValue>,
    ) {
        match &self.response_headers {
            None => {}
            Some(rules) if is_refusal => rules.apply_to_refusal(headers),
            Some(rules) => rules.apply(headers),
        }
        if let Some(cors) = &self.cors {
            cors.finish(granted, headers);
        }
    }
}

impl MethodSet {
    pub(crate) fn all() -> Self {
        Self(STANDARD.to_vec())
    }

    pub(crate) fn new(methods: impl IntoIterator<Item = Method>) -> Self {
        let mut all: Vec<Method> = Vec::new();
        for method in methods {
            let follows = (method == Method::GET).then_some(Method::HEAD);
            for method in std::iter::once(method).chain(follows) {
                if !all.contains(&method) {
                    all.push(method);
                }
            }
        }
        Self(all)
    }

    pub(crate) fn parse_method(text: &str) -> Result<Method, InvalidMethod> {
        if text.bytes().any(|b| b.is_ascii_lowercase()) {
            return Err(InvalidMethod::Case);
        }
        match Method::from_bytes(text.as_bytes()).map_err(|_| InvalidMethod::Token)? {
            Method::CONNECT | Method::TRACE => Err(InvalidMethod::Never),
            method => Ok(method),
        }
    }

    pub(crate) fn contains(&self, method: &Method) -> bool {
        self.0.contains(method)
    }

    pub(crate) fn intersects(&self, other: &Self) -> bool {
        self.0.iter().any(|method| other.contains(method))
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(Method::as_str)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::upstream::protocol::UpstreamProtocol;
    use crate::upstream::server::{Server, ServerOrigin};
    use crate::upstream::service::Upstream;
    use crate::upstream::settings::UpstreamSettings;

    /// A public route to nowhere.
    pub(in super::super) fn route(path: &str, hosts: &[&str], methods: &[&str]) -> Route {
        let settings = UpstreamSettings::new(Duration::from_secs(1), Duration::from_secs(1));
        let server = Server::tcp(ServerOrigin::parse("http://127.0.0.1:9").unwrap(), None, UpstreamProtocol::Http1);
        let upstream = Upstream::new("legacy", vec![server], settings);
        let methods = match methods {
            [] => MethodSet::all(),
            some => MethodSet::new(some.iter().map(|method| MethodSet::parse_method(method).unwrap())),
        };
        Route {
            name: path.to_owned(),
            hosts: hosts.iter().map(|host| HostPattern::parse(host).unwrap()).collect(),
            path: PathPattern::parse(path).unwrap(),
            methods,
            target: RouteTarget::Upstream(Arc::new(upstream)),
            access: Access::Public,
            from: AddressRule::default(),
            limits: Vec::new(),
            strip_segments: 0,
            rewrite: None,
            request_headers: HeaderRules::default(),
            response_headers: None,
            forward_token: false,
            timeout: None,
            body_bytes: None,
            body_idle: None,
            mirror: None,
            cors: None,
            upgrades: Upgrades::default(),
        }
    }

    #[test]
    fn methods_are_upper_case_tokens_and_never_connect_or_trace() {
        assert_eq!(MethodSet::parse_method("get"), Err(InvalidMethod::Case));
        assert_eq!(MethodSet::parse_method("TRACE"), Err(InvalidMethod::Never));
        assert_eq!(MethodSet::parse_method("G T"), Err(InvalidMethod::Token));
        assert!(MethodSet::parse_method("PROPFIND").is_ok());
    }
}
