//! `listeners[]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::super::decode::{OneOrMore, Required, mirror};
use super::super::form::ValueForm;
use super::super::origin::UrlOrigin;
use super::super::source::At;
use super::super::values::{Hint, ScalarValue};
use super::super::word::Word;
use crate::pipeline::request::origin_part::ProxyStatement;

mirror! {
    struct RawListener {
        address: Required<SocketAddr>,
        /// The certificates. Without it the listener speaks plain HTTP.
        tls: Option<At<RawTls>>,
        redirect_to: Option<At<UrlOrigin>>,
        /// Every connection begins with a PROXY header, from one of `trusted_proxies`.
        proxy_protocol: At<bool> = false,
        /// The parts of the public origin that `trusted_proxies` may state, and whether they may state client certificates.
        /// Default: none.
        believe: Option<At<OneOrMore<ProxyStatement>>>,
    }
}

mirror! {
    struct RawTls {
        /// Chosen by SNI; the first is the default.
        certificates: Required<OneOrMore<RawCertificate>>,
        min_version: At<RawMinVersion> = RawMinVersion::Tls12,
        /// Client certificates. Without it the listener asks for none.
        client_auth: Option<At<RawClientAuth>>,
    }
}

mirror! {
    struct RawClientAuth {
        /// Whether a client may have a certificate or must have one. Default: `none`.
        mode: Option<Required<RawClientAuthMode>>,
        /// A PEM file with the authorities that issue client certificates.
        ca: Option<At<PathBuf>>,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RawClientAuthMode {
    None,
    Optional,
    Required,
}

mirror! {
    struct RawCertificate {
        /// A PEM file with the certificate and its chain.
        cert: Required<PathBuf>,
        /// A PEM file with the private key.
        key: Required<PathBuf>,
        /// Creates the pair if both files are missing: for development only. Default: `false`.
        self_signed: At<bool> = false,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RawMinVersion {
    Tls12,
    Tls13,
}

impl Word for ProxyStatement {
    fn words() -> Vec<(&'static str, Self)> {
        Self::ALL.into_iter().map(|statement| (statement.as_str(), statement)).collect()
    }
}

impl Word for RawClientAuthMode {
    fn words() -> Vec<(&'static str, Self)> {
        vec![("none", Self::None), ("optional", Self::Optional), ("required", Self::Required)]
    }
}

impl ScalarValue for RawMinVersion {
    fn expected() -> String {
        "`\"1.2\"` or `\"1.3\"`".to_owned()
    }

    fn form() -> ValueForm {
        ValueForm::Words(vec!["1.2", "1.3"])
    }

    fn parse(text: &str) -> Result<Self, Hint> {
        match text {
            "1.2" => Ok(Self::Tls12),
            "1.3" => Ok(Self::Tls13),
            _ => Err(""),
        }
    }
}
