//! Why a request has no canonical form.

/// The part of a request that can be read in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Ambiguous {
    #[error("the request names no host, or more than one")]
    Host,
    #[error("the request target has no path")]
    Target,
    #[error("the request's scheme is not that of its connection")]
    Scheme,
    #[error("the content length is not a number")]
    Length,
    #[error("the path has an empty segment")]
    EmptySegment,
    #[error("the path has a dot segment")]
    DotSegment,
    #[error("the path has an encoded or backward slash")]
    Slash,
    #[error("the path has a path parameter")]
    Parameter,
    #[error("the path has a malformed escape")]
    Escape,
    #[error("the path is encoded twice")]
    EncodedTwice,
    #[error("the request target has a character that must be escaped")]
    Character,
    #[error("the request target is too long")]
    UriTooLong,
    #[error("the header has too many fields")]
    TooManyFields,
}

impl Ambiguous {
    /// The name in the audit log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Target => "target",
            Self::Scheme => "scheme",
            Self::Length => "length",
            Self::EmptySegment => "empty_segment",
            Self::DotSegment => "dot_segment",
            Self::Slash => "encoded_slash",
            Self::Parameter => "path_parameter",
            Self::Escape => "escape",
            Self::EncodedTwice => "encoded_twice",
            Self::Character => "character",
            Self::UriTooLong => "target_too_long",
            Self::TooManyFields => "too_many_fields",
        }
    }
}
