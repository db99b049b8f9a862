//! Rewrites of paths: `/v2/{id}/**` is filled with the matches of `{id}` and `/**` in the route's own path.
//!
//! A match is inserted as it would be forwarded, still encoded, and in whole segments only. So nothing in it becomes a
//! separator, and the new path has one meaning, as the old one has.

use std::fmt;

use super::pattern::{InvalidPattern, PathPattern};
use crate::pipeline::request::ambiguous::Ambiguous;
use crate::pipeline::request::spelling::canonical_spelling;

/// Written like a pattern; its placeholders are those of a route's path.
#[derive(Debug)]
pub(crate) struct PathTemplate {
    parts: Vec<Part>,
    /// How many segments are before the match of `/**`.
    rest_after: Option<usize>,
    text: Box<str>,
}

#[derive(Debug, PartialEq)]
enum Part {
    /// Whole segments, each with its leading slash, in their canonical spelling.
    Fixed(String),
    /// The segment at this place of the request's path.
    Segment(usize),
}

/// A segment of the paths that a template makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TemplateSegment<'t> {
    /// In its canonical spelling.
    Fixed(&'t str),
    /// The segment at this place of the request's path.
    Captured(usize),
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidTemplate {
    #[error(transparent)]
    Pattern(#[from] InvalidPattern),
    #[error("no request could have such a path")]
    Spelling,
    #[error("unknown capture `{{{name}}}`{known}")]
    Unknown { name: String, known: String },
    #[error("the route's path has `{{{0}}}` more than once: give each a name of its own")]
    Twice(String),
    #[error("the route's path has no `/**` whose match could be inserted")]
    NoSubtree,
}

impl InvalidTemplate {
    /// The message for a text that comes from a variable: it does not repeat the text.
    pub(crate) fn without_names(&self) -> String {
        match self {
            Self::Unknown { .. } => "unknown capture: the route's path has none of that name".to_owned(),
            Self::Twice(_) => {
                "the route's path has a capture of this name more than once: give each a name of its own".to_owned()
            }
            Self::Pattern(_) | Self::Spelling | Self::NoSubtree => self.to_string(),
        }
    }
}

/// They make the same paths: names of placeholders are documentation.
impl PartialEq for PathTemplate {
    fn eq(&self, other: &Self) -> bool {
        let Self { parts, rest_after, text: _ } = self;
        *parts == other.parts && *rest_after == other.rest_after
    }
}

impl PathTemplate {
    /// Parses a template for requests that `route` matches.
    pub(crate) fn parse(text: &str, route: &PathPattern) -> Result<Self, InvalidTemplate> {
        let pattern = PathPattern::parse(text)?;
        if pattern.subtree && !route.subtree {
            return Err(InvalidTemplate::NoSubtree);
        }
        let mut parts: Vec<Part> = Vec::new();
        for segment in text.split('/').filter(|segment| !segment.is_empty() && *segment != "**") {
            match (placeholder(segment), parts.last_mut()) {
                (Some(name), _) => parts.push(Part::Segment(place_of(name, route)?)),
                (None, last) => {
                    let spelt = canonical_spelling(segment).ok_or(InvalidTemplate::Spelling)?;
                    match last {
                        Some(Part::Fixed(text)) => *text = format!("{text}/{spelt}"),
                        Some(Part::Segment(_)) | None => parts.push(Part::Fixed(format!("/{spelt}"))),
                    }
                }
            }
        }
        Ok(Self { parts, rest_after: pattern.subtree.then_some(route.segments.len()), text: text.into() })
    }

    /// The pattern of the new paths.
    pub(crate) fn pattern(&self) -> Option<PathPattern> {
        PathPattern::parse(&self.text).ok()
    }

    /// The segments of the new paths, without the match of `/**`.
    pub(super) fn segments(&self) -> impl Iterator<Item = TemplateSegment<'_>> {
        self.parts.iter().flat_map(|part| {
            let (fixed, captured) = match part {
                Part::Fixed(text) => (&**text, None),
                Part::Segment(place) => ("", Some(TemplateSegment::Captured(*place))),
            };
            fixed.split('/').skip(1).map(TemplateSegment::Fixed).chain(captured)
        })
    }

    /// Whether the new path ends in the match of `/**`.
    pub(crate) fn inserts_subtree(&self) -> bool {
        self.rest_after.is_some()
    }

    /// The decoded segments of a path that `route` matches and that is rewritten to `made`. `filler` replaces the
    /// segments that the new path does not use.
    pub(crate) fn origin_of(&self, made: &[String], route: &PathPattern, filler: &str) -> Vec<String> {
        let written: Vec<&str> = self.text.split('/').filter(|part| !part.is_empty() && *part != "**").collect();
        let mut origin: Vec<String> =
            route.segments.iter().map(|segment| segment.literal().unwrap_or(filler).to_owned()).collect();
        for (part, made) in written.iter().zip(made) {
            let place = placeholder(part).and_then(|name| place_of(name, route).ok());
            if let Some(segment) = place.and_then(|place| origin.get_mut(place)) {
                segment.clone_from(made);
            }
        }
        origin.extend(made.iter().skip(written.len()).filter(|_| self.rest_after.is_some()).cloned());
        origin
    }

    /// The new path for the path of a request, in the spelling in which it would be forwarded.
    pub(crate) fn path(&self, of: &str) -> Result<String, Ambiguous> {
        let mut path = String::with_capacity(self.text.len() + of.len());
        for part in &self.parts {
            match part {
                Part::Fixed(text) => path.push_str(text),
                Part::Segment(place) => {
                    path.push('/');
                    path.push_str(of.split('/').nth(place + 1).unwrap_or_default());
                }
            }
        }
        if let Some(segments) = self.rest_after {
            path.push_str(rest(of, segments));
        }
        if path.is_empty() {
            path.push('/');
        }
        // A capture may be used several times.
        if path.len() > LONGEST { Err(Ambiguous::UriTooLong) } else { Ok(path) }
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Far below the limit of a request target, with the query.
const LONGEST: usize = 32 * 1024;

/// The rest of a path after its first `segments` segments, its slash included.
pub(super) fn rest(path: &str, segments: usize) -> &str {
    path.match_indices('/').nth(segments).map_or("", |(slash, _)| &path[slash..])
}

fn placeholder(segment: &str) -> Option<&str> {
    segment.strip_prefix('{')?.strip_suffix('}')
}

fn place_of(name: &str, route: &PathPattern) -> Result<usize, InvalidTemplate> {
    let text = route.to_string();
    let captures: Vec<Option<&str>> = text.split('/').skip(1).map(placeholder).collect();
    let mut places = (0..).zip(&captures).filter(|(_, capture)| **capture == Some(name)).map(|(place, _)| place);
    match (places.next(), places.next()) {
        (Some(place), None) => Ok(place),
        (Some(_), Some(_)) => Err(InvalidTemplate::Twice(name.to_owned())),
        (None, _) => {
            let mut known: Vec<String> = captures.iter().flatten().map(|capture| format!("`{{{capture}}}`")).collect();
            known.extend(route.subtree.then(|| "`/**`".to_owned()));
            let known = match known.is_empty() {
                true => ": the route's path has none".to_owned(),
                false => format!(" (the route's path has {})", known.join(", ")),
            };
            Err(InvalidTemplate::Unknown { name: name.to_owned(), known })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use http::Request;
    use http::header::HOST;
    use proptest::prelude::*;

    use super::*;
    use crate::pipeline::request::canonical::CanonicalRequest;
    use crate::pipeline::request::path_forms::PathForms;
    use crate::server::limits::Limits;
    use crate::server::received_request::ReceivedHead;

    fn read(path: &str) -> Result<CanonicalRequest, Ambiguous> {
        let Ok(request) = Request::builder().uri(path).header(HOST, "a").body(()) else {
            return Err(Ambiguous::Target);
        };
        let head = ReceivedHead::from_hyper(request.into_parts().0).map_err(|_| Ambiguous::Target)?;
        CanonicalRequest::new(&head, "https", &RefCell::default(), &Limits::default(), PathForms::default())
    }

    fn template(text: &str, route: &str) -> Result<PathTemplate, InvalidTemplate> {
        PathTemplate::parse(text, &PathPattern::parse(route).unwrap())
    }

    #[track_caller]
    fn makes(route: &str, text: &str, of: &str, expected: &str) {
        let spelt = PathPattern::parse(route).unwrap().spell(&read(of).unwrap()).into_owned();
        assert_eq!(template(text, route).unwrap().path(&spelt).unwrap(), expected, "{route} → {text}: {of}");
    }

    #[test]
    fn segments_and_the_subtree_are_taken_over_in_any_order() {
        makes("/a/{x}/{y}/**", "/v2/{y}/of/{x}/**", "/a/1/2/3/4", "/v2/2/of/1/3/4");
        makes("/a/{x}", "/{x}/{x}", "/a/1", "/1/1");
        makes("/a/{x}/**", "/only/{x}", "/a/1/2/3", "/only/1");
        makes("/a/**", "/fixed", "/a/b", "/fixed");
        makes("/a/{x}", "/", "/a/1", "/");
    }

    #[test]
    fn the_subtree_keeps_its_last_slash_and_may_be_empty() {
        makes("/api/**", "/v2/**", "/api", "/v2");
        makes("/api/**", "/v2/**", "/api/", "/v2/");
        makes("/api/**", "/v2/**", "/api/x/", "/v2/x/");
        makes("/api/**", "/**", "/api", "/");
        makes("/**", "/v2/**", "/", "/v2/");
    }

    #[test]
    fn captured_text_stays_encoded_and_fixed_text_is_encoded() {
        makes("/a/{x}", "/b c/{x}", "/a/50%25%20%C3%BC", "/b%20c/50%25%20%C3%BC");
        makes("/a/{x}", "/ü/{x}", "/a/%3f%23", "/%C3%BC/%3f%23");
    }

    #[track_caller]
    fn is_refused(route: &str, text: &str, message: &str) {
        assert_eq!(template(text, route).unwrap_err().to_string(), message);
    }

    #[test]
    fn templates_that_could_not_be_filled_are_refused() {
        is_refused("/a/{id}/**", "/{name}", "unknown capture `{name}` (the route's path has `{id}`, `/**`)");
        is_refused("/a", "/{name}", "unknown capture `{name}`: the route's path has none");
        is_refused("/{a}/{a}", "/{a}", "the route's path has `{a}` more than once: give each a name of its own");
        is_refused("/a/{id}", "/b/**", "the route's path has no `/**` whose match could be inserted");
        is_refused("/{id}", "/x-{id}", "a placeholder is a whole segment such as `{id}`");
        is_refused("/{id}", "//{id}", "a path has no empty segment; `/ping` matches `/ping/` too");
        is_refused("/{id}", "/．．/{id}", "no request could have such a path");
    }

    #[test]
    fn generated_names_are_bounded() {
        let long = template(&"/{x}".repeat(100), "/{x}").unwrap();
        assert_eq!(long.path(&format!("/{}", "a".repeat(8000))), Err(Ambiguous::UriTooLong));
    }

    proptest! {
        /// For any captured text, the new path is below the fixed part of the rewrite, and the text keeps its meaning.
        #[test]
        fn no_capture_leads_out_of_the_fixed_part_of_a_template(
            first in "(%[0-9a-f]{2}|[a-z.%]|\\.\\.|%2e|%25|%7e){1,6}",
            rest in "/?(%[0-9a-f]{2}|[a-z./;%]|\\.\\.|%2e|%2f|%5c|%25){0,12}",
        ) {
            let (template, route) = (template("/v2/{x}/in/**", "/api/{x}/**").unwrap(), "/api/{x}/**");
            let route = PathPattern::parse(route).unwrap();
            if let Ok(request) = read(&format!("/api/{first}/{rest}"))
                && route.matches(request.decoded_path())
            {
                let made = template.path(&route.spell(&request)).unwrap();
                let again = read(&made).unwrap();
                prop_assert_eq!(again.received_path().unwrap_or(again.path()), made.as_str());
                let (was, is) = (request.decoded_path(), again.decoded_path());
                let captured = was.split('/').nth(2).unwrap();
                let after = was.splitn(4, '/').nth(3).map_or(String::new(), |rest| format!("/{rest}"));
                prop_assert_eq!(is, format!("/v2/{captured}/in{after}"));
            }
        }
    }
}
