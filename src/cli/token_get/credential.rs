//! The authentication method of the client, read from the arguments, and its part of a request.

use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

use super::super::terminal::{error_text, failed};
use super::exchange::TokenForm;
use super::tls_identity::TlsIdentity;
use super::{GrantWay, TokenGetArgs, read};
use crate::clock;
use crate::jose::client_proofs::assertion;
use crate::jose::private_key_file::private_key;
use crate::jose::signing::SigningKey;

/// The credential of the client.
pub(super) enum ClientProof {
    /// `client_secret_basic` (RFC 6749 §2.3.1).
    Secret(Zeroizing<String>),
    /// `private_key_jwt` (RFC 7523 §2.2).
    Key(Box<SigningKey>),
    /// A platform token: as the client's credential (RFC 7523 §2.2), or as the grant (§2.1).
    Platform { token: Zeroizing<String>, presented: PlatformTokenUse },
    /// `tls_client_auth` (RFC 8705 §2.1).
    Certificate(TlsIdentity),
}

#[derive(Clone, Copy)]
pub(super) enum PlatformTokenUse {
    Jwt,
    Spiffe,
    Grant,
}

const SECRET_VARIABLE: &str = "PORTCULLIS_CLIENT_SECRET";
const MAX_STDIN: u64 = 64 * 1024;
const JWT_BEARER_GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

impl ClientProof {
    pub(super) fn read(args: &TokenGetArgs) -> Result<Self, ExitCode> {
        if let Some(file) = &args.key {
            return Ok(Self::Key(Box::new(read_key(file)?)));
        }
        if let Some(file) = &args.assertion_file {
            let presented = match (args.grant, args.spiffe) {
                (GrantWay::JwtBearer, true) => {
                    return Err(error_text("--spiffe is for a client's credential: leave out --grant jwt-bearer"));
                }
                (GrantWay::JwtBearer, false) => PlatformTokenUse::Grant,
                (GrantWay::ClientCredentials, true) => PlatformTokenUse::Spiffe,
                (GrantWay::ClientCredentials, false) => PlatformTokenUse::Jwt,
            };
            return Ok(Self::Platform { token: text(file)?, presented });
        }
        if let (Some(certificate), Some(key)) = (&args.cert, &args.cert_key) {
            return Ok(Self::Certificate(TlsIdentity::read(certificate, key)?));
        }
        if let Some(file) = &args.secret_file {
            return Ok(Self::Secret(text(file)?));
        }
        let secret = std::env::var(SECRET_VARIABLE).ok().filter(|secret| !secret.is_empty());
        secret.map(|secret| Self::Secret(Zeroizing::new(secret))).ok_or_else(|| {
            error_text(format_args!(
                "the client has no credential: give --secret-file, --key, --assertion-file or --cert, \
                 or set {SECRET_VARIABLE}"
            ))
        })
    }

    /// The certificate of the TLS connection.
    pub(super) fn tls_identity(&self) -> Option<&TlsIdentity> {
        match self {
            Self::Certificate(identity) => Some(identity),
            Self::Secret(_) | Self::Key(_) | Self::Platform { .. } => None,
        }
    }

    /// The parameters that say who asks. `audience` is what an assertion is for.
    pub(super) fn form(&self, client: Option<&str>, audience: &str) -> Result<TokenForm, ExitCode> {
        let mut form = TokenForm::default();
        let id = client.unwrap_or_default();
        match self {
            Self::Secret(secret) => {
                form.add("grant_type", "client_credentials");
                form.authorization = Some(basic(id, secret));
            }
            Self::Key(key) => {
                let made = assertion(key, id, audience, clock::now()).map_err(|error| failed(&error))?;
                form.add("grant_type", "client_credentials");
                form.add("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
                form.add("client_assertion", &made);
            }
            Self::Platform { token, presented } => {
                platform_token(&mut form, token, *presented);
                client.into_iter().for_each(|id| form.add("client_id", id));
            }
            Self::Certificate(_) => {
                form.add("grant_type", "client_credentials");
                form.add("client_id", id);
            }
        }
        Ok(form)
    }
}

fn platform_token(form: &mut TokenForm, token: &str, presented: PlatformTokenUse) {
    let assertion_type = match presented {
        PlatformTokenUse::Grant => {
            form.add("grant_type", JWT_BEARER_GRANT);
            return form.add("assertion", token);
        }
        PlatformTokenUse::Jwt => "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        PlatformTokenUse::Spiffe => "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe",
    };
    form.add("grant_type", "client_credentials");
    form.add("client_assertion_type", assertion_type);
    form.add("client_assertion", token);
}

/// Id and secret are form-encoded first (RFC 6749 §2.3.1).
fn basic(id: &str, secret: &str) -> Zeroizing<String> {
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = Zeroizing::new(format!("{}:{}", encoded(id), encoded(secret)));
    Zeroizing::new(format!("Basic {}", BASE64.encode(pair.as_bytes())))
}

pub(super) fn read_key(file: &Path) -> Result<SigningKey, ExitCode> {
    let content = Zeroizing::new(read(file)?);
    private_key(&content).map_err(|fault| error_text(format_args!("cannot use {}: {fault}", file.display())))
}

/// The text of a file or of standard input, without the line break at its end.
fn text(file: &Path) -> Result<Zeroizing<String>, ExitCode> {
    let content = if file == Path::new("-") {
        let mut content = Vec::new();
        std::io::stdin().take(MAX_STDIN).read_to_end(&mut content).map_err(|error| failed(&error))?;
        content
    } else {
        read(file)?
    };
    let content = Zeroizing::new(content);
    let shown = file.display();
    let text = std::str::from_utf8(&content).map_err(|_| error_text(format_args!("{shown} is not UTF-8 text")))?;
    match text.trim_end_matches(['\n', '\r']) {
        "" => Err(error_text(format_args!("{shown} is empty"))),
        text => Ok(Zeroizing::new(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_and_secret_are_form_encoded_before_base64() {
        let decoded = BASE64.decode(basic("a b", "p:q%").strip_prefix("Basic ").unwrap()).unwrap();
        assert_eq!(decoded, b"a+b:p%3Aq%25");
    }

    #[test]
    fn each_use_of_a_platform_token_has_its_parameters() {
        for (presented, grant, name, kind) in [
            (PlatformTokenUse::Grant, JWT_BEARER_GRANT, "assertion", None),
            (PlatformTokenUse::Jwt, "client_credentials", "client_assertion", Some("jwt-bearer")),
            (PlatformTokenUse::Spiffe, "client_credentials", "client_assertion", Some("jwt-spiffe")),
        ] {
            let token = Zeroizing::new("eyJ".to_owned());
            let form = ClientProof::Platform { token, presented }.form(Some("app"), "https://g.example").unwrap();
            let value =
                |name: &str| form.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str());
            assert_eq!((value("grant_type"), value(name), value("client_id")), (Some(grant), Some("eyJ"), Some("app")));
            let type_name = kind.map(|kind| format!("urn:ietf:params:oauth:client-assertion-type:{kind}"));
            assert_eq!(value("client_assertion_type"), type_name.as_deref());
        }
    }
}
