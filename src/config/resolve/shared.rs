//! `shared`: the stores that replicas share.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::super::lint::Lint;
use super::super::raw::oauth::Secret;
use super::super::raw::shared::{RawInstance, RawPostgres, RawRedis, RawShared};
use super::super::source::At;
use super::Resolver;
use crate::store::postgres_address::PostgresUrlFacts;
use crate::store::settings::{
    InstanceSettings, PostgresSettings, RedisSettings, SharedSettings, StoreSecret, StoreTls,
};

const REDIS_PORT: u16 = 6379;
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(5);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(5);
const SHORTEST_HEARTBEAT: Duration = Duration::from_secs(1);
const LONGEST_HEARTBEAT: Duration = Duration::from_secs(60);
/// The largest number of replicas by which a limit is divided.
const MOST_REPLICAS: u32 = 1024;
const LONGEST_PREFIX: usize = 64;
const LONGEST_NAME: usize = 128;

impl Resolver<'_> {
    pub(super) fn shared(&mut self, raw: RawShared) -> SharedSettings {
        let redis = raw.redis.and_then(|redis| self.redis(redis.value));
        let postgres = raw.postgres.and_then(|postgres| self.postgres(postgres.value));
        SharedSettings { redis, postgres, instance: self.instance(raw.instance), on_loss: raw.on_loss.value }
    }

    fn redis(&mut self, raw: RawRedis) -> Option<RedisSettings> {
        let RawRedis { url, ca, username, password, prefix, timeout } = raw;
        if !(SHORTEST_TIMEOUT..=LONGEST_TIMEOUT).contains(&timeout.value) {
            let got = self.got(&timeout);
            self.faults.at(timeout.span, format!("expected `5ms` to `5s`{got}"));
        }
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
        if prefix.value.is_empty() || prefix.value.len() > LONGEST_PREFIX || !prefix.value.chars().all(is_allowed) {
            let got = self.got(&prefix);
            let message = format!("expected 1 to {LONGEST_PREFIX} letters, digits, `-`, `_`, `.` and `:`{got}");
            self.faults.at(prefix.span, message);
        }
        if let Some(password) = &password {
            self.must_be_kept_apart(password, password.value.is_literal());
        }
        if let Some(username) = &username {
            self.redis_username(username, password.is_some());
        }
        let parsed = url.as_ref().ok().and_then(|url| self.redis_url(url));
        let is_plain = parsed.as_ref().is_some_and(|(url, _)| url.scheme() == "redis");
        let ca = ca.and_then(|ca| if is_plain { self.useless_ca(&ca) } else { self.store_ca(&ca) });
        let (url, (parsed, database)) = (url.ok()?, parsed?);
        let settings = RedisSettings {
            host: parsed.host_str()?.trim_matches(['[', ']']).to_owned(),
            port: parsed.port().unwrap_or(REDIS_PORT),
            database,
            tls: if is_plain { StoreTls::Plain } else { StoreTls::Verified(ca) },
            username: username.map(|username| username.value),
            password: password.map(|password| StoreSecret::new(password.value.expose())),
            prefix: prefix.value,
            timeout: timeout.value,
        };
        if settings.is_exposed() {
            let message = "the store is reached in clear text: a machine on the way can read the password, change limits and \
                           undo revocations; write `rediss:`, or use a server on this machine";
            self.warn(Lint::ClearTextStore, url.span, message);
        }
        Some(settings)
    }

    /// The URL, and the number of the database.
    fn redis_url(&mut self, url: &At<String>) -> Option<(Url, i64)> {
        let parsed = Url::parse(&url.value).ok();
        if parsed.as_ref().is_some_and(|url| !url.username().is_empty() || url.password().is_some()) {
            let message = "the URL has a user or a password: move them to `username` and `password`, keys of their own";
            self.faults.at(url.span, message);
            return None;
        }
        let parsed = parsed.filter(|url| matches!(url.scheme(), "redis" | "rediss") && url.has_host());
        let parsed = parsed.filter(|url| url.query().is_none() && url.fragment().is_none());
        let found = parsed.and_then(|url| database(&url).map(|number| (url, number)));
        if found.is_none() {
            let got = self.got(url);
            let message = format!(
                "expected `redis://HOST`, `redis://HOST:PORT` or `redis://HOST:PORT/NUMBER`, with `rediss:` for TLS{got}"
            );
            self.faults.at(url.span, message);
        }
        found
    }

    /// A user is named at the login only, which needs a password.
    fn redis_username(&mut self, username: &At<String>, has_password: bool) {
        if username.value.is_empty() {
            self.faults.at(username.span, "this text is empty");
        } else if !has_password {
            self.faults.at(username.span, "`username` has no effect without `password`: add it, or remove `username`");
        }
    }

    fn useless_ca(&mut self, ca: &At<PathBuf>) -> Option<Vec<u8>> {
        self.faults.at(ca.span, "`ca` has no effect without TLS: write `rediss:` in `url`, or remove it");
        None
    }

    fn postgres(&mut self, raw: RawPostgres) -> Option<PostgresSettings> {
        let RawPostgres { url, ca, stale } = raw;
        let ca = ca.and_then(|ca| self.store_ca(&ca));
        let url = url.ok()?;
        self.postgres_url(&url);
        Some(PostgresSettings { url: StoreSecret::new(url.value.expose()), ca, stale: stale.value.get() })
    }

    /// Never shows the URL, which may have a password.
    fn postgres_url(&mut self, url: &At<Secret>) {
        if url.value.is_absent() {
            return;
        }
        let facts = match PostgresUrlFacts::of(url.value.expose()) {
            Ok(facts) => facts,
            Err(fault) => {
                self.faults.at(url.span, fault.to_string());
                return;
            }
        };
        if facts.has_password {
            self.must_be_kept_apart(url, url.value.is_literal());
        }
        if facts.is_exposed {
            let message = "the database is reached in clear text: a machine on the way can read and change clients and keys; \
                           write `sslmode=verify-full`, or use a server on this machine";
            self.warn(Lint::ClearTextStore, url.span, message);
        }
    }

    /// The certificates of a file, in PEM.
    fn store_ca(&mut self, file: &At<PathBuf>) -> Option<Vec<u8>> {
        self.authorities(file).map(|(pem, _)| pem)
    }

    fn instance(&mut self, raw: RawInstance) -> InstanceSettings {
        let RawInstance { name, most, heartbeat } = raw;
        if !(SHORTEST_HEARTBEAT..=LONGEST_HEARTBEAT).contains(&heartbeat.value.get()) {
            let got = self.got(&heartbeat);
            self.faults.at(heartbeat.span, format!("expected `1s` to `1m`{got}"));
        }
        let most = self.count_up_to(&most, MOST_REPLICAS);
        if let Some(name) = name.as_ref().filter(|name| !is_name(&name.value)) {
            let got = self.got(name);
            let message = format!("expected 1 to {LONGEST_NAME} printable characters of ASCII without spaces{got}");
            self.faults.at(name.span, message);
        }
        let name = name.map_or_else(host_name, |name| name.value);
        InstanceSettings { name, most: u32::try_from(most).unwrap_or(MOST_REPLICAS), heartbeat: heartbeat.value.get() }
    }
}

/// `None` unless it is empty or a number.
fn database(url: &Url) -> Option<i64> {
    match url.path().trim_start_matches('/') {
        "" => Some(0),
        number => number.parse().ok().filter(|number| (0..=i64::from(u16::MAX)).contains(number)),
    }
}

fn is_name(text: &str) -> bool {
    (1..=LONGEST_NAME).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if is_name(&name) { name } else { "gateway".to_owned() }
}
