//! Completions and manual pages: made from the definition of the command line, so that they have every verb.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::command::run;
use crate::support::gateway::{folder, program};

/// The output of the program.
fn printed(arguments: &[&str]) -> String {
    let folder = folder();
    let said = run(program(&folder).args(arguments));
    assert_eq!((said.code, &*said.stderr), (Some(0), ""), "{arguments:?}");
    fs::remove_dir_all(folder).unwrap();
    said.stdout
}

/// The verbs below these words, by `--help`: each with the words before it.
fn verbs(words: &[&str]) -> Vec<Vec<String>> {
    let help = printed(&[words, &["--help"]].concat());
    let Some((_, commands)) = help.split_once("Commands:\n") else { return Vec::new() };
    let names = commands.lines().take_while(|line| !line.is_empty()).filter(|line| line.starts_with("  "));
    let names = names.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
    let mut found = Vec::new();
    for name in names.filter(|name| *name != "help") {
        let below: Vec<&str> = words.iter().copied().chain([name]).collect();
        found.push(below.iter().map(|word| (*word).to_owned()).collect());
        found.extend(verbs(&below));
    }
    found
}

/// The words that bash offers for the last of these.
fn offered(script: &Path, words: &[&str]) -> BTreeSet<String> {
    let last = words.len() - 1;
    let load = format!(
        "source {} && COMP_WORDS=({}) && COMP_CWORD={last} && \
         function=$(complete -p portcullis | sed 's/.*-F \\([^ ]*\\).*/\\1/') && \
         $function portcullis '{}' '{}' && printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        script.display(),
        words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" "),
        words[last],
        words[last - 1],
    );
    let said = run(Command::new("bash").args(["--norc", "--noprofile", "-c", &load]));
    assert_eq!((said.code, &*said.stderr), (Some(0), ""), "{words:?}");
    said.stdout.lines().map(|word| word.trim_end().to_owned()).filter(|word| !word.is_empty()).collect()
}

#[test]
fn bash_completes_verbs_and_options() {
    if Command::new("bash").arg("--version").output().is_err() {
        eprintln!("bash is not there: completion was not tried in it");
        return;
    }
    let folder = folder();
    let script = folder.join("portcullis.bash");
    fs::write(&script, printed(&["completions", "bash"])).unwrap();
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(offered(&script, &["portcullis", "to"]), words(&["token"]));
    assert_eq!(offered(&script, &["portcullis", "audit", "ver"]), words(&["verify"]));
    assert_eq!(offered(&script, &["portcullis", "check", "--str"]), words(&["--strict"]));
    assert_eq!(offered(&script, &["portcullis", "check", "--format", ""]), words(&["github", "json", "text"]));
    for verb in verbs(&[]) {
        let typed: Vec<&str> = ["portcullis"].into_iter().chain(verb.iter().map(String::as_str)).collect();
        assert!(offered(&script, &typed).contains(verb.last().unwrap()), "{verb:?}");
    }
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn each_shell_has_a_script_with_every_verb() {
    let verbs = verbs(&[]);
    assert!(verbs.len() > 15, "{verbs:?}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = printed(&["completions", shell]);
        for verb in &verbs {
            assert!(script.contains(verb.last().unwrap()), "{shell} lacks {verb:?}");
        }
    }
    let folder = folder();
    let said = run(program(&folder).args(["completions", "tcsh"]));
    assert_eq!(said.code, Some(2));
    assert!(said.stderr.contains("bash") && said.stderr.contains("zsh"), "{}", said.stderr);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn each_verb_has_its_manual_page() {
    let folder = folder();
    let pages = folder.join("share/man1");
    let said = run(program(&folder).args(["man", "share/man1"]));
    assert_eq!((said.code, &*said.stderr), (Some(0), ""));
    let mut expected: BTreeSet<String> =
        verbs(&[]).iter().map(|verb| format!("portcullis-{}.1", verb.join("-"))).collect();
    expected.insert("portcullis.1".to_owned());
    let names = fs::read_dir(&pages).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.collect::<BTreeSet<_>>(), expected);
    assert_eq!(said.stdout, format!("{} pages in share/man1\n", expected.len()));
    for name in &expected {
        let page = fs::read_to_string(pages.join(name)).unwrap();
        for section in ["NAME", "SYNOPSIS", "DESCRIPTION"] {
            assert!(page.contains(&format!("\n.SH {section}\n")), "{name} has no {section}");
        }
        assert!(!page.contains('\u{1b}') && !page.contains(".SH EXTRA"), "{name}");
    }
    let page = fs::read_to_string(pages.join("portcullis-check.1")).unwrap();
    for text in ["\\-\\-strict", "\\-\\-config", "Exit with code 1 if there are warnings", ".SH NOTES"] {
        assert!(page.contains(text), "{text}: {page}");
    }
    assert_eq!(printed(&["man"]), fs::read_to_string(pages.join("portcullis.1")).unwrap());
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_folder_of_pages_that_cannot_be_made_is_named() {
    let folder = folder();
    fs::write(folder.join("taken"), "").unwrap();
    let said = run(program(&folder).args(["man", "taken/man1"]));
    assert_eq!((said.code, &*said.stdout), (Some(2), ""));
    assert!(said.stderr.contains("cannot write taken/man1: "), "{}", said.stderr);
    fs::remove_dir_all(folder).unwrap();
}
