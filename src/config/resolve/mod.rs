//! Resolves raw structs into runtime types and checks that the values fit together.
//!
//! Takes a [`RawConfig`], also an incomplete one, and returns a [`Config`] only if there are no faults. Each section
//! resolves what it can and adds its faults, so that one run reports all of them. Reads the files that the
//! configuration names and never writes any.

mod admin;
mod authorization;
mod buffering;
mod claim_rules;
mod client_certificates;
mod client_keys;
mod config_tests;
mod cors;
mod dpop;
mod federation;
mod fetch_access;
mod folders;
mod header_rules;
mod host;
mod introspection;
mod issuer_choice;
mod issuer_claims;
mod issuers;
mod key_sources;
mod listeners;
mod names;
mod oauth;
mod overlaps;
mod paths;
mod quoting;
mod rate_limits;
mod report_mode;
mod resources;
mod revocation;
mod routes;
mod secrets;
mod shared;
mod state_files;
mod static_tokens;
mod stored_clients;
mod targets;
mod transport;
mod upgrades;
mod upstreams;
mod when;

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderName;

use super::decode::OneOrMore;
use super::diagnostics::{Diagnostic, Faults, Reported};
use super::lint::Lint;
use super::needs::Needs;
use super::raw::limits::RawLimits;
use super::raw::{AuditFile, RawAudit, RawConfig, RawDns, RawOnFailure, Sync};
use super::revision::NamedContent;
use super::source::{At, Source, Span};
use super::types::{Audit, Config, ReloadSettings};
use super::values::{Bound, Period, PositiveCount, Size};
use super::warning::Warning;
use crate::audit::audit_key::AuditKey;
use crate::audit::ledger::{OnFailure, Rules, Synced};
use crate::audit::rotation::Rotation;
use crate::audit::target::AuditTarget;
use crate::clock::UnixTime;
use crate::network::{Network, Networks};
use crate::oauth::scope::{Scope, ScopeSet};
use crate::pipeline::routing::rate_limit::LimitRate;
use crate::pipeline::routing::table::RouteTable;
use crate::server::drain::Shutdown;
use crate::server::limits::{Limits, Memory};
use crate::telemetry::error_chain::ErrorChain;
use crate::upstream::names::DnsSettings;
use config_tests::TestedNames;
use names::Names;
use rate_limits::SharedLimits;
use resources::TokenIssuers;

/// The context of resolving.
pub(super) struct Resolver<'a> {
    pub(super) source: &'a Source,
    pub(super) faults: &'a mut Faults,
    pub(super) warnings: Vec<Warning>,
    /// Certificates that have ended.
    pub(super) ended_certificates: Vec<Diagnostic>,
    /// The rates of the rate limits so far, by their place.
    pub(super) limit_rates: Vec<LimitRate>,
    pub(super) shared_limits: SharedLimits,
    /// Whether limits are counted over replicas unless they say otherwise.
    pub(super) has_shared_store: bool,
    /// The fields of `issuers.NAME.token_header`, known before routes are resolved.
    pub(super) token_fields: Vec<HeaderName>,
    /// `shared.postgres.stale`, known before the clients are resolved. `None` without `shared.postgres`.
    pub(super) postgres_stale: Option<Duration>,
    pub(super) named: NamedContent,
    pub(super) needs: Needs,
    /// Whether secrets may be written in the file.
    pub(super) allow_literal_secrets: bool,
    pub(super) now: UnixTime,
}

/// `unlimited` for deadlines: longer than any process runs.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// The limit of hyper.
const MAX_URI_BYTES: u64 = 65_534;
const MAX_HEADER_BYTES: u64 = 1024 * 1024;
/// Memory for this many fields is allocated for every request.
const MAX_HEADER_COUNT: u32 = 1000;
const MIN_MEMORY: u64 = 64 * 1024 * 1024;
/// Each worker is a thread with its own sockets.
const MAX_WORKERS: u32 = 1024;

impl Resolver<'_> {
    /// `None` if there are faults, earlier ones included.
    pub(super) fn config(mut self, raw: RawConfig) -> Option<Config> {
        let names = Names::of(&raw);
        self.prepare(&raw);
        let workers = raw.workers.map_or_else(available_cores, |workers| self.count_up_to(&workers, MAX_WORKERS));
        let proxies_are_known = raw.trusted_proxies.is_some();
        let trusted_proxies = self.trusted_proxies(raw.trusted_proxies.and_then(Result::ok));
        let listeners = self.listeners(raw.listeners, proxies_are_known);
        let limits = self.limits(&raw.limits);
        self.shared_limits(raw.rate_limits);
        raw.oauth.iter().for_each(|oauth| self.warn_of_no_token_listener(&oauth.value, &listeners));
        let dpop = raw.oauth.as_ref().map(|oauth| self.dpop(&oauth.value.dpop)).unwrap_or_default();
        let state = &raw.state_directory;
        let takes_certificates = listeners.iter().any(|listener| listener.takes_certificates());
        let known = names.issuers_of_callers();
        let (oauth, issuers) = self.token_issuers((raw.oauth, state), raw.issuers, (&known, takes_certificates));
        let (static_tokens, static_token_failures) = self.static_tokens(raw.static_tokens);
        let revoked = self.revoked(&raw.revoked, &names, oauth.as_ref(), &issuers);
        let audit_file = self.audit_file(&raw.audit, state);
        let is_file = matches!(audit_file.value, AuditFile::Path(_));
        let state_directory = self.state_directory(state, &revoked, (oauth.is_some(), is_file));
        let (upstreams, (server_names, upstream_certificates)) = self.upstreams(raw.upstreams, workers);
        let written = raw.routes.len();
        let routes = self.routes(raw.routes, &names, &upstreams, limits.body_bytes);
        let own = oauth.as_ref().and_then(|oauth| oauth.as_ref().ok());
        let (routes, resources) = self.resources(&raw.resources, routes, TokenIssuers::of(own, &issuers));
        self.warn_of_unused_limits();
        let tests = self.config_tests(raw.tests, &TestedNames { names: &names, own, routes: &routes, written });
        let upstreams = upstreams::in_order(upstreams);
        let audit = self.audit(&raw.audit, &audit_file, &raw.state_directory);
        let admin = raw.admin.and_then(|admin| self.admin(admin.value, &listeners));
        let shared = self.shared(raw.shared);
        let probes = raw.probes.and_then(|probes| self.probes(&probes.value, &listeners, admin.as_ref()));
        if !self.faults.is_empty() {
            return None;
        }
        // If it could not be resolved, there is a fault, or the command does not use it.
        let oauth = oauth.and_then(Result::ok);
        raw.version.ok()?;
        Some(Config {
            id: self.named.revision(self.source.text()),
            masked: String::new(),
            warnings: self.warnings,
            ended_certificates: self.ended_certificates,
            workers,
            listeners,
            limits,
            limit_rates: self.limit_rates,
            trusted_proxies,
            shutdown: Shutdown { delay: raw.shutdown.delay.value, drain: raw.shutdown.drain.value },
            reload: ReloadSettings { watch: raw.reload.watch.value, open_streams: raw.reload.open_streams.value },
            named_files: self.source.named_files(),
            oauth,
            dpop,
            issuers,
            static_tokens,
            static_token_failures,
            upstreams,
            routes,
            resources,
            audit,
            admin,
            probes,
            shared,
            state_directory,
            revoked,
            upstream_certificates,
            names: server_names,
            dns: dns_settings(raw.dns),
            tests,
        })
    }

    /// Notes the settings that others depend on, and checks what involves several sections.
    fn prepare(&mut self, raw: &RawConfig) {
        self.allow_literal_secrets = raw.allow_literal_secrets.value;
        self.has_shared_store = raw.shared.redis.is_some();
        self.postgres_stale = raw.shared.postgres.as_ref().map(|postgres| postgres.value.stale.value.get());
        self.unlimited_audiences(&raw.issuers, &raw.routes);
        self.one_introspection(&raw.issuers, &raw.routes);
    }

    /// Warns of a setting that is allowed, but is probably a mistake.
    fn warn(&mut self, lint: Lint, span: Span, message: impl Into<String>) {
        self.warnings.push(Warning::new(self.source, lint, Some(span), message));
    }

    /// Warns of the file as a whole.
    fn warn_of_file(&mut self, lint: Lint, message: impl Into<String>) {
        self.warnings.push(Warning::new(self.source, lint, None, message));
    }

    /// Checks that several limits fit together, and that each is in its allowed range.
    fn limits(&mut self, raw: &RawLimits) -> Limits {
        let limits = raw.or_default();
        self.at_most(&raw.uri_bytes, MAX_URI_BYTES);
        self.at_most(&raw.header_bytes, MAX_HEADER_BYTES);
        if raw.uri_bytes.value.is_some() && limits.uri_bytes > limits.header_bytes {
            let message = "`uri_bytes` is more than `header_bytes`, which the request target is a part of: lower it, or raise `header_bytes`";
            self.faults.at(raw.uri_bytes.span, message);
        }
        if limits.token_bytes > limits.header_bytes {
            let message = "`token_bytes` is more than `header_bytes`, and a token comes in a header: lower it, or raise `header_bytes`";
            self.faults.at(raw.token_bytes.span, message);
        }
        if let At { value: Some(count), span } = raw.header_count {
            self.count_up_to(&At { value: count, span }, MAX_HEADER_COUNT);
        }
        if matches!(limits.memory, Memory::Bytes(..MIN_MEMORY)) {
            self.faults.at(raw.memory.span, "expected at least `64MiB`: the gateway itself takes about `20MiB`");
        }
        limits
    }

    fn trusted_proxies(&mut self, raw: Option<At<OneOrMore<Network>>>) -> Networks {
        let Some(At { value: list, span }) = raw else { return Networks::default() };
        let proxies: Networks = list.items.into_iter().map(|network| network.value).collect();
        if proxies.hold_everyone() {
            let message = "together these networks hold all public addresses of IPv4 or IPv6, so that any caller could claim any address: list the proxies only";
            self.faults.at(span, message);
        }
        proxies
    }

    /// An address rule, if there is one.
    fn networks(&self, raw: Option<At<OneOrMore<Network>>>) -> Option<Networks> {
        raw.map(|list| list.value.items.into_iter().map(|network| network.value).collect())
    }

    fn count_up_to(&mut self, count: &At<PositiveCount>, limit: u32) -> usize {
        if count.value.get() > limit {
            let got = self.got(count);
            self.faults.at(count.span, format!("expected at most {limit}{got}"));
        }
        count.value.get() as usize
    }

    fn at_most(&mut self, size: &At<Option<Size>>, limit: u64) {
        if size.value.is_some_and(|size| size.bytes() > limit) {
            let quoted = self.got(size);
            self.faults.at(size.span, format!("expected a size of at most `{limit}B`{quoted}"));
        }
    }

    fn audit(&mut self, raw: &RawAudit, file: &At<AuditFile>, state_directory: &At<PathBuf>) -> Audit {
        let target = match &file.value {
            AuditFile::Stdout => AuditTarget::Stdout,
            AuditFile::Path(path) => AuditTarget::File(self.source.locate(path)),
        };
        self.audit_files(file, &target, state_directory);
        let on_failure = match raw.on_failure.value {
            RawOnFailure::Block => OnFailure::Block,
            RawOnFailure::Drop => OnFailure::Drop,
        };
        let synced = match raw.sync.value {
            Sync::Nothing => Synced::Nothing,
            Sync::Grants => Synced::Grants,
            Sync::All => Synced::All,
        };
        let refusals = raw.refusals_per_second.value.at_most().map(PositiveCount::get);
        let rotation = Rotation {
            size: raw.rotate.size.value.at_most().map(Size::bytes),
            age: raw.rotate.age.value.at_most().map(Period::get),
            keep: number(raw.rotate.keep.value),
        };
        Audit { target, rules: Rules { on_failure, synced, refusals }, rotation }
    }

    /// Checks that the gateway could open the log and its key.
    fn audit_files(&mut self, file: &At<AuditFile>, target: &AuditTarget, state_directory: &At<PathBuf>) {
        if !self.needs.is_everything() {
            return;
        }
        if let Err(error) = target.check() {
            let written = match &file.value {
                AuditFile::Stdout => Path::new("-"),
                AuditFile::Path(path) => path,
            };
            let message = self.redact_path(ErrorChain(&error).to_string(), file.span, written);
            self.faults.at(file.span, message);
        } else if let (AuditFile::Path(written), AuditTarget::File(path)) = (&file.value, target) {
            let need = "set `audit.file` to a path on a volume that can be written, or to `-` for standard \
                output";
            let _ = self.writable_file(&At { value: written.clone(), span: file.span }, path, need);
        }
        let state = self.source.locate(&state_directory.value);
        if let (AuditTarget::File(_), Err(error)) = (target, AuditKey::check(&state)) {
            let error = self.redact_path(ErrorChain(&error).to_string(), state_directory.span, &state_directory.value);
            let message = format!("the key that signs the audit log's checkpoints cannot be used: {error}");
            self.faults.at(state_directory.span, message);
        }
    }

    fn scopes(&mut self, list: &OneOrMore<String>) -> ScopeSet {
        let mut scopes = Vec::new();
        for scope in &list.items {
            match Scope::parse(&scope.value) {
                Ok(scope) => scopes.push(scope),
                Err(fault) => {
                    self.faults.at(scope.span, fault.to_string());
                }
            }
        }
        let texts = scopes.iter().map(Scope::as_str);
        if let (Err(fault), Some(last)) = (ScopeSet::from_list(texts), list.items.last()) {
            self.faults.at(last.span, fault.to_string());
        }
        ScopeSet::from_scopes(scopes)
    }

    fn texts(&mut self, list: &OneOrMore<String>) -> Vec<String> {
        for text in list.items.iter().filter(|text| text.value.is_empty()) {
            self.faults.at(text.span, "this text is empty");
        }
        list.items.iter().map(|text| text.value.clone()).collect()
    }

    /// Texts that are compared as they are written, with their places.
    fn literals(&mut self, list: &OneOrMore<String>, reason: &str) -> Vec<At<String>> {
        self.texts(list);
        list.items.iter().for_each(|text| self.must_be_literal(text, reason));
        list.items.clone()
    }
}

/// A bound as the runtime has it: `None` is unlimited.
fn number(limit: Bound<PositiveCount>) -> Option<usize> {
    limit.at_most().map(|count| count.get() as usize)
}

fn period(limit: Bound<Period>) -> Option<Duration> {
    limit.at_most().map(Period::get)
}

fn deadline(limit: Bound<Period>) -> Duration {
    period(limit).unwrap_or(FOREVER)
}

/// Respects the CPU affinity of the process.
fn available_cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// `Err` if the section could not be resolved. The fault has been reported.
type Resolved<T> = Result<T, Reported>;

/// An empty table, if the routes conflict.
fn no_routes() -> RouteTable {
    RouteTable::default()
}

fn dns_settings(raw: RawDns) -> DnsSettings {
    let servers = raw.servers.and_then(Result::ok).map(|list| list.value.items);
    let servers = servers.unwrap_or_default().into_iter().map(|server| server.value).collect();
    DnsSettings { servers, stale_for: raw.stale_for.value }
}
