//! The requests of an active connection and their answers, one after the other.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use http::header::EXPECT;
use http::{Extensions, HeaderMap, Response, StatusCode, Version};
use http_body::Body;
use tokio::task::yield_now;

use super::super::exchange_guard::ExchangeGuard;
use super::super::received_request::{Received, ReceivedBody, ReceivedHead, ReceivedRequest};
use super::super::watch::Watch;
use super::answer_head::{AnswerContext, AnswerFraming, AnswerLength};
use super::answer_writer::{AnswerEnd, AnswerWriter};
use super::client_wire::{ClientWire, NextRequest};
use super::closing::{Closing, close};
use super::request_input::RequestInput;
use crate::http1::fault::WireFault;
use crate::http1::request_head::RequestHead;

/// How the exchanges of a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastExchange {
    /// The connection is closed.
    Closed,
    /// The client has the answer by which the connection becomes a tunnel.
    Switched,
}

/// How one exchange ended.
enum ExchangeEnd {
    KeepsAlive,
    Closes(Closing),
    ClientGone,
    Switches,
}

/// Pipelined requests that are answered before other tasks run.
const TURN: u32 = 64;

/// Answers requests until the connection ends.
pub(super) async fn serve_requests<A, Fut, B>(
    wire: Rc<RefCell<ClientWire>>,
    watch: Rc<Watch>,
    answer: A,
) -> LastExchange
where
    A: FnOnce(ExchangeGuard, Received) -> Fut + Clone,
    Fut: Future<Output = Response<B>>,
    B: Body<Data = Bytes>,
{
    let mut answered = 0_u32;
    loop {
        let next = match poll_fn(|context| wire.borrow_mut().poll_request(context)).await {
            NextRequest::Head(head) => Ok(head),
            NextRequest::Fault(fault) => Err(fault),
            NextRequest::End => {
                close(&wire, Closing::Graceful).await;
                return LastExchange::Closed;
            }
        };
        let end = exchange(&wire, &watch, answer.clone(), next).await;
        let end = match end {
            ExchangeEnd::KeepsAlive if poll_fn(|context| wire.borrow_mut().poll_upload_end(context)).await => {
                answered += 1;
                if answered.is_multiple_of(TURN) {
                    yield_now().await;
                }
                continue;
            }
            ExchangeEnd::KeepsAlive => ExchangeEnd::Closes(Closing::Graceful),
            ended => ended,
        };
        match end {
            ExchangeEnd::Switches if poll_fn(|context| wire.borrow_mut().poll_output(context)).await.is_ok() => {
                return LastExchange::Switched;
            }
            ExchangeEnd::Closes(closing) => close(&wire, closing).await,
            ExchangeEnd::KeepsAlive | ExchangeEnd::ClientGone | ExchangeEnd::Switches => {}
        }
        return LastExchange::Closed;
    }
}

/// One request and its answer.
async fn exchange<A, Fut, B>(
    wire: &Rc<RefCell<ClientWire>>,
    watch: &Rc<Watch>,
    answer: A,
    next: Result<RequestHead, WireFault>,
) -> ExchangeEnd
where
    A: FnOnce(ExchangeGuard, Received) -> Fut,
    Fut: Future<Output = Response<B>>,
    B: Body<Data = Bytes>,
{
    let guard = ExchangeGuard::begin(watch);
    let (mut answers, received) = match next {
        Ok(head) => (AnswerContext::new(&head), Ok(receive(wire, head))),
        Err(fault) => (AnswerContext::of_fault(), Err(fault)),
    };
    let response = {
        let mut answering = pin!(answer(guard, received));
        poll_fn(|context| match answering.as_mut().poll(context) {
            Poll::Ready(response) => Poll::Ready(Some(response)),
            Poll::Pending => wire.borrow_mut().poll_client_gone(context).map(|()| None),
        })
        .await
    };
    let Some(response) = response else {
        return ExchangeEnd::ClientGone;
    };
    let (head, body) = response.into_parts();
    let promise = {
        let mut wire = wire.borrow_mut();
        answers.keeps_alive &= !wire.begin_answer() && !watch.is_closing();
        watch.with_date(|date| answers.write_head(wire.output.buffer(), &head, length(&body), date))
    };
    let (framing, keeps_alive, status) = (promise.framing, promise.keeps_alive, head.status);
    wire.borrow_mut().is_open_ended = framing == AnswerFraming::UntilClose;
    drop(head);
    let end = match framing {
        AnswerFraming::None | AnswerFraming::Exact(0) => AnswerEnd::Complete,
        AnswerFraming::Exact(_) | AnswerFraming::Chunked | AnswerFraming::UntilClose => {
            let (mut body, mut writer) = (pin!(body), AnswerWriter::new(promise));
            poll_fn(|context| writer.poll(body.as_mut(), wire, context)).await
        }
    };
    match end {
        AnswerEnd::ClientGone => ExchangeEnd::ClientGone,
        AnswerEnd::Broken if framing == AnswerFraming::UntilClose => ExchangeEnd::Closes(Closing::Reset),
        AnswerEnd::Broken => ExchangeEnd::Closes(Closing::Truncated),
        AnswerEnd::Complete if status == StatusCode::SWITCHING_PROTOCOLS => ExchangeEnd::Switches,
        AnswerEnd::Complete if keeps_alive => ExchangeEnd::KeepsAlive,
        AnswerEnd::Complete => ExchangeEnd::Closes(Closing::Graceful),
    }
}

fn receive(wire: &Rc<RefCell<ClientWire>>, head: RequestHead) -> ReceivedRequest {
    let RequestHead { method, target, version, headers, body, .. } = head;
    let body = wire.borrow_mut().open_upload(body, || version == Version::HTTP_11 && awaits_continue(&headers));
    let body = body.then(|| Box::pin(RequestInput::new(wire)) as ReceivedBody);
    ReceivedRequest { head: ReceivedHead { method, target, version, headers, extensions: Extensions::new() }, body }
}

fn awaits_continue(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

fn length<B: Body>(body: &B) -> AnswerLength {
    match body.size_hint().exact() {
        _ if body.is_end_stream() => AnswerLength::Ended,
        Some(bytes) => AnswerLength::Exact(bytes),
        None => AnswerLength::Unknown,
    }
}

#[cfg(test)]
mod tests;
