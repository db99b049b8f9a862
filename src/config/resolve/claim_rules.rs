//! `access.claims`: the values that the claims of a token may have.

use serde_json::Value;

use super::super::decode::Named;
use super::super::lint::Lint;
use super::super::raw::claim::{ClaimValue, RawClaimRule, RawWantedValue};
use super::super::source::At;
use super::Resolver;
use crate::oauth::segment_pattern::{InvalidSegmentPattern, SegmentPattern};
use crate::trust::claim_rule::{ClaimRule, WantedValue};

impl Resolver<'_> {
    pub(super) fn claim_rules(&mut self, raw: &Named<RawClaimRule>) -> Vec<ClaimRule> {
        let mut rules = Vec::new();
        for (name, claim) in &raw.entries {
            if let Ok(claim) = claim {
                let values = claim.value.0.items.iter().filter_map(|value| self.wanted_value(value)).collect();
                rules.push(ClaimRule { path: name.value.clone(), values });
            }
        }
        rules
    }

    fn wanted_value(&mut self, raw: &At<RawWantedValue>) -> Option<WantedValue> {
        match &raw.value {
            RawWantedValue::Plain(value) => {
                if let ClaimValue::Text(text) = value {
                    self.odd_value(&At { value: text.clone(), span: raw.span });
                }
                if matches!(value, ClaimValue::Text(text) if text.contains('*')) {
                    let message = "`*` has no meaning in a plain value: write `{glob: …}` around it if it stands for one \
                                   whole segment between `:` or `/`, or `{exact: …}` if the claim itself has the `*`";
                    self.faults.at(raw.span, message);
                }
                Some(WantedValue::Equal(value.to_json()))
            }
            RawWantedValue::Glob(pattern) => self.pattern(pattern).map(WantedValue::Glob),
            RawWantedValue::Exact(text) => Some(WantedValue::Equal(Value::from(text.value.as_str()))),
        }
    }

    /// Warns of a value that is empty or has quotation marks around it, as a slip with quotes in YAML leaves it.
    fn odd_value(&mut self, text: &At<String>) {
        let inner = text.value.trim_matches(['"', '\'', ' ']);
        let has_marks = ['"', '\''].iter().any(|mark| text.value.starts_with(*mark) && text.value.ends_with(*mark));
        let message = if inner.is_empty() {
            "this value has no letter: a claim is hardly ever empty; write the value itself, or `{exact: …}` around it if \
             the claim is like this"
        } else if has_marks {
            "the quotation marks are a part of this value: remove the inner ones, or write `{exact: …}` around it if the \
             claim itself has them"
        } else {
            return;
        };
        self.warn(Lint::OddClaimValue, text.span, message);
    }

    fn pattern(&mut self, text: &At<String>) -> Option<SegmentPattern> {
        let pattern = match SegmentPattern::parse(&text.value) {
            Ok(pattern) => pattern,
            Err(fault) => {
                let way_out = match fault {
                    InvalidSegmentPattern::NoWildcard => "write the value itself, without `glob`",
                    InvalidSegmentPattern::PartOfSegment => "name the values one by one, or require another claim",
                };
                let got = self.got(text);
                self.faults.at(text.span, format!("{fault}{got}: {way_out}"));
                return None;
            }
        };
        if pattern.is_all_wildcards() {
            let message = "no segment of this glob is fixed: any text with as many segments fits it";
            self.warn(Lint::OpenClaimGlob, text.span, message);
        }
        Some(pattern)
    }
}
