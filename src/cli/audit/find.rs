//! The lines of one request, for `portcullis explain`.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::Value;

use super::LogFiles;
use super::filter::Filter;
use super::lines::{ChainLines, merge};
use crate::cli::ConfigPath;
use crate::cli::terminal::failed;

/// All lines with this request id, oldest first. Without `files`, in the log of the configuration.
pub(in crate::cli) fn lines_of_request(
    files: &[PathBuf],
    config: &ConfigPath,
    request_id: &str,
) -> Result<Vec<Value>, ExitCode> {
    let log = LogFiles { files: files.to_vec(), config: config.clone() };
    let filter = Filter::of_request(request_id);
    let mut chains: Vec<_> = log.readable()?.into_iter().map(|chain| ChainLines::new(chain.files, &filter)).collect();
    let mut found = Vec::new();
    let read = merge(&mut chains, |line| {
        found.push(line.value);
        found.len() < MAX_LINES
    });
    read.map_err(|error| failed(&error))?;
    Ok(found)
}

/// A request has two lines at most.
const MAX_LINES: usize = 16;
