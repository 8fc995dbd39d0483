//! LOG SENSE.

use super::*;

fn cdb(control: u8, page: u8, subpage: u8, parameter: u16, length: u16) -> [u8; 10] {
    let ([p0, p1], [l0, l1]) = (parameter.to_be_bytes(), length.to_be_bytes());
    [0x4d, 0, control << 6 | page, subpage, 0, p0, p1, l0, l1, 0]
}

#[test]
fn the_log_pages_that_page_zero_names_are_there_and_no_others() {
    let world = World::new();
    let reply = |page, subpage| world.reply(&cdb(1, page, subpage, 0, 255));
    assert_eq!(reply(0, 0), [0x00, 0, 0, 2, 0x00, 0x2f]);
    let all = reply(0, 0xff);
    assert_eq!(all, [0x40, 0xff, 0, 6, 0x00, 0x00, 0x00, 0xff, 0x2f, 0x00]);
    let listed: Vec<_> = all[4..].chunks(2).map(|pair| (pair[0], pair[1])).collect();
    for page in 0..=0x3f {
        for subpage in [0x00, 0x01, 0xff] {
            let (plan, data) = world.plan(&cdb(1, page, subpage, 0, 255));
            if listed.contains(&(page, subpage)) {
                assert_eq!((data[0] & 0x3f, data[1]), (page, subpage));
                assert_eq!(data[0] & 0x40 != 0, subpage != 0, "SPF");
                assert_eq!(data.len(), usize::from(data[3]) + 4);
                continue;
            }
            let Plan::Check(sense) = plan else { panic!("{page:x} {subpage:x}") };
            let known = listed.iter().any(|(code, _)| *code == page);
            let expected = if known { field(3, None) } else { field(2, Some(5)) };
            assert_eq!(sense.field, expected, "{page:x} {subpage:x}");
        }
    }
}

#[test]
fn there_is_no_informational_exception_and_no_temperature() {
    let reply = World::new().reply(&cdb(1, 0x2f, 0, 0, 255));
    // DS; parameter 0000h, TSD and a binary list of four bytes.
    assert_eq!(reply, [0xaf, 0, 0, 8, 0, 0, 0x23, 4, 0, 0, 0xff, 0]);
}

#[test]
fn the_page_control_does_not_matter_to_lists() {
    let world = World::new();
    for (page, subpage) in [(0, 0), (0, 0xff), (0x2f, 0)] {
        let replies: Vec<_> =
            (0..4).map(|control| world.reply(&cdb(control, page, subpage, 0, 255))).collect();
        assert!(replies.windows(2).all(|pair| pair[0] == pair[1]));
    }
}

#[test]
fn nothing_is_saved_and_no_parameter_is_behind_the_last() {
    let world = World::new();
    let mut save = cdb(1, 0x2f, 0, 0, 255);
    save[1] = 0x01;
    assert_eq!(world.sense(&save).field, field(1, Some(0)));
    for (page, subpage) in [(0, 0), (0, 0xff), (0x2f, 0)] {
        for parameter in [1, 0x100, 0xffff] {
            let sense = world.sense(&cdb(1, page, subpage, parameter, 255));
            assert_eq!(sense.asc, AdditionalSense::INVALID_FIELD_IN_CDB);
            assert_eq!(sense.field, field(5, None));
        }
    }
}

#[test]
fn an_allocation_length_cuts_a_log_page() {
    let world = World::new();
    assert_eq!(world.reply(&cdb(1, 0x2f, 0, 0, 4)), [0xaf, 0, 0, 8]);
    assert_eq!(world.reply(&cdb(1, 0x2f, 0, 0, 0)), []);
}

#[test]
fn a_unit_that_is_not_ready_still_has_its_log() {
    let mut world = World::new();
    world.state = MediumState::NotReady(Sense::new(
        SenseKey::NotReady,
        AdditionalSense::LOGICAL_UNIT_NOT_READY_CAUSE_NOT_REPORTABLE,
    ));
    assert_eq!(world.reply(&cdb(1, 0, 0, 0, 255)).len(), 6);
    world.device = None;
    let sense = world.sense(&cdb(1, 0, 0, 0, 255));
    assert_eq!(sense.asc, AdditionalSense::LOGICAL_UNIT_NOT_SUPPORTED);
}
