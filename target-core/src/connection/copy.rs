//! Third-party copies: between the units that this session sees, and from tokens.

use std::sync::Arc;
use std::time::{Duration, Instant};

use disk_image::ImageError;
use scsi::copy::{
    CopyLength, CopyList, CopyRequest, CopySegment, CopyState, CopyStatus, CopyTarget, ListId,
    MAX_CONCURRENT, MAX_SEGMENT_LENGTH, PopulateToken, RodToken, THIS_UNIT, TOKEN_LENGTH,
    Transferred, WriteUsingToken, action, copy_aborted, management_tokens,
};
use scsi::{AdditionalSense, BlockRange, Cdb, CopyReport, MediumState, Sense, SenseFormat, Status};
use tokio::sync::oneshot;

use super::core::{Core, Job};
use super::task_management::{Guard, Then};
use crate::fault;
use crate::io::{Control, Copied, Copy, Failure, MakeToken, Run, Source, Stop, Work};
use crate::nexus::UnitRef;
use crate::tokens::{End, InUse, Request, Token};
use crate::unit::LogicalUnit;

/// Copies that are over and whose outcome a session can ask for.
const KEPT: usize = 64;
/// READ(16) and WRITE(16) stand for a copy where reservations are looked at.
const READ: u8 = 0x88;
const WRITE: u8 = 0x8a;

const UNREACHABLE: Sense = copy_aborted(AdditionalSense::UNREACHABLE_COPY_TARGET);
const NOT_REACHABLE: Sense = copy_aborted(AdditionalSense::COPY_TARGET_DEVICE_NOT_REACHABLE);
const DEVICE_FAILURE: Sense = copy_aborted(AdditionalSense::THIRD_PARTY_DEVICE_FAILURE);

/// A copy that this session began.
#[derive(Debug)]
pub(super) struct Copying {
    /// Its command.
    job: Job,
    list_identifier: Option<ListId>,
    control: Arc<Control>,
    /// The units that it uses, and whether it writes to them.
    uses: Vec<(Arc<LogicalUnit>, bool)>,
    /// Its command has been answered before it was done.
    immediate: bool,
    /// How it ended.
    outcome: Option<Outcome>,
    /// What waits until it cannot write any more, if its command does not.
    guards: Vec<Arc<Guard>>,
    held: Vec<Arc<oneshot::Sender<()>>>,
}

#[derive(Debug)]
struct Outcome {
    state: CopyState,
    sense: Option<Sense>,
    token: Option<Arc<Token>>,
    /// RECEIVE COPY STATUS(LID1) has told it.
    told: bool,
}

impl Copying {
    pub(super) fn is_under_way(&self) -> bool {
        self.outcome.is_none()
    }

    fn is_named(&self, unit: &UnitRef, list_identifier: ListId) -> bool {
        self.list_identifier == Some(list_identifier) && Arc::ptr_eq(&self.job.unit, unit)
    }

    /// Whether it is a task of the unit, or uses it.
    pub(super) fn concerns(&self, unit: &Arc<LogicalUnit>) -> bool {
        Arc::ptr_eq(&self.job.unit, unit) || self.uses.iter().any(|it| Arc::ptr_eq(&it.0, unit))
    }

    fn state(&self) -> CopyState {
        match &self.outcome {
            Some(outcome) => outcome.state,
            None if self.immediate => CopyState::InBackground,
            None => CopyState::InForeground,
        }
    }

    fn transferred(&self) -> Transferred {
        let bytes = self.control.bytes();
        match self.job.cdb.service_action() {
            action::POPULATE_TOKEN | action::WRITE_USING_TOKEN => {
                let block_length = u64::from(self.job.unit.device().logical_block_length).max(1);
                Transferred::Blocks(bytes / block_length)
            }
            _ => Transferred::Bytes(bytes),
        }
    }
}

/// What a request comes down to.
struct Planned {
    work: Work,
    control: Arc<Control>,
    uses: Vec<(Arc<LogicalUnit>, bool)>,
}

impl Planned {
    fn copy(runs: Vec<Run>, nexus: scsi::reservation::Nexus, token: Option<InUse>) -> Self {
        let mut uses: Vec<(Arc<LogicalUnit>, bool)> = Vec::new();
        let mut note = |unit: &Arc<LogicalUnit>, writes| match uses
            .iter_mut()
            .find(|it| Arc::ptr_eq(&it.0, unit))
        {
            Some(known) => known.1 |= writes,
            None => uses.push((unit.clone(), writes)),
        };
        for run in &runs {
            note(&run.destination, true);
            if let Source::Unit { unit, .. } = &run.source {
                note(unit, false);
            }
        }
        let copy = Copy::new(runs, nexus, token);
        let control = copy.control().clone();
        Self { work: Work::Copy(copy), control, uses }
    }
}

impl Core {
    /// A command that copies, with its parameter list.
    pub(super) fn third_party_copy(&mut self, job: Job, data: &[u8]) {
        let request = match CopyRequest::parse(job.cdb, data, job.unit.device()) {
            Ok(request) => request,
            Err(sense) => return self.check(job.task, Some(&job.unit), sense),
        };
        let list_identifier = request.list_identifier();
        let named = |it: &Copying| list_identifier.is_some_and(|id| it.is_named(&job.unit, id));
        if self.copies.iter().any(|it| it.is_under_way() && named(it)) {
            let sense = Sense::illegal(AdditionalSense::OPERATION_IN_PROGRESS);
            return self.check(job.task, Some(&job.unit), sense);
        }
        let under_way = self.copies.iter().filter(|it| it.is_under_way()).count();
        if under_way >= usize::from(MAX_CONCURRENT) {
            let status = Status::TaskSetFull.code();
            return self.session.respond(job.task, status, &[], 0, &mut self.tx);
        }
        let planned = match &request {
            CopyRequest::Copy(list) => self.plan_copy(&job, list),
            CopyRequest::PopulateToken(it) => Ok(self.plan_token(&job, it)),
            CopyRequest::WriteUsingToken(it) => self.plan_write(&job, it),
        };
        match planned {
            Ok(planned) => {
                self.copies.retain(|it| !named(it));
                let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
                self.begin_copy(job, &request, planned, length);
            }
            Err(sense) => self.check(job.task, Some(&job.unit), sense),
        }
    }

    fn begin_copy(&mut self, job: Job, request: &CopyRequest, planned: Planned, length: u64) {
        let Planned { work, control, uses } = planned;
        let over = self.copies.iter().filter(|it| !it.is_under_way()).count();
        if over >= KEPT
            && let Some(oldest) = self.copies.iter().position(|it| !it.is_under_way())
        {
            self.copies.remove(oldest);
        }
        self.copies.push(Copying {
            job: Job { boundary: None, ..job.clone() },
            list_identifier: request.list_identifier(),
            control: control.clone(),
            uses,
            immediate: request.is_immediate(),
            outcome: None,
            guards: Vec::new(),
            held: Vec::new(),
        });
        if request.is_immediate() {
            self.good(job.task, length);
            self.submit(&job.unit, None, work);
        } else {
            self.hand_off(job, work, length);
            if let Some(pending) = self.pending.last_mut() {
                pending.copy = Some(control);
            }
        }
    }

    /// EXTENDED COPY.
    fn plan_copy(&self, job: &Job, list: &CopyList) -> Result<Planned, Sense> {
        let mut runs = Vec::new();
        for (index, segment) in list.segments.iter().enumerate() {
            let run = self.run(job, &list.targets, segment);
            runs.push(run.map_err(|sense| in_segment(sense, index))?);
        }
        Ok(Planned::copy(runs, self.nexus.identity.clone(), None))
    }

    /// A segment as bytes of units.
    fn run(&self, job: &Job, targets: &[CopyTarget], segment: &CopySegment) -> Result<Run, Sense> {
        let (source, source_block) = self.copy_target(job, targets, segment.source, READ)?;
        let (destination, destination_block) =
            self.copy_target(job, targets, segment.destination, WRITE)?;
        let length = match segment.length {
            CopyLength::SourceBlocks(blocks) => u64::from(blocks) * source_block,
            CopyLength::DestinationBlocks(blocks) => u64::from(blocks) * destination_block,
            CopyLength::Bytes(bytes) => u64::from(bytes),
        };
        if length > u64::from(MAX_SEGMENT_LENGTH) {
            return Err(Sense::invalid_field_in_parameter_list(segment.place.1, None));
        }
        let place = |unit: &LogicalUnit, lba: u64, block: u64, offset: u16| {
            let start = lba.checked_mul(block)?.checked_add(u64::from(offset))?;
            let end = unit.device().block_count().checked_mul(block)?;
            (start.checked_add(length)? <= end).then_some(start)
        };
        let beyond = || copy_aborted(AdditionalSense::NO_ADDITIONAL_SENSE_INFORMATION);
        let from = place(&source, segment.source_lba, source_block, segment.source_offset);
        let to = place(
            &destination,
            segment.destination_lba,
            destination_block,
            segment.destination_offset,
        );
        Ok(Run {
            source: Source::Unit { offset: from.ok_or_else(beyond)?, unit: Arc::clone(&source) },
            destination_offset: to.ok_or_else(beyond)?,
            destination: Arc::clone(&destination),
            length,
        })
    }

    /// A unit that the list names, and that this session may use in that way.
    fn copy_target(
        &self,
        job: &Job,
        targets: &[CopyTarget],
        index: u16,
        access: u8,
    ) -> Result<(UnitRef, u64), Sense> {
        let target = targets.get(usize::from(index));
        let seen = match target {
            None if index == THIS_UNIT => self.nexus.find(job.lun),
            None => None,
            Some(target) => {
                let naa = target.naa.ok_or(UNREACHABLE)?;
                self.nexus.units().iter().find(|seen| seen.unit.device().naa == naa)
            }
        };
        let seen = seen.ok_or(UNREACHABLE)?;
        let unit = &seen.unit;
        let block_length = unit.device().logical_block_length;
        let refused = unit.reservations().refusal(&self.nexus.identity, Cdb::new(&[access; 1]));
        let protected = access == WRITE && (seen.read_only || unit.is_write_protected());
        let mistaken = target.is_some_and(|target| target.block_length != block_length);
        let ready = unit.state() == MediumState::Ready;
        if mistaken || refused.is_some() || protected || !ready {
            return Err(NOT_REACHABLE);
        }
        Ok((unit.clone(), u64::from(block_length)))
    }

    /// POPULATE TOKEN.
    fn plan_token(&self, job: &Job, populate: &PopulateToken) -> Planned {
        let request = Request {
            initiator: self.nexus.initiator.clone(),
            target: self.nexus.port.target_name.clone(),
            rod_type: populate.rod_type,
            inactivity: Duration::from_secs(populate.inactivity_seconds.into()),
            ranges: in_bytes(&job.unit, &populate.ranges).collect(),
        };
        let (tokens, unit) = (self.node.tokens.clone(), Arc::clone(&job.unit));
        let control = Arc::<Control>::default();
        let work = MakeToken { tokens, unit: unit.clone(), request, control: control.clone() };
        Planned { work: Work::MakeToken(Box::new(work)), control, uses: vec![(unit, false)] }
    }

    /// WRITE USING TOKEN.
    fn plan_write(&self, job: &Job, write: &WriteUsingToken) -> Result<Planned, Sense> {
        let unit = Arc::clone(&job.unit);
        let nexus = self.nexus.identity.clone();
        let ranges = in_bytes(&job.unit, &write.ranges);
        let run = |range: std::ops::Range<u64>, source| Run {
            source,
            destination: unit.clone(),
            destination_offset: range.start,
            length: range.end - range.start,
        };
        if write.rod_token()? == RodToken::Zeroes {
            let runs = ranges.map(|range| run(range, Source::Zeroes)).collect();
            return Ok(Planned::copy(runs, nexus, None));
        }
        let (mut token, source) = self.token(&write.token)?;
        let block_length = u64::from(unit.device().logical_block_length);
        let mut represented = token.ranges().to_vec();
        // Where the data begins, and whether there is enough of it.
        let mut skip = write.offset.checked_mul(block_length);
        represented.retain_mut(|range| {
            let length = range.end - range.start;
            let now = skip.map_or(length, |skip| skip.min(length));
            skip = skip.map(|skip| skip - now);
            range.start += now;
            range.start < range.end
        });
        let mut rest = represented.into_iter().peekable();
        let mut runs = Vec::new();
        for mut range in ranges {
            while range.start < range.end {
                let Some(from) = rest.peek_mut().filter(|_| skip == Some(0)) else {
                    // OFFSET INTO ROD.
                    return Err(Sense::invalid_field_in_parameter_list(8, None));
                };
                let length = (range.end - range.start).min(from.end - from.start);
                let now = range.start..range.start + length;
                runs.push(run(now, Source::Unit { unit: source.clone(), offset: from.start }));
                range.start += length;
                from.start += length;
                if from.start == from.end {
                    rest.next();
                }
            }
        }
        token.delete(write.delete);
        let mut planned = Planned::copy(runs, nexus, Some(token));
        // What is reached through another session is not this one's to lose.
        planned.uses.retain(|(used, _)| !self.nexus.luns_of(used).is_empty());
        Ok(planned)
    }

    /// A token, and the unit whose data it represents, which this initiator must be able to read.
    fn token(&self, bytes: &[u8; TOKEN_LENGTH]) -> Result<(InUse, Arc<LogicalUnit>), Sense> {
        let token = self.node.tokens.find(bytes, Instant::now())?;
        let unit = token.unit().ok_or(End::Cancelled.sense())?;
        let seen_here = !self.nexus.luns_of(&unit).is_empty();
        if !seen_here && !self.node.is_seen_by(&self.nexus.initiator, &unit) {
            // Not even that it exists.
            let asc = AdditionalSense::INVALID_TOKEN_OPERATION_TOKEN_UNKNOWN;
            return Err(Sense::illegal(asc));
        }
        let refused = unit.reservations().refusal(&self.nexus.identity, Cdb::new(&[READ; 1]));
        if refused.is_some() || unit.state() != MediumState::Ready {
            return Err(NOT_REACHABLE);
        }
        Ok((token, unit))
    }

    /// A copy is over: how its command ends.
    pub(super) fn copy_ended(&mut self, copied: Copied) -> Option<Sense> {
        let Copied { control, result } = copied;
        let at = self.copies.iter().position(|it| Arc::ptr_eq(&it.control, &control))?;
        let job = self.copies.get(at)?.job.clone();
        let (state, sense, token) = match result {
            Ok(token) => (CopyState::Completed, None, token),
            Err(failure) => {
                let (state, sense) = self.copy_failed(&job, &control, &failure);
                (state, Some(sense), None)
            }
        };
        let copying = self.copies.get_mut(at)?;
        copying.outcome = Some(Outcome { state, sense, token, told: false });
        copying.guards.clear();
        copying.held.clear();
        // No unit is kept from going away for the sake of an outcome.
        copying.uses.clear();
        let gone = self.nexus.luns_of(&job.unit).is_empty();
        if gone || copying.list_identifier.is_none() {
            self.copies.remove(at);
        }
        sense
    }

    fn copy_failed(&self, job: &Job, control: &Control, failure: &Failure) -> (CopyState, Sense) {
        let by_token =
            matches!(job.cdb.service_action(), action::POPULATE_TOKEN | action::WRITE_USING_TOKEN);
        let (state, sense) = match failure {
            Failure::Source(unit, error) => {
                self.report_copy(job, unit, error);
                (CopyState::Failed, DEVICE_FAILURE)
            }
            Failure::Destination(unit, error) => {
                self.report_copy(job, unit, error);
                // The unit that the command came to failed by itself.
                let sense = if by_token { fault::sense(error, None) } else { DEVICE_FAILURE };
                (CopyState::Failed, sense)
            }
            Failure::NotReachable => (CopyState::Terminated, NOT_REACHABLE),
            Failure::Token(end) => (CopyState::Failed, end.sense()),
            Failure::Refused(sense) => (CopyState::Failed, *sense),
            Failure::Stopped(Stop::Unreachable) => (CopyState::Terminated, NOT_REACHABLE),
            Failure::Stopped(Stop::Aborted) => (
                CopyState::Terminated,
                copy_aborted(AdditionalSense::NO_ADDITIONAL_SENSE_INFORMATION),
            ),
            Failure::Stopped(Stop::Cancelled) => (
                CopyState::Terminated,
                copy_aborted(AdditionalSense::ERROR_DETECTED_BY_THIRD_PARTY_TEMPORARY_INITIATOR),
            ),
        };
        (state, if by_token { sense } else { in_segment(sense, control.runs().into()) })
    }

    fn report_copy(&self, job: &Job, unit: &Arc<LogicalUnit>, error: &ImageError) {
        let lun = self.nexus.luns_of(unit).first().copied().unwrap_or(job.lun);
        let block_length = u64::from(unit.device().logical_block_length);
        let lba = error.offset().and_then(|offset| offset.checked_div(block_length));
        self.report(job.cdb.operation_code(), lun, unit, lba, error);
    }

    /// Stops copies. What is given is held until they cannot write any more.
    pub(super) fn stop_copies(
        &mut self,
        stop: Stop,
        concerns: impl Fn(&Copying) -> bool,
        guard: Option<&Arc<Guard>>,
        held: Option<&Arc<oneshot::Sender<()>>>,
    ) {
        for copying in self.copies.iter_mut().filter(|it| it.is_under_way() && concerns(it)) {
            copying.control.stop(stop);
            let is_it = |it: &Arc<Control>| Arc::ptr_eq(it, &copying.control);
            match self.pending.iter_mut().find(|it| it.copy.as_ref().is_some_and(is_it)) {
                Some(pending) => {
                    pending.guards.extend(guard.cloned());
                    pending.held.extend(held.cloned());
                }
                None => {
                    copying.guards.extend(guard.cloned());
                    copying.held.extend(held.cloned());
                }
            }
        }
    }

    /// Stops copies that use what the session does not see any more, or may not write to.
    pub(super) fn stop_unreachable_copies(&mut self, held: Option<&Arc<oneshot::Sender<()>>>) {
        let units: Vec<_> = self
            .nexus
            .units()
            .iter()
            .map(|seen| (Arc::clone(&seen.unit), seen.read_only))
            .collect();
        let usable = |(unit, writes): &(Arc<LogicalUnit>, bool)| {
            units
                .iter()
                .any(|(seen, read_only)| Arc::ptr_eq(seen, unit) && !(*writes && *read_only))
        };
        self.stop_copies(Stop::Unreachable, |it| !it.uses.iter().all(usable), None, held);
        let is_seen = |unit: &UnitRef| units.iter().any(|(seen, _)| Arc::ptr_eq(seen, unit));
        self.copies.retain(|it| it.is_under_way() || is_seen(&it.job.unit));
    }

    /// COPY OPERATION ABORT: GOOD when the copy cannot write any more.
    pub(super) fn copy_abort(&mut self, job: &Job, list_identifier: u32) {
        let id = ListId::Lid4(list_identifier);
        if !self.copies.iter().any(|it| it.is_named(&job.unit, id)) {
            let sense = Sense::invalid_field_in_cdb(2, None);
            return self.check(job.task, Some(&job.unit), sense);
        }
        let then = Then::Command { task: job.task, device_length: 0 };
        let guard = Arc::new(Guard::new(self.sender.clone(), then));
        let unit = job.unit.clone();
        self.stop_copies(Stop::Aborted, |it| it.is_named(&unit, id), Some(&guard), None);
    }

    /// REPORT ALL ROD TOKENS: of the units that this initiator can reach.
    pub(super) fn rod_tokens(&mut self, job: &Job, allocation_length: u32) {
        let mut tokens = self.node.tokens.good(Instant::now());
        tokens.retain(|token| {
            token.unit().is_some_and(|unit| {
                !self.nexus.luns_of(&unit).is_empty()
                    || self.node.is_seen_by(&self.nexus.initiator, &unit)
            })
        });
        let tokens = tokens.iter().map(|token| token.bytes());
        management_tokens(tokens, allocation_length, &mut self.reply);
        self.parameter_data(job.task);
    }

    /// How a copy stands. RECEIVE COPY STATUS(LID1) tells an outcome once (SPC-4 §6.18.2), and
    /// failure details are told once.
    pub(super) fn copy_report(
        &mut self,
        job: &Job,
        report: CopyReport,
        list_identifier: ListId,
        allocation_length: u32,
    ) {
        let named = |it: &Copying| it.is_named(&job.unit, list_identifier);
        let at = self.copies.iter().position(named);
        let known = at.and_then(|at| Some((at, self.copies.get(at)?)));
        let told = |it: &Copying| match (&it.outcome, report) {
            // There are none yet.
            (None, CopyReport::FailureDetails) => true,
            (Some(outcome), CopyReport::Status) => outcome.told,
            (None | Some(_), _) => false,
        };
        let Some((at, copying)) = known.filter(|(_, it)| !told(it)) else {
            let sense = Sense::invalid_field_in_cdb(2, None);
            return self.check(job.task, Some(&job.unit), sense);
        };
        let sense = copying.outcome.as_ref().and_then(|outcome| outcome.sense);
        let mut bytes = [0; Sense::MAX_LENGTH];
        let descriptors = job.unit.mode().descriptor_sense;
        let format = if descriptors { SenseFormat::Descriptor } else { SenseFormat::Fixed };
        let length = sense.map_or(0, |sense| sense.encode(format, &mut bytes));
        let token = copying.outcome.as_ref().and_then(|outcome| outcome.token.as_ref());
        let check = Status::CheckCondition.code();
        let status = CopyStatus {
            service_action: copying.job.cdb.service_action(),
            state: copying.state(),
            segments: copying.control.runs(),
            transferred: copying.transferred(),
            completion_status: if sense.is_some() { check } else { Status::Good.code() },
            sense: bytes.get(..length).unwrap_or_default(),
            token: token.map(|token| token.bytes()),
        };
        let long = matches!(list_identifier, ListId::Lid4(_));
        status.reply(report, long, allocation_length, &mut self.reply);
        let over = !copying.is_under_way();
        let failed = sense.is_some();
        self.parameter_data(job.task);
        if !over || long {
            return;
        }
        if failed && report == CopyReport::Status {
            // Its failure details may still be asked for.
            let outcome = self.copies.get_mut(at).and_then(|it| it.outcome.as_mut());
            outcome.into_iter().for_each(|outcome| outcome.told = true);
        } else {
            self.copies.remove(at);
        }
    }
}

/// Blocks of a unit as bytes.
fn in_bytes(
    unit: &LogicalUnit,
    ranges: &[BlockRange],
) -> impl Iterator<Item = std::ops::Range<u64>> {
    let block_length = u64::from(unit.device().logical_block_length);
    ranges.iter().map(move |range| {
        let start = range.lba * block_length;
        start..start + u64::from(range.blocks) * block_length
    })
}

/// COMMAND-SPECIFIC INFORMATION of COPY ABORTED: the segment that was being processed.
fn in_segment(sense: Sense, segment: usize) -> Sense {
    let aborted = sense.key == scsi::SenseKey::CopyAborted;
    let segment = u64::try_from(segment).unwrap_or(u64::MAX);
    Sense { command_specific: aborted.then_some(segment).or(sense.command_specific), ..sense }
}
