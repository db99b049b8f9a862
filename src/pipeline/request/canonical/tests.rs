use super::*;
use http::header::HOST;
use http::{HeaderValue, Request, Uri};

fn read(uri: &str, hosts: &[&str]) -> Result<CanonicalRequest, Ambiguous> {
    let mut request = Request::builder().uri(uri);
    for host in hosts {
        request = request.header(HOST, *host);
    }
    let (head, ()) = request.body(()).unwrap().into_parts();
    let head = ReceivedHead::from_hyper(head).map_err(|_| Ambiguous::Character)?;
    CanonicalRequest::new(&head, "https", &RefCell::default(), &Limits::default(), PathForms::default())
}

#[track_caller]
fn path_is_refused(path: &str, reason: Ambiguous) {
    let Ok(uri) = path.parse::<Uri>() else { return };
    assert_eq!(read(&uri.to_string(), &["a"]).err(), Some(reason), "{path}");
}

#[track_caller]
fn path_becomes(path: &str, canonical: &str, decoded: &str) {
    let request = read(path, &["a"]).unwrap();
    assert_eq!((request.path(), request.decoded_path()), (canonical, decoded), "{path}");
}

#[test]
fn dot_segments_are_refused_however_they_are_spelt() {
    for path in [
        "/a/../b",
        "/a/./b",
        "/..",
        "/.",
        "/a/%2e%2e/b",
        "/%2e",
        "/a/.%2e/b",
        "/a/%2E./b",
        "/a/..",
        "/a/%ef%bc%8e%ef%bc%8e/b",
        "/a/%e2%80%a5/b",
        "/a/.%ef%b9%92",
        "/a/..%ef%bc%9bx/b",
        "/a/..%ef%bc%8fb",
        "/a/%ef%bc%852e./b",
        "/a/%25%ef%bc%92%ef%bd%85./b",
    ] {
        path_is_refused(path, Ambiguous::DotSegment);
    }
}

#[test]
fn empty_segments_are_refused_and_a_trailing_slash_is_not() {
    for path in ["//", "//a", "/a//b", "/a//"] {
        path_is_refused(path, Ambiguous::EmptySegment);
    }
    path_becomes("/a/", "/a/", "/a/");
    path_becomes("/", "/", "/");
}

#[test]
fn encoded_and_backward_slashes_are_refused() {
    for path in ["/a%2fb", "/a%2Fb", "/a%5cb", "/a\\b"] {
        path_is_refused(path, Ambiguous::Slash);
    }
}

#[test]
fn bad_escapes_and_control_bytes_are_refused() {
    for path in ["/%", "/%a", "/%zz", "/a%2", "/%c0%ae", "/%e0%80%ae", "/%ff", "/%u0041"] {
        path_is_refused(path, Ambiguous::Escape);
    }
    for path in ["/%00", "/%0d%0a", "/%7f", "/%c2%85", "/a\"b", "/a{b}", "/a|b", "/a^b", "/ü"] {
        path_is_refused(path, Ambiguous::Character);
    }
}

#[test]
fn path_parameters_are_refused() {
    for path in ["/a;x=1", "/a;/b", "/a/..;/b", "/a%3bx=1", "/a/..%3b/b", "/.%3B"] {
        path_is_refused(path, Ambiguous::Parameter);
    }
}

#[test]
fn doubly_encoded_paths_are_refused() {
    for path in ["/%252e%252e/a", "/a%252fb", "/%2561dmin", "/a%25%32%66b", "/%25252e", "/a/..%253bx", "/a%2500"] {
        path_is_refused(path, Ambiguous::EncodedTwice);
    }
    path_becomes("/50%25", "/50%25", "/50%");
    path_becomes("/50%25off", "/50%25off", "/50%off");
}

#[test]
fn full_width_punctuation_in_names_is_no_harm() {
    path_becomes("/a%ef%bc%8fb%ef%bc%9b.", "/a%EF%BC%8Fb%EF%BC%9B.", "/a／b；.");
    path_becomes("/%e2%80%a6", "/%E2%80%A6", "/…");
}

#[test]
fn one_path_has_one_spelling() {
    path_becomes("/api/%61dmin", "/api/admin", "/api/admin");
    path_becomes("/a%2cb%3d", "/a,b=", "/a,b=");
    path_becomes("/a%20b/%c3%bc", "/a%20b/%C3%BC", "/a b/ü");
    path_becomes("/a%3fb%23c", "/a%3Fb%23c", "/a?b#c");
}

#[test]
fn the_query_is_carried_as_it_is_and_decides_nothing() {
    let request = read("/a?x=/../b&y=%2e%2e&f[a]=1", &["a"]).unwrap();
    assert_eq!((request.path(), request.query()), ("/a", Some("x=/../b&y=%2e%2e&f[a]=1")));
    assert_eq!(request.target().as_str(), "/a?x=/../b&y=%2e%2e&f[a]=1");
    assert_eq!(request.target_at("/b").unwrap().as_str(), "/b?x=/../b&y=%2e%2e&f[a]=1");
}

#[test]
fn the_received_target_has_the_spelling_of_the_caller() {
    let received = |path: &str| read(path, &["a"]).unwrap().received_target().unwrap().to_string();
    assert_eq!(received("/a%2bb/%7Ec?x=%7e"), "/a%2bb/%7Ec?x=%7e");
    assert_eq!(received("/%61%2e%2bb?y"), "/a.%2bb?y");
    assert_eq!(received("/a+b?y"), "/a+b?y");
}

#[test]
fn a_request_names_exactly_one_host() {
    assert_eq!(read("/", &[]).err(), Some(Ambiguous::Host));
    assert_eq!(read("/", &["a", "a"]).err(), Some(Ambiguous::Host));
    assert_eq!(read("https://a/", &["b"]).err(), Some(Ambiguous::Host));
    assert_eq!(read("http://a/", &["a"]).err(), Some(Ambiguous::Scheme));
    assert!(read("https://A:443/", &["a:443"]).is_ok());
    for bad in [
        "",
        ".",
        "..",
        ".a",
        "a..b",
        "a:+80",
        "a, b",
        "a@b",
        "a/b",
        "a b",
        "a:x",
        "a:99999",
        "[::1",
        "[x]",
        "[::1]x",
        "::1",
        &"a".repeat(256),
    ] {
        assert_eq!(read("/", &[bad]).err(), Some(Ambiguous::Host), "{bad}");
    }
}

#[test]
fn hosts_compare_without_case_port_and_trailing_dot() {
    for (raw, host) in
        [("API.Example.com:8443", "api.example.com"), ("a.", "a"), ("[::1]:80", "[::1]"), ("10.0.0.1", "10.0.0.1")]
    {
        assert_eq!(read("/", &[raw]).unwrap().authority.host(), host);
    }
}

#[test]
fn sizes_are_bounded() {
    assert!(read(&format!("/{}", "a".repeat(8191)), &["a"]).is_ok());
    assert_eq!(read(&format!("/{}", "a".repeat(8192)), &["a"]).err(), Some(Ambiguous::UriTooLong));
}

fn host_of(version: Version, uri: &str, hosts: &[&str]) -> Result<Option<HeaderValue>, Ambiguous> {
    let mut request = Request::builder().version(version).uri(uri);
    for host in hosts {
        request = request.header(HOST, *host);
    }
    let head = ReceivedHead::from_hyper(request.body(()).unwrap().into_parts().0).unwrap();
    Authority::of(&head, "https", &RefCell::default()).map(|authority| authority.header.clone())
}

#[test]
fn an_absolute_target_names_the_host_of_the_request() {
    let named = |host: &'static str| Ok(Some(HeaderValue::from_static(host)));
    for (uri, host, expected) in [
        ("https://a.example/x", "a.example", named("a.example")),
        ("https://A.example/x", "a.example", named("a.example")),
        ("https://a.example:443/x", "a.example", named("a.example")),
        ("https://a.example/x", "a.example:443", named("a.example:443")),
        ("https://a.example:8443/x", "a.example:8443", named("a.example:8443")),
        ("https://a.example:8443/x", "a.example", Err(Ambiguous::Host)),
        ("https://a.example:80/x", "a.example", Err(Ambiguous::Host)),
        ("https://b.example/x", "a.example", Err(Ambiguous::Host)),
    ] {
        assert_eq!(host_of(Version::HTTP_11, uri, &[host]), expected, "{uri} {host}");
    }
    assert_eq!(host_of(Version::HTTP_11, "https://a/x", &[]), Err(Ambiguous::Host), "HTTP/1.1 needs Host");
    assert_eq!(host_of(Version::HTTP_10, "https://a/x", &[]), named("a"));
    assert_eq!(host_of(Version::HTTP_2, "https://a/x", &[]), named("a"));
}

#[test]
fn only_a_request_over_http_1_0_may_name_no_host() {
    assert_eq!(host_of(Version::HTTP_10, "/x", &[]), Ok(None));
    assert_eq!(host_of(Version::HTTP_11, "/x", &[]), Err(Ambiguous::Host));
    assert_eq!(host_of(Version::HTTP_10, "/x", &["a", "b"]), Err(Ambiguous::Host));
}
