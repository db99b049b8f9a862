//! The lints of `check`: every example of `docs/reference/lints.md` is run, comments silence one lint on one line, and
//! every format has the same findings.

use std::fs;

use serde_json::Value;

use crate::support::command::Finished;
use crate::support::examples::{check, complete};
use crate::support::pages::{Page, read};

/// The findings of `check` for this example, as records.
fn findings(example: &str) -> Vec<Value> {
    let (folder, said) = check(&complete(example), &["--format", "json"]);
    fs::remove_dir_all(folder).unwrap();
    let report: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"));
    report["findings"].as_array().unwrap().clone()
}

/// The lints that find something; an error is `error`.
fn lints(example: &str) -> Vec<String> {
    let lint = |finding: &Value| finding["lint"].as_str().unwrap_or("error").to_owned();
    findings(example).iter().map(lint).collect()
}

fn said(example: &str, arguments: &[&str]) -> Finished {
    let (folder, said) = check(&complete(example), arguments);
    fs::remove_dir_all(folder).unwrap();
    said
}

/// The id and the sentence of each lint.
fn declared() -> Vec<(String, String)> {
    let source = read("src/config/lint.rs");
    let (_, table) = source.split_once("\nlints! {\n").unwrap();
    let (table, _) = table.split_once("\n}\n").unwrap();
    let parts = table.lines().map(|line| line.split('"').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>());
    parts.map(|parts| (parts[0].clone(), parts[1].clone())).collect()
}

#[test]
fn every_lint_finds_its_bad_example_and_not_the_good_one() {
    let page = Page::new("docs/reference/lints.md".to_owned());
    let mut wrong = Vec::new();
    let declared = declared();
    for (id, about) in &declared {
        let Some((_, section)) = page.text.split_once(&format!("\n### {id}\n")) else {
            wrong.push(format!("{id}: no section"));
            continue;
        };
        let section = section.split("\n### ").next().unwrap();
        if !section.trim_start().starts_with(about) {
            wrong.push(format!("{id}: the section does not begin with `{about}`"));
        }
        let section = Page { name: id.clone(), text: section.to_owned() };
        let blocks = section.blocks();
        let [bad, good] = &blocks[..] else { panic!("{id}: a section has a bad and a good example") };
        let (bad, good) = (lints(&bad.text), lints(&good.text));
        if (bad.iter().any(|found| found != id) || bad.is_empty()) || !good.is_empty() {
            wrong.push(format!("{id}: bad {bad:?}, good {good:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let (introduction, _) = page.text.split_once("\n### ").unwrap();
    let introduction = Page { name: "introduction".to_owned(), text: introduction.to_owned() };
    for block in introduction.blocks().iter().filter(|block| block.language == "yaml") {
        assert_eq!(lints(&block.text), [""; 0], "{}", block.text);
    }
    assert_eq!(page.text.matches("\n### ").count(), declared.len(), "a section for each lint");
}

/// Two mistakes in one file.
const BAD: &str = "rate_limits:
  search: {rate: 1/s, per: address}
routes:
  - path: /invoices/**
    upstream: invoices
    access: {scopes: [invoices:read, invoices:raed]}
";

#[test]
fn a_comment_silences_one_lint_on_its_line() {
    // A client with one of the two scopes is accepted nowhere.
    assert_eq!(lints(BAD), ["unused-client", "unused-rate-limit", "unknown-scope"]);
    let others = ["unused-client", "unknown-scope"];
    let with = |line: &str, comment: &str| BAD.replacen(line, &format!("{line}  # portcullis: allow {comment}"), 1);
    let limit = "per: address}";
    assert_eq!(lints(&with(limit, "unused-rate-limit used soon")), others);
    let with_one_more = |lint| ["unused-client", "unused-rate-limit", lint, "unknown-scope"];
    assert_eq!(lints(&with(limit, "unknown-scope used soon")), with_one_more("unneeded-allow"));
    let above = BAD.replacen("  search:", "  # portcullis: allow unused-rate-limit used soon\n  search:", 1);
    assert_eq!(lints(&above), others);
    assert_eq!(lints(&with(limit, "unused-rate-limit")), with_one_more("invalid-allow"));
}

#[test]
fn stores_in_clear_text_are_reported_with_their_place() {
    let stores = |redis: &str, postgres: &str, comment: &str| {
        format!("shared:\n  redis: {{url: '{redis}'}}\n  postgres: {{url: '{postgres}'}}{comment}\n")
    };
    let exposed = stores("redis://redis.internal", "postgres://gateway@db.internal/x?sslmode=disable", "");
    let found = findings(&exposed);
    let parts = found.iter().map(|each| (each["lint"].as_str().unwrap(), each["message"].as_str().unwrap()));
    let [(one, redis), (other, database)] = parts.collect::<Vec<_>>()[..] else { panic!("{found:?}") };
    assert_eq!([one, other], ["clear-text-store"; 2]);
    assert!(redis.contains("`rediss:`") && database.contains("`sslmode=verify-full`"), "{found:?}");
    assert!(!database.contains("db.internal"), "{database}");
    let at_hand = ["redis://127.0.0.1", "redis://[::1]:6380", "redis://localhost/3", "rediss://redis.internal"];
    let verified = ["postgres://gateway@db.internal/x", "postgres://localhost/x", "postgres://a@%2Frun%2Fpostgresql/x"];
    for (redis, postgres) in at_hand.iter().zip(verified.iter().cycle()) {
        assert_eq!(lints(&stores(redis, postgres, "")), [""; 0], "{redis} {postgres}");
    }
    let allowed = "  # portcullis: allow clear-text-store a private network";
    let only_redis = stores("redis://redis.internal", "postgres://gateway@db.internal/x?sslmode=disable", allowed);
    assert_eq!(lints(&only_redis), ["clear-text-store"]);
}

#[test]
fn an_unknown_lint_in_a_comment_is_answered_with_a_suggestion() {
    let comment = "per: address}  # portcullis: allow unused-rate-limits used soon";
    let found = findings(&BAD.replacen("per: address}", comment, 1));
    let invalid = found.iter().find(|finding| finding["lint"] == "invalid-allow").unwrap();
    let message = invalid["message"].as_str().unwrap();
    assert_eq!(message, "unknown lint `unused-rate-limits`, did you mean `unused-rate-limit`?");
    assert_eq!(invalid["column"], 58, "the place of the id: {invalid}");
}

#[test]
fn every_format_has_the_same_findings() {
    let found = findings(BAD);
    assert_eq!(found.len(), 3);
    let (text, github) = (said(BAD, &[]), said(BAD, &["--format", "github"]));
    assert_eq!((text.code, github.code), (Some(0), Some(0)));
    assert_eq!((text.stderr.lines().count(), github.stdout.lines().count()), (3, 3));
    for (at, finding) in found.iter().enumerate() {
        let part = |name: &str| finding[name].as_str().unwrap();
        let (file, lint, message) = (part("file"), part("lint"), part("message"));
        let (line, column) = (&finding["line"], &finding["column"]);
        let expected = format!("warning: {file}:{line}:{column}: {message} [{lint}]");
        assert_eq!(text.stderr.lines().nth(at), Some(&*expected));
        let expected = format!("::warning file={file},line={line},col={column},title={lint}::{message}");
        assert_eq!(github.stdout.lines().nth(at), Some(&*expected));
    }
    for format in ["text", "json", "github"] {
        assert_eq!(said(BAD, &["--strict", "--format", format]).code, Some(1), "{format}");
    }
}

#[test]
fn errors_are_in_the_list_of_findings_too() {
    let wrong = BAD.replace("upstream: invoices", "upstream: invoice");
    let [error] = &findings(&wrong)[..] else { panic!("{:?}", findings(&wrong)) };
    assert_eq!((&error["level"], &error["lint"]), (&Value::from("error"), &Value::Null), "{error}");
    let github = said(&wrong, &["--format", "github"]);
    assert_eq!(github.code, Some(2));
    assert!(github.stdout.starts_with("::error file=gateway.yaml,line=") && github.stderr.is_empty(), "{github:?}");
    assert!(github.stdout.contains(",title=portcullis check::unknown upstream `invoice`"), "{github:?}");
}

#[test]
fn lints_see_the_values_of_variables_and_never_print_them() {
    let text = BAD.replace("invoices:raed", "\"${file:token}\"");
    let found = findings(&text);
    let unknown = found.iter().find(|finding| finding["lint"] == "unknown-scope").unwrap();
    assert!(unknown["message"].as_str().unwrap().contains("`\"${file:token}\"`"), "{unknown}");
    for format in ["text", "json", "github"] {
        let said = said(&text, &["--format", format]);
        let diagnostics = if format == "text" { said.stderr } else { said.stdout };
        assert!(!diagnostics.contains("closed"), "{diagnostics}");
    }
}
