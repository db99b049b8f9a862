//! The smallest change of `gateway.yaml` that would accept a refused token, and what it would open.
//!
//! A proposal is made by [`mod@proposals`], applied to the text of the file, and examined by the functions of the
//! gateway: the changed configuration must be valid, and its gateway must accept the token, or refuse it for another
//! reason, which may need another change. Nothing is written, and nothing is fetched from a place that the token names.

mod obstacle;
mod proposal;
mod proposals;

use std::cell::Cell;
use std::path::Path;

use serde_json::Value;

use self::obstacle::obstacle;
use self::proposal::TokenFacts;
use self::proposals::proposals;
use super::decision::TokenRequest;
use super::refusal::{Cause, Refusal};
use crate::app::inspection;
use crate::config;
use crate::config::edit::{ConfigEdit, EditKind, EditedConfig, flow, flow_key};
use crate::config::interpolate::Surroundings;
use crate::config::needs::Needs;
use crate::pipeline::routing::snapshot::Snapshot;
use crate::trust::failed_check::TokenError;

/// Looks for changes for one token.
pub(super) struct ChangeSearch<'s> {
    path: &'s Path,
    text: String,
    request: &'s TokenRequest<'s>,
    snapshot: &'s Snapshot,
    /// How many more changed configurations may be examined.
    trials_left: Cell<usize>,
}

/// The result of a search.
#[derive(Debug)]
pub(super) enum Suggestion {
    /// All of these changes together.
    Changes(Vec<Change>),
    /// The reason why there is no change.
    None(String),
}

#[derive(Debug)]
pub(super) struct Change {
    /// The text to write and its place in the file.
    pub(super) text: String,
    pub(super) opens: String,
}

/// A token may need several changes, such as an audience and a type.
const MAX_CHANGES: usize = 4;
/// A file may have thousands of routes that refuse the token.
const MAX_TRIALS: usize = 64;

impl<'s> ChangeSearch<'s> {
    /// `None` if the file can no longer be read.
    pub(super) fn new(path: &'s Path, request: &'s TokenRequest<'s>, snapshot: &'s Snapshot) -> Option<Self> {
        let text = config::read_text(path)?;
        Some(Self { path, text, request, snapshot, trials_left: Cell::new(MAX_TRIALS) })
    }

    /// The change that lets this route accept the token, or without a route, that lets the gateway accept it. `None` if
    /// the search was not made: the request is not known well enough, or the file has too many routes.
    pub(super) async fn suggestion(&self, route: Option<usize>, refusal: &Refusal) -> Option<Suggestion> {
        if matches!((&refusal.cause, self.request.from), (Cause::Address, None) | (Cause::Other, _)) {
            return None;
        }
        let (mut text, mut changes) = (self.text.clone(), Vec::new());
        let mut step = self.next_step(&text, self.snapshot, route, refusal).await;
        let mut why_none = self.obstacle(&text, self.snapshot, route, refusal);
        while let Some(taken) = step.take_if(|_| changes.len() < MAX_CHANGES) {
            changes.push(taken.change);
            let Some((refusal, snapshot)) = taken.refused else { return Some(Suggestion::Changes(changes)) };
            text = taken.text;
            why_none = self.obstacle(&text, &snapshot, route, &refusal);
            step = self.next_step(&text, &snapshot, route, &refusal).await;
        }
        (self.trials_left.get() > 0).then_some(Suggestion::None(why_none))
    }

    /// Why no change leads on.
    fn obstacle(&self, text: &str, snapshot: &Snapshot, route: Option<usize>, refusal: &Refusal) -> String {
        obstacle(refusal, &TokenFacts::new(self.request, snapshot, route), text)
    }

    /// The first proposal that leads on.
    async fn next_step(
        &self,
        text: &str,
        snapshot: &Snapshot,
        route: Option<usize>,
        refusal: &Refusal,
    ) -> Option<Step> {
        let facts = TokenFacts::new(self.request, snapshot, route);
        for proposal in proposals(refusal, &facts) {
            let Some(edited) = proposal.edit.apply(text) else { continue };
            let change = Change { text: self.describe(&proposal.edit, &edited), opens: proposal.opens };
            let Some((next, snapshot)) = self.examine(&edited.text, route).await else { continue };
            match next {
                Err(next) if proposal.is_new_issuer && matches!(next.cause, Cause::Check(TokenError::UnknownKid)) => {
                    return Some(Step { change, text: edited.text, refused: None });
                }
                Err(next) if next.text != refusal.text => {
                    return Some(Step { change, text: edited.text, refused: Some((next, snapshot)) });
                }
                Err(_) => {}
                Ok(()) => return Some(Step { change, text: edited.text, refused: None }),
            }
        }
        None
    }

    /// The decision of a gateway with this text. `None` if the configuration is not valid.
    async fn examine(&self, text: &str, route: Option<usize>) -> Option<(Result<(), Refusal>, Snapshot)> {
        self.trials_left.set(self.trials_left.get().checked_sub(1)?);
        let surroundings = Surroundings::process();
        let config = config::load_text_part(self.path, text.to_owned(), Needs::TOKENS, &surroundings).ok()?;
        let snapshot = inspection::changed_snapshot(config, &self.snapshot.trust, self.request.now).await.ok()?;
        let mut decision = self.request.verdict(&snapshot).await.map(drop);
        if let Some(route) = route.and_then(|index| snapshot.routes.routes().get(index)) {
            decision = self.request.decision(&snapshot, route).await?;
        }
        Some((decision, snapshot))
    }

    fn describe(&self, edit: &ConfigEdit, edited: &EditedConfig) -> String {
        let place = format!("({}:{})", self.path.display(), edited.line);
        if let (EditKind::Set(Value::Object(members)), Some((map, name))) = (&edit.kind, edit.map_and_key()) {
            return format!("add to `{map}` {place}:\n{}", block(name, members.iter()));
        }
        if edited.is_item {
            format!("add {} to `{edit}` {place}", edited.written)
        } else {
            format!("set `{edit}` to {} {place}", edited.written)
        }
    }
}

/// A change that leads on, and the state after it.
struct Step {
    change: Change,
    text: String,
    /// `None` if the token is accepted.
    refused: Option<(Refusal, Snapshot)>,
}

/// An entry of a map as an indented block of YAML.
fn block<'v>(name: &str, members: impl Iterator<Item = (&'v String, &'v Value)>) -> String {
    let line = |(key, value): (&String, &Value)| Some(format!("\n    {}: {}", flow_key(key)?, flow(value)?));
    format!("  {name}:{}", members.filter_map(line).collect::<String>())
}
