//! Requests to an authorization server, over https, or over http within this machine.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Certificate, Client, Identity, RequestBuilder, redirect};
use serde_json::Value;
use url::Url;
use zeroize::Zeroizing;

use super::super::terminal::{error_text, failed};
use super::read;
use super::tls_identity::TlsIdentity;
use crate::telemetry::error_chain::ErrorChain;
use crate::trust::fetch::ClearText;

/// The client of the requests.
pub(super) struct TokenExchange {
    client: Client,
    has_certificate: bool,
}

/// A token request.
#[derive(Default)]
pub(super) struct TokenForm {
    pub(super) fields: Vec<(String, Zeroizing<String>)>,
    pub(super) authorization: Option<Zeroizing<String>>,
    pub(super) dpop: Option<String>,
}

/// The answer to a request.
#[derive(Debug)]
pub(super) struct EndpointAnswer {
    pub(super) status: u16,
    pub(super) dpop_nonce: Option<String>,
    /// Null if it is not JSON.
    pub(super) body: Value,
}

const TIMEOUT: Duration = Duration::from_secs(30);
const MAX_BYTES: usize = 256 * 1024;

impl TokenExchange {
    pub(super) fn new(ca: Option<&Path>, identity: Option<&TlsIdentity>) -> Result<Self, ExitCode> {
        let base = || {
            Client::builder()
                .redirect(redirect::Policy::none())
                .timeout(TIMEOUT)
                .user_agent(concat!("portcullis/", env!("CARGO_PKG_VERSION")))
        };
        let mut builder = base();
        if let Some(file) = ca {
            let unusable = || error_text(format_args!("cannot use {}: it holds no certificate in PEM", file.display()));
            let certificates = Certificate::from_pem_bundle(&read(file)?).map_err(|_| unusable())?;
            if certificates.is_empty() || base().tls_certs_only(certificates.clone()).build().is_err() {
                return Err(unusable());
            }
            builder = builder.tls_certs_only(certificates);
        }
        let Some(TlsIdentity { pem, files }) = identity else {
            return Ok(Self { client: builder.build().map_err(|error| failed(&error))?, has_certificate: false });
        };
        let client = Identity::from_pem(pem).and_then(|identity| builder.identity(identity).build());
        let unusable = |_| {
            error_text(format_args!(
                "cannot use {files}: the key is probably that of another certificate, or a file is not PEM"
            ))
        };
        Ok(Self { client: client.map_err(unusable)?, has_certificate: true })
    }

    pub(super) async fn get(&self, url: &Url) -> Result<EndpointAnswer, ExitCode> {
        self.send(url, self.client.get(url.clone())).await
    }

    pub(super) async fn post(&self, url: &Url, form: &TokenForm) -> Result<EndpointAnswer, ExitCode> {
        let mut request = self.client.post(url.clone()).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(authorization) = &form.authorization {
            request = request.header(AUTHORIZATION, authorization.as_str());
        }
        if let Some(proof) = &form.dpop {
            request = request.header("DPoP", proof);
        }
        self.send(url, request.body(form.encoded())).await
    }

    async fn send(&self, url: &Url, request: RequestBuilder) -> Result<EndpointAnswer, ExitCode> {
        if !ClearText::Loopback.permits(url) {
            return Err(error_text(format_args!("{url} must be https: credentials are sent to it")));
        }
        let lost = |error: reqwest::Error| {
            let error = error.without_url();
            error_text(format_args!(
                "no answer from {url}: {}{}",
                ErrorChain(&error),
                hint(&error, self.has_certificate)
            ))
        };
        let mut response = request.header(ACCEPT, "application/json").send().await.map_err(lost)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(lost)? {
            if body.len() + chunk.len() > MAX_BYTES {
                return Err(error_text(format_args!("{url} sent more than {MAX_BYTES} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        let nonce = response.headers().get("dpop-nonce").and_then(|nonce| nonce.to_str().ok());
        Ok(EndpointAnswer {
            status: response.status().as_u16(),
            dpop_nonce: nonce.map(str::to_owned),
            body: serde_json::from_slice(&body).unwrap_or_default(),
        })
    }
}

/// A server may close a connection whose certificate it refuses before its alert is read (RFC 8446 §4.4.2.4).
fn hint(error: &reqwest::Error, has_certificate: bool) -> &'static str {
    let text = ErrorChain(error).to_string();
    let is_alert = text.contains("fatal alert");
    match has_certificate {
        true if is_alert || !(error.is_connect() || error.is_timeout()) => {
            "; the server may not trust the client's certificate: check `tls.client_auth` of its listener"
        }
        false if is_alert => "; the server may demand a client certificate: give --cert and --cert-key",
        true | false if text.contains("certificate") => "; --ca FILE names the CA of the server",
        true | false => "",
    }
}

impl TokenForm {
    pub(super) fn add(&mut self, name: &str, value: &str) {
        self.fields.push((name.to_owned(), Zeroizing::new(value.to_owned())));
    }

    fn encoded(&self) -> String {
        let pairs = self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
    }
}

impl EndpointAnswer {
    /// `error` of RFC 6749 §5.2.
    pub(super) fn error(&self) -> Option<&str> {
        self.text("error")
    }

    pub(super) fn text(&self, member: &str) -> Option<&str> {
        self.body.get(member).and_then(Value::as_str)
    }
}
