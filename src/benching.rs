//! Entry points of the microbenchmarks in `bench/`: each sets up one value and measures one call. Only benchmarks use
//! this.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use serde_json::json;

use crate::audit::record::{Decision, DecisionRecord, Described, RecordIdentity};
use crate::clock;
use crate::jose::algorithm::Algorithm;
use crate::jose::key_set::KeySet;
use crate::jose::signing::SigningKey;
use crate::oauth::caller::{Digest, IssuerName};
use crate::oauth::identity;
use crate::oauth::observer::Unobserved;
use crate::pipeline::routing::limit_store::LimitStore;
use crate::pipeline::routing::rate_limit::{LimitPlace, LimitRate, RateLimit};
use crate::trust::audiences::AcceptedAudiences;
use crate::trust::issuer::{IssuerSettings, Profile, TokenTypes, TrustedIssuer};
use crate::trust::key_cache::KeyCache;
use crate::trust::published_revocations::PublishedRevocations;
use crate::trust::request_key::RequestKey;
use crate::trust::revocation::Revocations;
use crate::trust::scope_claim::ScopeClaim;
use crate::trust::token_cache::{CachedToken, TokenCache};
use crate::trust::token_origin::TokenOrigin;
use crate::trust::verify::{Expectations, Trust, Verified};

const ISSUER: &str = "https://gateway.example.com";
const AUDIENCE: &str = "https://api.example.com";

/// A token, the issuer that signed it, and a cache that holds it.
#[derive(Debug)]
pub struct Verifying {
    token: String,
    trust: Trust,
    cache: TokenCache,
}

impl Verifying {
    /// `None` if the algorithm is unknown. The names are those of `issuers.NAME.algorithms`.
    pub fn new(algorithm: &str) -> Option<Self> {
        let algorithm = Algorithm::ALL.into_iter().find(|known| known.as_str() == algorithm)?;
        let (key, _) = SigningKey::generate(algorithm).ok()?;
        let now = clock::now().seconds();
        let claims = json!({
            "iss": ISSUER, "sub": "bench", "client_id": "bench", "aud": AUDIENCE, "scope": "read:data",
            "iat": now, "nbf": now, "exp": now + 3600, "jti": "G88LcumSlMhczm9WWO",
        });
        let token = key.sign("at+jwt", claims.to_string().as_bytes()).ok()?;
        let keys = KeySet::from_keys(vec![Arc::new(key.verifying_key().ok()?)]);
        let issuer =
            TrustedIssuer { settings: settings(algorithm)?, keys: Arc::new(KeyCache::own(keys)), introspection: None };
        let trust = Trust::new(vec![Arc::new(issuer)], Arc::new(PublishedRevocations::from(Revocations::default())));
        let mut verifying = Self { token, trust, cache: TokenCache::new() };
        let verified = Rc::new(verifying.verified()?);
        verifying.cache.insert(CachedToken::new(verifying.token.as_bytes(), verified));
        Some(verifying)
    }

    /// Verifies the token in full, signature included, as after a cache miss. True if it is valid.
    pub fn miss(&self) -> bool {
        self.verified().is_some()
    }

    /// Finds the token in the cache and revalidates it. True if it is valid.
    pub fn hit(&self) -> bool {
        let found = self.cache.get(self.token.as_bytes());
        let (now, instant) = (clock::now(), tokio::time::Instant::now());
        found.is_some_and(|known| known.verified.revalidate(Expectations::any_route(), now, instant).is_ok())
    }

    fn verified(&self) -> Option<Verified> {
        let mut observer = Unobserved;
        let verify = pin!(self.trust.verify(&self.token, Expectations::any_route(), clock::now(), &mut observer));
        // The gateway's own keys are in memory, so the future is ready at once.
        match verify.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(judged) => judged.ok(),
            Poll::Pending => None,
        }
    }
}

fn settings(algorithm: Algorithm) -> Option<IssuerSettings> {
    Some(IssuerSettings {
        name: IssuerName::own(),
        issuer: identity::Identity::parse(ISSUER).ok()?,
        origin: TokenOrigin::Issuer,
        token_field: None,
        subject_claims: vec!["sub".to_owned()],
        audiences: AcceptedAudiences::listed(vec![AUDIENCE.to_owned()]),
        algorithms: vec![algorithm],
        types: TokenTypes { named: vec!["at+jwt".to_owned()], absent: false },
        clock_skew: Duration::from_secs(30),
        scope_claim: ScopeClaim::Auto,
        allow_scopes: None,
        profile: Profile::Own,
    })
}

/// A rate limit with the given number of clients.
#[derive(Debug)]
pub struct Limiting {
    limit: RateLimit,
    store: LimitStore,
    clients: Vec<Digest>,
}

impl Limiting {
    /// Up to 100,000 clients.
    pub fn new(clients: u32) -> Self {
        let rate = LimitRate {
            amount: NonZeroU32::MAX,
            period: Duration::from_secs(1),
            burst: NonZeroU32::MAX,
            over_replicas: false,
        };
        let limit = RateLimit::new("bench".to_owned(), rate, RequestKey::Address, LimitPlace(0));
        let store = LimitStore::new(&[rate]);
        let clients: Vec<Digest> =
            (0..clients).map(|client| RequestKey::by_address(IpAddr::V4(Ipv4Addr::from_bits(client)))).collect();
        for client in &clients {
            store.count_in_process(&limit, *client);
        }
        Self { limit, store, clients }
    }

    /// Counts a request of one of the clients. True if it is allowed.
    pub fn count(&self, client: usize) -> bool {
        self.clients
            .get(client % self.clients.len().max(1))
            .is_some_and(|client| self.store.count_in_process(&self.limit, *client).allowed)
    }
}

/// Appends the line of an allowed request to the buffer. The caller's part is written beforehand, as for real requests.
pub fn audit_line(buffer: &mut Vec<u8>, caller: &[u8]) {
    DecisionRecord {
        time: clock::now(),
        decision: Decision::Allow,
        reason: None,
        would_deny: None,
        rule: None,
        found: None,
        wanted: None,
        ratelimit_mode: None,
        request_id: "01JD3Y8V5W7Z9K2M4N6P8Q0R1S",
        config: "97ee957e0216",
        client_address: "192.0.2.17",
        peer_address: None,
        method: Some("GET"),
        host: Some("api.example.com"),
        path: Some("/data/items/42"),
        route: Some("data"),
        upstream: None,
        status: Some(200),
        duration: Duration::from_micros(1234),
        identity: RecordIdentity::Written(caller),
    }
    .write(buffer);
}

/// The caller's part of an audit line.
pub fn audit_caller() -> Box<[u8]> {
    Described {
        verified: true,
        issuer: Some("self"),
        client: Some("bench"),
        subject: Some("bench"),
        scope: Some("read:data"),
        token_id: Some("G88LcumSlMhczm9WWO"),
        key_id: Some("G88Lc-umSlMhczm9WWO-OptDhefnS7IG4qgIhz7pf_Q"),
        ..Described::default()
    }
    .written()
}
