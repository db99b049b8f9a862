//! A request to an introspection endpoint (RFC 7662 §2.1).

use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::NoAnswer;
use super::status::IntrospectionResult;
use crate::telemetry::error_chain::ErrorChain;
use crate::trust::fetch::{FetchError, Fetcher, post_form};
use crate::trust::key_source::IntrospectionEndpoint;
use crate::trust::progress::FetchResult;

/// The HTTP client. It is made anew when the certificates that it trusts have been replaced.
#[derive(Debug, Default)]
pub(super) struct CurrentFetcher(Mutex<Option<KnownFetcher>>);

#[derive(Clone, Debug)]
struct KnownFetcher {
    /// The certificates that it trusts. `None`: the system's roots.
    pem: Option<Arc<Vec<u8>>>,
    fetcher: Arc<Fetcher>,
}

impl CurrentFetcher {
    async fn get(&self, endpoint: &IntrospectionEndpoint) -> Result<Arc<Fetcher>, FetchError> {
        let pem = endpoint.ca.as_ref().map(|ca| ca.pem());
        let is_same = |known: &KnownFetcher| match (&known.pem, &pem) {
            (None, None) => true,
            (Some(known), Some(pem)) => Arc::ptr_eq(known, pem),
            (None, Some(_)) | (Some(_), None) => false,
        };
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(known) = known.filter(is_same) {
            return Ok(known.fetcher);
        }
        // Reading the system's certificates blocks.
        let (pem_of, endpoint) = (pem.clone(), endpoint.clone());
        let made = spawn_blocking(move || {
            let pem = pem_of.as_deref().map(Vec::as_slice);
            Fetcher::new(pem, endpoint.clear_text, &endpoint.access, Some(&endpoint.url))
        });
        let fetcher = Arc::new(made.await.map_err(|_| FetchError::Stopped)??);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(KnownFetcher { pem, fetcher: Arc::clone(&fetcher) });
        Ok(fetcher)
    }
}

/// The body of the answer about this token.
pub(super) async fn request_answer(
    fetcher: &CurrentFetcher,
    endpoint: &IntrospectionEndpoint,
    token: &str,
    deadline: Instant,
) -> Result<Vec<u8>, (IntrospectionResult, NoAnswer)> {
    let form = form_urlencoded::Serializer::new(String::new())
        .append_pair("token", token)
        .append_pair("token_type_hint", "access_token")
        .finish();
    let answered = match fetcher.get(endpoint).await {
        Ok(fetcher) => post_form(&fetcher, &endpoint.url, endpoint.client.value(), form, deadline).await,
        Err(error) => Err(error),
    };
    answered.map_err(|error| (result(&error), NoAnswer(ErrorChain(&error).to_string().into())))
}

fn result(error: &FetchError) -> IntrospectionResult {
    match error.result() {
        FetchResult::Unreachable => IntrospectionResult::Unreachable,
        FetchResult::Status => IntrospectionResult::Status,
        FetchResult::TooLarge => IntrospectionResult::TooLarge,
        FetchResult::Ok | FetchResult::Metadata | FetchResult::Keys | FetchResult::Setup => IntrospectionResult::Setup,
    }
}
