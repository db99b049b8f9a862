//! A tree of path segments for each host that is named, in four flat arrays.
//!
//! A look-up reads few cache lines: for each exact segment one of `edges`, one of `nodes` and one of `texts`, and at
//! the end one of `takers`. The nodes and the texts of a pattern stand beside each other. Whether a match takes the
//! method is decided from the tree alone, without the route.

use std::borrow::Cow;
use std::hash::BuildHasher as _;

use foldhash::fast::FixedState;

use super::method_set::StandardMethods;
use super::pattern::{HostPattern, PathPattern, Segment};
use super::route::Route;

#[derive(Clone, Debug)]
pub(super) struct RouteTree {
    /// The roots come first. A node comes after its parent.
    nodes: Vec<TreeNode>,
    /// The texts of all exact segments and hosts, one after the other.
    texts: String,
    /// A hash table with open addressing, at most half full. Its length is a power of two.
    edges: Vec<Edge>,
    takers: Vec<Taker>,
}

/// The routes of one place, in the order of the list. Never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Leaf(u32);

/// A place in the tree of path segments. A host is the segment before the path.
#[derive(Clone, Copy, Debug)]
struct TreeNode {
    parent: u32,
    /// The exact segment that leads here: a range of `texts`. Empty for a root and for `{}`.
    text: u32,
    length: u32,
    /// The child for any segment, or `NONE`.
    any: u32,
    /// The first taker of patterns that end here, or `NONE`.
    here: u32,
    /// The first taker of patterns that end in `/**` here, or `NONE`.
    subtree: u32,
    has_exact: bool,
}

/// A node below another by an exact segment.
#[derive(Clone, Copy, Debug)]
struct Edge {
    /// A part of the hash of parent and segment: only a node whose tag is equal is looked at.
    tag: u32,
    /// `NONE` in an empty slot.
    node: u32,
}

/// A route at one place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taker {
    pub(super) route: u32,
    /// The next one at the same place, or `NONE`.
    next: u32,
    pub(super) methods: StandardMethods,
    /// See [`RouteTree::is_contested`].
    is_contested: bool,
}

const NONE: u32 = u32::MAX;
/// The parent of the roots of exact hosts.
const EXACT_HOSTS: u32 = 0;
/// The parent of the roots of wildcard hosts, whose text is the suffix. It starts with a dot.
const WILDCARD_HOSTS: u32 = 1;
const ANY_HOST: u32 = 2;

impl Default for RouteTree {
    fn default() -> Self {
        let edges = vec![Edge { tag: 0, node: NONE }; 8];
        Self { nodes: vec![TreeNode::below(NONE); 3], texts: String::new(), edges, takers: Vec::new() }
    }
}

impl RouteTree {
    /// Inserts a route under all its hosts, its segments in the given spelling. Gives the first route of the same place
    /// for which `conflicts` holds.
    pub(super) fn insert(
        &mut self,
        route: &Route,
        index: usize,
        spelling: impl Fn(&str) -> Cow<'_, str>,
        conflicts: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let hosts = route.hosts.iter().map(Some);
        let any_host = route.hosts.is_empty().then_some(None);
        let mut first = None;
        // All are inserted, so that each host has the route.
        for host in hosts.chain(any_host) {
            let root = self.root(host);
            let (node, is_subtree) = self.place(root, &route.path, &spelling);
            let place = &self.nodes[node as usize];
            let leaf = leaf(if is_subtree { place.subtree } else { place.here });
            first = first.or_else(|| leaf.and_then(|leaf| self.routes(leaf).find(|earlier| conflicts(*earlier))));
            let taker =
                Taker { route: place_of(index), next: NONE, methods: route.methods.standard(), is_contested: false };
            self.append(node, is_subtree, taker);
        }
        first
    }

    /// The most specific place that matches. `host` is lower case; `path` is decoded and canonical.
    pub(super) fn leaf(&self, host: &str, path: &str) -> Option<Leaf> {
        let path = without_slashes(path);
        self.roots_of(host).find_map(|root| self.find(root, path))
    }

    /// Every place that has routes.
    pub(super) fn leaves(&self) -> impl Iterator<Item = Leaf> {
        self.nodes.iter().flat_map(|node| [node.here, node.subtree]).filter_map(leaf)
    }

    pub(super) fn takers(&self, leaf: Leaf) -> impl Iterator<Item = &Taker> {
        let next = |taker: &&Taker| self.takers.get(taker.next as usize);
        std::iter::successors(self.takers.get(leaf.0 as usize), next)
    }

    /// The routes of a place, by their places in the list.
    pub(super) fn routes(&self, leaf: Leaf) -> impl Iterator<Item = usize> {
        self.takers(leaf).map(|taker| taker.route as usize)
    }

    /// Whether a path that leads here may lead elsewhere when it is folded. Set by [`contest`](Self::contest) and
    /// [`contest_matches`](Self::contest_matches).
    pub(super) fn is_contested(&self, leaf: Leaf) -> bool {
        self.takers[leaf.0 as usize].is_contested
    }

    /// Marks each place whose paths may match a more specific pattern as well. May mark more than those.
    pub(super) fn contest(&mut self) {
        let named = self.nodes.iter().filter(|node| matches!(node.parent, EXACT_HOSTS | WILDCARD_HOSTS)).count();
        let mut contested = vec![false; self.nodes.len()];
        for at in ANY_HOST as usize..self.nodes.len() {
            let node = self.nodes[at];
            contested[at] = match node.parent {
                NONE => named > 0,
                EXACT_HOSTS => false,
                WILDCARD_HOSTS => named > 1,
                parent => {
                    let above = &self.nodes[parent as usize];
                    contested[parent as usize] || (above.any as usize == at && above.has_exact)
                }
            };
            let is_below = node.has_exact || node.any != NONE || node.here != NONE;
            self.mark(node.here, contested[at]);
            self.mark(node.subtree, contested[at] || is_below);
        }
    }

    /// Marks each place whose pattern matches this path, under any host.
    pub(super) fn contest_matches(&mut self, path: &str) {
        let is_root = |node: &TreeNode| matches!(node.parent, EXACT_HOSTS | WILDCARD_HOSTS);
        let named = self.nodes.iter().enumerate().filter(|(_, node)| is_root(node)).map(|(at, _)| place_of(at));
        let roots: Vec<u32> = named.chain([ANY_HOST]).collect();
        roots.into_iter().for_each(|root| self.mark_matches(root, without_slashes(path)));
    }

    /// Takes the marks of a tree into which the same routes were inserted in the same order.
    pub(super) fn copy_contested(&mut self, other: &Self) {
        for (taker, other) in self.takers.iter_mut().zip(&other.takers) {
            taker.is_contested = other.is_contested;
        }
    }

    fn mark_matches(&mut self, at: u32, rest: &str) {
        let node = self.nodes[at as usize];
        self.mark(node.subtree, true);
        if rest.is_empty() {
            return self.mark(node.here, true);
        }
        let (segment, after) = rest.split_once('/').unwrap_or((rest, ""));
        for child in self.exact(at, segment).into_iter().chain((node.any != NONE).then_some(node.any)) {
            self.mark_matches(child, after);
        }
    }

    fn mark(&mut self, first: u32, is_contested: bool) {
        let mut next = first;
        while let Some(taker) = self.takers.get_mut(next as usize) {
            taker.is_contested |= is_contested;
            next = taker.next;
        }
    }

    /// `rest` has neither leading nor trailing slash. Tries the wider branches where a more specific one has no match.
    fn find(&self, at: u32, rest: &str) -> Option<Leaf> {
        let node = &self.nodes[at as usize];
        if rest.is_empty() {
            return leaf(node.here).or(leaf(node.subtree));
        }
        let (segment, after) = rest.split_once('/').unwrap_or((rest, ""));
        let exact = self.exact(at, segment).and_then(|child| self.find(child, after));
        let takes_any = node.any != NONE && !segment.is_empty();
        let any = || takes_any.then(|| self.find(node.any, after)).flatten();
        exact.or_else(any).or_else(|| leaf(node.subtree))
    }

    /// The roots of the trees that may know this host, most specific first.
    fn roots_of<'t>(&'t self, host: &'t str) -> impl Iterator<Item = u32> + 't {
        let has_wildcard = self.nodes[WILDCARD_HOSTS as usize].has_exact;
        let suffixes = host.match_indices('.').map(|(dot, _)| &host[dot..]).take_while(move |_| has_wildcard);
        let wildcards = suffixes.filter_map(|suffix| self.exact(WILDCARD_HOSTS, suffix));
        self.exact(EXACT_HOSTS, host).into_iter().chain(wildcards).chain([ANY_HOST])
    }

    /// The child of a node for exactly this segment.
    fn exact(&self, parent: u32, segment: &str) -> Option<u32> {
        if !self.nodes[parent as usize].has_exact {
            return None;
        }
        let hash = hash(parent, segment.as_bytes());
        let edges = self.slots(hash).map(|slot| self.edges[slot]).take_while(|edge| edge.node != NONE);
        let mut equal = edges.filter(|edge| edge.tag == tag(hash)).map(|edge| edge.node);
        equal.find(|node| self.nodes[*node as usize].parent == parent && self.text(*node) == segment.as_bytes())
    }

    /// The slots in which an edge with this hash may be, in order.
    fn slots(&self, hash: u64) -> impl Iterator<Item = usize> + use<> {
        let last = self.edges.len() - 1;
        (0..=last).map(move |step| (hash as usize).wrapping_add(step) & last)
    }

    fn text(&self, node: u32) -> &[u8] {
        let TreeNode { text, length, .. } = self.nodes[node as usize];
        // As bytes: no check that the range begins and ends between characters.
        &self.texts.as_bytes()[text as usize..text as usize + length as usize]
    }

    /// The root of a host's tree. `None`: any host.
    fn root(&mut self, host: Option<&HostPattern>) -> u32 {
        match host {
            None => ANY_HOST,
            Some(HostPattern::Exact(name)) => self.exact_or_new(EXACT_HOSTS, name),
            Some(HostPattern::Wildcard(suffix)) => self.exact_or_new(WILDCARD_HOSTS, suffix),
        }
    }

    /// The node at which a pattern ends, and whether it ends in `/**`.
    fn place(&mut self, root: u32, pattern: &PathPattern, spelling: impl Fn(&str) -> Cow<'_, str>) -> (u32, bool) {
        let node = pattern.segments.iter().fold(root, |node, segment| match segment {
            Segment::Exact(text) => self.exact_or_new(node, &spelling(text)),
            Segment::Any => self.any_or_new(node),
        });
        (node, pattern.subtree)
    }

    fn append(&mut self, node: u32, is_subtree: bool, taker: Taker) {
        let added = place_of(self.takers.len());
        let node = &mut self.nodes[node as usize];
        let first = if is_subtree { &mut node.subtree } else { &mut node.here };
        if *first == NONE {
            *first = added;
        } else {
            let mut last = *first as usize;
            while self.takers[last].next != NONE {
                last = self.takers[last].next as usize;
            }
            self.takers[last].next = added;
        }
        self.takers.push(taker);
    }

    fn any_or_new(&mut self, parent: u32) -> u32 {
        if self.nodes[parent as usize].any == NONE {
            self.nodes[parent as usize].any = place_of(self.nodes.len());
            self.nodes.push(TreeNode::below(parent));
        }
        self.nodes[parent as usize].any
    }

    fn exact_or_new(&mut self, parent: u32, segment: &str) -> u32 {
        if let Some(child) = self.exact(parent, segment) {
            return child;
        }
        let (child, text) = (place_of(self.nodes.len()), place_of(self.texts.len()));
        self.nodes[parent as usize].has_exact = true;
        self.nodes.push(TreeNode { text, length: place_of(segment.len()), ..TreeNode::below(parent) });
        self.texts.push_str(segment);
        self.add_edge(child);
        child
    }

    fn add_edge(&mut self, node: u32) {
        if self.nodes.len() * 2 <= self.edges.len() {
            return self.put_edge(node);
        }
        let empty = vec![Edge { tag: 0, node: NONE }; self.edges.len() * 2];
        let old = std::mem::replace(&mut self.edges, empty);
        let nodes = old.iter().map(|edge| edge.node).filter(|node| *node != NONE);
        nodes.chain([node]).for_each(|node| self.put_edge(node));
    }

    /// There is an empty slot.
    fn put_edge(&mut self, node: u32) {
        let hash = hash(self.nodes[node as usize].parent, self.text(node));
        let empty = self.slots(hash).find(|slot| self.edges[*slot].node == NONE);
        if let Some(slot) = empty {
            self.edges[slot] = Edge { tag: tag(hash), node };
        }
    }
}

impl TreeNode {
    const fn below(parent: u32) -> Self {
        Self { parent, text: 0, length: 0, any: NONE, here: NONE, subtree: NONE, has_exact: false }
    }
}

fn leaf(first: u32) -> Option<Leaf> {
    (first != NONE).then_some(Leaf(first))
}

fn without_slashes(path: &str) -> &str {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.strip_suffix('/').unwrap_or(path)
}

/// A place in one of the arrays. A configuration is far too small for this not to fit.
fn place_of(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(NONE)
}

fn hash(parent: u32, segment: &[u8]) -> u64 {
    FixedState::default().hash_one((parent, segment))
}

/// The part of a hash that does not choose the slot.
const fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}
