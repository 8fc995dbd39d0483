//! SEND DIAGNOSTIC and RECEIVE DIAGNOSTIC RESULTS.

use super::*;

#[test]
fn the_default_self_test_passes() {
    let world = World::new();
    for options in [0x00, 0x04, 0x05, 0x06, 0x07, 0x10, 0x14] {
        assert_eq!(world.plan(&[0x1d, options, 0, 0, 0, 0]).0, Plan::Good, "{options:x}");
    }
}

#[test]
fn the_default_self_test_fails_without_a_medium() {
    let mut world = World::new();
    let asc = AdditionalSense::LOGICAL_UNIT_NOT_READY_INITIALIZING_COMMAND_REQUIRED;
    let sense = Sense::new(SenseKey::NotReady, asc);
    world.state = MediumState::NotReady(sense);
    assert_eq!(world.sense(&[0x1d, 0x04, 0, 0, 0, 0]), sense);
    assert_eq!(world.plan(&[0x1d, 0x00, 0, 0, 0, 0]).0, Plan::Good, "nothing was asked for");
}

#[test]
fn other_self_tests_and_lists_beside_a_self_test_are_refused() {
    let world = World::new();
    for code in 1..8 {
        for self_test in [0x00, 0x04] {
            let sense = world.sense(&[0x1d, code << 5 | self_test, 0, 0, 0, 0]);
            assert_eq!(sense.asc, AdditionalSense::INVALID_FIELD_IN_CDB);
            assert_eq!(sense.field, field(1, Some(7)), "{code}");
        }
    }
    assert_eq!(world.sense(&[0x1d, 0x14, 0, 0, 4, 0]).field, field(3, None));
    assert_eq!(world.sense(&[0x1d, 0x00, 0, 1, 0, 0]).field, field(3, None), "without PF");
}

#[test]
fn the_list_of_pages_can_be_asked_for_and_nothing_else_sent() {
    let world = World { data_out: 4, ..World::new() };
    let cdb = [0x1d, 0x10, 0, 0, 4, 0];
    assert_eq!(world.plan(&cdb).0, Plan::NeedData { length: 4 });
    let sent =
        |data: &[u8]| plan_with_data(Cdb::new(&cdb), &world.context(), data, &mut Vec::new());
    assert_eq!(sent(&[0, 0, 0, 0]), Plan::Good);
    let field = |data: &[u8]| {
        let Plan::Check(sense) = sent(data) else { panic!("{data:x?}") };
        (sense.asc, sense.field.map(|field| field.byte))
    };
    let invalid = AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST;
    assert_eq!(field(&[0x40, 0, 0, 0]), (invalid, Some(0)));
    assert_eq!(field(&[0, 0, 0, 1]), (invalid, Some(2)));
    let length = AdditionalSense::PARAMETER_LIST_LENGTH_ERROR;
    assert_eq!(field(&[0, 0, 0]), (length, None));
    assert_eq!(field(&[0, 0, 0, 0, 0]), (length, None));
    assert_eq!(world.sense(&[0x1d, 0x10, 0, 0, 5, 0]).asc, length);
}

#[test]
fn the_only_diagnostic_page_is_the_list_of_pages() {
    let world = World::new();
    for page_code_valid in [0, 1] {
        assert_eq!(world.reply(&[0x1c, page_code_valid, 0, 0, 255, 0]), [0, 0, 0, 1, 0]);
        let sense = world.sense(&[0x1c, page_code_valid, 0x3f, 0, 255, 0]);
        assert_eq!(sense.field, field(2, None));
    }
    assert_eq!(world.reply(&[0x1c, 1, 0, 0, 4, 0]), [0, 0, 0, 1]);
    assert_eq!(world.reply(&[0x1c, 1, 0, 0, 0, 0]), []);
}
