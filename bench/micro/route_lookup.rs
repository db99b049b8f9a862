//! How long looking up a route takes among 10 and among 10,000: `cargo bench --bench route_lookup`.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark reads the clock and prints")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use portcullis::RouteFinder;

const LOOKUPS: usize = 200_000;
const ROUNDS: usize = 15;

fn main() {
    let (few, many) = (finder(10), finder(10_000));
    let mut ratios = Vec::new();
    let mut times = [Duration::MAX; 2];
    for _ in 0..ROUNDS {
        let (a, b) = (time(&few, 10), time(&many, 10_000));
        ratios.push(b.as_secs_f64() / a.as_secs_f64());
        times = [times[0].min(a), times[1].min(b)];
    }
    ratios.sort_by(f64::total_cmp);
    let nanoseconds = times.map(|time| time.as_nanos() / LOOKUPS as u128);
    println!(
        "route lookup: {} ns among 10, {} ns among 10,000; median ratio {:.2}",
        nanoseconds[0],
        nanoseconds[1],
        ratios[ROUNDS / 2]
    );
}

/// Half of the routes are exact, half have a placeholder and a subtree, a tenth has a host.
fn finder(routes: usize) -> RouteFinder {
    let mut yaml = String::from(
        "version: 1\nlisteners: [{address: 127.0.0.1:0}]\nupstreams: {u: \"http://127.0.0.1:1\"}\nroutes:\n",
    );
    for number in 0..routes {
        let path = if number.is_multiple_of(2) {
            format!("/api/v{}/items{number}", number % 7)
        } else {
            format!("/api/v{}/users{number}/{{id}}/**", number % 7)
        };
        let host = if number % 10 == 0 { "hosts: [api.example.com], " } else { "" };
        // Writing into a String does not fail.
        let _ = writeln!(yaml, "  - {{{host}path: \"{path}\", upstream: u, access: public}}");
    }
    RouteFinder::parse(&yaml).unwrap_or_else(|errors| panic!("{errors}"))
}

/// Looks up routes from all over the table, in an order that no cache foresees.
fn time(finder: &RouteFinder, routes: usize) -> Duration {
    let paths: Vec<String> = (0..64).map(|n| path(n * 7919 % routes)).collect();
    let start = Instant::now();
    for lookup in 0..LOOKUPS {
        let found = finder.find("GET", "api.example.com", &paths[lookup * 31 % paths.len()]);
        assert!(black_box(found).is_some());
    }
    start.elapsed()
}

fn path(number: usize) -> String {
    if number.is_multiple_of(2) {
        format!("/api/v{}/items{number}", number % 7)
    } else {
        format!("/api/v{}/users{number}/42/posts", number % 7)
    }
}
