//! The inverse of `strip_prefix` and `rewrite`: the public path of a path at the upstream.
//!
//! Takes the change of paths of a route, the path of the request that is answered, and a path that the upstream has
//! named. Gives the path by which clients reach it, or nothing if the change has no inverse there. Knows neither hosts
//! nor header fields.
//!
//! A capture that the upstream's path does not have is taken from the path of the request.

use super::pattern::{PathPattern, Segment};
use super::rewrite::{PathTemplate, TemplateSegment};
use crate::pipeline::request::spelling::canonical_spelling;

/// The change from the public path to the upstream's.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PathChange<'r> {
    Nothing,
    /// This many leading segments are removed.
    Strip(usize),
    Rewrite(&'r PathTemplate),
}

impl PathChange<'_> {
    /// The prefix that it removes from every path of the route, where the rest stays as it is: the value of
    /// `X-Forwarded-Prefix`. `None` if there is no such prefix, or if it differs between requests.
    pub(crate) fn literal_prefix(self, route: &PathPattern) -> Option<String> {
        let removed = &route.segments[..self.removed_segments(route)];
        let spelt = removed.iter().map(|segment| spelling(segment.literal()?));
        let prefix = spelt.collect::<Option<Vec<String>>>()?.concat();
        (!prefix.is_empty()).then_some(prefix)
    }

    /// The public path of `path`, which begins with a slash and has no dot segments. `requested` is the path of the
    /// request in its canonical spelling. The result never begins with `//` or `/\`, which would name a host.
    pub(crate) fn public_path(self, route: &PathPattern, requested: &str, path: &str) -> Option<String> {
        let public = match (self, self.removed_segments(route)) {
            (Self::Nothing, _) => path.to_owned(),
            (Self::Strip(_) | Self::Rewrite(_), removed @ 1..) => {
                let prefix = leading_segments(requested, removed);
                if is_below(path, prefix) { path.to_owned() } else { format!("{prefix}{path}") }
            }
            (Self::Rewrite(template), _) => {
                let origin = origin_path(template, route, requested, path);
                origin.or_else(|| has_spelling(route, path).then(|| path.to_owned()))?
            }
            (Self::Strip(_), _) => return None,
        };
        (!matches!(public.as_bytes(), [b'/', b'/' | b'\\', ..])).then_some(public)
    }

    /// How many leading segments it removes, if the rest of every path stays as it is.
    fn removed_segments(self, route: &PathPattern) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Strip(segments) => segments,
            Self::Rewrite(template) => removed_by(template, route).unwrap_or(0),
        }
    }
}

fn removed_by(template: &PathTemplate, route: &PathPattern) -> Option<usize> {
    let made: Vec<TemplateSegment<'_>> = template.segments().collect();
    let removed = route.segments.len().checked_sub(made.len())?;
    let stays = |(place, made): (usize, &TemplateSegment<'_>)| match (made, &route.segments[place]) {
        (TemplateSegment::Captured(captured), Segment::Any) => *captured == place,
        (TemplateSegment::Fixed(text), Segment::Exact(literal)) => is_spelling(text, literal),
        (TemplateSegment::Captured(_), Segment::Exact(_)) | (TemplateSegment::Fixed(_), Segment::Any) => false,
    };
    (template.inserts_subtree() == route.subtree && (removed..).zip(&made).all(stays)).then_some(removed)
}

/// The path that is rewritten to `path`.
fn origin_path(template: &PathTemplate, route: &PathPattern, requested: &str, path: &str) -> Option<String> {
    let mut captured: Vec<Option<&str>> = vec![None; route.segments.len()];
    let mut rest = path;
    for made in template.segments() {
        let (segment, after) = first_segment(rest)?;
        rest = after;
        match made {
            TemplateSegment::Fixed(text) if text == segment => {}
            TemplateSegment::Fixed(_) => return None,
            // A capture that is inserted twice has one value.
            TemplateSegment::Captured(place) => match captured[place].replace(segment) {
                Some(other) if other != segment => return None,
                Some(_) | None => {}
            },
        }
    }
    let is_root = path == "/";
    if !template.inserts_subtree() && !rest.is_empty() && !is_root {
        return None;
    }
    let mut origin = String::with_capacity(requested.len() + path.len());
    for (place, segment) in route.segments.iter().enumerate() {
        match segment {
            Segment::Exact(literal) => origin += &spelling(literal)?,
            Segment::Any => {
                origin.push('/');
                origin += captured[place].or_else(|| requested.split('/').nth(place + 1))?;
            }
        }
    }
    if template.inserts_subtree() {
        origin += rest;
    }
    Some(if origin.is_empty() { "/".to_owned() } else { origin })
}

/// The first segment, which is not empty, and the rest with its slash.
fn first_segment(path: &str) -> Option<(&str, &str)> {
    let after = path.strip_prefix('/')?;
    let (segment, rest) = after.split_at(after.find('/').unwrap_or(after.len()));
    (!segment.is_empty()).then_some((segment, rest))
}

fn leading_segments(path: &str, segments: usize) -> &str {
    path.match_indices('/').nth(segments).map_or(path, |(slash, _)| &path[..slash])
}

fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether the route matches this path in its canonical spelling.
fn has_spelling(route: &PathPattern, path: &str) -> bool {
    let mut rest = path;
    for segment in &route.segments {
        let Some((found, after)) = first_segment(rest) else { return false };
        if segment.literal().is_some_and(|literal| !is_spelling(found, literal)) {
            return false;
        }
        rest = after;
    }
    route.subtree || matches!(rest, "" | "/")
}

/// A literal segment of a pattern as it is sent, with its slash.
fn spelling(literal: &str) -> Option<String> {
    canonical_spelling(literal).map(|spelt| format!("/{spelt}"))
}

fn is_spelling(text: &str, literal: &str) -> bool {
    canonical_spelling(literal).is_some_and(|spelt| spelt == text)
}

#[cfg(test)]
mod tests;
