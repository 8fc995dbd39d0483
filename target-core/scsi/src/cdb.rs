//! A command descriptor block as one number, so that fields are shifts and the check of all
//! reserved bits is one AND.

/// The first 16 bytes of a CDB, byte 0 most significant; missing bytes are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cdb(u128);

impl Cdb {
    /// Takes up to 16 bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        if let Some(whole) = bytes.first_chunk::<16>() {
            return Self(u128::from_be_bytes(*whole));
        }
        let mut padded = [0; 16];
        for (to, from) in padded.iter_mut().zip(bytes) {
            *to = *from;
        }
        Self(u128::from_be_bytes(padded))
    }

    /// All bits; byte 0 is the most significant.
    #[must_use]
    pub const fn bits(self) -> u128 {
        self.0
    }

    /// OPERATION CODE.
    #[must_use]
    pub const fn operation_code(self) -> u8 {
        self.byte(0)
    }

    /// SERVICE ACTION, where the command has one in byte 1.
    #[must_use]
    pub const fn service_action(self) -> u8 {
        self.byte(1) & 0x1f
    }

    /// LOGICAL BLOCK ADDRESS, in the commands that read or write blocks; for messages.
    #[must_use]
    pub fn logical_block_address(self) -> Option<u64> {
        use crate::commands::Needs;
        let command = crate::commands::lookup(self)?;
        let names_blocks = matches!(command.needs, Needs::Medium | Needs::WritableMedium)
            && !matches!(command.operation_code, 0x00 | 0x04 | 0x25 | 0x42 | 0x48 | 0x83);
        names_blocks.then(|| crate::read_write::Run::of(self).lba)
    }

    pub(crate) const fn byte(self, at: u32) -> u8 {
        let [.., byte] = self.field(at, 1);
        byte
    }

    pub(crate) const fn u16_at(self, at: u32) -> u16 {
        let [.., a, b] = self.field(at, 2);
        u16::from_be_bytes([a, b])
    }

    pub(crate) const fn u32_at(self, at: u32) -> u32 {
        let [.., a, b, c, d] = self.field(at, 4);
        u32::from_be_bytes([a, b, c, d])
    }

    pub(crate) const fn u64_at(self, at: u32) -> u64 {
        let [.., a, b, c, d, e, f, g, h] = self.field(at, 8);
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    pub(crate) const fn bit(self, at: u32, mask: u8) -> bool {
        self.byte(at) & mask != 0
    }

    /// The bytes up to the end of a field; the field itself is their tail.
    const fn field(self, at: u32, length: u32) -> [u8; 16] {
        (self.0 >> (8 * (16 - at - length))).to_be_bytes()
    }
}
