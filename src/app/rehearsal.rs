//! A gateway of one configuration that decides requests and carries none out.
//!
//! Requests go through the pipeline's own functions: there is no second implementation of a rule. Nothing is opened,
//! fetched or written. Every issuer has a signing key of the rehearsal in place of its own, so that a request can have
//! any caller that the configuration names. Rate limits are found, and never used up.

pub(crate) mod callers;
pub(crate) mod explainer;
pub(crate) mod kept_facts;
pub(crate) mod proofs;
pub(crate) mod requests;
mod signer;
pub(crate) mod walk;

use std::io;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::StatusCode;
use tokio::runtime::{Builder, Handle, Runtime};

use self::kept_facts::KeptFacts;
use self::signer::Signer;
use crate::audit::health::Health;
use crate::audit::ledger::{Ledger, LineSender};
use crate::audit::reason::Reason;
use crate::config::types::Config;
use crate::issuer::authorization_server::{AuthorizationServer, Offloads};
use crate::issuer::clients::Clients;
use crate::issuer::issuer_keys::IssuerKeys;
use crate::issuer::offload::{self, Offload};
use crate::jose::signing::SigningKeyFault;
use crate::oauth::discrepancy::Discrepancy;
use crate::oauth::observer::Observer;
use crate::pipeline::answer::found_and_wanted::found_and_wanted;
use crate::pipeline::answer::response_fields::ResponseFields;
use crate::pipeline::decide::{DecideContext, DecidedRequest, decide};
use crate::pipeline::policy::load::LoadMonitor;
use crate::pipeline::record::open_request::OpenRequest;
use crate::pipeline::request::peer::Peer;
use crate::pipeline::routing::rate_limit::LimitRate;
use crate::pipeline::routing::snapshot::{OwnIssuer, SharedSnapshot, Snapshot, SnapshotParts};
use crate::pipeline::worker::Worker;
use crate::server::received_request::ReceivedHead;
use crate::trust::issuer::TrustedIssuer;
use crate::trust::published_revocations::PublishedRevocations;
use crate::trust::replay::Replay;
use crate::trust::revoker::Revoker;
use crate::trust::verify::Trust;
use crate::upstream::pin_limit::PinLimit;

pub(crate) struct Rehearsal {
    pub(crate) snapshot: SharedSnapshot,
    worker: Worker,
    signer: Signer,
    clients: Option<Arc<Clients>>,
    runtime: Runtime,
}

/// A rehearsal could not be prepared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RehearsalError {
    #[error("cannot make a key for the tokens of the callers")]
    Key(#[from] SigningKeyFault),
    #[error("cannot start a runtime")]
    Runtime(#[from] io::Error),
}

/// A request as it would arrive.
pub(crate) struct RehearsedRequest {
    pub(crate) head: ReceivedHead,
    pub(crate) peer: Rc<Peer>,
    pub(crate) has_body: bool,
}

/// The decision about a rehearsed request.
#[derive(Debug)]
pub(crate) struct RehearsedDecision {
    /// The route or endpoint that takes it. `None`: no rule does.
    pub(crate) rule: Option<String>,
    /// The refusal that its route only reports.
    pub(crate) would_deny: Option<Reason>,
    /// The values that it found and wanted.
    pub(crate) reported_values: Option<Discrepancy>,
    pub(crate) outcome: RehearsedOutcome,
}

#[derive(Debug)]
pub(crate) enum RehearsedOutcome {
    /// The gateway itself answers, for every caller alike.
    Answered(StatusCode),
    /// An endpoint of the gateway takes the request, and decides by its body.
    Endpoint,
    /// Let through: to the service, or to the fixed answer of the route.
    Permitted,
    Refused {
        reason: Reason,
        values: Option<Discrepancy>,
    },
}

/// A rehearsed request never meets an exceeded limit.
const UNLIMITED: LimitRate =
    LimitRate { amount: NonZeroU32::MAX, period: Duration::from_secs(1), burst: NonZeroU32::MAX, over_replicas: false };

impl Rehearsal {
    /// Not to be called by a task: it has a runtime of its own.
    pub(crate) fn new(config: &Config) -> Result<Self, RehearsalError> {
        Self::with(config, &KeptFacts::default())
    }

    /// A rehearsal that uses these facts of a real gateway.
    pub(crate) fn with(config: &Config, facts: &KeptFacts) -> Result<Self, RehearsalError> {
        let runtime = Builder::new_current_thread().enable_time().build()?;
        let signer = Signer::new(facts.algorithm)?;
        let mut issuers = Vec::new();
        let (mut own, mut clients) = (None, None);
        if let Some(oauth) = &config.oauth {
            issuers.push(signer.trusted(oauth.trust.clone(), false, facts)?);
            let known = oauth.clients.iter().chain(&facts.stored_client).cloned().collect();
            let known = Arc::new(Clients::new(known));
            let offloads = Offloads {
                signatures: offload(runtime.handle(), offload::SIGNATURES),
                passwords: offload(runtime.handle(), offload::PASSWORDS),
            };
            let keys = IssuerKeys::new(signer.ring(), oauth.ring.rules.max_age());
            let (settings, replay) = (oauth.server.clone(), Replay::without_keeper());
            let server = AuthorizationServer::new(settings, Arc::clone(&known), keys, offloads, replay);
            own = Some(OwnIssuer {
                server: Arc::new(server),
                token_limits: oauth.token_limits.clone(),
                client_limits: oauth.client_limits.clone(),
                revoker: Revoker::without_keeper(),
            });
            clients = Some(known);
        }
        for issuer in &config.issuers {
            issuers.push(signer.trusted(issuer.settings.clone(), issuer.source.introspected().is_some(), facts)?);
        }
        let snapshot = snapshot(config, facts, issuers, own);
        let published = Arc::new(ArcSwap::from_pointee(snapshot));
        let worker = {
            let _in_runtime = runtime.enter();
            worker(&published)
        };
        Ok(Self { snapshot: worker.current.get(), worker, signer, clients, runtime })
    }

    /// The result of a check beside the decision of a request.
    pub(crate) fn check<T>(&self, check: impl Future<Output = T>) -> T {
        self.runtime.block_on(check)
    }

    /// Decides a request as a gateway with this configuration would.
    pub(crate) fn decide(&self, request: RehearsedRequest, observer: &mut impl Observer) -> RehearsedDecision {
        let RehearsedRequest { mut head, peer, has_body } = request;
        let mut open = OpenRequest::begin(&self.worker.recorder, Rc::clone(&self.snapshot), &peer);
        let mut fields = ResponseFields::default();
        let context = DecideContext { current: &self.worker.current, snapshot: &self.snapshot, peer: &peer };
        let decided = self.runtime.block_on(decide(context, &mut open, &mut fields, &mut head, has_body, observer));
        let rule = open.log.matched.name(&self.snapshot).map(str::to_owned);
        let outcome = match decided {
            Ok(DecidedRequest::Answered(answer)) => RehearsedOutcome::Answered(answer.status()),
            Ok(DecidedRequest::BuiltIn(..)) => RehearsedOutcome::Endpoint,
            Ok(DecidedRequest::Permitted(_)) => RehearsedOutcome::Permitted,
            Err(rejection) => {
                RehearsedOutcome::Refused { reason: rejection.reason(), values: found_and_wanted(&rejection) }
            }
        };
        let reported_values = open.log.discrepancy.as_deref().cloned();
        RehearsedDecision { rule, would_deny: open.log.reported_reason(), reported_values, outcome }
    }
}

fn snapshot(
    config: &Config,
    facts: &KeptFacts,
    issuers: Vec<Arc<TrustedIssuer>>,
    oauth: Option<OwnIssuer>,
) -> Snapshot {
    let revocations = facts.revocations.clone();
    let revocations = revocations.unwrap_or_else(|| Arc::new(PublishedRevocations::of_rules(&config.revoked)));
    let parts = SnapshotParts {
        config: config.id.clone(),
        open_streams: config.reload.open_streams,
        limits: config.limits.clone(),
        audit: config.audit.rules,
        trusted_proxies: config.trusted_proxies.clone(),
        upstreams: config.upstreams.clone(),
        routes: config.routes.clone(),
        limit_rates: vec![UNLIMITED; config.limit_rates.len()],
        leases: None,
        store: None,
        trust: Trust::new(issuers, revocations).with_static_tokens(signer::static_tokens(&config.static_tokens, facts)),
        static_token_failures: config.static_token_failures.clone(),
        dpop: config.dpop,
        oauth,
        resources: config.resources.clone(),
        certificates: None,
    };
    Snapshot::new(parts, None)
}

/// A worker without an audit log: its requests leave no line.
fn worker(published: &Arc<ArcSwap<Snapshot>>) -> Worker {
    let rules = published.load().audit;
    let (lines, _) = sync_channel(1);
    let ledger = Ledger::new(LineSender::new(lines, Arc::new(Health::default())), rules, 0);
    let load = LoadMonitor::new(usize::MAX, Arc::default());
    Worker::new(Arc::clone(published), Rc::new(ledger), 1, load, Arc::new(PinLimit::default()))
}

fn offload(handle: &Handle, slots: usize) -> Offload {
    Offload::new(handle.clone(), slots)
}

#[cfg(test)]
mod tests;
