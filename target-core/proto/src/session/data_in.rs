//! Data for the initiator (RFC 7143 §11.7): split, numbered, and the status on the last PDU.

use std::io::IoSliceMut;
use std::ops::Range;

use smallvec::SmallVec;

use super::{Session, TaskId, residual};
use crate::codec::padding;
use crate::digest::Digest;
use crate::ids::{InitiatorTaskTag, TargetTransferTag};
use crate::pdu::{BHS_LENGTH, Bhs, DataIn, FINAL, U24, opcode};
use crate::transmit::{Payload, TransmitQueue};

/// The most bytes of a Data-In PDU, whatever more the initiator takes: a long transfer is read and
/// sent in parts of this size, while they are in the processor's cache.
pub const MAX_DATA_IN: u32 = 128 << 10;

/// Room in the queue for a task's data and its headers.
#[derive(Debug, Clone, Copy)]
#[must_use = "finish or cancel it: until then nothing else may be queued"]
pub struct DataInLayout {
    task: TaskId,
    start: usize,
    /// Where in the transfer it begins, and how long that is.
    from: u32,
    total: u32,
    length: u32,
    segment: u32,
    header: usize,
    trailer: usize,
}

impl DataInLayout {
    /// Bytes of payload.
    #[must_use]
    pub const fn length(&self) -> u32 {
        self.length
    }

    /// Where in the transfer it ends.
    #[must_use]
    pub const fn end(&self) -> u32 {
        self.from + self.length
    }

    /// Whether the transfer ends with it.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        self.end() == self.total
    }

    /// The range of the payload, if that is one PDU.
    fn single(&self) -> Option<Range<usize>> {
        let start = self.start + self.header;
        (self.length <= self.segment).then(|| start..start + self.length as usize)
    }

    /// Place of each PDU and the range of its payload, in order.
    fn pdus(self) -> impl Iterator<Item = (usize, Range<usize>)> {
        let (mut at, mut left) = (self.start, self.length as usize);
        std::iter::from_fn(move || {
            let length = left.min(self.segment as usize);
            if length == 0 {
                return None;
            }
            left -= length;
            let pdu = at;
            let data = at + self.header..at + self.header + length;
            at = data.end + padding(length) + self.trailer;
            Some((pdu, data))
        })
    }
}

/// What all Data-In PDUs of a transfer have in common.
#[derive(Clone, Copy)]
struct Transfer {
    itt: InitiatorTaskTag,
    length: u32,
    device_length: u64,
    expected: u32,
    status: Option<u8>,
    max_burst: u32,
}

impl Session {
    /// Reserves room for the data of `task`: `device_length` bytes, or as many as the initiator
    /// expects. `None` if it expects none or the task is gone; respond then.
    pub fn begin_data_in<P: Payload>(
        &mut self,
        task: TaskId,
        device_length: u64,
        tx: &mut TransmitQueue<P>,
    ) -> Option<DataInLayout> {
        self.begin_data_in_part(task, device_length, 0, u32::MAX, tx)
    }

    /// Reserves room for a part of that: from the byte `from` of the transfer on, about `most` bytes.
    /// The next part begins where this one ends. `None` if there is nothing more.
    pub fn begin_data_in_part<P: Payload>(
        &mut self,
        task: TaskId,
        device_length: u64,
        from: u32,
        most: u32,
        tx: &mut TransmitQueue<P>,
    ) -> Option<DataInLayout> {
        let total = self.data_in_length(task, device_length)?;
        let segment = self.data_in_segment();
        let length = part_length(total, from, most, segment)?;
        let header = BHS_LENGTH + usize::from(self.parameters.header_digest) * 4;
        let trailer = usize::from(self.parameters.data_digest) * 4;
        let pdu = |data: usize| header + data + padding(data) + trailer;
        let room = if length <= segment {
            pdu(length as usize)
        } else {
            let (whole, rest) = ((length / segment) as usize, (length % segment) as usize);
            let rest = if rest > 0 { pdu(rest) } else { 0 };
            whole * pdu(segment as usize) + rest
        };
        let start = tx.reserve(room);
        Some(DataInLayout { task, start, from, total, length, segment, header, trailer })
    }

    /// What [`Self::begin_data_in_part`] would reserve room for: the bytes of the transfer, from `from` on.
    #[must_use]
    pub fn data_in_part(
        &self,
        task: TaskId,
        device_length: u64,
        from: u32,
        most: u32,
    ) -> Option<Range<u32>> {
        let total = self.data_in_length(task, device_length)?;
        let length = part_length(total, from, most, self.data_in_segment())?;
        Some(from..from + length)
    }

    /// Whether data carry a digest, for which somebody has to look at them.
    #[must_use]
    pub const fn data_has_digest(&self) -> bool {
        self.parameters.data_digest
    }

    /// Bytes that may be sent for a task; `None` if that is nothing.
    #[must_use]
    pub fn data_in_length(&self, task: TaskId, device_length: u64) -> Option<u32> {
        let entry = self.tasks.get(task)?;
        let expected = if entry.reads { entry.expected } else { 0 };
        let length = u32::try_from(device_length).unwrap_or(u32::MAX).min(expected);
        (length > 0).then_some(length)
    }

    /// Stamps the headers once the payload stands in its slices. With a status the task ends
    /// with the last PDU of the transfer (phase collapse), else with a response.
    pub fn finish_data_in<P: Payload>(
        &mut self,
        layout: DataInLayout,
        device_length: u64,
        status: Option<u8>,
        tx: &mut TransmitQueue<P>,
    ) {
        let Some(transfer) = self.transfer(layout.task, layout.total, device_length, status) else {
            // The task was aborted meanwhile.
            return tx.truncate(layout.start);
        };
        if let Some(data) = layout.single() {
            self.finish_pdu(layout.task, transfer, layout.from, layout.start..data.start, data, tx);
        } else {
            let mut offset = layout.from;
            for (at, data) in layout.pdus() {
                let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
                self.finish_pdu(layout.task, transfer, offset, at..data.start, data, tx);
                offset += length;
            }
        }
        if status.is_some() && layout.is_last() {
            self.end(layout.task);
        }
    }

    /// Stamps one PDU, of which the header and the data stand in these places of the queue.
    fn finish_pdu<P: Payload>(
        &mut self,
        task: TaskId,
        transfer: Transfer,
        offset: u32,
        header: Range<usize>,
        data: Range<usize>,
        tx: &mut TransmitQueue<P>,
    ) {
        let bhs = self.data_in_header(task, transfer, offset, data.len());
        self.write_header(&bhs, tx.bytes_mut(header));
        let (end, pad) = (data.end, padding(data.len()));
        if pad > 0 {
            tx.bytes_mut(end..end + pad).fill(0);
        }
        if self.parameters.data_digest {
            let mut digest = Digest::default();
            digest.update(tx.bytes_mut(data.start..end + pad));
            tx.bytes_mut(end + pad..end + pad + 4).copy_from_slice(&digest.to_wire());
        }
    }

    /// Takes the room back; nothing may have been queued behind it.
    pub fn cancel_data_in<P: Payload>(&mut self, layout: DataInLayout, tx: &mut TransmitQueue<P>) {
        tx.truncate(layout.start);
    }

    /// Sends data that stands elsewhere, without copying it: that of this part of the transfer, which
    /// may end behind it. `clone` must be cheap: each PDU keeps one. With a digest it must have bytes.
    pub fn data_in_owned<P: Payload + Clone>(
        &mut self,
        task: TaskId,
        payload: &P,
        part: Range<u32>,
        device_length: u64,
        status: Option<u8>,
        tx: &mut TransmitQueue<P>,
    ) {
        let Some(length) = self.data_in_length(task, device_length) else { return };
        let Some(transfer) = self.transfer(task, length, device_length, status) else { return };
        let segment = self.data_in_segment();
        let end = part.end.min(length);
        if payload.bytes().is_none() {
            self.counters.in_place_bytes += u64::from(end.saturating_sub(part.start));
        }
        let mut offset = part.start;
        while offset < end {
            let count = segment.min(end - offset) as usize;
            let start = (offset - part.start) as usize;
            let range = start..start + count;
            let bhs = self.data_in_header(task, transfer, offset, count);
            let start = tx.end();
            let header = BHS_LENGTH + usize::from(self.parameters.header_digest) * 4;
            tx.reserve(header);
            self.write_header(&bhs, tx.bytes_mut(start..start + header));
            let pad = padding(count);
            let digest = self.parameters.data_digest.then(|| {
                let mut digest = Digest::default();
                let bytes = payload.bytes().unwrap_or_default();
                digest.update(bytes.get(range.clone()).unwrap_or_default());
                digest.update([0; 3].get(..pad).unwrap_or_default());
                digest.to_wire()
            });
            tx.push_payload(payload.clone(), range);
            tx.push([0; 3].get(..pad).unwrap_or_default());
            tx.push(digest.as_ref().map_or(&[], |digest| digest.as_slice()));
            offset += u32::try_from(count).unwrap_or(u32::MAX);
        }
        if status.is_some() && end == length {
            self.end(task);
        }
    }

    /// The most bytes of a Data-In PDU: it takes part in a sequence, which MaxBurstLength bounds.
    #[must_use]
    pub fn data_in_segment(&self) -> u32 {
        let segment = self.parameters.initiator_max_recv_data_segment_length;
        segment.min(self.parameters.max_burst_length).min(MAX_DATA_IN)
    }

    fn transfer(
        &self,
        task: TaskId,
        length: u32,
        device_length: u64,
        status: Option<u8>,
    ) -> Option<Transfer> {
        let entry = self.tasks.get(task)?;
        Some(Transfer {
            itt: entry.itt,
            length,
            device_length,
            expected: entry.expected,
            status,
            max_burst: self.parameters.max_burst_length,
        })
    }

    fn data_in_header(
        &mut self,
        task: TaskId,
        transfer: Transfer,
        offset: u32,
        count: usize,
    ) -> Bhs {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let end = offset + count;
        let last = end == transfer.length;
        let status = transfer.status.filter(|_| last);
        // F ends a sequence, which has at most MaxBurstLength bytes (§11.7.2).
        let is_final = last || {
            let burst = transfer.max_burst - transfer.max_burst % self.data_in_segment();
            end.is_multiple_of(burst)
        };
        let data_sn = self.tasks.get_mut(task).map_or(0, |entry| {
            let now = entry.data_in_sn;
            entry.data_in_sn += 1;
            // The task's place in the window is free with the very PDU that has its status.
            let ends = status.is_some() && std::mem::take(&mut entry.in_window);
            self.in_window -= u32::from(ends);
            now
        });
        let mut header = DataIn {
            opcode: opcode::DATA_IN,
            flags: if is_final { FINAL } else { 0 },
            data_segment_length: U24::new(count),
            initiator_task_tag: transfer.itt.0.into(),
            target_transfer_tag: TargetTransferTag::RESERVED.0.into(),
            data_sn: data_sn.into(),
            buffer_offset: offset.into(),
            ..DataIn::zeroed()
        };
        if let Some(status) = status {
            let (flags, count) = residual(transfer.expected, transfer.device_length);
            header.flags |= DataIn::STATUS | flags;
            header.status = status;
            header.residual_count = count.into();
            header.stat_sn = self.next_stat_sn().0.into();
        }
        header.exp_cmd_sn = self.exp_cmd_sn.0.into();
        header.max_cmd_sn = self.max_cmd_sn().0.into();
        self.counters.data_in_bytes += u64::from(count);
        *header.bytes()
    }

    /// The header of a PDU and, if that is negotiated, its digest.
    pub(super) fn write_header(&mut self, bhs: &Bhs, room: &mut [u8]) {
        self.counters.pdus_sent += 1;
        if let Some((first, rest)) = room.split_first_chunk_mut::<BHS_LENGTH>() {
            *first = *bhs;
            if self.parameters.header_digest {
                rest.copy_from_slice(&crate::digest::crc32c(bhs).to_le_bytes());
            }
        }
    }
}

/// Bytes of a part, which has whole PDUs unless the transfer ends with it.
fn part_length(total: u32, from: u32, most: u32, segment: u32) -> Option<u32> {
    let left = total.checked_sub(from).filter(|left| *left > 0)?;
    Some(if left <= segment { left } else { left.min((most - most % segment).max(segment)) })
}

impl<P: Payload> TransmitQueue<P> {
    /// The places of a transfer's payload, to be filled in order.
    pub fn payload_slices(&mut self, layout: &DataInLayout) -> SmallVec<[IoSliceMut<'_>; 8]> {
        let end = self.end();
        if let Some(data) = layout.single() {
            return SmallVec::from_iter([IoSliceMut::new(self.bytes_mut(data))]);
        }
        let mut slices = SmallVec::new();
        let (mut rest, mut at) = (self.bytes_mut(layout.start..end), layout.start);
        for (_, data) in layout.pdus() {
            let Some((_, behind)) = rest.split_at_mut_checked(data.start - at) else { break };
            let Some((payload, behind)) = behind.split_at_mut_checked(data.len()) else { break };
            slices.push(IoSliceMut::new(payload));
            (rest, at) = (behind, data.end);
        }
        slices
    }
}
