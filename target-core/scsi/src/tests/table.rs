//! The table of commands, and the checks that all commands have in common.

use proptest::prelude::*;

use super::*;

#[test]
fn the_table_is_in_order_and_its_lengths_are_those_of_the_groups() {
    let keys: Vec<_> = COMMANDS.iter().map(|c| (c.operation_code, c.service_action)).collect();
    assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "{keys:x?}");
    for command in COMMANDS {
        let length = match command.operation_code >> 5 {
            0 => 6,
            1 | 2 => 10,
            4 => 16,
            5 => 12,
            group => panic!("group {group}"),
        };
        assert_eq!(command.usage.len(), length, "{}", command.name);
        assert_eq!(command.usage[0], command.operation_code, "{}", command.name);
        assert_eq!(lookup(Cdb::new(&cdb_of(command))).unwrap().name, command.name);
    }
}

#[test]
fn every_reserved_bit_of_every_command_is_refused_with_its_place() {
    let world = World::new();
    for command in COMMANDS {
        for (byte, used) in command.usage.iter().enumerate().skip(1) {
            for bit in 0..8 {
                let mut cdb = cdb_of(command);
                if used & 1 << bit != 0 || cdb[byte] & 1 << bit != 0 {
                    continue;
                }
                cdb[byte] |= 1 << bit;
                let sense = world.sense(&cdb);
                assert_eq!(sense.asc, AdditionalSense::INVALID_FIELD_IN_CDB, "{}", command.name);
                let expected = field(u16::try_from(byte).unwrap(), Some(bit));
                assert_eq!(sense.field, expected, "{} {cdb:02x?}", command.name);
            }
        }
    }
}

#[test]
fn a_unit_attention_comes_before_everything_but_three_commands() {
    let mut world = World::new();
    world.attention = Some(UnitAttention::PowerOn.sense());
    assert_eq!(world.sense(&[0; 6]), UnitAttention::PowerOn.sense());
    assert!(matches!(world.plan(&[0x12, 0, 0, 0, 96, 0]).0, Plan::DataIn));
    let sense = world.reply(&[0x03, 0, 0, 0, 252, 0]);
    assert_eq!((sense[0], sense[2], sense[12], sense[13]), (0x70, 6, 0x29, 0x00));
    let sense = world.reply(&[0x03, 1, 0, 0, 252, 0]);
    assert_eq!(sense[..4], [0x72, 6, 0x29, 0x00]);
    let clears = |cdb: &[u8]| clears_unit_attention(Cdb::new(cdb), &world.context());
    assert!(clears(&[0; 6]));
    assert!(clears(&[0x03, 0, 0, 0, 252, 0]));
    assert!(!clears(&[0x12, 0, 0, 0, 96, 0]));
    assert!(!clears(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]));
}

#[test]
fn a_lun_that_is_not_there_answers_three_commands() {
    let mut world = World::new();
    world.device = None;
    assert_eq!(world.reply(&[0x12, 0, 0, 0, 255, 0])[0], 0x7f);
    assert_eq!(world.reply(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0])[..4], [0, 0, 0, 8]);
    let sense = world.reply(&[0x03, 0, 0, 0, 252, 0]);
    assert_eq!((sense[2], sense[12]), (5, 0x25));
    for cdb in [&[0x00; 6][..], &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], &[0xc0; 10]] {
        assert_eq!(world.sense(cdb).asc, AdditionalSense::LOGICAL_UNIT_NOT_SUPPORTED);
    }
}

#[test]
fn a_read_only_unit_refuses_every_write_and_says_so_in_its_mode_pages() {
    let world = World::with(|device| device.read_only = true);
    for command in COMMANDS.iter().filter(|c| c.needs == commands::Needs::WritableMedium) {
        let sense = world.sense(&cdb_of(command));
        assert_eq!((sense.key, sense.asc.0), (SenseKey::DataProtect, 0x27), "{}", command.name);
    }
    assert_eq!(world.reply(&[0x1a, 0, 0x3f, 0, 255, 0])[2], 0x90);
    assert!(matches!(world.plan(&[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0]).0, Plan::Read { .. }));
}

#[test]
fn a_nexus_that_may_only_read_is_refused_every_write_before_and_behind_its_data() {
    let mut world = World::new();
    world.read_only = true;
    // Not what MODE SELECT could lift.
    for software in [false, true] {
        world.mode.software_write_protect = software;
        for command in COMMANDS.iter().filter(|c| c.needs == commands::Needs::WritableMedium) {
            let sense = world.sense(&cdb_of(command));
            let protected = (SenseKey::DataProtect, AdditionalSense::WRITE_PROTECTED);
            assert_eq!((sense.key, sense.asc), protected, "{}", command.name);
            if command.with_data.is_some() {
                let cdb = cdb_of(command);
                let plan =
                    plan_with_data(Cdb::new(&cdb), &world.context(), &[0; 512], &mut Vec::new());
                assert_eq!(plan, Plan::Check(sense), "{}", command.name);
            }
        }
        assert_eq!(world.reply(&[0x1a, 0, 0x3f, 0, 255, 0])[2], 0x90);
    }
    assert!(matches!(world.plan(&[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0]).0, Plan::Read { .. }));
}

#[test]
fn without_unmap_its_commands_do_not_exist_and_no_page_mentions_them() {
    let world = World::with(|device| device.unmap = false);
    let unmap = [0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0];
    assert_eq!(world.sense(&unmap).asc, AdditionalSense::INVALID_COMMAND_OPERATION_CODE);
    let codes = world.reply(&[0xa3, 0x0c, 1, 0x42, 0, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(codes[1] & 7, 1);
    let capacity = world.reply(&[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0]);
    assert_eq!(capacity[14], 0);
    assert_eq!(world.reply(&[0x12, 1, 0xb2, 0, 255, 0])[5], 0);
}

proptest! {
    #[test]
    fn no_cdb_and_no_data_break_anything(
        cdb in prop::collection::vec(any::<u8>(), 6..17),
        code in any::<prop::sample::Index>(),
        known in any::<bool>(),
        data in prop::collection::vec(any::<u8>(), 0..700),
        data_out in prop::sample::select(vec![0u32, 512, 1024, 24, u32::MAX]),
        block_count in prop::sample::select(vec![1u64, 2048, u64::MAX]),
    ) {
        let mut cdb = cdb;
        if known {
            cdb[0] = COMMANDS[code.index(COMMANDS.len())].operation_code;
        }
        let mut world = World::with(|device| device.capacity = Capacity::new(block_count));
        world.data_out = data_out;
        let (plan, _) = world.plan(&cdb);
        if let Plan::Read { lba, blocks, .. } | Plan::Write { lba, blocks, .. } = plan {
            prop_assert!(lba.checked_add(u64::from(blocks)).is_some_and(|end| end <= block_count));
        }
        plan_with_data(Cdb::new(&cdb), &world.context(), &data, &mut Vec::new());
    }
}
