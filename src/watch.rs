//! Looks after what nobody tells us of: images that could not be opened, and the space of the pool.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use disk_image::{DirectIo, ImageErrorKind, OpenOptions, SwitchImage, open_image};
use job_engine::{Disk, FaultReport, Pool, PoolId, PoolState};
use target_core::LogicalUnit;

use crate::wiring::Exposure;

/// So often.
const INTERVAL: Duration = Duration::from_secs(1);
/// TEST UNIT READY stands for an opening that no command asked for.
const NO_COMMAND: u8 = 0x00;

/// Starts the thread that does it, until the exposure is gone. It may wait for the medium.
pub(crate) fn start(exposure: &Arc<Exposure>) -> std::io::Result<()> {
    let exposure = Arc::downgrade(exposure);
    std::thread::Builder::new().name("lund-watch".to_owned()).spawn(move || run(&exposure))?;
    Ok(())
}

fn run(exposure: &Weak<Exposure>) {
    let mut watch = Watch::default();
    while let Some(exposure) = exposure.upgrade() {
        watch.look(&exposure);
        drop(exposure);
        std::thread::sleep(INTERVAL);
    }
}

#[derive(Default)]
struct Watch {
    /// Why units have no image, as it was found last.
    causes: BTreeMap<String, ImageErrorKind>,
    /// Of each pool.
    thresholds: BTreeMap<PoolId, Thresholds>,
    /// Pools that were not there at the last look.
    gone: BTreeSet<PoolId>,
}

impl Watch {
    fn look(&mut self, exposure: &Exposure) {
        let units = exposure.live_units();
        let names: BTreeSet<&str> = units.iter().map(|(_, unit)| unit.name()).collect();
        self.causes.retain(|name, _| names.contains(name.as_str()));
        for (disk, unit) in &units {
            if !unit.is_open() {
                self.open(exposure, disk, unit);
            } else if unit.has_lost_its_file() {
                reopen(exposure, disk, unit);
            }
        }
        let engine = exposure.recorder.engine();
        let pools = engine.as_ref().map(|engine| engine.pools()).unwrap_or_default();
        if let Some(engine) = &engine {
            engine.pools_seen(&pools);
        }
        self.thresholds.retain(|id, _| pools.iter().any(|pool| pool.id == *id));
        for pool in &pools {
            let of_pool = units.iter().filter(|(disk, _)| disk.pool == pool.id);
            self.look_at(exposure, pool, &of_pool.collect::<Vec<_>>());
        }
    }

    fn open(&mut self, exposure: &Exposure, disk: &Disk, unit: &Arc<LogicalUnit>) {
        // The file may be another one than a moment ago.
        let _opening = exposure.opening.lock();
        let Some(disk) = exposure.disk(disk.id) else { return };
        let disk = &*disk;
        match open(disk, exposure.direct_io(&disk.pool)) {
            Ok(image) => {
                tracing::info!(disk = disk.name, "the disk is ready now");
                self.causes.remove(unit.name());
                exposure.node.open_unit(unit, image);
            }
            Err(error) => {
                unit.not_opened(&error);
                // The first cause was told when the unit was made.
                let before = self.causes.insert(unit.name().to_owned(), error.kind());
                if before.is_some_and(|before| before != error.kind()) {
                    exposure.cannot_open(disk, &error);
                }
            }
        }
    }

    /// Looks whether a pool is there, at its space and at that of the thin disks in it.
    fn look_at(
        &mut self,
        exposure: &Exposure,
        pool: &Pool,
        units: &[&(Arc<Disk>, Arc<LogicalUnit>)],
    ) {
        if let PoolState::Unavailable(reason) = &pool.state {
            if self.gone.insert(pool.id.clone()) {
                tracing::error!(pool = %pool.id, reason, "the pool is not there");
            }
            // Whoever holds a file keeps the file system from being mounted anew.
            for (disk, unit) in units {
                if unit.is_open() && std::fs::metadata(&disk.path).is_err() {
                    tracing::error!(disk = disk.name, "the disk is gone with its pool");
                    exposure.replace(disk, unit);
                }
            }
            return;
        }
        if self.gone.remove(&pool.id) {
            tracing::info!(pool = %pool.id, "the pool is there again");
        }
        let free = pool.free_bytes.saturating_add(pool.reserved_bytes);
        let thin = || {
            let of_pool = units.iter().filter(|(disk, _)| disk.takes_pool_space());
            of_pool.filter(|(_, unit)| unit.device().is_thin())
        };
        for (disk, unit) in thin() {
            let used = std::fs::metadata(&disk.path).map_or(0, |file| allocated(&file));
            unit.set_space(free, used);
            unit.set_exhausted(pool.is_exhausted());
        }
        let bytes = exposure.soft_thresholds(&pool.id, &pool.limits, pool.total_bytes);
        // The disk may have come from another pool, and the thresholds may have been changed.
        for (disk, unit) in units {
            let of_disk = if disk.takes_pool_space() { &*bytes } else { &[] };
            exposure.node.set_soft_thresholds(unit, of_disk);
        }
        let thresholds = self.thresholds.entry(pool.id.clone()).or_default();
        for threshold in thresholds.reached(bytes, free) {
            tracing::warn!(
                pool = %pool.id,
                free,
                threshold,
                "the pool has less free space than the threshold; initiators are told"
            );
            for (_, unit) in thin() {
                exposure.node.soft_threshold_reached(unit);
            }
        }
    }
}

/// Looks whether there is a file with the name of the one that was deleted.
fn reopen(exposure: &Exposure, disk: &Disk, unit: &Arc<LogicalUnit>) {
    // Whatever the reason, that the file was deleted was told.
    if open(disk, DirectIo::default()).is_ok() {
        tracing::warn!(disk = disk.name, "the disk's file was deleted; there is another one now");
        exposure.replace(disk, unit);
    }
}

fn allocated(file: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(file).saturating_mul(512)
}

/// Opens a disk's image, in whose place another one may come. While a job makes the file longer, the disk is not.
pub(crate) fn open(
    disk: &Disk,
    direct_io: DirectIo,
) -> Result<Arc<dyn disk_image::Image>, disk_image::ImageError> {
    let options =
        OpenOptions { size_bytes: Some(disk.size_bytes), direct_io, ..OpenOptions::default() };
    let image = open_image(disk.path.as_path(), disk.format, &options)?;
    Ok(Arc::new(SwitchImage::new(image)))
}

impl Exposure {
    /// Tells the operator why a disk cannot be opened.
    pub(crate) fn cannot_open(&self, disk: &Disk, error: &disk_image::ImageError) {
        tracing::error!(disk = disk.name, %error, "the disk is not ready");
        let Some(engine) = self.recorder.engine() else { return };
        let mapping = engine.mappings().into_iter().find(|mapping| mapping.disk == disk.id);
        let (target, lun) = mapping.map_or_else(Default::default, |it| (it.target, it.lun));
        engine.record_fault(FaultReport {
            disk: disk.id,
            target,
            lun,
            lba: None,
            opcode: NO_COMMAND,
            initiator: "none".to_owned(),
            kind: error.kind(),
            operation: error.operation(),
            errno: error.errno(),
            path: error.path().to_path_buf(),
            text: error.to_string(),
        });
    }
}

/// Which thresholds the free space is below.
#[derive(Debug, Default)]
struct Thresholds(BTreeMap<u64, bool>);

impl Thresholds {
    /// Those below which the free space has fallen since it was looked at last. What it is below
    /// of at first is no news, and one that was reached is not reached again before the space
    /// has been a sixteenth above it.
    fn reached(&mut self, thresholds: Vec<u64>, free: u64) -> Vec<u64> {
        self.0.retain(|threshold, _| thresholds.contains(threshold));
        let mut reached = Vec::new();
        for threshold in thresholds {
            let Some(below) = self.0.get_mut(&threshold) else {
                self.0.insert(threshold, free < threshold);
                continue;
            };
            if !*below && free < threshold {
                *below = true;
                reached.push(threshold);
            } else if free >= threshold.saturating_add(threshold / 16) {
                *below = false;
            }
        }
        reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [u64; 0] = [];

    #[test]
    fn a_threshold_is_reached_when_the_space_falls_below_it_and_again_only_after_it_rose() {
        let mut thresholds = Thresholds::default();
        let mut look = |free| thresholds.reached(vec![160, 32], free);
        assert_eq!(look(200), NONE);
        assert_eq!(look(160), NONE);
        assert_eq!(look(159), [160]);
        assert_eq!(look(100), NONE);
        assert_eq!(look(165), NONE, "not far enough above");
        assert_eq!(look(159), NONE);
        assert_eq!(look(170), NONE);
        assert_eq!(look(20), [160, 32]);
        // Below from the start is no news.
        let mut late = Thresholds::default();
        assert_eq!(late.reached(vec![160], 10), NONE);
        assert_eq!(late.reached(vec![160], 9), NONE);
    }
}
