//! The path that the upstream gets, beside the path on which the gateway decides.

use std::cell::RefCell;
use std::sync::LazyLock;

use http::Request;
use http::header::HOST;

use super::*;
use crate::pipeline::request::path_forms::PathForm;
use crate::pipeline::routing::rewrite::PathTemplate;
use crate::server::limits::Limits;
use crate::server::received_request::ReceivedHead;

/// The path as the most lenient service would read it: decoded until nothing changes, without parameters, backslashes
/// as slashes, empty and dot segments resolved. Independent of the gateway's own parser.
fn eagerly(target: &str) -> String {
    let mut path = target.split('?').next().unwrap().to_owned();
    loop {
        let decoded = percent_encoding::percent_decode_str(&path).decode_utf8_lossy().replace('\\', "/");
        let bare: Vec<&str> = decoded.split('/').map(|segment| segment.split(';').next().unwrap()).collect();
        let bare = bare.join("/");
        if bare == path {
            break;
        }
        path = bare;
    }
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            other => segments.push(other),
        }
    }
    format!("/{}", segments.join("/"))
}

/// The request that a table lets in.
fn read(table: &RouteTable, target: &str) -> Option<CanonicalRequest> {
    let (head, ()) = Request::get(target).header(HOST, "a").body(()).ok()?.into_parts();
    let head = ReceivedHead::from_hyper(head).ok()?;
    let forms = table.path_forms();
    let request = CanonicalRequest::new(&head, "https", &RefCell::default(), &Limits::default(), forms).ok()?;
    table.check_path_forms(&request).is_ok().then_some(request)
}

/// Segments made of the parts of known attacks.
fn hostile_target() -> impl Strategy<Value = String> {
    let pieces = vec![
        "api",
        "public",
        "admin",
        "private",
        "settings",
        "help",
        "legacy",
        "API",
        "x",
        ".",
        "..",
        "...",
        "%2e",
        "%2E%2e",
        "%252e",
        "%25%32%65",
        "%2f",
        "%5c",
        "%252f",
        "\\",
        ";",
        ";x=1",
        "%3b",
        "%253b",
        "%61",
        "%61dmin",
        "%2561dmin",
        "adm%69n",
        "%70ublic",
        "%20",
        "%7e",
        "%2a",
        "%2B",
        "%40",
        "%3d",
        "%c3%bc",
        "%c0%ae",
        "%ef%bc%8e",
        "%zz",
        "%",
        "%25",
        "%00",
        "%0a",
        "%23",
        "%3f",
        "+",
    ];
    let segment = prop_oneof![
        3 => prop::sample::select(vec!["api", "public", "admin", "private", "settings", "..", "%2e%2e", "%61dmin", ""])
            .prop_map(str::to_owned),
        2 => prop::collection::vec(prop::sample::select(pieces), 1..4).prop_map(|pieces| pieces.concat()),
    ];
    let queries = prop::sample::select(vec!["", "?", "?x=/api/public", "?/../admin", "?a=%2e%2e;b"]);
    (
        prop_oneof!["", "/api/public", "/api", "/api/admin", "/legacy", "/old/x"],
        prop::collection::vec(segment, 1..6),
        queries,
    )
        .prop_map(|(root, segments, query)| format!("{root}/{}{query}", segments.join("/")))
}

/// Open routes inside closed ones and the reverse, and two that take every form of paths.
static HOSTILE_TABLE: LazyLock<RouteTable> = LazyLock::new(|| {
    let paths =
        ["/api/public/**", "/api/admin/**", "/api/public/private/**", "/api/admin/help", "/api/{id}/settings", "/"];
    let opted_in = [opted_in("/legacy/**"), opted_in("/old/{x}/**")];
    let routes = paths.map(|path| route(path, &[], &[])).into_iter().chain(opted_in);
    RouteTable::new(routes.map(Arc::new).collect()).unwrap()
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// For an accepted path, the gateway finds the same routes as the most lenient service would for the forwarded
    /// path. The forwarded path is accepted, means the same and is forwarded as it is. Its segments are in the spelling
    /// of the pattern where that names them, else in the caller's or the canonical one.
    #[test]
    fn the_decided_path_is_the_forwarded_path(target in hostile_target()) {
        let table = &*HOSTILE_TABLE;
        let decided = |path: &str| match table.find(&Method::GET, "a", path, &HeaderMap::new()) {
            RouteMatch::Route(route, index) => Some((route, index)),
            RouteMatch::MethodNotAllowed(_) | RouteMatch::Nothing | RouteMatch::UnclearField(_) => None,
        };
        let Some(request) = read(table, &target) else { return Ok(()) };
        let ours = decided(request.decoded_path()).map(|(_, index)| index);
        let sent = match decided(request.decoded_path()) {
            Some((route, _)) => route.upstream_target(&request).unwrap(),
            None => request.received_target().unwrap(),
        };
        prop_assert_eq!(decided(&eagerly(sent.as_str())).map(|(_, index)| index), ours, "{} was sent as {}", target, sent);
        let again = read(table, sent.as_str()).unwrap();
        prop_assert_eq!((again.target(), again.decoded_path()), (request.target(), request.decoded_path()));
        if let Some((route, _)) = decided(again.decoded_path()) {
            prop_assert_eq!(route.upstream_target(&again).unwrap(), sent.clone());
            let segments = [target.split('?').next().unwrap(), request.path(), sent.path()].map(|path| path.split('/').skip(1));
            let [raw, canonical, sent] = segments;
            for (place, ((raw, canonical), sent)) in raw.zip(canonical).zip(sent).enumerate() {
                let is_named = route.path.segments.get(place).is_some_and(|segment| segment.literal().is_some());
                prop_assert!(sent == canonical || (!is_named && sent.len() <= raw.len()), "{} of {} for {}", sent, raw, canonical);
            }
        }
    }
}

/// The path that the upstream of a route gets, or none if the request is refused.
fn sent_by(route: Route, target: &str) -> Option<String> {
    let table = RouteTable::new(vec![Arc::new(route)]).unwrap().reserving(["/oauth/Token"]);
    let request = read(&table, target)?;
    match table.find(&Method::GET, "a", request.decoded_path(), &HeaderMap::new()) {
        RouteMatch::Route(route, _) => Some(route.upstream_target(&request).unwrap().to_string()),
        RouteMatch::MethodNotAllowed(_) | RouteMatch::Nothing | RouteMatch::UnclearField(_) => None,
    }
}

fn opted_in(path: &str) -> Route {
    Route { path_forms: PathForm::ALL.into_iter().collect(), ..route(path, &[], &[]) }
}

#[test]
fn a_pattern_has_its_own_spelling_and_the_rest_the_callers() {
    let sent = |pattern: &str, target: &str| sent_by(route(pattern, &[], &[]), target);
    for (pattern, target, expected) in [
        ("/a+b/{x}/c@d/**", "/a%2bb/x%2by/c%40d/%7e%3D/?q=%2b", "/a+b/x%2by/c@d/%7e%3D/?q=%2b"),
        ("/a b/{x}", "/a%20b/%c3%bc%7E/", "/a%20b/%c3%bc%7E/"),
        ("/\u{fc}/**", "/%c3%bc/%c3%bc", "/%C3%BC/%c3%bc"),
        ("/{x}/y", "/%61%2a/%79", "/a%2a/y"),
        ("/**", "/%7E", "/%7E"),
    ] {
        assert_eq!(sent(pattern, target).as_deref(), Some(expected), "{pattern} {target}");
    }
}

#[test]
fn forms_are_taken_in_the_match_of_the_subtree_only() {
    for (pattern, target) in [("/{x}/**", "/a;b/c"), ("/{x}/**", "/a%2Fb/c"), ("/a/**", "/a;x/b"), ("/a/**", "//a/b")] {
        assert_eq!(sent_by(opted_in(pattern), target), None, "{target}");
    }
    for (pattern, target) in [
        ("/a/**", "/a/b;x=1/c%2fd%5Ce"),
        ("/a/**", "/a//"),
        ("/a/{x}/**", "/a/b/;c"),
        ("/**", "/a;b"),
        ("/**", "/;jsessionid=1"),
    ] {
        assert_eq!(sent_by(opted_in(pattern), target).as_deref(), Some(target));
        assert_eq!(sent_by(route(pattern, &[], &[]), target), None, "{target} without consent");
    }
}

#[test]
fn a_changed_path_does_not_begin_like_the_name_of_a_host() {
    let template = |text: &str| PathTemplate::parse(text, &PathPattern::parse("/a/**").unwrap()).unwrap();
    let stripped = |target: &str| sent_by(Route { strip_segments: 1, ..opted_in("/a/**") }, target);
    let rewritten =
        |target: &str| sent_by(Route { rewrite: Some(Box::new(template("/**"))), ..opted_in("/a/**") }, target);
    for target in ["/a//evil", "/a/%2Fevil", "/a/%5cevil", "/a/;x/evil", "/a//"] {
        assert_eq!([stripped(target), rewritten(target)], [None, None], "{target}");
    }
    for (target, expected) in [("/a/b//c", "/b//c"), ("/a/;x", "/;x"), ("/a/b%2f/c%7e", "/b%2f/c%7e")] {
        assert_eq!([stripped(target), rewritten(target)].map(Option::unwrap), [expected; 2], "{target}");
    }
    let below = Route { rewrite: Some(Box::new(template("/b/**"))), ..opted_in("/a/**") };
    assert_eq!(sent_by(below, "/a//c").as_deref(), Some("/b//c"));
    assert_eq!(sent_by(opted_in("/**"), "//evil"), None);
}

#[test]
fn a_form_never_leads_around_a_reserved_path() {
    for target in ["/oauth/token;x", "/OAuth%2FToken", "/oauth//token", "/oauth/token/;x", "/oauth/token;%2Fx"] {
        assert_eq!(sent_by(opted_in("/**"), target), None, "{target}");
    }
    assert_eq!(sent_by(opted_in("/**"), "/oauth/tokens;x").as_deref(), Some("/oauth/tokens;x"));
}
