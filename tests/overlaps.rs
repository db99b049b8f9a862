//! `check` and the start warn of routes by which a caller could pass by the rules of another route to the same server.

use std::fmt::Write as _;
use std::fs;

use crate::support::Gateway;
use crate::support::command::{Finished, run};
use crate::support::gateway::{folder, program};
use crate::support::world::config;

const SERVER: &str = "127.0.0.1:9";

/// The output of `check` for these routes, with the warnings of overlaps alone.
fn check(routes: &[&str], sections: &str) -> Finished {
    let folder = folder();
    fs::write(folder.join("gateway.yaml"), config(SERVER.parse().unwrap(), routes, sections)).unwrap();
    let said = run(program(&folder).arg("check"));
    fs::remove_dir_all(folder).unwrap();
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    only_overlaps(said)
}

fn only_overlaps(said: Finished) -> Finished {
    let lines = said.stderr.split_inclusive('\n').filter(|line| line.ends_with(" [overlapping-routes]\n"));
    Finished { stderr: lines.collect(), ..said }
}

/// `check` warns of the first of these routes because of the second.
#[track_caller]
fn warns_in(routes: &[&str], sections: &str, words: &str) {
    let said = check(routes, sections);
    assert!(said.stderr.contains("reach the same server"), "{routes:?}: {}", said.stderr);
    assert!(said.stderr.contains("`weak`") && said.stderr.contains("`strict`"), "{}", said.stderr);
    assert!(said.stderr.contains(words), "{routes:?}: {}", said.stderr);
    assert_eq!(said.stderr.lines().count(), 1, "{}", said.stderr);
}

#[track_caller]
fn warns(routes: &[&str], words: &str) {
    warns_in(routes, "", words);
}

#[track_caller]
fn is_silent(routes: &[&str], sections: &str) {
    let said = check(routes, sections);
    assert_eq!(said.stderr, "", "{routes:?}");
}

const STRICT: &str = "name: strict, path: /admin/**, access: {scopes: [read:data]}";
const WEAK: &str = "name: weak, path: /**, hosts: [\"*.example.com\"], access: public";

#[test]
fn an_overlap_below_routes_that_shadow_its_root_is_warned_of() {
    let strict = "name: strict, path: /**, hosts: [h.example], access: {scopes: [read:data]}";
    let weak = "name: weak, path: /**, access: public";
    let shadows = ["/", "/{x}"]
        .map(|path| format!("name: \"{path}\", path: \"{path}\", respond: {{status: 404}}, access: public"));
    warns(&[strict, weak, &shadows[0], &shadows[1]], "without a token");
}

#[test]
fn one_server_in_two_spellings_is_one_server() {
    for [one, other] in [
        ["http://127.0.0.1:9", "http://0.0.0.0:9"],
        ["http://localhost:9", "http://localhost.:9"],
        ["http://127.0.0.1:9", "http://[::ffff:7f00:1]:9"],
        ["http://192.0.2.1:9", "http://[::ffff:c000:201]:9"],
        ["http://svc.internal:9", "http://svc.internal.:9"],
        ["http://localhost:9", "http://app.localhost:9"],
        ["unix:./s.sock", "unix:s.sock"],
        ["unix:/run/app/../s.sock", "unix:/run/s.sock"],
    ] {
        let upstreams = format!("upstreams: {{one: \"{one}\", other: \"{other}\"}}\n");
        warns_in(
            &[
                "name: strict, path: /admin/**, upstream: one, access: {scopes: [read:data]}",
                "name: weak, path: /**, upstream: other, hosts: [a.example], access: public",
            ],
            &upstreams,
            "without a token",
        );
    }
}

#[test]
fn a_less_protected_route_for_another_host_is_warned_of() {
    warns(&[STRICT, WEAK], "without a token");
    warns(&[WEAK, STRICT], "without a token");
    warns(&[STRICT, "name: weak, path: /**, hosts: [a.example], access: {}"], "`read:data`");
    warns(&[STRICT, "name: weak, path: /admin/**, hosts: [a.example], access: {scopes: [write:data]}"], "`read:data`");
    warns(
        &[
            "name: strict, path: \"/{tenant}/x\", access: public, allow_from: [192.0.2.0/24]",
            "name: weak, path: /a/**, hosts: [a.example], access: public",
        ],
        "allow_from",
    );
    warns(
        &[
            "name: strict, path: /x, hosts: [b.example], methods: [GET], access: public",
            "name: weak, path: /x, hosts: [a.example], access: public",
        ],
        "POST",
    );
    warns(
        &[
            "name: strict, path: /x, hosts: [b.example], access: {clients: [app]}",
            "name: weak, path: /x, hosts: [a.example], access: {clients: [app, other]}",
        ],
        "clients",
    );
    warns(
        &[
            "name: strict, path: /x, hosts: [b.example], access: {claims: {tier: gold}}",
            "name: weak, path: /x, hosts: [a.example], access: {claims: {tier: [gold, silver]}}",
        ],
        "claim",
    );
}

#[test]
fn routes_without_a_name_are_told_apart_by_their_hosts() {
    let said = check(
        &["path: /a/**, methods: [GET], access: {scopes: [read:data]}", "path: /a/**, hosts: [a.example], access: {}"],
        "",
    );
    for words in
        ["`/a/**` for any host (line", "`/a/**` for `[a.example]` (line", SERVER, "`/a/**` for any host refuses"]
    {
        assert!(said.stderr.contains(words), "{words}: {}", said.stderr);
    }
}

#[test]
fn routes_that_are_no_way_around_each_other_are_passed_over() {
    // The same rules, or stricter ones.
    is_silent(&[STRICT, "path: /**, hosts: [a.example], access: {scopes: [read:data, write:data]}"], "");
    is_silent(
        &[
            "path: /x, access: {clients: [app, other], scopes: [read:data, write:data]}, allow_from: [10.0.0.0/8]",
            "path: /**, hosts: [a.example], access: {clients: [other, app], scopes: [write:data, read:data]}, allow_from: [10.0.0.0/9, 10.128.0.0/9]",
        ],
        "",
    );
    // An exception that is written out, and more methods under stricter rules.
    is_silent(&[STRICT, "path: /admin/health, hosts: [a.example], access: public"], "");
    is_silent(
        &[
            "path: /ping, methods: [GET], access: public",
            "path: /api/**, strip_prefix: /api, access: {scopes: [read:data]}",
        ],
        "",
    );
    // Another path, another server, no server.
    is_silent(&[STRICT, "path: /other/**, hosts: [a.example], access: public"], "");
    is_silent(
        &[STRICT, "path: /**, hosts: [a.example], access: public, upstream: other"],
        "upstreams: {legacy: 'http://127.0.0.1:9', other: 'http://127.0.0.1:10'}",
    );
    is_silent(&[STRICT, "path: /**, hosts: [a.example], access: public, respond: {status: 404}"], "");
    // One host: there the more specific path decides.
    is_silent(&[STRICT, "path: /**, access: public"], "");
    is_silent(&["path: /x, methods: [GET], access: public", "path: /x, methods: [POST], access: {}"], "");
    // A route of that host closes the path there.
    is_silent(&[STRICT, WEAK, "path: /admin/**, hosts: [\"*.example.com\"], access: {scopes: [read:data]}"], "");
}

#[test]
fn a_server_is_the_same_under_every_name_and_by_every_way() {
    for (upstreams, weak) in [
        ("other: 'http://127.0.0.1:9'", "upstream: other"),
        ("other: {servers: ['http://127.0.0.1:10', 'http://127.0.0.1:9']}", "upstream: other"),
        ("far: 'http://127.0.0.1:10', other: 'https://127.0.0.1:9'", "upstream: {far: 1, other: 1}"),
        ("far: 'http://127.0.0.1:10', other: 'http://127.0.0.1:9'", "upstream: far, mirror: {upstream: other}"),
    ] {
        let sections = format!("upstreams: {{legacy: 'http://127.0.0.1:9', {upstreams}}}");
        warns_in(&[STRICT, &format!("{WEAK}, {weak}")], &sections, "without a token");
    }
    let sections = "upstreams: {legacy: 'unix:/run/a.sock', other: {servers: ['unix:/run/a.sock']}}";
    warns_in(&[STRICT, &format!("{WEAK}, upstream: other")], sections, "unix:/run/a.sock");
    let sections = "upstreams: {legacy: 'http://service.example', other: 'http://service.example:80'}";
    warns_in(&[STRICT, &format!("{WEAK}, upstream: other")], sections, "service.example:80");
}

/// The path that the service gets decides, on one host too.
#[test]
fn paths_are_compared_as_the_service_gets_them() {
    let stripped = "name: weak, path: /v1/**, strip_prefix: /v1, access: public";
    warns(&[STRICT, stripped], "without a token");
    let rewritten = "name: weak, path: \"/open/{x}/**\", rewrite: \"/{x}/**\", access: public";
    warns(&[STRICT, rewritten], "without a token");
    is_silent(&[STRICT, "path: /v1/**, rewrite: /v2/**, access: public"], "");
    is_silent(&[STRICT, "path: /admin/v1/**, hosts: [a.example], strip_prefix: /admin, access: public"], "");
    // The path is closed before its prefix goes.
    is_silent(
        &[
            STRICT,
            "path: /v1/**, strip_prefix: /v1, access: public",
            "path: /v1/admin/**, strip_prefix: /v1, access: {scopes: [read:data]}",
        ],
        "",
    );
}

#[test]
fn the_number_of_warnings_is_bounded() {
    let weak: Vec<String> =
        (0..30).map(|n| format!("name: w{n}, path: /**, hosts: [h{n}.example], access: public")).collect();
    let routes: Vec<&str> = [STRICT].into_iter().chain(weak.iter().map(String::as_str)).collect();
    let said = check(&routes, "");
    assert_eq!(said.stderr.lines().count(), 21, "{}", said.stderr);
    assert!(said.stderr.lines().last().unwrap().contains("10 more pairs of routes"), "{}", said.stderr);
}

/// Everything is compared with everything that could matter, and with nothing else.
#[test]
fn ten_thousand_routes_of_one_server_are_compared_quickly() {
    let mut routes = String::new();
    for n in 0..5000 {
        writeln!(routes, "  - {{path: /a{n}/**, upstream: legacy, access: {{}}}}").unwrap();
        writeln!(routes, "  - {{name: h{n}, path: /**, hosts: [h{n}.example], upstream: legacy, access: public}}")
            .unwrap();
    }
    let folder = folder();
    let text = config(SERVER.parse().unwrap(), &[], "") + "\n";
    fs::write(folder.join("gateway.yaml"), text.replace("routes:\n", &format!("routes:\n{routes}"))).unwrap();
    let said = only_overlaps(run(program(&folder).arg("check")));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(said.stderr.lines().count(), 22, "{}", said.stderr);
    assert!(
        said.stderr.ends_with("to compare them all: others may overlap as well [overlapping-routes]\n"),
        "{}",
        said.stderr
    );
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn the_start_warns_as_check_does() {
    let gateway = Gateway::before(SERVER.parse().unwrap(), &[STRICT, WEAK]);
    gateway.log_line("reach the same server");
}
