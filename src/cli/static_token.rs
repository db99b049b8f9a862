//! `portcullis client hash --static-token`: checks a hand-made token and prints its entry.

use std::process::ExitCode;

use clap::Args;
use http::HeaderName;

use super::USAGE;
use super::client_secret::quoted;
use super::terminal::{DIM, note, out, styled};
use crate::clock::{self, UnixTime};
use crate::config::values::Period;
use crate::oauth::scope::Scope;
use crate::trust::static_tokens::{MIN_STATIC_CHARACTERS, TokenHash, is_jwt_form};

/// The keys of an entry of `static_tokens`.
#[derive(Debug, Args)]
pub(super) struct StaticTokenArgs {
    /// The text is a hand-made token: print its entry under this name, for `static_tokens`
    #[arg(long, value_name = "NAME", requires_all = ["scopes", "until"])]
    static_token: Option<String>,
    /// The scopes of its caller, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "SCOPE,…", requires = "static_token")]
    scopes: Vec<String>,
    /// When it ends: a time such as 2027-01-31T00:00:00Z, or from now, such as 90d
    #[arg(long, value_name = "TIME", requires = "static_token")]
    until: Option<String>,
    /// The header field whose whole value it is, instead of `Authorization: Bearer`
    #[arg(long, value_name = "NAME", requires = "static_token")]
    header: Option<HeaderName>,
}

impl StaticTokenArgs {
    pub(super) fn name(&self) -> Option<&str> {
        self.static_token.as_deref()
    }
}

/// `name` is that of the arguments.
pub(super) fn print_entry(name: &str, args: &StaticTokenArgs, token: &str) -> ExitCode {
    let now = clock::now();
    let until = args.until.as_deref().and_then(|text| end(text, now)).filter(|until| *until > now);
    let fault = token_fault(token).or_else(|| args.scopes.iter().find_map(|scope| scope_fault(scope)));
    let until = match (fault, until) {
        (None, Some(until)) => until,
        (Some(fault), _) => {
            note(fault);
            return ExitCode::from(USAGE);
        }
        (None, None) => {
            note("--until: expected a time in the future such as `2027-01-31T00:00:00Z`, or a duration such as `90d`");
            return ExitCode::from(USAGE);
        }
    };
    let scopes: Vec<String> = args.scopes.iter().map(|scope| quoted(scope)).collect();
    let field = args.header.as_ref().map(|name| format!("\n    header: {name}")).unwrap_or_default();
    note(styled(DIM, "Add this under static_tokens in gateway.yaml, and reload it (`portcullis reload`):"));
    out(format_args!(
        "  {}:\n    hash: {}\n    scopes: [{}]\n    until: {}{field}",
        quoted(name),
        quoted(&TokenHash::of(token.as_bytes()).to_config()),
        scopes.join(", "),
        until.to_the_second()
    ));
    ExitCode::SUCCESS
}

fn end(text: &str, now: UnixTime) -> Option<UnixTime> {
    UnixTime::parse(text).or_else(|| Some(now.plus(text.parse::<Period>().ok()?.get())))
}

/// Why the gateway would never accept this token. Shows nothing of it.
fn token_fault(token: &str) -> Option<String> {
    let is_outer = |c: char| c == ' ' || c == '\t';
    if token.chars().count() < MIN_STATIC_CHARACTERS {
        return Some(format!(
            "a static token has at least {MIN_STATIC_CHARACTERS} characters, because a shorter one can be guessed: give \
             its caller a client instead (`portcullis client new`)"
        ));
    }
    if token.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer ")) {
        return Some("give the token without `Bearer `".to_owned());
    }
    if is_jwt_form(token.as_bytes()) {
        return Some(
            "this has the form of a JWT, which is never a static token: configure its issuer under `issuers`"
                .to_owned(),
        );
    }
    let is_no_value = token.contains(|c: char| c.is_control() && c != '\t') || token.trim_matches(is_outer) != token;
    is_no_value.then(|| {
        "no header field can carry this: it has a control character, or white space at its beginning or end".to_owned()
    })
}

fn scope_fault(scope: &str) -> Option<String> {
    let fault = Scope::parse(scope).err()?;
    Some(format!("--scopes: `{}`: {fault}", scope.escape_debug()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_would_never_count_is_refused() {
        for bad in [
            "nineteen-characters",
            "Bearer 0123456789abcdef0123",
            "eyJhbGciOiJub25lIn0-and-more",
            "aaaaaaaaaa.bbbbbbbbbb.cccccccccc",
            " 0123456789abcdef0123",
            "0123456789abcdef0123\r",
            "0123456789\nabcdef0123",
        ] {
            assert!(token_fault(bad).is_some_and(|fault| !fault.contains(bad)), "{bad}");
        }
        for good in ["twenty-characters-aa", "0123456789 abcdef0123", "a.b.c.d.e.f.g.h.i.j.k", "Jürgens-altes-Passwort"]
        {
            assert_eq!(token_fault(good), None, "{good}");
        }
    }
}
