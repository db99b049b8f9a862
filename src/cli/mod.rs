//! The command line: one file per verb. Results on stdout, diagnostics on stderr.
//!
//! Exit codes: see `EXAMPLES`.

mod admin_client;
mod audit;
mod change;
mod check;
mod client;
mod client_entry;
mod client_key;
mod client_secret;
mod client_store;
mod completions;
mod connect;
mod decision;
mod demo;
mod demo_config;
mod demo_service;
mod explain;
mod diff;
mod health;
mod inspect;
mod issuers;
mod keys;
mod man;
mod new_client;
mod refusal;
mod reload;
mod revoke;
mod rotate;
mod run;
mod schema;
mod start;
mod static_token;
mod stdin;
mod store;
mod terminal;
mod test;
mod token;
mod token_get;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// An API gateway that issues and validates OAuth 2.0 access tokens, from one gateway.yaml
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, max_term_width = 100, arg_required_else_help = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLES: &str = "\
Begin here:
  portcullis demo                                  a gateway and five curl commands to paste
  portcullis client new billing --scopes read      create a client; prints its secret once
  portcullis check                                 every fault of gateway.yaml, or what it exposes
  portcullis run                                   run the gateway

Exit codes: 0 success; 1 the check failed: a refused token or request, a damaged audit log, a warning with --strict; 2 wrong usage or \
configuration.
PORTCULLIS_LOG sets the level of the logs on stderr, such as `debug` or `portcullis::trust=debug`.";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the gateway, until SIGTERM, SIGINT or SIGQUIT
    #[command(after_help = RUN_HELP)]
    Run(ConfigPath),
    /// Check the configuration as `run` would, and show what it exposes; writes nothing
    #[command(after_help = CHECK_HELP)]
    Check(check::CheckArgs),
    /// Run the tests of the configuration, and show which routes and rules they leave out
    #[command(after_help = TEST_HELP)]
    Test(test::TestArgs),
    /// Make the running gateway read its configuration again: all of it, or nothing if anything is wrong
    #[command(after_help = reload::HELP)]
    Reload(reload::ReloadArgs),
    /// Ask the running gateway whether it is alive or ready
    #[command(after_help = health::HELP)]
    Health(health::HealthArgs),
    /// Explain how a request would be decided: every check, and what the service or the caller would get
    #[command(after_help = explain::HELP)]
    Explain(explain::ExplainArgs),
    /// Compare two configurations: which requests the one lets in and the other refuses
    #[command(after_help = diff::HELP)]
    Diff(diff::DiffArgs),
    /// Start a small service without authentication and a gateway before it, and print commands to try
    #[command(after_help = DEMO_HELP)]
    Demo(demo::DemoArgs),
    /// Create clients and hash their secrets
    #[command(subcommand)]
    Client(client::ClientVerb),
    /// List, rotate and retire the keys that sign our tokens
    #[command(subcommand)]
    Keys(keys::KeysVerb),
    /// Create or migrate the tables of the database, and show their version
    #[command(subcommand)]
    Store(store::StoreVerb),
    /// Verify and read the audit log
    #[command(subcommand)]
    Audit(audit::AuditVerb),
    /// Show the callers that routes in report mode would refuse
    #[command(after_help = audit::report::HELP)]
    Report(audit::report::ReportArgs),
    /// Get, inspect and revoke access tokens
    #[command(subcommand)]
    Token(token::TokenVerb),
    /// Show the trusted issuers, their keys, and whether the keys can be fetched
    #[command(after_help = ISSUERS_HELP)]
    Issuers(issuers::IssuersArgs),
    /// Print the JSON Schema of the configuration, for editors
    #[command(after_help = schema::HELP)]
    Schema,
    /// Print the script by which a shell completes verbs and options
    #[command(after_help = completions::HELP)]
    Completions(completions::CompletionsArgs),
    /// Print the manual page, or write the pages of all verbs into a folder
    #[command(after_help = man::HELP)]
    Man(man::ManArgs),
}

const RUN_HELP: &str = "\
Logs go to stderr: as text on a terminal, otherwise as one JSON object per line. SIGTERM, SIGINT and SIGQUIT stop the gateway \
after the requests in flight, within `shutdown.drain`. SIGUSR1 reopens the audit log.

SIGHUP and `portcullis reload` reload the configuration: all of it, or nothing if anything is wrong. The log says which. `workers`, \
`state_directory`, `audit.file` and `oauth.signing_keys.directory` need a restart.";

const CHECK_HELP: &str = "\
Example, for a build:
  portcullis check --config deploy/gateway.yaml --strict --format json

Reads the files and variables that the configuration names, and opens no connection without --connect. Exit code 2 if `run` \
would refuse the configuration; 1 if there are warnings with --strict, or a server or issuer cannot be used with --connect.";

const TEST_HELP: &str = "\
Example, for a build:
  portcullis test --config deploy/gateway.yaml --format junit --fail-under 100 > tests.xml

Decides each request under `tests` as the gateway would, and opens no connection. Needs no private keys and no secrets. Exit \
code 1 if a decision is not the expected one, or if too little is tested for --fail-under; 2 if there is nothing to test.";

const DEMO_HELP: &str = "\
Needs nothing but this program, and curl. Creates a certificate, a signing key and an audit log beside the configuration. \
Without a gateway.yaml in this folder, that is a new folder for temporary files. Ports that are taken are replaced by others.";

const ISSUERS_HELP: &str = "\
Example:
  portcullis issuers --format json

Asks the running gateway at its `admin` listener. If there is none, fetches each issuer's keys once and says so. Exit code 1 \
if an issuer cannot be reached.";

#[derive(Clone, Debug, Args)]
struct ConfigPath {
    /// The configuration file; paths in it are relative to its folder
    #[arg(long, short, value_name = "FILE", default_value = "gateway.yaml")]
    config: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

const FINDINGS: u8 = 1;
const USAGE: u8 = 2;

/// Runs the command line.
pub fn main() -> ExitCode {
    match Cli::parse().verb {
        Verb::Run(args) => run::run(&args),
        Verb::Check(args) => check::check(&args),
        Verb::Test(args) => test::test(&args),
        Verb::Reload(args) => reload::reload(&args),
        Verb::Health(args) => health::health(&args),
        Verb::Explain(args) => explain::explain(&args),
        Verb::Diff(args) => diff::diff(&args),
        Verb::Demo(args) => demo::demo(&args),
        Verb::Client(verb) => client::client(verb),
        Verb::Keys(verb) => keys::keys(&verb),
        Verb::Store(verb) => store::store(&verb),
        Verb::Audit(verb) => audit::audit(&verb),
        Verb::Report(args) => audit::report::report(&args),
        Verb::Token(verb) => token::token(&verb),
        Verb::Issuers(args) => issuers::issuers(&args),
        Verb::Schema => schema::schema(),
        Verb::Completions(args) => completions::completions(&args),
        Verb::Man(args) => man::man(&args),
    }
}
