//! Portcullis, an API gateway for machine-to-machine traffic.
//!
//! Start reading in `pipeline/corridor.rs`: it is the path of every request, from top to bottom. `ARCHITECTURE.md` has
//! a glossary, and the rules that hold everywhere with the tests that guard them.
//!
//! A module imports only from modules to its right:
//!
//! ```text
//! main → cli → app → config → pipeline → { issuer, server, upstream, audit } → trust → jose → oauth
//!      → { clock, durable_file, http1, network }
//! ```
//!
//! | module | content |
//! | --- | --- |
//! | `cli` | the commands, one file or folder for each |
//! | `app` | the only module that knows all others: opens everything, starts every task, ends them in order |
//! | `config` | turns `gateway.yaml` into runtime types and reports every error at once |
//! | `pipeline` | the path of a request: `request` ← `routing` ← `policy` ← `record` ← `answer`, then `worker`, `corridor`, `connection` |
//! | `issuer` | our authorization server: clients, token endpoint, back-off, signing keys |
//! | `server` | turns bytes into requests: listeners, TLS, connection limits, timeouts, drain |
//! | `upstream` | the services behind the gateway: `balancing`, `connect`, `body`, `http1`, `http2`; retries, health checks, tunnels |
//! | `audit` | one line for every decision, chained and written by one thread; verified offline |
//! | `trust` | accepted issuers: their keys, verified tokens, revocations |
//! | `store` | the engines that several gateways share: Redis, PostgreSQL, SQLite |
//! | `jose` | keys, key sets, signing, verifying |
//! | `oauth` | the terms of the RFCs as types |
//! | `clock` | the only reader of the system clock |
//! | `durable_file` | files that are replaced as a whole |
//! | `file_privacy` | whether other users can read or change a file |
//! | `file_watch` | notices that files have new content |
//! | `http1` | the HTTP/1.1 codec: heads and bodies from bytes, and back |
//! | `network` | blocks of addresses |
//! | `telemetry` | logs, metrics and the admin listener; every module may import it, and it imports none |
//! | `fuzzing` | an entry point for each parser of untrusted input, for `fuzz/` and the tests |
//! | `benching` | the entry points of the microbenchmarks in `bench/` |
//!
//! Rules that hold everywhere, each guarded by a type or a test:
//!
//! - **One canonical form.** A request is parsed once, into `CanonicalRequest`. Routing, policy, audit and the
//!   upstream's request line use that and nothing else.
//! - **No bypass.** Forwarding takes a `Permit`, and only `authorize` creates one.
//! - **One thread.** A request stays on one worker: no locks, no work stealing. Workers share rate limits, because they
//!   are exact for the whole process, and the state of upstream servers, which is written only when it changes. Slow
//!   cryptography runs on threads of its own.
//! - **Recorded or refused.** A decision that must be recorded has its place in the audit log before it takes effect.
//! - **Absent, invalid and unverifiable** tokens get three answers: a bare 401, `invalid_token`, 503.

mod app;
mod audit;
pub mod benching;
mod cli;
mod clock;
mod config;
mod durable_file;
mod file_privacy;
mod file_watch;
pub mod fuzzing;
mod http1;
mod issuer;
mod jose;
mod network;
mod oauth;
mod pipeline;
mod server;
mod store;
mod telemetry;
mod trust;
mod upstream;

pub use app::rehearsal::explainer::{ExplainedDecision, ExplainedRequest, Explainer};
pub use cli::main;
pub use config::route_finder::RouteFinder;
