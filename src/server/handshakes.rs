//! Connections that have not got through their handshake yet: how long, and how many.
//!
//! Where there are too many, the oldest is let go for the newest, if it stalls: an honest handshake is over in a moment, and whoever
//! fills the room with silent connections pushes out its own. While none stalls there are simply many: newcomers are refused, or a
//! crowd that comes at once would push itself out for ever, and nobody would get through.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

/// One worker's handshakes.
#[derive(Debug)]
pub(crate) struct Handshakes {
    at_most: Option<usize>,
    patience: Option<Duration>,
    under_way: Cell<usize>,
    /// The oldest first. Most have ended.
    begun: RefCell<VecDeque<(Instant, Weak<Notify>)>>,
}

/// An honest handshake takes less, even where many wait for the processor.
const STALLED: Duration = Duration::from_secs(1);

/// Holds its place until it is dropped.
#[derive(Debug)]
pub(crate) struct Handshake {
    handshakes: Rc<Handshakes>,
    give_up: Rc<Notify>,
}

impl Handshakes {
    pub(crate) fn new(at_most: Option<usize>, patience: Option<Duration>) -> Rc<Self> {
        Rc::new(Self { at_most, patience, under_way: Cell::new(0), begun: RefCell::default() })
    }

    /// `None` where there is no room.
    pub(crate) fn begin(self: &Rc<Self>) -> Option<Handshake> {
        let (give_up, now) = (Rc::new(Notify::new()), Instant::now());
        let mut begun = self.begun.borrow_mut();
        if self.at_most.is_some_and(|at_most| self.under_way.get() >= at_most) {
            while begun.front().is_some_and(|(_, handshake)| handshake.strong_count() == 0) {
                begun.pop_front();
            }
            let stalls = |(began, _): &&(Instant, Weak<Notify>)| now.duration_since(*began) >= STALLED;
            begun.front().filter(stalls)?.1.upgrade()?.notify_one();
            begun.pop_front();
        }
        if begun.len() > 2 * self.under_way.get() + 16 {
            begun.retain(|(_, handshake)| handshake.strong_count() > 0);
        }
        begun.push_back((now, Rc::downgrade(&give_up)));
        self.under_way.set(self.under_way.get() + 1);
        Some(Handshake { handshakes: Rc::clone(self), give_up })
    }
}

impl Handshake {
    /// `None` where it fails, takes too long, or has to make room.
    pub(crate) async fn complete<T>(self, handshake: impl Future<Output = Option<T>>) -> Option<T> {
        let too_late = async {
            match self.handshakes.patience {
                Some(patience) => sleep(patience).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            done = handshake => done,
            () = self.give_up.notified() => None,
            () = too_late => None,
        }
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.handshakes.under_way.set(self.handshakes.under_way.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn where_there_is_no_room_the_oldest_makes_some_if_it_stalls() {
        let handshakes = Handshakes::new(Some(2), None);
        let begin = || handshakes.begin();
        let (first, second) = (begin().unwrap(), begin().unwrap());
        assert!(begin().is_none(), "a crowd does not push itself out");
        tokio::time::advance(STALLED).await;
        let third = begin().unwrap();
        assert_eq!(first.complete(std::future::pending::<Option<()>>()).await, None);
        assert_eq!(third.complete(async { Some(3) }).await, Some(3));
        let fourth = begin().unwrap();
        assert_eq!(second.complete(async { Some(2) }).await, Some(2));
        assert_eq!(fourth.complete(async { Some(4) }).await, Some(4));
    }

    #[tokio::test(start_paused = true)]
    async fn none_takes_longer_than_the_patience() {
        let handshakes = Handshakes::new(None, Some(Duration::from_secs(10)));
        let began = Instant::now();
        assert_eq!(handshakes.begin().unwrap().complete(std::future::pending::<Option<()>>()).await, None);
        assert_eq!(began.elapsed(), Duration::from_secs(10));
    }

    #[tokio::test]
    async fn what_has_ended_is_forgotten() {
        let handshakes = Handshakes::new(Some(10), None);
        let _stalled = handshakes.begin().unwrap();
        for _ in 0..1000 {
            drop(handshakes.begin().unwrap());
        }
        assert!(handshakes.begun.borrow().len() < 30);
        assert_eq!(handshakes.under_way.get(), 1);
    }
}
