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

pub(super) struct TokenPlace {
    pub(super) token_endpoint: Url,
    /// The audience of an assertion of the client: the issuer if it is known, else the token endpoint.
    pub(super) audience: String,
}

const METADATA: [&str; 2] = ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"];

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

    async fn discover(issuer: &str, by_certificate: bool, exchange: &TokenExchange) -> Result<Self, ExitCode> {
        let url = parsed(issuer, "--issuer")?;
        let mut statuses = Vec::new();
        for place in METADATA {
            let mut metadata_url = url.clone();
            metadata_url.set_path(&format!("{place}{}", url.path().trim_end_matches('/')));
            let answer = exchange.get(&metadata_url).await?;
            if answer.status == 200 && answer.body.is_object() {
                return Self::in_metadata(issuer, by_certificate, &answer.body, &metadata_url);
            }
            statuses.push(format!("{metadata_url} answered {}", answer.status));
        }
        let tried = statuses.join(", ");
        Err(error_text(format_args!("found no metadata of the issuer: {tried}; give the token endpoint by --url")))
    }

    /// Metadata that names another issuer must not be used (RFC 8414 §3.3). A slash at the end is ignored here.
    fn in_metadata(issuer: &str, by_certificate: bool, metadata: &Value, found_at: &Url) -> Result<Self, ExitCode> {
        let named = metadata["issuer"].as_str().unwrap_or_default();
        if named.trim_end_matches('/') != issuer.trim_end_matches('/') {
            let named = named.escape_debug();
            return Err(error_text(format_args!(
                "{found_at} is the metadata of the issuer `{named}`: give --issuer with this text"
            )));
        }
        // RFC 8705 §5.
        let alias = metadata["mtls_endpoint_aliases"]["token_endpoint"].as_str().filter(|_| by_certificate);
        let Some(endpoint) = alias.or_else(|| metadata["token_endpoint"].as_str()) else {
            return Err(error_text(format_args!("{found_at} names no token endpoint")));
        };
        Ok(Self { token_endpoint: parsed(endpoint, "the token endpoint of the metadata")?, audience: named.to_owned() })
    }
}

fn parsed(url: &str, name: &str) -> Result<Url, ExitCode> {
    Url::parse(url).map_err(|error| error_text(format_args!("{name} is no URL: {error}")))
}
