//! Cutting PDUs out of a stream.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use iscsi_proto::codec::{Decoded, Decoder, encode};
use iscsi_proto::pdu::{BasicHeaderSegment, DataOut, FINAL, ScsiCommand};

use crate::initiator::MAX_SEGMENT;

/// A SCSI Command without data.
pub(crate) fn command(times: usize) -> Result<Duration> {
    decode(times, false, ScsiCommand::new().bytes(), &[])
}

pub(crate) fn command_with_digest(times: usize) -> Result<Duration> {
    decode(times, true, ScsiCommand::new().bytes(), &[])
}

/// A Data-Out of one block.
pub(crate) fn data_out_with_digests(times: usize) -> Result<Duration> {
    let header = DataOut { flags: FINAL, ..DataOut::new() };
    decode(times, true, header.bytes(), &[0x5a; 4096])
}

fn decode(times: usize, digests: bool, bhs: &[u8; 48], data: &[u8]) -> Result<Duration> {
    let decoder = Decoder {
        header_digest: digests,
        data_digest: digests,
        max_recv_data_segment_length: MAX_SEGMENT,
    };
    let mut stream = Vec::new();
    encode(&decoder, bhs, &[], data, &mut stream);
    let start = Instant::now();
    for _ in 0..times {
        let decoded = decoder.decode(black_box(&stream))?;
        let Decoded::Pdu { pdu, .. } = decoded else { bail!("that is no PDU: {decoded:?}") };
        black_box(BasicHeaderSegment::view(pdu.bhs).opcode());
    }
    Ok(start.elapsed())
}
