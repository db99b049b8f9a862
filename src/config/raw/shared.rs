//! `shared`: the engines by which several gateways are one.

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
        /// Rate limits, revocations and what may be used once. Default: each gateway has its own.
        redis: Option<At<RawRedis>>,
        /// Clients and signing keys.
        postgres: Option<At<RawPostgres>>,
        /// This gateway among its replicas.
        instance: RawInstance,
        /// The behaviour of rate limits without their store.
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
        /// The beginning of all its keys.
        prefix: At<String> = "portcullis".to_owned(),
        /// For one exchange.
        timeout: At<Duration> = Duration::from_millis(50),
    }
}

mirror! {
    struct RawPostgres {
        /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=…`, from a variable or a file.
        url: Required<Secret>,
        /// The certificates that verify the server. Default: those of the system.
        ca: Option<At<PathBuf>>,
        /// How long known clients go on without the database.
        stale: At<Period> = seconds(3600),
    }
}

mirror! {
    struct RawInstance {
        /// Names this gateway in its records. Default: the name of the host.
        name: Option<At<String>>,
        /// The replicas that are counted at most.
        most: At<PositiveCount> = count(64),
        /// A replica that has not been heard of for this time is not counted as alive.
        heartbeat: At<Period> = seconds(3),
    }
}

impl Word for OnLoss {
    fn words() -> Vec<(&'static str, Self)> {
        vec![("share", Self::Share), ("local", Self::Local), ("deny", Self::Deny)]
    }
}
