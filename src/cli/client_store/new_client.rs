//! `portcullis client new --store`: writes a new client to the database.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::super::Format;
use super::super::client_entry::Given;
use super::super::client_key::{print_use, read_keys, write_key};
use super::super::client_secret::generate;
use super::super::new_client::NewClientArgs;
use super::super::terminal::{DIM, error_text, failed, note, out, styled};
use super::{MissingFile, OpenClientStore};
use crate::clock;
use crate::issuer::client::Client;
use crate::issuer::client_auth::secret::hash::{ClientSecret, SecretHash};
use crate::store::client_table::{FederationRow, MOST_CANDIDATES};
use crate::store::sql::DatabaseError;

/// Bytes of the file of further keys.
const LONGEST_ENTRY: u64 = 64 << 10;

/// The credential of a new client, beside those of its file.
enum NewCredential {
    Secret(ClientSecret),
    /// The file of its private key, if one was made.
    Key(Option<String>, crate::jose::algorithm::Algorithm),
    /// Those of the file of further keys.
    None,
}

pub(in super::super) fn new(args: &NewClientArgs) -> ExitCode {
    made(args).unwrap_or_else(|code| code)
}

fn made(args: &NewClientArgs) -> Result<ExitCode, ExitCode> {
    let store = OpenClientStore::open(&args.config.config, MissingFile::Create)?;
    store.refuse_known(&args.id)?;
    let mut entry = args.entry.as_deref().map_or_else(|| Ok(Map::new()), further_keys)?;
    if !args.scopes.is_empty() {
        entry.insert("scopes".to_owned(), json!(args.scopes));
    }
    let credential = add_credential(args, &mut entry)?;
    let text = Value::Object(entry).to_string();
    let client = store.reader.read(&args.id, &text).map_err(|fault| refused(&fault))?;
    let federation = store.federation(&client)?;
    let inserted = store.runtime.block_on(store.table.insert((&args.id, &text), &federation, clock::now()));
    inserted.map_err(|error| match error {
        DatabaseError::Unavailable => {
            error_text("the database did not answer in time: see `portcullis client list --store` before you try again")
        }
        other @ (DatabaseError::Refused(_) | DatabaseError::NotMigrated | DatabaseError::Version { .. }) => {
            failed(&other)
        }
    })?;
    print(args, &store.issuer, credential);
    Ok(ExitCode::SUCCESS)
}

fn refused(fault: &str) -> ExitCode {
    error_text(format_args!("the client cannot be made: {fault}"))
}

fn further_keys(file: &Path) -> Result<Map<String, Value>, ExitCode> {
    let shown = file.display();
    let mut text = String::new();
    let read = if file.as_os_str() == "-" {
        io::stdin().take(LONGEST_ENTRY).read_to_string(&mut text)
    } else {
        File::open(file).and_then(|file| file.take(LONGEST_ENTRY).read_to_string(&mut text))
    };
    read.map_err(|error| error_text(format_args!("cannot read {shown}: {error}")))?;
    serde_json::from_str(&text).map_err(|fault| error_text(format_args!("{shown} has no JSON object: {fault}")))
}

/// A secret, unless the file of further keys has a credential.
fn add_credential(args: &NewClientArgs, entry: &mut Map<String, Value>) -> Result<NewCredential, ExitCode> {
    let given = Given::of(args);
    let has_credential = ["secrets", "keys", "certificates", "federation"].iter().any(|key| entry.contains_key(*key));
    let jwks = |keys: &[Map<String, Value>]| keys.iter().map(|jwk| json!({"jwk": jwk})).collect::<Value>();
    match (args.key, &args.public) {
        (Some(algorithm), _) => {
            let (jwk, file) = write_key(&given, algorithm, args.out.as_deref())?;
            entry.insert("keys".to_owned(), jwks(&[jwk]));
            Ok(NewCredential::Key(Some(file.display().to_string()), algorithm))
        }
        (None, Some(file)) => {
            let (keys, algorithm) = read_keys(file)?;
            entry.insert("keys".to_owned(), jwks(&keys));
            Ok(NewCredential::Key(None, algorithm))
        }
        (None, None) if has_credential => Ok(NewCredential::None),
        (None, None) => {
            let secret = generate().map_err(|error| failed(&error))?;
            entry.insert("secrets".to_owned(), json!([{"hash": SecretHash::of(&secret).to_config()}]));
            Ok(NewCredential::Secret(secret))
        }
    }
}

fn print(args: &NewClientArgs, issuer: &str, credential: NewCredential) {
    if args.format == Format::Json {
        let mut made = json!({"client": args.id});
        match credential {
            NewCredential::Secret(secret) => made["secret"] = json!(secret.expose()),
            NewCredential::Key(file, _) => made["private_key"] = json!(file),
            NewCredential::None => {}
        }
        return out(made);
    }
    match credential {
        NewCredential::Secret(secret) => {
            note(styled(DIM, "The secret, shown only once. Give it to the client and store it nowhere else:"));
            out(secret.expose());
        }
        NewCredential::Key(file, algorithm) => {
            let given = Given { issuer: args.issuer.as_deref().unwrap_or(issuer), ..Given::of(args) };
            print_use(&given, algorithm, file.as_deref().unwrap_or("FILE-OF-THE-PRIVATE-KEY"));
        }
        NewCredential::None => {}
    }
    note(styled(
        DIM,
        format_args!("\nClient `{}` is in the database, and can get tokens now.", args.id.escape_debug()),
    ));
}

impl OpenClientStore {
    fn refuse_known(&self, id: &str) -> Result<(), ExitCode> {
        let quoted = id.escape_debug();
        if self.configured.iter().any(|configured| configured == id) {
            let text =
                format_args!("client `{quoted}` is in the configuration file, which comes first: choose another id");
            return Err(error_text(text));
        }
        match self.runtime.block_on(self.table.get(id)) {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(error_text(format_args!(
                "the database has a client `{quoted}`: choose another id, or rotate its secret"
            ))),
            Err(error) => Err(failed(&error)),
        }
    }

    /// The rows by which platform tokens find the client.
    fn federation(&self, client: &Client) -> Result<Vec<FederationRow>, ExitCode> {
        let rows = client.credentials.federation.iter().map(|identity| FederationRow {
            issuer: identity.issuer.as_str().to_owned(),
            tenant: identity.tenant.clone(),
            prefix: identity.subject.literal_prefix().to_owned(),
        });
        let rows: Vec<FederationRow> = rows.collect();
        for row in &rows {
            let sharing = self.runtime.block_on(self.table.sharing(row)).map_err(|error| failed(&error))?;
            if sharing >= MOST_CANDIDATES {
                let prefix = row.prefix.escape_debug();
                return Err(refused(&format!(
                    "{MOST_CANDIDATES} clients have a subject of `federation` that begins with `{prefix}` before the first \
                     `*`: write more of the subject before it"
                )));
            }
        }
        Ok(rows)
    }
}
