//! The blocks of a capture file (draft-ietf-opsawg-pcapng), little-endian.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// LINKTYPE_RAW: packets begin with their IP header.
const LINKTYPE_RAW: u16 = 101;
/// Option codes.
const SHB_USERAPPL: u16 = 4;
const IF_NAME: u16 = 2;
const IF_TSRESOL: u16 = 9;
const EPB_FLAGS: u16 = 2;
const ISB_IFRECV: u16 = 4;
const ISB_IFDROP: u16 = 5;

/// Which way a packet went, as an Enhanced Packet Block's flags have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Inbound = 1,
    Outbound = 2,
}

/// A block that is being written.
struct Block(Vec<u8>);

impl Block {
    fn new(block_type: u32, capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(capacity + 64);
        bytes.extend_from_slice(&block_type.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        Self(bytes)
    }

    fn put(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn pad(mut self) -> Self {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn option(self, code: u16, value: &[u8]) -> Self {
        // Longer than any value here.
        let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
        self.put(&code.to_le_bytes()).put(&length.to_le_bytes()).put(value).pad()
    }

    /// Ends the options, and puts the length at both ends.
    fn finish(self) -> Vec<u8> {
        let Self(mut bytes) = self.put(&[0; 4]);
        let length = u32::try_from(bytes.len() + 4).unwrap_or(u32::MAX).to_le_bytes();
        if let Some(place) = bytes.get_mut(4..8) {
            place.copy_from_slice(&length);
        }
        bytes.extend_from_slice(&length);
        bytes
    }
}

/// Nanoseconds since 1970, as two halves.
fn timestamp(time: SystemTime) -> [u8; 8] {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let nanoseconds = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
    let [a, b, c, d, e, f, g, h] = nanoseconds.to_be_bytes();
    // High half first, each half little-endian.
    [d, c, b, a, h, g, f, e]
}

/// Section Header and Interface Description: what every file begins with.
pub(super) fn begin(interface: &str) -> Vec<u8> {
    let application = concat!("lund ", env!("CARGO_PKG_VERSION"));
    let section = Block::new(0x0a0d_0d0a, 64)
        .put(&0x1a2b_3c4d_u32.to_le_bytes())
        .put(&1_u16.to_le_bytes())
        .put(&0_u16.to_le_bytes())
        // How long the section is is not known.
        .put(&u64::MAX.to_le_bytes())
        .option(SHB_USERAPPL, application.as_bytes())
        .finish();
    let interface = Block::new(1, interface.len())
        .put(&LINKTYPE_RAW.to_le_bytes())
        .put(&[0; 6])
        .option(IF_NAME, interface.as_bytes())
        .option(IF_TSRESOL, &[9])
        .finish();
    [section, interface].concat()
}

/// Enhanced Packet.
pub(super) fn packet(time: SystemTime, direction: Direction, packet: &[u8]) -> Vec<u8> {
    let length = u32::try_from(packet.len()).unwrap_or(u32::MAX).to_le_bytes();
    Block::new(6, packet.len())
        .put(&0_u32.to_le_bytes())
        .put(&timestamp(time))
        .put(&length)
        .put(&length)
        .put(packet)
        .pad()
        .option(EPB_FLAGS, &(direction as u32).to_le_bytes())
        .finish()
}

/// Interface Statistics: packets there were, and those that the capture lacks.
pub(super) fn end(time: SystemTime, packets: u64, dropped: u64) -> Vec<u8> {
    Block::new(5, 64)
        .put(&0_u32.to_le_bytes())
        .put(&timestamp(time))
        .option(ISB_IFRECV, &packets.to_le_bytes())
        .option(ISB_IFDROP, &dropped.to_le_bytes())
        .finish()
}
