//! What a command transfers, and how it ended.

use iscsi_proto::pdu::ScsiResponse;

/// What a command transfers.
#[derive(Debug, Clone, Copy)]
pub enum Data<'a> {
    None,
    In(usize),
    Out(&'a [u8]),
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub status: u8,
    pub sense: Vec<u8>,
    pub data: Vec<u8>,
    pub residual: i64,
}

impl Outcome {
    /// Sense key, additional sense code and qualifier; zeroes for GOOD.
    pub fn sense(&self) -> (u8, u8, u8) {
        match self.sense.as_slice() {
            [] => (0, 0, 0),
            sense => (sense[2] & 0x0f, sense[12], sense[13]),
        }
    }

    /// INFORMATION, if it is valid.
    pub fn information(&self) -> Option<u32> {
        let valid = self.sense.first()? & 0x80 != 0;
        valid.then(|| u32::from_be_bytes(self.sense[3..7].try_into().unwrap()))
    }

    #[track_caller]
    pub fn good(self) -> Vec<u8> {
        assert_eq!((self.status, self.sense()), (0, (0, 0, 0)), "a command failed");
        self.data
    }

    #[track_caller]
    pub fn check(&self, sense: (u8, u8, u8)) {
        assert_eq!((self.status, self.sense()), (2, sense));
    }
}

/// Positive if less came than was expected.
pub fn residual(flags: u8, count: u32) -> i64 {
    let count = i64::from(count);
    match flags & (ScsiResponse::OVERFLOW | ScsiResponse::UNDERFLOW) {
        0 => {
            assert_eq!(count, 0);
            0
        }
        ScsiResponse::UNDERFLOW => count,
        ScsiResponse::OVERFLOW => -count,
        _ => panic!("underflow and overflow at once"),
    }
}
