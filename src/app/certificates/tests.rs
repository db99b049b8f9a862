use std::fs;
use std::path::Path;

use tempfile::tempdir;

use super::*;

/// So early that every change counts as recent.
const NOW: UnixTime = UnixTime::from_seconds(0);

fn chain(served: &ServedCertificate) -> Vec<u8> {
    served.current().cert[0].to_vec()
}

fn files_in(folder: &Path, name: &str) -> CertificateFiles {
    let file = |extension: &str| folder.join(format!("{name}.{extension}"));
    CertificateFiles { cert: file("crt"), key: file("key"), self_signed: true }
}

#[test]
fn listeners_of_the_same_files_share_their_certificate() {
    let folder = tempdir().unwrap();
    let files = |name: &str| files_in(folder.path(), name);
    let certificates = Certificates::default();
    let mut set = certificates.next();
    let served = set.serve(&files("a")).unwrap();
    assert!(Arc::ptr_eq(&served, &set.serve(&files("a")).unwrap()));
    certificates.replace(set);
    let all = certificates.0.load_full();
    let [watched] = &all[..] else { panic!("one certificate") };
    let first = chain(&served);
    files("b").make().unwrap();
    let look = |expected_to_be_current| {
        watched.look(NOW);
        watched.look(NOW);
        assert_eq!(watched.status.state().is_current, expected_to_be_current);
        chain(&served)
    };
    fs::copy(files("b").cert, files("a").cert).unwrap();
    assert_eq!(look(false), first, "the key is of the other certificate");
    fs::copy(files("b").key, files("a").key).unwrap();
    let second = look(true);
    assert_ne!(second, first);
    fs::remove_file(files("a").cert).unwrap();
    assert_eq!(look(false), second);
    fs::copy(files("b").cert, files("a").cert).unwrap();
    assert_eq!(look(true), second);
}

#[test]
fn the_next_configuration_shares_and_renews_certificates() {
    let folder = tempdir().unwrap();
    let files = |name: &str| files_in(folder.path(), name);
    let certificates = Certificates::default();
    let mut first = certificates.next();
    let served = first.serve(&files("a")).unwrap();
    certificates.replace(first);
    let before = chain(&served);
    files("b").make().unwrap();
    fs::copy(files("b").cert, files("a").cert).unwrap();
    assert!(certificates.next().serve(&files("a")).is_err(), "the key is of the other certificate");
    fs::copy(files("b").key, files("a").key).unwrap();
    let mut second = certificates.next();
    assert!(Arc::ptr_eq(&served, &second.serve(&files("a")).unwrap()));
    assert_eq!(chain(&served), before, "not in use yet");
    certificates.replace(second);
    assert_ne!(chain(&served), before);
    certificates.replace(certificates.next());
    assert!(certificates.states().is_empty());
}
