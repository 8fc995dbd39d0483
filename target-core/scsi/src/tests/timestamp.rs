//! REPORT TIMESTAMP, and what the Control Extension mode page says of it.

use std::time::{Duration, SystemTime};

use super::*;

const REPORT_TIMESTAMP: [u8; 12] = [0xa3, 0x0f, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0];

fn at(clock: fn() -> SystemTime, cdb: &[u8]) -> Vec<u8> {
    let world = World::new();
    let context = Context { clock, ..world.context() };
    let mut reply = Vec::new();
    assert_eq!(plan(Cdb::new(cdb), &context, &mut reply), Plan::DataIn);
    reply
}

#[test]
fn the_timestamp_is_the_hosts_time_in_milliseconds() {
    let noon = || UNIX_EPOCH + Duration::from_millis(0x0102_0304_0506);
    let whole = [0, 10, 0x03, 0, 1, 2, 3, 4, 5, 6, 0, 0];
    assert_eq!(at(noon, &REPORT_TIMESTAMP), whole);
    // A shorter allocation length cuts it, and its length field stays.
    for length in 0..12 {
        let mut cdb = REPORT_TIMESTAMP;
        cdb[9] = length;
        assert_eq!(at(noon, &cdb), whole[..usize::from(length)]);
    }
}

#[test]
fn clocks_that_no_timestamp_can_show_give_the_nearest() {
    let before = || UNIX_EPOCH - Duration::from_secs(1);
    assert_eq!(at(before, &REPORT_TIMESTAMP)[4..10], [0; 6]);
    let after = || UNIX_EPOCH + Duration::from_millis(1 << 48);
    assert_eq!(at(after, &REPORT_TIMESTAMP)[4..], [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]);
}

#[test]
fn the_control_extension_page_says_that_the_host_keeps_the_time() {
    // TCMOS without SCSIP, and no MODE SELECT changes it.
    for (control, tcmos) in [(0x00, 0x04), (0x40, 0x00), (0x80, 0x04)] {
        let page = World::new().reply(&[0x1a, 0x08, control | 0x0a, 0x01, 255, 0]);
        assert_eq!((page[4], page[5], page[8]), (0xca, 0x01, tcmos), "{control:x}");
    }
}
