//! An initiator without I/O, for tests: builds requests with the right numbers, and holds what
//! the target sends to the rules that every answer must keep.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "made for tests: a target that breaks a rule ends the test here"
)]

use crate::codec::{Decoded, Decoder, encode};
use crate::ids::{InitiatorTaskTag, Lun, TargetTransferTag};
use crate::pdu::{
    BasicHeaderSegment, Bhs, CONTINUE, DataIn, DataOut, FINAL, IMMEDIATE, LoginRequest,
    LogoutReason, LogoutRequest, NopIn, NopOut, ScsiCommand, ScsiResponse, TaskManagementFunction,
    TaskManagementRequest, TextRequest, opcode,
};
use crate::serial::{CmdSn, StatSn};

/// A PDU of the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Its header; the `view` of the header's type reads it.
    pub bhs: Bhs,
    /// Its data segment.
    pub data: Vec<u8>,
}

impl Reply {
    /// The opcode.
    #[must_use]
    pub const fn opcode(&self) -> u8 {
        BasicHeaderSegment::view(&self.bhs).opcode()
    }

    /// Whether the PDU uses up a StatSN (RFC 7143 §4.2.2.2).
    fn takes_stat_sn(&self) -> bool {
        match self.opcode() {
            opcode::DATA_IN => DataIn::view(&self.bhs).flags & DataIn::STATUS != 0,
            opcode::READY_TO_TRANSFER => false,
            // A ping of the target's own accord.
            opcode::NOP_IN => {
                NopIn::view(&self.bhs).initiator_task_tag.get() != InitiatorTaskTag::RESERVED.0
            }
            _ => true,
        }
    }
}

/// Cuts what a target sent; nothing may be left over.
#[must_use]
pub fn cut(rules: &Decoder, mut bytes: &[u8]) -> Vec<Reply> {
    let mut replies = Vec::new();
    while !bytes.is_empty() {
        let Decoded::Pdu { pdu, consumed } = rules.decode(bytes).unwrap() else {
            panic!("the target sent something else than whole PDUs with right digests");
        };
        replies.push(Reply { bhs: *pdu.bhs, data: pdu.data.to_vec() });
        bytes = bytes.get(consumed..).unwrap();
    }
    replies
}

/// What a SCSI command says.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scsi<'a> {
    /// The logical unit, by its number.
    pub lun: u16,
    /// The CDB.
    pub cdb: [u8; 16],
    /// CDB bytes from the 17th on and other header segments, as they stand on the wire.
    pub ahs: &'a [u8],
    /// R.
    pub reads: bool,
    /// W.
    pub writes: bool,
    /// Unsolicited Data-Out PDUs follow: F is not set.
    pub more: bool,
    /// Immediate delivery.
    pub immediate: bool,
    /// Expected Data Transfer Length.
    pub expected: u32,
    /// Immediate data.
    pub data: &'a [u8],
}

/// An initiator in the full feature phase.
#[derive(Debug)]
pub struct Initiator {
    /// The rules of both directions.
    pub rules: Decoder,
    /// CmdSN of the next request that is not immediate.
    pub cmd_sn: u32,
    /// StatSN that is expected next.
    pub exp_stat_sn: u32,
    /// The last ExpCmdSN.
    pub exp_cmd_sn: u32,
    /// The last MaxCmdSN.
    pub max_cmd_sn: u32,
    next_itt: u32,
    wire: Vec<u8>,
}

impl Initiator {
    /// Starts with these numbers; the window is not known before the first answer.
    #[must_use]
    pub const fn new(rules: Decoder, cmd_sn: u32, exp_stat_sn: u32) -> Self {
        let max_cmd_sn = cmd_sn.wrapping_sub(1);
        Self {
            rules,
            cmd_sn,
            exp_stat_sn,
            exp_cmd_sn: cmd_sn,
            max_cmd_sn,
            next_itt: 1,
            wire: Vec::new(),
        }
    }

    /// What was built since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.wire)
    }

    /// Cuts what the target sent, and checks the numbers that every PDU of it carries.
    pub fn receive(&mut self, bytes: &[u8]) -> Vec<Reply> {
        let rules = Decoder { max_recv_data_segment_length: 0x00ff_ffff, ..self.rules };
        let replies = cut(&rules, bytes);
        for reply in &replies {
            // These three stand at the same places in everything that a target sends.
            let header = ScsiResponse::view(&reply.bhs);
            if reply.takes_stat_sn() {
                assert_eq!(header.stat_sn.get(), self.exp_stat_sn, "StatSN of {reply:?}");
                self.exp_stat_sn = StatSn(self.exp_stat_sn).next().0;
            } else if reply.opcode() != opcode::DATA_IN {
                assert_eq!(header.stat_sn.get(), self.exp_stat_sn, "StatSN of {reply:?}");
            }
            let (exp, max) = (header.exp_cmd_sn.get(), header.max_cmd_sn.get());
            assert!(CmdSn(self.exp_cmd_sn).le(CmdSn(exp)), "ExpCmdSN went back: {reply:?}");
            assert!(CmdSn(self.max_cmd_sn).le(CmdSn(max)), "MaxCmdSN went back: {reply:?}");
            assert!(CmdSn(exp).le(CmdSn(max).next()), "MaxCmdSN is too low: {reply:?}");
            (self.exp_cmd_sn, self.max_cmd_sn) = (exp, max);
        }
        replies
    }

    /// A tag that no request had.
    pub const fn new_tag(&mut self) -> InitiatorTaskTag {
        let tag = InitiatorTaskTag(self.next_itt);
        self.next_itt += 1;
        tag
    }

    /// Any PDU.
    pub fn push(&mut self, bhs: &Bhs, ahs: &[u8], data: &[u8]) {
        encode(&self.rules, bhs, ahs, data, &mut self.wire);
    }

    /// CmdSN of a request: the next one, which an immediate request does not use up.
    const fn number(&mut self, immediate: bool) -> u32 {
        let now = self.cmd_sn;
        if !immediate {
            self.cmd_sn = now.wrapping_add(1);
        }
        now
    }

    /// A SCSI Command; its tag.
    pub fn scsi(&mut self, scsi: Scsi<'_>) -> InitiatorTaskTag {
        let itt = self.new_tag();
        self.scsi_with_tag(scsi, itt);
        itt
    }

    /// A SCSI Command with a tag of the caller's choice.
    pub fn scsi_with_tag(&mut self, scsi: Scsi<'_>, itt: InitiatorTaskTag) {
        let header = ScsiCommand {
            opcode: opcode::SCSI_COMMAND | if scsi.immediate { IMMEDIATE } else { 0 },
            flags: if scsi.more { 0 } else { FINAL }
                | if scsi.reads { ScsiCommand::READ } else { 0 }
                | if scsi.writes { ScsiCommand::WRITE } else { 0 }
                | 1,
            lun: Lun::from_number(scsi.lun).0.into(),
            initiator_task_tag: itt.0.into(),
            expected_data_transfer_length: scsi.expected.into(),
            cmd_sn: self.number(scsi.immediate).into(),
            exp_stat_sn: self.exp_stat_sn.into(),
            cdb: scsi.cdb,
            ..ScsiCommand::zeroed()
        };
        self.push(header.bytes(), scsi.ahs, scsi.data);
    }

    /// One Data-Out PDU.
    pub fn data_out(
        &mut self,
        (itt, tag): (InitiatorTaskTag, TargetTransferTag),
        data_sn: u32,
        offset: u32,
        last: bool,
        data: &[u8],
    ) {
        let header = DataOut {
            opcode: opcode::DATA_OUT,
            flags: if last { FINAL } else { 0 },
            initiator_task_tag: itt.0.into(),
            target_transfer_tag: tag.0.into(),
            exp_stat_sn: self.exp_stat_sn.into(),
            data_sn: data_sn.into(),
            buffer_offset: offset.into(),
            ..DataOut::zeroed()
        };
        self.push(header.bytes(), &[], data);
    }

    /// A whole sequence of Data-Out PDUs from `offset` on, in pieces of these sizes (the last of
    /// them is used until the end).
    pub fn sequence(
        &mut self,
        tags: (InitiatorTaskTag, TargetTransferTag),
        offset: u32,
        mut data: &[u8],
        mut pieces: impl Iterator<Item = usize>,
    ) {
        let (mut at, mut size, mut data_sn) = (offset, 1, 0);
        loop {
            size = pieces.next().unwrap_or(size).max(1);
            let (piece, rest) = data.split_at(size.min(data.len()));
            self.data_out(tags, data_sn, at, rest.is_empty(), piece);
            if rest.is_empty() {
                return;
            }
            at += u32::try_from(piece.len()).unwrap();
            (data, data_sn) = (rest, data_sn + 1);
        }
    }

    /// A NOP-Out.
    pub fn nop_out(
        &mut self,
        itt: InitiatorTaskTag,
        tag: TargetTransferTag,
        immediate: bool,
        data: &[u8],
    ) {
        let header = NopOut {
            opcode: opcode::NOP_OUT | if immediate { IMMEDIATE } else { 0 },
            flags: FINAL,
            initiator_task_tag: itt.0.into(),
            target_transfer_tag: tag.0.into(),
            cmd_sn: self.number(immediate).into(),
            exp_stat_sn: self.exp_stat_sn.into(),
            ..NopOut::zeroed()
        };
        self.push(header.bytes(), &[], data);
    }

    /// A Text Request; `flags` are [`FINAL`] or [`CONTINUE`] or none.
    pub fn text(&mut self, itt: InitiatorTaskTag, tag: TargetTransferTag, flags: u8, text: &[u8]) {
        let header = TextRequest {
            opcode: opcode::TEXT_REQUEST,
            flags: flags & (FINAL | CONTINUE),
            initiator_task_tag: itt.0.into(),
            target_transfer_tag: tag.0.into(),
            cmd_sn: self.number(false).into(),
            exp_stat_sn: self.exp_stat_sn.into(),
            ..TextRequest::zeroed()
        };
        self.push(header.bytes(), &[], text);
    }

    /// An immediate Task Management Function Request; its tag.
    pub fn task_management(
        &mut self,
        function: TaskManagementFunction,
        lun: u16,
        referenced: InitiatorTaskTag,
        ref_cmd_sn: u32,
    ) -> InitiatorTaskTag {
        let itt = self.new_tag();
        let header = TaskManagementRequest {
            opcode: opcode::TASK_MANAGEMENT_REQUEST | IMMEDIATE,
            flags: FINAL | function.code(),
            lun: Lun::from_number(lun).0.into(),
            initiator_task_tag: itt.0.into(),
            referenced_task_tag: referenced.0.into(),
            cmd_sn: self.cmd_sn.into(),
            exp_stat_sn: self.exp_stat_sn.into(),
            ref_cmd_sn: ref_cmd_sn.into(),
            ..TaskManagementRequest::zeroed()
        };
        self.push(header.bytes(), &[], &[]);
        itt
    }

    /// An immediate Logout Request; its tag.
    pub fn logout(&mut self, reason: LogoutReason, cid: u16) -> InitiatorTaskTag {
        let itt = self.new_tag();
        let header = LogoutRequest {
            opcode: opcode::LOGOUT_REQUEST | IMMEDIATE,
            flags: FINAL | reason.code(),
            initiator_task_tag: itt.0.into(),
            cid: cid.into(),
            cmd_sn: self.cmd_sn.into(),
            exp_stat_sn: self.exp_stat_sn.into(),
            ..LogoutRequest::zeroed()
        };
        self.push(header.bytes(), &[], &[]);
        itt
    }
}

/// The header of a Login Request, with T, C, CSG and NSG in `flags`.
#[must_use]
pub fn login_request(flags: u8) -> LoginRequest {
    LoginRequest {
        opcode: opcode::LOGIN_REQUEST | IMMEDIATE,
        flags,
        isid: [0x80, 0, 0, 0x12, 0x34, 0x56],
        initiator_task_tag: 0x0a0b_0c0d.into(),
        cid: 7.into(),
        cmd_sn: 1000.into(),
        exp_stat_sn: 500.into(),
        ..LoginRequest::zeroed()
    }
}
