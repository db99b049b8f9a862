//! The version of the tables in PostgreSQL.

use super::sql::DatabaseError;

pub(crate) const VERSION: i64 = 1;
pub(super) const READ: &str = "SELECT version FROM portcullis_version";

/// Whether this gateway can use tables of this version.
pub(super) fn check(found: i64) -> Result<(), DatabaseError> {
    match found {
        ..=0 => Err(DatabaseError::NotMigrated),
        VERSION => Ok(()),
        newer if newer > VERSION => Err(too_new(newer)),
        older => Err(DatabaseError::Version { found: older, known: VERSION, remedy: "run `portcullis store migrate`" }),
    }
}

pub(super) fn too_new(found: i64) -> DatabaseError {
    let remedy = "use the newer gateway that has made them, or restore a backup from before";
    DatabaseError::Version { found, known: VERSION, remedy }
}
