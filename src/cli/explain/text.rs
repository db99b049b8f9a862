//! The explanation for people: the rooms in their order, a mark for each check, and the end.

use super::Explanation;
use crate::app::rehearsal::walk::{ForwardedRequest, GivenAnswer, Walk, WalkEnd};
use crate::audit::line::shown;
use crate::cli::inspect::credential::CredentialInspection;
use crate::cli::terminal::{BAD, BOLD, DIM, GOOD, NAME, WARN, out, styled};
use crate::oauth::observer::{Observation, Outcome, Room};

/// The width of the subjects of checks.
const SUBJECTS: usize = 22;

pub(super) fn print(explained: &Explanation) {
    let Explanation { method, url, from, caller, walk, credential, remarks: _ } = explained;
    let place = format!("{method} {}://{}{}", url.scheme(), url.host, url.target);
    out(format_args!("{} from {from}", styled(BOLD, shown(&place))));
    out(styled(DIM, shown(caller)));
    let mut room = None;
    for observation in &walk.observations {
        if room.replace(observation.room) != Some(observation.room) {
            out(format_args!("\n{}", styled(BOLD, step_name(observation.room))));
        }
        out(observed(observation));
    }
    print_end(walk);
    credential.as_ref().into_iter().for_each(CredentialInspection::print_text);
}

pub(super) fn step_name(room: Room) -> &'static str {
    match room {
        Room::Canonicalise => "canonical form",
        Room::Route => "route",
        Room::Address => "address",
        Room::Limits => "limits",
        Room::Authenticate => "authentication",
        Room::Authorize => "authorization",
    }
}

/// A check on one line.
pub(super) fn observed(Observation { subject, outcome, values, .. }: &Observation) -> String {
    let mark = match outcome {
        Outcome::Passed => styled(GOOD, "✓"),
        Outcome::Failed => styled(BAD, "✗"),
        Outcome::Noted => " ".to_owned(),
        Outcome::NotChecked => styled(WARN, "?"),
    };
    let (found, wanted) = (shown(&values.found), shown(&values.wanted));
    let wanted = match outcome {
        _ if wanted.is_empty() || wanted == found => String::new(),
        Outcome::Failed => format!("  {}", styled(WARN, format_args!("wanted {wanted}"))),
        Outcome::Passed | Outcome::Noted | Outcome::NotChecked => {
            format!("  {}", styled(DIM, format_args!("wanted {wanted}")))
        }
    };
    let subject = shown(subject);
    format!("  {mark} {subject:SUBJECTS$}  {found}{wanted}")
}

fn print_end(walk: &Walk) {
    let rule = walk.rule.as_deref().unwrap_or_default();
    if let Some(reason) = walk.would_deny {
        let text = format!("the route only reports what its rule refuses: {}", reason.as_str());
        out(format_args!("\n{} {text}", styled(WARN, "!")));
    }
    match &walk.end {
        WalkEnd::Forwarded(forwarded) => {
            print_forwarded(forwarded);
            let upstream = styled(NAME, shown(&forwarded.upstream));
            out(format_args!("\n{} → {upstream}", styled(GOOD, "allowed")));
        }
        WalkEnd::Endpoint => {
            out(format_args!(
                "\n{} → the endpoint {rule} of the gateway, which decides by the body",
                styled(GOOD, "allowed")
            ));
        }
        WalkEnd::Answered(answer) => {
            print_answer(answer);
            out(format_args!("\n{} → {} from the gateway", styled(GOOD, "answered"), answer.status));
        }
        WalkEnd::Refused { reason, values, answer } => {
            print_answer(answer);
            let values = values.as_ref().map(|values| format!(": {}", shown(&values.to_string()))).unwrap_or_default();
            let (status, reason) = (answer.status, reason.as_str());
            out(format_args!("\n{} {status} {reason}{values}", styled(BAD, "refused")));
        }
    }
}

fn print_forwarded(forwarded: &ForwardedRequest) {
    let ForwardedRequest { servers, head, split, mirror, timeout_s, .. } = forwarded;
    out(format_args!("\n{}", styled(BOLD, "upstream")));
    let line = |name: &str, text: &str| out(format_args!("    {name:SUBJECTS$}  {}", shown(text)));
    split.iter().for_each(|split| line("split", split));
    line("servers", &servers.join(", "));
    line("response within", &format!("{timeout_s}s"));
    mirror.iter().for_each(|(upstream, percent)| line("mirror", &format!("{upstream}, {percent} % of the requests")));
    out(format_args!("    {}", shown(&head.request_line)));
    print_fields(&head.fields);
}

fn print_answer(answer: &GivenAnswer) {
    out(format_args!("\n{}", styled(BOLD, "answer")));
    out(format_args!("    {}", answer.status));
    print_fields(&answer.fields);
    answer.body.lines().for_each(|line| out(format_args!("    {}", shown(line))));
}

fn print_fields(fields: &[(String, String)]) {
    fields.iter().for_each(|(name, value)| out(format_args!("    {}: {}", shown(name), shown(value))));
}
