//! Entry point for fuzz targets: a device server of 64 KiB behind a session, and any bytes.

use super::{Event, Session, SessionLimits};
use crate::codec::{Decoded, Decoder};
use crate::ids::{Cid, Isid, Tsih};
use crate::login::{Authentication, LoginOutcome, SessionType};
use crate::names::IscsiName;
use crate::parameters::Parameters;
use crate::pdu::{LogoutResponseCode, TaskManagementResponseCode};
use crate::serial::{CmdSn, StatSn};
use crate::transmit::TransmitQueue;

/// The first byte chooses the parameters, the rest is what the initiator sends.
pub fn full_feature(input: &[u8]) {
    let Some((choice, mut rest)) = input.split_first() else { return };
    let Ok(name) = IscsiName::new("iqn.2001-04.com.example:fuzz") else { return };
    let bit = |n: u8| choice >> n & 1 != 0;
    let outcome = LoginOutcome {
        session_type: if bit(0) { SessionType::Discovery } else { SessionType::Normal },
        initiator_name: name.clone(),
        initiator_alias: None,
        target_name: Some(name),
        authentication: Authentication::None,
        isid: Isid([0; 6]),
        requested_tsih: Tsih::NEW,
        cid: Cid(0),
        target_portal_group_tag: 1,
        cmd_sn: CmdSn(0),
        stat_sn: StatSn(0),
        parameters: Parameters {
            initial_r2t: bit(1),
            immediate_data: bit(2),
            header_digest: bit(3),
            data_digest: bit(4),
            max_burst_length: if bit(5) { 512 } else { 4096 },
            first_burst_length: 512,
            max_outstanding_r2t: if bit(6) { 1 } else { 4 },
            initiator_max_recv_data_segment_length: if bit(7) { 512 } else { 8192 },
            ..Parameters::default()
        },
    };
    let mut session = Session::new(&outcome, SessionLimits { max_tasks: 4 });
    // Without digests, or no input would ever get through them.
    let rules = Decoder { header_digest: false, data_digest: false, ..session.decoder() };
    let mut tx = TransmitQueue::<Vec<u8>>::new();
    while let Ok(Decoded::Pdu { pdu, consumed }) = rules.decode(rest) {
        let Ok(event) = session.handle(&pdu, &mut tx) else { break };
        serve(&mut session, event, &mut tx);
        assert!(session.outstanding() <= 4 + 16);
        assert!(tx.pending_bytes() <= 1 << 20);
        tx.advance(tx.pending_bytes());
        rest = rest.get(consumed..).unwrap_or_default();
    }
}

fn serve(session: &mut Session, event: Option<Event<'_>>, tx: &mut TransmitQueue<Vec<u8>>) {
    match event {
        None => {}
        Some(Event::Command(command)) => {
            let length = u64::from(command.cdb[1]) << 8;
            match command.cdb[0] % 4 {
                0 => session.respond(command.task, 0, &[], length, tx),
                1 => match session.begin_data_in(command.task, length, tx) {
                    Some(layout) => session.finish_data_in(layout, length, Some(0), tx),
                    None => session.respond(command.task, 0, &[], length, tx),
                },
                2 => {
                    session.accept_write(command.task, length, tx);
                    if session.write_is_complete(command.task) {
                        session.respond(command.task, 0, &[], length, tx);
                    }
                }
                _ => session.respond(command.task, 2, &[0x70; 18], 0, tx),
            }
        }
        Some(Event::WriteData { task, complete: true, .. }) => {
            session.respond(task, 0, &[], 0, tx);
        }
        Some(Event::WriteData { complete: false, .. }) => {}
        Some(Event::DataLost { task }) => session.respond(task, 2, &[0x70; 18], 0, tx),
        Some(Event::TaskManagement { initiator_task_tag, referenced, .. }) => {
            if let Some(task) = referenced {
                session.abort(task, Some(initiator_task_tag));
            }
            let response = TaskManagementResponseCode::Complete;
            session.task_management_response(initiator_task_tag, response, tx);
        }
        Some(Event::Text { initiator_task_tag, text, .. }) => {
            session.text_response(initiator_task_tag, text, tx);
        }
        Some(Event::Logout { initiator_task_tag, .. }) => {
            session.logout_response(initiator_task_tag, LogoutResponseCode::Closed, tx);
        }
    }
}
