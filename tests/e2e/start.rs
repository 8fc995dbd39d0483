//! Starting: what is printed, what is made, who is refused.

use std::os::unix::process::ExitStatusExt as _;

use rustix::process::Signal;

use super::support::{
    Daemon, MIB, PATIENCE, Place, Session, eventually, exit_of, free_address, lunctl,
};

#[test]
fn it_starts_with_no_configuration_at_all_and_prints_two_addresses() {
    let place = Place::new();
    let mut command = place.bare();
    command.args(["--iscsi-listen", "127.0.0.1:0", "--mgmt-listen", "127.0.0.1:0"]);
    let mut daemon = Daemon::spawn(&mut command, &place);
    assert!(place.path().join("lund-data/disks").is_dir());
    assert!(place.path().join("lund-data/lund.lock").is_file());
    assert_eq!(daemon.json(&["disk", "list"]), serde_json::json!([]));
    daemon.signal(Signal::TERM);
    assert!(daemon.ended().success());
    daemon.read_to_end();
    let expected =
        [format!("iscsi://{}", daemon.portal), format!("http://{}/cimom", daemon.management)];
    assert_eq!(daemon.lines, expected);
}

#[test]
fn every_portal_gets_a_line_and_serves() {
    let place = Place::new();
    let mut daemon = place.start(&["--iscsi-listen", "127.0.0.1:0"]);
    daemon.lunctl(&["target", "create", "two"]).ok();
    let portals: Vec<_> =
        daemon.lines[..2].iter().map(|line| line.strip_prefix("iscsi://").unwrap()).collect();
    assert_ne!(portals[0], portals[1]);
    for portal in &portals {
        Session::login(portal.parse().unwrap(), "iqn.2026-01.io.lund:two").logout();
    }
    assert_eq!(daemon.json(&["status"])["portals"], serde_json::json!(portals));
    daemon.signal(Signal::TERM);
    assert!(daemon.ended().success());
}

#[test]
fn the_demo_prints_a_url_and_three_ways_to_use_it() {
    let place = Place::new();
    let daemon = place.start_demo();
    let (portal, management) = (daemon.portal, daemon.management);
    let target = "iqn.2026-01.io.lund:demo";
    let expected = [
        format!("iscsi://{portal}"),
        format!("http://{management}/cimom"),
        format!("iscsi://{portal}/{target}/0"),
        "# with the Linux initiator:".to_owned(),
        format!("iscsiadm -m discovery -t sendtargets -p {portal}"),
        format!("iscsiadm -m node -T {target} -p {portal} --login"),
        "# with QEMU:".to_owned(),
        format!("qemu-img info iscsi://{portal}/{target}/0"),
        "# manage it:".to_owned(),
        format!("lunctl --server http://{management} disk list"),
    ];
    let mut daemon = daemon;
    daemon.read_lines(expected.len() - daemon.lines.len());
    assert_eq!(daemon.lines, expected);
    let mut session = Session::login(portal, target);
    session.settle(0);
    assert_eq!(session.capacity(0), (64 * MIB / 512, 512));
    assert_eq!(&session.inquiry(0)[..1], [0], "a disk");
    assert_eq!(session.report_luns(), [0]);
}

#[test]
fn the_demo_disk_of_an_earlier_run_is_served_again() {
    let place = Place::new();
    let daemon = place.start_demo();
    let before = daemon.json(&["disk", "list"]);
    let mut session = Session::login(daemon.portal, "iqn.2026-01.io.lund:demo");
    session.settle(0);
    session.write(0, 8, &[7; 512]);
    drop(session);
    daemon.stop();
    let daemon = place.start_demo();
    assert_eq!(daemon.json(&["disk", "list"])[0]["id"], before[0]["id"]);
    let mut session = Session::login(daemon.portal, "iqn.2026-01.io.lund:demo");
    session.settle(0);
    assert_eq!(session.read(0, 8, 1), [7; 512]);
}

#[test]
fn a_second_daemon_on_the_same_data_is_refused_and_told_who_has_it() {
    let place = Place::new();
    let first = place.start(&[]);
    let (status, error) = exit_of(&mut place.command::<&str>(&[]));
    assert_eq!(status, 1, "{error}");
    assert!(error.contains(&format!("process {}", first.pid())), "{error}");
    assert!(error.contains(&place.data().display().to_string()), "{error}");
    first.lunctl(&["status"]).ok();
    first.stop();
    place.start(&[]).stop();
}

#[test]
fn data_of_a_daemon_that_was_killed_can_be_used_at_once() {
    let place = Place::new();
    place.start(&[]).kill();
    place.start(&[]).stop();
}

#[test]
fn an_address_in_use_is_named_with_the_option_that_changes_it() {
    let place = Place::new();
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    for option in ["--iscsi-listen", "--mgmt-listen"] {
        let mut command = place.bare();
        command.arg("--data-dir").arg(place.data());
        for each in ["--iscsi-listen", "--mgmt-listen"] {
            command.args([each, if each == option { &taken } else { "127.0.0.1:0" }]);
        }
        let (status, error) = exit_of(&mut command);
        assert_eq!(status, 1, "{error}");
        assert!(error.contains(&taken) && error.contains(option), "{error}");
    }
}

#[test]
fn management_is_not_offered_to_other_machines() {
    let place = Place::new();
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:5988"] {
        let (status, error) = exit_of(&mut place.command(&["--mgmt-listen", address]));
        assert_eq!(status, 2, "{error}");
        assert!(error.contains("--mgmt-listen"), "{error}");
    }
    assert!(!place.data().exists(), "what is refused leaves nothing behind");
}

#[test]
fn a_data_directory_that_cannot_be_made_is_named() {
    let place = Place::new();
    let file = place.write("file", "not a directory");
    let mut command = place.bare();
    command.args(["--iscsi-listen", &free_address().to_string(), "--mgmt-listen", "127.0.0.1:0"]);
    let (status, error) = exit_of(command.arg("--data-dir").arg(file.join("data")));
    assert_eq!(status, 1, "{error}");
    assert!(error.contains("file/data"), "{error}");
}

#[test]
fn a_reader_that_closes_standard_output_does_not_end_the_daemon() {
    let place = Place::new();
    let mut command = place.bare();
    let (iscsi, management) = (free_address(), free_address());
    command.args(["--iscsi-listen", &iscsi.to_string()]);
    command.args(["--mgmt-listen", &management.to_string()]).arg("--data-dir").arg(place.data());
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    command.stdout(writer).stderr(std::process::Stdio::null());
    let mut process = command.spawn().unwrap();
    drop(command);
    let served = eventually("it serves", || {
        process.try_wait().unwrap().map(Err).or_else(|| {
            std::net::TcpStream::connect_timeout(&management, PATIENCE).is_ok().then_some(Ok(()))
        })
    });
    // It prints just after it listens: only a second answer shows that it has survived that.
    let answers = lunctl(&format!("http://{management}"), &["status"]);
    process.kill().unwrap();
    let end = process.wait().unwrap();
    assert!(served.is_ok(), "{served:?}");
    assert_eq!((answers.status, end.signal()), (0, Some(9)), "{answers:?}");
}
