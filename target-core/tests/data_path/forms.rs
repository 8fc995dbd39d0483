//! Commands that exist in several lengths do the same in each.

use crate::initiator::{Data, Initiator};
use crate::world::{BLOCK, World};

/// Operation codes by length of the CDB; a service action for 32 bytes.
struct Command {
    codes: &'static [(usize, u8)],
}

const READ: Command = Command { codes: &[(6, 0x08), (10, 0x28), (12, 0xa8), (16, 0x88), (32, 9)] };
const WRITE: Command =
    Command { codes: &[(6, 0x0a), (10, 0x2a), (12, 0xaa), (16, 0x8a), (32, 0x0b)] };
const VERIFY: Command = Command { codes: &[(10, 0x2f), (12, 0xaf), (16, 0x8f), (32, 0x0a)] };
const WRITE_AND_VERIFY: Command =
    Command { codes: &[(10, 0x2e), (12, 0xae), (16, 0x8e), (32, 0x0c)] };
const WRITE_SAME: Command = Command { codes: &[(10, 0x41), (16, 0x93), (32, 0x0d)] };
const PRE_FETCH: Command = Command { codes: &[(10, 0x34), (16, 0x90)] };
const SYNCHRONIZE_CACHE: Command = Command { codes: &[(10, 0x35), (16, 0x91)] };
const READ_DEFECT_DATA: Command = Command { codes: &[(10, 0x37), (12, 0xb7)] };

impl Command {
    /// A CDB in each length.
    fn forms(&self, options: u8, lba: u8, blocks: u8) -> impl Iterator<Item = Vec<u8>> {
        self.codes.iter().map(move |&(length, code)| {
            let mut cdb = vec![0; length];
            let (options_at, lba_at, blocks_at) = match length {
                6 => (1, 3, 4),
                10 => (1, 5, 8),
                12 => (1, 5, 9),
                16 => (1, 9, 13),
                _ => (10, 19, 31),
            };
            (cdb[lba_at], cdb[blocks_at]) = (lba, blocks);
            if length == 32 {
                (cdb[0], cdb[7], cdb[9]) = (0x7f, 0x18, code);
            } else {
                cdb[0] = code;
            }
            cdb[options_at] |= options;
            cdb
        })
    }
}

fn contents(initiator: &mut Initiator, lba: u8, blocks: u8) -> Vec<u8> {
    let cdb = READ.forms(0, lba, blocks).nth(1).unwrap();
    initiator.execute(0, &cdb, Data::In(usize::from(blocks) * BLOCK)).good()
}

fn data(seed: usize, blocks: u8) -> Vec<u8> {
    (0..usize::from(blocks) * BLOCK).map(|at| (at / 3 + seed) as u8).collect()
}

/// More than comes at once, so that some of it is asked for.
const BLOCKS: u8 = 200;

#[test]
fn every_write_is_read_by_every_read() {
    let (world, _) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    for (seed, cdb) in WRITE.forms(0, 3, BLOCKS).enumerate() {
        let written = data(seed, BLOCKS);
        initiator.execute(0, &cdb, Data::Out(&written)).good();
        for cdb in READ.forms(0, 3, BLOCKS) {
            let read = initiator.execute(0, &cdb, Data::In(written.len())).good();
            assert!(read == written, "{cdb:02x?}");
        }
    }
    // DPO and FUA, which those of 6 bytes have not.
    for cdb in WRITE.forms(0x18, 3, 1).skip(1) {
        initiator.execute(0, &cdb, Data::Out(&data(9, 1))).good();
    }
    for cdb in READ.forms(0x18, 3, 1).skip(1) {
        assert_eq!(initiator.execute(0, &cdb, Data::In(BLOCK)).good(), data(9, 1));
    }
}

#[test]
fn a_verify_compares_what_it_is_given() {
    let (world, _) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    let right = data(1, BLOCKS);
    let write = WRITE.forms(0, 3, BLOCKS).nth(1).unwrap();
    initiator.execute(0, &write, Data::Out(&right)).good();
    let mut wrong = right.clone();
    wrong[70_001] ^= 1;
    for cdb in VERIFY.forms(0, 3, BLOCKS) {
        initiator.execute(0, &cdb, Data::None).good();
    }
    // BYTCHK.
    for cdb in VERIFY.forms(0x02, 3, BLOCKS) {
        initiator.execute(0, &cdb, Data::Out(&right)).good();
        let outcome = initiator.execute(0, &cdb, Data::Out(&wrong));
        // INFORMATION: where they differ.
        assert_eq!(outcome.sense[3..7], 70_001_u32.to_be_bytes());
        outcome.check((0x0e, 0x1d, 0));
    }
    // One block for all.
    let same = WRITE_SAME.forms(0, 3, BLOCKS).next().unwrap();
    initiator.execute(0, &same, Data::Out(&right[..BLOCK])).good();
    for cdb in VERIFY.forms(0x06, 3, BLOCKS) {
        initiator.execute(0, &cdb, Data::Out(&right[..BLOCK])).good();
        initiator.execute(0, &cdb, Data::Out(&right[BLOCK..2 * BLOCK])).check((0x0e, 0x1d, 0));
    }
}

#[test]
fn every_write_and_verify_writes() {
    let (world, _) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    for options in [0x00, 0x02, 0x10] {
        for (seed, cdb) in WRITE_AND_VERIFY.forms(options, 3, BLOCKS).enumerate() {
            let written = data(seed, BLOCKS);
            initiator.execute(0, &cdb, Data::Out(&written)).good();
            assert!(contents(&mut initiator, 3, BLOCKS) == written, "{cdb:02x?}");
        }
    }
}

#[test]
fn every_write_same_fills_its_blocks_and_no_others() {
    let (world, _) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    for (seed, cdb) in WRITE_SAME.forms(0, 4, 9).enumerate() {
        let block = data(seed + 1, 1);
        initiator.execute(0, &cdb, Data::Out(&block)).good();
        let expected = [vec![0; BLOCK], block.repeat(9), vec![0; BLOCK]].concat();
        assert_eq!(contents(&mut initiator, 3, 11), expected, "{cdb:02x?}");
        // UNMAP.
        let cdb = WRITE_SAME.forms(0x08, 4, 9).nth(seed).unwrap();
        initiator.execute(0, &cdb, Data::Out(&[0; BLOCK])).good();
        assert_eq!(contents(&mut initiator, 3, 11), [0; 11 * BLOCK], "{cdb:02x?}");
    }
    // NDOB, which that of 10 bytes has not.
    for cdb in WRITE_SAME.forms(0x01, 4, 9).skip(1) {
        let fill = WRITE_SAME.forms(0, 4, 9).next().unwrap();
        initiator.execute(0, &fill, Data::Out(&[7; BLOCK])).good();
        initiator.execute(0, &cdb, Data::None).good();
        assert_eq!(contents(&mut initiator, 3, 11), [0; 11 * BLOCK], "{cdb:02x?}");
    }
}

#[test]
fn what_moves_no_data_is_answered_in_every_form() {
    let (world, _) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    // IMMED.
    for options in [0, 0x02] {
        for cdb in PRE_FETCH.forms(options, 3, 9) {
            let outcome = initiator.execute(0, &cdb, Data::None);
            assert_eq!((outcome.status, &outcome.sense[..]), (0x04, &[][..]), "CONDITION MET");
        }
        for cdb in SYNCHRONIZE_CACHE.forms(options, 3, 9) {
            initiator.execute(0, &cdb, Data::None).good();
        }
    }
    for ((length, code), header) in READ_DEFECT_DATA.codes.iter().zip([4, 8]) {
        let mut cdb = vec![0; *length];
        // REQ_PLIST and REQ_GLIST; 64 bytes at most.
        let (lists, allocation) = if *length == 10 { (2, 8) } else { (1, 9) };
        (cdb[0], cdb[lists], cdb[allocation]) = (*code, 0x18, 64);
        let list = initiator.execute(0, &cdb, Data::In(64)).good();
        assert_eq!((list.len(), list[1] & 0x18), (header, 0x18), "both lists, and nothing in them");
        assert!(list[2..].iter().all(|byte| *byte == 0));
    }
}

/// START STOP UNIT, and PREVENT ALLOW MEDIUM REMOVAL of what cannot be removed.
#[test]
fn a_unit_is_stopped_and_started_and_nothing_is_ejected() {
    let (world, _) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    let start_stop = |byte: u8| [0x1b, 0, 0, 0, byte, 0];
    for prevent in [1, 0] {
        initiator.execute(0, &[0x1e, 0, 0, 0, prevent, 0], Data::None).good();
    }
    initiator.execute(0, &[0x1e, 0, 0, 0, 2, 0], Data::None).check((5, 0x24, 0));
    // LOEJ.
    initiator.execute(0, &start_stop(0x02), Data::None).check((5, 0x24, 0));
    initiator.execute(0, &start_stop(0x00), Data::None).good();
    // INITIALIZING COMMAND REQUIRED.
    let read = READ.forms(0, 0, 1).nth(1).unwrap();
    initiator.execute(0, &read, Data::In(BLOCK)).check((2, 0x04, 2));
    initiator.execute(0, &start_stop(0x01), Data::None).good();
    initiator.execute(0, &read, Data::In(BLOCK)).good();
}
