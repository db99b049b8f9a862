//! The command line: one file per verb. Results on stdout, diagnostics on stderr.
//!
//! Exit codes: 0 fine, 1 findings or denied, 2 wrong usage or configuration.

mod audit;
mod check;
mod client;
mod demo;
mod issuers;
mod keys;
mod legacy;
mod revoke;
mod rotate;
mod run;
mod running;
mod stdin;
mod terminal;
mod token;

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
  portcullis demo                                  see it work, by five curl lines to paste
  portcullis client new billing --scopes read      make a client; prints its secret once
  portcullis check                                 every fault of gateway.yaml, or what it exposes
  portcullis run                                   serve

Exit codes: 0 fine, 1 findings or denied, 2 wrong usage or configuration.
PORTCULLIS_LOG chooses the logs on stderr, such as `debug` or `portcullis::trust=debug`.";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve what the configuration says, until SIGTERM, SIGINT or SIGQUIT
    #[command(after_help = RUN_HELP)]
    Run(ConfigPath),
    /// Say what `run` would say to the configuration, and what it exposes; writes nothing
    #[command(after_help = CHECK_HELP)]
    Check(check::CheckArgs),
    /// Start a small service without authentication, a gateway before it, and say what to try
    #[command(after_help = DEMO_HELP)]
    Demo(ConfigPath),
    /// Make clients and hash their secrets
    #[command(subcommand)]
    Client(client::ClientVerb),
    /// List, rotate and retire the keys that sign our tokens
    #[command(subcommand)]
    Keys(keys::KeysVerb),
    /// Verify and read the audit log
    #[command(subcommand)]
    Audit(audit::AuditVerb),
    /// Look into access tokens, and revoke them
    #[command(subcommand)]
    Token(token::TokenVerb),
    /// Say which issuers are trusted, with their keys, and how fetching those goes
    #[command(after_help = ISSUERS_HELP)]
    Issuers(issuers::IssuersArgs),
}

const RUN_HELP: &str = "\
Logs go to stderr, one JSON object a line. SIGTERM, SIGINT or SIGQUIT ends it once what is in flight is done, \
within `shutdown.drain`. SIGUSR1 opens the audit log anew.";

const CHECK_HELP: &str = "\
Example, for a build:
  portcullis check --config deploy/gateway.yaml --format json

Reads the files and variables that the configuration names, connects to nobody. Exit code 2 if `run` would refuse.";

const DEMO_HELP: &str = "\
Needs nothing but the gateway.yaml that comes with Portcullis, and curl. Makes a certificate, a signing key and an audit \
log beside it.";

const ISSUERS_HELP: &str = "\
Example:
  portcullis issuers --format json

Asks the running gateway by its `admin` listener; where there is none, fetches each issuer's keys once, and says so. Exit \
code 1 if an issuer is out of reach.";

#[derive(Clone, Debug, Args)]
struct ConfigPath {
    /// The configuration; its paths start from its folder
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
        Verb::Demo(args) => demo::demo(&args),
        Verb::Client(verb) => client::client(verb),
        Verb::Keys(verb) => keys::keys(&verb),
        Verb::Audit(verb) => audit::audit(&verb),
        Verb::Token(verb) => token::token(verb),
        Verb::Issuers(args) => issuers::issuers(&args),
    }
}
