//! The import rules, read from the source: `main → cli → app → config → pipeline → {issuer, server, upstream, audit} →
//! trust → store → jose → oauth → {clock, durable_file, file_privacy, file_watch, http1, network}`. No module imports from the
//! left, the siblings in braces do not import each other, every module may use `telemetry`, and it uses none. A package
//! is used in one place, so that it can be replaced in an afternoon. Within a room no files import each other in a
//! circle, and a type's name is the name of one type.

mod circles;
mod source;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use self::source::{Source, sources, test_sources};

/// From left to right: a module uses only modules in later places.
const ORDER: &[&[&str]] = &[
    &["main"],
    &["lib"],
    &["cli", "fuzzing", "benching"],
    &["app"],
    &["config"],
    &["pipeline"],
    &["issuer", "server", "upstream", "audit"],
    &["trust"],
    &["store"],
    &["jose"],
    &["oauth"],
    &["clock", "durable_file", "file_privacy", "file_watch", "http1", "network"],
    &["telemetry"],
];

/// Packages and functions that only these files and folders use.
const HOMES: &[(&str, &[&str])] = &[
    ("jsonwebtoken::", &["src/jose/"]),
    ("reqwest::", &["src/trust/", "src/cli/token_get/exchange.rs"]),
    ("hickory_resolver::", &["src/upstream/names.rs"]),
    ("h2::", &["src/upstream/"]),
    ("serde_saphyr::", &["src/config/"]),
    ("annotate_snippets::", &["src/config/"]),
    ("strsim::", &["src/config/"]),
    ("governor::", &["src/pipeline/routing/limit_store.rs", "src/pipeline/routing/bounded_store.rs"]),
    ("clap::", &["src/cli/"]),
    ("clap_complete::", &["src/cli/completions.rs"]),
    ("clap_mangen::", &["src/cli/man.rs"]),
    ("rcgen::", &["src/jose/x509.rs"]),
    ("socket2::", &["src/server/", "src/upstream/connect/stream.rs"]),
    ("ipnet::", &["src/network.rs"]),
    ("httpdate::", &["src/clock.rs"]),
    ("prometheus_client::", &["src/telemetry/"]),
    ("tracing_subscriber::", &["src/telemetry/"]),
    ("quick_cache::", &["src/trust/", "src/issuer/"]),
    ("redis::", &["src/store/"]),
    ("tokio_postgres::", &["src/store/"]),
    ("rusqlite::", &["src/store/"]),
    (
        "rustix::",
        &[
            "src/issuer/offload.rs",
            "src/audit/disk.rs",
            "src/app/",
            "src/config/resolve/folders.rs",
            "src/config/resolve/shared.rs",
            "src/durable_file.rs",
            "src/file_privacy.rs",
            "src/file_watch.rs",
        ],
    ),
    ("argon2::", &["src/issuer/", "src/cli/"]),
    ("httparse::", &["src/http1/"]),
    ("SystemTime::now", &["src/clock.rs"]),
    ("std::time::Instant::now", &["src/clock.rs"]),
];

/// The rules that a source file breaks.
fn violations(source: &Source) -> Vec<String> {
    let (path, module) = (&source.path, room(&source.path));
    let mut found = Vec::new();
    for named in source.paths() {
        if let Some(used) = named.segments.first().filter(|used| !may_use(module, used)) {
            found.push(format!("{path}:{}: `{module}` must not use `{used}`", named.line));
        }
    }
    let instant_is_of_std =
        code(&source.text).any(|(_, line)| line.starts_with("use std::time::") && has_word(line, "Instant"));
    for (number, line) in code(&source.text) {
        for (name, homes) in HOMES {
            let short = name.ends_with("Instant::now") && instant_is_of_std && uses(line, "Instant::now");
            let at_home = homes.iter().any(|home| path.starts_with(home));
            if (short || uses(line, name)) && !at_home {
                found.push(format!("{path}:{number}: `{name}` belongs to {}", homes.join(" and ")));
            }
        }
    }
    found
}

/// The first part of a path below `src`.
fn room(path: &str) -> &str {
    let path = path.strip_prefix("src/").unwrap_or(path);
    path.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

/// Numbered lines without comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines().map(str::trim_start)).filter(|(_, line)| !line.starts_with("//"))
}

fn place(module: &str) -> Option<usize> {
    ORDER.iter().position(|modules| modules.contains(&module))
}

fn may_use(module: &str, used: &str) -> bool {
    match (place(module), place(used)) {
        _ if module == used => true,
        (Some(from), Some(to)) => from < to,
        (None, _) | (_, None) => false,
    }
}

/// Whether the line has this name, and not as the end of a longer name or of tokio's of the same name.
fn uses(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let before = &line[..at];
        !before.ends_with(|c: char| c.is_alphanumeric() || c == '_') && !before.ends_with("tokio::time::")
    })
}

fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|found| found == word)
}

#[test]
fn no_module_uses_one_to_its_left() {
    let violations: Vec<String> = sources().iter().flat_map(violations).collect();
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn a_name_that_other_modules_can_see_is_of_one_type() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in sources() {
        source.types().into_iter().for_each(|name| places.entry(name).or_default().push(source.path.clone()));
    }
    let twice: Vec<_> = places.iter().filter(|(_, paths)| paths.len() > 1).collect();
    assert!(twice.is_empty(), "defined more than once: {twice:#?}");
    let planted =
        "pub(crate) struct A<'a>(&'a str);\n    pub enum B {}\nstruct C;\npub(crate) type D = u8;\n// pub struct E;";
    let planted =
        Source::new("src/clock.rs", format!("{planted}\n#[cfg(test)]\nmod tests {{\n    pub struct F;\n}}\n"));
    assert_eq!(planted.types().into_iter().collect::<Vec<_>>(), ["A", "B", "D"]);
}

#[test]
fn every_module_has_a_place_in_the_order() {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    for (_, line) in code(&lib) {
        if let Some(module) = line.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')) {
            assert!(place(module).is_some(), "`{module}` stands nowhere in the order");
        }
    }
}

#[test]
fn the_checker_finds_planted_violations() {
    for (path, line) in [
        ("src/oauth/scope.rs", "use crate::jose::token::Token;"),
        ("src/pipeline/routing/access.rs", "use crate::config::types::Config;"),
        ("src/server/guard.rs", "use crate::pipeline::routing::table::RouteTable;"),
        ("src/issuer/grant.rs", "    let line = crate::audit::line::Line::new();"),
        ("src/audit/writer.rs", "use crate::{clock, upstream::pool::Pool};"),
        ("src/audit/writer.rs", "use super::super::upstream::pool::Pool;"),
        ("src/oauth/scope.rs", "#[cfg(test)]\nmod tests {\n    use super::super::super::jose::token::Token;\n}"),
        ("src/config/mod.rs", "pub(crate) use crate::app;"),
        ("src/telemetry/logs.rs", "use crate::clock;"),
        ("src/clock.rs", "use crate::plugins::Plugin;"),
        ("src/issuer/grant.rs", "use jsonwebtoken::Header;"),
        ("src/issuer/grant.rs", "    reqwest::get(url).await"),
        ("src/pipeline/routing/table.rs", "use governor::Quota;"),
        ("src/server/mod.rs", "use argon2::Argon2;"),
        ("src/oauth/mod.rs", "fn parse(cli: ::clap::Command) {}"),
        ("src/app.rs", "let now = std::time::SystemTime::now();"),
        ("src/app.rs", "let now = SystemTime::now();"),
        ("src/app.rs", "let now = std::time::Instant::now();"),
        ("src/app.rs", "use std::time::{Duration, Instant};\nlet now = Instant::now();"),
    ] {
        let found = violations(&Source::new(path, line.to_owned()));
        assert_eq!(found.len(), 1, "{path}: {line}: {found:?}");
    }
}

#[test]
fn the_checker_lets_the_rest_alone() {
    for (path, line) in [
        ("src/config/mod.rs", "use crate::clock;"),
        ("src/issuer/grant.rs", "use crate::issuer::client::Client;"),
        ("src/clock.rs", "use crate::telemetry::metrics;"),
        ("src/oauth/scope.rs", "/// As in [`crate::pipeline::routing::access`], by jsonwebtoken::Header."),
        ("src/oauth/scope.rs", "#[cfg(test)]\nmod tests {\n    use super::super::error::ErrorCode;\n}"),
        ("src/config/decode.rs", "$crate::config::decode::mirror!(@field entries);"),
        ("src/jose/mod.rs", "use jsonwebtoken::Header;"),
        ("src/app.rs", "let now = tokio::time::Instant::now();"),
        ("src/app.rs", "use tokio::time::Instant;\nlet now = Instant::now();"),
    ] {
        assert_eq!(violations(&Source::new(path, line.to_owned())), [""; 0], "{path}: {line}");
    }
}

/// Dependencies of a manifest without a comment in the line above.
fn without_reason(manifest: &str) -> Vec<&str> {
    let mut section = "";
    let mut before = "";
    let mut found = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section.ends_with("dependencies]") && line.contains(" = ") && !before.starts_with("# ") {
            found.push(line);
        }
        before = line;
    }
    found
}

#[test]
fn every_dependency_has_its_reason() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    assert_eq!(without_reason(&manifest), [""; 0]);
    assert_eq!(without_reason("[dependencies]\n# a\na = \"1\"\nb = \"1\"\n\n[dev-dependencies]\nc = \"1\"").len(), 2);
}

/// The number of lines of a file with its tests, from which on it is to be split.
const MAX_LINES: usize = 400;
/// The number of characters of a test's name, from which on it says too much.
const MAX_NAME: usize = 60;
/// Words that begin a name without a subject.
const HEADLESS: [&str; 5] = ["who_", "what_", "whoever_", "whatever_", "nobody_"];

#[test]
fn no_source_file_is_too_long() {
    let long: Vec<String> = sources()
        .iter()
        .map(|source| (source.path.clone(), source.text.lines().count()))
        .filter(|(_, lines)| *lines > MAX_LINES)
        .map(|(path, lines)| format!("{path}: {lines} lines"))
        .collect();
    assert!(long.is_empty(), "\n{}", long.join("\n"));
}

#[test]
fn names_of_tests_are_short_and_have_a_subject() {
    let bad: Vec<String> = sources()
        .iter()
        .chain(&test_sources())
        .flat_map(|source| {
            names_of_tests(&source.text).map(|name| format!("{}: {name}", source.path)).collect::<Vec<_>>()
        })
        .collect();
    assert!(bad.is_empty(), "\n{}", bad.join("\n"));
}

/// Those that are too long or have no subject.
fn names_of_tests(text: &str) -> impl Iterator<Item = &str> {
    let named = |line: &'_ str| -> bool { line.contains("fn ") && !line.trim_start().starts_with("//") };
    let lines = text.lines().filter(move |line| named(line));
    let names = lines.filter_map(|line| line.split("fn ").nth(1)).filter_map(|rest| rest.split(['(', '<']).next());
    names.filter(|name| name.len() > MAX_NAME || HEADLESS.iter().any(|word| name.starts_with(word)))
}

#[test]
fn long_and_headless_names_are_found() {
    let long = format!("async fn {}() {{", "a".repeat(MAX_NAME + 1));
    assert_eq!(names_of_tests(&format!("fn good() {{\n    fn what_is_this() {{\n{long}")).count(), 2);
}
