//! The reason for which a store is not in use, so that each is logged once.

/// Ordered by what the operator has to do: a refusal does not end by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outage {
    Unreachable,
    /// The server refuses the login, a right, or its tables are not those of this gateway.
    Refused,
}

/// The worst outage that was logged since the store was in use.
#[derive(Debug, Default)]
pub(super) struct LoggedOutage(Option<Outage>);

impl LoggedOutage {
    /// Whether this outage is to be logged.
    pub(super) fn is_news(&mut self, outage: Outage) -> bool {
        let is_worse = self.0 < Some(outage);
        if is_worse {
            self.0 = Some(outage);
        }
        is_worse
    }

    /// Whether an outage was logged, which has ended now.
    pub(super) fn ends(&mut self) -> bool {
        self.0.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_logged_once_and_again_if_it_is_a_refusal() {
        let mut logged = LoggedOutage::default();
        assert!(!logged.ends());
        assert!(logged.is_news(Outage::Unreachable) && !logged.is_news(Outage::Unreachable));
        assert!(logged.is_news(Outage::Refused) && !logged.is_news(Outage::Refused));
        assert!(!logged.is_news(Outage::Unreachable), "one that changes every second is logged once");
        assert!(logged.ends() && !logged.ends());
        assert!(logged.is_news(Outage::Refused));
    }
}
