//! Data from the initiator (RFC 7143 §4.2.5.2, §11.7, §11.8): immediate, unsolicited, and asked
//! for with R2T.

use super::task::{Task, transfer_tag};
use super::{Event, Session, SessionError, TaskId};
use crate::ids::{InitiatorTaskTag, TargetTransferTag};
use crate::pdu::{DataOut, FINAL, Pdu, ReadyToTransfer, RejectReason, opcode};
use crate::transmit::{Payload, TransmitQueue};

impl Session {
    /// Takes `device_length` bytes of data for a write, or as many as the initiator offers; asks
    /// for what does not come by itself. The answer is how many bytes will be handed out in all,
    /// the immediate data included.
    pub fn accept_write<P: Payload>(
        &mut self,
        task: TaskId,
        device_length: u64,
        tx: &mut TransmitQueue<P>,
    ) -> u32 {
        let Some(entry) = self.tasks.get_mut(task) else { return 0 };
        let offered = if entry.writes { entry.expected } else { 0 };
        let wanted = u32::try_from(device_length).unwrap_or(u32::MAX).min(offered);
        entry.wanted = Some(wanted);
        self.solicit(task, tx);
        wanted
    }

    /// Has data that comes unasked be handed out, although it is not known yet how much is wanted.
    /// Later, [`Session::accept_write`] goes on behind what has come by then.
    pub fn keep_data(&mut self, task: TaskId) {
        if let Some(entry) = self.tasks.get_mut(task) {
            entry.keeps = true;
        }
    }

    /// Sends the R2Ts that are due: in order, at most MaxBurstLength each, at most
    /// MaxOutstandingR2T at once, and none while unsolicited data is coming.
    fn solicit<P: Payload>(&mut self, task: TaskId, tx: &mut TransmitQueue<P>) {
        let (max_burst, max_outstanding) =
            (self.parameters.max_burst_length, self.parameters.max_outstanding_r2t);
        loop {
            let Some(entry) = self.tasks.get_mut(task) else { return };
            let Some(wanted) =
                entry.wanted.filter(|_| !entry.unsolicited && !entry.lost && entry.held.is_none())
            else {
                return;
            };
            entry.solicited = entry.solicited.max(entry.received);
            if entry.solicited >= wanted || entry.outstanding_r2t >= max_outstanding {
                return;
            }
            let offset = entry.solicited;
            let length = max_burst.min(wanted - offset);
            if entry.outstanding_r2t == 0 {
                (entry.sequence_end, entry.data_sn) = (offset + length, 0);
            }
            let r2t_sn = entry.r2t_sn;
            entry.solicited += length;
            entry.outstanding_r2t += 1;
            entry.r2t_sn = r2t_sn.wrapping_add(1);
            let (lun, itt) = (entry.lun, entry.itt);
            let header = ReadyToTransfer {
                opcode: opcode::READY_TO_TRANSFER,
                flags: FINAL,
                lun: lun.0.into(),
                initiator_task_tag: itt.0.into(),
                target_transfer_tag: transfer_tag(task, r2t_sn).0.into(),
                stat_sn: self.stat_sn.0.into(),
                exp_cmd_sn: self.exp_cmd_sn.0.into(),
                max_cmd_sn: self.max_cmd_sn().0.into(),
                r2t_sn: r2t_sn.into(),
                buffer_offset: offset.into(),
                desired_data_transfer_length: length.into(),
                ..ReadyToTransfer::zeroed()
            };
            self.send(*header.bytes(), &[&[]], tx);
        }
    }

    pub(super) fn data_out<'a, P: Payload>(
        &mut self,
        header: &DataOut,
        pdu: &Pdu<'a>,
        tx: &mut TransmitQueue<P>,
    ) -> Result<Option<Event<'a>>, SessionError> {
        let itt = InitiatorTaskTag(header.initiator_task_tag.get());
        let Some(task) = self.tasks.find(itt) else {
            if self.aborted.takes(itt, header.flags & FINAL != 0) {
                return Ok(None);
            }
            self.reject(RejectReason::InvalidPduField, pdu, tx);
            return Ok(None);
        };
        let first_burst = self.parameters.first_burst_length;
        let Some(entry) = self.tasks.get_mut(task) else { return Ok(None) };
        if entry.lost || header.data_sn.get() != entry.data_sn {
            // §7.9: a PDU before this one was lost.
            return Ok(self.data_lost(header, tx));
        }
        let length = u32::try_from(pdu.data.len()).unwrap_or(u32::MAX);
        if let Err(broken) = check(entry, task, header, length, first_burst) {
            self.reject(RejectReason::ProtocolError, pdu, tx);
            return Err(SessionError::Protocol(broken));
        }
        let offset = entry.received;
        entry.received += length;
        entry.data_sn = entry.data_sn.wrapping_add(1);
        let is_final = header.flags & FINAL != 0;
        if is_final {
            end_sequence(entry, self.parameters.max_burst_length);
        }
        self.counters.data_out_bytes += u64::from(length);

        if entry.held.is_some() {
            self.respond_held(task, tx);
            return Ok(None);
        }
        let Some(wanted) = entry.wanted else {
            let (keeps, data) = (entry.keeps, pdu.data);
            return Ok(keeps.then_some(Event::WriteData { task, offset, data, complete: false }));
        };
        let complete = entry.has_all() && !entry.data_is_under_way();
        let useful = wanted.saturating_sub(offset).min(length) as usize;
        self.solicit(task, tx);
        let data = pdu.data.get(..useful).unwrap_or_default();
        if data.is_empty() && !complete {
            return Ok(None);
        }
        Ok(Some(Event::WriteData { task, offset, data, complete }))
    }

    /// Ends a task of which data was lost: it is told so once, and what still comes for it is only
    /// looked at for its end.
    pub(super) fn data_lost<'a, P: Payload>(
        &mut self,
        header: &DataOut,
        tx: &mut TransmitQueue<P>,
    ) -> Option<Event<'a>> {
        let task = self.tasks.find(InitiatorTaskTag(header.initiator_task_tag.get()))?;
        let max_burst = self.parameters.max_burst_length;
        let entry = self.tasks.get_mut(task)?;
        let first = !std::mem::replace(&mut entry.lost, true);
        if header.flags & FINAL != 0 && entry.data_is_under_way() {
            end_sequence(entry, max_burst);
        }
        if first && entry.held.is_none() {
            return Some(Event::DataLost { task });
        }
        self.respond_held(task, tx);
        None
    }

    /// Sends a response that waited for data, if there is nothing left to wait for.
    fn respond_held<P: Payload>(&mut self, task: TaskId, tx: &mut TransmitQueue<P>) {
        let Some(entry) = self.tasks.get_mut(task) else { return };
        let waits = entry.data_is_under_way();
        if let Some(held) = entry.held.take_if(|_| !waits) {
            self.respond(task, held.status, &held.sense, held.device_length, tx);
        }
    }

    /// Whether everything that was accepted for a write has come already.
    #[must_use]
    pub fn write_is_complete(&self, task: TaskId) -> bool {
        self.tasks.get(task).is_some_and(|task| task.has_all() && !task.data_is_under_way())
    }
}

/// F: the sequence is over (§11.7.1).
fn end_sequence(entry: &mut Task, max_burst: u32) {
    if entry.unsolicited {
        entry.unsolicited = false;
        return;
    }
    entry.outstanding_r2t -= 1;
    entry.data_sn = 0;
    let wanted = entry.wanted.unwrap_or(entry.received);
    entry.sequence_end = entry.received.saturating_add(max_burst).min(wanted);
}

/// The rules for a Data-Out PDU.
fn check(
    entry: &Task,
    task: TaskId,
    header: &DataOut,
    length: u32,
    first_burst: u32,
) -> Result<(), &'static str> {
    let tag = TargetTransferTag(header.target_transfer_tag.get());
    let is_final = header.flags & FINAL != 0;
    let end = entry.received.checked_add(length).ok_or("a Data-Out beyond 4 GiB")?;
    if header.buffer_offset.get() != entry.received {
        return Err("a Data-Out with a wrong Buffer Offset");
    }
    if tag == TargetTransferTag::RESERVED {
        if !entry.unsolicited {
            return Err("an unsolicited Data-Out where none is allowed");
        }
        if end > entry.expected.min(first_burst) {
            return Err("more unsolicited data than FirstBurstLength or the command allow");
        }
        return Ok(());
    }
    let oldest = entry.r2t_sn.wrapping_sub(u32::from(entry.outstanding_r2t));
    if entry.unsolicited || entry.outstanding_r2t == 0 || tag != transfer_tag(task, oldest) {
        return Err("a Data-Out for no R2T, or not for the oldest");
    }
    if end > entry.sequence_end {
        return Err("more data than the R2T asked for");
    }
    if is_final != (end == entry.sequence_end) {
        return Err("a sequence that ends before or without its F bit");
    }
    Ok(())
}
