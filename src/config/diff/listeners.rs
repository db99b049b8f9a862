//! The addresses that are served: listeners, the admin listener, the probes.

use super::bound::{added_and_removed, direction, listed, of_bounds};
use super::change::{ChangeSubject, Changes, Direction};
use super::view::AccessView;
use crate::config::types::{Admin, Listener, ListenerKind};
use crate::network::Networks;
use crate::server::mutual_tls::{CertificateDemand, MutualTls};
use crate::server::tls::MinTlsVersion;

pub(super) fn compare(old: &AccessView<'_>, new: &AccessView<'_>, changes: &mut Changes) {
    let mut before: Vec<Option<&Listener>> = old.listeners.iter().map(Some).collect();
    for (index, listener) in new.listeners.iter().enumerate() {
        let subject = ChangeSubject::item("listeners", index);
        let same = before.iter_mut().find(|other| other.is_some_and(|other| other.address == listener.address));
        match same.and_then(Option::take) {
            Some(other) => compare_listener(other, listener, &subject, changes),
            None => {
                let text = format!("listener {} is new: {}", listener.address, kind_text(&listener.kind));
                changes.add(Direction::Wider, &subject, text);
            }
        }
    }
    for (index, removed) in before.into_iter().enumerate().filter_map(|(index, left)| Some((index, left?))) {
        let subject = ChangeSubject::item("listeners", index).of_old();
        changes.add(Direction::Narrower, &subject, format!("listener {} is removed", removed.address));
    }
    compare_admin(old.admin, new.admin, changes);
    compare_probes(old, new, changes);
}

fn compare_listener(old: &Listener, new: &Listener, subject: &ChangeSubject, changes: &mut Changes) {
    let Listener { address, kind, proxy_protocol, believed } = new;
    let name = format!("listener {address}");
    compare_kind(&old.kind, kind, (&name, subject), changes);
    if old.proxy_protocol != *proxy_protocol {
        let text = if *proxy_protocol { "takes" } else { "no longer takes" };
        let text = format!("{name} {text} client addresses from the PROXY protocol");
        changes.add(Direction::Unclear, subject, text);
    }
    if old.believed != *believed {
        let (old, new) = (old.believed.names(), believed.names());
        let (added, removed) = added_and_removed(&old, &new);
        if !added.is_empty() {
            let text = format!("{name} believes trusted proxies about {}", listed(added));
            changes.add(Direction::Unclear, subject, text);
        }
        if !removed.is_empty() {
            let text = format!("{name} no longer believes trusted proxies about {}", listed(removed));
            changes.add(Direction::Unclear, subject, text);
        }
    }
}

fn compare_kind(
    old: &ListenerKind,
    new: &ListenerKind,
    (name, subject): (&str, &ChangeSubject),
    changes: &mut Changes,
) {
    match (old, new) {
        (
            ListenerKind::Tls {
                certificates: certificates_before,
                min_version: version_before,
                mutual_tls: mutual_before,
            },
            ListenerKind::Tls { certificates, min_version, mutual_tls },
        ) => {
            if certificates_before != certificates {
                changes.add(Direction::Changed, subject, format!("{name} has other certificates"));
            }
            if version_before != min_version {
                let (direction, version) = match min_version {
                    MinTlsVersion::Tls12 => (Direction::Wider, "1.2"),
                    MinTlsVersion::Tls13 => (Direction::Narrower, "1.3"),
                };
                changes.add(direction, subject, format!("{name} takes TLS from version {version} on"));
            }
            compare_mutual_tls(mutual_before.as_ref(), mutual_tls.as_ref(), (name, subject), changes);
        }
        (ListenerKind::Plain, ListenerKind::Plain) => {}
        (ListenerKind::Redirect { origin: before }, ListenerKind::Redirect { origin }) => {
            if before != origin {
                changes.add(Direction::Changed, subject, format!("{name} redirects to {origin}, before to {before}"));
            }
        }
        // In clear text only a loopback address serves tokens.
        (ListenerKind::Plain, ListenerKind::Tls { .. }) => {
            let text = format!("{name} becomes {}, before {}", kind_text(new), kind_text(old));
            changes.add(Direction::Unclear, subject, text);
        }
        (ListenerKind::Tls { .. } | ListenerKind::Plain | ListenerKind::Redirect { .. }, _) => {
            // From the safest on: only redirects, TLS, clear text.
            let direction = direction(openness(new) <= openness(old), openness(old) <= openness(new));
            let text = format!("{name} becomes {}, before {}", kind_text(new), kind_text(old));
            changes.add(direction.unwrap_or(Direction::Unclear), subject, text);
        }
    }
}

fn compare_mutual_tls(
    old: Option<&MutualTls>,
    new: Option<&MutualTls>,
    (name, subject): (&str, &ChangeSubject),
    changes: &mut Changes,
) {
    let strictness = |mutual_tls: Option<&MutualTls>| match mutual_tls.map(|mutual_tls| mutual_tls.demand) {
        None => (0, "asks for no client certificate"),
        Some(CertificateDemand::Optional) => (1, "asks for a client certificate"),
        Some(CertificateDemand::Required) => (2, "requires a client certificate"),
    };
    let ((before, _), (after, text)) = (strictness(old), strictness(new));
    // Where none was asked for, a certificate proves nothing; where one is asked for, a wrong one is refused.
    let may_be_either = before.max(after) == 1;
    let direction = direction(after >= before, before >= after);
    if let Some(direction) = direction.map(|direction| if may_be_either { Direction::Unclear } else { direction }) {
        changes.add(direction, subject, format!("{name} {text}"));
    }
    if let (Some(old), Some(new)) = (old, new)
        && old.ca != new.ca
    {
        let text = format!("{name} takes client certificates of the authorities in {}", new.ca.display());
        changes.add(Direction::Unclear, subject, format!("{text}, before in {}", old.ca.display()));
    }
}

fn openness(kind: &ListenerKind) -> u8 {
    match kind {
        ListenerKind::Redirect { .. } => 0,
        ListenerKind::Tls { .. } => 1,
        ListenerKind::Plain => 2,
    }
}

fn kind_text(kind: &ListenerKind) -> &'static str {
    match kind {
        ListenerKind::Tls { .. } => "https",
        ListenerKind::Plain => "http, in clear text",
        ListenerKind::Redirect { .. } => "http, redirects only",
    }
}

fn compare_admin(old: Option<&Admin>, new: Option<&Admin>, changes: &mut Changes) {
    let subject = ChangeSubject::named(&["admin"]);
    match (old, new) {
        (None, None) => {}
        (None, Some(admin)) => {
            changes.add(Direction::Wider, &subject, format!("the admin listener {} is new", admin.address));
        }
        (Some(admin), None) => {
            let text = format!("the admin listener {} is removed", admin.address);
            changes.add(Direction::Narrower, &subject.of_old(), text);
        }
        (Some(old), Some(Admin { address, hosts, allow_from })) => {
            if old.address != *address {
                let text = format!("the admin listener moves from {} to {address}", old.address);
                changes.add(Direction::Unclear, &subject, text);
            }
            let (added, removed) = added_and_removed(&old.hosts.0, &hosts.0);
            if !added.is_empty() {
                let text = format!("the admin listener may be asked by the names {}", listed(added));
                changes.add(Direction::Wider, &subject, text);
            }
            if !removed.is_empty() {
                let text = format!("the admin listener may no longer be asked by the names {}", listed(removed));
                changes.add(Direction::Narrower, &subject, text);
            }
            let is_within = |one: &Networks, other: &Networks| other.contains_all(one);
            // An address that is not loopback has a list of networks, so that no list means this machine alone.
            let direction = match (&old.allow_from, allow_from) {
                (None, Some(_)) => Some(Direction::Wider),
                (Some(_), None) => Some(Direction::Narrower),
                (old, new) => of_bounds(old.as_ref(), new.as_ref(), is_within),
            };
            if let Some(direction) = direction {
                let from = |networks: &Option<Networks>| {
                    networks.as_ref().map_or_else(|| "this machine".to_owned(), Networks::to_string)
                };
                let text = format!(
                    "the admin listener may be asked from {}, before from {}",
                    from(allow_from),
                    from(&old.allow_from)
                );
                changes.add(direction, &subject, text);
            }
        }
    }
}

fn compare_probes(old: &AccessView<'_>, new: &AccessView<'_>, changes: &mut Changes) {
    let subject = ChangeSubject::named(&["probes"]);
    match (old.probes, new.probes) {
        (None, None) => {}
        (None, Some(address)) => changes.add(Direction::Wider, &subject, format!("the probes at {address} are new")),
        (Some(address), None) => {
            changes.add(Direction::Narrower, &subject.of_old(), format!("the probes at {address} are removed"));
        }
        (Some(old), Some(new)) if old == new => {}
        (Some(old), Some(new)) => {
            changes.add(Direction::Unclear, &subject, format!("the probes move from {old} to {new}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(old: Option<CertificateDemand>, new: Option<CertificateDemand>) -> Vec<String> {
        let mutual_tls = |demand: CertificateDemand| MutualTls { demand, ca: "ca.crt".into() };
        let [old, new] = [old, new].map(|demand| demand.map(mutual_tls));
        let mut changes = Changes::default();
        compare_mutual_tls(old.as_ref(), new.as_ref(), ("x", &ChangeSubject::named(&["listeners"])), &mut changes);
        changes.0.iter().map(|change| format!("{}: {}", change.direction, change.text)).collect()
    }

    #[test]
    fn a_certificate_that_is_no_longer_required_is_wider() {
        use CertificateDemand::{Optional, Required};
        for (old, new, expected) in [
            (Some(Required), Some(Optional), "wider: x asks for a client certificate"),
            (Some(Required), None, "wider: x asks for no client certificate"),
            (None, Some(Required), "narrower: x requires a client certificate"),
            (Some(Optional), Some(Required), "narrower: x requires a client certificate"),
            (None, Some(Optional), "unclear: x asks for a client certificate"),
            (Some(Optional), None, "unclear: x asks for no client certificate"),
        ] {
            assert_eq!(change(old, new), [expected]);
        }
        assert!(change(Some(Required), Some(Required)).is_empty());
    }
}
