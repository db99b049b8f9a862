//! Clients with a key: makes a key pair or takes a public key, and prints what the gateway and the client need.
//!
//! The private key goes to a file of mode 0600 and is printed nowhere.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use pem::{EncodeConfig, LineEnding, Pem};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::client_entry::{Given, key_file_name, print_entry};
use super::terminal::{DIM, error_text, failed, note, out, styled};
use crate::durable_file;
use crate::jose::algorithm::Algorithm;
use crate::jose::jwk::VerifyingKey;
use crate::jose::public_key_file::{public_jwks, thumbprint_of};
use crate::jose::signing::SigningKey;

pub(super) fn made_key(given: &Given<'_>, algorithm: Algorithm, file: Option<&Path>) -> ExitCode {
    let (jwk, file) = match write_key(given, algorithm, file) {
        Ok(written) => written,
        Err(code) => return code,
    };
    print_entry(given, &keys_entry(&[jwk]));
    print_use(given, algorithm, &file.display().to_string());
    ExitCode::SUCCESS
}

/// Makes a key pair and writes its private key to a file. The public key, and the file.
pub(super) fn write_key(
    given: &Given<'_>,
    algorithm: Algorithm,
    file: Option<&Path>,
) -> Result<(Map<String, Value>, PathBuf), ExitCode> {
    let (key, pkcs8) = SigningKey::generate(algorithm).map_err(|error| failed(&error))?;
    let file = file.map_or_else(|| key_file_name(given.id), Path::to_owned);
    let pem = Pem::new("PRIVATE KEY", pkcs8.to_vec());
    let pem = Zeroizing::new(pem::encode_config(&pem, EncodeConfig::new().set_line_ending(LineEnding::LF)));
    if let Err(error) = write_new(&file, pem.as_bytes()) {
        let hint = if error.kind() == io::ErrorKind::AlreadyExists {
            "; it is not overwritten: choose another by --out"
        } else {
            ""
        };
        return Err(error_text(format_args!("cannot create {}: {error}{hint}", file.display())));
    }
    note(styled(DIM, format_args!("Wrote the private key, which only the client may have, to {}", file.display())));
    Ok((key.public_jwk().clone(), file))
}

pub(super) fn public_key(given: &Given<'_>, file: &Path) -> ExitCode {
    let (keys, algorithm) = match read_keys(file) {
        Ok(keys) => keys,
        Err(code) => return code,
    };
    print_entry(given, &keys_entry(&keys));
    print_use(given, algorithm, "FILE-OF-THE-PRIVATE-KEY");
    ExitCode::SUCCESS
}

/// The public keys of a file, and the algorithm of the last one.
pub(super) fn read_keys(file: &Path) -> Result<(Vec<Map<String, Value>>, Algorithm), ExitCode> {
    let shown = file.display();
    let content = fs::read(file).map_err(|error| error_text(format_args!("cannot read {shown}: {error}")))?;
    let keys = public_jwks(&content).map_err(|fault| error_text(format_args!("cannot use {shown}: {fault}")))?;
    let mut named = Vec::new();
    let mut algorithm = Algorithm::Es256;
    for jwk in keys {
        match usable(jwk) {
            Ok((jwk, of_key)) => {
                named.push(jwk);
                algorithm = of_key;
            }
            Err(reason) => return Err(error_text(format_args!("cannot use a key of {shown}: {reason}"))),
        }
    }
    Ok((named, algorithm))
}

/// The key with a key id and an algorithm, and without members that verify nothing.
fn usable(mut jwk: Map<String, Value>) -> Result<(Map<String, Value>, Algorithm), String> {
    jwk.retain(|name, _| MEMBERS.contains(&name.as_str()));
    let key =
        VerifyingKey::from_jwk(&Value::Object(jwk.clone()), &Algorithm::ALL).map_err(|reason| reason.to_string())?;
    if !jwk.contains_key("kid") {
        let thumbprint = thumbprint_of(&jwk).map_err(|reason| reason.to_string())?;
        jwk.insert("kid".to_owned(), json!(thumbprint));
    }
    jwk.insert("alg".to_owned(), json!(key.algorithm.as_str()));
    Ok((jwk, key.algorithm))
}

const MEMBERS: [&str; 10] = ["kty", "crv", "x", "y", "n", "e", "kid", "alg", "use", "key_ops"];
fn keys_entry(keys: &[Map<String, Value>]) -> String {
    let entries: Vec<String> = keys.iter().map(|jwk| format!("{{jwk: {}}}", json!(jwk))).collect();
    format!("keys: [{}]", entries.join(", "))
}

fn write_new(file: &Path, content: &[u8]) -> io::Result<()> {
    let mut made = durable_file::create_new(file, 0o600)?;
    made.write_all(content)?;
    made.sync_all()
}

/// Prints how the client gets a token, in a shell and in Python.
pub(super) fn print_use(given: &Given<'_>, algorithm: Algorithm, file: &str) {
    let Given { id, issuer, .. } = given;
    let (endpoint, [quoted_id, quoted_file]) =
        (format!("{}/oauth/token", issuer.trim_end_matches('/')), [id, file].map(in_shell));
    note(styled(DIM, "\nTo get a token and use it:"));
    out(format_args!(
        "TOKEN=$(portcullis token get --issuer {} --client {quoted_id} --key {quoted_file})\n\
         curl --header \"Authorization: Bearer $TOKEN\" {}/…",
        in_shell(issuer),
        issuer.trim_end_matches('/'),
    ));
    let class = match algorithm {
        Algorithm::Es256 | Algorithm::Es384 | Algorithm::Es512 => "ECKey",
        Algorithm::EdDsa => "OKPKey",
        Algorithm::Rs256
        | Algorithm::Rs384
        | Algorithm::Rs512
        | Algorithm::Ps256
        | Algorithm::Ps384
        | Algorithm::Ps512 => "RSAKey",
    };
    note(styled(DIM, "\nOr in Python, with Authlib and requests:"));
    out(format_args!(
        "import time\n\
         from authlib.integrations.requests_client import OAuth2Session\n\
         from authlib.oauth2.rfc7523 import PrivateKeyJWT\n\
         from joserfc.jwk import {class}\n\
         \n\
         endpoint = {}\n\
         key = {class}.import_key(open({}).read())\n\
         session = OAuth2Session({}, key, token_endpoint_auth_method=\"private_key_jwt\")\n\
         # For each token: Authlib's own assertions are good for an hour, and the gateway takes five minutes at most.\n\
         claims = {{\"exp\": int(time.time()) + 60}}\n\
         session.register_client_auth_method(PrivateKeyJWT(endpoint, alg={}, claims=claims))\n\
         session.fetch_token(endpoint, grant_type=\"client_credentials\")",
        json!(endpoint),
        json!(file),
        json!(id),
        json!(algorithm.as_str()),
    ));
}

/// A word of a shell, quoted if it must be.
pub(super) fn in_shell(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:@=+,".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_a_shell_is_quoted_if_it_must_be() {
        for (word, quoted) in [("a-b.pem", "a-b.pem"), ("", "''"), ("a b", "'a b'"), ("it's", r"'it'\''s'")] {
            assert_eq!(in_shell(word), quoted);
        }
    }
}
