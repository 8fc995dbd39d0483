//! Sessions that are replaced, units and targets that go away: all of it is over only when
//! nothing of the old can write any more.

use disk_image::Operation;
use target_core::{AuthPolicy, NodeError, SessionEnd};

use crate::initiator::{Data, Initiator};
use crate::task_management::{ABORT_TASK, hanging_write};
use crate::wire::{Login, PATIENCE, Refusal, Wire};
use crate::world::{
    BLOCK, OTHER_TARGET, TARGET, TEST_UNIT_READY, World, durable_write, eventually, memory, read,
};

#[test]
fn a_session_that_logs_in_again_waits_for_the_writes_of_the_old_one() {
    let (world, image) = World::with_memory();
    let login = world.login();
    let mut old = world.log_in(&login);
    old.execute(0, &TEST_UNIT_READY, Data::None).check((6, 0x29, 0));
    let gate = image.gate(Operation::Write);
    hanging_write(&mut old, &gate, 1);
    let mut wire = Wire::connect(world.address);
    login.begin(&mut wire);
    wire.assert_silent();
    // Others come and go meanwhile.
    world.initiator(&[0]);
    gate.open();
    let mut new = Initiator::logged_in(wire).unwrap();
    assert_ne!(new.tsih, old.tsih);
    old.read_to_end();
    assert_eq!(world.events.wait_for_end(old.tsih), SessionEnd::Reinstated);
    new.execute(0, &TEST_UNIT_READY, Data::None).check((6, 0x29, 0));
    let data = new.execute(0, &read(7, 1), Data::In(BLOCK)).good();
    assert_eq!(data, [0xee; BLOCK]);
}

#[test]
fn another_isid_or_target_or_initiator_is_another_session() {
    let (world, _) = World::with_memory();
    world.target(OTHER_TARGET, AuthPolicy::None);
    let login = world.login();
    let mut first = world.log_in(&login);
    let others = [
        Login { isid: [0x40, 0, 1, 0xff, 0, 0], ..login.clone() },
        Login { target: Some(OTHER_TARGET.to_owned()), ..login.clone() },
        Login { initiator: "iqn.2026-01.org.example:guest".to_owned(), ..login.clone() },
        Login { target: None, ..login },
    ];
    let mut sessions: Vec<_> = others.iter().map(|login| world.log_in(login)).collect();
    first.nop();
    sessions.iter_mut().for_each(Initiator::nop);
    assert_eq!(world.node.sessions().len(), 5);
}

#[test]
fn a_session_is_replaced_though_its_initiator_reads_nothing() {
    let (world, _) = World::with_memory();
    let login = world.login();
    let mut old = world.log_in(&login);
    fill_up(&world, &mut old);
    // What is queued for the old connection can never be sent; a broken PDU closes it.
    old.wire.send_bytes(&[0xff; 48]);
    let new = world.log_in(&login);
    assert_ne!(new.tsih, old.tsih);
}

/// Asks for more than sockets hold and reads none of it.
pub fn fill_up(world: &World, initiator: &mut Initiator) {
    for _ in 0..64 {
        initiator.start(0, &read(0, 2048), Data::In(1 << 20));
    }
    eventually(|| {
        let sessions = world.node.sessions();
        sessions.iter().any(|session| session.tsih == initiator.tsih && session.read_bytes > 0)
    });
}

#[test]
fn a_unit_is_removed_when_nothing_can_write_to_it_any_more() {
    let (world, image) = World::with_memory();
    world.unit(1, memory(1 << 20));
    let mut initiator = world.initiator(&[0, 1]);
    let gate = image.gate(Operation::Write);
    let tag = hanging_write(&mut initiator, &gate, 1);
    let node = world.node.clone();
    let removal = world.spawn(async move { node.remove_unit(TARGET, 0).await });
    // The session knows of it when the LUN has become unknown.
    let gone = |initiator: &mut Initiator| {
        initiator.execute(0, &TEST_UNIT_READY, Data::None).sense() == (5, 0x25, 0)
    };
    eventually(|| gone(&mut initiator));
    initiator.nop();
    assert!(!initiator.is_answered(tag), "answered while it can still write");
    assert!(!removal.is_finished(), "removed while a write can still write");
    gate.open();
    assert_eq!(world.wait(removal), Ok(()));
    initiator.finish(tag).check((5, 0x25, 0));
    assert_eq!(image.calls(Operation::Write), 1);
}

#[test]
fn a_unit_is_removed_after_writes_that_were_aborted_or_came_under_another_form_of_its_lun() {
    for aborted in [true, false] {
        let (world, image) = World::with_memory();
        let mut initiator = world.initiator(&[0]);
        let gate = image.gate(Operation::Write);
        if aborted {
            let tag = hanging_write(&mut initiator, &gate, 1);
            initiator.start_function(ABORT_TASK, 0, Some(tag));
        } else {
            initiator.start_at(0x4000 << 48, &durable_write(7, 1), Data::Out(&[1; BLOCK]));
            assert!(gate.wait_for_arrivals(1, PATIENCE));
        }
        initiator.nop();
        let node = world.node.clone();
        let removal = world.spawn(async move { node.remove_unit(TARGET, 0).await });
        eventually(|| initiator.execute(0, &TEST_UNIT_READY, Data::None).sense() == (5, 0x25, 0));
        initiator.nop();
        assert!(!removal.is_finished(), "removed while a write can still write: {aborted}");
        gate.open();
        assert_eq!(world.wait(removal), Ok(()));
    }
}

#[test]
fn a_unit_under_two_luns_is_removed_from_one_when_that_ones_writes_have_ended() {
    let (world, image) = World::with_memory();
    let mut initiator = world.initiator(&[]);
    world.block_on(world.node.remove_unit(TARGET, 0)).unwrap();
    let both = world.unit(0, image.clone());
    world.node.add_unit(TARGET, 1, both).unwrap();
    for lun in [0, 1] {
        eventually(|| initiator.execute(lun, &TEST_UNIT_READY, Data::None).status == 0);
    }
    let gate = image.gate(Operation::Write);
    hanging_write(&mut initiator, &gate, 1);
    let node = world.node.clone();
    let removal = world.spawn(async move { node.remove_unit(TARGET, 0).await });
    eventually(|| initiator.execute(0, &TEST_UNIT_READY, Data::None).sense() == (5, 0x25, 0));
    initiator.nop();
    assert!(!removal.is_finished());
    gate.open();
    assert_eq!(world.wait(removal), Ok(()));
    initiator.execute(1, &TEST_UNIT_READY, Data::None).check((6, 0x3f, 0x0e));
    initiator.execute(1, &TEST_UNIT_READY, Data::None).good();
}

#[test]
fn a_target_is_removed_when_nothing_can_write_through_it_any_more() {
    let (world, image) = World::with_memory();
    world.target(OTHER_TARGET, AuthPolicy::None);
    let other = Login { target: Some(OTHER_TARGET.to_owned()), ..world.login() };
    let mut untouched = world.log_in(&other);
    let mut initiator = world.initiator(&[0]);
    let gate = image.gate(Operation::Write);
    hanging_write(&mut initiator, &gate, 1);
    let node = world.node.clone();
    let removal = world.spawn(async move { node.remove_target(TARGET).await });
    let login = world.login();
    eventually(|| Initiator::log_in(world.address, &login).err() == Some(Refusal::Status(0x0203)));
    initiator.wire.assert_silent();
    assert!(!removal.is_finished(), "removed while a write can still write");
    gate.open();
    assert_eq!(world.wait(removal), Ok(()));
    initiator.read_to_end();
    assert_eq!(world.events.wait_for_end(initiator.tsih), SessionEnd::TargetGone);
    untouched.nop();
    assert_eq!(world.node.sessions().len(), 1);
}

#[test]
fn a_target_is_removed_though_an_initiator_reads_nothing() {
    let (world, _) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    fill_up(&world, &mut initiator);
    assert_eq!(world.block_on(world.node.remove_target(TARGET)), Ok(()));
    assert_eq!(world.events.wait_for_end(initiator.tsih), SessionEnd::TargetGone);
}

#[test]
fn what_cannot_be_changed_is_refused() {
    let (world, _) = World::with_memory();
    let no_target = || NodeError::NoSuchTarget(OTHER_TARGET.to_owned());
    let spare = crate::world::unit("spare", memory(1 << 20));
    assert_eq!(
        world.node.add_unit(TARGET, 0, spare.clone()),
        Err(NodeError::LunInUse { target: TARGET.to_owned(), lun: 0 })
    );
    assert_eq!(world.node.add_unit(OTHER_TARGET, 0, spare), Err(no_target()));
    assert_eq!(
        world.block_on(world.node.remove_unit(TARGET, 1)),
        Err(NodeError::NoSuchLun { target: TARGET.to_owned(), lun: 1 })
    );
    assert_eq!(world.block_on(world.node.remove_target(OTHER_TARGET)), Err(no_target()));
}
