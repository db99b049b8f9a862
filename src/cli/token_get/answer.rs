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

/// What is printed of a granted token.
pub(super) enum Printed<'p> {
    Token,
    Json,
    /// `request` is empty, or a method and a URL that a proof is made for.
    Headers {
        dpop: Option<&'p SigningKey>,
        request: &'p [String],
    },
}

pub(super) fn print_answer(
    answer: &EndpointAnswer,
    endpoint: &Url,
    printed: &Printed<'_>,
) -> Result<ExitCode, ExitCode> {
    let is_visible = |token: &&str| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    match (answer.status, answer.text("access_token").filter(is_visible)) {
        (200, Some(token)) => print_token(answer, token, printed),
        (status, _) => match answer.error() {
            Some(error) => Ok(print_refusal(answer, error, endpoint, printed)),
            None => {
                Err(error_text(format_args!("{endpoint} answered {status} without a token: is it a token endpoint?")))
            }
        },
    }
}

fn print_token(answer: &EndpointAnswer, token: &str, printed: &Printed<'_>) -> Result<ExitCode, ExitCode> {
    match printed {
        Printed::Token => out(token),
        Printed::Json => out(&answer.body),
        Printed::Headers { dpop, request } => {
            let is_bound = answer.text("token_type").is_some_and(|name| name.eq_ignore_ascii_case("DPoP"));
            out(format_args!("Authorization: {} {token}", if is_bound { "DPoP" } else { "Bearer" }));
            if let (Some(key), [method, url]) = (dpop, request) {
                let request = ProvenRequest { method, url, nonce: None, access_token: Some(token) };
                let proof = dpop_proof(key, &request, clock::now()).map_err(|error| failed(&error))?;
                out(format_args!("DPoP: {proof}"));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print_refusal(answer: &EndpointAnswer, error: &str, endpoint: &Url, printed: &Printed<'_>) -> ExitCode {
    if matches!(printed, Printed::Json) {
        out(&answer.body);
    }
    let description = answer.text("error_description").map(|text| format!(": {}", shown(text))).unwrap_or_default();
    note(format_args!(
        "{} {endpoint} answered {} {}{description}",
        styled(BAD, "refused:"),
        answer.status,
        shown(error)
    ));
    note(styled(DIM, advice(error)));
    if let Some(Value::String(id)) = answer.body.get("request_id") {
        let id = shown(id);
        note(styled(
            DIM,
            format_args!("Request {id}: on the gateway, `portcullis audit query --request-id {id}` has the reason."),
        ));
    }
    ExitCode::from(FINDINGS)
}

/// What to do about an error of RFC 6749 §5.2, RFC 8707 §2 or RFC 9449 §5.
fn advice(error: &str) -> &'static str {
    match error {
        "invalid_client" => "Check the client id, and that the client's entry has this way: its secret, key or token.",
        "invalid_grant" => {
            "Check that the client's entry in `federation` matches the token, and that the token is fresh."
        }
        "invalid_scope" => "Ask for scopes that the client's entry has under `scopes`, or leave out --scope.",
        "invalid_target" => "Ask for an audience or a resource of the gateway, or leave out --audience and --resource.",
        "unauthorized_client" => "Check that the client may use this grant.",
        "invalid_dpop_proof" | "use_dpop_nonce" => "Check the clock of this machine and the key of --dpop-key.",
        "slow_down" | "temporarily_unavailable" | "rate_limited" => "Wait, and try again.",
        _ => "See the description of the error.",
    }
}
