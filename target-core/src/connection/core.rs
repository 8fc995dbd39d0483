//! The state of a connection without its socket.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::mailbox::Sender;
use disk_image::ImageError;
use iscsi_proto::login::{LoginOutcome, SessionType};
use iscsi_proto::pdu::{AsyncEvent, Pdu};
use iscsi_proto::session::{Event, Session, SessionError, SessionLimits, TaskId};
use iscsi_proto::transmit::TransmitQueue;
use iscsi_proto::{Cid, Lun, TargetTransferTag};
use scsi::{BlockRange, Cdb, Port, Sense, SenseFormat, Status, UnitAttention};
use tokio::sync::oneshot;

use super::copy::Copying;
use super::dormant::{Dormant, Older};
use super::flights::Flights;
use super::in_place::{Data, InPlace};
use super::inline::Order;
use super::limits::{Concerns, Delayed};
use super::task_management::{Function, Guard, Then};
use super::timed::Timed;
use super::trial::Trial;
use super::{Handover, Message};
use crate::backlog::Share;
use crate::buffers;
use crate::clock::Milliseconds;
use crate::events::{Fault, SessionEnd};
use crate::fault;
use crate::io::{Control, Stop, UnitQueue, Work, WorkError};
use crate::nexus::{Nexus, Ports, UnitRef, View};
use crate::node::Node;
use crate::sessions::{Admission, Ends};
use crate::task_set::Boundary;
use crate::trace::Taps;
use crate::unit::LogicalUnit;

/// The tag of our NOP-Ins; their answers say nothing but that somebody is there.
const PING: TargetTransferTag = TargetTransferTag(1);

/// With so much to send nothing more is taken in.
const MAX_PENDING: usize = 1 << 20;
/// The same while the socket takes no more: what is left then may have to be moved, and what is read
/// then is out of the processor's cache before it is sent.
const MAX_BLOCKED: usize = 128 << 10;
/// With so much data on its way to or from devices nothing more is taken in.
pub(super) const MAX_HANDED_OFF: usize = 16 << 20;

/// A command and the unit it is for.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) task: TaskId,
    pub(super) cdb: Cdb,
    pub(super) lun: Lun,
    pub(super) unit: UnitRef,
    /// Of an ORDERED command, until it has ended.
    pub(super) boundary: Option<Arc<Boundary>>,
}

/// A command that could not be answered at once.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) job: Job,
    pub(super) stage: Stage,
    /// Pieces of work that are handed off.
    pub(super) working: u32,
    /// It was aborted; it is kept until nothing of it can write any more.
    pub(super) aborted: bool,
    /// Its LUN was taken away: it is answered with that, once nothing of it can write any more.
    pub(super) unit_gone: bool,
    /// Task management functions that wait for that.
    pub(super) guards: Vec<Arc<Guard>>,
    /// Removals of its unit that wait for that.
    pub(super) held: Vec<Arc<oneshot::Sender<()>>>,
    /// It is a copy, which can be stopped.
    pub(super) copy: Option<Arc<Control>>,
}

impl Pending {
    pub(super) fn new(job: Job, stage: Stage) -> Self {
        Self {
            job,
            stage,
            working: 0,
            aborted: false,
            unit_gone: false,
            guards: Vec::new(),
            held: Vec::new(),
            copy: None,
        }
    }

    /// It will not be answered.
    pub(super) fn abort(&mut self) {
        self.aborted = true;
        self.stop_copy(Stop::Aborted);
    }

    pub(super) fn stop_copy(&self, stop: Stop) {
        self.copy.iter().for_each(|copy| copy.stop(stop));
    }
}

impl Pending {
    /// Bytes that it gathers.
    pub(super) fn gathers(&self) -> usize {
        match &self.stage {
            Stage::Gather(data) => data.capacity(),
            Stage::Write(_) | Stage::Read(_) | Stage::Work { .. } | Stage::Operation { .. } => 0,
        }
    }

    /// Fails a write that waits for data which would go to the image as it comes. False for
    /// everything else.
    pub(super) fn stop_write(&mut self, sense: Sense) -> bool {
        match &mut self.stage {
            Stage::Write(streaming) if !streaming.is_complete() => {
                streaming.failure.get_or_insert(WorkError::Check(sense));
                true
            }
            Stage::Write(_)
            | Stage::Read(_)
            | Stage::Gather(_)
            | Stage::Work { .. }
            | Stage::Operation { .. } => false,
        }
    }
}

/// What a pending command waits for.
#[derive(Debug)]
pub(super) enum Stage {
    /// Data that is written as it comes.
    Write(super::write::Streaming),
    /// Data that is needed as a whole.
    Gather(Vec<u8>),
    /// A long read, of which a part is read when the one before it is sent.
    Read(super::read::Reading),
    /// Work that was handed off; then it is answered.
    Work {
        /// Bytes that the device has or wants.
        device_length: u64,
        /// Bytes of a read that were sent before.
        sent: u32,
    },
    /// The end of an operation on the whole medium, which goes on without the command.
    Operation {
        /// Bytes that the device wants.
        device_length: u64,
    },
}

impl Stage {
    /// The initiator has still to send something.
    fn waits_for_data(&self) -> bool {
        match self {
            Self::Write(streaming) => !streaming.is_complete(),
            Self::Gather(_) => true,
            Self::Read(_) | Self::Work { .. } | Self::Operation { .. } => false,
        }
    }
}

/// Why no more requests are taken.
#[derive(Debug, Clone, Copy)]
struct Closing {
    end: SessionEnd,
    /// What is queued is sent first.
    send: bool,
    /// The initiator is told, behind everything else.
    farewell: bool,
}

impl Closing {
    fn new(end: SessionEnd, send: bool) -> Self {
        Self { end, send, farewell: end.is_orderly() }
    }
}

pub(super) struct Core {
    pub(super) node: Arc<Node>,
    pub(super) admission: Admission,
    pub(super) ends: Ends,
    /// The tag of the portal group that the initiator came to.
    pub(super) group: u16,
    pub(super) cid: Cid,
    pub(super) session: Session,
    pub(super) tx: TransmitQueue<Data>,
    pub(super) in_place: InPlace,
    pub(super) trial: Trial,
    pub(super) flights: Flights,
    pub(super) nexus: Nexus,
    pub(super) sender: Sender,
    pub(super) pending: Vec<Pending>,
    /// Parameter data and unmap ranges, kept for the next command that needs some.
    pub(super) reply: Vec<u8>,
    pub(super) ranges: Vec<BlockRange>,
    /// When this turn began.
    pub(super) now: Milliseconds,
    /// Pieces of work that are handed off and not back, health checks too.
    pub(super) working: u32,
    /// Bytes that they hold.
    pub(super) memory: usize,
    share: Share,
    /// Copies that are under way, or whose outcome can be asked for.
    pub(super) copies: Vec<Copying>,
    closing: Option<Closing>,
    /// Who takes the session over when this connection has ended.
    pub(super) successor: Option<oneshot::Sender<Handover>>,
    /// How many connections the session had before this one.
    pub(super) incarnation: u32,
    /// Task management functions that are not answered yet.
    pub(super) functions: Vec<Function>,
    /// How many there have been.
    pub(super) function_count: u64,
    /// Where the receive buffer begins in memory.
    pub(super) received_at: usize,
    /// Limits that concern the session, and the commands that they make wait.
    pub(super) limits: Vec<Concerns>,
    pub(super) delayed: Vec<Delayed>,
    /// Long reads, one behind the other.
    pub(super) reading: Vec<TaskId>,
    /// What is to be written on this thread, one behind the other.
    pub(super) orders: Vec<Order>,
    /// Commands that wait for their turn in a task set, and those that ORDERED ones wait for.
    pub(super) dormant: Vec<Dormant>,
    pub(super) older: Vec<Older>,
    /// An ORDERED command has been enabled that may not have ended: its end wakes others.
    pub(super) ordered: bool,
    /// Tasks of others may have been woken in this turn. The runtime may keep the last of them
    /// for this thread, which must not hang then.
    pub(super) wakes: bool,
    /// It has woken another connection, whose turn it is to write: that goes first.
    pub(super) yields: bool,
    /// The socket has not taken all that there was to send.
    pub(super) blocked: bool,
    /// Traces that are being taken.
    pub(super) taps: Taps,
    /// Commands whose time is taken.
    pub(super) timed: Vec<Timed>,
}

impl Core {
    pub(super) fn new(
        node: Arc<Node>,
        outcome: &LoginOutcome,
        admission: Admission,
        ends: Ends,
        sender: Sender,
        response: &[u8],
    ) -> Option<Self> {
        let initiator = outcome.initiator_name.as_str().to_owned();
        let group = outcome.target_portal_group_tag;
        let found = match &outcome.target_name {
            Some(target) => node.ports(target.as_str(), group, &initiator, ends.peer.ip()),
            None => Some((no_ports(), Arc::new(View::new()))),
        };
        let Some((ports, view)) = found else {
            node.sessions.remove(admission.tsih);
            return None;
        };
        let share = node.backlog.share();
        let nexus = Nexus::new(initiator, outcome.isid, ports, &view);
        let limits = SessionLimits { max_tasks: node.config.max_tasks };
        let mut tx = TransmitQueue::new();
        tx.append(response);
        let mut this = Self {
            session: Session::new(outcome, limits),
            cid: outcome.cid,
            node,
            admission,
            ends,
            group,
            tx,
            in_place: InPlace::Never,
            trial: Trial::new(),
            flights: Flights::default(),
            nexus,
            sender,
            pending: Vec::new(),
            reply: Vec::new(),
            ranges: Vec::new(),
            now: Milliseconds::now(),
            working: 0,
            memory: 0,
            share,
            copies: Vec::new(),
            closing: None,
            successor: None,
            incarnation: 0,
            functions: Vec::new(),
            function_count: 0,
            received_at: 0,
            limits: Vec::new(),
            delayed: Vec::new(),
            reading: Vec::new(),
            orders: Vec::new(),
            dormant: Vec::new(),
            older: Vec::new(),
            ordered: false,
            wakes: false,
            yields: false,
            blocked: false,
            taps: Taps::default(),
            timed: Vec::new(),
        };
        this.look_for_limits();
        Some(this)
    }

    /// Goes on over a new connection, behind the last response of its login. What the old one had
    /// begun has ended.
    pub(super) fn reinstate(&mut self, outcome: &LoginOutcome, ends: Ends, response: &[u8]) {
        self.session.reinstate(outcome);
        self.ends = ends;
        self.taps.clear();
        self.tx = TransmitQueue::new();
        self.flights = Flights::default();
        self.tx.append(response);
        self.blocked = false;
        self.pending.clear();
        self.reading.clear();
        self.timed.clear();
        self.closing = None;
        // The initiator knows that the functions of a connection have ended with it.
        self.functions.retain(|function| function.closes.is_some());
        self.incarnation = self.incarnation.wrapping_add(1);
    }

    /// Tells the outside that the session is there.
    pub(super) fn announce(&self) {
        if self.incarnation == 0
            && self.session.session_type() == SessionType::Normal
            && let Some(summary) = self.node.sessions.summary(self.admission.tsih)
        {
            self.node.events.session_up(&summary);
        }
    }

    /// Takes the session out of the table: nothing of it can write any more.
    pub(super) fn finish(&mut self, end: SessionEnd) {
        self.account();
        for seen in self.nexus.units() {
            seen.unit.reservations().nexus_lost(seen.unit.name(), &self.nexus.identity);
        }
        if let Some(summary) = self.node.sessions.remove(self.admission.tsih)
            && self.session.session_type() == SessionType::Normal
        {
            self.node.events.session_down(&summary, end);
        }
        self.node.tidy.session_ended();
    }

    /// Publishes the counters, and what is held.
    pub(super) fn account(&mut self) {
        self.share.set(self.tx.pending_bytes() + self.memory + self.dormant_bytes());
        self.ordered = self.pending.iter().any(|pending| pending.job.boundary.is_some());
        self.admission.published.set(&self.session);
    }

    /// Whether requests are still taken.
    pub(super) fn takes_more(&self) -> bool {
        self.closing.is_none()
    }

    /// Whether there is room for another one: an initiator that does not read its answers, or a
    /// device that does not take its data, makes nothing grow.
    pub(super) fn has_room(&self) -> bool {
        let pending = self.tx.pending_bytes();
        pending < if self.blocked { MAX_BLOCKED } else { MAX_PENDING }
            && self.memory < MAX_HANDED_OFF
            && self.share.has_room(pending + self.memory)
    }

    /// Keeps no memory that only commands need, which are few of those of a session: not READs and
    /// WRITEs.
    pub(super) fn rest(&mut self) {
        if self.reply.capacity() > 0 {
            self.reply = Vec::new();
        }
        if self.timed.is_empty() && self.timed.capacity() > 0 {
            self.timed = Vec::new();
        }
        self.flights.rest();
    }

    /// Whether so many bytes may be kept besides what is held already.
    pub(super) fn share_has_room(&self, bytes: usize) -> bool {
        self.share.has_room(self.tx.pending_bytes() + self.memory + bytes)
    }

    /// The end has come: everything that had to be sent is sent, and nothing can write any more.
    pub(super) fn ended(&self) -> Option<SessionEnd> {
        let closing = self.closing?;
        let sent = self.tx.is_empty() && !closing.farewell;
        let done = self.working == 0 && (!closing.send || sent);
        done.then_some(closing.end)
    }

    /// Asks the initiator whether it is there.
    pub(super) fn ping(&mut self) {
        self.session.ping(PING, &mut self.tx);
    }

    /// Takes no more requests, aborts what is there, and ends when what is queued is sent.
    pub(super) fn close_after_sending(&mut self, end: SessionEnd) {
        self.close(Closing::new(end, true));
    }

    /// Nobody is there to send anything to.
    pub(super) fn disconnected(&mut self) {
        self.close(Closing::new(SessionEnd::Disconnected, false));
    }

    /// Once everything is answered, tells the initiator of a session that is drained that its
    /// connections are dropped now (RFC 7143 §11.9).
    pub(super) fn say_farewell(&mut self) {
        let now = self.closing.as_mut().filter(|it| it.farewell && it.send && self.working == 0);
        let Some(closing) = now else { return };
        closing.farewell = false;
        let time2wait = self.session.parameters().default_time2wait;
        let event = AsyncEvent::DropSession { time2wait, time2retain: 0 };
        self.session.async_message(event, &mut self.tx);
    }

    /// The session is over but for what it still has to send.
    pub(super) fn only_sends(&self) -> bool {
        self.closing.is_some_and(|closing| closing.send) && !self.tx.is_empty()
    }

    fn close(&mut self, closing: Closing) {
        if closing.send && self.takes_more() {
            // What limits have made wait is answered with the rest.
            self.release(None);
        }
        self.delayed.clear();
        self.dormant.clear();
        let now = self.closing.get_or_insert(closing);
        now.send &= closing.send;
        let drains = closing.end.is_orderly() && now.end.is_orderly();
        self.stop_copies(Stop::Cancelled, |_| true, None, None);
        if drains {
            self.hand_off_reads();
        }
        self.pending.retain_mut(|pending| {
            // Work that has begun is finished and answered; data is not waited for.
            pending.aborted |= !drains || pending.stage.waits_for_data();
            pending.working > 0
        });
    }

    /// Deals with a message from elsewhere.
    pub(super) fn message(&mut self, message: Message) {
        self.wakes |= !matches!(message, Message::Done(_) | Message::Ended(_));
        match message {
            Message::Done(completion) => self.completed(completion),
            Message::View(view, held) => self.view_changed(&view, held.as_ref()),
            Message::AccessStates { groups, told } => self.nexus.groups_changed(&groups, told),
            Message::Abort { unit, attention, guard } => {
                let affected = self.abort_tasks_of(&unit, None, &guard);
                if affected {
                    self.tasks_terminated(&unit);
                }
                if attention != UnitAttention::CommandsCleared || affected {
                    self.nexus.attention(&unit, attention);
                }
            }
            Message::Attention { unit, condition } => self.nexus.attention(&unit, condition),
            Message::AbortOf { unit, nexus, guard } => {
                if self.is(&nexus) {
                    self.abort_tasks_of(&unit, None, &guard);
                }
            }
            Message::AttentionOf { unit, nexus, condition } => {
                if self.is(&nexus) {
                    self.nexus.attention(&unit, condition);
                }
            }
            Message::Ended(_) if !self.takes_more() => {}
            Message::Boundary(boundary) if self.takes_more() => self.boundary_given(boundary),
            // It is passed on.
            Message::Boundary(_) => {}
            Message::Older { unit, guard } => self.note_older(&unit, &guard),
            Message::Ended(Then::Enabled { task }) => self.enable_ordered(task),
            Message::Ended(Then::Function { number, .. }) => self.function_ended(number),
            Message::Ended(Then::Command { task, device_length }) => {
                self.good(task, device_length);
            }
            Message::OperationEnded { task, result } => self.operation_ended(task, result),
            Message::Ask(event) if self.takes_more() => {
                self.session.async_message(event, &mut self.tx);
            }
            Message::Ask(_) => {}
            Message::Limits => self.look_for_limits(),
            Message::Trace(tap) => self.taps.add(*tap),
            // Who asks for a session that is over is told so when this is dropped.
            Message::TakeOver(_) if !self.takes_more() => {}
            Message::TakeOver(successor) => {
                self.successor = Some(successor);
                self.disconnected();
            }
            Message::Close(end) if self.successor.take().is_some() => {
                // Nobody takes it over any more.
                if let Some(closing) = &mut self.closing {
                    closing.end = end;
                }
            }
            Message::Close(end @ (SessionEnd::Reinstated | SessionEnd::Disconnected)) => {
                self.close(Closing::new(end, false));
            }
            Message::Close(end) => self.close_after_sending(end),
        }
    }

    /// Handles a PDU.
    pub(super) fn pdu(&mut self, pdu: &Pdu<'_>) {
        if !self.tx.has_buffer() {
            self.tx.attach(buffers::take_transmit());
        }
        if !self.flights.is_empty() {
            self.landed(pdu);
        }
        let event = self.session.handle(pdu, &mut self.tx);
        self.event(event);
        if !self.functions.is_empty() {
            self.answer_functions();
        }
    }

    /// Handles a PDU whose data was damaged on the way.
    pub(super) fn data_digest_mismatch(&mut self, pdu: &Pdu<'_>) {
        let event = self.session.data_digest_error(pdu, &mut self.tx);
        self.event(event);
    }

    fn event(&mut self, event: Result<Option<Event<'_>>, SessionError>) {
        match event {
            Ok(None) => {}
            Ok(Some(Event::DataLost { task })) => self.data_lost(task),
            Ok(Some(Event::Command(command))) => self.command(&command),
            Ok(Some(Event::WriteData { task, offset, data, complete })) => {
                self.write_data(task, offset, data, complete);
            }
            Ok(Some(Event::TaskManagement {
                initiator_task_tag,
                function,
                lun,
                referenced_tag,
                referenced,
            })) => {
                let referenced = (referenced_tag, referenced);
                self.task_management(initiator_task_tag, function, lun, referenced);
            }
            Ok(Some(Event::Text { initiator_task_tag, header, text })) => {
                self.text(initiator_task_tag, header, &text);
            }
            Ok(Some(Event::Logout { initiator_task_tag, reason, cid })) => {
                self.logout(initiator_task_tag, reason, cid);
            }
            Err(error) => self.session_error(error),
        }
    }

    fn session_error(&mut self, error: SessionError) {
        tracing::info!(initiator = self.nexus.initiator, %error, "session closed");
        self.close_after_sending(SessionEnd::ProtocolError(match error {
            SessionError::Protocol(rule) => rule,
            SessionError::DataDigest => "data digest mismatch",
        }));
    }

    /// GOOD.
    pub(super) fn good(&mut self, task: TaskId, device_length: u64) {
        if !self.delayed.is_empty() && self.delays(task, device_length) {
            return;
        }
        self.session.respond(task, Status::Good.code(), &[], device_length, &mut self.tx);
    }

    /// CONDITION MET.
    pub(super) fn condition_met(&mut self, task: TaskId) {
        self.session.respond(task, Status::ConditionMet.code(), &[], 0, &mut self.tx);
    }

    /// CHECK CONDITION.
    pub(super) fn check(&mut self, task: TaskId, unit: Option<&LogicalUnit>, sense: Sense) {
        let descriptors = unit.is_some_and(|unit| unit.mode().descriptor_sense);
        let format = if descriptors { SenseFormat::Descriptor } else { SenseFormat::Fixed };
        let mut bytes = [0; Sense::MAX_LENGTH];
        if let Some(count) = self.node.senses.get(usize::from(sense.key as u8)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let length = sense.encode(format, &mut bytes);
        let bytes = bytes.get(..length).unwrap_or_default();
        let status = Status::CheckCondition.code();
        self.session.respond(task, status, bytes, 0, &mut self.tx);
    }

    /// CHECK CONDITION for a failed image, and a fault.
    pub(super) fn failed(&mut self, job: &Job, error: &ImageError) {
        let lba = logical_block(&job.unit, error).or_else(|| job.cdb.logical_block_address());
        self.report(job.cdb.operation_code(), job.lun, &job.unit, lba, error);
        self.check(job.task, Some(&job.unit), fault::sense(error, lba));
    }

    /// Reports a fault.
    pub(super) fn report(
        &self,
        operation_code: u8,
        lun: Lun,
        unit: &LogicalUnit,
        lba: Option<u64>,
        error: &ImageError,
    ) {
        // Known to the management by the target's LUN, whatever the initiator calls it.
        let target_lun = self.nexus.find(lun).map(|seen| seen.target_lun).or(lun.number());
        self.node.events.fault(Fault {
            unit: unit.name().to_owned(),
            target: self.nexus.port.target_name.clone(),
            lun: target_lun.unwrap_or(u16::MAX),
            lba,
            operation_code,
            initiator: self.nexus.initiator.clone(),
            kind: error.kind(),
            operation: error.operation(),
            errno: error.errno(),
            path: error.path().to_path_buf(),
            text: error.to_string(),
        });
    }

    /// Logs a command that was handed off and took long. The trace names it among all of the
    /// session that are there: captures have both numbers, too.
    #[cold]
    pub(super) fn log_slow(&self, job: &Job, time: Duration) {
        let itt = self.session.initiator_task_tag(job.task).map_or(u32::MAX, |itt| itt.0);
        let lun = self.nexus.find(job.lun).map(|seen| seen.target_lun).or(job.lun.number());
        tracing::warn!(
            name: "slow_command",
            trace = %format_args!("{:04x}-{itt:08x}", self.admission.tsih.0),
            unit = job.unit.name(),
            to = self.nexus.port.target_name,
            lun,
            initiator = self.nexus.initiator,
            operation_code = %format_args!("{:02x}h", job.cdb.operation_code()),
            lba = job.cdb.logical_block_address(),
            milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
            "a command was slow"
        );
    }

    /// Hands work off to a thread that may sleep.
    pub(super) fn submit(&mut self, unit: &Arc<LogicalUnit>, task: Option<TaskId>, work: Work) {
        self.working += 1;
        self.memory += UnitQueue::submit(unit, task, work, self.sender.clone());
    }

    /// Hands off writes of bytes that adjoin: of each its command, and how many of them.
    pub(super) fn submit_write(
        &mut self,
        unit: &Arc<LogicalUnit>,
        offset: u64,
        data: Vec<u8>,
        parts: Vec<(TaskId, usize)>,
    ) {
        self.working += u32::try_from(parts.len()).unwrap_or(u32::MAX);
        self.memory += data.len();
        UnitQueue::submit_write(unit, offset, data.into(), parts, self.sender.clone());
    }

    /// Hands off the work that a command consists of.
    pub(super) fn hand_off(&mut self, job: Job, work: Work, device_length: u64) {
        self.hand_off_rest(job, work, device_length, 0);
    }

    /// The same for a read of which so many bytes were sent.
    pub(super) fn hand_off_rest(&mut self, job: Job, work: Work, device_length: u64, sent: u32) {
        self.submit(&job.unit, Some(job.task), work);
        let stage = Stage::Work { device_length, sent };
        self.pending.push(Pending { working: 1, ..Pending::new(job, stage) });
    }

    /// Where a pending command stands.
    pub(super) fn position(&self, task: TaskId) -> Option<usize> {
        self.pending.iter().position(|pending| pending.job.task == task)
    }
}

/// The block at which the image failed.
fn logical_block(unit: &LogicalUnit, error: &ImageError) -> Option<u64> {
    error.offset()?.checked_div(u64::from(unit.device().logical_block_length))
}

/// In a discovery session there is no port.
fn no_ports() -> Ports {
    let own =
        Port { target_name: String::new(), target_portal_group_tag: 0, relative_target_port_id: 0 };
    Ports { own, all: Vec::new(), groups: Vec::new() }
}
