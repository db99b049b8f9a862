//! Which files are one chain, and which checkpoints cover it.
//!
//! Logs and checkpoints are enumerated separately, so that checkpoints whose log is gone still show which lines are
//! missing. Files of one name belong together, and so do files of which one continues where the other ends. Checks no
//! signature.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::audit::chain::{LineHash, Link, SealedLine, named_previous, sequence};
use crate::audit::{checkpoint, log_paths, recovery};
use crate::telemetry::error_chain::reason;

/// The chains to verify or read.
#[derive(Debug, Default)]
pub(crate) struct LogFileSet {
    pub(crate) chains: Vec<LogChain>,
    /// Files beside a log that do not begin like one, compressed ones for example.
    pub(crate) unread: Vec<PathBuf>,
    /// Other logs beside this one, whose names begin with its name and a dot. Their files are left out.
    pub(crate) other_logs: Vec<PathBuf>,
}

/// The files of one instance.
#[derive(Debug, Default)]
pub(crate) struct LogChain {
    /// In the order of their lines.
    pub(crate) files: Vec<PathBuf>,
    /// Files of checkpoints, those of logs that are gone included.
    pub(crate) checkpoints: Vec<PathBuf>,
    /// Files whose lines are all in another file of the chain.
    pub(crate) copies: Vec<PathBuf>,
    /// The file that the gateway writes, where it is known. It must be there.
    pub(crate) current: Option<PathBuf>,
}

/// Files of one name in one folder.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct LogFamily {
    log: PathBuf,
    files: Vec<PathBuf>,
    checkpoints: Vec<PathBuf>,
}

/// The first and the last link of a file.
struct Ends {
    first: Option<(u64, LineHash)>,
    last: Option<Link>,
}

impl LogChain {
    /// The folder in which its public key is looked for.
    pub(crate) fn folder(&self) -> PathBuf {
        let any = self.files.first().or(self.checkpoints.first());
        any.and_then(|file| file.parent()).map(Path::to_owned).unwrap_or_default()
    }
}

/// The chain of the log that is written at this path.
pub(crate) fn of_log(log: &Path) -> io::Result<LogFileSet> {
    let (mut files, mut unread) = (Vec::new(), Vec::new());
    for path in log_paths::siblings(log)? {
        if begins_like_a_log(&path) { files.push(path) } else { unread.push(path) }
    }
    unread.retain(|path| path.is_file());
    if log.exists() {
        files.push(log.to_owned());
    }
    let family = LogFamily { log: log.to_owned(), files, checkpoints: log_paths::all_checkpoints(log)? };
    let mut chain = chain(vec![family])?;
    chain.current = Some(log.to_owned());
    Ok(LogFileSet { chains: vec![chain], unread, other_logs: log_paths::other_logs(log)? })
}

/// The chains of these files, which may be given in any order.
pub(crate) fn of_files(given: &[PathBuf]) -> io::Result<LogFileSet> {
    let mut families: Vec<LogFamily> = Vec::new();
    for path in given {
        let metadata = fs::metadata(path).map_err(|error| naming(path, &error))?;
        if is_compressed(path) {
            return Err(io::Error::other(format!("`{}` is compressed: decompress it first", path.display())));
        }
        let log = base(path, given);
        let at = families.iter().position(|family| family.log == log).unwrap_or_else(|| {
            families.push(LogFamily { log, ..LogFamily::default() });
            families.len() - 1
        });
        let Some(family) = families.get_mut(at) else { continue };
        let kind =
            if log_paths::log_of_checkpoints(path).is_some() { &mut family.checkpoints } else { &mut family.files };
        let is_same = |other: &PathBuf| fs::metadata(other).is_ok_and(|other| same(&other, &metadata));
        if !kind.iter().any(is_same) {
            kind.push(path.clone());
        }
    }
    for family in &mut families {
        for path in log_paths::all_checkpoints(&family.log)? {
            if !family.checkpoints.contains(&path) {
                family.checkpoints.push(path);
            }
        }
    }
    let mut chains = joined(families)?.into_iter().map(chain).collect::<io::Result<Vec<_>>>()?;
    adopt(&mut chains)?;
    Ok(LogFileSet { chains, ..LogFileSet::default() })
}

/// Adds checkpoints that were kept elsewhere to the chain that holds a line that they cover. Checkpoints that are later
/// than all lines are added to the only chain of the same key. A single chain without checkpoints gets all of them.
fn adopt(chains: &mut Vec<LogChain>) -> io::Result<()> {
    let (mut with, without): (Vec<LogChain>, Vec<LogChain>) =
        std::mem::take(chains).into_iter().partition(|chain| !chain.files.is_empty());
    let is_only = with.len() == 1 && with.iter().all(|chain| chain.checkpoints.is_empty());
    for separate in without {
        let chain = if is_only { Some(0) } else { owner(&with, &separate)? };
        match chain.and_then(|at| with.get_mut(at)) {
            Some(chain) => chain.checkpoints.extend(separate.checkpoints),
            None => chains.push(separate),
        }
    }
    with.append(chains);
    *chains = with;
    Ok(())
}

/// The chain that these checkpoints cover.
fn owner(chains: &[LogChain], separate: &LogChain) -> io::Result<Option<usize>> {
    let signed = checkpoint::unverified(&separate.checkpoints)?;
    let links = signed.iter().map(|(link, _)| (link.sequence, link.head)).collect();
    let mut of_same_key = Vec::new();
    for (at, chain) in chains.iter().enumerate() {
        match agreement(chain, &links)? {
            Some(true) => return Ok(Some(at)),
            Some(false) => {}
            None => {
                let theirs = checkpoint::unverified(&chain.checkpoints)?;
                if theirs.iter().any(|(_, key)| signed.iter().any(|(_, other)| key == other)) {
                    of_same_key.push(at);
                }
            }
        }
    }
    Ok(of_same_key.first().copied().filter(|_| of_same_key.len() == 1))
}

/// Whether a line of the chain is one of these. `None` if the chain holds none of their numbers.
fn agreement(chain: &LogChain, links: &HashMap<u64, LineHash>) -> io::Result<Option<bool>> {
    let mut agrees = None;
    for path in &chain.files {
        let mut lines = BufReader::new(File::open(path).map_err(|error| naming(path, &error))?);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line)? > 0 {
            let link = line.strip_suffix(b"\n").and_then(SealedLine::parse).map(|sealed| sealed.link);
            if let Some((link, head)) = link.and_then(|link| Some((link, links.get(&link.sequence)?))) {
                if link.head == *head {
                    return Ok(Some(true));
                }
                agrees = Some(false);
            }
            line.clear();
        }
    }
    Ok(agrees)
}

/// Families of which one continues where another one ends are one chain.
fn joined(families: Vec<LogFamily>) -> io::Result<Vec<Vec<LogFamily>>> {
    let mut groups: Vec<(Vec<LogFamily>, Vec<Ends>)> = Vec::new();
    for family in families {
        let mut ends = family.files.iter().map(|file| Ends::of(file)).collect::<io::Result<Vec<_>>>()?;
        let mut members = vec![family];
        let mut apart = Vec::new();
        for (others, theirs) in groups {
            if theirs.iter().any(|one| ends.iter().any(|two| one.precedes(two) || two.precedes(one))) {
                members.extend(others);
                ends.extend(theirs);
            } else {
                apart.push((others, theirs));
            }
        }
        apart.push((members, ends));
        groups = apart;
    }
    Ok(groups.into_iter().map(|(families, _)| families).collect())
}

impl Ends {
    fn of(path: &Path) -> io::Result<Self> {
        let first = named_previous(&head_of(path)?);
        Ok(Self { first, last: recovery::end(path) })
    }

    fn precedes(&self, next: &Self) -> bool {
        let (Some(last), Some((first, previous))) = (self.last, next.first) else { return false };
        last.sequence + 1 == first && last.head == previous
    }
}

/// Files in the order of their lines; empty ones and copies are left out.
fn chain(families: Vec<LogFamily>) -> io::Result<LogChain> {
    let mut chain = LogChain::default();
    let mut numbered = Vec::new();
    for family in families {
        for path in family.files {
            let head = head_of(&path)?;
            if !head.is_empty() {
                let length = fs::metadata(&path).map_err(|error| naming(&path, &error))?.len();
                // Of two that begin with the same line the longer comes first.
                numbered.push((sequence(&head).unwrap_or(0), u64::MAX - length, path));
            }
        }
        chain.checkpoints.extend(family.checkpoints);
    }
    numbered.sort();
    let mut before = None;
    for (number, _, path) in numbered {
        match (before, chain.files.last()) {
            (Some(other), Some(whole)) if other == number && is_beginning_of(&path, whole)? => chain.copies.push(path),
            _ => chain.files.push(path),
        }
        before = Some(number);
    }
    chain.checkpoints.sort();
    Ok(chain)
}

/// Whether `whole` begins with all that `path` holds.
fn is_beginning_of(path: &Path, whole: &Path) -> io::Result<bool> {
    const BLOCK: u64 = 64 * 1024;
    let open = |path: &Path| File::open(path).map_err(|error| naming(path, &error));
    let (mut path, mut whole) = (open(path)?, open(whole)?);
    loop {
        let (mut one, mut two) = (Vec::new(), Vec::new());
        let read = path.by_ref().take(BLOCK).read_to_end(&mut one)?;
        whole.by_ref().take(read as u64).read_to_end(&mut two)?;
        if read == 0 || one != two {
            return Ok(read == 0);
        }
    }
}

/// The path of the log that this file is or was.
fn base(path: &Path, given: &[PathBuf]) -> PathBuf {
    let log = log_paths::log_of_checkpoints(path).unwrap_or_else(|| path.to_owned());
    let Some(name) = log.file_name().and_then(|name| name.to_str()) else { return log };
    let (before, suffix) = name.rsplit_once('.').unwrap_or((name, ""));
    if log_paths::is_of_log(suffix) {
        return path.with_file_name(before);
    }
    let whole = path.with_file_name(name);
    let has_checkpoints = |log: &Path| log_paths::checkpoints(log).exists();
    if has_checkpoints(&whole) {
        return whole;
    }
    let is_log = |path: &Path| given.iter().any(|other| other == path) || has_checkpoints(path);
    let dots = name.match_indices('.').map(|(at, _)| at).rev();
    let mut shorter = dots.filter_map(|at| name.get(..at)).map(|name| path.with_file_name(name));
    shorter.find(|log| is_log(log)).unwrap_or(whole)
}

fn same(one: &fs::Metadata, two: &fs::Metadata) -> bool {
    (one.dev(), one.ino()) == (two.dev(), two.ino())
}

fn head_of(path: &Path) -> io::Result<Vec<u8>> {
    const ENOUGH: u64 = 128;
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(ENOUGH).read_to_end(&mut head));
    read.map(|_| head).map_err(|error| naming(path, &error))
}

fn begins_like_a_log(path: &Path) -> bool {
    path.is_file() && head_of(path).is_ok_and(|head| head.starts_with(b"{\"seq\":"))
}

/// Whether a file is compressed by gzip, zstd, xz or bzip2.
fn is_compressed(path: &Path) -> bool {
    const MAGIC: [&[u8]; 4] = [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ", b"BZh"];
    head_of(path).is_ok_and(|head| MAGIC.iter().any(|magic| head.starts_with(magic)))
}

/// The error with its path.
pub(super) fn naming(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot read `{}`: {}", path.display(), reason(error)))
}
