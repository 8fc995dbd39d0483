//! What a copy manager says that it can do: VPD page 8Fh, Third-party Copy (SPC-4 §7.8.17, SBC-3
//! §6.6.6), and RECEIVE COPY OPERATING PARAMETERS (SPC-4 §6.21).

use super::list::{
    BLOCK_TO_BLOCK, BLOCK_TO_BLOCK_OFFSET, IDENTIFICATION, MAX_LIST, MAX_SEGMENT_LENGTH,
    MAX_SEGMENTS, MAX_TARGETS, THIS_UNIT,
};
use super::rod::{
    BLOCK_ZERO, CHANGE_VULNERABLE, DEFAULT_INACTIVITY_SECONDS, MAX_INACTIVITY_SECONDS,
    MAX_LIFETIME_SECONDS, MAX_RANGES, MAX_TOKEN_BYTES, OPTIMAL_BYTES, POINT_IN_TIME,
};
use super::status::set_length;
use super::{MAX_CONCURRENT, action};
use crate::cdb::Cdb;
use crate::commands::Unit;
use crate::device::Device;
use crate::plan::Plan;
use crate::reply::{Fields as _, truncate};
use crate::sense::Sense;

const DESCRIPTORS: [u8; 3] = [BLOCK_TO_BLOCK, BLOCK_TO_BLOCK_OFFSET, IDENTIFICATION];
/// 2^9 bytes.
const GRANULARITY: u8 = 9;

/// RECEIVE COPY OPERATING PARAMETERS.
pub(crate) fn operating_parameters(
    cdb: Cdb,
    _unit: &Unit<'_>,
    reply: &mut Vec<u8>,
) -> Result<Plan, Sense> {
    reply.u32(0);
    // SNLID = 0.
    reply.u32(0);
    reply.u16(MAX_TARGETS);
    reply.u16(MAX_SEGMENTS);
    reply.u32(MAX_LIST);
    reply.u32(MAX_SEGMENT_LENGTH);
    // No inline data, held data or streams.
    reply.zeroes(14);
    // TOTAL CONCURRENT COPIES, MAXIMUM CONCURRENT COPIES.
    reply.u16(u16::from(MAX_CONCURRENT));
    reply.u8(MAX_CONCURRENT);
    // DATA SEGMENT GRANULARITY.
    reply.u8(GRANULARITY);
    reply.zeroes(2);
    reply.zeroes(3);
    reply.u8(3);
    reply.extend_from_slice(&DESCRIPTORS);
    set_length(reply);
    truncate(reply, cdb.u32_at(10));
    Ok(Plan::DataIn)
}

/// VPD page 8Fh.
pub(crate) fn third_party_copy_page(device: &Device, reply: &mut Vec<u8>) {
    block_device_rod_limits(device, reply);
    supported_commands(reply);
    // Parameter Data.
    let mut parameters = vec![0; 4];
    parameters.u16(MAX_TARGETS);
    parameters.u16(MAX_SEGMENTS);
    parameters.u32(MAX_LIST);
    parameters.zeroes(4 + 12);
    descriptor(reply, 0x0004, &parameters);
    // Supported Descriptors.
    let mut codes = vec![3];
    codes.extend_from_slice(&DESCRIPTORS);
    descriptor(reply, 0x0008, &codes);
    // Supported CSCD Descriptor IDs.
    let mut identifiers = Vec::new();
    identifiers.u16(2);
    identifiers.u16(THIS_UNIT);
    descriptor(reply, 0x000c, &identifiers);
    rod_token_features(reply);
    supported_rods(reply);
    // General Copy Operations: concurrent copies, identified ones, segment length, granularities.
    let mut general = Vec::new();
    general.u32(MAX_CONCURRENT.into());
    general.u32(MAX_CONCURRENT.into());
    general.u32(MAX_SEGMENT_LENGTH);
    general.u8(GRANULARITY);
    general.u8(0);
    general.zeroes(18);
    descriptor(reply, 0x8001, &general);
}

/// Block Device ROD Limits: counts are logical blocks.
fn block_device_rod_limits(device: &Device, reply: &mut Vec<u8>) {
    let block_length = u64::from(device.logical_block_length).max(1);
    let mut limits = vec![0; 6];
    limits.u16(MAX_RANGES);
    limits.u32(MAX_INACTIVITY_SECONDS);
    limits.u32(DEFAULT_INACTIVITY_SECONDS);
    limits.u64(MAX_TOKEN_BYTES / block_length);
    limits.u64(OPTIMAL_BYTES / block_length);
    descriptor(reply, 0x0000, &limits);
}

fn supported_commands(reply: &mut Vec<u8>) {
    let mut commands = vec![0, 0x83, 5];
    commands.extend_from_slice(&[
        action::EXTENDED_COPY_LID1,
        action::EXTENDED_COPY_LID4,
        action::POPULATE_TOKEN,
        action::WRITE_USING_TOKEN,
        action::COPY_OPERATION_ABORT,
    ]);
    // RECEIVE COPY: status, operating parameters, failure details, status, ROD token information;
    // all ROD tokens.
    commands.extend_from_slice(&[0x84, 6, 0x00, 0x03, 0x04, 0x05, 0x07, 0x08]);
    let length = commands.len().saturating_sub(1);
    commands.set_u8(0, length);
    descriptor(reply, 0x0001, &commands);
}

fn rod_token_features(reply: &mut Vec<u8>) {
    // REMOTE TOKENS 0h: tokens of other copy managers are of no use here.
    let mut features = vec![0; 12];
    // MINIMUM and MAXIMUM TOKEN LIFETIME, MAXIMUM TOKEN INACTIVITY TIMEOUT.
    features.u32(1);
    features.u32(MAX_LIFETIME_SECONDS);
    features.u32(MAX_INACTIVITY_SECONDS);
    features.zeroes(18);
    features.u16(48);
    // For block devices: 44 bytes follow.
    features.extend_from_slice(&[0, 0, 0, 44, 0, 0]);
    // OPTIMAL BLOCK ROD LENGTH GRANULARITY: none.
    features.u16(0);
    features.u64(MAX_TOKEN_BYTES);
    features.u64(OPTIMAL_BYTES);
    // To and from a token per segment: no ROD segments.
    features.zeroes(16 + 8);
    descriptor(reply, 0x0106, &features);
}

fn supported_rods(reply: &mut Vec<u8>) {
    // TOKEN_OUT: it is made here; TOKEN_IN: it can be used here. Then the preference, the lower the
    // better (0 = none).
    let types = [(CHANGE_VULNERABLE, 0x03, 1), (POINT_IN_TIME, 0x03, 2), (BLOCK_ZERO, 0x02, 0)];
    let mut rods = vec![0; 2];
    rods.u16(64 * 3);
    for (kind, flags, preference) in types {
        rods.u32(kind);
        rods.u8(flags);
        rods.u8(0);
        rods.u16(preference);
        rods.zeroes(56);
    }
    descriptor(reply, 0x0108, &rods);
}

/// A descriptor, filled up to a multiple of four bytes.
fn descriptor(reply: &mut Vec<u8>, kind: u16, body: &[u8]) {
    let fill = body.len().wrapping_neg() & 3;
    reply.u16(kind);
    reply.u16(u16::try_from(body.len() + fill).unwrap_or(u16::MAX));
    reply.extend_from_slice(body);
    reply.zeroes(fill);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::COMMANDS;

    /// Type and body of each descriptor.
    fn descriptors() -> Vec<(u16, Vec<u8>)> {
        let device = Device::new("1", [0x60; 16], 4096, 1 << 20);
        let mut page = Vec::new();
        third_party_copy_page(&device, &mut page);
        let mut found = Vec::new();
        let mut rest = page.as_slice();
        while let [a, b, c, d, behind @ ..] = rest {
            let length = usize::from(u16::from_be_bytes([*c, *d]));
            assert_eq!(length % 4, 0);
            found.push((u16::from_be_bytes([*a, *b]), behind[..length].to_vec()));
            rest = &behind[length..];
        }
        assert!(rest.is_empty());
        found
    }

    #[test]
    fn the_page_has_its_descriptors_in_order_and_of_their_lengths() {
        let lengths: Vec<_> = descriptors().iter().map(|it| (it.0, it.1.len())).collect();
        let expected = [
            (0x0000, 0x20),
            (0x0001, 16),
            (0x0004, 0x1c),
            (0x0008, 4),
            (0x000c, 4),
            (0x0106, 0x2c + 48),
            (0x0108, 4 + 3 * 64),
            (0x8001, 0x20),
        ];
        assert_eq!(lengths, expected);
    }

    #[test]
    fn the_limits_are_told_in_blocks_of_the_unit() {
        let limits = &descriptors()[0].1;
        assert_eq!(limits[6..8], MAX_RANGES.to_be_bytes());
        assert_eq!(limits[16..24], (MAX_TOKEN_BYTES / 4096).to_be_bytes());
        let features = &descriptors()[5].1;
        assert_eq!(features[12..16], 1u32.to_be_bytes());
        assert_eq!(features[44..48], [0, 0, 0, 44]);
        assert_eq!(features[52..60], MAX_TOKEN_BYTES.to_be_bytes());
        let rods = &descriptors()[6].1;
        assert_eq!((&rods[4..8], rods[8]), (&CHANGE_VULNERABLE.to_be_bytes()[..], 0x03));
        assert_eq!((&rods[132..136], rods[136]), (&[0xff, 0xff, 0, 1][..], 0x02));
    }

    #[test]
    fn the_page_names_the_commands_that_are_there() {
        let commands = &descriptors()[1].1;
        let mut named = Vec::new();
        let mut rest = &commands[1..=usize::from(commands[0])];
        while let [code, count, behind @ ..] = rest {
            let (actions, behind) = behind.split_at(usize::from(*count));
            named.extend(actions.iter().map(|action| (*code, Some(*action))));
            rest = behind;
        }
        let of_copies = COMMANDS.iter().filter(|it| matches!(it.operation_code, 0x83 | 0x84));
        let there: Vec<_> = of_copies.map(|it| (it.operation_code, it.service_action)).collect();
        assert_eq!(named, there);
    }
}
