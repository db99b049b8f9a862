//! `portcullis demo`: runs the shipped configuration before a small service without authentication.

use std::env::VarError;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use super::start::cannot_start;
use super::terminal::{BOLD, DIM, GOOD, NAME, bad_config, failed, failed_with, note, out, styled};
use super::{ConfigPath, USAGE, client_secret, demo_service};
use crate::app::{App, Control};
use crate::config;
use crate::config::interpolate::Surroundings;
use crate::config::types::Config;
use crate::issuer::client_auth::secret::hash::ClientSecret;
use crate::telemetry::logs;

/// The variable that holds the client's secret in the shipped configuration.
const SECRET_VARIABLE: &str = "DEMO_CLIENT_SECRET";
const CLIENT: &str = "demo-client";
const LEGACY: &str = "legacy";

pub(super) fn demo(args: &ConfigPath) -> ExitCode {
    let secret = match client_secret::generate() {
        Ok(secret) => secret,
        Err(error) => return failed(&error),
    };
    let config = match load(&args.config, &secret) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let Some(service) = service_address(&config) else {
        note(format_args!(
            "the demo needs an upstream `{LEGACY}` on an IP address, as in the gateway.yaml that comes with Portcullis"
        ));
        return ExitCode::from(USAGE);
    };
    if let Err(source) = demo_service::start(service) {
        let error = ServiceError { service, source };
        return failed_with(
            &error,
            &format!("change the address of `upstreams.{LEGACY}` in the configuration, or stop the other process"),
        );
    }
    if std::env::var_os("PORTCULLIS_LOG").is_some() {
        logs::start();
    }
    let follow = |path: &Path| format!("tail -f {}", shell_argument(path));
    let audit = config.audit.target.file().map_or_else(|| "this terminal".to_owned(), follow);
    let ca = config.certificate_path().map(shell_argument);
    let admin = config.admin.as_ref().map(|admin| admin.address);
    let app = match Control::start().and_then(|control| App::open(config, control)) {
        Ok(app) => app,
        Err(error) => return cannot_start(&error, admin),
    };
    let gateway = app.addresses().first().copied();
    let started = || {
        if let Some(gateway) = gateway {
            explain(gateway, service, ca.as_deref().unwrap_or("certs/localhost.crt"), &secret, &audit);
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

fn load(path: &Path, secret: &ClientSecret) -> Result<Config, ExitCode> {
    let variable = |name: &str| -> Result<String, VarError> {
        if name == SECRET_VARIABLE { Ok(secret.expose().to_owned()) } else { std::env::var(name) }
    };
    let surroundings = Surroundings { variable: &variable, ..Surroundings::process() };
    config::load(path, &surroundings).map_err(|errors| {
        let code = bad_config(&errors);
        if !path.exists() {
            note("the demo needs the gateway.yaml that comes with Portcullis: run it in that folder, or give the file with --config");
        }
        code
    })
}

fn service_address(config: &Config) -> Option<SocketAddr> {
    let routes = config.routes.routes();
    let upstream =
        routes.iter().flat_map(|route| route.target.upstreams()).find(|upstream| &*upstream.name == LEGACY)?;
    upstream.servers.first()?.address()
}

fn explain(gateway: SocketAddr, service: SocketAddr, ca: &str, secret: &ClientSecret, audit: &str) {
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
    out(format_args!(
        "{} is up: {} {} {}",
        styled(BOLD, "Portcullis"),
        styled(GOOD, &origin),
        styled(DIM, "before"),
        styled(DIM, format_args!("http://{service}"))
    ));
    out(styled(DIM, "Paste these commands into another terminal:\n"));
    for (what, line) in lines {
        out(format_args!("{}\n{line}\n", styled(NAME, format_args!("# {what}"))));
    }
    out(format_args!("Every decision is in the audit log: {}", styled(BOLD, audit)));
    out(styled(DIM, "Ctrl-C stops it."));
}
