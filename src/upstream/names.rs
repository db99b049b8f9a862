//! Names of servers, and the addresses that they have at present.
//!
//! The control plane looks names up, again and again as their time runs out; whoever connects reads what is known and waits only
//! while nothing is. While nobody answers, the last answer serves on, for an hour at most. The only home of `hickory_resolver`.

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

/// A name, as configured, with what is known of it.
#[derive(Debug)]
pub(crate) struct Name {
    name: Box<str>,
    known: watch::Sender<KnownAddresses>,
    /// Where the next connection begins among the addresses.
    turn: AtomicUsize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KnownAddresses {
    NotYet,
    /// Not empty, without doubles, in order.
    Addresses(Arc<[IpAddr]>),
    /// There is none: that is what was answered.
    NoAddress,
    /// Nobody says, or not for so long that what was said is no longer believed.
    Unanswered(Arc<str>),
}

/// Who is asked about names.
#[derive(Clone, Debug, Default)]
pub(crate) struct NameServers {
    /// Empty: those of the system.
    pub(crate) servers: Vec<SocketAddr>,
}

/// Looks names up, for all of them.
#[derive(Debug)]
pub(crate) struct NameLookup {
    servers: NameServers,
    /// Built anew after a while: the system's configuration may have changed.
    resolver: Mutex<Option<(Instant, TokioResolver)>>,
}

/// IPv4, or IPv6: each is asked about by itself, and one keeps what it has while the other changes.
#[derive(Debug, Default)]
struct AddressFamily {
    addresses: Vec<IpAddr>,
    /// While there is no newer answer.
    good_until: Option<Instant>,
}

/// One family's addresses, of which there are some, and for how long.
type Answer = Result<(Vec<IpAddr>, Duration), LookupFailure>;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum LookupFailure {
    /// The answer is that there is nothing.
    #[error("the name has no address")]
    NoAddress,
    #[error("cannot be resolved")]
    Failed(#[source] NetError),
    #[error("cannot be resolved in time")]
    Late,
}

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(3600);
/// How long an answer serves beyond its time while there is no newer one.
const MAX_STALE: Duration = Duration::from_secs(3600);
const RETRY_AFTER: Duration = Duration::from_secs(1);
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
const REBUILD_AFTER: Duration = Duration::from_secs(30);
const WARN_EVERY: Duration = Duration::from_secs(60);
/// Of one name; more are of no use to anyone.
const MOST_ADDRESSES: usize = 64;

impl Name {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.into(), known: watch::Sender::new(KnownAddresses::NotYet), turn: AtomicUsize::new(0) }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.name
    }

    /// All its addresses, for one connection: in turn, and IPv6 and IPv4 by turns (RFC 8305 §4). Waits for the first answer; the
    /// deadline is the caller's.
    pub(super) async fn addresses(&self) -> io::Result<Vec<IpAddr>> {
        let mut known = self.known.subscribe();
        let known = known.wait_for(|known| *known != KnownAddresses::NotYet).await;
        match known.as_deref() {
            Ok(KnownAddresses::Addresses(addresses)) => {
                Ok(in_turn(addresses, self.turn.fetch_add(1, Ordering::Relaxed)))
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

    /// Whether it has this address still, as far as is known.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        match &*self.known.borrow() {
            KnownAddresses::Addresses(addresses) => addresses.contains(&address),
            KnownAddresses::NoAddress => false,
            KnownAddresses::NotYet | KnownAddresses::Unanswered(_) => true,
        }
    }

    /// True where this changes what is known.
    fn publish(&self, known: KnownAddresses) -> bool {
        self.known.send_if_modified(|current| {
            let is_new = *current != known;
            *current = known;
            is_new
        })
    }
}

/// Looks a name up whenever its answer's time runs out; never ends.
pub(crate) async fn keep_fresh(name: Arc<Name>, lookup: Arc<NameLookup>) {
    let mut families = [AddressFamily::default(), AddressFamily::default()];
    let mut warned: Option<Instant> = None;
    loop {
        let answers: [Answer; 2] =
            tokio::join!(lookup.ask(&name.name, RecordType::A), lookup.ask(&name.name, RecordType::AAAA)).into();
        let now = Instant::now();
        let trouble = trouble(&answers);
        match trouble {
            None => warned = None,
            Some(error) if warned.is_none_or(|last| now - last >= WARN_EVERY) => {
                warned = Some(now);
                warn!(server.name = %name.name, "a server's name: {}", ErrorChain(error));
            }
            Some(_) => {}
        }
        families.iter_mut().zip(&answers).for_each(|(family, answer)| family.learn(answer, now));
        let known = known(&families, trouble);
        if name.publish(known.clone())
            && let KnownAddresses::Addresses(addresses) = known
        {
            info!(server.name = %name.name, ?addresses, "the addresses of a server");
        }
        let soonest = answers.iter().flatten().map(|(_, ttl)| *ttl).min();
        sleep(soonest.filter(|_| trouble.is_none()).unwrap_or(RETRY_AFTER)).await;
    }
}

/// What is to be asked again soon: no address at all, or a family that nobody says anything about.
fn trouble(answers: &[Answer; 2]) -> Option<&LookupFailure> {
    match answers {
        [Ok(_), Ok(_) | Err(LookupFailure::NoAddress)] | [Err(LookupFailure::NoAddress), Ok(_)] => None,
        [Err(LookupFailure::NoAddress), Err(error)] | [Err(error), _] | [Ok(_), Err(error)] => Some(error),
    }
}

/// From both families together.
fn known(families: &[AddressFamily; 2], trouble: Option<&LookupFailure>) -> KnownAddresses {
    let mut addresses: Vec<IpAddr> = families.iter().flat_map(|family| &family.addresses).copied().collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(MOST_ADDRESSES);
    match trouble {
        _ if !addresses.is_empty() => KnownAddresses::Addresses(addresses.into()),
        None | Some(LookupFailure::NoAddress) => KnownAddresses::NoAddress,
        Some(error) => KnownAddresses::Unanswered(ErrorChain(error).to_string().into()),
    }
}

impl AddressFamily {
    /// Without an answer it stays as it is, as long as that serves.
    fn learn(&mut self, answer: &Answer, now: Instant) {
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
    /// No such name, or no such record of it: an answer. Whatever else went wrong may go right the next time.
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
    pub(crate) fn new(servers: NameServers) -> Self {
        Self { servers, resolver: Mutex::new(None) }
    }

    /// One family's addresses: the other's trouble is not its own.
    async fn ask(&self, name: &str, family: RecordType) -> Answer {
        let resolver = self.resolver().map_err(LookupFailure::Failed)?;
        let found = timeout(LOOKUP_TIMEOUT, resolver.lookup(name, family)).await;
        let found = found.map_err(|_| LookupFailure::Late)?.map_err(LookupFailure::of)?;
        let addresses: Vec<IpAddr> = found.answers().iter().filter_map(|record| record.data.ip_addr()).collect();
        if addresses.is_empty() {
            return Err(LookupFailure::NoAddress);
        }
        let ttl = found.answers().iter().map(|record| record.ttl).min().unwrap_or(0);
        Ok((addresses, Duration::from_secs(ttl.into()).clamp(SHORTEST, LONGEST)))
    }

    fn resolver(&self) -> Result<TokioResolver, NetError> {
        let mut kept = self.resolver.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, resolver)) = kept.as_ref().filter(|(built, _)| built.elapsed() < REBUILD_AFTER) {
            return Ok(resolver.clone());
        }
        let resolver = self.servers.resolver()?;
        *kept = Some((Instant::now(), resolver.clone()));
        Ok(resolver)
    }
}

impl NameServers {
    fn resolver(&self) -> Result<TokioResolver, NetError> {
        let provider = TokioRuntimeProvider::default();
        let mut builder = if self.servers.is_empty() {
            // Without a usable resolv.conf it is this machine that is asked (resolv.conf(5)).
            TokioResolver::builder_tokio().unwrap_or_else(|_| {
                let local = SocketAddr::from(([127, 0, 0, 1], 53));
                TokioResolver::builder_with_config(asking(&[local]), provider)
            })
        } else {
            TokioResolver::builder_with_config(asking(&self.servers), provider)
        };
        let options: &mut ResolverOpts = builder.options_mut();
        options.use_hosts_file = ResolveHosts::Always;
        // What is known is kept here, and asked for when its time has run out.
        options.cache_size = 0;
        options.timeout = options.timeout.min(Duration::from_secs(2));
        builder.build()
    }
}

/// By UDP, and by TCP where an answer is too long for that. Names are taken as absolute ones.
fn asking(servers: &[SocketAddr]) -> ResolverConfig {
    let server = |address: &SocketAddr| {
        let mut ways = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
        ways.iter_mut().for_each(|way| way.port = address.port());
        NameServerConfig::new(address.ip(), true, ways)
    };
    ResolverConfig::from_parts(None, Vec::new(), servers.iter().map(server).collect())
}

/// The addresses from the `turn`th on, IPv6 and IPv4 by turns.
fn in_turn(addresses: &[IpAddr], turn: usize) -> Vec<IpAddr> {
    let start = turn % addresses.len().max(1);
    let turned = || addresses[start..].iter().chain(&addresses[..start]).copied();
    let first_is_v6 = addresses.get(start).is_some_and(IpAddr::is_ipv6);
    let mut same = turned().filter(|address| address.is_ipv6() == first_is_v6);
    let mut other = turned().filter(|address| address.is_ipv6() != first_is_v6);
    let mut ordered = Vec::with_capacity(addresses.len());
    while ordered.len() < addresses.len() {
        ordered.extend(same.next());
        ordered.extend(other.next());
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turned(addresses: &[&str], turn: usize) -> Vec<String> {
        let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        in_turn(&addresses, turn).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn connections_begin_at_each_address_in_turn_and_alternate_families() {
        let all = ["10.0.0.1", "10.0.0.2", "::1", "::2"];
        assert_eq!(turned(&all, 0), ["10.0.0.1", "::1", "10.0.0.2", "::2"]);
        assert_eq!(turned(&all, 1), ["10.0.0.2", "::1", "10.0.0.1", "::2"]);
        assert_eq!(turned(&all, 2), ["::1", "10.0.0.1", "::2", "10.0.0.2"]);
        assert_eq!(turned(&all, 5), turned(&all, 1));
        assert_eq!(turned(&["10.0.0.1", "::1", "::2"], 0), ["10.0.0.1", "::1", "::2"]);
        assert_eq!(turned(&["10.0.0.1"], 7), ["10.0.0.1"]);
        assert_eq!(turned(&[], 7), [""; 0]);
    }

    #[test]
    fn a_family_without_an_answer_keeps_its_last_addresses_for_its_time() {
        let (v4, v6): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "::1".parse().unwrap());
        let (mut families, mut now) = ([AddressFamily::default(), AddressFamily::default()], Instant::now());
        let mut hears = |answers: [Answer; 2], after: Duration| {
            now += after;
            families.iter_mut().zip(&answers).for_each(|(family, answer)| family.learn(answer, now));
            (known(&families, trouble(&answers)), trouble(&answers).is_some())
        };
        let found = |address| Ok((vec![address], SHORTEST));
        let addresses = |all: &[IpAddr]| KnownAddresses::Addresses(all.into());
        let (none, late) = (|| Err(LookupFailure::NoAddress), || Err(LookupFailure::Late));
        assert_eq!(hears([found(v4), none()], SHORTEST), (addresses(&[v4]), false));
        assert_eq!(hears([found(v4), found(v6)], SHORTEST), (addresses(&[v4, v6]), false));
        assert_eq!(hears([late(), found(v6)], SHORTEST), (addresses(&[v4, v6]), true));
        assert_eq!(hears([late(), late()], SHORTEST), (addresses(&[v4, v6]), true));
        assert_eq!(hears([late(), none()], SHORTEST), (addresses(&[v4]), true));
        assert_eq!(hears([none(), found(v6)], SHORTEST), (addresses(&[v6]), false));
        assert_eq!(hears([found(v4), late()], MAX_STALE), (addresses(&[v4, v6]), true));
        assert_eq!(hears([found(v4), late()], SHORTEST), (addresses(&[v4]), true));
        assert_eq!(hears([none(), none()], SHORTEST), (KnownAddresses::NoAddress, true));
        assert_eq!(
            hears([none(), late()], SHORTEST).0,
            KnownAddresses::Unanswered("cannot be resolved in time".into())
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_connects_waits_for_the_first_answer_only() {
        let name = Name::new("legacy.internal");
        assert!(timeout(Duration::from_secs(60), name.addresses()).await.is_err());
        let address: IpAddr = "10.0.0.1".parse().unwrap();
        let (found, ()) = tokio::join!(name.addresses(), async {
            name.publish(KnownAddresses::Addresses([address].into()));
        });
        assert_eq!(found.unwrap(), [address]);
        assert!(name.has(address) && !name.has("10.0.0.2".parse().unwrap()));
        for (gone, has) in
            [(KnownAddresses::Unanswered("nobody says".into()), true), (KnownAddresses::NoAddress, false)]
        {
            name.publish(gone);
            assert_eq!(name.addresses().await.unwrap_err().kind(), io::ErrorKind::NotFound);
            assert_eq!(name.has(address), has);
        }
    }
}
