//! Requests to the listeners `admin` and `probes` of the running gateway.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(super) enum AdminError {
    #[error("no gateway answers at {0}")]
    Unreachable(SocketAddr),
    #[error("{0} is not the admin listener of a gateway")]
    NotAdmin(SocketAddr),
}

/// The listener is near and responds from memory.
const TIMEOUT: Duration = Duration::from_secs(2);
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// The body of a 200 response to `GET path`.
pub(super) async fn fetch(admin: SocketAddr, path: &str) -> Result<Bytes, AdminError> {
    match probe(admin, path).await? {
        (StatusCode::OK, body) => Ok(body),
        (_, _) => Err(AdminError::NotAdmin(admin)),
    }
}

/// The status and body of any response to `GET path`.
pub(super) async fn probe(listener: SocketAddr, path: &str) -> Result<(StatusCode, Bytes), AdminError> {
    match timeout(TIMEOUT, get(listener, path)).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(_)) | Err(_) => Err(AdminError::Unreachable(listener)),
    }
}

async fn get(admin: SocketAddr, path: &str) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(admin).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path).header("host", admin.to_string()).body(Full::<Bytes>::default())?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        Ok((status, Limited::new(response.into_body(), MAX_BYTES).collect().await?.to_bytes()))
    };
    // The connection is driven until the response is complete.
    tokio::pin!(exchange, connection);
    tokio::select! {
        biased;
        result = &mut exchange => result,
        ended = &mut connection => {
            ended?;
            exchange.await
        }
    }
}
