//! The target of a route: an upstream, one of several, or an answer from the configuration.

use std::fmt;
use std::sync::Arc;

use http::{HeaderValue, StatusCode};

use super::rewrite::PathTemplate;
use super::split::Split;
use crate::upstream::service::Upstream;

#[derive(Debug)]
pub(crate) enum RouteTarget {
    Upstream(Arc<Upstream>),
    Split(Box<Split>),
    Own(Box<FixedAnswer>),
}

/// An answer from the configuration.
#[derive(Debug, PartialEq)]
pub(crate) enum FixedAnswer {
    Redirect {
        /// Without a trailing slash; empty for a path at the same origin. Never taken from `Host`.
        origin: String,
        path: PathTemplate,
        status: StatusCode,
    },
    Fixed {
        status: StatusCode,
        /// The media type of a body that is not empty.
        content_type: Option<HeaderValue>,
        body: Box<[u8]>,
    },
}

impl RouteTarget {
    pub(crate) fn may_speak_http2(&self) -> bool {
        match self {
            Self::Upstream(upstream) => upstream.speaks_http2(),
            Self::Split(split) => split.upstreams().any(|upstream| upstream.speaks_http2()),
            Self::Own(_) => false,
        }
    }

    /// Every upstream that it may lead to.
    pub(crate) fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        let (one, several) = match self {
            Self::Upstream(upstream) => (Some(upstream), None),
            Self::Split(split) => (None, Some(split.upstreams())),
            Self::Own(_) => (None, None),
        };
        one.into_iter().chain(several.into_iter().flatten())
    }
}

impl fmt::Display for RouteTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upstream(upstream) => f.write_str(&upstream.name),
            Self::Split(split) => split.fmt(f),
            Self::Own(own) => own.fmt(f),
        }
    }
}

impl fmt::Display for FixedAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redirect { origin, path, status } => write!(f, "{} to {origin}{path}", status.as_u16()),
            Self::Fixed { status, .. } => write!(f, "{} from the configuration", status.as_u16()),
        }
    }
}
