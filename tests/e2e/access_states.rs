//! Access states of portal groups (ALUA), as operators and initiators set them.

use std::net::SocketAddr;

use serde_json::json;

use super::support::{Daemon, Place, Session};

const WWW: &str = "iqn.2026-01.io.lund:www";
const STANDBY: Option<(u8, u8, u8)> = Some((0x2, 0x04, 0x0b));
const CHANGED: (u8, u8, u8) = (0x6, 0x2a, 0x06);

/// Two groups; the second one is not optimized, and hosts should prefer the first.
const CONFIG: &str = "[iscsi]\nalua = 'both'\n\
    [[iscsi.portal_groups]]\ntag = 1\nlisten = ['127.0.0.1:0']\npreferred = true\n\
    [[iscsi.portal_groups]]\ntag = 2\nlisten = ['127.0.0.2:0']\nstate = 'active-non-optimized'\n";

fn start(place: &Place, config: &str) -> Daemon {
    let config = place.write("lund.toml", config);
    let mut command = place.bare();
    command.args(["--mgmt-listen", "127.0.0.1:0", "--data-dir"]).arg(place.data());
    Daemon::spawn(command.arg("--config").arg(config), place)
}

/// The portals of both groups.
fn portals(daemon: &Daemon) -> [SocketAddr; 2] {
    let lines = daemon.lines.iter().filter_map(|line| line.strip_prefix("iscsi://"));
    let found: Vec<_> = lines.map(|address| address.parse().unwrap()).collect();
    found.try_into().unwrap()
}

/// REPORT TARGET PORT GROUPS: PREF and state of both groups.
fn states(session: &mut Session) -> [u8; 2] {
    let cdb = [0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
    let data = session.run(0, &cdb, 256).unwrap().good();
    assert_eq!((data.len(), data[7], data[19]), (28, 1, 2));
    [data[4], data[16]]
}

/// SET TARGET PORT GROUPS.
fn set(session: &mut Session, group: u8, state: u8) -> Option<(u8, u8, u8)> {
    let cdb = [0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0];
    session.run_with(0, &cdb, &[0, 0, 0, 0, state, 0, 0, group]).unwrap().check()
}

#[test]
fn states_are_set_by_operators_and_initiators_and_outlive_a_crash() {
    let place = Place::new();
    let daemon = start(&place, CONFIG);
    daemon.lunctl(&["disk", "create", "d", "--size", "1MiB"]).ok();
    daemon.expose("www", "d", 0);
    let [first, second] = portals(&daemon);
    let mut sessions = [first, second].map(|portal| Session::login(portal, WWW));
    for session in &mut sessions {
        session.settle(0);
        assert_eq!(states(session), [0x80, 0x01]);
        assert_eq!(session.inquiry(0)[5] & 0x30, 0x30, "TPGS");
    }
    let group = daemon.json(&["portal-group", "set-state", "2", "standby"]);
    assert_eq!((&group["state"], &group["tag"]), (&json!("standby"), &json!(2)));
    assert_eq!(group["configured_state"], "active-non-optimized");
    for session in &mut sessions {
        assert_eq!(session.settle(0), [CHANGED]);
        assert_eq!(states(session), [0x80, 0x02]);
    }
    assert_eq!(sessions[1].ready(0).check(), STANDBY);
    sessions[0].write(0, 0, &[1; 512]);
    // What initiators need to find the disk is there.
    assert_eq!(sessions[1].capacity(0), (2048, 512));
    // An initiator turns it round.
    assert_eq!(set(&mut sessions[1], 2, 0), None);
    assert_eq!(set(&mut sessions[1], 1, 3), None);
    assert_eq!(sessions[0].settle(0), [CHANGED]);
    assert_eq!(states(&mut sessions[1]), [0x83, 0x00]);
    assert_eq!(sessions[1].read(0, 0, 1), [1; 512]);
    let list = daemon.lunctl(&["portal-group", "list"]).ok();
    let rows: Vec<Vec<_>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[1][..4], ["1", "all", "active-optimized", "yes"], "{list}");
    assert_eq!(rows[2][..4], ["1", WWW, "unavailable", "yes"], "{list}");
    assert_eq!(rows[3][..4], ["2", "all", "standby", "no"], "{list}");
    assert_eq!(rows[4][..4], ["2", WWW, "active-optimized", "no"], "{list}");
    daemon.kill();

    let daemon = start(&place, CONFIG);
    let mut session = Session::login(portals(&daemon)[1], WWW);
    session.settle(0);
    assert_eq!(states(&mut session), [0x83, 0x00]);
    // For one target, back to what is said for all; then back to the configuration.
    daemon.lunctl(&["portal-group", "reset", "2", "--target", "www"]).ok();
    assert_eq!(session.settle(0), [CHANGED]);
    assert_eq!(states(&mut session), [0x83, 0x02]);
    daemon.lunctl(&["portal-group", "reset", "1"]).ok();
    daemon.lunctl(&["portal-group", "reset", "2"]).ok();
    assert_eq!(session.settle(0), [CHANGED]);
    assert_eq!(states(&mut session), [0x80, 0x01]);
    daemon.stop();

    let daemon = start(&place, CONFIG);
    let mut session = Session::login(portals(&daemon)[0], WWW);
    session.settle(0);
    assert_eq!(states(&mut session), [0x80, 0x01]);
    daemon.stop();
}

#[test]
fn a_target_that_is_made_anew_begins_with_the_configuration() {
    let place = Place::new();
    let daemon = start(&place, CONFIG);
    daemon.lunctl(&["target", "create", "www"]).ok();
    let set = ["portal-group", "set-state", "2", "unavailable", "--target", "www"];
    let group = daemon.json(&set);
    let own = json!([{ "target": WWW, "state": "unavailable", "explicit": false }]);
    assert_eq!(group["targets"], own);
    daemon.lunctl(&["target", "delete", "www"]).ok();
    daemon.lunctl(&["target", "create", "www"]).ok();
    let groups = daemon.json(&["portal-group", "list"]);
    assert_eq!(groups[1]["targets"], json!([]));
    daemon.kill();
    let daemon = start(&place, CONFIG);
    assert_eq!(daemon.json(&["portal-group", "list"])[1]["targets"], json!([]));
    daemon.stop();
}

#[test]
fn what_cannot_be_set_is_said() {
    let place = Place::new();
    let daemon = start(&place, CONFIG);
    daemon
        .lunctl(&["portal-group", "set-state", "7", "standby"])
        .fails(3, &["no portal group `7`; there are: 1, 2"]);
    let set = ["portal-group", "set-state", "2", "standby", "--target", "gone"];
    daemon.lunctl(&set).fails(3, &["no target `iqn.2026-01.io.lund:gone`"]);
    daemon.lunctl(&["portal-group", "set-state", "2", "asleep"]).fails(2, &["standby"]);
    daemon.stop();
    // Without access states there are none to set, and hosts hear nothing of groups.
    let daemon = start(&place, "[iscsi]\nalua = 'none'\nlisten = ['127.0.0.1:0']\n");
    daemon.lunctl(&["portal-group", "set-state", "1", "standby"]).fails(4, &["iscsi.alua"]);
    daemon.lunctl(&["disk", "create", "d", "--size", "1MiB"]).ok();
    daemon.expose("www", "d", 0);
    let mut session = Session::login(daemon.portal, WWW);
    session.settle(0);
    assert_eq!(session.inquiry(0)[5] & 0x30, 0);
    let cdb = [0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
    assert_eq!(session.run(0, &cdb, 256).unwrap().check(), Some((0x5, 0x24, 0x00)));
    daemon.stop();
}
