//! `static_tokens`: hand-made tokens that count until a date, and warnings about their ends.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use http::HeaderName;

use super::super::decode::Named;
use super::super::lint::Lint;
use super::super::raw::oauth::Secret;
use super::super::raw::static_token::RawStaticToken;
use super::super::source::{At, Span};
use super::Resolver;
use super::secrets::{WARN_BEFORE, remaining};
use crate::clock::UnixTime;
use crate::oauth::identity::Identity;
use crate::pipeline::routing::rate_limit::{LimitRate, RateLimit};
use crate::trust::request_key::RequestKey;
use crate::trust::static_tokens::{StaticTokenSettings, TokenHash};

/// A longer time is reported: the token is there to be replaced.
const LONG: Duration = Duration::from_secs(366 * 24 * 3600);

/// Of values from one address that are no static tokens.
const FAILURE_RATE: LimitRate = {
    let Some(ten) = NonZeroU32::new(10) else { unreachable!() };
    LimitRate { amount: ten, period: Duration::from_secs(60), burst: ten, over_replicas: false }
};

/// The name of the limit in logs. No name in the configuration begins so.
const FAILURE_LIMIT: &str = "(static-token-failures)";

/// A field of the `x-auth-` group, which is for the gateway, that hand-made tokens often have. It is never forwarded.
const X_AUTH_TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

impl Resolver<'_> {
    /// The tokens, and the limit of failures where there are some. To be called after the issuers, and before the routes:
    /// the fields of both are for tokens.
    pub(super) fn static_tokens(
        &mut self,
        raw: Named<RawStaticToken>,
    ) -> (Vec<StaticTokenSettings>, Option<RateLimit>) {
        let has_tokens = !raw.entries.is_empty();
        let of_issuers = self.token_fields.clone();
        let (mut tokens, mut hashes): (Vec<StaticTokenSettings>, HashMap<TokenHash, Span>) = Default::default();
        for (name, token) in raw.entries {
            let id = self.static_token_name(&name);
            let Ok(At { value: token, .. }) = token else { continue };
            let field = token.header.as_ref().and_then(|header| self.static_token_field(header, &of_issuers));
            let scopes = token.scopes.map(|list| self.scopes(&list.value));
            let hash = token.hash.ok().and_then(|hash| Some((self.static_token_hash(&hash)?, hash.span)));
            if let Some((hash, span)) = hash
                && let Some(first) = hashes.insert(hash, span)
            {
                let line = self.source.line(first);
                self.faults.at(span, format!("the static token at line {line} has the same value: give each its own"));
            }
            if let Ok(until) = &token.until {
                self.warn_of_end(&name, until);
            }
            if let (Some(name), Some((hash, _)), Ok(scopes), Ok(until)) = (id, hash, scopes, token.until) {
                tokens.push(StaticTokenSettings { name, hash, scopes, until: until.value, field });
            }
        }
        let failures = has_tokens.then(|| self.rate_limit(FAILURE_LIMIT.to_owned(), FAILURE_RATE, RequestKey::Address));
        (tokens, failures)
    }

    fn static_token_name(&mut self, name: &At<String>) -> Option<Identity> {
        let is_legal = !name.value.contains(['/', '"', '\\']);
        let id = Some(&name.value).filter(|_| is_legal).and_then(|text| Identity::parse(text).ok());
        if id.is_none() {
            self.faults.at(name.span, "expected a name without `/`, quotes and control characters");
        }
        id
    }

    /// `None` if it is `Authorization`, or there is a fault.
    fn static_token_field(&mut self, name: &At<String>, of_issuers: &[HeaderName]) -> Option<HeaderName> {
        if name.value.eq_ignore_ascii_case(X_AUTH_TOKEN.as_str()) {
            if !self.token_fields.contains(&X_AUTH_TOKEN) {
                self.token_fields.push(X_AUTH_TOKEN);
            }
            return Some(X_AUTH_TOKEN);
        }
        let field = self.token_field(name)?;
        if of_issuers.contains(&field) {
            let quoted = self.quoted(name);
            let message = format!("the header{quoted} is the `token_header` of an issuer: static tokens need another");
            self.faults.at(name.span, message);
        }
        Some(field)
    }

    fn static_token_hash(&mut self, hash: &At<Secret>) -> Option<TokenHash> {
        // Only a command that does not need secrets gets one without its text.
        if hash.value.is_absent() && !self.needs.is_everything() {
            return None;
        }
        let parsed = TokenHash::parse(hash.value.expose());
        if parsed.is_none() {
            let message = "expected `sha256:` and 43 characters of unpadded base64url: `portcullis client hash \
                           --static-token` makes it of a token";
            self.faults.at(hash.span, message);
        }
        parsed
    }

    fn warn_of_end(&mut self, name: &At<String>, until: &At<UnixTime>) {
        let name = self.source.quote_key(name.span).unwrap_or_else(|| "this static token".to_owned());
        let (end, left) = (until.value.to_the_second(), until.value.since(self.now));
        if until.value <= self.now {
            self.warn(
                Lint::EndingStaticToken,
                until.span,
                format!("static token {name} ended at {end}, and gets 401 since: remove it"),
            );
        } else if left < WARN_BEFORE {
            let left = remaining(left);
            self.warn(
                Lint::EndingStaticToken,
                until.span,
                format!("static token {name} ends at {end}, in {left}: its callers get 401 then"),
            );
        } else if left > LONG {
            let left = remaining(left);
            let message = format!(
                "static token {name} counts until {end}, for {left}: it is meant to be replaced, so choose a date \
                 within a year"
            );
            self.warn(Lint::LastingStaticToken, until.span, message);
        }
    }
}
