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
    assert_eq!(reply(0, 0), [0x00, 0, 0, 6, 0x00, 0x0c, 0x0d, 0x0e, 0x19, 0x2f]);
    let all = reply(0, 0xff);
    let pages = [0x00, 0x00, 0x00, 0xff, 0x0c, 0, 0x0d, 0, 0x0e, 0, 0x19, 0, 0x2f, 0];
    assert_eq!(all, [&[0x40, 0xff, 0, 14][..], &pages].concat());
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

/// The parameters of a page: code, control byte, value.
fn parameters(world: &World, page: u8, pointer: u16) -> Vec<(u16, u8, Vec<u8>)> {
    let data = world.reply(&cdb(1, page, 0, pointer, 255));
    assert_eq!(usize::from(data[3]) + 4, data.len());
    let (mut rest, mut found) = (&data[4..], Vec::new());
    while let [high, low, control, length, ..] = *rest {
        let (value, behind) = rest[4..].split_at(usize::from(length));
        found.push((u16::from_be_bytes([high, low]), control, value.to_vec()));
        rest = behind;
    }
    found
}

#[test]
fn the_space_of_a_thin_unit_is_told_in_threshold_sets() {
    let world = World::new();
    // Nobody has looked yet.
    assert_eq!(parameters(&world, 0x0c, 0), []);
    world.device.as_ref().unwrap().space.set((5 << 30) + 4095, 7 << 20);
    let available = (0x0001, 0x23, vec![0, 0, 0x14, 0, 2, 0, 0, 0]);
    let used = (0x0002, 0x23, vec![0, 0, 0, 7, 1, 0, 0, 0]);
    assert_eq!(parameters(&world, 0x0c, 0), [available, used.clone()]);
    assert_eq!(parameters(&world, 0x0c, 2), [used]);
    // 2^11 blocks of 512 bytes are 1 MiB.
    assert_eq!(world.reply(&[0x12, 1, 0xb2, 0, 255, 0])[4], 11);
    for full in [true, false] {
        let world = World::with(|device| {
            if full {
                device.provisioning.set(Provisioning::Full);
            } else {
                device.unmap = false;
            }
        });
        assert_eq!(world.sense(&cdb(1, 0x0c, 0, 0, 255)).field, field(2, Some(5)));
        assert_eq!(world.reply(&[0x12, 1, 0xb2, 0, 255, 0])[4], 0);
    }
}

#[test]
fn what_the_unit_has_done_is_told_and_what_is_not_known_is_not_made_up() {
    let world = World::new();
    let counted = parameters(&world, 0x19, 0);
    assert_eq!(
        counted.iter().map(|it| (it.0, it.1)).collect::<Vec<_>>(),
        [(1, 32), (2, 32), (3, 35)]
    );
    let numbers: Vec<_> =
        counted[0].2.chunks(8).map(|it| u64::from_be_bytes(it.try_into().unwrap())).collect();
    // Commands that read and write; blocks received and sent; no times.
    assert_eq!(numbers, [1, 2, 4, 3, 0, 0, 0, 0]);
    let unknown = |code| (code, 0x23, vec![0, 0xff]);
    assert_eq!(parameters(&world, 0x0d, 0), [unknown(0), unknown(1)]);
    let cycles = parameters(&world, 0x0e, 3);
    assert_eq!(cycles, [(3, 0x23, vec![0xff; 4]), (4, 0x23, vec![0, 0, 0, 5])]);
    assert_eq!(parameters(&world, 0x0e, 0)[0], (1, 0x21, b"      ".to_vec()));
    assert_eq!(world.sense(&cdb(1, 0x0e, 0, 5, 255)).field, field(5, None));
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
    assert_eq!(world.reply(&cdb(1, 0, 0, 0, 255)).len(), 10);
    world.device = None;
    let sense = world.sense(&cdb(1, 0, 0, 0, 255));
    assert_eq!(sense.asc, AdditionalSense::LOGICAL_UNIT_NOT_SUPPORTED);
}
