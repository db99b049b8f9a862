//! Portcullis, an API gateway for machine-to-machine traffic.
//!
//! Start reading in `pipeline/corridor.rs`: it is the way that every request takes, top to bottom. Then, in the order
//! in which modules import each other, left to right and never back:
//!
//! ```text
//! main → cli → app → config → pipeline → { issuer, server, upstream, audit } → trust → jose → oauth → { clock, network }
//! ```
//!
//! | room | what it does |
//! | --- | --- |
//! | `cli` | one file per verb |
//! | `app` | opens everything, starts every task, ends them in order; the only file that knows every module |
//! | `config` | `gateway.yaml` → runtime types, every error at once |
//! | `pipeline` | the corridor, one file per room; `rejection` answers every refusal |
//! | `issuer` | our authorization server: clients, token endpoint, grants, signing keys |
//! | `server` | bytes → requests: listeners, TLS, the connection guard, the drain |
//! | `upstream` | the services behind us: which of their servers gets a request, connections to it, bodies streamed both ways, what becomes of failures |
//! | `audit` | one line for every decision, chained and written by one thread; verified offline |
//! | `trust` | issuers that we accept: their keys kept fresh, and the tokens that were found good |
//! | `jose` | keys, key sets, signing, verifying |
//! | `oauth` | the vocabulary of the RFCs, pure |
//! | `clock` | the only reader of the system clock |
//! | `fuzzing` | an entrance for each parser of what strangers send, for `fuzz/` and the tests |
//! | `benching` | what the microbenchmarks in `bench/` measure |
//! | `network` | blocks of addresses |
//! | `telemetry` | logs and metrics; imported by all, imports none |
//!
//! What holds everywhere, each guarded by a type or a test:
//!
//! - **One reading.** A request is read once, into `CanonicalRequest`; routing, policy, audit and the upstream request line use that
//!   and nothing else.
//! - **No way around.** Forwarding takes a `Permit`, and only `authorize` makes one.
//! - **One thread.** A request lives and dies on one worker: no locks, no work stealing. Shared are rate limits, because they are exact
//!   per process, and what is known of upstreams' servers, which is written only when it changes. Slow cryptography goes to threads of its own.
//! - **Recorded or refused.** What must be audited has its place in the log before it takes effect.
//! - **Absent, wrong, cannot tell** are three answers: a bare 401, `invalid_token`, 503.

mod app;
mod audit;
pub mod benching;
mod cli;
mod clock;
mod config;
mod durable_file;
pub mod fuzzing;
mod issuer;
mod jose;
mod network;
mod oauth;
mod pipeline;
mod server;
mod telemetry;
mod trust;
mod upstream;

pub use cli::main;
pub use config::route_finder::RouteFinder;
