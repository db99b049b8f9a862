//! `portcullis demo`: runs the shipped configuration before a small service without authentication.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::demo_config::{self, DemoConfig};
use super::start::cannot_start;
use super::terminal::{BOLD, DIM, GOOD, NAME, failed, failed_with, out, styled};
use super::{client_secret, demo_service, test};
use crate::app::{App, Control};
use crate::issuer::client_auth::secret::hash::ClientSecret;
use crate::telemetry::logs;

const CLIENT: &str = "demo-client";

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// The configuration file [default: gateway.yaml in this folder, or else the one that comes with Portcullis]
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) fn demo(args: &DemoArgs) -> ExitCode {
    let secret = match client_secret::generate() {
        Ok(secret) => secret,
        Err(error) => return failed(&error),
    };
    let DemoConfig { config, service, moved, written } = match demo_config::load(args.config.as_deref(), &secret) {
        Ok(demo) => demo,
        Err(code) => return code,
    };
    if let Err(code) = test::must_pass(&config) {
        return code;
    }
    if let Err(source) = demo_service::start(service) {
        let error = ServiceError { service, source };
        return failed_with(
            &error,
            "change the address of `upstreams.legacy` in the configuration, or stop the other process",
        );
    }
    if std::env::var_os("PORTCULLIS_LOG").is_some() {
        logs::start();
    }
    let follow = |path: &Path| format!("tail -f {}", shell_argument(path));
    let audit = config.audit.target.file().map_or_else(|| "this terminal".to_owned(), follow);
    let ca = config.certificate_path().map(shell_argument);
    let control_addresses = config.control_addresses();
    let app = match Control::start().and_then(|control| App::open(config, None, control)) {
        Ok(app) => app,
        Err(error) => return cannot_start(&error, &control_addresses),
    };
    let gateway = app.addresses().first().copied();
    let started = || {
        if let Some(gateway) = gateway {
            introduce(gateway, service, &moved, written.as_deref());
            explain(gateway, ca.as_deref().unwrap_or("certs/localhost.crt"), &secret, &audit);
        }
    };
    match app.run(started) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cannot start the demo's service on {service}")]
struct ServiceError {
    service: SocketAddr,
    source: std::io::Error,
}

/// A path as one argument for a shell in any folder.
fn shell_argument(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string();
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | '+' | ',');
    if path.chars().all(plain) { path } else { format!("'{}'", path.replace('\'', "'\\''")) }
}

fn introduce(
    gateway: SocketAddr,
    service: SocketAddr,
    moved: &[(SocketAddr, SocketAddr)],
    configuration: Option<&Path>,
) {
    out(format_args!(
        "{} is up: {} {} {}",
        styled(BOLD, "Portcullis"),
        styled(GOOD, format_args!("https://localhost:{}", gateway.port())),
        styled(DIM, "before"),
        styled(DIM, format_args!("http://{service}"))
    ));
    for (taken, instead) in moved {
        out(format_args!("{taken} is taken: {instead} is used instead"));
    }
    if let Some(path) = configuration {
        out(format_args!("The configuration is {}", shell_argument(path)));
    }
}

fn explain(gateway: SocketAddr, ca: &str, secret: &ClientSecret, audit: &str) {
    let origin = format!("https://localhost:{}", gateway.port());
    let curl = format!("curl --cacert {ca} -s");
    let bearer = "-H \"Authorization: Bearer $TOKEN\"";
    let lines = [
        (
            "a token",
            format!(
                "TOKEN=$({curl} -u {CLIENT}:{} {origin}/oauth/token -d grant_type=client_credentials | sed 's/.*access_token\":\"\\([^\"]*\\).*/\\1/'); echo $TOKEN",
                secret.expose()
            ),
        ),
        ("200", format!("{curl} -i {origin}/api/orders {bearer}")),
        ("401, no token", format!("{curl} -i {origin}/api/orders")),
        ("403, and the missing scope", format!("{curl} -i {origin}/api/orders {bearer} -X POST")),
        ("429, and the time of the next try", format!("{curl} -i \"{origin}/ping?[1-6]\" | tail -n 14")),
    ];
    out(styled(DIM, "Paste these commands into another terminal:\n"));
    for (what, line) in lines {
        out(format_args!("{}\n{line}\n", styled(NAME, format_args!("# {what}"))));
    }
    out(format_args!("Every decision is in the audit log: {}", styled(BOLD, audit)));
    out(styled(DIM, "Ctrl-C stops it."));
}
