//! A request of the command line, walked with the credentials of its caller and with the proofs that its token needs.

use std::net::IpAddr;

use super::ExplainError;
use super::caller::{CallerFault, Credentials, PresentedToken};
use super::request::ExplainedUrl;
use crate::app::rehearsal::Rehearsal;
use crate::app::rehearsal::requests::RequestText;
use crate::app::rehearsal::walk::{Walk, WalkEnd};
use crate::audit::reason::Reason;
use crate::cli::inspect::credential::CredentialInspection;
use crate::clock;
use crate::config::types::Config;
use crate::oauth::caller::IssuerName;
use crate::oauth::observer::{Observation, Outcome, Room};

pub(super) struct AskedRequest<'a> {
    pub(super) method: &'a str,
    pub(super) url: &'a ExplainedUrl,
    pub(super) from: IpAddr,
    /// Those of `-H`.
    pub(super) fields: Vec<(String, String)>,
}

/// The way of a request, and what is to be said about it.
pub(super) struct ExplainedWay {
    pub(super) walk: Walk,
    pub(super) remarks: Vec<String>,
    /// For a real token of an issuer that an entry of `federation` names.
    pub(super) credential: Option<CredentialInspection>,
}

const DPOP: &str = "dpop";

impl AskedRequest<'_> {
    pub(super) fn explained(
        &self,
        config: &Config,
        mut credentials: Credentials<'_>,
    ) -> Result<ExplainedWay, ExplainError> {
        let rehearsal = Rehearsal::with(config, &credentials.facts)?;
        let presented = credentials.presented(&rehearsal)?;
        let credential = presented
            .real_token()
            .and_then(|token| rehearsal.check(CredentialInspection::of(&rehearsal.snapshot, token, clock::now())));
        let mut walk = self.walk(&rehearsal, &presented);
        let mut remarks = std::mem::take(&mut credentials.facts.remarks);
        let has_proof = self.fields.iter().any(|(name, _)| name.eq_ignore_ascii_case(DPOP));
        let mut is_key_assumed = presented.not_checked.is_some();
        if let Some(issuer) = &presented.not_checked {
            let cause = credentials.facts.lacking.get(&IssuerName::new(issuer));
            let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
            let why = format!("not checked: no keys of issuer `{issuer}` on this machine{cause}");
            walk.observations.iter_mut().for_each(|observation| mark_not_checked(observation, &why));
            remarks.push(format!("signature {why}"));
        } else if !has_proof
            && lacks_proof(&walk)
            && let Some(with_proof) = self.with_proof(config, &mut credentials, &walk)?
        {
            (walk, is_key_assumed) = (with_proof, true);
        }
        if presented.bound.key.is_some() && is_key_assumed {
            let given =
                if has_proof { "the given proof is not checked" } else { "-H \"DPoP: …\" gives one to check" };
            remarks.push(format!("a DPoP proof is assumed, as the token is bound to a key; {given}"));
        }
        if presented.bound.certificate.is_some() && self.url.is_https {
            remarks.push("a connection with the certificate that the token is bound to is assumed".to_owned());
        }
        Ok(ExplainedWay { walk, remarks, credential })
    }

    /// The way of the same request with a proof. Its token was found good, and is made again for a key of the rehearsal.
    /// `None` if that cannot be done.
    fn with_proof(
        &self,
        config: &Config,
        credentials: &mut Credentials<'_>,
        checked: &Walk,
    ) -> Result<Option<Walk>, ExplainError> {
        credentials.facts.keys.clear();
        let rehearsal = Rehearsal::with(config, &credentials.facts)?;
        let presented = match credentials.presented(&rehearsal) {
            Ok(presented) => presented,
            Err(CallerFault::Algorithm(_)) => return Ok(None),
            Err(fault) => return Err(fault.into()),
        };
        let mut walk = self.walk(&rehearsal, &presented);
        for observation in walk.observations.iter_mut().filter(|observation| is_of_signature(observation)) {
            let same = checked.observations.iter().find(|known| known.subject == observation.subject);
            same.into_iter().for_each(|known| observation.clone_from(known));
        }
        Ok(Some(walk))
    }

    fn walk(&self, rehearsal: &Rehearsal, presented: &PresentedToken) -> Walk {
        let AskedRequest { method, url, from, fields } = self;
        // A proof is for one text of a token.
        let is_of_another = |name: &str| presented.not_checked.is_some() && name.eq_ignore_ascii_case(DPOP);
        let fields = fields.iter().filter(|(name, _)| !is_of_another(name)).cloned();
        let fields: Vec<(String, String)> = fields.chain(presented.field.clone()).collect();
        let (target, host, is_https) = (url.target.as_str(), url.host.as_str(), url.is_https);
        let text = RequestText { method, target, host, from: *from, is_https, fields: &fields };
        match (rehearsal.read(&text), presented.bound.certificate) {
            (Ok(request), Some(certificate)) => rehearsal.walk(request.with_certificate(certificate)),
            (Ok(request), None) => rehearsal.walk(request),
            (Err(fault), _) => rehearsal.malformed(fault),
        }
    }
}

fn lacks_proof(walk: &Walk) -> bool {
    let is_refused = matches!(walk.end, WalkEnd::Refused { reason: Reason::NotProven, .. });
    is_refused || walk.would_deny == Some(Reason::NotProven)
}

fn is_of_signature(observation: &Observation) -> bool {
    observation.room == Room::Authenticate && matches!(observation.subject.as_str(), "key" | "signature")
}

/// The signature was made for this explanation: it proves nothing.
fn mark_not_checked(observation: &mut Observation, why: &str) {
    if is_of_signature(observation) {
        observation.outcome = Outcome::NotChecked;
        why.clone_into(&mut observation.values.found);
        observation.values.wanted.clear();
    }
}
