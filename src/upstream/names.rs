//! Names of servers, and their present addresses.
//!
//! The control plane resolves each name, and again when the TTL of its records ends. A connection attempt reads the
//! known addresses and waits only for the first answer. While the name servers do not answer, the last addresses stay
//! in use, for an hour at most. An answer that the whole name has no address is often a mistake that is soon corrected:
//! the last addresses stay in use for [`DnsSettings::stale_for`]. The only module that uses `hickory_resolver`.

use std::fmt::Display;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RecordType;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::telemetry::error_chain::ErrorChain;

/// A name, as configured, with its known addresses.
#[derive(Debug)]
pub(crate) struct Name {
    name: Box<str>,
    known: watch::Sender<KnownAddresses>,
    /// The index of the address with which the next connection begins.
    next_start: AtomicUsize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KnownAddresses {
    NotYet,
    /// Not empty, without duplicates, sorted.
    Addresses(Arc<[IpAddr]>),
    /// The answer is that there is none.
    NoAddress,
    /// There is no answer, or the last one is too old.
    Unanswered(Arc<str>),
}

/// How names are resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DnsSettings {
    /// The name servers to query. Empty: those of the system.
    pub(crate) servers: Vec<SocketAddr>,
    /// How long a name that suddenly has no address keeps its last ones.
    pub(crate) stale_for: Duration,
}

/// Resolves the names of all servers.
#[derive(Debug)]
pub(crate) struct NameLookup {
    settings: DnsSettings,
    /// Rebuilt after a while: the system's configuration may have changed.
    resolver: Mutex<Option<(Instant, TokioResolver)>>,
}

/// The addresses of a name by its answers so far.
#[derive(Debug, Default)]
struct NameAddresses {
    /// IPv4 and IPv6.
    families: [AddressFamily; 2],
    /// Until when the last addresses stay in use although the answer is that there are none.
    stale_until: Option<Instant>,
}

/// The IPv4 or IPv6 addresses of a name. Each family is queried by itself, so that a failure of one keeps the other's
/// result.
#[derive(Clone, Debug, Default)]
struct AddressFamily {
    addresses: Vec<IpAddr>,
    /// How long they may be used without a newer answer.
    good_until: Option<Instant>,
}

/// One family's addresses, at least one, and their TTL.
type Answer = Result<(Vec<IpAddr>, Duration), LookupFailure>;

/// Why there are no addresses.
#[derive(Debug, thiserror::Error)]
enum LookupFailure {
    /// The answer of the name servers.
    #[error("the name has no address")]
    NoAddress,
    #[error("the name cannot be resolved")]
    Failed(#[source] NetError),
    #[error("the name cannot be resolved in time")]
    Timeout,
}

const MIN_TTL: Duration = Duration::from_secs(1);
const MAX_TTL: Duration = Duration::from_secs(3600);
/// How long addresses stay in use beyond their TTL while there is no newer answer.
const MAX_STALE: Duration = Duration::from_secs(3600);
const RETRY_AFTER: Duration = Duration::from_secs(1);
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
const REBUILD_AFTER: Duration = Duration::from_secs(30);
const WARN_EVERY: Duration = Duration::from_secs(60);
/// Of one name; more would not help.
const MAX_ADDRESSES: usize = 64;

/// By the text: what is known of a name is no part of a definition.
impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Name {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.into(), known: watch::Sender::new(KnownAddresses::NotYet), next_start: AtomicUsize::new(0) }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.name
    }

    /// All its addresses for one connection attempt: each attempt begins with the next one, and IPv6 and IPv4 alternate
    /// (RFC 8305 §4). Waits for the first answer; the caller sets the deadline.
    pub(super) async fn addresses(&self) -> io::Result<Vec<IpAddr>> {
        let mut known = self.known.subscribe();
        let known = known.wait_for(|known| *known != KnownAddresses::NotYet).await;
        match known.as_deref() {
            Ok(KnownAddresses::Addresses(addresses)) => {
                Ok(rotated(addresses, self.next_start.fetch_add(1, Ordering::Relaxed)))
            }
            Ok(KnownAddresses::NoAddress) => Err(self.not_found(&LookupFailure::NoAddress)),
            Ok(KnownAddresses::Unanswered(why)) => Err(self.not_found(why)),
            Ok(KnownAddresses::NotYet) | Err(_) => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn not_found(&self, why: &dyn Display) -> io::Error {
        io::Error::new(io::ErrorKind::NotFound, format!("{}: {why}", self.name))
    }

    pub(super) fn known(&self) -> KnownAddresses {
        self.known.borrow().clone()
    }

    /// False if it is known not to have this address any more.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        match &*self.known.borrow() {
            KnownAddresses::Addresses(addresses) => addresses.contains(&address),
            KnownAddresses::NoAddress => false,
            KnownAddresses::NotYet | KnownAddresses::Unanswered(_) => true,
        }
    }

    /// True if that is a change.
    fn publish(&self, known: KnownAddresses) -> bool {
        self.known.send_if_modified(|current| {
            let is_new = *current != known;
            *current = known;
            is_new
        })
    }
}

/// Resolves a name again whenever the TTL of its records ends. Never returns.
pub(crate) async fn keep_fresh(name: Arc<Name>, lookup: Arc<NameLookup>) {
    let mut resolved = NameAddresses::default();
    let mut warned: Option<Instant> = None;
    loop {
        let answers: [Answer; 2] =
            tokio::join!(lookup.query(&name.name, RecordType::A), lookup.query(&name.name, RecordType::AAAA)).into();
        let now = Instant::now();
        let failure = failure(&answers);
        match failure {
            None => warned = None,
            Some(error) if warned.is_none_or(|last| now - last >= WARN_EVERY) => {
                warned = Some(now);
                warn!(
                    server.name = %name.name,
                    "cannot resolve the name of a server: {}; addresses that are known stay in use for up to an hour, or \
                     for `dns.stale_for` if the answer is that there are none; check the name and the name servers",
                    ErrorChain(error)
                );
            }
            Some(_) => {}
        }
        resolved.update(&answers, now, lookup.settings.stale_for);
        let known = known(&resolved.families, failure);
        if name.publish(known.clone())
            && let KnownAddresses::Addresses(addresses) = known
        {
            info!(server.name = %name.name, ?addresses, "the addresses of a server have changed");
        }
        let soonest = answers.iter().flatten().map(|(_, ttl)| *ttl).min();
        sleep(soonest.filter(|_| failure.is_none()).unwrap_or(RETRY_AFTER)).await;
    }
}

/// Why the name is resolved again soon: it has no address at all, or a query for one family has failed.
fn failure(answers: &[Answer; 2]) -> Option<&LookupFailure> {
    match answers {
        [Ok(_), Ok(_) | Err(LookupFailure::NoAddress)] | [Err(LookupFailure::NoAddress), Ok(_)] => None,
        [Err(LookupFailure::NoAddress), Err(error)] | [Err(error), _] | [Ok(_), Err(error)] => Some(error),
    }
}

/// The addresses of both families.
fn known(families: &[AddressFamily; 2], failure: Option<&LookupFailure>) -> KnownAddresses {
    let mut addresses: Vec<IpAddr> = families.iter().flat_map(|family| &family.addresses).copied().collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(MAX_ADDRESSES);
    match failure {
        _ if !addresses.is_empty() => KnownAddresses::Addresses(addresses.into()),
        None | Some(LookupFailure::NoAddress) => KnownAddresses::NoAddress,
        Some(error) => KnownAddresses::Unanswered(ErrorChain(error).to_string().into()),
    }
}

impl NameAddresses {
    fn update(&mut self, answers: &[Answer; 2], now: Instant, stale_for: Duration) {
        let before = self.families.clone();
        self.families.iter_mut().zip(answers).for_each(|(family, answer)| family.update(answer, now));
        if answers.iter().any(Result::is_ok) {
            self.stale_until = None;
            return;
        }
        let has_any = |families: &[AddressFamily; 2]| families.iter().any(|family| !family.addresses.is_empty());
        let is_denied = answers.iter().any(|answer| matches!(answer, Err(LookupFailure::NoAddress)));
        if is_denied && has_any(&before) && !has_any(&self.families) {
            let until = *self.stale_until.get_or_insert(now + stale_for);
            if now < until {
                self.families = before;
            }
        }
    }
}

impl AddressFamily {
    /// Without an answer the addresses stay, until they are too old.
    fn update(&mut self, answer: &Answer, now: Instant) {
        match answer {
            Ok((addresses, ttl)) => {
                self.addresses.clone_from(addresses);
                self.good_until = Some(now + *ttl + MAX_STALE);
            }
            Err(LookupFailure::NoAddress) => *self = Self::default(),
            Err(_) if self.good_until.is_none_or(|until| now >= until) => *self = Self::default(),
            Err(_) => {}
        }
    }
}

impl LookupFailure {
    /// No such name, or no such record: that is an answer. Any other failure may be temporary.
    fn of(error: NetError) -> Self {
        match error {
            NetError::Dns(DnsError::NoRecordsFound(NoRecords {
                response_code: ResponseCode::NXDomain | ResponseCode::NoError,
                ..
            })) => Self::NoAddress,
            error => Self::Failed(error),
        }
    }
}

impl NameLookup {
    pub(crate) fn new(settings: DnsSettings) -> Self {
        Self { settings, resolver: Mutex::new(None) }
    }

    /// One family's addresses.
    async fn query(&self, name: &str, family: RecordType) -> Answer {
        let resolver = self.resolver().map_err(LookupFailure::Failed)?;
        let found = timeout(LOOKUP_TIMEOUT, resolver.lookup(name, family)).await;
        let found = found.map_err(|_| LookupFailure::Timeout)?.map_err(LookupFailure::of)?;
        let addresses: Vec<IpAddr> = found.answers().iter().filter_map(|record| record.data.ip_addr()).collect();
        if addresses.is_empty() {
            return Err(LookupFailure::NoAddress);
        }
        let ttl = found.answers().iter().map(|record| record.ttl).min().unwrap_or(0);
        Ok((addresses, Duration::from_secs(ttl.into()).clamp(MIN_TTL, MAX_TTL)))
    }

    fn resolver(&self) -> Result<TokioResolver, NetError> {
        let mut kept = self.resolver.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, resolver)) = kept.as_ref().filter(|(built, _)| built.elapsed() < REBUILD_AFTER) {
            return Ok(resolver.clone());
        }
        let resolver = self.settings.resolver()?;
        *kept = Some((Instant::now(), resolver.clone()));
        Ok(resolver)
    }
}

impl DnsSettings {
    fn resolver(&self) -> Result<TokioResolver, NetError> {
        let provider = TokioRuntimeProvider::default();
        let mut builder = if self.servers.is_empty() {
            // Without a usable resolv.conf the local machine is the name server (resolv.conf(5)).
            TokioResolver::builder_tokio().unwrap_or_else(|_| {
                let local = SocketAddr::from(([127, 0, 0, 1], 53));
                TokioResolver::builder_with_config(resolver_config(&[local]), provider)
            })
        } else {
            TokioResolver::builder_with_config(resolver_config(&self.servers), provider)
        };
        let options: &mut ResolverOpts = builder.options_mut();
        options.use_hosts_file = ResolveHosts::Always;
        // The addresses are kept here, with their TTL.
        options.cache_size = 0;
        options.timeout = options.timeout.min(Duration::from_secs(2));
        builder.build()
    }
}

/// By UDP, and by TCP if an answer is too long. Names are absolute.
fn resolver_config(servers: &[SocketAddr]) -> ResolverConfig {
    let server = |address: &SocketAddr| {
        let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
        connections.iter_mut().for_each(|connection| connection.port = address.port());
        NameServerConfig::new(address.ip(), true, connections)
    };
    ResolverConfig::from_parts(None, Vec::new(), servers.iter().map(server).collect())
}

/// The addresses from index `start` on, IPv6 and IPv4 alternating.
fn rotated(addresses: &[IpAddr], start: usize) -> Vec<IpAddr> {
    let start = start % addresses.len().max(1);
    let from_start = || addresses[start..].iter().chain(&addresses[..start]).copied();
    let first_is_v6 = addresses.get(start).is_some_and(IpAddr::is_ipv6);
    let mut same = from_start().filter(|address| address.is_ipv6() == first_is_v6);
    let mut other = from_start().filter(|address| address.is_ipv6() != first_is_v6);
    let mut ordered = Vec::with_capacity(addresses.len());
    while ordered.len() < addresses.len() {
        ordered.extend(same.next());
        ordered.extend(other.next());
    }
    ordered
}

#[cfg(test)]
mod tests;
