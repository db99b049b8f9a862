//! `upstreams.NAME.authorization`: the credential of the service itself, and the routes that lead to it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};

use super::super::lint::Lint;
use super::super::raw::authorization::RawAuthorization;
use super::super::raw::oauth::Secret;
use super::super::raw::route::{RawAccess, RawRoute};
use super::super::source::At;
use super::Resolver;
use crate::pipeline::request::headers::is_protected;
use crate::pipeline::routing::mirror_rule::MirrorRule;
use crate::pipeline::routing::target::RouteTarget;
use crate::upstream::service::Upstream;
use crate::upstream::service_credential::ServiceCredential;

impl Resolver<'_> {
    /// `None` if there is a fault.
    pub(super) fn service_credential(&mut self, raw: &At<RawAuthorization>) -> Option<ServiceCredential> {
        let (name, value) = match &raw.value {
            RawAuthorization::Bearer(token) => {
                self.must_be_kept_apart(token, token.value.is_literal());
                (Some(AUTHORIZATION), self.bearer(token))
            }
            RawAuthorization::Basic { user, password } => {
                self.must_be_kept_apart(password, password.value.is_literal());
                (Some(AUTHORIZATION), self.basic(user, password))
            }
            RawAuthorization::Header { name, value } => {
                // A scheme may be written before the variable.
                self.must_be_kept_apart(value, value.value.is_wholly_literal());
                (self.credential_header(name), self.credential_value(value))
            }
        };
        Some(ServiceCredential::new(name?, value?))
    }

    pub(super) fn must_be_kept_apart(&mut self, secret: &At<Secret>, is_literal: bool) {
        if is_literal && !self.allow_literal_secrets {
            let message = "the secret is written in the file: use `${NAME}` or `${file:path}`, or set \
                           `allow_literal_secrets: true`";
            self.faults.at(secret.span, message);
        }
    }

    fn bearer(&mut self, token: &At<Secret>) -> Option<HeaderValue> {
        let text = token.value.expose();
        if !token.value.is_absent() && (text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic())) {
            self.faults.at(token.span, "expected a token of printable ASCII without spaces");
            return None;
        }
        HeaderValue::try_from(format!("Bearer {text}")).ok()
    }

    /// RFC 7617 §2.
    fn basic(&mut self, user: &At<String>, password: &At<Secret>) -> Option<HeaderValue> {
        if user.value.contains(|c: char| c == ':' || c.is_control()) {
            self.faults.at(user.span, "expected a user without `:` and control characters");
        }
        if password.value.expose().contains(char::is_control) {
            self.faults.at(password.span, "expected a password without line breaks and control characters");
        }
        let encoded = STANDARD.encode(format!("{}:{}", user.value, password.value.expose()));
        HeaderValue::try_from(format!("Basic {encoded}")).ok()
    }

    fn credential_header(&mut self, name: &At<String>) -> Option<HeaderName> {
        let header = self.any_header_name(name)?;
        if is_protected(&header) && header != AUTHORIZATION {
            let quoted = self.quoted(name);
            self.faults
                .at(name.span, format!("the header{quoted} is managed by the gateway: it cannot be a credential"));
            return None;
        }
        Some(header)
    }

    pub(super) fn credential_value(&mut self, value: &At<Secret>) -> Option<HeaderValue> {
        let text = value.value.expose();
        let is_whole = value.value.is_absent() || (!text.is_empty() && text.trim() == text);
        let header = HeaderValue::try_from(text).ok().filter(|_| is_whole);
        if header.is_none() {
            let message = "expected a header value without line breaks, control characters, and spaces at its ends";
            self.faults.at(value.span, message);
        }
        header
    }

    /// Reports keys of a route that have no effect because its upstreams have credentials of their own, and warns if
    /// every caller acts with these.
    pub(super) fn credentials_of_upstreams(
        &mut self,
        raw: &RawRoute,
        target: Option<&RouteTarget>,
        mirror: Option<&MirrorRule>,
    ) {
        let upstreams: Vec<&Upstream> = target.into_iter().flat_map(RouteTarget::upstreams).map(|to| &**to).collect();
        if let Some(upstream) = upstreams.iter().find(|upstream| upstream.settings.replaces_authorization())
            && raw.forward_token.value
            && self.token_fields.is_empty()
        {
            let message = format!(
                "upstream `{}` gets the `Authorization` of its own `authorization`, and never the token: remove \
                 `forward_token`",
                upstream.name
            );
            self.faults.at(raw.forward_token.span, message);
        }
        let set = raw.headers.set.entries.iter().chain(&raw.headers.add.entries).map(|(name, _)| name);
        for name in set {
            let is_replaced = |upstream: &&Upstream| {
                let credential = upstream.settings.authorization.as_ref();
                credential.is_some_and(|credential| credential.is_read_as(&name.value))
            };
            if let Some(first) = upstreams.first()
                && upstreams.iter().all(is_replaced)
            {
                let message =
                    format!("upstream `{}` sets this header by its `authorization`: remove it here", first.name);
                self.faults.at(name.span, message);
            }
        }
        let Ok(access) = &raw.access else { return };
        let copied = mirror.map(|mirror| &*mirror.upstream);
        let mut reached = upstreams.into_iter().chain(copied);
        if matches!(access.value, RawAccess::Public)
            && let Some(upstream) = reached.find(|upstream| upstream.settings.authorization.is_some())
        {
            let message = format!(
                "this route is public, and upstream `{}` gets the service's own credential (`authorization`): every \
                 caller acts with it; require a token under `access`, or check that the service gives nothing away here",
                upstream.name
            );
            self.warn(Lint::PublicCredential, access.span, message);
        }
    }
}
