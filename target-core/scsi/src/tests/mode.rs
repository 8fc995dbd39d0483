//! MODE SENSE and MODE SELECT.

use super::*;

#[test]
fn mode_sense_gives_each_page_alone_and_all_of_them_together() {
    let world = World::new();
    let all = world.reply(&[0x1a, 0x08, 0x3f, 0, 255, 0]);
    assert_eq!(usize::from(all[0]) + 1, all.len());
    let (mut rest, mut codes) = (&all[4..], Vec::new());
    while let [code, length, ..] = *rest {
        let alone = world.reply(&[0x1a, 0x08, code & 0x3f, 0, 255, 0]);
        let whole = usize::from(length) + 2;
        assert_eq!(alone[4..], rest[..whole]);
        // PS: every page can be saved.
        codes.push(code & 0x7f);
        assert_eq!(code & 0x80, 0x80);
        rest = &rest[whole..];
    }
    assert_eq!(codes, [0x01, 0x08, 0x0a, 0x1a, 0x1c]);
    let changeable = world.reply(&[0x1a, 0x08, 0x48, 0, 255, 0]);
    assert_eq!(changeable[6], 0x04, "WCE");
    assert!(changeable[7..].iter().all(|byte| *byte == 0));
    let long = world.reply(&[0x5a, 0x10, 0x08, 0, 0, 0, 0, 1, 0, 0]);
    assert_eq!((long[4], long[7], long[15], long[22]), (1, 16, 0x00, 0x02));
    assert_eq!(long[8..16], 2048u64.to_be_bytes());
}

#[test]
fn mode_select_changes_what_it_may_and_nothing_else() {
    let mut world = World::new();
    world.data_out = 255;
    let select = |world: &World, data: &[u8]| {
        let cdb = [0x15, 0x10, 0, 0, u8::try_from(data.len()).unwrap(), 0];
        let length = u32::try_from(data.len()).unwrap();
        assert_eq!(world.plan(&cdb).0, Plan::NeedData { length });
        plan_with_data(Cdb::new(&cdb), &world.context(), data, &mut Vec::new())
    };
    // What MODE SENSE gives can be sent back.
    let mut data = world.reply(&[0x1a, 0, 0x3f, 0, 255, 0]);
    (data[0], data[2]) = (0, 0);
    assert_eq!(select(&world, &data), Plan::ModeSelect { mode: world.mode, save: false });
    let mut control = world.reply(&[0x1a, 0x08, 0x0a, 0, 255, 0]);
    (control[0], control[2]) = (0, 0);
    control[6] |= 0x04;
    control[8] |= 0x08;
    let Plan::ModeSelect { mode, save: false } = select(&world, &control) else { panic!() };
    assert!(mode.descriptor_sense && mode.software_write_protect && mode.write_cache_enabled);
    control[7] ^= 0x80;
    let Plan::Check(sense) = select(&world, &control) else { panic!() };
    assert_eq!(sense.field, Some(FieldPointer { cdb: false, byte: 7, bit: None }));
    let Plan::Check(sense) = select(&world, &control[..8]) else { panic!() };
    assert_eq!(sense.asc, AdditionalSense::PARAMETER_LIST_LENGTH_ERROR);

    world.mode = mode;
    assert_eq!(
        world.sense(&[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0]).asc.1,
        2,
        "software write protected"
    );
    assert_eq!(world.reply(&[0x1a, 0x08, 0x0a, 0, 255, 0])[2] & 0x80, 0x80);
    assert_eq!(world.reply(&[0x1a, 0x08, 0x8a, 0, 255, 0])[6], 0, "the default");
}

/// The pages of MODE SENSE data: code and subpage, SPF, and all bytes.
fn split(mut rest: &[u8]) -> Vec<((u8, u8), &[u8])> {
    let mut pages = Vec::new();
    while let [first, second, ..] = *rest {
        let (subpage, whole) = if first & 0x40 == 0 {
            (0, usize::from(second) + 2)
        } else {
            (second, usize::from(u16::from_be_bytes([rest[2], rest[3]])) + 4)
        };
        let (page, behind) = rest.split_at(whole);
        pages.push(((first & 0x3f, subpage), page));
        rest = behind;
    }
    pages
}

#[test]
fn subpage_ff_lists_the_subpages_too_each_in_its_format() {
    let world = World::new();
    let sense = |page, subpage| world.reply(&[0x1a, 0x08, page, subpage, 255, 0]);
    let all = sense(0x3f, 0xff);
    let pages = split(&all[4..]);
    let codes: Vec<_> = pages.iter().map(|(code, _)| *code).collect();
    let wanted = [(0x01, 0), (0x08, 0), (0x0a, 0), (0x0a, 1), (0x1a, 0), (0x1c, 0), (0x1c, 2)];
    assert_eq!(codes, wanted);
    for ((code, subpage), page) in &pages {
        assert_eq!(page[0], 0x80 | if *subpage == 0 { *code } else { 0x40 | code });
        assert_eq!(sense(*code, *subpage)[4..], **page, "{code:x} {subpage:x}");
    }
    let only: Vec<_> = pages.iter().filter(|page| page.0.0 == 0x0a).collect();
    let control = sense(0x0a, 0xff);
    assert_eq!(split(&control[4..]).iter().collect::<Vec<_>>(), only);
    let long = world.reply(&[0x5a, 0x08, 0x3f, 0xff, 0, 0, 0, 1, 0, 0]);
    assert_eq!(long[8..], all[4..]);
}

#[test]
fn the_read_only_pages_have_the_length_of_the_standards() {
    let world = World::new();
    let page = |code, subpage| world.reply(&[0x1a, 0x08, code, subpage, 255, 0])[4..].to_vec();
    assert_eq!(page(0x0a, 1)[..4], [0xca, 1, 0, 0x1c]);
    assert_eq!(page(0x1c, 2)[..4], [0xdc, 2, 0, 0x1c]);
    let power = page(0x1a, 0);
    assert_eq!((power.len(), power[1], power[39]), (40, 0x26, 0x54));
    assert!(power[2..39].iter().all(|byte| *byte == 0), "no timer runs");
    for (code, subpage) in [(0x0a, 1), (0x1a, 0), (0x1c, 0), (0x1c, 2)] {
        let header = if subpage == 0 { 2 } else { 4 };
        assert!(page(0x40 | code, subpage)[header..].iter().all(|byte| *byte == 0), "{code:x}");
        assert_eq!(page(0x80 | code, subpage), page(code, subpage), "the defaults");
    }
}

#[test]
fn a_page_that_is_not_there_is_refused_by_page_or_by_subpage() {
    let world = World::new();
    let refused = |page, subpage| world.sense(&[0x1a, 0, page, subpage, 255, 0]).field;
    assert_eq!(refused(0x02, 0), field(2, Some(5)));
    assert_eq!(refused(0x02, 0xff), field(2, Some(5)));
    assert_eq!(refused(0x0a, 2), field(3, None));
    assert_eq!(refused(0x08, 1), field(3, None));
    assert_eq!(refused(0x3f, 1), field(3, None));
    let full = World::with(|device| device.unmap = false);
    assert_eq!(full.sense(&[0x1a, 0, 0x1c, 2, 255, 0]).field, field(3, None));
    let all = full.reply(&[0x1a, 0x08, 0x3f, 0xff, 255, 0]);
    assert!(split(&all[4..]).iter().all(|(code, _)| *code != (0x1c, 2)));
}

/// MODE SELECT(10) with this parameter list.
fn select_10(world: &World, data: &[u8]) -> Plan {
    let [high, low] = u16::try_from(data.len()).unwrap().to_be_bytes();
    let cdb = [0x55, 0x10, 0, 0, 0, 0, 0, high, low, 0];
    let length = u32::try_from(data.len()).unwrap();
    assert_eq!(world.plan(&cdb).0, Plan::NeedData { length });
    plan_with_data(Cdb::new(&cdb), &world.context(), data, &mut Vec::new())
}

#[test]
fn everything_that_mode_sense_gives_can_be_selected() {
    let mut world = World { data_out: 512, ..World::new() };
    for values in 0..8 {
        world.mode = ModeParameters {
            write_cache_enabled: values & 1 != 0,
            descriptor_sense: values & 2 != 0,
            software_write_protect: values & 4 != 0,
        };
        for options in [0x00, 0x08, 0x10, 0x18] {
            let mut data = world.reply(&[0x5a, options, 0x3f, 0xff, 0, 0, 0, 2, 0, 0]);
            // MODE DATA LENGTH and the device-specific parameter are reserved there.
            data[..4].fill(0);
            let expected = Plan::ModeSelect { mode: world.mode, save: false };
            assert_eq!(select_10(&world, &data), expected);
        }
    }
    // From one set of values to another: all pages in one list.
    let wanted = world.reply(&[0x5a, 0x08, 0x3f, 0xff, 0, 0, 0, 2, 0, 0]);
    let target = std::mem::take(&mut world.mode);
    let list = [&[0; 8], &wanted[8..]].concat();
    assert_eq!(select_10(&world, &list), Plan::ModeSelect { mode: target, save: false });
}

#[test]
fn current_default_and_saved_values_are_three_things_and_sp_saves() {
    let mut world = World { data_out: 512, ..World::new() };
    world.mode.write_cache_enabled = false;
    world.saved_mode.software_write_protect = true;
    let byte = |page: u8, at: usize| world.reply(&[0x1a, 0x08, page, 0, 255, 0])[4 + at];
    let cached = [0x08, 0x88, 0xc8].map(|page| byte(page, 2) & 0x04);
    let protected = [0x0a, 0x8a, 0xca].map(|page| byte(page, 4) & 0x08);
    // Current, default, saved.
    assert_eq!((cached, protected), ([0, 4, 4], [0, 0, 8]));
    let mut list = world.reply(&[0x1a, 0x08, 0x0a, 0, 255, 0]);
    list[..4].fill(0);
    list[6] |= 0x04;
    let cdb = [0x15, 0x11, 0, 0, u8::try_from(list.len()).unwrap(), 0];
    assert!(matches!(world.plan(&cdb).0, Plan::NeedData { .. }));
    let plan = plan_with_data(Cdb::new(&cdb), &world.context(), &list, &mut Vec::new());
    let mode = ModeParameters { descriptor_sense: true, ..world.mode };
    assert_eq!(plan, Plan::ModeSelect { mode, save: true });
    // Without a list, what is in force is saved.
    let plan = world.plan(&[0x15, 0x11, 0, 0, 0, 0]).0;
    assert_eq!(plan, Plan::ModeSelect { mode: world.mode, save: true });
    assert_eq!(world.plan(&[0x15, 0x10, 0, 0, 0, 0]).0, Plan::Good);
}

#[test]
fn the_soft_thresholds_stand_in_their_page_and_cannot_be_changed() {
    let mut world = World { data_out: 512, ..World::new() };
    let page = world.reply(&[0x1a, 0x08, 0x1c, 2, 255, 0])[4..].to_vec();
    let descriptors = [[0x80, 1, 0, 0, 0, 0, 0x0c, 0], [0x80, 1, 0, 0, 0, 0, 0, 1]].concat();
    assert_eq!(page[16..], descriptors);
    let mut list = [&[0; 8], &page[..]].concat();
    list[8 + 16] = 0;
    let Plan::Check(sense) = select_10(&world, &list) else { panic!() };
    assert_eq!(sense.field, Some(FieldPointer { cdb: false, byte: 24, bit: None }));
    let device = world.device.as_mut().unwrap();
    assert!(device.set_soft_thresholds(&[1 << 30; 20]));
    assert!(!device.set_soft_thresholds(&[(1 << 30) + 1; 9]), "that tells of nothing else");
    let all = world.reply(&[0x1a, 0, 0x3f, 0xff, 255, 0]);
    assert_eq!(usize::from(all[0]) + 1, all.len(), "MODE SENSE(6) can tell of it");
    let device = world.device.as_ref().unwrap();
    assert_eq!(device.set_provisioning(Provisioning::Thin), (false, false));
    assert_eq!(device.set_provisioning(Provisioning::Full), (true, true));
    assert!(!device.set_soft_thresholds(&[1 << 20]), "a full disk has its space");
    assert_eq!(world.reply(&[0x1a, 0x08, 0x1c, 2, 255, 0])[4..].len(), 16);
}

#[test]
fn a_wrong_subpage_is_refused_with_its_place() {
    let world = World { data_out: 512, ..World::new() };
    let extension = [&[0x4a, 0x01, 0x00, 0x1c, 0x04][..], &[0; 27]].concat();
    let refused = |at: usize, value: u8| {
        let mut list = [&[0; 8], &extension[..]].concat();
        list[8 + at] = value;
        let Plan::Check(sense) = select_10(&world, &list) else { panic!("{at} {value}") };
        assert_eq!(sense.asc, AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST);
        let pointer = sense.field.unwrap();
        (pointer.cdb, pointer.byte - 8, pointer.bit)
    };
    assert_eq!(refused(0, 0x42), (false, 0, Some(5)), "no such page");
    assert_eq!(refused(0, 0x0a), (false, 1, None), "the short format has another length");
    assert_eq!(refused(1, 0x03), (false, 1, None), "no such subpage");
    assert_eq!(refused(1, 0x00), (false, 1, None), "the page itself has the short format");
    assert_eq!(refused(3, 0x1b), (false, 2, None), "the length");
    assert_eq!(refused(4, 0x00), (false, 4, None), "nothing in it can be changed");
    assert_eq!(refused(31, 0x01), (false, 31, None));
    let list = [&[0; 8], &extension[..]].concat();
    for cut in [9, 11, 20, 39] {
        let Plan::Check(sense) = select_10(&world, &list[..cut]) else { panic!() };
        assert_eq!(sense.asc, AdditionalSense::PARAMETER_LIST_LENGTH_ERROR, "{cut}");
    }
}
