//! The signing-key ring in a database that replicas share.
//!
//! One gateway at a time changes the ring, under a lock of the database. The interval in which a key signs is fixed at
//! its creation, so a gateway that cannot read the ring may sign with the keys that it knows. A row that cannot be
//! decrypted, or whose key does not match its id, is left aside and never used. If no row can be decrypted, the wrapping
//! key is wrong: the ring cannot be read, and the known one stays in use.

use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::new_key::{self, NewKey};
use super::ring::{Ring, RingKey};
use super::ring_files::RingError;
use super::ring_store::{RingChange, RingSettings};
use super::rotation::{self, KeyRecord, MAX_PUBLISHED, SigningEnd};
use super::wrapping_key::{BoundFacts, WrappedKey, WrappingFault, WrappingKeys, shown};
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
    #[error("the table `signing_keys` has too many rows for another key: delete the rows that `keys list` reports")]
    TooManyRows,
}

/// Later times are refused, because computing with them could overflow.
const LAST_SECOND: u64 = 1 << 40;
const SECOND: Duration = Duration::from_secs(1);

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
    let rows = table.read().await?;
    let before = load(rows.clone(), (settings, keys))?;
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
    after.iter_mut().for_each(in_whole_seconds);
    made.iter().for_each(|new| set_apart(&mut after, &new.record.key_id));
    write(&table, (&rows, &after), (&made, keys), settings.x5c).await?;
    let ring = load(table.read().await?, (settings, keys))?;
    // Rows that hide a new key would otherwise make one gateway after the other create keys.
    let has = |records: &[KeyRecord], new: &NewKey| records.iter().any(|known| known.key_id == new.record.key_id);
    if made.iter().any(|new| has(&after, new) && !has(ring.records(), new)) {
        return Err(DatabaseRingError::TooManyRows);
    }
    table.commit().await?;
    Ok((before, ring))
}

/// Writes the difference only, so that notifications are sent for changes and not for each read. Rows that cannot be
/// decrypted stay.
async fn write(
    table: &KeyTableChange,
    (before, after): (&[KeyRow], &[KeyRecord]),
    (made, keys): (&[NewKey], &WrappingKeys),
    x5c: bool,
) -> Result<(), DatabaseRingError> {
    for row in before {
        let Ok((known, pkcs8)) = opened(row, keys) else { continue };
        let Some(record) = after.iter().find(|record| record.key_id == known.key_id) else {
            table.remove(&known.key_id).await?;
            continue;
        };
        let lacks_certificate = x5c && row.certificate.is_none();
        if *record != known || lacks_certificate {
            let new = lacks_certificate.then(|| new_key::certificate(&pkcs8, known.algorithm)).transpose()?;
            table.replace(wrapped(record, new.or(row.certificate.clone()), &pkcs8, keys)?).await?;
        }
    }
    for new in made {
        // It may have been made and removed by the same change.
        let Some(record) = after.iter().find(|record| record.key_id == new.record.key_id) else { continue };
        let certificate = x5c.then(|| new_key::certificate(&new.pkcs8, record.algorithm)).transpose()?;
        table.insert(wrapped(record, certificate, &new.pkcs8, keys)?).await?;
    }
    Ok(())
}

/// Moves the interval of a new key by seconds until it begins alone. The table does not keep the order in which keys were
/// made: of two keys that begin in one second, the older one could sign.
fn set_apart(records: &mut [KeyRecord], key_id: &str) {
    let Some(at) = records.iter().position(|record| record.key_id == key_id) else { return };
    while records.iter().filter(|record| record.signs_from == records[at].signs_from).count() > 1 {
        let new = &mut records[at];
        new.signs_from = new.signs_from.plus(SECOND);
        if let SigningEnd::At(end) = &mut new.signs_until {
            *end = end.plus(SECOND);
        }
    }
}

/// As the table has them. Rounded up: they may be longer than needed.
fn in_whole_seconds(record: &mut KeyRecord) {
    let rounded = |time: Duration| Duration::from_secs(time.as_secs() + u64::from(time.subsec_nanos() > 0));
    record.token_ttl = rounded(record.token_ttl);
    record.max_age = rounded(record.max_age);
}

fn load(rows: Vec<KeyRow>, (settings, wrapping): (&RingSettings, &WrappingKeys)) -> Result<Ring, DatabaseRingError> {
    let (mut keys, mut records) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
    let mut faults = Vec::new();
    for row in rows {
        match usable(row, wrapping) {
            Ok((record, key)) => {
                keys.push(RingKey { certificate: key.certificate.filter(|_| settings.x5c), ..key });
                records.push(record);
            }
            Err(fault) => faults.push(fault),
        }
    }
    let left_aside = faults.iter().map(ToString::to_string).collect();
    match (Ring::new(keys, records), faults.into_iter().next()) {
        (Some(ring), _) => Ok(ring.beside(left_aside)),
        (None, Some(fault)) => Err(fault),
        (None, None) => Ok(Ring::default()),
    }
}

/// The key of a row. It must have the id of the row.
fn usable(row: KeyRow, wrapping: &WrappingKeys) -> Result<(KeyRecord, RingKey), DatabaseRingError> {
    let (record, pkcs8) = opened(&row, wrapping)?;
    let key = SigningKey::from_pkcs8(record.algorithm, &pkcs8).ok();
    let key = key.filter(|key| key.thumbprint() == record.key_id).ok_or_else(|| damaged(&row))?;
    Ok((record, RingKey { key: Arc::new(key), certificate: row.certificate }))
}

fn opened(row: &KeyRow, keys: &WrappingKeys) -> Result<(KeyRecord, Zeroizing<Vec<u8>>), DatabaseRingError> {
    let times = [row.made_at, row.signs_from, row.signs_until.unwrap_or(0), row.token_ttl, row.max_age];
    if times.into_iter().any(|time| time > LAST_SECOND) {
        return Err(damaged(row));
    }
    let record = KeyRecord {
        key_id: row.key_id.clone(),
        thumbprint: None,
        algorithm: Algorithm::from_signing_name(&row.algorithm).ok_or_else(|| damaged(row))?,
        made_at: UnixTime::from_seconds(row.made_at),
        signs_from: UnixTime::from_seconds(row.signs_from),
        signs_until: row.signs_until.map_or(SigningEnd::Never, |end| SigningEnd::At(UnixTime::from_seconds(end))),
        token_ttl: Duration::from_secs(row.token_ttl),
        max_age: Duration::from_secs(row.max_age),
    };
    let wrapped = WrappedKey { nonce: row.nonce.clone(), ciphertext: row.ciphertext.clone() };
    let pkcs8 = keys.open(BoundFacts { record: &record, certificate: row.certificate.as_deref() }, &wrapped)?;
    Ok((record, pkcs8))
}

fn damaged(row: &KeyRow) -> DatabaseRingError {
    DatabaseRingError::Row(shown(&row.key_id))
}

/// The row of a key. All of it is bound to the ciphertext, so that a change of any part needs another one.
fn wrapped(
    record: &KeyRecord,
    certificate: Option<Vec<u8>>,
    pkcs8: &[u8],
    keys: &WrappingKeys,
) -> Result<KeyRow, WrappingFault> {
    let WrappedKey { nonce, ciphertext } =
        keys.wrap(BoundFacts { record, certificate: certificate.as_deref() }, pkcs8)?;
    Ok(KeyRow {
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
        nonce,
        ciphertext,
        certificate,
    })
}
