//! `portcullis issuers`: shows the trusted issuers, their keys, and whether these can be fetched.

use std::process::ExitCode;
use std::sync::Arc;

use anstyle::Style;
use clap::Args;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::admin_client::{AdminError, fetch};
use super::terminal::{BOLD, DIM, GOOD, NAME, WARN, bad_config, failed, note, out, styled};
use super::{ConfigPath, FINDINGS, Format};
use crate::config;
use crate::config::interpolate::Surroundings;
use crate::config::needs::Needs;
use crate::config::revision::file_part;
use crate::config::types::Config;
use crate::issuer::ring_store;
use crate::trust::introspection::Introspection;
use crate::trust::issuer::TrustedIssuer;
use crate::trust::key_cache::KeyCache;
use crate::trust::refresher;
use crate::trust::report::{IssuerReport, IssuersReport, KeySetState};

#[derive(Debug, Args)]
pub(super) struct IssuersArgs {
    #[command(flatten)]
    config: ConfigPath,
    /// The form of the output: text for people, JSON for programs
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// The source of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReportSource {
    Gateway,
    Issuers,
}

pub(super) fn issuers(args: &IssuersArgs) -> ExitCode {
    let config = match config::load_part(&args.config.config, Needs::ISSUERS, &Surroundings::process()) {
        Ok(config) => config,
        Err(errors) => return bad_config(&errors),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let (report, source) = runtime.block_on(report(&config));
    match args.format {
        Format::Text => print_text(&report),
        Format::Json => {
            let source = match source {
                ReportSource::Gateway => "gateway",
                ReportSource::Issuers => "issuers",
            };
            out(json!({ "source": source, "config": report.config, "issuers": report.issuers }));
        }
    }
    let all_well = report.issuers.iter().all(|issuer| !issuer.out_of_reach);
    if all_well { ExitCode::SUCCESS } else { ExitCode::from(FINDINGS) }
}

/// The report of the running gateway; without one, the result of fetching the keys here.
async fn report(config: &Config) -> (IssuersReport, ReportSource) {
    let reason = match &config.admin {
        None => "the configuration has no `admin` listener".to_owned(),
        Some(admin) if admin.allow_from.is_some() => {
            "the `admin` listener shows issuers on a loopback address only".to_owned()
        }
        Some(admin) => match from_gateway(admin.address).await {
            Ok(report) => {
                if file_part(&report.config) != file_part(&config.id) {
                    let warning = styled(WARN, "warning:");
                    note(format_args!("{warning} the gateway runs with another configuration, {}", report.config));
                }
                return (report, ReportSource::Gateway);
            }
            Err(error) => error.to_string(),
        },
    };
    note(styled(DIM, format_args!("{reason}; the keys were fetched from the issuers")));
    (from_issuers(config).await, ReportSource::Issuers)
}

async fn from_gateway(admin: std::net::SocketAddr) -> Result<IssuersReport, AdminError> {
    let body = fetch(admin, "/issuers").await?;
    serde_json::from_slice(&body).map_err(|_| AdminError::NotAdmin(admin))
}

async fn from_issuers(config: &Config) -> IssuersReport {
    let mut issuers = Vec::new();
    if let Some(oauth) = &config.oauth {
        let keys = ring_store::peek(&oauth.ring)
            .ok()
            .flatten()
            .and_then(|ring| ring.verifying_keys().ok())
            .unwrap_or_default();
        issuers.push(TrustedIssuer {
            settings: oauth.trust.clone(),
            keys: Arc::new(KeyCache::own(keys)),
            introspection: None,
        });
    }
    for issuer in &config.issuers {
        // A failure is in the report.
        let (keys, _) = refresher::load_once(&issuer.settings, &issuer.source).await;
        let introspection = Introspection::of(&issuer.settings.name, &issuer.source, &Handle::current());
        if let Some(introspection) = &introspection {
            let _ = introspection.probe().await;
        }
        issuers.push(TrustedIssuer { settings: issuer.settings.clone(), keys: Arc::new(keys), introspection });
    }
    let now = Instant::now();
    let issuers = issuers.iter().map(|issuer| IssuerReport::of(issuer, now)).collect();
    IssuersReport { config: config.id.clone(), issuers }
}

const HEAD: [&str; 6] = ["ISSUER", "STATE", "AGE", "NEXT", "CLOCK", "KEYS"];

fn print_text(report: &IssuersReport) {
    let rows: Vec<_> = report.issuers.iter().flat_map(rows).collect();
    table(&rows);
    for issuer in &report.issuers {
        let name = styled(NAME, &issuer.name);
        for key in &issuer.left_aside {
            let kid = key.kid.as_deref().unwrap_or("(no kid)");
            out(format_args!("\n{name}: key {} is not used: {}", shown(kid), key.reason));
        }
        if let Some(error) = &issuer.last_error {
            let ago = styled(DIM, format_args!("({} ago)", duration(error.ago_s)));
            out(format_args!("\n{name}: {} {ago}", shown(&error.error)));
        }
    }
}

type Row = [(String, Style); 6];

/// One line for the issuer with its first key, one more for each other key.
fn rows(issuer: &IssuerReport) -> Vec<Row> {
    let plain = |text: String| (text, Style::new());
    let (state, style) = state(issuer);
    let of = |seconds: Option<u64>| plain(seconds.map_or_else(|| "-".to_owned(), duration));
    let clock = issuer.clock_skew_s.map_or_else(|| "-".to_owned(), |skew| format!("{skew:+}s"));
    let mut keys = issuer.keys.iter().map(|key| {
        let kid = key.kid.as_deref().map_or_else(|| "(no kid)".to_owned(), shown);
        plain(format!("{kid} {}", key.alg))
    });
    let none = if matches!(issuer.state, KeySetState::Introspected) {
        plain("-".to_owned())
    } else {
        ("(none)".to_owned(), WARN)
    };
    let first = keys.next().unwrap_or(none);
    let name = (issuer.name.clone(), NAME);
    let mut rows = vec![[name, (state, style), of(issuer.age_s), of(issuer.next_refresh_s), plain(clock), first]];
    let nothing = || plain(String::new());
    rows.extend(keys.map(|key| [nothing(), nothing(), nothing(), nothing(), nothing(), key]));
    rows
}

fn state(issuer: &IssuerReport) -> (String, Style) {
    let state = match issuer.state {
        KeySetState::Own => "own",
        KeySetState::Local => "local",
        KeySetState::Fresh => "fresh",
        KeySetState::Stale => "stale",
        KeySetState::Expired => "expired",
        KeySetState::Missing => "missing",
        KeySetState::Introspected => "introspected",
    };
    if issuer.out_of_reach {
        let fault = if matches!(issuer.state, KeySetState::Local) { "file not usable" } else { "unreachable" };
        (format!("{state}, {fault}"), WARN)
    } else if matches!(
        issuer.state,
        KeySetState::Own | KeySetState::Local | KeySetState::Fresh | KeySetState::Introspected
    ) {
        (state.to_owned(), GOOD)
    } else {
        (state.to_owned(), WARN)
    }
}

/// The two largest units, such as `7m48s`.
fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, _, _) => format!("{hours}h{minutes}m"),
        (_, _, _) => format!("{days}d{hours}h"),
    }
}

/// Text of an issuer without control characters.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn table(rows: &[Row]) {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].0.chars().count());
        cells.chain([HEAD[column].len()]).max().unwrap_or(0)
    };
    let widths = [0, 1, 2, 3, 4].map(width);
    let line = |cells: [(&str, Style); 6]| {
        let mut text = String::new();
        for (column, (cell, style)) in cells.into_iter().enumerate() {
            if !cell.is_empty() {
                text += &styled(style, cell);
            }
            let pad = widths.get(column).map_or(0, |width| width - cell.chars().count() + 2);
            text += &" ".repeat(pad);
        }
        out(text.trim_end());
    };
    line(HEAD.map(|head| (head, BOLD)));
    for row in rows {
        line(row.each_ref().map(|(text, style)| (text.as_str(), *style)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units_at_most() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (468, "7m48s"), (3600, "1h0m"), (90_000, "1d1h")] {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn control_characters_of_issuers_do_not_reach_the_terminal() {
        assert_eq!(shown("k\u{1b}[2J1"), "k?[2J1");
    }
}
