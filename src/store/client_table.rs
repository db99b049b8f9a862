//! The tables of clients and of the platform tokens that authenticate them.
//!
//! An entry is JSON with the keys of an entry of `oauth.clients`. Nothing here reads it: [`ClientTable`] finds, lists and
//! changes rows.

use tokio::sync::broadcast;

use super::database::Database;
use super::sql::{DatabaseChange, DatabaseError, DatabaseRefusal, SqlRow, SqlValue, Statement};
use crate::clock::UnixTime;

#[derive(Clone, Debug)]
pub(crate) struct ClientTable(Database);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientRow {
    pub(crate) id: String,
    pub(crate) entry: String,
    pub(crate) disabled: bool,
    /// Seconds since 1970.
    pub(crate) changed_at: u64,
}

/// The index by which the clients of a platform token are found: the subjects of an entry begin with the prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FederationRow {
    pub(crate) issuer: String,
    pub(crate) tenant: Option<String>,
    pub(crate) prefix: String,
}

/// The most clients that are compared with one platform token. With more, the token is refused.
pub(crate) const MOST_CANDIDATES: usize = 256;

impl ClientTable {
    pub(crate) fn new(database: Database) -> Self {
        Self(database)
    }

    pub(crate) fn changes(&self) -> broadcast::Receiver<DatabaseChange> {
        self.0.changes()
    }

    pub(crate) async fn get(&self, id: &str) -> Result<Option<ClientRow>, DatabaseError> {
        let text = "SELECT id, entry, disabled, changed_at FROM clients WHERE id = $1";
        let rows = self.0.rows(Statement { text, values: vec![SqlValue::Text(id.to_owned())] }).await?;
        rows.into_iter().next().map(client_row).transpose()
    }

    /// The clients after this id, in the order of their ids.
    pub(crate) async fn page(&self, after: &str, most: u32) -> Result<Vec<ClientRow>, DatabaseError> {
        let text = "SELECT id, entry, disabled, changed_at FROM clients WHERE id > $1 ORDER BY id LIMIT $2";
        let values = vec![SqlValue::Text(after.to_owned()), SqlValue::Integer(most.into())];
        self.0.rows(Statement { text, values }).await?.into_iter().map(client_row).collect()
    }

    /// The ids of enabled clients with an entry whose prefix the subject has: one more than [`MOST_CANDIDATES`] at most.
    pub(crate) async fn of_subject(
        &self,
        issuer: &str,
        tenant: Option<&str>,
        subject: &str,
    ) -> Result<Vec<String>, DatabaseError> {
        // The lengths are the outer loop, so that each prefix is looked up in the index.
        let text = "WITH RECURSIVE lengths (n) AS \
             (SELECT 1 UNION ALL SELECT n + 1 FROM lengths WHERE n < length(CAST($1 AS TEXT))) \
             SELECT DISTINCT found.client_id FROM lengths CROSS JOIN client_federation AS found \
             WHERE found.issuer = $2 AND found.tenant = $3 AND found.prefix = substr(CAST($1 AS TEXT), 1, lengths.n) \
             LIMIT 257";
        let values = [subject, issuer, tenant.unwrap_or_default()].map(|text| SqlValue::Text(text.to_owned()));
        let rows = self.0.rows(Statement { text, values: values.into() }).await?;
        rows.into_iter().map(|row| text_of(row.into_iter().next())).collect()
    }

    /// The number of clients that have entries with this prefix, up to a bound.
    pub(crate) async fn sharing(&self, row: &FederationRow) -> Result<usize, DatabaseError> {
        let text =
            "SELECT client_id FROM client_federation WHERE issuer = $1 AND tenant = $2 AND prefix = $3 LIMIT 257";
        let values = federation_values(row).into_iter().collect();
        Ok(self.0.rows(Statement { text, values }).await?.len())
    }

    /// Refused if the id exists.
    pub(crate) async fn insert(
        &self,
        (id, entry): (&str, &str),
        federation: &[FederationRow],
        now: UnixTime,
    ) -> Result<(), DatabaseError> {
        let text = "INSERT INTO clients (id, entry, disabled, changed_at) VALUES ($1, $2, 0, $3)";
        let values = vec![text_value(id), text_value(entry), time_value(now)];
        let mut statements = vec![Statement { text, values }];
        for row in federation {
            let text = "INSERT INTO client_federation (issuer, tenant, prefix, client_id) VALUES ($1, $2, $3, $4) \
                        ON CONFLICT DO NOTHING";
            let values = federation_values(row).into_iter().chain([text_value(id)]).collect();
            statements.push(Statement { text, values });
        }
        self.0.transaction(statements).await.map(drop)
    }

    /// False if the entry was changed in the meantime. The rows of `client_federation` stay.
    pub(crate) async fn replace(&self, old: &ClientRow, entry: &str, now: UnixTime) -> Result<bool, DatabaseError> {
        let text = "UPDATE clients SET entry = $1, changed_at = $2 WHERE id = $3 AND entry = $4";
        let values = vec![text_value(entry), time_value(now), text_value(&old.id), text_value(&old.entry)];
        self.changes_one(Statement { text, values }).await
    }

    /// False if there is no such client.
    pub(crate) async fn set_disabled(&self, id: &str, disabled: bool, now: UnixTime) -> Result<bool, DatabaseError> {
        let text = "UPDATE clients SET disabled = $1, changed_at = $2 WHERE id = $3";
        let values = vec![SqlValue::Integer(disabled.into()), time_value(now), text_value(id)];
        self.changes_one(Statement { text, values }).await
    }

    /// False if there is no such client.
    pub(crate) async fn delete(&self, id: &str) -> Result<bool, DatabaseError> {
        let federation = "DELETE FROM client_federation WHERE client_id = $1";
        let client = "DELETE FROM clients WHERE id = $1";
        let statements = [federation, client].map(|text| Statement { text, values: vec![text_value(id)] });
        let counts = self.0.transaction(statements.into()).await?;
        Ok(counts.last().is_some_and(|count| *count > 0))
    }

    async fn changes_one(&self, statement: Statement) -> Result<bool, DatabaseError> {
        Ok(self.0.transaction(vec![statement]).await?.first().is_some_and(|count| *count > 0))
    }
}

fn text_value(text: &str) -> SqlValue {
    SqlValue::Text(text.to_owned())
}

fn time_value(time: UnixTime) -> SqlValue {
    SqlValue::Integer(i64::try_from(time.seconds()).unwrap_or(i64::MAX))
}

fn federation_values(FederationRow { issuer, tenant, prefix }: &FederationRow) -> [SqlValue; 3] {
    [issuer, tenant.as_deref().unwrap_or_default(), prefix].map(text_value)
}

fn client_row(row: SqlRow) -> Result<ClientRow, DatabaseError> {
    let mut values = row.into_iter();
    // SQLite keeps any type in a column. An entry that is no text cannot be used, and only a zero enables the client.
    let (id, entry) = (text_of(values.next())?, text_of(values.next()).unwrap_or_default());
    let [disabled, changed_at] = [0, 1].map(|_| values.next().as_ref().and_then(SqlValue::integer));
    let changed_at = changed_at.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or_default();
    Ok(ClientRow { id, entry, disabled: disabled != Some(0), changed_at })
}

fn text_of(value: Option<SqlValue>) -> Result<String, DatabaseError> {
    match value {
        Some(SqlValue::Text(text)) => Ok(text),
        Some(SqlValue::Integer(_) | SqlValue::Bytes(_) | SqlValue::Null) | None => Err(unexpected()),
    }
}

fn unexpected() -> DatabaseError {
    DatabaseRefusal::Statement("a column of `clients` has another type".to_owned()).into()
}

#[cfg(test)]
mod tests {
    use super::super::sqlite::SqliteStore;
    use super::*;

    const NOW: UnixTime = UnixTime::from_seconds(1_800_000_000);

    fn table(name: &str) -> ClientTable {
        let file = std::env::temp_dir().join(format!("portcullis-clients-{name}-{}.db", std::process::id()));
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{suffix}", file.display()));
        }
        ClientTable::new(Database::Sqlite(SqliteStore::open(&file).unwrap()))
    }

    fn federated(prefix: &str) -> FederationRow {
        FederationRow { issuer: "ci".to_owned(), tenant: None, prefix: prefix.to_owned() }
    }

    #[tokio::test]
    async fn a_client_is_inserted_once_and_changed_by_its_old_entry() {
        let table = table("once");
        table.insert(("a", "{}"), &[], NOW).await.unwrap();
        assert!(matches!(table.insert(("a", "{}"), &[], NOW).await, Err(DatabaseError::Refused(_))));
        let row = table.get("a").await.unwrap().unwrap();
        assert!(table.replace(&row, "[]", NOW).await.unwrap());
        assert!(!table.replace(&row, "{}", NOW).await.unwrap(), "another has changed it");
        assert!(table.set_disabled("a", true, NOW).await.unwrap());
        assert!(table.get("a").await.unwrap().unwrap().disabled);
        assert!(table.delete("a").await.unwrap() && !table.delete("a").await.unwrap());
        assert_eq!(table.get("a").await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_column_of_another_type_enables_no_client() {
        let table = table("types");
        table.insert(("a", "{}"), &[], NOW).await.unwrap();
        for (change, disabled, entry) in [
            ("UPDATE clients SET changed_at = 1.5", false, "{}"),
            ("UPDATE clients SET disabled = 'no'", true, "{}"),
            ("UPDATE clients SET disabled = 0, entry = x'00'", false, ""),
        ] {
            table.0.transaction(vec![Statement { text: change, values: Vec::new() }]).await.unwrap();
            let row = table.get("a").await.unwrap().unwrap();
            assert_eq!((row.disabled, &*row.entry), (disabled, entry), "{change}");
        }
    }

    #[tokio::test]
    async fn a_subject_finds_the_clients_of_all_its_prefixes() {
        let table = table("prefixes");
        for (id, prefix) in [("a", "repo:x/"), ("b", "repo:x/y"), ("c", "repo:x/z"), ("d", "Repo:x/")] {
            table.insert((id, "{}"), &[federated(prefix)], NOW).await.unwrap();
        }
        let mut found = table.of_subject("ci", None, "repo:x/y").await.unwrap();
        found.sort();
        assert_eq!(found, ["a", "b"]);
        assert!(table.of_subject("ci", Some("t"), "repo:x/y").await.unwrap().is_empty());
        table.delete("a").await.unwrap();
        assert_eq!(table.of_subject("ci", None, "repo:x/y").await.unwrap(), ["b"]);
    }

    #[tokio::test]
    async fn pages_follow_each_other_in_the_order_of_ids() {
        let table = table("pages");
        for id in ["b", "a", "C"] {
            table.insert((id, "{}"), &[], NOW).await.unwrap();
        }
        let ids = |rows: Vec<ClientRow>| rows.into_iter().map(|row| row.id).collect::<Vec<_>>();
        assert_eq!(ids(table.page("", 2).await.unwrap()), ["C", "a"]);
        assert_eq!(ids(table.page("a", 2).await.unwrap()), ["b"]);
    }
}
