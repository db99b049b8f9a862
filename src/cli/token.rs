//! `portcullis token`: gets, inspects and revokes access tokens.

use std::process::ExitCode;

use clap::Subcommand;

use super::{inspect, revoke, token_get};

#[derive(Debug, Subcommand)]
pub(super) enum TokenVerb {
    /// Get a token from a token endpoint: by a secret, a private key, a platform token or a certificate
    #[command(after_help = token_get::HELP)]
    Get(Box<token_get::TokenGetArgs>),
    /// Decode a token read from standard input, and show the gateway's decision about it with the reason
    #[command(after_help = inspect::HELP)]
    Inspect(inspect::InspectArgs),
    /// Revoke a token read from standard input, or the earlier tokens of a client, a subject or an issuer
    #[command(after_help = revoke::HELP)]
    Revoke(revoke::RevokeArgs),
}

pub(super) fn token(verb: &TokenVerb) -> ExitCode {
    match verb {
        TokenVerb::Get(args) => token_get::get(args),
        TokenVerb::Inspect(args) => inspect::inspect(args),
        TokenVerb::Revoke(args) => revoke::revoke(args),
    }
}
