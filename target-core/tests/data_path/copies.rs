//! EXTENDED COPY, and how copies are stopped.

use disk_image::{Gate, Operation};
use iscsi_proto::Lun;
use target_core::{AccessEntry, LunMapping, SessionEnd};

use crate::initiator::{Data, Initiator};
use crate::task_management::{
    ABORT_TASK, ABORT_TASK_SET, CLEAR_TASK_SET, IT_NEXUS_RESET, LOGICAL_UNIT_RESET,
};
use crate::third_party::{IMMED, contents, copy_in, copy_out, full_units, naa};
use crate::wire::PATIENCE;
use crate::world::{BLOCK, TARGET, TEST_UNIT_READY, World, eventually, keys, memory};

const NOT_REACHABLE: (u8, u8, u8) = (0x0a, 0x0d, 0x02);
/// COPY ABORTED without more.
pub const ABORTED: (u8, u8, u8) = (0x0a, 0, 0);

/// Source LUN and block, destination LUN and block, blocks.
pub type Segment = (u16, u64, u16, u64, u16);

fn descriptors(segments: &[Segment]) -> (Vec<u8>, Vec<u8>) {
    let (mut targets, mut list) = (Vec::new(), Vec::new());
    for (index, (from, from_lba, to, to_lba, blocks)) in segments.iter().enumerate() {
        for lun in [from, to] {
            let mut target = [0; 32];
            target[0] = 0xe4;
            target[4..8].copy_from_slice(&[1, 3, 0, 16]);
            target[8..24].copy_from_slice(&naa(*lun));
            target[30] = 2;
            targets.extend(target);
        }
        let index = u8::try_from(index).unwrap() * 2;
        list.extend([2, 0, 0, 0x18, 0, index, 0, index + 1, 0, 0]);
        list.extend(blocks.to_be_bytes());
        list.extend(from_lba.to_be_bytes());
        list.extend(to_lba.to_be_bytes());
    }
    (targets, list)
}

fn lid1(id: u8, segments: &[Segment]) -> ([u8; 16], Vec<u8>) {
    let (targets, segments) = descriptors(segments);
    let mut list = vec![id, 0];
    list.extend(u16::try_from(targets.len()).unwrap().to_be_bytes());
    list.extend([0; 4]);
    list.extend(u32::try_from(segments.len()).unwrap().to_be_bytes());
    list.extend([0; 4]);
    list.extend([targets, segments].concat());
    (copy_out(0x00, 0, list.len()), list)
}

pub fn lid4(id: u32, flags: u8, segments: &[Segment]) -> ([u8; 16], Vec<u8>) {
    let (targets, segments) = descriptors(segments);
    let mut list = vec![0; 48];
    (list[0], list[3], list[15], list[16]) = (1, 0x20, flags, 0xff);
    list[20..24].copy_from_slice(&id.to_be_bytes());
    list[42..44].copy_from_slice(&u16::try_from(targets.len()).unwrap().to_be_bytes());
    list[44..46].copy_from_slice(&u16::try_from(segments.len()).unwrap().to_be_bytes());
    list.extend([targets, segments].concat());
    (copy_out(0x01, 0, list.len()), list)
}

pub fn start(initiator: &mut Initiator, lun: u16, (cdb, list): &([u8; 16], Vec<u8>)) -> u32 {
    initiator.start(lun, cdb, Data::Out(list))
}

#[test]
fn both_forms_copy_and_tell_how_it_went() {
    let (world, images) = full_units(3);
    let mut initiator = world.initiator(&[0, 1, 2]);
    // A command to LUN 0 that copies from LUN 1 to LUN 2, and within LUN 0.
    let segments = [(1, 100, 2, 200, 300), (0, 0, 0, 16000, 10)];
    for (command, back) in [(lid1(5, &segments), false), (lid4(6, 0, &segments), true)] {
        let before = contents(&images[2], 0..200);
        let tag = start(&mut initiator, 0, &command);
        initiator.finish(tag).good();
        assert!(contents(&images[2], 200..500) == contents(&images[1], 100..400));
        assert!(contents(&images[2], 0..200) == before);
        assert!(contents(&images[0], 16000..16010) == contents(&images[0], 0..10));
        if back {
            let data = initiator.execute(0, &copy_in(0x05, 6, true), Data::In(1024)).good();
            assert_eq!((data.len(), data[4], data[5], data[15]), (32, 0x01, 1, 0));
            assert_eq!(data[16..24], (310 * BLOCK as u64).to_be_bytes());
            assert_eq!(data[24..26], [0, 2]);
        } else {
            let data = initiator.execute(0, &copy_in(0x00, 5, false), Data::In(12)).good();
            assert_eq!(data[4..8], [1, 0, 2, 0]);
            assert_eq!(data[8..12], (310 * BLOCK as u32).to_be_bytes());
            // It is told once.
            initiator.execute(0, &copy_in(0x00, 5, false), Data::In(12)).check((5, 0x24, 0));
        }
    }
    // FFFFh: the unit that the command came to.
    let (cdb, mut list) = lid1(5, &[(0, 0, 0, 12000, 3)]);
    let segment = list.len() - 28;
    list[segment + 4..segment + 8].copy_from_slice(&[0xff; 4]);
    initiator.execute(1, &cdb, Data::Out(&list)).good();
    assert!(contents(&images[1], 12000..12003) == contents(&images[1], 0..3));
}

#[test]
fn what_cannot_be_reached_is_named_with_its_segment_and_told_later() {
    let (world, images) = full_units(2);
    let mut initiator = world.initiator(&[0, 1]);
    let command = lid1(9, &[(0, 0, 1, 0, 1), (0, 0, 77, 0, 1)]);
    let before = contents(&images[1], 0..1);
    let tag = start(&mut initiator, 0, &command);
    let outcome = initiator.finish(tag);
    outcome.check((0x0a, 0x08, 0x04));
    // COMMAND-SPECIFIC INFORMATION: the second one. Nothing was copied.
    assert_eq!(outcome.sense[8..12], [0, 0, 0, 1]);
    assert!(contents(&images[1], 0..1) == before);
    // A failure on the way is kept for who asks for it.
    let full = disk_image::Fault::kind(Operation::Write, disk_image::ImageErrorKind::OutOfSpace);
    images[1].inject(full.within(512 * 100..512 * 101));
    let command = lid1(9, &[(0, 0, 1, 0, 1), (0, 0, 1, 100, 1)]);
    let tag = start(&mut initiator, 0, &command);
    let outcome = initiator.finish(tag);
    outcome.check((0x0a, 0x0d, 0x01));
    assert_eq!(outcome.sense[8..12], [0, 0, 0, 1]);
    let data = initiator.execute(0, &copy_in(0x00, 9, false), Data::In(12)).good();
    assert_eq!(data[4..12], [2, 0, 1, 0, 0, 0, 2, 0]);
    let data = initiator.execute(0, &copy_in(0x04, 9, false), Data::In(100)).good();
    assert_eq!((data[56], &data[58..60]), (2, &[0, 18][..]));
    assert_eq!(data[60..], outcome.sense);
    initiator.execute(0, &copy_in(0x04, 9, false), Data::In(100)).check((5, 0x24, 0));
}

/// 4 MiB in four pieces.
const LONG: [Segment; 1] = [(0, 0, 1, 0, 8192)];

/// A copy from LUN 0 to LUN 1, as a command to LUN 0, that is held in front of its first write.
struct Held {
    world: World,
    images: Vec<std::sync::Arc<disk_image::FaultImage>>,
    initiator: Initiator,
    gate: Gate,
    tag: u32,
    writes: u64,
}

impl Held {
    fn new(immediate: bool) -> Self {
        let (world, images) = full_units(2);
        let mut login = world.login();
        // RFC 7144, for I_T NEXUS RESET.
        login.keys.extend(keys(&[("iSCSIProtocolLevel", "2")]));
        let mut initiator = world.log_in(&login);
        for lun in [0, 1] {
            initiator.execute(lun, &TEST_UNIT_READY, Data::None).check((6, 0x29, 0));
        }
        let writes = images[1].calls(Operation::Write);
        let gate = images[1].gate(Operation::Write);
        let command = lid4(3, if immediate { IMMED } else { 0 }, &LONG);
        let tag = start(&mut initiator, 0, &command);
        if immediate {
            initiator.finish(tag).good();
        }
        assert!(gate.wait_for_arrivals(1, PATIENCE));
        Self { world, images, initiator, gate, tag, writes }
    }

    /// Only the piece that was under way has been written.
    fn check_stopped(&self) {
        assert_eq!(self.images[1].calls(Operation::Write), self.writes + 1);
        assert!(contents(&self.images[1], 0..2048) == contents(&self.images[0], 0..2048));
        assert!(contents(&self.images[1], 2048..4096) != contents(&self.images[0], 2048..4096));
    }
}

/// A function ends a copy behind the piece that is being written, and is answered only then.
fn stops(function: u8, lun: u16, immediate: bool, aborts: bool) {
    let mut held = Held::new(immediate);
    let referenced = (function == ABORT_TASK).then_some(held.tag);
    let request = held.initiator.start_function(function, Lun::from_number(lun).0, referenced);
    for _ in 0..3 {
        held.initiator.nop();
    }
    assert!(!held.initiator.is_answered(request), "answered while the copy can still write");
    held.gate.open();
    assert_eq!(held.initiator.finish_function(request), 0);
    held.check_stopped();
    if function == IT_NEXUS_RESET {
        // The session ends with it.
        held.initiator.read_to_end();
        assert!(!held.initiator.is_answered(held.tag), "an aborted command was answered");
        return;
    }
    if !immediate && aborts {
        held.initiator.nop();
        assert!(!held.initiator.is_answered(held.tag), "an aborted command was answered");
    } else if !immediate {
        held.initiator.finish(held.tag).check(ABORTED);
    }
    // Unit attentions of resets.
    held.initiator.execute(0, &TEST_UNIT_READY, Data::None);
    let data = held.initiator.execute(0, &copy_in(0x05, 3, true), Data::In(1024)).good();
    assert_eq!((data[5], &data[16..24]), (0x60, &(1u64 << 20).to_be_bytes()[..]));
}

#[test]
fn abort_task_stops_a_copy() {
    stops(ABORT_TASK, 0, false, true);
}

#[test]
fn abort_task_set_stops_the_copies_of_its_unit() {
    stops(ABORT_TASK_SET, 0, false, true);
    stops(ABORT_TASK_SET, 0, true, true);
}

#[test]
fn a_reset_of_the_unit_that_is_written_stops_a_copy_though_its_command_came_to_another() {
    stops(LOGICAL_UNIT_RESET, 1, false, false);
    stops(LOGICAL_UNIT_RESET, 1, true, false);
    stops(CLEAR_TASK_SET, 1, false, false);
}

#[test]
fn the_loss_of_the_nexus_stops_copies() {
    stops(IT_NEXUS_RESET, 0, false, true);
    stops(IT_NEXUS_RESET, 0, true, true);
}

#[test]
fn copy_operation_abort_is_answered_when_the_copy_has_ended() {
    for immediate in [true, false] {
        let mut held = Held::new(immediate);
        let unknown = held.initiator.execute(0, &copy_out(0x1c, 4, 0), Data::None);
        unknown.check((5, 0x24, 0));
        let abort = held.initiator.start(0, &copy_out(0x1c, 3, 0), Data::None);
        for _ in 0..3 {
            held.initiator.nop();
        }
        assert!(!held.initiator.is_answered(abort), "answered while the copy can still write");
        held.gate.open();
        held.initiator.finish(abort).good();
        held.check_stopped();
        if !immediate {
            held.initiator.finish(held.tag).check(ABORTED);
        }
        // Once more changes nothing.
        held.initiator.execute(0, &copy_out(0x1c, 3, 0), Data::None).good();
    }
}

#[test]
fn preempt_and_abort_fences_copies_of_the_preempted() {
    let mut held = Held::new(true);
    let mut fencer = held.world.initiator(&[0, 1]);
    let mut key = [0; 24];
    key[15] = 7;
    let register = [0x5f, 6, 0, 0, 0, 0, 0, 0, 24, 0];
    held.initiator.execute(1, &register, Data::Out(&key)).good();
    key[15] = 8;
    fencer.execute(1, &register, Data::Out(&key)).good();
    // PREEMPT AND ABORT of key 7, exclusive access for registrants.
    let mut preempt = [0; 24];
    (preempt[7], preempt[15]) = (8, 7);
    let tag = fencer.start(1, &[0x5f, 5, 6, 0, 0, 0, 0, 0, 24, 0], Data::Out(&preempt));
    // It has taken effect when one key is left.
    eventually(|| {
        let keys = fencer.execute(1, &[0x5e, 0, 0, 0, 0, 0, 0, 0, 64, 0], Data::In(64)).good();
        keys[7] == 8
    });
    // And the session of the preempted has heard of it.
    eventually(|| {
        let outcome = held.initiator.execute(1, &TEST_UNIT_READY, Data::None);
        let heard = outcome.status != 0;
        if heard {
            outcome.check((6, 0x2a, 0x05));
        }
        heard
    });
    held.initiator.nop();
    assert!(!fencer.is_answered(tag), "answered while the copy can still write");
    held.gate.open();
    fencer.finish(tag).good();
    held.check_stopped();
}

#[test]
fn a_reservation_by_another_stops_a_copy_at_its_next_piece() {
    let mut held = Held::new(false);
    let mut other = held.world.initiator(&[1]);
    let mut key = [0; 24];
    key[15] = 8;
    other.execute(1, &[0x5f, 6, 0, 0, 0, 0, 0, 0, 24, 0], Data::Out(&key)).good();
    let mut reserve = [0; 24];
    reserve[7] = 8;
    other.execute(1, &[0x5f, 1, 1, 0, 0, 0, 0, 0, 24, 0], Data::Out(&reserve)).good();
    held.gate.open();
    held.initiator.finish(held.tag).check(NOT_REACHABLE);
    held.check_stopped();
}

#[test]
fn a_unit_that_is_taken_away_or_protected_is_written_no_more() {
    for take_away in [true, false] {
        let mut held = Held::new(true);
        let node = held.world.node.clone();
        let task = held.world.spawn(async move {
            if take_away {
                node.remove_unit(TARGET, 1).await.unwrap();
                return;
            }
            let luns = [(0, 0, false), (1, 1, true)];
            let mapping =
                |(seen, lun, read_only): (u16, u16, bool)| LunMapping { seen, lun, read_only };
            let luns = Some(luns.map(mapping).to_vec());
            let entry = AccessEntry { initiator: None, address: None, luns, read_only: false };
            node.set_access(TARGET, Some(vec![entry])).await.unwrap();
        });
        // The session has heard of it.
        let lun = u16::from(!take_away);
        let mut ready = || held.initiator.execute(lun, &TEST_UNIT_READY, Data::None);
        let mut heard = ready();
        while heard.status == 0 {
            heard = ready();
        }
        heard.check(if take_away { (6, 0x3f, 0x0e) } else { (6, 0x2a, 1) });
        assert!(!task.is_finished(), "done while the copy can still write");
        held.gate.open();
        held.world.wait(task);
        held.check_stopped();
        let data = held.initiator.execute(0, &copy_in(0x05, 3, true), Data::In(1024)).good();
        assert_eq!(data[5], 0x60);
    }
}

#[test]
fn what_is_known_of_a_copy_keeps_no_unit_that_was_taken_away() {
    let (world, _images) = full_units(1);
    let unit = crate::third_party::unit(1, memory(8 << 20));
    let alive = std::sync::Arc::downgrade(&unit);
    world.node.add_unit(TARGET, 1, unit).unwrap();
    let mut initiator = world.initiator(&[0, 1]);
    for lun in [0, 1] {
        let tag = start(&mut initiator, lun, &lid4(3, 0, &LONG));
        initiator.finish(tag).good();
    }
    world.block_on(world.node.remove_unit(TARGET, 1)).unwrap();
    eventually(|| alive.strong_count() == 0);
    initiator.execute(0, &TEST_UNIT_READY, Data::None).check((6, 0x3f, 0x0e));
    let data = initiator.execute(0, &copy_in(0x05, 3, true), Data::In(1024)).good();
    assert_eq!(data[5], 1);
}

#[test]
fn a_session_that_ends_takes_its_copies_along() {
    let mut held = Held::new(true);
    let tsih = held.initiator.tsih;
    // It is answered when nothing new is begun any more.
    assert_eq!(held.initiator.log_out(), 0);
    assert!(!held.world.events.ended(tsih), "over while its copy can still write");
    held.gate.open();
    assert_eq!(held.world.events.wait_for_end(tsih), SessionEnd::Logout);
    held.check_stopped();
}

#[test]
fn a_copy_lets_others_of_its_unit_have_their_turn() {
    let (world, images) = full_units(2);
    let mut initiator = world.initiator(&[0, 1]);
    // As many as the unit has threads, and many slices each.
    let segments: Vec<Segment> = vec![(0, 0, 1, 0, 16384); 4];
    let tags: Vec<u32> =
        (0..32).map(|id| start(&mut initiator, 0, &lid4(id, IMMED, &segments))).collect();
    for tag in tags {
        initiator.finish(tag).good();
    }
    initiator.execute(0, &[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0], Data::None).good();
    eventually(|| {
        (0..32).all(|id| {
            let data = initiator.execute(0, &copy_in(0x05, id, true), Data::In(64)).good();
            data[5] == 1
        })
    });
    // More than there may be: TASK SET FULL, and the session goes on.
    let gate = images[1].gate(Operation::Write);
    let tags: Vec<u32> =
        (0..70).map(|id| start(&mut initiator, 0, &lid4(id, IMMED, &LONG))).collect();
    let statuses: Vec<u8> = tags.into_iter().map(|tag| initiator.finish(tag).status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 0x28).count(), 6);
    gate.open();
}
