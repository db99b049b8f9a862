use std::cell::RefCell;

use http::Request;
use http::header::HOST;
use proptest::prelude::*;

use super::super::rewrite::rest;
use super::*;
use crate::pipeline::request::canonical::CanonicalRequest;
use crate::pipeline::request::path_forms::PathForms;
use crate::server::limits::Limits;
use crate::server::received_request::ReceivedHead;

fn read(path: &str) -> Option<CanonicalRequest> {
    let request = Request::builder().uri(path).header(HOST, "a").body(()).ok()?;
    let head = ReceivedHead::from_hyper(request.into_parts().0).ok()?;
    CanonicalRequest::new(&head, "https", &RefCell::default(), &Limits::default(), PathForms::default()).ok()
}

/// A route, and its template if it has one; else it strips this many segments.
struct Mapping {
    route: PathPattern,
    template: Option<PathTemplate>,
    segments: usize,
}

impl Mapping {
    fn rewrite(route: &str, to: &str) -> Self {
        let route = PathPattern::parse(route).unwrap();
        Self { template: Some(PathTemplate::parse(to, &route).unwrap()), route, segments: 0 }
    }

    fn strip(route: &str, prefix: &str) -> Self {
        let route = PathPattern::parse(route).unwrap();
        Self { segments: route.strippable(prefix).unwrap(), route, template: None }
    }

    fn change(&self) -> PathChange<'_> {
        self.template.as_ref().map_or(PathChange::Strip(self.segments), PathChange::Rewrite)
    }

    /// The upstream's path of a public path that the route matches.
    fn forward(&self, path: &str) -> Option<String> {
        let request = read(path).filter(|request| self.route.matches(request.decoded_path()))?;
        match &self.template {
            Some(template) => template.path(request.path()).ok(),
            None => {
                Some(rest(request.path(), self.segments)).map(|rest| if rest.is_empty() { "/" } else { rest }.into())
            }
        }
    }

    #[track_caller]
    fn gives(&self, requested: &str, cases: &[(&str, Option<&str>)]) {
        for (path, public) in cases {
            let found = self.change().public_path(&self.route, requested, path);
            assert_eq!(found.as_deref(), *public, "{} {path}", self.route);
        }
    }
}

#[test]
fn a_stripped_prefix_is_put_back_unless_it_is_there() {
    let cases = [
        ("/", Some("/api/v1/")),
        ("/x", Some("/api/v1/x")),
        ("/x/../y;z%2F", Some("/api/v1/x/../y;z%2F")),
        ("/api/v1", Some("/api/v1")),
        ("/api/v1/x", Some("/api/v1/x")),
        ("/api/v10", Some("/api/v1/api/v10")),
        ("/api", Some("/api/v1/api")),
        ("//evil.example", Some("/api/v1//evil.example")),
    ];
    Mapping::strip("/api/v1/**", "/api/v1").gives("/api/v1/old", &cases);
    Mapping::strip("/a b/**", "/a b").gives("/a%20b/x", &[("/y", Some("/a%20b/y")), ("/a%20b/y", Some("/a%20b/y"))]);
}

#[test]
fn a_rewrite_is_inverted_where_it_has_an_inverse() {
    let captured = Mapping::rewrite("/shops/{shop}/items/{item}/**", "/v2/{item}/of/{shop}/**");
    let cases = [
        ("/v2/7/of/a", Some("/shops/a/items/7")),
        ("/v2/7/of/a/x/", Some("/shops/a/items/7/x/")),
        ("/v2/7/of", None),
        ("/v2//of/a", None),
        ("/v3/7/of/a", None),
        ("/shops/a/items/7/x", Some("/shops/a/items/7/x")),
    ];
    captured.gives("/shops/z/items/9", &cases);
    let cases = [("/new", Some("/old")), ("/new/", Some("/old/")), ("/new/x", Some("/old/x")), ("/newer", None)];
    Mapping::rewrite("/old/**", "/new/**").gives("/old/y", &cases);
    Mapping::rewrite("/**", "/app/**").gives("/x", &[("/app", Some("/")), ("/app/x", Some("/x"))]);
    Mapping::rewrite("/a/{x}", "/{x}/{x}").gives("/a/1", &[("/2/2", Some("/a/2")), ("/2/3", None), ("/2/2/4", None)]);
    Mapping::rewrite("/all/**", "/one").gives("/all/x", &[("/one", Some("/all")), ("/one/x", None), ("/", None)]);
}

#[test]
fn a_capture_that_is_left_out_is_that_of_the_request() {
    let tenants = Mapping::rewrite("/t/{tenant}/**", "/**");
    tenants.gives("/t/acme/x", &[("/", Some("/t/acme/")), ("/y", Some("/t/acme/y")), ("/t/acme/y", Some("/t/acme/y"))]);
    let inner = Mapping::rewrite("/t/{tenant}/{page}", "/pages/{page}");
    inner.gives("/t/acme/1", &[("/pages/2", Some("/t/acme/2"))]);
}

#[test]
fn no_public_path_names_a_host() {
    let below = Mapping::rewrite("/**", "/app/**");
    for path in ["/app//evil.example", "/app/\\evil.example"] {
        below.gives("/x", &[(path, None)]);
        assert_eq!(PathChange::Nothing.public_path(&below.route, "/x", &path[4..]), None, "{path}");
    }
}

#[test]
fn a_literal_prefix_is_known_before_any_request() {
    let prefix = |mapping: &Mapping| mapping.change().literal_prefix(&mapping.route);
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(prefix(&Mapping::strip("/a b/v1/**", "/a b")), some("/a%20b"));
    assert_eq!(prefix(&Mapping::rewrite("/api/v1/{id}/**", "/v1/{id}/**")), some("/api"));
    assert_eq!(prefix(&Mapping::rewrite("/api/**", "/**")), some("/api"));
    for (route, to) in [
        ("/api/**", "/v2/**"),
        ("/api/**", "/api/v2/**"),
        ("/{tenant}/**", "/**"),
        ("/a/{x}/{y}", "/{y}"),
        ("/a/{x}/{y}", "/{y}/{x}"),
        ("/api/**", "/"),
        ("/a/**", "/a/**"),
    ] {
        assert_eq!(prefix(&Mapping::rewrite(route, to)), None, "{route} {to}");
    }
    assert_eq!(PathChange::Nothing.literal_prefix(&PathPattern::parse("/a/**").unwrap()), None);
}

fn mappings() -> Vec<Mapping> {
    vec![
        Mapping::strip("/a/**", "/a"),
        Mapping::strip("/a/b/{x}/**", "/a/b"),
        Mapping::rewrite("/a/**", "/**"),
        Mapping::rewrite("/a/**", "/b/c/**"),
        Mapping::rewrite("/a/{x}/b/{y}/**", "/{y}/d/{x}/**"),
        Mapping::rewrite("/a/{x}/**", "/b/**"),
        Mapping::rewrite("/{x}/a/{y}", "/{y}/{x}/{y}"),
        Mapping::rewrite("/**", "/b c/**"),
    ]
}

proptest! {
    /// The public path of the path to which a request is changed is the path of the request, and leads there again.
    /// Only a slash at the end may differ.
    #[test]
    fn the_inverse_of_a_change_gives_the_public_path(
        which in 0..mappings().len(),
        path in "(/(a|b|c|x|%20|%3F|%C3%BC|[a-c]{1,3})){1,6}/?",
    ) {
        let mapping = &mappings()[which];
        if let Some(changed) = mapping.forward(&path) {
            let requested = read(&path).unwrap();
            let public = mapping.change().public_path(&mapping.route, requested.path(), &changed).unwrap();
            // A service's path that begins with the public prefix is taken for a public one.
            let removed = mapping.change().removed_segments(&mapping.route);
            if removed == 0 || !is_below(&changed, leading_segments(requested.path(), removed)) {
                prop_assert_eq!(public.trim_end_matches('/'), requested.path().trim_end_matches('/'));
                prop_assert_eq!(mapping.forward(&public), Some(changed));
            } else {
                prop_assert_eq!(public, changed);
            }
        }
    }

    /// For any path that the upstream names.
    #[test]
    fn a_public_path_never_begins_like_a_host(
        which in 0..mappings().len(),
        path in "/(%[0-9A-Fa-f]{2}|[abcdx/\\\\.;:@]|b%20c){0,14}",
    ) {
        let mapping = &mappings()[which];
        for change in [PathChange::Nothing, mapping.change()] {
            if let Some(public) = change.public_path(&mapping.route, "/a/x/b/y/z", &path) {
                prop_assert!(public.starts_with('/'));
                prop_assert!(!public.starts_with("//") && !public.starts_with("/\\"), "{}", public);
            }
        }
    }
}
