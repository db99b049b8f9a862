//! A client's secrets as they are written in the file, for tools that propose a change.
//!
//! A hash, a time and a reference such as `${NAME}` may be shown. A secret that is written in the file is never shown.

use super::ConfigReading;
use super::raw::oauth::{KeptSecrets, RawSecret, Secret};
use super::source::{At, Source, Span};
use super::suggest;
use crate::clock::UnixTime;

/// One of a client's secrets as it is written in the file.
#[derive(Debug)]
pub(crate) struct WrittenSecret {
    /// `hash` or `value`.
    pub(crate) key: &'static str,
    /// `None` for a secret that is written in the file itself.
    pub(crate) text: Option<String>,
    pub(crate) line: usize,
    pub(crate) not_before: Option<WrittenTime>,
    pub(crate) expires_at: Option<WrittenTime>,
}

#[derive(Debug)]
pub(crate) struct WrittenTime {
    pub(crate) text: String,
    pub(crate) time: UnixTime,
}

impl ConfigReading {
    /// The secrets of a client in the order of the file. `Err` is the text after "unknown client `ID`" in a message.
    pub(crate) fn secrets_of(&self, id: &str) -> Result<Vec<WrittenSecret>, String> {
        let clients = self.raw.as_ref().and_then(|raw| raw.oauth.as_ref()).map(|oauth| &oauth.value.clients);
        let names: Vec<&str> = clients.iter().flat_map(|clients| clients.names()).collect();
        let client = clients.and_then(|clients| clients.entries.iter().find(|(name, _)| name.value == id));
        let (_, client) = client.ok_or_else(|| suggest::suggestion(id, &names))?;
        let secrets = client.iter().flat_map(|client| client.value.secrets());
        Ok(secrets.map(|secret| written(&self.source, secret)).collect())
    }
}

fn written(source: &Source, secret: &At<RawSecret>) -> WrittenSecret {
    let (key, kept, text) = match &secret.value.kept {
        KeptSecrets::Hash(hash) => ("hash", hash, Some(source_text(source, hash.span, hash.value.expose()))),
        KeptSecrets::Value(value) => ("value", value, reference(source, value)),
    };
    let time = |time: &Option<At<UnixTime>>| {
        let At { value, span } = time.as_ref()?;
        Some(WrittenTime { text: source_text(source, *span, &value.to_string()), time: *value })
    };
    let (not_before, expires_at) = (time(&secret.value.not_before), time(&secret.value.expires_at));
    WrittenSecret { key, text, line: source.line(kept.span), not_before, expires_at }
}

fn reference(source: &Source, value: &At<Secret>) -> Option<String> {
    let text = source.verbatim(value.span);
    (!value.value.is_literal() && is_one_line(text)).then(|| text.to_owned())
}

/// The text of the file, or the quoted value if the text has several lines.
fn source_text(source: &Source, span: Span, value: &str) -> String {
    let text = source.verbatim(span);
    if is_one_line(text) { text.to_owned() } else { serde_json::Value::from(value).to_string() }
}

fn is_one_line(text: &str) -> bool {
    !text.is_empty() && !text.contains(['\n', '\r'])
}
