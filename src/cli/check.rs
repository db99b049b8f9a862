//! `portcullis check`: the faults and warnings that `run` would report, and what the configuration exposes.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::connect::connections;
use super::terminal::{BAD, BOLD, DIM, GOOD, NAME, WARN, bad_config, failed, note, out, styled};
use super::{ConfigPath, FINDINGS, Format, USAGE, test};
use crate::audit::disk;
use crate::config;
use crate::config::diagnostics::Diagnostic;
use crate::config::interpolate::Surroundings;
use crate::config::types::{Config, ListenerKind};
use crate::issuer::client::Client;
use crate::oauth::caller::IssuerName;
use crate::pipeline::routing::access::{Access, AccessRule};
use crate::pipeline::routing::method_set::MethodSet;
use crate::pipeline::routing::rate_limit::RateLimit;
use crate::pipeline::routing::route::Route;

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    config: ConfigPath,
    /// Exit with code 1 if there are warnings
    #[arg(long)]
    strict: bool,
    /// Connect to every server of the upstreams and to every issuer, and exit with code 1 if one cannot be used
    #[arg(long)]
    connect: bool,
    /// The form of the output: text for people, JSON for programs
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) fn check(args: &CheckArgs) -> ExitCode {
    match (config::load(&args.config.config, &Surroundings::process()), args.format) {
        (Ok(config), format) => {
            match test::failures(&config) {
                Ok(failures) if failures.is_empty() => {}
                Ok(failures) => return failed_tests(&config, &failures, format),
                Err(code) => return code,
            }
            let warnings = warnings(&args.config, &config);
            let connections = match args.connect.then(|| connections(&config)).transpose() {
                Ok(connections) => connections,
                Err(error) => return failed(&error),
            };
            let is_ok = config.ended_certificates.is_empty();
            match format {
                Format::Text => {
                    summary(&args.config, &config, &warnings);
                    connections.iter().for_each(|found| found.print());
                }
                Format::Json => {
                    let mut report = json!({ "ok": is_ok, "config": config.id, "warnings": warnings });
                    if !is_ok {
                        report["problems"] = json!(config.ended_certificates);
                    }
                    connections.iter().for_each(|found| report["connections"] = found.json());
                    out(report);
                }
            }
            let has_strict_warnings = args.strict && !warnings.is_empty();
            let cannot_connect = connections.is_some_and(|found| found.has_failed());
            let has_findings = !is_ok || has_strict_warnings || cannot_connect;
            if has_findings { ExitCode::from(FINDINGS) } else { ExitCode::SUCCESS }
        }
        (Err(errors), Format::Text) => bad_config(&errors),
        (Err(errors), Format::Json) => {
            out(json!({ "ok": false, "problems": errors.diagnostics() }));
            ExitCode::from(USAGE)
        }
    }
}

/// A configuration whose tests fail is refused, like one with errors.
fn failed_tests(config: &Config, failures: &[Diagnostic], format: Format) -> ExitCode {
    match format {
        Format::Text => test::refuse(config, failures),
        Format::Json => {
            out(json!({ "ok": false, "problems": failures }));
            ExitCode::from(USAGE)
        }
    }
}

/// The warnings of the configuration, and that of the disk, which is no part of it.
fn warnings(path: &ConfigPath, config: &Config) -> Vec<Diagnostic> {
    // Before the first start there may be no folder to ask about.
    let shortage =
        config.audit.target.file().and_then(|log| disk::shortage(log, &config.audit.rotation).ok().flatten());
    let file = path.config.display().to_string();
    let of_disk = shortage.map(|message| Diagnostic { file, line: None, column: None, message });
    config.warnings.iter().cloned().chain(of_disk).collect()
}

fn summary(path: &ConfigPath, config: &Config, warnings: &[Diagnostic]) {
    config.ended_certificates.iter().for_each(|ended| note(format_args!("{} {ended}", styled(BAD, "error:"))));
    warnings.iter().for_each(|warning| note(format_args!("{} {warning}", styled(WARN, "warning:"))));
    out(format_args!(
        "{}  {} {}\n",
        if config.ended_certificates.is_empty() { styled(GOOD, "ok") } else { styled(BAD, "not ok") },
        path.config.display(),
        styled(DIM, format_args!("({})", config.id))
    ));
    for listener in &config.listeners {
        let kind = match &listener.kind {
            ListenerKind::Tls { certificates, .. } if certificates.iter().any(|pair| pair.self_signed) => {
                "https, self-signed allowed"
            }
            ListenerKind::Tls { .. } => "https",
            ListenerKind::Plain => "http, in clear text",
            ListenerKind::Redirect { .. } => "http, redirects only",
        };
        let behind = if listener.proxy_protocol { ", behind the PROXY protocol" } else { "" };
        let believes = match &listener.believed.names()[..] {
            [] => String::new(),
            parts => format!(", believes proxies about {}", parts.join(", ")),
        };
        row("listens", format_args!("{} {}", listener.address, styled(DIM, format_args!("{kind}{behind}{believes}"))));
    }
    if !config.trusted_proxies.is_empty() {
        row("proxies", format_args!("{} {}", config.trusted_proxies, styled(DIM, "may name the client's address")));
    }
    if let Some(oauth) = &config.oauth {
        let clients = match oauth.clients.len() {
            1 => format!("1 client, {}", oauth.ring.rules.algorithm),
            many => format!("{many} clients, {}", oauth.ring.rules.algorithm),
        };
        let endpoints = &oauth.server.endpoints;
        row("issues", format_args!("{} {}", endpoints.url(&endpoints.token), styled(DIM, clients)));
        for client in &oauth.clients {
            if let Some(networks) = &client.allow_from {
                row("", format_args!("{} at {networks} only", client.id.as_str()));
            }
            for limit in oauth.client_limits.get(&client.id).into_iter().flatten() {
                row("", format_args!("{} {} in all", client.id.as_str(), rate_text(limit)));
            }
        }
    }
    for issuer in &config.issuers {
        row("trusts", format_args!("{} {}", issuer.settings.issuer, styled(DIM, issuer.settings.name.as_str())));
    }
    row("audits to", &config.audit.target);
    if let Some(admin) = &config.admin {
        let networks = admin.allow_from.iter().map(|networks| format!(" from {networks}"));
        let names = admin.hosts.0.iter().map(|name| format!(", by the name {name}"));
        let rules = networks.chain(names).collect::<String>();
        let text = format_args!("http, without authentication{rules}");
        row("admin", format_args!("{} {}", admin.address, styled(DIM, text)));
    }
    if let Some(address) = config.probes {
        row("probes", format_args!("{address} {}", styled(DIM, "http, /livez and /readyz only")));
    }
    out("");
    let rows: Vec<_> = config.routes.routes().iter().map(|route| columns(route, config)).collect();
    table(&rows);
}

fn row(name: &str, value: impl std::fmt::Display) {
    out(format_args!("{:>10}  {value}", name));
}

const EVERYONE: &str = "EVERYONE";
const HEAD: [&str; 5] = ["ROUTE", "PATH", "UPSTREAM", "ACCESS", "LIMITS"];

fn columns(route: &Route, config: &Config) -> [String; 5] {
    let hosts: Vec<String> = route.hosts.iter().map(ToString::to_string).collect();
    let methods: Vec<&str> =
        if route.methods == MethodSet::all() { vec!["*"] } else { route.methods.names().collect() };
    let path = format!("{} {}{}", methods.join(","), hosts.join("|"), route.path);
    let limits: Vec<String> = route.limits.iter().map(limit_text).collect();
    let copies =
        route.mirror.as_ref().map(|mirror| format!(", copies to {}", mirror.upstream.name)).unwrap_or_default();
    let target = format!("{}{copies}", route.target);
    [route.name.clone(), path, target, access_text(route, config), limits.join(", ")]
}

fn access_text(route: &Route, config: &Config) -> String {
    let mut text = match &route.access {
        Access::Public => EVERYONE.to_owned(),
        Access::Protected(rule) if lacks_client(rule, config) => format!("{} (no client)", rule_text(rule)),
        Access::Protected(rule) => rule_text(rule),
    };
    for (word, networks) in [("at", &route.from.allow), ("not at", &route.from.deny)] {
        text.extend(networks.iter().map(|networks| format!(" {word} {networks}")));
    }
    text
}

/// Whether only our own clients can use the route, and none of them may have its scopes.
fn lacks_client(rule: &AccessRule, config: &Config) -> bool {
    let is_own = |issuer: &IssuerName| issuer.as_str() == IssuerName::OWN;
    let only_own = rule.issuers.as_ref().map_or(config.issuers.is_empty(), |issuers| issuers.iter().all(is_own));
    let is_listed = |client: &Client| {
        rule.clients
            .as_ref()
            .is_none_or(|list| list.iter().any(|(issuer, id)| is_own(issuer) && id == client.id.as_str()))
    };
    let has_scopes = |client: &Client| {
        let any = rule.any_of.is_empty() || client.scopes.contains_any(&rule.any_of);
        client.scopes.contains_all(&rule.all_of) && any
    };
    let mut clients = config.oauth.iter().flat_map(|oauth| &oauth.clients);
    only_own && !clients.any(|client| is_listed(client) && has_scopes(client))
}

fn rule_text(rule: &AccessRule) -> String {
    let mut parts = Vec::new();
    if !rule.all_of.is_empty() {
        parts.push(rule.all_of.to_string());
    }
    if !rule.any_of.is_empty() {
        parts.push(format!("one of {}", rule.any_of));
    }
    parts.extend(rule.claims.iter().map(|claim| {
        let values: Vec<String> = claim.values.iter().map(ToString::to_string).collect();
        format!("{}={}", claim.path, values.join("|"))
    }));
    if let Some(clients) = &rule.clients {
        let mut names: Vec<String> = clients.iter().map(|(issuer, id)| client_name(issuer, id)).collect();
        names.sort();
        parts.push(names.join("|"));
    }
    if let Some(issuers) = &rule.issuers {
        let names: Vec<&str> = issuers.iter().map(IssuerName::as_str).collect();
        parts.push(format!("from {}", names.join("|")));
    }
    if let Some(audiences) = &rule.audiences {
        parts.push(format!("for {}", audiences.join("|")));
    }
    if parts.is_empty() { "any valid token".to_owned() } else { parts.join(" + ") }
}

fn client_name(issuer: &IssuerName, id: &str) -> String {
    if issuer.as_str() == IssuerName::OWN { id.to_owned() } else { format!("{}/{id}", issuer.as_str()) }
}

fn limit_text(limit: &RateLimit) -> String {
    let rate = rate_text(limit);
    if limit.shared.is_some() {
        format!("{rate} per {} ({})", limit.per, limit.name)
    } else {
        format!("{rate} per {}", limit.name)
    }
}

fn rate_text(limit: &RateLimit) -> String {
    let unit = match limit.rate.period.as_secs() {
        1 => "s",
        60 => "min",
        3600 => "h",
        _ => "d",
    };
    format!("{}/{unit}", limit.rate.amount)
}

/// Each column is as wide as its widest cell. Public routes are marked.
fn table(rows: &[[String; 5]]) {
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).chain([HEAD[column].len()]).max().unwrap_or(0)
    };
    let widths = [0, 1, 2, 3].map(width);
    let cell = |text: &str, style| if text.is_empty() { String::new() } else { styled(style, text) };
    let line = |cells: [&str; 5], styles: [anstyle::Style; 5]| {
        let pad = |index: usize| widths.get(index).map_or(0, |width| width - cells[index].chars().count());
        let cells: Vec<String> =
            (0..5).map(|index| format!("{}{}", cell(cells[index], styles[index]), " ".repeat(pad(index)))).collect();
        out(cells.join("  ").trim_end());
    };
    line(HEAD, [BOLD; 5]);
    for row in rows {
        let access = if row[3].starts_with(EVERYONE) { WARN } else { anstyle::Style::new() };
        line(row.each_ref().map(String::as_str), [NAME, anstyle::Style::new(), anstyle::Style::new(), access, DIM]);
    }
}
