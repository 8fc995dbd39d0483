//! CDBs of 32 bytes come in an additional header segment.

use crate::initiator::Data;
use crate::outcome::Outcome;
use crate::world::{BLOCK, World, read};

const READ: u8 = 0x09;
const VERIFY: u8 = 0x0a;
const WRITE: u8 = 0x0b;
const WRITE_AND_VERIFY: u8 = 0x0c;
const WRITE_SAME: u8 = 0x0d;

fn long(service_action: u8, options: u8, lba: u8, blocks: u8) -> [u8; 32] {
    let mut cdb = [0; 32];
    (cdb[0], cdb[7], cdb[9], cdb[10]) = (0x7f, 0x18, service_action, options);
    (cdb[19], cdb[31]) = (lba, blocks);
    cdb
}

#[test]
fn commands_of_32_bytes_do_what_shorter_ones_do() {
    let (world, _) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    // With data that does not come at once, too.
    let data: Vec<u8> = (0..200 * BLOCK).map(|at| (at / 7) as u8).collect();
    let mut run = |cdb: [u8; 32], data: Data<'_>| -> Outcome { initiator.execute(0, &cdb, data) };
    run(long(WRITE, 0x08, 3, 200), Data::Out(&data)).good();
    assert_eq!(run(long(READ, 0, 3, 200), Data::In(data.len())).good(), data);
    run(long(VERIFY, 0, 3, 200), Data::None).good();
    run(long(VERIFY, 0x02, 3, 200), Data::Out(&data)).good();
    let mut other = data.clone();
    other[1000] ^= 1;
    run(long(VERIFY, 0x02, 3, 200), Data::Out(&other)).check((0x0e, 0x1d, 0));
    run(long(WRITE_AND_VERIFY, 0x02, 3, 200), Data::Out(&other)).good();
    assert_eq!(run(long(READ, 0, 3, 200), Data::In(data.len())).good(), other);
    run(long(WRITE_SAME, 0, 4, 9), Data::Out(&[0x5a; BLOCK])).good();
    run(long(WRITE_SAME, 0x09, 13, 9), Data::None).good();
    let expected = [[0x5a; 9 * BLOCK], [0; 9 * BLOCK]].concat();
    assert_eq!(run(long(READ, 0, 4, 18), Data::In(18 * BLOCK)).good(), expected);
    // The shorter commands see the same.
    assert_eq!(initiator.execute(0, &read(4, 18), Data::In(18 * BLOCK)).good(), expected);
}

#[test]
fn what_is_wrong_in_a_long_cdb_is_named_where_it_stands() {
    let (world, _) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    let mut protected = long(READ, 0x20, 0, 1);
    let outcome = initiator.execute(0, &protected, Data::In(BLOCK));
    // SKSV, C/D, BPV; bit 5 of byte 10.
    assert_eq!(outcome.sense[15..18], [0xcd, 0, 10]);
    outcome.check((5, 0x24, 0));
    protected[10] = 0;
    initiator.execute(0, &protected[..20], Data::In(BLOCK)).check((5, 0x24, 0));
    initiator.execute(0, &protected, Data::In(BLOCK)).good();
    let outcome = initiator.execute(0, &long(0x0f, 0, 0, 1), Data::None);
    assert_eq!(outcome.sense[15..18], [0xcf, 0, 8]);
}
