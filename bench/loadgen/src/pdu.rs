//! The 48-byte headers this initiator sends, and the fields it reads back (RFC 7143, 11).

/// A basic header segment.
pub(crate) type Bhs = [u8; BHS_LEN];
pub(crate) const BHS_LEN: usize = 48;
/// The reserved tag: no task, no transfer.
pub(crate) const NO_TAG: u32 = 0xffff_ffff;

/// Opcodes, the initiator's first.
pub(crate) mod opcode {
    pub(crate) const NOP_OUT: u8 = 0x00;
    pub(crate) const SCSI_COMMAND: u8 = 0x01;
    pub(crate) const LOGIN: u8 = 0x03;
    pub(crate) const DATA_OUT: u8 = 0x05;
    pub(crate) const LOGOUT: u8 = 0x06;
    /// Added to an initiator's opcode: delivered at once, takes no command number.
    pub(crate) const IMMEDIATE: u8 = 0x40;
    pub(crate) const NOP_IN: u8 = 0x20;
    pub(crate) const SCSI_RESPONSE: u8 = 0x21;
    pub(crate) const LOGIN_RESPONSE: u8 = 0x23;
    pub(crate) const DATA_IN: u8 = 0x25;
    pub(crate) const LOGOUT_RESPONSE: u8 = 0x26;
    pub(crate) const R2T: u8 = 0x31;
    pub(crate) const ASYNC: u8 = 0x32;
    pub(crate) const REJECT: u8 = 0x3f;
}

/// Bits of byte 1.
pub(crate) mod flag {
    pub(crate) const FINAL: u8 = 0x80;
    pub(crate) const READ: u8 = 0x40;
    pub(crate) const WRITE: u8 = 0x20;
    pub(crate) const SIMPLE: u8 = 0x01;
    /// Data-In carries the status.
    pub(crate) const STATUS: u8 = 0x01;
    pub(crate) const OVERFLOW: u8 = 0x04;
    pub(crate) const UNDERFLOW: u8 = 0x02;
}

/// Which way a command moves data, and how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transfer {
    None,
    Read(u32),
    Write(u32),
}

/// The numbers every request carries.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Numbers {
    pub(crate) cmd_sn: u32,
    pub(crate) exp_stat_sn: u32,
}

fn put(header: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(field) = header.get_mut(at..at + bytes.len()) {
        field.copy_from_slice(bytes);
    }
}

/// Writes a big-endian field.
pub(crate) fn put32(header: &mut [u8], at: usize, value: u32) {
    put(header, at, &value.to_be_bytes());
}

/// A byte of a buffer, zero beyond its end.
pub(crate) fn byte(buffer: &[u8], at: usize) -> u8 {
    buffer.get(at).copied().unwrap_or(0)
}

/// A big-endian field, zero beyond the end.
pub(crate) fn be32(buffer: &[u8], at: usize) -> u32 {
    buffer.get(at..).and_then(<[u8]>::first_chunk::<4>).map_or(0, |b| u32::from_be_bytes(*b))
}

/// A big-endian field, zero beyond the end.
pub(crate) fn be64(buffer: &[u8], at: usize) -> u64 {
    buffer.get(at..).and_then(<[u8]>::first_chunk::<8>).map_or(0, |b| u64::from_be_bytes(*b))
}

/// Length of the data segment, without padding.
pub(crate) fn data_len(header: &Bhs) -> usize {
    (be32(header, 4) & 0x00ff_ffff) as usize
}

/// Length of the additional header segments.
pub(crate) fn ahs_len(header: &Bhs) -> usize {
    usize::from(byte(header, 4)) * 4
}

/// To the next multiple of four.
pub(crate) const fn padded(len: usize) -> usize {
    (len + 3) & !3
}

/// Opcode without the immediate bit.
pub(crate) fn opcode_of(header: &Bhs) -> u8 {
    byte(header, 0) & 0x3f
}

/// The LUN field: peripheral addressing below 256, flat above.
pub(crate) fn lun_field(lun: u16) -> [u8; 8] {
    let [high, low] = lun.to_be_bytes();
    let high = if high == 0 { 0 } else { 0x40 | (high & 0x3f) };
    [high, low, 0, 0, 0, 0, 0, 0]
}

fn request(code: u8, flags: u8, data: u32, tag: u32, numbers: Numbers) -> Bhs {
    let mut header = [0; BHS_LEN];
    put(&mut header, 0, &[code, flags]);
    put32(&mut header, 4, data & 0x00ff_ffff);
    put32(&mut header, 16, tag);
    put32(&mut header, 24, numbers.cmd_sn);
    put32(&mut header, 28, numbers.exp_stat_sn);
    header
}

/// A SCSI command with `immediate` bytes of data behind it; `more`: unsolicited Data-Out follows.
pub(crate) fn scsi_command(
    lun: [u8; 8],
    tag: u32,
    numbers: Numbers,
    transfer: Transfer,
    cdb: &[u8; 16],
    immediate: u32,
    more: bool,
) -> Bhs {
    let (direction, length) = match transfer {
        Transfer::None => (0, 0),
        Transfer::Read(n) => (flag::READ, n),
        Transfer::Write(n) => (flag::WRITE, n),
    };
    let last = if more { 0 } else { flag::FINAL };
    let flags = last | direction | flag::SIMPLE;
    let mut header = request(opcode::SCSI_COMMAND, flags, immediate, tag, numbers);
    put(&mut header, 8, &lun);
    put32(&mut header, 20, length);
    put(&mut header, 32, cdb);
    header
}

/// One piece of the data of a write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DataOut {
    pub(crate) lun: [u8; 8],
    pub(crate) tag: u32,
    pub(crate) transfer_tag: u32,
    pub(crate) exp_stat_sn: u32,
    pub(crate) data_sn: u32,
    pub(crate) offset: u32,
    pub(crate) len: u32,
    pub(crate) last: bool,
}

impl DataOut {
    pub(crate) fn header(&self) -> Bhs {
        let flags = if self.last { flag::FINAL } else { 0 };
        let numbers = Numbers { cmd_sn: 0, exp_stat_sn: self.exp_stat_sn };
        let mut header = request(opcode::DATA_OUT, flags, self.len, self.tag, numbers);
        put(&mut header, 8, &self.lun);
        put32(&mut header, 20, self.transfer_tag);
        put32(&mut header, 36, self.data_sn);
        put32(&mut header, 40, self.offset);
        header
    }
}

/// A login request that asks to go from stage `csg` to `nsg`.
pub(crate) fn login(isid: [u8; 6], csg: u8, nsg: u8, data: u32, numbers: Numbers) -> Bhs {
    let flags = flag::FINAL | csg << 2 | nsg;
    let mut header = request(opcode::LOGIN | opcode::IMMEDIATE, flags, data, 0, numbers);
    put(&mut header, 8, &isid);
    header
}

/// The answer to a target's ping.
pub(crate) fn nop_answer(ping: &Bhs, numbers: Numbers) -> Bhs {
    let code = opcode::NOP_OUT | opcode::IMMEDIATE;
    let mut header = request(code, flag::FINAL, 0, NO_TAG, numbers);
    put(&mut header, 8, ping.get(8..16).unwrap_or(&[]));
    put(&mut header, 20, ping.get(20..24).unwrap_or(&[]));
    header
}

/// Closes the session.
pub(crate) fn logout(tag: u32, numbers: Numbers) -> Bhs {
    request(opcode::LOGOUT | opcode::IMMEDIATE, flag::FINAL, 0, tag, numbers)
}

/// READ or WRITE of 10 or 16 bytes.
pub(crate) fn rw_cdb(write: bool, short: bool, lba: u64, blocks: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    if short {
        put(&mut cdb, 0, &[if write { 0x2a } else { 0x28 }]);
        put(&mut cdb, 2, lba.to_be_bytes().get(4..).unwrap_or(&[]));
        put(&mut cdb, 7, blocks.to_be_bytes().get(2..).unwrap_or(&[]));
    } else {
        put(&mut cdb, 0, &[if write { 0x8a } else { 0x88 }]);
        put(&mut cdb, 2, &lba.to_be_bytes());
        put32(&mut cdb, 10, blocks);
    }
    cdb
}

/// Sequence numbers wrap: is `a` at or before `b`?
pub(crate) fn at_or_before(a: u32, b: u32) -> bool {
    b.wrapping_sub(a) < 0x8000_0000
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBERS: Numbers = Numbers { cmd_sn: 7, exp_stat_sn: 9 };

    #[test]
    fn a_read_command_has_its_fields_where_the_rfc_puts_them() {
        let cdb = rw_cdb(false, false, 0x0102_0304_0506_0708, 8);
        let h = scsi_command(lun_field(1), 5, NUMBERS, Transfer::Read(4096), &cdb, 0, false);
        assert_eq!(h[..8], [0x01, 0xc1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(h[8..16], [0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!((be32(&h, 16), be32(&h, 20), be32(&h, 24), be32(&h, 28)), (5, 4096, 7, 9));
        assert_eq!(h[32..48], [0x88, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 8, 0, 0]);
    }

    #[test]
    fn a_write_with_more_to_come_is_not_final() {
        let cdb = rw_cdb(true, true, 0x0a0b, 0x0102);
        assert_eq!(cdb[..10], [0x2a, 0, 0, 0, 0x0a, 0x0b, 0, 1, 2, 0]);
        let h = scsi_command(lun_field(0), 1, NUMBERS, Transfer::Write(8192), &cdb, 4096, true);
        assert_eq!(h[1], 0x21);
        assert_eq!(data_len(&h), 4096);
    }

    #[test]
    fn data_out_names_its_transfer() {
        let out = DataOut {
            lun: lun_field(0x0123),
            tag: 3,
            transfer_tag: 0x55,
            exp_stat_sn: 4,
            data_sn: 2,
            offset: 65536,
            len: 1024,
            last: true,
        };
        let h = out.header();
        assert_eq!(h[..2], [0x05, 0x80]);
        assert_eq!(h[8..10], [0x41, 0x23]);
        assert_eq!((be32(&h, 20), be32(&h, 36), be32(&h, 40)), (0x55, 2, 65536));
        assert_eq!(data_len(&h), 1024);
    }

    #[test]
    fn login_and_ping() {
        let h = login([0x80, 1, 2, 3, 4, 5], 1, 3, 100, NUMBERS);
        assert_eq!(h[..2], [0x43, 0x87]);
        assert_eq!(h[8..14], [0x80, 1, 2, 3, 4, 5]);
        let mut ping = [0; BHS_LEN];
        put32(&mut ping, 20, 77);
        let h = nop_answer(&ping, NUMBERS);
        assert_eq!((h[0], be32(&h, 16), be32(&h, 20)), (0x40, NO_TAG, 77));
    }

    #[test]
    fn numbers_wrap() {
        assert!(at_or_before(5, 5) && at_or_before(0xffff_ffff, 3));
        assert!(!at_or_before(6, 5) && !at_or_before(3, 0xffff_ffff));
        assert_eq!((padded(0), padded(1), padded(4)), (0, 4, 4));
    }
}
