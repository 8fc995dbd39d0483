//! Which disk is which LUN of which target.

use serde::{Deserialize, Serialize};

use crate::id::DiskId;

/// The highest LUN: the most that flat space addressing can say (SAM-5 §4.7.7.3).
pub const MAX_LUN: u16 = 0x3fff;

/// A disk as a LUN of a target. A disk may have other LUNs in other targets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    /// The disk.
    pub disk: DiskId,
    /// The target's iSCSI name.
    pub target: String,
    /// The LUN, unique in the target.
    pub lun: u16,
}

/// The lowest LUN that is not in `taken`.
#[must_use]
pub fn lowest_free_lun(taken: impl IntoIterator<Item = u16>) -> Option<u16> {
    let taken: std::collections::BTreeSet<u16> = taken.into_iter().collect();
    (0..=MAX_LUN).find(|lun| !taken.contains(lun))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_gap_is_taken_first_and_a_full_target_has_none() {
        assert_eq!(lowest_free_lun([]), Some(0));
        assert_eq!(lowest_free_lun([3, 0, 1]), Some(2));
        assert_eq!(lowest_free_lun(0..MAX_LUN), Some(MAX_LUN));
        assert_eq!(lowest_free_lun(0..=MAX_LUN), None);
    }
}
