//! The rules of HTTP/1.1 that a peer can break.

/// The rule that a message breaks. Its text contains nothing of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireFault {
    #[error("a carriage return without a line feed")]
    BareCarriageReturn,
    #[error("a line feed without a carriage return")]
    BareLineFeed,
    #[error("a NUL byte")]
    Nul,
    #[error("the request line is not a method, a target and a version with single spaces between them")]
    RequestLine,
    #[error("the status line is not a version, a status code of three digits and a reason phrase")]
    StatusLine,
    #[error("the method is not a token")]
    Method,
    #[error("the request target has none of the four forms, or not one that its method allows")]
    Target,
    #[error("the request target has a fragment")]
    Fragment,
    #[error("the version is neither HTTP/1.0 nor HTTP/1.1")]
    Version,
    #[error("a field line has no colon")]
    FieldLine,
    #[error("a field name is not a token")]
    FieldName,
    #[error("a field value has a control character")]
    FieldValue,
    #[error("a field line is folded")]
    FoldedLine,
    #[error("the request target is longer than the limit")]
    TargetTooLong,
    #[error("the head is larger than the limit")]
    HeadTooLarge,
    #[error("the head has more fields than the limit")]
    TooManyFields,
    #[error("both Content-Length and Transfer-Encoding are present")]
    LengthAndCoding,
    #[error("Content-Length is not a number of bytes")]
    Length,
    #[error("Content-Length has several values")]
    SeveralLengths,
    #[error("Transfer-Encoding is not chunked")]
    Coding,
    #[error("Transfer-Encoding is present in an HTTP/1.0 message")]
    CodingInHttp10,
    #[error("a chunk size is not a hexadecimal number of at most 16 digits")]
    ChunkSize,
    #[error("a chunk extension has no valid syntax")]
    ChunkExtension,
    #[error("a chunk has no line end behind its data")]
    ChunkEnd,
    #[error("the chunk extensions of the body are larger than the limit")]
    ChunkOverhead,
    #[error("a trailer field has no valid syntax")]
    Trailer,
    #[error("the trailer section is larger than the limit")]
    TrailersTooLarge,
    #[error("more interim responses than the limit came before the final one")]
    TooManyInterim,
    #[error("a body follows a response that cannot have one")]
    ForbiddenBody,
}

impl WireFault {
    pub(crate) const ALL: [Self; 29] = [
        Self::BareCarriageReturn,
        Self::BareLineFeed,
        Self::Nul,
        Self::RequestLine,
        Self::StatusLine,
        Self::Method,
        Self::Target,
        Self::Fragment,
        Self::Version,
        Self::FieldLine,
        Self::FieldName,
        Self::FieldValue,
        Self::FoldedLine,
        Self::TargetTooLong,
        Self::HeadTooLarge,
        Self::TooManyFields,
        Self::LengthAndCoding,
        Self::Length,
        Self::SeveralLengths,
        Self::Coding,
        Self::CodingInHttp10,
        Self::ChunkSize,
        Self::ChunkExtension,
        Self::ChunkEnd,
        Self::ChunkOverhead,
        Self::Trailer,
        Self::TrailersTooLarge,
        Self::TooManyInterim,
        Self::ForbiddenBody,
    ];

    /// Not malformed, but larger than a limit.
    pub(crate) fn is_size(self) -> bool {
        matches!(self, Self::TargetTooLong | Self::HeadTooLarge | Self::TooManyFields | Self::TrailersTooLarge)
    }

    /// The name in logs and in the audit log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::BareCarriageReturn => "bare_carriage_return",
            Self::BareLineFeed => "bare_line_feed",
            Self::Nul => "nul",
            Self::RequestLine => "request_line",
            Self::StatusLine => "status_line",
            Self::Method => "method",
            Self::Target => "target",
            Self::Fragment => "fragment",
            Self::Version => "version",
            Self::FieldLine => "field_line",
            Self::FieldName => "field_name",
            Self::FieldValue => "field_value",
            Self::FoldedLine => "folded_line",
            Self::TargetTooLong => "target_too_long",
            Self::HeadTooLarge => "head_too_large",
            Self::TooManyFields => "too_many_fields",
            Self::LengthAndCoding => "length_and_coding",
            Self::Length => "length",
            Self::SeveralLengths => "several_lengths",
            Self::Coding => "coding",
            Self::CodingInHttp10 => "coding_in_http_1_0",
            Self::ChunkSize => "chunk_size",
            Self::ChunkExtension => "chunk_extension",
            Self::ChunkEnd => "chunk_end",
            Self::ChunkOverhead => "chunk_overhead",
            Self::Trailer => "trailer",
            Self::TrailersTooLarge => "trailers_too_large",
            Self::TooManyInterim => "too_many_interim",
            Self::ForbiddenBody => "forbidden_body",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn faults_have_distinct_names_and_texts() {
        let names: HashSet<&str> = WireFault::ALL.iter().map(|fault| fault.name()).collect();
        let texts: HashSet<String> = WireFault::ALL.iter().map(ToString::to_string).collect();
        assert_eq!((names.len(), texts.len()), (WireFault::ALL.len(), WireFault::ALL.len()));
    }
}
