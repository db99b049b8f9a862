//! Asks the gateway that runs with this configuration, by its admin listener.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoReply {
    #[error("no gateway answers at {0}")]
    Nobody(SocketAddr),
    #[error("what answers at {0} is not this gateway's admin listener")]
    Stranger(SocketAddr),
}

/// It is near, and answers from memory.
const PATIENCE: Duration = Duration::from_secs(2);
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// The body of a 200 to `GET path`.
pub(super) async fn ask(admin: SocketAddr, path: &str) -> Result<Bytes, NoReply> {
    match timeout(PATIENCE, get(admin, path)).await {
        Ok(Ok(Some(body))) => Ok(body),
        Ok(Ok(None)) => Err(NoReply::Stranger(admin)),
        Ok(Err(_)) | Err(_) => Err(NoReply::Nobody(admin)),
    }
}

async fn get(admin: SocketAddr, path: &str) -> Result<Option<Bytes>, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(admin).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path).header("host", admin.to_string()).body(Full::<Bytes>::default())?;
    let answer = async {
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Ok(None);
        }
        Ok(Some(Limited::new(response.into_body(), MAX_BYTES).collect().await?.to_bytes()))
    };
    // The connection is driven for as long as its answer takes, and goes with it.
    tokio::pin!(answer, connection);
    tokio::select! {
        biased;
        answered = &mut answer => answered,
        ended = &mut connection => {
            ended?;
            answer.await
        }
    }
}
