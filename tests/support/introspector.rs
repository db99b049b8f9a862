//! An issuer of opaque tokens: an introspection endpoint over TLS that knows what the test tells it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};

use super::authority::{Authority, listen_by_tls};
use super::issuer::now;

/// Serves `/introspect` as `localhost`.
#[derive(Clone)]
pub(crate) struct Introspector {
    pub(crate) url: String,
    state: Arc<State>,
}

struct State {
    /// By token. Others are not active.
    answers: Mutex<HashMap<String, String>>,
    asked: watch::Sender<Vec<Question>>,
    status: Mutex<u16>,
    /// Answers wait for a permit, which stays.
    gate: Semaphore,
}

/// A request as the endpoint received it.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) token: String,
    pub(crate) form: HashMap<String, String>,
    pub(crate) headers: HeaderMap,
}

impl Introspector {
    pub(crate) async fn start(authority: &Authority) -> Self {
        let state = Arc::new(State {
            answers: Mutex::default(),
            asked: watch::Sender::default(),
            status: Mutex::new(200),
            gate: Semaphore::new(1),
        });
        let shared = Arc::clone(&state);
        let address = listen_by_tls(authority.issue(&["localhost"]).config(&[], None), move |stream| {
            let state = Arc::clone(&shared);
            async move {
                let service = service_fn(move |request| Arc::clone(&state).answer(request));
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            }
        })
        .await;
        Self { url: format!("https://localhost:{}/introspect", address.port()), state }
    }

    /// From now on this is the whole answer about the token.
    pub(crate) fn answers(&self, token: &str, answer: &str) {
        self.state.answers.lock().unwrap().insert(token.to_owned(), answer.to_owned());
    }

    /// From now on the token is active, with these members changed. `null` removes one.
    pub(crate) fn knows(&self, token: &str, changes: &Value) {
        let mut answer = json!({
            "active": true, "sub": "someone", "client_id": "their-app", "aud": "https://api.example.com",
            "scope": "read:data", "token_type": "Bearer", "iat": now(), "exp": now() + 600,
        });
        answer.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        answer.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        self.answers(token, &answer.to_string());
    }

    pub(crate) fn forgets(&self, token: &str) {
        self.state.answers.lock().unwrap().remove(token);
    }

    /// From now on every answer has this status.
    pub(crate) fn fails_with(&self, status: u16) {
        *self.state.status.lock().unwrap() = status;
    }

    /// From now on no answer is sent until [`Self::opens`].
    pub(crate) async fn closes(&self) {
        self.state.gate.acquire().await.unwrap().forget();
    }

    pub(crate) fn opens(&self) {
        self.state.gate.add_permits(1);
    }

    /// All requests so far.
    pub(crate) fn asked(&self) -> Vec<Question> {
        self.state.asked.borrow().clone()
    }

    /// How often it was asked about this token.
    pub(crate) fn asked_about(&self, token: &str) -> usize {
        self.asked().iter().filter(|question| question.token == token).count()
    }

    /// Waits until it was asked so often.
    pub(crate) async fn is_asked(&self, times: usize) {
        let mut asked = self.state.asked.subscribe();
        let enough = asked.wait_for(|asked| asked.len() >= times);
        drop(tokio::time::timeout(super::gateway::PATIENCE, enough).await.unwrap().unwrap());
    }
}

impl State {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> hyper::Result<Response<Full<Bytes>>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let form: HashMap<String, String> = form_urlencoded::parse(&body).into_owned().collect();
        let token = form.get("token").cloned().unwrap_or_default();
        let answer = self.answers.lock().unwrap().get(&token).cloned();
        self.asked.send_modify(|asked| asked.push(Question { token, form, headers: head.headers }));
        drop(self.gate.acquire().await.unwrap());
        let answer = answer.unwrap_or_else(|| json!({ "active": false }).to_string());
        let status = *self.status.lock().unwrap();
        Ok(Response::builder().status(status).body(Full::from(answer)).unwrap())
    }
}
