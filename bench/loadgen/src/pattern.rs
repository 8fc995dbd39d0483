//! What is written: every logical block begins with its address and ends with the complement; next to
//! both stands a number that is another one in each write. So a block that is shifted or torn shows.

use anyhow::{Result, bail};

use crate::pdu::be64;

/// Fills a buffer with bytes that do not compress to nothing.
pub(crate) fn noise(buffer: &mut [u8], seed: u64) {
    let mut random = Random::new(seed);
    for chunk in buffer.chunks_mut(8) {
        let bytes = random.next().to_ne_bytes();
        for (to, from) in chunk.iter_mut().zip(bytes) {
            *to = from;
        }
    }
}

/// Marks each block of `buffer`, the first of which is block `lba`.
pub(crate) fn stamp(buffer: &mut [u8], mut lba: u64, block: usize, write: u64) {
    for block in buffer.chunks_exact_mut(block) {
        if let Some(head) = block.first_chunk_mut::<16>() {
            *head = pair(lba, write);
        }
        if let Some(tail) = block.last_chunk_mut::<16>() {
            *tail = pair(write, !lba);
        }
        lba += 1;
    }
}

fn pair(first: u64, second: u64) -> [u8; 16] {
    (u128::from(first) << 64 | u128::from(second)).to_be_bytes()
}

/// Checks the marks of a piece that begins `offset` bytes behind the start of block `lba`.
pub(crate) fn check(piece: &[u8], lba: u64, offset: usize, block: usize) -> Result<()> {
    // A mark cut by the end of a PDU is left out; whole ones are far more.
    let mut at = 0;
    while at < piece.len() {
        let position = offset + at;
        let number = lba + (position / block) as u64;
        let inside = position % block;
        if inside == 0 && piece.len() - at >= 8 && be64(piece, at) != number {
            bail!("block {number} begins with the mark of block {}", be64(piece, at));
        }
        let to_end = block - inside;
        if to_end >= 8 && piece.len() - at >= to_end {
            let tail = be64(piece, at + to_end - 8);
            if tail != !number {
                bail!("block {number} ends with the mark of block {}", !tail);
            }
        }
        if inside == 0 && piece.len() - at >= block {
            let (head, tail) = (be64(piece, at + 8), be64(piece, at + block - 16));
            if head != tail {
                bail!("block {number} begins as write {head:#x} and ends as {tail:#x}");
            }
        }
        at += to_end;
    }
    Ok(())
}

/// xorshift64*: the addresses need be neither secret nor perfect.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`, by multiplication: a division costs more.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.next()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stamped_passes_in_pieces_too() {
        let mut buffer = vec![0; 4096];
        noise(&mut buffer, 1);
        stamp(&mut buffer, 800, 512, 7);
        check(&buffer, 800, 0, 512).unwrap();
        check(&buffer[..1000], 800, 0, 512).unwrap();
        check(&buffer[1000..], 800, 1000, 512).unwrap();
    }

    #[test]
    fn a_wrong_block_is_found() {
        let mut buffer = vec![0; 4096];
        stamp(&mut buffer, 800, 512, 7);
        assert!(check(&buffer, 801, 0, 512).is_err());
        stamp(&mut buffer[1024..1536], 5, 512, 7);
        assert!(check(&buffer, 800, 0, 512).is_err());
        stamp(&mut buffer, 800, 512, 7);
        buffer[4095] ^= 1;
        assert!(check(&buffer, 800, 0, 512).is_err());
        // The one half of another write of the same block.
        stamp(&mut buffer, 800, 512, 7);
        let mut other = buffer.clone();
        stamp(&mut other, 800, 512, 8);
        check(&other, 800, 0, 512).unwrap();
        buffer[600..1024].copy_from_slice(&other[600..1024]);
        assert!(check(&buffer, 800, 0, 512).is_err());
    }

    #[test]
    fn random_stays_below() {
        let mut random = Random::new(0);
        assert!((0..1000).all(|_| random.below(7) < 7));
    }
}
