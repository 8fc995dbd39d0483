//! A medium that fails: what the initiator is told, and what the outside.

use std::fs;
use std::sync::Arc;

use disk_image::{Fault, ImageErrorKind, OpenOptions, Operation, RawImage};

use crate::initiator::{Data, Initiator};
use crate::world::{
    BLOCK, Random, SYNCHRONIZE_CACHE, TARGET, TEST_UNIT_READY, World, durable_write, eventually,
    memory, read, write,
};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

#[test]
fn a_read_that_fails_is_told_with_its_block() {
    for handed_off in [false, true] {
        let (world, image) = World::with_memory();
        let mut initiator = world.initiator(&[0]);
        let bad = 100 * BLOCK as u64;
        if handed_off {
            image.inject(Fault::kind(Operation::Read, ImageErrorKind::WouldBlock).times(1));
        }
        image.inject(Fault::errno(Operation::Read, EIO).within(bad..bad + 1));
        let outcome = initiator.execute(0, &read(98, 4), Data::In(4 * BLOCK));
        outcome.check((3, 0x11, 0));
        assert_eq!((outcome.information(), outcome.residual), (Some(98), 4 * BLOCK as i64));
        initiator.execute(0, &read(101, 4), Data::In(4 * BLOCK)).good();
        let fault = world.events.wait_for_fault();
        assert_eq!((fault.unit.as_str(), fault.target.as_str()), ("disk0", TARGET));
        assert_eq!((fault.lun, fault.lba, fault.operation_code), (0, Some(98), 0x28));
        assert_eq!(fault.initiator, "iqn.2026-01.org.example:host");
        assert_eq!((fault.kind, fault.errno), (ImageErrorKind::Io, Some(EIO)));
        assert_eq!(fault.operation, Operation::Read);
        assert_eq!(fault.path.to_str(), Some("memory"));
        assert!(!fault.text.is_empty());
        assert_eq!(world.events.faults(), 1);
    }
}

#[test]
fn a_write_that_fails_is_told_by_its_cause() {
    let (world, image) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    let (small, large) = (vec![1; BLOCK], vec![1; 2 << 20]);
    let mut faults = 0;
    for (errno, sense) in [(EIO, (3, 0x0c, 0)), (ENOSPC, (7, 0x27, 7))] {
        // At once, elsewhere, and in the middle of the data.
        for (cdb, data) in [
            (write(3, 1), &small),
            (durable_write(3, 1), &small),
            (write(3, 4096), &large),
            (durable_write(3, 4096), &large),
        ] {
            image.inject(Fault::errno(Operation::Write, errno));
            let outcome = initiator.execute(0, &cdb, Data::Out(data));
            outcome.check(sense);
            assert_eq!(outcome.information(), Some(3));
            image.heal();
            initiator.execute(0, &cdb, Data::Out(data)).good();
            faults += 1;
        }
    }
    assert_eq!(world.events.faults(), faults);
    let fault = world.events.wait_for_fault();
    assert_eq!((fault.lba, fault.operation_code, fault.errno), (Some(3), 0x2a, Some(EIO)));
}

/// Sense key, additional sense code and qualifier.
type SenseCode = (u8, u8, u8);

/// What an errno means: its kind, and the sense data of READ, WRITE and SYNCHRONIZE CACHE.
/// `job-engine/src/error/tests.rs` has the message of each.
#[rustfmt::skip]
const MEANINGS: &[(i32, ImageErrorKind, [SenseCode; 3])] = &[
    // EIO, ENXIO's neighbours without a better name
    (5, ImageErrorKind::Io, [(3, 0x11, 0), (3, 0x0c, 0), (3, 0x0c, 0)]),
    // ENOSPC, EDQUOT
    (28, ImageErrorKind::OutOfSpace, [(7, 0x27, 7); 3]),
    (122, ImageErrorKind::OutOfSpace, [(7, 0x27, 7); 3]),
    // EROFS, EACCES
    (30, ImageErrorKind::ReadOnly, [(7, 0x27, 0); 3]),
    (13, ImageErrorKind::PermissionDenied, [(7, 0x27, 0); 3]),
    // ENOENT, ENODEV, ESTALE
    (2, ImageErrorKind::NotFound, [NOT_READY; 3]),
    (19, ImageErrorKind::NotFound, [NOT_READY; 3]),
    (116, ImageErrorKind::NotFound, [NOT_READY; 3]),
    // ENOMEM
    (12, ImageErrorKind::OutOfMemory, [(0xb, 0x55, 3); 3]),
];

#[test]
fn each_errno_has_its_sense_data_and_its_kind() {
    for (errno, kind, senses) in MEANINGS {
        let (world, image) = World::with_memory();
        let mut initiator = world.initiator(&[0]);
        for (operation, sense) in
            [Operation::Read, Operation::Write, Operation::Flush].into_iter().zip(senses)
        {
            image.inject(Fault::errno(operation, *errno));
            let data = [1; BLOCK];
            let outcome = match operation {
                Operation::Read => initiator.execute(0, &read(3, 1), Data::In(BLOCK)),
                Operation::Write => initiator.execute(0, &write(3, 1), Data::Out(&data)),
                _ => initiator.execute(0, &SYNCHRONIZE_CACHE, Data::None),
            };
            assert_eq!(outcome.sense(), *sense, "errno {errno} of {operation:?}");
            image.heal();
        }
        let fault = world.events.wait_for_fault();
        assert_eq!((fault.kind, fault.errno), (*kind, Some(*errno)));
        assert_eq!(world.events.faults(), 3, "errno {errno}");
        initiator.execute(0, &write(3, 1), Data::Out(&[1; BLOCK])).good();
    }
}

#[test]
fn a_file_that_was_truncated_is_a_medium_error_where_it_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.img");
    fs::File::create(&path).unwrap().set_len(1 << 20).unwrap();
    let world = World::new();
    let image = RawImage::open(path.clone(), OpenOptions::default()).unwrap();
    world.unit(0, Arc::new(image));
    let mut initiator = world.initiator(&[0]);
    fs::File::options().write(true).open(&path).unwrap().set_len(512 << 10).unwrap();
    initiator.execute(0, &read(0, 8), Data::In(8 * BLOCK)).good();
    let lost = initiator.execute(0, &read(1500, 8), Data::In(8 * BLOCK));
    lost.check((3, 0x11, 0));
    assert_eq!(lost.information(), Some(1500));
    let fault = world.events.wait_for_fault();
    assert_eq!(fault.kind, ImageErrorKind::ShortTransfer);
}

#[test]
fn a_write_whose_last_piece_fails_fails_as_a_whole() {
    let (world, image) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    let data = Random::new(1).bytes(2 << 20);
    image.inject(Fault::errno(Operation::Write, EIO).within((2 << 20) - 1..2 << 20));
    let outcome = initiator.execute(0, &write(0, 4096), Data::Out(&data));
    outcome.check((3, 0x0c, 0));
    assert_eq!(world.events.faults(), 1);
    // The session goes on.
    initiator.execute(0, &write(4096, 4096), Data::Out(&data)).good();
}

#[test]
fn a_flush_that_failed_once_fails_for_ever() {
    let (world, image) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    initiator.execute(0, &SYNCHRONIZE_CACHE, Data::None).good();
    image.inject(Fault::kind(Operation::Flush, ImageErrorKind::SyncFailed));
    for count in 1..4 {
        initiator.execute(0, &SYNCHRONIZE_CACHE, Data::None).check((3, 0x0c, 0));
        assert_eq!(world.events.faults(), count);
    }
    // A durable write in several pieces ends with a flush.
    let data = vec![1; 1 << 20];
    initiator.execute(0, &durable_write(0, 2048), Data::Out(&data)).check((3, 0x0c, 0));
    let fault = world.events.wait_for_fault();
    assert_eq!((fault.operation, fault.operation_code), (Operation::Flush, 0x35));
    // One that is answered at once is heard of all the same.
    let mut immediate = SYNCHRONIZE_CACHE;
    immediate[1] = 2;
    initiator.execute(0, &immediate, Data::None).good();
    eventually(|| world.events.faults() == 5);
}

fn sense(initiator: &mut Initiator) -> (u8, u8, u8) {
    initiator.execute(0, &TEST_UNIT_READY, Data::None).sense()
}

const NOT_READY: (u8, u8, u8) = (2, 4, 3);

#[test]
fn a_deleted_image_makes_its_unit_not_ready() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.img");
    fs::File::create(&path).unwrap().set_len(1 << 20).unwrap();
    let world = World::new();
    let image = RawImage::open(path.clone(), OpenOptions::default()).unwrap();
    world.unit(0, Arc::new(image));
    let mut initiator = world.initiator(&[0]);
    let data = Random::new(2).bytes(8 * BLOCK);
    initiator.execute(0, &durable_write(0, 8), Data::Out(&data)).good();
    assert!(initiator.execute(0, &read(0, 8), Data::In(8 * BLOCK)).good() == data);
    assert!(fs::read(&path).unwrap()[..8 * BLOCK] == data);
    fs::remove_file(&path).unwrap();
    eventually(|| sense(&mut initiator) == NOT_READY);
    initiator.execute(0, &read(0, 1), Data::In(BLOCK)).check(NOT_READY);
    initiator.execute(0, &write(0, 8), Data::Out(&data)).check(NOT_READY);
    // It is still there to be looked at.
    initiator.execute(0, &[0x12, 0, 0, 0, 36, 0], Data::In(36)).good();
    let fault = world.events.wait_for_fault();
    assert_eq!((fault.kind, fault.operation), (ImageErrorKind::NotFound, Operation::Health));
    assert_eq!((fault.lun, fault.path), (0, path));
}

#[test]
fn an_image_that_comes_back_makes_its_unit_ready_for_every_session() {
    // A file without a name cannot be given one again, so this one only says that it is gone.
    let (world, image) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    let mut other = world.initiator(&[0]);
    image.inject(Fault::kind(Operation::Health, ImageErrorKind::NotFound));
    eventually(|| sense(&mut initiator) == NOT_READY);
    assert_eq!(sense(&mut other), NOT_READY);
    let checks = image.calls(Operation::Health);
    eventually(|| {
        assert_eq!(sense(&mut initiator), NOT_READY);
        image.calls(Operation::Health) > checks
    });
    assert_eq!(world.events.faults(), 1, "told once, not with every check");
    image.heal();
    eventually(|| sense(&mut initiator) == (6, 0x28, 0));
    assert_eq!(sense(&mut initiator), (0, 0, 0));
    other.nop();
    assert_eq!(sense(&mut other), (6, 0x28, 0));
    assert_eq!(sense(&mut other), (0, 0, 0));
}

#[test]
fn a_unit_whose_image_cannot_be_opened_is_there_and_not_ready() {
    let world = World::new();
    let error =
        RawImage::open(std::path::PathBuf::from("/nonexistent/disk.img"), OpenOptions::default())
            .unwrap_err();
    let device = scsi::Device::new("gone", [0x60; 16], 512, 2048);
    let config = target_core::UnitConfig::new("gone", device, Err(error));
    world.node.add_unit(TARGET, 0, target_core::LogicalUnit::new(config)).unwrap();
    let mut initiator = world.initiator(&[0]);
    for cdb in [read(0, 1), SYNCHRONIZE_CACHE, [0x2f, 0, 0, 0, 0, 0, 0, 0, 1, 0]] {
        let expected = if cdb[0] == 0x28 { Data::In(BLOCK) } else { Data::None };
        initiator.execute(0, &cdb, expected).check(NOT_READY);
    }
    initiator.execute(0, &write(0, 1), Data::Out(&[0; BLOCK])).check(NOT_READY);
    initiator.execute(0, &[0x12, 0, 0, 0, 36, 0], Data::In(36)).good();
}

#[test]
fn a_unit_that_gets_its_image_is_ready_and_every_session_is_told() {
    let world = World::new();
    let path = std::path::PathBuf::from("/nonexistent/disk.img");
    let error = RawImage::open(path, OpenOptions::default()).unwrap_err();
    let mut device = scsi::Device::new("late", [0x60; 16], 512, 2048);
    // Another one than the image's.
    device.unmap_granularity_blocks = 1000;
    let config = target_core::UnitConfig::new("late", device, Err(error));
    let unit = target_core::LogicalUnit::new(config);
    world.node.add_unit(TARGET, 0, unit.clone()).unwrap();
    let mut sessions = [world.initiator(&[0]), world.initiator(&[0])];
    for session in &mut sessions {
        assert_eq!(sense(session), NOT_READY);
    }
    // It grows while nobody can open it.
    world.node.grow_unit(&unit, 2 << 20).unwrap();
    world.node.open_unit(&unit, memory(2 << 20));
    for session in &mut sessions {
        session.nop();
        let told: Vec<_> = (0..4).map(|_| sense(session)).collect();
        assert_eq!(told, [(6, 0x28, 0), (6, 0x2a, 9), (6, 0x3f, 3), (0, 0, 0)]);
        let data = [9; BLOCK];
        session.execute(0, &write(4095, 1), Data::Out(&data)).good();
        assert_eq!(session.execute(0, &read(4095, 1), Data::In(BLOCK)).good(), data);
    }
    // It has one already.
    world.node.open_unit(&unit, memory(2 << 20));
    sessions[0].nop();
    assert_eq!(sense(&mut sessions[0]), (0, 0, 0));
}

#[test]
fn without_a_write_cache_a_write_same_is_durable() {
    let (world, image) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    let write_same = [0x41, 0, 0, 0, 0, 8, 0, 0, 4, 0];
    for block in [[0; BLOCK], [7; BLOCK]] {
        initiator.execute(0, &write_same, Data::Out(&block)).good();
    }
    assert_eq!(image.calls(Operation::Flush), 0);
    let list = [&[0, 0, 0, 0, 0x08, 0x12][..], &[0; 18]].concat();
    let select = [0x15, 0x10, 0, 0, 24, 0];
    initiator.execute(0, &select, Data::Out(&list)).good();
    let before = image.calls(Operation::Flush);
    assert_eq!(before, 1, "what was in the cache");
    for block in [[0; BLOCK], [7; BLOCK]] {
        initiator.execute(0, &write_same, Data::Out(&block)).good();
    }
    assert_eq!(image.calls(Operation::Flush), before + 2);
}

#[test]
fn what_sessions_have_done_is_counted_and_stays_counted() {
    let (world, _) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    let mut other = world.initiator(&[0]);
    other.execute(0, &write(0, 4), Data::Out(&[1; 4 * BLOCK])).good();
    other.execute(0, &read(0, 3), Data::In(3 * BLOCK)).good();
    other.log_out();
    initiator.execute(0, &read(0, 2), Data::In(2 * BLOCK)).good();
    initiator.execute(0, &[0x1b, 0, 0, 0, 0, 0], Data::None).good();
    initiator.execute(0, &[0x1b, 0, 0, 0, 1, 0], Data::None).good();
    let page = |initiator: &mut Initiator, code: u8| {
        let cdb = [0x4d, 0, 0x40 | code, 0, 0, 0, 0, 0, 255, 0];
        initiator.execute(0, &cdb, Data::In(255)).good()
    };
    let data = page(&mut initiator, 0x19);
    let number = |at: usize| u64::from_be_bytes(data[at..at + 8].try_into().unwrap());
    // Commands that read and write, blocks received and sent.
    assert_eq!([8, 16, 24, 32].map(number), [2, 1, 4, 5]);
    assert_eq!(page(&mut initiator, 0x0e).last(), Some(&1), "stopped once");
}

#[test]
fn a_unit_of_one_session_that_fails_leaves_other_units_alone() {
    let (world, image) = World::with_memory();
    world.unit(1, memory(1 << 20));
    let mut initiator = world.initiator(&[0, 1]);
    image.inject(Fault::errno(Operation::Read, EIO));
    let tags: Vec<_> =
        (0..20).map(|n| initiator.start(n % 2, &read(0, 1), Data::In(BLOCK))).collect();
    for (tag, bad) in tags.into_iter().zip([true, false].into_iter().cycle()) {
        let outcome = initiator.finish(tag);
        assert_eq!(outcome.sense(), if bad { (3, 0x11, 0) } else { (0, 0, 0) });
    }
}
