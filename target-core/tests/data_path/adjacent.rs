//! Writes of blocks that adjoin are one call to the image, and each is answered for itself.

use disk_image::{Fault, Operation};
use iscsi_proto::Lun;

use crate::hanging::at_once;
use crate::initiator::{Data, Initiator};
use crate::task_management::ABORT_TASK;
use crate::wire::PATIENCE;
use crate::world::{BLOCK, Random, World, eventually, memory, read, write};

const COMPLETE: u8 = 0;

/// Writes that adjoin and have come together, of the same size, with other data each.
fn adjoining(initiator: &mut Initiator, from: u32, count: u32) -> (Vec<u32>, Vec<u8>) {
    let writes: Vec<_> = (0..count).map(|number| (from + number, number as u8 + 1)).collect();
    let data = writes.iter().flat_map(|(_, fill)| [*fill; BLOCK]).collect();
    (at_once(initiator, &writes), data)
}

#[test]
fn writes_that_adjoin_and_came_together_are_one_call() {
    for handed_off in [false, true] {
        let world = World::new();
        let image = memory(1 << 20);
        let unit = world.unit(0, image.clone());
        unit.set_writes_sleep(handed_off);
        let mut initiator = world.initiator(&[0]);
        // They may come in two pieces, or one by one on a busy machine.
        eventually(|| {
            let before = image.calls(Operation::Write);
            let (tags, data) = adjoining(&mut initiator, 100, 20);
            tags.into_iter().for_each(|tag| drop(initiator.finish(tag).good()));
            assert!(initiator.execute(0, &read(100, 20), Data::In(20 * BLOCK)).good() == data);
            image.calls(Operation::Write) - before == 1
        });
        assert!(unit.counters().write_commands.is_multiple_of(20));
    }
}

#[test]
fn of_writes_that_adjoin_each_fails_for_itself() {
    for handed_off in [false, true] {
        let (world, image) = (World::new(), memory(1 << 20));
        world.unit(0, image.clone()).set_writes_sleep(handed_off);
        let mut initiator = world.initiator(&[0]);
        let block = BLOCK as u64;
        for bad in [7, 9] {
            let fault = Fault::errno(Operation::Write, 5);
            image.inject(fault.within(bad * block..bad * block + 1));
        }
        let (tags, data) = adjoining(&mut initiator, 0, 20);
        for (lba, tag) in tags.into_iter().enumerate() {
            match lba {
                7 | 9 => initiator.finish(tag).check((3, 0x0c, 0)),
                _ => drop(initiator.finish(tag).good()),
            }
        }
        let mut found = initiator.execute(0, &read(0, 20), Data::In(20 * BLOCK)).good();
        for lba in [7, 9] {
            found[lba * BLOCK..][..BLOCK].fill(lba as u8 + 1);
        }
        assert!(found == data);
    }
}

#[test]
fn of_writes_that_adjoin_and_hang_together_each_is_answered() {
    let (world, hung) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    let block = BLOCK as u64;
    let gate = hung.gate_within(Operation::Write, 3 * block..4 * block);
    // A fault that is found only when all of them are tried by themselves.
    hung.inject(Fault::errno(Operation::Write, 5).within(5 * block..5 * block + 1));
    let (tags, data) = adjoining(&mut initiator, 0, 20);
    assert!(gate.wait_for_arrivals(1, PATIENCE));
    initiator.nop();
    let abort = initiator.start_function(ABORT_TASK, Lun(0).0, Some(tags[4]));
    initiator.nop();
    assert!(!initiator.is_answered(abort), "the task can still write");
    gate.open();
    assert_eq!(initiator.finish_function(abort), COMPLETE);
    for (lba, tag) in tags.iter().enumerate() {
        match lba {
            4 => assert!(!initiator.is_answered(*tag)),
            5 => initiator.finish(*tag).check((3, 0x0c, 0)),
            _ => drop(initiator.finish(*tag).good()),
        }
    }
    let found = initiator.execute(0, &read(6, 14), Data::In(14 * BLOCK)).good();
    assert!(found == data[6 * BLOCK..]);
}

/// Each block once, in runs of any length, in commands of any length, the runs in any order.
#[test]
fn batches_of_writes_leave_what_they_leave_one_by_one() {
    const BLOCKS: usize = 512;
    for handed_off in [false, true] {
        let world = World::new();
        world.unit(0, memory((BLOCKS * BLOCK) as u64)).set_writes_sleep(handed_off);
        let mut initiator = world.initiator(&[0]);
        let mut random = Random::new(7);
        for round in 0..20 {
            let mut commands = Vec::new();
            let mut lba = 0;
            while lba < BLOCKS {
                let run = (1 + random.below(40)).min(BLOCKS - lba);
                let mut own = Vec::new();
                let end = lba + run;
                while lba < end {
                    let blocks = (1 + random.below(8)).min(end - lba);
                    own.push((lba, blocks));
                    lba += blocks;
                }
                let at = random.below(commands.len() + 1);
                commands.insert(at, own);
            }
            let data = random.bytes(BLOCKS * BLOCK);
            let mut bytes = Vec::new();
            let mut tags = Vec::new();
            for (lba, blocks) in commands.into_iter().flatten() {
                let own = &data[lba * BLOCK..][..blocks * BLOCK];
                let cdb = write(lba as u32, blocks);
                let (tag, pdu) = initiator.command(Lun(0).0, &cdb, Data::Out(own));
                bytes.extend(pdu);
                tags.push(tag);
                // No more than an initiator may have under way.
                if tags.len() == 32 {
                    initiator.wire.send_bytes(&std::mem::take(&mut bytes));
                    tags.drain(..).for_each(|tag| drop(initiator.finish(tag).good()));
                }
            }
            initiator.wire.send_bytes(&bytes);
            tags.into_iter().for_each(|tag| drop(initiator.finish(tag).good()));
            let found = initiator.execute(0, &read(0, BLOCKS), Data::In(BLOCKS * BLOCK)).good();
            assert!(found == data, "round {round}, handed off: {handed_off}");
        }
    }
}
