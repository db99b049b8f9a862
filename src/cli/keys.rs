//! `portcullis keys`: lists the signing keys, and changes them.
//!
//! Works on the folder of the keys, or on their database. A running gateway notices a change within a second.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use super::terminal::{BOLD, DIM, GOOD, NAME, bad_config, failed, note, out, styled};
use super::{ConfigPath, Format, USAGE};
use crate::clock::{self, UnixTime};
use crate::config;
use crate::config::interpolate::Surroundings;
use crate::config::needs::Needs;
use crate::issuer::ring::Ring;
use crate::issuer::ring_database::{self, DatabaseRingError};
use crate::issuer::ring_store::{self, RingChange, RingSettings};
use crate::issuer::rotation::{self, KeyRecord};
use crate::issuer::wrapping_key::WrappingKeys;
use crate::store::database::Database;
use crate::store::postgres::PostgresStore;

#[derive(Debug, Subcommand)]
pub(super) enum KeysVerb {
    /// Show every key: the one that signs, the next one, and those kept until their tokens have expired
    List(ListArgs),
    /// Create the next key
    #[command(after_help = ROTATE_HELP)]
    Rotate {
        #[command(flatten)]
        config: ConfigPath,
        /// Sign with it at once, for example if the key in use may have leaked
        #[arg(long)]
        now: bool,
    },
    /// Refuse the tokens of a key, and delete it
    #[command(after_help = RETIRE_HELP)]
    Retire {
        #[command(flatten)]
        config: ConfigPath,
        /// The key id, as `keys list` shows it
        #[arg(value_name = "KID", allow_hyphen_values = true)]
        key_id: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    config: ConfigPath,
    /// The form of the output: text for people, JSON for programs
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

const ROTATE_HELP: &str = "\
The new key is published first. It signs once every verifier must have fetched the new JWK Set. The old key stays published \
until its last token has expired: no token fails.

With --now the new key signs at once. A verifier that does not fetch the JWK Set again for an unknown key id refuses its \
tokens for a while.";

const RETIRE_HELP: &str = "\
Every token that the key has signed is refused from then on. For a key that leaked:
  portcullis keys rotate --now
  portcullis keys retire KID";

pub(super) fn keys(verb: &KeysVerb) -> ExitCode {
    let (KeysVerb::List(ListArgs { config, .. }) | KeysVerb::Rotate { config, .. } | KeysVerb::Retire { config, .. }) =
        verb;
    let ring = match config::load_ring(&config.config, &Surroundings::process()) {
        Ok(Some(ring)) => ring,
        Ok(None) => {
            note(format_args!("{} issues no tokens: it has no `oauth`", config.config.display()));
            return ExitCode::from(USAGE);
        }
        Err(errors) => return bad_config(&errors),
    };
    let now = clock::now();
    let ring = match KeyRing::open(ring, config) {
        Ok(ring) => ring,
        Err(code) => return code,
    };
    match verb {
        KeysVerb::List(args) => list(&ring, args.format, now),
        KeysVerb::Rotate { now: at_once, .. } => change(&ring, &RingChange::Rotate { at_once: *at_once }, now),
        KeysVerb::Retire { key_id, .. } => change(&ring, &RingChange::Retire { key_id }, now),
    }
}

/// The ring of the configuration: in its folder, or in a database.
enum KeyRing {
    Files(RingSettings),
    Database { settings: RingSettings, keys: WrappingKeys, database: Database, runtime: Runtime },
}

impl KeyRing {
    fn open(settings: RingSettings, config: &ConfigPath) -> Result<Self, ExitCode> {
        let Some(keys) = settings.wrapping_keys.clone() else { return Ok(Self::Files(settings)) };
        let loaded = config::load_part(&config.config, Needs::STORES, &Surroundings::process());
        let shared = loaded.map_err(|errors| bad_config(&errors))?.shared;
        let Some(postgres) = shared.postgres else {
            note(format_args!("{} has no database: set `shared.postgres`", config.config.display()));
            return Err(ExitCode::from(USAGE));
        };
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|error| failed(&error))?;
        let store = runtime.block_on(PostgresStore::open_now(&postgres, runtime.handle()));
        let database = Database::Postgres(store.map_err(|error| failed(&error))?);
        Ok(Self::Database { settings, keys, database, runtime })
    }

    fn read(&self) -> Result<Option<Ring>, DatabaseRingError> {
        match self {
            Self::Files(settings) => Ok(ring_store::peek(settings)?),
            Self::Database { settings, keys, database, runtime } => {
                runtime.block_on(ring_database::read(database, (settings, keys))).map(Some)
            }
        }
    }

    fn change(&self, change: &RingChange<'_>, now: UnixTime) -> Result<Ring, DatabaseRingError> {
        match self {
            Self::Files(settings) => Ok(ring_store::change(settings, change, now)?),
            Self::Database { settings, keys, database, runtime } => {
                let changed = ring_database::change(database, (settings, keys), Some(change), now);
                runtime.block_on(changed).map(|(_, after)| after)
            }
        }
    }
}

fn list(ring: &KeyRing, format: Format, now: UnixTime) -> ExitCode {
    let ring = match ring.read() {
        Ok(ring) => ring,
        Err(error) => return failed(&error),
    };
    ring.iter().flat_map(Ring::left_aside).for_each(|fault| note(format_args!("not used: {fault}")));
    let records = ring.as_ref().map(Ring::records).unwrap_or_default();
    match format {
        Format::Json => {
            out(json!({ "keys": in_order(records).map(|key| as_json(records, key, now)).collect::<Vec<_>>() }))
        }
        Format::Text if records.is_empty() => note("there are no keys yet: `portcullis run` creates the first"),
        Format::Text => table(records, now),
    }
    ExitCode::SUCCESS
}

fn change(ring: &KeyRing, change: &RingChange<'_>, now: UnixTime) -> ExitCode {
    let before = ring.read().ok().flatten();
    let before = before.as_ref().map(Ring::records).unwrap_or_default();
    match ring.change(change, now) {
        Ok(ring) => {
            table(ring.records(), now);
            note("");
            effects(before, ring.records(), now).into_iter().for_each(note);
            note(styled(DIM, "A running gateway uses these keys within a second."));
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error),
    }
}

/// The effect of a change on signing, one line for each key concerned.
fn effects(before: &[KeyRecord], after: &[KeyRecord], now: UnixTime) -> Vec<String> {
    let is_new = |record: &&KeyRecord| before.iter().all(|known| known.key_id != record.key_id);
    let mut lines = Vec::new();
    for new in after.iter().filter(is_new) {
        if new.signs_from <= now {
            lines.push(format!("Key {} is new and signs from now on.", new.key_id));
        } else {
            lines.push(format!("Key {} is new and signs from {}.", new.key_id, in_seconds(new.signs_from)));
        }
        let waited = before.iter().filter(|record| record.signs_from > now && record.signs_from <= new.signs_from);
        for record in waited {
            let (id, from, to) = (&record.key_id, in_seconds(record.signs_from), in_seconds(new.signs_from));
            lines.push(match from == to {
                true => format!("Key {id} was the next one already. It will not sign: the new key replaces it."),
                false => format!("Key {id} was the next one already. It signs only from {from} to {to}."),
            });
        }
    }
    lines
}

/// The use of a key at a given time.
#[derive(Clone, Copy)]
enum KeyUse {
    Signing,
    Next,
    Retiring,
}

fn state(records: &[KeyRecord], record: &KeyRecord, now: UnixTime) -> KeyUse {
    if rotation::signer(records, now) == Some(record) {
        KeyUse::Signing
    } else if record.signs_from > now {
        KeyUse::Next
    } else {
        KeyUse::Retiring
    }
}

impl KeyUse {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Signing => "signing",
            Self::Next => "next",
            Self::Retiring => "retiring",
        }
    }
}

fn in_order(records: &[KeyRecord]) -> impl Iterator<Item = &KeyRecord> {
    let mut sorted: Vec<_> = records.iter().collect();
    sorted.sort_by_key(|record| record.signs_from);
    sorted.into_iter()
}

fn as_json(records: &[KeyRecord], record: &KeyRecord, now: UnixTime) -> Value {
    json!({
        "kid": record.key_id,
        "alg": record.algorithm.as_str(),
        "state": state(records, record, now).as_str(),
        "made_at": record.made_at.to_string(),
        "signs_from": record.signs_from.to_string(),
        "retires_at": rotation::retires_at(records, &record.key_id).map(|at| at.to_string()),
    })
}

fn table(records: &[KeyRecord], now: UnixTime) {
    out(styled(BOLD, format_args!("{:<8}  {:<43}  {:<5}  {:<20}  RETIRES", "STATE", "KID", "ALG", "SIGNS FROM")));
    for record in in_order(records) {
        let state = state(records, record, now);
        let style = match state {
            KeyUse::Signing => GOOD,
            KeyUse::Next => NAME,
            KeyUse::Retiring => DIM,
        };
        let retires = rotation::retires_at(records, &record.key_id).map(in_seconds).unwrap_or_default();
        let line = format!(
            "{}  {:<43}  {:<5}  {:<20}  {retires}",
            styled(style, format_args!("{:<8}", state.as_str())),
            record.key_id,
            record.algorithm.as_str(),
            in_seconds(record.signs_from),
        );
        out(line.trim_end());
    }
}

/// RFC 3339 without the milliseconds.
fn in_seconds(time: UnixTime) -> String {
    let text = time.to_string();
    text.split_once('.').map_or_else(|| text.clone(), |(seconds, _)| format!("{seconds}Z"))
}
