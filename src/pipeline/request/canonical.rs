//! The canonical form of a request, on which every decision is based.
//!
//! Built once from the raw head; routing, policy, the audit log and the upstream request line all use it and nothing
//! else. A request that could be read in two ways is refused: two hosts, or a path with several readings, see
//! [`super::spelling`].

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method, Version};

use super::ambiguous::Ambiguous;
use super::authority::Authority;
use super::path_forms::PathForms;
use super::spelling::{Spelling, spelling};
use crate::http1::target::{OriginForm, RequestTarget};
use crate::server::limits::Limits;
use crate::server::received_request::ReceivedHead;

/// {method, authority, path, raw query}.
#[derive(Debug)]
pub(crate) struct CanonicalRequest {
    pub(crate) method: Method,
    pub(crate) authority: Rc<Authority>,
    target: OriginForm,
    /// The path with its escapes decoded, where that differs from the canonical spelling.
    decoded: Option<Box<str>>,
    /// The path in the caller's own spelling, where that differs from the canonical one.
    received: Option<Box<str>>,
    /// The forms of the path that only some routes take.
    pub(crate) forms: PathForms,
}

impl CanonicalRequest {
    /// `last` is the host that the connection's last request named. The same host is not read again. `allowed` are the
    /// forms of paths that some route takes.
    pub(crate) fn new(
        head: &ReceivedHead,
        scheme: &str,
        last: &RefCell<Option<Rc<Authority>>>,
        limits: &Limits,
        allowed: PathForms,
    ) -> Result<Self, Ambiguous> {
        // The scheme of an absolute target or of HTTP/2 must be the connection's own.
        if matches!(&head.target, RequestTarget::Absolute { scheme: named, .. } if named != scheme) {
            return Err(Ambiguous::Scheme);
        }
        // h2 reads an empty length as 0.
        if head.version == Version::HTTP_2 && head.headers.get_all(CONTENT_LENGTH).iter().any(HeaderValue::is_empty) {
            return Err(Ambiguous::Length);
        }
        if head.headers.len() > limits.header_count {
            return Err(Ambiguous::TooManyFields);
        }
        let raw = match &head.target {
            RequestTarget::Origin(path) | RequestTarget::Absolute { path, .. } => path,
            RequestTarget::Authority(_) | RequestTarget::Asterisk => return Err(Ambiguous::Target),
        };
        if raw.as_str().len() > limits.uri_bytes {
            return Err(Ambiguous::UriTooLong);
        }
        let authority = Authority::of(head, scheme, last)?;
        let Spelling { canonical, decoded, received, forms } = spelling(raw.path(), allowed)?;
        let target = match canonical {
            None => raw.clone(),
            Some(canonical) => join(&canonical, raw.query())?,
        };
        let [decoded, received] = [decoded, received].map(|spelling| spelling.map(String::into_boxed_str));
        Ok(Self { method: head.method.clone(), authority, target, decoded, received, forms })
    }

    /// The canonical spelling, for the audit log.
    pub(crate) fn path(&self) -> &str {
        self.target.path()
    }

    /// The path that routes are matched against.
    pub(crate) fn decoded_path(&self) -> &str {
        self.decoded.as_deref().unwrap_or_else(|| self.target.path())
    }

    /// Path and query in their canonical spelling.
    pub(crate) fn target(&self) -> &OriginForm {
        &self.target
    }

    pub(crate) fn query(&self) -> Option<&str> {
        self.target.query()
    }

    /// The caller's own spelling of the path, segment by segment the same as the canonical one. `None`: no difference.
    pub(crate) fn received_path(&self) -> Option<&str> {
        self.received.as_deref()
    }

    /// Path and query in the caller's own spelling, for a redirect to the same path at another origin.
    pub(crate) fn received_target(&self) -> Result<OriginForm, Ambiguous> {
        self.received_path().map_or_else(|| Ok(self.target.clone()), |path| self.target_at(path))
    }

    /// This path with the query of the request, for the upstream or a redirect.
    pub(crate) fn target_at(&self, path: &str) -> Result<OriginForm, Ambiguous> {
        join(path, self.query())
    }
}

fn join(path: &str, query: Option<&str>) -> Result<OriginForm, Ambiguous> {
    let text = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    OriginForm::from_bytes(Bytes::from(text)).map_err(|_| Ambiguous::Character)
}

#[cfg(test)]
mod tests;
