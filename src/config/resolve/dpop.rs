//! `oauth.dpop`: the proofs of possession of keys.

use super::super::raw::oauth::RawDpop;
use super::Resolver;
use crate::trust::proof_rules::DpopSettings;

impl Resolver<'_> {
    pub(super) fn dpop(&mut self, raw: &RawDpop) -> DpopSettings {
        let max_age = raw.max_age.value.get();
        if max_age.subsec_nanos() != 0 {
            self.faults.at(raw.max_age.span, "expected whole seconds, at least `1s`");
        } else if max_age > DpopSettings::LONGEST_AGE {
            let got = self.got(&raw.max_age);
            self.faults.at(raw.max_age.span, format!("expected at most `5m`{got}"));
        }
        DpopSettings { nonce: raw.nonce.value, max_age }
    }
}
