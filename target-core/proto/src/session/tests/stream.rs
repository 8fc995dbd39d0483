//! However the bytes of a connection arrive, the answers are the same.

use proptest::prelude::*;

use super::*;
use crate::ids::TargetTransferTag;
use crate::pdu::{LogoutResponseCode, TaskManagementResponseCode};

/// What a device server would do with a seen event, in the simplest way.
fn serve(wired: &mut Wired, seen: Seen) {
    let (session, tx) = (&mut wired.session, &mut wired.tx);
    match seen {
        Seen::Command { task, cdb, .. } => match cdb[0] {
            0 => {
                session.accept_write(task, 3000, tx);
            }
            1 => session.data_in_owned(task, &pattern(2000), 0..u32::MAX, 2000, Some(0), tx),
            _ => session.respond(task, 2, &[0x70; 18], 0, tx),
        },
        Seen::WriteData { task, complete, .. } => {
            if complete {
                session.respond(task, 0, &[], 3000, tx);
            }
        }
        Seen::DataLost(task) => session.respond(task, 2, &[], 0, tx),
        Seen::TaskManagement { itt, .. } => {
            session.task_management_response(itt, TaskManagementResponseCode::Complete, tx);
        }
        Seen::Text { itt, text } => session.text_response(itt, text, tx),
        Seen::Logout { itt, .. } => session.logout_response(itt, LogoutResponseCode::Closed, tx),
    }
}

/// Everything that an initiator can say without waiting for an answer.
fn conversation(initiator: &mut Initiator) {
    let itt = initiator.scsi(Scsi { more: true, data: &[1; 100], ..write(3000) });
    let itt_nop = initiator.new_tag();
    initiator.nop_out(itt_nop, TargetTransferTag::RESERVED, true, b"ping");
    let data = pattern(2900);
    initiator.sequence((itt, TargetTransferTag::RESERVED), 100, &data, [1000, 7].into_iter());
    initiator.scsi(Scsi { cdb: [1; 16], ..read(1500) });
    initiator.scsi(Scsi { cdb: [2; 16], ..read(1500) });
    let itt = initiator.new_tag();
    initiator.text(itt, TargetTransferTag::RESERVED, FINAL, b"SendTargets=All\0");
    let function = TaskManagementFunction::LogicalUnitReset;
    initiator.task_management(function, 0, InitiatorTaskTag::RESERVED, 0);
    initiator.logout(LogoutReason::CloseSession, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_split_of_the_stream_gives_the_same_answers(
        digests in any::<[bool; 2]>(), cuts in prop::collection::vec(1usize..1500, 1..40),
    ) {
        let parameters = Parameters {
            initial_r2t: false,
            header_digest: digests[0],
            data_digest: digests[1],
            ..Parameters::default()
        };
        let (mut whole, mut split) = (Wired::new(parameters), Wired::new(parameters));
        conversation(&mut whole.initiator);
        let wire = whole.initiator.take();
        let expected = {
            // The pieces of a write are served as they come, so PDU by PDU here too.
            for seen in whole.feed_bytes(&wire).unwrap() {
                serve(&mut whole, seen);
            }
            whole.replies().len()
        };
        prop_assert!(expected > 5);

        let one_by_one = run(&mut split, &wire, &mut std::iter::once(wire.len()).chain([1]).cycle());
        let mut again = Wired::new(parameters);
        prop_assert_eq!(run(&mut again, &wire, &mut cuts.into_iter().cycle()), one_by_one);
    }
}

/// Feeds pieces of these lengths, serves each event at once: the bytes that went out.
fn run(wired: &mut Wired, wire: &[u8], cuts: &mut dyn Iterator<Item = usize>) -> Vec<u8> {
    let (mut buffer, mut rest, mut sent) = (Vec::new(), wire, Vec::new());
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(cuts.next().unwrap().min(rest.len()));
        buffer.extend_from_slice(piece);
        rest = behind;
        while let Decoded::Pdu { consumed, .. } = wired.session.decoder().decode(&buffer).unwrap() {
            let pdu: Vec<u8> = buffer.drain(..consumed).collect();
            for seen in wired.feed_bytes(&pdu).unwrap() {
                serve(wired, seen);
            }
            sent.extend(wired.sent());
        }
    }
    assert!(buffer.is_empty());
    sent
}
