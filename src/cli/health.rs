//! `portcullis health`: requests the probes of the running gateway, for images without a shell or curl.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;

use clap::Args;
use http::StatusCode;

use super::admin_client::probe;
use super::terminal::{BAD, bad_config, failed, note, out, styled};
use super::{ConfigPath, FINDINGS, USAGE};
use crate::config;
use crate::config::interpolate::Surroundings;
use crate::config::needs::Needs;

pub(super) const HELP: &str = "\
Examples:
  portcullis health
  portcullis health --ready --config /etc/portcullis/gateway.yaml

Asks the listener `probes`, or `admin` without it, on this machine. Exit code 0 if the gateway is alive, or ready with --ready; 1 \
if it is not, or does not answer within two seconds; 2 if the configuration has neither listener.";

#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    #[command(flatten)]
    config: ConfigPath,
    /// Ask whether the gateway takes requests (`/readyz`), not only whether it is alive (`/livez`)
    #[arg(long)]
    ready: bool,
}

pub(super) fn health(args: &HealthArgs) -> ExitCode {
    let config = match config::load_part(&args.config.config, Needs::PROBES, &Surroundings::process()) {
        Ok(config) => config,
        Err(errors) => return bad_config(&errors),
    };
    let Some(address) = config.probes.or(config.admin.as_ref().map(|admin| admin.address)) else {
        note(format_args!("{} the configuration has no `probes` and no `admin` listener", styled(BAD, "error:")));
        return ExitCode::from(USAGE);
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let path = if args.ready { "/readyz" } else { "/livez" };
    match runtime.block_on(probe(reachable(address), path)) {
        Ok((status, body)) => {
            out(String::from_utf8_lossy(&body).trim_end());
            if status == StatusCode::OK { ExitCode::SUCCESS } else { ExitCode::from(FINDINGS) }
        }
        Err(error) => {
            note(format_args!("{} {error}", styled(BAD, "error:")));
            ExitCode::from(FINDINGS)
        }
    }
}

/// The address by which this machine reaches a listener, which may listen on all addresses.
fn reachable(listener: SocketAddr) -> SocketAddr {
    let ip = match listener.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listener.port())
}
