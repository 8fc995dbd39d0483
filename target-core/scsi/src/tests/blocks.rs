//! Commands that name blocks.

use super::*;

#[test]
fn the_runs_of_all_four_lengths_are_read() {
    let world = World::new();
    let read = |lba, blocks| Plan::Read { lba, blocks, fua: false };
    assert_eq!(world.plan(&[0x08, 0, 1, 2, 3, 0]).0, read(0x102, 3));
    assert_eq!(world.plan(&[0x08, 0, 0, 2, 0, 0]).0, read(2, 256));
    assert_eq!(world.plan(&[0x28, 0, 0, 0, 1, 2, 0, 1, 1, 0]).0, read(0x102, 0x101));
    assert_eq!(world.plan(&[0xa8, 0, 0, 0, 1, 2, 0, 0, 1, 1, 0, 0]).0, read(0x102, 0x101));
    let mut cdb = [0x88, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 1, 1, 0, 0];
    assert_eq!(world.plan(&cdb).0, read(0x102, 0x101));
    cdb[1] = 0x18;
    assert_eq!(world.plan(&cdb).0, Plan::Read { lba: 0x102, blocks: 0x101, fua: true });
}

#[test]
fn what_is_beyond_the_end_is_refused_with_its_address() {
    let world = World::new();
    let read = |lba: u64, blocks: u32| {
        let mut cdb = [0; 16];
        cdb[0] = 0x88;
        cdb[2..10].copy_from_slice(&lba.to_be_bytes());
        cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
        world.plan(&cdb).0
    };
    assert!(matches!(read(2047, 1), Plan::Read { .. }));
    assert!(matches!(read(0, 2048), Plan::Read { .. }));
    assert!(matches!(read(2048, 0), Plan::Read { .. }));
    for (lba, blocks) in [(2048, 1), (2047, 2), (2049, 0), (u64::MAX, 1), (u64::MAX, 2)] {
        assert_eq!(read(lba, blocks), Plan::Check(Sense::lba_out_of_range(lba)));
    }
    let Plan::Check(sense) = read(0, u32::MAX) else { panic!() };
    assert_eq!(sense.field, field(10, None), "more than MAXIMUM TRANSFER LENGTH");
}

#[test]
fn unmap_lists_are_checked_to_the_last_descriptor() {
    let device =
        Device { limits: Limits { max_unmap_descriptors: 2, ..device().limits }, ..device() };
    let list = |ranges: &[(u64, u32)]| {
        let length = u16::try_from(ranges.len() * 16).unwrap();
        let mut data = Vec::new();
        data.extend((length + 6).to_be_bytes());
        data.extend(length.to_be_bytes());
        data.extend([0; 4]);
        for (lba, blocks) in ranges {
            data.extend(lba.to_be_bytes());
            data.extend(blocks.to_be_bytes());
            data.extend([0; 4]);
        }
        data
    };
    let world = World { device: Some(device), ..World::new() };
    let run = |data: &[u8]| {
        let mut ranges = Vec::new();
        let cdb = Cdb::new(&[0x42, 0, 0, 0, 0, 0, 0, 1, 0, 0]);
        (plan_with_data(cdb, &world.context(), data, &mut ranges), ranges)
    };
    let (plan, ranges) = run(&list(&[(0, 8), (100, 0)]));
    assert_eq!((plan, ranges), (Plan::Unmap, vec![BlockRange { lba: 0, blocks: 8 }]));
    assert_eq!(run(&list(&[(2048, 1)])).0, Plan::Check(Sense::lba_out_of_range(2048)));
    assert!(matches!(run(&list(&[(0, 1), (1, 1), (2, 1)])).0, Plan::Check(_)));
    let short = &list(&[(0, 1)])[..20];
    let Plan::Check(sense) = run(short).0 else { panic!() };
    assert_eq!(sense.asc, AdditionalSense::PARAMETER_LIST_LENGTH_ERROR);
}

#[test]
fn write_same_gives_space_back_only_for_zeroes() {
    let mut world = World::new();
    world.data_out = 512;
    let cdb = [0x93, 0x08, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0];
    assert_eq!(world.plan(&cdb).0, Plan::NeedData { length: 512 });
    let run = |data: &[u8]| plan_with_data(Cdb::new(&cdb), &world.context(), data, &mut Vec::new());
    let expected = |unmap, source| Plan::WriteSame {
        lba: 1,
        blocks: 8,
        unmap,
        anchor: false,
        source,
        durable: false,
    };
    assert_eq!(run(&[0; 512]), expected(true, WriteSameSource::Zeroes));
    assert_eq!(run(&[1; 512]), expected(false, WriteSameSource::Data));
    world.data_out = 1024;
    assert!(matches!(world.plan(&cdb).0, Plan::Check(_)), "two blocks where one is meant");
}

#[test]
fn write_same_of_no_blocks_is_refused_as_the_block_limits_page_says() {
    let mut world = World::new();
    world.data_out = 512;
    assert_eq!(world.reply(&[0x12, 1, 0xb0, 0, 255, 0])[4], 1, "WSNZ");
    for unmap in [0, 0x08] {
        let short = [0x41, unmap, 0, 0, 0, 1, 0, 0, 0, 0];
        assert_eq!(world.sense(&short).field, field(7, None));
        let long = [0x93, unmap, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        assert_eq!(world.sense(&long).field, field(10, None));
    }
    let beyond = [0x41, 0, 0, 0, 8, 1, 0, 0, 0, 0];
    assert_eq!(world.plan(&beyond).0, Plan::Check(Sense::lba_out_of_range(2049)));
}

#[test]
fn compare_and_write_keeps_to_its_maximum() {
    let of = |blocks: u8| [0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, blocks, 0, 0];
    for max in [1, 8, 255] {
        let mut world = World::with(|device| device.limits.max_compare_and_write_blocks = max);
        assert_eq!(world.reply(&[0x12, 1, 0xb0, 0, 255, 0])[5], max);
        world.data_out = 2 * 512 * u32::from(max);
        assert_eq!(world.plan(&of(max)).0, Plan::NeedData { length: world.data_out });
        if let Some(more) = max.checked_add(1) {
            world.data_out = 2 * 512 * u32::from(more);
            assert_eq!(world.sense(&of(more)), Sense::invalid_field_in_cdb(13, None));
        }
    }
    let world = World::with(|device| device.limits.max_compare_and_write_blocks = 0);
    assert_eq!(world.sense(&of(1)).asc, AdditionalSense::INVALID_COMMAND_OPERATION_CODE);
}

#[test]
fn lba_status_merges_equal_neighbours() {
    let mut reply = Vec::new();
    let mut status = LbaStatusReply::new(&mut reply, 8 + 32);
    assert!(status.push(0, 8, ProvisioningStatus::Mapped));
    assert!(status.push(8, 8, ProvisioningStatus::Mapped));
    assert!(status.push(16, 8, ProvisioningStatus::Deallocated));
    assert!(!status.push(24, 8, ProvisioningStatus::Mapped));
    status.finish();
    assert_eq!(reply.len(), 40);
    assert_eq!(reply[..4], 36u32.to_be_bytes());
    assert_eq!(reply[16..21], [0, 0, 0, 16, 0]);
    assert_eq!(reply[24..37], [0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 8, 1]);
}

/// WRITE ATOMIC(16).
fn write_atomic(lba: u64, blocks: u16) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = 0x9c;
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[12..14].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

#[test]
fn an_atomic_write_keeps_within_what_the_image_can_do() {
    let mut world = World::new();
    world.data_out = 8 * 512;
    assert_eq!(world.plan(&write_atomic(16, 8)).0, Plan::NeedData { length: 4096 });
    let plan =
        |cdb: &[u8]| plan_with_data(Cdb::new(cdb), &world.context(), &[7; 4096], &mut Vec::new());
    let expected = |fua| Plan::WriteAtomic { lba: 16, blocks: 8, fua };
    assert_eq!(plan(&write_atomic(16, 8)), expected(false));
    let mut durable = write_atomic(16, 8);
    durable[1] = 0x08;
    assert_eq!(plan(&durable), expected(true));
    assert_eq!(world.sense(&write_atomic(16, 9)).field, field(12, None), "too long");
    assert_eq!(world.sense(&write_atomic(15, 8)).field, field(2, None), "in two physical blocks");
    assert_eq!(world.sense(&write_atomic(16, 7)).field, field(12, None), "more data than blocks");
    let mut boundary = write_atomic(16, 8);
    boundary[11] = 8;
    assert_eq!(world.sense(&boundary).field, field(11, Some(3)), "ATOMIC BOUNDARY");
    let beyond = Plan::Check(Sense::lba_out_of_range(2056));
    assert_eq!(world.plan(&write_atomic(2056, 0)).0, beyond);
    assert_eq!(world.plan(&write_atomic(0, 0)).0, Plan::Good);
}

#[test]
fn an_image_with_a_journal_takes_a_mebibyte_anywhere() {
    let mut world = World::with(|device| {
        device.atomic.set(2047, 0);
    });
    world.data_out = 2047 * 512;
    assert_eq!(world.plan(&write_atomic(1, 2047)).0, Plan::NeedData { length: 2047 * 512 });
    assert_eq!(world.sense(&write_atomic(0, 2048)).field, field(12, None));
}

#[test]
fn the_block_limits_page_says_what_an_atomic_write_may_be() {
    let atomic = |world: &World| world.reply(&[0x12, 1, 0xb0, 0, 255, 0])[44..64].to_vec();
    let mut expected = vec![0, 0, 0, 8, 0, 0, 0, 8];
    expected.extend([0; 12]);
    assert_eq!(atomic(&World::new()), expected);
    let world = World::with(|device| assert!(device.atomic.set(0, 0)));
    assert_eq!(atomic(&world), [0; 20]);
    let sense = world.sense(&write_atomic(0, 8));
    assert_eq!(sense.asc, AdditionalSense::INVALID_COMMAND_OPERATION_CODE);
}
