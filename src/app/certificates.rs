//! Takes new certificates into use while the gateway runs.
//!
//! A thread looks at their files every second. New handshakes get the new certificate, and new connections to upstreams
//! are verified by the new CA; open connections stay as they are. Files that cannot be used change nothing: the error
//! is logged once, and a metric shows it until the files are in order.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::{error, info, warn};

use crate::clock::{self, UnixTime};
use crate::config::upstream_certificates::{CertificateEnd, UpstreamCertificates, UpstreamCertificatesError, read_ca};
use crate::file_watch::FileWatch;
use crate::server::certificate::{self, CertificateError, CertificateFiles};
use crate::server::tls::ServedCertificate;
use crate::telemetry::error_chain::ErrorChain;
use crate::trust::key_source::IssuerCa;
use crate::upstream;

/// All certificates of the gateway that come from files.
#[derive(Debug, Default)]
pub(super) struct Certificates {
    watched: Vec<WatchedCertificate>,
}

/// Certificate files that are used together, for metrics.
#[derive(Debug)]
pub(super) struct CertificateStatus(Mutex<CertificateState>);

#[derive(Clone, Debug)]
pub(super) struct CertificateState {
    pub(super) ends: Vec<CertificateEnd>,
    /// False while the files hold something else than what is in use.
    pub(super) is_current: bool,
}

#[derive(Debug)]
struct WatchedCertificate {
    user: CertificateUser,
    watch: FileWatch,
    status: Arc<CertificateStatus>,
}

#[derive(Debug)]
enum CertificateUser {
    Listeners { files: CertificateFiles, served: Arc<ServedCertificate> },
    Upstream(UpstreamCertificates),
    Issuer(IssuerCa),
}

/// Takes files into use after they have been read.
type TakeIntoUse<'u> = Box<dyn FnOnce() + 'u>;

#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    Pair(#[from] CertificateError),
    #[error(transparent)]
    Upstream(#[from] UpstreamCertificatesError),
    #[error("the certificate `{path}` ended at {}", end.to_the_second())]
    Ended { path: PathBuf, end: UnixTime },
}

const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Certificates {
    /// The certificate of these files, which all listeners that name them share. Makes a missing self-signed one.
    pub(super) fn serve(&mut self, files: &CertificateFiles) -> Result<Arc<ServedCertificate>, CertificateError> {
        let known = self.watched.iter().find_map(|watched| watched.user.served_from(files));
        if let Some(served) = known {
            return Ok(served);
        }
        if files.self_signed {
            if files.are_missing() {
                files.make()?;
            }
            warn!(cert = %files.cert.display(), "serving a self-signed certificate: for development only");
        }
        let watch = FileWatch::new(vec![files.cert.clone(), files.key.clone()]);
        let pair = files.load()?;
        let ends = vec![(files.cert.clone(), certificate::ends_at(&pair))];
        let served = ServedCertificate::new(pair);
        let user = CertificateUser::Listeners { files: files.clone(), served: Arc::clone(&served) };
        self.watched.push(WatchedCertificate { user, watch, status: CertificateStatus::new(ends) });
        Ok(served)
    }

    pub(super) fn watch_upstream(&mut self, mut certificates: UpstreamCertificates) {
        let ends = certificates.ends.clone();
        let watch = std::mem::replace(&mut certificates.watch, FileWatch::new(Vec::new()));
        let user = CertificateUser::Upstream(certificates);
        self.watched.push(WatchedCertificate { user, watch, status: CertificateStatus::new(ends) });
    }

    pub(super) fn watch_issuer(&mut self, ca: IssuerCa, watch: FileWatch) {
        let ends = vec![(ca.path().to_owned(), upstream::tls::last_end(&ca.pem()))];
        let status = CertificateStatus::new(ends);
        self.watched.push(WatchedCertificate { user: CertificateUser::Issuer(ca), watch, status });
    }

    pub(super) fn statuses(&self) -> Vec<Arc<CertificateStatus>> {
        self.watched.iter().map(|watched| Arc::clone(&watched.status)).collect()
    }

    /// Watches the files until the process ends.
    pub(super) fn start(mut self) -> io::Result<()> {
        if self.watched.is_empty() {
            return Ok(());
        }
        let watch = move || loop {
            thread::park_timeout(LOOK_EVERY);
            for watched in &mut self.watched {
                if catch_unwind(AssertUnwindSafe(|| watched.look(clock::now()))).is_err() {
                    error!(file = %watched.user.name(), "reading a changed certificate panicked: the previous one stays in use");
                }
            }
        };
        thread::Builder::new().name("certificates".to_owned()).spawn(watch).map(drop)
    }
}

impl WatchedCertificate {
    fn look(&mut self, now: UnixTime) {
        let (user, before) = (&self.user, self.status.state());
        let Some(loaded) = self.watch.poll(now.seconds(), || user.load(&before.ends, now)) else { return };
        match loaded {
            Ok((take_into_use, ends)) => {
                take_into_use();
                for (path, end) in &ends {
                    let end = end.map_or_else(|| "never".to_owned(), UnixTime::to_the_second);
                    info!(file = %path.display(), ends_at = end, "a changed certificate is in use for new connections");
                }
                self.status.set(CertificateState { ends, is_current: true });
            }
            Err(fault) => {
                error!(
                    file = %user.name(),
                    error = %ErrorChain(&fault),
                    "cannot use a changed certificate: the previous one stays in use; correct the files, no restart is needed"
                );
                self.status.set(CertificateState { is_current: false, ..before });
            }
        }
    }
}

impl CertificateUser {
    fn load(
        &self,
        before: &[CertificateEnd],
        now: UnixTime,
    ) -> Result<(TakeIntoUse<'_>, Vec<CertificateEnd>), ReloadError> {
        match self {
            Self::Listeners { files, served } => {
                let pair = files.load()?;
                let end = certificate::ends_at(&pair);
                let has_ended = |end: Option<UnixTime>| end.is_some_and(|end| end <= now);
                // A certificate that clients refuse does not replace one that they accept.
                if let Some(end) = end.filter(|_| has_ended(end) && !before.iter().any(|(_, end)| has_ended(*end))) {
                    return Err(ReloadError::Ended { path: files.cert.clone(), end });
                }
                Ok((Box::new(move || served.replace(pair)), vec![(files.cert.clone(), end)]))
            }
            Self::Issuer(ca) => {
                let pem = read_ca(ca.path())?;
                let ends = vec![(ca.path().to_owned(), upstream::tls::last_end(&pem))];
                Ok((Box::new(move || ca.replace(pem)), ends))
            }
            Self::Upstream(certificates) => {
                let (config, ends) = certificates.load()?;
                Ok((Box::new(move || certificates.current.replace(config)), ends))
            }
        }
    }

    fn served_from(&self, wanted: &CertificateFiles) -> Option<Arc<ServedCertificate>> {
        match self {
            Self::Listeners { files, served } if files == wanted => Some(Arc::clone(served)),
            Self::Listeners { .. } | Self::Upstream(_) | Self::Issuer(_) => None,
        }
    }

    /// The file that stands for all of them in messages.
    fn name(&self) -> std::path::Display<'_> {
        match self {
            Self::Listeners { files, .. } => files.cert.display(),
            Self::Issuer(ca) => ca.path().display(),
            Self::Upstream(certificates) => certificates.ends.first().map_or(Path::new(""), |(path, _)| path).display(),
        }
    }
}

impl CertificateStatus {
    fn new(ends: Vec<CertificateEnd>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(CertificateState { ends, is_current: true })))
    }

    pub(super) fn state(&self) -> CertificateState {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, state: CertificateState) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::tempdir;

    use super::*;

    /// So early that every change counts as recent.
    const NOW: UnixTime = UnixTime::from_seconds(0);

    fn chain(served: &ServedCertificate) -> Vec<u8> {
        served.current().cert[0].to_vec()
    }

    #[test]
    fn listeners_of_the_same_files_share_their_certificate() {
        let folder = tempdir().unwrap();
        let files = |name: &str| CertificateFiles {
            cert: folder.path().join(format!("{name}.crt")),
            key: folder.path().join(format!("{name}.key")),
            self_signed: true,
        };
        let mut certificates = Certificates::default();
        let served = certificates.serve(&files("a")).unwrap();
        assert!(Arc::ptr_eq(&served, &certificates.serve(&files("a")).unwrap()));
        let [watched] = &mut certificates.watched[..] else { panic!("one certificate") };
        let first = chain(&served);
        files("b").make().unwrap();
        let mut look = |expected_to_be_current| {
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
}
