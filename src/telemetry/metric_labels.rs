//! The label sets of the metrics.

use prometheus_client::encoding::EncodeLabelSet;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
pub(crate) struct DecisionLabels {
    pub(crate) route: String,
    pub(crate) issuer: String,
    pub(crate) decision: &'static str,
    pub(crate) reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
pub(crate) struct DurationLabels {
    pub(crate) http_route: String,
    pub(crate) http_request_method: &'static str,
    pub(crate) http_response_status_code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
pub(crate) struct LimitLabels {
    pub(crate) route: String,
    pub(crate) limit: String,
    pub(crate) decision: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
pub(crate) struct SplitLabels {
    pub(crate) route: String,
    pub(crate) upstream: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
pub(crate) struct MirrorLabels {
    pub(crate) upstream: String,
    pub(crate) outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
pub(crate) struct IssuerLabels {
    pub(crate) issuer: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
pub(crate) struct UpstreamLabels {
    pub(crate) upstream: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
pub(crate) struct ServerLabels {
    pub(crate) upstream: String,
    pub(crate) server: String,
}

/// A client's secret, identified by its position in the configuration, from 1. Nothing derived from a hash leaves the
/// process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
pub(crate) struct SecretLabels {
    pub(crate) client: String,
    pub(crate) secret: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
pub(crate) struct FetchLabels {
    pub(crate) issuer: String,
    pub(crate) result: &'static str,
}

/// A file of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
pub(crate) struct CertificateLabels {
    pub(crate) file: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
pub(crate) struct WorkerLabels {
    pub(crate) worker: u64,
}
