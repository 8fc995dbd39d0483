//! INQUIRY and the vital product data pages.

use super::*;

#[test]
fn standard_inquiry_data_says_what_is_there() {
    let reply = World::new().reply(&[0x12, 0, 0, 1, 0, 0]);
    assert_eq!(reply.len(), 96);
    // Direct access, not removable, SPC-4, HISUP and format 2, ADDITIONAL LENGTH, TPGS and 3PC, CMDQUE.
    assert_eq!(reply[..8], [0x00, 0x00, 0x06, 0x12, 91, 0x38, 0x00, 0x02]);
    assert_eq!(reply[8..36], *b"LUND    VIRTUAL DISK    0001");
    let versions: Vec<_> =
        reply[58..74].chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
    // SAM-5, iSCSI of RFC 7143, SPC-4, SBC-3; nothing behind them.
    assert_eq!(versions, [0x00a0, 0x0961, 0x0460, 0x04c0, 0, 0, 0, 0]);
}

#[test]
fn the_version_descriptor_of_iscsi_is_that_of_the_session() {
    let world = World::new();
    for (protocol_level, expected) in [(0, 0x60), (1, 0x61), (2, 0x62)] {
        let context = Context { protocol_level, ..world.context() };
        let mut reply = Vec::new();
        let cdb = Cdb::new(&[0x12, 0, 0, 0, 96, 0]);
        assert_eq!(plan(cdb, &context, &mut reply), Plan::DataIn);
        assert_eq!(reply[60..62], [0x09, expected]);
    }
}

#[test]
fn an_allocation_length_cuts_the_data_and_changes_nothing_in_it() {
    let world = World::new();
    for page in [None, Some(0x00), Some(0x83), Some(0xb0)] {
        let ask = |length: u16| {
            let [high, low] = length.to_be_bytes();
            world.reply(&[0x12, u8::from(page.is_some()), page.unwrap_or(0), high, low, 0])
        };
        let whole = ask(u16::MAX);
        for length in 0..u16::try_from(whole.len()).unwrap() + 2 {
            let cut = whole.len().min(usize::from(length));
            assert_eq!(ask(length), whole[..cut], "{page:x?} {length}");
        }
    }
}

#[test]
fn a_lun_that_is_not_there_has_a_peripheral_qualifier_and_no_vpd_pages() {
    let world = World { device: None, ..World::new() };
    let reply = world.reply(&[0x12, 0, 0, 0, 96, 0]);
    assert_eq!((reply.len(), reply[0], reply[4]), (96, 0x7f, 91));
    assert_eq!(reply[8..36], [b' '; 28]);
    assert_eq!(world.sense(&[0x12, 1, 0x80, 0, 96, 0]).field, field(2, None));
}

#[test]
fn request_sense_has_both_formats_and_its_allocation_length() {
    let mut world = World::new();
    assert_eq!(world.reply(&[0x03, 0, 0, 0, 252, 0])[..8], [0x70, 0, 0, 0, 0, 0, 0, 10]);
    assert_eq!(world.reply(&[0x03, 1, 0, 0, 252, 0]), [0x72, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(world.reply(&[0x03, 0, 0, 0, 3, 0]), [0x70, 0, 0]);
    assert_eq!(world.reply(&[0x03, 0, 0, 0, 0, 0]), []);
    let asc = AdditionalSense::LOGICAL_UNIT_NOT_READY_INITIALIZING_COMMAND_REQUIRED;
    world.state = MediumState::NotReady(Sense::new(SenseKey::NotReady, asc));
    assert_eq!(world.reply(&[0x03, 1, 0, 0, 252, 0])[..4], [0x72, 2, 0x04, 0x02]);
}

#[test]
fn naca_is_refused_in_the_control_byte() {
    let world = World::new();
    assert_eq!(world.sense(&[0x12, 0, 0, 0, 96, 0x04]).field, field(5, Some(2)));
    assert_eq!(world.sense(&[0x03, 0, 0, 0, 18, 0x04]).field, field(5, Some(2)));
    assert_eq!(world.sense(&[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0x04]).field, field(9, Some(2)));
}

#[test]
fn every_mode_page_has_one_policy_and_every_port_of_the_target_its_name() {
    let own = Port { relative_target_port_id: 7, ..port() };
    let other = Port { relative_target_port_id: 9, target_portal_group_tag: 9, ..port() };
    let world = World { port: own.clone(), ports: vec![own, other], ..World::new() };
    assert_eq!(world.reply(&[0x12, 1, 0x87, 0, 255, 0]), [0, 0x87, 0, 4, 0x3f, 0xff, 0, 0]);
    let ports = world.reply(&[0x12, 1, 0x88, 0, 255, 0]);
    // RELATIVE PORT IDENTIFIER; no initiator port.
    assert_eq!(ports[4..14], [0, 0, 0, 7, 0, 0, 0, 0, 0, 0]);
    let length = usize::from(u16::from_be_bytes([ports[14], ports[15]]));
    let (designators, second) = ports[16..].split_at(length);
    assert_eq!(second[..10], [0, 0, 0, 9, 0, 0, 0, 0, 0, 0]);
    assert_eq!(usize::from(u16::from_be_bytes([second[10], second[11]])), second.len() - 12);
    assert!(second[16..].starts_with(b"iqn.2026-01.io.lund:t,t,0x0009\0"));
    // iSCSI, UTF-8; PIV, target port, SCSI name string.
    assert_eq!(designators[..4], [0x53, 0x98, 0, u8::try_from(designators.len() - 4).unwrap()]);
    let identification = world.reply(&[0x12, 1, 0x83, 0, 255, 0]);
    assert!(identification.windows(designators.len()).any(|part| part == designators));
    assert!(designators[4..].starts_with(b"iqn.2026-01.io.lund:t,t,0x0001\0"));
}

#[test]
fn the_vpd_pages_that_page_zero_names_are_there_and_have_their_length() {
    let world = World::new();
    let pages = world.reply(&[0x12, 1, 0, 0, 255, 0]);
    assert_eq!(pages[4..], [0x00, 0x80, 0x83, 0x86, 0x87, 0x88, 0x8f, 0xb0, 0xb1, 0xb2, 0xb4]);
    for page in &pages[4..] {
        let reply = world.reply(&[0x12, 1, *page, 4, 0, 0]);
        assert_eq!(reply[1], *page);
        let length = usize::from(u16::from_be_bytes([reply[2], reply[3]]));
        assert_eq!(reply.len(), length + 4, "page {page:02x}");
    }
    for (page, length) in [(0x86, 0x3c), (0x87, 4), (0xb0, 0x3c), (0xb1, 0x3c), (0xb2, 4)] {
        assert_eq!(world.reply(&[0x12, 1, page, 0, 255, 0])[3], length);
    }
    // HEADSUP, ORDSUP, SIMPSUP.
    assert_eq!(world.reply(&[0x12, 1, 0x86, 0, 255, 0])[5] & 0x07, 0x07);
    assert_eq!(world.sense(&[0x12, 1, 0x85, 0, 255, 0]).field, field(2, None));
    // One length; type 0 protection.
    assert_eq!(world.reply(&[0x12, 1, 0xb4, 0, 255, 0])[4..], [0, 0, 2, 0, 0, 1, 0, 0]);
    assert_eq!(world.sense(&[0x12, 1, 0x77, 0, 255, 0]).field, field(2, None));
    assert_eq!(world.sense(&[0x12, 0, 0x80, 0, 255, 0]).field, field(2, None));
}

#[test]
fn the_management_is_told_of_where_initiators_shall_know() {
    let url = "https://storage.example:5989/";
    let world = World::with(|device| device.management_url = Some(url.to_owned()));
    let pages = world.reply(&[0x12, 1, 0, 0, 255, 0]);
    assert_eq!(pages[4..9], [0x00, 0x80, 0x83, 0x85, 0x86]);
    let page = world.reply(&[0x12, 1, 0x85, 0, 255, 0]);
    // One descriptor: its address ends with a zero, and where a multiple of four bytes does.
    assert_eq!(page[..8], [0, 0x85, 0, 36, 0x01, 0, 0, 32]);
    assert_eq!(page[8..], [url.as_bytes(), &[0; 3]].concat());
}

#[test]
fn the_designators_of_page_83_are_well_formed_and_name_unit_port_and_device() {
    let reply = World::new().reply(&[0x12, 1, 0x83, 1, 0, 0]);
    let (mut rest, mut seen) = (&reply[4..], Vec::new());
    while let [code_set, kind, 0, length, ..] = *rest {
        let (value, behind) = rest[4..].split_at(usize::from(length));
        if kind & 0x0f == 8 {
            assert_eq!((value.len() % 4, value.last()), (0, Some(&0)));
        }
        seen.push((code_set, kind >> 4 & 3, kind & 0x0f));
        rest = behind;
    }
    assert!(rest.is_empty());
    let expected = [
        (1, 0, 3),
        (1, 0, 2),
        (2, 0, 1),
        (3, 0, 8),
        (0x51, 1, 4),
        (0x51, 1, 5),
        (0x53, 1, 8),
        (0x53, 2, 8),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn the_eui_64_has_every_bit_of_the_naa_identifier() {
    let naa = *b"\x6a\xbc\xde\xf1\x23\x45\x67\x89\x01\x02\x03\x04\x05\x06\x07\x08";
    let reply = World::with(|device| device.naa = naa).reply(&[0x12, 1, 0x83, 1, 0, 0]);
    // IDENTIFIER EXTENSION, IEEE COMPANY_ID, 36 bits of VENDOR-SPECIFIC IDENTIFIER.
    let wanted = [
        &[0x01, 0x02, 0, 16][..],
        &[1, 2, 3, 4, 5, 6, 7, 8, 0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89],
    ]
    .concat();
    assert!(reply.windows(20).any(|it| it == wanted), "{reply:02x?}");
}
