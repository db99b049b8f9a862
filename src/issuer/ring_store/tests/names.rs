//! The names of key files: each becomes the key id of its key.

use super::*;
use crate::jose::algorithm::Algorithm::{Ps256, Rs256};
use crate::jose::signing::SigningKey;
use crate::jose::token::Unverified;

/// A folder with one key file of this name, and nothing else. Also gives the thumbprint of the key.
fn with_key(name: &str) -> (Folder, String) {
    let folder = folder();
    let first = signer(&opened(&folder, NOW), NOW);
    fs::remove_file(folder.0.directory.join(JOURNAL)).unwrap();
    fs::rename(&files(&folder, "pem")[0], folder.0.directory.join(name)).unwrap();
    (folder, first)
}

/// Beside the key that is there.
fn copy_as(folder: &Folder, name: &str) {
    fs::copy(&files(folder, "pem")[0], folder.0.directory.join(name)).unwrap();
}

fn published(ring: &Ring) -> Vec<String> {
    let jwks = ring.public_jwks();
    jwks["keys"].as_array().unwrap().iter().map(|jwk| jwk["kid"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_name_of_an_operators_key_file_is_the_key_id() {
    for name in ["2026-11.pem", "ES256.2026-11.pem"] {
        let (folder, _) = with_key(name);
        assert_eq!(signer(&peek(&folder.0).unwrap().unwrap(), NOW), "2026-11", "{name}");
        // The first time without a journal, the second time with one.
        for _ in 0..2 {
            assert_eq!(signer(&opened(&folder, NOW), NOW), "2026-11", "{name}");
            assert_eq!(files(&folder, "pem"), [folder.0.directory.join("ES256.2026-11.pem")]);
        }
    }
    let (folder, _) = with_key("2026.11_a.pem");
    assert_eq!(signer(&opened(&folder, NOW), NOW), "2026.11_a");
}

#[test]
fn tokens_that_a_named_key_signed_by_thumbprint_stay_valid() {
    let folder = folder();
    let before = opened(&folder, NOW);
    let key = before.signer(NOW).unwrap();
    let old = key.sign("at+jwt", br#"{"iss":"i","sub":"s","aud":"a","exp":2000000000}"#).unwrap();
    fs::remove_file(folder.0.directory.join(JOURNAL)).unwrap();
    fs::rename(&files(&folder, "pem")[0], folder.0.directory.join("2026-11.pem")).unwrap();
    for ring in [opened(&folder, NOW), opened(&folder, NOW.plus(HOUR))] {
        assert_eq!(published(&ring), ["2026-11", key.key_id()]);
        let keys = ring.verifying_keys().unwrap();
        for token in [
            &old,
            &ring.signer(NOW).unwrap().sign("at+jwt", br#"{"iss":"i","sub":"s","aud":"a","exp":2000000000}"#).unwrap(),
        ] {
            let token = Unverified::parse(token).unwrap();
            let found = keys.find(token.header.key(), token.header.algorithm).unwrap();
            assert!(token.is_signed_by(found));
        }
    }
}

#[test]
fn a_generated_key_keeps_its_thumbprint_and_is_published_once() {
    let (folder, thumbprint) = with_key("x.pem");
    fs::rename(folder.0.directory.join("x.pem"), folder.0.directory.join(format!("ES256.{thumbprint}.pem"))).unwrap();
    assert_eq!(published(&opened(&folder, NOW)), [thumbprint]);
}

#[test]
fn two_files_of_one_name_are_an_error_and_nothing_is_renamed() {
    let (folder, thumbprint) = with_key("2026-11.pem");
    copy_as(&folder, "ES256.2026-11.pem");
    assert!(matches!(open(&folder.0, NOW), Err(RingError::SameName { key_id, .. }) if key_id == "2026-11"));
    assert_eq!(files(&folder, "pem").len(), 2);
    fs::remove_file(folder.0.directory.join("ES256.2026-11.pem")).unwrap();
    // Another key whose name is the thumbprint of this one.
    let (other, _) = with_key("y.pem");
    fs::copy(other.0.directory.join("y.pem"), folder.0.directory.join(format!("{thumbprint}.pem"))).unwrap();
    assert!(matches!(check(&folder.0), Err(RingError::SameName { .. })));
}

#[test]
fn a_name_that_cannot_be_a_key_id_is_refused() {
    for name in ["my key.pem", ".pem.pem", "ES256..pem", "k\u{fc}.pem", "a:b.pem", &format!("{}.pem", "k".repeat(129))]
    {
        let (folder, _) = with_key(name);
        assert!(matches!(open(&folder.0, NOW), Err(RingError::Name { .. })), "{name}");
    }
}

#[test]
fn the_configured_algorithm_counts_if_the_key_is_of_its_type() {
    let (mut folder, _) = with_key("2026-11.pem");
    folder.0.rules.algorithm = EdDsa;
    assert_eq!(peek(&folder.0).unwrap().unwrap().records()[0].algorithm, Es256);
    let (_, rsa) = SigningKey::generate(Rs256).unwrap();
    let pem = pem::encode(&pem::Pem::new(PEM_LABEL, rsa.to_vec()));
    write(&folder.0.directory.join("2026-11.pem"), pem.as_bytes()).unwrap();
    for (configured, expected) in [(Es256, Rs256), (Rs256, Rs256), (Ps256, Ps256)] {
        folder.0.rules.algorithm = configured;
        assert_eq!(peek(&folder.0).unwrap().unwrap().records()[0].algorithm, expected);
    }
}

#[test]
fn another_key_under_the_name_of_a_known_one_is_refused() {
    let (folder, _) = with_key("2026-11.pem");
    opened(&folder, NOW);
    let (_, other) = SigningKey::generate(Es256).unwrap();
    let pem = pem::encode(&pem::Pem::new(PEM_LABEL, other.to_vec()));
    write(&files(&folder, "pem")[0], pem.as_bytes()).unwrap();
    assert!(matches!(open(&folder.0, NOW), Err(RingError::NotAKey { .. })));
}

#[test]
fn a_named_key_is_retired_by_its_name_and_under_both_ids() {
    let (folder, thumbprint) = with_key("2026-11.pem");
    opened(&folder, NOW);
    assert!(matches!(change(&folder.0, &RingChange::Retire { key_id: &thumbprint }, NOW), Err(RingError::Unknown(_))));
    let ring = change(&folder.0, &RingChange::Retire { key_id: "2026-11" }, NOW).unwrap();
    assert!(!published(&ring).iter().any(|id| *id == thumbprint || id == "2026-11"));
}
