//! A tree of the patterns of a route table, that can be walked in step with another.
//!
//! A walk is in several places at once, in the order in which the route table prefers them. Equal subtrees have the
//! same number, also in two trees, so that two walks can be seen to lead to the same everywhere.

use std::collections::{BTreeMap, HashMap};

use crate::pipeline::request::case_fold::fold;
use crate::pipeline::routing::pattern::{HostPattern, Segment};
use crate::pipeline::routing::table::RouteTable;

/// The patterns of one table, in one spelling.
#[derive(Debug)]
pub(super) struct SegmentTree {
    nodes: Vec<SegmentNode>,
    exact_hosts: BTreeMap<String, usize>,
    /// By the suffix, which starts with a dot.
    wildcard_hosts: BTreeMap<String, usize>,
}

#[derive(Debug, Default)]
struct SegmentNode {
    exact: BTreeMap<String, usize>,
    any: Option<usize>,
    /// The classes of the routes whose patterns end here, in the order of the list.
    here: Vec<usize>,
    /// Of the patterns that end in `/**` here.
    subtree: Vec<usize>,
    /// The number of the subtree that begins here.
    shape: usize,
    /// The number of a walk below the `/**`.
    below: usize,
}

/// Numbers for subtrees that are equal.
#[derive(Debug, Default)]
pub(super) struct Shapes(HashMap<TreeShape, usize>);

#[derive(Debug, PartialEq, Eq, Hash)]
enum TreeShape {
    Node { exact: Vec<(String, usize)>, any: Option<usize>, here: Vec<usize>, subtree: Vec<usize> },
    Below(Vec<usize>),
}

/// One of the places of a walk. Places behind a match of `/**` are never reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum WalkPlace {
    Node(usize),
    /// Below the `/**` of this node.
    Below(usize),
}

pub(super) type Walk = Vec<WalkPlace>;

const ANY_HOST: usize = 0;

impl SegmentTree {
    /// `classes` are those of the routes, by their places in the list.
    pub(super) fn new(table: &RouteTable, classes: &[usize], is_folded: bool, shapes: &mut Shapes) -> Self {
        let (exact_hosts, wildcard_hosts) = Default::default();
        let mut tree = Self { nodes: vec![SegmentNode::default()], exact_hosts, wildcard_hosts };
        for (route, class) in table.routes().iter().zip(classes) {
            let roots: Vec<usize> = match &route.hosts[..] {
                [] => vec![ANY_HOST],
                hosts => hosts.iter().map(|host| tree.root(host)).collect(),
            };
            for root in roots {
                let node = route.path.segments.iter().fold(root, |node, segment| match segment {
                    Segment::Exact(text) if is_folded => tree.exact(node, &fold(text)),
                    Segment::Exact(text) => tree.exact(node, text),
                    Segment::Any => tree.any(node),
                });
                if let Some(node) = tree.nodes.get_mut(node) {
                    let ends = if route.path.subtree { &mut node.subtree } else { &mut node.here };
                    ends.push(*class);
                }
            }
        }
        tree.number(shapes);
        tree
    }

    pub(super) fn exact_hosts(&self) -> impl Iterator<Item = &str> {
        self.exact_hosts.keys().map(String::as_str)
    }

    pub(super) fn wildcard_hosts(&self) -> impl Iterator<Item = &str> {
        self.wildcard_hosts.keys().map(String::as_str)
    }

    /// The begin of a walk for a host.
    pub(super) fn start(&self, host: &str) -> Walk {
        let exact = self.exact_hosts.get(host);
        let suffixes = host.match_indices('.').filter_map(|(dot, _)| self.wildcard_hosts.get(host.get(dot..)?));
        exact.into_iter().chain(suffixes).copied().chain([ANY_HOST]).map(WalkPlace::Node).collect()
    }

    /// The walk after one more segment.
    pub(super) fn step(&self, walk: &[WalkPlace], segment: &str) -> Walk {
        let mut next = Walk::new();
        for place in walk {
            let WalkPlace::Node(at) = *place else {
                next.push(*place);
                break;
            };
            let Some(node) = self.nodes.get(at) else { continue };
            next.extend(node.exact.get(segment).map(|child| WalkPlace::Node(*child)));
            next.extend(node.any.filter(|_| !segment.is_empty()).map(WalkPlace::Node));
            if !node.subtree.is_empty() {
                next.push(WalkPlace::Below(at));
                break;
            }
        }
        next
    }

    /// The exact segments by which a walk may go on.
    pub(super) fn segments<'t>(&'t self, walk: &[WalkPlace]) -> impl Iterator<Item = &'t str> {
        let nodes: Vec<usize> = walk.iter().filter_map(WalkPlace::node).collect();
        let nodes = nodes.into_iter().filter_map(|at| self.nodes.get(at));
        nodes.flat_map(|node| node.exact.keys().map(String::as_str))
    }

    /// Equal for walks, also of other trees, that lead to routes of the same classes on every way.
    pub(super) fn shape_of(&self, walk: &[WalkPlace]) -> Vec<usize> {
        let shape = |place: &WalkPlace| match *place {
            WalkPlace::Node(at) => self.nodes.get(at).map_or(NOWHERE, |node| node.shape),
            WalkPlace::Below(at) => self.nodes.get(at).map_or(NOWHERE, |node| node.below),
        };
        walk.iter().map(shape).filter(|shape| *shape != NOWHERE).collect()
    }

    fn root(&mut self, host: &HostPattern) -> usize {
        let new = self.nodes.len();
        let root = match host {
            HostPattern::Exact(name) => *self.exact_hosts.entry(name.clone()).or_insert(new),
            HostPattern::Wildcard(suffix) => *self.wildcard_hosts.entry(suffix.clone()).or_insert(new),
        };
        self.make(root, new)
    }

    fn exact(&mut self, at: usize, segment: &str) -> usize {
        let new = self.nodes.len();
        let child = self.nodes.get_mut(at).map_or(at, |node| *node.exact.entry(segment.to_owned()).or_insert(new));
        self.make(child, new)
    }

    fn any(&mut self, at: usize) -> usize {
        let new = self.nodes.len();
        let child = self.nodes.get_mut(at).map_or(at, |node| *node.any.get_or_insert(new));
        self.make(child, new)
    }

    fn make(&mut self, node: usize, new: usize) -> usize {
        if node == new {
            self.nodes.push(SegmentNode::default());
        }
        node
    }

    /// A child comes after its parent.
    fn number(&mut self, shapes: &mut Shapes) {
        for at in (0..self.nodes.len()).rev() {
            let Some(node) = self.nodes.get(at) else { continue };
            let of = |child: usize| self.nodes.get(child).map_or(NOWHERE, |child| child.shape);
            let exact = node.exact.iter().map(|(text, child)| (text.clone(), of(*child))).collect();
            let (any, here, subtree) = (node.any.map(of), node.here.clone(), node.subtree.clone());
            let below = shapes.number(TreeShape::Below(subtree.clone()));
            let shape = shapes.number(TreeShape::Node { exact, any, here, subtree });
            if let Some(node) = self.nodes.get_mut(at) {
                (node.shape, node.below) = (shape, below);
            }
        }
    }
}

/// The number of a node without routes at it or below.
const NOWHERE: usize = 0;

impl Shapes {
    fn number(&mut self, shape: TreeShape) -> usize {
        if let TreeShape::Node { exact, any: None, here, subtree } = &shape
            && exact.is_empty()
            && here.is_empty()
            && subtree.is_empty()
        {
            return NOWHERE;
        }
        let next = self.0.len() + 1;
        *self.0.entry(shape).or_insert(next)
    }
}

impl WalkPlace {
    fn node(&self) -> Option<usize> {
        match self {
            Self::Node(at) => Some(*at),
            Self::Below(_) => None,
        }
    }
}
