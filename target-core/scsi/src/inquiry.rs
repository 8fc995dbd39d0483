//! INQUIRY (SPC-4 §6.6).

use crate::cdb::Cdb;
use crate::device::{Context, Device};
use crate::plan::Plan;
use crate::reply::{Fields as _, truncate};
use crate::sense::Sense;
use crate::vpd;

/// PERIPHERAL QUALIFIER 011b, PERIPHERAL DEVICE TYPE 1Fh: nothing can ever be there.
const NO_DEVICE: u8 = 0x7f;
/// A direct access block device that is connected.
const DIRECT_ACCESS: u8 = 0x00;

/// VERSION DESCRIPTORs: SAM-5, iSCSI, SPC-4, SBC-3, none of them with a version claimed but iSCSI's:
/// that is this one and the protocol level of the session (RFC 7144 §4.2).
const ISCSI: u16 = 0x0960;
const VERSION_DESCRIPTORS: [u16; 4] = [0x00a0, ISCSI, 0x0460, 0x04c0];

pub(crate) fn inquiry(cdb: Cdb, context: &Context<'_>, reply: &mut Vec<u8>) -> Result<Plan, Sense> {
    let allocation_length = u32::from(cdb.u16_at(3));
    let (vital, page) = (cdb.bit(1, 0x01), cdb.byte(2));
    if vital {
        let found = context.device.and_then(|it| Some((it, vpd::page_of(it, page)?)));
        let Some((device, build)) = found else {
            return Err(Sense::invalid_field_in_cdb(2, None));
        };
        reply.extend_from_slice(&[DIRECT_ACCESS, page, 0, 0]);
        build(device, context, reply);
        let length = reply.len().saturating_sub(4);
        reply.set_u16(2, length);
    } else if page != 0 {
        return Err(Sense::invalid_field_in_cdb(2, None));
    } else {
        standard(context.device, context.protocol_level, reply);
    }
    truncate(reply, allocation_length);
    Ok(Plan::DataIn)
}

fn standard(device: Option<&Device>, protocol_level: u8, reply: &mut Vec<u8>) {
    reply.u8(device.map_or(NO_DEVICE, |_| DIRECT_ACCESS));
    // Not removable; SPC-4; HISUP with response data format 2; 96 bytes in all.
    reply.extend_from_slice(&[0x00, 0x06, 0x12, 91]);
    // TPGS, 3PC, no protection; CMDQUE.
    let tpgs = device.map_or(0, |device| device.access_methods.tpgs());
    reply.extend_from_slice(&[tpgs | 0x08, 0x00, 0x02]);
    match device {
        Some(device) => {
            reply.extend_from_slice(&device.vendor);
            reply.extend_from_slice(&device.product);
            reply.extend_from_slice(&device.revision);
        }
        None => reply.extend_from_slice(&[b' '; 28]),
    }
    reply.zeroes(22);
    for descriptor in VERSION_DESCRIPTORS {
        let level = if descriptor == ISCSI { protocol_level.min(31) } else { 0 };
        reply.u16(descriptor + u16::from(level));
    }
    reply.zeroes(96usize.saturating_sub(reply.len()));
}
