//! One look at Redis or Valkey, for `check --connect`: whether a gateway could use it.

use std::sync::LazyLock;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, InfoDict, Script};
use tokio::runtime::Handle;

use super::redis_store::{CallFault, RedisSetupError, RedisStore, invoke_on, within};
use super::replica_id::random_id;
use super::settings::RedisSettings;

/// Why a gateway could not use the store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RedisCheckError {
    #[error(transparent)]
    Setup(#[from] RedisSetupError),
    #[error("Redis refuses the user or the password")]
    Login,
    #[error("cannot connect")]
    Connect(#[source] CallFault),
    #[error("cannot use the connection")]
    Call(#[source] CallFault),
    #[error("Redis answers later than {}ms", .0.as_millis())]
    Slow(Duration),
    #[error("the server is {0}")]
    TooOld(String),
    #[error("Redis refuses {commands}: {why}")]
    Refused { commands: String, why: String },
}

/// For the script that tries the commands.
const TRY_TIMEOUT: Duration = Duration::from_secs(2);
const OLDEST_VERSION: u32 = 6;

static CHECK: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("check.lua")));

/// The name and the version of the server, as far as its user may ask for them.
pub(crate) async fn check(settings: &RedisSettings) -> Result<String, RedisCheckError> {
    let store = RedisStore::new(settings, &Handle::current())?;
    let connection = store.connect().await.map_err(of_connecting)?;
    store.ping(&connection).await.map_err(|fault| match fault {
        CallFault::TimedOut(limit) => RedisCheckError::Slow(limit),
        refused @ CallFault::Redis(_) => RedisCheckError::Call(refused),
    })?;
    let server = server(&connection).await?;
    try_commands(&store, connection).await?;
    Ok(server)
}

fn of_connecting(fault: CallFault) -> RedisCheckError {
    match fault {
        refused if refused.is_refused_login() => RedisCheckError::Login,
        other => RedisCheckError::Connect(other),
    }
}

async fn server(connection: &MultiplexedConnection) -> Result<String, RedisCheckError> {
    let mut connection = connection.clone();
    let mut info = redis::cmd("INFO");
    match within(TRY_TIMEOUT, info.arg("server").query_async::<InfoDict>(&mut connection)).await {
        Ok(info) => server_name(info.get("redis_version"), info.get("valkey_version")),
        // Its users may lack the right.
        Err(CallFault::Redis(error)) if matches!(error.kind(), ErrorKind::Server(_)) => {
            Ok("unknown version".to_owned())
        }
        Err(fault) => Err(RedisCheckError::Call(fault)),
    }
}

/// Valkey names the version of Redis that it is like, too.
fn server_name(redis: Option<String>, valkey: Option<String>) -> Result<String, RedisCheckError> {
    let major = redis.as_deref().and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    let name = match (valkey, redis) {
        (Some(version), _) => format!("Valkey {version}"),
        (None, Some(version)) => format!("Redis {version}"),
        (None, None) => "unknown version".to_owned(),
    };
    if major.is_some_and(|major| major < OLDEST_VERSION) {
        return Err(RedisCheckError::TooOld(name));
    }
    Ok(name)
}

async fn try_commands(store: &RedisStore, connection: MultiplexedConnection) -> Result<(), RedisCheckError> {
    let keys = vec![store.key(&format!("check:{}", random_id()))];
    let answered = within(TRY_TIMEOUT, invoke_on::<Vec<String>>(connection, &CHECK, keys, Vec::new())).await;
    let refused = answered.map_err(|fault| match fault {
        CallFault::Redis(error) if error.code() == Some("NOPERM") => {
            RedisCheckError::Refused { commands: "a script".to_owned(), why: error.to_string() }
        }
        other => RedisCheckError::Call(other),
    })?;
    let Some(why) = refused.get(1).cloned() else { return Ok(()) };
    let commands: Vec<String> = refused.iter().step_by(2).map(|command| format!("`{command}`")).collect();
    Err(RedisCheckError::Refused { commands: commands.join(", "), why })
}

impl RedisCheckError {
    /// The correction.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::Setup(_) | Self::Connect(_) | Self::Call(_) => {
                "check that the server runs, and `shared.redis.url` and `ca`"
            }
            Self::Login => "check `shared.redis.username` and `password`",
            Self::Slow(_) => "raise `shared.redis.timeout`, or use a server that is nearer",
            Self::TooOld(_) => "use Redis 6 or later, or Valkey",
            Self::Refused { .. } => {
                "use a server that can be written, and give the user all commands of the gateway, for keys of \
                 `shared.redis.prefix`"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_command_that_is_documented_or_used_is_tried() {
        let page = include_str!("../../docs/how-to/run-many-replicas.md");
        let rights = page.lines().find(|line| line.trim_start().starts_with("user portcullis")).unwrap();
        // Of the connection and of scripts themselves.
        let others = ["@connection", "info", "eval", "evalsha", "script|load"];
        let documented: BTreeSet<&str> = rights.split(" +").skip(1).filter(|right| !others.contains(right)).collect();
        let named = |text: &str, call: &str| -> BTreeSet<String> {
            text.split(call).skip(1).map(|rest| rest.split('\'').next().unwrap().to_lowercase()).collect()
        };
        let tried = named(include_str!("check.lua"), "try('");
        assert_eq!(tried.iter().map(String::as_str).collect::<BTreeSet<_>>(), documented);
        let scripts =
            [include_str!("heartbeat.lua"), include_str!("revocations.lua"), include_str!("leases/lease.lua")];
        for used in scripts.iter().flat_map(|script| named(script, "redis.call('")) {
            assert!(tried.contains(&used), "{used}");
        }
    }

    #[test]
    fn old_servers_are_refused_and_valkey_is_named() {
        let of = |redis: Option<&str>, valkey: Option<&str>| {
            let name = server_name(redis.map(str::to_owned), valkey.map(str::to_owned));
            name.map_err(|error| error.to_string())
        };
        assert_eq!(of(Some("7.2.4"), Some("8.0.1")), Ok("Valkey 8.0.1".to_owned()));
        assert_eq!(of(Some("6.0.16"), None), Ok("Redis 6.0.16".to_owned()));
        assert_eq!(of(Some("5.0.14"), None), Err("the server is Redis 5.0.14".to_owned()));
        assert_eq!(of(None, None), Ok("unknown version".to_owned()));
    }
}
