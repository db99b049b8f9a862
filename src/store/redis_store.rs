//! The connection to Redis or Valkey.
//!
//! It lives in the control plane. A call from a worker is sent there, and waits no longer than the timeout of the store.
//! Nothing is sent again by itself: whether a call that has failed was carried out is unknown.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo, RedisError, TlsCertificates};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::timeout;

use super::replicas::SharedState;
use super::settings::{RedisSettings, StoreTls};

#[derive(Clone)]
pub(crate) struct RedisStore {
    parts: Arc<RedisParts>,
}

struct RedisParts {
    manager: ConnectionManager,
    control: Handle,
    prefix: String,
    timeout: Duration,
    state: watch::Sender<SharedState>,
}

/// The store cannot be reached, does not answer in time, or refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shared store is out of reach")]
pub(crate) struct StoreUnavailable;

#[derive(Debug, thiserror::Error)]
#[error("`shared.redis` cannot be used")]
pub(crate) struct RedisSetupError(#[from] RedisError);

impl RedisStore {
    /// Connects at the first call.
    pub(crate) fn new(settings: &RedisSettings, control: &Handle) -> Result<Self, RedisSetupError> {
        let (host, port) = (settings.host.clone(), settings.port);
        let (address, root_cert) = match &settings.tls {
            StoreTls::Plain => (ConnectionAddr::Tcp(host, port), None),
            StoreTls::Verified(ca) => {
                (ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }, ca.clone())
            }
        };
        let mut login = RedisConnectionInfo::default().set_db(settings.database);
        if let Some(username) = &settings.username {
            login = login.set_username(username);
        }
        if let Some(password) = &settings.password {
            login = login.set_password(password.expose());
        }
        let info = address.into_connection_info()?.set_redis_settings(login);
        let client = match settings.tls {
            StoreTls::Plain => Client::open(info)?,
            StoreTls::Verified(_) => Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert })?,
        };
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(1)
            .set_response_timeout(Some(settings.timeout))
            .set_connection_timeout(Some(settings.timeout));
        let _in_control = control.enter();
        let manager = ConnectionManager::new_lazy_with_config(client, config)?;
        let (prefix, timeout) = (settings.prefix.clone(), settings.timeout);
        let (control, state) = (control.clone(), watch::Sender::new(SharedState::Unknown));
        Ok(Self { parts: Arc::new(RedisParts { manager, control, prefix, timeout, state }) })
    }

    /// The state of the store, and its changes.
    pub(crate) fn state(&self) -> watch::Receiver<SharedState> {
        self.parts.state.subscribe()
    }

    /// The key with this name in the store.
    pub(super) fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.parts.prefix)
    }

    /// Does `work` with the connection, in the control plane.
    pub(super) async fn call<T, W>(
        &self,
        work: impl FnOnce(ConnectionManager) -> W + Send + 'static,
    ) -> Result<T, StoreUnavailable>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, RedisError>> + Send,
    {
        let (manager, limit) = (self.parts.manager.clone(), self.parts.timeout);
        let called = self.parts.control.spawn(async move { timeout(limit, work(manager)).await });
        match called.await {
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(_)) | Err(_)) | Err(_) => Err(StoreUnavailable),
        }
    }
}

impl std::fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RedisStore(..)")
    }
}
