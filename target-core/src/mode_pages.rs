//! The mode parameters of a unit: those in force, and those that were saved.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::Mutex;
use scsi::ModeParameters;

/// Keeps saved mode pages over a restart (MODE SELECT with SP). May wait for the medium.
pub trait ModePageStore: Send + Sync {
    /// Stores the pages of a unit. Durable when it returns.
    ///
    /// # Errors
    /// They could not be stored; the text says why.
    fn save(&self, unit: &str, pages: Vec<u8>) -> Result<(), String>;
}

/// Keeps nothing: saved pages end with the process.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoModePageStore;

impl ModePageStore for NoModePageStore {
    fn save(&self, _unit: &str, _pages: Vec<u8>) -> Result<(), String> {
        Ok(())
    }
}

/// The first byte of what is stored; the parameters stand in the second.
const VERSION: u8 = 1;

/// Both in one byte, so that a command looks at it once.
pub(crate) struct UnitModes {
    /// Those in force in the low half, the saved ones in the high half.
    bits: AtomicU8,
    saving: Mutex<()>,
    store: Arc<dyn ModePageStore>,
}

impl UnitModes {
    /// With what was stored before the start; `default` without it, or where it cannot be read.
    pub(crate) fn new(
        unit: &str,
        default: ModeParameters,
        stored: Option<&[u8]>,
        store: Arc<dyn ModePageStore>,
    ) -> Self {
        let saved = match stored {
            None => default,
            Some([VERSION, bits]) => ModeParameters::from_bits(*bits),
            Some(_) => {
                tracing::error!(unit, "the saved mode pages cannot be read; defaults are in force");
                default
            }
        };
        let bits = saved.to_bits();
        Self { bits: AtomicU8::new(bits | bits << 4), saving: Mutex::new(()), store }
    }

    /// Those in force, and the saved ones.
    pub(crate) fn get(&self) -> (ModeParameters, ModeParameters) {
        let bits = self.bits.load(Ordering::Relaxed);
        (ModeParameters::from_bits(bits), ModeParameters::from_bits(bits >> 4))
    }

    /// Puts parameters in force; those that were.
    pub(crate) fn set(&self, mode: ModeParameters) -> ModeParameters {
        self.change(|bits| bits & 0xf0 | mode.to_bits())
    }

    /// Saves parameters, then puts them in force; those that were. May wait for the medium.
    pub(crate) fn save(&self, unit: &str, mode: ModeParameters) -> Result<ModeParameters, String> {
        let _saving = self.saving.lock();
        self.store.save(unit, vec![VERSION, mode.to_bits()])?;
        Ok(self.change(|_| mode.to_bits() | mode.to_bits() << 4))
    }

    /// The saved ones are in force again.
    pub(crate) fn reset(&self) {
        self.change(|bits| bits & 0xf0 | bits >> 4);
    }

    fn change(&self, change: impl Fn(u8) -> u8) -> ModeParameters {
        let order = Ordering::Relaxed;
        let before = self.bits.fetch_update(order, order, |bits| Some(change(bits)));
        ModeParameters::from_bits(before.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modes(stored: Option<&[u8]>) -> UnitModes {
        UnitModes::new("disk", ModeParameters::default(), stored, Arc::new(NoModePageStore))
    }

    #[test]
    fn what_is_saved_comes_back_and_what_is_not_goes_with_a_reset() {
        let default = ModeParameters::default();
        let dry = ModeParameters { write_cache_enabled: false, ..default };
        let protected = ModeParameters { software_write_protect: true, ..dry };
        let unit = modes(None);
        assert_eq!(unit.get(), (default, default));
        assert_eq!(unit.save("disk", dry), Ok(default));
        assert_eq!(unit.set(protected), dry);
        assert_eq!(unit.get(), (protected, dry));
        unit.reset();
        assert_eq!(unit.get(), (dry, dry));
        assert_eq!(modes(Some(&[VERSION, protected.to_bits()])).get(), (protected, protected));
        for unreadable in [&[][..], &[VERSION], &[VERSION + 1, 0], &[VERSION, 0, 0]] {
            assert_eq!(modes(Some(unreadable)).get(), (default, default));
        }
    }
}
