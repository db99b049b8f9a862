//! `gateway.yaml` as it is written: every key, its type, whether it is required, and its default.
//!
//! Fields are in the order of the documentation and have the names of their keys. Values of the domain (scopes, paths,
//! issuers, algorithms) are still text here. [`super::resolve`] parses them and checks what involves several keys.

pub(crate) mod authorization;
pub(crate) mod certificate_name;
pub(crate) mod claim;
pub(crate) mod client_key;
pub(crate) mod config_test;
pub(crate) mod cors;
pub(crate) mod federation;
pub(crate) mod host;
pub(crate) mod introspection;
pub(crate) mod issuer;
pub(crate) mod jwk;
pub(crate) mod key_source;
pub(crate) mod limits;
pub(crate) mod listener;
pub(crate) mod oauth;
pub(crate) mod rate_limit;
pub(crate) mod resource;
pub(crate) mod revocation;
pub(crate) mod route;
pub(crate) mod servers;
pub(crate) mod shared;
pub(crate) mod static_token;
pub(crate) mod target;
pub(crate) mod transport;
pub(crate) mod upstream;
pub(crate) mod when;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::decode::{Decode, Named, OneOrMore, Required, mirror};
use super::diagnostics::Reported;
use super::form::ValueForm;
use super::reader::Reader;
use super::source::At;
use super::tree::YamlNode;
use super::values::{Bound, Hint, Period, PositiveCount, Quotes, ScalarValue, Size, count, kibibytes, seconds};
use super::word::Word;
use crate::network::Network;
use crate::pipeline::routing::snapshot::OpenStreamsRule;

mirror! {
    /// The whole file.
    struct RawConfig {
        version: Required<ConfigVersion>,
        /// Default: the number of cores that the process may use.
        workers: Option<At<PositiveCount>>,
        listeners: Required<OneOrMore<listener::RawListener>>,
        limits: limits::RawLimits,
        shutdown: RawShutdown,
        reload: RawReload,
        allow_literal_secrets: At<bool> = false,
        /// Proxies whose information about the client is trusted.
        trusted_proxies: Option<Required<OneOrMore<Network>>>,
        oauth: Option<At<oauth::RawOauth>>,
        issuers: Named<issuer::RawIssuer>,
        /// Hand-made tokens that count until a date, by name.
        static_tokens: Named<static_token::RawStaticToken>,
        upstreams: Named<upstream::RawUpstream>,
        dns: RawDns,
        /// Limits that routes share, by name.
        rate_limits: Named<rate_limit::RawRateLimit>,
        /// The resources that routes protect, by name. Default: the audiences that are https URLs of ours.
        resources: Named<resource::RawResource>,
        routes: Vec<At<route::RawRoute>>,
        audit: RawAudit,
        admin: Option<At<RawAdmin>>,
        probes: Option<At<RawProbes>>,
        /// The engines by which several gateways are one.
        shared: shared::RawShared,
        state_directory: At<PathBuf> = PathBuf::from(STATE_DIRECTORY),
        revoked: Vec<At<revocation::RawRevocation>>,
        tests: Vec<At<config_test::RawTest>>,
    }
}

mirror! {
    /// The name servers for the names of upstreams.
    struct RawDns {
        /// Default: as `/etc/resolv.conf` says.
        servers: Option<Required<OneOrMore<SocketAddr>>>,
        /// How long a name that suddenly has no address keeps its last ones.
        stale_for: At<Duration> = Duration::from_secs(30),
    }
}

mirror! {
    struct RawShutdown {
        /// The time with readiness off before the drain begins. Default: `0s`.
        delay: At<Duration> = Duration::ZERO,
        /// The time that requests in flight have to end. Default: `30s`.
        drain: At<Duration> = Duration::from_secs(30),
    }
}

mirror! {
    struct RawReload {
        /// Whether the file, and all files that it names, are watched.
        watch: At<bool> = false,
        /// For the streams that are open at a reload.
        open_streams: At<OpenStreamsRule> = OpenStreamsRule::Recheck,
    }
}

mirror! {
    struct RawAudit {
        /// Default: `audit.jsonl` in the state directory.
        file: Option<At<AuditFile>>,
        on_failure: At<RawOnFailure> = RawOnFailure::Block,
        sync: At<Sync> = Sync::Grants,
        /// Refusals with a line of their own, per second and address.
        refusals_per_second: At<Bound<PositiveCount>> = Bound::AtMost(count(20)),
        /// The sizes and the number of the files.
        rotate: RawRotate,
    }
}

mirror! {
    /// By default at most 4 GiB, and a month of days that each fit into one file.
    struct RawRotate {
        size: At<Bound<Size>> = Bound::AtMost(kibibytes(128 * 1024)),
        age: At<Bound<Period>> = Bound::AtMost(seconds(24 * 3600)),
        /// Files besides the current one.
        keep: At<Bound<PositiveCount>> = Bound::AtMost(count(31)),
    }
}

mirror! {
    struct RawAdmin {
        /// Its address and port. Other addresses than those of the loopback need `allow_from`.
        address: Required<SocketAddr>,
        /// Accepted host names, besides addresses and `localhost`.
        hosts: Option<At<OneOrMore<String>>>,
        /// The networks that may reach it. Required unless the address is a loopback address.
        allow_from: Option<At<OneOrMore<Network>>>,
    }
}

mirror! {
    /// Probes alone.
    struct RawProbes {
        /// Its address and port.
        address: Required<SocketAddr>,
    }
}

pub(crate) const STATE_DIRECTORY: &str = "state";

/// The only version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConfigVersion;

/// The target of the audit log: `-` is standard output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AuditFile {
    Stdout,
    /// Relative to the config file.
    Path(PathBuf),
}

/// The handling of a request that cannot be audited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RawOnFailure {
    Block,
    Drop,
}

/// Which responses wait until their line is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sync {
    Nothing,
    Grants,
    All,
}

impl ScalarValue for ConfigVersion {
    const QUOTES: Quotes = Quotes::MustNot;

    fn expected() -> String {
        "`1`".to_owned()
    }

    fn form() -> ValueForm {
        ValueForm::Integer(1, 1)
    }

    fn parse(text: &str) -> Result<Self, Hint> {
        if text == "1" { Ok(Self) } else { Err("there is no other version") }
    }
}

impl Word for RawOnFailure {
    fn words() -> Vec<(&'static str, Self)> {
        vec![("block", Self::Block), ("drop", Self::Drop)]
    }
}

impl Word for OpenStreamsRule {
    fn words() -> Vec<(&'static str, Self)> {
        vec![("recheck", Self::Recheck), ("keep", Self::Keep)]
    }
}

impl Word for Sync {
    fn words() -> Vec<(&'static str, Self)> {
        vec![("none", Self::Nothing), ("grants", Self::Grants), ("all", Self::All)]
    }
}

impl Decode for AuditFile {
    fn form() -> ValueForm {
        ValueForm::Path
    }

    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        let path = PathBuf::decode(node, reader)?;
        Ok(if path.as_os_str() == "-" { Self::Stdout } else { Self::Path(path) })
    }
}

/// As written; [`Source::locate`](super::source::Source::locate) makes it relative to the file.
impl Decode for PathBuf {
    fn form() -> ValueForm {
        ValueForm::Path
    }

    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        let path = String::decode(node, reader)?;
        if path.is_empty() { Err(reader.mismatch(node, "a path", "")) } else { Ok(Self::from(path)) }
    }
}
