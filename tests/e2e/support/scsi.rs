//! The commands that the tests need (SPC-4, SBC-3).

use super::Session;

pub(crate) const NOT_READY: (u8, u8, u8) = (0x2, 0x04, 0x03);
pub(crate) const MEDIUM_ERROR: (u8, u8, u8) = (0x3, 0x11, 0x00);
pub(crate) const ILLEGAL_REQUEST: u8 = 0x5;
pub(crate) const LUN_NOT_SUPPORTED: (u8, u8, u8) = (ILLEGAL_REQUEST, 0x25, 0x00);
pub(crate) const REPORTED_LUNS_CHANGED: (u8, u8, u8) = (0x6, 0x3f, 0x0e);
pub(crate) const SPACE_ALLOCATION_FAILED: (u8, u8, u8) = (0x7, 0x27, 0x07);

const UNIT_ATTENTION: u8 = 0x6;
const FUA: u8 = 0x08;

/// How a command ended.
#[derive(Debug, Clone)]
pub(crate) struct Done {
    pub(crate) status: u8,
    pub(crate) data: Vec<u8>,
    pub(crate) sense: Vec<u8>,
}

impl Done {
    /// Sense key, additional sense code and qualifier of a CHECK CONDITION.
    pub(crate) fn check(&self) -> Option<(u8, u8, u8)> {
        if self.status != 0x02 {
            return None;
        }
        let sense = &self.sense;
        match sense[0] & 0x7f {
            0x70 => Some((sense[2] & 0xf, sense[12], sense[13])),
            0x72 => Some((sense[1] & 0xf, sense[2], sense[3])),
            other => panic!("response code {other:#x}"),
        }
    }

    #[track_caller]
    pub(crate) fn good(self) -> Vec<u8> {
        assert_eq!(self.status, 0, "{:x?}", self.check());
        self.data
    }
}

impl Session {
    pub(crate) fn ready(&mut self, lun: u16) -> Done {
        self.run(lun, &[0; 6], 0).unwrap()
    }

    /// Fetches the unit attention conditions of a LUN; the last answer is something else.
    pub(crate) fn settle(&mut self, lun: u16) -> Vec<(u8, u8, u8)> {
        let mut told = Vec::new();
        while let Some(check) = self.ready(lun).check().filter(|it| it.0 == UNIT_ATTENTION) {
            told.push(check);
            assert!(told.len() < 16, "{told:x?}");
        }
        told
    }

    pub(crate) fn inquiry(&mut self, lun: u16) -> Vec<u8> {
        self.run(lun, &[0x12, 0, 0, 0, 96, 0], 96).unwrap().good()
    }

    pub(crate) fn vpd(&mut self, lun: u16, page: u8) -> Vec<u8> {
        self.run(lun, &[0x12, 1, page, 1, 0, 0], 256).unwrap().good()
    }

    /// Number and length of the logical blocks.
    pub(crate) fn capacity(&mut self, lun: u16) -> (u64, u32) {
        let mut cdb = [0; 16];
        (cdb[0], cdb[1], cdb[13]) = (0x9e, 0x10, 32);
        let data = self.run(lun, &cdb, 32).unwrap().good();
        let last = u64::from_be_bytes(data[..8].try_into().unwrap());
        (last + 1, u32::from_be_bytes(data[8..12].try_into().unwrap()))
    }

    /// READ(16) of so many blocks of 512 bytes.
    pub(crate) fn try_read(&mut self, lun: u16, lba: u64, blocks: u32) -> std::io::Result<Done> {
        self.run(lun, &long(0x88, 0, lba, blocks), blocks * 512)
    }

    /// Sends so many of them, and waits for no answer.
    pub(crate) fn start_reads(&mut self, count: u32, blocks: u32) {
        for _ in 0..count {
            self.start(0, &long(0x88, 0, 0, blocks), blocks * 512).unwrap();
        }
    }

    #[track_caller]
    pub(crate) fn read(&mut self, lun: u16, lba: u64, blocks: u32) -> Vec<u8> {
        self.try_read(lun, lba, blocks).unwrap().good()
    }

    /// WRITE(16) of whole blocks of 512 bytes.
    pub(crate) fn try_write(&mut self, lun: u16, lba: u64, data: &[u8]) -> std::io::Result<Done> {
        let blocks = u32::try_from(data.len() / 512).unwrap();
        self.run_with(lun, &long(0x8a, 0, lba, blocks), data)
    }

    #[track_caller]
    pub(crate) fn write(&mut self, lun: u16, lba: u64, data: &[u8]) {
        self.try_write(lun, lba, data).unwrap().good();
    }

    /// WRITE(16) that is durable when it is answered.
    #[track_caller]
    pub(crate) fn write_through(&mut self, lun: u16, lba: u64, data: &[u8]) {
        let blocks = u32::try_from(data.len() / 512).unwrap();
        self.run_with(lun, &long(0x8a, FUA, lba, blocks), data).unwrap().good();
    }

    /// SYNCHRONIZE CACHE(16) of everything.
    #[track_caller]
    pub(crate) fn synchronize(&mut self, lun: u16) {
        self.run(lun, &long(0x91, 0, 0, 0), 0).unwrap().good();
    }

    /// The LUNs that are reported.
    pub(crate) fn report_luns(&mut self) -> Vec<u16> {
        let mut cdb = [0; 12];
        (cdb[0], cdb[8]) = (0xa0, 0x10);
        let data = self.run(0, &cdb, 4096).unwrap().good();
        let lun = |entry: &[u8]| u16::from_be_bytes([entry[0], entry[1]]);
        data[8..].chunks_exact(8).map(lun).collect()
    }
}

/// A CDB of 16 bytes.
fn long(operation: u8, flags: u8, lba: u64, blocks: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1]) = (operation, flags);
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
    cdb
}
