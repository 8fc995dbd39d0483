//! Portal groups: several portals, IPv6, wildcards, and targets that are reached through some only.

use std::net::SocketAddr;

use super::support::{Daemon, Place, Session, discover};

const WWW: &str = "iqn.2026-01.io.lund:www";
const DB: &str = "iqn.2026-01.io.lund:db";

/// The addresses that it has printed.
fn portals(daemon: &Daemon) -> Vec<SocketAddr> {
    let lines = daemon.lines.iter().filter_map(|line| line.strip_prefix("iscsi://"));
    lines.map(|address| address.parse().unwrap()).collect()
}

fn inquiry(session: &mut Session, page: u8) -> Vec<u8> {
    session.run(0, &[0x12, 1, page, 4, 0, 0], 1024).unwrap().good()
}

#[test]
fn targets_are_reached_and_discovered_through_their_groups() {
    let place = Place::new();
    let text = "[[iscsi.portal_groups]]\ntag = 2\nlisten = ['[::1]:0', '127.0.0.2:0']\n\
                [[iscsi.portal_groups]]\ntag = 3\nlisten = ['127.0.0.3:0']\ntargets = ['db']\n";
    let config = place.write("lund.toml", text);
    let daemon = Daemon::spawn(&mut place.configured(&config), &place);
    daemon.lunctl(&["disk", "create", "d", "--size", "1MiB"]).ok();
    daemon.expose("www", "d", 0);
    daemon.lunctl(&["target", "create", "db"]).ok();
    let [first, v6, v4, third] = portals(&daemon)[..] else { panic!("{:?}", daemon.lines) };
    assert!(v6.is_ipv6());

    let found = discover(first);
    let of = |name: &str| {
        let found = found.iter().filter(|(target, _)| target == name);
        found.map(|(_, address)| address.clone()).collect::<Vec<_>>()
    };
    let (one, two, also_two) = (format!("{first},1"), format!("{v6},2"), format!("{v4},2"));
    let three = format!("{third},3");
    assert_eq!(of(WWW), [one.clone(), two.clone(), also_two.clone()]);
    assert_eq!(of(DB), [one, two, also_two, three.clone()]);
    // Where it is not reached, it is told where it is.
    let found = discover(third);
    assert_eq!(found.iter().find(|(target, _)| target == DB).unwrap().1, three);
    assert!(!found.iter().any(|(target, address)| target == WWW && *address == three));
    let refused = Session::try_login(third, WWW).unwrap_err().to_string();
    assert_eq!(refused, "login status 0203");

    let mut session = Session::login(v6, WWW);
    session.settle(0);
    // RELATIVE TARGET PORT IDENTIFIER of the port that was come to; all ports of the target.
    let identification = inquiry(&mut session, 0x83);
    assert!(identification.windows(8).any(|it| it == [0x51, 0x94, 0, 4, 0, 0, 0, 2]));
    let ports = inquiry(&mut session, 0x88);
    for (tag, is_there) in [("0001", true), ("0002", true), ("0003", false)] {
        let name = format!("{WWW},t,0x{tag}");
        let found = ports.windows(name.len()).any(|part| part == name.as_bytes());
        assert_eq!(found, is_there, "{name}");
    }
    let tsih = daemon.json(&["session", "list"])[0]["tsih"].to_string();
    assert_eq!(daemon.json(&["session", "show", &tsih])["target_portal_group_tag"], 2);
    daemon.stop();
}

#[test]
fn wildcards_of_both_families_share_a_port_and_tell_the_address_that_was_come_to() {
    let place = Place::new();
    let free = super::support::free_address();
    let port = free.port();
    let mut command = place.bare();
    command.args(["--iscsi-listen", &format!("0.0.0.0:{port}")]);
    command.args(["--iscsi-listen", &format!("[::]:{port}"), "--mgmt-listen", "127.0.0.1:0"]);
    command.arg("--data-dir").arg(place.data());
    let daemon = Daemon::spawn(&mut command, &place);
    daemon.lunctl(&["target", "create", "www"]).ok();
    for host in ["127.0.0.1", "127.0.0.7", "[::1]"] {
        let found = discover(format!("{host}:{port}").parse().unwrap());
        assert_eq!(found, [(WWW.to_owned(), format!("{host}:{port},1"))]);
    }
    daemon.stop();
}
