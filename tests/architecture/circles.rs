//! Files of one room that import each other in a circle, and the order of the files in `pipeline/`.
//!
//! A file and its own children are one unit: what a file says of its children by their bare names is not read.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Source, sources};

/// Which file imports which, by module; test modules are left out.
type Imports = BTreeMap<Vec<String>, BTreeSet<Vec<String>>>;

#[test]
fn no_files_of_a_room_import_each_other_in_a_circle() {
    let found: Vec<String> = circles(&imports(&sources())).iter().map(Circle::to_string).collect();
    assert!(found.is_empty(), "import circles:\n{}", found.join("\n"));
}

#[test]
fn pipeline_files_import_only_those_declared_above_them() {
    let violations = disorder("pipeline", &sources());
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn the_checker_finds_planted_circles_and_disorder() {
    let files = |texts: [&str; 3]| {
        let paths = ["src/room/mod.rs", "src/room/low.rs", "src/room/folder/high.rs"];
        let mut files: Vec<Source> =
            paths.iter().zip(texts).map(|(path, text)| Source::new(path, text.to_owned())).collect();
        files.push(Source::new("src/room/folder/mod.rs", "pub(crate) mod high;\n".to_owned()));
        files
    };
    let declared = "pub(crate) mod low;\n/// Above.\npub(crate) mod folder;\n";
    let good = files([declared, "use std::fmt;", "use super::super::low::A;\nuse crate::room::{low::B, folder};"]);
    assert!(circles(&imports(&good)).is_empty() && disorder("room", &good).is_empty());
    for low in [
        "use super::folder::high::X;",
        "use crate::room::{\n    folder::{\n        high::{X, Y as Z},\n    },\n};",
        "fn f(x: &'static str) { super::folder::high::f('\"') }",
    ] {
        let bad = files([declared, low, "use crate::room::low::A;"]);
        assert_eq!(
            circles(&imports(&bad)).iter().map(Circle::to_string).collect::<Vec<_>>(),
            ["room: folder/high, low"]
        );
        assert_eq!(disorder("room", &bad).len(), 1, "{low}");
    }
    for low in [
        "// use super::folder::high::X;",
        "const S: &str = \"super::folder::high\";",
        "#[cfg(test)]\nmod tests {\n    use super::super::folder::high::X;\n}",
    ] {
        let good = files([declared, low, "use crate::room::low::A;"]);
        assert!(circles(&imports(&good)).is_empty() && disorder("room", &good).is_empty(), "{low}");
    }
}

struct Circle {
    room: String,
    files: Vec<String>,
}

impl std::fmt::Display for Circle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.room, self.files.join(", "))
    }
}

fn imports(sources: &[Source]) -> Imports {
    let tests: BTreeSet<Vec<String>> = sources.iter().flat_map(test_modules).collect();
    let is_test = |module: &[String]| (1..=module.len()).any(|length| tests.contains(&module[..length]));
    let kept: Vec<&Source> = sources.iter().filter(|source| !is_test(&source.module)).collect();
    let modules: BTreeSet<&[String]> = kept.iter().map(|source| &source.module[..]).collect();
    let file_of = |path: &[String]| (1..=path.len()).rev().find_map(|length| modules.get(&path[..length]));
    let mut imports = Imports::new();
    for source in &kept {
        let paths = source.paths().into_iter().filter(|path| !path.is_in_test);
        let used = paths.filter_map(|path| file_of(&path.segments).map(|module| module.to_vec()));
        // A folder that is only named on the way to a file is not used.
        let used = used.filter(|used| *used != source.module && !source.module.is_empty());
        imports.entry(source.module.clone()).or_default().extend(used);
    }
    imports
}

fn test_modules(source: &Source) -> Vec<Vec<String>> {
    let of_tests = source.declared().into_iter().filter(|(_, is_test)| *is_test);
    of_tests.map(|(name, _)| [&source.module[..], &[name]].concat()).collect()
}

/// Groups of files of one room of which each can be reached from each.
fn circles(imports: &Imports) -> Vec<Circle> {
    let reached: BTreeMap<&[String], BTreeSet<&[String]>> =
        imports.keys().map(|module| (&module[..], reached(imports, module))).collect();
    let mut seen: BTreeSet<&[String]> = BTreeSet::new();
    let mut found = Vec::new();
    for (module, all) in &reached {
        let circle: Vec<&[String]> = all.iter().copied().filter(|other| reached[other].contains(module)).collect();
        if circle.len() > 1 && seen.insert(circle[0]) {
            let files = circle.iter().map(|file| file[1..].join("/")).collect();
            found.push(Circle { room: module[0].clone(), files });
        }
    }
    found
}

fn reached<'i>(imports: &'i Imports, from: &'i [String]) -> BTreeSet<&'i [String]> {
    let mut reached: BTreeSet<&[String]> = BTreeSet::new();
    let mut open: Vec<&[String]> = vec![from];
    while let Some(module) = open.pop() {
        let used = imports.get(module).into_iter().flatten().filter(|used| used.first() == from.first());
        open.extend(used.map(|used| &used[..]).filter(|used| reached.insert(used)));
    }
    reached
}

/// Imports within a room that go against the order of its `mod` lines.
fn disorder(room: &str, sources: &[Source]) -> Vec<String> {
    let place = |parent: &[String], name: &str| {
        let declares = sources.iter().find(|source| source.module == parent)?;
        declares.declared().iter().position(|(declared, _)| declared == name)
    };
    let mut found = Vec::new();
    for (module, used) in
        imports(sources).iter().filter(|(module, _)| module.first().is_some_and(|first| first == room))
    {
        for used in used.iter().filter(|used| used.first() == module.first()) {
            let common = module.iter().zip(used).take_while(|(one, other)| one == other).count();
            let (Some(from), Some(to)) = (module.get(common), used.get(common)) else { continue };
            if place(&module[..common], from) <= place(&module[..common], to) {
                found.push(format!(
                    "`{}` must not use `{}`, which is declared below it",
                    module.join("::"),
                    used.join("::")
                ));
            }
        }
    }
    found
}
