//! Suggestions for misspelt names.
//!
//! Finds the known name that is closest to a misspelt one, and lists the known names in messages.

/// The known name that equals `name` or is so close that it was probably meant.
pub(crate) fn closest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let same = known.iter().find(|candidate| **candidate == name);
    if let Some(same) = same.or_else(|| known.iter().find(|candidate| candidate.eq_ignore_ascii_case(name))) {
        return Some(same);
    }
    let limit = allowed_distance(name);
    known
        .iter()
        .take(COMPARED)
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= limit)
        .map(|candidate| (strsim::osa_distance(name, candidate), *candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// "did you mean", or the known names if none is close. Follows the quoted name in a message.
pub(crate) fn suggestion(name: &str, known: &[&str]) -> String {
    match closest(name, known) {
        Some(meant) => format!(", did you mean `{meant}`?"),
        None if known.is_empty() => " (none is known)".to_owned(),
        None => format!(" (known: {})", list(known)),
    }
}

fn list(known: &[&str]) -> String {
    let shown: Vec<String> = known.iter().take(LISTED).map(|name| format!("`{name}`")).collect();
    match known.len().saturating_sub(LISTED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn allowed_distance(name: &str) -> usize {
    match name.chars().count() {
        0..=2 => 0,
        3..=5 => 1,
        6..=9 => 2,
        _ => 3,
    }
}

/// With more names than this, only the first ones are compared: the comparison is repeated for every fault.
const COMPARED: usize = 2000;

const LISTED: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 4] = ["scopes", "any_of", "per", "connections_per_address"];

    #[test]
    fn slips_of_the_pen_are_understood() {
        for (name, meant) in [
            ("scope", Some("scopes")),
            ("scoeps", Some("scopes")),
            ("any-of", Some("any_of")),
            ("pre", Some("per")),
            ("PER", Some("per")),
            ("connection_per_adress", Some("connections_per_address")),
            ("pe", None),
            ("limits", None),
            ("", None),
        ] {
            assert_eq!(closest(name, &KNOWN), meant, "{name}");
        }
    }

    #[test]
    fn a_way_out_is_always_named() {
        assert_eq!(suggestion("corp", &["self", "partner"]), " (known: `self`, `partner`)");
        assert_eq!(suggestion("patner", &["self", "partner"]), ", did you mean `partner`?");
        assert_eq!(suggestion("corp", &[]), " (none is known)");
        assert!(suggestion("corp", &["self"; 100]).ends_with("`self` and 80 more)"));
    }
}
