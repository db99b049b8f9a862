use super::*;

fn origin(text: &str) -> Result<OriginForm, WireFault> {
    OriginForm::from_bytes(Bytes::copy_from_slice(text.as_bytes()))
}

#[test]
fn an_origin_form_is_split_at_its_first_question_mark() {
    for (text, path, query) in [
        ("/", "/", None),
        ("/a/b", "/a/b", None),
        ("/a?", "/a", Some("")),
        ("/a?b?c", "/a", Some("b?c")),
        ("//a//", "//a//", None),
        ("/?", "/", Some("")),
        ("/?\"<>", "/", Some("\"<>")),
        ("/%zz\\^`{|}[]", "/%zz\\^`{|}[]", None),
    ] {
        let form = origin(text).unwrap();
        assert_eq!((form.as_str(), form.path(), form.query()), (text, path, query));
    }
}

#[test]
fn an_origin_form_is_visible_ascii_behind_a_slash() {
    for (text, fault) in [
        ("", WireFault::Target),
        ("?a", WireFault::Target),
        ("a", WireFault::Target),
        ("*", WireFault::Target),
        ("/a b", WireFault::Target),
        ("/\t", WireFault::Target),
        ("/\r\n", WireFault::Target),
        ("/?\0", WireFault::Target),
        ("/?\u{e9}", WireFault::Target),
        ("/\"", WireFault::Target),
        ("/<", WireFault::Target),
        ("/>", WireFault::Target),
        ("/#", WireFault::Fragment),
        ("/?a#b", WireFault::Fragment),
    ] {
        assert_eq!(origin(text), Err(fault), "{text:?}");
    }
}

#[test]
fn an_absolute_form_has_a_scheme_and_an_authority() {
    for (text, expected) in [
        ("http://a", Some(("http", "a", "/"))),
        ("HtTpS://A.b:443/c?d", Some(("https", "A.b:443", "/c?d"))),
        ("a+b-.1://x/", Some(("a+b-.1", "x", "/"))),
        ("http://a?b", Some(("http", "a", "/?b"))),
        ("http://a:/", Some(("http", "a:", "/"))),
        ("http://[::1]:80/", Some(("http", "[::1]:80", "/"))),
        ("http://a%20b/", Some(("http", "a%20b", "/"))),
        ("http://", None),
        ("http:///a", None),
        ("http://:80/", None),
        ("http://u@a/", None),
        ("http://u:p@a/", None),
        ("http://a:b/", None),
        ("http://a:1:2/", None),
        ("http://[::1/", None),
        ("http://[::1]a/", None),
        ("http://[a@b]/", None),
        ("http://a\\b/", None),
        ("http://a/\u{e9}", None),
        ("1http://a/", None),
        ("://a/", None),
        ("http:a", None),
        ("h ttp://a/", None),
    ] {
        let read = RequestTarget::read(Bytes::copy_from_slice(text.as_bytes()), &Method::GET);
        let expected = expected.map(|(scheme, authority, path)| RequestTarget::Absolute {
            scheme: scheme.into(),
            authority: authority.into(),
            path: origin(path).unwrap(),
        });
        assert_eq!(read.as_ref().ok(), expected.as_ref(), "{text:?}");
    }
}
