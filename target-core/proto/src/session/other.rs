//! Everything but commands and data: NOP, Text, Logout, task management, Reject, Asynchronous
//! Message.

use super::{Event, MAX_TEXT, Session, SessionError};
use crate::codec::padding;
use crate::digest::Digest;
use crate::ids::{Cid, InitiatorTaskTag, Lun, TargetTransferTag};
use crate::login::SessionType;
use crate::pdu::{
    AsyncEvent, AsyncMessage, BHS_LENGTH, Bhs, CONTINUE, FINAL, LogoutRequest, LogoutResponse,
    LogoutResponseCode, NopIn, NopOut, Pdu, Reject, RejectReason, TaskManagementFunction,
    TaskManagementRequest, TaskManagementResponse, TaskManagementResponseCode, TextRequest,
    TextResponse, opcode,
};
use crate::serial::CmdSn;
use crate::transmit::{Payload, TransmitQueue};

/// A text response that is longer than a segment: the initiator asks for the rest (§11.10.4).
#[derive(Debug)]
pub(super) struct PendingText {
    itt: InitiatorTaskTag,
    text: Vec<u8>,
    sent: usize,
}

/// The Target Transfer Tag of the one text that may be pending.
const TEXT_TAG: u32 = 1;

impl Session {
    pub(super) fn nop_out<'a, P: Payload>(
        &mut self,
        request: &NopOut,
        pdu: &Pdu<'a>,
        tx: &mut TransmitQueue<P>,
    ) -> Result<Option<Event<'a>>, SessionError> {
        let immediate = pdu.basic().immediate();
        if !self.admit_number(CmdSn(request.cmd_sn.get()), immediate)? {
            return Ok(None);
        }
        let itt = request.initiator_task_tag.get();
        // An answer to a NOP-In, or a NOP-Out that wants none.
        if itt == InitiatorTaskTag::RESERVED.0 {
            return Ok(None);
        }
        let limit = self.parameters.initiator_max_recv_data_segment_length as usize;
        let ping = pdu.data.get(..limit).unwrap_or(pdu.data);
        let header = NopIn {
            opcode: opcode::NOP_IN,
            flags: FINAL,
            lun: request.lun,
            initiator_task_tag: itt.into(),
            target_transfer_tag: TargetTransferTag::RESERVED.0.into(),
            stat_sn: self.next_stat_sn().0.into(),
            exp_cmd_sn: self.exp_cmd_sn.0.into(),
            max_cmd_sn: self.max_cmd_sn().0.into(),
            ..NopIn::zeroed()
        };
        self.send(*header.bytes(), &[ping], tx);
        Ok(None)
    }

    /// Asks the initiator whether it is there; it answers with a NOP-Out of the same tag.
    pub fn ping<P: Payload>(&mut self, tag: TargetTransferTag, tx: &mut TransmitQueue<P>) {
        let header = NopIn {
            opcode: opcode::NOP_IN,
            flags: FINAL,
            initiator_task_tag: InitiatorTaskTag::RESERVED.0.into(),
            target_transfer_tag: tag.0.into(),
            stat_sn: self.stat_sn.0.into(),
            exp_cmd_sn: self.exp_cmd_sn.0.into(),
            max_cmd_sn: self.max_cmd_sn().0.into(),
            ..NopIn::zeroed()
        };
        self.send(*header.bytes(), &[&[]], tx);
    }

    pub(super) fn text<'a, P: Payload>(
        &mut self,
        request: &TextRequest,
        pdu: &Pdu<'a>,
        tx: &mut TransmitQueue<P>,
    ) -> Result<Option<Event<'a>>, SessionError> {
        let immediate = pdu.basic().immediate();
        if !self.admit_number(CmdSn(request.cmd_sn.get()), immediate)? {
            return Ok(None);
        }
        let itt = InitiatorTaskTag(request.initiator_task_tag.get());
        let tag = request.target_transfer_tag.get();
        if tag == TargetTransferTag::RESERVED.0 {
            // §11.10.4: a new negotiation; whatever was going on is over.
            self.forget_text();
            self.text_tag = Some(itt);
        } else if tag == TEXT_TAG
            && pdu.data.is_empty()
            && !request.continues()
            && self.pending_text.as_ref().is_some_and(|pending| pending.itt == itt)
        {
            self.send_text(tx);
            return Ok(None);
        }
        let sound = (tag == TargetTransferTag::RESERVED.0 || tag == TEXT_TAG)
            && self.text_tag == Some(itt)
            && itt != InitiatorTaskTag::RESERVED
            && !(request.is_final() && request.continues());
        if sound && self.text.push(pdu.data).is_ok() {
            if !request.is_final() {
                self.text_part(itt, &[], 0, tx);
                return Ok(None);
            }
            self.text_tag = None;
            let text = self.text.take();
            return Ok(Some(Event::Text { initiator_task_tag: itt, header: pdu.bhs, text }));
        }
        // §7.2: the negotiation is over, and what it had so far is forgotten.
        self.forget_text();
        self.reject(RejectReason::NegotiationReset, pdu, tx);
        Ok(None)
    }

    fn forget_text(&mut self) {
        self.text.take();
        (self.text_tag, self.pending_text) = (None, None);
    }

    /// Answers a Text Request, in as many PDUs as the initiator's segments need.
    pub fn text_response<P: Payload>(
        &mut self,
        itt: InitiatorTaskTag,
        text: Vec<u8>,
        tx: &mut TransmitQueue<P>,
    ) {
        debug_assert!(text.len() <= MAX_TEXT << 8);
        self.pending_text = Some(PendingText { itt, text, sent: 0 });
        self.send_text(tx);
    }

    fn send_text<P: Payload>(&mut self, tx: &mut TransmitQueue<P>) {
        let Some(mut pending) = self.pending_text.take() else { return };
        let limit = self.parameters.initiator_max_recv_data_segment_length as usize;
        let end = pending.text.len().min(pending.sent + limit);
        let part = pending.text.get(pending.sent..end).unwrap_or_default().to_vec();
        let flags = if end == pending.text.len() { FINAL } else { CONTINUE };
        self.text_part(pending.itt, &part, flags, tx);
        if flags == CONTINUE {
            pending.sent = end;
            self.pending_text = Some(pending);
        }
    }

    fn text_part<P: Payload>(
        &mut self,
        itt: InitiatorTaskTag,
        part: &[u8],
        flags: u8,
        tx: &mut TransmitQueue<P>,
    ) {
        // §11.11.1: the reserved value if and only if nothing more is to come.
        let tag = if flags & FINAL == 0 { TEXT_TAG } else { TargetTransferTag::RESERVED.0 };
        let header = TextResponse {
            opcode: opcode::TEXT_RESPONSE,
            flags,
            initiator_task_tag: itt.0.into(),
            target_transfer_tag: tag.into(),
            stat_sn: self.next_stat_sn().0.into(),
            exp_cmd_sn: self.exp_cmd_sn.0.into(),
            max_cmd_sn: self.max_cmd_sn().0.into(),
            ..TextResponse::zeroed()
        };
        self.send(*header.bytes(), &[part], tx);
    }

    pub(super) fn logout<'a>(
        &mut self,
        request: &LogoutRequest,
        pdu: &Pdu<'a>,
    ) -> Result<Option<Event<'a>>, SessionError> {
        let immediate = pdu.basic().immediate();
        if !self.admit_number(CmdSn(request.cmd_sn.get()), immediate)? {
            return Ok(None);
        }
        Ok(Some(Event::Logout {
            initiator_task_tag: InitiatorTaskTag(request.initiator_task_tag.get()),
            reason: request.reason(),
            cid: Cid(request.cid.get()),
        }))
    }

    /// Answers a Logout Request.
    pub fn logout_response<P: Payload>(
        &mut self,
        itt: InitiatorTaskTag,
        response: LogoutResponseCode,
        tx: &mut TransmitQueue<P>,
    ) {
        let header = LogoutResponse {
            opcode: opcode::LOGOUT_RESPONSE,
            flags: FINAL,
            response: response as u8,
            initiator_task_tag: itt.0.into(),
            stat_sn: self.next_stat_sn().0.into(),
            exp_cmd_sn: self.exp_cmd_sn.0.into(),
            max_cmd_sn: self.max_cmd_sn().0.into(),
            time2wait: self.parameters.default_time2wait.into(),
            time2retain: self.parameters.default_time2retain.into(),
            ..LogoutResponse::zeroed()
        };
        self.send(*header.bytes(), &[&[]], tx);
    }

    pub(super) fn task_management<'a, P: Payload>(
        &mut self,
        request: &TaskManagementRequest,
        pdu: &Pdu<'a>,
        tx: &mut TransmitQueue<P>,
    ) -> Result<Option<Event<'a>>, SessionError> {
        let immediate = pdu.basic().immediate();
        if !self.admit_number(CmdSn(request.cmd_sn.get()), immediate)? {
            return Ok(None);
        }
        self.counters.task_management_functions += 1;
        let itt = InitiatorTaskTag(request.initiator_task_tag.get());
        let function = request.function();
        if function.is_of_level_2() && self.parameters.protocol_level < 2 {
            self.task_management_response(itt, TaskManagementResponseCode::NotSupported, tx);
            return Ok(None);
        }
        let tag = InitiatorTaskTag(request.referenced_task_tag.get());
        let lun = Lun(request.lun.get());
        // Same tag, same unit, same number: else it is a later task. An immediate command has no
        // number of its own, and is named with that of this request (§11.5.5). To ask for a task
        // its tag will do: nothing is ended by mistake, and one that is not there is answered the
        // same whatever its number (RFC 7144 §6.4.2).
        let query = function == TaskManagementFunction::QueryTask;
        let referenced = self.tasks.find(tag).filter(|id| {
            self.tasks.get(*id).is_some_and(|task| {
                let number = if task.in_window { task.cmd_sn.0 } else { request.cmd_sn.get() };
                task.lun == lun && (query || number == request.ref_cmd_sn.get())
            })
        });
        Ok(Some(Event::TaskManagement {
            initiator_task_tag: itt,
            function,
            lun,
            referenced_tag: tag,
            referenced,
        }))
    }

    /// Answers a task management function.
    pub fn task_management_response<P: Payload>(
        &mut self,
        itt: InitiatorTaskTag,
        response: TaskManagementResponseCode,
        tx: &mut TransmitQueue<P>,
    ) {
        self.query_response(itt, response, [0; 3], tx);
    }

    /// The same with Additional Response Information (RFC 7144).
    pub fn query_response<P: Payload>(
        &mut self,
        itt: InitiatorTaskTag,
        response: TaskManagementResponseCode,
        additional_response_information: [u8; 3],
        tx: &mut TransmitQueue<P>,
    ) {
        if !self.aborted.is_empty() {
            self.aborted.told(itt, self.stat_sn);
        }
        let header = TaskManagementResponse {
            opcode: opcode::TASK_MANAGEMENT_RESPONSE,
            flags: FINAL,
            response: response as u8,
            additional_response_information,
            initiator_task_tag: itt.0.into(),
            stat_sn: self.next_stat_sn().0.into(),
            exp_cmd_sn: self.exp_cmd_sn.0.into(),
            max_cmd_sn: self.max_cmd_sn().0.into(),
            ..TaskManagementResponse::zeroed()
        };
        self.send(*header.bytes(), &[&[]], tx);
    }

    /// Sends an event of the target's own accord.
    pub fn async_message<P: Payload>(&mut self, event: AsyncEvent, tx: &mut TransmitQueue<P>) {
        self.async_message_of(Lun(0), event, tx);
    }

    /// Says that a function of another session has ended the tasks of a unit. Only with
    /// TaskReporting=FastAbort (§4.2.3.4).
    pub fn task_termination<P: Payload>(&mut self, lun: Lun, tx: &mut TransmitQueue<P>) {
        self.aborted.told_of_unit(lun, self.stat_sn);
        self.async_message_of(lun, AsyncEvent::TaskTermination, tx);
    }

    fn async_message_of<P: Payload>(
        &mut self,
        lun: Lun,
        event: AsyncEvent,
        tx: &mut TransmitQueue<P>,
    ) {
        let (code, parameter1, parameter2, parameter3) = event.fields();
        let header = AsyncMessage {
            opcode: opcode::ASYNC_MESSAGE,
            flags: FINAL,
            lun: lun.0.into(),
            initiator_task_tag: InitiatorTaskTag::RESERVED.0.into(),
            stat_sn: self.next_stat_sn().0.into(),
            exp_cmd_sn: self.exp_cmd_sn.0.into(),
            max_cmd_sn: self.max_cmd_sn().0.into(),
            async_event: code,
            parameter1: parameter1.into(),
            parameter2: parameter2.into(),
            parameter3: parameter3.into(),
            ..AsyncMessage::zeroed()
        };
        self.send(*header.bytes(), &[&[]], tx);
    }

    /// Refuses a PDU; its header goes back (§11.17).
    pub(super) fn reject<P: Payload>(
        &mut self,
        reason: RejectReason,
        pdu: &Pdu<'_>,
        tx: &mut TransmitQueue<P>,
    ) {
        self.refuse(reason, pdu.bhs, tx);
    }

    /// Refuses a request that was handed out; its header goes back (§11.17).
    pub fn refuse<P: Payload>(
        &mut self,
        reason: RejectReason,
        refused: &Bhs,
        tx: &mut TransmitQueue<P>,
    ) {
        self.counters.rejects += 1;
        let header = Reject {
            opcode: opcode::REJECT,
            flags: FINAL,
            reason: reason as u8,
            initiator_task_tag: InitiatorTaskTag::RESERVED.0.into(),
            stat_sn: self.next_stat_sn().0.into(),
            exp_cmd_sn: self.exp_cmd_sn.0.into(),
            max_cmd_sn: self.max_cmd_sn().0.into(),
            ..Reject::zeroed()
        };
        self.send(*header.bytes(), &[refused], tx);
    }

    /// Queues a PDU without data, of which the header has no length.
    pub(super) fn send_header<P: Payload>(&mut self, bhs: &Bhs, tx: &mut TransmitQueue<P>) {
        let header = BHS_LENGTH + usize::from(self.parameters.header_digest) * 4;
        let start = tx.reserve(header);
        self.write_header(bhs, tx.bytes_mut(start..start + header));
    }

    /// Queues a PDU whose data segment is made of `parts`.
    pub(super) fn send<P: Payload>(
        &mut self,
        mut bhs: Bhs,
        parts: &[&[u8]],
        tx: &mut TransmitQueue<P>,
    ) {
        let length = parts.iter().map(|part| part.len()).sum();
        super::set_length(&mut bhs, length);
        let start = tx.end();
        let header = BHS_LENGTH + usize::from(self.parameters.header_digest) * 4;
        tx.reserve(header);
        self.write_header(&bhs, tx.bytes_mut(start..start + header));
        let pad = [0; 3];
        let pad = pad.get(..padding(length)).unwrap_or_default();
        let mut digest = Digest::default();
        for part in parts.iter().copied().chain([pad]) {
            tx.push(part);
            if self.parameters.data_digest {
                digest.update(part);
            }
        }
        if self.parameters.data_digest && length > 0 {
            tx.push(&digest.to_wire());
        }
    }

    /// Normal or discovery.
    #[must_use]
    pub const fn session_type(&self) -> SessionType {
        self.session_type
    }
}
