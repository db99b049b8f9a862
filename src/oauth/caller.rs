//! Who is calling: (issuer, client id), wherever a caller is named, counted or listed.

use std::sync::Arc;

use http::HeaderValue;

use super::identity::Identity;
use super::scope::ScopeSet;

/// The name that the configuration gives an issuer; our own is [`IssuerName::own`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct IssuerName(Arc<str>);

/// An authenticated caller. An external issuer's client never equals one of ours, whatever its name.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) issuer: IssuerName,
    /// Absent where an external issuer names no client.
    pub(crate) client: Option<Identity>,
    pub(crate) subject: Identity,
    pub(crate) scope: ScopeSet,
    /// `scope` as a header value; empty where the set is.
    pub(crate) scope_header: HeaderValue,
    /// The issuer's `iss` as a header value.
    pub(crate) issuer_header: HeaderValue,
}

impl IssuerName {
    pub(crate) fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The built-in authorization server's name.
    pub(crate) fn own() -> Self {
        Self("self".into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}
