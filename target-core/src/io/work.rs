//! What a unit's thread does. All offsets and lengths are bytes of the image.

use std::io::{IoSlice, IoSliceMut};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use disk_image::{BlockState, Durability, Image, ImageError, ImageErrorKind, Operation, Wait};
use iscsi_proto::Tsih;
use scsi::operation::MediumOperation;
use scsi::reservation::{Nexus, Outcome};
use scsi::{
    AccessState, BlockRange, Cdb, LbaStatusReply, ModeParameters, ProvisioningStatus, Sense,
};

use super::copy::Slice;
use super::{Copied, Copy, MakeToken};
use crate::node::Node;
use crate::regions::range_of;
use crate::reservations::KnownPorts;
use crate::statistics::Kind;
use crate::unit::LogicalUnit;

/// Compared or verified at once.
const PIECE: usize = 1 << 20;

/// Zeroed or unmapped at once in a plain file.
const ZEROED_AT_ONCE: u64 = 8 << 20;

/// The longest WRITE SAME, in bytes, for which all other commands of the unit wait.
const ALONE_AT_MOST: u64 = 64 << 10;

/// One operation on a unit.
#[derive(Debug)]
pub(crate) enum Work {
    /// With `flush`, what is read is on the medium.
    Read {
        offset: u64,
        length: usize,
        flush: bool,
    },
    Write {
        offset: u64,
        data: Bytes,
        durable: bool,
    },
    WriteAndVerify {
        offset: u64,
        data: Bytes,
        compare: bool,
    },
    Verify {
        offset: u64,
        length: u64,
    },
    /// `data` is compared with as many bytes, `times` times one behind the other.
    Compare {
        offset: u64,
        data: Bytes,
        times: u32,
    },
    /// The second half of `data` is written if the first half is what is there.
    CompareAndWrite {
        offset: u64,
        data: Bytes,
        durable: bool,
    },
    /// Within what the image can write as a whole.
    WriteAtomic {
        offset: u64,
        data: Bytes,
        durable: bool,
    },
    /// What is there, or `data`, bit by bit.
    OrWrite {
        offset: u64,
        data: Bytes,
        durable: bool,
    },
    /// PERSISTENT RESERVE OUT.
    ReserveOut {
        cdb: Cdb,
        list: Bytes,
        nexus: Nexus,
        ports: Box<KnownPorts>,
    },
    /// MODE SELECT with SP.
    SaveMode {
        mode: ModeParameters,
    },
    /// SET TARGET PORT GROUPS.
    SetTargetPortGroups {
        node: Arc<Node>,
        target: String,
        by: Tsih,
        changes: Vec<(u16, AccessState)>,
    },
    /// EXTENDED COPY, WRITE USING TOKEN.
    Copy(Box<Copy>),
    /// POPULATE TOKEN.
    MakeToken(Box<MakeToken>),
    /// SANITIZE or FORMAT UNIT: records it.
    BeginOperation {
        operation: Box<MediumOperation>,
        initiator: String,
    },
    /// SANITIZE, EXIT FAILURE MODE.
    ExitFailureMode,
    /// RESERVE or RELEASE.
    ReserveUnit {
        cdb: Cdb,
        nexus: Nexus,
        release: bool,
    },
    /// Reads into the page cache.
    PreFetch(Box<Self>),
    Zeroes {
        offset: u64,
        length: u64,
        unmap: bool,
        durable: bool,
    },
    /// `block` is written again and again.
    WriteSame {
        offset: u64,
        length: u64,
        block: Bytes,
        durable: bool,
    },
    Unmap {
        ranges: Vec<BlockRange>,
        block_length: u64,
    },
    Flush,
    LbaStatus {
        lba: u64,
        blocks: u64,
        block_length: u64,
        allocation_length: u32,
    },
    StartStop {
        start: bool,
        flush: bool,
    },
    Health,
}

/// What a finished operation gives back.
#[derive(Debug)]
pub(crate) enum Output {
    Done,
    ConditionMet,
    /// Blocks that were read.
    Data(Bytes),
    /// Parameter data.
    Reply(Vec<u8>),
    /// A reservation command.
    Reserved(Outcome),
    /// Mode parameters are saved and in force, instead of others.
    ModeSaved {
        before: ModeParameters,
        mode: ModeParameters,
    },
    /// A copy, as far as it came.
    Copied(Copied),
    /// It is not done: the rest of it, to be done behind what waits.
    More(Work),
    /// An operation is recorded.
    Begun {
        /// It is answered now, not at its end.
        immediate: bool,
    },
}

/// Why it failed.
#[derive(Debug)]
pub(crate) enum WorkError {
    Image(ImageError),
    /// Nothing is wrong with the image.
    Check(Sense),
}

impl From<ImageError> for WorkError {
    fn from(error: ImageError) -> Self {
        Self::Image(error)
    }
}

impl Work {
    /// As it is counted.
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Read { .. }
            | Self::Verify { .. }
            | Self::Compare { .. }
            | Self::PreFetch(_)
            | Self::LbaStatus { .. } => Kind::Read,
            Self::Write { .. }
            | Self::WriteAndVerify { .. }
            | Self::CompareAndWrite { .. }
            | Self::WriteAtomic { .. }
            | Self::OrWrite { .. }
            | Self::Zeroes { .. }
            | Self::WriteSame { .. }
            | Self::Unmap { .. } => Kind::Write,
            Self::Flush => Kind::Flush,
            Self::ReserveOut { .. }
            | Self::SaveMode { .. }
            | Self::SetTargetPortGroups { .. }
            | Self::Copy(_)
            | Self::MakeToken(_)
            | Self::BeginOperation { .. }
            | Self::ExitFailureMode
            | Self::ReserveUnit { .. }
            | Self::StartStop { .. }
            | Self::Health => Kind::Other,
        }
    }

    /// Runs it; may sleep.
    pub(crate) fn run(self, unit: &LogicalUnit) -> Result<Output, WorkError> {
        if let Self::ReserveOut { cdb, list, nexus, ports } = &self {
            return reserve_out(unit, *cdb, list, nexus, ports);
        }
        if let Self::Copy(copy) = self {
            return Ok(match copy.slice() {
                Slice::More(copy) => Output::More(Self::Copy(copy)),
                Slice::Done(copied) => Output::Copied(copied),
            });
        }
        if let Self::MakeToken(make) = self {
            return Ok(Output::Copied(make.run()));
        }
        if let Self::BeginOperation { operation, initiator } = self {
            crate::operation::begin(unit, &operation, initiator).map_err(WorkError::Check)?;
            return Ok(Output::Begun { immediate: operation.immediate });
        }
        if let Self::ExitFailureMode = self {
            crate::operation::exit_failure_mode(unit).map_err(WorkError::Check)?;
            return Ok(Output::Done);
        }
        if let Self::ReserveUnit { cdb, nexus, release } = self {
            return reserve_unit(unit, cdb, &nexus, release);
        }
        if let Self::SaveMode { mode } = self {
            let saved = unit.modes().save(unit.name(), mode);
            return saved.map(|before| Output::ModeSaved { before, mode }).map_err(|reason| {
                tracing::error!(unit = unit.name(), reason, "mode pages cannot be saved");
                WorkError::Check(crate::fault::internal())
            });
        }
        if let Self::SetTargetPortGroups { node, target, by, changes } = self {
            let done = node.set_target_port_groups(&target, by, &changes);
            let failed = |_| WorkError::Check(scsi::set_target_port_groups_failed());
            return done.map(|()| Output::Done).map_err(failed);
        }
        let Some(image) = unit.image() else {
            let sense = crate::fault::not_ready();
            return Err(WorkError::Check(sense));
        };
        if let Self::Read { offset, length, flush } = self {
            unit.claim().refusal().map_or(Ok(()), |sense| Err(WorkError::Check(sense)))?;
            if flush {
                image.flush()?;
            }
            return Ok(Output::Data(super::read::read(unit, image, offset, length)?.into()));
        }
        if let Self::Compare { offset, data, times } = self {
            return compare_with_medium(unit, image, offset, &data, times);
        }
        let cached = self.writes_to_cache();
        let output = self.run_inside(unit, image)?;
        // The write cache was turned off while it was on its way there: MODE SELECT flushes only
        // what has been written before.
        if cached && !unit.mode().write_cache_enabled {
            image.flush()?;
        }
        Ok(output)
    }

    /// Runs it on blocks that others use too.
    fn run_inside(self, unit: &LogicalUnit, image: &Arc<dyn Image>) -> Result<Output, WorkError> {
        let may_run = || unit.claim().refusal().map_or(Ok(()), |it| Err(WorkError::Check(it)));
        if self.must_be_alone() {
            return unit.exclusion().alone(|| {
                may_run()?;
                self.announce(unit);
                self.run_on(unit, image)
            });
        }
        let touches_blocks = self.touches_blocks();
        let _inside = touches_blocks.then(|| unit.exclusion().enter_sleeping());
        if touches_blocks {
            may_run()?;
        }
        self.announce(unit);
        self.run_on(unit, image)
    }

    /// Whether it writes blocks that need not be durable.
    fn writes_to_cache(&self) -> bool {
        let (Self::Write { durable, .. }
        | Self::CompareAndWrite { durable, .. }
        | Self::WriteAtomic { durable, .. }
        | Self::OrWrite { durable, .. }
        | Self::Zeroes { durable, .. }
        | Self::WriteSame { durable, .. }) = self
        else {
            return false;
        };
        !durable
    }

    /// Whether it is atomic towards every other command. Of a WRITE SAME a short one is: hosts
    /// that share a few blocks never see half of one.
    fn must_be_alone(&self) -> bool {
        if let Self::WriteSame { length, .. } | Self::Zeroes { length, .. } = self {
            return *length <= ALONE_AT_MOST;
        }
        matches!(
            self,
            Self::CompareAndWrite { .. } | Self::WriteAtomic { .. } | Self::OrWrite { .. }
        )
    }

    /// Bytes of data that it holds, or will hold.
    pub(crate) fn memory(&self) -> usize {
        match self {
            Self::Read { length, .. } => *length,
            Self::Write { data, .. }
            | Self::WriteAndVerify { data, .. }
            | Self::Compare { data, .. }
            | Self::CompareAndWrite { data, .. }
            | Self::WriteAtomic { data, .. }
            | Self::OrWrite { data, .. } => data.len(),
            Self::Verify { .. }
            | Self::PreFetch(_)
            | Self::WriteSame { .. } => PIECE,
            Self::ReserveOut { list, .. } => list.len(),
            Self::ReserveUnit { .. }
            | Self::SaveMode { .. }
            | Self::SetTargetPortGroups { .. }
            | Self::BeginOperation { .. }
            | Self::ExitFailureMode
            | Self::Zeroes { .. }
            | Self::Unmap { .. }
            // One buffer a thread, and a bound on copies a session.
            | Self::Copy(_)
            | Self::MakeToken(_)
            | Self::Flush
            | Self::LbaStatus { .. }
            | Self::StartStop { .. }
            | Self::Health => 0,
        }
    }

    /// Whether an atomic command must not see it half done.
    fn touches_blocks(&self) -> bool {
        match self {
            Self::Write { .. }
            | Self::WriteAndVerify { .. }
            | Self::CompareAndWrite { .. }
            | Self::WriteAtomic { .. }
            | Self::OrWrite { .. }
            | Self::Zeroes { .. }
            | Self::WriteSame { .. }
            | Self::Unmap { .. } => true,
            // These enter by themselves.
            Self::Read { .. }
            | Self::Compare { .. }
            | Self::Verify { .. }
            | Self::PreFetch(_)
            | Self::ReserveOut { .. }
            | Self::ReserveUnit { .. }
            | Self::SaveMode { .. }
            | Self::SetTargetPortGroups { .. }
            | Self::BeginOperation { .. }
            | Self::ExitFailureMode
            | Self::Copy(_)
            | Self::MakeToken(_)
            | Self::Flush
            | Self::LbaStatus { .. }
            | Self::StartStop { .. }
            | Self::Health => false,
        }
    }

    /// The bytes that have space of their own after it.
    fn writes(&self) -> Option<Range<u64>> {
        let (offset, length) = match self {
            Self::Write { offset, data, .. }
            | Self::WriteAndVerify { offset, data, .. }
            | Self::WriteAtomic { offset, data, .. }
            | Self::OrWrite { offset, data, .. } => (*offset, length_of(data)),
            Self::CompareAndWrite { offset, data, .. } => (*offset, length_of(data) / 2),
            Self::WriteSame { offset, length, .. }
            | Self::Zeroes { offset, length, unmap: false, .. } => (*offset, *length),
            Self::Zeroes { .. }
            | Self::Read { .. }
            | Self::Compare { .. }
            | Self::Verify { .. }
            | Self::PreFetch(_)
            | Self::Unmap { .. }
            | Self::ReserveOut { .. }
            | Self::SaveMode { .. }
            | Self::SetTargetPortGroups { .. }
            | Self::ReserveUnit { .. }
            | Self::BeginOperation { .. }
            | Self::ExitFailureMode
            // Each piece of it looks by itself.
            | Self::Copy(_)
            | Self::MakeToken(_)
            | Self::Flush
            | Self::LbaStatus { .. }
            | Self::StartStop { .. }
            | Self::Health => return None,
        };
        Some(offset..offset.saturating_add(length))
    }

    /// Tells the unit what is about to change, which ends tokens for it.
    fn announce(&self, unit: &LogicalUnit) {
        let changing = |offset: u64, length: u64| {
            unit.tokens().changing(&(offset..offset.saturating_add(length)));
        };
        match self {
            Self::Write { offset, data, .. }
            | Self::WriteAndVerify { offset, data, .. }
            | Self::WriteAtomic { offset, data, .. }
            | Self::OrWrite { offset, data, .. } => changing(*offset, length_of(data)),
            Self::CompareAndWrite { offset, data, .. } => changing(*offset, length_of(data) / 2),
            Self::Zeroes { offset, length, .. } | Self::WriteSame { offset, length, .. } => {
                changing(*offset, *length);
            }
            Self::Unmap { ranges, block_length } => {
                for range in ranges {
                    changing(range.lba * block_length, u64::from(range.blocks) * block_length);
                }
            }
            Self::Read { .. }
            | Self::Compare { .. }
            | Self::Verify { .. }
            | Self::PreFetch(_)
            | Self::ReserveOut { .. }
            | Self::SaveMode { .. }
            | Self::SetTargetPortGroups { .. }
            | Self::ReserveUnit { .. }
            // These tell it themselves.
            | Self::BeginOperation { .. }
            | Self::ExitFailureMode
            | Self::Copy(_)
            | Self::MakeToken(_)
            | Self::Flush
            | Self::LbaStatus { .. }
            | Self::StartStop { .. }
            | Self::Health => {}
        }
    }

    #[allow(clippy::too_many_lines, reason = "one arm for each operation")]
    fn run_on(self, unit: &LogicalUnit, image: &Arc<dyn Image>) -> Result<Output, WorkError> {
        if unit.is_exhausted()
            && let Some(range) = self.writes()
        {
            unit.check_space(image, range)?;
        }
        match self {
            Self::Write { offset, data, durable } => {
                let write = || image.write(&[IoSlice::new(&data)], offset, durability(durable));
                unit.regions().write(range_of(offset, data.len()), write)?;
            }
            Self::WriteAtomic { offset, data, durable } => {
                image.write_atomic(&data, offset, durability(durable))?;
            }
            Self::WriteAndVerify { offset, data, compare } => {
                let write = || image.write(&[IoSlice::new(&data)], offset, Durability::Durable);
                unit.regions().write(range_of(offset, data.len()), write)?;
                if compare {
                    compare_data(offset, &data, 1, |at, piece| {
                        image.read(&mut [IoSliceMut::new(piece)], at, Wait::Block)
                    })?;
                } else {
                    verify(image, offset, length_of(&data))?;
                }
            }
            Self::Verify { offset, length } => verify(image, offset, length)?,
            Self::CompareAndWrite { offset, data, durable } => {
                let (expected, new) = data.split_at(data.len() / 2);
                compare_data(offset, expected, 1, |at, piece| {
                    image.read(&mut [IoSliceMut::new(piece)], at, Wait::Block)
                })?;
                image.write(&[IoSlice::new(new)], offset, durability(durable))?;
            }
            Self::OrWrite { offset, data, durable } => {
                let mut both = vec![0; data.len()];
                image.read(&mut [IoSliceMut::new(&mut both)], offset, Wait::Block)?;
                for (there, new) in both.iter_mut().zip(&data) {
                    *there |= new;
                }
                image.write(&[IoSlice::new(&both)], offset, durability(durable))?;
            }
            Self::PreFetch(read) => {
                read.run_on(unit, image)?;
                return Ok(Output::ConditionMet);
            }
            Self::Zeroes { offset, length, unmap, durable } => {
                in_pieces(unit, image, offset, length, |offset, length| {
                    image.write_zeroes(offset, length, unmap)
                })?;
                if durable {
                    image.flush()?;
                }
            }
            Self::WriteSame { offset, length, block, durable } => {
                write_same(unit, image, offset, length, &block)?;
                if durable {
                    image.flush()?;
                }
            }
            Self::Unmap { ranges, block_length } => {
                for range in ranges {
                    let (offset, length) =
                        (range.lba * block_length, u64::from(range.blocks) * block_length);
                    in_pieces(unit, image, offset, length, |offset, length| {
                        image.unmap(offset, length)
                    })?;
                }
            }
            Self::Flush => image.flush()?,
            Self::LbaStatus { lba, blocks, block_length, allocation_length } => {
                let mut reply = Vec::new();
                let status = LbaStatusReply::new(&mut reply, allocation_length);
                lba_status(image, status, lba, blocks, block_length)?;
                return Ok(Output::Reply(reply));
            }
            Self::StartStop { start, flush } => {
                if !start && flush {
                    image.flush()?;
                }
                unit.set_stopped(!start);
            }
            Self::Health => image.health()?,
            // Done before it comes here.
            Self::ReserveOut { .. }
            | Self::ReserveUnit { .. }
            | Self::SaveMode { .. }
            | Self::SetTargetPortGroups { .. }
            | Self::BeginOperation { .. }
            | Self::ExitFailureMode
            | Self::Copy(_)
            | Self::MakeToken(_)
            | Self::Compare { .. }
            | Self::Read { .. } => {}
        }
        Ok(Output::Done)
    }
}

fn reserve_out(
    unit: &LogicalUnit,
    cdb: Cdb,
    list: &[u8],
    nexus: &Nexus,
    ports: &KnownPorts,
) -> Result<Output, WorkError> {
    let changed = unit.reservations().change(unit.name(), |state| {
        let outcome = state.persistent_reserve_out(cdb, list, nexus, ports);
        let persist = outcome.persist;
        (outcome, persist)
    });
    changed.map(Output::Reserved).map_err(WorkError::Check)
}

fn reserve_unit(
    unit: &LogicalUnit,
    cdb: Cdb,
    nexus: &Nexus,
    release: bool,
) -> Result<Output, WorkError> {
    let changed = unit.reservations().change(unit.name(), |state| {
        let verdict =
            if release { state.release_unit(cdb, nexus) } else { state.reserve_unit(cdb, nexus) };
        (verdict, false)
    });
    let verdict = changed.map_err(WorkError::Check)?;
    let (attentions, abort) = (Vec::new(), Vec::new());
    Ok(Output::Reserved(Outcome { verdict, attentions, abort, persist: false }))
}

fn durability(durable: bool) -> Durability {
    if durable { Durability::Durable } else { Durability::Cached }
}

fn length_of(data: &[u8]) -> u64 {
    u64::try_from(data.len()).unwrap_or(u64::MAX)
}

/// Reads everything, for the errors alone.
fn verify(image: &Arc<dyn Image>, offset: u64, length: u64) -> Result<(), ImageError> {
    let mut buffer = vec![0; PIECE.min(usize::try_from(length).unwrap_or(PIECE))];
    let mut done = 0;
    while done < length {
        let left = usize::try_from(length - done).unwrap_or(usize::MAX);
        let now = left.min(buffer.len());
        let Some(piece) = buffer.get_mut(..now) else { break };
        image.read(&mut [IoSliceMut::new(piece)], offset + done, Wait::Block)?;
        done += length_of(piece);
    }
    Ok(())
}

/// VERIFY with data. No atomic command is seen half done.
fn compare_with_medium(
    unit: &LogicalUnit,
    image: &Arc<dyn Image>,
    offset: u64,
    data: &[u8],
    times: u32,
) -> Result<Output, WorkError> {
    let may_run = || unit.claim().refusal().map_or(Ok(()), |it| Err(WorkError::Check(it)));
    let mut disturbed = false;
    let compared = {
        let _inside = unit.exclusion().enter_sleeping();
        may_run()?;
        compare_data(offset, data, times, |at, piece| {
            let read = super::read::read_inside(unit, image, at, piece);
            disturbed |= read.is_none();
            read.unwrap_or(Ok(()))
        })
    };
    if !disturbed {
        return compared.map(|()| Output::Done);
    }
    let read = |at, piece: &mut [u8]| image.read(&mut [IoSliceMut::new(piece)], at, Wait::Block);
    unit.exclusion().alone(|| {
        may_run()?;
        compare_data(offset, data, times, read).map(|()| Output::Done)
    })
}

/// `data` is compared with what `read` finds from `offset` on, `times` times one behind the other.
fn compare_data(
    offset: u64,
    data: &[u8],
    times: u32,
    mut read: impl FnMut(u64, &mut [u8]) -> Result<(), ImageError>,
) -> Result<(), WorkError> {
    let mut buffer = vec![0; PIECE.min(data.len())];
    let mut at = offset;
    for _ in 0..times {
        let mut compared = 0;
        for expected in data.chunks(PIECE) {
            let Some(piece) = buffer.get_mut(..expected.len()) else { break };
            read(at, piece)?;
            let different = piece.iter().zip(expected).position(|(a, b)| a != b);
            if let Some(position) = different {
                let position = u64::try_from(position).unwrap_or(0);
                return Err(WorkError::Check(Sense::miscompare(compared + position)));
            }
            compared += length_of(expected);
            at += length_of(expected);
        }
    }
    Ok(())
}

/// Zeroes or unmaps blocks so that nobody reads one half changed. A plain file in pieces: reads
/// elsewhere are in the way of one piece at most. Formats with tables need to see all of it at once
/// to give space back.
fn in_pieces(
    unit: &LogicalUnit,
    image: &Arc<dyn Image>,
    offset: u64,
    length: u64,
    mut change: impl FnMut(u64, u64) -> Result<(), ImageError>,
) -> Result<(), ImageError> {
    let longest = if image.is_plain() { ZEROED_AT_ONCE } else { u64::MAX };
    let (mut at, end) = (offset, offset.saturating_add(length));
    while at < end {
        // They end where large extents of file systems do.
        let piece = (longest - at % longest).min(end - at);
        unit.regions().write(at..at + piece, || change(at, piece))?;
        at += piece;
    }
    Ok(())
}

fn write_same(
    unit: &LogicalUnit,
    image: &Arc<dyn Image>,
    offset: u64,
    length: u64,
    block: &[u8],
) -> Result<(), ImageError> {
    let whole = usize::try_from(length).unwrap_or(usize::MAX).min(PIECE);
    let piece = block.repeat((whole / block.len().max(1)).max(1));
    let mut done = 0;
    while done < length {
        let left = usize::try_from(length - done).unwrap_or(usize::MAX);
        let now = piece.get(..left.min(piece.len())).unwrap_or(&piece);
        let write = || image.write(&[IoSlice::new(now)], offset + done, Durability::Cached);
        unit.regions().write(range_of(offset + done, now.len()), write)?;
        done += length_of(now);
    }
    Ok(())
}

fn lba_status(
    image: &Arc<dyn Image>,
    mut reply: LbaStatusReply<'_>,
    lba: u64,
    blocks: u64,
    block_length: u64,
) -> Result<(), ImageError> {
    let (mut at, end) = (lba, lba + blocks);
    while at < end {
        let extent = image.block_status(at * block_length, (end - at) * block_length)?;
        // A hole that ends within a block leaves that block mapped.
        let whole = match extent.state {
            BlockState::Deallocated => extent.length / block_length,
            BlockState::Mapped => extent.length.div_ceil(block_length),
        };
        let (whole, status) = match (extent.state, whole) {
            (BlockState::Deallocated, 1..) => (whole, ProvisioningStatus::Deallocated),
            (BlockState::Deallocated, 0) => (1, ProvisioningStatus::Mapped),
            (BlockState::Mapped, 1..) => (whole, ProvisioningStatus::Mapped),
            // An extent is never empty; a loop that stands still would be worse.
            (BlockState::Mapped, 0) => {
                let path = image.path();
                let kind = ImageErrorKind::Corrupt;
                return Err(ImageError::new(kind, Operation::BlockStatus, path));
            }
        };
        let whole = whole.min(end - at);
        if !reply.push(at, whole, status) {
            break;
        }
        at += whole;
    }
    reply.finish();
    Ok(())
}
