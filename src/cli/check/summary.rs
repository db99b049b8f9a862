//! What a configuration exposes: listeners, issuers, and the routes with their access rules.

use crate::cli::ConfigPath;
use crate::cli::terminal::{BAD, BOLD, DIM, GOOD, NAME, WARN, out, styled};
use crate::clock::{self, UnixTime};
use crate::config::types::{Config, ExternalIssuer, ListenerKind};
use crate::oauth::bound::TokenBinding;
use crate::oauth::caller::IssuerName;
use crate::pipeline::routing::access::{Access, AccessRule};
use crate::pipeline::routing::method_set::MethodSet;
use crate::pipeline::routing::rate_limit::RateLimit;
use crate::pipeline::routing::route::Route;
use crate::server::mutual_tls::CertificateDemand;
use crate::trust::key_source::{KeySource, LocalKeys};
use crate::trust::static_tokens::StaticTokenSettings;
use crate::trust::token_origin::TokenOrigin;

pub(super) fn summary(path: &ConfigPath, config: &Config) {
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
        let clients = asked_certificates(&listener.kind);
        let behind = if listener.proxy_protocol { ", behind the PROXY protocol" } else { "" };
        let believes = match &listener.believed.names()[..] {
            [] => String::new(),
            parts => format!(", believes proxies about {}", parts.join(", ")),
        };
        row(
            "listens",
            format_args!("{} {}", listener.address, styled(DIM, format_args!("{kind}{clients}{behind}{believes}"))),
        );
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
        row("trusts", format_args!("{} {}", issuer.settings.issuer, styled(DIM, issuer_text(issuer))));
    }
    static_tokens(config);
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

fn asked_certificates(kind: &ListenerKind) -> &'static str {
    match kind {
        ListenerKind::Tls { mutual_tls: Some(mutual_tls), .. } => match mutual_tls.demand {
            CertificateDemand::Optional => ", asks for client certificates",
            CertificateDemand::Required => ", requires client certificates",
        },
        ListenerKind::Tls { mutual_tls: None, .. } | ListenerKind::Plain | ListenerKind::Redirect { .. } => "",
    }
}

/// The name of an issuer, its tenants, the field of its tokens, and the place of its keys, as far as they are not the
/// default.
fn issuer_text(issuer: &ExternalIssuer) -> String {
    let settings = &issuer.settings;
    let mut parts = vec![settings.name.as_str().to_owned()];
    if let TokenOrigin::Tenants(tenants) = &settings.origin {
        let mut names: Vec<&str> = tenants.names().collect();
        names.sort_unstable();
        parts.push(format!("tenants {}", names.join(", ")));
    }
    parts.extend(settings.token_field.iter().map(|field| format!("tokens in {field}")));
    if let KeySource::Local(LocalKeys { file, .. }) = &issuer.source {
        let place = file.as_ref().map_or("the configuration".to_owned(), |file| file.display().to_string());
        parts.push(format!("keys in {place}"));
    }
    parts.extend(issuer.source.introspected().map(|endpoint| format!("asked about tokens at {}", endpoint.url)));
    parts.join("; ")
}

fn row(name: &str, value: impl std::fmt::Display) {
    out(format_args!("{:>10}  {value}", name));
}

fn static_tokens(config: &Config) {
    for StaticTokenSettings { name, scopes, until, field, .. } in &config.static_tokens {
        let field = field.as_ref().map_or("authorization", |field| field.as_str());
        let text = format!("until {}, in {field}, {scopes}", until.to_the_second());
        let text = if *until <= clock::now() { format!("{text} (ended)") } else { text };
        row("accepts", format_args!("{}/{name} {}", IssuerName::STATIC, styled(DIM, text)));
    }
}

const EVERYONE: &str = "EVERYONE";
const HEAD: [&str; 5] = ["ROUTE", "PATH", "UPSTREAM", "ACCESS", "LIMITS"];

fn columns(route: &Route, config: &Config) -> [String; 5] {
    let hosts: Vec<String> = route.hosts.iter().map(ToString::to_string).collect();
    let methods: Vec<&str> =
        if route.methods == MethodSet::all() { vec!["*"] } else { route.methods.names().collect() };
    let when = route.when.as_ref().map(|when| format!(" [{when}]")).unwrap_or_default();
    let path = format!("{} {}{}{when}", methods.join(","), hosts.join("|"), route.path);
    let limits: Vec<String> = route.limits.iter().map(limit_text).collect();
    let copies =
        route.mirror.as_ref().map(|mirror| format!(", copies to {}", mirror.upstream.name)).unwrap_or_default();
    let target = format!("{}{copies}", route.target);
    [route.name.clone(), path, target, access_text(route, config), limits.join(", ")]
}

fn access_text(route: &Route, config: &Config) -> String {
    let mut text = match &route.access {
        Access::Public => EVERYONE.to_owned(),
        Access::Protected(rule) if route.only_reports(clock::now()) => {
            let until = route.report_until.map(UnixTime::to_the_second).unwrap_or_default();
            format!("{EVERYONE} until {until} (reports {})", rule_text(rule))
        }
        Access::Protected(rule) if lacks_client(rule, config) => format!("{} (no client)", rule_text(rule)),
        Access::Protected(rule) => rule_text(rule),
    };
    for (word, networks) in [("at", &route.from.allow), ("not at", &route.from.deny)] {
        text.extend(networks.iter().map(|networks| format!(" {word} {networks}")));
    }
    text
}

/// Whether only our own clients and static tokens can use the route, and none of them may have its scopes.
fn lacks_client(rule: &AccessRule, config: &Config) -> bool {
    let (own, fixed) = (IssuerName::own(), IssuerName::new(IssuerName::STATIC));
    let takes_external = config
        .issuers
        .iter()
        .any(|issuer| issuer.settings.authenticates_requests() && rule.takes_issuer(&issuer.settings.name));
    let takes_static = rule.takes_static_tokens();
    let mut clients = config.oauth.iter().flat_map(|oauth| &oauth.clients);
    let mut tokens = config.static_tokens.iter().filter(|_| takes_static);
    !takes_external
        && !clients.any(|client| rule.may_admit(&own, client.id.as_str(), &client.scopes))
        && !tokens.any(|token| rule.may_admit(&fixed, token.name.as_str(), &token.scopes))
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
    if parts.is_empty() {
        parts.push("any valid token".to_owned());
    }
    if rule.bound != TokenBinding::None {
        parts.push(format!("bound {}", rule.bound.as_str()));
    }
    parts.join(" + ")
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
