//! Lines that were removed from outside: the log records that they are missing, and their numbers are not used again.

use super::*;

#[test]
fn lines_cut_off_between_two_runs_are_named_and_not_reused() {
    let home = Home::new("cut-between-runs");
    home.run(&["1", "2", "3"]);
    let first = home.text().lines().next().unwrap().to_owned();
    fs::write(home.log(), format!("{first}\n")).unwrap();
    home.run(&["more"]);
    let text = home.text();
    assert!(text.contains("\"gateway.missing_from\":2,\"gateway.missing_up_to\":3"), "{text}");
    assert!(text.contains("{\"seq\":4,\"prev_hash\":"), "{text}");
    let report = home.report();
    assert_eq!((report.is_intact(), report.completeness()), (true, Completeness::Incomplete), "{report:?}");
}

#[test]
fn a_log_that_was_deleted_between_two_runs_is_named() {
    let home = Home::new("deleted-between-runs");
    home.run(&["1", "2", "3"]);
    fs::remove_file(home.log()).unwrap();
    home.run(&["more"]);
    let text = home.text();
    assert!(text.starts_with("{\"seq\":4,\"prev_hash\":"), "{text}");
    assert!(text.contains("\"gateway.missing_from\":1,\"gateway.missing_up_to\":3"), "{text}");
}

#[test]
fn a_log_that_is_deleted_while_it_is_written_is_named() {
    let home = Home::new("deleted");
    let mut writer = home.writer();
    writer.write_batches(vec![batch("1"), batch("2")]);
    fs::remove_file(home.log()).unwrap();
    writer.write_batches(vec![batch("3")]);
    end(writer, &[]);
    let text = home.text();
    assert!(text.contains("\"gateway.event\":\"missing\""), "{text}");
    assert!(text.contains("\"gateway.missing_from\":1,\"gateway.missing_up_to\":2"), "{text}");
}

#[test]
fn a_log_that_is_renamed_while_it_is_written_lacks_nothing() {
    let home = Home::new("renamed");
    let mut writer = home.writer();
    writer.write_batches(vec![batch("1")]);
    fs::rename(home.log(), home.log().with_file_name("audit.jsonl.1")).unwrap();
    writer.write_batches(vec![batch("2")]);
    end(writer, &[]);
    assert!(!home.text().contains("missing"));
    home.is_sound(2);
}

#[test]
fn surplus_files_are_removed_after_the_lines_that_say_so() {
    let home = Home::new("lowered");
    let rotation = |keep| Rotation { size: Some(300), age: None, keep: Some(keep) };
    let mut writer = home.rotating(rotation(5));
    (0..6).for_each(|_| writer.write_batches(vec![batch(&"x".repeat(200))]));
    end(writer, &[]);
    assert_eq!(chain_of(&home.log()).files.len(), 6);
    let writer = home.rotating(rotation(2));
    assert_eq!(chain_of(&home.log()).files.len(), 6, "no line says so yet");
    end(writer, &[]);
    let files = chain_of(&home.log()).files;
    assert!(files.len() <= 3, "{files:?}");
    let report = home.report();
    assert!(report.is_intact() && report.completeness() == Completeness::Complete, "{report:?}");
}

#[test]
fn a_log_whose_name_begins_like_another_goes_on_by_itself() {
    let home = Home::new("prefix");
    let other = home.log().with_file_name("audit.jsonl.b");
    let settings = WriterSettings { target: AuditTarget::File(other), ..home.settings(UNLIMITED) };
    end(AuditWriter::open(settings, Arc::default(), Arc::default()).unwrap(), &["b1", "b2"]);
    home.run(&["1"]);
    home.is_sound(1);
}
