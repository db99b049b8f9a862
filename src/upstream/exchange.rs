//! One request and its answer: which connection it goes over, how long it may take, and when it may go over another.
//!
//! A request is sent a second time only if nothing of it was written the first time.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use http::header::HOST;
use http::{Method, Request, Response};
use tokio::time::{Instant, timeout_at};

use super::answer_head::{announces_what_may_not_come, make_passable};
use super::body::{Progress, RequestBody, ResponseBody};
use super::connect::connect;
use super::fault::UpstreamFault;
use super::incoming::Answered;
use super::pool::{Held, Lease, Pools};
use super::service::{Protocol, Upstream};
use super::stream_exchange::{self, Time};

/// How long a response may take, in its parts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    /// To the first byte of the answer.
    pub(crate) response: Duration,
    /// Between two pieces of its body.
    pub(crate) body_idle: Option<Duration>,
}

impl Pools {
    /// Sends a request and gives the answer's head, with its body still to come.
    pub(crate) async fn send(
        &self,
        upstream: &Upstream,
        mut request: Request<RequestBody>,
        progress: Rc<Progress>,
        deadlines: Deadlines,
    ) -> Result<Response<ResponseBody>, UpstreamFault> {
        let pool = self.pool(upstream);
        if pool.target.server.protocol == Protocol::Http2 {
            let mut time = Time { patience: deadlines.response, deadline: Instant::now() + deadlines.response };
            // Boxed, so that no other request has room for it.
            let answered = Box::pin(async {
                let slot = stream_exchange::room(&pool, &time).await?;
                stream_exchange::send(&pool, slot, request, &progress, &mut time).await
            });
            let (mut response, slot) = answered.await?;
            make_passable(&mut response)?;
            let lease = Lease::new(progress, Held::Stream(slot));
            return Ok(response.map(|body| ResponseBody::new(body, deadlines.body_idle, lease)));
        }
        request.headers_mut().insert(HOST, pool.target.server.authority.clone());
        let for_head = request.method() == Method::HEAD;
        let patience = deadlines.response;
        let mut deadline = Instant::now() + patience;
        loop {
            let (mut sender, reused) = match pool.take() {
                Some(sender) => (sender, true),
                // Boxed too: a handshake is large, and rare.
                None => (Box::pin(connect(&pool.target)).await?, false),
            };
            let fault = |error| UpstreamFault::of(error, progress.fault.get());
            // A connection that is just ending its last exchange is ready at once or not at all.
            if let Err(error) =
                timeout_at(deadline, sender.requests.ready()).await.map_err(|_| UpstreamFault::Timeout)?
            {
                if reused {
                    continue;
                }
                return Err(fault(error));
            }
            let sent = {
                let mut sending = pin!(sender.requests.try_send_request(request));
                loop {
                    match timeout_at(deadline, sending.as_mut()).await {
                        Ok(sent) => break sent,
                        // The time runs from the end of the request: an upload that moves on is not late.
                        Err(_) if progress.has_moved() => deadline = Instant::now() + patience,
                        Err(_) => return Err(UpstreamFault::Timeout),
                    }
                }
            };
            match sent {
                Ok(mut response) => {
                    let quiet = !announces_what_may_not_come(for_head, &response);
                    make_passable(&mut response)?;
                    let lease = Lease::new(progress, Held::Whole { pool, sender, quiet });
                    let body = |body| ResponseBody::new(Answered::Http1(body), deadlines.body_idle, lease);
                    return Ok(response.map(body));
                }
                Err(mut error) => match error.take_message() {
                    // The connection had ended before anything was written.
                    Some(unsent) if reused => request = unsent,
                    Some(_) | None => return Err(fault(error.into_error())),
                },
            }
        }
    }
}
