//! Static tokens, by their names.

use super::bound::listed;
use super::change::{ChangeSubject, Changes, Direction};
use super::view::AccessView;
use crate::oauth::scope::ScopeSet;
use crate::trust::static_tokens::StaticTokenSettings;

pub(super) fn compare(old: &AccessView<'_>, new: &AccessView<'_>, changes: &mut Changes) {
    let find = |all: &[&StaticTokenSettings], name: &str| all.iter().position(|token| token.name.as_str() == name);
    for token in &new.static_tokens {
        let name = token.name.as_str();
        let subject = ChangeSubject::named(&["static_tokens", name]);
        match find(&old.static_tokens, name) {
            Some(place) => compare_tokens(old.static_tokens[place], token, &subject, changes),
            None => {
                let until = token.until.to_the_second();
                let text = format!("static token `{name}` counts until {until}, for {}", scopes_text(&token.scopes));
                changes.add(Direction::Wider, &subject, text);
            }
        }
    }
    for token in old.static_tokens.iter().filter(|token| find(&new.static_tokens, token.name.as_str()).is_none()) {
        let name = token.name.as_str();
        let subject = ChangeSubject::named(&["static_tokens", name]).of_old();
        changes.add(Direction::Narrower, &subject, format!("static token `{name}` no longer counts"));
    }
}

fn compare_tokens(
    old: &StaticTokenSettings,
    new: &StaticTokenSettings,
    subject: &ChangeSubject,
    changes: &mut Changes,
) {
    let StaticTokenSettings { name, hash, scopes, until, field } = new;
    let mut add = |direction, text: String| {
        changes.add(direction, subject, format!("static token `{}` {text}", name.as_str()));
    };
    let (gained, lost) = (scopes.without(&old.scopes), old.scopes.without(scopes));
    if !gained.is_empty() {
        add(Direction::Wider, format!("gains {}", scopes_text(&gained)));
    }
    if !lost.is_empty() {
        add(Direction::Narrower, format!("loses {}", scopes_text(&lost)));
    }
    if old.until != *until {
        let direction = if old.until < *until { Direction::Wider } else { Direction::Narrower };
        let [before, after] = [old.until, *until].map(|time| time.to_the_second());
        add(direction, format!("counts until {after}, before until {before}"));
    }
    if old.hash != *hash {
        add(Direction::Unclear, "has another value".to_owned());
    }
    if old.field != *field {
        add(Direction::Unclear, "comes in another header field".to_owned());
    }
}

fn scopes_text(scopes: &ScopeSet) -> String {
    match scopes.iter().count() {
        0 => "no scope".to_owned(),
        1 => format!("the scope {}", listed(scopes.iter().map(|scope| scope.as_str()))),
        _ => format!("the scopes {}", listed(scopes.iter().map(|scope| scope.as_str()))),
    }
}
