//! Behaviour of the command set as a whole.

use proptest::prelude::*;

use crate::*;

fn device() -> Device {
    Device::new("0123456789ABCDEF", *b"\x60123456789abcdef", 512, 2048)
}

fn port() -> Port {
    Port {
        target_name: "iqn.2026-01.io.lund:t".into(),
        target_portal_group_tag: 1,
        relative_target_port_id: 1,
    }
}

struct World {
    device: Option<Device>,
    port: Port,
    attention: Option<Sense>,
    state: MediumState,
    mode: ModeParameters,
    data_out: u32,
}

impl World {
    fn new() -> Self {
        let state = MediumState::Ready;
        let mode = ModeParameters::default();
        Self { device: Some(device()), port: port(), attention: None, state, mode, data_out: 0 }
    }

    fn with(change: impl FnOnce(&mut Device)) -> Self {
        let mut world = Self::new();
        change(world.device.as_mut().unwrap());
        world
    }

    fn context(&self) -> Context<'_> {
        Context {
            device: self.device.as_ref(),
            port: &self.port,
            luns: &[0],
            mode: self.mode,
            lun: 0,
            state: self.state,
            unit_attention: self.attention,
            data_out_length: self.data_out,
        }
    }

    fn plan(&self, cdb: &[u8]) -> (Plan, Vec<u8>) {
        let mut reply = Vec::new();
        let plan = plan(Cdb::new(cdb), &self.context(), &mut reply);
        (plan, reply)
    }

    fn reply(&self, cdb: &[u8]) -> Vec<u8> {
        let (plan, reply) = self.plan(cdb);
        assert_eq!(plan, Plan::DataIn, "{cdb:02x?}");
        reply
    }

    fn sense(&self, cdb: &[u8]) -> Sense {
        let (plan, _) = self.plan(cdb);
        let Plan::Check(sense) = plan else { panic!("{cdb:02x?}: {plan:?}") };
        sense
    }
}

fn field(byte: u16, bit: Option<u8>) -> Option<FieldPointer> {
    Some(FieldPointer { cdb: true, byte, bit })
}

#[test]
fn the_table_is_in_order_and_its_lengths_are_those_of_the_groups() {
    let keys: Vec<_> = COMMANDS.iter().map(|c| (c.operation_code, c.service_action)).collect();
    assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "{keys:x?}");
    for command in COMMANDS {
        let length = match command.operation_code >> 5 {
            0 => 6,
            1 | 2 => 10,
            4 => 16,
            5 => 12,
            group => panic!("group {group}"),
        };
        assert_eq!(command.usage.len(), length, "{}", command.name);
        assert_eq!(command.usage[0], command.operation_code, "{}", command.name);
        assert_eq!(lookup(Cdb::new(&cdb_of(command))).unwrap().name, command.name);
    }
}

fn cdb_of(command: &Command) -> Vec<u8> {
    let mut cdb = vec![0; command.usage.len()];
    cdb[0] = command.operation_code;
    cdb[1] = command.service_action.unwrap_or(0);
    cdb
}

#[test]
fn every_reserved_bit_of_every_command_is_refused_with_its_place() {
    let world = World::new();
    for command in COMMANDS {
        for (byte, used) in command.usage.iter().enumerate().skip(1) {
            for bit in 0..8 {
                let mut cdb = cdb_of(command);
                if used & 1 << bit != 0 || cdb[byte] & 1 << bit != 0 {
                    continue;
                }
                cdb[byte] |= 1 << bit;
                let sense = world.sense(&cdb);
                assert_eq!(sense.asc, AdditionalSense::INVALID_FIELD_IN_CDB, "{}", command.name);
                let expected = field(u16::try_from(byte).unwrap(), Some(bit));
                assert_eq!(sense.field, expected, "{} {cdb:02x?}", command.name);
            }
        }
    }
}

#[test]
fn the_runs_of_all_four_lengths_are_read() {
    let world = World::new();
    let read = |lba, blocks| Plan::Read { lba, blocks, fua: false };
    assert_eq!(world.plan(&[0x08, 0, 1, 2, 3, 0]).0, read(0x102, 3));
    assert_eq!(world.plan(&[0x08, 0, 0, 2, 0, 0]).0, read(2, 256));
    assert_eq!(world.plan(&[0x28, 0, 0, 0, 1, 2, 0, 1, 1, 0]).0, read(0x102, 0x101));
    assert_eq!(world.plan(&[0xa8, 0, 0, 0, 1, 2, 0, 0, 1, 1, 0, 0]).0, read(0x102, 0x101));
    let mut cdb = [0x88, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 1, 1, 0, 0];
    assert_eq!(world.plan(&cdb).0, read(0x102, 0x101));
    cdb[1] = 0x18;
    assert_eq!(world.plan(&cdb).0, Plan::Read { lba: 0x102, blocks: 0x101, fua: true });
}

#[test]
fn what_is_beyond_the_end_is_refused_with_its_address() {
    let world = World::new();
    let read = |lba: u64, blocks: u32| {
        let mut cdb = [0; 16];
        cdb[0] = 0x88;
        cdb[2..10].copy_from_slice(&lba.to_be_bytes());
        cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
        world.plan(&cdb).0
    };
    assert!(matches!(read(2047, 1), Plan::Read { .. }));
    assert!(matches!(read(0, 2048), Plan::Read { .. }));
    assert!(matches!(read(2048, 0), Plan::Read { .. }));
    for (lba, blocks) in [(2048, 1), (2047, 2), (2049, 0), (u64::MAX, 1), (u64::MAX, 2)] {
        assert_eq!(read(lba, blocks), Plan::Check(Sense::lba_out_of_range(lba)));
    }
    let Plan::Check(sense) = read(0, u32::MAX) else { panic!() };
    assert_eq!(sense.field, field(10, None), "more than MAXIMUM TRANSFER LENGTH");
}

#[test]
fn a_unit_attention_comes_before_everything_but_three_commands() {
    let mut world = World::new();
    world.attention = Some(UnitAttention::PowerOn.sense());
    assert_eq!(world.sense(&[0; 6]), UnitAttention::PowerOn.sense());
    assert!(matches!(world.plan(&[0x12, 0, 0, 0, 96, 0]).0, Plan::DataIn));
    let sense = world.reply(&[0x03, 0, 0, 0, 252, 0]);
    assert_eq!((sense[0], sense[2], sense[12], sense[13]), (0x70, 6, 0x29, 0x00));
    let sense = world.reply(&[0x03, 1, 0, 0, 252, 0]);
    assert_eq!(sense[..4], [0x72, 6, 0x29, 0x00]);
    let clears = |cdb: &[u8]| clears_unit_attention(Cdb::new(cdb), &world.context());
    assert!(clears(&[0; 6]));
    assert!(clears(&[0x03, 0, 0, 0, 252, 0]));
    assert!(!clears(&[0x12, 0, 0, 0, 96, 0]));
    assert!(!clears(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]));
}

#[test]
fn a_lun_that_is_not_there_answers_three_commands() {
    let mut world = World::new();
    world.device = None;
    assert_eq!(world.reply(&[0x12, 0, 0, 0, 255, 0])[0], 0x7f);
    assert_eq!(world.reply(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0])[..4], [0, 0, 0, 8]);
    let sense = world.reply(&[0x03, 0, 0, 0, 252, 0]);
    assert_eq!((sense[2], sense[12]), (5, 0x25));
    for cdb in [&[0x00; 6][..], &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], &[0xc0; 10]] {
        assert_eq!(world.sense(cdb).asc, AdditionalSense::LOGICAL_UNIT_NOT_SUPPORTED);
    }
}

#[test]
fn a_read_only_unit_refuses_every_write_and_says_so_in_its_mode_pages() {
    let world = World::with(|device| device.read_only = true);
    for command in COMMANDS.iter().filter(|c| c.needs == commands::Needs::WritableMedium) {
        let sense = world.sense(&cdb_of(command));
        assert_eq!((sense.key, sense.asc.0), (SenseKey::DataProtect, 0x27), "{}", command.name);
    }
    assert_eq!(world.reply(&[0x1a, 0, 0x3f, 0, 255, 0])[2], 0x90);
    assert!(matches!(world.plan(&[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0]).0, Plan::Read { .. }));
}

#[test]
fn without_unmap_its_commands_do_not_exist_and_no_page_mentions_them() {
    let world = World::with(|device| device.unmap = false);
    let unmap = [0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0];
    assert_eq!(world.sense(&unmap).asc, AdditionalSense::INVALID_COMMAND_OPERATION_CODE);
    let codes = world.reply(&[0xa3, 0x0c, 1, 0x42, 0, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(codes[1] & 7, 1);
    let capacity = world.reply(&[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0]);
    assert_eq!(capacity[14], 0);
    assert_eq!(world.reply(&[0x12, 1, 0xb2, 0, 255, 0])[5], 0);
}

#[test]
fn the_vpd_pages_that_page_zero_names_are_there_and_have_their_length() {
    let world = World::new();
    let pages = world.reply(&[0x12, 1, 0, 0, 255, 0]);
    assert_eq!(pages[4..], [0x00, 0x80, 0x83, 0x86, 0xb0, 0xb1, 0xb2]);
    for page in &pages[4..] {
        let reply = world.reply(&[0x12, 1, *page, 1, 0, 0]);
        assert_eq!(reply[1], *page);
        let length = usize::from(u16::from_be_bytes([reply[2], reply[3]]));
        assert_eq!(reply.len(), length + 4, "page {page:02x}");
    }
    for (page, length) in [(0x86, 0x3c), (0xb0, 0x3c), (0xb1, 0x3c), (0xb2, 4)] {
        assert_eq!(world.reply(&[0x12, 1, page, 0, 255, 0])[3], length);
    }
    assert_eq!(world.sense(&[0x12, 1, 0x77, 0, 255, 0]).field, field(2, None));
    assert_eq!(world.sense(&[0x12, 0, 0x80, 0, 255, 0]).field, field(2, None));
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
    assert_eq!(seen, [(1, 0, 3), (2, 0, 1), (3, 0, 8), (0x51, 1, 4), (0x53, 1, 8), (0x53, 2, 8)]);
}

#[test]
fn mode_sense_gives_each_page_alone_and_all_of_them_together() {
    let world = World::new();
    let all = world.reply(&[0x1a, 0x08, 0x3f, 0, 255, 0]);
    assert_eq!(usize::from(all[0]) + 1, all.len());
    let (mut rest, mut codes) = (&all[4..], Vec::new());
    while let [code, length, ..] = *rest {
        let alone = world.reply(&[0x1a, 0x08, code, 0, 255, 0]);
        let whole = usize::from(length) + 2;
        assert_eq!(alone[4..], rest[..whole]);
        codes.push(code);
        rest = &rest[whole..];
    }
    assert_eq!(codes, [0x01, 0x08, 0x0a, 0x1c]);
    let changeable = world.reply(&[0x1a, 0x08, 0x48, 0, 255, 0]);
    assert_eq!(changeable[6], 0x04, "WCE");
    assert!(changeable[7..].iter().all(|byte| *byte == 0));
    let saved = world.sense(&[0x1a, 0, 0xc8, 0, 255, 0]);
    assert_eq!(saved.asc, AdditionalSense::SAVING_PARAMETERS_NOT_SUPPORTED);
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
    assert_eq!(select(&world, &data), Plan::ModeSelect(world.mode));
    let mut control = world.reply(&[0x1a, 0x08, 0x0a, 0, 255, 0]);
    (control[0], control[2]) = (0, 0);
    control[6] |= 0x04;
    control[8] |= 0x08;
    let Plan::ModeSelect(mode) = select(&world, &control) else { panic!() };
    assert!(mode.descriptor_sense && mode.software_write_protect && mode.write_cache_enabled);
    control[7] ^= 0x80;
    let Plan::Check(sense) = select(&world, &control) else { panic!() };
    assert_eq!(sense.field, Some(FieldPointer { cdb: false, byte: 7, bit: None }));
    let Plan::Check(sense) = select(&world, &control[..8]) else { panic!() };
    assert_eq!(sense.asc, AdditionalSense::PARAMETER_LIST_LENGTH_ERROR);
    assert_eq!(world.sense(&[0x15, 0x11, 0, 0, 24, 0]).field, field(1, Some(0)));

    world.mode = mode;
    assert_eq!(
        world.sense(&[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0]).asc.1,
        2,
        "software write protected"
    );
    assert_eq!(world.reply(&[0x1a, 0x08, 0x0a, 0, 255, 0])[2] & 0x80, 0x80);
    assert_eq!(world.reply(&[0x1a, 0x08, 0x8a, 0, 255, 0])[6], 0, "the default");
}

#[test]
fn supported_operation_codes_are_those_of_the_table() {
    let world = World::new();
    let all = world.reply(&[0xa3, 0x0c, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
    assert_eq!(all.len(), 4 + 8 * COMMANDS.len());
    let all = world.reply(&[0xa3, 0x0c, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
    assert_eq!(all.len(), 4 + 20 * COMMANDS.len());
    let one =
        |option, code, action| world.plan(&[0xa3, 0x0c, option, code, 0, action, 0, 0, 1, 0, 0, 0]);
    assert_eq!(one(1, 0x28, 0).1[1] & 7, 3);
    assert_eq!(one(2, 0x9e, 0x10).1[5], 0x10);
    assert_eq!(one(3, 0x28, 1).1[1] & 7, 1);
    assert_eq!(one(1, 0xc0, 0).1[1] & 7, 1);
    assert!(matches!(one(1, 0x9e, 0).0, Plan::Check(_)));
    assert!(matches!(one(2, 0x28, 0).0, Plan::Check(_)));
}

#[test]
fn unmap_lists_are_checked_to_the_last_descriptor() {
    let device =
        Device { limits: Limits { max_unmap_descriptors: 2, ..device().limits }, ..device() };
    let list = |ranges: &[(u64, u32)]| {
        let length = u16::try_from(ranges.len() * 16).unwrap();
        let mut data = Vec::new();
        data.extend((length + 6).to_be_bytes());
        data.extend(length.to_be_bytes());
        data.extend([0; 4]);
        for (lba, blocks) in ranges {
            data.extend(lba.to_be_bytes());
            data.extend(blocks.to_be_bytes());
            data.extend([0; 4]);
        }
        data
    };
    let world = World { device: Some(device), ..World::new() };
    let run = |data: &[u8]| {
        let mut ranges = Vec::new();
        let cdb = Cdb::new(&[0x42, 0, 0, 0, 0, 0, 0, 1, 0, 0]);
        (plan_with_data(cdb, &world.context(), data, &mut ranges), ranges)
    };
    let (plan, ranges) = run(&list(&[(0, 8), (100, 0)]));
    assert_eq!((plan, ranges), (Plan::Unmap, vec![BlockRange { lba: 0, blocks: 8 }]));
    assert_eq!(run(&list(&[(2048, 1)])).0, Plan::Check(Sense::lba_out_of_range(2048)));
    assert!(matches!(run(&list(&[(0, 1), (1, 1), (2, 1)])).0, Plan::Check(_)));
    let short = &list(&[(0, 1)])[..20];
    let Plan::Check(sense) = run(short).0 else { panic!() };
    assert_eq!(sense.asc, AdditionalSense::PARAMETER_LIST_LENGTH_ERROR);
}

#[test]
fn write_same_gives_space_back_only_for_zeroes() {
    let mut world = World::new();
    world.data_out = 512;
    let cdb = [0x93, 0x08, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0];
    assert_eq!(world.plan(&cdb).0, Plan::NeedData { length: 512 });
    let run = |data: &[u8]| plan_with_data(Cdb::new(&cdb), &world.context(), data, &mut Vec::new());
    let expected =
        |unmap, source| Plan::WriteSame { lba: 1, blocks: 8, unmap, anchor: false, source };
    assert_eq!(run(&[0; 512]), expected(true, WriteSameSource::Zeroes));
    assert_eq!(run(&[1; 512]), expected(false, WriteSameSource::Data));
    world.data_out = 1024;
    assert!(matches!(world.plan(&cdb).0, Plan::Check(_)), "two blocks where one is meant");
}

#[test]
fn lba_status_merges_equal_neighbours() {
    let mut reply = Vec::new();
    let mut status = LbaStatusReply::new(&mut reply, 8 + 32);
    assert!(status.push(0, 8, ProvisioningStatus::Mapped));
    assert!(status.push(8, 8, ProvisioningStatus::Mapped));
    assert!(status.push(16, 8, ProvisioningStatus::Deallocated));
    assert!(!status.push(24, 8, ProvisioningStatus::Mapped));
    status.finish();
    assert_eq!(reply.len(), 40);
    assert_eq!(reply[..4], 36u32.to_be_bytes());
    assert_eq!(reply[16..21], [0, 0, 0, 16, 0]);
    assert_eq!(reply[24..37], [0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 8, 1]);
}

#[test]
fn sense_data_has_its_fields_where_both_formats_want_them() {
    let mut bytes = [0; Sense::MAX_LENGTH];
    let sense = Sense::invalid_field_in_cdb(0x0102, Some(5));
    assert_eq!(sense.encode(SenseFormat::Fixed, &mut bytes), 18);
    assert_eq!(bytes[..18], [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0xcd, 1, 2]);
    let mut bytes = [0; Sense::MAX_LENGTH];
    assert_eq!(sense.encode(SenseFormat::Descriptor, &mut bytes), 16);
    assert_eq!(bytes[..16], [0x72, 5, 0x24, 0, 0, 0, 0, 8, 2, 6, 0, 0, 0xcd, 1, 2, 0]);
    let mut bytes = [0; Sense::MAX_LENGTH];
    let big = Sense::lba_out_of_range(1 << 40);
    big.encode(SenseFormat::Fixed, &mut bytes);
    assert_eq!(bytes[0], 0x70, "what does not fit is not valid");
    big.encode(SenseFormat::Descriptor, &mut bytes);
    assert_eq!(bytes[8..20], [0, 10, 0x80, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
}

#[test]
fn resets_replace_what_was_before_them() {
    let mut pending = UnitAttentions::new();
    pending.push(UnitAttention::ReportedLunsDataHasChanged);
    pending.push(UnitAttention::BusDeviceReset);
    pending.push(UnitAttention::NexusLoss);
    pending.push(UnitAttention::CapacityDataHasChanged);
    assert_eq!(pending.pop(), Some(UnitAttention::BusDeviceReset));
    assert_eq!(pending.pop(), Some(UnitAttention::CapacityDataHasChanged));
    assert!(pending.is_empty());
}

proptest! {
    #[test]
    fn no_cdb_and_no_data_break_anything(
        cdb in prop::collection::vec(any::<u8>(), 6..17),
        code in any::<prop::sample::Index>(),
        known in any::<bool>(),
        data in prop::collection::vec(any::<u8>(), 0..700),
        data_out in prop::sample::select(vec![0u32, 512, 1024, 24, u32::MAX]),
        block_count in prop::sample::select(vec![1u64, 2048, u64::MAX]),
    ) {
        let mut cdb = cdb;
        if known {
            cdb[0] = COMMANDS[code.index(COMMANDS.len())].operation_code;
        }
        let mut world = World::with(|device| device.block_count = block_count);
        world.data_out = data_out;
        let (plan, _) = world.plan(&cdb);
        if let Plan::Read { lba, blocks, .. } | Plan::Write { lba, blocks, .. } = plan {
            prop_assert!(lba.checked_add(u64::from(blocks)).is_some_and(|end| end <= block_count));
        }
        plan_with_data(Cdb::new(&cdb), &world.context(), &data, &mut Vec::new());
    }
}
