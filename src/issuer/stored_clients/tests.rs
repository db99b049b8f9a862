use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Map;

use super::*;
use crate::clock::UnixTime;
use crate::issuer::client_auth::KeptCredentials;
use crate::oauth::bound::TokenBinding;
use crate::oauth::identity::Identity;
use crate::oauth::scope::ScopeSet;
use crate::store::database::Database;
use crate::store::sqlite::SqliteStore;

const NOW: UnixTime = UnixTime::from_seconds(1_800_000_000);
const STALE: Duration = Duration::from_secs(3600);

/// An entry is the list of scopes. `bad` cannot be used.
fn client(id: &str, entry: &str) -> Result<Client, String> {
    Ok(Client {
        id: Identity::parse(id).unwrap(),
        credentials: KeptCredentials::default(),
        scopes: ScopeSet::parse(entry).ok().filter(|_| entry != "bad").ok_or("no scopes")?,
        audiences: vec!["x".to_owned()],
        token_ttl: Duration::from_secs(60),
        claims: Map::new(),
        allow_from: None,
        bound: TokenBinding::None,
    })
}

fn held(id: &str, entry: &str, confirmed: Instant) -> Arc<StoredClient> {
    StoredClient::new(client(id, entry).unwrap(), entry, 0, confirmed)
}

struct World {
    folder: tempfile::TempDir,
    table: ClientTable,
    clients: Arc<StoredClients>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("clients.db");
        let table = ClientTable::new(Database::Sqlite(SqliteStore::open(&file).unwrap()));
        let settings = StoredClientSettings {
            place: ClientDatabase::Sqlite(file),
            stale: STALE,
            reader: ClientReader::new(client),
        };
        let clients = Arc::new(StoredClients::new(settings, table.clone(), Handle::current()));
        Self { folder, table, clients }
    }

    fn keep(&self) {
        self.clients.control.spawn(Arc::clone(&self.clients).keep());
    }

    async fn insert(&self, id: &str, scopes: &str) {
        self.table.insert((id, scopes), &[], NOW).await.unwrap();
    }

    async fn scopes(&self, id: &str) -> Option<String> {
        self.clients.find(id).await.unwrap().map(|found| found.client.scopes.to_string())
    }

    async fn until(&self, id: &str, scopes: Option<&str>) {
        while self.scopes(id).await.as_deref() != scopes {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Moves the file away, and waits until this is noticed.
    async fn away(&self) -> PathBuf {
        let aside = self.folder.path().join("aside");
        std::fs::create_dir(&aside).unwrap();
        move_all(self.folder.path(), &aside);
        while self.table.get("x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        aside
    }
}

fn move_all(from: &Path, to: &Path) {
    for name in ["clients.db-wal", "clients.db-shm", "clients.db"] {
        let _ = std::fs::rename(from.join(name), to.join(name));
    }
}

#[tokio::test]
async fn a_client_is_found_and_its_changes_are_noticed() {
    let world = World::new();
    world.keep();
    world.insert("app", "a").await;
    world.until("app", Some("a")).await;
    let token_client = Arc::clone(&world.clients.held("app").unwrap().token_client);
    assert!(token_client.is_current());
    let row = world.table.get("app").await.unwrap().unwrap();
    assert!(world.table.replace(&row, "a b", NOW).await.unwrap());
    world.until("app", Some("a b")).await;
    assert!(!token_client.is_current());
    world.table.set_disabled("app", true, NOW).await.unwrap();
    world.until("app", None).await;
    world.table.set_disabled("app", false, NOW).await.unwrap();
    world.until("app", Some("a b")).await;
    world.table.delete("app").await.unwrap();
    world.until("app", None).await;
}

#[tokio::test]
async fn an_entry_that_cannot_be_used_is_no_client() {
    let world = World::new();
    world.insert("app", "bad").await;
    assert_eq!(world.scopes("app").await, None);
}

#[tokio::test]
async fn many_askers_of_one_id_ask_once() {
    let world = World::new();
    world.insert("app", "a").await;
    let askers: Vec<_> = (0..100)
        .map(|_| {
            let clients = Arc::clone(&world.clients);
            world.clients.control.spawn(async move { clients.find("app").await.unwrap().unwrap() })
        })
        .collect();
    let mut found = Vec::new();
    for asker in askers {
        found.push(asker.await.unwrap());
    }
    assert!(found.iter().all(|client| Arc::ptr_eq(client, &found[0])));
    assert!(world.clients.under_way().is_empty());
}

#[tokio::test]
async fn a_change_during_a_look_up_is_asked_for_again() {
    let world = World::new();
    world.insert("app", "a").await;
    let asked = world.clients.begun("app").unwrap();
    // As if the change was told after the query and before the answer.
    world.clients.client_changed("app");
    world.table.set_disabled("app", true, NOW).await.unwrap();
    world.clients.client_changed("app");
    let mut asked = asked;
    asked.wait_for(Option::is_some).await.unwrap();
    world.clients.client_changed("app");
    world.until("app", None).await;
}

#[tokio::test]
async fn held_clients_go_on_without_the_database_and_others_do_not() {
    let world = World::new();
    world.keep();
    world.insert("app", "a").await;
    world.insert("other", "a").await;
    world.until("app", Some("a")).await;
    let aside = world.away().await;
    assert_eq!(world.scopes("app").await.as_deref(), Some("a"));
    for id in ["other", "unknown"] {
        assert_eq!(world.clients.find(id).await.err(), Some(ClientStoreUnavailable), "{id}");
    }
    // Changed while it was away.
    let table = ClientTable::new(Database::Sqlite(SqliteStore::open(&aside.join("clients.db")).unwrap()));
    table.set_disabled("app", true, NOW).await.unwrap();
    drop(table);
    move_all(&aside, world.folder.path());
    while !matches!(world.clients.find("app").await, Ok(None)) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(world.clients.find("other").await.unwrap().is_some());
}

#[tokio::test]
async fn held_clients_are_taken_over_by_the_next_configuration() {
    let world = World::new();
    world.insert("app", "a").await;
    world.until("app", Some("a")).await;
    let settings = StoredClientSettings {
        place: world.clients.place().clone(),
        stale: STALE,
        reader: ClientReader::new(|id, entry| client(id, &format!("{entry} more"))),
    };
    let next = Arc::new(world.clients.following(settings));
    assert_eq!(next.held("app").unwrap().client.scopes.to_string(), "a more");
    assert_ne!(next.held("app").unwrap().token_client.table, world.clients.number);
}

#[test]
fn an_absent_id_is_remembered_for_ten_seconds() {
    let (clients, begun) = (HeldClients::new(), clock::instant());
    clients.update("app", None, begun);
    assert!(clients.is_known_absent("app", begun + Duration::from_secs(9)));
    assert!(!clients.is_known_absent("app", begun + Duration::from_secs(10)));
    clients.update("app", Some(held("app", "a", begun)), begun);
    assert!(!clients.is_known_absent("app", begun));
}

#[test]
fn an_unconfirmed_client_ends_after_the_configured_time() {
    let (clients, begun) = (HeldClients::new(), clock::instant());
    let app = held("app", "a", begun);
    clients.update("app", Some(Arc::clone(&app)), begun);
    assert!(clients.get("app", begun + STALE - Duration::from_secs(1), STALE).is_some());
    assert!(clients.get("app", begun + STALE, STALE).is_none());
    clients.remove_stale(begun + STALE, STALE);
    assert!(!app.token_client.is_current() && clients.all().is_empty());
}

#[test]
fn a_client_is_due_after_a_change_and_after_a_time() {
    let (clients, begun) = (HeldClients::new(), clock::instant());
    let after = Duration::from_secs(40);
    for (id, seconds) in [("old", 0), ("new", 30)] {
        let confirmed = begun + Duration::from_secs(seconds);
        clients.update(id, Some(held(id, "a", confirmed)), confirmed);
    }
    let now = begun + after;
    assert_eq!(clients.due(now, after), ["old"].map(Box::from));
    clients.mark_due("new");
    assert_eq!(clients.due(now, after), ["old", "new"].map(Box::from));
    clients.update("new", clients.peek("new"), now);
    clients.update("old", clients.peek("old"), now);
    assert!(clients.due(now, after).is_empty());
}

#[test]
fn a_client_that_is_pushed_out_is_retired() {
    let (clients, begun) = (HeldClients::new(), clock::instant());
    let all: Vec<_> = (0..50_000).map(|n| held(&format!("app-{n}"), "a", begun)).collect();
    for client in &all {
        clients.update(client.id(), Some(Arc::clone(client)), begun);
    }
    let held: Vec<_> = all.iter().filter(|client| clients.peek(client.id()).is_some()).collect();
    assert!(held.len() < 20_000, "{}", held.len());
    let current = all.iter().filter(|client| client.token_client.is_current()).count();
    assert_eq!(current, held.len());
}

#[tokio::test]
async fn unknown_ids_do_not_keep_a_disabled_client_in_use() {
    let world = World::new();
    world.insert("app", "a").await;
    assert_eq!(world.scopes("app").await.as_deref(), Some("a"));
    let _all_slots = world.clients.slots.acquire_many(u32::try_from(MAX_QUERIES).unwrap()).await.unwrap();
    let waiting: Vec<_> = (0..MOST_LOOK_UPS).map(|number| world.clients.begun(&format!("unknown-{number}"))).collect();
    assert!(waiting.iter().all(Result::is_ok) && world.clients.begun("one-more").is_err());
    world.table.set_disabled("app", true, NOW).await.unwrap();
    world.clients.client_changed("app");
    world.until("app", None).await;
}
