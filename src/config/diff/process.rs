//! Settings of the whole gateway: limits, trusted proxies, revocations, the audit log.

use std::fmt::Display;
use std::time::Duration;

use super::bound::{of_bounds, of_numbers};
use super::change::{ChangeSubject, Changes, Direction};
use super::view::AccessView;
use crate::audit::ledger::OnFailure;
use crate::clock::UnixTime;
use crate::network::Networks;
use crate::server::limits::Limits;
use crate::trust::revocation::{RevocationEntry, RevocationTarget};

pub(super) fn compare(old: &AccessView<'_>, new: &AccessView<'_>, changes: &mut Changes) {
    if !(old.trusted_proxies.contains_all(new.trusted_proxies) && new.trusted_proxies.contains_all(old.trusted_proxies))
    {
        let text = |networks: &Networks| match networks.to_string() {
            none if none.is_empty() => "none".to_owned(),
            some => some,
        };
        let text = format!(
            "trusted proxies, which may name the client's address, are {}, before {}",
            text(new.trusted_proxies),
            text(old.trusted_proxies)
        );
        changes.add(Direction::Unclear, &ChangeSubject::named(&["trusted_proxies"]), text);
    }
    compare_limits(old.limits, new.limits, changes);
    compare_revoked(old.revoked, new.revoked, changes);
    match (old.on_failure, new.on_failure) {
        (OnFailure::Block, OnFailure::Drop) => {
            let text = "requests are let in although they cannot be recorded";
            changes.add(Direction::Wider, &ChangeSubject::named(&["audit", "on_failure"]), text);
        }
        (OnFailure::Drop, OnFailure::Block) => {
            let text = "requests that cannot be recorded are refused";
            changes.add(Direction::Narrower, &ChangeSubject::named(&["audit", "on_failure"]), text);
        }
        (OnFailure::Block, OnFailure::Block) | (OnFailure::Drop, OnFailure::Drop) => {}
    }
    if old.state_directory != new.state_directory {
        let text = "the state directory is another: revocations that were made by command stay in the former one";
        changes.add(Direction::Unclear, &ChangeSubject::named(&["state_directory"]), text);
    }
    if old.dns != new.dns {
        changes.add(Direction::Changed, &ChangeSubject::named(&["dns"]), "names of servers are looked up otherwise");
    }
}

fn compare_limits(old: &Limits, new: &Limits, changes: &mut Changes) {
    let Limits {
        connections,
        connections_per_address,
        handshakes,
        handshake_timeout,
        first_request_timeout,
        header_timeout,
        idle_timeout,
        body_idle_timeout,
        min_body_rate,
        write_stall_timeout,
        connection_age,
        uri_bytes,
        header_bytes,
        header_count,
        body_bytes,
        token_bytes,
        h2_streams,
        in_flight,
        in_flight_per_address,
        tunnels,
        tunnels_per_address,
        tunnel_idle_timeout,
        memory,
    } = new;
    let mut limits = LimitsCompared { changes };
    // These decide about a request by itself.
    limits.decides("uri_bytes", &Some(old.uri_bytes), &Some(*uri_bytes));
    limits.decides("header_bytes", &Some(old.header_bytes), &Some(*header_bytes));
    limits.decides("header_count", &Some(old.header_count), &Some(*header_count));
    limits.decides("body_bytes", &old.body_bytes, body_bytes);
    limits.decides("token_bytes", &Some(old.token_bytes), &Some(*token_bytes));
    // These bound the load, and let in the same requests.
    limits.loads("connections", &old.connections, connections);
    limits.loads("connections_per_address", &old.connections_per_address, connections_per_address);
    limits.loads("handshakes", &old.handshakes, handshakes);
    limits.times("handshake_timeout", old.handshake_timeout, *handshake_timeout);
    limits.times("first_request_timeout", old.first_request_timeout, *first_request_timeout);
    limits.times("header_timeout", old.header_timeout, *header_timeout);
    limits.times("idle_timeout", old.idle_timeout, *idle_timeout);
    limits.times("body_idle_timeout", old.body_idle_timeout, *body_idle_timeout);
    limits.loads("min_body_rate", &old.min_body_rate, min_body_rate);
    limits.times("write_stall_timeout", old.write_stall_timeout, *write_stall_timeout);
    limits.times("connection_age", old.connection_age, *connection_age);
    limits.loads("h2_streams", &Some(old.h2_streams), &Some(*h2_streams));
    limits.loads("in_flight", &Some(old.in_flight), &Some(*in_flight));
    limits.loads("in_flight_per_address", &Some(old.in_flight_per_address), &Some(*in_flight_per_address));
    limits.loads("tunnels", &Some(old.tunnels), &Some(*tunnels));
    limits.loads("tunnels_per_address", &Some(old.tunnels_per_address), &Some(*tunnels_per_address));
    limits.times("tunnel_idle_timeout", old.tunnel_idle_timeout, *tunnel_idle_timeout);
    if old.memory != *memory {
        changes.add(Direction::Changed, &ChangeSubject::named(&["limits", "memory"]), "limits.memory is another");
    }
}

struct LimitsCompared<'c> {
    changes: &'c mut Changes,
}

impl LimitsCompared<'_> {
    fn decides<T: PartialOrd + Display>(&mut self, name: &str, old: &Option<T>, new: &Option<T>) {
        if let Some(direction) = of_bounds(old.as_ref(), new.as_ref(), |one, other| one <= other) {
            self.add(direction, name, [number(old), number(new)]);
        }
    }

    fn loads<T: PartialEq + Display>(&mut self, name: &str, old: &Option<T>, new: &Option<T>) {
        if old != new {
            self.add(Direction::Changed, name, [number(old), number(new)]);
        }
    }

    fn times(&mut self, name: &str, old: Option<Duration>, new: Option<Duration>) {
        if old != new {
            let text = |time: Option<Duration>| time.map_or_else(unlimited, |time| format!("{time:?}"));
            self.add(Direction::Changed, name, [text(old), text(new)]);
        }
    }

    fn add(&mut self, direction: Direction, name: &str, limits: [String; 2]) {
        let [old, new] = limits;
        let subject = ChangeSubject::named(&["limits", name]);
        self.changes.add(direction, &subject, format!("limits.{name} {old} → {new}"));
    }
}

fn number<T: Display>(limit: &Option<T>) -> String {
    limit.as_ref().map_or_else(unlimited, T::to_string)
}

fn unlimited() -> String {
    "unlimited".to_owned()
}

/// Each entry by itself: of two entries for one target the wider one applies.
fn compare_revoked(old: &[RevocationEntry], new: &[RevocationEntry], changes: &mut Changes) {
    for (index, entry) in new.iter().enumerate().filter(|(_, entry)| !old.contains(entry)) {
        let subject = ChangeSubject::item("revoked", index);
        changes.add(Direction::Narrower, &subject, format!("{} are revoked", revoked_text(entry)));
    }
    for (index, entry) in old.iter().enumerate().filter(|(_, entry)| !new.contains(entry)) {
        let subject = ChangeSubject::item("revoked", index).of_old();
        changes.add(Direction::Wider, &subject, format!("{} are no longer revoked", revoked_text(entry)));
    }
}

fn revoked_text(entry: &RevocationEntry) -> String {
    let RevocationEntry { issuer, target, issued_before, expires_at: _, made_at: _, revoked_by: _ } = entry;
    let before = issued_before.map(|time| format!(" issued before {}", UnixTime::from_seconds(time)));
    let before = before.unwrap_or_default();
    match target {
        RevocationTarget::Token(digest) => format!("tokens{before} of {issuer} with the digest {digest}"),
        RevocationTarget::Client(client) => format!("tokens{before} of client `{client}` by {issuer}"),
        RevocationTarget::Subject(subject) => format!("tokens{before} of subject `{subject}` by {issuer}"),
        // A configuration has no revocation of another replica.
        RevocationTarget::Issuer | RevocationTarget::Learned(_) => format!("all tokens{before} of {issuer}"),
    }
}

/// The direction in which a time changes that lets in more the longer it is.
pub(super) fn of_times(old: Duration, new: Duration) -> Option<Direction> {
    of_numbers(&old, &new)
}
