//! The rule of HTTP/1.1 that input breaks.

/// Why input is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireFault {
    #[error("the request target is malformed")]
    Target,
}
