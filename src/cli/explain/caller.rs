//! The caller of an explained request, and its credentials.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Map, Value};

use crate::app::rehearsal::Rehearsal;
use crate::app::rehearsal::callers::NoCaller;
use crate::app::rehearsal::kept_facts::KeptFacts;
use crate::app::rehearsal::proofs::confirmation_of;
use crate::cli::stdin::{read_token, token_in};
use crate::config::suggest::suggestion;
use crate::config::types::Config;
use crate::issuer::stored_clients::ClientStoreUnavailable;
use crate::oauth::confirmation::Confirmation;

/// The caller, as the command line names it.
#[derive(Clone, Copy, Debug)]
pub(super) enum ExplainedCaller<'a> {
    None,
    Client { id: &'a str, scopes: Option<&'a str> },
    Issuer { name: &'a str, claims: Option<&'a Path> },
    Static { name: &'a str },
    Token { file: &'a Path },
}

/// Credentials that are not made yet, and the facts that they are judged by.
pub(super) struct Credentials<'a> {
    caller: ExplainedCaller<'a>,
    claims: Map<String, Value>,
    token: Option<String>,
    pub(super) facts: KeptFacts,
}

/// The field with the credentials.
pub(super) struct PresentedToken {
    pub(super) field: Option<(String, String)>,
    /// The issuer of a real token whose signature cannot be checked.
    pub(super) not_checked: Option<String>,
    /// The binding of a real token. A made one has its proofs.
    pub(super) bound: Confirmation,
    is_real: bool,
}

impl PresentedToken {
    /// The token of `--token-file`, perhaps signed again.
    pub(super) fn real_token(&self) -> Option<&str> {
        let (_, value) = self.field.as_ref().filter(|_| self.is_real)?;
        value.rsplit(' ').next()
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum CallerFault {
    #[error("unknown client `{id}`{hint}")]
    UnknownClient { id: String, hint: String },
    #[error("cannot look up client `{id}`")]
    ClientNotLookedUp {
        id: String,
        #[source]
        source: ClientStoreUnavailable,
    },
    #[error("unknown issuer `{name}`{hint}")]
    UnknownIssuer { name: String, hint: String },
    #[error("unknown static token `{name}`{hint}")]
    UnknownStaticToken { name: String, hint: String },
    #[error("cannot read `{path}`")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{path}` has no JSON object with claims")]
    Claims {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("`{0}` has no token")]
    NoToken(PathBuf),
    #[error(
        "the keys of issuer `{0}` are not on this machine, and a token with this `alg` cannot be followed without them"
    )]
    Algorithm(String),
    #[error(transparent)]
    NoCaller(#[from] NoCaller),
    /// The fault was printed.
    #[error("no token on standard input")]
    Stdin(ExitCode),
}

impl<'a> ExplainedCaller<'a> {
    pub(super) fn credentials(self, config: &Config) -> Result<Credentials<'a>, CallerFault> {
        let (mut claims, mut token) = (Map::new(), None);
        let facts = match self {
            Self::None => KeptFacts::default(),
            Self::Client { id, .. } => {
                let mut facts = KeptFacts::for_made_token(config, None);
                let looked_up = facts.read_client(config, id);
                looked_up.map_err(|source| CallerFault::ClientNotLookedUp { id: id.to_owned(), source })?;
                let known = config.oauth.iter().flat_map(|oauth| &oauth.clients);
                let known: Vec<&str> = known.map(|client| client.id.as_str()).collect();
                if !known.contains(&id) && facts.stored_client.is_none() {
                    return Err(CallerFault::UnknownClient { id: id.to_owned(), hint: suggestion(id, &known) });
                }
                facts
            }
            Self::Issuer { name, claims: file } => {
                let known: Vec<&str> = config.issuers.iter().map(|issuer| issuer.settings.name.as_str()).collect();
                if !known.contains(&name) {
                    return Err(CallerFault::UnknownIssuer { name: name.to_owned(), hint: suggestion(name, &known) });
                }
                claims = file.map(read_claims).transpose()?.unwrap_or_default();
                KeptFacts::for_made_token(config, Some(name))
            }
            Self::Static { name } => {
                let known: Vec<&str> = config.static_tokens.iter().map(|token| token.name.as_str()).collect();
                if !known.contains(&name) {
                    let hint = suggestion(name, &known);
                    return Err(CallerFault::UnknownStaticToken { name: name.to_owned(), hint });
                }
                KeptFacts::default()
            }
            Self::Token { file } => {
                let read = read_token_file(file)?;
                let facts = KeptFacts::for_token(config, &read);
                token = Some(read);
                facts
            }
        };
        Ok(Credentials { caller: self, claims, token, facts })
    }
}

impl Credentials<'_> {
    pub(super) fn presented(&self, rehearsal: &Rehearsal) -> Result<PresentedToken, CallerFault> {
        let (mut not_checked, mut token) = (None, None);
        match (self.caller, &self.token) {
            (ExplainedCaller::None, _) => {}
            (ExplainedCaller::Static { name }, _) => {
                let (name, value) = rehearsal.static_token(name)?;
                let field = Some((name.to_string(), value));
                return Ok(PresentedToken { field, not_checked: None, bound: Confirmation::default(), is_real: false });
            }
            (ExplainedCaller::Client { id, scopes }, _) => token = Some(rehearsal.token_of_client(id, scopes)?),
            (ExplainedCaller::Issuer { name, .. }, _) => token = Some(rehearsal.token_of_issuer(name, &self.claims)?),
            (ExplainedCaller::Token { .. }, real) => token.clone_from(real),
        }
        if let (ExplainedCaller::Token { .. }, Some(real)) = (self.caller, &self.token)
            && let Some(issuer) = rehearsal.issuer_without_keys(real, &self.facts)
        {
            let signed_again = rehearsal.signed_again(real);
            token = Some(signed_again.ok_or_else(|| CallerFault::Algorithm(issuer.as_str().to_owned()))?);
            not_checked = Some(issuer.as_str().to_owned());
        }
        let field = token.map(|token| rehearsal.field_of(&token));
        let bound = self.token.as_deref().map(confirmation_of).unwrap_or_default();
        Ok(PresentedToken { field, not_checked, bound, is_real: self.token.is_some() })
    }
}

/// As a reader of the output sees it.
impl fmt::Display for ExplainedCaller<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("no credentials but those of -H"),
            Self::Client { id, scopes: None } => write!(f, "client {id}, with a token made for this explanation"),
            Self::Client { id, scopes: Some(scopes) } => {
                write!(f, "client {id}, with a token for {scopes} made for this explanation")
            }
            Self::Static { name } => write!(f, "static token {name}"),
            Self::Issuer { name, .. } => write!(f, "issuer {name}, with a token made for this explanation"),
            Self::Token { .. } => f.write_str("the given token"),
        }
    }
}

fn read_claims(path: &Path) -> Result<Map<String, Value>, CallerFault> {
    let text = read(path)?;
    serde_json::from_str(&text).map_err(|source| CallerFault::Claims { path: path.to_owned(), source })
}

fn read_token_file(path: &Path) -> Result<String, CallerFault> {
    if path == Path::new("-") {
        return read_token("portcullis explain METHOD URL --token-file -").map_err(CallerFault::Stdin);
    }
    let text = read(path)?;
    match token_in(&text) {
        "" => Err(CallerFault::NoToken(path.to_owned())),
        token => Ok(token.to_owned()),
    }
}

fn read(path: &Path) -> Result<String, CallerFault> {
    fs::read_to_string(path).map_err(|source| CallerFault::Read { path: path.to_owned(), source })
}
