//! The stores that several replicas share.
//!
//! Passwords are not compared: another one decides about no request.

use std::time::Duration;

use super::bound::of_numbers;
use super::change::{ChangeSubject, Changes, Direction};
use super::view::AccessView;
use crate::store::settings::{InstanceSettings, OnLoss, PostgresSettings, RedisSettings, SharedSettings, StoreTls};

pub(super) fn compare(old: &AccessView<'_>, new: &AccessView<'_>, changes: &mut Changes) {
    let SharedSettings { redis, postgres, instance, on_loss } = new.shared;
    let (subject, mut changes) = (ChangeSubject::named(&["shared", "redis"]), SharedChanges { changes });
    match (&old.shared.redis, redis) {
        (None, None) => {}
        (None, Some(_)) => {
            let text = "shared.redis is new: replicas share revocations, and the uses of assertions and proofs";
            changes.changes.add(Direction::Narrower, &subject, text);
        }
        (Some(_), None) => {
            let text =
                "shared.redis is removed: each replica has its own revocations, and uses of assertions and proofs";
            changes.changes.add(Direction::Wider, &subject.of_old(), text);
        }
        // The other keys are about limits of Redis.
        (Some(before), Some(after)) => {
            changes.redis(before, after);
            changes.instance(&old.shared.instance, instance);
            changes.on_loss(old.shared.on_loss, *on_loss);
        }
    }
    changes.postgres(old.shared.postgres.as_ref(), postgres.as_ref());
}

struct SharedChanges<'c> {
    changes: &'c mut Changes,
}

impl SharedChanges<'_> {
    fn redis(&mut self, old: &RedisSettings, new: &RedisSettings) {
        let RedisSettings { host, port, database, tls, username, password: _, prefix, timeout } = new;
        if (&old.host, old.port, old.database, &old.prefix) != (host, *port, *database, prefix) {
            let text = "shared.redis is another store or prefix: the uses of assertions and proofs in the former one \
                        are not known there";
            self.add(Direction::Unclear, &["redis"], text);
        }
        if let Some(direction) = of_tls(&old.tls, tls) {
            let text = match tls {
                StoreTls::Plain => "shared.redis is reached in clear text",
                StoreTls::Verified(_) => "shared.redis is verified by other certificates",
            };
            self.add(direction, &["redis"], text);
        }
        if old.username != *username {
            self.add(Direction::Changed, &["redis", "username"], "shared.redis has another user");
        }
        if old.timeout != *timeout {
            let text = format!("shared.redis.timeout {} → {}", milliseconds(old.timeout), milliseconds(*timeout));
            self.add(Direction::Changed, &["redis", "timeout"], text);
        }
    }

    /// The clients and keys in it are not compared: they change without the configuration.
    fn postgres(&mut self, old: Option<&PostgresSettings>, new: Option<&PostgresSettings>) {
        let (old, new) = match (old, new) {
            (None, None) => return,
            (Some(old), Some(new)) => (old, new),
            // Clients and signing keys that are in it then, or no longer, are changes of their own.
            (None, Some(_)) => return self.add(Direction::Changed, &["postgres"], "shared.postgres is new"),
            (Some(_), None) => {
                let subject = ChangeSubject::named(&["shared", "postgres"]).of_old();
                return self.changes.add(Direction::Changed, &subject, "shared.postgres is removed");
            }
        };
        let PostgresSettings { url: _, ca, stale } = new;
        if old.url_without_password() != new.url_without_password() {
            let text = "shared.postgres.url names another database, user or protection: clients and keys may be others";
            self.add(Direction::Unclear, &["postgres", "url"], text);
        }
        if old.ca != *ca {
            self.add(Direction::Unclear, &["postgres", "ca"], "shared.postgres is verified by other certificates");
        }
        if let Some(direction) = of_numbers(&old.stale, stale) {
            let [before, after] = [old.stale, *stale].map(|stale| stale.as_secs());
            let text = format!("known clients go on without shared.postgres for {after}s, before {before}s");
            self.add(direction, &["postgres", "stale"], text);
        }
    }

    fn instance(&mut self, old: &InstanceSettings, new: &InstanceSettings) {
        // The name is a label in records.
        let InstanceSettings { name: _, most, heartbeat } = new;
        // A replica that never reached the store takes this part of a limit.
        if let Some(direction) = of_numbers(most, &old.most) {
            let text = format!("shared.instance.most {} → {most}, by which limits are divided at first", old.most);
            self.add(direction, &["instance", "most"], text);
        }
        // A longer one lets a share that was cut off come on top for longer, and counts silent replicas for longer.
        if old.heartbeat != *heartbeat {
            let [before, after] = [old.heartbeat, *heartbeat].map(|heartbeat| heartbeat.as_secs());
            let text = format!("shared.instance.heartbeat {before}s → {after}s");
            self.add(Direction::Unclear, &["instance", "heartbeat"], text);
        }
    }

    fn on_loss(&mut self, old: OnLoss, new: OnLoss) {
        if let Some(direction) = of_numbers(&allowance(old), &allowance(new)) {
            let text = format!("while shared.redis is unreachable, {}, before {}", loss_text(new), loss_text(old));
            self.add(direction, &["on_loss"], text);
        }
    }

    fn add(&mut self, direction: Direction, keys: &[&str], text: impl AsRef<str>) {
        self.changes.add(direction, &ChangeSubject::named(&[&["shared"], keys].concat()), text);
    }
}

/// `None` if nothing changes. Without TLS a machine on the way can change what the store says.
fn of_tls(old: &StoreTls, new: &StoreTls) -> Option<Direction> {
    match (old, new) {
        (StoreTls::Plain, StoreTls::Plain) => None,
        (StoreTls::Plain, StoreTls::Verified(_)) => Some(Direction::Changed),
        (StoreTls::Verified(_), StoreTls::Plain) => Some(Direction::Unclear),
        (StoreTls::Verified(before), StoreTls::Verified(after)) => (before != after).then_some(Direction::Unclear),
    }
}

/// More lets more requests through.
fn allowance(on_loss: OnLoss) -> u8 {
    match on_loss {
        OnLoss::Deny => 0,
        OnLoss::Share => 1,
        OnLoss::Local => 2,
    }
}

fn loss_text(on_loss: OnLoss) -> &'static str {
    match on_loss {
        OnLoss::Deny => "shared limits refuse everything",
        OnLoss::Share => "each replica has its share of a limit",
        OnLoss::Local => "each replica has the whole limit",
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{}ms", time.as_millis())
}
