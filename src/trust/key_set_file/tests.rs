use tempfile::{TempDir, tempdir};

use super::*;
use crate::jose::algorithm::Algorithm;
use crate::jose::signing::SigningKey;
use crate::oauth::identity::Identity;
use crate::trust::audiences::AcceptedAudiences;
use crate::trust::fetch::ClearText;
use crate::trust::fetch_access::FetchAccess;
use crate::trust::issuer::{Profile, TokenTypes};
use crate::trust::key_source::IssuerCa;
use crate::trust::scope_claim::ScopeClaim;
use crate::trust::token_origin::TokenOrigin;

const NOW: UnixTime = UnixTime::from_seconds(1_800_000_000);
const HOUR: Duration = Duration::from_secs(3600);

fn file_in(folder: &TempDir) -> KeySetFile {
    KeySetFile::of(folder.path(), &IssuerName::new("corp"))
}

fn settings(issuer: &str) -> IssuerSettings {
    IssuerSettings {
        name: IssuerName::new("corp"),
        issuer: Identity::parse(issuer).unwrap(),
        origin: TokenOrigin::Issuer,
        token_field: None,
        subject_claims: vec!["sub".to_owned()],
        audiences: AcceptedAudiences::listed(Vec::new()),
        algorithms: Algorithm::ALL.to_vec(),
        types: TokenTypes { named: Vec::new(), absent: true },
        clock_skew: Duration::ZERO,
        scope_claim: ScopeClaim::Auto,
        allow_scopes: None,
        profile: Profile::External,
    }
}

fn source(jwks_uri: Option<&str>) -> FetchedKeys {
    let place = jwks_uri.map_or(KeySetPlace::Discovered, |uri| KeySetPlace::Uri(Url::parse(uri).unwrap()));
    FetchedKeys { place, ca: None, max_stale: HOUR, clear_text: ClearText::Loopback, access: FetchAccess::default() }
}

/// A set that was fetched ten seconds ago from a URL in the configuration.
fn kept() -> StoredKeySet {
    let (key, _) = SigningKey::generate(Algorithm::Es256).unwrap();
    StoredKeySet {
        issuer: "https://a.example".to_owned(),
        jwks_uri: Url::parse("https://a.example/keys").unwrap(),
        ca: None,
        discovered: false,
        fetched_at: NOW.seconds() - 10,
        ttl_s: 600,
        document: serde_json::json!({ "keys": [key.public_jwk()] }).to_string(),
    }
}

fn load(file: &KeySetFile) -> Result<Option<RestoredKeySet>, KeptError> {
    file.load(&settings("https://a.example"), &source(Some("https://a.example/keys")), NOW)
}

#[track_caller]
fn ignored(kept: &StoredKeySet, expected: &str) {
    let folder = tempdir().unwrap();
    file_in(&folder).save(kept).unwrap();
    let error = load(&file_in(&folder)).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_stored_set_is_read_back_and_ages_from_its_fetch() {
    let folder = tempdir().unwrap();
    assert!(load(&file_in(&folder)).unwrap().is_none(), "no set is stored yet");
    file_in(&folder).save(&kept()).unwrap();
    let restored = load(&file_in(&folder)).unwrap().unwrap();
    let now = Instant::now();
    assert_eq!(restored.keys.len(), 1);
    assert_eq!(now - restored.times.requested_at, Duration::from_secs(10));
    assert_eq!(restored.times.fresh_until - now, Duration::from_secs(590));
    assert_eq!(restored.times.usable_until - now, Duration::from_secs(590) + HOUR);
}

#[test]
fn folder_and_file_are_made_private_where_they_were_open() {
    let folder = tempdir().unwrap();
    let file = file_in(&folder);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    fs::create_dir_all(folder.path().join(FOLDER)).unwrap();
    fs::set_permissions(folder.path().join(FOLDER), Permissions::from_mode(0o777)).unwrap();
    file.save(&kept()).unwrap();
    assert_eq!((mode(&folder.path().join(FOLDER)), mode(&file.path)), (0o700, 0o600));
    assert_eq!(fs::read_dir(folder.path().join(FOLDER)).unwrap().count(), 1, "the temporary file is gone");
    for (path, loose) in [(&file.path, 0o640), (&file.path, 0o602), (&folder.path().join(FOLDER), 0o705)] {
        let before = mode(path);
        fs::set_permissions(path, Permissions::from_mode(loose)).unwrap();
        assert!(matches!(load(&file), Err(KeptError::Mode { fault, .. }) if fault.mode == loose));
        fs::set_permissions(path, Permissions::from_mode(before)).unwrap();
    }
    assert!(load(&file).unwrap().is_some());
}

#[test]
fn a_set_of_another_issuer_or_place_is_ignored() {
    ignored(&StoredKeySet { issuer: "https://b.example".to_owned(), ..kept() }, "another issuer");
    let other_url = Url::parse("https://b.example/keys").unwrap();
    ignored(&StoredKeySet { jwks_uri: other_url, ..kept() }, "another issuer or another URL");
    ignored(&StoredKeySet { discovered: true, ..kept() }, "another issuer or another URL");
    ignored(&StoredKeySet { ca: Some(fingerprint(b"a CA")), ..kept() }, "verified by another `ca`");
    let folder = tempdir().unwrap();
    file_in(&folder).save(&kept()).unwrap();
    let discovering = file_in(&folder).load(&settings("https://a.example"), &source(None), NOW);
    assert!(matches!(discovering, Err(KeptError::Elsewhere { .. })));
    let unsafe_place = Url::parse("http://a.example/keys").unwrap();
    file_in(&folder).save(&StoredKeySet { discovered: true, jwks_uri: unsafe_place, ..kept() }).unwrap();
    let discovering = file_in(&folder).load(&settings("https://a.example"), &source(None), NOW);
    assert!(matches!(discovering, Err(KeptError::Elsewhere { .. })));
}

#[test]
fn a_set_is_used_only_with_the_ca_that_verified_it() {
    let folder = tempdir().unwrap();
    file_in(&folder).save(&StoredKeySet { ca: Some(fingerprint(b"old")), ..kept() }).unwrap();
    let load = |pem: &[u8]| {
        let ca = Some(IssuerCa::new("ca.pem".into(), pem.to_vec()));
        let source = FetchedKeys { ca, ..source(Some("https://a.example/keys")) };
        file_in(&folder).load(&settings("https://a.example"), &source, NOW)
    };
    assert!(load(b"old").unwrap().is_some());
    assert!(matches!(load(b"new"), Err(KeptError::Elsewhere { .. })));
}

#[test]
fn times_that_can_not_be_are_ignored() {
    ignored(&StoredKeySet { fetched_at: NOW.seconds() + 1, ..kept() }, "in the future");
    ignored(&StoredKeySet { fetched_at: NOW.seconds() - 4200, ..kept() }, "older than `max_stale`");
    ignored(&StoredKeySet { fetched_at: 0, ..kept() }, "older than `max_stale`");
    ignored(&StoredKeySet { ttl_s: 59, ..kept() }, "is not a stored JWK Set");
    ignored(&StoredKeySet { ttl_s: u64::MAX, ..kept() }, "is not a stored JWK Set");
    let folder = tempdir().unwrap();
    file_in(&folder).save(&StoredKeySet { fetched_at: NOW.seconds() - 4199, ..kept() }).unwrap();
    assert!(load(&file_in(&folder)).unwrap().is_some());
}

#[test]
fn a_set_may_be_older_than_the_machine_is_up() {
    let folder = tempdir().unwrap();
    let days = |days: u64| Duration::from_secs(days * 24 * 3600);
    let age = days(7);
    file_in(&folder).save(&StoredKeySet { fetched_at: NOW.seconds() - age.as_secs(), ..kept() }).unwrap();
    let source = FetchedKeys { max_stale: days(7), ..source(Some("https://a.example/keys")) };
    let restored = file_in(&folder).load(&settings("https://a.example"), &source, NOW).unwrap().unwrap();
    assert!(Instant::now() - restored.times.requested_at >= age);
    assert!(Instant::now() < restored.times.usable_until);
}

#[test]
fn a_document_invalid_for_the_issuer_is_invalid_on_the_disk() {
    for document in ["", "{}", r#"{"keys":[]}"#, r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#] {
        ignored(&StoredKeySet { document: document.to_owned(), ..kept() }, "is not usable");
    }
}

#[test]
fn torn_edited_and_strange_files_are_ignored() {
    let folder = tempdir().unwrap();
    let file = file_in(&folder);
    file.save(&kept()).unwrap();
    let whole = fs::read(&file.path).unwrap();
    let edited = String::from_utf8(whole.clone()).unwrap().replace("\"ttl_s\":600", "\"ttl_s\":601");
    for bytes in [&whole[..whole.len() / 2], b"", b"{}", b"\xff", edited.as_bytes()] {
        fs::write(&file.path, bytes).unwrap();
        assert!(matches!(load(&file), Err(KeptError::Corrupt { .. })));
    }
    fs::write(&file.path, vec![b' '; usize::try_from(MAX_BYTES).unwrap() + 1]).unwrap();
    assert!(matches!(load(&file), Err(KeptError::Corrupt { .. })));
    fs::remove_file(&file.path).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", &file.path).unwrap();
    assert!(matches!(load(&file), Err(KeptError::Corrupt { .. })));
    fs::remove_file(&file.path).unwrap();
    fs::create_dir(&file.path).unwrap();
    assert!(matches!(load(&file), Err(KeptError::Corrupt { .. })));
    assert!(file.save(&kept()).is_err(), "a folder with the file's name is not replaced");
}
