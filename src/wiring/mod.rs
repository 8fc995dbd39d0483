//! Ties the data path to the catalogue: what is mapped becomes a LUN, what fails becomes a fault.

mod exposed;
mod exposure;
mod host;
mod mirroring;
mod recorder;
mod switching;

pub(crate) use exposed::Exposed;
pub(crate) use exposure::{Exposure, Rules};
pub(crate) use host::NodeHost;
pub(crate) use recorder::Recorder;

use std::time::Duration;

/// Commands that are under way may take so long after their session was to end.
pub(crate) const DRAIN_LIMIT: Duration = Duration::from_secs(20);
