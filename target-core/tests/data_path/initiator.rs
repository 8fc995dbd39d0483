//! An initiator in its full feature phase: what it sends, and what it checks in every answer.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use iscsi_proto::Lun;
use iscsi_proto::pdu::{
    AsyncEvent, AsyncMessage, Bhs, DataIn, DataOut, FINAL, IMMEDIATE, LogoutRequest,
    LogoutResponse, NopIn, NopOut, ReadyToTransfer, Reject, RejectReason, ScsiCommand,
    ScsiResponse, TaskManagementRequest, TaskManagementResponse, TextRequest, TextResponse, opcode,
};

use crate::outcome::residual;
pub use crate::outcome::{Data, Outcome};
use crate::wire::{
    Answers, FIRST_CMD_SN, FIRST_STAT_SN, Login, Received, Refusal, Wire, login_response,
};

const NO_TAG: u32 = 0xffff_ffff;

/// An answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    Scsi(Outcome),
    Nop(Vec<u8>),
    TaskManagement(u8, [u8; 3]),
    Text { data: Vec<u8>, tag: u32, last: bool },
    Logout(u8),
}

/// A command that is not answered yet.
#[derive(Debug)]
struct Task {
    lun: u64,
    data_out: Vec<u8>,
    data_in: Vec<u8>,
    data_in_sn: u32,
    r2t_sn: u32,
    /// Names it to ABORT TASK.
    cmd_sn: u32,
}

/// A logged-in initiator.
#[derive(Debug)]
pub struct Initiator {
    pub wire: Wire,
    pub tsih: u16,
    pub answers: Answers,
    /// R2Ts are kept here and not answered.
    pub hold_r2t: bool,
    pub held_r2t: VecDeque<Bhs>,
    pub rejects: Vec<RejectReason>,
    pub async_events: Vec<AsyncEvent>,
    /// LUNs whose tasks others have ended.
    pub terminated: Vec<u64>,
    /// Pings of the target that were answered.
    pub pings: usize,
    /// Of the next command.
    pub cmd_sn: u32,
    exp_stat_sn: u32,
    max_cmd_sn: u32,
    next_tag: u32,
    tasks: HashMap<u32, Task>,
    done: HashMap<u32, Answer>,
}

impl Initiator {
    pub fn log_in(address: SocketAddr, login: &Login) -> Result<Self, Refusal> {
        let mut wire = Wire::connect(address);
        login.begin(&mut wire);
        Self::logged_in(wire)
    }

    /// Waits for the last Login Response.
    pub fn logged_in(wire: Wire) -> Result<Self, Refusal> {
        Self::logged_in_at(wire, FIRST_CMD_SN)
    }

    /// Goes on with a session over another connection; `cmd_sn` is its next CmdSN.
    pub fn reinstated(address: SocketAddr, login: &Login, cmd_sn: u32) -> Result<Self, Refusal> {
        let mut wire = Wire::connect(address);
        login.begin(&mut wire);
        Self::logged_in_at(wire, cmd_sn)
    }

    /// The same, when the login has begun.
    pub fn logged_in_at(mut wire: Wire, cmd_sn: u32) -> Result<Self, Refusal> {
        let (response, answers) = login_response(&mut wire)?;
        assert_eq!(response.flags & 0x83, 0x83, "the login is not over");
        assert_eq!(response.exp_cmd_sn.get(), cmd_sn);
        wire.rules.header_digest = answers.get("HeaderDigest").is_some_and(|v| v == "CRC32C");
        wire.rules.data_digest = answers.get("DataDigest").is_some_and(|v| v == "CRC32C");
        let exp_stat_sn = response.stat_sn.get().wrapping_add(1);
        assert!(exp_stat_sn.wrapping_sub(FIRST_STAT_SN) < 16);
        Ok(Self {
            wire,
            tsih: response.tsih.get(),
            answers,
            hold_r2t: false,
            held_r2t: VecDeque::new(),
            rejects: Vec::new(),
            async_events: Vec::new(),
            terminated: Vec::new(),
            pings: 0,
            cmd_sn,
            exp_stat_sn,
            max_cmd_sn: response.max_cmd_sn.get(),
            next_tag: 1,
            tasks: HashMap::new(),
            done: HashMap::new(),
        })
    }

    fn number(&self, key: &str, default: usize) -> usize {
        self.answers.get(key).map_or(default, |value| value.parse().unwrap())
    }

    fn is_yes(&self, key: &str, default: bool) -> bool {
        self.answers.get(key).map_or(default, |value| value == "Yes")
    }

    fn segment(&self) -> usize {
        self.number("MaxRecvDataSegmentLength", 8192)
    }

    fn tag(&mut self) -> u32 {
        self.next_tag += 1;
        self.next_tag
    }

    fn take_cmd_sn(&mut self) -> u32 {
        // The window may be closed for now.
        while self.max_cmd_sn.wrapping_sub(self.cmd_sn) > 1 << 31 {
            assert!(self.pump(), "closed while the window was");
        }
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        self.cmd_sn.wrapping_sub(1)
    }

    /// Sends a command with as much of its data as may go along; its tag.
    pub fn start(&mut self, lun: u16, cdb: &[u8], data: Data<'_>) -> u32 {
        self.start_at(Lun::from_number(lun).0, cdb, data)
    }

    /// The same for a LUN as it stands on the wire.
    pub fn start_at(&mut self, lun: u64, cdb: &[u8], data: Data<'_>) -> u32 {
        let (tag, bytes) = self.command(lun, cdb, data);
        self.wire.send_bytes(&bytes);
        tag
    }

    /// A command with as much of its data as may go along, as bytes, and its tag.
    pub fn command(&mut self, lun: u64, cdb: &[u8], data: Data<'_>) -> (u32, Vec<u8>) {
        let (tag, cmd_sn) = (self.tag(), self.take_cmd_sn());
        let (direction, expected, data_out) = match data {
            Data::None => (0, 0, &[][..]),
            Data::In(length) => (ScsiCommand::READ, length, &[][..]),
            Data::Out(bytes) => (ScsiCommand::WRITE, bytes.len(), bytes),
        };
        let first_burst = self.number("FirstBurstLength", 65536).min(data_out.len());
        let segment = self.segment();
        let immediate =
            if self.is_yes("ImmediateData", true) { first_burst.min(segment) } else { 0 };
        let unsolicited = !self.is_yes("InitialR2T", true) && immediate < first_burst;
        let mut whole_cdb = [0; 16];
        let (first, rest) = cdb.split_at(cdb.len().min(16));
        whole_cdb[..first.len()].copy_from_slice(first);
        // Extended CDB (RFC 7143 §11.2.2.3): AHSLength, AHSType, reserved, the rest.
        let mut ahs = Vec::new();
        if !rest.is_empty() {
            ahs.extend(u16::try_from(rest.len() + 1).unwrap().to_be_bytes());
            ahs.extend([1, 0]);
            ahs.extend(rest);
            ahs.resize(ahs.len().next_multiple_of(4), 0);
        }
        let header = ScsiCommand {
            // SIMPLE.
            flags: if unsolicited { 0 } else { FINAL } | direction | 1,
            lun: lun.into(),
            initiator_task_tag: tag.into(),
            expected_data_transfer_length: u32::try_from(expected).unwrap().into(),
            cmd_sn: cmd_sn.into(),
            exp_stat_sn: self.exp_stat_sn.into(),
            cdb: whole_cdb,
            ..ScsiCommand::new()
        };
        let rules = self.wire.rules;
        let mut bytes = Vec::new();
        let now = &data_out[..immediate];
        iscsi_proto::codec::encode(&rules, header.bytes(), &ahs, now, &mut bytes);
        let data_in = match data {
            Data::In(length) => vec![0xa5; length],
            _ => Vec::new(),
        };
        let task =
            Task { lun, data_out: data_out.to_vec(), data_in, data_in_sn: 0, r2t_sn: 0, cmd_sn };
        if unsolicited {
            self.data_out(&task, tag, NO_TAG, immediate, first_burst, &mut bytes);
        }
        self.tasks.insert(tag, task);
        (tag, bytes)
    }

    /// One sequence of Data-Out PDUs.
    fn data_out(
        &self,
        task: &Task,
        tag: u32,
        transfer: u32,
        from: usize,
        to: usize,
        bytes: &mut Vec<u8>,
    ) {
        let (mut at, mut data_sn) = (from, 0);
        while at < to {
            let end = to.min(at + self.segment());
            let header = DataOut {
                flags: if end == to { FINAL } else { 0 },
                lun: if transfer == NO_TAG { 0 } else { task.lun }.into(),
                initiator_task_tag: tag.into(),
                target_transfer_tag: transfer.into(),
                exp_stat_sn: self.exp_stat_sn.into(),
                data_sn: data_sn.into(),
                buffer_offset: u32::try_from(at).unwrap().into(),
                ..DataOut::new()
            };
            let data = &task.data_out[at..end];
            iscsi_proto::codec::encode(&self.wire.rules, header.bytes(), &[], data, bytes);
            (at, data_sn) = (end, data_sn + 1);
        }
    }

    /// Answers an R2T.
    pub fn answer_r2t(&mut self, bhs: &Bhs) {
        let r2t = ReadyToTransfer::view(bhs);
        let tag = r2t.initiator_task_tag.get();
        let from = r2t.buffer_offset.get() as usize;
        let to = from + r2t.desired_data_transfer_length.get() as usize;
        let mut bytes = Vec::new();
        let transfer = r2t.target_transfer_tag.get();
        self.data_out(&self.tasks[&tag], tag, transfer, from, to, &mut bytes);
        self.wire.send_bytes(&bytes);
    }

    /// Sends a command and waits for its end.
    pub fn execute(&mut self, lun: u16, cdb: &[u8], data: Data<'_>) -> Outcome {
        let tag = self.start(lun, cdb, data);
        self.finish(tag)
    }

    /// Waits for the end of a command.
    pub fn finish(&mut self, tag: u32) -> Outcome {
        match self.wait(tag) {
            Answer::Scsi(outcome) => outcome,
            other => panic!("{other:?} for a command"),
        }
    }

    /// Data-In PDUs that have come for a task that is not answered.
    pub fn data_in_count(&self, tag: u32) -> u32 {
        self.tasks[&tag].data_in_sn
    }

    /// Whether an answer for the request has come already.
    pub fn is_answered(&self, tag: u32) -> bool {
        self.done.contains_key(&tag)
    }

    fn wait(&mut self, tag: u32) -> Answer {
        while !self.done.contains_key(&tag) {
            assert!(self.pump(), "closed before the answer came");
        }
        self.done.remove(&tag).unwrap()
    }

    /// A round trip: what the target had to say before has come when this returns.
    pub fn nop(&mut self) {
        let tag = self.tag();
        let header = NopOut {
            opcode: opcode::NOP_OUT | IMMEDIATE,
            flags: FINAL,
            initiator_task_tag: tag.into(),
            target_transfer_tag: NO_TAG.into(),
            cmd_sn: self.cmd_sn.into(),
            exp_stat_sn: self.exp_stat_sn.into(),
            ..NopOut::new()
        };
        assert!(self.wire.send(header.bytes(), b"ping!"));
        assert_eq!(self.wait(tag), Answer::Nop(b"ping!".to_vec()));
    }

    /// The target asks whether anybody is there.
    fn answer_ping(&mut self, ping: &NopIn) {
        assert_eq!(ping.stat_sn.get(), self.exp_stat_sn, "a ping uses up no StatSN");
        self.pings += 1;
        let header = NopOut {
            opcode: opcode::NOP_OUT | IMMEDIATE,
            flags: FINAL,
            lun: ping.lun,
            initiator_task_tag: NO_TAG.into(),
            target_transfer_tag: ping.target_transfer_tag,
            cmd_sn: self.cmd_sn.into(),
            exp_stat_sn: self.exp_stat_sn.into(),
            ..NopOut::new()
        };
        self.wire.send(header.bytes(), &[]);
    }

    /// Sends a task management function; its tag.
    pub fn start_function(&mut self, function: u8, lun: u64, referenced: Option<u32>) -> u32 {
        let tag = self.tag();
        let ref_cmd_sn = referenced.and_then(|it| self.tasks.get(&it)).map_or(0, |it| it.cmd_sn);
        let header = TaskManagementRequest {
            opcode: opcode::TASK_MANAGEMENT_REQUEST | IMMEDIATE,
            flags: FINAL | function,
            lun: lun.into(),
            initiator_task_tag: tag.into(),
            referenced_task_tag: referenced.unwrap_or(NO_TAG).into(),
            cmd_sn: self.cmd_sn.into(),
            exp_stat_sn: self.exp_stat_sn.into(),
            ref_cmd_sn: ref_cmd_sn.into(),
            ..TaskManagementRequest::new()
        };
        assert!(self.wire.send(header.bytes(), &[]));
        tag
    }

    /// Waits for the response to a task management function.
    pub fn finish_function(&mut self, tag: u32) -> u8 {
        self.finish_query(tag).0
    }

    /// The same with its Additional Response Information.
    pub fn finish_query(&mut self, tag: u32) -> (u8, [u8; 3]) {
        match self.wait(tag) {
            Answer::TaskManagement(response, information) => (response, information),
            other => panic!("{other:?} for a task management function"),
        }
    }

    /// A text exchange, with as many requests as the answer needs.
    pub fn text(&mut self, text: &[u8]) -> Vec<u8> {
        let tag = self.tag();
        let (mut transfer, mut sent, mut answer) = (NO_TAG, text, Vec::new());
        loop {
            self.send_text(tag, transfer, sent);
            let Answer::Text { data, tag, last } = self.wait(tag) else { panic!("no text") };
            answer.extend(data);
            if last {
                return answer;
            }
            (transfer, sent) = (tag, &[]);
        }
    }

    /// Sends a Text Request that is not answered but rejected.
    pub fn rejected_text(&mut self, text: &[u8]) -> RejectReason {
        let tag = self.tag();
        self.send_text(tag, NO_TAG, text);
        self.nop();
        assert!(!self.is_answered(tag));
        self.rejects.pop().expect("no Reject")
    }

    fn send_text(&mut self, tag: u32, transfer: u32, text: &[u8]) {
        let header = TextRequest {
            flags: FINAL,
            initiator_task_tag: tag.into(),
            target_transfer_tag: transfer.into(),
            cmd_sn: self.take_cmd_sn().into(),
            exp_stat_sn: self.exp_stat_sn.into(),
            ..TextRequest::new()
        };
        assert!(self.wire.send(header.bytes(), text));
    }

    /// Logs out; the response.
    pub fn log_out(&mut self) -> u8 {
        let tag = self.tag();
        let header = LogoutRequest {
            flags: FINAL,
            initiator_task_tag: tag.into(),
            cid: 1.into(),
            cmd_sn: self.take_cmd_sn().into(),
            exp_stat_sn: self.exp_stat_sn.into(),
            ..LogoutRequest::new()
        };
        assert!(self.wire.send(header.bytes(), &[]));
        match self.wait(tag) {
            Answer::Logout(response) => response,
            other => panic!("{other:?} for a logout"),
        }
    }

    /// Reads to the end of the connection; what was answered before that is kept.
    pub fn read_to_end(&mut self) {
        while self.pump() {}
    }

    /// Deals with one PDU; false if the connection is closed.
    pub fn pump(&mut self) -> bool {
        let Some(received) = self.wire.receive() else { return false };
        let tag = received.tag();
        match received.opcode() {
            opcode::SCSI_RESPONSE => self.scsi_response(&received),
            opcode::DATA_IN => self.data_in(&received),
            opcode::READY_TO_TRANSFER => self.ready_to_transfer(&received),
            opcode::NOP_IN if tag == NO_TAG => self.answer_ping(NopIn::view(&received.bhs)),
            opcode::NOP_IN => {
                self.numbered(NopIn::view(&received.bhs).stat_sn.get());
                self.done.insert(tag, Answer::Nop(received.data));
            }
            opcode::TASK_MANAGEMENT_RESPONSE => {
                let header = TaskManagementResponse::view(&received.bhs);
                self.numbered(header.stat_sn.get());
                self.window(header.max_cmd_sn.get());
                self.done.insert(
                    tag,
                    Answer::TaskManagement(header.response, header.additional_response_information),
                );
            }
            opcode::TEXT_RESPONSE => {
                let header = TextResponse::view(&received.bhs);
                self.numbered(header.stat_sn.get());
                let (transfer, last) =
                    (header.target_transfer_tag.get(), header.flags & FINAL != 0);
                let answer = Answer::Text { data: received.data, tag: transfer, last };
                self.done.insert(tag, answer);
            }
            opcode::LOGOUT_RESPONSE => {
                let header = LogoutResponse::view(&received.bhs);
                self.numbered(header.stat_sn.get());
                self.done.insert(tag, Answer::Logout(header.response));
            }
            opcode::REJECT => {
                let header = Reject::view(&received.bhs);
                self.numbered(header.stat_sn.get());
                assert!(received.data.len() >= 48, "a Reject without the header it is about");
                self.rejects.push(header.reason().unwrap());
            }
            opcode::ASYNC_MESSAGE => {
                let header = AsyncMessage::view(&received.bhs);
                self.numbered(header.stat_sn.get());
                self.window(header.max_cmd_sn.get());
                let event = header.event().unwrap();
                if event == AsyncEvent::TaskTermination {
                    self.terminated.push(header.lun.get());
                }
                self.async_events.push(event);
            }
            other => panic!("opcode {other:02x}"),
        }
        true
    }

    /// Every status comes once and in order.
    fn numbered(&mut self, stat_sn: u32) {
        assert_eq!(stat_sn, self.exp_stat_sn, "StatSN");
        self.exp_stat_sn = stat_sn.wrapping_add(1);
    }

    /// MaxCmdSN never goes back.
    fn window(&mut self, max_cmd_sn: u32) {
        assert!(max_cmd_sn.wrapping_sub(self.max_cmd_sn) < 1 << 31, "MaxCmdSN went back");
        self.max_cmd_sn = max_cmd_sn;
    }

    fn data_in(&mut self, received: &Received) {
        let header = DataIn::view(&received.bhs);
        let tag = header.initiator_task_tag.get();
        self.window(header.max_cmd_sn.get());
        let task = self.tasks.get_mut(&tag).expect("Data-In for no task");
        assert_eq!(header.data_sn.get(), task.data_in_sn, "DataSN");
        task.data_in_sn += 1;
        let from = header.buffer_offset.get() as usize;
        task.data_in[from..from + received.data.len()].copy_from_slice(&received.data);
        if header.flags & DataIn::STATUS != 0 {
            let residual = residual(header.flags, header.residual_count.get());
            self.numbered(header.stat_sn.get());
            self.end(tag, header.status, &[], residual);
        }
    }

    fn scsi_response(&mut self, received: &Received) {
        let header = ScsiResponse::view(&received.bhs);
        self.numbered(header.stat_sn.get());
        self.window(header.max_cmd_sn.get());
        assert_eq!(header.response, ScsiResponse::COMPLETED_AT_TARGET);
        let residual = residual(header.flags, header.residual_count.get());
        let sense = received.data.get(2..).unwrap_or_default();
        self.end(header.initiator_task_tag.get(), header.status, sense, residual);
    }

    fn end(&mut self, tag: u32, status: u8, sense: &[u8], residual: i64) {
        let mut data = self.tasks.remove(&tag).expect("an answer for no task").data_in;
        data.truncate(data.len() - usize::try_from(residual.max(0)).unwrap().min(data.len()));
        let outcome = Outcome { status, sense: sense.to_vec(), data, residual };
        self.done.insert(tag, Answer::Scsi(outcome));
    }

    fn ready_to_transfer(&mut self, received: &Received) {
        let r2t = ReadyToTransfer::view(&received.bhs);
        assert_eq!(r2t.stat_sn.get(), self.exp_stat_sn, "an R2T uses up no StatSN");
        self.window(r2t.max_cmd_sn.get());
        let max_burst = self.number("MaxBurstLength", 262_144);
        assert!((1..=max_burst).contains(&(r2t.desired_data_transfer_length.get() as usize)));
        let tag = r2t.initiator_task_tag.get();
        let task = self.tasks.get_mut(&tag).expect("an R2T for no task");
        assert_eq!(r2t.r2t_sn.get(), task.r2t_sn, "R2TSN");
        assert_eq!(r2t.lun.get(), task.lun);
        task.r2t_sn += 1;
        if self.hold_r2t {
            self.held_r2t.push_back(received.bhs);
        } else {
            self.answer_r2t(&received.bhs);
        }
    }
}
