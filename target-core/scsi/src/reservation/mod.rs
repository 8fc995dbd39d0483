//! Reservations of one logical unit: persistent ones (SPC-4 §5.13, §6.15, §6.16), and those of
//! RESERVE and RELEASE (SPC-2 §7.21 to §7.24).
//!
//! [`Reservations`] is a plain value without a lock, a clock or a file. Its owner asks
//! [`Reservations::check`] in front of every command (nothing to ask while
//! [`Reservations::is_idle`]), lets it process the reservation commands, and does what the
//! [`Outcome`] says. What must survive a power loss goes through [`Reservations::to_bytes`].

mod bytes;
mod conflict;
mod legacy;
mod move_to;
mod nexus;
mod out;
mod parameters;
mod preempt;
mod read;
mod register;
mod reserve;
mod state;

pub use bytes::Damaged;
#[cfg(test)]
pub(crate) use conflict::describe;
pub use nexus::{InitiatorPort, Nexus, TransportId};
pub use parameters::parameter_list_length;
pub use state::{ReservationType, Reservations};

use crate::device::Port;
use crate::sense::Sense;
use crate::status::Status;
use crate::unit_attention::UnitAttention;

/// How a reservation command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// GOOD.
    Good,
    /// RESERVATION CONFLICT; nothing was changed.
    ReservationConflict,
    /// CHECK CONDITION with this sense data; nothing was changed.
    Check(Sense),
}

impl Verdict {
    /// The status that goes with it.
    #[must_use]
    pub const fn status(self) -> Status {
        match self {
            Self::Good => Status::Good,
            Self::ReservationConflict => Status::ReservationConflict,
            Self::Check(_) => Status::CheckCondition,
        }
    }
}

impl From<Sense> for Verdict {
    fn from(sense: Sense) -> Self {
        Self::Check(sense)
    }
}

/// What PERSISTENT RESERVE OUT leads to. Everything but `verdict` is empty unless it is
/// [`Verdict::Good`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Outcome {
    /// How the command ends.
    pub verdict: Verdict,
    /// Unit attention conditions to establish: RESERVATIONS PREEMPTED, RESERVATIONS RELEASED or
    /// REGISTRATIONS PREEMPTED. Nexuses without a session may be among them.
    pub attentions: Vec<(Nexus, UnitAttention)>,
    /// Nexuses whose commands for this logical unit are to be aborted before GOOD is sent
    /// (PREEMPT AND ABORT). The command's own nexus may be among them; the PERSISTENT RESERVE OUT
    /// itself is never aborted (SPC-4 §5.13.11.2.6).
    pub abort: Vec<Nexus>,
    /// What [`Reservations::to_bytes`] gives has changed: store it durably before GOOD is sent.
    pub persist: bool,
}

/// The ports around the logical unit, as far as a parameter list can name them.
pub trait Ports {
    /// The initiator ports known under this iSCSI name (ASCII letters in lower case): a TransportID
    /// without an ISID stands for all of them (SPC-4 §7.6.4.6). May be empty.
    fn initiators(&self, name: &str) -> Vec<InitiatorPort>;

    /// All target ports of the SCSI target device that the command came to.
    fn targets(&self) -> Vec<Port>;
}

#[cfg(test)]
mod tests;
