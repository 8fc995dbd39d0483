//! Data-In: how it is cut, numbered and ended, on both paths.

use proptest::prelude::*;

use super::*;
use crate::pdu::DataIn;

/// Sends through the queue's own buffer: the bytes that leave.
fn in_place(wired: &mut Wired, task: TaskId, data: &[u8], status: Option<u8>) -> Vec<u8> {
    let device_length = u64::try_from(data.len()).unwrap();
    let layout = wired.session.begin_data_in(task, device_length, &mut wired.tx);
    if let Some(layout) = layout {
        let mut rest = data;
        for mut slice in wired.tx.payload_slices(&layout) {
            let (head, tail) = rest.split_at(slice.len());
            slice.copy_from_slice(head);
            rest = tail;
        }
        assert_eq!(data.len() - rest.len(), layout.length() as usize);
        wired.session.finish_data_in(layout, device_length, status, &mut wired.tx);
    }
    wired.sent()
}

/// Sends a buffer that somebody else filled.
fn owned(wired: &mut Wired, task: TaskId, data: &[u8], status: Option<u8>) -> Vec<u8> {
    let device_length = u64::try_from(data.len()).unwrap();
    wired.session.data_in_owned(
        task,
        &data.to_vec(),
        0..u32::MAX,
        device_length,
        status,
        &mut wired.tx,
    );
    wired.sent()
}

fn residual_of(expected: u32, device_length: u32) -> (u8, u32) {
    match device_length.cmp(&expected) {
        std::cmp::Ordering::Less => (DataIn::UNDERFLOW, expected - device_length),
        std::cmp::Ordering::Equal => (0, 0),
        std::cmp::Ordering::Greater => (DataIn::OVERFLOW, device_length - expected),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    #[test]
    fn data_is_cut_numbered_and_ended_as_negotiated(
        segment in 512u32..3000, max_burst in 512u32..6000, digests in any::<[bool; 2]>(),
        expected in prop_oneof![Just(0u32), 1u32..2000, 1u32..30_000],
        device_length in prop_oneof![Just(0u32), 1u32..2000, 1u32..30_000],
        collapse in any::<bool>(), exact in any::<bool>(),
    ) {
        let device_length = if exact { expected } else { device_length };
        let parameters = Parameters {
            initiator_max_recv_data_segment_length: segment,
            max_burst_length: max_burst,
            header_digest: digests[0],
            data_digest: digests[1],
            ..Parameters::default()
        };
        let data = pattern(device_length);
        let (mut wired, mut other) = (Wired::new(parameters), Wired::new(parameters));
        let (task, other_task) = (wired.command(read(expected)), other.command(read(expected)));
        let status = collapse.then_some(0);
        let bytes = in_place(&mut wired, task, &data, status);
        prop_assert_eq!(&bytes, &owned(&mut other, other_task, &data, status));

        let replies = wired.initiator.receive(&bytes);
        let sent = expected.min(device_length);
        let (mut received, mut sequence) = (Vec::new(), 0);
        for (data_sn, reply) in (0..).zip(&replies) {
            prop_assert_eq!(reply.opcode(), opcode::DATA_IN);
            let header = DataIn::view(&reply.bhs);
            prop_assert_eq!(header.data_sn.get(), data_sn);
            prop_assert_eq!(header.buffer_offset.get() as usize, received.len());
            prop_assert!(!reply.data.is_empty() && reply.data.len() <= segment as usize);
            received.extend_from_slice(&reply.data);
            sequence += reply.data.len();
            prop_assert!(sequence <= max_burst as usize, "a sequence beyond MaxBurstLength");
            let last = received.len() == sent as usize;
            if header.flags & FINAL != 0 {
                // No sequence ends while another PDU would have had room in it.
                prop_assert!(last || sequence + segment.min(max_burst) as usize > max_burst as usize);
                sequence = 0;
            }
            let has_status = header.flags & DataIn::STATUS != 0;
            prop_assert_eq!(has_status, last && collapse);
            if has_status {
                let residual = (header.flags & 0x06, header.residual_count.get());
                prop_assert_eq!(residual, residual_of(expected, device_length));
            } else {
                prop_assert_eq!(header.flags & !FINAL, 0);
                prop_assert_eq!((header.stat_sn.get(), header.residual_count.get()), (0, 0));
            }
        }
        prop_assert_eq!(sequence, 0, "the last PDU has no F bit");
        prop_assert_eq!(&received[..], &data[..sent as usize]);
        prop_assert_eq!(wired.session.counters().data_in_bytes, u64::from(sent));

        // Without phase collapse, or without data, a response ends the task.
        if !collapse || sent == 0 {
            prop_assert_eq!(wired.session.outstanding(), 1);
            wired.session.respond(task, 0, &[], device_length.into(), &mut wired.tx);
            let reply = wired.reply();
            let response = ScsiResponse::view(&reply.bhs);
            prop_assert_eq!(response.exp_data_sn.get() as usize, replies.len());
            let residual = (response.flags & !FINAL, response.residual_count.get());
            prop_assert_eq!(residual, residual_of(expected, device_length));
        }
        prop_assert_eq!(wired.session.outstanding(), 0);
    }
}

#[test]
fn data_that_comes_in_two_transfers_is_numbered_through() {
    let mut wired = Wired::new(Parameters::default());
    let task = wired.command(read(100));
    in_place(&mut wired, task, &[1; 40], None);
    let bytes = owned(&mut wired, task, &[2; 60], Some(0));
    let header = *DataIn::view(&wired.initiator.receive(&bytes)[0].bhs);
    assert_eq!(header.data_sn.get(), 1);
}

/// Sends in parts through the queue's own buffer, the last ones as somebody else has filled them.
fn in_parts(wired: &mut Wired, task: TaskId, data: &[u8], most: u32, owned_from: u32) -> Vec<u8> {
    let (mut done, mut bytes) = (0, Vec::new());
    let length = u64::try_from(data.len()).unwrap();
    loop {
        let rest = &data[done as usize..];
        if done >= owned_from {
            let rest = &rest.to_vec();
            wired.session.data_in_owned(task, rest, done..u32::MAX, length, Some(0), &mut wired.tx);
            bytes.extend(wired.sent());
            return bytes;
        }
        let layout = wired.session.begin_data_in_part(task, length, done, most, &mut wired.tx);
        let layout = layout.unwrap();
        let mut rest = rest;
        for mut slice in wired.tx.payload_slices(&layout) {
            let (head, tail) = rest.split_at(slice.len());
            slice.copy_from_slice(head);
            rest = tail;
        }
        wired.session.finish_data_in(layout, length, Some(0), &mut wired.tx);
        bytes.extend(wired.sent());
        assert!(layout.end() > done);
        done = layout.end();
        if layout.is_last() {
            return bytes;
        }
    }
}

proptest! {
    #[test]
    fn parts_make_the_same_data_as_all_at_once(
        segment in 512u32..3000, max_burst in 512u32..6000, digests in any::<[bool; 2]>(),
        length in 1u32..30_000, most in 1u32..9000, owned_from in 0u32..40_000,
    ) {
        let parameters = Parameters {
            initiator_max_recv_data_segment_length: segment,
            max_burst_length: max_burst,
            header_digest: digests[0],
            data_digest: digests[1],
            ..Parameters::default()
        };
        let data = pattern(length);
        let (mut wired, mut other) = (Wired::new(parameters), Wired::new(parameters));
        let (task, other_task) = (wired.command(read(length)), other.command(read(length)));
        let parts = in_parts(&mut wired, task, &data, most, owned_from);
        prop_assert_eq!(parts, in_place(&mut other, other_task, &data, Some(0)));
        prop_assert_eq!(wired.session.outstanding(), 0);
    }
}

#[test]
fn a_command_that_reads_nothing_gets_no_data() {
    let mut wired = Wired::new(Parameters::default());
    // A write that a device would answer with data, and a read of nothing.
    for scsi in [write(512), read(0)] {
        let task = wired.command(scsi);
        assert!(wired.session.begin_data_in(task, 512, &mut wired.tx).is_none());
        assert_eq!(wired.session.data_in_length(task, 512), None);
        wired.session.data_in_owned(task, &vec![0; 512], 0..u32::MAX, 512, Some(0), &mut wired.tx);
        assert!(wired.tx.is_empty());
    }
    assert_eq!(wired.session.outstanding(), 2);
}

#[test]
fn room_that_is_not_used_leaves_no_trace() {
    let mut wired = Wired::new(Parameters::default());
    let task = wired.command(read(9000));
    let layout = wired.session.begin_data_in(task, 9000, &mut wired.tx).unwrap();
    wired.session.cancel_data_in(layout, &mut wired.tx);
    assert!(wired.tx.is_empty());
    // Aborted while it was being filled.
    let layout = wired.session.begin_data_in(task, 9000, &mut wired.tx).unwrap();
    wired.session.abort(task, None);
    wired.session.finish_data_in(layout, 9000, Some(0), &mut wired.tx);
    assert!(wired.tx.is_empty());
}

#[test]
fn sense_data_stands_behind_its_length() {
    for (header_digest, data_digest) in [(false, false), (true, true)] {
        let mut wired =
            Wired::new(Parameters { header_digest, data_digest, ..Parameters::default() });
        let task = wired.command(read(512));
        wired.session.respond(task, 2, &[0x70, 0, 5, 0, 0], 0, &mut wired.tx);
        let reply = wired.reply();
        let response = ScsiResponse::view(&reply.bhs);
        assert_eq!((response.status, response.response), (2, ScsiResponse::COMPLETED_AT_TARGET));
        assert_eq!(response.flags, FINAL | ScsiResponse::UNDERFLOW);
        assert_eq!(response.residual_count.get(), 512);
        assert_eq!(reply.data, [0, 5, 0x70, 0, 5, 0, 0]);
    }
}

#[test]
fn a_residual_that_does_not_fit_is_as_large_as_it_can_be() {
    let mut wired = Wired::new(Parameters::default());
    let task = wired.command(read(512));
    wired.session.respond(task, 0, &[], u64::MAX, &mut wired.tx);
    let response = *ScsiResponse::view(&wired.reply().bhs);
    assert_eq!((response.flags, response.residual_count.get()), (0x84, u32::MAX));
}
