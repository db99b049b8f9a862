//! `portcullis token revoke`: revokes one token, or the earlier tokens of a client, a subject or an issuer.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::client_store::{self, LookedUpClient};
use super::stdin::{holds_token, read_token};
use super::terminal::{DIM, GOOD, WARN, bad_config, error_text, failed, note, out, styled};
use super::{ConfigPath, Format};
use crate::clock::{self, UnixTime};
use crate::config;
use crate::config::interpolate::Surroundings;
use crate::config::needs::Needs;
use crate::config::suggest;
use crate::config::types::Config;
use crate::jose::token::Unverified;
use crate::oauth::caller::IssuerName;
use crate::oauth::identity::Identity;
use crate::trust::entry_choice::candidates;
use crate::trust::issuer::IssuerSettings;
use crate::trust::revocation::{
    MAX_ENTRIES, MAX_WITH_TOKENS, RevocationEntry, RevocationTarget, Revocations, after_all_issued_by,
};
use crate::trust::revocation_store::{Store, StoreError};

pub(super) const HELP: &str = "\
Examples:
  printf %s \"$TOKEN\" | portcullis token revoke                  one token
  portcullis token revoke --client billing                       the tokens of our client so far
  portcullis token revoke --issuer auth0 --subject 'auth0|1234'  the tokens of an external user
  portcullis token revoke --issuer auth0 --issued-before now     the tokens of an issuer

The revocation is written into `state_directory`. Every gateway that uses this folder refuses the tokens within a second, also \
after a restart. With `shared.redis`, a running gateway sends it to its replicas. Tokens that are issued later are accepted: to stop a client from getting more, change its secret or remove it \
first.";

#[derive(Debug, Args)]
pub(super) struct RevokeArgs {
    #[command(flatten)]
    config: ConfigPath,
    /// The name of the issuer in the configuration [default: self]; to revoke all its tokens, give --issued-before too
    #[arg(long, value_name = "NAME")]
    issuer: Option<String>,
    /// Revoke the token with this `jti`
    #[arg(long, group = "target", conflicts_with = "issued_before", allow_hyphen_values = true)]
    jti: Option<String>,
    /// Revoke all tokens of this client
    #[arg(long, group = "target", allow_hyphen_values = true)]
    client: Option<String>,
    /// The client is not in the configuration any more: revoke the tokens that it still has
    #[arg(long)]
    removed: bool,
    /// Revoke all tokens of this subject
    #[arg(long, group = "target", allow_hyphen_values = true)]
    subject: Option<String>,
    /// Revoke only tokens that were issued before this time, such as 2026-01-31T18:00:00Z [default: now]
    #[arg(long, value_name = "TIME", value_parser = time)]
    issued_before: Option<When>,
    /// The form of the output: text for people, JSON for programs
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// The length of a `jti` of our tokens: 128 random bits in base64url.
const TOKEN_ID_LENGTH: usize = 22;

#[derive(Clone, Copy, Debug)]
enum When {
    Now,
    At(UnixTime),
}

/// The reason why nothing is revoked.
struct CannotRevoke(String);

pub(super) fn revoke(args: &RevokeArgs) -> ExitCode {
    let config = match config::load_part(&args.config.config, Needs::REVOCATIONS, &Surroundings::process()) {
        Ok(config) => config,
        Err(errors) => return bad_config(&errors),
    };
    let now = clock::now();
    let entry = match requested(args) {
        Ok(RequestedRevocation::Named) if holds_token() => Err(CannotRevoke(
            "there is a token on standard input and an option that names others: give one of them (for the option alone, add </dev/null)".to_owned(),
        )),
        Ok(RequestedRevocation::Named) => by_name(args, &config, now),
        Ok(RequestedRevocation::OnStdin) => match read_token("portcullis token revoke") {
            Ok(token) => by_token(&token, &config, now),
            Err(code) => return code,
        },
        Err(error) => Err(error),
    };
    let (entry, issuer) = match entry {
        Ok(found) => found,
        Err(CannotRevoke(why)) => return error_text(why),
    };
    let mut store = Store::in_directory(&config.state_directory);
    match write(&mut store, &entry, now) {
        Ok(true) => {
            print(args.format, &entry, issuer, &store);
            ExitCode::SUCCESS
        }
        Ok(false) => error_text(format_args!(
            "not revoked: the store is full ({MAX_WITH_TOKENS} revocations if single tokens are among them, {MAX_ENTRIES} in all); expired ones are deleted"
        )),
        Err(error) => failed(&error),
    }
}

enum RequestedRevocation {
    /// The tokens that the options select.
    Named,
    OnStdin,
}

/// All tokens of an issuer are revoked only if `--issued-before` is given. So a forgotten option cannot do it.
fn requested(args: &RevokeArgs) -> Result<RequestedRevocation, CannotRevoke> {
    if args.removed && args.client.is_none() {
        return Err(CannotRevoke("--removed says that a client was removed: name it with --client".to_owned()));
    }
    let has_target = args.jti.is_some() || args.client.is_some() || args.subject.is_some();
    match (&args.issuer, has_target, args.issued_before) {
        (_, true, _) | (Some(_), false, Some(_)) => Ok(RequestedRevocation::Named),
        (Some(_), false, None) => Err(CannotRevoke(
            "--issuer alone does not say which tokens: add --client, --subject or --jti; for all tokens of the issuer, add --issued-before now; for the token on standard input, leave --issuer out".to_owned(),
        )),
        (None, false, Some(_)) => {
            Err(CannotRevoke("which tokens? Name an --issuer, a --client or a --subject".to_owned()))
        }
        (None, false, None) => Ok(RequestedRevocation::OnStdin),
    }
}

/// False if the store is full.
fn write(store: &mut Store, entry: &RevocationEntry, now: UnixTime) -> Result<bool, StoreError> {
    let mut written = true;
    store.check()?;
    store.append(|entries| {
        let mut known = Revocations::default();
        entries.iter().filter(|entry| entry.is_live(now)).for_each(|entry| known.add(entry));
        written = known.full_for(entry).is_none();
        let needed = written && !known.cover(entry);
        needed.then(|| entry.clone()).into_iter().collect()
    })?;
    Ok(written)
}

type FoundToken<'c> = Result<(RevocationEntry, &'c IssuerSettings), CannotRevoke>;

fn by_name<'c>(args: &RevokeArgs, config: &'c Config, now: UnixTime) -> FoundToken<'c> {
    let name = args.issuer.as_deref().unwrap_or(IssuerName::OWN);
    let issuer = config.all_issuers().find(|issuer| issuer.name.as_str() == name).ok_or_else(|| {
        let known: Vec<&str> = config.all_issuers().map(|issuer| issuer.name.as_str()).collect();
        CannotRevoke(format!("unknown issuer `{}`{}", name.escape_debug(), suggest::suggestion(name, &known)))
    })?;
    let target = match (&args.jti, &args.client, &args.subject) {
        (Some(jti), ..) if jti.is_empty() => return Err(CannotRevoke("the `jti` is empty".to_owned())),
        (Some(jti), ..) => RevocationTarget::token(jti),
        (None, Some(client), _) => RevocationTarget::Client(identity(client)?),
        (None, None, Some(subject)) => RevocationTarget::Subject(identity(subject)?),
        (None, None, None) => RevocationTarget::Issuer,
    };
    let issued_before = match (&target, args.issued_before) {
        (RevocationTarget::Token(_), _) => None,
        (_, None | Some(When::Now)) => Some(after_all_issued_by(issuer, now)),
        (_, Some(When::At(time))) => Some(time),
    };
    if issuer.name.as_str() == IssuerName::OWN {
        check_own_names(args, config)?;
    }
    Ok((RevocationEntry::lasting(issuer, target, issued_before, now), issuer))
}

/// A removed client may still have tokens, and a `jti` may come from an older version.
fn check_own_names(args: &RevokeArgs, config: &Config) -> Result<(), CannotRevoke> {
    let ids: Vec<&str> =
        config.oauth.iter().flat_map(|oauth| &oauth.clients).map(|client| client.id.as_str()).collect();
    match args.client.as_deref() {
        Some(client) if !args.removed && !ids.contains(&client) && has_database(config) => {
            check_stored(args, client)?;
        }
        Some(client) if !args.removed && !ids.contains(&client) => {
            return Err(CannotRevoke(format!(
                "unknown client `{}`{}; for the tokens of a client that was removed from the configuration, add --removed",
                client.escape_debug(),
                suggest::suggestion(client, &ids)
            )));
        }
        Some(client) if args.removed && ids.contains(&client) => {
            return Err(CannotRevoke(format!("the client `{client}` is in the configuration: leave --removed out")));
        }
        Some(_) | None => {}
    }
    if let Some(jti) = args.jti.as_deref().filter(|jti| jti.len() != TOKEN_ID_LENGTH) {
        note(format_args!(
            "{} `{}` is not a `jti` of our tokens, which have {TOKEN_ID_LENGTH} characters: the audit log shows it as `oauth.jti`",
            styled(WARN, "warning:"),
            jti.escape_debug()
        ));
    }
    Ok(())
}

fn has_database(config: &Config) -> bool {
    config.oauth.as_ref().is_some_and(|oauth| oauth.stored.is_some())
}

/// The tokens of a leaked secret must be revoked while the database is unreachable, too.
fn check_stored(args: &RevokeArgs, client: &str) -> Result<(), CannotRevoke> {
    let quoted = client.escape_debug();
    match client_store::look_up(&args.config.config, client) {
        LookedUpClient::Known => Ok(()),
        LookedUpClient::Unknown { hint } => Err(CannotRevoke(format!(
            "unknown client `{quoted}`: neither the configuration nor the database has it{hint}; for the tokens of a client \
             that was removed, add --removed"
        ))),
        LookedUpClient::Unavailable { reason } => {
            let warning = styled(WARN, "warning:");
            note(format_args!("{warning} cannot look up client `{quoted}`, so check its id: {reason}"));
            Ok(())
        }
    }
}

fn identity(text: &str) -> Result<String, CannotRevoke> {
    Identity::parse(text).map(|name| name.as_str().to_owned()).map_err(|fault| CannotRevoke(fault.to_string()))
}

/// The signature is not verified: a process that can write the store can revoke any token anyway.
fn by_token<'c>(token: &str, config: &'c Config, now: UnixTime) -> FoundToken<'c> {
    let token = Unverified::parse(token).map_err(|fault| CannotRevoke(fault.to_string()))?;
    // The revocation counts for all entries of the issuer: it lasts as long as any of them accepts the token.
    let all: Vec<&IssuerSettings> = config.all_issuers().collect();
    let of_issuer = candidates(&all, |settings| settings, &token.claims.all).unwrap_or_default();
    let issuer = of_issuer.into_iter().copied().max_by_key(|issuer| issuer.clock_skew);
    let issuer = issuer
        .ok_or_else(|| CannotRevoke("the token's issuer is not trusted here: its tokens are refused".to_owned()))?;
    let entry = RevocationEntry::token(issuer, &token.claims, now).ok_or_else(|| {
        CannotRevoke(
            "the token has no `jti`, which would identify it: revoke its --subject or --client instead".to_owned(),
        )
    })?;
    if entry.is_live(now) { Ok((entry, issuer)) } else { Err(CannotRevoke("the token has expired already".to_owned())) }
}

fn print(format: Format, entry: &RevocationEntry, issuer: &IssuerSettings, store: &Store) {
    let name = issuer.name.as_str();
    let time = |seconds: u64| UnixTime::from_seconds(seconds).to_string();
    let tokens = match &entry.target {
        RevocationTarget::Token(_) => format!("one token of issuer {name}"),
        RevocationTarget::Client(client) => format!("tokens of client {client} of issuer {name}"),
        RevocationTarget::Subject(subject) => format!("tokens of subject {subject} of issuer {name}"),
        // The command line makes no revocation of another replica.
        RevocationTarget::Issuer | RevocationTarget::Learned(_) => format!("tokens of issuer {name}"),
    };
    match format {
        Format::Text => {
            let before = entry.issued_before.map(|before| format!(" issued before {}", time(before)));
            out(format_args!("{}  {tokens}{}", styled(GOOD, "revoked"), before.unwrap_or_default()));
            let end = entry
                .expires_at
                .map(|end| format!(" The revocation is deleted at {}, when all of them have expired.", time(end)));
            let text = format!("A running gateway refuses them within a second.{}", end.unwrap_or_default());
            note(styled(DIM, text));
        }
        Format::Json => {
            let mut record = json!({ "revoked": true, "issuer": name, "store": store.path() });
            let mut add = |key: &str, value: Option<Value>| {
                if let Some(value) = value {
                    record[key] = value;
                }
            };
            match &entry.target {
                RevocationTarget::Token(digest) => add("jti_sha256", Some(json!(digest))),
                RevocationTarget::Client(client) => add("client", Some(json!(client))),
                RevocationTarget::Subject(subject) => add("subject", Some(json!(subject))),
                RevocationTarget::Issuer | RevocationTarget::Learned(_) => {}
            }
            add("issued_before", entry.issued_before.map(|before| json!(time(before))));
            add("expires_at", entry.expires_at.map(|end| json!(time(end))));
            out(record);
        }
    }
}

fn time(text: &str) -> Result<When, String> {
    if text == "now" {
        return Ok(When::Now);
    }
    UnixTime::parse(text)
        .map(When::At)
        .ok_or_else(|| "expected `now` or a time such as 2026-01-31T18:00:00Z".to_owned())
}
