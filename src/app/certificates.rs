//! Takes new certificates into use while the gateway runs.
//!
//! A thread looks at their files every second. New handshakes get the new certificate, and new connections to upstreams
//! are verified by the new CA; open connections stay as they are. Files that cannot be used change nothing: the error
//! is logged once, and a metric shows it until the files are in order.

use std::collections::HashSet;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::sign::CertifiedKey;
use tracing::{error, info, warn};

use super::external_issuers::IssuerInUse;
use crate::clock::{self, UnixTime};
use crate::config::upstream_certificates::{CertificateEnd, UpstreamCertificates, UpstreamCertificatesError, read_ca};
use crate::file_watch::FileWatch;
use crate::server::certificate::{self, CertificateError, CertificateFiles};
use crate::server::mutual_tls::MutualTls;
use crate::server::tls::{ListenerTls, ListenerTlsConfig, MinTlsVersion, ServedCertificate};
use crate::telemetry::error_chain::ErrorChain;
use crate::trust::key_source::IssuerCa;
use crate::upstream;
use crate::upstream::service::Upstream;
use crate::upstream::tls::CurrentClientConfig;

/// All certificates of the gateway that come from files.
#[derive(Clone, Debug, Default)]
pub(super) struct Certificates(Arc<ArcSwap<Vec<Arc<WatchedCertificate>>>>);

/// The certificates of a configuration, before they are in use.
#[derive(Debug, Default)]
pub(super) struct CertificateSet {
    /// Those of the configuration before.
    before: Arc<Vec<Arc<WatchedCertificate>>>,
    watched: Vec<Arc<WatchedCertificate>>,
    /// New content of files that are in use.
    renewed: Vec<RenewedCertificate>,
}

#[derive(Debug)]
struct RenewedCertificate {
    of: Arc<WatchedCertificate>,
    content: RenewedContent,
    ends: Vec<CertificateEnd>,
    watch: FileWatch,
}

#[derive(Debug)]
enum RenewedContent {
    Pair(Arc<CertifiedKey>),
    /// With other authorities for client certificates.
    Tls(ListenerTlsConfig),
}

/// Certificate files that are used together, for metrics.
#[derive(Debug)]
struct CertificateStatus(Mutex<CertificateState>);

#[derive(Clone, Debug)]
pub(super) struct CertificateState {
    pub(super) ends: Vec<CertificateEnd>,
    /// False while the files hold something else than what is in use.
    pub(super) is_current: bool,
}

#[derive(Debug)]
struct WatchedCertificate {
    user: CertificateUser,
    watch: Mutex<FileWatch>,
    status: CertificateStatus,
}

#[derive(Debug)]
enum CertificateUser {
    Listeners {
        files: CertificateFiles,
        served: Arc<ServedCertificate>,
    },
    /// The authorities of one listener's clients.
    Clients {
        mutual_tls: MutualTls,
        tls: Arc<ListenerTls>,
    },
    Upstream(UpstreamCertificates),
    Issuer(IssuerCa),
}

/// Takes files into use after they have been read.
type TakeIntoUse<'u> = Box<dyn FnOnce() + 'u>;

#[derive(Debug, thiserror::Error)]
pub(crate) enum RenewalError {
    #[error(transparent)]
    Pair(#[from] CertificateError),
    #[error(transparent)]
    Upstream(#[from] UpstreamCertificatesError),
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
    #[error("the certificate `{path}` ended at {}", end.to_the_second())]
    Ended { path: PathBuf, end: UnixTime },
}

const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Certificates {
    /// A set for another configuration. Certificates of the same files are shared.
    pub(super) fn next(&self) -> CertificateSet {
        CertificateSet { before: self.0.load_full(), ..CertificateSet::default() }
    }

    /// Takes a set into use.
    pub(super) fn replace(&self, set: CertificateSet) {
        for RenewedCertificate { of, content, ends, watch } in set.renewed {
            match (&of.user, content) {
                (CertificateUser::Listeners { served, .. }, RenewedContent::Pair(pair)) => served.replace(pair),
                (CertificateUser::Clients { tls, .. }, RenewedContent::Tls(config)) => tls.replace(config),
                (
                    CertificateUser::Listeners { .. }
                    | CertificateUser::Clients { .. }
                    | CertificateUser::Upstream(_)
                    | CertificateUser::Issuer(_),
                    RenewedContent::Pair(_) | RenewedContent::Tls(_),
                ) => continue,
            }
            of.status.set(CertificateState { ends, is_current: true });
            *of.watch() = watch;
        }
        self.0.store(Arc::new(set.watched));
    }

    pub(super) fn states(&self) -> Vec<CertificateState> {
        self.0.load().iter().map(|watched| watched.status.state()).collect()
    }

    /// Watches the files until the process ends.
    pub(super) fn start(&self) -> io::Result<()> {
        let certificates = self.clone();
        let watch = move || loop {
            thread::park_timeout(LOOK_EVERY);
            for watched in &**certificates.0.load() {
                if catch_unwind(AssertUnwindSafe(|| watched.look(clock::now()))).is_err() {
                    error!(file = %watched.user.name(), "reading a changed certificate panicked: the previous one stays in use");
                }
            }
        };
        thread::Builder::new().name("certificates".to_owned()).spawn(watch).map(drop)
    }
}

impl CertificateSet {
    /// The certificate of these files, which all listeners that name them share. Makes a missing self-signed one.
    pub(super) fn serve(&mut self, files: &CertificateFiles) -> Result<Arc<ServedCertificate>, RenewalError> {
        let find = |all: &[Arc<WatchedCertificate>]| {
            all.iter().find_map(|known| Some((Arc::clone(known), known.user.served_from(files)?)))
        };
        if let Some((_, served)) = find(&self.watched) {
            return Ok(served);
        }
        if files.self_signed {
            if files.are_missing() {
                files.make()?;
            }
            warn!(cert = %files.cert.display(), "serving a self-signed certificate: for development only");
        }
        let watch = FileWatch::new(vec![files.cert.clone(), files.key.clone()]);
        if let Some((known, served)) = find(&self.before) {
            // A renewal that was not noticed yet comes with the new configuration, or refuses it.
            if !known.watch().has_same_content(&watch) {
                let pair = files.load()?;
                let end = known.user.check_end(&known.status.state().ends, &pair, clock::now())?;
                let (of, ends) = (Arc::clone(&known), vec![(files.cert.clone(), end)]);
                self.renewed.push(RenewedCertificate { of, content: RenewedContent::Pair(pair), ends, watch });
            }
            self.watched.push(known);
            return Ok(served);
        }
        let pair = files.load()?;
        let ends = vec![(files.cert.clone(), certificate::ends_at(&pair))];
        let served = ServedCertificate::new(pair);
        let user = CertificateUser::Listeners { files: files.clone(), served: Arc::clone(&served) };
        self.watched.push(WatchedCertificate::new(user, watch, ends));
        Ok(served)
    }

    /// The certificates of the listeners.
    pub(super) fn served(&self) -> Vec<Arc<ServedCertificate>> {
        let served = |known: &Arc<WatchedCertificate>| match &known.user {
            CertificateUser::Listeners { served, .. } => Some(Arc::clone(served)),
            CertificateUser::Clients { .. } | CertificateUser::Upstream(_) | CertificateUser::Issuer(_) => None,
        };
        self.watched.iter().filter_map(served).collect()
    }

    /// The TLS of a new listener, or of one with other settings.
    pub(super) fn tls(
        &mut self,
        certificates: &[CertificateFiles],
        min_version: MinTlsVersion,
        mutual_tls: Option<&MutualTls>,
    ) -> Result<Arc<ListenerTls>, RenewalError> {
        let served = certificates.iter().map(|files| self.serve(files)).collect::<Result<_, _>>()?;
        let Some(mutual_tls) = mutual_tls else { return Ok(ListenerTls::new(served, min_version, None)?) };
        let watch = FileWatch::new(vec![mutual_tls.ca.clone()]);
        let authorities = mutual_tls.load()?;
        let ends = vec![(mutual_tls.ca.clone(), authorities.ends_at())];
        let tls = ListenerTls::new(served, min_version, Some(authorities))?;
        let user = CertificateUser::Clients { mutual_tls: mutual_tls.clone(), tls: Arc::clone(&tls) };
        self.watched.push(WatchedCertificate::new(user, watch, ends));
        Ok(tls)
    }

    /// Keeps the TLS of a listener whose settings have not changed: it resumes the sessions that it has begun, unless its
    /// files have new content.
    pub(super) fn keep_tls(
        &mut self,
        certificates: &[CertificateFiles],
        tls: &Arc<ListenerTls>,
    ) -> Result<(), RenewalError> {
        for files in certificates {
            self.serve(files)?;
        }
        let is_of_listener = |known: &&Arc<WatchedCertificate>| match &known.user {
            CertificateUser::Clients { tls: known, .. } => Arc::ptr_eq(known, tls),
            CertificateUser::Listeners { .. } | CertificateUser::Upstream(_) | CertificateUser::Issuer(_) => false,
        };
        let Some(known) = self.before.iter().find(is_of_listener).cloned() else { return Ok(()) };
        let watch = known.watch().afresh();
        if !known.watch().has_same_content(&watch)
            && let CertificateUser::Clients { mutual_tls, .. } = &known.user
        {
            let (config, ends) = renewed_tls(mutual_tls, tls)?;
            let (of, content) = (Arc::clone(&known), RenewedContent::Tls(config));
            self.renewed.push(RenewedCertificate { of, content, ends, watch });
        }
        self.watched.push(known);
        Ok(())
    }

    /// Adds the certificates of these upstreams. `new` are those that the configuration has read.
    pub(super) fn add_upstreams(&mut self, upstreams: &[Arc<Upstream>], new: Vec<UpstreamCertificates>) {
        let configs = upstreams.iter().flat_map(|upstream| &upstream.servers).filter_map(|server| server.tls.as_ref());
        let in_use: HashSet<_> = configs.map(|tls| Arc::as_ptr(&tls.config)).collect();
        let is_used = |current: &Arc<CurrentClientConfig>| in_use.contains(&Arc::as_ptr(current));
        let kept = self.before.iter().filter(|known| match &known.user {
            CertificateUser::Upstream(certificates) => is_used(&certificates.current),
            CertificateUser::Listeners { .. } | CertificateUser::Clients { .. } | CertificateUser::Issuer(_) => false,
        });
        self.watched.extend(kept.cloned());
        for mut certificates in new.into_iter().filter(|certificates| is_used(&certificates.current)) {
            let ends = certificates.ends.clone();
            let watch = std::mem::replace(&mut certificates.watch, FileWatch::new(Vec::new()));
            self.watched.push(WatchedCertificate::new(CertificateUser::Upstream(certificates), watch, ends));
        }
    }

    /// Adds the certificates of these issuers. `new` are those that the configuration has read.
    pub(super) fn add_issuers(&mut self, issuers: &[IssuerInUse], new: Vec<(IssuerCa, FileWatch)>) {
        let is_used = |ca: &IssuerCa| {
            let mut used = issuers.iter().filter_map(|issuer| issuer.source.ca());
            used.any(|used| used.is_copy_of(ca))
        };
        let kept = self.before.iter().filter(|known| match &known.user {
            CertificateUser::Issuer(ca) => is_used(ca),
            CertificateUser::Listeners { .. } | CertificateUser::Clients { .. } | CertificateUser::Upstream(_) => false,
        });
        self.watched.extend(kept.cloned());
        for (ca, watch) in new.into_iter().filter(|(ca, _)| is_used(ca)) {
            let ends = vec![(ca.path().to_owned(), upstream::tls::last_end(&ca.pem()))];
            self.watched.push(WatchedCertificate::new(CertificateUser::Issuer(ca), watch, ends));
        }
    }
}

impl WatchedCertificate {
    fn new(user: CertificateUser, watch: FileWatch, ends: Vec<CertificateEnd>) -> Arc<Self> {
        Arc::new(Self { user, watch: Mutex::new(watch), status: CertificateStatus::new(ends) })
    }

    fn watch(&self) -> MutexGuard<'_, FileWatch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, now: UnixTime) {
        let (user, before) = (&self.user, self.status.state());
        let Some(loaded) = self.watch().poll(now.seconds(), || user.load(&before.ends, now)) else { return };
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
    ) -> Result<(TakeIntoUse<'_>, Vec<CertificateEnd>), RenewalError> {
        match self {
            Self::Listeners { files, served } => {
                let pair = files.load()?;
                let end = self.check_end(before, &pair, now)?;
                Ok((Box::new(move || served.replace(pair)), vec![(files.cert.clone(), end)]))
            }
            Self::Clients { mutual_tls, tls } => {
                let (config, ends) = renewed_tls(mutual_tls, tls)?;
                Ok((Box::new(move || tls.replace(config)), ends))
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

    /// When a renewed certificate ends. One that clients refuse does not replace one that they accept.
    fn check_end(
        &self,
        before: &[CertificateEnd],
        pair: &CertifiedKey,
        now: UnixTime,
    ) -> Result<Option<UnixTime>, RenewalError> {
        let end = certificate::ends_at(pair);
        let has_ended = |end: Option<UnixTime>| end.is_some_and(|end| end <= now);
        match end.filter(|_| has_ended(end) && !before.iter().any(|(_, end)| has_ended(*end))) {
            Some(end) => Err(RenewalError::Ended { path: PathBuf::from(self.name().to_string()), end }),
            None => Ok(end),
        }
    }

    fn served_from(&self, wanted: &CertificateFiles) -> Option<Arc<ServedCertificate>> {
        match self {
            Self::Listeners { files, served } if files == wanted => Some(Arc::clone(served)),
            Self::Listeners { .. } | Self::Clients { .. } | Self::Upstream(_) | Self::Issuer(_) => None,
        }
    }

    /// The file that stands for all of them in messages.
    fn name(&self) -> std::path::Display<'_> {
        match self {
            Self::Listeners { files, .. } => files.cert.display(),
            Self::Clients { mutual_tls, .. } => mutual_tls.ca.display(),
            Self::Issuer(ca) => ca.path().display(),
            Self::Upstream(certificates) => certificates.ends.first().map_or(Path::new(""), |(path, _)| path).display(),
        }
    }
}

/// The configuration with the present authorities of client certificates.
fn renewed_tls(
    mutual_tls: &MutualTls,
    tls: &ListenerTls,
) -> Result<(ListenerTlsConfig, Vec<CertificateEnd>), RenewalError> {
    let authorities = mutual_tls.load()?;
    let ends = vec![(mutual_tls.ca.clone(), authorities.ends_at())];
    Ok((tls.with_authorities(authorities)?, ends))
}

impl CertificateStatus {
    fn new(ends: Vec<CertificateEnd>) -> Self {
        Self(Mutex::new(CertificateState { ends, is_current: true }))
    }

    fn state(&self) -> CertificateState {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, state: CertificateState) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

#[cfg(test)]
mod tests;
