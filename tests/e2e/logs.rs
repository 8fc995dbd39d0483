//! The log on standard error.

use rustix::process::Signal;
use serde_json::Value;

use super::support::{Daemon, Place, eventually};

/// The log of a daemon that was started, had something to do and was stopped.
fn log_of(arguments: &[&str], level: Option<&str>) -> String {
    let place = Place::new();
    let mut command = place.command(arguments);
    if let Some(level) = level {
        command.env("LUND_LOG", level);
    }
    let mut daemon = Daemon::spawn(&mut command, &place);
    daemon.lunctl(&["disk", "create", "big", "--size", "1PiB"]).fails(5, &[]);
    daemon.signal(Signal::TERM);
    assert!(daemon.ended().success());
    daemon.log()
}

#[test]
fn it_is_json_lines_where_no_terminal_is() {
    let log = log_of(&[], None);
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &lines {
        for key in ["timestamp", "level", "target"] {
            assert!(line[key].is_string(), "{key}: {line}");
        }
    }
    let of = |text: &str| lines.iter().find(|line| line["message"] == text);
    assert!(of("lund serves").is_some_and(|line| line["level"] == "INFO"), "{log}");
    assert!(of("SIGTERM: lund drains").is_some(), "{log}");
    assert!(of("lund has stopped").is_some(), "{log}");
    assert!(lines.iter().any(|line| line["level"] == "WARN"), "the failed job: {log}");
}

#[test]
fn it_is_for_people_if_asked_for_and_without_colours_in_a_file() {
    let log = log_of(&["--log-format", "human"], None);
    assert!(log.lines().count() >= 3, "{log}");
    assert!(log.contains(" INFO ") && log.contains("lund serves"), "{log}");
    assert!(!log.contains('{') || !log.starts_with('{'), "{log}");
    assert!(!log.contains('\u{1b}'), "{log}");
}

#[test]
fn its_level_can_be_set_by_option_and_environment() {
    let has_info = |log: &str| log.contains("\"INFO\"");
    let quiet = log_of(&["--log-level", "warn"], None);
    assert!(!has_info(&quiet) && quiet.contains("\"WARN\""), "{quiet}");
    assert_eq!(log_of(&[], Some("off")), "");
    assert!(has_info(&log_of(&["--log-level", "info"], Some("off"))), "the option goes first");
}

#[test]
fn what_a_job_logs_has_the_trace_that_clients_are_told() {
    let place = Place::new();
    let daemon = place.start(&[]);
    daemon.lunctl(&["disk", "create", "big", "--size", "1PiB"]).fails(5, &[]);
    daemon.lunctl(&["disk", "create", "small", "--size", "1MiB"]).ok();
    for job in daemon.json(&["job", "list"]).as_array().unwrap() {
        let (id, trace) = (job["id"].as_str().unwrap(), job["trace"].as_str().unwrap());
        assert_eq!(trace, id.replace('-', ""), "as OpenTelemetry writes it");
        assert!(daemon.lunctl(&["job", "show", id]).ok().contains(trace));
        let said = eventually("its end", || {
            let log = daemon.log();
            let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let own = lines.filter(|line| line["span"]["trace"] == trace);
            let said: Vec<_> = own.map(|it| it["message"].as_str().unwrap().to_owned()).collect();
            said.iter().any(|it| it == "the job leaves its worker").then_some(said)
        });
        let failed = said.iter().any(|it| it == "the job failed");
        assert_eq!(failed, job["state"] == "Exception", "{said:?}");
        assert_eq!(said[0], "the job runs");
    }
}
