//! Keeps the connection to PostgreSQL: reconnects, receives notifications of changes, and detects a server that no
//! longer answers.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

use super::super::outage::{LoggedOutage, Outage};
use super::super::postgres_connection::{ConnectionMessages, PostgresConnection, PostgresFault, within};
use super::super::sql::{DatabaseChange, LOGIN_REMEDY, Statement};
use super::super::table_version;
use super::{PostgresStore, WITHOUT_DATABASE};
use crate::telemetry::error_chain::ErrorChain;

pub(super) struct PostgresKeeper {
    store: PostgresStore,
    /// A new connection that is not watched yet.
    made: Option<KeptConnection>,
    logged: LoggedOutage,
}

struct KeptConnection {
    connection: Arc<PostgresConnection>,
    messages: ConnectionMessages,
    /// Only this connection listens to it, to check that notifications arrive.
    own_channel: String,
}

/// The channel of the triggers of the tables.
const CHANNEL: &str = "portcullis";
const CLIENT: &str = "client:";
const SIGNING_KEYS: &str = "signing-keys";
const HEARTBEAT: Duration = Duration::from_secs(5);
/// A connection that receives no notification of its own for this time is replaced.
const SILENCE: Duration = Duration::from_secs(15);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// For the statements after the handshake.
pub(super) const SETUP_TIMEOUT: Duration = Duration::from_secs(3);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

impl PostgresKeeper {
    pub(super) fn new(store: PostgresStore) -> Self {
        Self { store, made: None, logged: LoggedOutage::default() }
    }

    /// Makes a connection. Calls go over it from now on.
    pub(super) async fn connect(&mut self) -> Result<(), PostgresFault> {
        match KeptConnection::make(&self.store).await {
            Ok(made) => {
                if self.logged.ends() {
                    info!("{} is reachable", self.store.name());
                }
                self.store.use_connection(Arc::clone(&made.connection));
                self.made = Some(made);
                Ok(())
            }
            Err(fault) => {
                self.log(&fault);
                Err(fault)
            }
        }
    }

    fn log(&mut self, fault: &PostgresFault) {
        let (outage, name) = (fault.outage(), self.store.name());
        if !self.logged.is_news(outage) {
            return;
        }
        match (outage, fault.refused_login()) {
            (_, Some(reason)) => {
                error!(error = %reason, "{name} refuses the login: {LOGIN_REMEDY}; trying again every few seconds");
            }
            (Outage::Refused, None) => {
                error!(error = %ErrorChain(fault), "{name} cannot be used; trying again every few seconds");
            }
            (Outage::Unreachable, None) => warn!(
                error = %ErrorChain(fault),
                "{name} is unreachable: {WITHOUT_DATABASE}; trying again every few seconds"
            ),
        }
    }

    /// Runs until it is dropped.
    pub(super) async fn keep(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            if let Some(made) = self.made.take() {
                let connection = Arc::clone(&made.connection);
                let fault = made.use_up(&self.store).await;
                self.store.parts.disconnect(&connection, &fault);
                self.logged.is_news(Outage::Unreachable);
                pause = FIRST_PAUSE;
            } else if self.connect().await.is_err() {
                // With jitter, so that replicas do not reconnect all at once.
                sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

impl KeptConnection {
    async fn make(store: &PostgresStore) -> Result<Self, PostgresFault> {
        let (connection, mut messages) = PostgresConnection::connect(&store.parts.address).await?;
        let own_channel = format!("portcullis_{:016x}", fastrand::u64(..));
        let set_up = async {
            connection.batch("SET statement_timeout = '2s'").await?;
            connection.batch(&format!("LISTEN {CHANNEL}; LISTEN {own_channel}")).await?;
            check_tables(&connection).await
        };
        tokio::select! {
            set_up = within(SETUP_TIMEOUT, set_up) => set_up?,
            // Changes before the connection is in use need no notification: everything is read then.
            fault = end_of(&mut messages) => return Err(fault),
        }
        Ok(Self { connection: Arc::new(connection), messages, own_channel })
    }

    /// Publishes the changes until the connection is lost.
    async fn use_up(mut self, store: &PostgresStore) -> PostgresFault {
        let own = Notify::new();
        let receive = async {
            loop {
                match self.messages.notification().await {
                    Ok((channel, _)) if channel == self.own_channel => own.notify_one(),
                    Ok((_, payload)) => store.publish(change(&payload)),
                    Err(fault) => return fault,
                }
            }
        };
        let beat = async {
            loop {
                sleep(HEARTBEAT).await;
                let notify = format!("NOTIFY {}", self.own_channel);
                if let Err(fault) = within(ANSWER_TIMEOUT, self.connection.batch(&notify)).await {
                    return fault;
                }
            }
        };
        let check = async {
            while timeout(SILENCE, own.notified()).await.is_ok() {}
            PostgresFault::NoNotifications
        };
        let is_lost = async {
            while store.parts.is_in_use(&self.connection) {
                store.parts.lost.notified().await;
            }
        };
        tokio::select! {
            fault = receive => fault,
            fault = beat => fault,
            fault = check => fault,
            // The failed call has logged its fault.
            () = is_lost => PostgresFault::Closed,
        }
    }
}

pub(super) async fn end_of(messages: &mut ConnectionMessages) -> PostgresFault {
    loop {
        if let Err(fault) = messages.notification().await {
            return fault;
        }
    }
}

fn change(payload: &str) -> DatabaseChange {
    match payload {
        SIGNING_KEYS => DatabaseChange::SigningKeys,
        other => match other.strip_prefix(CLIENT) {
            Some(id) => DatabaseChange::Client(id.to_owned()),
            None => DatabaseChange::Anything,
        },
    }
}

/// Fails unless the tables have the version of this gateway.
pub(super) async fn check_tables(connection: &PostgresConnection) -> Result<(), PostgresFault> {
    let statement = Statement { text: table_version::READ, values: Vec::new() };
    let rows = match connection.rows(&statement).await {
        Err(fault) if fault.is_refusal() => return Err(PostgresFault::Tables(fault.into_error())),
        rows => rows?,
    };
    let found = rows.first().and_then(|row| row.first()?.integer());
    table_version::check(found.unwrap_or_default()).map_err(PostgresFault::Tables)
}
