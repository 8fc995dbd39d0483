//! A session: its numbers, its window, and single commands for the time before the load.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::link::{Link, Pdu};
use crate::login::{self, Names, Params};
use crate::options::Options;
use crate::pdu::{self, Bhs, NO_TAG, Numbers, Transfer, be32, be64, byte, flag, opcode};

/// Tag of everything that is not a slot of the load.
const SINGLE: u32 = 0x4000_0000;
const GOOD: u8 = 0x00;
const CHECK_CONDITION: u8 = 0x02;
const BUSY: u8 = 0x08;

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) link: Link,
    pub(crate) params: Params,
    pub(crate) numbers: Numbers,
    pub(crate) lun: [u8; 8],
    max_cmd_sn: u32,
}

/// Size of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capacity {
    pub(crate) blocks: u64,
    pub(crate) block: u32,
}

/// How a single command ended.
struct Outcome {
    status: u8,
    sense: Vec<u8>,
    data: Vec<u8>,
}

impl Session {
    /// Logs in as the connection's own session.
    pub(crate) fn open(options: &Options, isid: [u8; 6]) -> Result<Self> {
        let mut link = Link::connect(&options.url.portal)?;
        let names = Names {
            initiator: &options.initiator,
            target: &options.url.target,
            isid,
            digests: options.digests,
        };
        let started = login::login(&mut link, &names)?;
        Ok(Self {
            link,
            params: started.params,
            numbers: started.numbers,
            lun: pdu::lun_field(options.url.lun),
            max_cmd_sn: started.max_cmd_sn,
        })
    }

    /// May another command be sent?
    pub(crate) fn window_open(&self) -> bool {
        pdu::at_or_before(self.numbers.cmd_sn, self.max_cmd_sn)
    }

    /// Takes the numbers out of a PDU; answers pings; what the load does not expect is an error.
    /// Says whether the PDU is one for a task.
    pub(crate) fn note(&mut self, header: &Bhs) -> Result<bool> {
        let code = pdu::opcode_of(header);
        let max = be32(header, 32);
        if pdu::at_or_before(self.max_cmd_sn, max) {
            self.max_cmd_sn = max;
        }
        let status = match code {
            opcode::DATA_IN => byte(header, 1) & flag::STATUS != 0,
            opcode::R2T => false,
            opcode::NOP_IN => be32(header, 16) != NO_TAG,
            _ => true,
        };
        if status {
            self.numbers.exp_stat_sn = be32(header, 24).wrapping_add(1);
        }
        match code {
            opcode::DATA_IN | opcode::R2T | opcode::SCSI_RESPONSE | opcode::LOGOUT_RESPONSE => {
                Ok(true)
            }
            opcode::NOP_IN => {
                if be32(header, 20) != NO_TAG {
                    self.link.send_small(&pdu::nop_answer(header, self.numbers), &[]);
                }
                Ok(false)
            }
            // Event 0 is sense data for the log, 4 a wish to renegotiate; the rest end sessions.
            opcode::ASYNC if matches!(byte(header, 36), 0 | 4) => Ok(false),
            opcode::ASYNC => bail!("the target ends the session (event {})", byte(header, 36)),
            opcode::REJECT => bail!("the target rejected a PDU: reason {:#04x}", byte(header, 2)),
            other => bail!("unexpected opcode {other:#04x} from the target"),
        }
    }

    fn receive(&mut self) -> Result<Pdu> {
        loop {
            while let Some(pdu) = self.link.next()? {
                if self.note(&pdu.header)? {
                    return Ok(pdu);
                }
                self.link.flush(&[])?;
            }
            self.link.receive()?;
        }
    }

    fn single(&mut self, cdb: &[u8; 16], transfer: Transfer) -> Result<Outcome> {
        let header = pdu::scsi_command(self.lun, SINGLE, self.numbers, transfer, cdb, 0, false);
        self.numbers.cmd_sn = self.numbers.cmd_sn.wrapping_add(1);
        self.link.send_small(&header, &[]);
        self.link.flush(&[])?;
        let mut data = Vec::new();
        loop {
            let pdu = self.receive()?;
            if be32(&pdu.header, 16) != SINGLE {
                bail!("an answer to a task that does not exist");
            }
            match pdu::opcode_of(&pdu.header) {
                opcode::DATA_IN => {
                    data.extend_from_slice(self.link.data(&pdu));
                    if byte(&pdu.header, 1) & flag::STATUS != 0 {
                        return Ok(Outcome { status: byte(&pdu.header, 3), sense: vec![], data });
                    }
                }
                opcode::SCSI_RESPONSE => {
                    if byte(&pdu.header, 2) != 0 {
                        bail!("the target failed: response {:#04x}", byte(&pdu.header, 2));
                    }
                    let sense = self.link.data(&pdu).get(2..).unwrap_or(&[]).to_vec();
                    return Ok(Outcome { status: byte(&pdu.header, 3), sense, data });
                }
                other => bail!("unexpected opcode {other:#04x} before the load"),
            }
        }
    }

    /// INQUIRY, then TEST UNIT READY until nothing is pending.
    pub(crate) fn become_ready(&mut self) -> Result<()> {
        let mut inquiry = [0; 16];
        for (to, from) in inquiry.iter_mut().zip([0x12, 0, 0, 0, 255]) {
            *to = from;
        }
        let answer = self.single(&inquiry, Transfer::Read(255))?;
        if answer.status != GOOD {
            bail!("INQUIRY: {}", describe(answer.status, &answer.sense));
        }
        if byte(&answer.data, 0) != 0 {
            bail!("LUN is not a disk: INQUIRY begins with {:#04x}", byte(&answer.data, 0));
        }
        let mut last = String::new();
        for _ in 0..50 {
            let answer = self.single(&[0; 16], Transfer::None)?;
            if answer.status == GOOD {
                return Ok(());
            }
            last = describe(answer.status, &answer.sense);
            match (answer.status, byte(&answer.sense, 2) & 0x0f) {
                // Unit attention: told once, then gone.
                (CHECK_CONDITION, 6) => {}
                (CHECK_CONDITION, 2) | (BUSY, _) => std::thread::sleep(Duration::from_millis(100)),
                _ => break,
            }
        }
        bail!("TEST UNIT READY: {last}")
    }

    pub(crate) fn capacity(&mut self) -> Result<Capacity> {
        let mut cdb = [0; 16];
        for (to, from) in cdb.iter_mut().zip([0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32]) {
            *to = from;
        }
        let answer = self.single(&cdb, Transfer::Read(32))?;
        if answer.status != GOOD {
            bail!("READ CAPACITY(16): {}", describe(answer.status, &answer.sense));
        }
        if answer.data.len() < 12 {
            bail!("READ CAPACITY(16) answered {} bytes", answer.data.len());
        }
        let blocks = be64(&answer.data, 0).checked_add(1).context("a disk of 2^64 blocks")?;
        let block = be32(&answer.data, 8);
        if !block.is_power_of_two() || block < 512 {
            bail!("the disk's blocks are {block} bytes");
        }
        Ok(Capacity { blocks, block })
    }

    /// How many LUNs the target reports.
    pub(crate) fn report_luns(&mut self) -> Result<u32> {
        const LENGTH: u32 = 256 << 10;
        let mut cdb = [0; 16];
        let [_, high, middle, low] = LENGTH.to_be_bytes();
        for (to, from) in cdb.iter_mut().zip([0xa0, 0, 0, 0, 0, 0, 0, high, middle, low]) {
            *to = from;
        }
        let answer = self.single(&cdb, Transfer::Read(LENGTH))?;
        let length = be32(&answer.data, 0);
        if answer.status != GOOD || answer.data.len() != length as usize + 8 {
            bail!("REPORT LUNS answered {} bytes", answer.data.len());
        }
        Ok(length / 8)
    }

    /// Answers pings until the other end or our own process ends the session.
    pub(crate) fn idle(&mut self) -> Result<()> {
        self.link.wait_forever()?;
        self.receive().and_then(|_| bail!("an answer to a task that does not exist"))
    }

    pub(crate) fn logout(mut self) -> Result<()> {
        self.link.send_small(&pdu::logout(SINGLE, self.numbers), &[]);
        self.link.flush(&[])?;
        let answer = self.receive()?;
        if pdu::opcode_of(&answer.header) != opcode::LOGOUT_RESPONSE {
            bail!("logout was answered with {:#04x}", pdu::opcode_of(&answer.header));
        }
        Ok(())
    }
}

/// Whether a command was not carried out since there was something to tell (SAM-5 §5.14).
pub(crate) fn is_unit_attention(status: u8, sense: &[u8]) -> bool {
    status == CHECK_CONDITION && byte(sense, 2) & 0x0f == 6
}

/// A status and its sense data in words.
pub(crate) fn describe(status: u8, sense: &[u8]) -> String {
    if status == CHECK_CONDITION {
        let (key, asc, ascq) = (byte(sense, 2) & 0x0f, byte(sense, 12), byte(sense, 13));
        format!("CHECK CONDITION, sense key {key:x}, code {asc:02x}/{ascq:02x}")
    } else {
        format!("SCSI status {status:#04x}")
    }
}
