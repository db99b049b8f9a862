use proptest::prelude::*;

use super::*;

fn all() -> PathForms {
    PathForm::ALL.into_iter().collect()
}

/// The caller's own spelling.
#[track_caller]
fn stays(path: &str, received: &str) {
    let spelling = spelling(path, PathForms::default()).unwrap();
    assert_eq!(spelling.received.as_deref().or(spelling.canonical.as_deref()).unwrap_or(path), received, "{path}");
}

#[track_caller]
fn is_refused(path: &str, allowed: &[PathForm], reason: Ambiguous) {
    assert_eq!(spelling(path, allowed.iter().copied().collect()), Err(reason), "{path}");
}

/// The canonical spelling, the one that routes are matched against, and the caller's own.
#[track_caller]
fn has(path: &str, form: PathForm, canonical: &str, decoded: &str, received: &str) {
    let found = spelling(path, [form].into_iter().collect()).unwrap();
    let spelt = found.canonical.as_deref().unwrap_or(path);
    let others = [found.decoded.as_deref(), found.received.as_deref()].map(|spelling| spelling.unwrap_or(spelt));
    assert_eq!((spelt, others, found.forms), (canonical, [decoded, received], [form].into_iter().collect()), "{path}");
    assert_eq!(spelling(path, PathForms::default()), Err(form.fault()), "{path}");
}

#[test]
fn escaped_punctuation_stays_as_the_caller_wrote_it() {
    for path in [
        "/a%2Bb",
        "/a%2bb",
        "/%40x/%7Ey%7ez",
        "/%3A%3D%3a%3d",
        "/%21%24%26%27%28%29%2A%2C",
        "/a+b@c",
        "/%c3%bc%20%C3%BC",
        "/%3f%23%22%3c%5b%7b",
        "/a%2B/",
    ] {
        stays(path, path);
    }
}

#[test]
fn escaped_names_are_canonical_for_the_upstream_too() {
    stays("/%61dmin", "/admin");
    stays("/%41%5a%30", "/AZ0");
    stays("/wp%2Dadmin/%5Fx/a%2e%62", "/wp-admin/_x/a.b");
    stays("/%61%2b%61%2Ba", "/a%2ba%2Ba");
    stays("/%2b%61", "/%2ba");
}

#[test]
fn an_allowed_form_has_a_spelling_of_each_kind() {
    has("/a;x=1/b", PathForm::Semicolon, "/a;x=1/b", "/a;x=1/b", "/a;x=1/b");
    has("/a%3bx%7e", PathForm::Semicolon, "/a%3Bx~", "/a%3Bx~", "/a%3bx%7e");
    has("/a%2fb%20", PathForm::EncodedSlash, "/a%2Fb%20", "/a%2Fb ", "/a%2fb%20");
    has("/a%5cb%61", PathForm::EncodedBackslash, "/a%5Cba", "/a%5Cba", "/a%5cba");
    has("//a%7E", PathForm::EmptySegment, "//a~", "//a~", "//a%7E");
    has("/a//", PathForm::EmptySegment, "/a//", "/a//", "/a//");
}

#[test]
fn one_allowed_form_allows_no_other() {
    use PathForm::{EmptySegment, EncodedBackslash, EncodedSlash, Semicolon};
    is_refused("/a%2Fb", &[Semicolon, EncodedBackslash, EmptySegment], Ambiguous::Slash);
    is_refused("/a%5Cb", &[Semicolon, EncodedSlash, EmptySegment], Ambiguous::Slash);
    is_refused("/a;b", &[EncodedSlash, EncodedBackslash, EmptySegment], Ambiguous::Parameter);
    is_refused("/a%3Bb", &[EncodedSlash, EncodedBackslash, EmptySegment], Ambiguous::Parameter);
    is_refused("/a//b", &[Semicolon, EncodedSlash, EncodedBackslash], Ambiguous::EmptySegment);
    is_refused("/a\\b", &PathForm::ALL, Ambiguous::Slash);
}

#[test]
fn dot_segments_are_refused_whichever_forms_are_allowed() {
    for path in [
        "/a/..;/b",
        "/a/..;x=1/b",
        "/a/.;/b",
        "/a/..%3b/b",
        "/a/%2e%2e%3B/b",
        "/a/..%2Fb",
        "/a%2f..%2fb",
        "/a%2F..",
        "/a%2F%2e%2e%2Fb",
        "/a/..%5Cb",
        "/a%5c.%2e%5cb",
        "/a%5C..;x",
        "/a%2F.;x%5Cb",
        "/a//../b",
        "/a;x%2F../b",
        "/a;%5C..",
        "/a;/%ef%bc%8e%ef%bc%8e/b",
        "/a%2F%e2%80%a5%2Fb",
        "/a%2F..%ef%bc%9bx",
    ] {
        is_refused(path, &PathForm::ALL, Ambiguous::DotSegment);
    }
}

#[test]
fn escapes_of_escapes_are_refused_whichever_forms_are_allowed() {
    for path in ["/a%252fb", "/a%255Cb", "/a%253bx", "/%252e%252e/b", "/a%2F%252e%252e", "/a;%2561", "/a%25%32Fb"] {
        is_refused(path, &PathForm::ALL, Ambiguous::EncodedTwice);
    }
}

#[test]
fn a_forwarded_path_does_not_begin_like_the_name_of_a_host() {
    for path in ["/", "/a//b", "/;jsessionid=1", "/a%2F%2Fb", "/a;x//", "/%20"] {
        assert_eq!(check_forwarded(path), Ok(()), "{path}");
    }
    for path in ["//evil", "//", "/\\evil", "/%2fevil", "/%5Cevil", "/;x/evil", "/%3bx/evil", "/;/", "///", "/;%5cevil"]
    {
        assert_eq!(check_forwarded(path), Err(Ambiguous::EmptySegment), "{path}");
    }
    for path in ["/..", "/a/..;x", "/a%2f..%5cb", "/./a"] {
        assert_eq!(check_forwarded(path), Err(Ambiguous::DotSegment), "{path}");
    }
}

proptest! {
    /// An accepted path, decoded once, has only one meaning: no part of it is left to resolve.
    #[test]
    fn an_accepted_path_has_one_meaning(path in "/(%[0-9a-f]{2}|[a-z./;%]|\\.\\.|%2e){0,12}") {
        if let Ok(found) = spelling(&path, PathForms::default()) {
            let canonical = found.canonical.as_deref().unwrap_or(&path);
            let again = percent_decode_str(canonical).decode_utf8().unwrap().into_owned();
            prop_assert_eq!(found.decoded.as_deref().unwrap_or(canonical), again.as_str());
            prop_assert!(!again.contains("/../") && !again.contains("//") && !again.contains('\\'));
        }
    }

    /// The canonical spelling of a canonical path is the path itself, and so it is for the caller's own.
    #[test]
    fn spellings_are_the_same_when_they_are_read_again(
        path in "/(%[0-9a-fA-F]{2}|[a-z./;%]|%7e|%2B|%3[bB]|%2[fF]|%5[cC]){0,12}",
    ) {
        if let Ok(found) = spelling(&path, all()) {
            let canonical = found.canonical.as_deref().unwrap_or(&path);
            let received = found.received.as_deref().unwrap_or(canonical);
            let again = spelling(canonical, all()).unwrap();
            prop_assert_eq!(again.canonical.as_deref().unwrap_or(canonical), canonical);
            prop_assert_eq!((again.received, again.forms), (None, found.forms));
            let again = spelling(received, all()).unwrap();
            prop_assert_eq!(again.canonical.as_deref().unwrap_or(received), canonical);
            prop_assert_eq!(again.received.as_deref().unwrap_or(canonical), received);
            prop_assert_eq!((again.decoded, again.forms), (found.decoded, found.forms));
            prop_assert_eq!(PathForms::in_part(canonical), found.forms);
            prop_assert_eq!(received.split('/').count(), canonical.split('/').count());
        }
    }

    #[test]
    fn no_path_makes_it_panic(path in any::<String>()) {
        let _ = spelling(&path, PathForms::default());
        let _ = spelling(&path, all());
        let _ = check_forwarded(&path);
    }
}
