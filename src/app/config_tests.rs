//! Runs the tests that a configuration has for itself.
//!
//! Each request is decided by a [`Rehearsal`] of the configuration, that is by the pipeline's own functions. Nothing is
//! opened, fetched or sent.

pub(crate) mod coverage;
pub(crate) mod outcome;

use self::coverage::TestCoverage;
use self::outcome::{ActualDecision, TestOutcome, TestedRequest};
use super::rehearsal::callers::NoCaller;
use super::rehearsal::requests::RequestText;
use super::rehearsal::{Rehearsal, RehearsalError, RehearsedOutcome};
use crate::config::config_test::{ConfigTest, TestCaller, TestRequest};
use crate::config::diagnostics::Diagnostic;
use crate::config::types::Config;
use crate::oauth::observer::Unobserved;
use crate::pipeline::answer::rejection::Rejection;

/// The results of the tests of a configuration.
#[derive(Debug)]
pub(crate) struct ConfigTestReport<'c> {
    /// The file of the tests.
    pub(crate) file: &'c str,
    pub(crate) tests: Vec<TestOutcome<'c>>,
    pub(crate) coverage: TestCoverage,
}

/// The tests could not be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TestRunError {
    #[error(transparent)]
    Rehearsal(#[from] RehearsalError),
    #[error("cannot make the token of a caller")]
    Caller(#[from] NoCaller),
}

/// A configuration is not taken into use because of its tests.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TestsFailed {
    #[error("tests of the configuration failed")]
    Failed(Vec<Diagnostic>),
    #[error("cannot run the tests of the configuration")]
    NotRun(#[from] TestRunError),
}

/// Runs all tests before a configuration is taken into use. Not to be called by a task.
pub(crate) fn pass(config: &Config) -> Result<(), TestsFailed> {
    if config.tests.tests.is_empty() {
        return Ok(());
    }
    let failures = run(config, |_| true, || ())?.failures();
    if failures.is_empty() { Ok(()) } else { Err(TestsFailed::Failed(failures)) }
}

/// Runs the selected tests. `progress` is called after each request. Not to be called by a task.
pub(crate) fn run(
    config: &Config,
    is_selected: impl Fn(&ConfigTest) -> bool,
    mut progress: impl FnMut(),
) -> Result<ConfigTestReport<'_>, TestRunError> {
    let rehearsal = Rehearsal::new(config)?;
    let mut tests = Vec::new();
    for test in config.tests.tests.iter().filter(|test| is_selected(test)) {
        let mut requests = Vec::with_capacity(test.size());
        for caller in &test.callers {
            let fields = fields(&rehearsal, test, caller)?;
            for request in &test.requests {
                let actual = decide(&rehearsal, test, request, &fields);
                requests.push(TestedRequest { caller, request, actual });
                progress();
            }
        }
        tests.push(TestOutcome { test, requests });
    }
    let coverage = TestCoverage::of(&config.routes, &tests);
    Ok(ConfigTestReport { file: &config.tests.file, tests, coverage })
}

impl ConfigTestReport<'_> {
    pub(crate) fn failures(&self) -> Vec<Diagnostic> {
        self.tests.iter().flat_map(|outcome| outcome.failures(self.file)).collect()
    }
}

/// The header fields of a caller's requests, its token included.
fn fields(rehearsal: &Rehearsal, test: &ConfigTest, caller: &TestCaller) -> Result<Vec<(String, String)>, NoCaller> {
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let written = test.fields.iter().map(|(name, value)| (name.as_str().to_owned(), text(value.as_bytes())));
    Ok(written.chain(credentials(rehearsal, caller)?).collect())
}

/// The token of a caller, and the field that it comes in.
fn credentials(rehearsal: &Rehearsal, caller: &TestCaller) -> Result<Option<(String, String)>, NoCaller> {
    match caller {
        TestCaller::Anonymous => Ok(None),
        TestCaller::Client { id, scopes } => {
            let scopes = scopes.as_ref().map(ToString::to_string);
            rehearsal.token_of_client(id, scopes.as_deref()).map(|token| Some(rehearsal.field_of(&token)))
        }
        TestCaller::Static(name) => {
            let (field, value) = rehearsal.static_token(name)?;
            Ok(Some((field.as_str().to_owned(), value)))
        }
        TestCaller::External { issuer, claims } => {
            let token = rehearsal.token_of_issuer(issuer, claims)?;
            let issuers = rehearsal.snapshot.trust.issuers().iter();
            let mut fields = issuers.filter(|known| known.settings.name.as_str() == issuer);
            let field = fields.find_map(|known| known.settings.token_field.as_ref());
            let in_field = field.map(|field| (field.as_str().to_owned(), token.clone()));
            Ok(Some(in_field.unwrap_or_else(|| rehearsal.authorization(&token))))
        }
    }
}

fn decide(
    rehearsal: &Rehearsal,
    test: &ConfigTest,
    request: &TestRequest,
    fields: &[(String, String)],
) -> ActualDecision {
    let text = RequestText {
        method: request.method.as_str(),
        target: &request.target,
        host: &test.host,
        from: test.from,
        is_https: test.is_https,
        fields,
    };
    let read = match rehearsal.read(&text) {
        Ok(read) => read,
        Err(fault) => {
            let reason = Rejection::Wire(fault).reason();
            return ActualDecision::Refused { route: None, reason, values: None };
        }
    };
    let decision = rehearsal.decide(read, &mut Unobserved);
    if let Some(reason) = decision.would_deny {
        // Tests are about the rule, so that they hold also when the route no longer only reports.
        return ActualDecision::Refused { route: decision.rule, reason, values: decision.reported_values };
    }
    match decision.outcome {
        RehearsedOutcome::Permitted | RehearsedOutcome::Endpoint => ActualDecision::Allowed { route: decision.rule },
        RehearsedOutcome::Answered(status) => ActualDecision::Answered { route: decision.rule, status },
        RehearsedOutcome::Refused { reason, values, .. } => {
            ActualDecision::Refused { route: decision.rule, reason, values }
        }
    }
}

#[cfg(test)]
mod tests;
