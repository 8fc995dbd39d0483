//! What APTPL keeps, as bytes.
//!
//! All numbers in network order:
//!
//! | Bytes | Field |
//! |---|---|
//! | 0 | version, 1 |
//! | 1 | bit 0: APTPL, bit 1: the information was lost |
//! | 2 | TYPE of the reservation, 0 without one |
//! | 3 | 0 |
//! | 4–5 | index of the registration that holds the reservation, FFFFh without a single holder |
//! | 6–7 | number of registrations |
//!
//! and for each registration its key (8 bytes), ISID (6), relative target port identifier (2),
//! target portal group tag (2), initiator name and target name (each a length of 2 bytes and the
//! name in UTF-8). There is no checksum: whoever stores the bytes has one.

use std::num::NonZeroU64;

use super::nexus::{InitiatorPort, Nexus};
use super::state::{Held, Registration, ReservationType, Reservations};
use crate::device::Port;
use crate::reply::Fields as _;

const VERSION: u8 = 1;
const APTPL: u8 = 0x01;
const LOST: u8 = 0x02;
const NO_HOLDER: u16 = u16::MAX;

/// Why bytes do not hold reservations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damaged {
    /// The layout is another one.
    #[error("reservations are stored with version {0}, not {VERSION}")]
    Version(u8),
    /// The end is missing.
    #[error("stored reservations are cut off at byte {0}")]
    Truncated(usize),
    /// Something stands behind the end.
    #[error("stored reservations end at byte {0}, and more follows")]
    Trailing(usize),
    /// A field has a value that is never written.
    #[error("stored reservations have a wrong {field} at byte {at}")]
    Field {
        /// Where the field starts.
        at: usize,
        /// What it is.
        field: &'static str,
    },
}

impl Reservations {
    /// The part that survives a power loss: registrations and reservation if APTPL is one. Not
    /// PRGENERATION, which starts at zero again, and not RESERVE(6) and RESERVE(10).
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let (registrations, held): (&[_], _) =
            if self.aptpl { (&self.registrations, self.reservation.as_ref()) } else { (&[], None) };
        let holder = held.and_then(|held| held.holder.as_ref());
        let holder = registrations.iter().position(|one| Some(&one.nexus) == holder);
        let mut out = Vec::new();
        out.u8(VERSION);
        out.u8(if self.aptpl { APTPL } else { 0 } | if self.lost { LOST } else { 0 });
        out.u8(held.map_or(0, |held| held.kind.code()));
        out.u8(0);
        out.u16(holder.and_then(|index| u16::try_from(index).ok()).unwrap_or(NO_HOLDER));
        out.u16(u16::try_from(registrations.len()).unwrap_or(u16::MAX));
        for Registration { nexus, key } in registrations {
            out.u64(key.get());
            out.extend_from_slice(&nexus.initiator.isid());
            out.u16(nexus.target.relative_target_port_id);
            out.u16(nexus.target.target_portal_group_tag);
            append_name(&mut out, nexus.initiator.name());
            append_name(&mut out, &nexus.target.target_name);
        }
        out
    }

    /// Reads what [`Self::to_bytes`] wrote, as after a power loss.
    ///
    /// Everything that it cannot have written is refused. [`Reservations::lost`] is what SPC-4
    /// wants in the place of what could not be read.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut reader = Reader { bytes, at: 0 };
        let [version] = reader.take()?;
        if version != VERSION {
            return Err(Damaged::Version(version));
        }
        let [flags] = reader.field("flags", |[flags]| matches!(flags, 0 | APTPL | 0x03))?;
        let kind_of = |code| ReservationType::from_code(code);
        let [kind] = reader.field("type", |[code]| code == 0 || kind_of(code).is_some())?;
        let kind = kind_of(kind);
        reader.field("reserved byte", |[byte]| byte == 0)?;
        let holder_at = reader.at;
        let holder = u16::from_be_bytes(reader.take()?);
        let count_at = reader.at;
        let count = u16::from_be_bytes(reader.take()?);
        let may_be_kept = flags == APTPL;
        if usize::from(count) > Self::MAX_REGISTRATIONS || (count != 0 && !may_be_kept) {
            return Err(Damaged::Field { at: count_at, field: "number of registrations" });
        }
        let mut registrations: Vec<Registration> = Vec::new();
        for _ in 0..count {
            let at = reader.at;
            let registration = reader.registration()?;
            if registrations.iter().any(|other| other.nexus == registration.nexus) {
                return Err(Damaged::Field { at, field: "second registration of a nexus" });
            }
            registrations.push(registration);
        }
        let single = kind.is_some_and(|kind| !kind.is_all_registrants());
        let holder = match registrations.get(usize::from(holder)) {
            Some(registration) if single => Some(registration.nexus.clone()),
            None if holder == NO_HOLDER && !single => None,
            _ => return Err(Damaged::Field { at: holder_at, field: "holder" }),
        };
        if kind.is_some() && registrations.is_empty() {
            return Err(Damaged::Field { at: 2, field: "type" });
        }
        if reader.at != bytes.len() {
            return Err(Damaged::Trailing(reader.at));
        }
        Ok(Self {
            registrations,
            reservation: kind.map(|kind| Held { kind, holder }),
            aptpl: flags & APTPL != 0,
            lost: flags & LOST != 0,
            ..Self::default()
        })
    }
}

fn append_name(out: &mut Vec<u8>, name: &str) {
    out.u16(u16::try_from(name.len()).unwrap_or(u16::MAX));
    out.extend_from_slice(name.as_bytes());
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn slice(&mut self, length: usize) -> Result<&'a [u8], Damaged> {
        let end = self.at.saturating_add(length);
        let slice = self.bytes.get(self.at..end).ok_or(Damaged::Truncated(self.bytes.len()))?;
        self.at = end;
        Ok(slice)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        let truncated = Damaged::Truncated(self.bytes.len());
        self.slice(N)?.first_chunk().copied().ok_or(truncated)
    }

    fn field<const N: usize>(
        &mut self,
        field: &'static str,
        is_right: impl FnOnce([u8; N]) -> bool,
    ) -> Result<[u8; N], Damaged> {
        let at = self.at;
        let value = self.take()?;
        if is_right(value) { Ok(value) } else { Err(Damaged::Field { at, field }) }
    }

    fn name(&mut self, field: &'static str) -> Result<&'a str, Damaged> {
        let at = self.at;
        let length = usize::from(u16::from_be_bytes(self.take()?));
        let name = std::str::from_utf8(self.slice(length)?).ok();
        name.filter(|name| !name.is_empty()).ok_or(Damaged::Field { at, field })
    }

    fn registration(&mut self) -> Result<Registration, Damaged> {
        let at = self.at;
        let key = NonZeroU64::new(u64::from_be_bytes(self.take()?));
        let key = key.ok_or(Damaged::Field { at, field: "reservation key" })?;
        let isid = self.take()?;
        let relative_target_port_id = u16::from_be_bytes(self.take()?);
        let target_portal_group_tag = u16::from_be_bytes(self.take()?);
        let at = self.at;
        let name = self.name("initiator name")?;
        let initiator = InitiatorPort::new(name, isid);
        if initiator.name() != name {
            return Err(Damaged::Field { at, field: "initiator name" });
        }
        let target_name = self.name("target name")?.to_owned();
        let target = Port { target_name, target_portal_group_tag, relative_target_port_id };
        Ok(Registration { nexus: Nexus { initiator, target }, key })
    }
}
