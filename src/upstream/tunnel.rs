//! A request for another protocol: over a connection of its own, which never carries another.

use std::rc::Rc;

use http::header::HOST;
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::upgrade::Upgraded;
use tokio::time::{Instant, timeout_at};

use super::answer_head::make_passable;
use super::body::{Progress, RequestBody, ResponseBody};
use super::connect::connect;
use super::exchange::Deadlines;
use super::fault::UpstreamFault;
use super::incoming::Answered;
use super::pool::{Held, Lease, Pools};
use super::service::{Protocol, Upstream};

/// What an upstream answers to it.
#[derive(Debug)]
pub(crate) enum Reply {
    /// 101, with this header; whether to what was asked is not judged here.
    Switched(HeaderMap, Upgraded),
    Ordinary(Response<ResponseBody>),
}

impl Pools {
    pub(crate) async fn switch(
        &self,
        upstream: &Upstream,
        mut request: Request<RequestBody>,
        progress: Rc<Progress>,
        deadlines: Deadlines,
    ) -> Result<Reply, UpstreamFault> {
        let pool = self.pool(upstream);
        if pool.target.server.protocol == Protocol::Http2 {
            // Extended CONNECT is not spoken to upstreams.
            return Err(UpstreamFault::Unasked("a protocol"));
        }
        request.headers_mut().insert(HOST, pool.target.server.authority.clone());
        let deadline = Instant::now() + deadlines.response;
        let mut sender = connect(&pool.target).await?;
        let sent =
            timeout_at(deadline, sender.requests.send_request(request)).await.map_err(|_| UpstreamFault::Timeout)?;
        let mut response = sent.map_err(|error| UpstreamFault::of(error, None))?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let switched = timeout_at(deadline, hyper::upgrade::on(&mut response)).await;
            let stream =
                switched.map_err(|_| UpstreamFault::Timeout)?.map_err(|error| UpstreamFault::Reset(error.into()))?;
            return Ok(Reply::Switched(response.into_parts().0.headers, stream));
        }
        make_passable(&mut response)?;
        // An upstream may go on in another protocol that has said no only by half: never quiet enough for another request.
        let lease = Lease::new(progress, Held::Whole { pool, sender, quiet: false });
        let body = |body| ResponseBody::new(Answered::Http1(body), deadlines.body_idle, lease);
        Ok(Reply::Ordinary(response.map(body)))
    }
}
