//! The targets of routes: upstreams, mirrors, redirects and fixed responses; and the path that is requested there.

use http::{HeaderValue, StatusCode};

use super::super::decode::Named;
use super::super::origin::UrlOrigin;
use super::super::raw::route::{RawAccess, RawHeaders, RawRoute};
use super::super::raw::target::{RawMirror, RawRedirect, RawRespond, RawUpstreams};
use super::super::source::{At, Span};
use super::super::values::{PositiveCount, ScalarValue as _};
use super::Resolver;
use super::names::Names;
use super::upstreams::Upstreams;
use crate::pipeline::routing::mirror_rule::MirrorRule;
use crate::pipeline::routing::pattern::PathPattern;
use crate::pipeline::routing::public_path::PathChange;
use crate::pipeline::routing::rewrite::PathTemplate;
use crate::pipeline::routing::split::Split;
use crate::pipeline::routing::target::{FixedAnswer, RouteTarget};
use crate::trust::request_key::RequestKey;

/// The body is copied for each response.
const MAX_BODY: usize = 64 * 1024;

impl Resolver<'_> {
    pub(super) fn target(
        &mut self,
        raw: &RawRoute,
        span: Span,
        path: Option<&PathPattern>,
        (names, upstreams): (&Names, &Upstreams),
    ) -> Option<RouteTarget> {
        let upstream = raw.upstream.as_ref().map(|upstream| upstream.as_ref().map_or(span, |upstream| upstream.span));
        let redirect = raw.redirect.as_ref().map(|redirect| redirect.span);
        let respond = raw.respond.as_ref().map(|respond| respond.span);
        let mut given = [upstream, redirect, respond].into_iter().flatten();
        if given.next().is_none() {
            self.faults.at(span, "missing key: a route has `upstream`, `redirect` or `respond`");
        }
        for another in given {
            self.faults.at(another, "a route has only one of `upstream`, `redirect` and `respond`: remove the others");
        }
        if upstream.is_none() {
            self.without_upstream(raw);
        }
        let own = match (&raw.redirect, &raw.respond) {
            (Some(redirect), _) => self.redirect(&redirect.value, raw.path.as_ref().ok(), path),
            (None, Some(respond)) => self.respond(&respond.value),
            (None, None) => None,
        };
        match &raw.upstream {
            Some(upstream) => self.forwarding(upstream.as_ref().ok()?, raw, (names, upstreams)),
            None => own.map(|own| RouteTarget::Own(Box::new(own))),
        }
    }

    fn forwarding(
        &mut self,
        raw: &At<RawUpstreams>,
        route: &RawRoute,
        (names, upstreams): (&Names, &Upstreams),
    ) -> Option<RouteTarget> {
        match &raw.value {
            RawUpstreams::One(name) => {
                if let Some(sticky) = &route.sticky {
                    let message = "`sticky` needs several upstreams, such as `upstream: {stable: 95, canary: 5}`: add some, or remove the key";
                    self.faults.at(sticky.span, message);
                }
                let name = At { value: name.clone(), span: raw.span };
                self.upstream(&name, names, upstreams).map(RouteTarget::Upstream)
            }
            RawUpstreams::Weighed(weights) => self.split(weights, route, (names, upstreams)).map(RouteTarget::Split),
        }
    }

    fn split(
        &mut self,
        weights: &Named<PositiveCount>,
        route: &RawRoute,
        (names, upstreams): (&Names, &Upstreams),
    ) -> Option<Box<Split>> {
        let public = matches!(&route.access, Ok(access) if matches!(access.value, RawAccess::Public));
        let sticky = route.sticky.as_ref().and_then(|key| self.sticky(key, public));
        let mut weighed = Vec::new();
        for (name, weight) in &weights.entries {
            let upstream = self.upstream(name, names, upstreams);
            let Ok(weight) = weight else { continue };
            weighed.extend(upstream.map(|upstream| (upstream, weight.value.get())));
        }
        (!weighed.is_empty()).then(|| Box::new(Split::new(weighed, sticky)))
    }

    fn sticky(&mut self, key: &At<RequestKey>, public: bool) -> Option<RequestKey> {
        let message = match &key.value {
            RequestKey::Route => "all requests of a route would go to one upstream: use another key",
            key if public && key.needs_caller() => "a public route has no caller: use `address` or `header:NAME`",
            key => return Some(key.clone()),
        };
        self.faults.at(key.span, message);
        None
    }

    /// Reports keys that have no effect without an upstream.
    fn without_upstream(&mut self, raw: &RawRoute) {
        let headers = |raw: &RawHeaders| {
            let names = raw.set.entries.iter().chain(&raw.add.entries).map(|(name, _)| name.span);
            names.chain(raw.remove.iter().map(|name| name.span)).collect::<Vec<_>>()
        };
        let keys = [
            raw.sticky.as_ref().map(|key| key.span),
            raw.mirror.as_ref().map(|key| key.span),
            raw.strip_prefix.as_ref().map(|key| key.span),
            raw.rewrite.as_ref().map(|key| key.span),
            raw.host.as_ref().map(|key| key.span),
            (!raw.map_responses.value).then_some(raw.map_responses.span),
            raw.paths.as_ref().map(|key| key.span),
            raw.forward_token.value.then_some(raw.forward_token.span),
            raw.timeout.as_ref().map(|key| key.span),
            raw.body_bytes.as_ref().map(|key| key.span),
            raw.buffer_request.as_ref().map(|key| key.span),
            raw.body_idle_timeout.as_ref().map(|key| key.span),
        ];
        for useless in keys.into_iter().flatten().chain(headers(&raw.headers)) {
            self.faults.at(useless, "this route forwards no requests: remove this");
        }
    }

    fn redirect(
        &mut self,
        raw: &RawRedirect,
        written: Option<&At<String>>,
        path: Option<&PathPattern>,
    ) -> Option<FixedAnswer> {
        const EXPECTED: &str =
            "expected a path such as `/new/**`, or an origin and a path such as `https://new.example.com/**`";
        let to = raw.to.as_ref().ok()?;
        let split = match to.value.split_once("://") {
            None => Some(0),
            Some((scheme, rest)) => rest.find('/').map(|slash| scheme.len() + 3 + slash),
        };
        let Some((origin, template)) = split.map(|at| to.value.split_at(at)) else {
            self.faults.at(to.span, format!("{EXPECTED}: the path is missing"));
            return None;
        };
        if origin.is_empty() && template.starts_with("//") {
            self.faults.at(to.span, format!("{EXPECTED}: `//` at the beginning of a path would name a host"));
            return None;
        }
        if !origin.is_empty()
            && let Err(hint) = UrlOrigin::parse(origin)
        {
            let hint = if hint.is_empty() { String::new() } else { format!(": {hint}") };
            self.faults.at(to.span, format!("{EXPECTED}{hint}"));
            return None;
        }
        let path = self.template(&At { value: template.to_owned(), span: to.span }, written?, path?)?;
        Some(FixedAnswer::Redirect { origin: origin.to_owned(), path, status: raw.status.value.0 })
    }

    fn respond(&mut self, raw: &RawRespond) -> Option<FixedAnswer> {
        let status = raw.status.value.0;
        let without = [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::NOT_MODIFIED].contains(&status);
        let body = raw.body.as_ref().filter(|body| !body.value.is_empty());
        if let Some(body) = body.filter(|_| without) {
            self.faults.at(body.span, "a response with this `status` has no body: remove it");
        }
        if let Some(body) = body.filter(|body| body.value.len() > MAX_BODY) {
            self.faults.at(body.span, "expected a body of at most `64KiB`: serve a longer one from an upstream");
        }
        let default = HeaderValue::from_static("text/plain; charset=utf-8");
        let content_type = match &raw.content_type {
            None => Some(default),
            Some(text) => match HeaderValue::try_from(&text.value).ok().filter(|_| is_media_type(&text.value)) {
                Some(_) if body.is_none() => {
                    self.faults.at(text.span, "there is no `body`: remove `content_type`");
                    None
                }
                Some(value) => Some(value),
                None => {
                    self.faults.at(text.span, "expected a media type such as `application/json`");
                    None
                }
            },
        };
        let content_type = content_type.filter(|_| body.is_some());
        let body = body.map(|body| body.value.as_bytes().into()).unwrap_or_default();
        Some(FixedAnswer::Fixed { status, content_type, body })
    }

    pub(super) fn mirror(&mut self, raw: &RawMirror, names: &Names, upstreams: &Upstreams) -> Option<MirrorRule> {
        let percent = raw.percent.value.get();
        if percent > 100 {
            self.faults.at(raw.percent.span, "expected at most 100");
        }
        let upstream = self.upstream(raw.upstream.as_ref().ok()?, names, upstreams)?;
        Some(MirrorRule { upstream, percent, timeout: raw.timeout.value.get() })
    }

    /// The number of segments to strip, or the path to request instead; and the prefix that is removed in this way.
    pub(super) fn path_change(
        &mut self,
        raw: &RawRoute,
        path: Option<&PathPattern>,
    ) -> (usize, Option<PathTemplate>, Option<HeaderValue>) {
        let (Some(path), Ok(written)) = (path, &raw.path) else { return (0, None, None) };
        if let (Some(rewrite), Some(_)) = (&raw.rewrite, &raw.strip_prefix) {
            self.faults.at(rewrite.span, "`rewrite` replaces the whole path: remove `strip_prefix`");
        }
        let strip = raw.strip_prefix.as_ref().map_or(0, |prefix| self.strip(prefix, path, written));
        let rewrite = raw.rewrite.as_ref().and_then(|rewrite| self.template(rewrite, written, path));
        let change = rewrite.as_ref().map_or(PathChange::Strip(strip), PathChange::Rewrite);
        let prefix = change.literal_prefix(path).and_then(|prefix| HeaderValue::try_from(prefix).ok());
        (strip, rewrite, prefix)
    }

    fn template(&mut self, text: &At<String>, written: &At<String>, path: &PathPattern) -> Option<PathTemplate> {
        let is_variable = [text.span, written.span].iter().any(|span| self.source.has_references(*span));
        match PathTemplate::parse(&text.value, path) {
            Ok(template) => Some(template),
            Err(fault) => {
                let message = if is_variable { fault.without_names() } else { fault.to_string() };
                self.faults.at(text.span, message);
                None
            }
        }
    }

    fn strip(&mut self, prefix: &At<String>, path: &PathPattern, written: &At<String>) -> usize {
        let fault = match PathPattern::parse(&prefix.value) {
            Ok(_) if prefix.value == "/" => Some("`/` strips nothing: remove the key".to_owned()),
            Ok(_) => None,
            Err(fault) => Some(fault.to_string()),
        };
        if let Some(fault) = fault {
            self.faults.at(prefix.span, fault);
            return 0;
        }
        path.strippable(&prefix.value).unwrap_or_else(|| {
            let quoted = self.source.quote(written.span).unwrap_or_else(|| "the path".to_owned());
            self.faults.at(prefix.span, format!("not every match of {quoted} begins with this prefix"));
            0
        })
    }
}

/// A media type, with optional parameters (RFC 9110 §8.3.1).
fn is_media_type(text: &str) -> bool {
    let essence = text.split(';').next().unwrap_or_default().trim_end();
    let is_token = |part: &str| {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
        !part.is_empty() && part.bytes().all(legal)
    };
    essence.split_once('/').is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype))
}
