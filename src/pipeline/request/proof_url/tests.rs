use std::cell::RefCell;

use http::Request;
use http::header::HOST;

use super::super::path_forms::{PathForm, PathForms};
use super::*;
use crate::server::limits::Limits;
use crate::server::received_request::ReceivedHead;

/// Whether a URL is that of a request for this host and target, over TLS.
fn is_url(url: &str, (host, target): (&str, &str)) -> bool {
    let (head, ()) = Request::builder().uri(target).header(HOST, host).body(()).unwrap().into_parts();
    let head = ReceivedHead::from_hyper(head).unwrap();
    let forms = PathForms::in_part("//;%2F");
    assert!(forms.contains(PathForm::EmptySegment));
    let request = CanonicalRequest::new(&head, "https", &RefCell::default(), &Limits::default(), forms).unwrap();
    let authority = Authority::parse(host.as_bytes(), "https").unwrap();
    is_url_of(url, &PublicOrigin::new("https", &authority, None), &request)
}

#[test]
fn spellings_of_one_url_are_equal() {
    let request = ("A.example", "/a%7eb/%c3%a9?q=1");
    for url in [
        "https://a.example/a~b/%C3%A9",
        "HTTPS://A.EXAMPLE:443/a%7Eb/%c3%a9?other#part",
        "https://a.example./x/../a~b/./%C3%A9",
    ] {
        assert!(is_url(url, request), "{url}");
    }
    assert!(is_url("https://a.example:8443/", ("a.example:8443", "/")));
    assert!(is_url("https://a.example:8443", ("a.example:8443", "/?a")));
    assert!(is_url("https://[::1]:8443/a", ("[::1]:8443", "/a")));
    assert!(is_url("https://a/b//c;d%2Fe", ("a", "/b//c;d%2fe")));
    assert!(is_url("https://a/b/", ("a", "/b/")));
}

#[test]
fn other_urls_are_not_equal() {
    let request = ("a.example", "/a/b");
    for url in [
        "",
        "/a/b",
        "a.example/a/b",
        "http://a.example/a/b",
        "https://a.example/a/B",
        "https://a.example/a/b/",
        "https://a.example/a/b/c",
        "https://a.example/a",
        "https://a.example/a/b/%2e%2e/b",
        "https://a.example/a//b",
        "https://a.example/a%2Fb",
        "https://a.example:8443/a/b",
        "https://a.example:080/a/b",
        "https://a.example:/a/b",
        "https://a.example.evil/a/b",
        "https://b.example/a/b",
        "https://user@a.example/a/b",
        "https://a.example:443@b.example/a/b",
        "https://a.example\\a/b",
        "https://evil?https://a.example/a/b",
        "https://a.example/a/b;c",
    ] {
        assert!(!is_url(url, request), "{url}");
    }
}
