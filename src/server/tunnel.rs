//! A tunnel: copies bytes in both directions after a connection, or an HTTP/2 stream, has switched to another protocol.
//!
//! An idle tunnel has no buffers: bytes are written as soon as they are read, and only the unwritten part of one chunk
//! is kept for each direction. A tunnel ends when both sides have ended, when one fails, after a timeout, and when its
//! caller loses the permission.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

/// A byte stream to an upstream, of any kind.
pub(crate) trait TunnelStream: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> TunnelStream for T {}

/// A tunnel that the upstream has accepted, before the client has its answer.
pub(crate) struct Tunnel {
    pub(crate) upstream: Box<dyn TunnelStream>,
    /// The bytes that came with the upstream's answer.
    pub(crate) upstream_early: Bytes,
    /// The client's HTTP/2 stream. `None` for HTTP/1.1, where the connection itself becomes the tunnel.
    pub(crate) stream: Option<OnUpgrade>,
    pub(crate) timeouts: TunnelTimeouts,
    /// Whether the caller still has the permission. Called at every tick and dropped with the tunnel.
    pub(crate) may_continue: Box<dyn FnMut() -> bool>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct TunnelTimeouts {
    /// The time without a byte in either direction.
    pub(crate) idle: Option<Duration>,
    /// The time for which a side may accept no byte although there is one for it.
    pub(crate) write: Option<Duration>,
}

/// The state of one direction.
#[derive(Debug, Default)]
struct Pipe {
    /// Bytes that were read but could not be written yet.
    unwritten: Bytes,
    source_has_ended: bool,
    /// The end of the source has been passed on.
    is_closed: bool,
    unflushed: bool,
    /// Bytes wait to be written.
    is_stalled: bool,
    /// A byte was written since the last tick.
    has_progressed: bool,
    /// The number of ticks without a written byte.
    idle_ticks: u32,
    /// The number of those ticks with bytes waiting to be written.
    stalled_ticks: u32,
}

const CHUNK: usize = 16 * 1024;
const LONGEST_TICK: Duration = Duration::from_secs(1);
const SHORTEST_TICK: Duration = Duration::from_millis(10);
/// The idle timeout after one side has ended.
const HALF_CLOSED_TIMEOUT: Duration = Duration::from_secs(30);
/// For the graceful close of both sides.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

impl Tunnel {
    /// Copies bytes until the end. `early` are the bytes that the client sent before it had its answer.
    pub(crate) async fn run<T: AsyncRead + AsyncWrite + Unpin>(self, mut client: T, early: Bytes) {
        let (mut upstream, mut may_continue) = (self.upstream, self.may_continue);
        let early = (early, self.upstream_early);
        copy_bidirectional(&mut client, &mut upstream, early, self.timeouts, &mut *may_continue).await;
        // A graceful close if possible: TLS has a close message.
        let _ = timeout(SHUTDOWN_TIMEOUT, async { tokio::join!(client.shutdown(), upstream.shutdown()) }).await;
    }
}

async fn copy_bidirectional<C, U>(
    client: &mut C,
    upstream: &mut U,
    (from_client, from_upstream): (Bytes, Bytes),
    timeouts: TunnelTimeouts,
    may_continue: &mut dyn FnMut() -> bool,
) where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let mut up = Pipe { unwritten: from_client, ..Pipe::default() };
    let mut down = Pipe { unwritten: from_upstream, ..Pipe::default() };
    let mut clock = Clock::new(timeouts);
    let ended = poll_fn(|context| {
        // The clock is polled first: two busy sides use up the task's budget, and nothing polled after them would be
        // ready.
        let has_ticked = clock.has_ticked(context);
        let both = poll_both(&mut up, &mut down, client, upstream, context);
        if has_ticked && (clock.is_over(&mut up, &mut down) || !may_continue()) {
            return Poll::Ready(());
        }
        both
    });
    ended.await;
}

/// Ready when both directions have ended, or one has failed.
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
    let up = up.poll_copy(client, upstream, context);
    let down = down.poll_copy(upstream, client, context);
    match (up, down) {
        (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) | (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => {
            Poll::Ready(())
        }
        (Poll::Pending, _) | (_, Poll::Pending) => Poll::Pending,
    }
}

impl Pipe {
    /// Ready when the end of the source has been passed on.
    fn poll_copy<R, W>(&mut self, source: &mut R, sink: &mut W, context: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        if self.is_closed {
            return Poll::Ready(Ok(()));
        }
        loop {
            self.is_stalled = true;
            while !self.unwritten.is_empty() {
                let count = ready!(Pin::new(&mut *sink).poll_write(context, &self.unwritten))?;
                self.record_written(count)?;
                let _ = self.unwritten.split_to(count);
            }
            // An empty slice would keep the whole allocation.
            self.unwritten = Bytes::new();
            if self.source_has_ended {
                ready!(Pin::new(&mut *sink).poll_shutdown(context))?;
                self.is_stalled = false;
                self.is_closed = true;
                // The idle time of the other side begins now.
                self.has_progressed = true;
                return Poll::Ready(Ok(()));
            }
            match self.poll_chunk(source, sink, context) {
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

    /// Reads a chunk and writes as much of it as the sink accepts at once.
    fn poll_chunk<R, W>(&mut self, source: &mut R, sink: &mut W, context: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        // One buffer for all tunnels of a worker: it is not used across polls.
        thread_local!(static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; CHUNK].into_boxed_slice()));
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(source).poll_read(context, &mut buffer))?;
            let chunk = buffer.filled();
            if chunk.is_empty() {
                self.source_has_ended = true;
                return Poll::Ready(Ok(()));
            }
            let count = match Pin::new(sink).poll_write(context, chunk) {
                Poll::Ready(written) => {
                    let count = written?;
                    self.record_written(count)?;
                    count
                }
                Poll::Pending => 0,
            };
            self.unwritten = Bytes::copy_from_slice(&chunk[count..]);
            Poll::Ready(Ok(()))
        })
    }

    fn record_written(&mut self, count: usize) -> io::Result<()> {
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.has_progressed = true;
        self.unflushed = true;
        Ok(())
    }

    /// Counts a tick. Returns the number of ticks without a written byte.
    fn tick(&mut self) -> u32 {
        let moved = std::mem::take(&mut self.has_progressed);
        self.idle_ticks = if moved { 0 } else { self.idle_ticks.saturating_add(1) };
        self.stalled_ticks = if moved || !self.is_stalled { 0 } else { self.stalled_ticks.saturating_add(1) };
        self.idle_ticks
    }
}

/// Counts ticks, so that copying a byte sets no timer.
struct Clock {
    ticks: Interval,
    idle: Option<u32>,
    write: Option<u32>,
    half_closed_timeout: u32,
}

impl Clock {
    fn new(timeouts: TunnelTimeouts) -> Self {
        let shortest = [timeouts.idle, timeouts.write].into_iter().flatten().min().unwrap_or(LONGEST_TICK);
        let tick = (shortest / 8).clamp(SHORTEST_TICK, LONGEST_TICK);
        // Rounded up, plus one: no tunnel is ended before its time.
        let count = |limit: Duration| u32::try_from(limit.as_nanos().div_ceil(tick.as_nanos()) + 1).unwrap_or(u32::MAX);
        let mut ticks = interval(tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.reset();
        Self {
            ticks,
            idle: timeouts.idle.map(count),
            write: timeouts.write.map(count),
            half_closed_timeout: count(HALF_CLOSED_TIMEOUT),
        }
    }

    /// True once for all ticks that have passed. Wakes the task at the next one.
    fn has_ticked(&mut self, context: &mut Context<'_>) -> bool {
        let mut has_ticked = false;
        while self.ticks.poll_tick(context).is_ready() {
            has_ticked = true;
        }
        has_ticked
    }

    fn is_over(&self, up: &mut Pipe, down: &mut Pipe) -> bool {
        let over = |idle_ticks: u32, limit: Option<u32>| limit.is_some_and(|limit| idle_ticks >= limit);
        let idle_ticks = up.tick().min(down.tick());
        let half_closed = up.is_closed || down.is_closed;
        over(idle_ticks, self.idle)
            || over(up.stalled_ticks.max(down.stalled_ticks), self.write)
            || (half_closed && idle_ticks >= self.half_closed_timeout)
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel").field("patience", &self.timeouts).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
