//! The settings of the stores that replicas share.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use url::Url;
use zeroize::Zeroizing;

/// The settings of `shared`. A change needs a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SharedSettings {
    pub(crate) redis: Option<RedisSettings>,
    pub(crate) postgres: Option<PostgresSettings>,
    pub(crate) instance: InstanceSettings,
    pub(crate) on_loss: OnLoss,
}

impl SharedSettings {
    /// These settings without passwords, so that a reload with a new password is not refused.
    pub(crate) fn without_secrets(&self) -> Self {
        let redis = self.redis.clone().map(|redis| RedisSettings { password: None, ..redis });
        let postgres = self.postgres.clone();
        let postgres = postgres.map(|postgres| PostgresSettings { url: postgres.url_without_password(), ..postgres });
        Self { redis, postgres, ..self.clone() }
    }

    /// The keys of the configuration that differ. Without passwords.
    pub(crate) fn changed_keys(&self, other: &Self) -> Vec<&'static str> {
        let Self { redis, postgres, instance, on_loss } = other;
        let mut changed = match (&self.redis, redis) {
            (None, None) => Vec::new(),
            (Some(old), Some(new)) => old.changed_keys(new),
            (None, Some(_)) | (Some(_), None) => vec!["shared.redis"],
        };
        match (&self.postgres, postgres) {
            (None, None) => {}
            (Some(old), Some(new)) => changed.extend(old.changed_keys(new)),
            (None, Some(_)) | (Some(_), None) => changed.push("shared.postgres"),
        }
        let InstanceSettings { name, most, heartbeat } = instance;
        changed.extend(keys_of([
            ("shared.instance.name", self.instance.name != *name),
            ("shared.instance.most", self.instance.most != *most),
            ("shared.instance.heartbeat", self.instance.heartbeat != *heartbeat),
            ("shared.on_loss", self.on_loss != *on_loss),
        ]));
        changed
    }
}

fn keys_of<const N: usize>(keys: [(&'static str, bool); N]) -> impl Iterator<Item = &'static str> {
    keys.into_iter().filter(|(_, is_changed)| *is_changed).map(|(key, _)| key)
}

/// One server of Redis or Valkey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RedisSettings {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) database: i64,
    pub(crate) tls: StoreTls,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<StoreSecret>,
    /// The prefix of all keys.
    pub(crate) prefix: String,
    /// For one call.
    pub(crate) timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PostgresSettings {
    /// With user and password.
    pub(crate) url: StoreSecret,
    /// The certificates that verify the server, in PEM. `None`: those of the system.
    pub(crate) ca: Option<Vec<u8>>,
    /// How long cached clients stay valid while the database is unreachable.
    pub(crate) stale: Duration,
}

/// How a connection to a store is protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StoreTls {
    /// In clear text.
    Plain,
    /// Verified by these certificates, in PEM. `None`: by those of the system.
    Verified(Option<Vec<u8>>),
}

/// The name of this replica, and the rules by which replicas are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InstanceSettings {
    /// A label. In the stores a replica is a random id.
    pub(crate) name: String,
    /// The maximum number of replicas.
    pub(crate) most: u32,
    /// A replica without a heartbeat for this time is not counted as alive.
    pub(crate) heartbeat: Duration,
}

impl RedisSettings {
    /// `HOST:PORT`, without user and password.
    pub(crate) fn server(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    fn changed_keys(&self, other: &Self) -> Vec<&'static str> {
        let Self { host, port, database, tls, username, password: _, prefix, timeout } = other;
        let place = (&self.host, self.port, self.database, self.tls == StoreTls::Plain);
        let is_moved = place != (host, *port, *database, *tls == StoreTls::Plain);
        keys_of([
            ("shared.redis.url", is_moved),
            ("shared.redis.ca", !is_moved && self.tls != *tls),
            ("shared.redis.username", self.username != *username),
            ("shared.redis.prefix", self.prefix != *prefix),
            ("shared.redis.timeout", self.timeout != *timeout),
        ])
        .collect()
    }

    /// Whether a machine on the way can read and change what is sent.
    pub(crate) fn is_exposed(&self) -> bool {
        self.tls == StoreTls::Plain && !is_loopback(&self.host)
    }
}

impl PostgresSettings {
    fn changed_keys(&self, other: &Self) -> Vec<&'static str> {
        let Self { url: _, ca, stale } = other;
        keys_of([
            ("shared.postgres.url", self.url_without_password() != other.url_without_password()),
            ("shared.postgres.ca", self.ca != *ca),
            ("shared.postgres.stale", self.stale != *stale),
        ])
        .collect()
    }

    /// Also without a password in the query, where libpq takes one too.
    pub(crate) fn url_without_password(&self) -> StoreSecret {
        let Ok(mut url) = Url::parse(self.url.expose()) else { return self.url.clone() };
        // Fails for a URL that has no password.
        let _ = url.set_password(None);
        let (others, passwords): (Vec<_>, Vec<_>) =
            url.query_pairs().into_owned().partition(|(name, _)| name != "password");
        if !passwords.is_empty() {
            url.set_query(None);
            url.query_pairs_mut().extend_pairs(others);
        }
        StoreSecret::new(url.as_str())
    }
}

/// Whether connections to this host stay on the machine.
pub(super) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|ip: IpAddr| ip.to_canonical().is_loopback())
}

/// The rate limits while their store is unreachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnLoss {
    /// Each replica takes its share of the limit.
    Share,
    /// Each replica takes the whole limit.
    Local,
    /// Every request that a limit counts is refused.
    Deny,
}

/// A text that is wiped when dropped and never printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct StoreSecret(Zeroizing<String>);

impl StoreSecret {
    pub(crate) fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for StoreSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreSecret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str) -> SharedSettings {
        let postgres = PostgresSettings { url: StoreSecret::new(url), ca: None, stale: Duration::from_secs(3600) };
        let instance = InstanceSettings { name: "i".to_owned(), most: 64, heartbeat: Duration::from_secs(3) };
        SharedSettings { redis: None, postgres: Some(postgres), instance, on_loss: OnLoss::Share }
    }

    #[test]
    fn changed_keys_are_named() {
        let redis = |host: &str, tls| RedisSettings {
            host: host.to_owned(),
            port: 6379,
            database: 0,
            tls,
            username: None,
            password: Some(StoreSecret::new(host)),
            prefix: "portcullis".to_owned(),
            timeout: Duration::from_millis(50),
        };
        let with = |redis: Option<RedisSettings>| SharedSettings { redis, ..settings("postgres://a:one@db/x") };
        let old = with(Some(redis("a", StoreTls::Plain)));
        let changed = |new: &SharedSettings| old.changed_keys(new);
        assert!(changed(&with(Some(redis("a", StoreTls::Plain)))).is_empty());
        assert_eq!(changed(&with(Some(redis("b", StoreTls::Verified(None))))), ["shared.redis.url"]);
        assert_eq!(changed(&with(None)), ["shared.redis"]);
        let secure = with(Some(redis("a", StoreTls::Verified(None))));
        assert_eq!(
            secure.changed_keys(&with(Some(redis("a", StoreTls::Verified(Some(vec![1])))))),
            ["shared.redis.ca"]
        );
        let mut new = old.clone();
        (new.on_loss, new.instance.most) = (OnLoss::Deny, 2);
        new.postgres = settings("postgres://a:two@other/x").postgres;
        assert_eq!(changed(&new), ["shared.postgres.url", "shared.instance.most", "shared.on_loss"]);
        assert!(changed(&SharedSettings { postgres: None, ..old.clone() }) == ["shared.postgres"]);
    }

    #[test]
    fn another_password_is_not_another_store() {
        let kept = |url| settings(url).without_secrets();
        assert_eq!(kept("postgres://a:one@db/x"), kept("postgres://a:two@db/x"));
        assert_eq!(kept("postgres://a@db/x?password=one"), kept("postgres://a@db/x?password=two"));
        assert_ne!(kept("postgres://a@db/x?password=one&port=1"), kept("postgres://a@db/x?password=one&port=2"));
        assert_ne!(kept("postgres://a:one@db/x"), kept("postgres://b:one@db/x"));
        assert_ne!(kept("postgres://a:one@db/x"), kept("postgres://a:one@other/x"));
    }
}
