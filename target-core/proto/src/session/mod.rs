//! The full feature phase of a session over its one connection (RFC 7143 §4.2, §11).
//!
//! [`Session::handle`] takes each PDU, answers what concerns only the protocol, and hands the
//! rest out as an [`Event`]. What the device server makes of it comes back through the other
//! methods, in any order and at any later time. Everything that is to be sent is appended to the
//! connection's [`TransmitQueue`].
//!
//! The data of a write is not gathered here: each piece is handed out as it arrives.

mod aborted;
mod counters;
mod data_in;
mod data_out;
pub mod fuzz;
mod other;
mod reinstate;
mod task;
#[cfg(test)]
mod tests;

pub use counters::Counters;
pub use data_in::{DataInLayout, MAX_DATA_IN};
pub use task::TaskId;

use self::aborted::AbortedTasks;
use self::other::PendingText;
use self::task::{Task, Tasks};
use crate::codec::Decoder;
use crate::ids::{Cid, InitiatorTaskTag, Lun};
use crate::login::{LoginOutcome, SessionType};
use crate::parameters::Parameters;
use crate::pdu::{
    Ahs, Bhs, DataOut, FINAL, LogoutReason, Pdu, RejectReason, Request, ScsiCommand, ScsiResponse,
    TaskAttribute, TaskManagementFunction, U24, opcode,
};
use crate::serial::{CmdSn, StatSn};
use crate::text::TextAccumulator;
use crate::transmit::{Payload, TransmitQueue};

/// Tasks beyond the window that immediate commands may take.
const IMMEDIATE_TASKS: usize = 16;
/// The most text of one Text Request sequence.
const MAX_TEXT: usize = 64 << 10;

/// Bounds of a session.
#[derive(Debug, Clone, Copy)]
pub struct SessionLimits {
    /// Commands that may be outstanding, at most 2048; MaxCmdSN follows from it.
    pub max_tasks: u32,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self { max_tasks: 128 }
    }
}

/// Why the connection must be closed, once what is queued is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The initiator broke a rule that nothing can be done about at recovery level 0.
    #[error("protocol error of the initiator: {0}")]
    Protocol(&'static str),
    /// Data was damaged on its way (§7.8).
    #[error("data digest mismatch")]
    DataDigest,
}

/// A SCSI command.
#[derive(Debug, Clone, Copy)]
pub struct Command<'a> {
    /// The task; it ends with a response or [`Session::abort`].
    pub task: TaskId,
    /// Its tag.
    pub initiator_task_tag: InitiatorTaskTag,
    /// The logical unit.
    pub lun: Lun,
    /// The first 16 bytes of the CDB.
    pub cdb: &'a [u8; 16],
    /// The bytes behind them; mostly none.
    pub extended_cdb: &'a [u8],
    /// Task attribute.
    pub attribute: TaskAttribute,
    /// Command priority, 0 for none: a hint that may be ignored (RFC 7144, SAM-5 §8.7).
    pub priority: u8,
    /// Immediate delivery.
    pub immediate: bool,
    /// R: data may go to the initiator.
    pub reads: bool,
    /// W: data may come from the initiator.
    pub writes: bool,
    /// Expected Data Transfer Length.
    pub expected_data_transfer_length: u32,
    /// The first bytes of a write's data.
    pub immediate_data: &'a [u8],
}

/// What the device server has to deal with.
#[derive(Debug, Clone)]
pub enum Event<'a> {
    /// A new command.
    Command(Command<'a>),
    /// Data for which [`Session::accept_write`] was called, or [`Session::keep_data`].
    WriteData {
        /// The task.
        task: TaskId,
        /// Where the data belongs; pieces come in order and without gaps.
        offset: u32,
        /// The piece.
        data: &'a [u8],
        /// Everything that was accepted has come.
        complete: bool,
    },
    /// Data of a write was lost or damaged on its way; [`Session::respond`] with a failure.
    DataLost {
        /// The task.
        task: TaskId,
    },
    /// A task management function; answer with [`Session::task_management_response`].
    TaskManagement {
        /// Names the request.
        initiator_task_tag: InitiatorTaskTag,
        /// The function.
        function: TaskManagementFunction,
        /// The logical unit.
        lun: Lun,
        /// Referenced Task Tag.
        referenced_tag: InitiatorTaskTag,
        /// The task that is meant, if it is there.
        referenced: Option<TaskId>,
    },
    /// All of a Text Request; answer with [`Session::text_response`], or [`Session::refuse`] it.
    Text {
        /// Names the request.
        initiator_task_tag: InitiatorTaskTag,
        /// Its header, the last one if there were several.
        header: &'a Bhs,
        /// The text.
        text: Vec<u8>,
    },
    /// A Logout Request; answer with [`Session::logout_response`], then close.
    Logout {
        /// Names the request.
        initiator_task_tag: InitiatorTaskTag,
        /// The reason.
        reason: LogoutReason,
        /// The connection that is meant.
        cid: Cid,
    },
}

/// A session in its full feature phase.
#[derive(Debug)]
pub struct Session {
    parameters: Parameters,
    session_type: SessionType,
    max_tasks: u32,
    tasks: Tasks,
    aborted: AbortedTasks,
    /// Tasks that take a place in the window.
    in_window: u32,
    exp_cmd_sn: CmdSn,
    max_cmd_sn: CmdSn,
    stat_sn: StatSn,
    text: TextAccumulator,
    text_tag: Option<InitiatorTaskTag>,
    pending_text: Option<PendingText>,
    counters: Counters,
}

impl Session {
    /// The session that a login led to.
    #[must_use]
    pub fn new(outcome: &LoginOutcome, limits: SessionLimits) -> Self {
        let max_tasks = limits.max_tasks.clamp(1, 2048);
        Self {
            parameters: outcome.parameters,
            session_type: outcome.session_type,
            max_tasks,
            tasks: Tasks::default(),
            aborted: AbortedTasks::default(),
            in_window: 0,
            exp_cmd_sn: outcome.cmd_sn,
            max_cmd_sn: outcome.cmd_sn.add(max_tasks - 1),
            stat_sn: outcome.stat_sn,
            text: TextAccumulator::new(MAX_TEXT),
            text_tag: None,
            pending_text: None,
            counters: Counters::default(),
        }
    }

    /// How to cut what the initiator sends.
    #[must_use]
    pub const fn decoder(&self) -> Decoder {
        Decoder {
            header_digest: self.parameters.header_digest,
            data_digest: self.parameters.data_digest,
            max_recv_data_segment_length: self.parameters.max_recv_data_segment_length,
        }
    }

    /// The parameters in force.
    #[must_use]
    pub const fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The parameters, for what a Text Request changes.
    pub const fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    /// Counts since the session began.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Commands that are not answered yet.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.tasks.len()
    }

    /// The tasks that are not answered yet, with their logical units.
    pub fn tasks(&self) -> impl Iterator<Item = (TaskId, Lun)> {
        self.tasks.iter().map(|(id, task)| (id, task.lun))
    }

    /// The tag of a task.
    #[must_use]
    pub fn initiator_task_tag(&self, task: TaskId) -> Option<InitiatorTaskTag> {
        self.tasks.get(task).map(|task| task.itt)
    }

    /// Takes a PDU.
    ///
    /// # Errors
    /// The connection must be closed, once the queue is sent.
    pub fn handle<'a, P: Payload>(
        &mut self,
        pdu: &Pdu<'a>,
        tx: &mut TransmitQueue<P>,
    ) -> Result<Option<Event<'a>>, SessionError> {
        self.counters.pdus_received += 1;
        if !self.aborted.is_empty() {
            // At the same place in everything that an initiator sends.
            let exp_stat_sn = DataOut::view(pdu.bhs).exp_stat_sn.get();
            self.aborted.acknowledged(StatSn(exp_stat_sn));
        }
        match pdu.request() {
            Request::ScsiCommand(command) if self.session_type == SessionType::Normal => {
                self.scsi_command(command, pdu, tx)
            }
            Request::DataOut(header) if self.session_type == SessionType::Normal => {
                self.data_out(header, pdu, tx)
            }
            Request::TaskManagement(request) if self.session_type == SessionType::Normal => {
                self.task_management(request, pdu, tx)
            }
            Request::NopOut(request) => self.nop_out(request, pdu, tx),
            Request::Text(request) => self.text(request, pdu, tx),
            Request::Logout(request) => self.logout(request, pdu),
            Request::Snack(_) => {
                // §11.16: not at ErrorRecoveryLevel 0.
                self.reject(RejectReason::SnackReject, pdu, tx);
                Ok(None)
            }
            Request::Login(_) => {
                self.reject(RejectReason::ProtocolError, pdu, tx);
                Err(SessionError::Protocol("a Login Request in the full feature phase"))
            }
            Request::ScsiCommand(_) | Request::DataOut(_) | Request::TaskManagement(_) => {
                self.reject(RejectReason::ProtocolError, pdu, tx);
                Err(SessionError::Protocol("a SCSI request in a discovery session"))
            }
            Request::Unknown(_) => {
                self.reject(RejectReason::CommandNotSupported, pdu, tx);
                Ok(None)
            }
        }
    }

    /// Deals with a PDU whose data digest does not match: it is rejected. At recovery level 0 a
    /// Data-Out takes its task with it, and everything else the session (§7.8).
    ///
    /// # Errors
    /// The connection must be closed, once the queue is sent.
    pub fn data_digest_error<'a, P: Payload>(
        &mut self,
        pdu: &Pdu<'a>,
        tx: &mut TransmitQueue<P>,
    ) -> Result<Option<Event<'a>>, SessionError> {
        self.counters.pdus_received += 1;
        self.counters.data_digest_errors += 1;
        self.reject(RejectReason::DataDigestError, pdu, tx);
        match pdu.request() {
            Request::DataOut(header) if self.session_type == SessionType::Normal => {
                Ok(self.data_lost(header, tx))
            }
            Request::NopOut(_)
            | Request::ScsiCommand(_)
            | Request::DataOut(_)
            | Request::TaskManagement(_)
            | Request::Login(_)
            | Request::Text(_)
            | Request::Logout(_)
            | Request::Snack(_)
            | Request::Unknown(_) => Err(SessionError::DataDigest),
        }
    }

    /// Ends a task without an answer, because of a task management function of this session or
    /// for another reason. Data that is still under way for it is dropped: the initiator cannot
    /// know yet. It knows when it acknowledges the function's response.
    pub fn abort(&mut self, task: TaskId, function: Option<InitiatorTaskTag>) {
        let Some(entry) = self.finish(task) else { return };
        if entry.data_is_under_way() {
            let sequences = u32::from(entry.unsolicited) + u32::from(entry.outstanding_r2t);
            let most = self.max_tasks as usize + IMMEDIATE_TASKS;
            self.aborted.add((entry.itt, entry.lun), sequences, function, most);
        }
    }

    /// Whether data is still under way for tasks that a function of this session has aborted, and
    /// that is not answered yet.
    #[must_use]
    pub fn awaits_data_of(&self, function: InitiatorTaskTag) -> bool {
        self.aborted.are_awaited_by(function)
    }

    /// Ends a task with a SCSI Response.
    ///
    /// `device_length` is what the device has or wants in bytes; the residual follows from it. A
    /// response overtakes no data: it is held until what is under way has come.
    pub fn respond<P: Payload>(
        &mut self,
        task: TaskId,
        status: u8,
        sense: &[u8],
        device_length: u64,
        tx: &mut TransmitQueue<P>,
    ) {
        let Some(entry) = self.tasks.get_mut(task) else { return };
        if entry.data_is_under_way() {
            let sense = sense.into();
            entry.held.get_or_insert(task::HeldResponse { status, sense, device_length });
            return;
        }
        let (itt, expected, data_in_sn) = (entry.itt, entry.expected, entry.data_in_sn);
        self.end(task);
        let (flags, residual_count) = residual(expected, device_length);
        let header = ScsiResponse {
            opcode: opcode::SCSI_RESPONSE,
            flags: FINAL | flags,
            status,
            initiator_task_tag: itt.0.into(),
            stat_sn: self.next_stat_sn().0.into(),
            exp_cmd_sn: self.exp_cmd_sn.0.into(),
            max_cmd_sn: self.max_cmd_sn().0.into(),
            exp_data_sn: data_in_sn.into(),
            residual_count: residual_count.into(),
            ..ScsiResponse::zeroed()
        };
        if sense.is_empty() {
            self.send_header(header.bytes(), tx);
        } else {
            // §11.4.7: the sense data stands behind its length.
            let length = u16::try_from(sense.len()).unwrap_or(u16::MAX).to_be_bytes();
            self.send(*header.bytes(), &[&length, sense], tx);
        }
    }

    /// Takes a command's number, or says that it is to be dropped (§4.2.2.1).
    fn admit_number(&mut self, cmd_sn: CmdSn, immediate: bool) -> Result<bool, SessionError> {
        if immediate {
            return Ok(true);
        }
        if cmd_sn == self.exp_cmd_sn {
            // The window is closed when no task may be added.
            if !cmd_sn.le(self.max_cmd_sn) {
                return Ok(false);
            }
            self.exp_cmd_sn = cmd_sn.next();
            return Ok(true);
        }
        if cmd_sn.lt(self.exp_cmd_sn) || !cmd_sn.le(self.max_cmd_sn) {
            return Ok(false);
        }
        // One connection delivers in order: what is missing will never come.
        Err(SessionError::Protocol("a gap in CmdSN"))
    }

    fn scsi_command<'a, P: Payload>(
        &mut self,
        command: &'a ScsiCommand,
        pdu: &Pdu<'a>,
        tx: &mut TransmitQueue<P>,
    ) -> Result<Option<Event<'a>>, SessionError> {
        let cmd_sn = CmdSn(command.cmd_sn.get());
        let immediate = pdu.basic().immediate();
        if !self.admit_number(cmd_sn, immediate)? {
            return Ok(None);
        }
        let itt = InitiatorTaskTag(command.initiator_task_tag.get());
        if let Err(reason) = self.check_command(command, pdu, itt, immediate) {
            self.reject(reason, pdu, tx);
            return Ok(None);
        }
        let Ok(ahs) = Ahs::parse(pdu.ahs) else {
            self.reject(RejectReason::InvalidPduField, pdu, tx);
            return Ok(None);
        };
        if !self.aborted.is_empty() {
            self.aborted.forget(itt);
        }
        let expected = command.expected_data_transfer_length.get();
        // The length of immediate data is at most 2^24.
        let received = u32::try_from(pdu.data.len()).unwrap_or(u32::MAX);
        let task = self.tasks.insert(Task {
            generation: 0,
            itt,
            lun: Lun(command.lun.get()),
            cmd_sn,
            in_window: !immediate,
            expected,
            reads: command.reads(),
            writes: command.writes(),
            unsolicited: command.writes() && command.flags & FINAL == 0,
            received,
            lost: false,
            keeps: false,
            wanted: None,
            solicited: 0,
            sequence_end: 0,
            data_sn: 0,
            outstanding_r2t: 0,
            r2t_sn: 0,
            data_in_sn: 0,
            held: None,
        });
        self.in_window += u32::from(!immediate);
        self.counters.commands += 1;
        self.counters.read_commands += u64::from(command.reads());
        self.counters.write_commands += u64::from(command.writes());
        self.counters.data_out_bytes += u64::from(received);
        Ok(Some(Event::Command(Command {
            task,
            initiator_task_tag: itt,
            lun: Lun(command.lun.get()),
            cdb: &command.cdb,
            extended_cdb: ahs.extended_cdb.unwrap_or_default(),
            attribute: command.attribute(),
            // Below that level the field is reserved.
            priority: if self.parameters.protocol_level >= 2 { command.priority() } else { 0 },
            immediate,
            reads: command.reads(),
            writes: command.writes(),
            expected_data_transfer_length: expected,
            immediate_data: pdu.data,
        })))
    }

    /// The rules of §11.3 and of the negotiated parameters.
    fn check_command(
        &self,
        command: &ScsiCommand,
        pdu: &Pdu<'_>,
        itt: InitiatorTaskTag,
        immediate: bool,
    ) -> Result<(), RejectReason> {
        if itt == InitiatorTaskTag::RESERVED {
            return Err(RejectReason::InvalidPduField);
        }
        if self.tasks.find(itt).is_some() {
            return Err(RejectReason::TaskInProgress);
        }
        if immediate && self.tasks.len() - self.in_window as usize >= IMMEDIATE_TASKS {
            return Err(RejectReason::ImmediateCommandReject);
        }
        let expected = command.expected_data_transfer_length.get();
        let received = u32::try_from(pdu.data.len()).unwrap_or(u32::MAX);
        let parameters = &self.parameters;
        let allowed = if command.writes() && parameters.immediate_data {
            expected.min(parameters.first_burst_length)
        } else {
            0
        };
        if received > allowed {
            return Err(RejectReason::ProtocolError);
        }
        let follows = command.flags & FINAL == 0;
        if follows && (!command.writes() || parameters.initial_r2t) {
            return Err(RejectReason::ProtocolError);
        }
        Ok(())
    }

    /// Takes a task out; its place in the window is free again.
    fn finish(&mut self, task: TaskId) -> Option<Task> {
        let task = self.tasks.remove(task)?;
        self.in_window -= u32::from(task.in_window);
        Some(task)
    }

    /// The same where nobody wants to know what it was.
    fn end(&mut self, task: TaskId) {
        self.in_window -= u32::from(self.tasks.end(task));
    }

    /// That of the next response.
    #[must_use]
    pub const fn stat_sn(&self) -> StatSn {
        self.stat_sn
    }

    fn next_stat_sn(&mut self) -> StatSn {
        let now = self.stat_sn;
        self.stat_sn = now.next();
        now
    }

    /// MaxCmdSN leaves room for the tasks that may still be added, and never goes back.
    fn max_cmd_sn(&mut self) -> CmdSn {
        let room = self.max_tasks.saturating_sub(self.in_window);
        let candidate = CmdSn(self.exp_cmd_sn.add(room).0.wrapping_sub(1));
        if self.max_cmd_sn.lt(candidate) {
            self.max_cmd_sn = candidate;
        }
        self.max_cmd_sn
    }
}

/// Residual flags and count of a transfer (RFC 7143 §11.4.5).
fn residual(expected: u32, device_length: u64) -> (u8, u32) {
    let expected = u64::from(expected);
    let clamp = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    match device_length {
        length if length > expected => (ScsiResponse::OVERFLOW, clamp(length - expected)),
        length if length < expected => (ScsiResponse::UNDERFLOW, clamp(expected - length)),
        _ => (0, 0),
    }
}

/// Sets DataSegmentLength, which stands at the same place in every header.
fn set_length(bhs: &mut Bhs, length: usize) {
    let [_, a, b, c] = u32::try_from(length).unwrap_or(U24::MAX).to_be_bytes();
    [bhs[5], bhs[6], bhs[7]] = [a, b, c];
}
