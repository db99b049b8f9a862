//! Where the token endpoint is: as given, in the metadata of the issuer (RFC 8414), or in the configuration.

use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;
use url::Url;

use super::super::terminal::{bad_config, error_text};
use super::TokenGetArgs;
use super::exchange::TokenExchange;
use crate::config;
use crate::config::interpolate::Surroundings;
use crate::config::needs::Needs;
use crate::trust::discovery::metadata_urls;

pub(super) struct TokenPlace {
    pub(super) token_endpoint: Url,
    /// The audience of an assertion of the client: the issuer if it is known, else the token endpoint.
    pub(super) audience: String,
}

/// The name of another issuer is cut to this length.
const SHOWN_CHARACTERS: usize = 200;

impl TokenPlace {
    pub(super) async fn find(args: &TokenGetArgs, exchange: &TokenExchange) -> Result<Self, ExitCode> {
        match (&args.config, &args.url, &args.issuer) {
            (Some(file), _, _) => Self::of_config(file),
            (None, Some(url), issuer) => {
                let audience = issuer.clone().unwrap_or_else(|| url.to_string());
                Ok(Self { token_endpoint: url.clone(), audience })
            }
            (None, None, Some(issuer)) => Self::discover(issuer, args.cert.is_some(), exchange).await,
            (None, None, None) => Err(error_text("give --issuer, --url or --config")),
        }
    }

    fn of_config(file: &Path) -> Result<Self, ExitCode> {
        let config = config::load_part(file, Needs::TOKEN_ENDPOINT, &Surroundings::process());
        let Some(oauth) = config.map_err(|errors| bad_config(&errors))?.oauth else {
            return Err(error_text(format_args!("{} issues no tokens: it has no `oauth`", file.display())));
        };
        let endpoints = &oauth.server.endpoints;
        let token_endpoint = parsed(&endpoints.url(&endpoints.token), "oauth.issuer")?;
        Ok(Self { token_endpoint, audience: endpoints.issuer.clone() })
    }

    /// By the first document that is the metadata of exactly this issuer, as for the keys of an issuer.
    async fn discover(issuer: &str, by_certificate: bool, exchange: &TokenExchange) -> Result<Self, ExitCode> {
        parsed(issuer, "--issuer")?;
        let mut results = Vec::new();
        for url in metadata_urls(issuer).unwrap_or_default() {
            let answer = exchange.get(&url).await?;
            if answer.status != 200 {
                results.push(format!("{url} answered {}", answer.status));
                continue;
            }
            match Self::in_metadata(issuer, by_certificate, &answer.body) {
                Ok(endpoint) => {
                    let token_endpoint = parsed(endpoint, "the token endpoint of the metadata")?;
                    return Ok(Self { token_endpoint, audience: issuer.to_owned() });
                }
                Err(fault) => results.push(format!("{url} {fault}")),
            }
        }
        let tried = results.join("; ");
        Err(error_text(format_args!("found no metadata of the issuer: {tried}; give the token endpoint by --url")))
    }

    /// The token endpoint. Metadata that names another issuer must not be used (RFC 8414 §3.3).
    fn in_metadata<'m>(issuer: &str, by_certificate: bool, metadata: &'m Value) -> Result<&'m str, String> {
        let Some(named) = metadata["issuer"].as_str() else {
            return Err("is not issuer metadata".to_owned());
        };
        if named != issuer {
            let shown: String = named.chars().take(SHOWN_CHARACTERS).collect();
            let is_alike = named.trim_end_matches('/') == issuer.trim_end_matches('/');
            let hint = if is_alike { ": give --issuer with this text" } else { "" };
            return Err(format!("is the metadata of the issuer `{}`{hint}", shown.escape_debug()));
        }
        // RFC 8705 §5.
        let alias = metadata["mtls_endpoint_aliases"]["token_endpoint"].as_str().filter(|_| by_certificate);
        alias.or_else(|| metadata["token_endpoint"].as_str()).ok_or_else(|| "names no token endpoint".to_owned())
    }
}

fn parsed(url: &str, name: &str) -> Result<Url, ExitCode> {
    Url::parse(url).map_err(|error| error_text(format_args!("{name} is no URL: {error}")))
}
