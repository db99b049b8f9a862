//! A route with its policy, as compiled from the configuration.

use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderName;
use http::{HeaderValue, Method};

use super::access::{Access, AddressRule};
use super::limits::Limit;
use super::pattern::{HostPattern, PathPattern};
use super::upgrade::Upgrades;
use crate::upstream::service::Upstream;

#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) name: String,
    /// Empty: any host.
    pub(crate) hosts: Vec<HostPattern>,
    pub(crate) path: PathPattern,
    pub(crate) methods: MethodSet,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) access: Access,
    pub(crate) from: AddressRule,
    pub(crate) limits: Vec<Arc<Limit>>,
    /// How many leading segments of the path stay behind.
    pub(crate) strip_segments: usize,
    pub(crate) header_edits: HeaderEdits,
    /// Pass `Authorization` on although the route is protected.
    pub(crate) forward_token: bool,
    /// To the first byte of the answer.
    pub(crate) timeout: Duration,
    pub(crate) body_bytes: Option<u64>,
    /// What other protocols it may be asked for; none on most.
    pub(crate) upgrades: Upgrades,
}

/// Changes to the request's header on its way to the upstream; no protected name among them.
#[derive(Debug, Default)]
pub(crate) struct HeaderEdits {
    pub(crate) set: Vec<(HeaderName, HeaderValue)>,
    pub(crate) remove: Vec<HeaderName>,
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
    use crate::upstream::service::Server;

    /// A public route to nowhere.
    pub(in super::super) fn route(path: &str, hosts: &[&str], methods: &[&str]) -> Route {
        let upstream = Upstream {
            name: "legacy".into(),
            server: Server::parse("http://127.0.0.1:9").unwrap(),
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(1),
        };
        let methods = match methods {
            [] => MethodSet::all(),
            some => MethodSet::new(some.iter().map(|method| MethodSet::parse_method(method).unwrap())),
        };
        Route {
            name: path.to_owned(),
            hosts: hosts.iter().map(|host| HostPattern::parse(host).unwrap()).collect(),
            path: PathPattern::parse(path).unwrap(),
            methods,
            upstream: Arc::new(upstream),
            access: Access::Public,
            from: AddressRule::default(),
            limits: Vec::new(),
            strip_segments: 0,
            header_edits: HeaderEdits::default(),
            forward_token: false,
            timeout: Duration::from_secs(1),
            body_bytes: None,
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
