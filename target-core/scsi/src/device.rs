//! What a logical unit is: the facts that the commands report and check against.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use crate::log::Statistics;
use crate::operation::{Condition, Progress};
use crate::sense::Sense;
use crate::soft_thresholds::SoftThresholds;
use crate::target_port_groups::{AccessMethods, AccessState, TargetPortGroup};

/// How space is provided (SBC-3 §4.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Provisioning {
    /// Every block has space of its own.
    #[default]
    Full,
    /// Space is taken when it is written.
    Thin,
}

/// MEDIUM ROTATION RATE (SBC-3 §6.6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MediumRotation {
    /// Unknown.
    #[default]
    NotReported,
    /// Solid state.
    NonRotating,
    /// Nominal rotations a minute, 0401h to FFFEh.
    Rpm(u16),
}

/// The limits of the Block Limits VPD page (SBC-3 §6.6.4), in logical blocks; 0 = no limit
/// (and none reported), except where said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// MAXIMUM TRANSFER LENGTH.
    pub max_transfer_blocks: u32,
    /// OPTIMAL TRANSFER LENGTH.
    pub optimal_transfer_blocks: u32,
    /// OPTIMAL TRANSFER LENGTH GRANULARITY.
    pub optimal_granularity_blocks: u16,
    /// MAXIMUM UNMAP LBA COUNT: all descriptors of one command together; FFFFFFFFh = no limit.
    pub max_unmap_blocks: u32,
    /// MAXIMUM UNMAP BLOCK DESCRIPTOR COUNT; FFFFFFFFh = no limit.
    pub max_unmap_descriptors: u32,
    /// MAXIMUM WRITE SAME LENGTH.
    pub max_write_same_blocks: u64,
    /// MAXIMUM COMPARE AND WRITE LENGTH. 0 = there is no COMPARE AND WRITE.
    pub max_compare_and_write_blocks: u8,
}

/// What MODE SELECT can change (SPC-4 §7.5.8, SBC-3 §6.5.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ModeParameters {
    /// WCE: writes may be answered before they are durable.
    pub write_cache_enabled: bool,
    /// D_SENSE: sense data with descriptors.
    pub descriptor_sense: bool,
    /// SWP: every write is refused.
    pub software_write_protect: bool,
}

impl ModeParameters {
    /// A bit for each, the same in all versions: for what keeps saved values.
    #[must_use]
    pub fn to_bits(self) -> u8 {
        u8::from(self.write_cache_enabled)
            | u8::from(self.descriptor_sense) << 1
            | u8::from(self.software_write_protect) << 2
    }

    /// What [`ModeParameters::to_bits`] gave.
    #[must_use]
    pub fn from_bits(bits: u8) -> Self {
        Self {
            write_cache_enabled: bits & 1 != 0,
            descriptor_sense: bits & 2 != 0,
            software_write_protect: bits & 4 != 0,
        }
    }
}

impl Default for ModeParameters {
    fn default() -> Self {
        Self { write_cache_enabled: true, descriptor_sense: false, software_write_protect: false }
    }
}

/// A [`Provisioning`] that can change while commands look at it.
#[derive(Debug)]
pub struct ProvisioningType(AtomicBool);

impl ProvisioningType {
    /// As it is at first.
    #[must_use]
    pub const fn new(provisioning: Provisioning) -> Self {
        Self(AtomicBool::new(matches!(provisioning, Provisioning::Thin)))
    }

    /// As it is now.
    #[must_use]
    pub fn get(&self) -> Provisioning {
        if self.0.load(Ordering::Relaxed) { Provisioning::Thin } else { Provisioning::Full }
    }

    /// Makes it so; whether it was something else before.
    pub fn set(&self, provisioning: Provisioning) -> bool {
        let thin = provisioning == Provisioning::Thin;
        self.0.swap(thin, Ordering::Relaxed) != thin
    }
}

impl PartialEq for ProvisioningType {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for ProvisioningType {}

impl Clone for ProvisioningType {
    fn clone(&self) -> Self {
        Self::new(self.get())
    }
}

/// What WRITE ATOMIC may be, in logical blocks, as the Block Limits VPD page has it; it can change while
/// commands look at it.
#[derive(Debug)]
pub struct AtomicTransfers(AtomicU64);

impl AtomicTransfers {
    /// MAXIMUM ATOMIC TRANSFER LENGTH (0: there is no WRITE ATOMIC), and ATOMIC ALIGNMENT (0 or 1: none).
    #[must_use]
    pub const fn new(max_blocks: u32, alignment_blocks: u32) -> Self {
        Self(AtomicU64::new((max_blocks as u64) << 32 | alignment_blocks as u64))
    }

    /// Both, as they are now.
    #[must_use]
    pub fn get(&self) -> (u32, u32) {
        let both = self.0.load(Ordering::Relaxed);
        let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(u32::MAX);
        (half(both >> 32), half(both))
    }

    /// MAXIMUM ATOMIC TRANSFER LENGTH.
    #[must_use]
    pub fn max_blocks(&self) -> u32 {
        self.get().0
    }

    /// Makes them so; whether one was something else before.
    pub fn set(&self, max_blocks: u32, alignment_blocks: u32) -> bool {
        let both = u64::from(max_blocks) << 32 | u64::from(alignment_blocks);
        self.0.swap(both, Ordering::Relaxed) != both
    }
}

impl Clone for AtomicTransfers {
    fn clone(&self) -> Self {
        let (max_blocks, alignment_blocks) = self.get();
        Self::new(max_blocks, alignment_blocks)
    }
}

impl PartialEq for AtomicTransfers {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for AtomicTransfers {}

/// A number of logical blocks that can change while commands look at it.
#[derive(Debug)]
pub struct Capacity(AtomicU64);

impl Capacity {
    /// So many blocks.
    #[must_use]
    pub const fn new(blocks: u64) -> Self {
        Self(AtomicU64::new(blocks))
    }

    /// The blocks that there are now.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Makes it so many blocks, if that is more; whether it was.
    pub fn grow(&self, blocks: u64) -> bool {
        self.0.fetch_max(blocks, Ordering::AcqRel) < blocks
    }

    /// Makes it so many blocks; whether it had others before.
    pub fn set(&self, blocks: u64) -> bool {
        self.0.swap(blocks, Ordering::AcqRel) != blocks
    }
}

impl Clone for Capacity {
    fn clone(&self) -> Self {
        Self::new(self.blocks())
    }
}

impl PartialEq for Capacity {
    fn eq(&self, other: &Self) -> bool {
        self.blocks() == other.blocks()
    }
}

impl Eq for Capacity {}

/// What there is to put written blocks into, in bytes, as it was looked at last.
#[derive(Debug)]
pub struct Space {
    available: AtomicU64,
    used: AtomicU64,
}

impl Space {
    const UNKNOWN: u64 = u64::MAX;

    /// Takes note of what is available to the unit and those that it shares it with, and of what
    /// it uses itself.
    pub fn set(&self, available: u64, used: u64) {
        self.available.store(available, Ordering::Relaxed);
        self.used.store(used, Ordering::Relaxed);
    }

    /// Available and used; none before anybody has looked.
    #[must_use]
    pub fn get(&self) -> Option<(u64, u64)> {
        let available = self.available.load(Ordering::Relaxed);
        let used = self.used.load(Ordering::Relaxed);
        (available != Self::UNKNOWN).then_some((available, used))
    }
}

impl Default for Space {
    fn default() -> Self {
        Self { available: AtomicU64::new(Self::UNKNOWN), used: AtomicU64::new(0) }
    }
}

impl Clone for Space {
    fn clone(&self) -> Self {
        let space = Self::default();
        if let Some((available, used)) = self.get() {
            space.set(available, used);
        }
        space
    }
}

impl PartialEq for Space {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for Space {}

/// A logical unit. Immutable but for its capacity, how space is provided, and the space behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// T10 VENDOR IDENTIFICATION, ASCII, padded with blanks.
    pub vendor: [u8; 8],
    /// PRODUCT IDENTIFICATION, ASCII, padded with blanks.
    pub product: [u8; 16],
    /// PRODUCT REVISION LEVEL, ASCII, padded with blanks.
    pub revision: [u8; 4],
    /// PRODUCT SERIAL NUMBER, printable ASCII, at most 252 bytes; also the unique part of the
    /// T10 vendor identification and of the SCSI name string.
    pub serial: String,
    /// NAA IEEE Registered Extended identifier (first nibble 6).
    pub naa: [u8; 16],
    /// Bytes a logical block, 512 or 4096.
    pub logical_block_length: u32,
    /// 2^n logical blocks are one physical block.
    pub physical_block_exponent: u8,
    /// Capacity in logical blocks.
    pub capacity: Capacity,
    /// How space is provided.
    pub provisioning: ProvisioningType,
    /// UNMAP and WRITE SAME with UNMAP exist (LBPME, LBPU, LBPWS, LBPWS10).
    pub unmap: bool,
    /// Unmapped blocks read zeroes.
    pub lbprz: bool,
    /// Free bytes below which initiators are warned, largest first (SBC-3 §4.7.3.7); only of a
    /// thin unit.
    pub soft_thresholds: SoftThresholds,
    /// What there is to put written blocks into.
    pub space: Space,
    /// OPTIMAL UNMAP GRANULARITY in logical blocks.
    pub unmap_granularity_blocks: u32,
    /// Every write is refused.
    pub read_only: bool,
    /// What can change the access states of its target ports; without any of them it does not
    /// tell of groups.
    pub access_methods: AccessMethods,
    /// What MODE SELECT can change, as it is at first.
    pub mode: ModeParameters,
    /// URL of the management, for initiators: Management Network Addresses VPD page.
    pub management_url: Option<String>,
    /// The commands with CDBs of 32 bytes exist.
    pub long_cdbs: bool,
    /// What the medium is.
    pub rotation: MediumRotation,
    /// Limits on one command.
    pub limits: Limits,
    /// Limits on WRITE ATOMIC.
    pub atomic: AtomicTransfers,
}

impl Device {
    /// A device with this size and identity and ordinary values for everything else: thin, with
    /// UNMAP, 4096-byte physical blocks, write cache on, transfers up to 4 MiB.
    ///
    /// `logical_block_length` is 512 or 4096, `block_count` the capacity in such blocks.
    #[must_use]
    pub fn new(
        serial: impl Into<String>,
        naa: [u8; 16],
        logical_block_length: u32,
        block_count: u64,
    ) -> Self {
        let physical_block_exponent = if logical_block_length < 4096 { 3 } else { 0 };
        let blocks_a_mebibyte = (1 << 20) / logical_block_length.max(1);
        Self {
            vendor: *b"LUND    ",
            product: *b"VIRTUAL DISK    ",
            revision: *b"0001",
            serial: serial.into(),
            naa,
            logical_block_length,
            physical_block_exponent,
            capacity: Capacity::new(block_count),
            provisioning: ProvisioningType::new(Provisioning::Thin),
            unmap: true,
            lbprz: true,
            soft_thresholds: SoftThresholds::default(),
            space: Space::default(),
            unmap_granularity_blocks: 1 << physical_block_exponent,
            read_only: false,
            access_methods: AccessMethods { implicit: true, explicit: false },
            mode: ModeParameters::default(),
            management_url: None,
            long_cdbs: true,
            rotation: MediumRotation::NonRotating,
            limits: Limits {
                max_transfer_blocks: blocks_a_mebibyte.saturating_mul(4),
                optimal_transfer_blocks: blocks_a_mebibyte,
                optimal_granularity_blocks: 1 << physical_block_exponent,
                max_unmap_blocks: 1 << 20,
                max_unmap_descriptors: 256,
                // What WRITE SAME(10) can say; an abort waits for a command that has begun.
                max_write_same_blocks: 0xffff,
                max_compare_and_write_blocks: u8::MAX,
            },
            atomic: AtomicTransfers::new(
                1 << physical_block_exponent,
                1 << physical_block_exponent,
            ),
        }
    }

    /// Capacity in logical blocks.
    #[must_use]
    pub fn block_count(&self) -> u64 {
        self.capacity.blocks()
    }

    /// Whether its space is counted and watched.
    #[must_use]
    pub fn is_thin(&self) -> bool {
        self.unmap && self.provisioning.get() == Provisioning::Thin
    }

    /// Changes the soft thresholds, in bytes, the largest first; whether a mode page is another one then.
    pub fn set_soft_thresholds(&self, thresholds: &[u64]) -> bool {
        // The usual case: they are set once a second.
        if *self.soft_thresholds.get() == *thresholds {
            return false;
        }
        self.changes_its_thresholds_page(|| self.soft_thresholds.set(thresholds))
    }

    /// Changes how space is provided: whether that was otherwise, and whether a mode page is another one
    /// then.
    pub fn set_provisioning(&self, provisioning: Provisioning) -> (bool, bool) {
        let mut other = false;
        let page = self.changes_its_thresholds_page(|| other = self.provisioning.set(provisioning));
        (other, page)
    }

    fn changes_its_thresholds_page(&self, change: impl FnOnce()) -> bool {
        let before = crate::mode::thresholds_page(self);
        change();
        crate::mode::thresholds_page(self) != before
    }

    /// LBA of the last block.
    #[must_use]
    pub(crate) fn last_lba(&self) -> u64 {
        self.block_count().saturating_sub(1)
    }
}

/// A target port: in iSCSI, a portal group of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// iSCSI name of the target.
    pub target_name: String,
    /// Target portal group tag.
    pub target_portal_group_tag: u16,
    /// RELATIVE TARGET PORT IDENTIFIER, 1 or more.
    pub relative_target_port_id: u16,
}

/// Whether commands that need the medium can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MediumState {
    /// They can.
    #[default]
    Ready,
    /// They are answered with this sense data.
    NotReady(Sense),
    /// An operation on the whole medium is not over, or has failed.
    Claimed(Condition, Progress),
}

/// Everything outside of the CDB that an answer depends on.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The logical unit; none if the LUN does not exist.
    pub device: Option<&'a Device>,
    /// The port through which the command came.
    pub port: &'a Port,
    /// All target ports of the SCSI target device, that one among them.
    pub ports: &'a [Port],
    /// The target port groups of the SCSI target device.
    pub groups: &'a [TargetPortGroup],
    /// The access state of the port through which the command came.
    pub access: AccessState,
    /// What REPORT LUNS reports: 8-byte LUNs as on the wire, in ascending order.
    pub luns: &'a [u64],
    /// The LUN that the command is for, as on the wire.
    pub lun: u64,
    /// The mode parameters in force; the saved ones before the first MODE SELECT.
    pub mode: ModeParameters,
    /// The mode parameters that were saved; those of the device before that.
    pub saved_mode: ModeParameters,
    /// This I_T nexus may only read: its writes are refused, and WP is set for it.
    pub read_only: bool,
    /// Whether the medium can be used.
    pub state: MediumState,
    /// The unit attention that comes next for this I_T nexus ([`crate::UnitAttentions::first`]).
    /// The engine drops it after the command if [`crate::clears_unit_attention`] says so.
    pub unit_attention: Option<Sense>,
    /// Bytes of data that the initiator means to send (iSCSI: Expected Data Transfer Length of a
    /// write), 0 for none. Commands that take exactly one block check it.
    pub data_out_length: u32,
    /// iSCSIProtocolLevel of the session. With 2 it can ask for QUERY TASK, QUERY TASK SET, QUERY
    /// ASYNCHRONOUS EVENT and I_T NEXUS RESET (RFC 7144 §6.3); standard INQUIRY data names it.
    pub protocol_level: u8,
    /// What the unit has done. A function, so that only LOG SENSE counts it together.
    pub statistics: &'a dyn Fn() -> Statistics,
    /// The time of day. A function, so that only commands that tell the time look at the clock.
    pub clock: fn() -> SystemTime,
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("lun", &self.lun).finish_non_exhaustive()
    }
}
