use super::*;

fn source(text: &str) -> Source {
    let source = Source::new(Path::new("etc/gateway.yaml"), text.to_owned());
    source.hide(Vec::new());
    source
}

fn span_of(text: &str, part: &str) -> Span {
    let start = text.find(part).unwrap();
    Span::new(start, start + part.len())
}

#[track_caller]
fn stands_at(text: &str, line: usize, column: usize) {
    assert_eq!(source(text).place(span_of(text, "x")), SourcePosition { line, column });
}

#[test]
fn columns_count_characters() {
    stands_at("ä\tö x", 1, 5);
}

#[test]
fn columns_may_be_asked_for_in_any_order() {
    let text = "a é b\nc d";
    let source = source(text);
    for _ in 0..2 {
        let columns = ["a", "b", "d", "c", "é"].map(|part| source.place(span_of(text, part)).column);
        assert_eq!(columns, [1, 5, 3, 1, 3]);
    }
}

#[test]
fn every_kind_of_line_break_counts_once() {
    stands_at("a\nb\r\nc\rx", 4, 1);
}

#[test]
fn a_quotation_is_one_short_line() {
    let text = format!("a: |\n  {}\n  more", "é".repeat(70));
    assert_eq!(source(&text).quote(Span::new(7, text.len())).unwrap(), format!("`{}…`", "é".repeat(60)));
}

#[test]
fn everything_is_hidden_at_first() {
    let source = Source::new(Path::new("gateway.yaml"), "a: b".to_owned());
    assert_eq!(source.quote(Span::new(3, 4)), None);
}

#[test]
fn neighbours_of_a_secret_are_hidden_with_it() {
    let text = "a: 1\nb: {c: xyz, d: 2}\ne: 3";
    let source = Source::new(Path::new("gateway.yaml"), text.to_owned());
    source.hide(vec![span_of(text, "xyz")]);
    assert_eq!(source.quote(span_of(text, "2")), None);
    assert!(source.excerpt(span_of(text, "2")).is_none());
    assert_eq!(source.quote(span_of(text, "c")), None);
    assert_eq!(source.quote_key(span_of(text, "c")).unwrap(), "`c`");
    assert_eq!(source.quote_key(span_of(text, "xyz")), None);
    assert_eq!(source.quote(span_of(text, "1")).unwrap(), "`1`");
    assert_eq!(source.quote(span_of(text, "3")).unwrap(), "`3`");
}

#[test]
fn a_comment_that_mentions_secrets_hides_its_line() {
    let text = "a: 1 # old Secret: abc";
    assert_eq!(source(text).quote(span_of(text, "1")), None);
}

#[test]
fn a_url_with_credentials_hides_its_line() {
    for url in ["http://user:xyz@host", "https://xyz@host/a", "\"ftp://user:x/y@host\"", "x: http://a, y: http://u:p@b"]
    {
        let text = format!("a: {url}");
        assert_eq!(source(&text).quote(span_of(&text, url)), None, "{url}");
    }
    let text = "a: http://host # mail a@b";
    assert!(source(text).quote(span_of(text, "http://host")).is_some());
}

#[test]
fn paths_are_relative_to_the_file() {
    assert_eq!(source("").locate(Path::new("state/keys")), Path::new("etc/state/keys"));
    assert_eq!(source("").locate(Path::new("/keys")), Path::new("/keys"));
}
