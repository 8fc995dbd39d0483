//! Data segments may end anywhere. A logical block is written whole all the same.

use iscsi_proto::pdu::{DataOut, FINAL};

use crate::initiator::{Data, Initiator};
use crate::world::{BLOCK, World, read, write};

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
