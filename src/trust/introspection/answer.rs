//! The answer of an introspection endpoint (RFC 7662 §2.2): whether a token is active, what it says of the token, and
//! how long that counts.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::NoAnswer;
use super::status::IntrospectionResult;
use crate::clock::UnixTime;
use crate::jose::claims::{Claims, ClaimsFault, json_type};
use crate::jose::strict_json;

#[derive(Debug)]
pub(crate) enum TokenAnswer {
    Active(ActiveToken),
    Inactive,
}

#[derive(Debug)]
pub(crate) struct ActiveToken {
    body: Box<[u8]>,
    /// The token has to be asked about again from this time on.
    pub(crate) until: Instant,
    /// The end of a token whose answer has no `exp`, in seconds since 1970.
    default_end: u64,
}

impl TokenAnswer {
    /// Reads the body of an answer, which was asked for at this time. An answer counts for `cache`, and never beyond the
    /// end of its token. A wrong `active` is no answer.
    pub(super) fn read(
        body: Vec<u8>,
        cache: Duration,
        now: UnixTime,
        instant: Instant,
    ) -> Result<Self, (IntrospectionResult, NoAnswer)> {
        let malformed = |found: String| (IntrospectionResult::Malformed, NoAnswer(found.into()));
        let members = strict_json::object(&body)
            .map_err(|fault| malformed(format!("an introspection answer with {}", fault.without_content())))?;
        match members.get("active") {
            Some(Value::Bool(false)) => return Ok(Self::Inactive),
            Some(Value::Bool(true)) => {}
            None => return Err(malformed("an introspection answer without `active`".to_owned())),
            Some(other) => {
                return Err(malformed(format!("an introspection answer whose `active` is {}", json_type(other))));
            }
        }
        let mut active =
            ActiveToken { body: body.into(), until: instant + cache, default_end: now.plus(cache).seconds() };
        // Claims that cannot be read refuse the token wherever it is used.
        if let Ok(claims) = active.claims() {
            let left = UnixTime::from_seconds(claims.expires_at).since(now);
            active.until = active.until.min(instant + left);
        }
        Ok(Self::Active(active))
    }

    pub(super) fn result(&self) -> IntrospectionResult {
        match self {
            Self::Active(_) => IntrospectionResult::Active,
            Self::Inactive => IntrospectionResult::Inactive,
        }
    }

    /// The size of its text.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Active(active) => active.body.len() as u64,
            Self::Inactive => 0,
        }
    }
}

impl ActiveToken {
    /// The members of the answer, read as the claims of a token.
    pub(crate) fn claims(&self) -> Result<Claims, ClaimsFault> {
        Claims::of_introspection(&self.body, self.default_end)
    }
}
