mod names;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::file_privacy::TooOpen;
use crate::jose::algorithm::Algorithm::{EdDsa, Es256};

const NOW: UnixTime = UnixTime::from_seconds(1_800_000_000);
const HOUR: Duration = Duration::from_secs(3600);

/// The settings of a ring in a temporary folder.
struct Folder(RingSettings, #[expect(dead_code, reason = "deletes the folder when it is dropped")] TempDir);

fn folder() -> Folder {
    let parent = tempfile::tempdir().unwrap();
    let rules = RotationRules { algorithm: Es256, rotate_every: None, longest_ttl: HOUR, fixed_ends: false };
    Folder(RingSettings { directory: parent.path().join("keys"), rules, x5c: false, wrapping_keys: None }, parent)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn files(folder: &Folder, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(&folder.0.directory).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

fn opened(folder: &Folder, now: UnixTime) -> Ring {
    open(&folder.0, now).unwrap().0
}

fn signer(ring: &Ring, now: UnixTime) -> String {
    ring.signer(now).unwrap().key_id().to_owned()
}

#[test]
fn the_first_key_is_made_once_and_kept_with_tight_modes() {
    let folder = folder();
    let first = signer(&opened(&folder, NOW), NOW);
    assert_eq!(first, signer(&opened(&folder, NOW), NOW));
    assert_eq!(mode(&folder.0.directory), 0o700);
    for extension in ["pem", "json", "lock"] {
        assert_eq!(mode(&files(&folder, extension)[0]), 0o600, "{extension}");
    }
}

#[test]
fn files_that_others_can_read_are_refused() {
    let folder = folder();
    opened(&folder, NOW);
    for file in [&files(&folder, "pem")[0], &files(&folder, "json")[0]] {
        fs::set_permissions(file, Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(open(&folder.0, NOW), Err(RingError::Mode { fault: TooOpen { mode: 0o640, .. }, .. })));
        assert!(matches!(check(&folder.0), Err(RingError::Mode { .. })));
        fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
    }
    fs::set_permissions(&folder.0.directory, Permissions::from_mode(0o755)).unwrap();
    assert!(matches!(open(&folder.0, NOW), Err(RingError::Mode { fault: TooOpen { mode: 0o755, .. }, .. })));
}

#[test]
fn key_files_from_before_there_was_a_journal_sign_on() {
    let folder = folder();
    let first = signer(&opened(&folder, NOW), NOW);
    fs::remove_file(folder.0.directory.join(JOURNAL)).unwrap();
    assert_eq!(first, signer(&opened(&folder, NOW), NOW));
    assert!(folder.0.directory.join(JOURNAL).exists());
}

#[test]
fn a_retired_signing_key_is_followed_by_a_new_one() {
    let folder = folder();
    let first = signer(&opened(&folder, NOW), NOW);
    let second = signer(&change(&folder.0, &RingChange::Rotate { at_once: true }, NOW).unwrap(), NOW);
    let third = signer(&change(&folder.0, &RingChange::Retire { key_id: &second }, NOW).unwrap(), NOW);
    assert!(third != first && third != second);
}

#[test]
fn a_new_algorithm_is_published_before_and_after_it_signs() {
    let mut folder = folder();
    let old = signer(&opened(&folder, NOW), NOW);
    folder.0.rules.algorithm = EdDsa;
    let ring = opened(&folder, NOW);
    assert_eq!(signer(&ring, NOW), old);
    let later = NOW.plus(folder.0.rules.lead() + Duration::from_secs(1));
    let new = signer(&ring, later);
    assert_ne!(new, old);
    let published = ring.public_jwks().to_string();
    assert!(published.contains(&old) && published.contains(&new) && !published.contains("\"d\""));
    let ring = opened(&folder, later.plus(HOUR * 2));
    assert_eq!(ring.records().len(), 1);
    assert_eq!(files(&folder, "pem").len(), 1, "the old key's file stayed");
}

#[test]
fn a_crash_before_the_journal_leaves_the_ring_as_it_was() {
    let folder = folder();
    let before = opened(&folder, NOW);
    let stray = make_key(&folder.0, NOW, NOW).unwrap();
    let after = opened(&folder, NOW);
    assert_eq!(before.records(), after.records());
    assert!(key_path(&folder.0.directory, &stray).exists());
}

#[test]
fn a_crash_before_the_deletion_leaves_the_key_without_effect() {
    let folder = folder();
    let first = signer(&opened(&folder, NOW), NOW);
    let pem = files(&folder, "pem")[0].clone();
    let kept = fs::read(&pem).unwrap();
    change(&folder.0, &RingChange::Retire { key_id: &first }, NOW).unwrap();
    assert!(!pem.exists());
    write(&pem, &kept).unwrap();
    assert_ne!(signer(&opened(&folder, NOW), NOW), first);
    assert!(!opened(&folder, NOW).public_jwks().to_string().contains(&first));
}

#[test]
fn a_key_made_by_hand_signs_when_verifiers_know_it_or_at_once() {
    let folder = folder();
    let first = signer(&opened(&folder, NOW), NOW);
    let ring = change(&folder.0, &RingChange::Rotate { at_once: false }, NOW).unwrap();
    assert_eq!((signer(&ring, NOW), ring.records().len()), (first.clone(), 2));
    let ring = change(&folder.0, &RingChange::Rotate { at_once: true }, NOW).unwrap();
    assert_ne!(signer(&ring, NOW), first);
    assert!(matches!(change(&folder.0, &RingChange::Retire { key_id: "no" }, NOW), Err(RingError::Unknown(_))));
}

#[test]
fn a_requested_certificate_is_published_and_stays_the_same() {
    let mut folder = folder();
    assert!(opened(&folder, NOW).public_jwks()["keys"][0].get("x5c").is_none());
    folder.0.x5c = true;
    let jwk = opened(&folder, NOW).public_jwks()["keys"][0].clone();
    assert!(jwk["x5c"][0].is_string() && jwk["x5t#S256"].is_string());
    assert_eq!(jwk, opened(&folder, NOW).public_jwks()["keys"][0]);
}

#[test]
fn a_broken_file_is_named_and_nothing_is_made_in_its_place() {
    let folder = folder();
    opened(&folder, NOW);
    let pem = files(&folder, "pem")[0].clone();
    write(&pem, b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").unwrap();
    assert!(matches!(open(&folder.0, NOW), Err(RingError::NotAKey { path, .. }) if path == pem));
    for journal in ["", "{}", r#"{"version": 2, "keys": []}"#, r#"{"version": 1, "keys": [{"kid": "../x"}]}"#] {
        write(&folder.0.directory.join(JOURNAL), journal.as_bytes()).unwrap();
        assert!(matches!(open(&folder.0, NOW), Err(RingError::Journal { .. })), "{journal}");
    }
}

#[test]
fn many_hands_at_once_lose_no_key() {
    let folder = folder();
    opened(&folder, NOW);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| change(&folder.0, &RingChange::Rotate { at_once: false }, NOW).unwrap());
        }
    });
    assert_eq!(opened(&folder, NOW).records().len(), 9);
    assert_eq!(files(&folder, "pem").len(), 9);
}
