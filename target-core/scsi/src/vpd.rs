//! Vital product data pages: what stands behind their four-byte header (SPC-4 §7.8, SBC-3 §6.6).

use crate::capacity::reads_zeroes;
use crate::device::{Context, Device, MediumRotation, Port, Provisioning};
use crate::provisioning::threshold_exponent;
use crate::reply::Fields as _;

/// Appends a page.
pub(crate) type Page = fn(&Device, &Context<'_>, &mut Vec<u8>);

/// The pages in ascending order (SPC-4 §7.8). Of those that SBC-4 has besides, B5h and B6h are for
/// disks whose use wears them out and for zones.
static PAGES: &[(u8, Page)] = &[
    (0x00, supported_pages),
    (0x80, unit_serial_number),
    (0x83, device_identification),
    (MANAGEMENT_NETWORK_ADDRESSES, management_network_addresses),
    (0x86, extended_inquiry_data),
    (0x87, mode_page_policy),
    (0x88, scsi_ports),
    (0x8f, third_party_copy),
    (0xb0, block_limits),
    (0xb1, block_device_characteristics),
    (0xb2, logical_block_provisioning),
    (0xb4, supported_block_lengths),
];

/// What only exists where there is something to tell.
const MANAGEMENT_NETWORK_ADDRESSES: u8 = 0x85;

/// The pages that this logical unit has.
fn pages_of(device: &Device) -> impl Iterator<Item = &'static (u8, Page)> {
    let managed = device.management_url.is_some();
    PAGES.iter().filter(move |(code, _)| managed || *code != MANAGEMENT_NETWORK_ADDRESSES)
}

/// A page of it.
pub(crate) fn page_of(device: &Device, code: u8) -> Option<Page> {
    pages_of(device).find(|(other, _)| *other == code).map(|(_, page)| *page)
}

/// B4h (SBC-4): the one length of a logical block, without protection information (T0PS).
fn supported_block_lengths(device: &Device, _context: &Context<'_>, reply: &mut Vec<u8>) {
    reply.u32(device.logical_block_length);
    reply.extend_from_slice(&[0, 0x01, 0, 0]);
}

/// 00h
fn supported_pages(device: &Device, _context: &Context<'_>, reply: &mut Vec<u8>) {
    reply.extend(pages_of(device).map(|(code, _)| code));
}

/// 85h: where the management is, if initiators shall know.
fn management_network_addresses(device: &Device, _context: &Context<'_>, reply: &mut Vec<u8>) {
    if let Some(url) = &device.management_url {
        // ASSOCIATION: logical unit; SERVICE TYPE: storage configuration service.
        reply.extend_from_slice(&[0x01, 0]);
        let address = name_string(url);
        reply.u16(u16::try_from(address.len()).unwrap_or(u16::MAX));
        reply.extend_from_slice(&address);
    }
}

/// 80h
fn unit_serial_number(device: &Device, _context: &Context<'_>, reply: &mut Vec<u8>) {
    reply.extend_from_slice(device.serial.as_bytes());
}

/// ASSOCIATION of a designator.
#[derive(Clone, Copy)]
enum Association {
    LogicalUnit = 0,
    TargetPort = 1,
    TargetDevice = 2,
}

const BINARY: u8 = 1;
const ASCII: u8 = 2;
const UTF8: u8 = 3;
/// PROTOCOL IDENTIFIER of iSCSI.
const ISCSI: u8 = 5;

fn designator(reply: &mut Vec<u8>, code_set: u8, of: Association, kind: u8, value: &[u8]) {
    let of_port = !matches!(of, Association::LogicalUnit);
    // PIV: the protocol identifier counts only with ports and devices.
    let (protocol, valid) = if of_port { (ISCSI << 4, 0x80) } else { (0, 0) };
    let length = u8::try_from(value.len()).unwrap_or(u8::MAX);
    reply.extend_from_slice(&[protocol | code_set, valid | (of as u8) << 4 | kind, 0, length]);
    reply.extend(value.iter().take(usize::from(length)));
}

/// A SCSI name string: UTF-8, ended by a zero, filled up to a multiple of four (SPC-4 §7.8.6.11).
fn name_string(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize((bytes.len() + 1).next_multiple_of(4), 0);
    bytes
}

/// The name of the target port (RFC 7143 §4.4.2).
fn port_name(port: &Port, reply: &mut Vec<u8>) {
    let name = format!("{},t,0x{:04x}", port.target_name, port.target_portal_group_tag);
    designator(reply, UTF8, Association::TargetPort, 8, &name_string(&name));
}

/// 83h: stable for the life of the disk, but for the port through which one asks.
fn device_identification(device: &Device, context: &Context<'_>, reply: &mut Vec<u8>) {
    let port = context.port;
    use Association::{LogicalUnit, TargetPort};
    designator(reply, BINARY, LogicalUnit, 3, &device.naa);
    designator(reply, BINARY, LogicalUnit, 2, &eui_64(device.naa));
    let mut vendor = device.vendor.to_vec();
    vendor.extend_from_slice(device.serial.as_bytes());
    designator(reply, ASCII, LogicalUnit, 1, &vendor);
    let mut name = String::from("naa.");
    for byte in device.naa {
        name.push_str(&format!("{byte:02x}"));
    }
    designator(reply, UTF8, LogicalUnit, 8, &name_string(&name));
    let [high, low] = port.relative_target_port_id.to_be_bytes();
    designator(reply, BINARY, TargetPort, 4, &[0, 0, high, low]);
    if device.access_methods.any() {
        let [high, low] = port.target_portal_group_tag.to_be_bytes();
        designator(reply, BINARY, TargetPort, 5, &[0, 0, high, low]);
    }
    port_name(port, reply);
    target_device_designator(&port.target_name, reply);
}

/// The name of the target device.
pub(crate) fn target_device_designator(name: &str, reply: &mut Vec<u8>) {
    designator(reply, UTF8, Association::TargetDevice, 8, &name_string(name));
}

/// An EUI-64 based 16-byte identifier (SPC-4 §7.8.6.5.4) with everything that makes the NAA
/// identifier unique: its extension, IEEE company identifier and vendor specific identifier.
fn eui_64(naa: [u8; 16]) -> [u8; 16] {
    let naa = u128::from_be_bytes(naa);
    // IDENTIFIER EXTENSION comes first here; behind the company's 24 bits the other 36 have 40.
    let (extension, company, vendor) = (naa << 64, naa >> 100 << 104 >> 64, naa >> 64);
    let vendor = vendor & 0x000f_ffff_ffff;
    (extension | company | vendor).to_be_bytes()
}

/// 86h
fn extended_inquiry_data(_device: &Device, _context: &Context<'_>, reply: &mut Vec<u8>) {
    // No protection; HEADSUP, ORDSUP, SIMPSUP; V_SUP: there is a volatile cache.
    reply.extend_from_slice(&[0x00, 0x07, 0x01]);
    reply.zeroes(57);
}

/// 8Fh
fn third_party_copy(device: &Device, _context: &Context<'_>, reply: &mut Vec<u8>) {
    crate::copy::third_party_copy_page(device, reply);
}

/// 87h: one policy for every mode page and subpage: shared by all I_T nexuses, a copy for each
/// logical unit (MLUS = 0).
fn mode_page_policy(_device: &Device, _context: &Context<'_>, reply: &mut Vec<u8>) {
    reply.extend_from_slice(&[0x3f, 0xff, 0x00, 0]);
}

/// 88h: all ports of the target.
fn scsi_ports(_device: &Device, context: &Context<'_>, reply: &mut Vec<u8>) {
    for port in context.ports {
        reply.u16(0);
        reply.u16(port.relative_target_port_id);
        // Not an initiator port: INITIATOR PORT TRANSPORTID LENGTH 0.
        reply.u32(0);
        reply.u32(0);
        let start = reply.len();
        port_name(port, reply);
        let length = reply.len().saturating_sub(start);
        reply.set_u16(start.saturating_sub(2), length);
    }
}

/// B0h
fn block_limits(device: &Device, _context: &Context<'_>, reply: &mut Vec<u8>) {
    let limits = device.limits;
    // WSNZ: a WRITE SAME of 0 blocks is refused, and does not go to the end.
    reply.u8(1);
    reply.u8(limits.max_compare_and_write_blocks);
    reply.u16(limits.optimal_granularity_blocks);
    reply.u32(limits.max_transfer_blocks);
    reply.u32(limits.optimal_transfer_blocks);
    reply.u32(0);
    let unmap = |value: u32| if device.unmap { value } else { 0 };
    reply.u32(unmap(limits.max_unmap_blocks));
    reply.u32(unmap(limits.max_unmap_descriptors));
    reply.u32(unmap(device.unmap_granularity_blocks));
    // UGAVALID, UNMAP GRANULARITY ALIGNMENT 0.
    reply.u32(unmap(0x8000_0000));
    reply.u64(limits.max_write_same_blocks);
    crate::atomic::limits(device, reply);
}

/// B1h
fn block_device_characteristics(device: &Device, _context: &Context<'_>, reply: &mut Vec<u8>) {
    reply.u16(match device.rotation {
        MediumRotation::NotReported => 0,
        MediumRotation::NonRotating => 1,
        MediumRotation::Rpm(rate) => rate,
    });
    reply.zeroes(1);
    // WABEREQ 01b: after a block erase, blocks read as the provisioning has it. WACEREQ 00b: there
    // is no cryptographic erase.
    reply.u8(0x40);
    reply.zeroes(56);
}

/// B2h
fn logical_block_provisioning(device: &Device, _context: &Context<'_>, reply: &mut Vec<u8>) {
    // THRESHOLD EXPONENT; 0: there are no thresholds.
    reply.u8(if device.is_thin() { threshold_exponent(device) } else { 0 });
    // LBPU, LBPWS, LBPWS10, LBPRZ = 001b.
    let zeroes = u8::from(reads_zeroes(device)) << 2;
    reply.u8(if device.unmap { 0xe0 | zeroes } else { 0 });
    reply.u8(match (device.unmap, device.provisioning.get()) {
        (false, _) => 0,
        // Resource provisioned, thin provisioned.
        (true, Provisioning::Full) => 1,
        (true, Provisioning::Thin) => 2,
    });
    reply.u8(0);
}
