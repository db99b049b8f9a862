//! `portcullis token revoke`: ends trust in a token, client, subject or issuer before its time.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::terminal::{DIM, GOOD, bad_config, failed, note, out, styled};
use super::token::read_token;
use super::{ConfigPath, Format, USAGE};
use crate::clock::{self, UnixTime};
use crate::config;
use crate::config::interpolate::Surroundings;
use crate::config::types::Config;
use crate::jose::token::Unverified;
use crate::oauth::caller::IssuerName;
use crate::oauth::identity::Identity;
use crate::trust::issuer::IssuerSettings;
use crate::trust::revocation::{
    MAX_ENTRIES, MAX_WITH_TOKENS, RevocationEntry, RevocationTarget, Revocations, after_all_issued_by,
};
use crate::trust::revocation_store::{Store, StoreError};

pub(super) const HELP: &str = "\
Examples:
  printf %s \"$TOKEN\" | portcullis token revoke                  one token
  portcullis token revoke --client billing                       what our client has got so far
  portcullis token revoke --issuer auth0 --subject 'auth0|1234'  what another's user has
  portcullis token revoke --issuer auth0 --issued-before 2026-01-31T18:00:00Z

Written into `state_directory`: every gateway that uses this folder refuses the tokens within a second, and after a restart \
too. What is issued later is good: to keep a client from getting more, change its secret or remove it first.";

#[derive(Debug, Args)]
pub(super) struct RevokeArgs {
    #[command(flatten)]
    config: ConfigPath,
    /// Whose tokens, by its name in the configuration [default: self]; alone, all of them
    #[arg(long, value_name = "NAME")]
    issuer: Option<String>,
    /// One token, by its `jti`
    #[arg(long, group = "whose", conflicts_with = "issued_before", allow_hyphen_values = true)]
    jti: Option<String>,
    /// All tokens of a client
    #[arg(long, group = "whose", allow_hyphen_values = true)]
    client: Option<String>,
    /// All tokens of a subject
    #[arg(long, group = "whose", allow_hyphen_values = true)]
    subject: Option<String>,
    /// Only tokens issued before: a time such as 2026-01-31T18:00:00Z [default: now]
    #[arg(long, value_name = "TIME", value_parser = time)]
    issued_before: Option<When>,
    /// For people or for programs
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, Debug)]
enum When {
    Now,
    At(UnixTime),
}

/// What can't be revoked, told to whoever asked.
struct CannotRevoke(String);

pub(super) fn revoke(args: &RevokeArgs) -> ExitCode {
    let config = match config::load(&args.config.config, &Surroundings::process()) {
        Ok(config) => config,
        Err(errors) => return bad_config(&errors),
    };
    let now = clock::now();
    let named = args.issuer.is_some() || args.jti.is_some() || args.client.is_some() || args.subject.is_some();
    let entry = match (named, args.issued_before) {
        (true, _) => by_name(args, &config, now),
        (false, Some(_)) => Err(CannotRevoke("whose tokens? name an --issuer, a --client or a --subject".to_owned())),
        (false, None) => match read_token("portcullis token revoke") {
            Ok(token) => by_token(&token, &config, now),
            Err(code) => return code,
        },
    };
    let (entry, issuer) = match entry {
        Ok(found) => found,
        Err(CannotRevoke(why)) => {
            note(why);
            return ExitCode::from(USAGE);
        }
    };
    let mut store = Store::in_directory(&config.state_directory);
    match write(&mut store, &entry, now) {
        Ok(true) => {
            tell(args.format, &entry, issuer, &store);
            ExitCode::SUCCESS
        }
        Ok(false) => {
            note(format_args!(
                "not revoked: there are too many revocations already ({MAX_WITH_TOKENS} with single tokens, {MAX_ENTRIES} in all); those that expire make room"
            ));
            ExitCode::from(USAGE)
        }
        Err(error) => failed(&error),
    }
}

/// False if there is no room.
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
        CannotRevoke(format!("no issuer is called `{name}` here (known: {})", known.join(", ")))
    })?;
    let target = match (&args.jti, &args.client, &args.subject) {
        (Some(jti), ..) if jti.is_empty() => return Err(CannotRevoke("an empty `jti` is no token's".to_owned())),
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
    Ok((RevocationEntry::lasting(issuer, target, issued_before, now), issuer))
}

fn identity(text: &str) -> Result<String, CannotRevoke> {
    Identity::parse(text).map(|name| name.as_str().to_owned()).map_err(|fault| CannotRevoke(fault.to_string()))
}

/// The signature is not looked at: who may write the store may revoke what they like, and a forged token revokes nothing genuine
/// but what it names.
fn by_token<'c>(token: &str, config: &'c Config, now: UnixTime) -> FoundToken<'c> {
    let token = Unverified::parse(token).map_err(|fault| CannotRevoke(fault.to_string()))?;
    let issuer = config.all_issuers().find(|issuer| issuer.issuer.as_str() == token.claims.issuer);
    let issuer =
        issuer.ok_or_else(|| CannotRevoke("the token's issuer is not trusted here in the first place".to_owned()))?;
    let entry = RevocationEntry::token(issuer, &token.claims, now).ok_or_else(|| {
        CannotRevoke("the token has no `jti` to tell it by: revoke its --subject or --client instead".to_owned())
    })?;
    if entry.is_live(now) { Ok((entry, issuer)) } else { Err(CannotRevoke("the token has expired already".to_owned())) }
}

fn tell(format: Format, entry: &RevocationEntry, issuer: &IssuerSettings, store: &Store) {
    let name = issuer.name.as_str();
    let time = |seconds: u64| UnixTime::from_seconds(seconds).to_string();
    let whose = match &entry.target {
        RevocationTarget::Token(_) => format!("one token of issuer {name}"),
        RevocationTarget::Client(client) => format!("tokens of client {client} of issuer {name}"),
        RevocationTarget::Subject(subject) => format!("tokens of subject {subject} of issuer {name}"),
        RevocationTarget::Issuer => format!("tokens of issuer {name}"),
    };
    match format {
        Format::Text => {
            let before = entry.issued_before.map(|before| format!(" issued before {}", time(before)));
            out(format_args!("{}  {whose}{}", styled(GOOD, "revoked"), before.unwrap_or_default()));
            let end = entry.expires_at.map(|end| format!("; forgotten at {}, when none of them can live", time(end)));
            let said = format!("A running gateway refuses them within a second{}.", end.unwrap_or_default());
            note(styled(DIM, said));
        }
        Format::Json => {
            let mut told = json!({ "revoked": true, "issuer": name, "store": store.path() });
            let mut say = |key: &str, value: Option<Value>| {
                if let Some(value) = value {
                    told[key] = value;
                }
            };
            match &entry.target {
                RevocationTarget::Token(digest) => say("jti_sha256", Some(json!(digest))),
                RevocationTarget::Client(client) => say("client", Some(json!(client))),
                RevocationTarget::Subject(subject) => say("subject", Some(json!(subject))),
                RevocationTarget::Issuer => {}
            }
            say("issued_before", entry.issued_before.map(|before| json!(time(before))));
            say("expires_at", entry.expires_at.map(|end| json!(time(end))));
            out(told);
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
