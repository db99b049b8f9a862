//! The places of questions to an introspection endpoint, of which no address takes all.

use std::net::IpAddr;

use foldhash::HashMap;

/// Tokens that are asked about or wait for that. Requests with further tokens are answered 503.
pub(super) const MAX_ASKED: usize = 1024;
/// Of those, for the tokens of one address: until one of them was active, and then.
const MAX_OF_UNKNOWN: usize = 16;
const MAX_OF_PROVEN: usize = MAX_ASKED / 4;

/// The network whose request brings a token that is asked about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    network: IpAddr,
    /// The questions that it may have in flight.
    at_most: usize,
}

/// The questions in flight of each network.
#[derive(Debug, Default)]
pub(super) struct QuestionPlaces(HashMap<IpAddr, usize>);

impl Asker {
    /// `is_proven`: a token of this network was active.
    pub(crate) fn new(network: IpAddr, is_proven: bool) -> Self {
        Self { network, at_most: if is_proven { MAX_OF_PROVEN } else { MAX_OF_UNKNOWN } }
    }
}

impl QuestionPlaces {
    pub(super) fn has_one(&self, asker: Asker) -> bool {
        self.0.get(&asker.network).copied().unwrap_or_default() < asker.at_most
    }

    pub(super) fn take(&mut self, asker: Asker) {
        *self.0.entry(asker.network).or_default() += 1;
    }

    pub(super) fn release(&mut self, asker: Asker) {
        let Some(taken) = self.0.get_mut(&asker.network) else { return };
        *taken = taken.saturating_sub(1);
        if *taken == 0 {
            self.0.remove(&asker.network);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn an_address_has_its_own_places_and_gets_them_back() {
        let [one, other] = [1, 2].map(|last| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)));
        let (unknown, mut places) = (Asker::new(one, false), QuestionPlaces::default());
        (0..MAX_OF_UNKNOWN).for_each(|_| places.take(unknown));
        assert!(!places.has_one(unknown) && places.has_one(Asker::new(other, false)));
        let proven = Asker::new(one, true);
        assert!(places.has_one(proven));
        (MAX_OF_UNKNOWN..MAX_OF_PROVEN).for_each(|_| places.take(proven));
        assert!(!places.has_one(proven));
        (0..MAX_OF_PROVEN).for_each(|_| places.release(proven));
        assert!(places.has_one(unknown) && places.0.is_empty());
    }
}
