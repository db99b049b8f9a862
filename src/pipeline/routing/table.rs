//! Finds the one route that a request takes.
//!
//! Precedence hangs on the patterns alone, never on their order in the file: exact host, then the longest wildcard, then none; then, segment by
//! segment from the left, exact before `{}` before `/**`. The most specific path decides *before* its method is looked at: a method that it does not
//! list is 405 and never falls through to a wider pattern, so that adding an open route can't open a path that is listed closed.
//! Many servers ignore upper and lower case. So a path is found only if its folded form leads to the same routes: whatever their
//! access, methods, address rules and targets, a path that leads elsewhere when it is folded is not found.

use std::sync::Arc;

use foldhash::{HashMap, HashSet};
use http::{HeaderValue, Method};

use super::method_set::MethodSet;
use super::pattern::{HostPattern, PathPattern, Segment};
use super::route::Route;
use crate::pipeline::request::case_fold::{fold, may_change};

/// All routes, compiled: looking one up takes as long among ten thousand as among ten.
#[derive(Debug, Default)]
pub(crate) struct RouteTable {
    routes: Vec<Arc<Route>>,
    trees: Trees,
    /// The same with folded patterns.
    folded: Trees,
    /// Folding changes a pattern or a reserved path.
    may_fold: bool,
    /// Folded paths that no route takes: those of endpoints that go before routes.
    reserved: HashSet<String>,
}

/// A tree of path segments for each host that is named.
#[derive(Debug, Default)]
struct Trees {
    exact: HashMap<String, RouteNode>,
    /// By suffix, which starts with a dot.
    wildcard: HashMap<String, RouteNode>,
    any: RouteNode,
}

/// Two routes that can't stand side by side, as places in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    pub(crate) first: usize,
    pub(crate) second: usize,
    pub(crate) kind: ConflictKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConflictKind {
    /// Both would match the same requests.
    SameRequests,
    /// Their paths differ in upper and lower case only, whatever their methods.
    CaseOnly,
}

/// What the table says of a request.
#[derive(Debug)]
pub(crate) enum RouteMatch<'t> {
    Route(&'t Route, usize),
    /// The path is known, the method is not; what it could be.
    MethodNotAllowed(HeaderValue),
    Nothing,
}

/// A place in the tree of path segments.
#[derive(Debug, Default)]
struct RouteNode {
    exact: HashMap<String, Self>,
    any: Option<Box<Self>>,
    /// Patterns that end here.
    here: Leaf,
    /// Patterns that end in `/**` here.
    subtree: Leaf,
}

#[derive(Debug, Default)]
struct Leaf {
    by_methods: Vec<(MethodSet, usize)>,
}

impl RouteTable {
    pub(crate) fn new(routes: Vec<Arc<Route>>) -> Result<Self, Vec<Conflict>> {
        let mut table = Self::default();
        let mut conflicts = Vec::new();
        for (index, route) in routes.iter().enumerate() {
            let as_written = table.trees.insert(route, index, str::to_owned, |leaf| leaf.clash(route));
            let conflict = |first, kind| Conflict { first, second: index, kind };
            conflicts.extend(as_written.map(|first| conflict(first, ConflictKind::SameRequests)));
            let is_other_case = |leaf: &Leaf| leaf.indices().find(|first| !route.path.is_same(&routes[*first].path));
            let folded = table.folded.insert(route, index, |text| fold(text).into_owned(), is_other_case);
            conflicts.extend(folded.map(|first| conflict(first, ConflictKind::CaseOnly)));
            table.may_fold |= may_change(&route.path.to_string());
        }
        table.routes = routes;
        if conflicts.is_empty() { Ok(table) } else { Err(conflicts) }
    }

    /// Keeps routes off what differs from these paths in upper and lower case only.
    pub(crate) fn reserving<'p>(mut self, paths: impl IntoIterator<Item = &'p str>) -> Self {
        for path in paths {
            self.may_fold |= may_change(path);
            self.reserved.insert(fold(path).into_owned());
        }
        self
    }

    pub(crate) fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// `host` is lower case without port and trailing dot; `path` is decoded and canonical.
    pub(crate) fn find<'t>(&'t self, method: &Method, host: &'t str, path: &str) -> RouteMatch<'t> {
        let Some(leaf) = self.trees.leaf(host, path) else {
            return RouteMatch::Nothing;
        };
        if self.leads_elsewhere_folded(leaf, host, path) {
            return RouteMatch::Nothing;
        }
        match leaf.by_methods.iter().find(|(methods, _)| methods.contains(method)) {
            Some((_, index)) => RouteMatch::Route(&self.routes[*index], *index),
            None => RouteMatch::MethodNotAllowed(leaf.allow()),
        }
    }

    /// The routes of the place that this path leads to, whatever their methods, by their places in the list.
    pub(crate) fn standing_at(&self, host: &str, path: &str) -> Vec<usize> {
        let leaf = self.trees.leaf(host, path).filter(|leaf| !self.leads_elsewhere_folded(leaf, host, path));
        leaf.map(|leaf| leaf.indices().collect()).unwrap_or_default()
    }

    /// Whether the folded path leads to other routes than `found`, under the same host rules.
    ///
    /// Where folding changes no pattern, the folded trees equal the exact ones. A path that folding does not change is then looked
    /// up in equal trees, and no reserved path is left for it to equal: the answer is no, without a look-up.
    fn leads_elsewhere_folded(&self, found: &Leaf, host: &str, path: &str) -> bool {
        if !self.may_fold && !may_change(path) {
            return false;
        }
        let folded = fold(path);
        let is_reserved = || self.reserved.contains(folded.strip_suffix('/').unwrap_or(&folded));
        is_reserved() || self.folded.leaf(host, &folded).is_none_or(|leaf| !leaf.has_same_routes(found))
    }
}

impl Trees {
    /// Gives the first route that `clash` finds among those of the same place.
    fn insert(
        &mut self,
        route: &Route,
        index: usize,
        spelt: impl Fn(&str) -> String,
        clash: impl Fn(&Leaf) -> Option<usize>,
    ) -> Option<usize> {
        let insert = |root: &mut RouteNode| {
            let leaf = root.place(&route.path, &spelt);
            let first = clash(leaf);
            leaf.by_methods.push((route.methods.clone(), index));
            first
        };
        match route.hosts[..] {
            [] => insert(&mut self.any),
            // All are tried, so that all know the route.
            ref hosts => hosts.iter().map(|host| insert(self.root(host))).fold(None, Option::or),
        }
    }

    fn leaf<'t>(&'t self, host: &'t str, path: &str) -> Option<&'t Leaf> {
        let path = path.strip_prefix('/').unwrap_or(path);
        let path = path.strip_suffix('/').unwrap_or(path);
        self.roots_of(host).find_map(|root| root.find(path))
    }

    /// The trees that may know this host, most specific first.
    fn roots_of<'t>(&'t self, host: &'t str) -> impl Iterator<Item = &'t RouteNode> {
        let exact = (!self.exact.is_empty()).then(|| self.exact.get(host)).flatten();
        let suffixes = host.match_indices('.').map(|(dot, _)| &host[dot..]).filter(|_| !self.wildcard.is_empty());
        let wildcards = suffixes.filter_map(|suffix| self.wildcard.get(suffix));
        exact.into_iter().chain(wildcards).chain(std::iter::once(&self.any))
    }

    fn root(&mut self, host: &HostPattern) -> &mut RouteNode {
        match host {
            HostPattern::Exact(name) => self.exact.entry(name.clone()).or_default(),
            HostPattern::Wildcard(suffix) => self.wildcard.entry(suffix.clone()).or_default(),
        }
    }
}

impl RouteNode {
    /// Where routes with this pattern stand, below this node.
    fn place(&mut self, pattern: &PathPattern, spelt: impl Fn(&str) -> String) -> &mut Leaf {
        let mut node = self;
        for segment in &pattern.segments {
            node = match segment {
                Segment::Exact(text) => node.exact.entry(spelt(text)).or_default(),
                Segment::Any => node.any.get_or_insert_default(),
            };
        }
        if pattern.subtree { &mut node.subtree } else { &mut node.here }
    }

    /// `rest` has neither leading nor trailing slash. Goes back where a more specific branch leads nowhere.
    fn find(&self, rest: &str) -> Option<&Leaf> {
        if rest.is_empty() {
            return self.here.or(&self.subtree);
        }
        let (segment, after) = rest.split_once('/').unwrap_or((rest, ""));
        let exact = self.exact.get(segment).and_then(|node| node.find(after));
        let any = || self.any.as_ref().filter(|_| !segment.is_empty()).and_then(|node| node.find(after));
        exact.or_else(any).or_else(|| self.subtree.some())
    }
}

impl Leaf {
    fn some(&self) -> Option<&Self> {
        (!self.by_methods.is_empty()).then_some(self)
    }

    fn or<'l>(&'l self, other: &'l Self) -> Option<&'l Self> {
        self.some().or_else(|| other.some())
    }

    /// The first route of the leaf that takes a method of this one.
    fn clash(&self, route: &Route) -> Option<usize> {
        self.by_methods.iter().find(|(methods, _)| methods.intersects(&route.methods)).map(|(_, index)| *index)
    }

    fn indices(&self) -> impl Iterator<Item = usize> {
        self.by_methods.iter().map(|(_, index)| *index)
    }

    /// A route has one pattern, so the same routes are also the same place; routes enter every leaf in the order of the list.
    fn has_same_routes(&self, other: &Self) -> bool {
        self.indices().eq(other.indices())
    }

    fn allow(&self) -> HeaderValue {
        let mut names: Vec<&str> = self.by_methods.iter().flat_map(|(methods, _)| methods.names()).collect();
        names.sort_unstable();
        names.dedup();
        HeaderValue::try_from(names.join(", ")).unwrap_or(HeaderValue::from_static(""))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::super::access::Access;
    use super::super::route::tests::route;
    use super::*;
    use crate::pipeline::request::canonical::CanonicalRequest;
    use crate::server::limits::Limits;
    use http::Request;
    use http::header::HOST;
    use proptest::prelude::*;

    fn table(routes: &[(&str, &[&str], &[&str])]) -> Result<RouteTable, Vec<Conflict>> {
        RouteTable::new(routes.iter().map(|(path, hosts, methods)| Arc::new(route(path, hosts, methods))).collect())
    }

    #[track_caller]
    fn finds(table: &RouteTable, method: &str, host: &str, path: &str, expected: Option<usize>) {
        let found = match table.find(&method.parse().unwrap(), host, path) {
            RouteMatch::Route(_, index) => Some(index),
            RouteMatch::MethodNotAllowed(_) | RouteMatch::Nothing => None,
        };
        assert_eq!(found, expected, "{method} {host}{path}");
    }

    #[test]
    fn exact_goes_before_placeholder_before_subtree_whatever_the_order() {
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
    fn a_method_that_the_most_specific_path_does_not_list_is_405_and_falls_through_to_nothing() {
        let table = table(&[("/api/admin", &[], &["GET"]), ("/api/**", &[], &[])]).unwrap();
        let RouteMatch::MethodNotAllowed(allow) = table.find(&Method::POST, "any", "/api/admin") else {
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
    fn a_method_that_is_not_taken_is_not_found_where_the_folded_path_leads_elsewhere() {
        let table = table(&[("/api/**", &[], &["GET"]), ("/api/admin", &[], &[])]).unwrap();
        let found = |path| table.find(&Method::POST, "any", path);
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
        let conflict = |routes: &[(&str, &[&str], &[&str])]| table(routes).err().map(|all| all[0]);
        let both = Some(Conflict { first: 0, second: 1, kind: ConflictKind::SameRequests });
        assert_eq!(conflict(&[("/x", &[], &[]), ("/x", &[], &["GET"])]), both);
        assert_eq!(conflict(&[("/{a}", &[], &[]), ("/{b}", &[], &[])]), both);
        assert_eq!(conflict(&[("/x", &["a.example", "b.example"], &[]), ("/x", &["b.example"], &[])]), both);
        assert_eq!(conflict(&[("/x", &[], &["GET"]), ("/x", &[], &["HEAD"])]), both);
        assert_eq!(conflict(&[("/x", &[], &["GET"]), ("/x", &[], &["POST"])]), None);
        assert_eq!(conflict(&[("/x", &[], &[]), ("/x/**", &[], &[])]), None);
    }

    #[test]
    fn two_paths_of_one_host_that_differ_in_case_only_are_a_conflict_whatever_their_methods() {
        let conflict = |routes: &[(&str, &[&str], &[&str])]| table(routes).err().map(|all| all[0]);
        let both = Some(Conflict { first: 0, second: 1, kind: ConflictKind::CaseOnly });
        assert_eq!(conflict(&[("/x", &[], &["GET"]), ("/X", &[], &["POST"])]), both);
        assert_eq!(conflict(&[("/{a}/k/**", &[], &[]), ("/{b}/\u{212a}/**", &[], &[])]), both);
        assert_eq!(conflict(&[("/x", &["a.example", "b.example"], &[]), ("/X", &["b.example"], &[])]), both);
        assert_eq!(conflict(&[("/x", &["a.example"], &[]), ("/X", &["b.example"], &[])]), None);
        assert_eq!(conflict(&[("/x", &["a.example"], &[]), ("/X", &[], &[])]), None);
        assert_eq!(conflict(&[("/{A}", &[], &["GET"]), ("/{a}", &[], &["POST"])]), None);
    }

    /// As the most eager service would read a path: decoded for as long as anything changes, parameters off, backslashes as
    /// slashes, empty and dot segments resolved. Written without regard to how we read it.
    fn eagerly(target: &str) -> String {
        let mut path = target.split('?').next().unwrap().to_owned();
        loop {
            let decoded = percent_encoding::percent_decode_str(&path).decode_utf8_lossy().replace('\\', "/");
            let bare: Vec<&str> = decoded.split('/').map(|segment| segment.split(';').next().unwrap()).collect();
            let bare = bare.join("/");
            if bare == path {
                break;
            }
            path = bare;
        }
        let mut segments: Vec<&str> = Vec::new();
        for segment in path.split('/') {
            match segment {
                "" | "." => {}
                ".." => drop(segments.pop()),
                other => segments.push(other),
            }
        }
        format!("/{}", segments.join("/"))
    }

    fn read(target: &str) -> Option<CanonicalRequest> {
        let (head, ()) = Request::get(target).header(HOST, "a").body(()).ok()?.into_parts();
        CanonicalRequest::new(&head, "https", &RefCell::default(), &Limits::default()).ok()
    }

    /// Segments made of what attacks are made of.
    fn hostile_target() -> impl Strategy<Value = String> {
        let pieces = vec![
            "api",
            "public",
            "admin",
            "private",
            "settings",
            "help",
            "API",
            "x",
            ".",
            "..",
            "...",
            "%2e",
            "%2E%2e",
            "%252e",
            "%25%32%65",
            "%2f",
            "%5c",
            "%252f",
            "\\",
            ";",
            ";x=1",
            "%3b",
            "%253b",
            "%61",
            "%61dmin",
            "%2561dmin",
            "adm%69n",
            "%70ublic",
            "%20",
            "%7e",
            "%2a",
            "%c3%bc",
            "%c0%ae",
            "%ef%bc%8e",
            "%zz",
            "%",
            "%25",
            "%00",
            "%0a",
            "%23",
            "%3f",
            "+",
        ];
        let segment = prop_oneof![
            3 => prop::sample::select(vec!["api", "public", "admin", "private", "settings", "..", "%2e%2e", "%61dmin", ""])
                .prop_map(str::to_owned),
            2 => prop::collection::vec(prop::sample::select(pieces), 1..4).prop_map(|pieces| pieces.concat()),
        ];
        let queries = prop::sample::select(vec!["", "?", "?x=/api/public", "?/../admin", "?a=%2e%2e;b"]);
        (prop_oneof!["", "/api/public", "/api", "/api/admin"], prop::collection::vec(segment, 1..6), queries)
            .prop_map(|(root, segments, query)| format!("{root}/{}{query}", segments.join("/")))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        /// Whatever is accepted, we decide as anybody behind us would who reads what we send, however eagerly; and what we send
        /// is what we would send for it again.
        #[test]
        fn what_is_decided_is_what_is_forwarded(target in hostile_target()) {
            let routes = ["/api/public/**", "/api/admin/**", "/api/public/private/**", "/api/admin/help", "/api/{id}/settings", "/"];
            let table = table(&routes.map(|path| (path, &[][..], &[][..]))).unwrap();
            let decided = |path: &str| match table.find(&Method::GET, "a", path) {
                RouteMatch::Route(_, index) => Some(index),
                RouteMatch::MethodNotAllowed(_) | RouteMatch::Nothing => None,
            };
            let Some(request) = read(&target) else { return Ok(()) };
            let ours = decided(request.decoded_path());
            let sent = request.target_without(0).unwrap().to_string();
            prop_assert_eq!(decided(&eagerly(&sent)), ours, "{} was sent as {}", target, sent);
            let again = read(&sent).unwrap();
            prop_assert_eq!(again.target_without(0).unwrap().to_string(), sent);
            prop_assert_eq!(decided(again.decoded_path()), ours);
        }
    }

    proptest! {
        /// Whatever open routes there are besides, a path that is listed closed is not open, in whichever case it is written.
        #[test]
        fn no_open_route_opens_a_path_that_is_listed_closed(
            open in prop::collection::btree_set("(/([abAB]|\\{x\\})){0,3}(/\\*\\*)?", 0..6),
            closed in prop::collection::btree_set("(/[ab]){1,3}", 1..4),
            upper in any::<bool>(),
            method in prop::sample::select(vec![Method::GET, Method::POST]),
        ) {
            let closed_route = |path: &String| Route { access: Access::Protected(Box::default()), ..route(path, &[], &["GET"]) };
            let open = open.iter().filter(|path| !path.is_empty() && !closed.contains(&path.to_lowercase()));
            let routes = open.map(|path| route(path, &[], &[])).chain(closed.iter().map(closed_route));
            let Ok(table) = RouteTable::new(routes.map(Arc::new).collect()) else { return Ok(()) };
            for path in &closed {
                let asked = if upper { path.to_uppercase() } else { path.clone() };
                if let RouteMatch::Route(found, _) = table.find(&method, "any", &asked) {
                    prop_assert!(!matches!(found.access, Access::Public), "{} found {:?}", asked, found.path);
                }
            }
        }

        /// Whatever a service takes for the same path leads to the same routes, or nowhere; only the spelling of a pattern leads on.
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
                if *get { route.access = Access::Protected(Box::default()) }
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
            let all = |leaf: &Leaf| leaf.indices().collect::<Vec<_>>();
            let reached = |path: &str| match table.find(&Method::POST, host, path) {
                RouteMatch::Nothing => None,
                RouteMatch::Route(..) | RouteMatch::MethodNotAllowed(_) => table.trees.leaf(host, path).map(all),
            };
            let folded = table.folded.leaf(host, &fold(&path)).map(all);
            for spelling in [&path, &other] {
                if let Some(reached) = reached(spelling) {
                    prop_assert_eq!(Some(reached), folded.clone(), "{} of {:?}", spelling, patterns);
                }
            }
        }

        /// The table against the definition: of all patterns that match, none is more specific than the one found.
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
            let found = match table.find(&Method::GET, "any", &path) {
                RouteMatch::Route(_, index) => Some(&patterns[index]),
                RouteMatch::MethodNotAllowed(_) | RouteMatch::Nothing => None,
            };
            prop_assert_eq!(found, best, "{} among {:?}", path, patterns);
        }
    }
}
