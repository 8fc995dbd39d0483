//! The state itself, and what changes it without a command.

use std::num::NonZeroU64;

use super::nexus::Nexus;

/// TYPE of a persistent reservation (SPC-4 §6.15.3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ReservationType {
    /// Write Exclusive.
    WriteExclusive = 1,
    /// Exclusive Access.
    ExclusiveAccess = 3,
    /// Write Exclusive – Registrants Only.
    WriteExclusiveRegistrantsOnly = 5,
    /// Exclusive Access – Registrants Only.
    ExclusiveAccessRegistrantsOnly = 6,
    /// Write Exclusive – All Registrants.
    WriteExclusiveAllRegistrants = 7,
    /// Exclusive Access – All Registrants.
    ExclusiveAccessAllRegistrants = 8,
}

impl ReservationType {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::WriteExclusive,
        Self::ExclusiveAccess,
        Self::WriteExclusiveRegistrantsOnly,
        Self::ExclusiveAccessRegistrantsOnly,
        Self::WriteExclusiveAllRegistrants,
        Self::ExclusiveAccessAllRegistrants,
    ];

    /// The type with this code; none if the code is obsolete or reserved.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// The code on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Reading is free for everybody.
    pub(super) const fn is_write_exclusive(self) -> bool {
        matches!(
            self,
            Self::WriteExclusive
                | Self::WriteExclusiveRegistrantsOnly
                | Self::WriteExclusiveAllRegistrants
        )
    }

    /// Every registered nexus holds the reservation (SPC-4 §5.13.10).
    pub(super) const fn is_all_registrants(self) -> bool {
        matches!(self, Self::WriteExclusiveAllRegistrants | Self::ExclusiveAccessAllRegistrants)
    }

    /// Every registered nexus has access: registrants only, or all registrants.
    pub(super) const fn is_for_registrants(self) -> bool {
        !matches!(self, Self::WriteExclusive | Self::ExclusiveAccess)
    }
}

/// A registered nexus. Reservation keys are never zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Registration {
    pub(super) nexus: Nexus,
    pub(super) key: NonZeroU64,
}

/// The persistent reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) kind: ReservationType,
    /// Its holder; none for the all registrants types, which every registered nexus holds.
    pub(super) holder: Option<Nexus>,
}

impl Held {
    pub(super) fn new(kind: ReservationType, nexus: &Nexus) -> Self {
        Self { kind, holder: (!kind.is_all_registrants()).then(|| nexus.clone()) }
    }
}

/// The reservations and registrations of one logical unit.
///
/// Persistent ones survive a nexus loss and every reset; a power loss too while APTPL is one.
/// Between commands this always holds: the holder of the reservation is registered, an all
/// registrants reservation has at least one registrant, no nexus is registered twice, and there
/// is not both a persistent reservation and one of RESERVE.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reservations {
    /// In the order in which they registered.
    pub(super) registrations: Vec<Registration>,
    pub(super) reservation: Option<Held>,
    /// PRGENERATION.
    pub(super) generation: u32,
    /// The last APTPL bit.
    pub(super) aptpl: bool,
    /// What APTPL promised to keep could not be read (SPC-4 §5.13.5.3.2).
    pub(super) lost: bool,
    /// Who holds the reservation of RESERVE(6) or RESERVE(10).
    pub(super) unit_reservation: Option<Nexus>,
}

impl Reservations {
    /// Registrations that one logical unit takes.
    pub const MAX_REGISTRATIONS: usize = 1024;

    /// Nothing registered, nothing reserved.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A recoverable lost persistent reservation (SPC-4 §5.13.5.3.2): what was stored with APTPL
    /// cannot be read. [`Self::information_lost`] says what is refused, until REPLACE LOST
    /// RESERVATION.
    #[must_use]
    pub fn lost() -> Self {
        Self { aptpl: true, lost: true, ..Self::default() }
    }

    /// No command can meet a conflict, other than RESERVE, RELEASE and PERSISTENT RESERVE OUT,
    /// which find out for themselves: neither [`Self::information_lost`] nor [`Self::check`] need
    /// be asked.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        self.reservation.is_none() && self.unit_reservation.is_none() && !self.lost
    }

    /// The registered nexuses and their reservation keys, in the order in which they registered.
    pub fn registrations(&self) -> impl ExactSizeIterator<Item = (&Nexus, u64)> {
        self.registrations.iter().map(|one| (&one.nexus, one.key.get()))
    }

    /// The persistent reservation and its holder; the all registrants types have no single one.
    #[must_use]
    pub fn reservation(&self) -> Option<(ReservationType, Option<&Nexus>)> {
        self.reservation.as_ref().map(|held| (held.kind, held.holder.as_ref()))
    }

    /// Who holds the logical unit with RESERVE(6) or RESERVE(10).
    #[must_use]
    pub const fn unit_reservation(&self) -> Option<&Nexus> {
        self.unit_reservation.as_ref()
    }

    /// PRGENERATION.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// Registrations and reservation outlive a power loss (PTPL_A).
    #[must_use]
    pub const fn persists_through_power_loss(&self) -> bool {
        self.aptpl
    }

    /// An I_T nexus was lost: its RESERVE ends (SPC-2 §5.5.1), nothing else.
    pub fn nexus_lost(&mut self, nexus: &Nexus) {
        self.unit_reservation.take_if(|holder| holder == nexus);
    }

    /// The logical unit or the target was reset: RESERVE ends, nothing else (SPC-4 §5.13.5.1).
    pub fn reset(&mut self) {
        self.unit_reservation = None;
    }

    pub(super) fn key_of(&self, nexus: &Nexus) -> Option<NonZeroU64> {
        self.registrations.iter().find(|one| one.nexus == *nexus).map(|one| one.key)
    }

    /// Whether `nexus` is a persistent reservation holder (SPC-4 §5.13.10).
    pub(super) fn is_holder(&self, nexus: &Nexus) -> bool {
        self.reservation.as_ref().is_some_and(|held| match &held.holder {
            Some(holder) => holder == nexus,
            None => self.key_of(nexus).is_some(),
        })
    }

    /// The key of the one holder; none without a reservation or if all registrants hold it.
    pub(super) fn holder_key(&self) -> Option<NonZeroU64> {
        self.key_of(self.reservation.as_ref()?.holder.as_ref()?)
    }

    /// Registers, or changes the key.
    pub(super) fn set_key(&mut self, nexus: &Nexus, key: NonZeroU64) {
        match self.registrations.iter_mut().find(|one| one.nexus == *nexus) {
            Some(registration) => registration.key = key,
            None => self.registrations.push(Registration { nexus: nexus.clone(), key }),
        }
    }

    /// Removes registrations, and the reservation if that leaves it without a holder
    /// (SPC-4 §5.13.10). Returns who was removed, and the type of the released reservation.
    pub(super) fn remove(
        &mut self,
        which: impl Fn(&Registration) -> bool,
    ) -> (Vec<Nexus>, Option<ReservationType>) {
        let removed: Vec<_> =
            self.registrations.extract_if(.., |one| which(one)).map(|one| one.nexus).collect();
        let abandoned = self.reservation.take_if(|held| match &held.holder {
            Some(holder) => removed.contains(holder),
            None => self.registrations.is_empty(),
        });
        (removed, abandoned.map(|held| held.kind))
    }

    pub(super) fn count_generation(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }
}
