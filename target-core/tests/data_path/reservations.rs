//! What the other nexuses of a unit are told when reservations change (SPC-4 §5.13), through three
//! sessions.

use crate::initiator::{Data, Initiator};
use crate::world::{BLOCK, TEST_UNIT_READY, World, read, write};

const PREEMPTED: (u8, u8, u8) = (6, 0x2a, 0x03);
const RELEASED: (u8, u8, u8) = (6, 0x2a, 0x04);
const REGISTRATIONS_PREEMPTED: (u8, u8, u8) = (6, 0x2a, 0x05);
const NOTHING: (u8, u8, u8) = (0, 0, 0);
const RESERVATION_CONFLICT: u8 = 0x18;

const RESERVE: u8 = 1;
const RELEASE: u8 = 2;
const CLEAR: u8 = 3;
const PREEMPT: u8 = 4;
const PREEMPT_AND_ABORT: u8 = 5;
const REGISTER_AND_IGNORE: u8 = 6;

const WRITE_EXCLUSIVE: u8 = 1;
const WRITE_EXCLUSIVE_REGISTRANTS: u8 = 5;
const EXCLUSIVE_ACCESS_REGISTRANTS: u8 = 6;
const WRITE_EXCLUSIVE_ALL: u8 = 7;

/// The status of a PERSISTENT RESERVE OUT.
fn reserve_out(initiator: &mut Initiator, action: u8, kind: u8, keys: (u64, u64)) -> u8 {
    let mut list = [0; 24];
    list[..8].copy_from_slice(&keys.0.to_be_bytes());
    list[8..16].copy_from_slice(&keys.1.to_be_bytes());
    let cdb = [0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0];
    initiator.execute(0, &cdb, Data::Out(&list)).status
}

/// Three nexuses with keys 1 to 3.
fn registered(world: &World) -> [Initiator; 3] {
    let mut nexuses = [world.initiator(&[0]), world.initiator(&[0]), world.initiator(&[0])];
    for (nexus, key) in nexuses.iter_mut().zip(1..) {
        assert_eq!(reserve_out(nexus, REGISTER_AND_IGNORE, 0, (0, key)), 0);
    }
    nexuses
}

/// What each is told, once, then nothing more.
#[track_caller]
fn told(nexuses: &mut [Initiator; 3], expected: [(u8, u8, u8); 3]) {
    for (number, (nexus, expected)) in nexuses.iter_mut().zip(expected).enumerate() {
        // What others sent to a session stands in front of what comes from its initiator.
        nexus.nop();
        let sense = nexus.execute(0, &TEST_UNIT_READY, Data::None).sense();
        assert_eq!(sense, expected, "nexus {number}");
        if expected != NOTHING {
            nexus.execute(0, &TEST_UNIT_READY, Data::None).good();
        }
    }
}

#[test]
fn who_loses_a_reservation_or_a_registration_is_told_of_it() {
    for action in [PREEMPT, PREEMPT_AND_ABORT] {
        let (world, _) = World::with_memory();
        let mut nexuses = registered(&world);
        let [holder, other, _] = &mut nexuses;
        assert_eq!(reserve_out(holder, RESERVE, WRITE_EXCLUSIVE_REGISTRANTS, (1, 0)), 0);
        let kind = WRITE_EXCLUSIVE_REGISTRANTS;
        assert_eq!(reserve_out(other, action, kind, (2, 1)), 0);
        // The same type goes on under another holder: the third has lost nothing.
        told(&mut nexuses, [REGISTRATIONS_PREEMPTED, NOTHING, NOTHING]);
        let block = [7; BLOCK];
        let [former, holder, third] = &mut nexuses;
        let status = former.execute(0, &write(0, 1), Data::Out(&block)).status;
        assert_eq!(status, RESERVATION_CONFLICT);
        for nexus in [holder, third] {
            nexus.execute(0, &write(0, 1), Data::Out(&block)).good();
        }
        // One that holds nothing is preempted.
        let [_, holder, _] = &mut nexuses;
        assert_eq!(reserve_out(holder, action, kind, (2, 3)), 0);
        told(&mut nexuses, [NOTHING, NOTHING, REGISTRATIONS_PREEMPTED]);
    }
}

#[test]
fn a_preemption_that_changes_the_type_is_told_to_those_that_stay() {
    let (world, _) = World::with_memory();
    let mut nexuses = registered(&world);
    let [holder, other, _] = &mut nexuses;
    assert_eq!(reserve_out(holder, RESERVE, WRITE_EXCLUSIVE_REGISTRANTS, (1, 0)), 0);
    assert_eq!(reserve_out(other, PREEMPT, EXCLUSIVE_ACCESS_REGISTRANTS, (2, 1)), 0);
    told(&mut nexuses, [REGISTRATIONS_PREEMPTED, NOTHING, RELEASED]);
    let status = nexuses[0].execute(0, &read(0, 1), Data::In(BLOCK)).status;
    assert_eq!(status, RESERVATION_CONFLICT);
}

#[test]
fn the_release_of_what_all_registrants_share_is_told_to_them() {
    for (kind, others) in [
        (WRITE_EXCLUSIVE, NOTHING),
        (WRITE_EXCLUSIVE_REGISTRANTS, RELEASED),
        (WRITE_EXCLUSIVE_ALL, RELEASED),
    ] {
        let (world, _) = World::with_memory();
        let mut nexuses = registered(&world);
        assert_eq!(reserve_out(&mut nexuses[0], RESERVE, kind, (1, 0)), 0);
        told(&mut nexuses, [NOTHING; 3]);
        assert_eq!(reserve_out(&mut nexuses[0], RELEASE, kind, (1, 0)), 0);
        told(&mut nexuses, [NOTHING, others, others]);
    }
    // So is a release by the last holder's leaving.
    let (world, _) = World::with_memory();
    let mut nexuses = registered(&world);
    let kind = WRITE_EXCLUSIVE_REGISTRANTS;
    assert_eq!(reserve_out(&mut nexuses[0], RESERVE, kind, (1, 0)), 0);
    assert_eq!(reserve_out(&mut nexuses[0], REGISTER_AND_IGNORE, 0, (0, 0)), 0);
    told(&mut nexuses, [NOTHING, RELEASED, RELEASED]);
}

#[test]
fn to_clear_is_told_to_all_others() {
    let (world, _) = World::with_memory();
    let mut nexuses = registered(&world);
    assert_eq!(reserve_out(&mut nexuses[0], RESERVE, WRITE_EXCLUSIVE, (1, 0)), 0);
    // By one that does not hold it.
    assert_eq!(reserve_out(&mut nexuses[2], CLEAR, 0, (3, 0)), 0);
    told(&mut nexuses, [PREEMPTED, PREEMPTED, NOTHING]);
    let block = [7; BLOCK];
    for nexus in &mut nexuses {
        nexus.execute(0, &write(0, 1), Data::Out(&block)).good();
    }
}
