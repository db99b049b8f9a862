//! How long the writer is busy at a time: lines wait for no flush of a checkpoint, and groups are small.

use super::super::signer::{Job, LATE_AFTER, Step};
use super::*;
use crate::audit::audit_key::AuditKey;
use crate::audit::checkpoint::Checkpoints;
use std::sync::mpsc::{Sender, channel};

/// A writer whose checkpoints the test signs itself, in place of their thread.
fn writer_with_slow_signer(home: &Home) -> (AuditWriter, Receiver<Job>, Sender<Step>) {
    let mut writer = home.writer();
    let key = AuditKey::open(&home.0.join("state")).unwrap();
    let checkpoints = Checkpoints::open(key, &home.log(), 0, 0).unwrap();
    let (signer, jobs, steps) = Signer::without_thread(checkpoints);
    writer.signer = Some(signer);
    (writer, jobs, steps)
}

fn write(writer: &mut AuditWriter, line: &str) {
    writer.write_batches(vec![batch(line)]);
    writer.checkpoint_if_due();
}

fn signed_lines(home: &Home) -> Option<u64> {
    crate::audit::checkpoint::last(&log_paths::checkpoints(&home.log())).map(|link| link.sequence)
}

#[test]
fn lines_are_written_while_a_checkpoint_is_flushed() {
    let home = Home::new("slow-flush");
    let (mut writer, jobs, steps) = writer_with_slow_signer(&home);
    write(&mut writer, "1");
    let job = jobs.try_recv().unwrap();
    write(&mut writer, "2");
    assert_eq!((home.text().lines().count(), signed_lines(&home)), (2, None));
    assert!(jobs.try_recv().is_err(), "one flush at a time");
    job.run(&steps);
    write(&mut writer, "3");
    assert_eq!(signed_lines(&home), Some(1), "only lines from before the flush");
    assert!(!writer.health.is_broken());
    // The last checkpoint needs no thread.
    end(writer, &["4"]);
    home.is_sound(4);
}

#[test]
fn a_failed_flush_breaks_the_log_and_signs_nothing() {
    let home = Home::new("failed-flush");
    let (mut writer, jobs, steps) = writer_with_slow_signer(&home);
    write(&mut writer, "1");
    jobs.try_recv().unwrap().end(Err(io::ErrorKind::StorageFull.into()), &steps);
    writer.checkpoint_if_due();
    assert!(writer.health.is_broken());
    assert_eq!(signed_lines(&home), None);
    // The next try succeeds.
    jobs.try_recv().unwrap().run(&steps);
    write(&mut writer, "2");
    assert!(!writer.health.is_broken());
    assert_eq!(signed_lines(&home), Some(1));
}

#[test]
fn a_request_that_waits_for_the_disk_fails_with_the_flush() {
    let home = Home::new("failed-shared-flush");
    let (mut writer, jobs, steps) = writer_with_slow_signer(&home);
    write(&mut writer, "1");
    jobs.try_recv().unwrap().end(Err(io::ErrorKind::StorageFull.into()), &steps);
    let (waiter, mut on_disk) = tokio::sync::oneshot::channel();
    writer.write_batches(vec![Batch { waiters: vec![waiter], ..batch("2") }]);
    assert!(on_disk.try_recv().is_err() && writer.health.is_broken());
}

#[test]
fn a_request_that_waits_for_the_disk_waits_for_no_signature() {
    let home = Home::new("slow-signature");
    let (mut writer, jobs, steps) = writer_with_slow_signer(&home);
    write(&mut writer, "1");
    let job = jobs.try_recv().unwrap();
    steps.send(Step::Flushed(Ok(()))).unwrap();
    let (waiter, mut on_disk) = tokio::sync::oneshot::channel();
    writer.write_batches(vec![Batch { waiters: vec![waiter], ..batch("2") }]);
    assert_eq!(on_disk.try_recv(), Ok(()));
    job.run(&steps);
    writer.settle(Signer::wait_for_checkpoint).unwrap();
    assert_eq!(signed_lines(&home), Some(1));
}

#[test]
fn a_flush_that_hangs_is_waited_for() {
    let home = Home::new("late-flush");
    let (mut writer, jobs, steps) = writer_with_slow_signer(&home);
    write(&mut writer, "1");
    let is_late = |writer: &AuditWriter, at| writer.signer.as_ref().unwrap().is_late(at);
    let now = clock::instant();
    assert!(!is_late(&writer, now) && is_late(&writer, now + LATE_AFTER));
    jobs.try_recv().unwrap().run(&steps);
    writer.settle(Signer::wait_for_checkpoint).unwrap();
    assert!(!is_late(&writer, now + LATE_AFTER));
}

#[test]
fn a_group_of_lines_is_small() {
    let (sender, receiver) = channel();
    let large = || Batch { bytes: vec![0; GROUP_BYTES / 4], ..Batch::default() };
    (0..100).for_each(|_| sender.send(large()).unwrap());
    assert_eq!(gather(large(), &receiver).len(), 4);
    drop(sender);
    assert_eq!(receiver.iter().count(), 97, "the others wait for their turn");
}
