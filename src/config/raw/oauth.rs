//! `oauth`: our own authorization server. It has the only secrets of the file besides header values.

use std::fmt;
use std::path::PathBuf;

use zeroize::Zeroizing;

use super::super::decode::{Decode, Named, OneOrMore, Required, form_of, mirror};
use super::super::diagnostics::Reported;
use super::super::form::{KeyRule, ValueForm};
use super::super::interpolate::MadeOf;
use super::super::origin::{IssuerUrl, UrlOrigin};
use super::super::reader::Reader;
use super::super::source::At;
use super::super::tree::YamlNode;
use super::super::values::{Bound, Period, seconds};
use super::super::word::Word;
use super::certificate_name::RawCertificateName;
use super::claim::RawClaim;
use super::client_key::RawClientKey;
use super::federation::RawFederation;
use super::rate_limit::{RawClientLimit, RawLimitUse};
use crate::clock::UnixTime;
use crate::network::Network;
use crate::oauth::bound::TokenBinding;

mirror! {
    struct RawOauth {
        issuer: Required<IssuerUrl>,
        mtls_origin: Option<At<UrlOrigin>>,
        /// The first is the default.
        audiences: Required<OneOrMore<String>>,
        /// Default: an hour.
        token_ttl: Option<At<Period>>,
        /// The keys that sign the tokens.
        signing_keys: RawSigningKeys,
        /// The endpoint that grants the tokens.
        token_endpoint: RawTokenEndpoint,
        /// The proofs of possession of keys (DPoP).
        dpop: RawDpop,
        clients: Named<RawClient>,
        /// Where clients beside those of the file are.
        clients_in: At<ClientsIn> = ClientsIn::File,
        /// Our introspection endpoint. Default: there is none.
        introspection: Option<At<RawOwnIntrospection>>,
    }
}

/// Where clients beside those of the file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientsIn {
    /// There are no others.
    File,
    Sqlite,
    Postgres,
}

/// Where the signing keys are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeysIn {
    Files,
    Postgres,
}

impl Word for KeysIn {
    fn words() -> Vec<(&'static str, Self)> {
        vec![("files", Self::Files), ("postgres", Self::Postgres)]
    }
}

impl Word for ClientsIn {
    fn words() -> Vec<(&'static str, Self)> {
        vec![("file", Self::File), ("sqlite", Self::Sqlite), ("postgres", Self::Postgres)]
    }
}

mirror! {
    /// The proofs of possession of keys, at the token endpoint and on all routes.
    struct RawDpop {
        /// Whether a proof must carry a nonce of the gateway.
        nonce: At<bool> = false,
        /// The age at which a proof is refused. At most 5 minutes.
        max_age: At<Period> = seconds(60),
    }
}

mirror! {
    struct RawSigningKeys {
        algorithm: At<String> = "RS256".to_owned(),
        /// Default: `keys` in the state directory.
        directory: Option<At<PathBuf>>,
        /// `postgres` keeps them in the database of `shared.postgres`, for all gateways that use it.
        r#in: At<KeysIn> = KeysIn::Files,
        rotate_every: At<Bound<Period>> = Bound::AtMost(seconds(30 * 24 * 3600)),
        /// Encrypts the keys in the database: 32 bytes in base64url.
        wrapping_key: Option<At<Secret>>,
        /// Opens keys, too, while a wrapping key is replaced by another.
        other_wrapping_key: Option<At<Secret>>,
        x5c: At<bool> = false,
    }
}

mirror! {
    struct RawTokenEndpoint {
        /// Default: `/oauth/token` below the path of the issuer.
        path: Option<At<String>>,
        json_requests: At<bool> = true,
        /// Default: 20/s per address with a burst of 40.
        rate_limits: Option<At<Vec<At<RawLimitUse>>>>,
    }
}

mirror! {
    struct RawOwnIntrospection {
        /// The clients that may ask.
        clients: Required<OneOrMore<String>>,
    }
}

mirror! {
    struct RawClient {
        secrets: Option<Required<OneOrMore<RawSecret>>>,
        keys: Option<Required<OneOrMore<RawClientKey>>>,
        /// The names of its certificates, for `tls_client_auth`.
        certificates: Option<At<OneOrMore<RawCertificateName>>>,
        scopes: Required<OneOrMore<String>>,
        audiences: Option<At<OneOrMore<String>>>,
        /// The lifetime of the client's tokens.
        token_ttl: Option<At<Period>>,
        claims: Named<RawClaim>,
        /// The addresses that it may use, for token requests and with tokens. Default: any.
        allow_from: Option<At<OneOrMore<Network>>>,
        bound: At<TokenBinding> = TokenBinding::None,
        /// Over all routes and the token endpoint.
        rate_limits: Vec<At<RawClientLimit>>,
        /// The platform tokens that authenticate the client.
        federation: Option<Required<OneOrMore<RawFederation>>>,
    }
}

impl RawClient {
    /// The secrets that could be read.
    pub(crate) fn secrets(&self) -> &[At<RawSecret>] {
        items(self.secrets.as_ref())
    }

    /// The keys that could be read.
    pub(crate) fn keys(&self) -> &[At<RawClientKey>] {
        items(self.keys.as_ref())
    }

    /// The entries that could be read.
    pub(crate) fn federation(&self) -> &[At<RawFederation>] {
        items(self.federation.as_ref())
    }

    /// Whether nothing could authenticate the client.
    pub(crate) fn has_no_credential(&self) -> bool {
        let has_keys = self.secrets.is_some() || self.keys.is_some() || self.certificates.is_some();
        !has_keys && self.federation.is_none()
    }
}

fn items<T>(list: Option<&Required<OneOrMore<T>>>) -> &[At<T>] {
    list.and_then(|list| list.as_ref().ok()).map_or(&[], |list| &list.value.items)
}

/// One of a client's secrets, with the time in which it is valid.
#[derive(Debug)]
pub(crate) struct RawSecret {
    pub(crate) kept: KeptSecrets,
    pub(crate) not_before: Option<At<UnixTime>>,
    pub(crate) expires_at: Option<At<UnixTime>>,
}

#[derive(Debug)]
pub(crate) enum KeptSecrets {
    Hash(At<Secret>),
    Value(At<Secret>),
}

/// Text that is wiped when dropped and never printed.
pub(crate) struct Secret {
    text: Zeroizing<String>,
    made_of: MadeOf,
}

impl Secret {
    pub(crate) fn expose(&self) -> &str {
        &self.text
    }

    /// Whether its variable or file is missing. Only a command that does not need secrets gets such a secret.
    pub(crate) fn is_absent(&self) -> bool {
        !self.is_literal() && self.text.is_empty()
    }

    /// Whether any part of it is written in the config file itself.
    pub(crate) fn is_literal(&self) -> bool {
        self.made_of != MadeOf::References
    }

    /// Whether all of it is written in the config file itself.
    pub(crate) fn is_wholly_literal(&self) -> bool {
        self.made_of == MadeOf::Characters
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

mirror! {
    struct RawSecretKeys {
        /// The hash of a secret, as `portcullis client new` and `portcullis client hash` print it.
        hash: Option<At<Secret>>,
        /// The secret, from a variable or a file: `"${NAME}"`. It has 16 characters or more.
        value: Option<At<Secret>>,
        /// The time from which on the secret is wrong. Default: none.
        expires_at: Option<At<UnixTime>>,
        /// The time before which the secret is wrong. Default: none.
        not_before: Option<At<UnixTime>>,
    }
}

impl Decode for RawSecret {
    const IS_SECRET: bool = true;

    fn form() -> ValueForm {
        form_of::<RawSecretKeys>().with_rule(KeyRule::OneOf(&[&["hash"], &["value"]]))
    }

    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        const EXPECTED: &str = "a map such as `{hash: …}` or `{value: …}`";
        let YamlNode::Map(pairs) = &node.value else {
            return Err(reader.mismatch(node, EXPECTED, ""));
        };
        let faults = reader.faults.count();
        let RawSecretKeys { hash, value, not_before, expires_at } = RawSecretKeys::decode(node, reader)?;
        let kept = match (hash, value) {
            (Some(hash), None) => KeptSecrets::Hash(hash),
            (None, Some(value)) => KeptSecrets::Value(value),
            (None, None) if reader.faults.count() > faults => return Err(reader.faults.reported_before()),
            (None, None) => return Err(reader.mismatch(node, EXPECTED, "")),
            (Some(_), Some(_)) => {
                let second = pairs.iter().filter(|(key, _)| matches!(&*key.value, "hash" | "value")).nth(1);
                let second = second.map_or(node.span, |(key, _)| key.span);
                return Err(reader
                    .faults
                    .at(second, "expected either `hash` or `value`: two secrets are two items of the list"));
            }
        };
        Ok(Self { kept, not_before, expires_at })
    }
}

impl Decode for Secret {
    const IS_SECRET: bool = true;

    fn form() -> ValueForm {
        ValueForm::Text
    }

    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        let text = reader.secret_text(node)?;
        if text.is_ambiguous() {
            return Err(reader.mismatch(node, "text", text.how_to_quote()));
        }
        Ok(Self { made_of: text.made_of, text: Zeroizing::new(text.value.into_owned()) })
    }
}
