//! `tests[]`: requests with their callers, and the decisions that are expected.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Map, Value};

use super::super::decode::{Decode, EMPTY_LIST, MapField, Named, OneOrMore, Required, list_or_item, mirror};
use super::super::diagnostics::Reported;
use super::super::form::ValueForm;
use super::super::reader::Reader;
use super::super::source::At;
use super::super::tree::YamlNode;
use super::super::values::{Hint, ScalarValue};
use super::claim::ClaimValue;

mirror! {
    /// A matrix: each caller sends each request.
    struct RawTest {
        /// Default: the callers.
        name: Option<At<String>>,
        /// Default: `anonymous`.
        r#as: Option<Required<RawCallers>>,
        from: At<IpAddr> = IpAddr::V4(Ipv4Addr::LOCALHOST),
        host: At<String> = "localhost".to_owned(),
        scheme: At<RawScheme> = RawScheme::Https,
        headers: Named<String>,
        allowed: Option<Required<RawAllowed>>,
        /// Requests with their reasons.
        refused: Named<String>,
    }
}

/// One caller, or a list of them.
#[derive(Debug)]
pub(crate) struct RawCallers(pub(crate) OneOrMore<RawCaller>);

#[derive(Debug)]
pub(crate) enum RawCaller {
    Anonymous,
    Client {
        id: At<String>,
        /// Default: all that it may request.
        scopes: Option<At<OneOrMore<String>>>,
    },
    External {
        issuer: At<String>,
        claims: Map<String, Value>,
    },
    StaticToken(At<String>),
}

mirror! {
    /// Exactly one of `client`, `issuer` and `static_token`.
    struct RawCallerKeys {
        /// A client of `oauth.clients`.
        client: Option<Required<String>>,
        /// The scopes of the client's token. Default: all of the client.
        scopes: Option<At<OneOrMore<String>>>,
        /// An external issuer, by its name.
        issuer: Option<Required<String>>,
        /// The claims of the issuer's token. `iss`, `aud`, `iat` and `exp` are added.
        claims: Option<At<RawJson>>,
        /// A static token, by its name.
        static_token: Option<Required<String>>,
    }
}

/// A claim as JSON: text, whole numbers, truth values, nothing, and lists and maps of them.
#[derive(Debug)]
pub(crate) struct RawJson(pub(crate) Value);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RawScheme {
    Http,
    Https,
}

/// Requests, each perhaps with the route that must take it.
#[derive(Debug)]
pub(crate) struct RawAllowed(pub(crate) Vec<RequestAndRoute>);

impl Decode for RawCallers {
    fn form() -> ValueForm {
        RawCaller::form().or_list()
    }

    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        list_or_item(node, reader).map(Self)
    }
}

impl Decode for RawCaller {
    fn form() -> ValueForm {
        let keys = <RawCallerKeys as Decode>::form();
        let with = |own: &'static [&'static str]| keys.clone().keeping(own).requiring(own[0]);
        let kinds: [&[&str]; 3] = [&["client", "scopes"], &["issuer", "claims"], &["static_token"]];
        ValueForm::AnyOf(kinds.into_iter().map(with).collect()).or_word("anonymous")
    }

    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        const EXPECTED: &str = "`anonymous`, `{client: ID}`, `{issuer: NAME, claims: {…}}` or `{static_token: NAME}`";
        if !matches!(node.value, YamlNode::Map(_)) {
            return match &*reader.text(node, EXPECTED)?.value {
                "anonymous" => Ok(Self::Anonymous),
                _ => Err(reader.mismatch(node, EXPECTED, "")),
            };
        }
        let faults = reader.faults.count();
        let RawCallerKeys { client, scopes, issuer, claims, static_token } = RawCallerKeys::decode(node, reader)?;
        if reader.faults.count() > faults {
            return Err(reader.faults.reported_before());
        }
        match (client, issuer, static_token) {
            (Some(Ok(id)), None, None) if claims.is_none() => Ok(Self::Client { id, scopes }),
            (None, Some(Ok(issuer)), None) if scopes.is_none() => {
                let claims = match claims.map(|claims| (claims.value.0, claims.span)) {
                    None => Map::new(),
                    Some((Value::Object(claims), _)) => claims,
                    Some((_, span)) => return Err(reader.faults.at(span, "expected a map of claims")),
                };
                Ok(Self::External { issuer, claims })
            }
            (None, None, Some(Ok(name))) if scopes.is_none() && claims.is_none() => Ok(Self::StaticToken(name)),
            _ => Err(reader.mismatch(node, EXPECTED, "`scopes` belongs to `client`, and `claims` to `issuer`")),
        }
    }
}

impl Decode for RawJson {
    fn form() -> ValueForm {
        ValueForm::FreeMap
    }

    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        let value = match &node.value {
            YamlNode::Map(_) => {
                let Named { entries, complete } = Named::<Self>::given(node, reader);
                if !complete {
                    return Err(reader.faults.reported_before());
                }
                let member = |(name, value): (At<String>, Required<Self>)| Ok((name.value, value?.value.0));
                Value::Object(entries.into_iter().map(member).collect::<Result<_, Reported>>()?)
            }
            YamlNode::List(items) => {
                items.iter().map(|item| Self::decode(item, reader).map(|item| item.0)).collect::<Result<_, _>>()?
            }
            YamlNode::Scalar(scalar) if scalar.is_nothing() => Value::Null,
            YamlNode::Scalar(_) | YamlNode::Refused => ClaimValue::decode(node, reader)?.to_json(),
        };
        Ok(Self(value))
    }
}

impl ScalarValue for RawScheme {
    fn expected() -> String {
        "`https` or `http`".to_owned()
    }

    fn form() -> ValueForm {
        ValueForm::Words(vec!["https", "http"])
    }

    fn parse(text: &str) -> Result<Self, Hint> {
        match text {
            "http" => Ok(Self::Http),
            "https" => Ok(Self::Https),
            _ => Err(""),
        }
    }
}

impl Decode for RawAllowed {
    fn form() -> ValueForm {
        let with_routes = || ValueForm::Text.named(1);
        ValueForm::AnyOf(vec![ValueForm::AnyOf(vec![ValueForm::Text, with_routes()]).list(1), with_routes()])
    }

    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        const EXPECTED: &str = "a list of requests such as `[GET /invoices/7]`, or a map of requests and routes";
        match &node.value {
            YamlNode::Map(_) => Ok(Self(with_routes(node, reader))),
            YamlNode::List(items) if items.is_empty() => Err(reader.faults.at(node.span, EMPTY_LIST)),
            YamlNode::List(items) => Ok(Self(items.iter().flat_map(|item| allowed(item, reader)).collect())),
            YamlNode::Scalar(_) | YamlNode::Refused => Err(reader.mismatch(node, EXPECTED, "")),
        }
    }
}

type RequestAndRoute = (At<String>, Option<At<String>>);

/// An item of the list: a request, or requests with their routes.
fn allowed(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Vec<RequestAndRoute> {
    const EXPECTED: &str =
        "a request such as `GET /invoices/7`, or one with its route such as `{GET /invoices/7: invoices}`";
    match &node.value {
        YamlNode::Map(_) => return with_routes(node, reader),
        YamlNode::Scalar(scalar) if scalar.text.contains("${") => {
            reader.faults.at(node.span, "a request cannot be a variable: write it out");
        }
        YamlNode::Scalar(scalar) if !scalar.is_nothing() => {
            return At::decode(node, reader).ok().map(|request| (request, None)).into_iter().collect();
        }
        YamlNode::Scalar(_) | YamlNode::List(_) | YamlNode::Refused => {
            reader.mismatch(node, EXPECTED, "");
        }
    }
    Vec::new()
}

fn with_routes(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Vec<RequestAndRoute> {
    let named = Named::<String>::given(node, reader);
    if named.entries.is_empty() && named.complete {
        reader.faults.at(node.span, "this map is empty: name a request with its route");
    }
    named.entries.into_iter().map(|(request, route)| (request, route.ok())).collect()
}
