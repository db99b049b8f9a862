//! The JSON Schema of the configuration: what editors complete and check is what the parser knows.
//!
//! Every configuration with which a test starts a gateway is valid by it too, see `support/gateway.rs`. The parser and
//! the schema are compared in `src/config/schema/tests.rs`.

use std::fs;
use std::path::Path;

use crate::support::command::run;
use crate::support::examples::complete;
use crate::support::gateway::{folder, program};
use crate::support::pages::{ROOT, pages, read};
use crate::support::schema::{SCHEMA, complaint};

#[test]
fn the_schema_of_the_repository_is_what_the_program_prints() {
    let folder = folder();
    let said = run(program(&folder).arg("schema"));
    assert_eq!((said.code, &*said.stderr), (Some(0), ""));
    if std::env::var_os("RENEW").is_some() {
        fs::write(Path::new(ROOT).join(SCHEMA), &said.stdout).unwrap();
    }
    assert!(read(SCHEMA) == said.stdout, "`RENEW=1 cargo test --test promises schema::` writes {SCHEMA} again");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn every_key_of_the_schema_has_a_description() {
    let schema = serde_json::from_str(&read(SCHEMA)).unwrap();
    let (mut count, mut without) = (0, Vec::new());
    each_key(&schema, "", &mut |path, key| {
        count += 1;
        if key["description"].as_str().is_none_or(|text| text.contains("](") || text.contains("see below")) {
            without.push(path.to_owned());
        }
    });
    assert!(without.is_empty(), "no row in docs/reference/configuration.md and no comment at the field: {without:#?}");
    assert!(count > 200, "{count}");
}

fn each_key(schema: &serde_json::Value, path: &str, tell: &mut impl FnMut(&str, &serde_json::Value)) {
    for (key, below) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{key}");
        tell(&path, below);
        each_key(below, &path, tell);
    }
    let several = schema["anyOf"].as_array().into_iter().flatten();
    let below = [&schema["items"], &schema["additionalProperties"]].into_iter().filter(|below| below.is_object());
    several.chain(below).for_each(|schema| each_key(schema, path, tell));
}

#[test]
fn every_configuration_of_the_pages_is_valid_by_the_schema() {
    let mut count = 0;
    for page in pages() {
        for block in page.blocks().iter().filter(|block| block.language == "yaml") {
            assert_eq!(complaint(&complete(&block.text)), None, "{}:{}", page.name, block.line);
            count += 1;
        }
    }
    assert!(count >= 8, "{count}");
}

#[test]
fn the_shipped_file_is_valid_by_the_schema_that_it_names() {
    let shipped = read("gateway.yaml");
    assert_eq!(shipped.lines().next(), Some(&*format!("# yaml-language-server: $schema={SCHEMA}")));
    assert_eq!(complaint(&shipped), None);
    let misspelt = complaint(&shipped.replace("upstreams:", "upstream:"));
    assert!(misspelt.is_some_and(|text| text.contains("upstream")));
}
