//! The commands of third-party copies, and units to copy between.

use std::sync::Arc;

use disk_image::{Durability, FaultImage, Image};
use scsi::Device;
use target_core::{LogicalUnit, UnitConfig};

use crate::initiator::{Data, Initiator, Outcome};
use crate::world::{BLOCK, Random, TARGET, World, memory};

pub const MIB: u64 = 1 << 20;

/// The NAA identifier of the unit that is LUN `lun` at first.
pub fn naa(lun: u16) -> [u8; 16] {
    let mut naa = *b"\x60\0\0\x01third-party\0";
    naa[15] = u8::try_from(lun).unwrap();
    naa
}

/// A unit that can be told from others.
pub fn unit(lun: u16, image: Arc<FaultImage>) -> Arc<LogicalUnit> {
    let blocks = image.size_bytes() / BLOCK as u64;
    let name = format!("disk{lun}");
    let device = Device::new(name.clone(), naa(lun), BLOCK as u32, blocks);
    LogicalUnit::new(UnitConfig::new(name, device, Ok(image)))
}

/// A world with LUNs 0 and up, each of them 8 MiB full of data of its own; their images.
pub fn full_units(count: u16) -> (World, Vec<Arc<FaultImage>>) {
    let world = World::new();
    let images: Vec<_> = (0..count)
        .map(|lun| {
            let image = memory(8 * MIB);
            let data = Random::new(u64::from(lun) + 1).bytes(8 << 20);
            let written = image.write(&[std::io::IoSlice::new(&data)], 0, Durability::Cached);
            written.unwrap();
            world.node.add_unit(TARGET, lun, unit(lun, image.clone())).unwrap();
            image
        })
        .collect();
    (world, images)
}

/// What is on an image.
pub fn contents(image: &FaultImage, blocks: std::ops::Range<u64>) -> Vec<u8> {
    let mut data = vec![0; usize::try_from(blocks.end - blocks.start).unwrap() * BLOCK];
    let slice = std::io::IoSliceMut::new(&mut data);
    image.read(&mut [slice], blocks.start * BLOCK as u64, disk_image::Wait::Block).unwrap();
    data
}

/// THIRD-PARTY COPY OUT with a list identifier in the CDB.
pub fn copy_out(service_action: u8, list_identifier: u32, length: usize) -> [u8; 16] {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1]) = (0x83, service_action);
    let at = if service_action == 0x1c { 2 } else { 6 };
    cdb[at..at + 4].copy_from_slice(&list_identifier.to_be_bytes());
    if service_action != 0x1c {
        cdb[10..14].copy_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
    }
    cdb
}

/// THIRD-PARTY COPY IN; `wide`: with a list identifier of four bytes.
pub fn copy_in(service_action: u8, list_identifier: u32, wide: bool) -> [u8; 16] {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1], cdb[12]) = (0x84, service_action, 4);
    if wide {
        cdb[2..6].copy_from_slice(&list_identifier.to_be_bytes());
    } else {
        cdb[2] = u8::try_from(list_identifier).unwrap();
    }
    cdb
}

fn with_ranges(mut list: Vec<u8>, ranges: &[(u64, u32)]) -> Vec<u8> {
    let at = list.len() - 2;
    list[at..].copy_from_slice(&u16::try_from(ranges.len() * 16).unwrap().to_be_bytes());
    for (lba, blocks) in ranges {
        list.extend(lba.to_be_bytes());
        list.extend(blocks.to_be_bytes());
        list.extend([0; 4]);
    }
    let length = u16::try_from(list.len() - 2).unwrap();
    list[..2].copy_from_slice(&length.to_be_bytes());
    list
}

/// The parameter list of POPULATE TOKEN.
pub fn populate_list(flags: u8, ranges: &[(u64, u32)]) -> Vec<u8> {
    let mut list = vec![0; 16];
    list[2] = flags;
    with_ranges(list, ranges)
}

/// The parameter list of WRITE USING TOKEN.
pub fn write_list(flags: u8, offset: u64, token: &[u8], ranges: &[(u64, u32)]) -> Vec<u8> {
    let mut list = vec![0; 536];
    list[2] = flags;
    list[8..16].copy_from_slice(&offset.to_be_bytes());
    list[16..528].copy_from_slice(token);
    with_ranges(list, ranges)
}

/// The block device zero ROD token.
pub fn zero_token() -> Vec<u8> {
    let mut token = vec![0; 512];
    token[..8].copy_from_slice(&[0xff, 0xff, 0, 1, 0, 0, 0x01, 0xf8]);
    token
}

pub const IMMED: u8 = 1;
pub const DEL_TKN: u8 = 2;

/// What RECEIVE COPY STATUS(LID4) and RECEIVE ROD TOKEN INFORMATION say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub status: u8,
    pub units: u8,
    pub count: u64,
    pub sense: (u8, u8, u8),
    pub token: Vec<u8>,
}

impl Initiator {
    pub fn populate(&mut self, lun: u16, id: u32, flags: u8, ranges: &[(u64, u32)]) -> Outcome {
        let list = populate_list(flags, ranges);
        self.execute(lun, &copy_out(0x10, id, list.len()), Data::Out(&list))
    }

    /// POPULATE TOKEN; the token.
    pub fn token(&mut self, lun: u16, ranges: &[(u64, u32)]) -> Vec<u8> {
        self.populate(lun, 1, 0, ranges).good();
        let standing = self.standing(lun, 1);
        let blocks = ranges.iter().map(|it| u64::from(it.1)).sum();
        assert_eq!((standing.status, standing.units, standing.count), (1, 0xf1, blocks));
        assert_eq!(standing.token.len(), 512);
        standing.token
    }

    pub fn start_write(
        &mut self,
        lun: u16,
        id: u32,
        (flags, offset): (u8, u64),
        token: &[u8],
        ranges: &[(u64, u32)],
    ) -> u32 {
        let list = write_list(flags, offset, token, ranges);
        self.start(lun, &copy_out(0x11, id, list.len()), Data::Out(&list))
    }

    /// WRITE USING TOKEN from the start of the token's data.
    pub fn write_using(&mut self, lun: u16, token: &[u8], ranges: &[(u64, u32)]) -> Outcome {
        let tag = self.start_write(lun, 2, (0, 0), token, ranges);
        self.finish(tag)
    }

    /// RECEIVE ROD TOKEN INFORMATION.
    pub fn standing(&mut self, lun: u16, id: u32) -> Standing {
        let data = self.execute(lun, &copy_in(0x07, id, true), Data::In(1024)).good();
        let length = u32::from_be_bytes(data[..4].try_into().unwrap()) as usize;
        assert_eq!(data.len(), length + 4);
        let sense = &data[32..32 + usize::from(data[13])];
        let tokens = &data[32 + sense.len()..];
        let descriptors = u32::from_be_bytes(tokens[..4].try_into().unwrap()) as usize;
        assert_eq!(tokens.len(), descriptors + 4);
        Standing {
            status: data[5],
            units: data[15],
            count: u64::from_be_bytes(data[16..24].try_into().unwrap()),
            sense: if sense.is_empty() { (0, 0, 0) } else { (sense[2] & 15, sense[12], sense[13]) },
            token: tokens.get(6..).unwrap_or_default().to_vec(),
        }
    }
}
