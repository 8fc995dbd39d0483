//! A logical unit: a SCSI device over an image.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use disk_image::{AtomicWrites, BlockState, Image, ImageError, ImageErrorKind, Operation};
use parking_lot::Mutex;
use scsi::operation::Condition;
use scsi::{AdditionalSense, Device, MediumState, ModeParameters, Provisioning, Sense, SenseKey};

use crate::clock::Milliseconds;
use crate::copies::UnitCopies;
use crate::exclusion::Exclusion;
use crate::fault;
use crate::io::UnitQueue;
use crate::mode_pages::{ModePageStore, NoModePageStore, UnitModes};
use crate::operation::{Claim, NoOperations, Operations};
use crate::regions::Regions;
use crate::reservations::{NoReservationStore, ReservationStore, UnitReservations};
use crate::statistics::{UnitCounters, UnitStatistics};
use crate::task_set::TaskSet;
use crate::tokens::{End, UnitTokens};
use crate::turn::Turn;

/// Writes of one visit to the desk that took longer than this found a medium that makes writers wait.
/// More than a thread waits for a processor on a busy machine, and for another one that holds the
/// file meanwhile: such a machine must not be taken for a slow disk, as handing off costs it more.
pub(crate) const SLOW_WRITE: Duration = Duration::from_millis(25);
/// For so many milliseconds the writes of a slow unit do not run on the connection's own thread.
const SLOW_FOR: u64 = 100;
/// A unit that is in use is checked so often, in milliseconds.
const HEALTH_INTERVAL: u64 = 1000;

/// What a logical unit is made of.
pub struct UnitConfig {
    /// Names it in faults; the catalogue's name of the disk.
    pub name: String,
    /// What it reports.
    pub device: Device,
    /// Its image, or why that cannot be opened: then the unit is there, and not ready.
    pub image: Result<Arc<dyn Image>, ImageError>,
    /// What the store gave back of its persistent reservations.
    pub reservations: Option<Vec<u8>>,
    /// Where they are kept.
    pub store: Arc<dyn ReservationStore>,
    /// What the store gave back of its saved mode pages.
    pub mode_pages: Option<Vec<u8>>,
    /// Where they are kept.
    pub mode_page_store: Arc<dyn ModePageStore>,
    /// What [`Operations`] was told to store: what stands between the medium and commands.
    pub condition: Option<Vec<u8>>,
    /// Where long operations are recorded.
    pub operations: Arc<dyn Operations>,
}

impl UnitConfig {
    /// A unit whose reservations and mode pages end with the process, and that has no long
    /// operations.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        device: Device,
        image: Result<Arc<dyn Image>, ImageError>,
    ) -> Self {
        Self {
            name: name.into(),
            device,
            image,
            reservations: None,
            store: Arc::new(NoReservationStore),
            mode_pages: None,
            mode_page_store: Arc::new(NoModePageStore),
            condition: None,
            operations: Arc::new(NoOperations),
        }
    }
}

/// An image, and what the unit reports with it.
struct Opened {
    image: Arc<dyn Image>,
    device: Device,
}

impl Opened {
    fn new(image: Arc<dyn Image>, mut device: Device) -> Self {
        let features = image.features();
        device.read_only |= features.read_only;
        device.lbprz &= features.reads_zero_after_unmap;
        let granularity = features.unmap_granularity / device.logical_block_length.max(1);
        device.unmap_granularity_blocks = granularity.max(1);
        set_atomic_writes(&device, image.atomic_writes());
        Self { image, device }
    }
}

/// Whether it was something else before.
fn set_atomic_writes(device: &Device, atomic: AtomicWrites) -> bool {
    let blocks = |bytes: u32| bytes / device.logical_block_length.max(1);
    device.atomic.set(blocks(atomic.max_length), blocks(atomic.alignment))
}

/// A logical unit. May be a LUN of several targets at once.
pub struct LogicalUnit {
    name: String,
    /// What it reports while its image cannot be opened.
    closed: Device,
    opened: OnceLock<Opened>,
    /// One change of the size, or the opening, at a time.
    changing: Mutex<()>,
    queue: UnitQueue,
    exclusion: Exclusion,
    /// By so many sessions it is seen.
    viewers: AtomicU32,
    task_set: TaskSet,
    tokens: UnitTokens,
    copies: UnitCopies,
    regions: Regions,
    turn: Turn,
    reservations: UnitReservations,
    claim: Claim,
    operations: Arc<dyn Operations>,
    /// START STOP UNIT.
    stopped: AtomicBool,
    /// Writes are refused, as [`Node::set_read_only`](crate::Node::set_read_only) has it.
    read_only: AtomicBool,
    /// Its pool is below the hard threshold: nothing takes space that has none.
    exhausted: AtomicBool,
    /// The last check found the image.
    healthy: AtomicBool,
    not_ready: Mutex<Sense>,
    /// In milliseconds, as all times here.
    next_health_check: AtomicU64,
    modes: UnitModes,
    statistics: UnitStatistics,
    slow_until: AtomicU64,
    writes_sleep: AtomicBool,
}

impl fmt::Debug for LogicalUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogicalUnit").field("name", &self.name).finish_non_exhaustive()
    }
}

impl LogicalUnit {
    /// Makes the unit. It does its first I/O when an initiator asks.
    #[must_use]
    pub fn new(config: UnitConfig) -> Arc<Self> {
        let UnitConfig { name, device, image, reservations, store, .. } = config;
        let opened = OnceLock::new();
        let sense = match image {
            Ok(image) => {
                let _ = opened.set(Opened::new(image, device.clone()));
                fault::not_ready()
            }
            Err(error) => fault::not_opened(&error),
        };
        let stored = config.mode_pages.as_deref();
        let exclusion = Exclusion::default();
        let condition = config.condition.as_deref().map(Condition::from_bytes);
        let claim = Claim::new(condition, &exclusion);
        Arc::new(Self {
            modes: UnitModes::new(&name, device.mode, stored, config.mode_page_store),
            name,
            closed: device,
            healthy: AtomicBool::new(opened.get().is_some()),
            opened,
            changing: Mutex::new(()),
            statistics: UnitStatistics::default(),
            queue: UnitQueue::default(),
            exclusion,
            viewers: AtomicU32::new(0),
            task_set: TaskSet::default(),
            tokens: UnitTokens::default(),
            copies: UnitCopies::default(),
            regions: Regions::new(),
            turn: Turn::default(),
            claim,
            operations: config.operations,
            reservations: UnitReservations::new(reservations.as_deref(), store),
            stopped: AtomicBool::new(false),
            read_only: AtomicBool::new(false),
            exhausted: AtomicBool::new(false),
            not_ready: Mutex::new(sense),
            next_health_check: AtomicU64::new(0),
            slow_until: AtomicU64::new(0),
            writes_sleep: AtomicBool::new(false),
        })
    }

    /// Its name in faults.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it reports.
    #[must_use]
    pub fn device(&self) -> &Device {
        self.opened.get().map_or(&self.closed, |opened| &opened.device)
    }

    /// Whether it has an image. One that has none is not ready: [`crate::Node::open_unit`].
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.opened.get().is_some()
    }

    /// Gives it the image that could not be opened before; whether it reports something else now.
    /// None if it has one already.
    pub(crate) fn open(&self, image: Arc<dyn Image>) -> Option<bool> {
        let _changing = self.changing.lock();
        let opened = Opened::new(image, self.closed.clone());
        let differs = opened.device != self.closed;
        self.opened.set(opened).ok()?;
        self.healthy.store(true, Ordering::Relaxed);
        Some(differs)
    }

    /// Whether the file of its image was found deleted, and still is, and nothing is being done to
    /// the whole medium. May wait for the medium.
    #[must_use]
    pub fn has_lost_its_file(&self) -> bool {
        let gone = |image: &Arc<dyn Image>| {
            image.health().is_err_and(|error| error.kind() == ImageErrorKind::NotFound)
        };
        !self.healthy.load(Ordering::Relaxed)
            && self.claim.medium_state().is_none()
            && self.image().is_some_and(gone)
    }

    /// Stands in for a unit that no target has any more: fences hold on.
    pub fn take_over(&self, other: &Self) {
        self.reservations.take_over(&other.reservations);
    }

    /// Takes note of why its image still cannot be opened.
    pub fn not_opened(&self, error: &ImageError) {
        *self.not_ready.lock() = fault::not_opened(error);
    }

    /// Takes note of the bytes that are free in the pool, and of those that it uses itself.
    pub fn set_space(&self, available: u64, used: u64) {
        self.device().space.set(available, used);
    }

    /// From now on nothing of it takes space that it has not got, or that is over: its pool is below
    /// the hard threshold, or is not any more.
    pub fn set_exhausted(&self, exhausted: bool) {
        self.exhausted.store(exhausted, Ordering::Relaxed);
    }

    /// Whether writes may only go to where there is space already.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.exhausted.load(Ordering::Relaxed)
    }

    /// Refuses a write that would take space while nothing may. May sleep.
    ///
    /// # Errors
    /// `OutOfSpace`.
    pub(crate) fn check_space(
        &self,
        image: &Arc<dyn Image>,
        range: Range<u64>,
    ) -> Result<(), ImageError> {
        if !self.is_exhausted() {
            return Ok(());
        }
        let (start, mut at) = (range.start, range.start);
        while at < range.end {
            let extent = image.block_status(at, range.end - at)?;
            if extent.state == BlockState::Deallocated {
                let (kind, operation) = (ImageErrorKind::OutOfSpace, Operation::Write);
                let error = ImageError::new(kind, operation, image.path());
                return Err(error.at(start, range.end - start));
            }
            at = at.saturating_add(extent.length.max(1));
        }
        Ok(())
    }

    /// Makes it as large as its image has been made. Sessions are not told of it:
    /// [`crate::Node::grow_unit`] does.
    ///
    /// # Errors
    /// The image is not that large.
    pub(crate) fn grow(&self, size_bytes: u64) -> Result<bool, ImageError> {
        let _changing = self.changing.lock();
        // An image that cannot be opened has a size all the same.
        self.image().map_or(Ok(()), |image| image.grow(size_bytes))?;
        let block_length = u64::from(self.closed.logical_block_length).max(1);
        Ok(self.device().capacity.grow(size_bytes / block_length))
    }

    /// Changes its provisioning; whether it was another one before, and whether a mode page was.
    pub(crate) fn set_provisioning(&self, provisioning: Provisioning) -> (bool, bool) {
        let _changing = self.changing.lock();
        let closed = self.closed.set_provisioning(provisioning);
        let device = self.device().set_provisioning(provisioning);
        (closed.0 | device.0, closed.1 | device.1)
    }

    /// Changes its soft thresholds; whether a mode page was another one before.
    pub(crate) fn set_soft_thresholds(&self, thresholds: &[u64]) -> bool {
        let _changing = self.changing.lock();
        self.closed.set_soft_thresholds(thresholds) | self.device().set_soft_thresholds(thresholds)
    }

    /// Changes what WRITE ATOMIC may be; whether it was something else before.
    pub(crate) fn set_atomic_writes(&self, atomic: AtomicWrites) -> bool {
        let _changing = self.changing.lock();
        set_atomic_writes(self.device(), atomic)
    }

    /// Makes it as large as it is told, smaller too: while no command is inside.
    ///
    /// # Errors
    /// The image is not that large, or cannot become smaller.
    pub(crate) fn resize(&self, size_bytes: u64) -> Result<bool, ImageError> {
        let _changing = self.changing.lock();
        if let Some(image) = self.image() {
            if size_bytes < image.size_bytes() {
                image.shrink(size_bytes)?;
            } else {
                image.grow(size_bytes)?;
            }
        }
        let block_length = u64::from(self.closed.logical_block_length).max(1);
        Ok(self.device().capacity.set(size_bytes / block_length))
    }

    /// Its image.
    #[must_use]
    pub fn image(&self) -> Option<&Arc<dyn Image>> {
        self.opened.get().map(|opened| &opened.image)
    }

    pub(crate) fn queue(&self) -> &UnitQueue {
        &self.queue
    }

    pub(crate) fn reservations(&self) -> &UnitReservations {
        &self.reservations
    }

    /// Keeps atomic commands apart from all others.
    pub(crate) fn exclusion(&self) -> &Exclusion {
        &self.exclusion
    }

    /// One more session sees it, or sees it once more.
    pub(crate) fn seen(&self) {
        self.viewers.fetch_add(1, Ordering::SeqCst);
    }

    /// One does not any more.
    pub(crate) fn unseen(&self) {
        self.viewers.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether no other session sees it.
    pub(crate) fn is_seen_by_one(&self) -> bool {
        self.viewers.load(Ordering::SeqCst) <= 1
    }

    /// The order of its commands.
    pub(crate) fn task_set(&self) -> &TaskSet {
        &self.task_set
    }

    /// The long copies that write to it.
    pub(crate) fn copies(&self) -> &UnitCopies {
        &self.copies
    }

    /// Ends tokens for what changes.
    pub(crate) fn tokens(&self) -> &UnitTokens {
        &self.tokens
    }

    /// Keeps reads from what is half written.
    pub(crate) fn regions(&self) -> &Regions {
        &self.regions
    }

    /// Whose turn it is to write.
    pub(crate) fn turn(&self) -> &Turn {
        &self.turn
    }

    /// Whether a write is under way that has a byte in common with `range`.
    pub(crate) fn is_written(&self, range: &Range<u64>) -> bool {
        self.exclusion.is_written(range) || self.regions.is_written_elsewhere(range)
    }

    /// What stands between the medium and commands.
    pub(crate) fn claim(&self) -> &Claim {
        &self.claim
    }

    pub(crate) fn operations(&self) -> &dyn Operations {
        &*self.operations
    }

    /// Takes over what was recorded of an operation: its condition, or that it is over and has
    /// succeeded. Commands that wait for that are answered.
    pub fn set_condition(&self, condition: Option<&[u8]>) {
        self.claim.set(&self.exclusion, condition.map(Condition::from_bytes));
    }

    /// Whether media commands can run now.
    pub(crate) fn state(&self) -> MediumState {
        if let Some(claimed) = self.claim.medium_state() {
            return claimed;
        }
        if self.stopped.load(Ordering::Relaxed) {
            return MediumState::NotReady(Sense::new(
                SenseKey::NotReady,
                AdditionalSense::LOGICAL_UNIT_NOT_READY_INITIALIZING_COMMAND_REQUIRED,
            ));
        }
        if self.healthy.load(Ordering::Relaxed) {
            MediumState::Ready
        } else {
            MediumState::NotReady(*self.not_ready.lock())
        }
    }

    /// The mode parameters in force.
    pub(crate) fn mode(&self) -> ModeParameters {
        self.modes.get().0
    }

    /// The mode parameters in force, and those that are saved.
    pub(crate) fn modes(&self) -> &UnitModes {
        &self.modes
    }

    /// What it has done since it is there.
    #[must_use]
    pub fn counters(&self) -> UnitCounters {
        let counters = self.statistics.counters(u64::from(self.device().logical_block_length));
        let (waiting, threads) = self.queue.depth();
        let cache = self.image().and_then(|image| image.cache());
        UnitCounters { waiting, threads, cache, ..counters }
    }

    pub(crate) fn statistics(&self) -> &UnitStatistics {
        &self.statistics
    }

    /// LOGICAL UNIT RESET (SAM-5 §6.3.3): what was changed and not saved is as it was.
    pub(crate) fn reset(&self) {
        self.modes.reset();
        self.stopped.store(false, Ordering::Relaxed);
        self.tokens.end_all(End::Cancelled);
        self.reservations.reset(&self.name);
    }

    /// Whether the operator has writes refused.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::Relaxed)
    }

    /// For a unit that no target has yet; see [`Node::set_read_only`](crate::Node::set_read_only).
    pub fn set_read_only(&self, read_only: bool) {
        self.read_only.store(read_only, Ordering::Relaxed);
    }

    /// Whether writes are refused for any reason that is the unit's own.
    pub(crate) fn is_write_protected(&self) -> bool {
        self.device().read_only || self.is_read_only() || self.mode().software_write_protect
    }

    pub(crate) fn set_stopped(&self, stopped: bool) {
        if !self.stopped.swap(stopped, Ordering::Relaxed) && stopped {
            self.statistics.stopped();
        }
    }

    /// Takes note of what a check found. True if the unit is worse or better than before.
    pub(crate) fn set_health(&self, health: Result<(), Sense>) -> bool {
        if let Err(sense) = health {
            *self.not_ready.lock() = sense;
        }
        self.healthy.swap(health.is_ok(), Ordering::Relaxed) != health.is_ok()
    }

    /// Whether a command that comes now should have the image checked. True for one caller an
    /// interval; a unit that nobody uses is not checked.
    pub(crate) fn claim_health_check(&self, now: Milliseconds) -> bool {
        let due = self.next_health_check.load(Ordering::Relaxed);
        let next = now.0 + HEALTH_INTERVAL;
        now.0 >= due
            && self.is_open()
            && self
                .next_health_check
                .compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// Whether its image goes past the page cache: then each write waits for a device, and none runs on
    /// a connection's own thread.
    pub fn set_writes_sleep(&self, sleep: bool) {
        self.writes_sleep.store(sleep, Ordering::Relaxed);
    }

    /// Whether writes must not run on the connection's own thread now.
    pub(crate) fn is_slow(&self, now: Milliseconds) -> bool {
        self.writes_sleep.load(Ordering::Relaxed) || self.slow_until.load(Ordering::Relaxed) > now.0
    }

    /// Takes note of a write that took long, or is not done.
    pub(crate) fn write_hangs(&self, now: Milliseconds) {
        self.slow_until.store(now.0 + SLOW_FOR, Ordering::Relaxed);
        // Who waits for its turn hands its writes off.
        self.turn.wake_all();
    }
}
