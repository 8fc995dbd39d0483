//! CDBs of 32 bytes come in an additional header segment.

use crate::initiator::Data;
use crate::world::{BLOCK, World};

const READ: u8 = 0x09;

fn long(service_action: u8, options: u8, lba: u8, blocks: u8) -> [u8; 32] {
    let mut cdb = [0; 32];
    (cdb[0], cdb[7], cdb[9], cdb[10]) = (0x7f, 0x18, service_action, options);
    (cdb[19], cdb[31]) = (lba, blocks);
    cdb
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
