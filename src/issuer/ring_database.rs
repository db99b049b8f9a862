//! The signing-key ring in a database that replicas share.
//!
//! One gateway at a time changes the ring, under a lock of the database. The interval in which a key signs is fixed at
//! its creation, so a gateway that cannot read the ring may sign with the keys that it knows. A row that cannot be
//! decrypted, or whose key does not match its id, makes the new ring unusable. Then the known ring stays in use.

use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::new_key::{self, NewKey};
use super::ring::{Ring, RingKey};
use super::ring_files::RingError;
use super::ring_store::{RingChange, RingSettings};
use super::rotation::{self, KeyRecord, MAX_PUBLISHED, SigningEnd};
use super::wrapping_key::{WrappedKey, WrappingFault, WrappingKeys};
use crate::clock::UnixTime;
use crate::jose::algorithm::Algorithm;
use crate::jose::signing::SigningKey;
use crate::store::database::Database;
use crate::store::key_table::{self, KeyRow, KeyTableChange};
use crate::store::sql::DatabaseError;

#[derive(Debug, thiserror::Error)]
pub(crate) enum DatabaseRingError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Wrapping(#[from] WrappingFault),
    #[error(transparent)]
    Ring(#[from] RingError),
    #[error("the row of signing key `{0}` is damaged")]
    Row(String),
}

/// Later times are refused, because computing with them could overflow.
const LAST_SECOND: u64 = 1 << 40;

/// Reads the ring. Changes nothing.
pub(crate) async fn read(database: &Database, ring: (&RingSettings, &WrappingKeys)) -> Result<Ring, DatabaseRingError> {
    load(key_table::read(database).await?, ring)
}

/// Takes the steps that are due, and makes the first key if there is none. The rings before and after.
pub(crate) async fn tend(
    database: &Database,
    (settings, keys): (&RingSettings, &WrappingKeys),
    now: UnixTime,
) -> Result<(Ring, Ring), DatabaseRingError> {
    change(database, (settings, keys), None, now).await
}

/// Makes a change of the command line if there is one, then takes the steps that are due. The rings before and after.
pub(crate) async fn change(
    database: &Database,
    (settings, keys): (&RingSettings, &WrappingKeys),
    asked: Option<&RingChange<'_>>,
    now: UnixTime,
) -> Result<(Ring, Ring), DatabaseRingError> {
    let table = key_table::change(database).await?;
    let before = load(table.read().await?, (settings, keys))?;
    let mut after = before.records().to_vec();
    let mut made = Vec::new();
    let mut make = |signs_from| {
        let new = NewKey::make(&settings.rules, now, signs_from)?;
        let record = new.record.clone();
        made.push(new);
        Ok::<_, RingError>(record)
    };
    match asked {
        None => {}
        Some(RingChange::Rotate { .. }) if rotation::published(&after) >= MAX_PUBLISHED => {
            return Err(RingError::Full.into());
        }
        Some(RingChange::Rotate { at_once }) => {
            let signs_from = rotation::signs_from(&after, &settings.rules, now, *at_once);
            after.push(make(signs_from)?);
        }
        Some(RingChange::Retire { key_id }) => {
            let signs = rotation::signer(&after, now).is_some_and(|signer| signer.key_id == *key_id);
            let at = after.iter().position(|record| record.key_id == *key_id);
            after.remove(at.ok_or_else(|| RingError::Unknown((*key_id).to_owned()))?);
            // An earlier key must not sign again.
            if signs {
                after.push(make(now)?);
            }
        }
    }
    rotation::take_due_steps(&mut after, &settings.rules, now, make)?;
    write(&table, (before.records(), &after), (&made, keys), settings.x5c).await?;
    let ring = load(table.read().await?, (settings, keys))?;
    table.commit().await?;
    Ok((before, ring))
}

/// Writes the difference only, so that notifications are sent for changes and not for each read.
async fn write(
    table: &KeyTableChange,
    (before, after): (&[KeyRecord], &[KeyRecord]),
    (made, keys): (&[NewKey], &WrappingKeys),
    x5c: bool,
) -> Result<(), DatabaseRingError> {
    let has = |records: &[KeyRecord], key_id: &str| records.iter().any(|record| record.key_id == key_id);
    for removed in before.iter().filter(|record| !has(after, &record.key_id)) {
        table.remove(&removed.key_id).await?;
    }
    for record in after {
        match before.iter().find(|known| known.key_id == record.key_id) {
            Some(known) if known == record => {}
            Some(_) => {
                table.lengthen(&record.key_id, record.token_ttl.as_secs(), record.max_age.as_secs()).await?;
            }
            None => {
                let new = made.iter().find(|new| new.record.key_id == record.key_id);
                let new = new.ok_or_else(|| DatabaseRingError::Row(record.key_id.clone()))?;
                table.insert(row(record, &keys.wrap(record, &new.pkcs8)?)).await?;
            }
        }
    }
    if x5c {
        for uncertified in table.read().await?.into_iter().filter(|row| row.certificate.is_none()) {
            let (key_id, (record, pkcs8)) = (uncertified.key_id.clone(), opened(&uncertified, keys)?);
            table.certify(&key_id, new_key::certificate(&pkcs8, record.algorithm)?).await?;
        }
    }
    Ok(())
}

fn load(rows: Vec<KeyRow>, (settings, wrapping): (&RingSettings, &WrappingKeys)) -> Result<Ring, DatabaseRingError> {
    let (mut keys, mut records) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
    for row in rows {
        let (record, pkcs8) = opened(&row, wrapping)?;
        let key = SigningKey::from_pkcs8(record.algorithm, &pkcs8).ok();
        let key = key.filter(|key| key.thumbprint() == record.key_id);
        let key = Arc::new(key.ok_or(DatabaseRingError::Row(row.key_id))?);
        keys.push(RingKey { key, certificate: row.certificate.filter(|_| settings.x5c) });
        records.push(record);
    }
    Ok(Ring::new(keys, records).unwrap_or_default())
}

fn opened(row: &KeyRow, keys: &WrappingKeys) -> Result<(KeyRecord, Zeroizing<Vec<u8>>), DatabaseRingError> {
    let damaged = || DatabaseRingError::Row(row.key_id.clone());
    let times = [row.made_at, row.signs_from, row.signs_until.unwrap_or(0), row.token_ttl, row.max_age];
    if times.into_iter().any(|time| time > LAST_SECOND) {
        return Err(damaged());
    }
    let record = KeyRecord {
        key_id: row.key_id.clone(),
        thumbprint: None,
        algorithm: Algorithm::from_signing_name(&row.algorithm).ok_or_else(damaged)?,
        made_at: UnixTime::from_seconds(row.made_at),
        signs_from: UnixTime::from_seconds(row.signs_from),
        signs_until: row.signs_until.map_or(SigningEnd::Never, |end| SigningEnd::At(UnixTime::from_seconds(end))),
        token_ttl: Duration::from_secs(row.token_ttl),
        max_age: Duration::from_secs(row.max_age),
    };
    let wrapped = WrappedKey { nonce: row.nonce.clone(), ciphertext: row.ciphertext.clone() };
    let pkcs8 = keys.open(&record, &wrapped)?;
    Ok((record, pkcs8))
}

fn row(record: &KeyRecord, wrapped: &WrappedKey) -> KeyRow {
    KeyRow {
        key_id: record.key_id.clone(),
        algorithm: record.algorithm.as_str().to_owned(),
        made_at: record.made_at.seconds(),
        signs_from: record.signs_from.seconds(),
        signs_until: match record.signs_until {
            SigningEnd::At(end) => Some(end.seconds()),
            SigningEnd::Never | SigningEnd::WithNext => None,
        },
        token_ttl: record.token_ttl.as_secs(),
        max_age: record.max_age.as_secs(),
        nonce: wrapped.nonce.clone(),
        ciphertext: wrapped.ciphertext.clone(),
        certificate: None,
    }
}
