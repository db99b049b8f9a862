//! The uses that the keeper knows: which id was used, by whom, and until when it counts.
//!
//! Uses are counted by user, so that one client or issuer cannot fill the room of all. A use is known until its end and
//! a little longer. Then it is forgotten, and what ends no later is refused from then on: if the clock is set back, it
//! might be the same.

use foldhash::HashMap;

use super::replay_store::{RecordedUse, RecordedUses};
use crate::clock::UnixTime;
use crate::oauth::caller::Digest;

#[derive(Debug)]
pub(super) struct KnownUses {
    by_digest: HashMap<Digest, KnownUse>,
    by_user: HashMap<u64, usize>,
    room: Room,
    /// The latest end of a use that was forgotten, in seconds since 1970.
    forgotten: u64,
    /// The second in which expired uses were last looked for.
    swept_in: Option<u64>,
}

/// How many uses may be known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) of_all: usize,
    pub(super) of_user: usize,
}

#[derive(Clone, Copy, Debug)]
struct KnownUse {
    user: u64,
    /// Seconds since 1970.
    expires_at: u64,
}

/// The result of noting a use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotedUse {
    First,
    /// It is known, or may have been forgotten.
    Repeated,
    NoRoom,
}

/// A use is known for longer, in case the clock is set back a little.
pub(super) const KEPT_AFTER_END: u64 = 60;

impl KnownUses {
    pub(super) fn new(room: Room) -> Self {
        Self { by_digest: HashMap::default(), by_user: HashMap::default(), room, forgotten: 0, swept_in: None }
    }

    pub(super) fn len(&self) -> usize {
        self.by_digest.len()
    }

    /// Takes over what the file contains. It may be more than the room.
    pub(super) fn learn(&mut self, recorded: &RecordedUses) {
        self.forgotten = self.forgotten.max(recorded.forgotten);
        recorded.uses.iter().for_each(|used| self.add(used));
    }

    /// Notes a use, if it is the first.
    pub(super) fn note(&mut self, used: &RecordedUse, now: UnixTime) -> NotedUse {
        if self.by_digest.contains_key(&used.digest) || used.expires_at <= self.forgotten {
            return NotedUse::Repeated;
        }
        // All uses are looked at, so this is not done for each of many requests.
        if self.is_full(used.user) && self.swept_in != Some(now.seconds()) {
            self.forget_expired(now);
        }
        if self.is_full(used.user) {
            return NotedUse::NoRoom;
        }
        self.add(used);
        NotedUse::First
    }

    /// As if it had not been noted.
    pub(super) fn take_back(&mut self, used: &RecordedUse) {
        if let Some(known) = self.by_digest.remove(&used.digest) {
            uncount(&mut self.by_user, known.user);
        }
    }

    /// Forgets the uses that have expired.
    pub(super) fn forget_expired(&mut self, now: UnixTime) {
        self.swept_in = Some(now.seconds());
        let Self { by_digest, by_user, forgotten, .. } = self;
        by_digest.retain(|_, known| {
            let counts = now.seconds() < known.expires_at.saturating_add(KEPT_AFTER_END);
            if !counts {
                *forgotten = (*forgotten).max(known.expires_at);
                uncount(by_user, known.user);
            }
            counts
        });
    }

    /// All of it, for the file.
    pub(super) fn recorded(&self) -> RecordedUses {
        let known = self.by_digest.iter();
        let uses = known.map(|(digest, KnownUse { user, expires_at })| RecordedUse {
            digest: *digest,
            user: *user,
            expires_at: *expires_at,
        });
        RecordedUses { uses: uses.collect(), forgotten: self.forgotten }
    }

    fn is_full(&self, user: u64) -> bool {
        self.len() >= self.room.of_all || self.by_user.get(&user).is_some_and(|count| *count >= self.room.of_user)
    }

    fn add(&mut self, used: &RecordedUse) {
        let known = KnownUse { user: used.user, expires_at: used.expires_at };
        if self.by_digest.insert(used.digest, known).is_none() {
            *self.by_user.entry(used.user).or_default() += 1;
        }
    }
}

fn uncount(by_user: &mut HashMap<u64, usize>, user: u64) {
    match by_user.get_mut(&user) {
        Some(count) if *count > 1 => *count -= 1,
        Some(_) => drop(by_user.remove(&user)),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: u64 = 1_800_000_300;
    const NOW: UnixTime = UnixTime::from_seconds(END - 300);
    const AFTER: UnixTime = UnixTime::from_seconds(END + KEPT_AFTER_END);

    fn used(number: u128, user: u64, expires_at: u64) -> RecordedUse {
        RecordedUse { digest: Digest(number), user, expires_at }
    }

    fn known(of_all: usize, of_user: usize) -> KnownUses {
        KnownUses::new(Room { of_all, of_user })
    }

    #[test]
    fn a_forgotten_use_is_not_the_first_again() {
        // The clock goes forward and back.
        let mut known = known(10, 10);
        assert_eq!(known.note(&used(1, 1, END), NOW), NotedUse::First);
        known.forget_expired(AFTER);
        assert_eq!(known.len(), 0);
        for (number, end) in [(1, END), (2, END), (3, END - 1)] {
            assert_eq!(known.note(&used(number, 1, end), NOW), NotedUse::Repeated, "{number}");
        }
        assert_eq!(known.note(&used(4, 1, END + 1), NOW), NotedUse::First, "it ends later than all that is forgotten");
        assert_eq!(known.recorded().forgotten, END);
    }

    #[test]
    fn one_user_cannot_fill_the_room_of_others() {
        let mut known = known(3, 2);
        assert_eq!(
            [1, 2, 3].map(|id| known.note(&used(id, 1, END), NOW)),
            [NotedUse::First, NotedUse::First, NotedUse::NoRoom]
        );
        assert_eq!(known.note(&used(1, 1, END), NOW), NotedUse::Repeated, "known although there is no room");
        assert_eq!([4, 5].map(|id| known.note(&used(id, 2, END), NOW)), [NotedUse::First, NotedUse::NoRoom]);
        known.take_back(&used(1, 1, END));
        assert_eq!([6, 7].map(|id| known.note(&used(id, 1, END), NOW)), [NotedUse::First, NotedUse::NoRoom]);
        assert_eq!(known.note(&used(8, 1, END + 999), AFTER), NotedUse::First, "the others have expired");
        assert_eq!((known.len(), known.by_user.len()), (1, 1));
    }

    #[test]
    fn expired_uses_are_looked_for_once_a_second() {
        let mut known = known(1, 1);
        known.forget_expired(AFTER);
        // Learned after the look.
        known.learn(&RecordedUses { uses: vec![used(1, 1, END)], forgotten: 0 });
        assert_eq!(known.note(&used(2, 1, END + 999), AFTER), NotedUse::NoRoom);
        let next = UnixTime::from_seconds(AFTER.seconds() + 1);
        assert_eq!(known.note(&used(2, 1, END + 999), next), NotedUse::First);
    }
}
