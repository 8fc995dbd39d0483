//! The configuration file: it counts, and what is wrong in it is named.

use super::support::{Daemon, Place, Session, eventually, exit_of};

/// Starts with this file; its exit status is 2, and its message says each of these.
#[track_caller]
fn refused(text: &str, says: &[&str]) {
    let place = Place::new();
    let path = place.write("lund.toml", text);
    // No other option: what the command line says is not looked for in the file.
    let mut command = place.bare();
    command.arg("--data-dir").arg(place.data()).arg("--config").arg(&path);
    let (status, error) = exit_of(&mut command);
    assert_eq!(status, 2, "{error}");
    for text in [path.to_str().unwrap()].iter().chain(says) {
        assert!(error.contains(text), "{text}: {error}");
    }
    assert!(!place.data().exists(), "what is refused leaves nothing behind");
}

#[test]
fn an_unknown_key_is_named_with_its_file_and_line() {
    refused("[iscsi]\nlisten = ['127.0.0.1:0']\nmax_session = 3\n", &["max_session", "line 3"]);
    refused("\ndatadir = '/x'\n", &["datadir", "line 2"]);
    refused("[iscs]\nlisten = []\n", &["iscs", "line 1"]);
}

#[test]
fn a_value_out_of_range_is_named_with_its_file_and_line() {
    let place = ":3:";
    refused("[iscsi]\n\nmax_sessions = 0\n", &[place, "iscsi.max_sessions", "between 1 and"]);
    refused("[jobs]\n\nmax_running = 65\n", &[place, "jobs.max_running", "between 1 and 64"]);
    refused("[management]\n\nlisten = '0.0.0.0:1'\n", &[place, "management.listen", "loopback"]);
    refused("[log]\n\nlevel = 'a=b=c'\n", &[place, "log.level"]);
}

#[test]
fn a_value_of_the_wrong_type_is_named_with_its_file_and_line() {
    refused("[iscsi]\nlisten = '127.0.0.1:0'\n", &["listen", "line 2"]);
    refused("[iscsi]\nlisten = ['here']\n", &["listen", "line 2"]);
    refused("[log]\nformat = 'pretty'\n", &["format", "pretty", "line 2"]);
    refused("[disks]\novercommit = 'yes'\n", &["overcommit", ":2:", "unlimited"]);
    refused("[disks\n", &["line 1"]);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let place = Place::new();
    let mut command = place.command(&["--config", "nowhere.toml"]);
    let (status, error) = exit_of(&mut command);
    assert_eq!(status, 2, "{error}");
    assert!(error.contains("nowhere.toml"), "{error}");
}

#[test]
fn an_option_that_does_not_exist_or_makes_no_sense_is_wrong_usage() {
    let place = Place::new();
    let cases: &[&[&str]] = &[
        &["--listen", "127.0.0.1:0"],
        &["--iscsi-listen", "somewhere"],
        &["--demo-size", "1GiB"],
        &["--demo", "--demo-size", "big"],
        &["--log-format", "xml"],
        &["--log-level", "a=b=c"],
    ];
    for arguments in cases {
        let (status, error) = exit_of(&mut place.command(arguments));
        assert_eq!(status, 2, "{error}");
        assert!(error.contains(arguments[arguments.len() - 2]), "{arguments:?}: {error}");
    }
}

/// The first character of the log, which begins about when the addresses are printed.
fn first_of_log(daemon: &Daemon) -> char {
    eventually("something is logged", || daemon.log().chars().next())
}

#[test]
fn the_file_counts_where_the_command_line_says_nothing() {
    let place = Place::new();
    let (data, disks) = (place.data(), place.path().join("elsewhere"));
    let text = format!(
        "data_dir = '{}'\n[iscsi]\nlisten = ['127.0.0.1:0', '127.0.0.1:0']\n[management]\n\
         listen = '127.0.0.1:0'\n[disks]\ndirectory = '{}'\n[log]\nformat = 'human'\n",
        data.display(),
        disks.display()
    );
    let path = place.write("lund.toml", &text);
    let daemon = Daemon::spawn(place.bare().arg("--config").arg(&path), &place);
    assert_eq!(daemon.lines.len(), 3, "{:?}", daemon.lines);
    daemon.lunctl(&["disk", "create", "d", "--size", "1MiB"]).ok();
    assert!(daemon.file_of("d").starts_with(&disks));
    assert_eq!(daemon.json(&["pool", "list"])[0]["directory"], disks.to_str().unwrap());
    assert!(first_of_log(&daemon) != '{', "{}", daemon.log());
    daemon.stop();
    // The command line goes before the file.
    let mut command = place.configured(&path);
    let daemon = Daemon::spawn(command.args(["--log-format", "json"]), &place);
    assert_eq!(daemon.lines.len(), 2, "{:?}", daemon.lines);
    assert_eq!(first_of_log(&daemon), '{', "{}", daemon.log());
    daemon.stop();
}

#[test]
fn no_more_sessions_than_configured_are_let_in() {
    let place = Place::new();
    let path = place.write("lund.toml", "[iscsi]\nmax_sessions = 2\n");
    let daemon = Daemon::spawn(&mut place.configured(&path), &place);
    daemon.lunctl(&["target", "create", "few"]).ok();
    let target = "iqn.2026-01.io.lund:few";
    let login = || Session::try_login(daemon.portal, target);
    let (first, _second) = (login().unwrap(), login().unwrap());
    let error = login().unwrap_err().to_string();
    assert!(error.starts_with("login status 03"), "{error}");
    first.logout();
    eventually("there is room again", || login().ok());
}

#[test]
fn a_target_that_has_moved_sends_its_initiators_there() {
    let place = Place::new();
    let text = "[[iscsi.redirects]]\ntarget = 'demo'\naddress = '192.0.2.20'\n";
    let file = place.write("lund.toml", text);
    let arguments = ["--demo", "--demo-size", "64MiB", "--config", file.to_str().unwrap()];
    let daemon = place.start(&arguments);
    // The target comes right behind the addresses.
    eventually("the login is sent elsewhere", || {
        let refused = Session::try_login(daemon.portal, "iqn.2026-01.io.lund:demo").unwrap_err();
        (refused.to_string() == "login status 0101").then_some(())
    });
}
