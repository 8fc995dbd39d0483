//! The end of a node: what has begun is answered, then everybody goes.

use std::time::Duration;

use disk_image::Operation;
use iscsi_proto::pdu::AsyncEvent;
use target_core::{NodeConfig, NodeError, NodeState, SessionEnd};

use crate::initiator::Data;
use crate::task_management::hanging_write;
use crate::wire::{Login, PATIENCE, Refusal};
use crate::world::{BLOCK, World, memory, read, write};

/// A node that asks for logouts and has no time limit that a test would notice.
fn patient() -> World {
    let world = World::with(NodeConfig { logout_time: PATIENCE, ..NodeConfig::default() });
    world.unit(0, memory(1 << 20));
    world
}

#[test]
fn sessions_get_their_answers_before_they_end() {
    let (world, image) = World::with_memory();
    let mut idle = world.initiator(&[0]);
    let mut busy = world.initiator(&[0]);
    let (reads, writes) = (image.gate(Operation::Read), image.gate(Operation::Write));
    let tags: Vec<_> = (0..30).map(|lba| busy.start(0, &read(lba, 1), Data::In(BLOCK))).collect();
    assert!(reads.wait_for_arrivals(2, PATIENCE));
    busy.nop();
    let node = world.node.clone();
    let drain = world.spawn(async move { node.drain(PATIENCE).await });
    idle.read_to_end();
    let ask = AsyncEvent::LogoutRequest { seconds: 1 };
    let drop = AsyncEvent::DropSession { time2wait: 2, time2retain: 0 };
    assert_eq!(idle.async_events, [ask, drop]);
    assert_eq!(world.refusal(&world.login()), Refusal::Status(0x0301));
    assert!(!drain.is_finished());
    reads.open();
    writes.open();
    busy.read_to_end();
    assert_eq!(busy.async_events, [ask, drop]);
    for tag in tags {
        busy.finish(tag).good();
    }
    assert!(world.wait(drain));
    for tsih in [idle.tsih, busy.tsih] {
        assert_eq!(world.events.wait_for_end(tsih), SessionEnd::Drained);
    }
    assert!(world.node.sessions().is_empty());
}

#[test]
fn a_write_that_hangs_is_not_waited_for_longer_than_allowed() {
    let (world, image) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    let gate = image.gate(Operation::Write);
    let tag = hanging_write(&mut initiator, &gate, 1);
    assert!(!world.block_on(world.node.drain(Duration::from_millis(50))));
    assert_eq!(world.node.sessions().len(), 1);
    gate.open();
    initiator.read_to_end();
    initiator.finish(tag).good();
    assert!(world.block_on(world.node.drain(PATIENCE)));
}

#[test]
fn a_write_whose_data_has_not_come_is_not_waited_for() {
    let (world, _) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    initiator.hold_r2t = true;
    let tag = initiator.start(0, &write(0, 2048), Data::Out(&vec![1; 1 << 20]));
    initiator.nop();
    assert!(world.block_on(world.node.drain(PATIENCE)));
    initiator.read_to_end();
    assert!(!initiator.is_answered(tag));
}

#[test]
fn initiators_that_are_asked_may_finish_and_log_out() {
    let world = patient();
    let mut normal = world.initiator(&[0]);
    let mut discovery = world.log_in(&Login { target: None, keys: Vec::new(), ..world.login() });
    let node = world.node.clone();
    let drain = world.spawn(async move { node.drain(PATIENCE).await });
    let seconds = u16::try_from(PATIENCE.as_secs()).unwrap();
    for initiator in [&mut normal, &mut discovery] {
        assert!(initiator.pump());
        assert_eq!(initiator.async_events, [AsyncEvent::LogoutRequest { seconds }]);
    }
    // Whoever is asked is still served.
    normal.execute(0, &read(0, 1), Data::In(BLOCK)).good();
    assert_eq!(world.refusal(&world.login()), Refusal::Status(0x0301));
    assert!(!drain.is_finished());
    for mut initiator in [normal, discovery] {
        assert_eq!(initiator.log_out(), 0);
        initiator.read_to_end();
        assert_eq!(initiator.async_events.len(), 1, "nothing is dropped that has logged out");
    }
    assert!(world.wait(drain));
}

#[test]
fn a_node_that_drained_can_be_resumed_and_one_that_stops_cannot() {
    let world = patient();
    let mut stays = world.initiator(&[0]);
    let node = world.node.clone();
    let drain = world.spawn(async move { node.drain(PATIENCE).await });
    assert!(stays.pump());
    assert_eq!(world.node.state(), NodeState::Draining);
    world.node.resume().unwrap();
    assert_eq!(world.node.state(), NodeState::Serving);
    let mut new = world.initiator(&[0]);
    // The drain finds out when its time is over; it is not waited for here.
    drain.abort();
    let node = world.node.clone();
    let stop = world.spawn(async move { node.stop(PATIENCE).await });
    assert!(new.pump() && stays.pump());
    assert_eq!((new.async_events.len(), stays.async_events.len()), (1, 2));
    assert_eq!(world.node.resume(), Err(NodeError::Stopping));
    assert_eq!(world.refusal(&world.login()), Refusal::Status(0x0301));
    assert_eq!((new.log_out(), stays.log_out()), (0, 0));
    assert!(world.wait(stop));
}

#[test]
fn a_drain_ends_no_session_after_the_node_was_resumed() {
    // Time enough to resume it, and not too long to wait for.
    let logout_time = Duration::from_secs(3);
    let world = World::with(NodeConfig { logout_time, ..NodeConfig::default() });
    world.unit(0, memory(1 << 20));
    let mut stays = world.initiator(&[0]);
    let node = world.node.clone();
    let drain = world.spawn(async move { node.drain(PATIENCE).await });
    assert!(stays.pump());
    world.node.resume().unwrap();
    let mut new = world.initiator(&[0]);
    assert!(!world.wait(drain));
    stays.nop();
    new.nop();
    assert_eq!(world.node.sessions().len(), 2);
}

#[test]
fn one_session_can_be_asked_to_log_out_or_negotiate_and_ended_while_others_stay() {
    let (world, image) = World::with_memory();
    let mut asked = world.initiator(&[0]);
    let mut other = world.initiator(&[0]);
    assert!(world.node.ask_renegotiation(asked.tsih, 5));
    assert!(asked.pump());
    assert_eq!(asked.async_events, [AsyncEvent::Renegotiate { seconds: 5 }]);
    assert_eq!(asked.text(b"MaxRecvDataSegmentLength=8192\0"), b"");
    assert!(world.node.ask_logout(asked.tsih, 7));
    assert!(asked.pump());
    assert_eq!(asked.async_events[1], AsyncEvent::LogoutRequest { seconds: 7 });
    asked.execute(0, &read(0, 1), Data::In(BLOCK)).good();
    // What has begun is answered, then it is told.
    let gate = image.gate(Operation::Write);
    let tag = hanging_write(&mut asked, &gate, 1);
    assert!(world.node.end_session(asked.tsih));
    other.nop();
    gate.open();
    asked.read_to_end();
    asked.finish(tag).good();
    assert_eq!(asked.async_events[2], AsyncEvent::DropSession { time2wait: 2, time2retain: 0 });
    assert_eq!(world.events.wait_for_end(asked.tsih), SessionEnd::Ended);
    assert!(!world.node.end_session(asked.tsih) && !world.node.ask_logout(asked.tsih, 1));
    other.execute(0, &read(0, 1), Data::In(BLOCK)).good();
    assert_eq!(other.async_events, []);
}
