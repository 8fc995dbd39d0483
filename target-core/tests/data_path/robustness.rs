//! Initiators that break the rules, on purpose or not: what they get is a Reject, a login status
//! or a closed connection, and nobody else notices.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use iscsi_proto::pdu::{
    CONTINUE, DataOut, FINAL, LoginRequest, Reject, RejectReason, ScsiCommand, U24, opcode,
};
use target_core::{AuthPolicy, NodeConfig, SessionEnd};

use crate::initiator::{Data, Initiator};
use crate::reinstatement::fill_up;
use crate::wire::{Login, OPERATIONAL, Refusal, SECURITY, Wire, login_response};
use crate::world::{
    BLOCK, OTHER_TARGET, Random, TEST_UNIT_READY, World, eventually, keys, memory, read, unit,
    write,
};

/// A world with a second target, for whoever does harm.
fn world_to_harm() -> World {
    let (world, _) = World::with_memory();
    world.target(OTHER_TARGET, AuthPolicy::None);
    world.node.add_unit(OTHER_TARGET, 0, unit("harmed", memory(1 << 20))).unwrap();
    world
}

fn harmful(world: &World) -> Login {
    Login { target: Some(OTHER_TARGET.to_owned()), ..world.login() }
}

/// Runs `harm` while another session writes and reads back what it wrote.
fn others_go_on(world: &World, harm: impl FnOnce()) {
    let done = AtomicBool::new(false);
    let mut initiator = world.initiator(&[0]);
    std::thread::scope(|scope| {
        let io = scope.spawn(|| {
            let (mut random, mut rounds) = (Random::new(1), 0);
            while !done.load(Ordering::Relaxed) || rounds == 0 {
                let blocks = 1 + random.below(64);
                let lba = u32::try_from(random.below(16_000)).unwrap();
                let data = random.bytes(blocks * BLOCK);
                initiator.execute(0, &write(lba, blocks), Data::Out(&data)).good();
                let whole = Data::In(data.len());
                assert!(initiator.execute(0, &read(lba, blocks), whole).good() == data);
                rounds += 1;
            }
            assert_eq!(initiator.log_out(), 0);
        });
        // Even if the harm is done to this test.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(harm));
        done.store(true, Ordering::Relaxed);
        io.join().unwrap();
        result.unwrap();
    });
}

#[test]
fn random_bytes_instead_of_a_login_end_the_connection() {
    let world = world_to_harm();
    others_go_on(&world, || {
        let mut random = Random::new(2);
        for _ in 0..150 {
            let mut wire = Wire::connect(world.address);
            let length = 1 + random.below(20_000);
            wire.send_bytes(&random.bytes(length));
            wire.shut_down_sending();
            assert!(wire.read_to_end().iter().all(|it| *it == opcode::LOGIN_RESPONSE));
        }
    });
}

#[test]
fn random_logins_end_with_a_status_or_a_closed_connection() {
    let world = world_to_harm();
    others_go_on(&world, || {
        let mut random = Random::new(3);
        for _ in 0..150 {
            let mut wire = Wire::connect(world.address);
            for _ in 0..1 + random.below(4) {
                // A header that is right but for some bytes, and a text that is not.
                let mut bhs = *LoginRequest { opcode: 0x43, ..LoginRequest::new() }.bytes();
                bhs[1] = random.next() as u8;
                for _ in 0..random.below(4) {
                    bhs[8 + random.below(40)] = random.next() as u8;
                }
                let mut text = harmful(&world).introduction();
                for _ in 0..random.below(6) {
                    let at = random.below(text.len());
                    text[at] = random.next() as u8;
                }
                wire.send(&bhs, &text);
            }
            wire.shut_down_sending();
            let allowed = [opcode::LOGIN_RESPONSE, opcode::REJECT];
            assert!(wire.read_to_end().iter().all(|it| allowed.contains(it)));
        }
    });
}

#[test]
fn a_login_that_is_cut_short_anywhere_leaves_nothing_behind() {
    let world = world_to_harm();
    let mut bytes = Vec::new();
    let header = LoginRequest { opcode: 0x43, flags: 0x87, ..LoginRequest::new() };
    let text = harmful(&world).introduction();
    let rules = Wire::connect(world.address).rules;
    iscsi_proto::codec::encode(&rules, header.bytes(), &[], &text, &mut bytes);
    others_go_on(&world, || {
        for length in 0..bytes.len() {
            let mut wire = Wire::connect(world.address);
            wire.send_bytes(&bytes[..length]);
            wire.shut_down_sending();
            assert_eq!(wire.read_to_end(), []);
        }
    });
    eventually(|| world.node.sessions().is_empty());
}

#[test]
fn random_pdus_in_the_full_feature_phase_harm_nobody_else() {
    let world = world_to_harm();
    others_go_on(&world, || {
        let mut random = Random::new(4);
        let opcodes = [0, 1, 1, 1, 2, 3, 4, 5, 5, 6, 0x10, 0x1c, 0x3f];
        for _ in 0..150 {
            let mut initiator = world.log_in(&harmful(&world));
            let mut cmd_sn = initiator.cmd_sn;
            for _ in 0..1 + random.below(12) {
                let mut bhs = [0; 48];
                bhs.copy_from_slice(&random.bytes(48));
                bhs[0] = opcodes[random.below(opcodes.len())] | (random.next() as u8 & 0x40);
                if random.below(4) > 0 {
                    // Sound enough to get further.
                    (bhs[1], bhs[4]) = (bhs[1] | FINAL, 0);
                    bhs[8..16].fill(0);
                    bhs[16..20].copy_from_slice(&[0, 0, 0, random.next() as u8 & 3]);
                    bhs[20..22].fill(0);
                    bhs[24..28].copy_from_slice(&cmd_sn.to_be_bytes());
                    let operations = [0, 3, 0x12, 0x28, 0x2a, 0x2e, 0x41, 0x42, 0x88, 0x8a, 0xa0];
                    bhs[32] = operations[random.below(operations.len())];
                    bhs[33..38].fill(0);
                    cmd_sn = cmd_sn.wrapping_add(u32::from(bhs[0] & 0x40 == 0));
                }
                let length = random.below(3) * random.below(3000);
                initiator.wire.send(&bhs, &random.bytes(length));
            }
            initiator.wire.shut_down_sending();
            initiator.wire.read_to_end();
        }
    });
    eventually(|| world.node.sessions().is_empty());
}

#[test]
fn random_bytes_in_the_full_feature_phase_harm_nobody_else() {
    let world = world_to_harm();
    others_go_on(&world, || {
        let mut random = Random::new(5);
        for round in 0..100 {
            let login = Login {
                keys: keys(&[
                    ("HeaderDigest", if round % 2 == 0 { "None" } else { "CRC32C" }),
                    ("DataDigest", if round % 3 == 0 { "None" } else { "CRC32C" }),
                ]),
                ..harmful(&world)
            };
            let mut initiator = world.log_in(&login);
            let length = 1 + random.below(100_000);
            initiator.wire.send_bytes(&random.bytes(length));
            initiator.wire.shut_down_sending();
            initiator.wire.read_to_end();
        }
    });
    eventually(|| world.node.sessions().is_empty());
}

/// Sends a PDU and reads what comes; the reason of the Reject, if there is one.
fn rejected(initiator: &mut Initiator, bhs: &[u8; 48], data: &[u8]) -> Option<RejectReason> {
    assert!(initiator.wire.send(bhs, data));
    let received = initiator.wire.receive()?;
    assert_eq!(received.opcode(), opcode::REJECT);
    assert_eq!(received.data, bhs_with_length(bhs, data.len()));
    Reject::view(&received.bhs).reason()
}

fn bhs_with_length(bhs: &[u8; 48], length: usize) -> Vec<u8> {
    let mut bhs = bhs.to_vec();
    bhs[5..8].copy_from_slice(&u32::try_from(length).unwrap().to_be_bytes()[1..]);
    bhs
}

#[test]
fn what_breaks_the_protocol_is_rejected_and_ends_the_session() {
    let (world, _) = World::with_memory();
    let login = LoginRequest { opcode: 0x43, flags: 0x87, ..LoginRequest::new() };
    let mut initiator = world.initiator(&[0]);
    let reason = rejected(&mut initiator, login.bytes(), b"InitiatorName=x\0");
    assert_eq!(reason, Some(RejectReason::ProtocolError));
    assert_eq!(initiator.wire.read_to_end(), []);
    let end = world.events.wait_for_end(initiator.tsih);
    assert!(matches!(end, SessionEnd::ProtocolError(_)));

    // Without an answer: a gap in CmdSN, and a data segment that is longer than was declared.
    let initiator = &mut world.initiator(&[0]);
    initiator.cmd_sn = initiator.cmd_sn.wrapping_add(3);
    initiator.start(0, &TEST_UNIT_READY, Data::None);
    assert_eq!(initiator.wire.read_to_end(), []);
    let initiator = &mut world.initiator(&[0]);
    let header = ScsiCommand { data_segment_length: U24::new(262_145), ..ScsiCommand::new() };
    initiator.wire.send_bytes(header.bytes());
    assert_eq!(initiator.wire.read_to_end(), []);
}

#[test]
fn data_out_in_a_wrong_place_ends_the_session() {
    for (buffer_offset, target_transfer_tag, length) in
        [(512, 0xffff_ffff, 512), (0, 7, 512), (0, 0xffff_ffff, 1024)]
    {
        let (world, _) = World::with_memory();
        let mut initiator = world.initiator(&[0]);
        let command = ScsiCommand {
            flags: ScsiCommand::WRITE,
            initiator_task_tag: 9.into(),
            expected_data_transfer_length: 512.into(),
            cmd_sn: initiator.cmd_sn.into(),
            cdb: [0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
            ..ScsiCommand::new()
        };
        initiator.wire.send(command.bytes(), &[]);
        let data = DataOut {
            flags: FINAL,
            initiator_task_tag: 9.into(),
            target_transfer_tag: u32::into(target_transfer_tag),
            buffer_offset: u32::into(buffer_offset),
            ..DataOut::new()
        };
        let reason = rejected(&mut initiator, data.bytes(), &vec![1; length]);
        assert_eq!(reason, Some(RejectReason::ProtocolError));
        assert_eq!(initiator.wire.read_to_end(), []);
    }
}

#[test]
fn what_can_be_refused_by_itself_leaves_the_session_alone() {
    let (world, _) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    let mut unknown = [0; 48];
    unknown[0] = 0x1c | 0x40;
    let mut snack = [0; 48];
    (snack[0], snack[1]) = (0x10, FINAL);
    let stray = DataOut { flags: FINAL, initiator_task_tag: 77.into(), ..DataOut::new() };
    for (bhs, data) in [(&unknown, 0), (&snack, 0), (stray.bytes(), 512)] {
        initiator.wire.send(bhs, &vec![0; data]);
    }
    initiator.nop();
    use RejectReason as Reason;
    let expected = [Reason::CommandNotSupported, Reason::SnackReject, Reason::InvalidPduField];
    assert_eq!(initiator.rejects, expected);
    // A tag that is in use, while its command waits for data.
    initiator.hold_r2t = true;
    let data = vec![3; 1 << 20];
    let tag = initiator.start(0, &write(0, 2048), Data::Out(&data));
    let twin = ScsiCommand {
        flags: FINAL,
        initiator_task_tag: tag.into(),
        cmd_sn: initiator.cmd_sn.into(),
        ..ScsiCommand::new()
    };
    initiator.cmd_sn = initiator.cmd_sn.wrapping_add(1);
    initiator.wire.send(twin.bytes(), &[]);
    initiator.nop();
    assert_eq!(initiator.rejects.last(), Some(&Reason::TaskInProgress));
    while let Some(r2t) = initiator.held_r2t.pop_front() {
        initiator.answer_r2t(&r2t);
    }
    initiator.finish(tag).good();
}

#[test]
fn data_that_are_damaged_or_lost_fail_their_command_only() {
    let (world, _) = World::with_memory();
    let login =
        Login { keys: keys(&[("DataDigest", "CRC32C"), ("ImmediateData", "No")]), ..world.login() };
    let mut initiator = world.log_in(&login);
    initiator.execute(0, &TEST_UNIT_READY, Data::None).check((6, 0x29, 0));
    initiator.hold_r2t = true;
    for damaged in [true, false] {
        let tag = initiator.start(0, &write(0, 1), Data::Out(&[1; BLOCK]));
        while initiator.held_r2t.is_empty() {
            assert!(initiator.pump());
        }
        let r2t = initiator.held_r2t.pop_front().unwrap();
        let r2t = iscsi_proto::pdu::ReadyToTransfer::view(&r2t);
        let header = DataOut {
            flags: FINAL,
            initiator_task_tag: tag.into(),
            target_transfer_tag: r2t.target_transfer_tag,
            // The PDU of DataSN 0 is missing.
            data_sn: u32::from(!damaged).into(),
            ..DataOut::new()
        };
        let mut bytes = Vec::new();
        let rules = initiator.wire.rules;
        iscsi_proto::codec::encode(&rules, header.bytes(), &[], &[1; BLOCK], &mut bytes);
        bytes[100] ^= u8::from(damaged);
        initiator.wire.send_bytes(&bytes);
        initiator.finish(tag).check((0x0b, 0x47, 0x05));
    }
    assert_eq!(initiator.rejects, [RejectReason::DataDigestError]);
    initiator.hold_r2t = false;
    initiator.execute(0, &write(0, 1), Data::Out(&[2; BLOCK])).good();
}

#[test]
fn a_login_that_does_not_go_on_is_closed() {
    let login_timeout = Duration::from_millis(200);
    let world = World::with(NodeConfig { login_timeout, ..NodeConfig::default() });
    let mut silent = Wire::connect(world.address);
    let mut half = Wire::connect(world.address);
    half.send_bytes(&[0x43; 20]);
    let mut slow = Wire::connect(world.address);
    let login = world.login();
    login.send(&mut slow, SECURITY << 2, &login.introduction());
    assert_eq!(silent.read_to_end(), []);
    assert_eq!(half.read_to_end(), []);
    assert_eq!(slow.read_to_end(), [opcode::LOGIN_RESPONSE]);
    // A session is not a login.
    let mut initiator = world.log_in(&login);
    let mut late = Wire::connect(world.address);
    assert_eq!(late.read_to_end(), []);
    initiator.nop();
}

#[test]
fn more_logins_at_once_than_allowed_are_refused() {
    let world = World::with(NodeConfig { max_logins: 3, ..NodeConfig::default() });
    let login = world.login();
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let mut wire = Wire::connect(world.address);
            login.send(&mut wire, SECURITY << 2, &login.introduction());
            login_response(&mut wire).unwrap();
            wire
        })
        .collect();
    assert_eq!(Wire::connect(world.address).read_to_end(), []);
    assert_eq!(world.refusal(&world.login()), Refusal::Closed);
    drop(waiting);
    // Sessions do not count.
    let mut sessions = Vec::new();
    eventually(|| {
        sessions.extend(Initiator::log_in(world.address, &world.login()));
        sessions.len() == 8
    });
}

#[test]
fn more_text_in_a_login_than_allowed_is_refused() {
    let world = World::new();
    let login = world.login();
    let mut wire = Wire::connect(world.address);
    let text = format!("X-text={}", "x".repeat(8192 - 7));
    for part in 1..=9 {
        login.send(&mut wire, CONTINUE | OPERATIONAL << 2, text.as_bytes());
        let refusal = login_response(&mut wire).err();
        assert_eq!(refusal, (part == 9).then_some(Refusal::Status(0x0200)), "part {part}");
    }
    assert_eq!(wire.read_to_end(), []);
}

/// Resident memory of this process in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

#[test]
fn an_initiator_that_never_reads_takes_a_bounded_part_of_memory() {
    let (world, _) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    let before = resident();
    fill_up(&world, &mut initiator);
    // Thousands more, in whatever window: the target does not come to see them.
    let mut header = ScsiCommand {
        flags: FINAL | ScsiCommand::READ,
        expected_data_transfer_length: (1 << 20).into(),
        cdb: [0x28, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0],
        ..ScsiCommand::new()
    };
    for number in 0..4000_u32 {
        header.initiator_task_tag = (0x1000 + number).into();
        header.cmd_sn = initiator.cmd_sn.wrapping_add(number).into();
        initiator.wire.send(header.bytes(), &[]);
    }
    // Whatever the target wants to do about them it does before the others' commands.
    let mut other = world.initiator(&[0]);
    for _ in 0..100 {
        other.execute(0, &read(0, 64), Data::In(64 * BLOCK)).good();
    }
    let sessions = world.node.sessions();
    let session = sessions.iter().find(|it| it.tsih == initiator.tsih).unwrap();
    assert!(session.commands < 64, "{} commands were taken", session.commands);
    let grown = resident().saturating_sub(before);
    assert!(grown < 512 << 20, "grown by {} MiB", grown >> 20);
}

#[test]
fn a_cdb_of_more_than_16_bytes_is_refused_where_it_goes_beyond_them() {
    let (world, _image) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    // Extended CDB (RFC 7143 §11.2.2.3): 16 more bytes.
    let mut ahs = [0; 20];
    ahs[..4].copy_from_slice(&[0, 17, 1, 0]);
    // READ(16) of one block; an operation code that nobody knows.
    for (operation, sense, pointer) in
        [(0x88, (5, 0x24, 0), [0xc0, 0, 16]), (0xc1, (5, 0x20, 0), [0; 3])]
    {
        let cdb = [operation, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0];
        let (tag, bytes) = initiator.command(0, &cdb, Data::In(BLOCK));
        let mut pdu = bytes[..48].to_vec();
        pdu[4] = 5;
        pdu.extend_from_slice(&ahs);
        initiator.wire.send_bytes(&pdu);
        let outcome = initiator.finish(tag);
        outcome.check(sense);
        // SKSV, C/D, FIELD POINTER.
        assert_eq!(outcome.sense[15..18], pointer);
    }
    initiator.execute(0, &read(0, 1), Data::In(BLOCK)).good();
}
