//! Copies by tokens: POPULATE TOKEN, WRITE USING TOKEN, RECEIVE ROD TOKEN INFORMATION.

use std::sync::Arc;

use disk_image::{Fault, ImageErrorKind, OpenOptions, Operation, RawImage};
use scsi::Device;
use target_core::{AccessEntry, AuthPolicy, InitiatorPattern, LogicalUnit, LunMapping, UnitConfig};

use crate::initiator::{Data, Initiator};
use crate::task_management::LOGICAL_UNIT_RESET;
use crate::third_party::{
    DEL_TKN, IMMED, MIB, contents, copy_in, copy_out, full_units, naa, populate_list, unit,
    zero_token,
};
use crate::wire::{Login, PATIENCE};
use crate::world::{
    BLOCK, OTHER_TARGET, Random, TARGET, TEST_UNIT_READY, World, eventually, memory, read, write,
};

const REVOKED: (u8, u8, u8) = (5, 0x23, 0x06);
const UNKNOWN: (u8, u8, u8) = (5, 0x23, 0x04);
const NOT_REACHABLE: (u8, u8, u8) = (0x0a, 0x0d, 0x02);
const CONFLICT: u8 = 0x18;

const ANN: &str = "iqn.2026-01.org.example:ann";
const BOB: &str = "iqn.2026-01.org.example:bob";

#[test]
fn data_goes_where_it_is_wanted_and_nowhere_else() {
    let (world, images) = full_units(2);
    let mut initiator = world.initiator(&[0, 1]);
    let (source, before) = (contents(&images[0], 0..16384), contents(&images[1], 0..16384));
    let blocks = |from: usize, count: usize| source[from * BLOCK..(from + count) * BLOCK].to_vec();
    // Three pieces become two, of which the second begins in the middle of a piece.
    let token = initiator.token(0, &[(100, 10), (5000, 3000), (7, 1)]);
    initiator.write_using(1, &token, &[(1000, 5), (9000, 3006)]).good();
    let standing = initiator.standing(1, 2);
    assert_eq!((standing.status, standing.units, standing.count), (1, 0xf1, 3011));
    assert!(standing.token.is_empty());
    let after = contents(&images[1], 0..16384);
    assert!(after[1000 * BLOCK..1005 * BLOCK] == blocks(100, 5));
    let expected = [blocks(105, 5), blocks(5000, 3000), blocks(7, 1)].concat();
    assert!(after[9000 * BLOCK..12006 * BLOCK] == expected);
    assert!(after[..1000 * BLOCK] == before[..1000 * BLOCK]);
    assert!(after[1005 * BLOCK..9000 * BLOCK] == before[1005 * BLOCK..9000 * BLOCK]);
    assert!(after[12006 * BLOCK..] == before[12006 * BLOCK..]);
    // Again, from an offset on, and within the unit itself.
    let tag = initiator.start_write(0, 3, (0, 9), &token, &[(16000, 2)]);
    initiator.finish(tag).good();
    assert!(contents(&images[0], 16000..16002) == [blocks(109, 1), blocks(5000, 1)].concat());
    assert!(contents(&images[0], 0..16000) == source[..16000 * BLOCK]);
    // Not beyond its end.
    for (offset, count) in [(3010, 2), (3011, 1), (u64::MAX, 1), (0, 3012)] {
        let tag = initiator.start_write(1, 3, (0, offset), &token, &[(0, count)]);
        let outcome = initiator.finish(tag);
        outcome.check((5, 0x26, 0));
        // The field pointer names OFFSET INTO ROD.
        assert_eq!(outcome.sense[15..18], [0x80, 0, 8]);
    }
    let tag = initiator.start_write(1, 3, (0, 3010), &token, &[(0, 1)]);
    initiator.finish(tag).good();
    assert!(contents(&images[1], 0..1) == blocks(7, 1));
}

#[test]
fn holes_are_copied_as_holes() {
    let world = World::new();
    let images = [memory(4 * MIB), memory(4 * MIB)];
    for (lun, image) in [(0, &images[0]), (1, &images[1])] {
        world.node.add_unit(TARGET, lun, unit(lun, image.clone())).unwrap();
    }
    let mut initiator = world.initiator(&[0, 1]);
    initiator.execute(1, &write(0, 64), Data::Out(&[0xee; 64 * BLOCK])).good();
    let token = initiator.token(0, &[(0, 8192)]);
    initiator.write_using(1, &token, &[(0, 8192)]).good();
    assert_eq!(initiator.execute(1, &read(0, 1), Data::In(BLOCK)).good(), [0; BLOCK]);
    // GET LBA STATUS: all of it is deallocated.
    let cdb = [0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 24, 0, 0];
    let status = initiator.execute(1, &cdb, Data::In(24)).good();
    assert_eq!((&status[16..20], status[20]), (&8192u32.to_be_bytes()[..], 1));
}

#[test]
fn the_zero_token_writes_zeroes() {
    let (world, images) = full_units(1);
    let mut initiator = world.initiator(&[0]);
    initiator.write_using(0, &zero_token(), &[(10, 3), (100, 1)]).good();
    assert_eq!(initiator.standing(0, 2).count, 4);
    assert_eq!(contents(&images[0], 10..13), [0; 3 * BLOCK]);
    assert_eq!(contents(&images[0], 100..101), [0; BLOCK]);
    for block in [9, 13, 99, 101] {
        assert_ne!(contents(&images[0], block..block + 1), [0; BLOCK]);
    }
}

#[test]
fn a_change_of_the_source_ends_a_token_whoever_makes_it() {
    let (world, images) = full_units(2);
    let mut initiator = world.initiator(&[0, 1]);
    let mut other = world.initiator(&[0]);
    let before = contents(&images[1], 0..200);
    let block = [0x77; BLOCK];
    let unmap = [0, 22, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 150, 0, 0, 0, 1, 0, 0, 0, 0];
    let mut compare = [0; 16];
    (compare[0], compare[9], compare[13]) = (0x89, 150, 1);
    let mut write_same = [0; 16];
    (write_same[0], write_same[9], write_same[13]) = (0x93, 150, 1);
    let current = contents(&images[0], 150..151);
    let both = [&current[..], &block].concat();
    let changes: [(&[u8], &[u8]); 4] = [
        (&compare, &both),
        (&write(150, 1), &block),
        (&write_same, &block),
        (&[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], &unmap),
    ];
    for (cdb, data) in changes {
        let token = initiator.token(0, &[(100, 100)]);
        let beside = initiator.token(0, &[(100, 50), (151, 49)]);
        other.execute(0, cdb, Data::Out(data)).good();
        initiator.write_using(1, &token, &[(0, 100)]).check(REVOKED);
        initiator.write_using(1, &beside, &[(200, 99)]).good();
    }
    // A copy changes it too.
    let token = initiator.token(0, &[(100, 100)]);
    initiator.write_using(0, &zero_token(), &[(199, 2)]).good();
    initiator.write_using(1, &token, &[(0, 100)]).check(REVOKED);
    // A read does not.
    let token = initiator.token(0, &[(100, 100)]);
    other.execute(0, &read(100, 100), Data::In(100 * BLOCK)).good();
    assert!(contents(&images[1], 0..200) == before);
    initiator.write_using(1, &token, &[(0, 100)]).good();
}

#[test]
fn a_change_while_it_is_copied_ends_the_copy_before_anything_new_is_written() {
    let (world, images) = full_units(2);
    let mut initiator = world.initiator(&[0, 1]);
    let mut other = world.initiator(&[0]);
    let source = contents(&images[0], 0..8192);
    let before = contents(&images[1], 0..8192);
    let token = initiator.token(0, &[(0, 8192)]);
    // It has read the first piece, and is held in front of its write.
    let gate = images[1].gate(Operation::Write);
    let tag = initiator.start_write(1, 2, (0, 0), &token, &[(0, 8192)]);
    assert!(gate.wait_for_arrivals(1, PATIENCE));
    other.execute(0, &write(4000, 1), Data::Out(&[0x11; BLOCK])).good();
    gate.open();
    initiator.finish(tag).check(REVOKED);
    let standing = initiator.standing(1, 2);
    assert_eq!((standing.status, standing.count, standing.sense), (2, 2048, REVOKED));
    let after = contents(&images[1], 0..8192);
    assert!(after[..2048 * BLOCK] == source[..2048 * BLOCK]);
    assert!(after[2048 * BLOCK..] == before[2048 * BLOCK..]);
}

#[test]
fn a_token_is_deleted_when_it_is_not_needed_and_cancelled_by_a_reset() {
    let (world, _images) = full_units(2);
    let mut initiator = world.initiator(&[0, 1]);
    let token = initiator.token(0, &[(0, 8)]);
    let tag = initiator.start_write(1, 2, (DEL_TKN, 0), &token, &[(0, 4)]);
    initiator.finish(tag).good();
    initiator.write_using(1, &token, &[(0, 4)]).check((5, 0x23, 0x09));
    let token = initiator.token(0, &[(0, 8)]);
    let function = initiator.start_function(LOGICAL_UNIT_RESET, 0, None);
    assert_eq!(initiator.finish_function(function), 0);
    initiator.write_using(1, &token, &[(0, 4)]).check((5, 0x23, 0x08));
    let mut corrupt = token;
    corrupt[500] ^= 0x80;
    initiator.write_using(1, &corrupt, &[(0, 4)]).check((5, 0x23, 0x05));
    corrupt[15] ^= 0x80;
    initiator.write_using(1, &corrupt, &[(0, 4)]).check(UNKNOWN);
    corrupt[7] = 0;
    initiator.write_using(1, &corrupt, &[(0, 4)]).check((5, 0x23, 0x0a));
    corrupt[0] = 1;
    initiator.write_using(1, &corrupt, &[(0, 4)]).check((5, 0x23, 0x01));
}

fn entry(initiator: &str, luns: &[(u16, u16, bool)]) -> AccessEntry {
    let mapping = |it: &(u16, u16, bool)| LunMapping { seen: it.0, lun: it.1, read_only: it.2 };
    AccessEntry {
        initiator: Some(InitiatorPattern::new(initiator).unwrap()),
        address: None,
        luns: Some(luns.iter().map(mapping).collect()),
        read_only: false,
    }
}

fn session(world: &World, name: &str, target: &str, luns: &[u16]) -> Initiator {
    let target = Some(target.to_owned());
    let login = Login { initiator: name.to_owned(), target, ..world.login() };
    let mut initiator = world.log_in(&login);
    for lun in luns {
        initiator.execute(*lun, &TEST_UNIT_READY, Data::None).check((6, 0x29, 0));
    }
    initiator
}

#[test]
fn a_token_is_worth_no_more_than_what_its_bearer_may_reach() {
    let (world, images) = full_units(2);
    world.target(OTHER_TARGET, AuthPolicy::None);
    let ann = entry(ANN, &[(0, 0, false), (1, 1, false)]);
    // Of Bob's two LUNs, one is Ann's LUN 1, which he may not write.
    let bob = entry(BOB, &[(3, 1, true)]);
    world.block_on(world.node.set_access(TARGET, Some(vec![ann, bob]))).unwrap();
    let mine = memory(MIB);
    world.node.add_unit(OTHER_TARGET, 0, unit(9, mine.clone())).unwrap();
    let mut ann = session(&world, ANN, TARGET, &[0, 1]);
    let hidden = ann.token(0, &[(0, 8)]);
    let shared = ann.token(1, &[(0, 8)]);
    // His session to the other target: the source is seen through none of his sessions yet.
    let mut bob = session(&world, BOB, OTHER_TARGET, &[0]);
    bob.write_using(0, &hidden, &[(0, 8)]).check(UNKNOWN);
    let tag = bob.start_write(0, 2, (DEL_TKN, 0), &shared, &[(0, 8)]);
    bob.finish(tag).check(UNKNOWN);
    let mut masked = session(&world, BOB, TARGET, &[3]);
    bob.write_using(0, &hidden, &[(0, 8)]).check(UNKNOWN);
    assert_eq!(contents(&mine, 0..8), vec![0; 8 * BLOCK]);
    // Now it is, and DEL_TKN of the one who was refused has deleted nothing.
    bob.write_using(0, &shared, &[(0, 8)]).good();
    assert!(contents(&mine, 0..8) == contents(&images[1], 0..8));
    // What may only be read is not written.
    let own = bob.token(0, &[(0, 8)]);
    masked.write_using(3, &own, &[(0, 8)]).check((7, 0x27, 0));
    masked.write_using(3, &zero_token(), &[(0, 8)]).check((7, 0x27, 0));
    // But a token can be made of it.
    masked.token(3, &[(0, 8)]);
    // A unit that is gone takes its tokens along.
    world.block_on(world.node.remove_unit(TARGET, 1)).unwrap();
    bob.write_using(0, &shared, &[(0, 8)]).check((5, 0x23, 0x08));
}

#[test]
fn reservations_of_others_count_for_the_source_and_the_destination() {
    let (world, _images) = full_units(2);
    let (mut initiator, mut holder) = (world.initiator(&[0, 1]), world.initiator(&[0, 1]));
    let token = initiator.token(0, &[(0, 8)]);
    let mut register = [0; 24];
    register[15] = 7;
    let mut reserve = [0; 24];
    reserve[7] = 7;
    // (type, POPULATE TOKEN on it, WRITE USING TOKEN to it, from it): Write Exclusive, Exclusive
    // Access.
    for (kind, may_populate, may_read) in [(1, true, true), (3, false, false)] {
        for lun in [0, 1] {
            let out = |action, kind| [0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0];
            holder.execute(lun, &out(6, 0), Data::Out(&register)).good();
            holder.execute(lun, &out(1, kind), Data::Out(&reserve)).good();
            let populated = initiator.populate(lun, 5, 0, &[(0, 1)]).status;
            assert_eq!(populated, if may_populate { 0 } else { CONFLICT });
            if lun == 0 {
                let outcome = initiator.write_using(1, &token, &[(0, 8)]);
                let expected = if may_read { (0, 0, 0) } else { NOT_REACHABLE };
                assert_eq!(outcome.sense(), expected);
            } else {
                assert_eq!(initiator.write_using(1, &token, &[(0, 8)]).status, CONFLICT);
                // The state of copies can be asked for all the same.
                initiator.standing(1, 2);
            }
            holder.execute(lun, &out(3, 0), Data::Out(&reserve)).good();
        }
    }
}

#[test]
fn an_immediate_copy_is_answered_before_it_is_done_and_tells_how_it_stands() {
    let (world, images) = full_units(2);
    let mut initiator = world.initiator(&[0, 1]);
    initiator.populate(0, 1, IMMED, &[(0, 8192)]).good();
    eventually(|| initiator.standing(0, 1).status == 1);
    let token = initiator.standing(0, 1).token;
    let gate = images[1].gate(Operation::Write);
    let tag = initiator.start_write(1, 7, (IMMED, 0), &token, &[(0, 8192)]);
    initiator.finish(tag).good();
    assert!(gate.wait_for_arrivals(1, PATIENCE));
    let standing = initiator.standing(1, 7);
    assert_eq!((standing.status, standing.count), (0x12, 0));
    // The same list identifier cannot be used meanwhile, on the same unit.
    let list = populate_list(0, &[(0, 1)]);
    let again = initiator.execute(1, &copy_out(0x10, 7, list.len()), Data::Out(&list));
    again.check((5, 0, 0x16));
    initiator.populate(0, 7, 0, &[(0, 1)]).good();
    gate.open();
    eventually(|| initiator.standing(1, 7).status == 1);
    assert_eq!(initiator.standing(1, 7).count, 8192);
    assert!(contents(&images[1], 0..8192) == contents(&images[0], 0..8192));
    // RECEIVE COPY STATUS(LID4) says the same without a token.
    let data = initiator.execute(1, &copy_in(0x05, 7, true), Data::In(1024)).good();
    assert_eq!((data.len(), data[4], data[5], data[15]), (32, 0x11, 1, 0xf1));
    initiator.execute(1, &copy_in(0x07, 99, true), Data::In(1024)).check((5, 0x24, 0));
}

#[test]
fn failures_name_what_failed_and_how_far_it_came() {
    let (world, images) = full_units(2);
    let mut initiator = world.initiator(&[0, 1]);
    let token = initiator.token(0, &[(0, 8192)]);
    let full = Fault::kind(Operation::Write, ImageErrorKind::OutOfSpace).after(1);
    images[1].inject(full);
    initiator.write_using(1, &token, &[(0, 8192)]).check((7, 0x27, 0x07));
    let standing = initiator.standing(1, 2);
    assert_eq!((standing.status, standing.count), (2, 2048));
    assert_eq!(standing.sense, (7, 0x27, 0x07));
    assert_eq!(world.events.wait_for_fault().unit, "disk1");
    images[1].heal();
    images[0].inject(Fault::kind(Operation::Read, ImageErrorKind::Io).after(1));
    initiator.write_using(1, &token, &[(0, 8192)]).check((0x0a, 0x0d, 0x01));
    assert_eq!(initiator.standing(1, 2).count, 2048);
    images[0].heal();
    initiator.write_using(1, &token, &[(0, 8192)]).good();
}

#[test]
fn without_a_write_cache_a_copy_is_durable_when_it_is_answered() {
    let (world, images) = full_units(2);
    let mut initiator = world.initiator(&[0, 1]);
    // EXTENDED COPY, a token's data, and zeroes.
    let copy = |initiator: &mut Initiator, which: usize, lba: u64| {
        let token = initiator.token(0, &[(100, 5000)]);
        match which {
            0 => {
                let segment = (0, 0, 1, lba, 5000);
                let (cdb, list) = crate::copies::lid4(9, 0, &[segment]);
                initiator.execute(0, &cdb, Data::Out(&list)).good();
            }
            1 => _ = initiator.write_using(1, &token, &[(lba, 5000)]).good(),
            _ => _ = initiator.write_using(1, &zero_token(), &[(lba, 5000)]).good(),
        }
    };
    (0..3).for_each(|which| copy(&mut initiator, which, 0));
    assert!(images[1].is_dirty(), "with a write cache nothing is flushed");
    let mut other = world.initiator(&[1]);
    // MODE SELECT(6) of the caching page, WCE = 0, which flushes.
    let list = [&[0, 0, 0, 0, 0x08, 0x12][..], &[0; 18]].concat();
    other.execute(1, &[0x15, 0x10, 0, 0, 24, 0], Data::Out(&list)).good();
    assert!(!images[1].is_dirty());
    initiator.execute(1, &TEST_UNIT_READY, Data::None).check((6, 0x2a, 0x01));
    let writes = images[1].calls(Operation::Write) + images[1].calls(Operation::WriteZeroes);
    for which in 0..3 {
        copy(&mut initiator, which, 6000);
        assert!(!images[1].is_dirty(), "copy {which}");
    }
    let now = images[1].calls(Operation::Write) + images[1].calls(Operation::WriteZeroes);
    assert!(now >= writes + 3, "they have written");
}

#[test]
fn files_are_copied_by_the_file_system_as_anything_else() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::new();
    for lun in 0..2 {
        let path = directory.path().join(format!("{lun}.img"));
        std::fs::File::create_new(&path).unwrap().set_len(32 * MIB).unwrap();
        let image = RawImage::open(&*path, OpenOptions::default()).unwrap();
        let device = Device::new(format!("disk{lun}"), naa(lun), BLOCK as u32, 65536);
        let config = UnitConfig::new(format!("disk{lun}"), device, Ok(Arc::new(image)));
        world.node.add_unit(TARGET, lun, LogicalUnit::new(config)).unwrap();
    }
    let (mut initiator, mut other) = (world.initiator(&[0, 1]), world.initiator(&[0]));
    let data = Random::new(7).bytes(8192 * BLOCK);
    for lba in [0, 30000] {
        initiator.execute(0, &write(lba, 8192), Data::Out(&data)).good();
    }
    // With a hole in the middle, from and to addresses that no block of a file system begins at.
    let token = initiator.token(0, &[(1, 60000)]);
    initiator.write_using(1, &token, &[(3, 60000)]).good();
    let block = |initiator: &mut Initiator, lun, lba| {
        initiator.execute(lun, &read(lba, 8000), Data::In(8000 * BLOCK)).good()
    };
    for lba in [0, 8100, 16000, 29000, 30100, 38100, 50000] {
        let source = block(&mut initiator, 0, lba + 1);
        assert!(block(&mut initiator, 1, lba + 3) == source, "block {lba}");
    }
    assert_eq!(initiator.execute(1, &read(0, 3), Data::In(3 * BLOCK)).good(), [0; 3 * BLOCK]);
    // Within one file, and over itself.
    let token = initiator.token(0, &[(0, 8192)]);
    initiator.write_using(0, &token, &[(10000, 8192)]).good();
    assert!(block(&mut initiator, 0, 10000) == data[..8000 * BLOCK]);
    let token = initiator.token(0, &[(0, 100)]);
    initiator.write_using(0, &token, &[(50, 100)]).check(REVOKED);
    // And it notices a change.
    let token = initiator.token(0, &[(0, 8192)]);
    other.execute(0, &write(8191, 1), Data::Out(&[1; BLOCK])).good();
    initiator.write_using(1, &token, &[(0, 8192)]).check(REVOKED);
}

/// REPORT ALL ROD TOKENS: identifiers of the tokens, and how many bytes there are to report.
fn reported(initiator: &mut Initiator, allocation_length: u32) -> (Vec<u64>, u32) {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1]) = (0x84, 0x08);
    cdb[10..14].copy_from_slice(&allocation_length.to_be_bytes());
    let data = initiator.execute(0, &cdb, Data::In(allocation_length as usize)).good();
    let available = u32::from_be_bytes(data[..4].try_into().unwrap());
    let tokens = data[8..].chunks_exact(96);
    let identifier = |token: &[u8]| u64::from_be_bytes(token[8..16].try_into().unwrap());
    (tokens.map(identifier).collect(), available)
}

#[test]
fn the_tokens_of_what_an_initiator_reaches_are_reported_to_it() {
    let (world, _) = full_units(2);
    let mut initiator = world.initiator(&[0, 1]);
    assert_eq!(reported(&mut initiator, 4096), (vec![], 4));
    let mut identifiers = Vec::new();
    for lun in [0, 1, 1] {
        let token = initiator.token(lun, &[(100, 10)]);
        identifiers.push(u64::from_be_bytes(token[8..16].try_into().unwrap()));
    }
    assert_eq!(reported(&mut initiator, 4096), (identifiers.clone(), 4 + 3 * 96));
    // AVAILABLE DATA tells how much there is, whatever there is room for.
    assert_eq!(reported(&mut initiator, 8 + 96), (identifiers[..1].to_vec(), 4 + 3 * 96));
    // One that has ended is not among them.
    initiator.execute(0, &write(100, 1), Data::Out(&[1; BLOCK])).good();
    assert_eq!(reported(&mut initiator, 4096).0, identifiers[1..]);
    // Nor are those of units that the initiator does not reach.
    world.block_on(world.node.remove_unit(TARGET, 1)).unwrap();
    initiator.execute(0, &TEST_UNIT_READY, Data::None).check((6, 0x3f, 0x0e));
    assert_eq!(reported(&mut initiator, 4096), (vec![], 4));
}
