//! Turns `gateway.yaml` into runtime types.
//!
//! The stages: text → [`tree`] → [`raw`] → [`resolve`]. All stages record their faults in [`diagnostics::Faults`], and
//! all faults are reported at the end. [`read`] does the first stages. Its result is resolved even if there are faults:
//! a value that could not be read is [`Reported`](diagnostics::Reported) or a default. So an unknown name and a wrong
//! type are reported in the same run.
//!
//! Invariants:
//!
//! - No secret is shown: [`secrecy`] decides what may be one, [`source`] hides it.
//! - No value changes its type: [`tree`] has no types, [`values`] and [`reader`] refuse ambiguous text.
//! - Time and memory are bounded by the size of the file, which has a limit.

pub(crate) mod config_test;
pub(crate) mod decode;
pub(crate) mod diagnostics;
pub(crate) mod diff;
pub(crate) mod edit;
pub(crate) mod form;
pub(crate) mod interpolate;
pub(crate) mod lint;
pub(crate) mod needs;
pub(crate) mod origin;
pub(crate) mod raw;
pub(crate) mod route_finder;
pub(crate) mod schema;
pub(crate) mod source;
pub(crate) mod suggest;
pub(crate) mod types;
pub(crate) mod upstream_certificates;
pub(crate) mod values;
pub(crate) mod warning;
pub(crate) mod word;
pub(crate) mod written;

mod allow;
mod file_places;
mod lints;
mod reader;
mod resolve;
pub(crate) mod revision;
mod route_place;
mod secrecy;
pub(crate) mod state_directory;
mod syntax;
mod tree;
mod unsupported_yaml;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use annotate_snippets::Renderer;
use decode::{Decode, Mirrored};
use diagnostics::{Diagnostic, Faults};
use file_places::FilePlaces;
use interpolate::Surroundings;
use lints::LintInput;
use needs::Needs;
use raw::RawConfig;
use reader::Reader;
use resolve::Resolver;
use revision::NamedContent;
use source::{Source, Span};
use types::Config;

use crate::clock::UnixTime;
use crate::issuer::ring_store::RingSettings;
use crate::telemetry::error_chain;

/// All faults of a configuration.
pub(crate) struct ConfigErrors(Box<(Source, Faults)>);

impl std::fmt::Debug for ConfigErrors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ConfigErrors(..)")
    }
}

/// Reads the config file at `path` and the files that it names. Returns the configuration or all faults.
pub(crate) fn load(path: &Path, surroundings: &Surroundings<'_>) -> Result<Config, ConfigErrors> {
    load_part(path, Needs::EVERYTHING, surroundings)
}

/// [`load`] for a command that uses a part of the configuration. The other parts may be incomplete.
pub(crate) fn load_part(path: &Path, needs: Needs, surroundings: &Surroundings<'_>) -> Result<Config, ConfigErrors> {
    resolved(read(path, needs, surroundings), surroundings.now)
}

/// The signing keys of the configuration; `None` if it issues no tokens. Uses no other part of the file.
pub(crate) fn load_ring(path: &Path, surroundings: &Surroundings<'_>) -> Result<Option<RingSettings>, ConfigErrors> {
    let ConfigReading { source, mut faults, raw, needs, named, .. } = read(path, Needs::SIGNING_KEYS, surroundings);
    let resolver = resolver(&source, &mut faults, (needs, named), surroundings.now);
    let ring = raw.and_then(|raw| resolver.only_ring(raw));
    if faults.is_empty() { Ok(ring) } else { Err(ConfigErrors(Box::new((source, faults)))) }
}

/// [`load`] for a text that stands for the file at `path`.
pub(crate) fn load_text(path: &Path, text: String, surroundings: &Surroundings<'_>) -> Result<Config, ConfigErrors> {
    resolved(parse(path, text.into_bytes(), surroundings), surroundings.now)
}

/// [`load_text`] for a command that uses a part of the configuration.
pub(crate) fn load_text_part(
    path: &Path,
    text: String,
    needs: Needs,
    surroundings: &Surroundings<'_>,
) -> Result<Config, ConfigErrors> {
    resolved(parse_part(path, text.into_bytes(), needs, surroundings), surroundings.now)
}

/// The text of the config file at `path`, for a tool that proposes a change.
pub(crate) fn read_text(path: &Path) -> Option<String> {
    read_bytes(path).ok().and_then(|bytes| String::from_utf8(bytes).ok())
}

fn resolved(reading: ConfigReading, now: UnixTime) -> Result<Config, ConfigErrors> {
    let ConfigReading { source, mut faults, raw, comments, needs, named, masked } = reading;
    let places = raw.as_ref().filter(|_| needs.is_everything()).map(FilePlaces::of);
    let resolver = resolver(&source, &mut faults, (needs, named), now);
    let config = raw.and_then(|raw| resolver.config(raw));
    let Some(mut config) = config else { return Err(ConfigErrors(Box::new((source, faults)))) };
    config.masked = masked;
    // Of a part of the configuration no command shows warnings.
    if let Some(places) = places {
        let mut warnings = std::mem::take(&mut config.warnings);
        warnings.extend(lints::warnings(&LintInput { config: &config, places: &places, source: &source }));
        config.warnings = lints::bounded(&source, allow::silence(&source, &comments, warnings));
    }
    Ok(config)
}

fn resolver<'a>(
    source: &'a Source,
    faults: &'a mut Faults,
    (needs, named): (Needs, NamedContent),
    now: UnixTime,
) -> Resolver<'a> {
    let (warnings, ended_certificates, limit_rates, shared_limits, token_fields) = Default::default();
    Resolver {
        source,
        faults,
        warnings,
        ended_certificates,
        limit_rates,
        has_shared_store: false,
        shared_limits,
        token_fields,
        postgres_stale: None,
        named,
        needs,
        allow_literal_secrets: false,
        now,
    }
}

impl ConfigErrors {
    /// The faults for people, with colours if `colour` is true.
    pub(crate) fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let (source, faults) = &*self.0;
        faults.render(source, &renderer)
    }

    /// The files that the configuration names, as far as it could be read.
    pub(crate) fn named_files(&self) -> Vec<PathBuf> {
        self.0.0.named_files()
    }

    /// The faults for programs.
    pub(crate) fn diagnostics(&self) -> Vec<Diagnostic> {
        let (source, faults) = &*self.0;
        faults.diagnostics(source)
    }
}

/// Reads the config file at `path`. Messages show the path as given.
pub(crate) fn read(path: &Path, needs: Needs, surroundings: &Surroundings<'_>) -> ConfigReading {
    match read_bytes(path) {
        Ok(bytes) => parse_part(path, bytes, needs, surroundings),
        Err(error) => {
            let hint = if error.kind() == io::ErrorKind::NotFound { "; give its path with --config" } else { "" };
            ConfigReading::unreadable(path, format!("cannot read the file: {}{hint}", error_chain::reason(&error)))
        }
    }
}

/// A decoded config file.
pub(crate) struct ConfigReading {
    pub(crate) source: Source,
    /// The resolver adds to them.
    pub(crate) faults: Faults,
    /// `None` if the file could not be decoded at all. The file is valid only if there are no faults in the end.
    pub(crate) raw: Option<RawConfig>,
    comments: Vec<Span>,
    needs: Needs,
    named: NamedContent,
    /// The text without secrets; empty if only a part of the file is read.
    masked: String,
}

impl ConfigReading {
    /// All faults, for people.
    pub(crate) fn render(&self) -> String {
        self.faults.render(&self.source, &Renderer::plain())
    }

    fn unreadable(path: &Path, message: String) -> Self {
        let mut faults = Faults::default();
        faults.of_file(message);
        Self::faulty(Source::new(path, String::new()), faults, Needs::EVERYTHING)
    }

    /// Of a file that was not decoded.
    fn faulty(source: Source, faults: Faults, needs: Needs) -> Self {
        let (comments, named, masked) = Default::default();
        Self { source, faults, raw: None, comments, needs, named, masked }
    }
}

/// [`read`] for the bytes of a file.
pub(crate) fn parse(path: &Path, bytes: Vec<u8>, surroundings: &Surroundings<'_>) -> ConfigReading {
    parse_part(path, bytes, Needs::EVERYTHING, surroundings)
}

fn parse_part(path: &Path, bytes: Vec<u8>, needs: Needs, surroundings: &Surroundings<'_>) -> ConfigReading {
    let mut faults = Faults::default();
    if bytes.len() > FILE_BYTES {
        return ConfigReading::unreadable(path, format!("the file is longer than {} MiB", FILE_BYTES >> 20));
    }
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => return not_utf8(path, &error),
    };
    let source = Source::new(path, text);
    if let Some((span, message)) = unprintable(source.text()) {
        faults.at(span, message);
        return ConfigReading::faulty(source, faults, needs);
    }
    let mut reading = ConfigReading::faulty(source, faults, needs);
    reading.raw = decode(&mut reading, surroundings);
    reading
}

fn decode(reading: &mut ConfigReading, surroundings: &Surroundings<'_>) -> Option<RawConfig> {
    let ConfigReading { source, faults, comments, named, masked, needs, .. } = reading;
    let needs = *needs;
    let mut tree = match tree::read(source.text()) {
        Ok(tree) => tree,
        Err(fault) => {
            source.hide(secrecy::hidden_around(source.text(), fault.span));
            faults.at(fault.span, fault.message);
            return None;
        }
    };
    *comments = std::mem::take(&mut tree.comments);
    source.hide(secrecy::hidden(source.text(), &tree));
    source.show_keys(secrecy::shown_keys(&tree));
    if needs.is_everything() {
        *masked = secrecy::masked::masked(&tree);
    }
    if let Some(root) = &tree.root {
        faults.begin(root.span, needs.unused(root, RawConfig::KEYS));
    }
    for found in &tree.unsupported {
        faults.at(found.span, found.value.message(source.quote(found.span)));
    }
    let Some(root) = &tree.root else {
        faults.of_file("the file is empty");
        return None;
    };
    let mut reader = Reader { source, surroundings, faults, needs, interpolated_bytes: 0, named };
    RawConfig::decode(root, &mut reader).ok()
}

fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn not_utf8(path: &Path, error: &std::string::FromUtf8Error) -> ConfigReading {
    let good = error.utf8_error().valid_up_to();
    let bytes = error.as_bytes();
    let message = match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "the file is in UTF-16: save it as UTF-8",
        _ => "this byte is not UTF-8: save the file as UTF-8",
    };
    let text = String::from_utf8_lossy(&bytes[..good]).into_owned();
    let mut faults = Faults::default();
    faults.at(Span::new(good, good), message);
    ConfigReading::faulty(Source::new(path, text), faults, Needs::EVERYTHING)
}

/// The first character that is not allowed in a config file. The parser takes some of them for the end of the file.
fn unprintable(text: &str) -> Option<(Span, String)> {
    if text.starts_with('\u{feff}') {
        let message = "the file begins with a byte order mark: save it as UTF-8 without one";
        return Some((Span::new(0, 0), message.to_owned()));
    }
    let (at, found) = text.char_indices().find(|(_, c)| c.is_control() && !matches!(c, '\t' | '\n' | '\r'))?;
    let message = format!("the control character U+{:04X} is not allowed", u32::from(found));
    Some((Span::new(at, at), message))
}

/// Some 500,000 clients or routes.
pub(crate) const FILE_BYTES: usize = 64 << 20;

#[cfg(test)]
mod tests;
