//! How a copy stands: the parameter data of RECEIVE COPY STATUS, RECEIVE COPY FAILURE DETAILS and
//! RECEIVE ROD TOKEN INFORMATION (SPC-4 §6.18 to §6.24).

use super::rod::TOKEN_LENGTH;
use crate::plan::CopyReport;
use crate::reply::{Fields as _, truncate};

/// COPY OPERATION STATUS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum CopyState {
    /// Done without errors.
    Completed = 0x01,
    /// Done with errors.
    Failed = 0x02,
    /// Its command waits for it.
    InForeground = 0x11,
    /// Its command was IMMED.
    InBackground = 0x12,
    /// It was ended by something else than an error.
    Terminated = 0x60,
}

impl CopyState {
    /// Nothing will change any more.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Terminated)
    }

    /// COPY COMMAND STATUS, the older form.
    fn lid1(self) -> u8 {
        match self {
            Self::InForeground | Self::InBackground => 0x00,
            Self::Completed => 0x01,
            Self::Failed | Self::Terminated => 0x02,
        }
    }
}

/// How much has been written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transferred {
    /// Bytes.
    Bytes(u64),
    /// Logical blocks, what tokens are counted in.
    Blocks(u64),
}

/// How a copy stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyStatus<'a> {
    /// Of the command that began it.
    pub service_action: u8,
    /// How it ended, or how it is under way.
    pub state: CopyState,
    /// SEGMENTS PROCESSED.
    pub segments: u16,
    /// TRANSFER COUNT.
    pub transferred: Transferred,
    /// SCSI status with which it ended.
    pub completion_status: u8,
    /// Sense data with which it ended.
    pub sense: &'a [u8],
    /// The token that it made.
    pub token: Option<&'a [u8; TOKEN_LENGTH]>,
}

/// ESTIMATED STATUS UPDATE DELAY in milliseconds while a copy is under way.
const UPDATE_DELAY: u32 = 200;

impl CopyStatus<'_> {
    /// The answer to a command that asks for it, in the form for identifiers of one byte or four.
    pub fn reply(
        &self,
        report: CopyReport,
        long: bool,
        allocation_length: u32,
        reply: &mut Vec<u8>,
    ) {
        reply.clear();
        match report {
            CopyReport::Status if long => self.long_status(reply),
            CopyReport::Status => self.short_status(reply),
            CopyReport::FailureDetails => self.failure_details(reply),
            CopyReport::RodToken => {
                self.long_status(reply);
                self.tokens(reply);
            }
        }
        truncate(reply, allocation_length);
    }

    fn short_status(&self, reply: &mut Vec<u8>) {
        reply.u32(0);
        reply.u8(self.state.lid1());
        reply.u16(self.segments);
        // TRANSFER COUNT UNITS: bytes, KiB, MiB, …: the smallest in which the count fits.
        let Transferred::Bytes(mut count) = self.transferred else { return };
        let mut units = 0;
        while count > u64::from(u32::MAX) {
            (units, count) = (units + 1, count >> 10);
        }
        reply.u8(units);
        reply.u32(u32::try_from(count).unwrap_or(u32::MAX));
        set_length(reply);
    }

    fn failure_details(&self, reply: &mut Vec<u8>) {
        reply.zeroes(56);
        reply.u8(self.completion_status);
        reply.u8(0);
        reply.u16(u16::try_from(self.sense.len()).unwrap_or(0));
        reply.extend_from_slice(self.sense);
        set_length(reply);
    }

    fn long_status(&self, reply: &mut Vec<u8>) {
        let over = self.state.is_over();
        reply.u32(0);
        reply.u8(self.service_action);
        reply.u8(self.state as u8);
        // OPERATION COUNTER: not counted.
        reply.u16(0);
        reply.u32(if over { u32::MAX } else { UPDATE_DELAY });
        reply.u8(self.completion_status);
        let sense_length = u8::try_from(self.sense.len()).unwrap_or(0);
        reply.u8(sense_length);
        reply.u8(sense_length);
        let (units, count) = match self.transferred {
            Transferred::Bytes(bytes) => (0x00, bytes),
            Transferred::Blocks(blocks) => (0xf1, blocks),
        };
        reply.u8(units);
        reply.u64(count);
        reply.u16(self.segments);
        reply.zeroes(6);
        reply.extend(self.sense.iter().take(usize::from(sense_length)));
        set_length(reply);
    }

    /// ROD TOKEN DESCRIPTORS LENGTH, and the descriptor: two bytes, then the token.
    fn tokens(&self, reply: &mut Vec<u8>) {
        match self.token {
            None => reply.u32(0),
            Some(token) => {
                reply.u32(514);
                reply.u16(0);
                reply.extend_from_slice(token);
            }
        }
        set_length(reply);
    }
}

/// AVAILABLE DATA: bytes behind this field.
pub(super) fn set_length(reply: &mut [u8]) {
    let length = u32::try_from(reply.len().saturating_sub(4)).unwrap_or(u32::MAX);
    if let Some(field) = reply.get_mut(..4) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> CopyStatus<'static> {
        CopyStatus {
            service_action: 0,
            state: CopyState::Completed,
            segments: 3,
            transferred: Transferred::Bytes(5 << 32),
            completion_status: 0,
            sense: &[],
            token: None,
        }
    }

    fn reply(status: &CopyStatus<'_>, report: CopyReport, long: bool) -> Vec<u8> {
        let mut reply = vec![9; 7];
        status.reply(report, long, 1000, &mut reply);
        reply
    }

    #[test]
    fn a_status_says_how_much_in_units_that_fit() {
        let bytes = reply(&status(), CopyReport::Status, false);
        assert_eq!(bytes, [0, 0, 0, 8, 1, 0, 3, 1, 0x01, 0x40, 0, 0]);
        let running = CopyStatus { state: CopyState::InForeground, ..status() };
        assert_eq!(reply(&running, CopyReport::Status, false)[4], 0);
        let ended = CopyStatus { state: CopyState::Terminated, ..status() };
        assert_eq!(reply(&ended, CopyReport::Status, false)[4], 2);
        let mut cut = Vec::new();
        status().reply(CopyReport::Status, false, 5, &mut cut);
        assert_eq!(cut, [0, 0, 0, 8, 1]);
    }

    #[test]
    fn a_longer_status_has_sense_data_and_a_count_of_blocks() {
        let running = CopyStatus {
            service_action: 0x11,
            state: CopyState::InBackground,
            transferred: Transferred::Blocks(7),
            ..status()
        };
        let bytes = reply(&running, CopyReport::Status, true);
        assert_eq!((bytes.len(), bytes[3]), (32, 28));
        assert_eq!((bytes[4], bytes[5]), (0x11, 0x12));
        assert_eq!(bytes[8..12], UPDATE_DELAY.to_be_bytes());
        assert_eq!((bytes[15], &bytes[16..24]), (0xf1, &7u64.to_be_bytes()[..]));
        assert_eq!(bytes[24..26], [0, 3]);
        let failed = CopyStatus {
            state: CopyState::Failed,
            completion_status: 2,
            sense: &[0x70; 18],
            ..running
        };
        let bytes = reply(&failed, CopyReport::Status, true);
        assert_eq!((bytes.len(), bytes[3], bytes[5]), (50, 46, 2));
        assert_eq!((bytes[12], bytes[13], bytes[14]), (2, 18, 18));
        assert_eq!(bytes[8..12], [0xff; 4]);
        assert_eq!(bytes[32..], [0x70; 18]);
    }

    #[test]
    fn a_token_stands_behind_the_sense_data() {
        let token = [0xab; TOKEN_LENGTH];
        let made = CopyStatus { sense: &[1, 2], token: Some(&token), ..status() };
        let bytes = reply(&made, CopyReport::RodToken, true);
        assert_eq!(bytes[..4], 548u32.to_be_bytes());
        assert_eq!(bytes[34..40], [0, 0, 0x02, 0x02, 0, 0]);
        assert_eq!(bytes[40..], token);
        let none = reply(&status(), CopyReport::RodToken, true);
        assert_eq!((none.len(), &none[32..]), (36, &[0; 4][..]));
    }

    #[test]
    fn failure_details_have_the_status_and_the_sense_data() {
        let failed = CopyStatus {
            state: CopyState::Failed,
            completion_status: 2,
            sense: &[0x70; 18],
            ..status()
        };
        let bytes = reply(&failed, CopyReport::FailureDetails, false);
        assert_eq!((bytes.len(), &bytes[..4]), (78, &74u32.to_be_bytes()[..]));
        assert_eq!(bytes[56..60], [2, 0, 0, 18]);
        assert_eq!(bytes[60..], [0x70; 18]);
    }
}
