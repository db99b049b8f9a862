//! How long a fetched document stays fresh: `Cache-Control` and `Age` (RFC 9111).

use std::time::Duration;

use http::HeaderMap;
use http::header::{AGE, CACHE_CONTROL};

/// The time from now on, not clamped. `None` if the answer does not say.
///
/// `no-store` and `no-cache` give zero: a set must be kept to be used, so this is the shortest time that the caller
/// allows. Of several `max-age` the first counts (§4.2.1). Malformed directives are ignored.
pub(super) fn lifetime(headers: &HeaderMap) -> Option<Duration> {
    let mut max_age = None;
    let lines = headers.get_all(CACHE_CONTROL).iter().filter_map(|line| line.to_str().ok());
    for (name, argument) in lines.flat_map(directives) {
        match name.as_str() {
            "no-store" | "no-cache" => return Some(Duration::ZERO),
            "max-age" => max_age = max_age.or_else(|| seconds(argument)),
            _ => {}
        }
    }
    let age = headers.get(AGE).and_then(|age| seconds(age.to_str().ok()?)).unwrap_or_default();
    max_age.map(|max_age| max_age.saturating_sub(age))
}

/// The directives of one line with their arguments, without quotation marks. Names are in lower case.
fn directives(line: &str) -> impl Iterator<Item = (String, &str)> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let parts = line.split(move |c| {
        let ends = c == ',' && !is_quoted;
        is_quoted ^= c == '"' && !is_escaped;
        is_escaped = c == '\\' && is_quoted && !is_escaped;
        ends
    });
    parts.map(|part| {
        let (name, argument) = part.split_once('=').unwrap_or((part, ""));
        let argument = argument.trim();
        let unquoted = argument.strip_prefix('"').and_then(|argument| argument.strip_suffix('"'));
        (name.trim().to_ascii_lowercase(), unquoted.unwrap_or(argument))
    })
}

/// A number that is too large counts as the largest (§1.2.2).
fn seconds(text: &str) -> Option<Duration> {
    let text = text.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| Duration::from_secs(text.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn lifetime_of(lines: &[&str], age: Option<&str>) -> Option<u64> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CACHE_CONTROL, HeaderValue::try_from(*line).unwrap());
        }
        headers.extend(age.map(|age| (AGE, HeaderValue::try_from(age).unwrap())));
        lifetime(&headers).map(|lifetime| lifetime.as_secs())
    }

    #[test]
    fn max_age_is_read_among_other_directives() {
        for (lines, expected) in [
            (&["public, Max-Age=600, must-revalidate"][..], Some(600)),
            (&["max-age=\"600\""], Some(600)),
            (&["public", "max-age=600"], Some(600)),
            (&["private=\"set-cookie, max-age=1\", max-age=600"], Some(600)),
            (&["ext=\"a\\\", max-age=1\", max-age=600"], Some(600)),
            (&["max-age=600, max-age=1"], Some(600)),
            (&["max-age=x", "max-age=7"], Some(7)),
            (&["max-age = 600"], Some(600)),
            (&["max-age=99999999999999999999999"], Some(u64::MAX)),
            (&[], None),
            (&[""], None),
            (&["max-age"], None),
            (&["max-age=-1"], None),
            (&["max-age=+1"], None),
            (&["max-age=1.5"], None),
            (&["s-maxage=9"], None),
            (&["ext=\"max-age=1"], None),
            (&["no-store"], Some(0)),
            (&["max-age=600, no-cache"], Some(0)),
            (&["max-age=600", "No-Store"], Some(0)),
        ] {
            assert_eq!(lifetime_of(lines, None), expected, "{lines:?}");
        }
    }

    #[test]
    fn the_time_in_other_caches_is_over() {
        for (age, expected) in [("100", 500), ("600", 0), ("9999999999999999999999", 0), ("-5", 600), ("x", 600)] {
            assert_eq!(lifetime_of(&["max-age=600"], Some(age)), Some(expected), "{age}");
        }
        assert_eq!(lifetime_of(&["public"], Some("100")), None);
    }

    proptest! {
        #[test]
        fn no_header_breaks_the_parser(line in "[ -~]{0,60}", age in "[ -~]{0,12}") {
            let _ = lifetime_of(&[&line], Some(&age));
        }

        #[test]
        fn a_lifetime_is_never_longer_than_max_age(max_age in any::<u64>(), age in any::<u64>()) {
            let lifetime = lifetime_of(&[&format!("max-age={max_age}")], Some(&age.to_string()));
            prop_assert_eq!(lifetime, Some(max_age.saturating_sub(age)));
        }
    }
}
