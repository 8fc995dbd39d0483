//! CRC32C as RFC 7143 §13.1 wants it: over pieces, so that nothing is gathered for it.

/// A digest over bytes that come in pieces.
#[derive(Debug, Clone, Copy, Default)]
pub struct Digest(u32);

impl Digest {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0 = crc32c::crc32c_append(self.0, bytes);
    }

    /// The digest of all bytes so far.
    #[must_use]
    pub const fn value(self) -> u32 {
        self.0
    }

    /// The digest as it goes over the wire.
    #[must_use]
    pub const fn to_wire(self) -> [u8; 4] {
        self.0.to_le_bytes()
    }
}

/// The digest of one run of bytes.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// Reads a digest from the wire.
#[must_use]
pub const fn from_wire(bytes: [u8; 4]) -> u32 {
    u32::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::{Digest, crc32c};

    /// The vectors of RFC 3720 appendix B.4, as they stand on the wire.
    #[test]
    fn the_published_vectors_match() {
        let ascending: Vec<u8> = (0..32).collect();
        let descending: Vec<u8> = (0..32).rev().collect();
        for (bytes, wire) in [
            (vec![0; 32], [0xaa, 0x36, 0x91, 0x8a]),
            (vec![0xff; 32], [0x43, 0xab, 0xa8, 0x62]),
            (ascending, [0x4e, 0x79, 0xdd, 0x46]),
            (descending, [0x5c, 0xdb, 0x3f, 0x11]),
        ] {
            assert_eq!(crc32c(&bytes).to_le_bytes(), wire);
            let mut pieces = Digest::default();
            bytes.chunks(5).for_each(|piece| pieces.update(piece));
            assert_eq!(pieces.to_wire(), wire);
        }
    }
}
