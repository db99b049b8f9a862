//! `portcullis man`: manual pages of the program and of each verb, made from the definition of the command line.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Command, CommandFactory as _};
use clap_mangen::Man;

use super::Cli;
use super::terminal::{failed, out};

pub(super) const HELP: &str = "\
Examples:
  portcullis man | man -l -
  portcullis man ~/.local/share/man/man1

Each verb has a page, such as portcullis-audit-verify(1).";

#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// The folder for the pages, which is created; without it, the page of the program is printed
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

pub(super) fn man(args: &ManArgs) -> ExitCode {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let result = match &args.folder {
        Some(folder) => {
            write_all(&command, folder).map(|count| out(format_args!("{count} pages in {}", folder.display())))
        }
        None => Page::of(&command).map(|page| out(page.text.trim_end())),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}", path = path.display())]
struct PageError {
    path: PathBuf,
    source: io::Error,
}

struct Page {
    file: String,
    text: String,
}

impl Page {
    fn of(command: &Command) -> Result<Self, PageError> {
        let man = Man::new(command.clone()).source(concat!("Portcullis ", env!("CARGO_PKG_VERSION")));
        let file = man.get_filename();
        let mut text = Vec::new();
        man.render(&mut text).map_err(|source| PageError { path: PathBuf::from(&file), source })?;
        // The usual name for what the library calls extra.
        let text = String::from_utf8_lossy(&text).replace("\n.SH EXTRA\n", "\n.SH NOTES\n");
        Ok(Self { file, text })
    }
}

/// Writes the page of this command and those of the commands below it. Returns their number.
fn write_all(command: &Command, folder: &Path) -> Result<usize, PageError> {
    fs::create_dir_all(folder).map_err(|source| PageError { path: folder.to_owned(), source })?;
    let page = Page::of(command)?;
    let path = folder.join(&page.file);
    fs::write(&path, page.text).map_err(|source| PageError { path, source })?;
    let below = command.get_subcommands().map(|below| write_all(below, folder));
    Ok(1 + below.sum::<Result<usize, PageError>>()?)
}
