//! The tests of a configuration: `portcullis test` runs them, and a configuration that fails one is not taken into use.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::command::{Finished, run};
use crate::support::gateway::{folder, program};
use crate::support::world::config;
use crate::support::{Client, Gateway, Upstream};

const ROUTES: [&str; 2] = [
    "name: data, path: /data/**, methods: [GET], access: {scopes: [read:data]}",
    "name: open, path: /open, access: public",
];

const PASSING: &str = "tests:
  - {name: strangers, allowed: [GET /open], refused: {GET /data/1: no_token}}
  - {name: the app, as: [{client: app}, {client: other}], allowed: {GET /data/1: data}}
";

const FAILING: &str = "tests:
  - {name: strangers, allowed: [GET /open], refused: {GET /data/1: missing_scope}}
  - {name: 'the <app> & \"others\"', as: {client: app, scopes: [write:data]}, from: 10.0.0.7, allowed: [GET /data/1?a=b]}
";

/// The decision about a request without a token.
const NO_TOKEN: &str =
    "refused with `no_token` by route `data` (found no Authorization, wanted Authorization: Bearer TOKEN)";

/// A folder with a configuration that has these tests.
fn with_tests(tests: &str) -> PathBuf {
    let folder = folder();
    fs::write(folder.join("gateway.yaml"), config("127.0.0.1:9".parse().unwrap(), &ROUTES, tests)).unwrap();
    folder
}

fn says(folder: &Path, arguments: &[&str]) -> Finished {
    run(program(folder).arg("test").args(arguments))
}

/// The line of the file with this text.
fn line(folder: &Path, text: &str) -> usize {
    let file = fs::read_to_string(folder.join("gateway.yaml")).unwrap();
    1 + file.lines().position(|line| line.contains(text)).unwrap()
}

#[test]
fn passed_tests_give_a_line_each() {
    let folder = with_tests(PASSING);
    let said = says(&folder, &[]);
    assert_eq!((said.code, &*said.stderr), (Some(0), ""), "{}", said.stdout);
    assert_eq!(
        said.stdout,
        "ok    strangers (2 requests)
ok    the app (2 requests)

2 tests, 4 requests: 4 passed, 0 failed
coverage 100 %: 2 of 2 routes with an allowed request, 1 of 1 rule with a refused one
"
    );
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "it writes nothing");
}

#[test]
fn a_failed_request_has_its_place_and_both_decisions() {
    let folder = with_tests(FAILING);
    let said = says(&folder, &[]);
    assert_eq!((said.code, &*said.stderr), (Some(1), ""));
    let (first, second) = (line(&folder, "strangers"), line(&folder, "the <app>"));
    for expected in [
        "FAIL  strangers (1 of 2 requests)\n".to_owned(),
        format!("      gateway.yaml:{first}:55: GET /data/1, anonymous\n        expected  refused with `missing_scope`\n"),
        format!("        actual    {NO_TOKEN}\n"),
        "portcullis explain GET https://localhost/data/1 --config gateway.yaml --from 127.0.0.1\n".to_owned(),
        format!("      gateway.yaml:{second}:"),
        "        expected  allowed\n        actual    refused with `missing_scope` by route `data` (found write:data, wanted read:data)\n".to_owned(),
        "portcullis explain GET 'https://localhost/data/1?a=b' --config gateway.yaml --from 10.0.0.7 --client app --scopes write:data\n".to_owned(),
        "2 tests, 3 requests: 1 passed, 2 failed\n".to_owned(),
        "coverage 33 %: 1 of 2 routes with an allowed request, 0 of 1 rule with a refused one\n".to_owned(),
        "  no allowed request: data\n  no refused request: data\n".to_owned(),
    ] {
        assert!(said.stdout.contains(&expected), "{expected}\n---\n{}", said.stdout);
    }
}

#[test]
fn coverage_below_the_wanted_percentage_is_a_finding() {
    let folder = with_tests("tests: [{name: one, allowed: [GET /open]}, {name: two, allowed: [GET /open]}]\n");
    assert_eq!(says(&folder, &["--fail-under", "33"]).code, Some(0));
    let said = says(&folder, &["--fail-under", "34"]);
    assert_eq!(said.code, Some(1));
    assert_eq!(said.stderr, "error: 33 % of the routes and rules are tested, wanted 34 %\n");
    assert_eq!(says(&folder, &["--fail-under", "101"]).code, Some(2));
    let said = says(&folder, &["--filter", "wo"]);
    assert_eq!(
        (said.code, &*said.stdout),
        (Some(0), "ok    two (1 request)\n\n1 test, 1 request: 1 passed, 0 failed\n")
    );
}

#[test]
fn nothing_to_test_is_wrong_usage() {
    let folder = with_tests("");
    let said = says(&folder, &[]);
    assert_eq!((said.code, &*said.stderr), (Some(2), "error: gateway.yaml has no `tests`: add some\n"));
    let folder = with_tests(PASSING);
    let said = says(&folder, &["--filter", "absent"]);
    assert_eq!((said.code, &*said.stderr), (Some(2), "error: no test of gateway.yaml has a name with `absent`\n"));
    fs::write(folder.join("gateway.yaml"), "version: 2").unwrap();
    assert_eq!(says(&folder, &[]).code, Some(2));
}

#[test]
fn tests_run_without_keys_and_secrets() {
    let folder = folder();
    let text = config("127.0.0.1:9".parse().unwrap(), &ROUTES, PASSING)
        .replace("correct horse battery staple", "\"${PORTCULLIS_TEST_UNSET}\"")
        .replace(", self_signed: true", "");
    fs::write(folder.join("gateway.yaml"), text).unwrap();
    let said = says(&folder, &[]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(run(program(&folder).arg("check")).code, Some(2), "there is no certificate");
}

#[test]
fn the_xml_is_that_of_junit() {
    let folder = with_tests(FAILING);
    let said = says(&folder, &["--format", "junit"]);
    assert_eq!(said.code, Some(1));
    let (first, second) = (line(&folder, "strangers"), line(&folder, "the <app>"));
    let name = "the &lt;app&gt; &amp; &quot;others&quot;";
    let scope =
        "expected allowed, but refused with `missing_scope` by route `data` (found write:data, wanted read:data)";
    let column = 1
        + "  - {name: 'the <app> & \"others\"', as: {client: app, scopes: [write:data]}, from: 10.0.0.7, allowed: ["
            .len();
    assert_eq!(
        said.stdout,
        format!(
            r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="gateway.yaml" tests="3" failures="2" errors="0">
  <testsuite name="strangers" tests="2" failures="1" errors="0" skipped="0">
    <testcase name="GET /open, anonymous" classname="strangers"/>
    <testcase name="GET /data/1, anonymous" classname="strangers">
      <failure message="expected refused with `missing_scope`, but {NO_TOKEN}" type="decision">gateway.yaml:{first}:55: expected refused with `missing_scope`, but {NO_TOKEN}</failure>
    </testcase>
  </testsuite>
  <testsuite name="{name}" tests="1" failures="1" errors="0" skipped="0">
    <testcase name="GET /data/1?a=b, client app with write:data" classname="{name}">
      <failure message="{scope}" type="decision">gateway.yaml:{second}:{column}: {scope}</failure>
    </testcase>
  </testsuite>
</testsuites>
"#
        )
    );
}

#[test]
fn the_json_output_has_every_request() {
    let folder = with_tests(FAILING);
    let said = says(&folder, &["--format", "json"]);
    let report: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((said.code, &report["ok"]), (Some(1), &json!(false)));
    let request = &report["tests"][1]["requests"][0];
    assert_eq!(
        (&request["line"], &request["as"], &request["passed"]),
        (&json!(line(&folder, "the <app>")), &json!("client app with write:data"), &json!(false))
    );
    assert_eq!(request["expected"], json!({ "decision": "allowed" }));
    assert_eq!(
        request["actual"],
        json!({ "decision": "refused", "reason": "missing_scope", "route": "data", "found": "write:data", "wanted": "read:data" })
    );
    assert_eq!(report["coverage"]["percent"], 33);
    assert_eq!(report["coverage"]["never_refused"], json!(["data"]));
}

#[tokio::test]
async fn a_reload_that_fails_a_test_is_refused() {
    let upstream = Upstream::start().await;
    let good = config(upstream.address, &ROUTES, PASSING);
    let gateway = Gateway::start(&good);
    let opened = good.replace("access: {scopes: [read:data]}", "access: public");
    let failure =
        "test `strangers`: GET /data/1, anonymous: expected refused with `no_token`, but allowed by route `data`";
    gateway.refuses_reload(&opened, failure);
    assert!(gateway.log_line(failure).contains(&format!("gateway.yaml:{}:", line(&gateway.folder, "strangers"))));
    let client = Client::new(&gateway);
    assert_eq!(client.get("/data/1").await.status, 401, "the last good configuration stays");
    let page = Client::plain(gateway.admin.unwrap()).get("/config").await.json();
    assert_eq!(page["last_reload"]["result"], "refused");
    let recorded = gateway.audit_line(|line| line["gateway.event"] == "reload_refused");
    assert!(recorded["gateway.error"].as_str().unwrap().contains(failure), "{recorded}");
    gateway.reloads(&opened.replace("refused: {GET /data/1: no_token}", "refused: {GET /none: no_route}"));
    assert_eq!(client.get("/data/1").await.status, 200);
}

#[test]
fn a_start_that_fails_a_test_is_refused() {
    let folder = with_tests(FAILING);
    let [check, started] = ["check", "run"].map(|verb| run(program(&folder).arg(verb)));
    assert_eq!((check.code, started.code), (Some(2), Some(2)));
    assert_eq!(check.stderr, started.stderr);
    assert!(started.stderr.starts_with(&format!("gateway.yaml:{}:55: test `strangers`: ", line(&folder, "strangers"))));
    assert!(started.stderr.ends_with("\ngateway.yaml: 2 problems\n"), "{}", started.stderr);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing was opened");
}

#[test]
fn the_shipped_configuration_passes_its_tests() {
    let folder = folder();
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("gateway.yaml"), folder.join("gateway.yaml")).unwrap();
    let said = says(&folder, &["--fail-under", "60"]);
    assert_eq!((said.code, &*said.stderr), (Some(0), ""), "{}", said.stdout);
}

/// A decision of the real gateway is the one that a test expects.
#[tokio::test]
async fn the_gateway_decides_as_its_tests_say() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&config(upstream.address, &ROUTES, PASSING));
    let client = Client::new(&gateway);
    assert_eq!(client.get("/open").await.status, 200);
    let refused = client.get("/data/1").await;
    assert_eq!(gateway.audit_of(refused.request_id())["gateway.reason"], "no_token");
}
