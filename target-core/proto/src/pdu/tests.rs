//! The layouts, byte by byte as RFC 7143 §11 draws them.

use super::*;

/// A header whose every byte is its own place.
fn places() -> Bhs {
    std::array::from_fn(|at| u8::try_from(at).unwrap())
}

const fn at16(at: u8) -> U16 {
    U16::from_bytes([at, at + 1])
}

const fn at32(at: u8) -> U32 {
    U32::from_bytes([at, at + 1, at + 2, at + 3])
}

const fn at64(at: u8) -> U64 {
    U64::from_bytes([at, at + 1, at + 2, at + 3, at + 4, at + 5, at + 6, at + 7])
}

macro_rules! layout {
    ($name:ident: $($field:ident = $value:expr),* $(,)?) => {{
        let bytes = places();
        let header = $name::view(&bytes);
        assert_eq!(header.bytes(), &bytes);
        assert_eq!(header.flags, 1);
        assert_eq!(header.data_segment_length.get(), 0x0005_0607);
        assert_eq!(header.initiator_task_tag, at32(16));
        $(assert_eq!(header.$field, $value, "{}", stringify!($name.$field));)*
    }};
}

#[test]
fn every_field_stands_where_the_rfc_draws_it() {
    layout!(BasicHeaderSegment: lun = at64(8));
    layout!(NopOut: lun = at64(8), target_transfer_tag = at32(20), cmd_sn = at32(24),
        exp_stat_sn = at32(28));
    layout!(NopIn: lun = at64(8), target_transfer_tag = at32(20), stat_sn = at32(24),
        exp_cmd_sn = at32(28), max_cmd_sn = at32(32));
    layout!(ScsiCommand: priority = 2, lun = at64(8), expected_data_transfer_length = at32(20),
        cmd_sn = at32(24), exp_stat_sn = at32(28));
    assert_eq!(ScsiCommand::view(&places()).cdb[0], 32);
    layout!(ScsiResponse: response = 2, status = 3, status_qualifier = at16(8), snack_tag = at32(20), stat_sn = at32(24),
        exp_cmd_sn = at32(28), max_cmd_sn = at32(32), exp_data_sn = at32(36),
        bidirectional_read_residual_count = at32(40), residual_count = at32(44));
    layout!(TaskManagementRequest: lun = at64(8), referenced_task_tag = at32(20),
        cmd_sn = at32(24), exp_stat_sn = at32(28), ref_cmd_sn = at32(32), exp_data_sn = at32(36));
    layout!(TaskManagementResponse: response = 2, stat_sn = at32(24), exp_cmd_sn = at32(28),
        max_cmd_sn = at32(32));
    layout!(DataOut: lun = at64(8), target_transfer_tag = at32(20), exp_stat_sn = at32(28),
        data_sn = at32(36), buffer_offset = at32(40));
    layout!(DataIn: status = 3, lun = at64(8), target_transfer_tag = at32(20),
        stat_sn = at32(24), exp_cmd_sn = at32(28), max_cmd_sn = at32(32), data_sn = at32(36),
        buffer_offset = at32(40), residual_count = at32(44));
    layout!(ReadyToTransfer: lun = at64(8), target_transfer_tag = at32(20), stat_sn = at32(24),
        exp_cmd_sn = at32(28), max_cmd_sn = at32(32), r2t_sn = at32(36),
        buffer_offset = at32(40), desired_data_transfer_length = at32(44));
    layout!(AsyncMessage: lun = at64(8), stat_sn = at32(24), exp_cmd_sn = at32(28),
        max_cmd_sn = at32(32), async_event = 36, async_vcode = 37, parameter1 = at16(38),
        parameter2 = at16(40), parameter3 = at16(42));
    layout!(TextRequest: lun = at64(8), target_transfer_tag = at32(20), cmd_sn = at32(24),
        exp_stat_sn = at32(28));
    layout!(TextResponse: lun = at64(8), target_transfer_tag = at32(20), stat_sn = at32(24),
        exp_cmd_sn = at32(28), max_cmd_sn = at32(32));
    layout!(LoginRequest: version_max = 2, version_min = 3, isid = [8, 9, 10, 11, 12, 13],
        tsih = at16(14), cid = at16(20), cmd_sn = at32(24), exp_stat_sn = at32(28));
    layout!(LoginResponse: version_max = 2, version_active = 3, isid = [8, 9, 10, 11, 12, 13],
        tsih = at16(14), stat_sn = at32(24), exp_cmd_sn = at32(28), max_cmd_sn = at32(32),
        status_class = 36, status_detail = 37);
    layout!(LogoutRequest: cid = at16(20), cmd_sn = at32(24), exp_stat_sn = at32(28));
    layout!(LogoutResponse: response = 2, stat_sn = at32(24), exp_cmd_sn = at32(28),
        max_cmd_sn = at32(32), time2wait = at16(40), time2retain = at16(42));
    layout!(Snack: lun = at64(8), target_transfer_tag = at32(20), exp_stat_sn = at32(28),
        beg_run = at32(40), run_length = at32(44));
    layout!(Reject: reason = 2, stat_sn = at32(24), exp_cmd_sn = at32(28),
        max_cmd_sn = at32(32), data_sn = at32(36));
}

#[test]
fn requests_are_known_by_their_opcode_with_and_without_the_immediate_bit() {
    for immediate in [0, IMMEDIATE] {
        let named = |opcode: u8| {
            let mut bhs = [0; 48];
            bhs[0] = opcode | immediate;
            format!("{:?}", Pdu { bhs: &bhs, ahs: &[], data: &[] }.request())
        };
        for (opcode, name) in [
            (0x00, "NopOut"),
            (0x01, "ScsiCommand"),
            (0x02, "TaskManagement"),
            (0x03, "Login"),
            (0x04, "Text"),
            (0x05, "DataOut"),
            (0x06, "Logout"),
            (0x10, "Snack"),
            (0x07, "Unknown(7)"),
            (0x1c, "Unknown(28)"),
            (0x21, "Unknown(33)"),
        ] {
            assert!(named(opcode).starts_with(name), "{opcode:#x}");
        }
    }
}

#[test]
fn flags_and_stages_are_read_bit_by_bit() {
    let command = |flags| ScsiCommand { flags, ..ScsiCommand::zeroed() };
    assert!(command(0x40).reads() && !command(0x40).writes());
    assert!(command(0x20).writes() && !command(0x20).reads());
    assert_eq!(command(0xe3).attribute(), TaskAttribute::HeadOfQueue);
    assert_eq!(command(5).attribute(), TaskAttribute::Reserved(5));
    let login = LoginRequest { flags: 0b1100_0111, ..LoginRequest::zeroed() };
    assert!(login.transit() && login.continues());
    assert_eq!(login.current_stage(), Some(Stage::LoginOperationalNegotiation));
    assert_eq!(login.next_stage(), Some(Stage::FullFeaturePhase));
    let login = LoginRequest { flags: 0b0000_1010, ..LoginRequest::zeroed() };
    assert!(!login.transit() && login.current_stage().is_none() && login.next_stage().is_none());
    let request = |flags| TaskManagementRequest { flags, ..TaskManagementRequest::zeroed() };
    assert_eq!(request(0x85).function(), TaskManagementFunction::LogicalUnitReset);
    assert_eq!(request(0x89).function(), TaskManagementFunction::QueryTask);
}
