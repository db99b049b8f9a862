//! Detects HTTP/2 clients that flood a connection with frames that request nothing.
//!
//! h2 limits the growth of its own state, but accepts any number of frames that only cost time: PING, SETTINGS,
//! PRIORITY, WINDOW_UPDATE, unknown types, and requests that are cancelled at once. This meter counts them by their
//! headers and compares them with the bytes sent to the client: a client that receives data may send as many as that
//! needs. It never reads payloads and never writes.

use std::cell::Cell;
use std::rc::Rc;

use tokio::time::Instant;

/// The frame budget of one connection.
#[derive(Debug)]
pub(super) struct FrameMeter {
    /// Bytes of the current payload, or of the preface, that are still to come.
    skip: usize,
    head: [u8; HEAD],
    head_length: usize,
    /// The remaining budget, in bytes sent to the client.
    credit: i64,
    /// The time up to which credit for elapsed time has been added.
    since: Instant,
    /// Set beside the error, because h2 does not pass the error on.
    flooded: Rc<Cell<bool>>,
}

/// The client sends more frames than any client needs.
#[derive(Debug, thiserror::Error)]
#[error("the client floods its connection with frames that request nothing")]
pub(super) struct Flooded;

const HEAD: usize = 9;
const PREFACE: usize = 24;

/// The cost of a frame: more than the credit for the reply to PING or SETTINGS, or for a refused stream.
const FRAME: i64 = 32;
/// A cancelled request costs the gateway and its upstream nearly as much as a request.
const CANCEL: i64 = 20 * FRAME;
/// The initial and maximum budget.
const BURST: i64 = 4_000 * FRAME;
/// The credit for each millisecond.
const EACH_MILLISECOND: i64 = FRAME;

const DATA: u8 = 0;
const RST_STREAM: u8 = 3;
const END_STREAM: u8 = 1;

impl FrameMeter {
    /// Sets `flooded` when the budget is exhausted.
    pub(super) fn new(flooded: &Rc<Cell<bool>>) -> Self {
        let flooded = Rc::clone(flooded);
        Self { skip: PREFACE, head: [0; HEAD], head_length: 0, credit: BURST, since: Instant::now(), flooded }
    }

    /// Counts received bytes.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Result<(), Flooded> {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let taken = (HEAD - self.head_length).min(bytes.len());
            self.head[self.head_length..self.head_length + taken].copy_from_slice(&bytes[..taken]);
            self.head_length += taken;
            bytes = &bytes[taken..];
            if self.head_length < HEAD {
                return Ok(());
            }
            self.head_length = 0;
            self.frame()?;
        }
    }

    /// Credits sent bytes.
    pub(super) fn wrote(&mut self, count: usize) {
        let count = i64::try_from(count).unwrap_or(BURST);
        self.credit = self.credit.saturating_add(count).min(BURST);
    }

    fn frame(&mut self) -> Result<(), Flooded> {
        let [high, middle, low, kind, flags, ..] = self.head;
        self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        self.credit -= match kind {
            // Many clients end their requests with an empty DATA frame.
            DATA if self.skip > 0 || flags & END_STREAM != 0 => 0,
            RST_STREAM => CANCEL,
            _ => FRAME,
        };
        if self.credit >= 0 || self.has_waited() {
            return Ok(());
        }
        self.flooded.set(true);
        Err(Flooded)
    }

    /// Adds the credit for elapsed time. The clock is read only when the budget is exhausted.
    fn has_waited(&mut self) -> bool {
        let now = Instant::now();
        let waited = i64::try_from(now.duration_since(self.since).as_millis()).unwrap_or(BURST);
        self.since = now;
        self.credit = self.credit.saturating_add(waited.saturating_mul(EACH_MILLISECOND)).min(BURST);
        self.credit >= 0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PING: u8 = 6;

    fn started() -> FrameMeter {
        let mut meter = FrameMeter::new(&Rc::default());
        meter.read(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        meter
    }

    fn frame(kind: u8, length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, kind, 0, 0, 0, 0, 0];
        // A payload that would be a flood if it were parsed as frames.
        frame.extend(vec![RST_STREAM; usize::from(length)]);
        frame
    }

    fn spent(meter: &FrameMeter) -> i64 {
        BURST - meter.credit
    }

    #[tokio::test]
    async fn frames_are_counted_however_they_are_cut() {
        let frames = [frame(PING, 8), frame(DATA, 200), frame(DATA, 0), frame(RST_STREAM, 4), frame(99, 0)].concat();
        for size in [1, 2, 8, 9, 10, 17, frames.len()] {
            let mut meter = started();
            frames.chunks(size).for_each(|piece| meter.read(piece).unwrap());
            assert_eq!(spent(&meter), 3 * FRAME + CANCEL, "{size}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_ends_and_a_trickle_does_not() {
        let mut meter = started();
        for _ in 0..4_000 {
            meter.read(&frame(PING, 8)).unwrap();
        }
        for _ in 0..20_000 {
            tokio::time::advance(Duration::from_millis(1)).await;
            meter.read(&frame(PING, 8)).unwrap();
        }
        assert!(meter.read(&frame(PING, 8)).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_receives_data_may_send_the_frames_it_needs() {
        let mut meter = started();
        for _ in 0..100_000 {
            meter.wrote(16 * 1024);
            meter.read(&[frame(8, 4), frame(8, 4)].concat()).unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn answers_to_pings_do_not_pay_for_pings() {
        let mut meter = started();
        let flooded = (0..10_000).any(|_| {
            meter.wrote(17);
            meter.read(&frame(PING, 8)).is_err()
        });
        assert!(flooded);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_are_cancelled_at_once_are_few() {
        let mut meter = started();
        let cancelled =
            (0..).take_while(|_| meter.read(&[frame(1, 10), frame(RST_STREAM, 4)].concat()).is_ok()).count();
        assert_eq!(cancelled, 190);
    }
}
