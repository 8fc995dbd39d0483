//! An I_T nexus: the units that an initiator sees through a session, and what it has not been
//! told of each.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use iscsi_proto::{Isid, Lun};
use scsi::reservation::InitiatorPort;
use scsi::{AccessState, Port, TargetPortGroup, UnitAttention, UnitAttentions};

use crate::exclusion::{Inside, Seat};
#[cfg(doc)]
use crate::regions::Regions;
use crate::statistics::Counters;
use crate::unit::LogicalUnit;

/// The units of a target by LUN.
pub(crate) type UnitMap = BTreeMap<u16, Arc<LogicalUnit>>;

/// A unit as initiators are shown it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) unit: Arc<LogicalUnit>,
    /// The target's LUN.
    pub(crate) lun: u16,
    /// Writes are refused.
    pub(crate) read_only: bool,
}

/// What an initiator sees, by the LUN under which it does.
pub(crate) type View = BTreeMap<u16, Seen>;

/// All units, as they are.
pub(crate) fn whole(units: &UnitMap) -> View {
    let seen = |unit: &Arc<LogicalUnit>, lun| {
        let read_only = unit.is_read_only();
        Seen { unit: unit.clone(), lun, read_only }
    };
    units.iter().map(|(lun, unit)| (*lun, seen(unit, *lun))).collect()
}

/// A session's own reference to a unit: cloning it counts in memory that no other session
/// touches, so that sessions of one unit do not slow each other down.
#[derive(Debug, Clone)]
pub(crate) struct UnitRef(Arc<Seated>);

#[derive(Debug)]
struct Seated {
    unit: Arc<LogicalUnit>,
    seat: Arc<Seat>,
    counters: Arc<Counters>,
}

impl Drop for Seated {
    fn drop(&mut self) {
        self.unit.unseen();
        self.unit.statistics().end(&self.counters);
    }
}

impl UnitRef {
    pub(crate) fn new(unit: &Arc<LogicalUnit>) -> Self {
        let seat = unit.exclusion().seat();
        let counters = unit.statistics().begin();
        unit.seen();
        Self(Arc::new(Seated { unit: unit.clone(), seat, counters }))
    }

    /// Whether it is the same reference of the same session.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// What the session has done with it.
    pub(crate) fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// Writes on this thread, as [`Regions`] want it.
    pub(crate) fn write<T>(&self, range: Range<u64>, write: impl FnOnce() -> T) -> T {
        let Seated { unit, seat, .. } = &*self.0;
        seat.writes(&range);
        let writing = unit.regions().enter(range);
        let result = write();
        drop(writing);
        seat.has_written();
        result
    }

    /// Keeps atomic commands out, unless one is at work or waits: then the caller must go where
    /// it may sleep.
    pub(crate) fn enter(&self) -> Option<Inside<'_>> {
        self.0.unit.exclusion().enter(&self.0.seat)
    }
}

impl std::ops::Deref for UnitRef {
    type Target = Arc<LogicalUnit>;

    fn deref(&self) -> &Self::Target {
        &self.0.unit
    }
}

/// A unit as one session sees it.
#[derive(Debug)]
pub(crate) struct NexusUnit {
    pub(crate) lun: u16,
    /// The same in the target.
    pub(crate) target_lun: u16,
    pub(crate) read_only: bool,
    pub(crate) unit: UnitRef,
    pub(crate) attentions: UnitAttentions,
}

impl NexusUnit {
    /// Whether it stays what it is.
    pub(crate) fn is(&self, lun: u16, seen: &Seen) -> bool {
        self.lun == lun && Arc::ptr_eq(&self.unit, &seen.unit)
    }
}

/// The target ports of a SCSI target device.
#[derive(Debug)]
pub(crate) struct Ports {
    /// The one through which a session comes.
    pub(crate) own: Port,
    /// All of them, that one among them.
    pub(crate) all: Vec<Port>,
    /// Their groups.
    pub(crate) groups: Vec<TargetPortGroup>,
}

/// The access state of a port.
fn state_of(groups: &[TargetPortGroup], port: &Port) -> AccessState {
    let own = groups.iter().find(|group| group.tag == port.target_portal_group_tag);
    own.map_or_else(AccessState::default, |group| group.state)
}

/// What a session sees. It belongs to the session's connection alone, so that no command takes a
/// lock to find its unit.
#[derive(Debug)]
pub(crate) struct Nexus {
    pub(crate) initiator: String,
    pub(crate) port: Port,
    /// All ports of the target, that one among them.
    pub(crate) ports: Vec<Port>,
    /// Their groups.
    pub(crate) groups: Vec<TargetPortGroup>,
    /// The access state of the session's own port.
    pub(crate) access: AccessState,
    /// Who it is to reservations.
    pub(crate) identity: scsi::reservation::Nexus,
    units: Vec<NexusUnit>,
    /// What REPORT LUNS reports.
    luns: Vec<u64>,
}

impl Nexus {
    /// A new nexus: every unit has POWER ON to tell.
    pub(crate) fn new(initiator: String, isid: Isid, ports: Ports, view: &View) -> Self {
        let identity = scsi::reservation::Nexus {
            initiator: InitiatorPort::new(&initiator, isid.0),
            target: ports.own.clone(),
        };
        let Ports { own: port, all: ports, groups } = ports;
        let access = state_of(&groups, &port);
        let (units, luns) = (Vec::new(), Vec::new());
        let mut nexus = Self { initiator, port, ports, groups, access, identity, units, luns };
        nexus.rebuild(view);
        nexus
    }

    /// Takes over what groups are now. If `told`, a change of state is told through every unit.
    pub(crate) fn groups_changed(&mut self, changed: &[TargetPortGroup], told: bool) {
        let mut differs = false;
        for group in &mut self.groups {
            let Some(new) = changed.iter().find(|new| new.tag == group.tag) else { continue };
            differs |= group.state != new.state;
            *group = *new;
        }
        self.access = state_of(&self.groups, &self.port);
        if differs && told {
            for unit in &mut self.units {
                unit.attentions.push(UnitAttention::AsymmetricAccessStateChanged);
            }
        }
    }

    fn rebuild(&mut self, view: &View) {
        let mut before = std::mem::take(&mut self.units);
        self.units = view
            .iter()
            .map(|(&lun, seen)| {
                let (target_lun, read_only) = (seen.lun, seen.read_only);
                match before.iter().position(|old| old.is(lun, seen)) {
                    Some(at) => NexusUnit { target_lun, read_only, ..before.swap_remove(at) },
                    None => {
                        let mut attentions = UnitAttentions::new();
                        attentions.push(UnitAttention::PowerOn);
                        let unit = UnitRef::new(&seen.unit);
                        NexusUnit { lun, target_lun, read_only, unit, attentions }
                    }
                }
            })
            .collect();
        self.luns = view.keys().map(|lun| Lun::from_number(*lun).0).collect();
    }

    /// Takes over a change of what the session sees. Units that stay tell of it; if nothing has
    /// changed, nothing is told.
    pub(crate) fn update(&mut self, view: &View) {
        let same = self.units.len() == view.len()
            && self.units.iter().zip(view).all(|(old, (lun, seen))| old.is(*lun, seen));
        for unit in &mut self.units {
            if !same {
                unit.attentions.push(UnitAttention::ReportedLunsDataHasChanged);
            }
            // WP, in the header of mode parameters.
            if view.get(&unit.lun).is_some_and(|seen| seen.read_only != unit.read_only) {
                unit.attentions.push(UnitAttention::ModeParametersChanged);
            }
        }
        self.rebuild(view);
    }

    /// Takes another seat where that one was, which stays with who holds it.
    pub(crate) fn reseat(&mut self, old: &UnitRef) -> UnitRef {
        let new = UnitRef::new(old);
        for seen in self.units.iter_mut().filter(|seen| seen.unit.is(old)) {
            seen.unit = new.clone();
        }
        new
    }

    pub(crate) fn luns(&self) -> &[u64] {
        &self.luns
    }

    pub(crate) fn units(&self) -> &[NexusUnit] {
        &self.units
    }

    /// Where the unit behind a LUN stands, for [`Nexus::at`], as long as nothing changes.
    pub(crate) fn place(&self, lun: Lun) -> Option<usize> {
        let number = lun.number()?;
        // Most targets have one.
        if let [only] = self.units.as_slice() {
            return (only.lun == number).then_some(0);
        }
        self.units.binary_search_by_key(&number, |unit| unit.lun).ok()
    }

    pub(crate) fn at(&self, place: Option<usize>) -> Option<&NexusUnit> {
        self.units.get(place?)
    }

    /// The unit behind a LUN.
    pub(crate) fn find(&self, lun: Lun) -> Option<&NexusUnit> {
        self.at(self.place(lun))
    }

    pub(crate) fn find_mut(&mut self, lun: Lun) -> Option<&mut NexusUnit> {
        let place = self.place(lun)?;
        self.units.get_mut(place)
    }

    /// The LUNs under which a unit is seen here.
    pub(crate) fn luns_of(&self, unit: &Arc<LogicalUnit>) -> Vec<Lun> {
        let seen = self.units.iter().filter(|seen| Arc::ptr_eq(&seen.unit, unit));
        seen.map(|seen| Lun::from_number(seen.lun)).collect()
    }

    /// Establishes a unit attention condition.
    pub(crate) fn attention(&mut self, unit: &Arc<LogicalUnit>, condition: UnitAttention) {
        for seen in self.units.iter_mut().filter(|seen| Arc::ptr_eq(&seen.unit, unit)) {
            seen.attentions.push(condition);
        }
    }
}
