//! Reports of the checks of a decision. The functions that decide report each check to an [`Observer`].
//!
//! A running gateway has no observer, and makes no reports. `portcullis explain` keeps them. There is no second
//! implementation of any rule: an explanation is made by the functions that decide real requests.

use super::discrepancy::Discrepancy;

/// Takes the reports of the rooms.
pub(crate) trait Observer {
    /// `make` is called only if the observer keeps reports.
    fn observe(&mut self, make: impl FnOnce() -> Observation);

    /// The same for several reports.
    fn observe_all(&mut self, make: impl FnOnce() -> Vec<Observation>) {
        make().into_iter().for_each(|made| self.observe(|| made));
    }

    /// Reports a check by its result, which it gives back.
    #[inline]
    fn report<T, E>(
        &mut self,
        room: Room,
        subject: &str,
        result: Result<T, E>,
        values: impl FnOnce(&Result<T, E>) -> Discrepancy,
    ) -> Result<T, E> {
        self.observe(|| {
            let outcome = if result.is_ok() { Outcome::Passed } else { Outcome::Failed };
            Observation::new(room, subject, outcome, values(&result))
        });
        result
    }
}

/// Keeps no report: for the requests of a running gateway.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Unobserved;

/// All reports of one request, in the order of its way.
#[derive(Debug, Default)]
pub(crate) struct Trace(pub(crate) Vec<Observation>);

/// One check or one choice, as a room made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Observation {
    pub(crate) room: Room,
    /// A noun: the thing that was checked or chosen, such as `exp` or `route`.
    pub(crate) subject: String,
    pub(crate) outcome: Outcome,
    /// The values found and wanted.
    pub(crate) values: Discrepancy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    Failed,
    /// Neither: a fact, or a choice among several.
    Noted,
    /// The check was left out, because its inputs are not at hand.
    NotChecked,
}

/// The step of a request's way in which it was observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Room {
    Canonicalise,
    Route,
    Address,
    Limits,
    Authenticate,
    Authorize,
}

impl Observer for Unobserved {
    #[inline]
    fn observe(&mut self, _: impl FnOnce() -> Observation) {}

    #[inline]
    fn observe_all(&mut self, _: impl FnOnce() -> Vec<Observation>) {}
}

impl Observer for Trace {
    fn observe(&mut self, make: impl FnOnce() -> Observation) {
        self.0.push(make());
    }
}

impl Observation {
    /// A fact of the request, or a choice of the gateway.
    pub(crate) fn noted(room: Room, subject: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(room, subject, Outcome::Noted, Discrepancy::new(found.into(), ""))
    }

    pub(crate) fn new(room: Room, subject: impl Into<String>, outcome: Outcome, values: Discrepancy) -> Self {
        Self { room, subject: subject.into(), outcome, values }
    }

    /// A check, with what was found and what was wanted.
    pub(crate) fn checked(
        room: Room,
        subject: impl Into<String>,
        passed: bool,
        found: impl Into<String>,
        wanted: impl Into<String>,
    ) -> Self {
        let outcome = if passed { Outcome::Passed } else { Outcome::Failed };
        Self::new(room, subject, outcome, Discrepancy::new(found.into(), wanted.into()))
    }
}
