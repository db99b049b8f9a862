//! The answer of a token endpoint, printed.

use std::process::ExitCode;

use serde_json::Value;
use url::Url;

use super::super::FINDINGS;
use super::super::terminal::{BAD, DIM, error_text, failed, note, out, styled};
use super::exchange::EndpointAnswer;
use crate::audit::line::shown;
use crate::clock;
use crate::jose::client_proofs::{ProvenRequest, dpop_proof};
use crate::jose::signing::SigningKey;

/// The part of a granted token that is printed.
pub(super) enum Printed<'p> {
    Token,
    Json,
    /// With a proof by this key for this request.
    Headers {
        proven: Option<(&'p SigningKey, &'p ProvenUse)>,
    },
}

/// A request that will use the token.
pub(super) struct ProvenUse {
    method: String,
    /// As it was given: the gateway compares it with what it gets.
    url: String,
    parsed: Url,
}

/// The proofs of the token request.
#[derive(Clone, Copy)]
pub(super) struct SentProofs {
    pub(super) platform_token: bool,
    pub(super) dpop: bool,
}

impl ProvenUse {
    /// `values` are none, or a method and a URL.
    pub(super) fn of(values: &[String]) -> Result<Option<Self>, ExitCode> {
        let [method, url] = values else { return Ok(None) };
        match Url::parse(url) {
            Ok(parsed) if parsed.has_host() => Ok(Some(Self { method: method.clone(), url: url.clone(), parsed })),
            Ok(_) | Err(_) => {
                let url = url.escape_debug();
                Err(error_text(format_args!(
                    "--dpop-for needs the whole URL of the request, such as https://api.example.com/data, and not `{url}`"
                )))
            }
        }
    }
}

pub(super) fn print_answer(
    answer: &EndpointAnswer,
    endpoint: &Url,
    printed: &Printed<'_>,
    sent: SentProofs,
) -> Result<ExitCode, ExitCode> {
    let is_visible = |token: &&str| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    match (answer.status, answer.text("access_token").filter(is_visible)) {
        (200, Some(token)) => print_token(answer, token, endpoint, printed),
        (status, _) => match answer.error() {
            Some(error) => {
                if matches!(printed, Printed::Json) {
                    out(&answer.body);
                }
                Ok(print_refusal(answer, error, endpoint, sent))
            }
            None => {
                Err(error_text(format_args!("{endpoint} answered {status} without a token: is it a token endpoint?")))
            }
        },
    }
}

fn print_token(
    answer: &EndpointAnswer,
    token: &str,
    endpoint: &Url,
    printed: &Printed<'_>,
) -> Result<ExitCode, ExitCode> {
    match printed {
        Printed::Token => out(token),
        Printed::Json => out(&answer.body),
        Printed::Headers { proven } => {
            let is_bound = answer.text("token_type").is_some_and(|name| name.eq_ignore_ascii_case("DPoP"));
            out(format_args!("Authorization: {} {token}", if is_bound { "DPoP" } else { "Bearer" }));
            if let Some((key, ProvenUse { method, url, parsed })) = proven {
                // A nonce is of one server.
                let nonce = answer.dpop_nonce.as_deref().filter(|_| parsed.origin() == endpoint.origin());
                let request = ProvenRequest { method, url, nonce, access_token: Some(token) };
                let proof = dpop_proof(key, &request, clock::now()).map_err(|error| failed(&error))?;
                out(format_args!("DPoP: {proof}"));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print_refusal(answer: &EndpointAnswer, error: &str, endpoint: &Url, sent: SentProofs) -> ExitCode {
    let description = answer.text("error_description").map(|text| format!(": {}", shown(text))).unwrap_or_default();
    note(format_args!(
        "{} {endpoint} answered {} {}{description}",
        styled(BAD, "refused:"),
        answer.status,
        shown(error)
    ));
    note(styled(DIM, advice(error, sent)));
    if let Some(Value::String(id)) = answer.body.get("request_id") {
        let id = shown(id);
        note(styled(
            DIM,
            format_args!("Request {id}: on the gateway, `portcullis audit query --request-id {id}` has the reason."),
        ));
    }
    ExitCode::from(FINDINGS)
}

/// The advice about an error of RFC 6749 §5.2, RFC 8707 §2 or RFC 9449 §5, §8.
fn advice(error: &str, sent: SentProofs) -> &'static str {
    match error {
        "invalid_client" | "invalid_grant" if sent.platform_token => {
            "Check that the token of --assertion-file is for the issuer (its `aud`) and fresh, and that an entry of \
             `federation` fits it: on the gateway, `portcullis token inspect` says which entries do and why others do not."
        }
        "invalid_client" => {
            "Check the client id, and that the client's entry has this secret, key, certificate or platform token."
        }
        "invalid_grant" => {
            "Check that the client's entry in `federation` matches the token, and that the token is fresh."
        }
        "invalid_scope" => "Ask for scopes that the client's entry has under `scopes`, or leave out --scope.",
        "invalid_target" => "Ask for an audience or a resource of the gateway, or leave out --audience and --resource.",
        "unauthorized_client" => "Check that the client may use this grant.",
        "invalid_dpop_proof" if !sent.dpop => "The client's tokens are bound to a key: give one by --dpop-key.",
        "invalid_dpop_proof" | "use_dpop_nonce" => "Check the clock of this machine and the key of --dpop-key.",
        "slow_down" | "temporarily_unavailable" | "rate_limited" => "Wait, and try again.",
        _ => "See the description of the error.",
    }
}
