//! What management sees of sessions: their state, their counters, and traces of their connections.

use std::future::poll_fn;

use disk_image::Operation;
use etherparse::{SlicedPacket, TransportSlice};
use target_core::{Authentication, SessionDetail, Trace, TraceError};

use crate::initiator::{Data, Initiator};
use crate::task_management::{ABORT_TASK_SET, hanging_write};
use crate::wire::Login;
use crate::world::{BLOCK, World, eventually, keys, read, write};

/// A session, once it looks as it must.
fn seen(world: &World, tsih: u16, is_so: impl Fn(&SessionDetail) -> bool) -> SessionDetail {
    let mut found = None;
    eventually(|| {
        found = world.node.session(tsih).filter(&is_so);
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn a_session_tells_its_parameters_counters_window_and_commands() {
    let (world, image) = World::with_memory();
    let mut login = world.login();
    login.keys.extend(keys(&[("DataDigest", "CRC32C,None"), ("ErrorRecoveryLevel", "2")]));
    let mut initiator = world.log_in(&login);
    let fresh = seen(&world, initiator.tsih, |_| true);
    assert_eq!(fresh.authentication, Authentication::None);
    assert_eq!((fresh.portal, fresh.cid, fresh.outstanding), (world.address, 1, 0));
    let parameters = fresh.parameters;
    assert!(parameters.data_digest && !parameters.header_digest && !parameters.initial_r2t);
    assert_eq!((parameters.max_burst_length, parameters.error_recovery_level), (1 << 20, 0));

    initiator.execute(0, &[0; 6], Data::None);
    initiator.execute(0, &write(0, 3), Data::Out(&[1; 3 * BLOCK])).good();
    initiator.execute(0, &read(0, 2), Data::In(2 * BLOCK)).good();
    initiator.nop();
    let detail = seen(&world, initiator.tsih, |it| it.counters.pdus_received == 4);
    let counters = detail.counters;
    assert_eq!((counters.commands, counters.read_commands, counters.write_commands), (3, 1, 1));
    assert_eq!((counters.data_out_bytes, counters.data_in_bytes), (1536, 1024));
    // Two responses, Data-In with status, NOP-In.
    assert_eq!((counters.pdus_sent, counters.rejects), (4, 0));
    assert_eq!(detail.exp_cmd_sn, initiator.cmd_sn);
    assert_eq!(detail.max_cmd_sn.wrapping_sub(detail.exp_cmd_sn), 127);

    let gate = image.gate(Operation::Write);
    hanging_write(&mut initiator, &gate, 1);
    let detail = seen(&world, initiator.tsih, |it| it.outstanding == 1);
    assert_eq!(detail.max_cmd_sn.wrapping_sub(detail.exp_cmd_sn), 126, "it takes a place");
    let abort = initiator.start_function(ABORT_TASK_SET, 0, None);
    gate.open();
    initiator.finish_function(abort);
    seen(&world, initiator.tsih, |it| {
        it.outstanding == 0 && it.counters.task_management_functions == 1
    });
    assert!(world.node.session(initiator.tsih.wrapping_add(1)).is_none());
}

#[test]
fn what_sessions_did_counts_when_they_are_over() {
    let (world, _image) = World::with_memory();
    for round in 1..=3 {
        let mut initiator = world.initiator(&[0]);
        initiator.execute(0, &write(0, 2), Data::Out(&[1; 2 * BLOCK])).good();
        initiator.execute(0, &read(0, 1), Data::In(BLOCK)).good();
        assert_eq!(initiator.log_out(), 0);
        world.events.wait_for_end(initiator.tsih);
        let totals = world.node.totals();
        assert_eq!((totals.read_commands, totals.write_commands), (round, round));
        assert_eq!((totals.data_in_bytes, totals.data_out_bytes), (512 * round, 1024 * round));
    }
}

#[test]
fn a_session_that_goes_on_over_another_connection_shows_that_one() {
    let (world, _image) = World::with_memory();
    let login = world.login();
    let mut first = world.log_in(&login);
    first.execute(0, &[0; 6], Data::None);
    let before = seen(&world, first.tsih, |it| it.counters.commands == 1);
    let again = Login {
        tsih: first.tsih,
        keys: keys(&[("HeaderDigest", "CRC32C"), ("MaxRecvDataSegmentLength", "4096")]),
        ..login
    };
    let mut second = Initiator::reinstated(world.address, &again, first.cmd_sn).unwrap();
    second.execute(0, &read(0, 1), Data::In(BLOCK));
    let after = seen(&world, first.tsih, |it| it.counters.commands == 2);
    assert_ne!(after.summary.address, before.summary.address);
    assert!(after.parameters.header_digest);
    assert_eq!(after.parameters.initiator_max_recv_data_segment_length, 4096);
    assert_eq!(after.parameters.max_burst_length, 1 << 20, "that is the session's");
}

/// A block of a trace: its type and body.
fn next(world: &World, trace: &mut Trace) -> Option<(u32, Vec<u8>)> {
    let block = world.block_on(poll_fn(|cx| trace.poll_next(cx)))?;
    let number = |at: usize| u32::from_le_bytes(block[at..at + 4].try_into().unwrap());
    let length = number(4) as usize;
    assert_eq!(number(length - 4) as usize, length, "it stands at both ends");
    Some((number(0), block[8..length - 4].to_vec()))
}

/// A TCP segment of a trace: from, to, sequence number, payload.
fn segment(body: &[u8]) -> (u16, u16, u32, Vec<u8>) {
    let length = u32::from_le_bytes(body[12..16].try_into().unwrap()) as usize;
    assert_eq!(body[12..16], body[16..20], "nothing is cut off");
    let packet = SlicedPacket::from_ip(&body[20..20 + length]).unwrap();
    let Some(TransportSlice::Tcp(tcp)) = packet.transport else { panic!("no TCP") };
    let payload = tcp.payload().to_vec();
    (tcp.source_port(), tcp.destination_port(), tcp.sequence_number(), payload)
}

#[test]
fn a_trace_holds_what_goes_over_the_wire_from_a_pdu_on() {
    let (world, _image) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    assert_eq!(world.node.trace(0xfffe).unwrap_err(), TraceError::NoSuchSession(0xfffe));
    let mut trace = world.node.trace(initiator.tsih).unwrap();
    // The file begins as soon as the trace does.
    assert_eq!(next(&world, &mut trace).unwrap().0, 0x0a0d_0d0a);
    let data = [0x5a; 200 * BLOCK];
    let (tag, command) = initiator.command(0, &write(0, 200), Data::Out(&data));
    initiator.wire.send_bytes(&command);
    initiator.finish(tag).good();
    let first = initiator.execute(0, &read(7, 150), Data::In(150 * BLOCK)).good();
    initiator.log_out();
    let (mut received, mut sent, mut end) = (Vec::new(), Vec::new(), None);
    while let Some((kind, body)) = next(&world, &mut trace) {
        match kind {
            6 => {
                let (from, _, sequence, payload) = segment(&body);
                let stream = if from == world.address.port() { &mut sent } else { &mut received };
                assert_eq!(sequence as usize, stream.len(), "nothing is missing");
                stream.extend(payload);
            }
            5 => end = Some(body),
            other => panic!("a block of type {other}"),
        }
    }
    assert_eq!(received[..command.len()], command[..]);
    assert_eq!(received.len() - command.len(), 48 + 48, "a read, a logout");
    // SCSI Response; Data-In with header and data; Logout Response.
    assert_eq!((sent[0], sent[48], sent[sent.len() - 48]), (0x21, 0x25, 0x26));
    assert_eq!(sent[96..96 + first.len()], first[..]);
    // No packet was left out.
    assert_eq!(end.expect("it has an end")[28..36], [0; 8]);
}

#[test]
fn whoever_reads_a_trace_too_slowly_misses_packets_and_holds_nobody_up() {
    let (world, _image) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    let mut trace = world.node.trace(initiator.tsih).unwrap();
    assert_eq!(next(&world, &mut trace).unwrap().0, 0x0a0d_0d0a);
    for _ in 0..200 {
        initiator.execute(0, &read(0, 1), Data::In(BLOCK)).good();
    }
    initiator.log_out();
    let (mut packets, mut end) = (0, None);
    while let Some((kind, body)) = next(&world, &mut trace) {
        match kind {
            6 => packets += 1,
            _ => end = Some(body),
        }
    }
    let end = end.expect("its end is told even so");
    let number = |at: usize| u64::from_le_bytes(end[at..at + 8].try_into().unwrap());
    let (all, dropped) = (number(16), number(28));
    assert!(dropped > 100, "{dropped}");
    assert_eq!(all - dropped, packets);
}

#[test]
fn traces_are_bounded_and_a_place_is_free_again_when_one_ends() {
    let (world, _image) = World::with_memory();
    let initiator = world.initiator(&[0]);
    let mut traces: Vec<_> = (0..16).map(|_| world.node.trace(initiator.tsih).unwrap()).collect();
    assert_eq!(world.node.trace(initiator.tsih).unwrap_err(), TraceError::TooMany);
    traces.pop();
    traces.push(world.node.trace(initiator.tsih).unwrap());
    drop(initiator);
    for mut trace in traces {
        // They end with the connection.
        while next(&world, &mut trace).is_some() {}
    }
}
