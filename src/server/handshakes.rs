//! Limits the number and the duration of handshakes.
//!
//! While the limit is reached, [`Handshakes::wait_for_room`] waits and nothing is accepted: connections wait in the
//! kernel's queue. Stalled handshakes are ended to make room, the oldest first: a normal handshake is short, so a
//! client that opens silent connections loses its own. A connection that has sent nothing makes room much sooner: a TLS
//! client sends its first bytes with the end of the TCP handshake. When the drain begins, handshakes get a short time
//! to end, and connections that have been silent for a while a very short one.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::pending;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::drain::{Drain, Stage};

/// One worker's handshakes.
#[derive(Debug)]
pub(crate) struct Handshakes {
    at_most: Cell<Option<usize>>,
    timeout: Cell<Option<Duration>>,
    under_way: Cell<usize>,
    /// The oldest first. Most entries have ended.
    begun: RefCell<VecDeque<Weak<HandshakeProgress>>>,
    /// Those that had sent nothing when they were listed, the oldest first.
    silent: RefCell<VecDeque<Weak<HandshakeProgress>>>,
    ended: Notify,
}

/// Counts a handshake until it is dropped.
#[derive(Debug)]
pub(crate) struct HandshakePermit {
    handshakes: Rc<Handshakes>,
    progress: Rc<HandshakeProgress>,
    timeout: Option<Duration>,
}

/// The state of a handshake.
#[derive(Debug)]
pub(crate) struct HandshakeProgress {
    begun: Instant,
    has_byte: Cell<bool>,
    /// Ended to make room.
    is_cancelled: Cell<bool>,
    /// The connection may outlive its handshake, and refer to this.
    has_ended: Cell<bool>,
    /// Accepted after the drain had begun.
    is_late: bool,
    cancel: Notify,
}

/// A handshake that takes longer is stalled. A normal one takes less, even under load.
const STALL_TIMEOUT: Duration = Duration::from_secs(1);
/// For the first byte of a connection while others wait for room.
const SILENT_WHILE_FULL: Duration = Duration::from_millis(100);
/// For the first byte of a connection that has sent nothing for a while when the drain begins.
const FIRST_BYTE_GRACE: Duration = Duration::from_millis(100);
/// For handshakes in progress when the drain begins, for those that begin later, and for new connections.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

impl Handshakes {
    pub(crate) fn new(at_most: Option<usize>, timeout: Option<Duration>) -> Rc<Self> {
        Rc::new(Self {
            at_most: Cell::new(at_most),
            timeout: Cell::new(timeout),
            under_way: Cell::new(0),
            begun: RefCell::default(),
            silent: RefCell::default(),
            ended: Notify::new(),
        })
    }

    /// Other limits. Handshakes under way keep their deadline.
    pub(super) fn set_limits(&self, at_most: Option<usize>, timeout: Option<Duration>) {
        self.at_most.set(at_most);
        self.timeout.set(timeout);
        self.ended.notify_waiters();
    }

    /// Waits until one more handshake may begin. The caller must begin at most one.
    pub(crate) async fn wait_for_room(&self) {
        while self.at_most.get().is_some_and(|at_most| self.under_way.get() >= at_most) {
            let (silent, oldest) = (self.oldest_silent(), self.oldest());
            tokio::select! {
                biased;
                () = self.ended.notified() => {}
                () = after(silent.as_deref(), SILENT_WHILE_FULL) => {
                    // Otherwise it has sent its first byte meanwhile.
                    if silent.as_ref().is_some_and(|silent| !silent.has_byte.get()) {
                        self.end(silent).await;
                    }
                }
                () = after(oldest.as_deref(), STALL_TIMEOUT) => self.end(oldest).await,
            }
        }
    }

    /// Ends one handshake and waits until its place is free.
    async fn end(&self, handshake: Option<Rc<HandshakeProgress>>) {
        let ended = self.ended.notified();
        if let Some(handshake) = handshake {
            handshake.is_cancelled.set(true);
            handshake.cancel.notify_one();
        }
        // Bounded, because it may have ended by itself just before.
        let _ = timeout(SILENT_WHILE_FULL, ended).await;
    }

    pub(crate) fn begin(self: &Rc<Self>) -> HandshakePermit {
        self.begin_within(self.timeout.get(), false)
    }

    /// For a connection that is accepted after the drain has begun.
    pub(crate) fn begin_late(self: &Rc<Self>) -> HandshakePermit {
        self.begin_within(
            self.timeout.get().map_or(Some(DRAIN_TIMEOUT), |timeout| Some(timeout.min(DRAIN_TIMEOUT))),
            true,
        )
    }

    fn begin_within(self: &Rc<Self>, timeout: Option<Duration>, is_late: bool) -> HandshakePermit {
        let progress = Rc::new(HandshakeProgress {
            begun: Instant::now(),
            has_byte: Cell::new(false),
            is_cancelled: Cell::new(false),
            has_ended: Cell::new(false),
            is_late,
            cancel: Notify::new(),
        });
        for list in [&self.begun, &self.silent] {
            let mut list = list.borrow_mut();
            if list.len() > 2 * self.under_way.get() + 16 {
                list.retain(|handshake| handshake.strong_count() > 0);
            }
            list.push_back(Rc::downgrade(&progress));
        }
        self.under_way.set(self.under_way.get() + 1);
        HandshakePermit { handshakes: Rc::clone(self), progress, timeout }
    }

    /// Ends up to `at_most` stalled handshakes, the oldest first.
    pub(crate) fn end_stalled(&self, at_most: usize) {
        let now = Instant::now();
        for _ in 0..at_most {
            match self.oldest() {
                Some(oldest) if now.duration_since(oldest.begun) >= STALL_TIMEOUT => {
                    oldest.is_cancelled.set(true);
                    oldest.cancel.notify_one();
                }
                Some(_) | None => return,
            }
        }
    }

    fn oldest(&self) -> Option<Rc<HandshakeProgress>> {
        first(&self.begun, |_| true)
    }

    fn oldest_silent(&self) -> Option<Rc<HandshakeProgress>> {
        first(&self.silent, |handshake| !handshake.has_byte.get())
    }

    /// Shortens the timeouts of handshakes when the drain begins. Never ends.
    pub(crate) async fn follow_drain(self: Rc<Self>, mut drain: Drain) {
        drain.reached(Stage::Draining).await;
        let before = Instant::now();
        sleep(FIRST_BYTE_GRACE).await;
        // The client of a new connection may be slow, and is about to send a request.
        let is_new = |begun| before.duration_since(begun) < DRAIN_TIMEOUT;
        self.cancel(|handshake| !handshake.has_byte.get() && !is_new(handshake.begun));
        sleep(DRAIN_TIMEOUT - FIRST_BYTE_GRACE).await;
        self.cancel(|_| true);
        pending().await
    }

    /// Ends some of the handshakes that began before the drain.
    fn cancel(&self, which: impl Fn(&HandshakeProgress) -> bool) {
        let begun = self.begun.borrow();
        let early = begun.iter().filter_map(Weak::upgrade).filter(|handshake| !handshake.is_late);
        early.filter(|handshake| which(handshake)).for_each(|handshake| handshake.cancel.notify_one());
    }
}

/// The first that is still under way and not told to make room. Those before it are removed.
fn first(
    list: &RefCell<VecDeque<Weak<HandshakeProgress>>>,
    which: impl Fn(&HandshakeProgress) -> bool,
) -> Option<Rc<HandshakeProgress>> {
    let mut list = list.borrow_mut();
    while let Some(first) = list.front() {
        match first.upgrade().filter(|first| !first.has_ended.get() && !first.is_cancelled.get() && which(first)) {
            Some(first) => return Some(first),
            None => list.pop_front(),
        };
    }
    None
}

/// Waits until this handshake has been under way for so long.
async fn after(handshake: Option<&HandshakeProgress>, time: Duration) {
    match handshake {
        Some(handshake) => sleep_until(handshake.begun + time).await,
        None => pending().await,
    }
}

impl HandshakePermit {
    pub(crate) fn progress(&self) -> Rc<HandshakeProgress> {
        Rc::clone(&self.progress)
    }

    /// `None` if the handshake fails, times out, or is ended to make room.
    pub(crate) async fn complete<T>(self, handshake: impl Future<Output = Option<T>>) -> Option<T> {
        let too_late = async {
            match self.timeout {
                Some(timeout) => sleep(timeout).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            done = handshake => done,
            () = self.progress.cancel.notified() => None,
            () = too_late => None,
        }
    }
}

impl HandshakeProgress {
    /// Waits until the peer has sent something.
    pub(crate) async fn first_byte(&self, stream: &TcpStream) -> Option<()> {
        // A new stream counts as readable until a read has found nothing.
        let has_byte = stream.peek(&mut [0]).await.ok()? > 0;
        self.has_byte.set(has_byte);
        has_byte.then_some(())
    }
}

impl Drop for HandshakePermit {
    fn drop(&mut self) {
        self.progress.has_ended.set(true);
        self.handshakes.under_way.set(self.handshakes.under_way.get() - 1);
        // Wakes all listeners: the first may have no connection to accept.
        self.handshakes.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use tokio::time::advance;

    use super::super::drain;
    use super::*;

    fn has_room(handshakes: &Handshakes) -> bool {
        std::pin::pin!(handshakes.wait_for_room()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[tokio::test(start_paused = true)]
    async fn where_there_is_no_room_the_oldest_makes_some_if_it_stalls() {
        let handshakes = Handshakes::new(Some(2), None);
        let (first, second) = (handshakes.begin(), handshakes.begin());
        [&first, &second].into_iter().for_each(|handshake| handshake.progress.has_byte.set(true));
        assert!(!has_room(&handshakes), "a crowd does not push itself out");
        let began = Instant::now();
        let (ended, ()) = tokio::join!(first.complete(pending::<Option<()>>()), handshakes.wait_for_room());
        assert_eq!((ended, began.elapsed()), (None, STALL_TIMEOUT));
        let third = handshakes.begin();
        assert!(!has_room(&handshakes), "one made room for one");
        assert_eq!(third.complete(async { Some(3) }).await, Some(3));
        assert!(has_room(&handshakes));
        assert_eq!(second.complete(async { Some(2) }).await, Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn connections_with_ended_handshakes_are_not_stalled() {
        let handshakes = Handshakes::new(Some(1), None);
        let mut connections = Vec::new();
        for _ in 0..20 {
            let done = handshakes.begin();
            done.progress.has_byte.set(true);
            connections.push(done.progress());
            assert_eq!(done.complete(async { Some(1) }).await, Some(1));
        }
        let stalled = handshakes.begin();
        stalled.progress.has_byte.set(true);
        let began = Instant::now();
        let (ended, ()) = tokio::join!(stalled.complete(pending::<Option<()>>()), handshakes.wait_for_room());
        assert_eq!((ended, began.elapsed()), (None, STALL_TIMEOUT));
        drop(connections);
    }

    #[tokio::test(start_paused = true)]
    async fn silent_connections_make_room_at_once_while_others_wait() {
        let handshakes = Handshakes::new(Some(3), None);
        let begun = handshakes.begin();
        begun.progress.has_byte.set(true);
        let silent = [handshakes.begin(), handshakes.begin()];
        let began = Instant::now();
        for permit in silent {
            let (ended, ()) = tokio::join!(permit.complete(pending::<Option<()>>()), handshakes.wait_for_room());
            assert_eq!((ended, began.elapsed()), (None, SILENT_WHILE_FULL));
            std::mem::forget(handshakes.begin_late());
        }
        assert_eq!(begun.complete(async { Some(1) }).await, Some(1), "a handshake under way keeps its time");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_sends_a_byte_in_time_is_not_silent() {
        let handshakes = Handshakes::new(Some(1), None);
        let only = handshakes.begin();
        let progress = only.progress();
        let began = Instant::now();
        let sends = async {
            sleep(SILENT_WHILE_FULL / 2).await;
            progress.has_byte.set(true);
        };
        let (ended, (), ()) = tokio::join!(only.complete(pending::<Option<()>>()), handshakes.wait_for_room(), sends);
        assert_eq!((ended, began.elapsed()), (None, STALL_TIMEOUT));
    }

    #[tokio::test]
    async fn a_connection_is_silent_until_a_byte_arrives() {
        use tokio::io::AsyncWriteExt as _;

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let progress = Handshakes::new(None, None).begin().progress();
        assert!(timeout(SILENT_WHILE_FULL / 2, progress.first_byte(&stream)).await.is_err());
        assert!(!progress.has_byte.get());
        client.write_all(b"\x16").await.unwrap();
        assert_eq!(progress.first_byte(&stream).await, Some(()));
        assert!(progress.has_byte.get());
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_listener_continues_when_a_handshake_ends() {
        let handshakes = Handshakes::new(Some(1), None);
        let only = handshakes.begin();
        let began = Instant::now();
        let short = async {
            advance(STALL_TIMEOUT / 2).await;
            drop(only);
        };
        tokio::join!(handshakes.wait_for_room(), handshakes.wait_for_room(), short);
        assert_eq!(began.elapsed(), STALL_TIMEOUT / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn none_takes_longer_than_the_timeout() {
        let handshakes = Handshakes::new(None, Some(Duration::from_secs(10)));
        let began = Instant::now();
        assert_eq!(handshakes.begin().complete(pending::<Option<()>>()).await, None);
        assert_eq!(began.elapsed(), Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn the_drain_shortens_handshakes_and_ends_silent_ones_first() {
        let handshakes = Handshakes::new(None, Some(Duration::from_secs(10)));
        let (stage, drain) = drain::channel();
        let (silent, begun, late) = (handshakes.begin(), handshakes.begin(), handshakes.begin_late());
        begun.progress.has_byte.set(true);
        advance(DRAIN_TIMEOUT).await;
        let new = handshakes.begin();
        stage.send_replace(Stage::Draining);
        let began = Instant::now();
        let ends = async |handshake: HandshakePermit| {
            handshake.complete(pending::<Option<()>>()).await;
            began.elapsed()
        };
        let all = async { tokio::join!(ends(silent), ends(begun), ends(late), ends(new)) };
        let ended = tokio::select! {
            ended = all => ended,
            () = Rc::clone(&handshakes).follow_drain(drain) => unreachable!(),
        };
        assert_eq!(ended, (FIRST_BYTE_GRACE, DRAIN_TIMEOUT, DRAIN_TIMEOUT, DRAIN_TIMEOUT));
    }

    #[tokio::test]
    async fn ended_handshakes_are_removed() {
        let handshakes = Handshakes::new(Some(10), None);
        let _stalled = handshakes.begin();
        for _ in 0..1000 {
            drop(handshakes.begin());
        }
        assert!(handshakes.begun.borrow().len() < 30);
        assert_eq!(handshakes.under_way.get(), 1);
        assert!(timeout(Duration::ZERO, handshakes.wait_for_room()).await.is_ok());
    }
}
