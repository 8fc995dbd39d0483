//! Writes: whatever was negotiated and however the data comes, what is handed out is what was sent.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::ids::TargetTransferTag;
use crate::pdu::ReadyToTransfer;

/// One write of the initiator, and how far it is.
struct Write {
    data: Vec<u8>,
    device_length: u32,
    itt: InitiatorTaskTag,
    /// Bytes that went out before any R2T.
    unsolicited: u32,
    wanted: u32,
    received: Vec<u8>,
    completed: bool,
    r2ts: VecDeque<ReadyToTransfer>,
    next_r2t: u32,
    asked: u32,
    response: Option<ScsiResponse>,
}

impl Write {
    /// Takes what is handed out; pieces come in order and without gaps.
    fn take(&mut self, offset: u32, data: &[u8], complete: bool) {
        assert!(!self.completed, "data after the end");
        assert!(data.is_empty() || offset as usize == self.received.len());
        self.received.extend_from_slice(data);
        self.completed = complete;
    }

    /// Takes an R2T; they come in order, none too early and none too long (RFC 7143 §11.8).
    fn asked_for(&mut self, r2t: ReadyToTransfer, parameters: &Parameters) {
        let length = r2t.desired_data_transfer_length.get();
        assert!((1..=parameters.max_burst_length).contains(&length), "{r2t:?}");
        assert_eq!(r2t.r2t_sn.get(), self.next_r2t);
        assert_eq!(r2t.buffer_offset.get(), self.asked.max(self.unsolicited));
        assert_eq!(r2t.lun.get(), Lun::from_number(1).0);
        assert_ne!(r2t.target_transfer_tag.get(), TargetTransferTag::RESERVED.0);
        assert!(self.r2ts.iter().all(|other| other.target_transfer_tag != r2t.target_transfer_tag));
        self.next_r2t += 1;
        self.asked = r2t.buffer_offset.get() + length;
        assert!(self.asked <= self.wanted, "asks for more than the device wants");
        self.r2ts.push_back(r2t);
        assert!(self.r2ts.len() <= usize::from(parameters.max_outstanding_r2t));
    }
}

#[derive(Debug, Clone)]
struct Plan {
    expected: u32,
    device_length: u32,
    /// 256ths of what may be sent as immediate and as unsolicited data.
    immediate: u8,
    unsolicited: u8,
    pieces: Vec<usize>,
}

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let sizes = prop_oneof![Just(0u32), 1u32..600, 1u32..20_000];
    let share = prop_oneof![Just(0u8), Just(255), any::<u8>()];
    let plan =
        (sizes.clone(), sizes, share.clone(), share, prop::collection::vec(1usize..3000, 1..5))
            .prop_map(|(expected, device_length, immediate, unsolicited, pieces)| Plan {
                expected,
                device_length,
                immediate,
                unsolicited,
                pieces,
            });
    prop::collection::vec(plan, 1..4)
}

fn parameters() -> impl Strategy<Value = Parameters> {
    (any::<[bool; 4]>(), 512u32..5000, 512u32..5000, 1u16..5).prop_map(
        |([initial_r2t, immediate_data, header_digest, data_digest], first, max, r2ts)| {
            Parameters {
                initial_r2t,
                immediate_data,
                header_digest,
                data_digest,
                first_burst_length: first.min(max),
                max_burst_length: max,
                max_outstanding_r2t: r2ts,
                ..Parameters::default()
            }
        },
    )
}

/// 255 is all of it.
fn part(of: u32, share: u8) -> u32 {
    of * u32::from(share) / 255
}

/// Sends a command with the data that goes before any R2T; accepts it at once, as a device server
/// does.
fn begin(wired: &mut Wired, plan: &Plan) -> Write {
    let parameters = *wired.session.parameters();
    let data = pattern(plan.expected);
    let most = plan.expected.min(parameters.first_burst_length);
    let immediate = if parameters.immediate_data { part(most, plan.immediate) } else { 0 };
    let later = if parameters.initial_r2t { 0 } else { part(most - immediate, plan.unsolicited) };
    let itt = wired.initiator.scsi(Scsi {
        lun: 1,
        more: later > 0,
        data: &data[..immediate as usize],
        ..write(plan.expected)
    });
    let seen = wired.feed().unwrap();
    let [Seen::Command { task, data: first, .. }] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!(first, &data[..immediate as usize]);
    let wanted = wired.session.accept_write(*task, plan.device_length.into(), &mut wired.tx);
    assert_eq!(wanted, plan.device_length.min(plan.expected));
    let mut received = first.clone();
    received.truncate(wanted as usize);
    let done = wired.session.write_is_complete(*task);
    assert_eq!(done, later == 0 && immediate >= wanted);
    let mut write = Write {
        device_length: plan.device_length,
        itt,
        unsolicited: immediate + later,
        wanted,
        received,
        completed: done,
        r2ts: VecDeque::new(),
        next_r2t: 0,
        asked: 0,
        response: None,
        data,
    };
    if done {
        wired.session.respond(*task, 0, &[], plan.device_length.into(), &mut wired.tx);
    }
    collect(wired, std::slice::from_mut(&mut write));
    if later > 0 {
        assert!(write.r2ts.is_empty(), "an R2T while unsolicited data is under way");
        let range = immediate as usize..(immediate + later) as usize;
        let tags = (itt, TargetTransferTag::RESERVED);
        let pieces = plan.pieces.iter().copied();
        wired.initiator.sequence(tags, immediate, &write.data[range], pieces);
    }
    write
}

/// Hands over what the initiator has built, answers what is complete.
fn pump(wired: &mut Wired, writes: &mut [Write]) {
    for seen in wired.feed().unwrap() {
        let Seen::WriteData { task, offset, data, complete } = seen else { panic!("{seen:?}") };
        let itt = wired.session.initiator_task_tag(task).unwrap();
        let write = writes.iter_mut().find(|write| write.itt == itt).unwrap();
        write.take(offset, &data, complete);
        if complete {
            assert!(wired.session.write_is_complete(task));
            let length = write.device_length.into();
            wired.session.respond(task, 0, &[], length, &mut wired.tx);
        }
    }
    collect(wired, writes);
}

fn collect(wired: &mut Wired, writes: &mut [Write]) {
    for reply in wired.replies() {
        let header = ScsiResponse::view(&reply.bhs);
        let write = writes
            .iter_mut()
            .find(|write| write.itt.0 == header.initiator_task_tag.get())
            .expect("a reply to nobody");
        match reply.opcode() {
            opcode::READY_TO_TRANSFER => {
                write.asked_for(*ReadyToTransfer::view(&reply.bhs), wired.session.parameters());
            }
            opcode::SCSI_RESPONSE => assert!(write.response.replace(*header).is_none()),
            other => panic!("opcode {other:#x}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    #[test]
    fn a_write_arrives_as_it_was_sent(
        parameters in parameters(), plans in plans(),
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..20),
    ) {
        let mut wired = Wired::new(parameters);
        let mut writes = Vec::new();
        for plan in &plans {
            writes.push(begin(&mut wired, plan));
            pump(&mut wired, &mut writes);
        }
        // Sequences of different tasks may come in any order; those of one task in that of its R2Ts.
        let mut order = order.iter().cycle();
        while writes.iter().any(|write| write.response.is_none()) {
            let waiting: Vec<usize> =
                (0..writes.len()).filter(|at| !writes[*at].r2ts.is_empty()).collect();
            prop_assert!(!waiting.is_empty(), "everybody waits for everybody");
            let at = waiting[order.next().unwrap().index(waiting.len())];
            let r2t = writes[at].r2ts.pop_front().unwrap();
            let (offset, length) =
                (r2t.buffer_offset.get(), r2t.desired_data_transfer_length.get());
            let range = offset as usize..(offset + length) as usize;
            let tags = (writes[at].itt, TargetTransferTag(r2t.target_transfer_tag.get()));
            let pieces = plans[at].pieces.iter().copied();
            wired.initiator.sequence(tags, offset, &writes[at].data[range], pieces);
            pump(&mut wired, &mut writes);
        }
        let mut bytes = 0;
        for (write, plan) in writes.iter().zip(&plans) {
            prop_assert!(write.completed && write.r2ts.is_empty());
            prop_assert_eq!(&write.received[..], &write.data[..write.wanted as usize]);
            let response = write.response.unwrap();
            let (flags, count) = (response.flags & 0x1e, response.residual_count.get());
            let expected = match plan.device_length.cmp(&plan.expected) {
                std::cmp::Ordering::Less => (0x02, plan.expected - plan.device_length),
                std::cmp::Ordering::Equal => (0, 0),
                std::cmp::Ordering::Greater => (0x04, plan.device_length - plan.expected),
            };
            prop_assert_eq!((flags, count), expected);
            prop_assert_eq!(response.exp_data_sn.get(), 0);
            bytes += u64::from(write.unsolicited.max(write.wanted));
        }
        prop_assert_eq!(wired.session.counters().data_out_bytes, bytes);
        prop_assert_eq!(wired.session.outstanding(), 0);
    }
}

#[test]
fn r2ts_are_sent_ahead_as_far_as_was_negotiated() {
    let parameters =
        Parameters { max_burst_length: 1000, max_outstanding_r2t: 3, ..Parameters::default() };
    let mut wired = Wired::new(parameters);
    let task = wired.command(write(4500));
    wired.session.accept_write(task, 4500, &mut wired.tx);
    let asked = |replies: Vec<Reply>| -> Vec<(u32, u32)> {
        let r2t = |reply: &Reply| *ReadyToTransfer::view(&reply.bhs);
        let range = |r2t: ReadyToTransfer| {
            (r2t.buffer_offset.get(), r2t.desired_data_transfer_length.get())
        };
        replies.iter().map(r2t).map(range).collect()
    };
    let first = wired.replies();
    let tag = ReadyToTransfer::view(&first[0].bhs).target_transfer_tag.get();
    assert_eq!(asked(first), [(0, 1000), (1000, 1000), (2000, 1000)]);
    let itt = wired.session.initiator_task_tag(task).unwrap();
    wired.initiator.data_out((itt, TargetTransferTag(tag)), 0, 0, false, &[0; 999]);
    wired.feed().unwrap();
    assert!(wired.replies().is_empty(), "the sequence is not over");
    wired.initiator.data_out((itt, TargetTransferTag(tag)), 1, 999, true, &[0; 1]);
    wired.feed().unwrap();
    assert_eq!(asked(wired.replies()), [(3000, 1000)]);
}
