//! What a command may change.

use std::ops::Range;

use crate::cdb::Cdb;
use crate::commands::{Needs, lookup};
use crate::read_write::Run;

/// THIRD-PARTY COPY OUT.
const THIRD_PARTY_COPY_OUT: u8 = 0x83;

/// Of which blocks a command may change the data, as far as its CDB tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changes {
    /// Of none.
    Nothing,
    /// Of these, on the logical unit to which it is addressed.
    Blocks(Range<u64>),
    /// Of any on that one.
    Unit,
    /// Of any on whatever logical unit the initiator reaches.
    Units,
}

impl Changes {
    /// Those of a command.
    #[must_use]
    pub fn of(cdb: Cdb) -> Self {
        match cdb.operation_code() {
            THIRD_PARTY_COPY_OUT => Self::Units,
            // WRITE, of 6, 10, 12 and 16 bytes.
            0x0a | 0x2a | 0xaa | 0x8a => {
                let Run { lba, blocks, .. } = Run::of(cdb);
                Self::Blocks(lba..lba.saturating_add(u64::from(blocks)))
            }
            _ => match lookup(cdb).map(|row| row.needs) {
                // What is in no table is refused.
                None | Some(Needs::Nothing | Needs::Unit | Needs::Medium) => Self::Nothing,
                Some(Needs::WritableMedium) => Self::Unit,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::COMMANDS;

    #[test]
    fn a_write_changes_its_blocks_and_everything_else_what_it_might() {
        let of = |bytes: &[u8]| Changes::of(Cdb::new(bytes));
        assert_eq!(of(&[0x0a, 0x01, 0, 2, 0, 0]), Changes::Blocks(0x1_0002..0x1_0102));
        assert_eq!(of(&[0x2a, 0, 0, 0, 1, 0, 0, 0, 8, 0]), Changes::Blocks(256..264));
        assert_eq!(of(&[0xaa, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0]), Changes::Blocks(9..10));
        let mut long = [0xff; 16];
        (long[0], long[1]) = (0x8a, 0);
        assert_eq!(of(&long), Changes::Blocks(u64::MAX..u64::MAX));
        for nothing in [0x00, 0x28, 0x88, 0x2f, 0x35, 0x5f, 0x12] {
            assert_eq!(of(&[nothing, 0, 0, 0, 0, 0, 0, 0, 1, 0]), Changes::Nothing, "{nothing:#x}");
        }
        // WRITE SAME, UNMAP, COMPARE AND WRITE, WRITE AND VERIFY, SANITIZE.
        for unit in [[0x93, 0], [0x42, 0], [0x89, 0], [0x2e, 0], [0x48, 1]] {
            assert_eq!(of(&unit), Changes::Unit, "{unit:x?}");
        }
        assert_eq!(of(&[0x83, 0]), Changes::Units);
    }

    /// Nothing that has one of these in its name changes nothing.
    #[test]
    fn the_table_knows_what_writes() {
        for row in COMMANDS {
            let cdb = Cdb::new(&[row.operation_code, row.service_action.unwrap_or_default()]);
            let writes = ["WRITE", "FORMAT UNIT", "UNMAP", "SANITIZE"];
            if writes.iter().any(|word| row.name.contains(word)) {
                assert_ne!(Changes::of(cdb), Changes::Nothing, "{}", row.name);
            }
        }
    }
}
