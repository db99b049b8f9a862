//! The schema of the configuration, as an editor uses it.

use std::sync::LazyLock;

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::Value;

use super::pages::read;

/// The schema in the repository.
pub(crate) const SCHEMA: &str = "docs/reference/gateway.schema.json";

static VALIDATOR: LazyLock<(Schemas, SchemaIndex)> = LazyLock::new(|| {
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.add_resource(SCHEMA, serde_json::from_str(&read(SCHEMA)).unwrap()).unwrap();
    let index = compiler.compile(SCHEMA, &mut schemas).unwrap();
    (schemas, index)
});

/// What the schema has against this file, if anything.
pub(crate) fn complaint(yaml: &str) -> Option<String> {
    let document: Value = match serde_saphyr::from_str(yaml) {
        Ok(document) => document,
        Err(error) => return Some(error.to_string()),
    };
    let (schemas, index) = &*VALIDATOR;
    schemas.validate(&document, *index).err().map(|error| format!("{error:#}"))
}
