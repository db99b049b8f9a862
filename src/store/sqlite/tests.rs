use super::*;

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("portcullis-sqlite-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn insert(id: &str) -> Vec<Statement> {
    let values = vec![SqlValue::Text(id.to_owned()), SqlValue::Text("{}".to_owned()), SqlValue::Integer(1)];
    vec![Statement { text: "INSERT INTO clients (id, entry, changed_at) VALUES ($1, $2, $3)", values }]
}

fn ids() -> Statement {
    Statement { text: "SELECT id FROM clients ORDER BY id", values: Vec::new() }
}

#[tokio::test]
async fn a_change_by_another_connection_is_told() {
    let file = folder("told").join("clients.db");
    let (one, other) = (SqliteStore::open(&file).unwrap(), SqliteStore::open(&file).unwrap());
    let mut changes = one.changes();
    assert_eq!(other.transaction(insert("a")).await.unwrap(), [1]);
    assert_eq!(changes.recv().await.unwrap(), DatabaseChange::Client("a".to_owned()));
    assert_eq!(one.rows(ids()).await.unwrap(), [vec![SqlValue::Text("a".to_owned())]]);
}

#[test]
fn a_missing_file_is_made_only_if_that_is_asked_for() {
    let file = folder("missing").join("clients.db");
    assert!(matches!(SqliteStore::open_existing(&file), Err(SqliteOpenError::Missing { .. })));
    assert!(!file.exists());
    drop(SqliteStore::open(&file).unwrap());
    assert!(SqliteStore::open_existing(&file).is_ok());
}

#[tokio::test]
async fn a_transaction_is_executed_as_a_whole_or_not() {
    let store = SqliteStore::open(&folder("whole").join("clients.db")).unwrap();
    let twice = [insert("a"), insert("a")].concat();
    assert!(matches!(store.transaction(twice).await, Err(DatabaseError::Refused(_))));
    assert!(store.rows(ids()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_replaced_file_is_opened_again_and_a_missing_one_not_made() {
    let folder = folder("replaced");
    let (file, aside) = (folder.join("clients.db"), folder.join("aside.db"));
    let store = SqliteStore::open(&file).unwrap();
    let mut changes = store.changes();
    store.transaction(insert("a")).await.unwrap();
    assert_eq!(changes.recv().await.unwrap(), DatabaseChange::Client("a".to_owned()));
    for suffix in ["", "-wal", "-shm"] {
        let name = |file: &Path| PathBuf::from(format!("{}{suffix}", file.display()));
        let _ = fs::rename(name(&file), name(&aside));
    }
    while store.rows(ids()).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!file.exists());
    for suffix in ["-wal", "-shm", ""] {
        let name = |file: &Path| PathBuf::from(format!("{}{suffix}", file.display()));
        let _ = fs::rename(name(&aside), name(&file));
    }
    assert_eq!(changes.recv().await.unwrap(), DatabaseChange::Anything);
    assert_eq!(store.rows(ids()).await.unwrap().len(), 1);
}

#[test]
fn a_file_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let file = folder("exposed").join("clients.db");
    drop(SqliteStore::open(&file).unwrap());
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(SqliteStore::open(&file), Err(SqliteOpenError::Exposed { .. })));
}

#[test]
fn tables_of_a_newer_gateway_are_refused() {
    let file = folder("newer").join("clients.db");
    drop(SqliteStore::open(&file).unwrap());
    Connection::open(&file).unwrap().pragma_update(None, "user_version", 7).unwrap();
    assert!(matches!(SqliteStore::open(&file), Err(SqliteOpenError::Newer { found: 7, .. })));
}
