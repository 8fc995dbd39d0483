//! Tags and names that travel in headers.

use std::fmt;

/// Initiator Task Tag (RFC 7143 §11.2.1.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InitiatorTaskTag(pub u32);

impl InitiatorTaskTag {
    /// No task.
    pub const RESERVED: Self = Self(0xffff_ffff);
}

/// Target Transfer Tag (RFC 7143 §11.7.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TargetTransferTag(pub u32);

impl TargetTransferTag {
    /// No transfer.
    pub const RESERVED: Self = Self(0xffff_ffff);
}

/// Initiator Session ID (RFC 7143 §11.12.5).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Isid(pub [u8; 6]);

impl fmt::Display for Isid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Isid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Isid({self})")
    }
}

/// Target Session Identifying Handle (RFC 7143 §11.12.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tsih(pub u16);

impl Tsih {
    /// What an initiator sends to start a session.
    pub const NEW: Self = Self(0);
}

/// Connection ID (RFC 7143 §11.12.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cid(pub u16);

/// A logical unit number as on the wire: eight bytes, big-endian (SAM-5 §4.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lun(pub u64);

impl Lun {
    /// The single-level form of a LUN: peripheral device addressing up to 255, flat space
    /// addressing from there (SAM-5 §4.7.7.2, §4.7.7.3). Numbers end at 16383.
    #[must_use]
    pub fn from_number(number: u16) -> Self {
        let first = if number < 256 { number } else { 0x4000 | (number & 0x3fff) };
        Self(u64::from(first) << 48)
    }

    /// The number of a single-level LUN (SAM-5 §4.7.7); `None` for any other form.
    #[must_use]
    pub fn number(self) -> Option<u16> {
        // The first of those below, which is what nearly all initiators use.
        if self.0 & !(0xff << 48) == 0 {
            return u16::try_from(self.0 >> 48).ok();
        }
        match self.0.to_be_bytes() {
            // Peripheral device addressing: the bus must be 0.
            [0, number, 0, 0, 0, 0, 0, 0] => Some(number.into()),
            // Flat space addressing.
            [high @ 0x40..=0x7f, low, 0, 0, 0, 0, 0, 0] => {
                Some(u16::from_be_bytes([high & 0x3f, low]))
            }
            // Extended flat space addressing, with the numbers that there are.
            [0xd2, 0, high @ 0x00..=0x3f, low, 0, 0, 0, 0] => Some(u16::from_be_bytes([high, low])),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Lun;

    #[test]
    fn luns_survive_their_wire_form() {
        for number in [0, 1, 255, 256, 511, 16383] {
            assert_eq!(Lun::from_number(number).number(), Some(number));
        }
        assert_eq!(Lun::from_number(1).0, 0x0001_0000_0000_0000);
        assert_eq!(Lun::from_number(256).0, 0x4100_0000_0000_0000);
        // Flat space addressing of a small number is the same unit.
        assert_eq!(Lun(0x4005_0000_0000_0000).number(), Some(5));
        // So is extended flat space addressing (D2h and three bytes).
        assert_eq!(Lun(0xd200_0005_0000_0000).number(), Some(5));
        assert_eq!(Lun(0xd200_3fff_0000_0000).number(), Some(16383));
        for other in [
            // Another bus, a well known unit, two levels, logical unit addressing.
            0x0101_0000_0000_0000,
            0xc101_0000_0000_0000,
            0x0001_0001_0000_0000,
            0x4005_0000_0000_0001,
            0x8005_0000_0000_0000,
            // Numbers that no unit has, and other lengths and methods.
            0xd200_4000_0000_0000,
            0xd201_0005_0000_0000,
            0xd200_0005_0001_0000,
            0xe200_0000_0500_0000,
            0xd100_0005_0000_0000,
        ] {
            assert_eq!(Lun(other).number(), None, "{other:016x}");
        }
    }
}
