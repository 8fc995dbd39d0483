//! Unit attention conditions of one I_T nexus and logical unit (SAM-5 §5.14).

use crate::asc::AdditionalSense;
use crate::sense::{Sense, SenseKey};

/// A condition that the initiator is told of once. In the order in which they are reported when
/// several are pending (SAM-5 §5.14.3: resets before everything else).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum UnitAttention {
    /// First command of a nexus since the target started.
    PowerOn,
    /// Hard reset: POWER ON, RESET, OR BUS DEVICE RESET OCCURRED.
    Reset,
    /// LOGICAL UNIT RESET or TARGET RESET: BUS DEVICE RESET FUNCTION OCCURRED.
    BusDeviceReset,
    /// The session was lost and came back.
    NexusLoss,
    /// Another initiator's CLEAR TASK SET aborted commands of this one.
    CommandsCleared,
    /// MEDIUM MAY HAVE CHANGED: the logical unit became ready.
    MediumMayHaveChanged,
    /// CAPACITY DATA HAS CHANGED.
    CapacityDataHasChanged,
    /// Another initiator's MODE SELECT.
    ModeParametersChanged,
    /// ASYMMETRIC ACCESS STATE CHANGED.
    AsymmetricAccessStateChanged,
    /// RESERVATIONS PREEMPTED.
    ReservationsPreempted,
    /// RESERVATIONS RELEASED.
    ReservationsReleased,
    /// REGISTRATIONS PREEMPTED.
    RegistrationsPreempted,
    /// INQUIRY DATA HAS CHANGED.
    InquiryDataHasChanged,
    /// THIN PROVISIONING SOFT THRESHOLD REACHED.
    ThinProvisioningSoftThresholdReached,
    /// REPORTED LUNS DATA HAS CHANGED.
    ReportedLunsDataHasChanged,
}

impl UnitAttention {
    const ALL: [Self; 15] = [
        Self::PowerOn,
        Self::Reset,
        Self::BusDeviceReset,
        Self::NexusLoss,
        Self::CommandsCleared,
        Self::MediumMayHaveChanged,
        Self::CapacityDataHasChanged,
        Self::ModeParametersChanged,
        Self::AsymmetricAccessStateChanged,
        Self::ReservationsPreempted,
        Self::ReservationsReleased,
        Self::RegistrationsPreempted,
        Self::InquiryDataHasChanged,
        Self::ThinProvisioningSoftThresholdReached,
        Self::ReportedLunsDataHasChanged,
    ];

    /// The sense data that reports it.
    #[must_use]
    pub const fn sense(self) -> Sense {
        let asc = match self {
            // 29h/01h says more, and libiscsi's programs do not know it.
            Self::PowerOn | Self::Reset => {
                AdditionalSense::POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED
            }
            Self::BusDeviceReset => AdditionalSense::BUS_DEVICE_RESET_FUNCTION_OCCURRED,
            Self::NexusLoss => AdditionalSense::I_T_NEXUS_LOSS_OCCURRED,
            Self::CommandsCleared => AdditionalSense::COMMANDS_CLEARED_BY_ANOTHER_INITIATOR,
            Self::MediumMayHaveChanged => {
                AdditionalSense::NOT_READY_TO_READY_CHANGE_MEDIUM_MAY_HAVE_CHANGED
            }
            Self::CapacityDataHasChanged => AdditionalSense::CAPACITY_DATA_HAS_CHANGED,
            Self::ModeParametersChanged => AdditionalSense::MODE_PARAMETERS_CHANGED,
            Self::AsymmetricAccessStateChanged => AdditionalSense::ASYMMETRIC_ACCESS_STATE_CHANGED,
            Self::ReservationsPreempted => AdditionalSense::RESERVATIONS_PREEMPTED,
            Self::ReservationsReleased => AdditionalSense::RESERVATIONS_RELEASED,
            Self::RegistrationsPreempted => AdditionalSense::REGISTRATIONS_PREEMPTED,
            Self::InquiryDataHasChanged => AdditionalSense::INQUIRY_DATA_HAS_CHANGED,
            Self::ThinProvisioningSoftThresholdReached => {
                AdditionalSense::THIN_PROVISIONING_SOFT_THRESHOLD_REACHED
            }
            Self::ReportedLunsDataHasChanged => AdditionalSense::REPORTED_LUNS_DATA_HAS_CHANGED,
        };
        Sense::new(SenseKey::UnitAttention, asc)
    }

    const fn is_reset(self) -> bool {
        matches!(self, Self::PowerOn | Self::Reset | Self::BusDeviceReset | Self::NexusLoss)
    }

    const fn bit(self) -> u32 {
        1 << self as u8
    }
}

/// The pending conditions: an ordered set, each at most once, small enough to keep by value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UnitAttentions(u32);

impl UnitAttentions {
    /// Nothing pending.
    #[must_use]
    pub const fn new() -> Self {
        Self(0)
    }

    /// Establishes a condition. A reset replaces everything before it: whoever is told of a
    /// reset looks at everything anew. A weaker reset behind a stronger one says nothing more.
    pub fn push(&mut self, condition: UnitAttention) {
        if condition.is_reset() {
            let stronger = self.first().filter(|first| first.is_reset() && *first <= condition);
            self.0 = stronger.unwrap_or(condition).bit();
        } else {
            self.0 |= condition.bit();
        }
    }

    /// The condition to report next.
    #[must_use]
    pub fn first(&self) -> Option<UnitAttention> {
        if self.0 == 0 {
            return None;
        }
        UnitAttention::ALL.into_iter().find(|condition| self.0 & condition.bit() != 0)
    }

    /// Takes the condition to report next.
    pub fn pop(&mut self) -> Option<UnitAttention> {
        let first = self.first()?;
        self.0 &= !first.bit();
        Some(first)
    }

    /// Drops one condition, for instance REPORTED LUNS DATA HAS CHANGED after REPORT LUNS.
    pub fn clear(&mut self, condition: UnitAttention) {
        self.0 &= !condition.bit();
    }

    /// How many are pending.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.0.count_ones()
    }

    /// Nothing is pending.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0 == 0
    }
}
