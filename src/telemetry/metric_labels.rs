//! The label sets of the metrics.

use prometheus_client::encoding::EncodeLabelSet;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
pub(crate) struct DecisionLabels {
    pub(crate) http_route: String,
    pub(crate) issuer: String,
    pub(crate) decision: &'static str,
    pub(crate) reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
pub(crate) struct WouldDenyLabels {
    pub(crate) http_route: String,
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
    pub(crate) http_route: String,
    pub(crate) limit: String,
    pub(crate) decision: &'static str,
    /// The client whose request was refused, if it is proven. Empty for requests that were let through.
    pub(crate) oauth_client_id: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
pub(crate) struct GrantLabels {
    pub(crate) auth_method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
pub(crate) struct SplitLabels {
    pub(crate) http_route: String,
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

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
pub(crate) struct UpstreamLabels {
    pub(crate) upstream: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
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

/// A static token.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
pub(crate) struct StaticTokenLabels {
    pub(crate) static_token: String,
}

/// The limit that refused a connection, by its key under `limits`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
pub(crate) struct ConnectionLimitLabels {
    pub(crate) limit: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
pub(crate) struct BuildLabels {
    pub(crate) version: &'static str,
    pub(crate) os: &'static str,
    pub(crate) arch: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
pub(crate) struct ConfigLabels {
    pub(crate) revision: String,
    pub(crate) instance: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
pub(crate) struct ReplicaLabels {
    pub(crate) state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
pub(crate) struct LimitModeLabels {
    pub(crate) mode: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
pub(crate) struct FetchLabels {
    pub(crate) issuer: String,
    pub(crate) result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
pub(crate) struct ReloadLabels {
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
