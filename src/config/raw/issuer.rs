//! `issuers.NAME`.

use std::path::PathBuf;
use std::time::Duration;

use super::super::decode::{Decode, OneOrMore, Required, form_of, list_or_item, mirror};
use super::super::diagnostics::Reported;
use super::super::form::ValueForm;
use super::super::origin::HttpUrl;
use super::super::reader::Reader;
use super::super::source::At;
use super::super::tree::YamlNode;
use super::key_source::{RawFetch, RawJwks};

mirror! {
    struct RawIssuer {
        /// The `iss` of its tokens. With `tenants`, it has `{tenant}` as a segment of its path. Required without
        /// `spiffe`.
        issuer: Option<Required<String>>,
        tenants: Option<At<OneOrMore<String>>>,
        /// A trust domain whose JWT-SVIDs are accepted.
        spiffe: Option<At<RawSpiffe>>,
        /// The URL of its JWK Set. Default: discovered.
        jwks_uri: Option<Required<HttpUrl>>,
        /// A file with its JWK Set, which is watched.
        jwks_file: Option<Required<PathBuf>>,
        jwks: Option<Required<RawJwks>>,
        fetch: Option<At<RawFetch>>,
        /// Default: none, so that its tokens are credentials of clients only.
        audiences: Option<Required<RawAudiences>>,
        /// Names the audience where `aud` is absent or empty. Default: none.
        audience_claim: Option<At<String>>,
        /// Default: `sub`.
        subject_claim: Option<At<RawSubjectClaim>>,
        /// The header field that has its tokens. Default: `Authorization`.
        token_header: Option<At<String>>,
        /// Default: RS256, PS256, ES256, ES384 and EdDSA.
        algorithms: Option<At<OneOrMore<String>>>,
        /// Default: `at+jwt`, `JWT` and `absent`.
        types: Option<At<OneOrMore<String>>>,
        clock_skew: At<Duration> = Duration::from_secs(30),
        scope_claim: At<RawScopeClaim> = RawScopeClaim::Auto,
        /// Default: all.
        allow_scopes: Option<At<OneOrMore<String>>>,
        /// Default: the system's roots.
        ca: Option<At<PathBuf>>,
        /// Default: 1 h.
        max_stale: Option<At<Duration>>,
        /// Whether its documents may be fetched in clear text from other machines. Default: false.
        allow_http: Option<At<bool>>,
    }
}

mirror! {
    struct RawSpiffe {
        trust_domain: Required<String>,
        /// A file, or a URL.
        bundle: Required<String>,
    }
}

#[derive(Debug)]
pub(crate) enum RawAudiences {
    /// No audience is checked.
    Unlimited,
    Listed(OneOrMore<String>),
}

/// The name of a claim, or a list of names.
#[derive(Debug)]
pub(crate) struct RawSubjectClaim(pub(crate) OneOrMore<String>);

#[derive(Debug)]
pub(crate) enum RawScopeClaim {
    Auto,
    Named(OneOrMore<RawClaimPath>),
}

#[derive(Debug)]
pub(crate) enum RawClaimPath {
    /// The name of a claim, else a dotted path.
    Text(String),
    /// Names that are taken literally.
    Parts(OneOrMore<String>),
}

/// Accepts tokens for any audience, in place of a list.
const UNLIMITED: &str = "unlimited";

impl Decode for RawAudiences {
    fn form() -> ValueForm {
        form_of::<OneOrMore<String>>().or_word("unlimited")
    }

    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        const EXPECTED: &str = "a list of audiences, or `unlimited`";
        match &node.value {
            YamlNode::List(_) => {
                let list: OneOrMore<String> = OneOrMore::decode(node, reader)?;
                for item in list.items.iter().filter(|item| item.value == UNLIMITED) {
                    let message = "in a list this is the name of one audience: write `audiences: unlimited` to accept \
                                   tokens for any, or name the audiences";
                    reader.faults.at(item.span, message);
                }
                Ok(Self::Listed(list))
            }
            YamlNode::Scalar(_) | YamlNode::Map(_) | YamlNode::Refused => match &*reader.text(node, EXPECTED)?.value {
                UNLIMITED => Ok(Self::Unlimited),
                _ => Err(reader.mismatch(node, EXPECTED, "write `[…]` around an audience")),
            },
        }
    }
}

impl Decode for RawSubjectClaim {
    fn form() -> ValueForm {
        ValueForm::Text.or_list()
    }

    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        list_or_item(node, reader).map(Self)
    }
}

impl Decode for RawScopeClaim {
    fn form() -> ValueForm {
        RawClaimPath::form().or_list()
    }

    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        let paths: OneOrMore<RawClaimPath> = list_or_item(node, reader)?;
        match &paths.items[..] {
            [At { value: RawClaimPath::Text(text), .. }] if text == "auto" => Ok(Self::Auto),
            _ => Ok(Self::Named(paths)),
        }
    }
}

impl Decode for RawClaimPath {
    fn form() -> ValueForm {
        ValueForm::Text.or_list()
    }

    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        match &node.value {
            YamlNode::List(_) => OneOrMore::decode(node, reader).map(Self::Parts),
            YamlNode::Scalar(_) | YamlNode::Map(_) | YamlNode::Refused => String::decode(node, reader).map(Self::Text),
        }
    }
}
