use std::cell::RefCell;

use http::Request;
use http::header::HOST;
use proptest::prelude::*;

use super::*;
use crate::pipeline::request::path_forms::PathForms;
use crate::pipeline::routing::rewrite::PathTemplate;
use crate::pipeline::routing::route::tests::route;
use crate::server::limits::Limits;
use crate::server::received_request::ReceivedHead;

/// A route of `path` to `http://127.0.0.1:9`.
fn stripping(path: &str, prefix: &str) -> Route {
    let mut route = route(path, &[], &[]);
    route.strip_segments = route.path.strippable(prefix).unwrap_or(0);
    route
}

fn rewriting(path: &str, to: &str) -> Route {
    let mut route = route(path, &[], &[]);
    route.rewrite = Some(Box::new(PathTemplate::parse(to, &route.path).unwrap()));
    route
}

/// The value of a field of an answer to a request for `path`.
fn mapped(route: &Route, path: &str, name: HeaderName, value: &str) -> String {
    let request = Request::builder().uri(path).header(HOST, "public.example").body(()).unwrap();
    let head = ReceivedHead::from_hyper(request.into_parts().0).unwrap();
    let request =
        CanonicalRequest::new(&head, "https", &RefCell::default(), &Limits::default(), PathForms::default()).unwrap();
    let mut headers = HeaderMap::from_iter([(name.clone(), HeaderValue::from_bytes(value.as_bytes()).unwrap())]);
    let upstream = route.target.upstreams().next().unwrap();
    ResponseMapping { route, request: &request, upstream, sent_host: &RequestHost::Configured }.apply(&mut headers);
    String::from_utf8(headers[name].as_bytes().to_vec()).unwrap()
}

#[track_caller]
fn locations(route: &Route, path: &str, cases: &[(&str, &str)]) {
    for (location, expected) in cases {
        assert_eq!(mapped(route, path, LOCATION, location), *expected, "{location}");
        assert_eq!(mapped(route, path, CONTENT_LOCATION, location), *expected, "{location}");
    }
}

#[track_caller]
fn stay(route: &Route, path: &str, locations: &[&str]) {
    for location in locations {
        assert_eq!(mapped(route, path, LOCATION, location), *location);
    }
}

#[test]
fn own_addresses_and_paths_become_public_paths() {
    let cases = [
        ("http://127.0.0.1:9/login?next=/x#y", "/api/login?next=/x#y"),
        ("https://127.0.0.1:9/login", "/api/login"),
        ("HTTP://127.0.0.1:9", "/api/"),
        ("http://127.0.0.1:9?x", "/api/?x"),
        ("//127.0.0.1:9/login", "/api/login"),
        ("  /login ", "/api/login"),
        ("/a b/\u{fc};jsessionid=1%2F", "/api/a b/\u{fc};jsessionid=1%2F"),
        ("/x/../../login/./", "/api/login/"),
        ("http://127.0.0.1:9/api/login", "/api/login"),
        ("http://127.0.0.1:9//evil.example", "/api//evil.example"),
    ];
    locations(&stripping("/api/**", "/api"), "/api/dir/page", &cases);
}

#[test]
fn relative_references_are_resolved_where_paths_change() {
    let cases = [("login", "/api/dir/login"), ("../x", "/api/x"), ("../../../x", "/api/x"), ("./?a", "/api/dir/?a")];
    locations(&stripping("/api/**", "/api"), "/api/dir/page", &cases);
    locations(&stripping("/api/**", "/api"), "/api", &[("login", "/api/login")]);
    let template = rewriting("/shops/{shop}/**", "/s/of/{shop}/**");
    locations(&template, "/shops/a/x", &[("y", "/shops/a/y"), ("../b/y", "/shops/b/y"), ("../../of/b", "/shops/b")]);
    stay(&stripping("/api/**", ""), "/api/x", &["login", "../x", "./y", "/x/../y"]);
}

#[test]
fn other_references_stay_as_they_were() {
    let foreign = [
        "https://login.example/x",
        "https://public.example/x",
        "http://127.0.0.1/x",
        "http://127.0.0.1:90/x",
        "http://user@127.0.0.1:9/x",
        "//evil.example/x",
        "///x",
        "/\\evil.example",
        "\\\\127.0.0.1:9\\x",
        "http:\\\\127.0.0.1:9/x",
        "http:/x",
        "mailto:a@127.0.0.1:9",
        "/\t/evil.example",
        "/api/x",
        "/api",
        "?x",
        "#x",
        "",
    ];
    stay(&stripping("/api/**", "/api"), "/api/x", &foreign);
}

/// A path without a host, such as `//evil.example`, would name one.
#[test]
fn no_mapped_reference_names_a_host() {
    let plain = stripping("/api/**", "");
    let own =
        ["http://127.0.0.1:9//evil.example", "http://127.0.0.1:9/.//evil.example", "http://127.0.0.1:9/%2e//evil"];
    stay(&plain, "/api/x", &own);
    stay(
        &rewriting("/**", "/app/**"),
        "/x",
        &["/app//evil.example", "/app/./%2E//evil.example", "/app/\\evil.example"],
    );
    locations(&plain, "/api/x", &[("http://127.0.0.1:9/login", "/login"), ("http://127.0.0.1:9", "/")]);
}

#[test]
fn a_path_without_a_public_path_stays() {
    let template = rewriting("/old/**", "/new/**");
    stay(&template, "/old/x", &["/other", "http://127.0.0.1:9/other", "/old/y"]);
    locations(&template, "/old/x", &[("/new/y", "/old/y"), ("http://127.0.0.1:9/old/y", "/old/y")]);
}

#[test]
fn the_url_of_a_refresh_is_mapped_in_its_place() {
    let route = stripping("/api/**", "/api");
    for (refresh, expected) in [
        ("5; url=/x", "5; url=/api/x"),
        ("0;URL='/x?y' ", "0;URL='/api/x?y' "),
        ("1.5 , Url = \"http://127.0.0.1:9/x\"", "1.5 , Url = \"/api/x\""),
        ("5; /x", "5; /api/x"),
        ("5 url=/x", "5 url=/api/x"),
        ("5; url='/x", "5; url='/api/x"),
        ("5; url=https://login.example/", "5; url=https://login.example/"),
        ("5; url=/api/x", "5; url=/api/x"),
        ("5", "5"),
        ("5;", "5;"),
        ("5; url=''", "5; url=''"),
        ("url=/x", "url=/x"),
        ("", ""),
    ] {
        assert_eq!(mapped(&route, "/api/y", REFRESH, refresh), expected, "{refresh}");
    }
}

#[test]
fn cookies_get_the_public_path_and_no_domain_of_the_upstream() {
    let route = stripping("/api/**", "/api");
    for (cookie, expected) in [
        ("a=b; Path=/; HttpOnly", "a=b; Path=/api; HttpOnly"),
        ("a=b; Domain=127.0.0.1; Path=/x", "a=b; Path=/api/x"),
        ("a=b; Path=/api/x; Domain=public.example", "a=b; Path=/api/x; Domain=public.example"),
        ("__Host-a=b; Secure; Path=/", "__Host-a=b; Secure; Path=/"),
    ] {
        assert_eq!(mapped(&route, "/api/y", SET_COOKIE, cookie), expected, "{cookie}");
    }
    let plain = stripping("/api/**", "");
    assert_eq!(mapped(&plain, "/api/y", SET_COOKIE, "a=b; Domain=127.0.0.1; Path=/"), "a=b; Path=/");
    assert_eq!(mapped(&rewriting("/old/**", "/new/**"), "/old", SET_COOKIE, "a=b; Path=/new"), "a=b; Path=/old");
}

#[test]
fn every_field_of_a_name_is_mapped() {
    let mut headers = HeaderMap::new();
    for path in ["/", "/x"] {
        headers.append(SET_COOKIE, HeaderValue::try_from(format!("a=b; Path={path}")).unwrap());
    }
    change(&mut headers, SET_COOKIE, |text| map_cookie(text, |path| Some(format!("/api{path}")), |_| false));
    assert_eq!(headers.get_all(SET_COOKIE).iter().collect::<Vec<_>>(), ["a=b; Path=/api", "a=b; Path=/api/x"]);
}

proptest! {
    /// For any reference of the upstream, a mapped one is a path at the same host.
    #[test]
    fn a_reference_becomes_a_path_or_stays_as_it_was(
        begin in "(https?:)?(//)?(127\\.0\\.0\\.1(:9)?|evil\\.example)?",
        rest in "(/|\\\\|\t|\\.|%2e|%2F|[a-z:@;?# ]|app/|api/){0,12}",
    ) {
        let text = format!("{begin}{rest}");
        for route in [stripping("/api/**", ""), stripping("/api/**", "/api"), rewriting("/api/**", "/**"), rewriting("/**", "/app/**")] {
            for name in [LOCATION, CONTENT_LOCATION] {
                let mapped = mapped(&route, "/api/x/y", name, &text);
                let is_path = mapped.starts_with('/') && !mapped[1..].starts_with(['/', '\\']);
                prop_assert!(mapped == text || (is_path && !mapped.contains("127.0.0.1:9/")), "{text:?} became {mapped:?}");
            }
        }
    }

    #[test]
    fn text_that_is_no_cookie_or_refresh_is_not_damaged(text in "[ -~]{0,30}|[a-z]=[a-z]?(; ?(path|domain|secure)=?[/a-z.; ]{0,6}){0,3}") {
        let route = stripping("/api/**", "/api");
        let cookie = mapped(&route, "/api/x", SET_COOKIE, &text);
        prop_assert_eq!(cookie.split(';').next(), text.split(';').next());
        let refresh = mapped(&route, "/api/x", REFRESH, &text);
        prop_assert!(refresh == text || refresh.contains("/api"), "{text:?} became {refresh:?}");
    }
}
