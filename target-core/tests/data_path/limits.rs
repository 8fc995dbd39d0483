//! Limits of commands and bytes a second, of units and of initiators.

use std::time::{Duration, Instant};

use target_core::{Limit, Limited};

use crate::initiator::{Data, Initiator};
use crate::task_management::ABORT_TASK_SET;
use crate::world::{BLOCK, World, eventually, memory, read, write};

/// "disk0", of the world's unit 0.
fn unit() -> Limited {
    Limited::Unit("disk0".to_owned())
}

const INITIATOR: &str = "iqn.2026-01.org.example:host";

fn iops(iops: u64, burst: u64) -> Limit {
    Limit { iops: Some(iops), bytes_per_second: None, burst: Duration::from_millis(burst) }
}

/// Sends so many commands at once, and waits for all answers.
fn all(initiator: &mut Initiator, count: u32, reads: bool) {
    let tags: Vec<_> = (0..count)
        .map(|lba| match reads {
            true => initiator.start(0, &read(lba, 1), Data::In(BLOCK)),
            false => initiator.start(0, &write(lba, 1), Data::Out(&[9; BLOCK])),
        })
        .collect();
    tags.into_iter().for_each(|tag| drop(initiator.finish(tag).good()));
}

fn took(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// What so many commands take at least, at 200 a second with 50 ms (ten commands) saved up.
fn least(commands: u32) -> Duration {
    Duration::from_millis(u64::from(commands - 11) * 5)
}

#[test]
fn a_unit_gives_all_of_its_sessions_together_no_more_than_its_limit() {
    let world = World::new();
    world.unit(0, memory(1 << 20));
    world.unit(1, memory(1 << 20));
    world.node.set_limit(unit(), Some(&iops(200, 50)));
    let (mut one, mut two) = (world.initiator(&[0, 1]), world.initiator(&[0, 1]));
    // The limit's burst has nothing to do with what the logins have used.
    let time = took(|| {
        std::thread::scope(|scope| {
            scope.spawn(|| all(&mut one, 40, true));
            scope.spawn(|| all(&mut two, 40, false));
        });
    });
    assert!(time >= least(80), "{time:?}");
    // Another unit is not concerned, and neither is what reads and writes nothing.
    let tags: Vec<_> = (0..120).map(|lba| one.start(0, &read(lba, 1), Data::In(BLOCK))).collect();
    one.execute(1, &read(0, 1), Data::In(BLOCK)).good();
    one.nop();
    assert!(!one.is_answered(tags[119]), "it waits");
    tags.into_iter().for_each(|tag| drop(one.finish(tag).good()));
}

#[test]
fn bytes_of_an_initiator_count_whatever_unit_they_are_of() {
    let (world, _image) = World::with_memory();
    world.unit(1, memory(1 << 20));
    let limit =
        Limit { iops: None, bytes_per_second: Some(20 * 8 * BLOCK as u64), burst: Duration::ZERO };
    let name = Limited::Initiator(INITIATOR.to_owned());
    world.node.set_limit(name, Some(&limit));
    let mut initiator = world.initiator(&[0, 1]);
    let data = vec![3; 8 * BLOCK];
    let time = took(|| {
        for lun in [0, 1, 0, 1, 0] {
            initiator.execute(lun, &write(0, 8), Data::Out(&data)).good();
            assert_eq!(initiator.execute(lun, &read(0, 8), Data::In(8 * BLOCK)).good(), data);
        }
    });
    assert!(time >= Duration::from_millis(9 * 50), "{time:?}");
}

#[test]
fn a_limit_that_is_lifted_lets_go_of_what_waits_and_a_function_ends_it() {
    let (world, image) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    // Nothing orders a read and a write that are let go together.
    initiator.execute(0, &write(1, 1), Data::Out(&[1; BLOCK])).good();
    let hardly_anything = Limit { iops: Some(1), bytes_per_second: Some(1), burst: Duration::ZERO };
    world.node.set_limit(unit(), Some(&hardly_anything));
    // A new limit is in force when its message has come: from then on only one goes at once.
    eventually(|| {
        let tag = initiator.start(0, &write(1, 1), Data::Out(&[1; BLOCK]));
        initiator.nop();
        !initiator.is_answered(tag)
    });
    let (reads, writes) = (
        initiator.start(0, &read(1, 1), Data::In(BLOCK)),
        initiator.start(0, &write(2, 1), Data::Out(&[2; BLOCK])),
    );
    initiator.nop();
    assert!(!initiator.is_answered(reads) && !initiator.is_answered(writes));
    world.node.set_limit(unit(), None);
    assert_eq!(initiator.finish(reads).good(), [1; BLOCK]);
    initiator.finish(writes).good();
    assert_eq!(initiator.execute(0, &read(2, 1), Data::In(BLOCK)).good(), [2; BLOCK]);

    world.node.set_limit(unit(), Some(&hardly_anything));
    eventually(|| {
        let tag = initiator.start(0, &write(1, 1), Data::Out(&[1; BLOCK]));
        initiator.nop();
        !initiator.is_answered(tag)
    });
    let reads = initiator.start(0, &read(1, 1), Data::In(BLOCK));
    let before = image.calls(disk_image::Operation::Read);
    let function = initiator.start_function(ABORT_TASK_SET, 0, None);
    assert_eq!(initiator.finish_function(function), 0);
    world.node.set_limit(unit(), None);
    initiator.nop();
    initiator.nop();
    assert!(!initiator.is_answered(reads));
    assert_eq!(image.calls(disk_image::Operation::Read), before, "it was never read");
    assert_eq!(initiator.log_out(), 0);
}
