//! A platform token as the credential of a client: which entries of `federation` it fits, and why not the others.
//!
//! The gateway's own functions verify the token. Each entry of its issuer is then compared by itself.

use serde_json::{Value, json};

use super::super::refusal::Refusal;
use super::super::terminal::{BOLD, DIM, GOOD, NAME, WARN, out, styled};
use crate::audit::line::shown;
use crate::clock::UnixTime;
use crate::issuer::authorization_server::AuthorizationServer;
use crate::issuer::client_auth::federation::FederatedIdentity;
use crate::jose::token::Unverified;
use crate::oauth::caller::IssuerName;
use crate::oauth::discrepancy::{Discrepancy, one_of, short};
use crate::pipeline::routing::snapshot::Snapshot;
use crate::trust::failed_check::{FailedCheck, RefusedToken, TokenError};
use crate::trust::platform_credential::{CredentialExpectations, PlatformCredential};

/// The decision of the token endpoint about a token of a federated issuer.
pub(in crate::cli) struct CredentialInspection {
    verified: Result<PlatformCredential, Refusal>,
    entries: Vec<ComparedEntry>,
}

/// An entry of `federation`, and its first difference from the token.
struct ComparedEntry {
    client: String,
    tenant: Option<String>,
    subject: String,
    difference: Option<Discrepancy>,
    /// A token counts once only, which is not checked here.
    once: bool,
}

impl CredentialInspection {
    /// `None` if the token is of no issuer that an entry of `federation` names.
    pub(in crate::cli) async fn of(snapshot: &Snapshot, token: &str, now: UnixTime) -> Option<Self> {
        let server = &snapshot.oauth.as_ref()?.server;
        let token = Unverified::parse(token).ok()?;
        let names = |issuer: &IssuerName| identities(server).any(|(_, identity)| identity.issuer == *issuer);
        let expected = CredentialExpectations { is_federated: &names, audience: server.credential_audience() };
        let (verified, entries) = match snapshot.trust.verify_credential(token, expected, now).await {
            Ok(credential) => {
                let of_issuer = identities(server).filter(|(_, identity)| identity.issuer == credential.issuer);
                let entries = of_issuer.map(|(client, identity)| compared(client, identity, &credential)).collect();
                (Ok(credential), entries)
            }
            Err(refused) if refused.reason == TokenError::UnknownIssuer => return None,
            Err(refused) => (Err(refusal(refused)), Vec::new()),
        };
        Some(Self { verified, entries })
    }

    /// The only client whose entries fit.
    fn client(&self) -> Result<&str, &'static str> {
        let mut fitting: Vec<&str> =
            self.entries.iter().filter(|entry| entry.difference.is_none()).map(|entry| entry.client.as_str()).collect();
        fitting.dedup();
        match fitting[..] {
            [only] => Ok(only),
            [] => Err("no_federated_client"),
            [..] => Err("several_federated_clients"),
        }
    }

    pub(in crate::cli) fn is_good(&self) -> bool {
        self.verified.is_ok() && self.client().is_ok()
    }

    pub(in crate::cli) fn print_text(&self) {
        out(styled(BOLD, "\nas the credential of a client"));
        let credential = match &self.verified {
            Ok(credential) => credential,
            Err(refusal) => {
                return out(format_args!("{}  {}: {}", styled(WARN, "refused"), refusal.reason, shown(&refusal.text)));
            }
        };
        let (issuer, subject) = (credential.issuer.as_str(), shown(credential.subject.as_str()));
        match self.client() {
            Ok(client) => {
                out(format_args!("{}  issuer {issuer}, subject {subject}: client {client}", styled(GOOD, "good")));
            }
            Err(reason) => {
                out(format_args!("{}  {reason}: issuer {issuer}, subject {subject}", styled(WARN, "refused")));
            }
        }
        for ComparedEntry { client, tenant, subject, difference, once } in &self.entries {
            let result = match difference {
                None if *once => {
                    styled(GOOD, "matches, if its `jti` was not used before (`once`): that is not checked")
                }
                None => styled(GOOD, "matches"),
                Some(values) => styled(DIM, format_args!("differs: {}", shown(&values.to_string()))),
            };
            let tenant = tenant.as_ref().map(|tenant| format!(", tenant {tenant}")).unwrap_or_default();
            out(format_args!("  {}  {subject}{tenant}  {result}", styled(NAME, client)));
        }
    }

    pub(in crate::cli) fn as_json(&self) -> Value {
        let credential = match &self.verified {
            Ok(credential) => credential,
            Err(Refusal { reason, text, values, .. }) => {
                let mut printed = json!({ "good": false, "reason": reason, "why": text });
                if let Some(values) = values {
                    (printed["found"], printed["wanted"]) = (json!(values.found), json!(values.wanted));
                }
                return printed;
            }
        };
        let entries: Vec<Value> = self.entries.iter().map(ComparedEntry::as_json).collect();
        let mut printed = json!({
            "good": self.is_good(), "issuer": credential.issuer.as_str(), "subject": credential.subject.as_str(),
            "entries": entries,
        });
        match self.client() {
            Ok(client) => printed["client"] = json!(client),
            Err(reason) => printed["reason"] = json!(reason),
        }
        printed
    }
}

fn refusal(refused: RefusedToken) -> Refusal {
    let refusal = Refusal::from(FailedCheck { reason: refused.reason, values: refused.values });
    match (refused.reason, &refusal.values) {
        (TokenError::BadAudience, Some(values)) => {
            let text = format!("its `aud` must be our issuer alone: {values}");
            Refusal { text, ..refusal }
        }
        (_, _) => refusal,
    }
}

/// All entries with the ids of their clients, in the order of the file.
fn identities(server: &AuthorizationServer) -> impl Iterator<Item = (&str, &FederatedIdentity)> {
    server.clients().flat_map(|client| client.credentials.federation.iter().map(|entry| (client.id.as_str(), entry)))
}

fn compared(client: &str, identity: &FederatedIdentity, credential: &PlatformCredential) -> ComparedEntry {
    let FederatedIdentity { issuer: _, tenant, subject, claims, once } = identity;
    let found = credential.subject.as_str();
    let difference = if *tenant != credential.tenant {
        let text = |tenant: &Option<String>| one_of("tenant", tenant.as_deref());
        Some(Discrepancy::new(text(&credential.tenant), text(tenant)))
    } else if subject.matches(found) {
        let all = Some(&credential.claims.all);
        let differing = claims.iter().find(|rule| !rule.holds(all)).map(|rule| rule.discrepancy(all));
        let lacks_id = *once && credential.claims.token_id.is_none();
        differing.or_else(|| lacks_id.then(|| Discrepancy::new("no jti", "jti, as the entry has `once`")))
    } else {
        Some(Discrepancy::new(format!("subject={}", short(found)), format!("subject={subject}")))
    };
    let (client, subject) = (client.to_owned(), subject.to_string());
    ComparedEntry { client, tenant: tenant.clone(), subject, difference, once: *once }
}

impl ComparedEntry {
    fn as_json(&self) -> Value {
        let mut printed =
            json!({ "client": self.client, "subject": self.subject, "matches": self.difference.is_none() });
        if let Some(tenant) = &self.tenant {
            printed["tenant"] = json!(tenant);
        }
        if let Some(values) = &self.difference {
            (printed["found"], printed["wanted"]) = (json!(values.found), json!(values.wanted));
        }
        if self.once {
            printed["once"] = json!("not checked");
        }
        printed
    }
}
