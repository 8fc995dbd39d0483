//! The units of a node: LUNs of its targets, and what changes in them while initiators work.

use std::collections::BTreeMap;
use std::sync::Arc;

use disk_image::{AtomicWrites, Image, ImageError};
use scsi::{Provisioning, UnitAttention};
use tokio::sync::oneshot;

use super::{Node, NodeError};
use crate::connection::Message;
use crate::limits::{Limit, Limited};
use crate::nexus::{UnitMap, whole};
use crate::tokens::End;
use crate::unit::LogicalUnit;

impl Node {
    /// All units that are LUNs of a target, each once.
    #[must_use]
    pub fn units(&self) -> Vec<Arc<LogicalUnit>> {
        let targets = self.targets.read();
        let all = targets.values().flat_map(|target| target.units.values());
        let each: BTreeMap<_, _> = all.map(|unit| (Arc::as_ptr(unit), unit.clone())).collect();
        each.into_values().collect()
    }

    /// Makes a unit a LUN of a target, for the sessions that are there too.
    ///
    /// # Errors
    /// [`NodeError::NoSuchTarget`], [`NodeError::LunInUse`].
    pub fn add_unit(
        &self,
        target: &str,
        lun: u16,
        unit: Arc<LogicalUnit>,
    ) -> Result<(), NodeError> {
        self.change_units(target, None, |units| match units.entry(lun) {
            std::collections::btree_map::Entry::Occupied(_) => {
                Err(NodeError::LunInUse { target: target.to_owned(), lun })
            }
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(unit);
                Ok(())
            }
        })
    }

    /// The LUNs that a unit is, with their targets.
    #[must_use]
    pub fn luns_of(&self, unit: &Arc<LogicalUnit>) -> Vec<(String, u16)> {
        let targets = self.targets.read();
        let luns = targets.iter().flat_map(|(name, target)| {
            let own = target.units.iter().filter(|(_, other)| Arc::ptr_eq(other, unit));
            own.map(|(lun, _)| (name.to_string(), *lun))
        });
        luns.collect()
    }

    /// Takes a LUN away; no command can reach its unit through it when this returns.
    ///
    /// # Errors
    /// [`NodeError::NoSuchTarget`], [`NodeError::NoSuchLun`].
    pub async fn remove_unit(&self, target: &str, lun: u16) -> Result<(), NodeError> {
        let (sender, receiver) = oneshot::channel::<()>();
        self.change_units(target, Some(&Arc::new(sender)), |units| match units.remove(&lun) {
            Some(unit) => {
                unit.tokens().end_all(End::Cancelled);
                Ok(())
            }
            None => Err(NodeError::NoSuchLun { target: target.to_owned(), lun }),
        })?;
        // Ends when the last session has let go of it.
        let _ = receiver.await;
        Ok(())
    }

    fn change_units(
        &self,
        target: &str,
        held: Option<&Arc<oneshot::Sender<()>>>,
        change: impl FnOnce(&mut UnitMap) -> Result<(), NodeError>,
    ) -> Result<(), NodeError> {
        let mut targets = self.targets.write();
        let found = targets.get_mut(target);
        let found = found.ok_or_else(|| NodeError::NoSuchTarget(target.to_owned()))?;
        change(&mut found.units)?;
        found.whole = Arc::new(whole(&found.units));
        self.show(target, found, held);
        Ok(())
    }

    /// Makes a unit larger, as its image has been made, and tells all sessions that see it
    /// (CAPACITY DATA HAS CHANGED, SBC-3 §4.6).
    ///
    /// # Errors
    /// The image is not that large.
    pub fn grow_unit(&self, unit: &Arc<LogicalUnit>, size_bytes: u64) -> Result<(), ImageError> {
        if unit.grow(size_bytes)? {
            self.tell(unit, UnitAttention::CapacityDataHasChanged);
        }
        Ok(())
    }

    /// Makes a unit larger or smaller. Sessions that see it are told if it is not that already.
    /// Commands that go beyond a smaller size fail from now on; nothing may be inside the unit
    /// ([`crate::pause`]).
    ///
    /// # Errors
    /// The image is not that large, or cannot become smaller.
    pub fn resize_unit(&self, unit: &Arc<LogicalUnit>, size_bytes: u64) -> Result<(), ImageError> {
        if unit.resize(size_bytes)? {
            self.tell(unit, UnitAttention::CapacityDataHasChanged);
        }
        Ok(())
    }

    /// Tells all sessions that see a unit that it may hold something else (MEDIUM MAY HAVE CHANGED,
    /// SPC-4 §5.14).
    pub fn medium_changed(&self, unit: &Arc<LogicalUnit>) {
        self.tell(unit, UnitAttention::MediumMayHaveChanged);
    }

    /// Changes the provisioning of a unit, and tells all sessions that see it (INQUIRY DATA HAS
    /// CHANGED: the Logical Block Provisioning VPD page has it; MODE PARAMETERS CHANGED, if it has soft
    /// thresholds).
    pub fn set_provisioning(&self, unit: &Arc<LogicalUnit>, provisioning: Provisioning) {
        let (inquiry_data, mode_parameters) = unit.set_provisioning(provisioning);
        if inquiry_data {
            self.tell(unit, UnitAttention::InquiryDataHasChanged);
        }
        if mode_parameters {
            self.tell(unit, UnitAttention::ModeParametersChanged);
        }
    }

    /// Changes the soft thresholds of a unit, in bytes, the largest first, and tells all sessions that
    /// see it if their mode page says something else then (MODE PARAMETERS CHANGED).
    pub fn set_soft_thresholds(&self, unit: &Arc<LogicalUnit>, thresholds: &[u64]) {
        if unit.set_soft_thresholds(thresholds) {
            self.tell(unit, UnitAttention::ModeParametersChanged);
        }
    }

    /// Changes what WRITE ATOMIC may be on a unit, whose image becomes another one, and tells all sessions
    /// that see it (INQUIRY DATA HAS CHANGED: the Block Limits VPD page has it).
    pub fn set_atomic_writes(&self, unit: &Arc<LogicalUnit>, atomic: AtomicWrites) {
        if unit.set_atomic_writes(atomic) {
            self.tell(unit, UnitAttention::InquiryDataHasChanged);
        }
    }

    /// Limits what a unit or an initiator may use from now on, or does so no more. Commands that wait
    /// go on at once; it may be set before the unit or a session is there.
    pub fn set_limit(&self, limited: Limited, limit: Option<&Limit>) {
        self.limits.set(limited, limit);
        self.sessions.send(None, || Message::Limits);
    }

    /// Gives a unit the image that could not be opened before, and tells all sessions that see it:
    /// NOT READY TO READY CHANGE, and INQUIRY DATA HAS CHANGED if the image makes a difference
    /// there. Nothing happens to a unit that has one.
    pub fn open_unit(&self, unit: &Arc<LogicalUnit>, image: Arc<dyn Image>) {
        let Some(differs) = unit.open(image) else { return };
        if differs {
            self.tell(unit, UnitAttention::InquiryDataHasChanged);
        }
        self.tell(unit, UnitAttention::MediumMayHaveChanged);
    }

    /// Tells all sessions that see a unit that its pool's space has fallen below a threshold
    /// (THIN PROVISIONING SOFT THRESHOLD REACHED, SBC-3 §4.7.3.7).
    pub fn soft_threshold_reached(&self, unit: &Arc<LogicalUnit>) {
        self.tell(unit, UnitAttention::ThinProvisioningSoftThresholdReached);
    }

    fn tell(&self, unit: &Arc<LogicalUnit>, condition: UnitAttention) {
        self.sessions.send(None, || Message::Attention { unit: unit.clone(), condition });
    }

    /// Whether writes to a unit are refused from now on, whatever an initiator may do elsewhere. When
    /// this returns, nothing can write any more that may not.
    pub async fn set_read_only(&self, unit: &Arc<LogicalUnit>, read_only: bool) {
        let (sender, receiver) = oneshot::channel::<()>();
        {
            let held = Arc::new(sender);
            let mut targets = self.targets.write();
            unit.set_read_only(read_only);
            for (name, target) in targets.iter_mut() {
                if target.units.values().any(|other| Arc::ptr_eq(other, unit)) {
                    target.whole = Arc::new(whole(&target.units));
                    self.show(name, target, Some(&held));
                }
            }
        }
        // Ends when the last session has let go of it.
        let _ = receiver.await;
    }
}
