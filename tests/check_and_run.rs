//! `check` and `run` agree: a file that `check` refuses is refused by `run` with the same output, and `run` serves the
//! others.

use std::fs;
use std::path::Path;
use std::thread;

use crate::support::Gateway;
use crate::support::command::run;
use crate::support::gateway::{folder, program};

/// For the variable of the shipped configuration.
const SECRET: (&str, &str) = ("DEMO_CLIENT_SECRET", "sixteen-or-more-characters");

/// The shipped configuration with fast keys, on free ports.
fn shipped() -> String {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("gateway.yaml")).unwrap();
    text.replace("RS256", "ES256").replace("127.0.0.1:8443", "127.0.0.1:0").replace("127.0.0.1:9901", "127.0.0.1:0")
}

/// Typing mistakes: each line left out, cut short, indented, swapped with the next and written over it.
fn mutants(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let written = (0..lines.len()).filter(|&at| !lines[at].trim().is_empty() && !lines[at].trim().starts_with('#'));
    let with = |at: usize, replacement: &[&str]| {
        let rest = lines.get(at + replacement.len().max(1)..).unwrap_or_default();
        [&lines[..at], replacement, rest].concat().join("\n") + "\n"
    };
    let mutants = written.flat_map(|at| {
        let line = lines[at];
        let (short, moved) = (&line[..=line.find([':', '[', '{']).unwrap_or(0)], format!(" {line}"));
        let swapped = lines.get(at + 1).map(|next| with(at, &[next, line]));
        [with(at, &[]), with(at, &[short]), with(at, &[&moved]), with(at, &[line, line])].into_iter().chain(swapped)
    });
    mutants.collect()
}

/// Whether the gateway serves with this configuration. Panics if `check` and `run` disagree.
fn serves(yaml: &str) -> bool {
    let folder = folder();
    fs::write(folder.join("gateway.yaml"), yaml).unwrap();
    let check = run(program(&folder).arg("check").env(SECRET.0, SECRET.1));
    if check.code == Some(0) {
        let gateway = Gateway::start_in(folder, yaml, &[SECRET]);
        assert!(!gateway.addresses.is_empty(), "{yaml}");
        return true;
    }
    let run = run(program(&folder).arg("run").env(SECRET.0, SECRET.1));
    assert_eq!((check.code, run.code), (Some(2), Some(2)), "{yaml}");
    assert_eq!(check.stderr, run.stderr, "{yaml}");
    fs::remove_dir_all(folder).unwrap();
    false
}

#[test]
fn check_and_run_agree_about_every_typing_mistake() {
    let shipped = shipped();
    assert!(serves(&shipped));
    let mutants = mutants(&shipped);
    assert!(mutants.len() >= 200, "{}", mutants.len());
    let served = thread::scope(|scope| {
        let halves = mutants.chunks(mutants.len().div_ceil(2));
        let halves: Vec<_> =
            halves.map(|half| scope.spawn(|| half.iter().filter(|mutant| serves(mutant)).count())).collect();
        halves.into_iter().map(|half| half.join().unwrap()).sum::<usize>()
    });
    assert!((20..mutants.len() - 20).contains(&served), "{served} of {} are served", mutants.len());
}

#[test]
fn the_memory_of_the_gateway_is_never_dumped() {
    let folder = folder();
    let gateway = Gateway::start_in(folder, &shipped(), &[SECRET]);
    let limits = fs::read_to_string(format!("/proc/{}/limits", gateway.id())).unwrap();
    let cores = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(cores.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{cores}");
}
