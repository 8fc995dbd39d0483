//! A MODE SELECT that turns the write cache off: what is answered behind it is durable.

use disk_image::Operation;

use crate::initiator::{Data, Initiator};
use crate::wire::PATIENCE;
use crate::world::{BLOCK, World, write};

const COMPARE_AND_WRITE: [u8; 16] = [0x89, 0, 0, 0, 0, 0, 0, 0, 0, 40, 0, 0, 0, 1, 0, 0];

fn turn_off(initiator: &mut Initiator) {
    // Header, then the Caching mode page with WCE = 0.
    let mut list = [0; 24];
    (list[4], list[5]) = (0x08, 18);
    initiator.execute(0, &[0x15, 0x10, 0, 0, 24, 0], Data::Out(&list)).good();
}

#[test]
fn a_write_that_was_on_its_way_when_it_was_turned_off_is_flushed() {
    let block = [0x5a; BLOCK];
    let compared = [[0; BLOCK], block].concat();
    // One that is written by the connection's own thread, and one that is handed off.
    for (cdb, data) in [(&write(40, 1)[..], &block[..]), (&COMPARE_AND_WRITE, &compared)] {
        let (world, image) = World::with_memory();
        let (mut writer, mut other) = (world.initiator(&[0]), world.initiator(&[0]));
        let gate = image.gate(Operation::Write);
        let tag = writer.start(0, cdb, Data::Out(data));
        assert!(gate.wait_for_arrivals(1, PATIENCE));
        turn_off(&mut other);
        let flushes = image.calls(Operation::Flush);
        assert!(flushes > 0, "what was in the cache is flushed");
        gate.open();
        writer.nop();
        writer.finish(tag).good();
        assert_eq!(image.calls(Operation::Flush), flushes + 1, "{cdb:02x?}");
    }
}

#[test]
fn a_write_whose_data_comes_behind_it_is_flushed() {
    let (world, image) = World::with_memory();
    let (mut writer, mut other) = (world.initiator(&[0]), world.initiator(&[0]));
    writer.hold_r2t = true;
    let data = vec![0x5a; 1 << 20];
    let tag = writer.start(0, &write(40, data.len() / BLOCK), Data::Out(&data));
    writer.nop();
    turn_off(&mut other);
    let flushes = image.calls(Operation::Flush);
    writer.hold_r2t = false;
    while let Some(asked) = writer.held_r2t.pop_front() {
        writer.answer_r2t(&asked);
    }
    writer.finish(tag).good();
    // Once, or with each piece where the unit is known as slow.
    assert!(image.calls(Operation::Flush) > flushes);
}
