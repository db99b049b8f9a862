//! Routes by which a caller could avoid the rules of another route.
//!
//! Two routes overlap if both reach the same server with the same path, as the service gets it, for requests that
//! differ in host or path at the gateway: the caller chooses between them. A warning is due where one admits what the
//! other refuses, but not where the laxer one is the more specific: such an exception is intended, as it is on one
//! host. Pure, for `check` and the start; not used for requests.
//!
//! Routes are grouped by server, and found in a tree of the paths that the service gets. So the cost is that of the
//! pairs that could overlap, and their number is bounded as well.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::path::{Component, PathBuf};

use super::laxity::{Laxity, laxity};
use super::pattern::{HostPattern, PathPattern, Segment};
use super::route::Route;
use super::table::RouteTable;
use crate::pipeline::request::case_fold::fold;
use crate::upstream::server::ServerAddress;

/// Two routes, by their places in the list, of which one at least is laxer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Overlap {
    pub(crate) server: String,
    /// Each with the part that it admits and the other refuses.
    pub(crate) routes: [(usize, Option<Laxity>); 2],
}

#[derive(Debug, Default)]
pub(crate) struct Overlaps {
    /// The first of them.
    pub(crate) shown: Vec<Overlap>,
    /// How many more there are; at least, where not all pairs were compared.
    pub(crate) more: usize,
    pub(crate) all_compared: bool,
}

/// The overlaps of a table, of which `show` are described in full.
pub(crate) fn overlaps(table: &RouteTable, show: usize) -> Overlaps {
    let mut search = Search::new(table, show);
    for (server, members) in by_server(table) {
        search.compare(&server, &members);
    }
    search.found.all_compared = search.left > 0;
    search.found
}

/// The bound on the cost of the comparison, so that `check` answers in time: a million places, or 50,000 pairs.
const BUDGET: usize = 1_000_000;
const COST_OF_PAIR: usize = 20;
/// A label or segment that is in no route.
pub(super) const OTHER: &str = "\u{fffd}";

/// The routes that reach each server, mirrors included, with the pattern of the paths that it gets.
pub(super) fn by_server(table: &RouteTable) -> BTreeMap<String, Vec<OverlapMember>> {
    let mut groups: BTreeMap<String, Vec<OverlapMember>> = BTreeMap::new();
    for (index, route) in table.routes().iter().enumerate() {
        let mirror = route.mirror.as_ref().map(|mirror| &mirror.upstream);
        let upstreams = route.target.upstreams().chain(mirror);
        let servers: HashSet<String> =
            upstreams.flat_map(|upstream| &upstream.servers).map(|server| name_of(&server.place)).collect();
        for server in servers {
            groups.entry(server).or_default().extend(OverlapMember::of(index, route));
        }
    }
    groups
}

/// One spelling for each server. Loopback has many names (RFC 6761 §6.3), and an unspecified address is reached over
/// loopback. Symbolic links are not followed.
fn name_of(place: &ServerAddress) -> String {
    match place {
        ServerAddress::Address(address) => match address.ip().to_canonical() {
            ip if ip.is_loopback() || ip.is_unspecified() => format!("localhost:{}", address.port()),
            ip => SocketAddr::new(ip, address.port()).to_string(),
        },
        ServerAddress::Name(name, port) => {
            let name = name.as_str().trim_end_matches('.');
            let name = if name.ends_with(".localhost") { "localhost" } else { name };
            format!("{name}:{port}")
        }
        ServerAddress::Socket(path) => {
            let mut plain = PathBuf::new();
            for part in path.components() {
                match (part, plain.components().next_back()) {
                    (Component::CurDir, _) => {}
                    (Component::ParentDir, Some(Component::Normal(_))) => drop(plain.pop()),
                    _ => plain.push(part),
                }
            }
            format!("unix:{}", plain.display())
        }
    }
}

/// A route, and the pattern of the paths that the service gets by it.
pub(super) struct OverlapMember {
    pub(super) index: usize,
    pub(super) segments: Vec<Segment>,
    pub(super) subtree: bool,
}

impl OverlapMember {
    fn of(index: usize, route: &Route) -> Option<Self> {
        let PathPattern { segments, subtree, .. } = match &route.rewrite {
            Some(template) => template.pattern()?,
            None => route.path.clone(),
        };
        let segments = segments.into_iter().skip(if route.rewrite.is_some() { 0 } else { route.strip_segments });
        Some(Self { index, segments: segments.collect(), subtree })
    }

    /// The other pattern matches every path that this one does.
    fn is_within(&self, other: &Self) -> bool {
        let is_covered = |(own, other): (&Segment, &Segment)| match (own, other) {
            (_, Segment::Any) => true,
            (Segment::Exact(own), Segment::Exact(other)) => fold(own) == fold(other),
            (Segment::Any, Segment::Exact(_)) => false,
        };
        let is_as_long = self.segments.len() == other.segments.len() && !self.subtree;
        let fits = if other.subtree { self.segments.len() >= other.segments.len() } else { is_as_long };
        fits && self.segments.iter().zip(&other.segments).all(is_covered)
    }

    /// Paths of the service that both patterns match, in the spelling of this one: one of each kind that rules can tell
    /// apart, of each length up to `longest` where both are subtrees.
    fn paths_shared_with(&self, other: &Self, longest: usize) -> Vec<Vec<String>> {
        let length = self.segments.len().max(other.segments.len());
        let literal = |at: usize| {
            let of = |member: &'_ Self| member.segments.get(at).and_then(Segment::literal).map(str::to_owned);
            of(self).or_else(|| of(other)).unwrap_or_else(|| OTHER.to_owned())
        };
        let root: Vec<String> = (0..length).map(literal).collect();
        let more = if self.subtree && other.subtree { longest.saturating_sub(length).max(1) } else { 0 };
        (0..=more).map(|more| [&root[..], &vec![OTHER.to_owned(); more][..]].concat()).collect()
    }

    /// The path at the gateway that reaches the service as `path`.
    fn public_path(&self, route: &Route, path: &[String]) -> String {
        let segments = match &route.rewrite {
            Some(template) => template.origin_of(path, &route.path, OTHER),
            None => {
                let stripped = route.path.segments.iter().take(route.strip_segments);
                let stripped = stripped.map(|segment| segment.literal().unwrap_or(OTHER).to_owned());
                stripped.chain(path.iter().cloned()).collect()
            }
        };
        format!("/{}", segments.join("/"))
    }
}

/// Hosts that the route is for, one of each pattern.
pub(super) fn hosts(route: &Route) -> Vec<String> {
    let host = |pattern: &HostPattern| match pattern {
        HostPattern::Exact(name) => name.clone(),
        HostPattern::Wildcard(suffix) => format!("{OTHER}{suffix}"),
    };
    if route.hosts.is_empty() { vec![OTHER.to_owned()] } else { route.hosts.iter().map(host).collect() }
}

struct Search<'t> {
    table: &'t RouteTable,
    /// Routes of one class have the same rules and methods.
    classes: Vec<usize>,
    /// The part that the one class admits and the other refuses.
    known: HashMap<(usize, usize), Option<Laxity>>,
    /// Pairs that were found.
    pairs: HashSet<(usize, usize)>,
    show: usize,
    left: usize,
    /// One segment more than any pattern, within reason: a path of this length is taken by subtrees only.
    longest: usize,
    found: Overlaps,
}

/// Patterns beyond this length are not looked for below subtrees.
const LONGEST: usize = 16;

impl<'t> Search<'t> {
    fn new(table: &'t RouteTable, show: usize) -> Self {
        let mut numbers: HashMap<String, usize> = HashMap::new();
        let class = |route: &Route| {
            let next = numbers.len();
            *numbers.entry(format!("{:?} {:?} {:?}", route.access, route.from, route.methods)).or_insert(next)
        };
        let classes = table.routes().iter().map(|route| route.as_ref()).map(class).collect();
        let longest = table.routes().iter().map(|route| route.path.segments.len() + 1).max().unwrap_or(1).min(LONGEST);
        let found = Overlaps::default();
        Self { longest, table, classes, known: HashMap::new(), pairs: HashSet::new(), show, left: BUDGET, found }
    }

    /// Compares the members that reach the same server.
    fn compare(&mut self, server: &str, members: &[OverlapMember]) {
        let mut tree = OverlapTree::default();
        for (at, member) in members.iter().enumerate() {
            let class = self.classes[member.index];
            tree.meeting(&member.segments, member.subtree, class, &mut |node: &Here| {
                self.left = self.left.saturating_sub(1);
                let others = node.iter().filter(|(other, _)| **other != class).flat_map(|(_, others)| others);
                for other in others {
                    if self.left == 0 {
                        break;
                    }
                    self.left = self.left.saturating_sub(COST_OF_PAIR);
                    self.compare_pair(server, &members[*other], member);
                }
                self.left > 0
            });
            tree.insert(member, at, class);
        }
    }

    fn compare_pair(&mut self, server: &str, first: &OverlapMember, second: &OverlapMember) {
        let pair = (first.index, second.index);
        if self.pairs.contains(&pair) {
            return;
        }
        let laxities = [self.laxity(first, second), self.laxity(second, first)];
        if laxities.iter().all(Option::is_none) {
            return;
        }
        self.pairs.insert(pair);
        if self.found.shown.len() == self.show {
            self.found.more += 1;
            return;
        }
        let [of_first, of_second] = laxities;
        let routes = [(first.index, of_first), (second.index, of_second)];
        self.found.shown.push(Overlap { server: server.to_owned(), routes });
    }

    /// The part that `lax` admits and `strict` refuses, for a path of the service that they share.
    fn laxity(&mut self, lax: &OverlapMember, strict: &OverlapMember) -> Option<Laxity> {
        let routes = self.table.routes();
        let (route, other) = (&routes[lax.index], &routes[strict.index]);
        // The routes of one place whose conditions differ are compared with one another elsewhere.
        let is_one_place = route.hosts == other.hosts && route.path.is_same(&other.path);
        if is_one_place && (route.when.is_some() || other.when.is_some()) {
            return None;
        }
        if lax.is_within(strict) && !strict.is_within(lax) {
            return None;
        }
        let by_rules = self.laxity_of_rules(lax, strict).filter(|_| route.methods.intersects(&other.methods));
        // More methods under stricter rules are no overlap.
        let takes_more = route.methods.names().any(|method| !other.methods.names().any(|other| other == method))
            && self.laxity_of_rules(strict, lax).is_none();
        if by_rules.is_none() && !takes_more {
            return None;
        }
        let place = self.shared_place(lax, strict)?;
        by_rules.or_else(|| self.more_methods(route, &place).map(Laxity::Methods))
    }

    fn laxity_of_rules(&mut self, lax: &OverlapMember, strict: &OverlapMember) -> Option<Laxity> {
        let routes = self.table.routes();
        let classes = (self.classes[lax.index], self.classes[strict.index]);
        self.known.entry(classes).or_insert_with(|| laxity(&routes[lax.index], &routes[strict.index])).clone()
    }

    /// The routes at the place of `strict`, if there is a path of the service for which it is found by one request and
    /// `lax` by another.
    fn shared_place(&self, lax: &OverlapMember, strict: &OverlapMember) -> Option<Vec<usize>> {
        let ours = lax.paths_shared_with(strict, self.longest).into_iter();
        let mut paths = ours.zip(strict.paths_shared_with(lax, self.longest));
        paths.find_map(|(ours, theirs)| {
            self.found_at(lax, &ours)?;
            self.found_at(strict, &theirs)
        })
    }

    fn found_at(&self, member: &OverlapMember, path: &[String]) -> Option<Vec<usize>> {
        let route = &self.table.routes()[member.index];
        let path = member.public_path(route, path);
        let places = hosts(route).into_iter().map(|host| self.table.routes_at(&host, &path));
        places.into_iter().find(|place| place.contains(&member.index))
    }

    /// The methods that no route at the other's place takes.
    fn more_methods(&self, route: &Route, place: &[usize]) -> Option<Vec<String>> {
        let routes = self.table.routes();
        let is_taken = |method: &str| place.iter().any(|at| routes[*at].methods.names().any(|other| other == method));
        let more: Vec<String> = route.methods.names().filter(|method| !is_taken(method)).map(str::to_owned).collect();
        (!more.is_empty()).then_some(more)
    }
}

/// Members of a group that end at one place, by class.
pub(super) type Here = BTreeMap<usize, Vec<usize>>;

/// The patterns of a group, folded: services may ignore case.
#[derive(Default)]
pub(super) struct OverlapTree {
    exact: BTreeMap<String, Self>,
    any: Option<Box<Self>>,
    here: Here,
    subtree: Here,
    /// The first two classes of members at this place or below: enough to know whether there is another than a given
    /// one.
    classes: Vec<usize>,
}

impl OverlapTree {
    pub(super) fn insert(&mut self, member: &OverlapMember, at: usize, class: usize) {
        let mut node = self;
        node.note(class);
        for segment in &member.segments {
            node = match segment {
                Segment::Exact(text) => node.exact.entry(fold(text).into_owned()).or_default(),
                Segment::Any => node.any.get_or_insert_default(),
            };
            node.note(class);
        }
        let here = if member.subtree { &mut node.subtree } else { &mut node.here };
        here.entry(class).or_default().push(at);
    }

    fn note(&mut self, class: usize) {
        if self.classes.len() < 2 && !self.classes.contains(&class) {
            self.classes.push(class);
        }
    }

    /// Visits the patterns of other classes that match a path which this one matches too, until `visit` gives false.
    pub(super) fn meeting(
        &self,
        segments: &[Segment],
        subtree: bool,
        class: usize,
        visit: &mut impl FnMut(&Here) -> bool,
    ) -> bool {
        if self.classes.iter().all(|other| *other == class) {
            return true;
        }
        let Some((segment, rest)) = segments.split_first() else {
            return visit(&self.subtree) && if subtree { self.below(class, visit) } else { visit(&self.here) };
        };
        let mut exact: Vec<&Self> = match segment {
            Segment::Exact(text) => self.exact.get(&*fold(text)).into_iter().collect(),
            Segment::Any => self.exact.values().collect(),
        };
        exact.extend(self.any.as_deref());
        visit(&self.subtree) && exact.into_iter().all(|node| node.meeting(rest, subtree, class, visit))
    }

    /// Visits all but the subtree of this place itself.
    fn below(&self, class: usize, visit: &mut impl FnMut(&Here) -> bool) -> bool {
        let mut nodes = self.exact.values().chain(self.any.as_deref());
        visit(&self.here) && nodes.all(|node| node.meeting(&[], true, class, visit))
    }
}
