//! The whole matrix of SPC-4 tables 65 and 66 and SBC-3 table 13, written down once more.

use super::*;

/// Columns of the standards' tables: any nexus with Write Exclusive, with Exclusive Access; a
/// registered nexus with the registrants types; an unregistered one with Write Exclusive and with
/// Exclusive Access of them. A = allowed, C = conflict.
const TABLE: &[(&str, &[u8], &str)] = &[
    ("TEST UNIT READY", &[0x00], "AAAAA"),
    ("REQUEST SENSE", &[0x03], "AAAAA"),
    ("FORMAT UNIT", &[0x04], "CCACC"),
    ("REASSIGN BLOCKS", &[0x07], "CCACC"),
    ("READ(6)", &[0x08], "ACAAC"),
    ("WRITE(6)", &[0x0a], "CCACC"),
    ("INQUIRY", &[0x12], "AAAAA"),
    ("MODE SELECT(6)", &[0x15], "CCACC"),
    ("MODE SENSE(6)", &[0x1a], "ACAAC"),
    ("START STOP UNIT, START 1", &[0x1b, 0, 0, 0, 0x01], "AAAAA"),
    ("START STOP UNIT, START 1, NO_FLUSH", &[0x1b, 1, 0, 0, 0x05], "AAAAA"),
    ("START STOP UNIT, START 0", &[0x1b, 0, 0, 0, 0x00], "CCACC"),
    ("START STOP UNIT, ACTIVE", &[0x1b, 0, 0, 0, 0x11], "CCACC"),
    ("START STOP UNIT, STANDBY", &[0x1b, 0, 0, 0, 0x30], "CCACC"),
    ("RECEIVE DIAGNOSTIC RESULTS", &[0x1c], "ACAAC"),
    ("SEND DIAGNOSTIC", &[0x1d], "CCACC"),
    ("PREVENT ALLOW MEDIUM REMOVAL, 0", &[0x1e, 0, 0, 0, 0x00], "AAAAA"),
    ("PREVENT ALLOW MEDIUM REMOVAL, 1", &[0x1e, 0, 0, 0, 0x01], "CCACC"),
    ("PREVENT ALLOW MEDIUM REMOVAL, 3", &[0x1e, 0, 0, 0, 0x03], "CCACC"),
    ("READ CAPACITY(10)", &[0x25], "AAAAA"),
    ("READ(10)", &[0x28], "ACAAC"),
    ("WRITE(10)", &[0x2a], "CCACC"),
    ("WRITE AND VERIFY(10)", &[0x2e], "CCACC"),
    ("VERIFY(10)", &[0x2f], "ACAAC"),
    ("PRE-FETCH(10)", &[0x34], "ACAAC"),
    ("SYNCHRONIZE CACHE(10)", &[0x35], "CCACC"),
    ("READ DEFECT DATA(10)", &[0x37], "ACAAC"),
    ("WRITE BUFFER", &[0x3b], "CCACC"),
    ("READ BUFFER", &[0x3c], "ACAAC"),
    ("READ LONG(10)", &[0x3e], "CCACC"),
    ("WRITE LONG(10)", &[0x3f], "CCACC"),
    ("WRITE SAME(10)", &[0x41], "CCACC"),
    ("UNMAP", &[0x42], "CCACC"),
    ("SANITIZE, OVERWRITE", &[0x48, 0x01], "CCACC"),
    ("SANITIZE, BLOCK ERASE", &[0x48, 0x02], "CCACC"),
    ("SANITIZE, CRYPTOGRAPHIC ERASE", &[0x48, 0x03], "CCACC"),
    ("SANITIZE, EXIT FAILURE MODE", &[0x48, 0x1f], "CCACC"),
    ("LOG SELECT", &[0x4c], "CCACC"),
    ("LOG SENSE", &[0x4d], "AAAAA"),
    ("MODE SELECT(10)", &[0x55], "CCACC"),
    ("MODE SENSE(10)", &[0x5a], "ACAAC"),
    ("PERSISTENT RESERVE IN, READ KEYS", &[0x5e, 0], "AAAAA"),
    ("PERSISTENT RESERVE IN, READ RESERVATION", &[0x5e, 1], "AAAAA"),
    ("PERSISTENT RESERVE IN, REPORT CAPABILITIES", &[0x5e, 2], "AAAAA"),
    ("PERSISTENT RESERVE IN, READ FULL STATUS", &[0x5e, 3], "AAAAA"),
    ("a command of variable length", &[0x7f], "CCACC"),
    ("EXTENDED COPY(LID1)", &[0x83, 0x00], "CCACC"),
    ("EXTENDED COPY(LID4)", &[0x83, 0x01], "CCACC"),
    ("POPULATE TOKEN", &[0x83, 0x10], "ACAAC"),
    ("WRITE USING TOKEN", &[0x83, 0x11], "CCACC"),
    ("COPY OPERATION ABORT", &[0x83, 0x1c], "CCACC"),
    ("RECEIVE COPY STATUS(LID1)", &[0x84, 0x00], "AAAAA"),
    ("RECEIVE COPY DATA(LID1)", &[0x84, 0x01], "AAAAA"),
    ("RECEIVE COPY OPERATING PARAMETERS", &[0x84, 0x03], "AAAAA"),
    ("RECEIVE COPY FAILURE DETAILS(LID1)", &[0x84, 0x04], "AAAAA"),
    ("RECEIVE COPY STATUS(LID4)", &[0x84, 0x05], "AAAAA"),
    ("RECEIVE COPY DATA(LID4)", &[0x84, 0x06], "AAAAA"),
    ("RECEIVE ROD TOKEN INFORMATION", &[0x84, 0x07], "AAAAA"),
    ("REPORT ALL ROD TOKENS", &[0x84, 0x08], "AAAAA"),
    ("ACCESS CONTROL IN", &[0x86], "AAAAA"),
    ("ACCESS CONTROL OUT", &[0x87], "AAAAA"),
    ("READ(16)", &[0x88], "ACAAC"),
    ("COMPARE AND WRITE", &[0x89], "CCACC"),
    ("WRITE(16)", &[0x8a], "CCACC"),
    ("ORWRITE(16)", &[0x8b], "CCACC"),
    ("READ ATTRIBUTE", &[0x8c], "ACAAC"),
    ("WRITE ATTRIBUTE", &[0x8d], "CCACC"),
    ("WRITE AND VERIFY(16)", &[0x8e], "CCACC"),
    ("VERIFY(16)", &[0x8f], "ACAAC"),
    ("PRE-FETCH(16)", &[0x90], "ACAAC"),
    ("SYNCHRONIZE CACHE(16)", &[0x91], "CCACC"),
    ("WRITE SAME(16)", &[0x93], "CCACC"),
    ("WRITE ATOMIC(16)", &[0x9c], "CCACC"),
    ("READ CAPACITY(16)", &[0x9e, 0x10], "AAAAA"),
    ("READ LONG(16)", &[0x9e, 0x11], "CCACC"),
    ("GET LBA STATUS", &[0x9e, 0x12], "ACAAC"),
    ("REPORT REFERRALS", &[0x9e, 0x13], "AAAAA"),
    ("WRITE LONG(16)", &[0x9f, 0x11], "CCACC"),
    ("REPORT LUNS", &[0xa0], "AAAAA"),
    ("SECURITY PROTOCOL IN", &[0xa2], "ACAAC"),
    ("REPORT IDENTIFYING INFORMATION", &[0xa3, 0x05], "AAAAA"),
    ("REPORT TARGET PORT GROUPS", &[0xa3, 0x0a], "AAAAA"),
    ("REPORT TARGET PORT GROUPS, extended", &[0xa3, 0x2a], "AAAAA"),
    ("REPORT ALIASES", &[0xa3, 0x0b], "AAAAA"),
    ("REPORT SUPPORTED OPERATION CODES", &[0xa3, 0x0c], "ACAAC"),
    ("REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", &[0xa3, 0x0d], "ACAAC"),
    ("REPORT PRIORITY", &[0xa3, 0x0e], "AAAAA"),
    ("REPORT TIMESTAMP", &[0xa3, 0x0f], "AAAAA"),
    ("MANAGEMENT PROTOCOL IN", &[0xa3, 0x10], "ACAAC"),
    ("SET IDENTIFYING INFORMATION", &[0xa4, 0x06], "CCACC"),
    ("SET TARGET PORT GROUPS", &[0xa4, 0x0a], "CCACC"),
    ("CHANGE ALIASES", &[0xa4, 0x0b], "CCACC"),
    ("REMOVE I_T NEXUS", &[0xa4, 0x0c], "CCACC"),
    ("SET PRIORITY", &[0xa4, 0x0e], "CCACC"),
    ("SET TIMESTAMP", &[0xa4, 0x0f], "CCACC"),
    ("MANAGEMENT PROTOCOL OUT", &[0xa4, 0x10], "CCACC"),
    ("READ(12)", &[0xa8], "ACAAC"),
    ("WRITE(12)", &[0xaa], "CCACC"),
    ("READ MEDIA SERIAL NUMBER", &[0xab, 0x01], "AAAAA"),
    ("WRITE AND VERIFY(12)", &[0xae], "CCACC"),
    ("VERIFY(12)", &[0xaf], "ACAAC"),
    ("SECURITY PROTOCOL OUT", &[0xb5], "CCACC"),
    ("READ DEFECT DATA(12)", &[0xb7], "ACAAC"),
    ("a vendor specific command", &[0xc1], "CCACC"),
];

/// Table 66: from a registered nexus, and from one that is not.
const RESERVE_OUT: &[(u8, &str)] = &[
    (CLEAR, "AC"),
    (PREEMPT, "AC"),
    (PREEMPT_AND_ABORT, "AC"),
    (REGISTER, "AA"),
    (REGISTER_AND_IGNORE, "AA"),
    (REGISTER_AND_MOVE, "CC"),
    (RELEASE, "AC"),
    (REPLACE_LOST, "AC"),
    (RESERVE, "CC"),
];

/// SPC-2 table 10 and SBC: what RESERVE of another nexus lets through.
const THROUGH_RESERVE: &[&str] = &[
    "REQUEST SENSE",
    "INQUIRY",
    "START STOP UNIT, START 1",
    "START STOP UNIT, START 1, NO_FLUSH",
    "PREVENT ALLOW MEDIUM REMOVAL, 0",
    "READ CAPACITY(10)",
    "READ CAPACITY(16)",
    "LOG SENSE",
    "REPORT LUNS",
    "REPORT IDENTIFYING INFORMATION",
    "REPORT TARGET PORT GROUPS",
    "REPORT TARGET PORT GROUPS, extended",
    "READ MEDIA SERIAL NUMBER",
];

fn column(kind: u8, is_registered: bool) -> usize {
    match (kind, is_registered) {
        (WE, _) => 0,
        (EA, _) => 1,
        (_, true) => 2,
        (WE_RO | WE_AR, false) => 3,
        (_, false) => 4,
    }
}

#[test]
fn every_type_and_every_role_meet_conflicts_where_the_tables_say_so() {
    for kind in [WE, EA, WE_RO, EA_RO, WE_AR, EA_AR] {
        let state = reserved("ab", kind);
        for (name, cdb, allowed) in TABLE {
            let cdb = Cdb::new(cdb);
            assert!(state.check(&nexus('a'), cdb), "{name}, holder, type {kind}");
            for (letter, is_registered) in [('b', true), ('c', false)] {
                let expected = allowed.as_bytes()[column(kind, is_registered)] == b'A';
                assert_eq!(state.check(&nexus(letter), cdb), expected, "{name} {letter} {kind}");
            }
        }
    }
}

#[test]
fn persistent_reserve_out_follows_its_own_table_and_processing_agrees() {
    for kind in [WE, EA, WE_RO, EA_RO, WE_AR, EA_AR] {
        let state = reserved("ab", kind);
        let all_registrants = matches!(kind, WE_AR | EA_AR);
        for (action, allowed) in RESERVE_OUT {
            let cdb = out_cdb(*action, kind, 24);
            assert!(state.check(&nexus('a'), cdb), "holder, {action}, {kind}");
            // All registrants: "b" is a holder too.
            let registrant = allowed.as_bytes()[0] == b'A' || all_registrants;
            assert_eq!(state.check(&nexus('b'), cdb), registrant, "{action} {kind}");
            let stranger = allowed.as_bytes()[1] == b'A';
            assert_eq!(state.check(&nexus('c'), cdb), stranger, "{action} {kind}");
            for (letter, key, may) in [('b', 0xb, registrant), ('c', 0, stranger)] {
                if may {
                    continue;
                }
                let mut state = state.clone();
                let list = match *action {
                    REGISTER_AND_MOVE => movement(key, 0xd, 0, 1, &port_id('d', 1)),
                    _ => basic(key, 0xa, 0),
                };
                conflict(send(&mut state, &nexus(letter), *action, kind, &list));
            }
        }
    }
}

#[test]
fn reserve_and_release_conflict_as_soon_as_anybody_is_registered() {
    for state in [registered("a"), reserved("ab", WE), reserved("ab", EA_AR)] {
        for operation_code in [0x16, 0x17, 0x56, 0x57] {
            let cdb = Cdb::new(&[operation_code]);
            for letter in ['a', 'b', 'c'] {
                assert!(!state.check(&nexus(letter), cdb));
            }
        }
    }
}

#[test]
fn a_reserve_of_another_nexus_lets_a_few_commands_through() {
    let mut state = Reservations::new();
    assert_eq!(state.reserve_unit(Cdb::new(&[0x16]), &nexus('a')), Verdict::Good);
    assert!(!state.is_idle());
    for (name, cdb, _) in TABLE {
        let cdb = Cdb::new(cdb);
        let persistent = cdb.operation_code() == 0x5e;
        assert_eq!(state.check(&nexus('a'), cdb), !persistent, "{name}");
        assert_eq!(state.check(&nexus('b'), cdb), THROUGH_RESERVE.contains(name), "{name}");
    }
    for (action, _) in RESERVE_OUT {
        assert!(!state.check(&nexus('a'), out_cdb(*action, WE, 24)));
        assert!(!state.check(&nexus('b'), out_cdb(*action, WE, 24)));
    }
    let check = |code, letter| state.check(&nexus(letter), Cdb::new(&[code]));
    assert_eq!([check(0x16, 'b'), check(0x56, 'b')], [false; 2]);
    assert_eq!([check(0x17, 'b'), check(0x57, 'b'), check(0x16, 'a')], [true; 3]);
}

#[test]
fn without_a_reservation_everything_runs() {
    for state in [Reservations::new(), registered("ab")] {
        assert!(state.is_idle());
        for (name, cdb, _) in TABLE {
            for letter in ['a', 'c'] {
                assert!(state.check(&nexus(letter), Cdb::new(cdb)), "{name}");
            }
        }
    }
}

#[test]
fn the_other_target_port_of_the_holder_is_another_nexus() {
    let mut state = reserved("a", EA);
    assert!(!state.check(&elsewhere('a'), Cdb::new(&[0x28])));
    let other_session = Nexus { initiator: initiator('a', 2), target: target(1) };
    assert!(!state.check(&other_session, Cdb::new(&[0x28])));
    quiet(out(&mut state, &elsewhere('a'), REGISTER, 0, (0, 0xa)));
    assert!(!state.check(&elsewhere('a'), Cdb::new(&[0x28])));
}

#[test]
fn every_command_of_the_crate_is_in_the_matrix() {
    for command in crate::COMMANDS {
        let known = TABLE.iter().any(|(_, cdb, _)| {
            cdb[0] == command.operation_code
                && command.service_action.is_none_or(|action| cdb.get(1) == Some(&action))
        });
        let reservations = matches!(command.operation_code, 0x16 | 0x17 | 0x56 | 0x57 | 0x5f);
        assert!(known || reservations, "{}", command.name);
    }
}
