//! `shared`: the stores that replicas share.

use std::path::PathBuf;
use std::time::Duration;

use super::super::decode::{Required, mirror};
use super::super::source::At;
use super::super::values::{Period, PositiveCount, count, seconds};
use super::super::word::Word;
use super::oauth::Secret;
use crate::store::settings::OnLoss;

mirror! {
    struct RawShared {
        /// Rate limits, revocations, used assertions and DPoP proofs. Default: each gateway has its own.
        redis: Option<At<RawRedis>>,
        /// Clients and signing keys.
        postgres: Option<At<RawPostgres>>,
        /// The name of this gateway, and the number of its replicas.
        instance: RawInstance,
        /// The rate limits while Redis is unreachable.
        on_loss: At<OnLoss> = OnLoss::Share,
    }
}

mirror! {
    struct RawRedis {
        /// `redis://HOST:PORT/DATABASE`, or `rediss:` for TLS.
        url: Required<String>,
        /// The certificates that verify the server. Default: those of the system.
        ca: Option<At<PathBuf>>,
        /// The user of the access control list. Default: `default`.
        username: Option<At<String>>,
        password: Option<At<Secret>>,
        /// The prefix of all keys in Redis.
        prefix: At<String> = "portcullis".to_owned(),
        /// For one call.
        timeout: At<Duration> = Duration::from_millis(50),
    }
}

mirror! {
    struct RawPostgres {
        /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=…`, from a variable or a file.
        url: Required<Secret>,
        /// The certificates that verify the server. Default: those of the system.
        ca: Option<At<PathBuf>>,
        /// The time for which cached clients stay valid while the database is unreachable.
        stale: At<Period> = seconds(3600),
    }
}

mirror! {
    struct RawInstance {
        /// Names this gateway in its records. Default: the name of the host.
        name: Option<At<String>>,
        /// The maximum number of replicas.
        most: At<PositiveCount> = count(64),
        /// A replica without a heartbeat for this time is not counted as alive.
        heartbeat: At<Period> = seconds(3),
    }
}

impl Word for OnLoss {
    fn words() -> Vec<(&'static str, Self)> {
        vec![("share", Self::Share), ("local", Self::Local), ("deny", Self::Deny)]
    }
}
