//! Free bytes below which initiators are warned (SBC-3 §4.7.3.7). They can change while commands look at
//! them, of which only MODE SENSE and MODE SELECT do.

use std::sync::{Arc, PoisonError, RwLock};

/// The soft thresholds of a unit, in bytes, the largest first.
#[derive(Debug, Default)]
pub struct SoftThresholds(RwLock<Arc<[u64]>>);

impl SoftThresholds {
    /// These.
    #[must_use]
    pub fn new(thresholds: &[u64]) -> Self {
        Self(RwLock::new(thresholds.into()))
    }

    /// As they are now.
    #[must_use]
    pub fn get(&self) -> Arc<[u64]> {
        // A value is exchanged as a whole: whoever panicked left nothing half done.
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes them so.
    pub fn set(&self, thresholds: &[u64]) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = thresholds.into();
    }
}

impl Clone for SoftThresholds {
    fn clone(&self) -> Self {
        Self(RwLock::new(self.get()))
    }
}

impl PartialEq for SoftThresholds {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for SoftThresholds {}
