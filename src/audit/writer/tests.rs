use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use super::*;
use crate::audit::log_paths;
use crate::audit::target::OpenError;
use crate::audit::verify::chains::{LogChain, of_log};
use crate::audit::verify::report::{Completeness, RequestedRange, VerifyReport};
use crate::audit::verify::verify;

mod missing;
mod turns;

const UNLIMITED: Rotation = Rotation { size: None, age: None, keep: None };

/// A log in a folder of its own.
struct Home(PathBuf);

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Home {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("portcullis-audit-{}-{name}", std::process::id()));
        // A test that was killed leaves its folder, and process ids come again.
        let _ = fs::remove_dir_all(&folder);
        Self(folder)
    }

    fn log(&self) -> PathBuf {
        self.0.join("deep/audit.jsonl")
    }

    fn settings(&self, rotation: Rotation) -> WriterSettings {
        let (target, state_directory) = (AuditTarget::File(self.log()), self.0.join("state"));
        let changing = ChangingSettings { rotation, config: "c".to_owned() };
        WriterSettings {
            target,
            instance: "i".to_owned(),
            state_directory,
            changing: Arc::new(ArcSwap::from_pointee(changing)),
        }
    }

    fn writer(&self) -> AuditWriter {
        self.rotating(UNLIMITED)
    }

    /// The thread that signs may still have the file of the writer before.
    fn rotating(&self, rotation: Rotation) -> AuditWriter {
        let deadline = clock::instant() + Duration::from_secs(20);
        loop {
            match AuditWriter::open(self.settings(rotation), Arc::default(), Arc::default()) {
                Err(OpenError::Log { error, .. })
                    if error.kind() == io::ErrorKind::ResourceBusy && clock::instant() < deadline =>
                {
                    thread::yield_now();
                }
                opened => return opened.unwrap(),
            }
        }
    }

    /// One run, from start to end.
    fn run(&self, lines: &[&str]) -> Arc<Health> {
        let writer = self.writer();
        let health = Arc::clone(&writer.health);
        end(writer, lines);
        health
    }

    fn text(&self) -> String {
        fs::read_to_string(self.log()).unwrap()
    }

    fn report(&self) -> VerifyReport {
        let key = PublicKey::read(&self.0.join("state/audit-key.pub")).unwrap();
        verify(&chain_of(&self.log()), &[key], RequestedRange { from: 1, to: None }, |_| {}).unwrap()
    }

    #[track_caller]
    fn is_sound(&self, lines: u64) {
        let report = self.report();
        assert!(report.is_intact() && report.completeness() == Completeness::Complete, "{report:?}");
        assert_eq!((report.lines, report.last.unwrap().sequence), (lines, lines));
    }
}

fn chain_of(log: &Path) -> LogChain {
    of_log(log).unwrap().chains.remove(0)
}

fn end(writer: AuditWriter, lines: &[&str]) {
    let (sender, receiver) = sync_channel(8);
    let thread = writer.start(receiver).unwrap();
    lines.iter().for_each(|line| sender.send(batch(line)).unwrap());
    drop(sender);
    thread.join().unwrap();
}

fn batch(line: &str) -> Batch {
    let mut batch = Batch::default();
    batch.push(|bytes| bytes.extend_from_slice(format!(",\"m\":\"{line}\"}}\n").as_bytes()));
    batch
}

#[test]
fn the_chain_continues_where_the_last_run_ended() {
    let home = Home::new("goes-on");
    home.run(&["1", "2"]);
    home.run(&["3"]);
    let text = home.text();
    assert!(text.lines().zip(1..).all(|(line, number)| line.starts_with(&format!("{{\"seq\":{number},"))), "{text}");
    assert_eq!(text.matches("prev_hash").count(), 1);
    home.is_sound(3);
    for path in [home.log(), log_paths::checkpoints(&home.log()), home.0.join("state/audit-key.pem")] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_torn_last_line_is_cut_off_and_recorded() {
    let home = Home::new("torn");
    home.run(&["1", "2"]);
    let whole = home.text();
    for (torn, says) in [("{\"seq\":3,\"m\":\"\u{1b}", "m\\\":\\\"\\u001b\""), ("{\"seq\":3,\"m\":\"x\"}\n", "x")] {
        fs::write(home.log(), format!("{}{torn}", home.text())).unwrap();
        home.run(&["more"]);
        let text = home.text();
        assert!(text.starts_with(&whole) && text.contains("\"gateway.event\":\"recovered\""), "{text}");
        assert!(text.contains(&format!("\"gateway.cut_bytes\":{},", torn.len())) && text.contains(says), "{text}");
    }
    home.is_sound(6);
    assert_eq!(home.report().recovered, 2);
}

#[test]
fn a_first_line_that_is_torn_is_cut_off_too() {
    let home = Home::new("torn-first");
    home.run(&["1"]);
    let line = home.text();
    fs::write(home.log(), &line[..30]).unwrap();
    fs::remove_file(log_paths::checkpoints(&home.log())).unwrap();
    home.run(&["again"]);
    home.is_sound(2);
}

#[test]
fn a_damaged_or_unchained_log_is_renamed_and_kept() {
    let home = Home::new("damaged");
    fs::create_dir_all(home.log().parent().unwrap()).unwrap();
    let foreign = "{\"seq\":1,\"m\":1}\n{\"seq\":2,\"m\":1}\n";
    fs::write(home.log(), foreign).unwrap();
    home.run(&["1"]);
    assert_eq!(fs::read_to_string(home.log().with_file_name("audit.jsonl.damaged-2-0")).unwrap(), foreign);
    assert!(home.text().starts_with("{\"seq\":3,\"prev_hash\":"), "{}", home.text());
    assert!(home.text().contains("\"gateway.event\":\"damaged\""));
}

#[test]
fn lines_covered_by_a_checkpoint_only_are_recorded_as_missing() {
    let home = Home::new("gone");
    home.run(&["1", "2", "3"]);
    let first = home.text().lines().next().unwrap().to_owned();
    fs::write(home.log(), format!("{first}\n")).unwrap();
    home.run(&[]);
    assert!(home.text().contains("\"gateway.event\":\"missing\",\"gateway.config\":\"c\",\"gateway.missing_from\":2,"));
    let report = home.report();
    assert!(!report.is_intact() || report.completeness() == Completeness::Incomplete);
}

#[test]
fn a_full_disk_breaks_the_log_and_a_bad_path_refuses_the_start() {
    let home = Home::new("full");
    let full = WriterSettings { target: AuditTarget::File("/dev/full".into()), ..home.settings(UNLIMITED) };
    let mut writer = AuditWriter::open(full.clone(), Arc::default(), Arc::default()).unwrap();
    writer.group.begin(Batch::default(), vec![batch("1")]);
    writer.seal();
    assert!(writer.write().is_err() && writer.public_key().is_none());
    let nowhere = WriterSettings { target: AuditTarget::File("/proc/nowhere/audit.jsonl".into()), ..full };
    assert!(AuditWriter::open(nowhere, Arc::default(), Arc::default()).is_err());
}

#[test]
fn a_file_that_another_writer_has_is_refused() {
    let home = Home::new("shared");
    let first = home.writer();
    assert!(AuditWriter::open(home.settings(UNLIMITED), Arc::default(), Arc::default()).is_err());
    drop(first);
    home.writer();
}

#[test]
fn the_chain_continues_in_a_new_file_after_a_move() {
    let home = Home::new("moved");
    let mut writer = home.writer();
    writer.write_batches(vec![batch("1")]);
    fs::rename(home.log(), home.log().with_file_name("audit.jsonl.1")).unwrap();
    writer.write_batches(vec![batch("2")]);
    writer.reopen.store(true, Ordering::Relaxed);
    writer.write_batches(vec![batch("3")]);
    end(writer, &["4"]);
    assert_eq!(home.text().matches("prev_hash").count(), 1);
    home.is_sound(4);
}

#[test]
fn a_partly_written_line_is_moved_whole_to_the_new_file() {
    let home = Home::new("partly");
    let mut writer = home.writer();
    writer.group.begin(Batch::default(), vec![batch("1"), batch("2")]);
    writer.seal();
    let file = writer.output.file_mut().unwrap();
    let part = writer.group.rest().len() - 10;
    file.write(&writer.group.rest()[..part]).unwrap();
    writer.group.written(part);
    fs::rename(home.log(), home.log().with_file_name("audit.jsonl.1")).unwrap();
    writer.check_file().and_then(|()| writer.write()).unwrap();
    writer.finish();
    end(writer, &["3"]);
    assert!(home.text().starts_with("{\"seq\":2,\"prev_hash\":"));
    home.is_sound(3);
}

#[test]
fn changes_by_another_process_are_recorded_and_found() {
    for (name, after) in
        [("emptied", ""), ("cut", "{\"seq\":1"), ("longer", "{\"seq\":1,\"m\":\"x\"}\n{\"seq\":2}\n{}\n")]
    {
        let home = Home::new(name);
        let mut writer = home.writer();
        writer.write_batches(vec![batch("1")]);
        let before = home.text();
        OpenOptions::new().write(true).truncate(true).open(home.log()).unwrap();
        fs::write(home.log(), if name == "longer" { format!("{before}{after}") } else { after.to_owned() }).unwrap();
        writer.write_batches(vec![batch("2")]);
        end(writer, &["3"]);
        let text = home.text();
        assert!(text.contains("\"gateway.event\":\"altered\"") && text.contains("\"m\":\"2\""), "{text}");
        assert!(text.contains("{\"seq\":2,\"prev_hash\":"), "{text}");
        let report = home.report();
        assert!(!report.is_intact() || report.completeness() == Completeness::Incomplete, "{name}: {report:?}");
    }
}

#[test]
fn a_file_that_its_owner_may_not_write_is_broken_until_he_may() {
    let home = Home::new("closed");
    let mut writer = home.writer();
    fs::set_permissions(home.log(), Permissions::from_mode(0o000)).unwrap();
    writer.idle();
    assert!(writer.health.is_broken());
    fs::set_permissions(home.log(), Permissions::from_mode(0o600)).unwrap();
    writer.idle();
    assert!(!writer.health.is_broken());
}

#[test]
fn full_files_are_rotated_and_the_oldest_removed() {
    let home = Home::new("rotates");
    let mut writer = home.rotating(Rotation { size: Some(1000), age: None, keep: Some(2) });
    for _ in 0..80 {
        writer.write_batches(vec![batch("x")]);
    }
    drop(writer);
    end(home.rotating(UNLIMITED), &["last"]);
    let files = chain_of(&home.log()).files;
    assert_eq!(files.len(), 3);
    assert!(files.iter().all(|file| fs::metadata(file).unwrap().len() <= 1000), "{files:?}");
    let report = home.report();
    assert!(report.is_intact() && report.completeness() == Completeness::Complete, "{report:?}");
    assert!(report.first.unwrap() > 50);
    let text: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    assert!(
        text.contains("\"gateway.event\":\"removed\",\"gateway.config\":\"c\",\"gateway.file\":\"audit.jsonl.0000")
    );
}

#[test]
fn an_old_file_is_removed_only_after_its_removed_line() {
    let home = Home::new("removed-first");
    let mut writer = home.rotating(Rotation { size: Some(300), age: None, keep: Some(1) });
    (0..3).for_each(|_| writer.write_batches(vec![batch(&"x".repeat(200))]));
    let [oldest, ..] = &chain_of(&home.log()).files[..] else { panic!() };
    writer.group.begin(Batch::default(), vec![batch(&"x".repeat(200))]);
    writer.rotate_if_due(writer.group.bytes());
    assert!(oldest.exists() && writer.own_lines.ends.len() == 1, "the line is not written yet");
    // As if the process had been killed here.
    drop(writer);
    let report = home.report();
    assert!(report.is_intact() && report.missing.is_empty(), "{report:?}");
}

#[test]
fn an_old_file_is_removed_only_after_its_line_is_signed() {
    let home = Home::new("removed-signed");
    let mut writer = home.rotating(Rotation { size: Some(300), age: None, keep: Some(1) });
    (0..3).for_each(|_| writer.write_batches(vec![batch(&"x".repeat(200))]));
    let [oldest, ..] = &chain_of(&home.log()).files[..] else { panic!() };
    // No checkpoint can be written.
    let blocked = log_paths::checkpoints(&home.log());
    let next = |writer: &mut AuditWriter| writer.write_batches(vec![batch(&"x".repeat(200))]);
    writer.rotate_if_due(1000);
    fs::create_dir(&blocked).unwrap();
    next(&mut writer);
    assert!(oldest.exists());
    fs::remove_dir(&blocked).unwrap();
    next(&mut writer);
    assert!(!oldest.exists());
    // As if the process had been killed here.
    drop(writer);
    let report = home.report();
    assert!(report.is_intact() && report.completeness() == Completeness::Complete, "{report:?}");
    assert!(report.removed > 0 && report.unconfirmed.is_empty(), "{report:?}");
}

#[test]
fn a_file_that_is_old_is_rotated() {
    let home = Home::new("old");
    let mut writer = home.rotating(Rotation { age: Some(Duration::from_secs(3600)), ..UNLIMITED });
    writer.write_batches(vec![batch("1")]);
    writer.began = UnixTime::from_seconds(clock::now().seconds() - 3600);
    writer.write_batches(vec![batch("2")]);
    assert_eq!(chain_of(&home.log()).files.len(), 2);
    end(writer, &[]);
    home.is_sound(2);
}

#[test]
fn a_request_waiting_for_the_disk_learns_of_success_and_failure() {
    let home = Home::new("waits");
    let mut writer = home.writer();
    let waiting = || {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        (Batch { waiters: vec![sender], ..batch("1") }, receiver)
    };
    let (one, mut on_disk) = waiting();
    writer.write_batches(vec![one]);
    assert_eq!(on_disk.try_recv(), Ok(()));
    let (two, mut on_disk) = waiting();
    writer.group.begin(Batch::default(), vec![two]);
    writer.seal();
    writer.write().unwrap();
    fs::remove_file(home.log()).unwrap();
    writer.finish();
    assert!(on_disk.try_recv().is_err(), "the file went with its line");
}

#[test]
fn a_writer_that_dies_leaves_the_log_broken() {
    assert!(Home::new("dies").run(&[]).is_broken());
}
