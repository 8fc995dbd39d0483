//! A session and an initiator, wired together without I/O.

mod lost;
mod numbers;
mod other;
mod reads;
mod rejects;
mod stream;
mod writes;

use super::*;
use crate::codec::Decoded;
use crate::ids::{Isid, Tsih};
use crate::login::Authentication;
use crate::names::IscsiName;
use crate::sim::{Initiator, Reply, Scsi};

pub(super) const FIRST_CMD_SN: u32 = 0xffff_fffc;
pub(super) const FIRST_STAT_SN: u32 = 0xffff_fffe;

/// An event that has outlived its PDU.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Seen {
    Command { task: TaskId, itt: InitiatorTaskTag, cdb: Vec<u8>, data: Vec<u8> },
    WriteData { task: TaskId, offset: u32, data: Vec<u8>, complete: bool },
    DataLost(TaskId),
    TaskManagement { itt: InitiatorTaskTag, referenced: Option<TaskId> },
    Text { itt: InitiatorTaskTag, text: Vec<u8> },
    Logout { itt: InitiatorTaskTag, reason: LogoutReason, cid: Cid },
}

impl From<Event<'_>> for Seen {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Command(command) => Self::Command {
                task: command.task,
                itt: command.initiator_task_tag,
                cdb: [command.cdb, command.extended_cdb].concat(),
                data: command.immediate_data.to_vec(),
            },
            Event::WriteData { task, offset, data, complete } => {
                Self::WriteData { task, offset, data: data.to_vec(), complete }
            }
            Event::DataLost { task } => Self::DataLost(task),
            Event::TaskManagement { initiator_task_tag, referenced, .. } => {
                Self::TaskManagement { itt: initiator_task_tag, referenced }
            }
            Event::Text { initiator_task_tag, text, .. } => {
                Self::Text { itt: initiator_task_tag, text }
            }
            Event::Logout { initiator_task_tag, reason, cid } => {
                Self::Logout { itt: initiator_task_tag, reason, cid }
            }
        }
    }
}

pub(super) struct Wired {
    pub(super) session: Session,
    pub(super) tx: TransmitQueue<Vec<u8>>,
    pub(super) initiator: Initiator,
}

pub(super) fn outcome(session_type: SessionType, parameters: Parameters) -> LoginOutcome {
    LoginOutcome {
        session_type,
        initiator_name: IscsiName::new("iqn.2001-04.com.example:host").unwrap(),
        initiator_alias: None,
        target_name: None,
        authentication: Authentication::None,
        isid: Isid::default(),
        requested_tsih: Tsih::NEW,
        cid: Cid(0),
        target_portal_group_tag: 1,
        cmd_sn: CmdSn(FIRST_CMD_SN),
        stat_sn: StatSn(FIRST_STAT_SN),
        parameters,
    }
}

impl Wired {
    pub(super) fn new(parameters: Parameters) -> Self {
        Self::of_type(SessionType::Normal, parameters, 8)
    }

    /// Both numbers start so that they soon wrap.
    pub(super) fn of_type(kind: SessionType, parameters: Parameters, max_tasks: u32) -> Self {
        let session = Session::new(&outcome(kind, parameters), SessionLimits { max_tasks });
        let initiator = Initiator::new(session.decoder(), FIRST_CMD_SN, FIRST_STAT_SN);
        Self { session, tx: TransmitQueue::new(), initiator }
    }

    /// Hands over what the initiator has built.
    pub(super) fn feed(&mut self) -> Result<Vec<Seen>, SessionError> {
        let wire = self.initiator.take();
        self.feed_bytes(&wire)
    }

    pub(super) fn feed_bytes(&mut self, mut wire: &[u8]) -> Result<Vec<Seen>, SessionError> {
        let mut seen = Vec::new();
        while !wire.is_empty() {
            let (event, consumed) = match self.session.decoder().decode(wire).unwrap() {
                Decoded::Pdu { pdu, consumed } => {
                    (self.session.handle(&pdu, &mut self.tx)?, consumed)
                }
                Decoded::DataDigestMismatch { pdu, consumed } => {
                    (self.session.data_digest_error(&pdu, &mut self.tx)?, consumed)
                }
                Decoded::Incomplete { .. } => panic!("the initiator sends whole PDUs"),
            };
            seen.extend(event.map(Seen::from));
            wire = &wire[consumed..];
        }
        Ok(seen)
    }

    pub(super) fn sent(&mut self) -> Vec<u8> {
        let bytes = self.tx.io_slices().iter().flat_map(|slice| slice.to_vec()).collect();
        self.tx.advance(self.tx.pending_bytes());
        bytes
    }

    /// What the target has sent since the last call.
    pub(super) fn replies(&mut self) -> Vec<Reply> {
        let bytes = self.sent();
        self.initiator.receive(&bytes)
    }

    pub(super) fn reply(&mut self) -> Reply {
        let mut replies = self.replies();
        assert_eq!(replies.len(), 1, "{replies:?}");
        replies.remove(0)
    }

    /// A command and the task it became.
    pub(super) fn command(&mut self, scsi: Scsi<'_>) -> TaskId {
        self.initiator.scsi(scsi);
        match &self.feed().unwrap()[..] {
            [Seen::Command { task, .. }] => *task,
            other => panic!("{other:?}"),
        }
    }

    /// Ends a task with GOOD and no residual to speak of.
    pub(super) fn good(&mut self, task: TaskId) -> Reply {
        self.session.respond(task, 0, &[], 0, &mut self.tx);
        self.reply()
    }
}

/// Bytes that tell where they belong.
pub(super) fn pattern(length: u32) -> Vec<u8> {
    (0..length).map(|at| (at ^ (at >> 8)).wrapping_mul(0x9d).to_le_bytes()[0]).collect()
}

pub(super) fn write(expected: u32) -> Scsi<'static> {
    Scsi { writes: true, expected, ..Scsi::default() }
}

pub(super) fn read(expected: u32) -> Scsi<'static> {
    Scsi { reads: true, expected, ..Scsi::default() }
}
