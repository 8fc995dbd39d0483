//! The load of one connection: keeps `depth` commands outstanding, one write and one receive a
//! turn, nothing allocated per command.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::histogram::Histogram;
use crate::link::Pdu;
use crate::pattern::{self, Random};
use crate::pdu::{self, Bhs, DataOut, NO_TAG, Transfer, be32, byte, flag, opcode};
use crate::session::{Session, describe, is_unit_attention};

/// A command that meets more of them than there can be is a failure.
const MAX_ATTENTIONS: u8 = 16;

/// What the main thread tells all connections.
pub(crate) mod phase {
    pub(crate) const WARM_UP: u8 = 0;
    pub(crate) const MEASURE: u8 = 1;
    pub(crate) const STOP: u8 = 2;
}

/// What one connection does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    /// Reads among 100 commands.
    pub(crate) reads: u8,
    pub(crate) random: bool,
    /// Bytes per command, and per logical block.
    pub(crate) size: u32,
    pub(crate) block: u32,
    pub(crate) depth: u32,
    pub(crate) short_cdb: bool,
    /// Writes mark their blocks, reads check the marks.
    pub(crate) marks: bool,
    /// The commands' places on the disk: `first..first + count`, in units of `size`.
    pub(crate) first: u64,
    pub(crate) count: u64,
    /// Stop after so many commands; otherwise when told.
    pub(crate) limit: Option<u64>,
    pub(crate) seed: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    lba: u64,
    started: u64,
    received: u32,
    write: bool,
    busy: bool,
    attentions: u8,
}

pub(crate) struct Engine<'a> {
    session: &'a mut Session,
    job: Job,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Commands that were not carried out: the target had something to tell first.
    again: Vec<u32>,
    /// Data of writes: one region for all slots, with marks one for each.
    arena: Vec<u8>,
    random: Random,
    issued: u64,
    histogram: Histogram,
    clock: Instant,
}

impl<'a> Engine<'a> {
    pub(crate) fn new(session: &'a mut Session, job: Job) -> Result<Self> {
        session.link.keep_data = job.marks;
        let regions = match (job.reads < 100, job.marks) {
            (false, _) => 0,
            (true, false) => 1,
            (true, true) => job.depth,
        };
        let mut arena = vec![0; usize::try_from(u64::from(regions) * u64::from(job.size))?];
        pattern::noise(&mut arena, job.seed);
        Ok(Self {
            session,
            job,
            slots: vec![Slot::default(); job.depth as usize],
            free: (0..job.depth).rev().collect(),
            again: Vec::new(),
            arena,
            random: Random::new(job.seed),
            issued: 0,
            histogram: Histogram::new(),
            clock: Instant::now(),
        })
    }

    /// Runs until told to stop or done; what was completed in the measured time.
    pub(crate) fn run(mut self, control: &Arc<AtomicU8>) -> Result<Histogram> {
        let mut now = 0;
        loop {
            let phase = control.load(Ordering::Relaxed);
            let more = phase != phase::STOP && self.job.limit.is_none_or(|n| self.issued < n);
            self.issue_again()?;
            if more {
                self.issue(now)?;
            } else if self.free.len() == self.slots.len() {
                return Ok(self.histogram);
            }
            self.session.link.flush(&self.arena)?;
            self.session.link.receive()?;
            // One look at the clock per turn, for the commands that end in it and start in it.
            now = u64::try_from(self.clock.elapsed().as_nanos())?;
            while let Some(pdu) = self.session.link.next()? {
                if self.session.note(&pdu.header)? {
                    self.handle(&pdu, now, phase == phase::MEASURE)?;
                }
            }
        }
    }

    /// Queues commands for all free slots.
    fn issue(&mut self, now: u64) -> Result<()> {
        while self.session.window_open() && self.job.limit.is_none_or(|n| self.issued < n) {
            let Some(tag) = self.free.pop() else { break };
            let write = match self.job.reads {
                0 => true,
                100.. => false,
                reads => self.random.below(100) >= u64::from(reads),
            };
            let place = if self.job.random {
                self.random.below(self.job.count)
            } else {
                self.issued % self.job.count
            };
            self.issued += 1;
            let blocks = self.job.size / self.job.block;
            let lba = (self.job.first + place) * u64::from(blocks);
            let slot = self.slots.get_mut(tag as usize).context("no such slot")?;
            *slot = Slot { lba, started: now, received: 0, write, busy: true, attentions: 0 };
            self.send(tag, lba, write);
        }
        Ok(())
    }

    /// Queues commands once more that met a unit attention.
    fn issue_again(&mut self) -> Result<()> {
        while self.session.window_open() {
            let Some(tag) = self.again.pop() else { break };
            let slot = self.slots.get_mut(tag as usize).context("no such slot")?;
            slot.received = 0;
            let (lba, write) = (slot.lba, slot.write);
            self.send(tag, lba, write);
        }
        Ok(())
    }

    fn send(&mut self, tag: u32, lba: u64, write: bool) {
        let cdb = pdu::rw_cdb(write, self.job.short_cdb, lba, self.job.size / self.job.block);
        if write {
            self.write(tag, lba, &cdb);
        } else {
            let transfer = Transfer::Read(self.job.size);
            let session = &mut *self.session;
            let header =
                pdu::scsi_command(session.lun, tag, session.numbers, transfer, &cdb, 0, false);
            session.link.send_small(&header, &[]);
        }
        self.session.numbers.cmd_sn = self.session.numbers.cmd_sn.wrapping_add(1);
    }

    fn region(&self, tag: u32) -> usize {
        if self.job.marks { tag as usize * self.job.size as usize } else { 0 }
    }

    /// A write command with as much unasked data as was negotiated.
    fn write(&mut self, tag: u32, lba: u64, cdb: &[u8; 16]) {
        let (size, params) = (self.job.size, self.session.params);
        let at = self.region(tag);
        if self.job.marks
            && let Some(region) = self.arena.get_mut(at..at + size as usize)
        {
            pattern::stamp(region, lba, self.job.block as usize, self.random.next());
        }
        let burst = size.min(params.first_burst);
        let immediate = if params.immediate_data { burst.min(params.max_segment) } else { 0 };
        let unasked = if params.initial_r2t { immediate } else { burst };
        let session = &mut *self.session;
        let header = pdu::scsi_command(
            session.lun,
            tag,
            session.numbers,
            Transfer::Write(size),
            cdb,
            immediate,
            unasked > immediate,
        );
        if immediate > 0 {
            session.link.send_data(&header, &self.arena, at, immediate as usize);
        } else {
            session.link.send_small(&header, &[]);
        }
        self.data_out(tag, NO_TAG, immediate, unasked);
    }

    /// Data-Out PDUs for `from..to` of a command's data.
    fn data_out(&mut self, tag: u32, transfer_tag: u32, mut from: u32, to: u32) {
        let region = self.region(tag);
        let mut data_sn = 0;
        while from < to {
            let len = (to - from).min(self.session.params.max_segment);
            let out = DataOut {
                lun: self.session.lun,
                tag,
                transfer_tag,
                exp_stat_sn: self.session.numbers.exp_stat_sn,
                data_sn,
                offset: from,
                len,
                last: from + len == to,
            };
            let at = region + from as usize;
            self.session.link.send_data(&out.header(), &self.arena, at, len as usize);
            from += len;
            data_sn += 1;
        }
    }

    fn handle(&mut self, pdu: &Pdu, now: u64, measure: bool) -> Result<()> {
        let header = &pdu.header;
        let tag = be32(header, 16);
        let slot = self.slots.get_mut(tag as usize).filter(|s| s.busy);
        let slot =
            slot.with_context(|| format!("an answer to task {tag:#x}, which is not open"))?;
        match pdu::opcode_of(header) {
            opcode::DATA_IN => {
                let len = u32::try_from(pdu.len)?;
                let offset = be32(header, 40);
                if slot.write || offset != slot.received || len > self.job.size - offset {
                    bail!("Data-In of {len} bytes at {offset}, after {} bytes", slot.received);
                }
                slot.received += len;
                if self.job.marks {
                    let data = self.session.link.data(pdu);
                    pattern::check(data, slot.lba, offset as usize, self.job.block as usize)
                        .context("the disk returned other data than were written")?;
                }
                if byte(header, 1) & flag::STATUS != 0 {
                    self.complete(pdu, now, measure)?;
                }
            }
            opcode::R2T => {
                let (offset, len) = (be32(header, 40), be32(header, 44));
                let end = offset.checked_add(len).filter(|end| *end <= self.job.size);
                let Some(end) = end.filter(|_| slot.write && len > 0) else {
                    bail!("R2T for {len} bytes at {offset} of a command of {}", self.job.size);
                };
                if len > self.session.params.max_burst {
                    bail!("R2T for {len} bytes, more than MaxBurstLength");
                }
                self.data_out(tag, be32(header, 20), offset, end);
            }
            opcode::SCSI_RESPONSE => self.complete(pdu, now, measure)?,
            other => bail!("unexpected opcode {other:#04x} for task {tag:#x}"),
        }
        Ok(())
    }

    /// A status arrived: it must be GOOD and all data there, or say that the command was not carried
    /// out since there was something to tell.
    fn complete(&mut self, pdu: &Pdu, now: u64, measure: bool) -> Result<()> {
        let header: &Bhs = &pdu.header;
        let tag = be32(header, 16);
        let slot = self.slots.get_mut(tag as usize).context("no such slot")?;
        let response = pdu::opcode_of(header) == opcode::SCSI_RESPONSE;
        let verb = if slot.write { "WRITE" } else { "READ" };
        let what = || format!("{verb} of {} bytes at block {}", self.job.size, slot.lba);
        if response && byte(header, 2) != 0 {
            bail!("{}: response {:#04x}", what(), byte(header, 2));
        }
        let status = byte(header, 3);
        if status != 0 {
            let sense = self.session.link.data(pdu).get(2..).unwrap_or(&[]);
            let sense = if response { sense } else { &[] };
            if is_unit_attention(status, sense) && slot.attentions < MAX_ATTENTIONS {
                slot.attentions += 1;
                self.again.push(tag);
                return Ok(());
            }
            bail!("{}: {}", what(), describe(status, sense));
        }
        if byte(header, 1) & (flag::OVERFLOW | flag::UNDERFLOW) != 0 {
            bail!("{}: GOOD with a residual of {}", what(), be32(header, 44));
        }
        if !slot.write && slot.received != self.job.size {
            bail!("{}: GOOD after {} bytes", what(), slot.received);
        }
        if measure {
            self.histogram.record(now.saturating_sub(slot.started));
        }
        slot.busy = false;
        self.free.push(tag);
        Ok(())
    }
}
