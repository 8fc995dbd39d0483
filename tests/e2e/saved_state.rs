//! `lunctl state export` and `lund import-state`: everything comes back after a lost database.

use std::process::Command;

use super::support::{Place, Run};

fn import(place: &Place, arguments: &[&str]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lund"));
    command.args(["import-state", "--data-dir"]).arg(place.data()).args(arguments);
    Run::of(&mut command)
}

#[test]
fn what_was_exported_is_there_again_after_database_and_journal_are_lost() {
    let place = Place::new();
    let daemon = place.start(&[]);
    daemon.lunctl(&["disk", "create", "a", "--size", "1MiB"]).ok();
    daemon.expose("t", "a", 3);
    let file = place.path().join("saved");
    let file = file.to_str().unwrap();
    daemon.lunctl(&["state", "export", "--output", file]).ok();
    daemon.lunctl(&["state", "export", "--output", file]).fails(1, &["not saved"]);
    let text = daemon.lunctl(&["state", "export"]).ok();
    assert_eq!(text.lines().count(), 1, "{text}");
    let before = [daemon.json(&["disk", "list"]), daemon.json(&["target", "list"])];
    import(&place, &[file]).fails(1, &["in use by another daemon"]);
    daemon.stop();
    import(&place, &[file]).fails(1, &["records already"]);
    std::fs::remove_dir_all(place.data().join("db")).unwrap();
    std::fs::remove_file(place.data().join("journal.jsonl")).unwrap();
    let said = import(&place, &[file]).ok();
    assert!(said.contains("records imported"), "{said}");
    let said = import(&place, &[file, "--replace"]).ok();
    assert!(said.contains("is kept as"), "{said}");
    let daemon = place.start(&[]);
    assert_eq!([daemon.json(&["disk", "list"]), daemon.json(&["target", "list"])], before);
    assert_eq!(daemon.json(&["status"])["alerts"], serde_json::json!([]));
    daemon.stop();
}
