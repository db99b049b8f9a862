//! What becomes of a connection, or of a stream of one, once both ends have agreed on another protocol: bytes, both ways.
//!
//! A tunnel keeps no memory while it idles: what is read is written on at once, and only what can't be is kept, a piece in each
//! direction at most. It ends with either side, when nothing has moved for too long, when one side takes nothing, and when whoever
//! opened it may not go on.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

/// One that the upstream has agreed to, before the client has been told.
pub(crate) struct Tunnel {
    pub(crate) upstream: Upgraded,
    /// The client's end where that is a stream of HTTP/2; over HTTP/1.1 it is the connection itself.
    pub(crate) stream: Option<OnUpgrade>,
    pub(crate) patience: TunnelTimeouts,
    /// Asked again and again: whether whoever opened it still may. Dropped with the tunnel, with all that it holds.
    pub(crate) goes_on: Box<dyn Fn() -> bool>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct TunnelTimeouts {
    /// Without a byte in either direction.
    pub(crate) idle: Option<Duration>,
    /// Without a byte taken, where there is one to take.
    pub(crate) write: Option<Duration>,
}

/// One direction.
#[derive(Debug, Default)]
struct Pipe {
    /// What was read and could not be written yet.
    rest: Bytes,
    source_has_ended: bool,
    /// Its end has been passed on too.
    is_closed: bool,
    unflushed: bool,
    /// Something waits to be taken.
    is_stalled: bool,
    /// A byte was taken, since someone last asked.
    has_moved: bool,
    /// For how many ticks nothing has moved.
    still: u32,
    /// For how many it has waited meanwhile.
    stalled: u32,
}

const PIECE: usize = 16 * 1024;
const LONGEST_TICK: Duration = Duration::from_secs(1);
const SHORTEST_TICK: Duration = Duration::from_millis(10);
/// For what one side still has to say after the other has ended.
const LAST_WORDS: Duration = Duration::from_secs(30);
/// For our own goodbye.
const FAREWELL: Duration = Duration::from_secs(1);

impl Tunnel {
    /// Passes bytes on until the end. `early` is what the client had sent before it was told.
    pub(crate) async fn run<T: AsyncRead + AsyncWrite + Unpin>(self, mut client: T, early: Bytes) {
        let mut upstream = TokioIo::new(self.upstream);
        pass(&mut client, &mut upstream, early, self.patience, &*self.goes_on).await;
        // In order where that is possible: TLS has a goodbye of its own.
        let _ = timeout(FAREWELL, async { tokio::join!(client.shutdown(), upstream.shutdown()) }).await;
    }
}

async fn pass<C, U>(
    client: &mut C,
    upstream: &mut U,
    early: Bytes,
    patience: TunnelTimeouts,
    goes_on: &dyn Fn() -> bool,
) where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let (mut up, mut down) = (Pipe { rest: early, ..Pipe::default() }, Pipe::default());
    let mut clock = Clock::new(patience);
    let ended = poll_fn(|context| {
        // Asked first: two busy sides use up all that a task may do at once, and nothing after them is ever ready.
        let has_ticked = clock.has_ticked(context);
        let both = poll_both(&mut up, &mut down, client, upstream, context);
        if has_ticked && (clock.is_over(&mut up, &mut down) || !goes_on()) {
            return Poll::Ready(());
        }
        both
    });
    ended.await;
}

/// Ready when both directions have come to their end, or one has failed.
fn poll_both<C, U>(
    up: &mut Pipe,
    down: &mut Pipe,
    client: &mut C,
    upstream: &mut U,
    context: &mut Context<'_>,
) -> Poll<()>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let up = up.poll_pass(client, upstream, context);
    let down = down.poll_pass(upstream, client, context);
    match (up, down) {
        (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) | (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => {
            Poll::Ready(())
        }
        (Poll::Pending, _) | (_, Poll::Pending) => Poll::Pending,
    }
}

impl Pipe {
    /// Ready when the source's end has been passed on.
    fn poll_pass<R, W>(&mut self, source: &mut R, sink: &mut W, context: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        if self.is_closed {
            return Poll::Ready(Ok(()));
        }
        loop {
            self.is_stalled = true;
            while !self.rest.is_empty() {
                let count = ready!(Pin::new(&mut *sink).poll_write(context, &self.rest))?;
                self.took(count)?;
                let _ = self.rest.split_to(count);
            }
            // A slice of nothing would keep all that it was cut from.
            self.rest = Bytes::new();
            if self.source_has_ended {
                ready!(Pin::new(&mut *sink).poll_shutdown(context))?;
                self.is_stalled = false;
                self.is_closed = true;
                // The other side has its time from now on.
                self.has_moved = true;
                return Poll::Ready(Ok(()));
            }
            match self.poll_piece(source, sink, context) {
                Poll::Ready(read) => read?,
                Poll::Pending => {
                    if self.unflushed {
                        ready!(Pin::new(&mut *sink).poll_flush(context))?;
                        self.unflushed = false;
                    }
                    self.is_stalled = false;
                    return Poll::Pending;
                }
            }
        }
    }

    /// Reads a piece and writes of it what the sink takes at once.
    fn poll_piece<R, W>(&mut self, source: &mut R, sink: &mut W, context: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        // One for all tunnels of a worker: nobody holds it from one poll to the next.
        thread_local!(static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; PIECE].into_boxed_slice()));
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(source).poll_read(context, &mut buffer))?;
            let piece = buffer.filled();
            if piece.is_empty() {
                self.source_has_ended = true;
                return Poll::Ready(Ok(()));
            }
            let count = match Pin::new(sink).poll_write(context, piece) {
                Poll::Ready(written) => {
                    let count = written?;
                    self.took(count)?;
                    count
                }
                Poll::Pending => 0,
            };
            self.rest = Bytes::copy_from_slice(&piece[count..]);
            Poll::Ready(Ok(()))
        })
    }

    fn took(&mut self, count: usize) -> io::Result<()> {
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.has_moved = true;
        self.unflushed = true;
        Ok(())
    }

    /// A tick has passed: for how many now has nothing moved?
    fn tick(&mut self) -> u32 {
        let moved = std::mem::take(&mut self.has_moved);
        self.still = if moved { 0 } else { self.still.saturating_add(1) };
        self.stalled = if moved || !self.is_stalled { 0 } else { self.stalled.saturating_add(1) };
        self.still
    }
}

/// Counts ticks, so that a byte on its way sets no timer.
struct Clock {
    ticks: Interval,
    idle: Option<u32>,
    write: Option<u32>,
    last_words: u32,
}

impl Clock {
    fn new(patience: TunnelTimeouts) -> Self {
        let shortest = [patience.idle, patience.write].into_iter().flatten().min().unwrap_or(LONGEST_TICK);
        let tick = (shortest / 8).clamp(SHORTEST_TICK, LONGEST_TICK);
        // Rounded up and one more, so that nobody is cut before the time.
        let count = |limit: Duration| u32::try_from(limit.as_nanos().div_ceil(tick.as_nanos()) + 1).unwrap_or(u32::MAX);
        let mut ticks = interval(tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.reset();
        Self { ticks, idle: patience.idle.map(count), write: patience.write.map(count), last_words: count(LAST_WORDS) }
    }

    /// Once for all ticks that have passed; wakes the task at the next.
    fn has_ticked(&mut self, context: &mut Context<'_>) -> bool {
        let mut has_ticked = false;
        while self.ticks.poll_tick(context).is_ready() {
            has_ticked = true;
        }
        has_ticked
    }

    fn is_over(&self, up: &mut Pipe, down: &mut Pipe) -> bool {
        let over = |still: u32, limit: Option<u32>| limit.is_some_and(|limit| still >= limit);
        let still = up.tick().min(down.tick());
        let half_closed = up.is_closed || down.is_closed;
        over(still, self.idle)
            || over(up.stalled.max(down.stalled), self.write)
            || (half_closed && still >= self.last_words)
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel").field("patience", &self.patience).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
