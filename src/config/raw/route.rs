//! `routes[]`: the requests that a route matches, its target and its access rule.

use super::super::decode::{Decode, Named, OneOrMore, Required, form_of, mirror};
use super::super::diagnostics::Reported;
use super::super::form::{KeyRule, ValueForm};
use super::super::reader::Reader;
use super::super::source::{At, Span};
use super::super::tree::YamlNode;
use super::super::values::{Bound, Hint, Period, ScalarValue, Size};
use super::super::word::Word;
use super::claim::RawClaimRule;
use super::cors::RawCors;
use super::host::RawHost;
use super::rate_limit::RawLimitUse;
use super::target::{RawMirror, RawRedirect, RawRespond, RawUpstreams};
use super::when::RawWhen;
use crate::clock::UnixTime;
use crate::network::Network;
use crate::oauth::bound::TokenBinding;
use crate::pipeline::request::path_forms::PathForm;
use crate::trust::request_key::RequestKey;

mirror! {
    struct RawRoute {
        /// Default: methods, hosts and path.
        name: Option<At<String>>,
        /// Default: any.
        hosts: Option<At<OneOrMore<String>>>,
        path: Required<String>,
        /// Other forms of paths that the route takes.
        paths: Option<At<RawPaths>>,
        /// Default: all but CONNECT and TRACE.
        methods: Option<At<OneOrMore<String>>>,
        /// The header fields of the requests that the route is for. Default: any.
        when: Option<Required<RawWhen>>,
        /// This, `redirect` or `respond`.
        upstream: Option<Required<RawUpstreams>>,
        /// Requests with the same value of this key go to the same one of several upstreams.
        sticky: Option<At<RequestKey>>,
        mirror: Option<At<RawMirror>>,
        redirect: Option<At<RawRedirect>>,
        respond: Option<At<RawRespond>>,
        /// Required also for a public route.
        access: Required<RawAccess>,
        /// The name of the resource in `resources` that it belongs to.
        resource: Option<At<String>>,
        /// Until then, requests that `access` or a limit by caller refuses pass, and are recorded.
        report_until: Option<At<UnixTime>>,
        /// Addresses that may use the route. Default: any.
        allow_from: Option<At<OneOrMore<Network>>>,
        /// Addresses that may not use it, even if `allow_from` contains them.
        deny_from: Option<At<OneOrMore<Network>>>,
        rate_limits: Vec<At<RawLimitUse>>,
        strip_prefix: Option<At<String>>,
        /// A path with the captures of `path`.
        rewrite: Option<At<String>>,
        /// Default: that of the upstream.
        host: Option<At<RawHost>>,
        /// Whether addresses and paths in answers are mapped to the public side.
        map_responses: At<bool> = true,
        headers: RawHeaders,
        response_headers: RawHeaders,
        cors: Option<At<RawCors>>,
        forward_token: At<bool> = false,
        /// To the first byte of the response. Default: the upstream's `response_timeout`.
        timeout: Option<At<Bound<Period>>>,
        /// The limit of a request body; 413 beyond. Default: `limits.body_bytes`.
        body_bytes: Option<At<Bound<Size>>>,
        /// A body of unknown length is read whole, up to this size. Default: it is sent as it comes, in chunks.
        buffer_request: Option<At<Size>>,
        /// Between two pieces of a body, either way. Default: `limits.body_idle_timeout`.
        body_idle_timeout: Option<At<Bound<Period>>>,
        /// Whether WebSocket upgrades are forwarded.
        websocket: At<bool> = false,
        /// Other protocols whose upgrades are forwarded, in lower case.
        upgrades: Vec<At<String>>,
    }
}

mirror! {
    struct RawPaths {
        /// Forms of paths that services read in different ways.
        allow: Required<OneOrMore<PathForm>>,
    }
}

/// The access rule of a route.
#[derive(Debug)]
pub(crate) enum RawAccess {
    Public,
    Rule {
        rule: Box<RawRule>,
        /// Where the file has `claims: {}`, which requires nothing.
        empty_claims: Option<Span>,
    },
}

mirror! {
    /// `{}` is any valid token.
    struct RawRule {
        /// Default: every issuer, our own included.
        issuers: Option<At<OneOrMore<String>>>,
        /// Default: the issuer's own.
        audiences: Option<At<OneOrMore<String>>>,
        scopes: Option<At<RawScopes>>,
        claims: Named<RawClaimRule>,
        /// `ID` is a client of ours, `NAME/ID` one of issuer NAME.
        clients: Option<At<OneOrMore<String>>>,
        /// The binding that a token must have.
        bound: At<TokenBinding> = TokenBinding::None,
    }
}

mirror! {
    /// A plain list means `all_of`. At least one of the two is present, and both must hold.
    struct RawScopeSets {
        /// Scopes that a token must all have.
        all_of: Option<At<OneOrMore<String>>>,
        /// Scopes of which a token must have one.
        any_of: Option<At<OneOrMore<String>>>,
    }
}

#[derive(Debug)]
pub(crate) struct RawScopes(pub(crate) RawScopeSets);

mirror! {
    /// Changes to a header.
    struct RawHeaders {
        /// Fields that replace existing ones.
        set: Named<String>,
        /// Fields that are added to existing ones.
        add: Named<String>,
        /// Names of fields that are removed, before `set` and `add`.
        remove: Vec<At<String>>,
    }
}

impl Decode for RawAccess {
    const WHEN_MISSING: &'static str = ": write `public`, or a map such as `{scopes: [read:data]}`";

    fn form() -> ValueForm {
        form_of::<RawRule>().or_word("public")
    }

    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        const EXPECTED: &str = "`public` or a map such as `{scopes: [read:data]}`";
        if let YamlNode::Map(pairs) = &node.value {
            let is_empty = |value: &YamlNode<'_>| matches!(value, YamlNode::Map(claims) if claims.is_empty());
            let empty = pairs.iter().find(|(key, value)| key.value == "claims" && is_empty(&value.value));
            let empty_claims = empty.map(|(key, _)| key.span);
            return RawRule::decode(node, reader).map(|rule| Self::Rule { rule: Box::new(rule), empty_claims });
        }
        match &*reader.text(node, EXPECTED)?.value {
            "public" => Ok(Self::Public),
            _ => Err(reader.mismatch(node, EXPECTED, "")),
        }
    }
}

impl Decode for RawScopes {
    fn form() -> ValueForm {
        let sets = form_of::<RawScopeSets>().with_rule(KeyRule::NotEmpty);
        ValueForm::AnyOf(vec![form_of::<OneOrMore<String>>(), sets])
    }

    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        const EXPECTED: &str = "a list of scopes, or a map with `all_of` or `any_of`";
        match &node.value {
            YamlNode::List(_) => Ok(Self(RawScopeSets { all_of: Some(At::decode(node, reader)?), any_of: None })),
            YamlNode::Map(pairs) if !pairs.is_empty() => RawScopeSets::decode(node, reader).map(Self),
            YamlNode::Map(_) => Err(reader.faults.at(node.span, format!("expected {EXPECTED}"))),
            YamlNode::Scalar(_) | YamlNode::Refused => Err(reader.mismatch(node, EXPECTED, "write `[…]` around it")),
        }
    }
}

impl ScalarValue for RequestKey {
    fn expected() -> String {
        Self::EXPECTED.to_owned()
    }

    fn form() -> ValueForm {
        let pattern = "client|address|route|subject|claim:.+|header:[!#$%&'*+.^_`|~0-9A-Za-z-]+";
        let examples = &["client", "address", "route", "subject", "claim:NAME", "header:X-Tenant"];
        ValueForm::pattern(pattern, Self::EXPECTED.to_owned(), examples)
    }

    fn parse(text: &str) -> Result<Self, Hint> {
        Self::parse(text)
    }
}

impl Word for TokenBinding {
    fn words() -> Vec<(&'static str, Self)> {
        Self::ALL.into_iter().map(|bound| (bound.as_str(), bound)).collect()
    }
}

impl Word for PathForm {
    fn words() -> Vec<(&'static str, Self)> {
        Self::ALL.into_iter().map(|form| (form.as_str(), form)).collect()
    }
}
