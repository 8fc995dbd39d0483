//! Sense data (SPC-4 §4.5): a value, and its two encodings.

use crate::asc::AdditionalSense;

/// SENSE KEY (SPC-4 §4.5.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SenseKey {
    /// Nothing to report.
    NoSense = 0x0,
    /// Succeeded after recovery.
    RecoveredError = 0x1,
    /// The logical unit is not accessible.
    NotReady = 0x2,
    /// The medium failed.
    MediumError = 0x3,
    /// The device failed.
    HardwareError = 0x4,
    /// The command was wrong.
    IllegalRequest = 0x5,
    /// Something happened that the initiator must know.
    UnitAttention = 0x6,
    /// The blocks are protected from this access.
    DataProtect = 0x7,
    /// Blank medium.
    BlankCheck = 0x8,
    /// A copy was aborted.
    CopyAborted = 0xa,
    /// The command was aborted; it may be retried.
    AbortedCommand = 0xb,
    /// Data did not match the medium.
    Miscompare = 0xe,
    /// Nothing left to do (SPC-4: COMPLETED).
    Completed = 0xf,
}

/// Which field was wrong (SPC-4 §4.5.2.4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldPointer {
    /// The field is in the CDB (C/D = 1), not in the parameter list.
    pub cdb: bool,
    /// First byte of the field.
    pub byte: u16,
    /// Most significant bit of the field within that byte, if it is no whole byte.
    pub bit: Option<u8>,
}

/// How sense data is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SenseFormat {
    /// Response codes 70h and 71h (SPC-4 §4.5.3).
    #[default]
    Fixed,
    /// Response codes 72h and 73h (SPC-4 §4.5.2).
    Descriptor,
}

/// Everything that CHECK CONDITION says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sense {
    /// SENSE KEY.
    pub key: SenseKey,
    /// ADDITIONAL SENSE CODE and QUALIFIER.
    pub asc: AdditionalSense,
    /// The wrong field of an ILLEGAL REQUEST.
    pub field: Option<FieldPointer>,
    /// INFORMATION: for SBC the LBA, or the offset of a miscompare.
    pub information: Option<u64>,
    /// COMMAND-SPECIFIC INFORMATION.
    pub command_specific: Option<u64>,
    /// About an earlier command, not about this one.
    pub deferred: bool,
    /// PROGRESS INDICATION in 65536ths (NOT READY, NO SENSE).
    pub progress: Option<u16>,
}

impl Sense {
    /// The longest encoding.
    pub const MAX_LENGTH: usize = 40;

    /// Sense data without any extras.
    #[must_use]
    pub const fn new(key: SenseKey, asc: AdditionalSense) -> Self {
        Self {
            key,
            asc,
            field: None,
            information: None,
            command_specific: None,
            deferred: false,
            progress: None,
        }
    }

    /// NO SENSE.
    pub const NONE: Self =
        Self::new(SenseKey::NoSense, AdditionalSense::NO_ADDITIONAL_SENSE_INFORMATION);

    /// ILLEGAL REQUEST without a field pointer.
    #[must_use]
    pub const fn illegal(asc: AdditionalSense) -> Self {
        Self::new(SenseKey::IllegalRequest, asc)
    }

    /// INVALID FIELD IN CDB: the field that starts at `byte`, with most significant bit `bit`.
    #[must_use]
    pub const fn invalid_field_in_cdb(byte: u16, bit: Option<u8>) -> Self {
        let field = Some(FieldPointer { cdb: true, byte, bit });
        Self { field, ..Self::illegal(AdditionalSense::INVALID_FIELD_IN_CDB) }
    }

    /// INVALID FIELD IN PARAMETER LIST: the field that starts at `byte` of the list.
    #[must_use]
    pub const fn invalid_field_in_parameter_list(byte: u16, bit: Option<u8>) -> Self {
        let field = Some(FieldPointer { cdb: false, byte, bit });
        Self { field, ..Self::illegal(AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST) }
    }

    /// LOGICAL BLOCK ADDRESS OUT OF RANGE.
    #[must_use]
    pub const fn lba_out_of_range(lba: u64) -> Self {
        Self::illegal(AdditionalSense::LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE).with_information(lba)
    }

    /// MISCOMPARE DURING VERIFY OPERATION; `offset` is that of the first different byte in the
    /// Data-Out Buffer.
    #[must_use]
    pub const fn miscompare(offset: u64) -> Self {
        Self::new(SenseKey::Miscompare, AdditionalSense::MISCOMPARE_DURING_VERIFY_OPERATION)
            .with_information(offset)
    }

    /// Adds INFORMATION.
    #[must_use]
    pub const fn with_information(mut self, information: u64) -> Self {
        self.information = Some(information);
        self
    }

    /// Adds PROGRESS INDICATION.
    #[must_use]
    pub const fn with_progress(mut self, progress: u16) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Writes the sense data and returns its length: 18 bytes fixed, 8 to 40 with descriptors.
    ///
    /// The fixed format has 4 bytes for INFORMATION; what does not fit is left out (VALID = 0).
    pub fn encode(&self, format: SenseFormat, out: &mut [u8; Self::MAX_LENGTH]) -> usize {
        match format {
            SenseFormat::Fixed => self.encode_fixed(out),
            SenseFormat::Descriptor => self.encode_descriptors(out),
        }
    }

    fn encode_fixed(&self, out: &mut [u8; Self::MAX_LENGTH]) -> usize {
        let information = self.information.and_then(|value| u32::try_from(value).ok());
        let valid = u8::from(information.is_some()) << 7;
        let [i0, i1, i2, i3] = information.unwrap_or(0).to_be_bytes();
        let specific = self.command_specific.and_then(|value| u32::try_from(value).ok());
        let [c0, c1, c2, c3] = specific.unwrap_or(0).to_be_bytes();
        let [s0, s1, s2] = self.sense_key_specific().unwrap_or_default();
        let AdditionalSense(asc, ascq) = self.asc;
        let response = valid | 0x70 | u8::from(self.deferred);
        let bytes = [
            response,
            0,
            self.key as u8,
            i0,
            i1,
            i2,
            i3,
            10,
            c0,
            c1,
            c2,
            c3,
            asc,
            ascq,
            0,
            s0,
            s1,
            s2,
        ];
        append(out, 0, &bytes)
    }

    fn encode_descriptors(&self, out: &mut [u8; Self::MAX_LENGTH]) -> usize {
        let AdditionalSense(asc, ascq) = self.asc;
        let mut end = 8;
        if let Some(information) = self.information {
            end = append(out, end, &[0x00, 0x0a, 0x80, 0]);
            end = append(out, end, &information.to_be_bytes());
        }
        if let Some(specific) = self.command_specific {
            end = append(out, end, &[0x01, 0x0a, 0, 0]);
            end = append(out, end, &specific.to_be_bytes());
        }
        if let Some([s0, s1, s2]) = self.sense_key_specific() {
            end = append(out, end, &[0x02, 0x06, 0, 0, s0, s1, s2, 0]);
        }
        let additional = u8::try_from(end - 8).unwrap_or(0);
        let response = 0x72 | u8::from(self.deferred);
        append(out, 0, &[response, self.key as u8, asc, ascq, 0, 0, 0, additional]);
        end
    }

    /// SENSE KEY SPECIFIC (SPC-4 §4.5.2.4).
    fn sense_key_specific(&self) -> Option<[u8; 3]> {
        if let Some(field) = self.field {
            let [high, low] = field.byte.to_be_bytes();
            let bit = field.bit.map_or(0, |bit| 0x08 | (bit & 0x07));
            return Some([0x80 | u8::from(field.cdb) << 6 | bit, high, low]);
        }
        let [high, low] = self.progress?.to_be_bytes();
        Some([0x80, high, low])
    }
}

/// Copies `bytes` to `out` from `at` on; returns where they end.
fn append(out: &mut [u8; Sense::MAX_LENGTH], at: usize, bytes: &[u8]) -> usize {
    let end = at + bytes.len();
    if let Some(room) = out.get_mut(at..end) {
        room.copy_from_slice(bytes);
    }
    end
}
