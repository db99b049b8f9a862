//! The connection to Redis or Valkey.
//!
//! The control plane has the connection, and carries out the calls of workers within the timeout of the store. A call
//! without an answer closes the connection: all other calls fail at once until the [keeper](super::replicas) has a new
//! one. A call that the store answers with an error fails alone. If the store refuses heartbeats too, it counts as
//! unreachable. Calls are not retried, because a failed call may have been carried out.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, FromRedisValue, InfoDict, IntoConnectionInfo as _,
    RedisConnectionInfo, RedisError, Script, ServerErrorKind, TlsCertificates,
};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tracing::{error, warn};

use super::outage::Outage;
use super::settings::{RedisSettings, StoreTls};
use super::shared_state::SharedState;
use crate::clock;
use crate::telemetry::error_chain::ErrorChain;

#[derive(Clone)]
pub(crate) struct RedisStore {
    parts: Arc<RedisParts>,
}

struct RedisParts {
    client: Client,
    /// Redis in messages, with its key and `HOST:PORT`.
    name: String,
    connection: ArcSwapOption<MultiplexedConnection>,
    control: Handle,
    prefix: String,
    timeout: Duration,
    state: watch::Sender<SharedState>,
    /// Wakes the keeper when a connection is lost.
    lost: Notify,
    failures: AtomicU64,
    /// The number of connections so far.
    connections: AtomicU64,
    /// The time at which the last connection was lost, or the time of the start.
    lost_at: ArcSwap<Instant>,
    /// Whether this replica has removed itself from the store.
    has_left: AtomicBool,
    /// Whether the last attempt to use the server was refused.
    is_refused: AtomicBool,
    /// The time at which a refused call was last logged.
    refused_at: ArcSwapOption<Instant>,
}

/// The store cannot be reached, does not answer in time, or refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Redis is unreachable")]
pub(crate) struct StoreUnavailable;

#[derive(Debug, thiserror::Error)]
#[error("`shared.redis` cannot be used")]
pub(crate) struct RedisSetupError(#[from] RedisError);

/// A call that was not answered as expected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallFault {
    #[error("no answer within {}ms", .0.as_millis())]
    TimedOut(Duration),
    #[error(transparent)]
    Redis(#[from] RedisError),
}

/// For a new connection, with its handshakes. No request waits for it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The effect of an outage on requests.
pub(crate) const WITHOUT_REDIS: &str =
    "rate limits follow `shared.on_loss`, new revocations are sent later, assertions get 503";
/// Between the lines about calls that the store refuses.
const REFUSAL_LOG_PAUSE: Duration = Duration::from_secs(60);

impl CallFault {
    pub(super) fn is_refused_login(&self) -> bool {
        let Self::Redis(error) = self else { return false };
        error.kind() == ErrorKind::AuthenticationFailed || matches!(error.code(), Some("NOAUTH" | "WRONGPASS"))
    }

    /// Whether the user lacks a right to a command or a key. Redis 6 has no code for a script without it.
    pub(super) fn is_lack_of_rights(&self) -> bool {
        let Self::Redis(error) = self else { return false };
        let in_script =
            |text: &str| text.contains("executing the script can't") || text.contains("ACL failure in script");
        error.code() == Some("NOPERM") || error.detail().is_some_and(in_script)
    }

    /// Whether waiting does not help: the operator has to correct the login or the rights.
    pub(super) fn outage(&self) -> Outage {
        if self.is_refused_login() || self.is_lack_of_rights() { Outage::Refused } else { Outage::Unreachable }
    }

    fn means_unreachable(&self) -> bool {
        let Self::Redis(error) = self else { return true };
        match error.kind() {
            ErrorKind::Server(
                ServerErrorKind::ReadOnly | ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown,
            ) => true,
            ErrorKind::Server(_) | ErrorKind::UnexpectedReturnType => false,
            ErrorKind::Extension => matches!(error.code(), Some("NOAUTH" | "WRONGPASS")),
            // The enum of the library may grow.
            _ => true,
        }
    }
}

impl RedisStore {
    /// Does not connect: the keeper does.
    pub(crate) fn new(settings: &RedisSettings, control: &Handle) -> Result<Self, RedisSetupError> {
        let parts = RedisParts {
            client: client(settings)?,
            name: format!("Redis (`shared.redis`, {})", settings.server()),
            connection: ArcSwapOption::empty(),
            control: control.clone(),
            prefix: settings.prefix.clone(),
            timeout: settings.timeout,
            state: watch::Sender::new(SharedState::Unknown),
            lost: Notify::new(),
            failures: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            lost_at: ArcSwap::from_pointee(clock::instant()),
            has_left: AtomicBool::new(false),
            is_refused: AtomicBool::new(false),
            refused_at: ArcSwapOption::empty(),
        };
        Ok(Self { parts: Arc::new(parts) })
    }

    /// The state of the store, and its changes.
    pub(crate) fn state(&self) -> watch::Receiver<SharedState> {
        self.parts.state.subscribe()
    }

    /// The number of failed calls.
    pub(crate) fn failures(&self) -> u64 {
        self.parts.failures.load(Ordering::Relaxed)
    }

    /// The number of the connection. After a reconnect, the store may have lost its last writes.
    pub(crate) fn connection_number(&self) -> u64 {
        self.parts.connections.load(Ordering::Acquire)
    }

    /// The time at which the last connection was lost, or the time of the start.
    pub(super) fn lost_at(&self) -> Instant {
        **self.parts.lost_at.load()
    }

    /// The longest time that a call takes.
    pub(crate) fn timeout(&self) -> Duration {
        self.parts.timeout
    }

    /// Redis in messages, with its key and `HOST:PORT`.
    pub(crate) fn name(&self) -> &str {
        &self.parts.name
    }

    /// `is unreachable` or `refuses …`. `None` while calls can be made.
    pub(crate) fn outage(&self) -> Option<&'static str> {
        let is_refused = self.parts.is_refused.load(Ordering::Relaxed);
        let outage = if is_refused { "refuses the login or a right of its user" } else { "is unreachable" };
        (!self.is_reached()).then_some(outage)
    }

    pub(super) fn set_refused(&self, is_refused: bool) {
        self.parts.is_refused.store(is_refused, Ordering::Relaxed);
    }

    pub(crate) fn is_reached(&self) -> bool {
        self.parts.connection.load().is_some()
    }

    pub(crate) fn control(&self) -> &Handle {
        &self.parts.control
    }

    /// The key with this name in the store.
    pub(super) fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.parts.prefix)
    }

    /// Does `work` with the connection, in the control plane. The work goes on if the future is dropped.
    pub(super) async fn call<T, W>(
        &self,
        work: impl FnOnce(MultiplexedConnection) -> W + Send + 'static,
    ) -> Result<T, StoreUnavailable>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, RedisError>> + Send + 'static,
    {
        let Some(connection) = self.parts.connection.load_full() else { return Err(StoreUnavailable) };
        let work = work(MultiplexedConnection::clone(&connection));
        let parts = Arc::clone(&self.parts);
        let called = self.parts.control.spawn(async move {
            let answer = within(parts.timeout, work).await;
            answer.map_err(|fault| parts.record_failure(&connection, &fault))
        });
        match called.await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(())) | Err(_) => Err(StoreUnavailable),
        }
    }

    /// Runs a script, and loads it first if the store does not have it.
    pub(super) async fn invoke<T: FromRedisValue + Send + 'static>(
        &self,
        script: &'static Script,
        keys: Vec<String>,
        arguments: Vec<String>,
    ) -> Result<T, StoreUnavailable> {
        self.call(async move |connection| invoke_on(connection, script, keys, arguments).await).await
    }

    /// A new connection, for the keeper.
    pub(super) async fn connect(&self) -> Result<MultiplexedConnection, CallFault> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(CONNECT_TIMEOUT));
        within(CONNECT_TIMEOUT, self.parts.client.get_multiplexed_async_connection_with_config(&config)).await
    }

    pub(super) fn current(&self) -> Option<Arc<MultiplexedConnection>> {
        self.parts.connection.load_full()
    }

    /// Calls go over this connection from now on.
    pub(super) fn use_connection(&self, connection: Arc<MultiplexedConnection>) {
        self.parts.connection.store(Some(connection));
        self.parts.connections.fetch_add(1, Ordering::Release);
    }

    /// Does nothing if the connection was lost meanwhile.
    pub(super) fn publish_reached(&self, connection: &Arc<MultiplexedConnection>, reached: SharedState) {
        self.parts.state.send_if_modified(|known| {
            let is_current = self.current().is_some_and(|current| Arc::ptr_eq(&current, connection));
            let is_new = is_current && *known != reached;
            if is_new {
                *known = reached;
            }
            is_new
        });
    }

    /// The `run_id` of the server. `None` if the user may not read it.
    pub(super) async fn server_of(&self, connection: &MultiplexedConnection) -> Result<Option<String>, CallFault> {
        let mut connection = connection.clone();
        let mut info = redis::cmd("INFO");
        let asked = within(CONNECT_TIMEOUT, info.arg("server").query_async::<InfoDict>(&mut connection)).await;
        match asked {
            Ok(info) => Ok(info.get("run_id")),
            // The user may lack the right to `INFO`.
            Err(CallFault::Redis(error)) if matches!(error.kind(), ErrorKind::Server(_)) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Fails if the store answers later than calls wait.
    pub(super) async fn ping(&self, connection: &MultiplexedConnection) -> Result<(), CallFault> {
        let mut connection = connection.clone();
        within(self.parts.timeout, redis::cmd("PING").query_async(&mut connection)).await
    }

    /// Stops the heartbeats.
    pub(super) fn ends(&self) {
        self.parts.has_left.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_left(&self) -> bool {
        self.parts.has_left.load(Ordering::Relaxed)
    }

    /// Ends a connection whose call has failed.
    pub(super) fn disconnect(&self, connection: &Arc<MultiplexedConnection>, fault: &CallFault) {
        self.parts.disconnect(connection, fault);
    }

    /// Makes the keeper send a heartbeat at once.
    pub(super) fn look_again(&self) {
        self.parts.lost.notify_one();
    }

    /// Waits until a connection is lost or a heartbeat is requested.
    pub(super) async fn lost(&self) {
        self.parts.lost.notified().await;
    }
}

impl RedisParts {
    fn record_failure(&self, connection: &Arc<MultiplexedConnection>, fault: &CallFault) {
        if fault.means_unreachable() {
            return self.disconnect(connection, fault);
        }
        self.failures.fetch_add(1, Ordering::Relaxed);
        let (now, last) = (clock::instant(), self.refused_at.load_full());
        if last.is_none_or(|last| now.saturating_duration_since(*last) >= REFUSAL_LOG_PAUSE) {
            self.refused_at.store(Some(Arc::new(now)));
            let name = &self.name;
            if fault.is_lack_of_rights() {
                error!(
                    error = %ErrorChain(fault),
                    "{name} refuses a call: `portcullis check --connect` names the missing right"
                );
            } else {
                warn!(error = %ErrorChain(fault), "{name} refuses a call");
            }
        }
    }

    fn disconnect(&self, connection: &Arc<MultiplexedConnection>, fault: &CallFault) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let is_same = |known: &Arc<MultiplexedConnection>| Arc::ptr_eq(known, connection);
        let before = self.connection.rcu(|known| known.clone().filter(|known| !is_same(known)));
        if !before.is_some_and(|before| is_same(&before)) {
            return;
        }
        // Set before the state changes, because shares are spent from then on.
        self.lost_at.store(Arc::new(clock::instant()));
        self.state.send_if_modified(|state| {
            let SharedState::Reached { replicas, .. } = state else { return false };
            *state = SharedState::Lost { replicas: *replicas };
            true
        });
        warn!(
            error = %ErrorChain(fault),
            "{} {}: {WITHOUT_REDIS}",
            self.name,
            if fault.outage() == Outage::Refused { "refuses calls" } else { "is unreachable" }
        );
        self.lost.notify_one();
    }
}

pub(super) async fn invoke_on<T: FromRedisValue>(
    mut connection: MultiplexedConnection,
    script: &Script,
    keys: Vec<String>,
    arguments: Vec<String>,
) -> Result<T, RedisError> {
    let mut invocation = script.prepare_invoke();
    for key in keys {
        invocation.key(key);
    }
    for argument in arguments {
        invocation.arg(argument);
    }
    invocation.invoke_async(&mut connection).await
}

pub(super) async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, RedisError>>,
) -> Result<T, CallFault> {
    match timeout(limit, work).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(CallFault::TimedOut(limit)),
    }
}

fn client(settings: &RedisSettings) -> Result<Client, RedisError> {
    let (host, port) = (settings.host.clone(), settings.port);
    let mut login = RedisConnectionInfo::default().set_db(settings.database).set_skip_set_lib_name();
    if let Some(username) = &settings.username {
        login = login.set_username(username);
    }
    if let Some(password) = &settings.password {
        login = login.set_password(password.expose());
    }
    match &settings.tls {
        StoreTls::Plain => {
            Client::open(ConnectionAddr::Tcp(host, port).into_connection_info()?.set_redis_settings(login))
        }
        StoreTls::Verified(ca) => {
            let address = ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None };
            let certificates = TlsCertificates { client_tls: None, root_cert: ca.clone() };
            Client::build_with_tls(address.into_connection_info()?.set_redis_settings(login), certificates)
        }
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedisStore(..)")
    }
}
