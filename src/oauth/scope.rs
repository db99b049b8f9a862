//! Scopes and sets of scopes.
//!
//! Takes strings from configuration, tokens and token requests. Gives validated scopes. Scopes compare as whole tokens,
//! case-sensitively. There are no wildcards and no hierarchy.

use std::fmt;
use std::sync::Arc;

/// A scope token: printable ASCII except space, `"` and `\` (RFC 6749 §3.3).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Scope(Arc<str>);

/// A set of scopes, sorted, without duplicates, of at most [`MAX_SCOPES`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ScopeSet(Arc<[Scope]>);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidScope {
    #[error("a scope is one or more printable ASCII characters without space, `\"` or `\\`")]
    Character,
    #[error("at most {MAX_SCOPES} scopes of {MAX_BYTES} bytes together")]
    TooMany,
}

/// A token or request with more scopes is refused.
pub(crate) const MAX_SCOPES: usize = 128;
pub(crate) const MAX_BYTES: usize = 4096;

impl Scope {
    pub(crate) fn parse(raw: &str) -> Result<Self, InvalidScope> {
        if Self::is_legal(raw) { Ok(Self(raw.into())) } else { Err(InvalidScope::Character) }
    }

    pub(crate) fn is_legal(raw: &str) -> bool {
        !raw.is_empty() && raw.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5B | 0x5D..=0x7E))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl ScopeSet {
    /// Reads a `scope` parameter: tokens separated by single spaces (RFC 6749 §3.3).
    pub(crate) fn parse(raw: &str) -> Result<Self, InvalidScope> {
        Self::collect(raw.len(), raw.split(' '))
    }

    /// Reads a list of scopes. Some issuers send a list instead of a string.
    pub(crate) fn from_list<'a>(list: impl Iterator<Item = &'a str> + Clone) -> Result<Self, InvalidScope> {
        let bytes = list.clone().map(str::len).sum();
        Self::collect(bytes, list)
    }

    pub(crate) fn from_scopes(mut scopes: Vec<Scope>) -> Self {
        scopes.sort_unstable();
        scopes.dedup();
        Self(scopes.into())
    }

    pub(crate) fn contains(&self, scope: &Scope) -> bool {
        self.0.contains(scope)
    }

    pub(crate) fn contains_name(&self, name: &str) -> bool {
        self.0.binary_search_by(|scope| scope.as_str().cmp(name)).is_ok()
    }

    pub(crate) fn contains_all(&self, other: &Self) -> bool {
        other.iter().all(|scope| self.contains(scope))
    }

    pub(crate) fn contains_any(&self, other: &Self) -> bool {
        other.iter().any(|scope| self.contains(scope))
    }

    /// Scopes that are in at least one of the sets.
    pub(crate) fn union(&self, other: &Self) -> Self {
        Self::from_scopes(self.iter().chain(other.iter()).cloned().collect())
    }

    /// Scopes of this set that are not in `other`.
    pub(crate) fn without(&self, other: &Self) -> Self {
        Self(self.iter().filter(|scope| !other.contains(scope)).cloned().collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Scope> {
        self.0.iter()
    }

    fn collect<'a>(bytes: usize, tokens: impl Iterator<Item = &'a str>) -> Result<Self, InvalidScope> {
        if bytes > MAX_BYTES {
            return Err(InvalidScope::TooMany);
        }
        let scopes: Vec<Scope> = tokens.map(Scope::parse).collect::<Result<_, _>>()?;
        if scopes.len() > MAX_SCOPES {
            return Err(InvalidScope::TooMany);
        }
        Ok(Self::from_scopes(scopes))
    }
}

/// Joined by single spaces, as in a `scope` parameter.
impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, scope) in self.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            f.write_str(scope.as_str())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn refuses(raw: &str) {
        assert!(ScopeSet::parse(raw).is_err(), "{raw:?} was accepted");
    }

    #[test]
    fn empty_scope_is_refused() {
        refuses("");
    }
    #[test]
    fn double_space_is_refused() {
        refuses("a  b");
    }
    #[test]
    fn leading_space_is_refused() {
        refuses(" a");
    }
    #[test]
    fn quote_is_refused() {
        refuses("a\"b");
    }
    #[test]
    fn backslash_is_refused() {
        refuses("a\\b");
    }
    #[test]
    fn look_alike_letter_is_refused() {
        refuses("\u{0430}dmin");
    }
    #[test]
    fn more_than_128_scopes_are_refused() {
        refuses(&(0..129).map(|n| n.to_string()).collect::<Vec<_>>().join(" "));
    }
    #[test]
    fn more_than_4_kib_of_scope_is_refused() {
        refuses(&"a".repeat(4097));
    }

    #[test]
    fn scopes_compare_as_whole_tokens_and_case_sensitively() {
        let held = ScopeSet::parse("read:data Admin admin*").unwrap();
        for other in ["read", "read:dat", "admin", "ADMIN", "administrator"] {
            assert!(!held.contains(&Scope::parse(other).unwrap()), "{other}");
        }
    }

    #[test]
    fn a_set_forgets_order_and_repetition() {
        assert_eq!(ScopeSet::parse("b a b").unwrap(), ScopeSet::parse("a b").unwrap());
    }

    proptest! {
        #[test]
        fn the_grammar_is_exactly_that_of_rfc_6749(raw in any::<String>()) {
            let legal = |c: char| c.is_ascii_graphic() && c != '"' && c != '\\';
            let expected = !raw.is_empty() && raw.chars().all(legal);
            prop_assert_eq!(Scope::parse(&raw).is_ok(), expected);
            prop_assert_eq!(ScopeSet::parse("b c a").unwrap().contains_name(&raw), ["a", "b", "c"].contains(&raw.as_str()));
        }

        #[test]
        fn a_set_survives_its_own_text(tokens in prop::collection::vec("[!#-\\[\\]-~]{1,12}", 1..20)) {
            let set = ScopeSet::parse(&tokens.join(" ")).unwrap();
            prop_assert_eq!(ScopeSet::parse(&set.to_string()).unwrap(), set.clone());
            prop_assert!(tokens.iter().all(|token| set.contains(&Scope::parse(token).unwrap())));
        }
    }
}
