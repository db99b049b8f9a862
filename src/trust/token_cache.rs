//! A cache of validated tokens, one for each worker, so that a signature is verified once and not at every request.
//!
//! The key is the whole token. The cache is bounded by bytes and by entries. A flood of new tokens does not evict the
//! tokens of regular callers: entries that were not used twice are evicted first. A hit is not sufficient:
//! [`Verified::revalidate`] checks time, route and keys again. [`TokenCache::remove_some`] removes entries of issuers
//! that are configured no more.

use std::borrow::Borrow;
use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::rc::{Rc, Weak};

use foldhash::quality::RandomState;
use quick_cache::Weighter;
use quick_cache::unsync::Cache;
use serde_json::{Map, Value};

use super::verify::Verified;

/// One worker's cache.
pub(crate) struct TokenCache {
    entries: Cache<TokenText, CacheEntry, Weight, RandomState>,
}

struct CacheEntry {
    known: CachedToken,
    weight: u64,
}

/// A token and its verified content.
#[derive(Clone, Debug)]
pub(crate) struct CachedToken {
    pub(crate) token: TokenText,
    pub(crate) verified: Rc<Verified>,
}

/// The token of a connection's last request, as long as it is in the cache. Connections outnumber the entries of the
/// cache by far: what they refer to is freed when it is evicted.
#[derive(Clone, Debug)]
pub(crate) struct LastToken {
    token: Weak<Box<[u8]>>,
    verified: Weak<Verified>,
}

/// Boxed once more, so that a [`LastToken`] does not keep the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenText(Rc<Box<[u8]>>);

impl CachedToken {
    pub(crate) fn new(token: &[u8], verified: Rc<Verified>) -> Self {
        Self { token: TokenText(Rc::new(token.into())), verified }
    }

    pub(crate) fn downgrade(&self) -> LastToken {
        LastToken { token: Rc::downgrade(&self.token.0), verified: Rc::downgrade(&self.verified) }
    }
}

impl LastToken {
    /// The verified content, if this is the token and the cache still has it.
    pub(crate) fn verified(&self, token: &[u8]) -> Option<Rc<Verified>> {
        self.token.upgrade().filter(|last| ***last == *token)?;
        self.verified.upgrade()
    }
}

impl Borrow<[u8]> for TokenText {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// The hash of its text, because it is looked up by its text.
impl Hash for TokenText {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self.0).hash(state);
    }
}

/// The capacity of one worker's cache, tokens and claims together.
const MAX_BYTES: u64 = 32 * 1024 * 1024;
/// The maximum number of entries. Each entry has at least the weight `MAX_BYTES / MAX_TOKENS`.
const MAX_TOKENS: u64 = 16_384;
/// An estimate, for the initial size of the tables.
const EXPECTED_TOKENS: usize = 8192;

impl TokenCache {
    pub(crate) fn new() -> Self {
        Self { entries: Cache::with(EXPECTED_TOKENS, MAX_BYTES, Weight, RandomState::default(), Default::default()) }
    }

    pub(crate) fn get(&self, token: &[u8]) -> Option<&CachedToken> {
        self.entries.get(token).map(|entry| &entry.known)
    }

    pub(crate) fn insert(&mut self, known: CachedToken) {
        let of_proof = if known.verified.confirmation().key.is_some() { PROOF_WEIGHT } else { 0 };
        let weight = weight(known.token.0.len(), known.verified.claims()) + of_proof;
        let weight = weight.max(MAX_BYTES / MAX_TOKENS);
        self.entries.insert(known.token.clone(), CacheEntry { known, weight });
    }

    pub(crate) fn remove(&mut self, token: &[u8]) {
        self.entries.remove(token);
    }

    /// Removes up to `at_most` of these entries. Gives the number of those that it removed.
    pub(crate) fn remove_some(&mut self, at_most: usize, is_removed: impl Fn(&Verified) -> bool) -> usize {
        let removed = Cell::new(0);
        self.entries.retain(|_, entry| {
            let goes = removed.get() < at_most && is_removed(&entry.known.verified);
            removed.set(removed.get() + usize::from(goes));
            !goes
        });
        removed.get()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Total weight of the entries.
    pub(crate) fn bytes(&self) -> u64 {
        self.entries.weight()
    }
}

impl std::fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenCache").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[derive(Clone)]
struct Weight;

impl Weighter<TokenText, CacheEntry> for Weight {
    fn weight(&self, _: &TokenText, entry: &CacheEntry) -> u64 {
        entry.weight
    }
}

/// Of any token: its claims' tables, its part of audit lines and its header fields for upstreams.
const FIXED_WEIGHT: u64 = 1536;

/// Of a token that is bound to a key: what is known of its last proof.
const PROOF_WEIGHT: u64 = 3072;

/// A token contains its claims once, in base64. Parsed claims take about three times that size, plus a fixed part.
/// Claims with many small objects take more, see [`build_weight`].
fn weight(token: usize, claims: Option<&Map<String, Value>>) -> u64 {
    let of_claims = |claims| map_weight(claims) + claims.values().map(build_weight).sum::<u64>();
    let build = claims.map_or(0, of_claims);
    4 * token as u64 + FIXED_WEIGHT + build.saturating_sub(USUAL_BUILD)
}

/// The size of lists and objects without their text. The parser bounds their depth.
fn build_weight(value: &Value) -> u64 {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
        Value::Array(items) => {
            (items.capacity() * size_of::<Value>()) as u64 + items.iter().map(build_weight).sum::<u64>()
        }
        Value::Object(members) => map_weight(members) + members.values().map(build_weight).sum::<u64>(),
    }
}

/// A node of the tree has room for 11 members. At least half of them are used.
fn map_weight(members: &Map<String, Value>) -> u64 {
    let node = 11 * (size_of::<String>() + size_of::<Value>()) + 128;
    (members.len().div_ceil(5) * node) as u64
}

/// About fifteen claims and one or two lists of scopes.
const USUAL_BUILD: u64 = 3 * 1024;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::super::example::settings;
    use super::super::issuer::TrustedIssuer;
    use super::super::key_cache::KeyCache;
    use super::super::verify::{Proof, TokenEvidence, VerifiedToken};
    use super::*;
    use crate::jose::algorithm::Algorithm;
    use crate::jose::claims::Claims;
    use crate::jose::signing::SigningKey;
    use crate::oauth::caller::{Caller, IssuerName};
    use crate::oauth::identity::Identity;
    use crate::oauth::scope::ScopeSet;

    fn verified(more: &Value) -> Rc<Verified> {
        let mut claims = json!({"iss": "i", "sub": "s", "aud": "a", "exp": 2_000_000_000});
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let key = SigningKey::generate(Algorithm::EdDsa).unwrap().0.verifying_key().unwrap();
        let name = Identity::parse("i").unwrap();
        let caller = Caller::new(IssuerName::new("i"), &name, None, Some(name.clone()), ScopeSet::default()).unwrap();
        let token = VerifiedToken {
            claims: Claims::parse(claims.to_string().as_bytes()).unwrap(),
            evidence: TokenEvidence::Signature(Arc::new(key)),
            issuer: Arc::new(TrustedIssuer {
                settings: settings(),
                keys: Arc::new(KeyCache::remote()),
                introspection: None,
            }),
            revocations: Arc::default(),
            passed: Cell::new(0),
            client_entry: Cell::new(None),
            stored_client: Default::default(),
            known_proof: Default::default(),
        };
        Rc::new(Verified::new(caller, Proof::Token(token)))
    }

    fn known(token: &[u8], verified: &Rc<Verified>) -> CachedToken {
        CachedToken::new(token, Rc::clone(verified))
    }

    /// As long as one of the gateway's own RS256 tokens.
    fn token(kind: u8, number: usize) -> Vec<u8> {
        let mut token = vec![kind; 750];
        token[..8].copy_from_slice(&number.to_le_bytes());
        token
    }

    /// The hit ratio of the regular tokens, if `between` new tokens arrive after each use.
    fn regulars_hit_ratio(uses: usize, between: usize, new_are_used: usize) -> f64 {
        const REGULARS: usize = 2000;
        let verified = verified(&json!({}));
        let mut cache = TokenCache::new();
        let mut ask = |token: Vec<u8>| {
            let hit = cache.get(&token).is_some();
            if !hit {
                cache.insert(known(&token, &verified));
            }
            hit
        };
        // The regular tokens are already in the cache.
        for use_ in 0..2 * REGULARS {
            ask(token(b'r', use_ % REGULARS));
        }
        let (mut hits, mut passed) = (0, 0);
        for use_ in 0..uses {
            hits += usize::from(ask(token(b'r', use_ % REGULARS)));
            for _ in 0..between {
                for _ in 0..new_are_used {
                    ask(token(b'n', passed));
                }
                passed += 1;
            }
        }
        assert!(passed >= 100_000);
        hits as f64 / uses as f64
    }

    #[test]
    fn a_flood_of_new_tokens_does_not_push_out_regular_callers() {
        for (uses, between) in [(100_000, 1), (10_000, 10), (2000, 50)] {
            let ratio = regulars_hit_ratio(uses, between, 1);
            assert!(ratio >= 0.9, "{between} new tokens for each use: {ratio}");
        }
    }

    #[test]
    fn nor_do_new_tokens_that_are_used_several_times() {
        let ratio = regulars_hit_ratio(100_000, 1, 3);
        assert!(ratio >= 0.9, "{ratio}");
    }

    #[test]
    fn the_cache_is_bounded_by_bytes_and_by_number() {
        for (length, most) in [(16, MAX_TOKENS), (750, MAX_TOKENS), (8192, MAX_BYTES / (4 * 8192))] {
            let verified = verified(&json!({}));
            let mut cache = TokenCache::new();
            for number in 0..20_000 {
                let mut token = vec![0; length];
                token[..8].copy_from_slice(&u64::to_le_bytes(number));
                cache.insert(known(&token, &verified));
            }
            assert!(cache.len() as u64 <= most && cache.len() > 500, "{length}: {}", cache.len());
            assert!(cache.bytes() <= MAX_BYTES && cache.bytes() > MAX_BYTES / 2, "{length}: {}", cache.bytes());
        }
    }

    #[test]
    fn claims_of_an_unusual_shape_are_weighed_by_their_size() {
        let usual = verified(
            &json!({"scope": ["a", "b"], "client_id": "c", "iat": 1, "nbf": 1, "jti": "j", "realm": {"roles": ["x"]}}),
        );
        assert_eq!(weight(750, usual.claims()), 4 * 750 + FIXED_WEIGHT);
        let objects: Vec<Value> = (0..250).map(|_| json!({"": 0})).collect();
        let numbers: Vec<u8> = vec![0; 3000];
        assert!(weight(8192, verified(&json!({"x": objects})).claims()) > 170_000);
        assert!(weight(8192, verified(&json!({"x": numbers})).claims()) > 96_000 + 32_768);
    }

    #[test]
    fn a_token_is_removed_on_request_and_with_its_issuer() {
        let (mine, other) = (verified(&json!({})), verified(&json!({})));
        let mut cache = TokenCache::new();
        cache.insert(known(b"a", &mine));
        cache.insert(known(b"b", &other));
        cache.insert(known(b"c", &other));
        let is_other =
            |verified: &Verified| Arc::ptr_eq(&verified.token().unwrap().issuer, &other.token().unwrap().issuer);
        assert_eq!([1, 2].map(|at_most| cache.remove_some(at_most, is_other)), [1, 1], "some at a time");
        assert!(cache.get(b"a").is_some() && cache.get(b"b").is_none() && cache.get(b"c").is_none());
        cache.remove(b"a");
        assert_eq!((cache.len(), cache.bytes()), (0, 0));
    }

    #[test]
    fn a_connection_keeps_no_token_that_the_cache_has_evicted() {
        let mut cache = TokenCache::new();
        let last = {
            let known = known(b"a", &verified(&json!({})));
            cache.insert(known.clone());
            known.downgrade()
        };
        assert!(last.verified(b"a").is_some() && last.verified(b"b").is_none());
        cache.remove(b"a");
        assert!(last.verified(b"a").is_none());
    }
}
