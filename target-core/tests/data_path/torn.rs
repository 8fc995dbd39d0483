//! A logical block is seen whole: where data segments end anywhere, and beside zeroing.

use std::sync::Arc;

use disk_image::{OpenOptions, Operation, RawImage};
use iscsi_proto::pdu::{DataOut, FINAL};

use crate::initiator::{Data, Initiator};
use crate::wire::PATIENCE;
use crate::world::{BLOCK, World, durable_write, eventually, read, write};

const NO_TAG: u32 = 0xffff_ffff;

fn contents(initiator: &mut Initiator, lba: u32, blocks: usize) -> Vec<u8> {
    initiator.execute(0, &read(lba, blocks), Data::In(blocks * BLOCK)).good()
}

/// An unsolicited Data-Out PDU of a write that was started with `DATA`.
fn data_out(initiator: &mut Initiator, tag: u32, sn: u32, at: usize, data: &[u8], last: bool) {
    let header = DataOut {
        flags: if last { FINAL } else { 0 },
        initiator_task_tag: tag.into(),
        target_transfer_tag: NO_TAG.into(),
        data_sn: sn.into(),
        buffer_offset: u32::try_from(at).unwrap().into(),
        ..DataOut::new()
    };
    assert!(initiator.wire.send(header.bytes(), data));
}

#[test]
fn a_block_that_comes_in_pieces_is_seen_as_it_was_until_all_of_it_is_there() {
    let (world, _) = World::with_memory();
    let mut reader = world.initiator(&[0]);
    let mut login = world.login();
    login.keys.push(("ImmediateData", "No".to_owned()));
    let mut writer = world.log_in(&login);
    writer.execute(0, &crate::world::TEST_UNIT_READY, Data::None).check((6, 0x29, 0));
    let old = vec![0x11; 6 * BLOCK];
    reader.execute(0, &write(8, 6), Data::Out(&old)).good();
    let new: Vec<u8> = (0..6 * BLOCK).map(|at| (at / 5) as u8 | 0x80).collect();
    // The command alone; its data in segments that end within blocks.
    let (tag, bytes) = writer.command(0, &write(8, 6), Data::Out(&new));
    writer.wire.send_bytes(&bytes[..48]);
    let ends = [100, 700, 701, 1000, 1024, 2500, 6 * BLOCK];
    let mut from = 0;
    for (sn, end) in ends.into_iter().enumerate() {
        let last = end == new.len();
        data_out(&mut writer, tag, u32::try_from(sn).unwrap(), from, &new[from..end], last);
        if last {
            break;
        }
        writer.nop();
        let whole = end / BLOCK * BLOCK;
        // What is whole may be there a little later, what is not never is.
        let seen = loop {
            let seen = contents(&mut reader, 8, 6);
            if seen[..whole] == new[..whole] {
                break seen;
            }
        };
        assert!(seen[whole..] == old[whole..], "a part of a block after {end} bytes");
        from = end;
    }
    writer.finish(tag).good();
    assert!(contents(&mut reader, 8, 6) == new);
}

/// UNMAP of blocks 8 to 2055.
fn unmap(initiator: &mut Initiator) -> u32 {
    let mut list = [0; 24];
    (list[1], list[3]) = (22, 16);
    list[15] = 8;
    list[16..20].copy_from_slice(&2048u32.to_be_bytes());
    initiator.start(0, &[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], Data::Out(&list))
}

/// WRITE SAME(16) of zeroes to the same.
fn zero(initiator: &mut Initiator) -> u32 {
    let cdb = [0x93, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 8, 0, 0, 0];
    initiator.start(0, &cdb, Data::Out(&[0; BLOCK]))
}

#[test]
fn a_read_waits_for_zeroes_that_are_on_their_way_to_its_blocks_and_for_no_others() {
    type Start = fn(&mut Initiator) -> u32;
    for (operation, start) in
        [(Operation::Unmap, unmap as Start), (Operation::WriteZeroes, zero as Start)]
    {
        let (world, image) = World::with_memory();
        let (mut reader, mut writer) = (world.initiator(&[0]), world.initiator(&[0]));
        let old = vec![0x11; 2072 * BLOCK];
        reader.execute(0, &write(0, 2072), Data::Out(&old)).good();
        let gate = image.gate(operation);
        let tag = start(&mut writer);
        assert!(gate.wait_for_arrivals(1, PATIENCE));
        let inside = [7, 8, 1000, 2055];
        let waiting = inside.map(|lba| reader.start(0, &read(lba, 2), Data::In(2 * BLOCK)));
        // In the same regions.
        assert!(contents(&mut reader, 0, 8) == old[..8 * BLOCK]);
        assert!(contents(&mut reader, 2056, 8) == old[..8 * BLOCK]);
        assert!(waiting.iter().all(|tag| !reader.is_answered(*tag)), "{operation:?}");
        gate.open();
        writer.finish(tag).good();
        for (tag, lba) in waiting.into_iter().zip(inside) {
            let read = reader.finish(tag).good();
            for (block, at) in read.chunks(BLOCK).zip(lba..) {
                let expected = if (8..2056).contains(&at) { 0 } else { 0x11 };
                assert!(block.iter().all(|byte| *byte == expected), "{operation:?}: block {at}");
            }
        }
    }
}

#[test]
fn a_verify_compares_with_whole_blocks() {
    let (world, image) = World::with_memory();
    let (mut verifier, mut writer) = (world.initiator(&[0]), world.initiator(&[0]));
    let new = vec![0x22; 16 * BLOCK];
    let gate = image.gate(Operation::Write);
    let tag = writer.start(0, &durable_write(8, 16), Data::Out(&new));
    assert!(gate.wait_for_arrivals(1, PATIENCE));
    // BYTCHK = 01b.
    let cdb = [0x2f, 0x02, 0, 0, 0, 8, 0, 0, 16, 0];
    let verify = verifier.start(0, &cdb, Data::Out(&new));
    assert!(contents(&mut verifier, 24, 1) == [0; BLOCK]);
    assert!(!verifier.is_answered(verify));
    gate.open();
    writer.finish(tag).good();
    verifier.finish(verify).good();
}

#[test]
fn a_plain_file_is_unmapped_in_pieces_up_to_its_ends_and_no_further() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk");
    std::fs::write(&path, vec![0x33; 20 << 20]).unwrap();
    let world = World::new();
    world.unit(0, Arc::new(RawImage::open(&*path, OpenOptions::default()).unwrap()));
    let mut initiator = world.initiator(&[0]);
    let last = (20 << 20) / BLOCK as u32 - 1;
    let mut list = [0; 24];
    (list[1], list[3], list[15]) = (22, 16, 3);
    list[16..20].copy_from_slice(&(last - 3).to_be_bytes());
    let cdb = [0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0];
    initiator.execute(0, &cdb, Data::Out(&list)).good();
    let data = std::fs::read(&path).unwrap();
    let (begin, end) = (3 * BLOCK, data.len() - BLOCK);
    assert!(data[..begin].iter().chain(&data[end..]).all(|byte| *byte == 0x33));
    assert!(data[begin..end].iter().all(|byte| *byte == 0));
}

#[test]
fn no_atomic_command_comes_between_the_pieces_of_a_read() {
    /// Of blocks 196 to 204, which lie in two pieces of the read.
    const COMPARE_AND_WRITE: [u8; 16] = [0x89, 0, 0, 0, 0, 0, 0, 0, 0, 196, 0, 0, 0, 9, 0, 0];
    let (world, image) = World::with_memory();
    let mut sessions = [world.initiator(&[0]), world.initiator(&[0]), world.initiator(&[0])];
    let [reader, writer, atomic] = &mut sessions;
    let place = 207 * BLOCK as u64..208 * BLOCK as u64;
    let gate = image.gate_within(Operation::Write, place);
    let written = writer.start(0, &durable_write(207, 1), Data::Out(&[0x22; BLOCK]));
    assert!(gate.wait_for_arrivals(1, PATIENCE));
    let reads = image.calls(Operation::Read);
    let tag = reader.start(0, &read(192, 16), Data::In(16 * BLOCK));
    // Its first piece is read, the second waits for the write.
    eventually(|| image.calls(Operation::Read) > reads);
    let data = [vec![0; 9 * BLOCK], vec![0x33; 9 * BLOCK]].concat();
    let compared = atomic.start(0, &COMPARE_AND_WRITE, Data::Out(&data));
    atomic.nop();
    gate.open();
    writer.finish(written).good();
    atomic.finish(compared).good();
    let seen = reader.finish(tag).good();
    let blocks: Vec<_> = seen[4 * BLOCK..13 * BLOCK].to_vec();
    assert!(blocks.iter().all(|byte| *byte == blocks[0]), "half of it is seen");
}
