//! The data path as jobs see it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use disk_image::Image;
use job_engine::{DataPath, DiskId, ImageFormat, Mirrored, SwitchError, Switched};
use parking_lot::{Condvar, Mutex};

use super::Exposure;
use crate::sessions;

/// The data path as jobs see it: it has the disks open that are LUNs. Until it is there, and while
/// it stops, nothing runs.
#[derive(Debug, Default)]
pub(crate) struct Exposed {
    exposure: Mutex<Option<Arc<Exposure>>>,
    connected: Condvar,
    stopping: AtomicBool,
}

impl Exposed {
    /// Disks are open from now on.
    pub(crate) fn connect(&self, exposure: Arc<Exposure>) {
        *self.exposure.lock() = Some(exposure);
        self.connected.notify_all();
    }

    /// Whoever waits is told to go.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        let _exposure = self.exposure.lock();
        self.connected.notify_all();
    }

    pub(crate) fn disconnect(&self) {
        self.exposure.lock().take();
    }

    fn get(&self) -> Result<Arc<Exposure>, String> {
        let mut exposure = self.exposure.lock();
        loop {
            if self.stopping.load(Ordering::Acquire) {
                return Err("the daemon is stopping".to_owned());
            }
            if let Some(exposure) = &*exposure {
                return Ok(exposure.clone());
            }
            self.connected.wait(&mut exposure);
        }
    }
}

impl DataPath for Exposed {
    fn pause(&self, disks: &[DiskId], work: &mut dyn FnMut()) -> Result<(), String> {
        let exposure = self.get()?;
        let units: Vec<_> = disks.iter().filter_map(|disk| exposure.open_unit(*disk)).collect();
        // Formats with tables have some of them in memory only.
        let tables: Vec<_> = disks.iter().filter_map(|disk| exposure.tables(*disk)).collect();
        let flush = || {
            for image in &tables {
                if let Err(error) = image.flush() {
                    tracing::error!(%error, "a copy lacks what could not be flushed");
                }
            }
        };
        flush();
        let begin = Instant::now();
        target_core::pause(&units, &mut || {
            flush();
            work();
        });
        let microseconds = begin.elapsed().as_micros();
        tracing::info!(microseconds, disks = units.len(), "initiators waited for a job");
        Ok(())
    }

    fn resize(&self, disk: DiskId, size_bytes: u64) -> Result<(), String> {
        let exposure = self.get()?;
        let Some(unit) = exposure.open_unit(disk) else { return Ok(()) };
        exposure.node.resize_unit(&unit, size_bytes).map_err(|error| error.to_string())
    }

    fn switch(&self, disks: &[Switched]) -> Result<(), SwitchError> {
        Ok(self.get().map_err(SwitchError::Stopping)?.switch(disks)?)
    }

    fn change_parent(
        &self,
        from: &Path,
        to: &Path,
        format: ImageFormat,
    ) -> Result<Vec<PathBuf>, SwitchError> {
        Ok(self.get().map_err(SwitchError::Stopping)?.change_parent(from, to, format)?)
    }

    fn mirror(
        &self,
        disk: DiskId,
        target: Arc<dyn Image>,
    ) -> Result<Option<Box<dyn Mirrored>>, SwitchError> {
        Ok(self.get().map_err(SwitchError::Stopping)?.mirror(disk, target)?)
    }

    fn medium_changed(&self, disk: DiskId) {
        if let Ok(exposure) = self.get()
            && let Some(unit) = exposure.open_unit(disk)
        {
            exposure.node.medium_changed(&unit);
        }
    }

    fn commands(&self) -> u64 {
        let exposure = self.exposure.lock().clone();
        exposure.map_or(0, |exposure| sessions::totals(&exposure.node).commands)
    }
}
