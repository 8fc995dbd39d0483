//! A logical unit: a SCSI device over an image.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use disk_image::{Image, ImageError};
use parking_lot::Mutex;
use scsi::{AdditionalSense, Device, MediumState, ModeParameters, Sense, SenseKey};

use crate::exclusion::Exclusion;
use crate::fault;
use crate::io::UnitQueue;
use crate::reservations::{NoReservationStore, ReservationStore, UnitReservations};
use crate::tokens::{End, UnitTokens};

/// A write that took longer than this found a medium that makes writers wait. More than a slice
/// of the scheduler's, so that a busy machine is not taken for a slow disk.
const SLOW_WRITE: Duration = Duration::from_millis(8);
/// For so long the writes of a slow unit do not run on the connection's own thread.
const SLOW_FOR: Duration = Duration::from_millis(100);
/// A unit that is in use is checked so often.
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);

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
}

impl UnitConfig {
    /// A unit whose reservations end with the process.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        device: Device,
        image: Result<Arc<dyn Image>, ImageError>,
    ) -> Self {
        let store = Arc::new(NoReservationStore);
        Self { name: name.into(), device, image, reservations: None, store }
    }
}

/// A logical unit. May be a LUN of several targets at once.
pub struct LogicalUnit {
    name: String,
    device: Device,
    image: Option<Arc<dyn Image>>,
    queue: UnitQueue,
    exclusion: Exclusion,
    tokens: UnitTokens,
    reservations: UnitReservations,
    /// START STOP UNIT.
    stopped: AtomicBool,
    /// The last check found the image.
    healthy: AtomicBool,
    not_ready: Mutex<Sense>,
    /// Milliseconds since `born`.
    next_health_check: AtomicU64,
    /// [`ModeParameters`], a bit each.
    mode: AtomicU8,
    slow_until: AtomicU64,
    born: Instant,
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
        let UnitConfig { name, mut device, image, reservations, store } = config;
        let (image, sense) = match image {
            Ok(image) => (Some(image), fault::not_ready()),
            Err(error) => (None, fault::sense(&error, None)),
        };
        if let Some(image) = &image {
            let features = image.features();
            device.read_only |= features.read_only;
            device.lbprz &= features.reads_zero_after_unmap;
            let granularity = features.unmap_granularity / device.logical_block_length.max(1);
            device.unmap_granularity_blocks = granularity.max(1);
            // A block of the file system that is smaller than ours could be written without its
            // neighbour.
            if granularity < device.limits.max_atomic_blocks {
                device.limits.max_atomic_blocks = 0;
            }
        }
        Arc::new(Self {
            name,
            mode: AtomicU8::new(mode_bits(device.mode)),
            device,
            healthy: AtomicBool::new(image.is_some()),
            image,
            queue: UnitQueue::default(),
            exclusion: Exclusion::default(),
            tokens: UnitTokens::default(),
            reservations: UnitReservations::new(reservations.as_deref(), store),
            stopped: AtomicBool::new(false),
            not_ready: Mutex::new(sense),
            next_health_check: AtomicU64::new(0),
            slow_until: AtomicU64::new(0),
            born: Instant::now(),
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
        &self.device
    }

    /// Makes it as large as its image has been made. Sessions are not told of it:
    /// [`crate::Node::grow_unit`] does.
    ///
    /// # Errors
    /// The image is not that large.
    pub(crate) fn grow(&self, size_bytes: u64) -> Result<bool, ImageError> {
        // An image that cannot be opened has a size all the same.
        self.image.as_ref().map_or(Ok(()), |image| image.grow(size_bytes))?;
        let block_length = u64::from(self.device.logical_block_length).max(1);
        Ok(self.device.capacity.grow(size_bytes / block_length))
    }

    /// Its image, if it could be opened.
    #[must_use]
    pub fn image(&self) -> Option<&Arc<dyn Image>> {
        self.image.as_ref()
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

    /// Ends tokens for what changes.
    pub(crate) fn tokens(&self) -> &UnitTokens {
        &self.tokens
    }

    /// Whether media commands can run now.
    pub(crate) fn state(&self) -> MediumState {
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
        let bits = self.mode.load(Ordering::Relaxed);
        ModeParameters {
            write_cache_enabled: bits & 1 != 0,
            descriptor_sense: bits & 2 != 0,
            software_write_protect: bits & 4 != 0,
        }
    }

    /// Puts mode parameters in force; those that were.
    pub(crate) fn set_mode(&self, mode: ModeParameters) -> ModeParameters {
        let before = self.mode();
        self.mode.store(mode_bits(mode), Ordering::Relaxed);
        before
    }

    /// LOGICAL UNIT RESET (SAM-5 §6.3.3): what was changed since the start is as it was.
    pub(crate) fn reset(&self) {
        self.set_mode(self.device.mode);
        self.set_stopped(false);
        self.tokens.end_all(End::Cancelled);
        self.reservations.reset(&self.name);
    }

    pub(crate) fn set_stopped(&self, stopped: bool) {
        self.stopped.store(stopped, Ordering::Relaxed);
    }

    /// Takes note of what a check found. True if the unit is worse or better than before.
    pub(crate) fn set_health(&self, health: Result<(), Sense>) -> bool {
        if let Err(sense) = health {
            *self.not_ready.lock() = sense;
        }
        self.healthy.swap(health.is_ok(), Ordering::Relaxed) != health.is_ok()
    }

    fn milliseconds(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.born).as_millis();
        u64::try_from(since).unwrap_or(u64::MAX)
    }

    /// Whether a command that comes now should have the image checked. True for one caller an
    /// interval; a unit that nobody uses is not checked.
    pub(crate) fn claim_health_check(&self, now: Instant) -> bool {
        let now = self.milliseconds(now);
        let due = self.next_health_check.load(Ordering::Relaxed);
        let interval = u64::try_from(HEALTH_INTERVAL.as_millis()).unwrap_or(u64::MAX);
        now >= due
            && self.image.is_some()
            && self
                .next_health_check
                .compare_exchange(due, now + interval, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// Whether writes must not run on the connection's own thread now.
    pub(crate) fn is_slow(&self, now: Instant) -> bool {
        self.slow_until.load(Ordering::Relaxed) > self.milliseconds(now)
    }

    /// Takes note of how long a write took.
    pub(crate) fn write_took(&self, start: Instant, took: Duration) {
        if took > SLOW_WRITE {
            self.write_hangs(start + took);
        }
    }

    /// Takes note of a write that is not done.
    pub(crate) fn write_hangs(&self, now: Instant) {
        self.slow_until.store(self.milliseconds(now + SLOW_FOR), Ordering::Relaxed);
    }
}

fn mode_bits(mode: ModeParameters) -> u8 {
    u8::from(mode.write_cache_enabled)
        | u8::from(mode.descriptor_sense) << 1
        | u8::from(mode.software_write_protect) << 2
}
