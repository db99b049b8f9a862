//! A request for another protocol: over a connection of its own, which never carries another.

use std::rc::Rc;

use http::header::HOST;
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::upgrade::Upgraded;
use tokio::time::{Instant, timeout_at};

use super::answer_head::passable;
use super::body::{Progress, RequestBody, ResponseBody};
use super::connect::connect;
use super::exchange::Deadlines;
use super::fault::UpstreamFault;
use super::pool::{Lease, Pools};
use super::service::Upstream;

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
        request.headers_mut().insert(HOST, pool.authority.clone());
        let deadline = Instant::now() + deadlines.response;
        let mut sender = connect(upstream).await?;
        let sent = timeout_at(deadline, sender.send_request(request)).await.map_err(|_| UpstreamFault::Timeout)?;
        let mut response = sent.map_err(|error| UpstreamFault::of(error, None))?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let switched = timeout_at(deadline, hyper::upgrade::on(&mut response)).await;
            let stream = switched.map_err(|_| UpstreamFault::Timeout)?.map_err(UpstreamFault::Reset)?;
            return Ok(Reply::Switched(response.into_parts().0.headers, stream));
        }
        let response = passable(response)?;
        // An upstream may go on in another protocol that has said no only by half: never quiet enough for another request.
        let lease = Lease::new(pool, sender, progress, false);
        Ok(Reply::Ordinary(response.map(|body| ResponseBody::new(body, deadlines.body_idle, lease))))
    }
}
