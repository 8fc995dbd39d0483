//! What the engine must do for a command.

use crate::copy::ListId;
use crate::device::ModeParameters;
use crate::sense::Sense;

/// A run of logical blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockRange {
    /// First block.
    pub lba: u64,
    /// Number of blocks.
    pub blocks: u32,
}

/// What WRITE SAME writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteSameSource {
    /// Zeroes: NDOB, or a block of them was sent.
    Zeroes,
    /// The block that was gathered.
    Data,
}

/// What is asked of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyReport {
    /// RECEIVE COPY STATUS.
    Status,
    /// RECEIVE COPY FAILURE DETAILS.
    FailureDetails,
    /// RECEIVE ROD TOKEN INFORMATION.
    RodToken,
}

/// What the engine must do. LBAs and lengths are checked: every range lies on the medium.
///
/// Except where said, the command ends with GOOD when it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Nothing; GOOD.
    Good,
    /// GOOD with the parameter data in `reply`, allocation length already applied.
    DataIn,
    /// Send blocks. `blocks` may be 0.
    Read {
        /// First block.
        lba: u64,
        /// Number of blocks.
        blocks: u32,
        /// From the medium, not from a volatile cache that may differ from it.
        fua: bool,
    },
    /// Write blocks as they arrive. `blocks` may be 0.
    Write {
        /// First block.
        lba: u64,
        /// Number of blocks.
        blocks: u32,
        /// Durable before GOOD.
        fua: bool,
    },
    /// Gather this many bytes (never 0), then ask [`crate::plan_with_data`].
    NeedData {
        /// Bytes to gather.
        length: u32,
    },
    /// Check that blocks can be read from the medium; no data either way.
    Verify {
        /// First block.
        lba: u64,
        /// Number of blocks.
        blocks: u32,
    },
    /// Compare the gathered data with the medium; [`Sense::miscompare`] if they differ.
    VerifyCompare {
        /// First block.
        lba: u64,
        /// Number of blocks.
        blocks: u32,
        /// One block was gathered and is compared with each of the blocks (BYTCHK = 11b).
        single_block: bool,
    },
    /// Write the gathered data durably, then check that it can be read; with `compare` it must
    /// read as written (WRITE AND VERIFY).
    WriteAndVerify {
        /// First block.
        lba: u64,
        /// Number of blocks.
        blocks: u32,
        /// BYTCHK = 1.
        compare: bool,
    },
    /// Compare the first half of the gathered data with the medium and, if they are equal, write
    /// the second half, with nothing in between (COMPARE AND WRITE).
    CompareAndWrite {
        /// First block.
        lba: u64,
        /// Number of blocks.
        blocks: u32,
        /// Durable before GOOD.
        fua: bool,
    },
    /// Write all of the gathered data or nothing of it, with nothing in between: no reader and no
    /// crash may find a part (WRITE ATOMIC).
    WriteAtomic {
        /// First block.
        lba: u64,
        /// Number of blocks.
        blocks: u32,
        /// Durable before GOOD.
        fua: bool,
    },
    /// Or the gathered data into the medium, with nothing in between (ORWRITE).
    OrWrite {
        /// First block.
        lba: u64,
        /// Number of blocks.
        blocks: u32,
        /// Durable before GOOD.
        fua: bool,
    },
    /// Bring blocks into the cache; ends with CONDITION MET.
    PreFetch {
        /// First block.
        lba: u64,
        /// Number of blocks.
        blocks: u64,
        /// CONDITION MET may be sent before it is done.
        immediate: bool,
    },
    /// Write one block to many.
    WriteSame {
        /// First block.
        lba: u64,
        /// Number of blocks; may be 0.
        blocks: u64,
        /// Space may be given back (only ever set with [`WriteSameSource::Zeroes`]).
        unmap: bool,
        /// The blocks shall keep space (ANCHOR); never set while ANC_SUP is 0.
        anchor: bool,
        /// What is written.
        source: WriteSameSource,
        /// Durable before GOOD.
        durable: bool,
    },
    /// Give back the space of the blocks in `ranges`.
    Unmap,
    /// Make written blocks durable.
    Flush {
        /// First block.
        lba: u64,
        /// Number of blocks; 0 = to the end.
        blocks: u32,
        /// GOOD may be sent before it is done.
        immediate: bool,
    },
    /// Ask the image for the state of blocks from `lba` on and give it to
    /// [`crate::LbaStatusReply`].
    LbaStatus {
        /// First block.
        lba: u64,
        /// Blocks from there to the end of the medium.
        blocks: u64,
        /// ALLOCATION LENGTH.
        allocation_length: u32,
    },
    /// START STOP UNIT.
    StartStop {
        /// START: ready for medium access.
        start: bool,
        /// GOOD may be sent before it is done.
        immediate: bool,
        /// Flush before stopping.
        flush: bool,
    },
    /// Put these in force, and establish MODE PARAMETERS CHANGED for all other I_T nexuses if
    /// they differ.
    ModeSelect {
        /// All of them.
        mode: ModeParameters,
        /// SP: they outlive resets and restarts too. Durable before GOOD.
        save: bool,
    },
    /// SET TARGET PORT GROUPS: bring the groups of the gathered list, which
    /// [`crate::set_target_port_groups_list`] reads, into their new states, and establish
    /// ASYMMETRIC ACCESS STATE CHANGED for all other I_T nexuses where something changes.
    SetTargetPortGroups,
    /// SANITIZE or FORMAT UNIT, with the parameter list that was gathered or without one:
    /// [`crate::operation::MediumOperation::of`].
    MediumOperation,
    /// SANITIZE, EXIT FAILURE MODE: the condition that a failed sanitize operation left is over, if
    /// there is one.
    ExitFailureMode,
    /// A command that copies, with the gathered parameter list: [`crate::copy::CopyRequest::parse`].
    ThirdPartyCopy,
    /// COPY OPERATION ABORT.
    CopyAbort {
        /// LIST IDENTIFIER.
        list_identifier: u32,
    },
    /// How a copy stands: [`crate::copy::CopyStatus::reply`].
    CopyReport {
        /// What is asked for.
        report: CopyReport,
        /// LIST IDENTIFIER.
        list_identifier: ListId,
        /// ALLOCATION LENGTH.
        allocation_length: u32,
    },
    /// REPORT ALL ROD TOKENS: [`crate::copy::management_tokens`].
    RodTokens {
        /// ALLOCATION LENGTH.
        allocation_length: u32,
    },
    /// PERSISTENT RESERVE IN: ask [`crate::reservation::Reservations`].
    ReserveIn,
    /// PERSISTENT RESERVE OUT with the gathered parameter list.
    ReserveOut,
    /// RESERVE, or RELEASE.
    ReserveUnit {
        /// RELEASE.
        release: bool,
    },
    /// CHECK CONDITION.
    Check(Sense),
}

impl From<Sense> for Plan {
    fn from(sense: Sense) -> Self {
        Self::Check(sense)
    }
}

impl From<Result<Self, Sense>> for Plan {
    fn from(result: Result<Self, Sense>) -> Self {
        result.unwrap_or_else(Self::Check)
    }
}
