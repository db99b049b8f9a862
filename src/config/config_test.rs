//! The tests that a configuration has for itself: requests, their callers, and the decisions that are expected.
//!
//! Names of routes, clients, issuers and reasons exist. [`crate::app::config_tests`] runs them.

use std::fmt;
use std::net::IpAddr;

use http::{HeaderName, HeaderValue, Method};
use serde_json::{Map, Value};

use super::source::SourcePosition;
use crate::audit::reason::Reason;
use crate::oauth::discrepancy::short;
use crate::oauth::scope::ScopeSet;

/// All tests of a file.
#[derive(Debug, Default)]
pub(crate) struct ConfigTests {
    /// The file as messages name it.
    pub(crate) file: String,
    pub(crate) tests: Vec<ConfigTest>,
}

/// A matrix: each caller sends each request.
#[derive(Debug)]
pub(crate) struct ConfigTest {
    pub(crate) name: String,
    pub(crate) callers: Vec<TestCaller>,
    pub(crate) from: IpAddr,
    pub(crate) host: String,
    pub(crate) is_https: bool,
    /// The values may be secrets and are not shown.
    pub(crate) fields: Vec<(HeaderName, HeaderValue)>,
    pub(crate) requests: Vec<TestRequest>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TestCaller {
    Anonymous,
    /// A client of ours. Without scopes, it has all that it may request.
    Client {
        id: String,
        scopes: Option<ScopeSet>,
    },
    /// A caller with a token of an external issuer.
    External {
        issuer: String,
        claims: Map<String, Value>,
    },
    /// A caller with a static token, by its name.
    Static(String),
}

#[derive(Debug)]
pub(crate) struct TestRequest {
    pub(crate) method: Method,
    /// A path, perhaps with a query.
    pub(crate) target: String,
    pub(crate) expected: ExpectedDecision,
    pub(crate) place: SourcePosition,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ExpectedDecision {
    /// By any route, or by this one.
    Allowed(Option<String>),
    Refused(Reason),
}

impl ConfigTest {
    /// The number of requests that are sent.
    pub(crate) fn size(&self) -> usize {
        self.callers.len().saturating_mul(self.requests.len())
    }
}

impl fmt::Display for TestCaller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("anonymous"),
            Self::Static(name) => write!(f, "static token {name}"),
            Self::Client { id, scopes: None } => write!(f, "client {id}"),
            Self::Client { id, scopes: Some(scopes) } => write!(f, "client {id} with {scopes}"),
            Self::External { issuer, claims } if claims.is_empty() => write!(f, "issuer {issuer}"),
            Self::External { issuer, claims } => {
                write!(f, "issuer {issuer} with {}", short(&Value::Object(claims.clone()).to_string()))
            }
        }
    }
}

impl fmt::Display for TestRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.target)
    }
}

impl fmt::Display for ExpectedDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed(None) => f.write_str("allowed"),
            Self::Allowed(Some(route)) => write!(f, "allowed by route `{route}`"),
            Self::Refused(reason) => write!(f, "refused with `{}`", reason.as_str()),
        }
    }
}
