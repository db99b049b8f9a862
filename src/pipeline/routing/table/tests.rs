mod conditions;
mod forwarded;
mod reference;

use super::super::access::Access;
use super::super::pattern::PathPattern;
use super::super::route::tests::route;
use super::*;
use proptest::prelude::*;

fn table(routes: &[(&str, &[&str], &[&str])]) -> Result<RouteTable, Vec<Conflict>> {
    RouteTable::new(routes.iter().map(|(path, hosts, methods)| Arc::new(route(path, hosts, methods))).collect())
}

#[track_caller]
fn finds(table: &RouteTable, method: &str, host: &str, path: &str, expected: Option<usize>) {
    let found = match table.find(&method.parse().unwrap(), host, path, &HeaderMap::new()) {
        RouteMatch::Route(_, index) => Some(index),
        RouteMatch::MethodNotAllowed(_) | RouteMatch::Nothing | RouteMatch::UnclearField(_) => None,
    };
    assert_eq!(found, expected, "{method} {host}{path}");
}

#[test]
fn exact_precedes_placeholder_precedes_subtree_in_any_order() {
    let mut routes: Vec<(&str, &[&str], &[&str])> = vec![
        ("/**", &[], &[]),
        ("/api/**", &[], &[]),
        ("/api/{id}", &[], &[]),
        ("/api/x", &[], &[]),
        ("/api/{id}/y", &[], &[]),
    ];
    for _ in 0..routes.len() {
        routes.rotate_left(1);
        let table = table(&routes).unwrap();
        let at = |path: &str| routes.iter().position(|route| route.0 == path);
        for (path, pattern) in [
            ("/", "/**"),
            ("/other", "/**"),
            ("/api", "/api/**"),
            ("/api/", "/api/**"),
            ("/api/x", "/api/x"),
            ("/api/x/", "/api/x"),
            ("/api/7", "/api/{id}"),
            ("/api/x/y", "/api/{id}/y"),
            ("/api/x/z", "/api/**"),
            ("/api/x/y/z", "/api/**"),
        ] {
            finds(&table, "GET", "any", path, at(pattern));
        }
    }
}

#[test]
fn exact_host_goes_before_longest_wildcard_before_none() {
    let hosts: [&[&str]; 4] = [&[], &["*.example.com"], &["*.eu.example.com"], &["api.eu.example.com"]];
    let table = table(&hosts.map(|hosts| ("/x", hosts, &[][..]))).unwrap();
    for (host, expected) in [
        ("api.eu.example.com", 3),
        ("b.eu.example.com", 2),
        ("a.b.eu.example.com", 2),
        ("eu.example.com", 1),
        ("example.com", 0),
        ("", 0),
    ] {
        finds(&table, "GET", host, "/x", Some(expected));
    }
}

#[test]
fn a_host_without_the_path_leaves_it_to_a_wider_one() {
    let table = table(&[("/ping", &[], &[]), ("/api/**", &["a.example"], &[])]).unwrap();
    finds(&table, "GET", "a.example", "/ping", Some(0));
    finds(&table, "GET", "b.example", "/api/x", None);
}

#[test]
fn a_method_missing_on_the_most_specific_path_is_405() {
    let table = table(&[("/api/admin", &[], &["GET"]), ("/api/**", &[], &[])]).unwrap();
    let RouteMatch::MethodNotAllowed(allow) = table.find(&Method::POST, "any", "/api/admin", &HeaderMap::new()) else {
        panic!("not 405")
    };
    assert_eq!(allow, "GET, HEAD");
    finds(&table, "HEAD", "any", "/api/admin", Some(0));
    finds(&table, "POST", "any", "/api/other", Some(1));
}

#[test]
fn a_path_that_leads_elsewhere_when_it_is_folded_is_not_found() {
    let paths = ["/**", "/admin/**", "/Ops", "/users/{id}", "/users/me", "/k/**"];
    let table = table(&paths.map(|path| (path, &[][..], &[][..]))).unwrap();
    for path in ["/Admin", "/ADMIN/x", "/adm\u{131}n", "/ops", "/OPS/", "/users/Me", "/Users/me", "/\u{212a}/x"] {
        finds(&table, "GET", "any", path, None);
    }
    for (path, expected) in [
        ("/admin/X", 1),
        ("/Ops", 2),
        ("/users/Meier", 3),
        ("/users/me", 4),
        ("/Other", 0),
        ("/adminX", 0),
        ("/stra\u{df}e", 0),
    ] {
        finds(&table, "GET", "any", path, Some(expected));
    }
}

#[test]
fn a_folded_path_keeps_to_the_rules_of_hosts() {
    let table = table(&[
        ("/**", &[], &[]),
        ("/admin", &["a.example"], &[]),
        ("/X", &["*.example.com"], &[]),
        ("/x", &["www.example.com"], &[]),
    ])
    .unwrap();
    finds(&table, "GET", "b.example", "/Admin", Some(0));
    finds(&table, "GET", "a.example", "/Admin", None);
    finds(&table, "GET", "www.example.com", "/x", Some(3));
    finds(&table, "GET", "www.example.com", "/X", None);
    finds(&table, "GET", "api.example.com", "/X", Some(2));
    finds(&table, "GET", "api.example.com", "/x", None);
}

#[test]
fn a_method_not_taken_is_404_where_the_folded_path_differs() {
    let table = table(&[("/api/**", &[], &["GET"]), ("/api/admin", &[], &[])]).unwrap();
    let found = |path| table.find(&Method::POST, "any", path, &HeaderMap::new());
    assert!(matches!(found("/api/x"), RouteMatch::MethodNotAllowed(_)));
    assert!(matches!(found("/api/Admin"), RouteMatch::Nothing));
}

#[test]
fn reserved_paths_in_another_case_are_not_found() {
    let table = table(&[("/**", &[], &[])]).unwrap().reserving(["/OAuth/token"]);
    for path in ["/oauth/token", "/OAUTH/TOKEN/", "/OAuth/token"] {
        finds(&table, "POST", "any", path, None);
    }
    finds(&table, "POST", "any", "/oauth/tokens", Some(0));
}

#[test]
fn methods_are_exact_and_unknown_ones_are_not_taken() {
    let table = table(&[("/x", &[], &[])]).unwrap();
    for method in ["get", "FOO", "CONNECT", "TRACE", "Get"] {
        finds(&table, method, "any", "/x", None);
    }
}

#[test]
fn two_routes_for_the_same_request_are_a_conflict() {
    let conflict = |routes: &[(&str, &[&str], &[&str])]| table(routes).err().map(|all| all[0].clone());
    let both = Some(Conflict { first: 0, second: 1, kind: ConflictKind::SameRequests });
    assert_eq!(conflict(&[("/x", &[], &[]), ("/x", &[], &["GET"])]), both);
    assert_eq!(conflict(&[("/{a}", &[], &[]), ("/{b}", &[], &[])]), both);
    assert_eq!(conflict(&[("/x", &["a.example", "b.example"], &[]), ("/x", &["b.example"], &[])]), both);
    assert_eq!(conflict(&[("/x", &[], &["GET"]), ("/x", &[], &["HEAD"])]), both);
    assert_eq!(conflict(&[("/x", &[], &["GET"]), ("/x", &[], &["POST"])]), None);
    assert_eq!(conflict(&[("/x", &[], &[]), ("/x/**", &[], &[])]), None);
}

#[test]
fn paths_of_one_host_that_differ_in_case_only_are_a_conflict() {
    let conflict = |routes: &[(&str, &[&str], &[&str])]| table(routes).err().map(|all| all[0].clone());
    let both = Some(Conflict { first: 0, second: 1, kind: ConflictKind::CaseOnly });
    assert_eq!(conflict(&[("/x", &[], &["GET"]), ("/X", &[], &["POST"])]), both);
    assert_eq!(conflict(&[("/{a}/k/**", &[], &[]), ("/{b}/\u{212a}/**", &[], &[])]), both);
    assert_eq!(conflict(&[("/x", &["a.example", "b.example"], &[]), ("/X", &["b.example"], &[])]), both);
    assert_eq!(conflict(&[("/x", &["a.example"], &[]), ("/X", &["b.example"], &[])]), None);
    assert_eq!(conflict(&[("/x", &["a.example"], &[]), ("/X", &[], &[])]), None);
    assert_eq!(conflict(&[("/{A}", &[], &["GET"]), ("/{a}", &[], &["POST"])]), None);
}

proptest! {
    /// A path that is listed as closed is never open, in upper or lower case, whichever open routes there are.
    #[test]
    fn no_open_route_opens_a_path_that_is_listed_closed(
        open in prop::collection::btree_set("(/([abAB]|\\{x\\})){0,3}(/\\*\\*)?", 0..6),
        closed in prop::collection::btree_set("(/[ab]){1,3}", 1..4),
        upper in any::<bool>(),
        method in prop::sample::select(vec![Method::GET, Method::POST]),
    ) {
        let closed_route = |path: &String| Route { access: Access::Protected(Arc::default()), ..route(path, &[], &["GET"]) };
        let open = open.iter().filter(|path| !path.is_empty() && !closed.contains(&path.to_lowercase()));
        let routes = open.map(|path| route(path, &[], &[])).chain(closed.iter().map(closed_route));
        let Ok(table) = RouteTable::new(routes.map(Arc::new).collect()) else { return Ok(()) };
        for path in &closed {
            let asked = if upper { path.to_uppercase() } else { path.clone() };
            if let RouteMatch::Route(found, _) = table.find(&method, "any", &asked, &HeaderMap::new()) {
                prop_assert!(!matches!(found.access, Access::Public), "{} found {:?}", asked, found.path);
            }
        }
    }

    /// Spellings that a service reads as the same path lead to the same routes or to none. Only the spelling of a
    /// pattern leads to a route.
    #[test]
    fn paths_that_differ_in_case_only_never_reach_different_routes(
        patterns in prop::collection::vec(
            ("(/([abkABK\u{131}\u{17f}s]|\\{x\\})){0,3}(/\\*\\*)?", 0..4_usize, any::<bool>()), 1..6),
        path in "(/[abksi]){1,3}",
        cases in prop::collection::vec(0..3_usize, 12),
        host in prop::sample::select(vec!["h.example", "w.h.example", "other"]),
    ) {
        let hosts: [&[&str]; 4] = [&[], &["h.example"], &["*.h.example"], &["*.example", "other"]];
        let route_of = |(path, host, get): &(String, usize, bool)| {
            let path = if path.is_empty() { "/" } else { path };
            let mut route = route(path, hosts[*host], if *get { &["GET"] } else { &[] });
            if *get { route.access = Access::Protected(Arc::default()) }
            Arc::new(route)
        };
        let Ok(table) = RouteTable::new(patterns.iter().map(route_of).collect()) else { return Ok(()) };
        let other: String = path.chars().zip(cases.iter().cycle()).map(|(c, case)| match (c, case) {
            ('i', 2) => '\u{131}',
            ('k', 2) => '\u{212a}',
            ('s', 2) => '\u{17f}',
            (c, 1) => c.to_ascii_uppercase(),
            (c, _) => c,
        }).collect();
        let tree_of = |folded: bool| table.folded.as_deref().filter(|_| folded).unwrap_or(&table.tree);
        let all = |folded, path: &str| {
            let tree = tree_of(folded);
            tree.leaf(host, path).map(|leaf| tree.routes(leaf).collect::<Vec<_>>())
        };
        let reached = |path: &str| match table.find(&Method::POST, host, path, &HeaderMap::new()) {
            RouteMatch::Nothing | RouteMatch::UnclearField(_) => None,
            RouteMatch::Route(..) | RouteMatch::MethodNotAllowed(_) => all(false, path),
        };
        let folded = all(true, &fold(&path));
        for spelling in [&path, &other] {
            if let Some(reached) = reached(spelling) {
                prop_assert_eq!(Some(reached), folded.clone(), "{} of {:?}", spelling, patterns);
            }
        }
    }

    /// Compares the table with the definition: of all patterns that match, none is more specific than the one found.
    #[test]
    fn the_table_finds_the_most_specific_pattern(
        patterns in prop::collection::btree_set("(/(a|b|\\{x\\})){0,3}(/\\*\\*)?", 1..8),
        path in "(/[abc]){1,4}",
    ) {
        let patterns: Vec<String> = patterns.into_iter().map(|p| if p.is_empty() { "/".to_owned() } else { p }).collect();
        let routes: Vec<(&str, &[&str], &[&str])> = patterns.iter().map(|p| (p.as_str(), &[][..], &[][..])).collect();
        let table = table(&routes).unwrap();
        let rank = |pattern: &str| -> Vec<u8> {
            let parts = pattern.trim_start_matches('/').split('/').filter(|part| !part.is_empty());
            parts.map(|part| match part { "**" => 2, "{x}" => 1, _ => 0 }).chain([0]).collect()
        };
        let matching = patterns.iter().filter(|pattern| PathPattern::parse(pattern).unwrap().matches(&path));
        let best = matching.min_by_key(|pattern| rank(pattern));
        let found = match table.find(&Method::GET, "any", &path, &HeaderMap::new()) {
            RouteMatch::Route(_, index) => Some(&patterns[index]),
            RouteMatch::MethodNotAllowed(_) | RouteMatch::Nothing | RouteMatch::UnclearField(_) => None,
        };
        prop_assert_eq!(found, best, "{} among {:?}", path, patterns);
    }
}
