//! Routes with conditions on header fields: the choice among them, and the tables that are refused.

use std::num::NonZeroU32;
use std::time::Duration;

use super::*;
use crate::clock::UnixTime;
use crate::oauth::scope::ScopeSet;
use crate::pipeline::routing::access::AccessRule;
use crate::pipeline::routing::cors::{Cors, Origins};
use crate::pipeline::routing::field_conditions::{FieldConditions, value_for};
use crate::pipeline::routing::laxity::laxity_in_full;
use crate::pipeline::routing::method_set::MethodSet;
use crate::pipeline::routing::rate_limit::{LimitPlace, LimitRate, RateLimit};
use crate::trust::request_key::RequestKey;

/// Conditions in the form `name=a|b name=c`.
fn when(text: &str) -> Option<FieldConditions> {
    let field = |field: &str| {
        let (name, values) = field.split_once('=').unwrap();
        (name.parse().unwrap(), values.split('|').map(str::to_owned).collect())
    };
    FieldConditions::new(text.split_whitespace().map(field))
}

fn access(scopes: &str) -> Access {
    match scopes {
        "public" => Access::Public,
        "" => Access::Protected(Arc::default()),
        some => {
            Access::Protected(Arc::new(AccessRule { all_of: ScopeSet::parse(some).unwrap(), ..AccessRule::default() }))
        }
    }
}

fn conditioned(conditions: &str, scopes: &str, methods: &[&str]) -> Route {
    Route { when: when(conditions), access: access(scopes), ..route("/mcp", &[], methods) }
}

fn of(routes: Vec<Route>) -> Result<RouteTable, Vec<Conflict>> {
    RouteTable::new(routes.into_iter().map(Arc::new).collect())
}

fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(name.parse::<HeaderName>().unwrap(), value_for(value));
    }
    headers
}

fn found(table: &RouteTable, method: &str, fields: &[(&str, &str)]) -> Result<usize, String> {
    match table.find(&method.parse().unwrap(), "any", "/mcp", &headers(fields)) {
        RouteMatch::Route(_, index) => Ok(index),
        RouteMatch::MethodNotAllowed(allow) => Err(allow.to_str().unwrap().to_owned()),
        RouteMatch::Nothing => Err("nothing".to_owned()),
        RouteMatch::UnclearField(fault) => Err(fault.to_string()),
    }
}

#[test]
fn more_conditions_precede_fewer_in_any_order() {
    let mut routes: Vec<(&str, &str)> =
        vec![("", "a b"), ("m=call", "a"), ("m=list", ""), ("m=call n=x|y", ""), ("m=call n=z", "a")];
    for _ in 0..routes.len() {
        routes.rotate_left(1);
        let table = of(routes.iter().map(|(when, scopes)| conditioned(when, scopes, &["POST"])).collect()).unwrap();
        let at = |when: &str| Ok(routes.iter().position(|route| route.0 == when).unwrap());
        let is =
            |fields: &[(&str, &str)], expected| assert_eq!(found(&table, "POST", fields), at(expected), "{fields:?}");
        is(&[], "");
        is(&[("m", "other")], "");
        is(&[("M", "call")], "m=call");
        is(&[("m", "list")], "m=list");
        is(&[("m", "call"), ("n", "y")], "m=call n=x|y");
        is(&[("m", "call"), ("n", "z")], "m=call n=z");
        is(&[("m", "call"), ("n", "Z")], "m=call");
        is(&[("m", "list"), ("n", "z")], "m=list");
        is(&[("n", "z")], "");
        assert_eq!(found(&table, "GET", &[("m", "call")]), Err("POST".to_owned()));
    }
}

#[test]
fn a_request_that_meets_no_condition_finds_no_wider_route() {
    let wide = Route { access: Access::Public, ..route("/**", &[], &[]) };
    let get = conditioned("", "a", &["GET"]);
    let table = of(vec![wide, conditioned("m=call", "a", &["POST"])]).unwrap();
    assert_eq!(found(&table, "POST", &[]), Err("nothing".to_owned()));
    assert_eq!(found(&table, "GET", &[("m", "call")]), Err("nothing".to_owned()));
    let table = of(vec![get, conditioned("m=call", "a", &["POST"])]).unwrap();
    assert_eq!(found(&table, "POST", &[]), Err("GET, HEAD".to_owned()));
    assert_eq!(found(&table, "POST", &[("m", "call")]), Ok(1));
}

#[test]
fn an_unclear_field_is_refused_where_it_chooses() {
    let table = of(vec![conditioned("m=call", "", &["POST"]), conditioned("", "", &[]), route("/x", &[], &[])]);
    let table = table.unwrap();
    for fields in [&[("m", "call"), ("m", "call")][..], &[("m", "a"), ("m", "b")]] {
        assert!(found(&table, "POST", fields).unwrap_err().contains("repeated"));
        assert!(found(&table, "GET", fields).unwrap_err().contains("repeated"), "for each method of the place");
        let other = table.find(&Method::POST, "any", "/x", &headers(fields));
        assert!(matches!(other, RouteMatch::Route(_, 2)), "{other:?}");
    }
    assert_eq!(found(&table, "POST", &[("n", "a"), ("n", "b")]), Ok(1));
}

#[track_caller]
fn conflict(routes: Vec<Route>) -> String {
    let conflicts = of(routes).map(drop).unwrap_err();
    assert_eq!(conflicts.len(), 1, "{conflicts:?}");
    match &conflicts[0].kind {
        ConflictKind::FirstLaxer(laxity) => format!("first {laxity}"),
        ConflictKind::SecondLaxer(laxity) => format!("second {laxity}"),
        ConflictKind::Unequal => "unequal".to_owned(),
        ConflictKind::SameRequests => "same".to_owned(),
        ConflictKind::CaseOnly => "case".to_owned(),
    }
}

#[test]
fn a_laxer_rule_for_fewer_fields_is_a_conflict() {
    let of = |conditions, scopes| conditioned(conditions, scopes, &["POST"]);
    assert_eq!(conflict(vec![of("", ""), of("m=call", "a")]), "first without the scope `a`");
    assert_eq!(conflict(vec![of("m=call", "a"), of("", "public")]), "second without a token");
    assert_eq!(conflict(vec![of("m=call", "a"), of("m=call n=x", "b")]), "first without the scope `b`");
    assert_eq!(conflict(vec![of("m=call", "a"), of("n=x o=y", "b")]), "first without the scope `b`");
    assert_eq!(conflict(vec![of("m=call", "a"), of("m=call|list", "b")]), "unequal");
    assert_eq!(conflict(vec![of("m=call", "a"), of("n=x", "a b")]), "unequal");
    assert_eq!(conflict(vec![of("m=call", "a"), of("m=CALL", "b")]), "unequal");
    assert_eq!(conflict(vec![of("m=käse", "a"), of("m=list|KÄSE n=x", "b")]), "first without the scope `b`");
    assert_eq!(conflict(vec![of("m=call", "a"), of("m=call", "a")]), "same");
    let until = Some(UnixTime::from_seconds(1));
    let reporting = Route { report_until: until, ..of("", "a") };
    assert!(conflict(vec![reporting, of("m=call", "a")]).starts_with("first against its rule until"));
    let limited = |count: u32, conditions| {
        let rate = LimitRate {
            amount: NonZeroU32::new(count).unwrap(),
            period: Duration::from_secs(60),
            burst: NonZeroU32::new(count).unwrap(),
            over_replicas: false,
        };
        let limit = RateLimit::new("calls".to_owned(), rate, RequestKey::Client, LimitPlace(0));
        Route { limits: vec![limit], ..of(conditions, "a") }
    };
    assert_eq!(conflict(vec![of("", "a"), limited(5, "m=call")]), "first beyond the limit `calls`");
    assert_eq!(conflict(vec![limited(6, ""), limited(5, "m=call")]), "first beyond the limit `calls`");
    assert_eq!(conflict(vec![limited(5, "m=call"), of("n=x", "a")]), "unequal");
}

#[test]
fn routes_that_no_request_meets_together_may_differ() {
    let of_method = |conditions, scopes| conditioned(conditions, scopes, &["POST"]);
    for routes in [
        vec![of_method("", "a"), of_method("m=call", "")],
        vec![of_method("m=call", "a"), of_method("m=list", "b")],
        vec![of_method("m=call", "a"), of_method("m=Call", "a")],
        vec![of_method("m=list", ""), of_method("m=call n=x", "a")],
        vec![of_method("m=call", "a"), of_method("n=x", "a")],
        vec![of_method("m=call", "a"), conditioned("", "", &["GET"])],
        vec![of_method("m=call", "a"), Route { access: Access::Public, ..route("/**", &[], &[]) }],
    ] {
        assert!(of(routes).is_ok());
    }
}

#[test]
fn a_preflight_finds_a_route_by_its_method_alone() {
    let cors = || {
        let (headers, expose) = (Vec::new(), Vec::new());
        Cors { origins: Origins::Any, methods: MethodSet::all(), headers, expose, credentials: false, max_age: 1 }
    };
    let with_cors = |route: Route| Route { cors: Some(Box::new(cors())), ..route };
    let post = |conditions| conditioned(conditions, "a", &["POST"]);
    let at = |routes: Vec<Route>| {
        let table = of(routes).unwrap();
        table.find_for_preflight(&Method::POST, "any", "/mcp").map(|(_, index)| index)
    };
    assert_eq!(at(vec![with_cors(post("m=a n=b")), with_cors(post("m=a"))]), Some(1));
    assert_eq!(at(vec![with_cors(post("m=a")), post("")]), Some(0));
    assert_eq!(at(vec![with_cors(post("m=a")), with_cors(post(""))]), Some(1));
    assert_eq!(at(vec![post("m=a"), post("")]), None);
    assert_eq!(at(vec![with_cors(post(""))]), Some(0));
    assert_eq!(at(vec![with_cors(conditioned("m=a", "", &["GET"]))]), None);
}

const CONDITIONS: [&str; 9] = ["", "m=a", "m=b", "m=a|b", "n=a", "n=b", "m=a n=a", "m=a n=a|b", "m=b n=b"];
const SCOPES: [&str; 5] = ["public", "", "a", "b", "a b"];
const METHOD_LISTS: [&[&str]; 3] = [&["POST"], &["POST", "GET"], &["GET"]];
const VALUES: [Option<&str>; 4] = [None, Some("a"), Some("b"), Some("other")];

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, max_global_rejects: 200_000, ..ProptestConfig::default() })]

    #[test]
    fn leaving_fields_out_never_leads_to_a_laxer_rule(
        drawn in prop::collection::vec((0..CONDITIONS.len(), 0..SCOPES.len(), 0..METHOD_LISTS.len()), 2..5),
    ) {
        let routes = drawn.iter().map(|(when, scopes, methods)| {
            conditioned(CONDITIONS[*when], SCOPES[*scopes], METHOD_LISTS[*methods])
        });
        let table = of(routes.collect());
        prop_assume!(table.is_ok());
        let table = table.unwrap();
        for method in ["POST", "GET"] {
            for (m, n) in VALUES.iter().flat_map(|m| VALUES.iter().map(move |n| (*m, *n))) {
                let fields = |m: Option<&'static str>, n: Option<&'static str>| -> Vec<(&str, &str)> {
                    m.map(|m| ("m", m)).into_iter().chain(n.map(|n| ("n", n))).collect()
                };
                let with = found(&table, method, &fields(m, n));
                let count = |index: usize| table.routes()[index].when.as_ref().map_or(0, FieldConditions::count);
                let meets = |route: &Route| route.methods.contains(&method.parse().unwrap())
                    && route.when.as_ref().is_none_or(|when| when.hold(|name| if name == "m" { m } else { n }));
                let most = (0..drawn.len()).filter(|index| meets(&table.routes()[*index])).map(count).max();
                prop_assert_eq!(with.as_ref().ok().map(|index| count(*index)), most);
                let Ok(with) = with else { continue };
                prop_assert!(meets(&table.routes()[with]));
                for (m, n) in [(None, n), (m, None), (None, None)] {
                    if let Ok(without) = found(&table, method, &fields(m, n)) {
                        prop_assert_eq!(laxity_in_full(&table.routes()[without], &table.routes()[with]), None);
                    }
                }
            }
        }
    }
}
