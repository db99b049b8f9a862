//! SQL statements with their values and results, and the changes of other processes, for both databases.

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SqlValue {
    Text(String),
    Integer(i64),
    Bytes(Vec<u8>),
    Null,
}

#[derive(Clone, Debug)]
pub(crate) struct Statement {
    pub(crate) text: &'static str,
    pub(crate) values: Vec<SqlValue>,
}

impl SqlValue {
    pub(crate) fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            Self::Text(_) | Self::Bytes(_) | Self::Null => None,
        }
    }
}

pub(crate) type SqlRow = Vec<SqlValue>;

/// A change by another process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DatabaseChange {
    /// The client with this id.
    Client(String),
    SigningKeys,
    /// Changes may have been missed: everything that is known is read again.
    Anything,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum DatabaseError {
    #[error("the database is unreachable")]
    Unavailable,
    #[error(transparent)]
    Refused(#[from] DatabaseRefusal),
    #[error("the database has no tables of this gateway: run `portcullis store migrate`")]
    NotMigrated,
    #[error("the tables of the database are of version {found}, and this gateway knows {known}: {remedy}")]
    Version { found: i64, known: i64, remedy: &'static str },
}

/// The message of a server that refuses, without the values of the statement.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DatabaseRefusal {
    #[error("the database refused a statement: {0}")]
    Statement(String),
    #[error("the database refused the login: {0}; {LOGIN_REMEDY}")]
    Login(String),
    #[error("the database refused a statement: {0}; {RIGHTS_REMEDY}")]
    Rights(String),
}

pub(crate) const LOGIN_REMEDY: &str = "check user, password and database of `shared.postgres.url`";
pub(crate) const RIGHTS_REMEDY: &str = "grant the user of `shared.postgres.url` the rights to its tables: see \"Grant the \
                                        user only the rights it needs\" in docs/how-to/share-signing-keys.md";
