//! Gives memory back when sessions have ended: once for all that end at about the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;

/// Between the end of a session and this.
const DELAY: Duration = Duration::from_secs(2);

/// Of one node.
#[derive(Debug, Default)]
pub(crate) struct Tidy {
    planned: Arc<AtomicBool>,
}

impl Tidy {
    /// What a session held is free, or will be in a moment.
    pub(crate) fn session_ended(&self) {
        // Without a runtime, the program ends.
        let Ok(runtime) = Handle::try_current() else { return };
        if self.planned.swap(true, Ordering::Relaxed) {
            return;
        }
        let planned = self.planned.clone();
        runtime.spawn(async move {
            tokio::time::sleep(DELAY).await;
            planned.store(false, Ordering::Relaxed);
            let _ = tokio::task::spawn_blocking(memory::give_back).await;
        });
    }
}
