//! Asks an issuer about its tokens (RFC 7662), and keeps the answers for a short time, for all workers.
//!
//! Takes a token; gives the answer about it, or the reason why there is none now. A token is asked about once at a time,
//! however many requests bring it, and the request goes on if they disconnect. Answers are known by the SHA-256 digest
//! of the token, and counts and logs never have a token. Whether an active token is accepted is decided in
//! [`super::verify`].

pub(crate) mod answer;
pub(crate) mod places;
mod request;
pub(crate) mod status;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use foldhash::HashMap;
use foldhash::quality::RandomState;
use quick_cache::Weighter;
use quick_cache::unsync::Cache;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use super::fetch::TOTAL_TIMEOUT;
use super::key_source::{IntrospectionEndpoint, KeySource};
use crate::clock;
use crate::oauth::caller::IssuerName;
use answer::TokenAnswer;
use places::{Asker, MAX_ASKED, QuestionPlaces};
use request::{CurrentFetcher, request_answer};
use status::{IntrospectionResult, IntrospectionStatus};

/// The introspection endpoint of one issuer, with the answers that still count.
pub(crate) struct Introspection {
    issuer: IssuerName,
    /// With the runtime of the requests to it. `None`: nothing is asked, because a command only rehearses.
    endpoint: Option<(IntrospectionEndpoint, Handle)>,
    tokens: Mutex<KnownTokens>,
    /// A permit for each request to the endpoint.
    requests: Semaphore,
    fetcher: CurrentFetcher,
    status: Mutex<IntrospectionStatus>,
}

/// No answer: the token may be good, so its request is answered 503. The text is for the operator.
#[derive(Clone, Debug)]
pub(crate) struct NoAnswer(pub(crate) Arc<str>);

type Outcome = Result<Arc<TokenAnswer>, NoAnswer>;

/// The SHA-256 digest of a token.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct TokenDigest([u8; 32]);

struct KnownTokens {
    answers: Cache<TokenDigest, Arc<KeptAnswer>, AnswerWeight, RandomState>,
    /// The tokens that are being asked about.
    asking: HashMap<TokenDigest, watch::Receiver<Option<Outcome>>>,
    places: QuestionPlaces,
}

struct KeptAnswer {
    answer: Arc<TokenAnswer>,
    until: Instant,
}

/// Requests to the endpoint at the same time. Further ones wait for their turn.
const MAX_REQUESTS: usize = 64;
/// How long an answer counts that a token is not active: it may become active.
const INACTIVE_FOR: Duration = Duration::from_secs(5);
/// The capacity for answers.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
const MAX_ANSWERS: u64 = 16_384;
/// An estimate, for the initial size of the tables.
const EXPECTED_ANSWERS: usize = 64;

impl Introspection {
    pub(crate) fn new(issuer: IssuerName, endpoint: IntrospectionEndpoint, runtime: Handle) -> Self {
        Self::with(issuer, Some((endpoint, runtime)))
    }

    /// `None` if the issuer has keys.
    pub(crate) fn of(issuer: &IssuerName, source: &KeySource, runtime: &Handle) -> Option<Arc<Self>> {
        Some(Arc::new(Self::new(issuer.clone(), source.introspected()?.clone(), runtime.clone())))
    }

    /// Asks nothing, and so knows of no token whether it is active.
    pub(crate) fn offline(issuer: IssuerName) -> Self {
        Self::with(issuer, None)
    }

    fn with(issuer: IssuerName, endpoint: Option<(IntrospectionEndpoint, Handle)>) -> Self {
        let answers =
            Cache::with(EXPECTED_ANSWERS, MAX_BYTES, AnswerWeight, RandomState::default(), Default::default());
        Self {
            issuer,
            endpoint,
            tokens: Mutex::new(KnownTokens { answers, asking: HashMap::default(), places: QuestionPlaces::default() }),
            requests: Semaphore::new(MAX_REQUESTS),
            fetcher: CurrentFetcher::default(),
            status: Mutex::default(),
        }
    }

    /// True if there is an answer about this token that still counts.
    pub(crate) fn knows(&self, token: &str) -> bool {
        self.tokens().current(&TokenDigest::of(token), Instant::now()).is_some()
    }

    /// True if the last answer about this token was that it is active, even if that does not count any more.
    pub(crate) fn was_active(&self, token: &str) -> bool {
        let tokens = self.tokens();
        let last = tokens.answers.get(&TokenDigest::of(token));
        last.is_some_and(|kept| matches!(*kept.answer, TokenAnswer::Active(_)))
    }

    /// Whether there is a place for a question about this token, or none is needed.
    pub(crate) fn has_place(&self, token: &str, asker: Asker) -> bool {
        let tokens = self.tokens();
        tokens.places.has_one(asker) || tokens.asking.contains_key(&TokenDigest::of(token))
    }

    /// The answer about this token. Waits for it at most [`TOTAL_TIMEOUT`]. Without an `asker`, it is the gateway's own
    /// question.
    pub(crate) async fn ask(self: &Arc<Self>, token: &str, asker: Option<Asker>) -> Outcome {
        let started = Instant::now();
        let Some((endpoint, runtime)) = &self.endpoint else {
            return Err(NoAnswer("no answer, because this command asks no introspection endpoint".into()));
        };
        let mut asked = {
            let (mut tokens, hash) = (self.tokens(), TokenDigest::of(token));
            if let Some(answer) = tokens.current(&hash, started) {
                return Ok(answer);
            }
            match tokens.asking.get(&hash) {
                Some(asked) => asked.clone(),
                None if tokens.asking.len() >= MAX_ASKED => {
                    drop(tokens);
                    self.status().count(IntrospectionResult::Busy);
                    return Err(NoAnswer(format!("{MAX_ASKED} other tokens that are being asked about").into()));
                }
                None if asker.is_some_and(|asker| !tokens.places.has_one(asker)) => {
                    return Err(NoAnswer("other tokens of the same address that are being asked about".into()));
                }
                None => {
                    let (sender, asked) = watch::channel(None);
                    tokens.asking.insert(hash, asked.clone());
                    asker.iter().for_each(|asker| tokens.places.take(*asker));
                    let question = Question { of: Arc::clone(self), hash, asker };
                    // The caller may disconnect: other requests wait for the same answer.
                    runtime.spawn(question.ask(endpoint.clone(), token.to_owned(), sender, started + TOTAL_TIMEOUT));
                    asked
                }
            }
        };
        let answered = timeout_at(started + TOTAL_TIMEOUT, asked.wait_for(Option::is_some)).await;
        let answered = answered.ok().and_then(|answered| answered.ok()?.clone());
        answered.unwrap_or_else(|| Err(NoAnswer("no answer of the introspection endpoint in time".into())))
    }

    /// Asks about a token that does not exist.
    pub(crate) async fn probe(self: &Arc<Self>) -> Result<(), NoAnswer> {
        // Random enough that no server has issued it.
        let made_up = format!("portcullis-probe-{:032x}", fastrand::u128(..));
        match &*self.ask(&made_up, None).await? {
            TokenAnswer::Inactive => Ok(()),
            TokenAnswer::Active(_) => Err(NoAnswer("`active: true` for a token that does not exist".into())),
        }
    }

    /// For reports.
    pub(crate) fn with_status<T>(&self, read: impl FnOnce(&IntrospectionStatus) -> T) -> T {
        read(&self.status())
    }

    fn status(&self) -> MutexGuard<'_, IntrospectionStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tokens(&self) -> MutexGuard<'_, KnownTokens> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, result: IntrospectionResult, error: Option<&NoAnswer>) {
        let name = self.issuer.as_str();
        let changed = self.status().record(result, error.map(|NoAnswer(text)| &**text), Instant::now());
        match error {
            Some(NoAnswer(error)) if changed => {
                warn!(issuer.name = name, %error, "the introspection endpoint gives no usable answer: requests with tokens that it has to be asked about get 503");
            }
            None if changed => info!(issuer.name = name, "the introspection endpoint answers again"),
            Some(_) | None => {}
        }
    }
}

/// A token that is being asked about. Dropped, it is no longer asked about.
struct Question {
    of: Arc<Introspection>,
    hash: TokenDigest,
    asker: Option<Asker>,
}

impl Question {
    async fn ask(
        self,
        endpoint: IntrospectionEndpoint,
        token: String,
        sender: watch::Sender<Option<Outcome>>,
        deadline: Instant,
    ) {
        let outcome = self.answer(&endpoint, &token, deadline).await;
        if let Ok(answer) = &outcome {
            let until = match &**answer {
                TokenAnswer::Active(active) => active.until,
                TokenAnswer::Inactive => Instant::now() + endpoint.cache.min(INACTIVE_FOR),
            };
            let kept = KeptAnswer { answer: Arc::clone(answer), until };
            self.of.tokens().answers.insert(self.hash, Arc::new(kept));
        }
        // After the answer is kept, so that no request asks once more.
        drop(self);
        sender.send_replace(Some(outcome));
    }

    async fn answer(&self, endpoint: &IntrospectionEndpoint, token: &str, deadline: Instant) -> Outcome {
        let Ok(Ok(_permit)) = timeout_at(deadline, self.of.requests.acquire()).await else {
            let error =
                NoAnswer(format!("{MAX_REQUESTS} requests to the introspection endpoint that do not end").into());
            self.of.record(IntrospectionResult::Busy, Some(&error));
            return Err(error);
        };
        // An answer counts from the time before it is asked for.
        let (now, instant) = (clock::now(), Instant::now());
        let asked = request_answer(&self.of.fetcher, endpoint, token, deadline).await;
        let read = asked.and_then(|body| TokenAnswer::read(body, endpoint.cache, now, instant));
        match read {
            Ok(answer) => {
                self.of.record(answer.result(), None);
                Ok(Arc::new(answer))
            }
            Err((result, error)) => {
                self.of.record(result, Some(&error));
                Err(error)
            }
        }
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        let mut tokens = self.of.tokens();
        tokens.asking.remove(&self.hash);
        self.asker.iter().for_each(|asker| tokens.places.release(*asker));
    }
}

impl TokenDigest {
    fn of(token: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        Self(bytes)
    }
}

impl KnownTokens {
    fn current(&self, hash: &TokenDigest, now: Instant) -> Option<Arc<TokenAnswer>> {
        let kept = self.answers.get(hash).filter(|kept| now < kept.until)?;
        Some(Arc::clone(&kept.answer))
    }
}

#[derive(Clone)]
struct AnswerWeight;

impl Weighter<TokenDigest, Arc<KeptAnswer>> for AnswerWeight {
    fn weight(&self, _: &TokenDigest, kept: &Arc<KeptAnswer>) -> u64 {
        (kept.answer.bytes() + FIXED_WEIGHT).max(MAX_BYTES / MAX_ANSWERS)
    }
}

/// Of an answer without its text.
const FIXED_WEIGHT: u64 = 256;

impl std::fmt::Debug for Introspection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Introspection").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
