//! `portcullis demo`: the shipped configuration at work, before a small service that asks nobody who they are.

use std::env::VarError;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use super::terminal::{BOLD, DIM, GOOD, NAME, bad_config, failed, note, out, styled};
use super::{ConfigPath, USAGE, client, legacy};
use crate::app::{App, Control};
use crate::audit::target::AuditTarget;
use crate::config;
use crate::config::interpolate::Surroundings;
use crate::config::types::Config;
use crate::issuer::secret::ClientSecret;
use crate::telemetry::logs;

/// The variable by which the shipped configuration gets its client's secret.
const SECRET_VARIABLE: &str = "DEMO_CLIENT_SECRET";
const CLIENT: &str = "demo-client";
const LEGACY: &str = "legacy";

pub(super) fn demo(args: &ConfigPath) -> ExitCode {
    let secret = match client::generate() {
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
    if let Err(error) = legacy::start(service) {
        note(format_args!("cannot start the demo's service on {service}"));
        return failed(&error);
    }
    if std::env::var_os("PORTCULLIS_LOG").is_some() {
        logs::start();
    }
    let audit = match &config.audit.target {
        AuditTarget::Stdout => "this terminal".to_owned(),
        AuditTarget::File(path) => format!("tail -f {}", word(path)),
    };
    let ca = config.certificate_path().map(word);
    let app = match Control::start().and_then(|control| App::open(config, control)) {
        Ok(app) => app,
        Err(error) => return failed(&error),
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

/// A path as a word of the shell, good in any folder.
fn word(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string();
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | '+' | ',');
    if path.chars().all(plain) { path } else { format!("'{}'", path.replace('\'', "'\\''")) }
}

fn load(path: &Path, secret: &ClientSecret) -> Result<Config, ExitCode> {
    let variable = |name: &str| -> Result<String, VarError> {
        if name == SECRET_VARIABLE { Ok(secret.expose().to_owned()) } else { std::env::var(name) }
    };
    let surroundings = Surroundings { variable: &variable, ..Surroundings::process() };
    config::load(path, &surroundings).map_err(|errors| bad_config(&errors))
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
        ("403, and which scope is missing", format!("{curl} -i {origin}/api/orders {bearer} -X POST")),
        ("429, and when to come back", format!("{curl} -i \"{origin}/ping?[1-6]\" | tail -n 14")),
    ];
    out(format_args!(
        "{} is up: {} {} {}",
        styled(BOLD, "Portcullis"),
        styled(GOOD, &origin),
        styled(DIM, "before"),
        styled(DIM, format_args!("http://{service}"))
    ));
    out(styled(DIM, "Paste these into another terminal:\n"));
    for (what, line) in lines {
        out(format_args!("{}\n{line}\n", styled(NAME, format_args!("# {what}"))));
    }
    out(format_args!("All of it is in the audit log: {}", styled(BOLD, audit)));
    out(styled(DIM, "Ctrl-C ends it."));
}
