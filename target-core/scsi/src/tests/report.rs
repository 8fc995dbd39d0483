//! What a logical unit says about its commands.

use super::*;

#[test]
fn supported_operation_codes_are_those_of_the_table() {
    let world = World::new();
    let all = world.reply(&[0xa3, 0x0c, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
    let count = COMMANDS.len() + LONG_COMMANDS.len();
    assert_eq!(all.len(), 4 + 8 * count);
    let of = |entry: &[u8]| (entry[0], u16::from_be_bytes([entry[2], entry[3]]));
    let keys: Vec<_> = all[4..].chunks(8).map(of).collect();
    assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "{keys:x?}");
    let all = world.reply(&[0xa3, 0x0c, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
    assert_eq!(all.len(), 4 + 20 * count);
    let one =
        |option, code, action| world.plan(&[0xa3, 0x0c, option, code, 0, action, 0, 0, 1, 0, 0, 0]);
    assert_eq!(one(1, 0x28, 0).1[1] & 7, 3);
    assert_eq!(one(2, 0x9e, 0x10).1[5], 0x10);
    assert_eq!(one(3, 0x28, 1).1[1] & 7, 1);
    assert_eq!(one(1, 0xc0, 0).1[1] & 7, 1);
    assert!(matches!(one(1, 0x9e, 0).0, Plan::Check(_)));
    assert!(matches!(one(2, 0x28, 0).0, Plan::Check(_)));
    // WRITE SAME(32): all of its usage data, the service action in its place.
    let (_, long) = one(3, 0x7f, 0x0d);
    assert_eq!((long[1] & 7, long[2], long[3], long.len()), (3, 0, 32, 36));
    assert_eq!(
        (long[4], long[4 + 7], long[4 + 8], long[4 + 9], long[4 + 10]),
        (0x7f, 0x18, 0, 0x0d, 0x19)
    );
    assert_eq!(one(2, 0x7f, 0x08).1[1] & 7, 1);
    assert!(matches!(one(1, 0x7f, 0).0, Plan::Check(_)));
}

/// RECOMMENDED COMMAND TIMEOUT out of a command timeouts descriptor, the rest of which is fixed.
fn recommended(descriptor: &[u8]) -> u32 {
    // Its length, COMMAND SPECIFIC, NOMINAL COMMAND PROCESSING TIMEOUT.
    assert_eq!(descriptor[..8], [0, 10, 0, 0, 0, 0, 0, 0]);
    u32::from_be_bytes(descriptor[8..12].try_into().unwrap())
}

#[test]
fn timeouts_are_those_of_the_rows_for_all_commands_and_for_one() {
    let world = World::new();
    let all = world.reply(&[0xa3, 0x0c, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
    let short = all[4..].chunks(20).filter(|descriptor| descriptor[0] != 0x7f);
    for (row, descriptor) in COMMANDS.iter().zip(short) {
        assert_eq!(descriptor[5] & 0x02, 0x02, "CTDP");
        assert_eq!(recommended(&descriptor[8..]), row.timeout_seconds, "{}", row.name);
        let action = row.service_action.unwrap_or(0);
        let cdb = [0xa3, 0x0c, 0x83, row.operation_code, 0, action, 0, 0, 1, 0, 0, 0];
        let one = world.reply(&cdb);
        assert_eq!(one[1], 0x83, "CTDP, SUPPORT: {}", row.name);
        let behind_usage = 4 + row.usage.len();
        assert_eq!(recommended(&one[behind_usage..]), row.timeout_seconds, "{}", row.name);
        assert_eq!(one.len(), behind_usage + 12);
    }
}

#[test]
fn commands_that_may_go_over_the_whole_medium_have_an_hour() {
    let whole = ["UNMAP", "WRITE SAME(", "VERIFY(", "SYNCHRONIZE CACHE("];
    for row in COMMANDS {
        let long = whole.iter().any(|name| row.name.starts_with(name));
        if long {
            assert_eq!(row.timeout_seconds, 3600, "{}", row.name);
        } else {
            assert!(row.timeout_seconds >= 30, "{}", row.name);
        }
    }
}

#[test]
fn the_queries_are_reported_where_the_transport_has_them() {
    let world = World::new();
    let cdb = Cdb::new(&[0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0]);
    for (protocol_level, expected) in [(1, [0xda, 0]), (2, [0xde, 0x07])] {
        let context = Context { protocol_level, ..world.context() };
        let mut reply = Vec::new();
        assert_eq!(plan(cdb, &context, &mut reply), Plan::DataIn);
        assert_eq!(reply, [expected[0], expected[1], 0, 0]);
    }
}

#[test]
fn every_select_report_lists_what_there_is() {
    let world = World::new();
    let luns = [0, 1 << 48, 0x4100_0000_0000_0000];
    let context = Context { luns: &luns, ..world.context() };
    let list = |select: u8, length: u8| {
        let cdb = Cdb::new(&[0xa0, 0, select, 0, 0, 0, 0, 0, 0, length, 0, 0]);
        let mut reply = Vec::new();
        (plan(cdb, &context, &mut reply), reply)
    };
    let all = [&[0, 0, 0, 24, 0, 0, 0, 0][..], &luns.map(u64::to_be_bytes).concat()].concat();
    // All but the well known ones, and all of them: there are no well known ones.
    for select in [0x00, 0x02] {
        assert_eq!(list(select, 255), (Plan::DataIn, all.clone()));
    }
    // Well known ones; administrative ones and what belongs to them.
    for select in [0x01, 0x10, 0x11, 0x12] {
        assert_eq!(list(select, 255), (Plan::DataIn, vec![0; 8]));
    }
    // The length that is told is that of the whole list.
    assert_eq!(list(0x00, 20), (Plan::DataIn, all[..20].to_vec()));
    assert_eq!(list(0x03, 255).0, Plan::Check(Sense::invalid_field_in_cdb(2, None)));
    assert_eq!(list(0x00, 15).0, Plan::Check(Sense::invalid_field_in_cdb(6, None)));
}
