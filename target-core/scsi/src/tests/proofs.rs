//! Which test shows what a command does, for `docs/commands.md`.

use std::path::Path;

/// The begin of a command's name; a test below `target-core/`, as FILE::FUNCTION; what else runs it:
/// suites of `iscsi-test-cu`, files in `tests/interop/vm/`.
const PROOFS: &[(&str, &str, &str)] = &[
    (
        "TEST UNIT READY",
        "tests/data_path/faults.rs::a_deleted_image_makes_its_unit_not_ready",
        "TestUnitReady",
    ),
    (
        "REQUEST SENSE",
        "scsi/src/tests/inquiry.rs::request_sense_has_both_formats_and_its_allocation_length",
        "checks",
    ),
    (
        "FORMAT UNIT",
        "tests/data_path/operation.rs::a_format_leaves_zeroes_or_its_pattern",
        "checks-scsi",
    ),
    ("READ(6)", "tests/data_path/forms.rs::every_write_is_read_by_every_read", "Read6"),
    ("WRITE(6)", "tests/data_path/forms.rs::every_write_is_read_by_every_read", ""),
    ("INQUIRY", "scsi/src/tests/inquiry.rs::standard_inquiry_data_says_what_is_there", "Inquiry"),
    (
        "MODE SELECT",
        "scsi/src/tests/mode.rs::mode_select_changes_what_it_may_and_nothing_else",
        "checks-scsi",
    ),
    ("RESERVE(", "scsi/src/reservation/tests/legacy.rs::two_initiators_take_turns", "Reserve6"),
    ("RELEASE(", "scsi/src/reservation/tests/legacy.rs::two_initiators_take_turns", "Reserve6"),
    (
        "MODE SENSE",
        "scsi/src/tests/mode.rs::mode_sense_gives_each_page_alone_and_all_of_them_together",
        "ModeSense6",
    ),
    (
        "START STOP UNIT",
        "tests/data_path/forms.rs::a_unit_is_stopped_and_started_and_nothing_is_ejected",
        "StartStopUnit",
    ),
    (
        "RECEIVE DIAGNOSTIC",
        "scsi/src/tests/diagnostic.rs::the_only_diagnostic_page_is_the_list_of_pages",
        "checks-scsi",
    ),
    (
        "SEND DIAGNOSTIC",
        "scsi/src/tests/diagnostic.rs::the_default_self_test_passes",
        "checks-scsi",
    ),
    (
        "PREVENT ALLOW",
        "tests/data_path/forms.rs::a_unit_is_stopped_and_started_and_nothing_is_ejected",
        "PreventAllow",
    ),
    (
        "READ CAPACITY(10)",
        "tests/data_path/attentions.rs::a_unit_that_grows_is_larger_at_once_and_every_session_is_told",
        "ReadCapacity10",
    ),
    ("READ(10)", "tests/data_path/forms.rs::every_write_is_read_by_every_read", "Read10"),
    ("WRITE(10)", "tests/data_path/forms.rs::every_write_is_read_by_every_read", "Write10"),
    (
        "WRITE AND VERIFY(10)",
        "tests/data_path/forms.rs::every_write_and_verify_writes",
        "WriteVerify10",
    ),
    ("VERIFY(10)", "tests/data_path/forms.rs::a_verify_compares_what_it_is_given", "Verify10"),
    (
        "PRE-FETCH(10)",
        "tests/data_path/forms.rs::what_moves_no_data_is_answered_in_every_form",
        "Prefetch10",
    ),
    (
        "SYNCHRONIZE CACHE",
        "tests/data_path/faults.rs::a_flush_that_failed_once_fails_for_ever",
        "checks",
    ),
    (
        "READ DEFECT DATA(10)",
        "tests/data_path/forms.rs::what_moves_no_data_is_answered_in_every_form",
        "ReadDefectData10",
    ),
    (
        "WRITE SAME(10)",
        "tests/data_path/forms.rs::every_write_same_fills_its_blocks_and_no_others",
        "WriteSame10",
    ),
    ("UNMAP", "scsi/src/tests/blocks.rs::unmap_lists_are_checked_to_the_last_descriptor", "Unmap"),
    (
        "SANITIZE, OVERWRITE",
        "tests/data_path/operation.rs::an_overwrite_ends_with_its_command_and_the_pattern_is_in_every_block",
        "Sanitize",
    ),
    (
        "SANITIZE, BLOCK ERASE",
        "tests/data_path/operation.rs::while_it_is_sanitized_a_unit_shows_its_progress_and_nothing_else",
        "Sanitize",
    ),
    (
        "SANITIZE, EXIT",
        "tests/data_path/operation.rs::a_sanitize_that_fails_keeps_the_unit_shut_until_it_may_be_given_up",
        "Sanitize",
    ),
    (
        "LOG SENSE",
        "scsi/src/tests/log.rs::the_log_pages_that_page_zero_names_are_there_and_no_others",
        "checks-scsi",
    ),
    (
        "PERSISTENT RESERVE IN, READ KEYS",
        "scsi/src/reservation/tests/read.rs::read_keys_reports_every_key_in_order",
        "PrinReadKeys",
    ),
    (
        "PERSISTENT RESERVE IN, READ RESERVATION",
        "scsi/src/reservation/tests/read.rs::read_reservation_reports_type_and_key",
        "ProutReserve",
    ),
    (
        "PERSISTENT RESERVE IN, REPORT CAP",
        "scsi/src/reservation/tests/read.rs::report_capabilities_promises_what_there_is",
        "PrinReportCapabilities",
    ),
    (
        "PERSISTENT RESERVE IN, READ FULL",
        "scsi/src/reservation/tests/read.rs::read_full_status_describes_every_nexus",
        "checks-scsi",
    ),
    (
        "PERSISTENT RESERVE OUT, REGISTER AND MOVE",
        "scsi/src/reservation/tests/move_to.rs::the_reservation_moves_and_the_sender_stays_registered",
        "",
    ),
    (
        "PERSISTENT RESERVE OUT, REGISTER AND IGNORE",
        "scsi/src/reservation/tests/register.rs::to_ignore_the_existing_key_never_conflicts",
        "ProutRegister",
    ),
    (
        "PERSISTENT RESERVE OUT, REGISTER",
        "scsi/src/reservation/tests/register.rs::a_nexus_registers_changes_its_key_and_unregisters",
        "ProutRegister",
    ),
    (
        "PERSISTENT RESERVE OUT, RESERVE",
        "scsi/src/reservation/tests/reserve.rs::every_type_is_reserved_again_by_its_holder_and_released",
        "ProutReserve",
    ),
    (
        "PERSISTENT RESERVE OUT, RELEASE",
        "scsi/src/reservation/tests/reserve.rs::the_release_of_another_type_is_an_invalid_release",
        "ProutReserve",
    ),
    (
        "PERSISTENT RESERVE OUT, CLEAR",
        "scsi/src/reservation/tests/reserve.rs::clear_removes_everything_and_tells_everybody_else",
        "ProutClear",
    ),
    (
        "PERSISTENT RESERVE OUT, PREEMPT AND ABORT",
        "scsi/src/reservation/tests/preempt.rs::to_abort_names_everybody_with_the_key",
        "checks-scsi",
    ),
    (
        "PERSISTENT RESERVE OUT, PREEMPT",
        "scsi/src/reservation/tests/preempt.rs::the_key_of_the_holder_replaces_its_reservation",
        "ProutPreempt",
    ),
    (
        "PERSISTENT RESERVE OUT, REPLACE",
        "scsi/src/reservation/tests/lost.rs::the_replacement_registers_reserves_and_ends_it",
        "",
    ),
    ("READ(32)", "tests/data_path/forms.rs::every_write_is_read_by_every_read", "checks-scsi"),
    ("VERIFY(32)", "tests/data_path/forms.rs::a_verify_compares_what_it_is_given", "checks-scsi"),
    ("WRITE(32)", "tests/data_path/forms.rs::every_write_is_read_by_every_read", "checks-scsi"),
    (
        "WRITE AND VERIFY(32)",
        "tests/data_path/forms.rs::every_write_and_verify_writes",
        "checks-scsi",
    ),
    (
        "WRITE SAME(32)",
        "tests/data_path/forms.rs::every_write_same_fills_its_blocks_and_no_others",
        "checks-scsi",
    ),
    (
        "EXTENDED COPY",
        "tests/data_path/copies.rs::both_forms_copy_and_tell_how_it_went",
        "ExtendedCopy",
    ),
    (
        "POPULATE TOKEN",
        "tests/data_path/tokens.rs::data_goes_where_it_is_wanted_and_nowhere_else",
        "checks-copy",
    ),
    (
        "WRITE USING TOKEN",
        "tests/data_path/tokens.rs::data_goes_where_it_is_wanted_and_nowhere_else",
        "checks-copy",
    ),
    (
        "COPY OPERATION ABORT",
        "tests/data_path/copies.rs::copy_operation_abort_is_answered_when_the_copy_has_ended",
        "",
    ),
    (
        "RECEIVE COPY OPERATING",
        "scsi/src/copy/page.rs::the_limits_are_told_in_blocks_of_the_unit",
        "ReceiveCopyResults",
    ),
    (
        "RECEIVE COPY FAILURE",
        "scsi/src/copy/status.rs::failure_details_have_the_status_and_the_sense_data",
        "",
    ),
    (
        "RECEIVE COPY STATUS",
        "tests/data_path/copies.rs::both_forms_copy_and_tell_how_it_went",
        "ReceiveCopyResults",
    ),
    (
        "RECEIVE ROD TOKEN",
        "scsi/src/copy/status.rs::a_token_stands_behind_the_sense_data",
        "checks-copy",
    ),
    (
        "REPORT ALL ROD TOKENS",
        "tests/data_path/tokens.rs::the_tokens_of_what_an_initiator_reaches_are_reported_to_it",
        "checks-copy",
    ),
    ("READ(16)", "tests/data_path/forms.rs::every_write_is_read_by_every_read", "Read16"),
    (
        "COMPARE AND WRITE",
        "tests/data_path/serial.rs::a_serial_order_explains_every_result_of_a_disk_in_memory",
        "CompareAndWrite",
    ),
    ("WRITE(16)", "tests/data_path/forms.rs::every_write_is_read_by_every_read", "Write16"),
    (
        "ORWRITE(16)",
        "tests/data_path/hand_off.rs::an_atomic_write_lets_no_reader_in_until_it_is_whole",
        "OrWrite",
    ),
    (
        "WRITE AND VERIFY(16)",
        "tests/data_path/forms.rs::every_write_and_verify_writes",
        "WriteVerify16",
    ),
    ("VERIFY(16)", "tests/data_path/forms.rs::a_verify_compares_what_it_is_given", "Verify16"),
    (
        "PRE-FETCH(16)",
        "tests/data_path/forms.rs::what_moves_no_data_is_answered_in_every_form",
        "Prefetch16",
    ),
    (
        "WRITE SAME(16)",
        "tests/data_path/forms.rs::every_write_same_fills_its_blocks_and_no_others",
        "WriteSame16",
    ),
    (
        "WRITE ATOMIC(16)",
        "scsi/src/tests/blocks.rs::an_atomic_write_keeps_within_what_the_image_can_do",
        "WriteAtomic16",
    ),
    (
        "READ CAPACITY(16)",
        "tests/data_path/attentions.rs::a_unit_that_grows_is_larger_at_once_and_every_session_is_told",
        "ReadCapacity16",
    ),
    (
        "GET LBA STATUS",
        "scsi/src/tests/blocks.rs::lba_status_merges_equal_neighbours",
        "GetLBAStatus",
    ),
    (
        "REPORT LUNS",
        "tests/data_path/attentions.rs::a_unit_that_is_removed_is_told_of_through_those_that_stay",
        "checks",
    ),
    (
        "REPORT TARGET PORT GROUPS",
        "scsi/src/tests/target_port_groups.rs::report_target_port_groups_has_both_formats",
        "checks-alua",
    ),
    (
        "REPORT SUPPORTED OPERATION CODES",
        "scsi/src/tests/report.rs::supported_operation_codes_are_those_of_the_table",
        "ReportSupportedOpcodes",
    ),
    (
        "REPORT SUPPORTED TASK",
        "scsi/src/tests/report.rs::the_queries_are_reported_where_the_transport_has_them",
        "checks-scsi",
    ),
    (
        "REPORT TIMESTAMP",
        "scsi/src/tests/timestamp.rs::the_timestamp_is_the_hosts_time_in_milliseconds",
        "",
    ),
    (
        "SET TARGET PORT GROUPS",
        "tests/data_path/access_states.rs::an_initiator_changes_the_groups_of_its_target_and_the_others_are_told",
        "checks-alua",
    ),
    ("READ(12)", "tests/data_path/forms.rs::every_write_is_read_by_every_read", "Read12"),
    ("WRITE(12)", "tests/data_path/forms.rs::every_write_is_read_by_every_read", "Write12"),
    (
        "WRITE AND VERIFY(12)",
        "tests/data_path/forms.rs::every_write_and_verify_writes",
        "WriteVerify12",
    ),
    ("VERIFY(12)", "tests/data_path/forms.rs::a_verify_compares_what_it_is_given", "Verify12"),
    (
        "READ DEFECT DATA(12)",
        "tests/data_path/forms.rs::what_moves_no_data_is_answered_in_every_form",
        "ReadDefectData12",
    ),
];

/// How `docs/commands.md` names the tests of a command. They are there.
pub(super) fn of(command: &str) -> String {
    let found = PROOFS.iter().find(|(begin, ..)| command.starts_with(begin));
    let (_, test, others) = found.unwrap_or_else(|| panic!("no test shows what {command} does"));
    let (file, function) = test.split_once("::").unwrap();
    let text = std::fs::read_to_string(below("../").join(file)).unwrap();
    assert!(text.contains(&format!("fn {function}(")), "{command}: {test} is not there");
    let others = match *others {
        "" => String::new(),
        machine if machine.starts_with("checks") => {
            let path = below("../../tests/interop/vm").join(machine);
            assert!(path.is_file(), "{command}: {} is not there", path.display());
            format!("; `{machine}`")
        }
        suite => format!("; {suite}"),
    };
    let module = Path::new(file).file_stem().unwrap().to_str().unwrap();
    format!("`{module}::{function}`{others}")
}

fn below(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
