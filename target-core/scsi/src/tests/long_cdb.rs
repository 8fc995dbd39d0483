//! CDBs of 32 bytes.

use super::*;
use crate::long_cdb::{LONG_COMMANDS, plan_long};

fn long(service_action: u8, options: u8, lba: u8, blocks: u8) -> [u8; 32] {
    let mut cdb = [0; 32];
    (cdb[0], cdb[7], cdb[9], cdb[10]) = (0x7f, 0x18, service_action, options);
    (cdb[19], cdb[31]) = (lba, blocks);
    cdb
}

impl World {
    fn plan_long(&self, cdb: &[u8]) -> Plan {
        let (head, rest) = cdb.split_first_chunk().unwrap();
        plan_long(head, rest, &self.context(), &mut Vec::new()).1
    }

    fn long_sense(&self, cdb: &[u8]) -> Sense {
        let plan = self.plan_long(cdb);
        let Plan::Check(sense) = plan else { panic!("{cdb:02x?}: {plan:?}") };
        sense
    }
}

#[test]
fn each_does_what_its_shorter_form_does() {
    let mut world = World::new();
    world.data_out = 512;
    // Bytes 1 and 14 are CONTROL and GROUP NUMBER.
    for (row, short) in LONG_COMMANDS.iter().zip([0x88, 0x8f, 0x8a, 0x8e, 0x93]) {
        assert_eq!(row.short().unwrap().operation_code, short, "{}", row.name);
        for options in [0x00, 0x02, 0x08, 0x10, 0x18] {
            // ANCHOR is refused, each time at its own place.
            let anchors = short == 0x93 && options & 0x10 != 0;
            if options & row.usage[10] != options || anchors {
                continue;
            }
            let [_, action] = row.service_action.to_be_bytes();
            let mut cdb = long(action, options, 5, 1);
            cdb[6] = 0x15;
            let shorter = [short, options, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1, 0x15, 0];
            assert_eq!(world.plan_long(&cdb), world.plan(&shorter).0, "{} {options:x}", row.name);
        }
    }
    let read = world.plan_long(&long(9, 0x08, 7, 3));
    assert_eq!(read, Plan::Read { lba: 7, blocks: 3, fua: true });
}

#[test]
fn tags_of_protection_information_say_nothing() {
    let world = World::new();
    let mut cdb = long(9, 0, 0, 1);
    cdb[20..28].fill(0xff);
    assert_eq!(world.plan_long(&cdb), Plan::Read { lba: 0, blocks: 1, fua: false });
}

#[test]
fn every_reserved_bit_is_refused_with_its_place() {
    let world = World::new();
    for row in LONG_COMMANDS {
        let [_, action] = row.service_action.to_be_bytes();
        for byte in (1..32).filter(|byte| !(20..28).contains(byte) && !(7..10).contains(byte)) {
            for bit in (0..8).filter(|bit| row.usage[byte] & 1 << bit == 0) {
                let mut cdb = long(action, 0, 0, 1);
                cdb[byte] |= 1 << bit;
                let sense = world.long_sense(&cdb);
                assert_eq!(sense.asc, AdditionalSense::INVALID_FIELD_IN_CDB, "{}", row.name);
                let expected = field(u16::try_from(byte).unwrap(), Some(bit));
                assert_eq!(sense.field, expected, "{} {cdb:02x?}", row.name);
            }
        }
    }
}

#[test]
fn what_is_wrong_is_named_where_it_stands() {
    let world = World::new();
    // More blocks than a command may have: TRANSFER LENGTH. WRITE SAME, of which UNMAP is bit 3.
    let mut cdb = long(9, 0, 0, 0);
    cdb[28] = 0xff;
    assert_eq!(world.long_sense(&cdb).field, field(28, None));
    let anchored = world.long_sense(&long(0x0d, 0x10, 0, 1));
    assert_eq!(anchored.field, field(10, Some(4)));
    assert_eq!(world.long_sense(&long(0x08, 0, 0, 1)).field, field(8, Some(7)));
    let mut short = long(9, 0, 0, 1);
    short[7] = 0x17;
    assert_eq!(world.long_sense(&short).field, field(7, None));
    assert_eq!(world.long_sense(&long(9, 0, 0, 1)[..24]).field, field(7, None));
    assert_eq!(world.sense(&long(9, 0, 0, 1)[..16]).field, field(7, None));
    // A command of 16 bytes with more of them.
    let mut read = [0; 32];
    (read[0], read[13]) = (0x88, 1);
    assert_eq!(world.long_sense(&read).field, field(16, None));
    // LBA out of range has no field.
    let mut beyond = long(9, 0, 0, 1);
    beyond[12] = 1;
    let sense = world.long_sense(&beyond);
    assert_eq!(sense.asc, AdditionalSense::LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE);
}

#[test]
fn other_checks_come_in_their_order() {
    let mut world = World::new();
    let mut wrong = long(9, 0, 0, 1);
    wrong[2] = 1;
    world.attention = Some(UnitAttention::PowerOn.sense());
    assert_eq!(world.long_sense(&wrong), UnitAttention::PowerOn.sense());
    world.attention = None;
    world.access = AccessState::Standby;
    assert_eq!(world.long_sense(&wrong).field, field(2, Some(0)));
    assert_eq!(world.long_sense(&long(9, 0, 0, 1)).key, SenseKey::NotReady);
    world.access = AccessState::ActiveOptimized;
    world.read_only = true;
    assert_eq!(world.long_sense(&long(0x0b, 0, 0, 1)).key, SenseKey::DataProtect);
    world.device = None;
    for cdb in [wrong, long(9, 0, 0, 1), long(8, 0, 0, 0)] {
        assert_eq!(world.long_sense(&cdb).asc, AdditionalSense::LOGICAL_UNIT_NOT_SUPPORTED);
    }
}

#[test]
fn a_unit_without_them_neither_has_nor_reports_them() {
    let world = World::with(|device| device.long_cdbs = false);
    let unknown = AdditionalSense::INVALID_COMMAND_OPERATION_CODE;
    let read = long(9, 0, 0, 1);
    for cdb in [&read[..], &read[..24]] {
        assert_eq!(world.long_sense(cdb).asc, unknown);
    }
    assert_eq!(world.sense(&read[..16]).asc, unknown);
    let all = world.reply(&[0xa3, 0x0c, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
    assert!(all[4..].chunks(8).all(|descriptor| descriptor[0] != 0x7f));
    assert_eq!(world.reply(&[0xa3, 0x0c, 3, 0x7f, 0, 9, 0, 0, 1, 0, 0, 0])[1] & 7, 1);
}
