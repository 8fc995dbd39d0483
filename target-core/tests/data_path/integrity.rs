//! What is written is what is read, on every way that data can take.

use disk_image::Operation;

use crate::initiator::{Data, Initiator};
use crate::wire::Login;
use crate::world::{
    BLOCK, Random, SYNCHRONIZE_CACHE, World, durable_write, eventually, keys, memory, read, write,
};

/// Random commands, compared with a copy of the disk.
fn commands_match_a_model(pairs: &[(&'static str, &str)], seed: u64, count: usize, max: usize) {
    const BLOCKS: usize = 4096;
    let world = World::new();
    world.unit(0, memory((BLOCKS * BLOCK) as u64));
    let login = Login { keys: keys(pairs), ..world.login() };
    let mut initiator = world.log_in(&login);
    initiator.execute(0, &[0; 6], Data::None).check((6, 0x29, 0));
    let mut random = Random::new(seed);
    let mut model = vec![0; BLOCKS * BLOCK];
    for number in 0..count {
        let blocks = 1 + random.below(max);
        let lba = random.below(BLOCKS - blocks);
        let range = lba * BLOCK..(lba + blocks) * BLOCK;
        let at = u32::try_from(lba).unwrap();
        match random.below(5) {
            0 | 1 => {
                let length = blocks * BLOCK;
                let data = initiator.execute(0, &read(at, blocks), Data::In(length)).good();
                assert!(data == model[range], "seed {seed}, command {number}");
            }
            kind => {
                let data = random.bytes(blocks * BLOCK);
                let cdb = if kind == 2 { durable_write(at, blocks) } else { write(at, blocks) };
                initiator.execute(0, &cdb, Data::Out(&data)).good();
                model[range].copy_from_slice(&data);
            }
        }
    }
    initiator.execute(0, &SYNCHRONIZE_CACHE, Data::None).good();
    let mut seen = Vec::new();
    for lba in (0..BLOCKS).step_by(1024) {
        let cdb = read(u32::try_from(lba).unwrap(), 1024);
        seen.extend(initiator.execute(0, &cdb, Data::In(1024 * BLOCK)).good());
    }
    assert!(seen == model, "seed {seed}");
}

#[test]
fn data_survive_with_immediate_and_unsolicited_data() {
    let keys = [
        ("InitialR2T", "No"),
        ("MaxRecvDataSegmentLength", "65536"),
        ("FirstBurstLength", "131072"),
    ];
    commands_match_a_model(&keys, 1, 200, 800);
}

#[test]
fn data_survive_with_immediate_data_and_ready_to_transfer() {
    let keys = [("InitialR2T", "Yes"), ("FirstBurstLength", "8192"), ("MaxBurstLength", "16384")];
    commands_match_a_model(&keys, 2, 200, 200);
}

#[test]
fn data_survive_with_unsolicited_data_alone() {
    let keys = [
        ("ImmediateData", "No"),
        ("InitialR2T", "No"),
        ("FirstBurstLength", "65536"),
        ("MaxBurstLength", "65536"),
        ("MaxOutstandingR2T", "4"),
    ];
    commands_match_a_model(&keys, 3, 200, 400);
}

#[test]
fn data_survive_with_several_outstanding_ready_to_transfers() {
    let keys = [
        ("ImmediateData", "No"),
        ("InitialR2T", "Yes"),
        ("MaxBurstLength", "4096"),
        ("MaxOutstandingR2T", "8"),
    ];
    commands_match_a_model(&keys, 4, 150, 200);
}

#[test]
fn data_survive_with_digests() {
    let keys = [
        ("HeaderDigest", "CRC32C,None"),
        ("DataDigest", "CRC32C,None"),
        ("InitialR2T", "No"),
        ("MaxRecvDataSegmentLength", "4096"),
        ("MaxBurstLength", "32768"),
    ];
    commands_match_a_model(&keys, 5, 150, 300);
}

#[test]
fn data_survive_with_odd_lengths_of_segments_and_bursts() {
    let keys = [
        ("DataDigest", "CRC32C"),
        ("InitialR2T", "No"),
        ("MaxRecvDataSegmentLength", "1001"),
        ("FirstBurstLength", "2003"),
        ("MaxBurstLength", "3007"),
        ("MaxOutstandingR2T", "2"),
    ];
    commands_match_a_model(&keys, 6, 150, 100);
}

#[test]
fn the_smallest_segments_carry_a_mebibyte_in_more_slices_than_one_call_takes() {
    let world = World::new();
    let image = memory(4 << 20);
    world.unit(0, image.clone());
    for digests in ["None", "CRC32C"] {
        let login = Login {
            keys: keys(&[
                ("MaxRecvDataSegmentLength", "512"),
                ("HeaderDigest", digests),
                ("DataDigest", digests),
            ]),
            ..world.login()
        };
        let mut initiator = world.log_in(&login);
        initiator.execute(0, &[0; 6], Data::None).check((6, 0x29, 0));
        let data = Random::new(7).bytes(1 << 20);
        initiator.execute(0, &write(512, 2048), Data::Out(&data)).good();
        let whole = Data::In(1 << 20);
        assert!(initiator.execute(0, &read(512, 2048), whole).good() == data);
        // The same from a thread that may sleep: as many pieces of one buffer.
        let gate = image.gate(Operation::Read);
        let tag = initiator.start(0, &read(512, 2048), whole);
        assert!(gate.wait_for_arrivals(1, crate::wire::PATIENCE));
        gate.open();
        assert!(initiator.finish(tag).good() == data);
    }
}

#[test]
fn many_commands_at_once_are_answered_each_with_its_own() {
    let (world, _) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    let mut random = Random::new(8);
    let blocks: Vec<_> = (0..100).map(|_| random.bytes(16 << 10)).collect();
    let place = |number: usize| u32::try_from(number * 32).unwrap();
    let start = |initiator: &mut Initiator, number: usize| {
        initiator.start(0, &write(place(number), 32), Data::Out(&blocks[number]))
    };
    let tags: Vec<_> = (0..100).map(|number| start(&mut initiator, number)).collect();
    for tag in tags {
        initiator.finish(tag).good();
    }
    let tags: Vec<_> = (0..100)
        .map(|number| initiator.start(0, &read(place(number), 32), Data::In(16 << 10)))
        .collect();
    for (tag, block) in tags.into_iter().zip(&blocks).rev() {
        assert!(initiator.finish(tag).good() == *block);
    }
    // Counters are published when the connection rests.
    eventually(|| world.node.sessions()[0].commands == 201);
    let session = &world.node.sessions()[0];
    assert_eq!((session.read_bytes, session.written_bytes), (100 << 14, 100 << 14));
}

#[test]
fn what_is_expected_and_what_the_device_has_leave_a_residual() {
    let (world, _) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    let data = Random::new(9).bytes(4 * BLOCK);
    initiator.execute(0, &write(0, 4), Data::Out(&data)).good();
    let less = initiator.execute(0, &read(0, 2), Data::In(4 * BLOCK));
    assert_eq!((less.status, less.residual), (0, 2 * BLOCK as i64));
    assert!(less.data == data[..2 * BLOCK]);
    let more = initiator.execute(0, &read(0, 4), Data::In(2 * BLOCK));
    assert_eq!((more.status, more.residual), (0, -2 * BLOCK as i64));
    assert!(more.data == data[..2 * BLOCK]);
    let unwanted = initiator.execute(0, &write(8, 1), Data::Out(&data));
    assert_eq!((unwanted.status, unwanted.residual), (0, 3 * BLOCK as i64));
    let rest = initiator.execute(0, &read(8, 4), Data::In(4 * BLOCK)).good();
    assert!(rest[..BLOCK] == data[..BLOCK] && rest[BLOCK..].iter().all(|byte| *byte == 0));
    let nothing = initiator.execute(0, &read(0, 4), Data::None);
    assert_eq!((nothing.status, nothing.residual), (0, -4 * BLOCK as i64));
}
