//! A route with its policy, as compiled from the configuration.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};

use super::access::{Access, AddressRule};
use super::cors::Cors;
use super::field_conditions::FieldConditions;
use super::header_rules::HeaderRules;
use super::method_set::MethodSet;
use super::mirror_rule::MirrorRule;
use super::pattern::{HostPattern, PathPattern};
use super::public_path::PathChange;
use super::rate_limit::RateLimit;
use super::resource::ResourceIdentifier;
use super::rewrite::{PathTemplate, rest};
use super::series::SeriesNames;
use super::target::RouteTarget;
use crate::clock::UnixTime;
use crate::http1::target::OriginForm;
use crate::pipeline::request::ambiguous::Ambiguous;
use crate::pipeline::request::canonical::CanonicalRequest;
use crate::pipeline::request::path_forms::PathForms;
use crate::pipeline::request::spelling::check_forwarded;
use crate::pipeline::request::upgrade::Upgrades;
use crate::upstream::host::HostRule;
use crate::upstream::service::Upstream;

#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) name: String,
    /// Empty: any host.
    pub(crate) hosts: Vec<HostPattern>,
    pub(crate) path: PathPattern,
    /// Forms of paths that it takes in the match of its `/**`, although services may read them in other ways.
    pub(crate) path_forms: PathForms,
    pub(crate) methods: MethodSet,
    /// The header fields of the requests that it is for. `None`: any.
    pub(crate) when: Option<FieldConditions>,
    pub(crate) target: RouteTarget,
    pub(crate) access: Access,
    /// The resource that challenges name, so that clients get a token for it.
    pub(crate) resource: Option<Arc<ResourceIdentifier>>,
    /// Until this time, requests that its rule or its limits by caller refuse pass, and are recorded.
    pub(crate) report_until: Option<UnixTime>,
    pub(crate) from: AddressRule,
    pub(crate) limits: Vec<RateLimit>,
    /// How many leading segments of the path are removed.
    pub(crate) strip_segments: usize,
    /// The path that the upstream gets instead.
    pub(crate) rewrite: Option<Box<PathTemplate>>,
    /// The `Host` that upstreams get. `None`: as the upstream is configured.
    pub(crate) host: Option<HostRule>,
    /// The prefix that is removed from every path, where that is a literal one: `X-Forwarded-Prefix`.
    pub(crate) forwarded_prefix: Option<HeaderValue>,
    /// Answers that name the upstream's own address and paths name the public paths instead.
    pub(crate) map_responses: bool,
    /// Applied to the request before it is sent to the upstream.
    pub(crate) request_headers: HeaderRules,
    /// Applied to every answer.
    pub(crate) response_headers: Option<Box<HeaderRules>>,
    /// Forward `Authorization` although the route is protected.
    pub(crate) forward_token: bool,
    /// The timeout until the first byte of the answer. `None`: the upstream's own.
    pub(crate) timeout: Option<Duration>,
    pub(crate) body_bytes: Option<u64>,
    /// A body of unknown length is read whole, up to this number of bytes, before it is sent.
    pub(crate) buffer_request: Option<usize>,
    /// The timeout between two pieces of a body, in both directions. A route may have its own limit, also none.
    pub(crate) body_idle: Option<Option<Duration>>,
    /// The upstream that gets copies.
    pub(crate) mirror: Option<Box<MirrorRule>>,
    /// The rules for pages of other origins.
    pub(crate) cors: Option<Box<Cors>>,
    /// The other protocols that it opens tunnels for; none on most.
    pub(crate) upgrades: Upgrades,
}

impl Route {
    /// Whether refusals of its rule and of its limits by caller are recorded only. By a clock that cannot be right, the
    /// rule is enforced.
    pub(crate) fn only_reports(&self, now: UnixTime) -> bool {
        self.report_until.is_some_and(|until| now.is_plausible() && now < until)
    }

    /// The target of the request to the upstream.
    pub(crate) fn upstream_target(&self, request: &CanonicalRequest) -> Result<OriginForm, Ambiguous> {
        let path = self.path.spell(request);
        let target = match &self.rewrite {
            Some(template) => request.target_at(&template.path(&path)?)?,
            None if self.strip_segments == 0 && matches!(path, Cow::Borrowed(_)) => request.target().clone(),
            None => match rest(&path, self.strip_segments) {
                "" => request.target_at("/")?,
                rest => request.target_at(rest)?,
            },
        };
        if !request.forms.is_empty() {
            check_forwarded(target.path())?;
        }
        Ok(target)
    }

    /// Refuses a request for this route whose path has forms that the route has not opted in to, or has them before the
    /// match of its `/**`, or would lead the upstream elsewhere.
    pub(super) fn check_path_forms(&self, request: &CanonicalRequest) -> Result<(), Ambiguous> {
        let path = request.path();
        let before = &path[..path.len() - rest(path, self.path.segments.len()).len()];
        let refused = request.forms.without(self.path_forms).union(PathForms::in_part(before));
        refused.iter().next().map_or(Ok(()), |form| Err(form.fault()))?;
        self.upstream_target(request).map(drop)
    }

    /// The names of its metrics series.
    pub(super) fn series_names(&self) -> SeriesNames {
        let branches = match &self.target {
            RouteTarget::Split(split) => split.upstreams().map(|upstream| upstream.name.to_string()).collect(),
            RouteTarget::Upstream(_) | RouteTarget::Own(_) => Vec::new(),
        };
        let limits = self.limits.iter().map(|limit| limit.name.clone()).collect();
        SeriesNames { rule: self.name.clone(), limits, branches }
    }

    /// Replaces upstreams, in every place that names one.
    pub(super) fn replace_upstreams(&mut self, replace: &impl Fn(&mut Arc<Upstream>)) {
        match &mut self.target {
            RouteTarget::Upstream(upstream) => replace(upstream),
            RouteTarget::Split(split) => split.replace_upstreams(replace),
            RouteTarget::Own(_) => {}
        }
        self.mirror.iter_mut().for_each(|mirror| replace(&mut mirror.upstream));
    }

    /// False if the upstream gets the public path.
    pub(crate) fn changes_paths(&self) -> bool {
        !matches!(self.path_change(), PathChange::Nothing)
    }

    /// The path by which clients reach `path` of the upstream; see [`PathChange::public_path`].
    pub(crate) fn public_path(&self, request: &CanonicalRequest, path: &str) -> Option<String> {
        self.path_change().public_path(&self.path, request.path(), path)
    }

    fn path_change(&self) -> PathChange<'_> {
        match (&self.rewrite, self.strip_segments) {
            (Some(template), _) => PathChange::Rewrite(template),
            (None, 0) => PathChange::Nothing,
            (None, segments) => PathChange::Strip(segments),
        }
    }

    /// Adds the fields that this route sets on all its answers; `granted` is the origin whose pages may read them.
    pub(crate) fn apply_response_rules(
        &self,
        headers: &mut HeaderMap,
        is_refusal: bool,
        granted: Option<&HeaderValue>,
    ) {
        match &self.response_headers {
            None => {}
            Some(rules) if is_refusal => rules.apply_to_refusal(headers),
            Some(rules) => rules.apply(headers),
        }
        if let Some(cors) = &self.cors {
            cors.add_headers(granted, headers);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::upstream::protocol::UpstreamProtocol;
    use crate::upstream::server::{Server, ServerOrigin};
    use crate::upstream::settings::UpstreamSettings;

    /// A public route to nowhere.
    pub(crate) fn route(path: &str, hosts: &[&str], methods: &[&str]) -> Route {
        let settings = UpstreamSettings::new(Duration::from_secs(1), Duration::from_secs(1));
        let server = Server::tcp(ServerOrigin::parse("http://127.0.0.1:9").unwrap(), None, UpstreamProtocol::Http1);
        let upstream = Upstream::new("legacy", vec![server], settings);
        let methods = match methods {
            [] => MethodSet::all(),
            some => MethodSet::new(some.iter().map(|method| MethodSet::parse_method(method).unwrap())),
        };
        Route {
            name: path.to_owned(),
            hosts: hosts.iter().map(|host| HostPattern::parse(host).unwrap()).collect(),
            path: PathPattern::parse(path).unwrap(),
            path_forms: PathForms::default(),
            methods,
            when: None,
            target: RouteTarget::Upstream(Arc::new(upstream)),
            access: Access::Public,
            resource: None,
            from: AddressRule::default(),
            limits: Vec::new(),
            strip_segments: 0,
            rewrite: None,
            host: None,
            forwarded_prefix: None,
            report_until: None,
            map_responses: true,
            request_headers: HeaderRules::default(),
            response_headers: None,
            forward_token: false,
            buffer_request: None,
            timeout: None,
            body_bytes: None,
            body_idle: None,
            mirror: None,
            cors: None,
            upgrades: Upgrades::default(),
        }
    }

    #[test]
    fn a_wrong_clock_opens_no_route_that_only_reports() {
        let until = crate::clock::now().plus(Duration::from_secs(60));
        let reporting = Route { report_until: Some(until), ..route("/a", &[], &[]) };
        assert!(reporting.only_reports(crate::clock::now()));
        assert!(!reporting.only_reports(until));
        assert!(!reporting.only_reports(UnixTime::from_seconds(0)));
    }
}
