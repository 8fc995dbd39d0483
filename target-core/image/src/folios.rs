//! What a long write leaves behind in the page cache.
//!
//! A file system that has large folios keeps what comes in one write as one. ext4 looks at each
//! block of a folio when any of it is written: a `pwrite` of 4 KiB takes 2.3 µs where all came 4 KiB
//! at a time, 3.2 where 16 KiB, 5.1 where 64 KiB, 40 where 1 MiB (Linux 6.18; XFS: 2.6 to 3.6 in all
//! cases). So writes that somebody has sent apart stay apart there.

use rustix::fs::FsWord;

const EXT4: FsWord = 0xef53;
/// The first Linux whose ext4 has them.
const SINCE: (u32, u32) = (6, 16);

/// Whether short writes of a file become dear where long ones were before.
pub(crate) fn are_dear(magic: FsWord) -> bool {
    magic == EXT4
        && release(&rustix::system::uname().release().to_string_lossy())
            .is_none_or(|release| release >= SINCE)
}

/// `6.18.44-x` is (6, 18).
fn release(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_as_numbers() {
        assert_eq!(release("6.18.44-fc-v782"), Some((6, 18)));
        assert_eq!(release("6.9.0"), Some((6, 9)));
        assert_eq!(release("7.0"), Some((7, 0)));
        assert_eq!(release("5.10-rc1"), Some((5, 10)));
        assert_eq!(release("generic"), None);
        assert!(release("6.9") < Some(SINCE) && release("10.1") > Some(SINCE));
    }

    #[test]
    fn only_ext4_is_concerned() {
        assert!(!are_dear(0x5846_5342), "XFS");
        assert!(!are_dear(0x0102_1994), "tmpfs");
    }
}
