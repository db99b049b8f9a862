//! The result of a test: of each request the decision that was expected, and the one that was made.

use std::fmt;

use http::StatusCode;

use crate::audit::reason::Reason;
use crate::config::config_test::{ConfigTest, ExpectedDecision, TestCaller, TestRequest};
use crate::config::diagnostics::Diagnostic;
use crate::oauth::discrepancy::Discrepancy;

#[derive(Debug)]
pub(crate) struct TestOutcome<'c> {
    pub(crate) test: &'c ConfigTest,
    pub(crate) requests: Vec<TestedRequest<'c>>,
}

/// A request of one caller.
#[derive(Debug)]
pub(crate) struct TestedRequest<'c> {
    pub(crate) caller: &'c TestCaller,
    pub(crate) request: &'c TestRequest,
    pub(crate) actual: ActualDecision,
}

/// `route` may be an endpoint of the gateway.
#[derive(Debug)]
pub(crate) enum ActualDecision {
    Allowed {
        route: Option<String>,
    },
    /// The gateway itself answers, for example a preflight.
    Answered {
        route: Option<String>,
        status: StatusCode,
    },
    Refused {
        route: Option<String>,
        reason: Reason,
        /// The values found and wanted.
        values: Option<Discrepancy>,
    },
}

impl TestOutcome<'_> {
    pub(crate) fn failed(&self) -> impl Iterator<Item = &TestedRequest<'_>> {
        self.requests.iter().filter(|tested| !tested.has_passed())
    }

    /// The failed requests as errors of the file.
    pub(crate) fn failures<'s>(&'s self, file: &'s str) -> impl Iterator<Item = Diagnostic> + 's {
        self.failed().map(move |tested| {
            let TestedRequest { caller, request, actual } = tested;
            let message =
                format!("test `{}`: {request}, {caller}: expected {}, but {actual}", self.test.name, request.expected);
            let place = request.place;
            Diagnostic { file: file.to_owned(), line: Some(place.line), column: Some(place.column), message }
        })
    }
}

impl TestedRequest<'_> {
    pub(crate) fn has_passed(&self) -> bool {
        match (&self.request.expected, &self.actual) {
            (
                ExpectedDecision::Allowed(wanted),
                ActualDecision::Allowed { route } | ActualDecision::Answered { route, .. },
            ) => wanted.is_none() || wanted == route,
            (ExpectedDecision::Refused(wanted), ActualDecision::Refused { reason, .. }) => wanted == reason,
            (ExpectedDecision::Allowed(_), ActualDecision::Refused { .. })
            | (ExpectedDecision::Refused(_), ActualDecision::Allowed { .. } | ActualDecision::Answered { .. }) => false,
        }
    }
}

impl ActualDecision {
    pub(crate) fn route(&self) -> Option<&str> {
        match self {
            Self::Allowed { route } | Self::Answered { route, .. } | Self::Refused { route, .. } => route.as_deref(),
        }
    }
}

impl fmt::Display for ActualDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed { .. } => f.write_str("allowed")?,
            Self::Answered { status, .. } => write!(f, "answered with {}", status.as_u16())?,
            Self::Refused { reason, .. } => write!(f, "refused with `{}`", reason.as_str())?,
        }
        if let Some(route) = self.route() {
            write!(f, " by route `{route}`")?;
        }
        match self {
            Self::Refused { values: Some(values), .. } => write!(f, " ({values})"),
            Self::Refused { .. } | Self::Allowed { .. } | Self::Answered { .. } => Ok(()),
        }
    }
}
