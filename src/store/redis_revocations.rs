//! The revocations of all replicas: entries with sequence numbers, without duplicates, until they expire.
//!
//! A replica reads the entries after the last number that it knows. An entry has digests only.

use std::sync::LazyLock;

use redis::Script;

use super::redis_store::{RedisStore, StoreUnavailable};
use crate::oauth::caller::Digest;

/// One revocation, by the digest of its rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SharedRevocation {
    pub(crate) digest: Digest,
    /// Whether it is about one token.
    pub(crate) is_token: bool,
    /// Seconds since 1970, like `expires_at`.
    pub(crate) issued_before: Option<u64>,
    pub(crate) expires_at: u64,
    /// A part of the digest of the client that revoked its own token.
    pub(crate) by: Option<u64>,
}

/// A query to the store.
#[derive(Debug, Default)]
pub(crate) struct RevocationQuery {
    pub(crate) epoch: String,
    /// The last sequence number that is known.
    pub(crate) after: u64,
    pub(crate) add: Vec<SharedRevocation>,
    /// Marks the revocations of this epoch as complete.
    pub(crate) are_complete: bool,
}

#[derive(Debug)]
pub(crate) struct RevocationAnswer {
    pub(crate) are_complete: bool,
    /// The last sequence number that the store has given.
    pub(crate) last: u64,
    pub(crate) found: Vec<SharedRevocation>,
    /// `found` has all entries up to this sequence number.
    pub(crate) up_to: u64,
    /// The indices in `add` of the entries for which there was no room.
    pub(crate) refused: Vec<usize>,
}

/// The most entries of an answer, and of a query. A script occupies the store for about a millisecond with them.
pub(crate) const PAGE: usize = 250;

static REVOCATIONS: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("revocations.lua")));

type RawAnswer = (u8, u8, u64, Vec<(String, u64)>, Vec<usize>);

impl RedisStore {
    /// Adds and reads revocations, up to these numbers of entries of single tokens and of all entries. `None` if the
    /// store has another epoch.
    pub(crate) async fn exchange_revocations(
        &self,
        query: &RevocationQuery,
        (most_tokens, most): (usize, usize),
    ) -> Result<Option<RevocationAnswer>, StoreUnavailable> {
        let names = ["revocations", "revocations:ends", "revocations:last", "revocations:complete", "epoch"];
        let keys = names.map(|name| self.key(name)).to_vec();
        let numbers = [query.after.to_string(), PAGE.to_string(), most_tokens.to_string(), most.to_string()];
        let mut arguments = vec![query.epoch.clone()];
        arguments.extend(numbers);
        arguments.push(flag(query.are_complete).to_owned());
        for entry in &query.add {
            arguments.extend([entry.to_text(), entry.expires_at.to_string(), flag(entry.is_token).to_owned()]);
        }
        let answer: RawAnswer = self.invoke(&REVOCATIONS, keys, arguments).await?;
        let (1, complete, last, found, refused) = answer else {
            self.look_again();
            return Ok(None);
        };
        let is_all = found.len() < PAGE;
        let up_to = found.last().filter(|_| !is_all).map_or(last, |(_, number)| *number);
        // An entry that cannot be parsed comes from a later version.
        let found = found.iter().filter_map(|(text, _)| SharedRevocation::parse(text)).collect();
        Ok(Some(RevocationAnswer { are_complete: complete == 1, last, found, up_to, refused }))
    }
}

fn flag(is_set: bool) -> &'static str {
    if is_set { "1" } else { "0" }
}

impl SharedRevocation {
    /// Equal for equal entries.
    fn to_text(self) -> String {
        let Self { digest, is_token, issued_before, expires_at, by } = self;
        let before = issued_before.map_or("-".to_owned(), |time| time.to_string());
        let by = by.map_or("-".to_owned(), |by| format!("{by:016x}"));
        format!("{:032x} {} {before} {expires_at} {by}", digest.0, flag(is_token))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        let mut next = || parts.next();
        let digest = Digest(u128::from_str_radix(next()?, 16).ok()?);
        let is_token = next()? == "1";
        let issued_before = match next()? {
            "-" => None,
            time => Some(time.parse().ok()?),
        };
        let expires_at = next()?.parse().ok()?;
        let by = match next()? {
            "-" => None,
            by => Some(u64::from_str_radix(by, 16).ok()?),
        };
        parts.next().is_none().then_some(Self { digest, is_token, issued_before, expires_at, by })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_as_they_are_written() {
        let one =
            SharedRevocation { digest: Digest(7), is_token: true, issued_before: None, expires_at: 9, by: Some(3) };
        let other =
            SharedRevocation { issued_before: Some(5), by: None, is_token: false, digest: Digest(u128::MAX), ..one };
        for entry in [one, other] {
            assert_eq!(SharedRevocation::parse(&entry.to_text()), Some(entry));
        }
        for text in ["", "zz 1 - 9 -", "07 1 - 9", "07 1 x 9 -", "07 1 - 9 - -"] {
            assert_eq!(SharedRevocation::parse(text), None, "{text}");
        }
    }
}
