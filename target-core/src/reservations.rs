//! The reservations of a unit, as commands of many sessions see and change them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use scsi::Cdb;
use scsi::reservation::{InitiatorPort, Nexus, Ports, Reservations, Verdict};
use scsi::{Port, Sense};

use crate::fault;

/// Keeps persistent reservations over a power loss (APTPL). May wait for the medium.
pub trait ReservationStore: Send + Sync {
    /// Stores the state of a unit, or that there is nothing to keep. Durable when it returns.
    ///
    /// # Errors
    /// It could not be stored; the text says why.
    fn save(&self, unit: &str, state: Option<Vec<u8>>) -> Result<(), String>;
}

/// Keeps nothing: reservations end with the process.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoReservationStore;

impl ReservationStore for NoReservationStore {
    fn save(&self, _unit: &str, _state: Option<Vec<u8>>) -> Result<(), String> {
        Ok(())
    }
}

/// What commands look at without a lock, and reservation commands change one after the other.
pub(crate) struct UnitReservations {
    current: ArcSwap<Reservations>,
    /// A conflict is possible.
    active: AtomicBool,
    changing: Mutex<()>,
    store: Arc<dyn ReservationStore>,
}

impl UnitReservations {
    /// With what was stored before the start. What cannot be read is lost, and commands are told.
    pub(crate) fn new(stored: Option<&[u8]>, store: Arc<dyn ReservationStore>) -> Self {
        let current = match stored.map(Reservations::from_bytes) {
            None => Reservations::new(),
            Some(Ok(reservations)) => reservations,
            Some(Err(_)) => Reservations::lost(),
        };
        Self {
            active: AtomicBool::new(!current.is_idle()),
            current: ArcSwap::from_pointee(current),
            changing: Mutex::new(()),
            store,
        }
    }

    /// Why a command may not run, if it may not.
    pub(crate) fn refusal(&self, nexus: &Nexus, cdb: Cdb) -> Option<Verdict> {
        if !self.active.load(Ordering::Acquire) {
            return None;
        }
        let current = self.current.load();
        let lost = current.information_lost(cdb).map(Verdict::Check);
        lost.or_else(|| (!current.check(nexus, cdb)).then_some(Verdict::ReservationConflict))
    }

    pub(crate) fn current(&self) -> Guard<Arc<Reservations>> {
        self.current.load()
    }

    /// Has what another has, which nobody changes any more.
    pub(crate) fn take_over(&self, other: &Self) {
        let _changing = self.changing.lock();
        let current = other.current.load_full();
        self.active.store(!current.is_idle(), Ordering::Release);
        self.current.store(current);
    }

    /// Changes them; `change` says whether that must be durable before anybody sees it. May wait
    /// for the medium.
    pub(crate) fn change<T>(
        &self,
        unit: &str,
        change: impl FnOnce(&mut Reservations) -> (T, bool),
    ) -> Result<T, Sense> {
        let _changing = self.changing.lock();
        let mut next = Reservations::clone(&self.current.load());
        let (result, persist) = change(&mut next);
        if persist {
            let state = next.persists_through_power_loss().then(|| next.to_bytes());
            self.store.save(unit, state).map_err(|reason| {
                tracing::error!(unit, reason, "persistent reservations cannot be stored");
                fault::no_resources()
            })?;
        }
        self.active.store(!next.is_idle(), Ordering::Release);
        self.current.store(Arc::new(next));
        Ok(result)
    }

    /// A session of the nexus has ended.
    pub(crate) fn nexus_lost(&self, unit: &str, nexus: &Nexus) {
        if self.current.load().unit_reservation() == Some(nexus) {
            // RESERVE is never stored, so this cannot fail.
            let _ = self.change(unit, |state| (state.nexus_lost(nexus), false));
        }
    }

    /// The unit was reset.
    pub(crate) fn reset(&self, unit: &str) {
        if self.current.load().unit_reservation().is_some() {
            let _ = self.change(unit, |state| (state.reset(), false));
        }
    }
}

/// The ports that a parameter list can name, as they were when the command came.
#[derive(Debug, Clone)]
pub(crate) struct KnownPorts {
    pub(crate) initiators: Vec<InitiatorPort>,
    pub(crate) targets: Vec<Port>,
}

impl Ports for KnownPorts {
    fn initiators(&self, name: &str) -> Vec<InitiatorPort> {
        self.initiators.iter().filter(|port| port.name() == name).cloned().collect()
    }

    fn targets(&self) -> Vec<Port> {
        self.targets.clone()
    }
}
