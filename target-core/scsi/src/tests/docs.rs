//! `docs/commands.md` is made from the table of commands.

use std::fmt::Write as _;
use std::path::Path;

use super::*;
use crate::commands::{AccessClass, Needs};
use crate::reservation::describe;

const HEAD: &str = "\
# Commands

The SCSI commands that lund knows, by operation code and service action.

This file is made from `target-core/scsi/src/commands.rs`; a test holds the two together \
(`UPDATE_DOCS=1 cargo test -p scsi docs` writes it).

- **CDB**: bytes of the command descriptor block. Commands with 32 of them exist with \
`scsi.long_cdbs = true` (configuration.md).
- **Needs**: what must be there. A command that needs *nothing* is answered for a LUN that does \
not exist and in front of unit attentions; *unit* is a logical unit in whatever state; *medium* \
can be read; *writable medium* can be written. *unmap*: the command exists only where blocks can \
be unmapped.
- **Access**: in which asymmetric access states of its target port a command runs besides the \
active ones. *active*: in no other; *standby*; *unavailable*: there and in standby; *always*: during \
transitions too.
- **Timeout**: seconds that REPORT SUPPORTED OPERATION CODES recommends to wait.
- **Persistent reservation**: for a nexus that does not hold it. *always* runs; *read* runs under \
the write exclusive types, and for registered nexuses under the types for them; *write* runs only \
for registered nexuses under the types for them; *registered* runs for registered nexuses; *holder* \
does not run; *legacy* does not run as soon as any nexus is registered.
- **RESERVE**: while RESERVE(6) or RESERVE(10) of another nexus is in force. A RELEASE that is \
allowed changes nothing.

- **Tests**: one of lund's own, below `target-core/`, in front of which stands its module; then a suite \
of libiscsi's `iscsi-test-cu`, or a file in `tests/interop/vm/` whose checks a Linux kernel runs. \
Every command is also in the tests of all rows: reserved bits, access states, write protection, the \
reservation matrix.

Two commands have two classes: START STOP UNIT, to start and to do anything else; PREVENT ALLOW MEDIUM \
REMOVAL, to prevent and to allow.

| Code | Action | Command | CDB | Needs | Access | Timeout | Persistent reservation | RESERVE | Tests |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
";

/// A line of the table.
struct Line {
    operation_code: u8,
    action: String,
    name: &'static str,
    length: usize,
    row: &'static Command,
}

fn lines() -> Vec<Line> {
    let short = COMMANDS.iter().map(|row| Line {
        operation_code: row.operation_code,
        action: row.service_action.map_or(String::new(), |action| format!("{action:02X}h")),
        name: row.name,
        length: row.usage.len(),
        row,
    });
    let long = LONG_COMMANDS.iter().map(|long| Line {
        operation_code: 0x7f,
        action: format!("{:04X}h", long.service_action),
        name: long.name,
        length: long.usage.len(),
        row: long.short().unwrap(),
    });
    let mut lines: Vec<_> = short.chain(long).collect();
    lines.sort_by_key(|line| line.operation_code);
    lines
}

fn document() -> String {
    let mut text = HEAD.to_owned();
    for Line { operation_code, action, name, length, row } in lines() {
        let needs = match row.needs {
            Needs::Nothing => "nothing",
            Needs::Unit => "unit",
            Needs::Medium => "medium",
            Needs::WritableMedium => "writable medium",
        };
        let access = match row.access {
            AccessClass::Active => "active",
            AccessClass::Standby => "standby",
            AccessClass::Unavailable => "unavailable",
            AccessClass::Always => "always",
        };
        let unmap = if row.unmap_only { ", unmap" } else { "" };
        let (classes, through) = classes(row);
        let timeout = row.timeout_seconds;
        writeln!(
            text,
            "| {operation_code:02X}h | {action} | {name} | {length} | {needs}{unmap} | {access} | \
             {timeout} | {classes} | {through} | {} |",
            proofs::of(name),
        )
        .unwrap();
    }
    text
}

/// Both columns about reservations; more than one word where byte 4 (START) decides.
fn classes(row: &Command) -> (String, String) {
    let mut cdb = cdb_of(row);
    let (mut classes, mut through) = (Vec::new(), Vec::new());
    for byte in [0x01, 0x00] {
        cdb[4] = byte;
        let (class, reserve) = describe(Cdb::new(&cdb));
        classes.push(class);
        through.push(reserve);
    }
    classes.dedup();
    through.dedup();
    (classes.join(" / "), through.join(" / "))
}

#[test]
fn docs_commands_md_says_what_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/commands.md");
    let wanted = document();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let help = "UPDATE_DOCS=1 cargo test -p scsi docs";
    assert!(found == wanted, "{} is out of date: {help}", path.display());
    for row in COMMANDS {
        assert!(found.contains(&format!(" {} |", row.name)), "{}", row.name);
    }
}
