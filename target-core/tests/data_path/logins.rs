//! Who is let in, and discovery.

use std::time::Duration;

use iscsi_proto::login::{binary_from_text, binary_to_hex};
use iscsi_proto::pdu::{FINAL, RejectReason};
use iscsi_proto::text;
use md5::{Digest as _, Md5};
use target_core::{
    AuthPolicy, ChapAccount, ChapPolicy, NodeConfig, NodeError, NodeState, Redirect, Secret,
    SessionEnd, TargetAddress,
};

use crate::initiator::{Data, Initiator};
use crate::wire::{FULL_FEATURE, Login, OPERATIONAL, Refusal, SECURITY, Wire, login_response};
use crate::world::{
    BLOCK, Heard, OTHER_TARGET, TARGET, TEST_UNIT_READY, World, eventually, memory, read, write,
};

fn discovery(world: &World) -> Login {
    Login { target: None, keys: Vec::new(), ..world.login() }
}

#[test]
fn a_session_is_there_from_login_to_logout() {
    let (world, _) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    assert_eq!(initiator.answers["TargetPortalGroupTag"], "1");
    assert_eq!(initiator.answers["TargetAlias"], "alias");
    let sessions = world.node.sessions();
    assert_eq!(sessions.len(), 1);
    assert_eq!(sessions[0].tsih, initiator.tsih);
    assert_eq!(sessions[0].address, initiator.wire.address());
    assert_eq!(sessions[0].target.as_deref(), Some(TARGET));
    let heard_of = world.events.wait(|heard| match heard {
        Heard::Up(session) => Some(session.tsih),
        _ => None,
    });
    assert_eq!(heard_of, initiator.tsih);
    assert_eq!(initiator.log_out(), 0);
    assert_eq!(initiator.wire.read_to_end(), []);
    assert_eq!(world.events.wait_for_end(initiator.tsih), SessionEnd::Logout);
    assert!(world.node.sessions().is_empty());
}

#[test]
fn a_lost_connection_ends_its_session() {
    let (world, _) = World::with_memory();
    let initiator = world.initiator(&[0]);
    let tsih = initiator.tsih;
    drop(initiator);
    assert_eq!(world.events.wait_for_end(tsih), SessionEnd::Disconnected);
}

#[test]
fn discovery_names_all_targets_at_the_address_that_was_come_to() {
    let (world, _) = World::with_memory();
    world.target(OTHER_TARGET, AuthPolicy::None);
    let mut initiator = world.log_in(&discovery(&world));
    let answer = initiator.text(b"SendTargets=All\0");
    let address = format!("{},1", world.address);
    let expected = [
        ("TargetName", TARGET),
        ("TargetAddress", &address),
        ("TargetName", OTHER_TARGET),
        ("TargetAddress", &address),
    ];
    assert_eq!(text::parse(&answer).unwrap(), expected);
    let one = format!("SendTargets={}\0", OTHER_TARGET.to_uppercase());
    let answer = initiator.text(one.as_bytes());
    assert_eq!(text::parse(&answer).unwrap(), expected[2..]);
    assert_eq!(initiator.text(b"SendTargets=iqn.2026-01.org.example:none\0"), b"");
    assert_eq!(initiator.log_out(), 0);
}

#[test]
fn an_answer_to_send_targets_that_is_longer_than_a_segment_comes_in_parts() {
    let world = World::new();
    for number in 0..40 {
        world.target(&format!("{OTHER_TARGET}-{number:02}"), AuthPolicy::None);
    }
    let login =
        Login { keys: vec![("MaxRecvDataSegmentLength", "512".to_owned())], ..discovery(&world) };
    let answer = world.log_in(&login).text(b"SendTargets=All\0");
    assert_eq!(text::parse(&answer).unwrap().len(), 2 * 41);
}

#[test]
fn a_normal_session_is_told_of_its_own_target_only() {
    let (world, _) = World::with_memory();
    world.target(OTHER_TARGET, AuthPolicy::None);
    let mut initiator = world.initiator(&[0]);
    let own = format!("TargetName={TARGET}\0TargetAddress={},1\0", world.address);
    assert_eq!(initiator.text(b"SendTargets=\0"), own.as_bytes());
    assert_eq!(initiator.text(format!("SendTargets={OTHER_TARGET}\0").as_bytes()), b"");
    assert_eq!(initiator.text(b"SendTargets=All\0"), b"", "not supported here, and no other key");
}

#[test]
fn a_text_that_is_none_is_rejected_and_a_key_that_is_unknown_is_not_understood() {
    let (world, _) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    for text in [
        "SendTargetsPlease=All\0",
        "sENDtARGETS=aLL\0",
        "SendTargets=Alle\0",
        "SendTargets=A\0",
        "no pair\0",
    ] {
        let reason = initiator.rejected_text(text.as_bytes());
        assert_eq!(reason, RejectReason::ProtocolError, "{text}");
    }
    assert_eq!(initiator.text(b"X-org.example.key=1\0"), b"X-org.example.key=NotUnderstood\0");
    assert_eq!(initiator.text(b"Later=Yes\0"), b"Later=NotUnderstood\0");
}

#[test]
fn a_node_that_starts_or_drains_tells_initiators_to_try_again() {
    let (world, _) = World::with_memory();
    let unknown = Login { target: Some(OTHER_TARGET.to_owned()), ..world.login() };
    for state in [NodeState::Starting, NodeState::Draining] {
        world.node.set_state(state);
        for login in [&world.login(), &discovery(&world), &unknown] {
            assert_eq!(world.refusal(login), Refusal::Status(0x0301));
        }
    }
    world.node.set_state(NodeState::Serving);
    world.initiator(&[0]);
}

#[test]
fn what_is_not_there_is_refused_with_its_status() {
    let (world, _) = World::with_memory();
    let unknown = Login { target: Some(OTHER_TARGET.to_owned()), ..world.login() };
    assert_eq!(world.refusal(&unknown), Refusal::Status(0x0203));
    let login = Login { tsih: 999, ..world.login() };
    assert_eq!(world.refusal(&login), Refusal::Status(0x020a));
    let login = world.login();
    let first = world.log_in(&login);
    let second_connection = Login { tsih: first.tsih, cid: 2, ..login };
    assert_eq!(world.refusal(&second_connection), Refusal::Status(0x0206));
}

#[test]
fn more_sessions_than_allowed_are_refused() {
    let world = World::with(NodeConfig { max_sessions: 2, ..NodeConfig::default() });
    let first = world.log_in(&world.login());
    let _second = world.log_in(&world.login());
    assert_eq!(world.refusal(&world.login()), Refusal::Status(0x0302));
    let tsih = first.tsih;
    drop(first);
    world.events.wait_for_end(tsih);
    world.log_in(&world.login());
}

#[test]
fn sessions_of_one_target_and_of_one_initiator_are_bounded() {
    let per_target = NodeConfig { max_sessions_per_target: 2, ..NodeConfig::default() };
    let per_initiator = NodeConfig { max_sessions_per_initiator: 2, ..NodeConfig::default() };
    for (config, other_target, other_initiator) in
        [(per_target, None, Some(0x0302)), (per_initiator, Some(0x0302), None)]
    {
        let world = World::with(config);
        world.target(OTHER_TARGET, AuthPolicy::None);
        let login = world.login();
        let first = world.log_in(&login);
        let _second = world.log_in(&world.login());
        assert_eq!(world.refusal(&world.login()), Refusal::Status(0x0302));
        let refused = |login: &Login| match Initiator::log_in(world.address, login) {
            Ok(_) => None,
            Err(Refusal::Status(status)) => Some(status),
            Err(Refusal::Closed) => panic!("closed without a word"),
        };
        let target = Some(OTHER_TARGET.to_owned());
        assert_eq!(refused(&Login { target, ..world.login() }), other_target);
        let initiator = "iqn.2026-01.org.example:guest".to_owned();
        assert_eq!(refused(&Login { initiator, ..world.login() }), other_initiator);
        assert_eq!(refused(&discovery(&world)), None, "discovery is counted by itself");
        // Whoever comes back takes no place more.
        let again = world.log_in(&login);
        assert_eq!(world.events.wait_for_end(first.tsih), SessionEnd::Reinstated);
        drop(again);
    }
}

#[test]
fn initiators_of_both_kinds_of_session_are_asked_whether_they_are_there() {
    let nop_interval = Duration::from_millis(300);
    let world = World::with(NodeConfig { nop_interval, ..NodeConfig::default() });
    for login in [world.login(), discovery(&world)] {
        let mut answers = world.log_in(&login);
        // Silent: it reads nothing and says nothing.
        let silent = Login { isid: [0x40, 0, 8, 8, 8, 8], ..login };
        let _silent = world.log_in(&silent);
        while answers.pings < 2 {
            assert!(answers.pump(), "given up though it answers");
        }
        while world.node.sessions().len() > 1 {
            assert!(answers.pump(), "given up though it answers");
        }
        assert_eq!(world.node.sessions()[0].tsih, answers.tsih);
        assert_eq!(answers.log_out(), 0);
        answers.read_to_end();
        eventually(|| world.node.sessions().is_empty());
    }
}

#[test]
fn logins_of_a_target_that_has_moved_are_sent_there() {
    let (world, _) = World::with_memory();
    let (here, there) = (World::new(), world.address);
    let mut stays = here.log_in(&here.login());
    let address = TargetAddress::of_portal(there, 1);
    for (permanent, status) in [(false, 0x0101), (true, 0x0102)] {
        let redirect = Redirect { address: address.clone(), permanent };
        here.node.redirect_target(TARGET, Some(redirect)).unwrap();
        let login = here.login();
        let mut wire = Wire::connect(here.address);
        login.begin(&mut wire);
        let answer = wire.receive().unwrap();
        assert_eq!(answer.bhs[36..38], u16::to_be_bytes(status));
        let pairs = text::parse(&answer.data).unwrap();
        let [("TargetAddress", address)] = pairs[..] else { panic!("{pairs:?}") };
        assert_eq!(wire.read_to_end(), []);
        let mut found = Initiator::log_in(address.parse().unwrap(), &login).unwrap();
        found.execute(0, &TEST_UNIT_READY, Data::None).check((6, 0x29, 0));
    }
    stays.nop();
    here.node.redirect_target(TARGET, None).unwrap();
    here.log_in(&here.login());
    let unknown = here.node.redirect_target(OTHER_TARGET, None);
    assert_eq!(unknown, Err(NodeError::NoSuchTarget(OTHER_TARGET.to_owned())));
}

const SECRET: &[u8] = b"a secret of 16 b";

fn chap() -> AuthPolicy {
    let account = ChapAccount::new("joe", Secret::new(SECRET));
    AuthPolicy::Chap(ChapPolicy { accounts: vec![account], ..ChapPolicy::default() })
}

fn chap_world() -> World {
    let world = World::new();
    world.target(OTHER_TARGET, chap());
    world
}

fn prove(world: &World, name: &str, secret: &[u8]) -> Result<Initiator, Refusal> {
    let login = Login { target: Some(OTHER_TARGET.to_owned()), ..world.login() };
    prove_for(world, &login, name, secret)
}

/// Logs in with CHAP.
fn prove_for(
    world: &World,
    login: &Login,
    name: &str,
    secret: &[u8],
) -> Result<Initiator, Refusal> {
    let mut wire = Wire::connect(world.address);
    let mut text = login.introduction();
    text::push(&mut text, "AuthMethod", "CHAP,None");
    login.send(&mut wire, SECURITY << 2, &text);
    assert_eq!(login_response(&mut wire)?.1["AuthMethod"], "CHAP");
    login.send(&mut wire, SECURITY << 2, b"CHAP_A=5\0");
    let (_, answers) = login_response(&mut wire)?;
    let challenge = binary_from_text(&answers["CHAP_C"]).unwrap();
    let mut md5 = Md5::new();
    md5.update([answers["CHAP_I"].parse().unwrap()]);
    md5.update(secret);
    md5.update(challenge);
    let mut text = Vec::new();
    text::push(&mut text, "CHAP_N", name);
    text::push(&mut text, "CHAP_R", &binary_to_hex(&md5.finalize()));
    login.send(&mut wire, FINAL | SECURITY << 2 | OPERATIONAL, &text);
    assert!(login_response(&mut wire)?.0.transit());
    login.send(&mut wire, FINAL | OPERATIONAL << 2 | FULL_FEATURE, b"ImmediateData=Yes\0");
    Initiator::logged_in(wire)
}

#[test]
fn a_target_with_chap_lets_in_who_knows_the_secret() {
    let world = chap_world();
    let mut initiator = prove(&world, "joe", SECRET).unwrap();
    initiator.execute(0, &TEST_UNIT_READY, Data::None).check((5, 0x25, 0));
    assert_eq!(initiator.log_out(), 0);
}

#[test]
fn discovery_may_want_chap_too() {
    let world = World::new();
    world.node.set_discovery_auth(chap());
    let login = discovery(&world);
    assert_eq!(world.refusal(&login), Refusal::Status(0x0201));
    let wrong = prove_for(&world, &login, "joe", b"another secret!!");
    assert_eq!(wrong.unwrap_err(), Refusal::Status(0x0201));
    let mut initiator = prove_for(&world, &login, "joe", SECRET).unwrap();
    assert!(initiator.text(b"SendTargets=All\0").starts_with(b"TargetName="));
    // Targets have their own say.
    world.log_in(&world.login());
}

#[test]
fn a_target_with_chap_refuses_everybody_else() {
    let world = chap_world();
    let failure = Refusal::Status(0x0201);
    assert_eq!(prove(&world, "joe", b"another secret!!").unwrap_err(), failure);
    assert_eq!(prove(&world, "jim", SECRET).unwrap_err(), failure);
    // Without the security stage at all.
    let login = Login { target: Some(OTHER_TARGET.to_owned()), ..world.login() };
    assert_eq!(world.refusal(&login), failure);
    // With AuthMethod None, and with leaving the stage at once.
    for (flags, method) in
        [(0, "AuthMethod=None\0"), (FINAL | OPERATIONAL, ""), (FINAL | FULL_FEATURE, "")]
    {
        let mut wire = Wire::connect(world.address);
        let mut text = login.introduction();
        text.extend(method.as_bytes());
        login.send(&mut wire, flags, &text);
        assert_eq!(login_response(&mut wire).unwrap_err(), failure);
        assert_eq!(wire.read_to_end(), []);
    }
    assert!(world.node.sessions().is_empty());
}

#[test]
fn an_initiator_that_sends_a_large_pdu_slowly_is_not_silent() {
    let nop_interval = Duration::from_millis(500);
    let world = World::with(NodeConfig { nop_interval, ..NodeConfig::default() });
    world.unit(0, memory(1 << 20));
    let mut initiator = world.initiator(&[0]);
    let data = vec![7; 400 * BLOCK];
    let (tag, bytes) = initiator.command(0, &write(0, 400), Data::Out(&data));
    // The first half at once, so that the rest is waited for; then for three intervals a little now
    // and then.
    let (first, rest) = bytes.split_at(bytes.len() / 2);
    initiator.wire.send_bytes(first);
    for piece in rest.chunks(rest.len().div_ceil(30)) {
        std::thread::sleep(nop_interval / 10);
        assert!(initiator.wire.send_bytes(piece));
    }
    initiator.finish(tag).good();
    assert!(initiator.execute(0, &read(0, 400), Data::In(400 * BLOCK)).good() == data);
}
