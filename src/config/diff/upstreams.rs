//! The upstreams that both configurations have. The targets of routes are compared with the routes.

use std::collections::HashMap;

use super::change::{ChangeSubject, Changes, Direction};
use super::view::AccessView;
use crate::upstream::service::Upstream;
use crate::upstream::settings::UpstreamSettings;

pub(super) fn compare(old: &AccessView<'_>, new: &AccessView<'_>, changes: &mut Changes) {
    let before: HashMap<&str, &Upstream> =
        old.upstreams.iter().map(|upstream| (&*upstream.name, upstream.as_ref())).collect();
    for upstream in new.upstreams {
        if let Some(other) = before.get(&*upstream.name).filter(|other| !other.is_defined_as(upstream)) {
            compare_upstream(other, upstream, changes);
        }
    }
}

fn compare_upstream(old: &Upstream, new: &Upstream, changes: &mut Changes) {
    let name = &new.name;
    let subject = ChangeSubject::named(&["upstreams", name]);
    if old.servers != new.servers {
        changes.add(Direction::Changed, &subject, format!("upstream `{name}` has other servers"));
    }
    // The rest of the settings is about the connections to the servers.
    let UpstreamSettings {
        host,
        balance: _,
        connect_timeout: _,
        response_timeout: _,
        health_check: _,
        ejection: _,
        breaker: _,
        retries: _,
        slow_start: _,
        caps: _,
        keep_alive: _,
        answers: _,
        authorization,
        via: _,
    } = &new.settings;
    let is_other_host = old.settings.host != *host;
    let has_other_credential = old.settings.authorization != *authorization;
    if is_other_host {
        changes.add(Direction::Unclear, &subject, format!("upstream `{name}` gets another `Host`"));
    }
    if has_other_credential {
        let text = format!("upstream `{name}` gets another credential of the gateway");
        changes.add(Direction::Unclear, &subject, text);
    }
    if !is_other_host && !has_other_credential && old.servers == new.servers {
        changes.add(Direction::Changed, &subject, format!("upstream `{name}` has other settings"));
    }
}
