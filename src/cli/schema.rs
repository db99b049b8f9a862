//! `portcullis schema`: prints the JSON Schema of the configuration, for editors.

use std::process::ExitCode;

use super::terminal::out;
use crate::config::schema;

pub(super) const HELP: &str = "\
Example:
  portcullis schema > gateway.schema.json

Editors with the YAML language server then complete and check a file that begins with this line:
  # yaml-language-server: $schema=gateway.schema.json

The schema has keys, types and words. `check` also finds names that do not exist and values that contradict each other.";

pub(super) fn schema() -> ExitCode {
    out(schema::text());
    ExitCode::SUCCESS
}
