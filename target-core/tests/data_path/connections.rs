//! A session that goes on over another connection (RFC 7143 §6.3.4).

use std::time::Duration;

use disk_image::Operation;
use iscsi_proto::pdu::FINAL;
use target_core::{NodeConfig, SessionEnd};

use crate::initiator::{Data, Initiator};
use crate::task_management::hanging_write;
use crate::wire::{FULL_FEATURE, Login, OPERATIONAL, Refusal, SECURITY, Wire, login_response};
use crate::world::{
    BLOCK, OTHER_TARGET, TEST_UNIT_READY, World, eventually, keys, memory, read, write,
};

const LOGICAL_UNIT_RESET: u8 = 5;
const RESERVE: [u8; 6] = [0x16, 0, 0, 0, 0, 0];
const RESERVATION_CONFLICT: u8 = 0x18;

/// The login of another connection of a session.
fn again(login: &Login, session: &Initiator) -> Login {
    Login { tsih: session.tsih, keys: Vec::new(), ..login.clone() }
}

#[test]
fn a_session_goes_on_when_the_writes_of_its_old_connection_have_ended() {
    let (world, image) = World::with_memory();
    world.unit(1, memory(1 << 20));
    let login = world.login();
    let mut old = world.log_in(&login);
    old.execute(0, &TEST_UNIT_READY, Data::None).check((6, 0x29, 0));
    old.execute(0, &RESERVE, Data::None).good();
    let gate = image.gate(Operation::Write);
    hanging_write(&mut old, &gate, 1);
    let (tsih, cmd_sn) = (old.tsih, old.cmd_sn);
    let mut wire = Wire::connect(world.address);
    again(&login, &old).begin(&mut wire);
    wire.assert_silent();
    gate.open();
    let mut new = Initiator::logged_in_at(wire, cmd_sn).unwrap();
    old.read_to_end();
    assert_eq!(new.tsih, tsih);
    let sessions = world.node.sessions();
    assert_eq!(sessions.len(), 1);
    assert_eq!((sessions[0].tsih, sessions[0].address), (tsih, new.wire.address()));
    // It is the same nexus: what it was told it knows, and what it holds it keeps.
    let data = new.execute(0, &read(7, 1), Data::In(BLOCK)).good();
    assert_eq!(data, [0xee; BLOCK]);
    new.execute(1, &TEST_UNIT_READY, Data::None).check((6, 0x29, 0));
    let mut other = world.initiator(&[0]);
    assert_eq!(other.execute(0, &RESERVE, Data::None).status, RESERVATION_CONFLICT);
    new.execute(0, &write(0, 1), Data::Out(&[1; BLOCK])).good();
    assert_eq!(new.log_out(), 0);
    assert_eq!(world.events.wait_for_end(tsih), SessionEnd::Logout);
}

#[test]
fn it_goes_on_again_and_again_and_with_writes_that_wait_for_data() {
    let (world, _) = World::with_memory();
    let login = Login { keys: Vec::new(), ..world.login() };
    let mut session = world.log_in(&login);
    session.execute(0, &TEST_UNIT_READY, Data::None).check((6, 0x29, 0));
    for round in 0..5u8 {
        session.hold_r2t = true;
        session.start(0, &write(0, 2048), Data::Out(&vec![0xbb; 1 << 20]));
        while session.held_r2t.pop_front().is_none() {
            assert!(session.pump());
        }
        let login = again(&login, &session);
        let mut next = Initiator::reinstated(world.address, &login, session.cmd_sn).unwrap();
        session.read_to_end();
        let data = [round; BLOCK];
        next.execute(0, &write(9, 1), Data::Out(&data)).good();
        assert_eq!(next.execute(0, &read(9, 1), Data::In(BLOCK)).good(), data);
        session = next;
    }
    assert_eq!(world.node.sessions().len(), 1);
}

#[test]
fn what_the_first_login_has_settled_is_settled() {
    let (world, _) = World::with_memory();
    let login = world.login();
    let old = world.log_in(&login);
    let asked = keys(&[
        ("HeaderDigest", "CRC32C"),
        ("MaxBurstLength", "65536"),
        ("ErrorRecoveryLevel", "0"),
        ("iSCSIProtocolLevel", "2"),
    ]);
    let login = Login { keys: asked, ..again(&login, &old) };
    let mut new = Initiator::reinstated(world.address, &login, old.cmd_sn).unwrap();
    assert_eq!(new.answers["HeaderDigest"], "CRC32C");
    for key in ["MaxBurstLength", "ErrorRecoveryLevel", "iSCSIProtocolLevel"] {
        assert_eq!(new.answers[key], "Reject", "{key}");
    }
    new.nop();
}

#[test]
fn a_login_in_several_steps_knows_the_sessions_number_from_the_first() {
    let (world, _) = World::with_memory();
    let login = world.login();
    let mut old = world.log_in(&login);
    old.execute(0, &TEST_UNIT_READY, Data::None).check((6, 0x29, 0));
    // Another round trip: the turn before it has told its number.
    old.nop();
    let login = again(&login, &old);
    let mut wire = Wire::connect(world.address);
    login.send(&mut wire, FINAL | SECURITY << 2 | OPERATIONAL, &login.introduction());
    let (response, _) = login_response(&mut wire).unwrap();
    assert_eq!(response.exp_cmd_sn.get(), old.cmd_sn);
    // The old connection is not touched before the login has come to its end.
    old.nop();
    login.send(&mut wire, FINAL | OPERATIONAL << 2 | FULL_FEATURE, &[]);
    let mut new = Initiator::logged_in_at(wire, old.cmd_sn).unwrap();
    new.nop();
    old.read_to_end();
}

#[test]
fn only_the_session_itself_can_be_taken_over() {
    let (world, _) = World::with_memory();
    world.target(OTHER_TARGET, target_core::AuthPolicy::None);
    let login = world.login();
    let mut session = world.log_in(&login);
    let own = again(&login, &session);
    for (wrong, status) in [
        (Login { cid: 2, ..own.clone() }, 0x0206),
        (Login { tsih: session.tsih + 1, ..own.clone() }, 0x020a),
        (Login { isid: [0x40, 0, 9, 9, 9, 9], ..own.clone() }, 0x020a),
        (Login { initiator: "iqn.2026-01.org.example:thief".to_owned(), ..own.clone() }, 0x020a),
        (Login { target: Some(OTHER_TARGET.to_owned()), ..own.clone() }, 0x020a),
        (Login { target: None, ..own.clone() }, 0x020a),
    ] {
        assert_eq!(world.refusal(&wrong), Refusal::Status(status), "{wrong:?}");
    }
    session.nop();
    assert_eq!(session.log_out(), 0);
    world.events.wait_for_end(session.tsih);
    assert_eq!(world.refusal(&own), Refusal::Status(0x020a));
}

#[test]
fn functions_end_with_the_connection_they_came_over() {
    let (world, image) = World::with_memory();
    let login = world.login();
    let mut old = world.log_in(&login);
    old.execute(0, &TEST_UNIT_READY, Data::None).check((6, 0x29, 0));
    let mut other = world.initiator(&[0]);
    let gate = image.gate(Operation::Write);
    hanging_write(&mut other, &gate, 1);
    let function = old.start_function(LOGICAL_UNIT_RESET, 0, None);
    old.nop();
    assert!(!old.is_answered(function));
    let login = again(&login, &old);
    let mut new = Initiator::reinstated(world.address, &login, old.cmd_sn).unwrap();
    gate.open();
    // The reset is over when the other session is told of it.
    eventually(|| other.execute(0, &TEST_UNIT_READY, Data::None).status == 0);
    for _ in 0..3 {
        new.nop();
    }
    assert!(!new.is_answered(function), "answered to an initiator that has given it up");
    // It was a reset all the same.
    new.execute(0, &TEST_UNIT_READY, Data::None).check((6, 0x29, 3));
}

#[test]
fn a_new_session_of_the_name_goes_before_a_connection_that_waits() {
    let (world, image) = World::with_memory();
    let login = world.login();
    let mut old = world.log_in(&login);
    old.execute(0, &TEST_UNIT_READY, Data::None).check((6, 0x29, 0));
    let gate = image.gate(Operation::Write);
    hanging_write(&mut old, &gate, 1);
    let mut waits = Wire::connect(world.address);
    again(&login, &old).begin(&mut waits);
    waits.assert_silent();
    let mut fresh = Wire::connect(world.address);
    login.begin(&mut fresh);
    // Refused as soon as it is known that the session ends.
    assert_eq!(login_response(&mut waits).unwrap_err(), Refusal::Status(0x020a));
    fresh.assert_silent();
    gate.open();
    let new = Initiator::logged_in(fresh).unwrap();
    assert_ne!(new.tsih, old.tsih);
    assert_eq!(world.events.wait_for_end(old.tsih), SessionEnd::Reinstated);
}

#[test]
fn a_session_ends_if_its_new_connection_is_given_up() {
    let login_timeout = Duration::from_millis(300);
    let world = World::with(NodeConfig { login_timeout, ..NodeConfig::default() });
    let image = memory(1 << 20);
    world.unit(0, image.clone());
    let login = world.login();
    let mut old = world.log_in(&login);
    old.execute(0, &TEST_UNIT_READY, Data::None).check((6, 0x29, 0));
    let gate = image.gate(Operation::Write);
    hanging_write(&mut old, &gate, 1);
    let mut waits = Wire::connect(world.address);
    again(&login, &old).begin(&mut waits);
    assert_eq!(waits.read_to_end(), []);
    gate.open();
    assert_eq!(world.events.wait_for_end(old.tsih), SessionEnd::Disconnected);
    assert!(world.node.sessions().is_empty());
    world.log_in(&login);
}
