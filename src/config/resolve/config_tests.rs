//! `tests`: the names and requests in them exist and are possible.

use std::collections::HashMap;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};

use super::super::config_test::{ConfigTest, ConfigTests, ExpectedDecision, TestCaller, TestRequest};
use super::super::decode::{Named, OneOrMore};
use super::super::raw::config_test::{RawAllowed, RawCaller, RawScheme, RawTest};
use super::super::source::{At, Span};
use super::super::suggest;
use super::super::types::Oauth;
use super::{Names, Resolver};
use crate::audit::reason::Reason;
use crate::http1::target::OriginForm;
use crate::oauth::caller::IssuerName;
use crate::oauth::scope::ScopeSet;
use crate::pipeline::routing::method_set::STANDARD;
use crate::pipeline::routing::snapshot::BuiltIn;
use crate::pipeline::routing::table::RouteTable;

/// The names that tests refer to.
#[derive(Clone, Copy)]
pub(super) struct TestedNames<'n> {
    pub(super) names: &'n Names,
    pub(super) own: Option<&'n Oauth>,
    pub(super) routes: &'n RouteTable,
    /// The number of routes in the file. Some could not be resolved if the table has fewer.
    pub(super) written: usize,
}

/// Requests of all tests together, each counted once for each caller.
const MAX_REQUESTS: usize = 100_000;

impl Resolver<'_> {
    pub(super) fn config_tests(&mut self, raw: Vec<At<RawTest>>, known: &TestedNames<'_>) -> ConfigTests {
        let mut tests = Vec::new();
        if !self.needs.includes("tests") {
            return ConfigTests::default();
        }
        let mut requests = 0_usize;
        for test in raw {
            let span = test.span;
            let Some(test) = self.config_test(test, known) else { continue };
            requests = requests.saturating_add(test.size());
            if requests > MAX_REQUESTS {
                let message = format!("with this test, there are more than {MAX_REQUESTS} requests for all callers");
                self.faults.at(span, message);
                break;
            }
            tests.push(test);
        }
        ConfigTests { file: self.source.name().to_owned(), tests }
    }

    fn config_test(&mut self, raw: At<RawTest>, known: &TestedNames<'_>) -> Option<ConfigTest> {
        let At { value: raw, span } = raw;
        let callers = match &raw.r#as {
            None => vec![TestCaller::Anonymous],
            Some(Ok(callers)) => self.test_callers(&callers.value.0, known),
            Some(Err(_)) => Vec::new(),
        };
        let has_token = callers.iter().any(|caller| *caller != TestCaller::Anonymous);
        let fields = self.test_fields(&raw.headers, has_token);
        if raw.allowed.is_none() && raw.refused.entries.is_empty() && raw.refused.complete {
            self.faults.at(span, "this test has no requests: add `allowed` or `refused`");
        }
        let mut seen = HashMap::new();
        let mut requests = Vec::new();
        if let Some(Ok(At { value: RawAllowed(allowed), .. })) = &raw.allowed {
            for (request, route) in allowed {
                let route = route.as_ref().filter(|route| self.tested_route(route, known));
                let expected = ExpectedDecision::Allowed(route.map(|route| route.value.clone()));
                requests.extend(self.test_request(request, expected, &mut seen));
            }
        }
        for (request, reason) in &raw.refused.entries {
            let reason = reason.as_ref().ok().and_then(|reason| self.tested_reason(reason));
            // Also checked if its reason is unknown.
            let checked =
                self.test_request(request, ExpectedDecision::Refused(reason.unwrap_or(Reason::NoRoute)), &mut seen);
            requests.extend(checked.filter(|_| reason.is_some()));
        }
        let name = raw.name.map_or_else(|| default_name(&callers), |name| name.value);
        Some(ConfigTest {
            name,
            callers,
            from: raw.from.value,
            host: raw.host.value,
            is_https: raw.scheme.value == RawScheme::Https,
            fields,
            requests,
        })
    }

    fn test_callers(&mut self, raw: &OneOrMore<RawCaller>, known: &TestedNames<'_>) -> Vec<TestCaller> {
        raw.items.iter().filter_map(|caller| self.test_caller(&caller.value, known)).collect()
    }

    fn test_caller(&mut self, raw: &RawCaller, known: &TestedNames<'_>) -> Option<TestCaller> {
        let names = known.names;
        match raw {
            RawCaller::Anonymous => Some(TestCaller::Anonymous),
            RawCaller::Client { id, scopes } => {
                if names.clients_complete && !names.clients.contains_key(&id.value) {
                    let clients: Vec<String> = names.clients.keys().cloned().collect();
                    self.unknown("client", id, &clients);
                    return None;
                }
                let scopes = scopes.as_ref().map(|scopes| self.tested_scopes(&scopes.value, &id.value, known));
                Some(TestCaller::Client { id: id.value.clone(), scopes })
            }
            RawCaller::External { issuer, .. } if issuer.value == IssuerName::OWN => {
                self.faults.at(issuer.span, "tokens of `self` are those of our clients: write `client`");
                None
            }
            RawCaller::External { issuer, .. } if names.issuers_complete && !names.issuers.contains(&issuer.value) => {
                let external: Vec<String> =
                    names.issuers.iter().filter(|name| *name != IssuerName::OWN).cloned().collect();
                self.unknown("issuer", issuer, &external);
                None
            }
            RawCaller::External { issuer, claims } => {
                Some(TestCaller::External { issuer: issuer.value.clone(), claims: claims.clone() })
            }
            RawCaller::StaticToken(name)
                if names.static_tokens_complete && !names.static_tokens.contains(&name.value) =>
            {
                self.unknown("static token", name, &names.static_tokens);
                None
            }
            RawCaller::StaticToken(name) => Some(TestCaller::Static(name.value.clone())),
        }
    }

    /// Scopes that the client may request.
    fn tested_scopes(&mut self, raw: &OneOrMore<String>, id: &str, known: &TestedNames<'_>) -> ScopeSet {
        let client = known.own.and_then(|own| own.clients.iter().find(|client| client.id.as_str() == id));
        if let Some(client) = client {
            for scope in raw.items.iter().filter(|scope| !client.scopes.contains_name(&scope.value)) {
                let has: Vec<&str> = client.scopes.iter().map(|scope| scope.as_str()).collect();
                let (quoted, suggestion) = (self.quoted(scope), suggest::suggestion(&scope.value, &has));
                self.faults.at(scope.span, format!("the client may not request the scope{quoted}{suggestion}"));
            }
        }
        self.scopes(raw)
    }

    fn test_fields(&mut self, raw: &Named<String>, has_token: bool) -> Vec<(HeaderName, HeaderValue)> {
        let mut fields = Vec::new();
        for (name, value) in &raw.entries {
            let Some(header) = self.any_header_name(name) else { continue };
            if header == http::header::HOST {
                self.faults.at(name.span, "the host of a test is its key `host`");
            } else if header == http::header::AUTHORIZATION && has_token {
                self.faults.at(name.span, "the token of the caller in `as` is in this field: remove one of the two");
            }
            let Ok(value) = value else { continue };
            match HeaderValue::try_from(&value.value) {
                Ok(mut value) => {
                    value.set_sensitive(true);
                    fields.push((header, value));
                }
                Err(_) => {
                    self.faults.at(value.span, "expected a header value without line breaks and control characters");
                }
            }
        }
        fields
    }

    /// Whether the route exists, or could not be resolved.
    fn tested_route(&mut self, name: &At<String>, known: &TestedNames<'_>) -> bool {
        let routes = known.routes.routes();
        let built_in = BuiltIn::ALL
            .iter()
            .filter(|kind| known.names.has_oauth || **kind == BuiltIn::Resource)
            .map(|built_in| built_in.name());
        let mut names = routes.iter().map(|route| route.name.as_str()).chain(built_in);
        let is_known = names.any(|known| known == name.value);
        if !is_known && routes.len() == known.written {
            let names: Vec<String> = routes.iter().map(|route| route.name.clone()).collect();
            self.unknown("route", name, &names);
        }
        is_known
    }

    fn tested_reason(&mut self, name: &At<String>) -> Option<Reason> {
        let possible = || Reason::ALL.iter().copied().filter(|reason| is_possible(*reason));
        if let Some(reason) = Reason::ALL.iter().find(|reason| reason.as_str() == name.value) {
            if !is_possible(*reason) {
                let quoted = self.quoted(name);
                let message = format!(
                    "a test is never refused with{quoted}: nothing is sent to a service or to an endpoint of the gateway, and limits are not counted"
                );
                self.faults.at(name.span, message);
            }
            return Some(*reason);
        }
        let names: Vec<String> = possible().map(|reason| reason.as_str().to_owned()).collect();
        self.unknown("reason", name, &names);
        None
    }

    /// A request that is not yet in this test.
    fn test_request(
        &mut self,
        text: &At<String>,
        expected: ExpectedDecision,
        seen: &mut HashMap<String, Span>,
    ) -> Option<TestRequest> {
        if let Some(first) = seen.insert(text.value.clone(), text.span) {
            let line = self.source.line(first);
            self.faults.at(text.span, format!("this request is in the test twice, first at line {line}"));
            return None;
        }
        let parts = text.value.split_once(' ').and_then(|(method, target)| Some((tested_method(method)?, target)));
        let Some((method, target)) = parts else {
            let got = self.got(text);
            self.faults.at(text.span, format!("expected a method and a path such as `GET /invoices/7`{got}"));
            return None;
        };
        let near = suggest::closest(method.as_str(), &STANDARD.each_ref().map(Method::as_str));
        if let Some(meant) = near.filter(|meant| *meant != method.as_str()) {
            let quoted = self.quoted(text);
            self.faults.at(text.span, format!("unknown method in{quoted}, did you mean `{meant}`?"));
            return None;
        }
        let is_asterisk = target == "*" && method == Method::OPTIONS;
        if !is_asterisk && OriginForm::from_bytes(Bytes::copy_from_slice(target.as_bytes())).is_err() {
            let got = self.got(text);
            let message =
                format!("expected a path that begins with `/`, of visible ASCII characters, without `#`{got}");
            self.faults.at(text.span, message);
            return None;
        }
        Some(TestRequest { method, target: target.to_owned(), expected, place: self.source.place(text.span) })
    }
}

/// A method as it may come on a request line. CONNECT has no path.
fn tested_method(text: &str) -> Option<Method> {
    let is_connect = text == Method::CONNECT.as_str();
    Method::from_bytes(text.as_bytes()).ok().filter(|_| !is_connect)
}

/// Whether the decision about a request can be a refusal with this reason.
fn is_possible(reason: Reason) -> bool {
    let is_later = matches!(
        reason,
        Reason::RateLimited
            | Reason::TooManyFailures
            | Reason::Timeout
            | Reason::InvalidClient
            | Reason::InvalidScope
            | Reason::InvalidTarget
            | Reason::UnsupportedGrant
            | Reason::ReloadClosed
    );
    !is_later && !reason.is_failure()
}

fn default_name(callers: &[TestCaller]) -> String {
    let names: Vec<String> = callers.iter().map(ToString::to_string).collect();
    names.join(", ")
}
