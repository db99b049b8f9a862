//! A connection over HTTP/1.1 in memory, for the tests.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::LocalSet;
use tokio::time::sleep;

use super::super::client_stream::ClientStream;
use super::super::connection_end::ConnectionEnd;
use super::super::exchange_guard::ExchangeGuard;
use super::super::guard::Guard;
use super::super::limits::Limits;
use super::super::received_request::{Received, ReceivedBody};
use super::super::watch::Watch;
use super::client_wire::ClientWire;
use super::connection::serve_wire;
use crate::http1::request_head::HeadLimits;
use crate::http1::target::RequestTarget;

/// One request as its answer sees it.
pub(super) struct Asked {
    pub(super) path: String,
    pub(super) body: Option<ReceivedBody>,
}

/// The body of an answer: its frames, then perhaps a failure.
#[derive(Default)]
pub(super) struct Script {
    pub(super) frames: Vec<Frame<Bytes>>,
    pub(super) length: Option<u64>,
    pub(super) fails: bool,
    pub(super) guard: Option<ExchangeGuard>,
}

impl Script {
    pub(super) fn pieces(pieces: &[&'static str]) -> Self {
        Self {
            frames: pieces.iter().map(|piece| Frame::data(Bytes::from_static(piece.as_bytes()))).collect(),
            ..Self::default()
        }
    }

    pub(super) fn whole(text: impl Into<Bytes>) -> Self {
        let bytes = text.into();
        Self { length: Some(bytes.len() as u64), frames: vec![Frame::data(bytes)], ..Self::default() }
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(match self.frames.is_empty() {
            false => Some(Ok(self.frames.remove(0))),
            true => self.fails.then_some(Err("broken")),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty() && !self.fails
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map(SizeHint::with_exact).unwrap_or_default()
    }
}

/// A client and its connection.
pub(super) struct Held {
    pub(super) client: DuplexStream,
    pub(super) wire: Rc<RefCell<ClientWire>>,
    pub(super) watch: Rc<Watch>,
    pub(super) ended: Rc<Cell<Option<ConnectionEnd>>>,
}

impl Held {
    /// The stream holds `capacity` bytes in each direction.
    pub(super) fn begin<F, Fut>(limits: &Limits, capacity: usize, answer: F) -> Self
    where
        F: Fn(Asked) -> Fut + 'static,
        Fut: Future<Output = Response<Script>> + 'static,
    {
        let guard = Guard::new(limits);
        let (client, server) = duplex(capacity);
        let watch = guard.watch(false, crate::server::listener::ListenerId(0));
        tokio::task::spawn_local(guard.run_timeouts());
        let head_limits =
            HeadLimits { target_bytes: limits.uri_bytes, bytes: limits.header_bytes, fields: limits.header_count };
        let stream = ClientStream::Memory(server);
        let wire = Rc::new(RefCell::new(ClientWire::new(stream, Rc::clone(&watch), head_limits)));
        let ended = Rc::<Cell<Option<ConnectionEnd>>>::default();
        let serving = {
            let answer = Rc::new(answer);
            let answer = move |guard: ExchangeGuard, received: Received| async move {
                let Ok(asked) = received else {
                    let refusal = Script { guard: Some(guard), ..Script::whole("no") };
                    return Response::builder().status(400).body(refusal).unwrap();
                };
                let RequestTarget::Origin(target) = asked.head.target else { panic!("another form") };
                let asked = Asked { path: target.as_str().to_owned(), body: asked.body };
                let mut response = answer(asked).await;
                response.body_mut().guard = Some(guard);
                response
            };
            serve_wire(Rc::clone(&wire), Rc::clone(&watch), answer)
        };
        let end = Rc::clone(&ended);
        tokio::task::spawn_local(async move { end.set(Some(serving.await)) });
        Self { client, wire, watch, ended }
    }

    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.client.write_all(bytes.as_ref()).await.unwrap();
        sleep(Duration::from_millis(1)).await;
    }

    /// The output of the next read. Empty at the end.
    pub(super) async fn answer(&mut self) -> String {
        let mut answer = [0; 4096];
        let count = self.client.read(&mut answer).await.unwrap();
        str::from_utf8(&answer[..count]).unwrap().to_owned()
    }

    pub(super) async fn get(&mut self, path: &str) -> String {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        self.answer().await
    }

    /// All bytes until the connection ends.
    pub(super) async fn rest(&mut self) -> String {
        let mut rest = String::new();
        let _ = self.client.read_to_string(&mut rest).await;
        rest
    }

    pub(super) async fn is_at_rest(&self) -> bool {
        sleep(Duration::from_secs(4)).await;
        !self.wire.borrow().has_buffers()
    }
}

/// Runs a test in a set of local tasks.
pub(super) async fn local<F: Future>(test: F) -> F::Output {
    LocalSet::new().run_until(test).await
}

/// All bytes that a client gets that sends `input` and then waits, without the dates.
pub(super) async fn conversation<F, Fut>(capacity: usize, input: &[&[u8]], answer: F) -> String
where
    F: Fn(Asked) -> Fut + 'static,
    Fut: Future<Output = Response<Script>> + 'static,
{
    local(async {
        let held = Held::begin(&Limits::default(), capacity, answer);
        let (mut reads, mut writes) = tokio::io::split(held.client);
        let sending = async {
            for piece in input {
                if writes.write_all(piece).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        };
        let mut output = Vec::new();
        let reading = async { reads.read_to_end(&mut output).await };
        let _ = tokio::join!(sending, reading);
        let text = String::from_utf8(output).unwrap();
        text.split_inclusive("\r\n").filter(|line| !line.starts_with("date: ")).collect()
    })
    .await
}
