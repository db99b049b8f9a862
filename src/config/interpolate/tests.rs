use proptest::prelude::*;

use super::*;

fn interpolate(text: &str, strictness: Strictness) -> Result<(String, MadeOf), String> {
    let variable = |name: &str| match name {
        "HOST" => Ok("10.0.0.1".to_owned()),
        "EMPTY" => Ok(String::new()),
        "REFERENCE" => Ok("${HOST}".to_owned()),
        "BYTES" => Err(VarError::NotUnicode("x".into())),
        _ => Err(VarError::NotPresent),
    };
    let file = |path: &Path| match path.to_str().unwrap() {
        "etc/secrets/a" => Ok(b"abc\n\n".to_vec()),
        "/dos" => Ok(b"\xef\xbb\xbfabc\r\n\r\n".to_vec()),
        "/two-lines" => Ok(b"abc\r\ndef\n".to_vec()),
        "/mark-inside" => Ok("abc\u{feff}def".as_bytes().to_vec()),
        "/empty" => Ok(b"\n".to_vec()),
        "/long" => Ok(vec![b'x'; FILE_BYTES + 1]),
        "/bytes" => Ok(vec![0xff]),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    };
    Surroundings { variable: &variable, file: &file, now: UnixTime::from_seconds(0) }
        .interpolate(text, Path::new("etc"), strictness)
        .map(|it| (it.text.into_owned(), it.made_of))
        .map_err(|problem| problem.to_string())
}

#[track_caller]
fn gives(text: &str, value: &str, made_of: MadeOf) {
    assert_eq!(interpolate(text, Strictness::Usual), Ok((value.to_owned(), made_of)));
}

#[track_caller]
fn fails(text: &str, strictness: Strictness, message: &str) {
    let error = interpolate(text, strictness).unwrap_err();
    assert!(error.contains(message), "{error}");
}

#[test]
fn references_are_replaced_wherever_they_stand() {
    gives("${HOST}", "10.0.0.1", MadeOf::References);
    gives("http://${HOST}:80/${HOST}", "http://10.0.0.1:80/10.0.0.1", MadeOf::Both);
    gives("${HOST}${EMPTY}", "10.0.0.1", MadeOf::References);
    gives("ä${HOST}ö", "ä10.0.0.1ö", MadeOf::Both);
}

#[test]
fn defaults_stand_in_for_unset_and_empty() {
    gives("${NONE:-x:-y}", "x:-y", MadeOf::References);
    gives("${EMPTY:-x}", "x", MadeOf::References);
    gives("${HOST:-x}", "10.0.0.1", MadeOf::References);
    gives("${NONE:-}", "", MadeOf::References);
    gives("${EMPTY}", "", MadeOf::References);
}

#[test]
fn files_lose_line_breaks_at_the_end_and_a_byte_order_mark() {
    gives("${file:secrets/a}", "abc", MadeOf::References);
    gives("${file:/dos}", "abc", MadeOf::References);
    gives("${file:/two-lines}", "abc\r\ndef", MadeOf::References);
}

#[test]
fn a_file_of_several_lines_is_no_secret() {
    assert!(interpolate("${file:secrets/a}", Strictness::Secret).is_ok());
    fails("${file:/two-lines}", Strictness::Secret, "the file `/two-lines` has several lines");
    fails("${file:/mark-inside}", Strictness::Secret, "a byte order mark inside");
}

#[test]
fn other_dollars_are_themselves() {
    for text in ["$", "$$", "$HOST", "a$b", "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA", "{}", "$ {HOST}"] {
        gives(text, text, MadeOf::Characters);
    }
}

#[test]
fn a_doubled_dollar_writes_a_reference_down() {
    gives("$${HOST}", "${HOST}", MadeOf::Characters);
    gives("$$${HOST}", "$${HOST}", MadeOf::Characters);
    gives("$${HOST} is ${HOST}", "${HOST} is 10.0.0.1", MadeOf::Both);
}

#[test]
fn values_are_not_read_again() {
    gives("${REFERENCE}", "${HOST}", MadeOf::References);
}

#[test]
fn missing_values_are_faults() {
    fails("a${NONE}", Strictness::Usual, "the variable `NONE` is not set");
    fails("${BYTES}", Strictness::Usual, "`BYTES` does not hold UTF-8");
    fails("${file:none}", Strictness::Usual, "cannot read `none`: no such file");
    fails("${file:/long}", Strictness::Usual, "cannot read `/long`: it is longer than 64 KiB");
    fails("${file:/bytes}", Strictness::Usual, "does not hold UTF-8");
    fails("${HOST", Strictness::Usual, "without `}`");
    for malformed in ["${}", "${file:}", "${a-b}", "${1A}", "${A:?b}", "${:-b}", "${A:-${HOST}}", "${ HOST }"] {
        fails(malformed, Strictness::Usual, "expected `${NAME}`");
    }
}

#[test]
fn secrets_have_no_defaults_and_are_not_empty() {
    fails("${HOST:-x}", Strictness::Secret, "cannot have a default");
    fails("${EMPTY}", Strictness::Secret, "`EMPTY` is empty");
    fails("${file:/empty}", Strictness::Secret, "`/empty` is empty");
    assert!(interpolate("${HOST}", Strictness::Secret).is_ok());
}

#[test]
fn a_whole_reference_is_distinguished_from_a_part() {
    assert!(is_one_reference("${A}") && is_one_reference("${file:a b}"));
    assert!(!is_one_reference("${A}b") && !is_one_reference("${A}${B}") && !is_one_reference("${a-b}"));
}

proptest! {
    #[test]
    fn text_without_references_is_unchanged(text in r"([^$]|\$[^${])*\$?") {
        gives(&text, &text, MadeOf::Characters);
    }

    #[test]
    fn any_text_can_be_written_down(text in r"[${}A ]{0,12}") {
        gives(&text.replace("${", "$${"), &text, MadeOf::Characters);
    }
}
