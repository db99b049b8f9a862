//! The pages of the documentation: their prose, their blocks and the commands in them.

use std::fs;
use std::path::{Path, PathBuf};

pub(crate) const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A page, named by its path in the repository.
pub(crate) struct Page {
    pub(crate) name: String,
    pub(crate) text: String,
}

/// A fenced block without its fence and its indentation.
pub(crate) struct Block {
    pub(crate) language: String,
    /// Of its first line in the page.
    pub(crate) line: usize,
    pub(crate) text: String,
}

impl Page {
    pub(crate) fn new(name: String) -> Self {
        Self { text: read(&name), name }
    }

    /// Lines outside of blocks, numbered from 1.
    pub(crate) fn prose(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut is_block = false;
        self.text.lines().enumerate().filter_map(move |(at, line)| {
            let is_fence = line.trim_start().starts_with("```");
            is_block ^= is_fence;
            (!is_fence && !is_block).then_some((at + 1, line))
        })
    }

    pub(crate) fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut lines = self.text.lines().enumerate();
        while let Some((at, fence)) = lines.next() {
            let Some(language) = fence.trim_start().strip_prefix("```") else { continue };
            let indentation = fence.len() - fence.trim_start().len();
            let inside = lines.by_ref().take_while(|(_, line)| !line.trim_start().starts_with("```"));
            let text = inside.map(|(_, line)| format!("{}\n", line.get(indentation..).unwrap_or_default())).collect();
            blocks.push(Block { language: language.to_owned(), line: at + 2, text });
        }
        blocks
    }

    /// Lines of `console` blocks that call the program.
    pub(crate) fn commands(&self) -> Vec<(usize, String)> {
        let consoles = self.blocks().into_iter().filter(|block| block.language == "console");
        let lines = consoles.flat_map(|block| {
            let lines: Vec<_> =
                block.text.lines().enumerate().map(|(at, line)| (block.line + at, line.to_owned())).collect();
            lines
        });
        let commands = lines.filter_map(|(at, line)| Some((at, line.strip_prefix("$ ")?.to_owned())));
        commands.filter(|(_, command)| is_ours(command)).collect()
    }

    /// Commands in the running text, between backticks.
    pub(crate) fn spans(&self) -> Vec<(usize, String)> {
        let spans = self.prose().flat_map(|(at, line)| line.split('`').skip(1).step_by(2).map(move |span| (at, span)));
        spans.filter(|(_, span)| is_ours(span)).map(|(at, span)| (at, span.to_owned())).collect()
    }
}

fn is_ours(command: &str) -> bool {
    command.starts_with("portcullis ") || command.contains("| portcullis ")
}

/// README.md and all pages below docs/.
pub(crate) fn pages() -> Vec<Page> {
    let root = Path::new(ROOT);
    let mut names: Vec<String> = files(root.join("docs"))
        .iter()
        .map(|path| path.strip_prefix(root).unwrap().to_str().unwrap().to_owned())
        .filter(|name| name.ends_with(".md"))
        .collect();
    names.push("README.md".to_owned());
    names.sort();
    names.into_iter().map(Page::new).collect()
}

pub(crate) fn files(folder: PathBuf) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(path) } else { vec![path] }).collect()
}

pub(crate) fn read(name: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}
