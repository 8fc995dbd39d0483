use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::process::Command;

use super::*;

const PAGES: usize = 8;

fn page_size() -> usize {
    rustix::param::page_size()
}

fn file() -> File {
    let file = tempfile::tempfile().unwrap();
    let page = |at| u8::try_from(at / page_size() + 1).unwrap();
    let bytes: Vec<u8> = (0..PAGES * page_size()).map(page).collect();
    file.write_all_at(&bytes, 0).unwrap();
    file
}

fn map(file: &File) -> PinnedFile {
    PinnedFile::map(file, PAGES * page_size()).unwrap()
}

/// Kilobytes of the program that are locked.
fn locked() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn what_is_written_is_read() {
    let (file, page) = (file(), page_size());
    let map = map(&file);
    map.pin(&(0..PAGES * page)).unwrap();
    let mut read = vec![0; page + 2];
    map.read(page - 1, &mut read).unwrap();
    assert_eq!((read[0], read[1], read[page], read[page + 1]), (1, 2, 2, 3));
    file.write_all_at(b"new", page as u64).unwrap();
    map.read(page, &mut read[..3]).unwrap();
    assert_eq!(&read[..3], b"new");
}

#[test]
fn what_was_cut_off_is_lost_and_the_rest_is_there() {
    let (file, page) = (file(), page_size());
    let map = map(&file);
    map.pin(&(0..PAGES * page)).unwrap();
    file.set_len(2 * page as u64).unwrap();
    let mut read = vec![0; 2 * page];
    assert_eq!(map.read(2 * page, &mut read), Err(Lost));
    // It came so far.
    assert_eq!(map.read(page, &mut read), Err(Lost));
    assert!(read[..page].iter().all(|byte| *byte == 2));
    assert_eq!(map.read(0, &mut read), Ok(()));
    // Beyond what is mapped nothing is touched.
    assert_eq!(map.read(PAGES * page - 1, &mut read[..2]), Err(Lost));
    assert_eq!(map.read(usize::MAX, &mut read[..2]), Err(Lost));
}

#[test]
fn what_cannot_be_read_is_not_pinned() {
    let (file, page) = (file(), page_size());
    file.set_len(page as u64).unwrap();
    let map = map(&file);
    assert!(map.pin(&(0..2 * page)).is_err());
    assert!(map.pin(&(0..(PAGES + 1) * page)).is_err());
    assert!(map.pin(&(0..page)).is_ok());
}

/// In a process of its own: others would lock memory meanwhile.
#[test]
fn what_is_unpinned_is_locked_no_more() {
    let name = "pinned::map::tests::what_is_unpinned_is_locked_no_more";
    if std::env::var_os("PINNED_TEST_ALONE").is_none() {
        let mut alone = Command::new(std::env::current_exe().unwrap());
        let output = alone.args([name, "--exact"]).env("PINNED_TEST_ALONE", "1").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        return;
    }
    let (file, page) = (file(), page_size());
    let before = locked();
    let pages = |count: usize| (count * page / 1024) as u64;
    let map = map(&file);
    map.pin(&(0..4 * page)).unwrap();
    assert_eq!(locked(), before + pages(4));
    map.unpin(&(page..2 * page));
    assert_eq!(locked(), before + pages(3));
    let mut read = [0];
    assert_eq!((map.read(page, &mut read), read), (Ok(()), [2]));
    drop(map);
    assert_eq!(locked(), before);
}

/// What others do with memory that is gone still ends the program.
#[test]
fn sigbus_from_elsewhere_is_nobodys_business() {
    let name = "pinned::map::tests::sigbus_from_elsewhere_is_nobodys_business";
    if std::env::var_os("PINNED_TEST_DIES").is_none() {
        let mut dies = Command::new(std::env::current_exe().unwrap());
        let output = dies.args([name, "--exact"]).env("PINNED_TEST_DIES", "1").output().unwrap();
        let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
        assert_eq!(signal, Some(libc::SIGBUS), "{output:?}");
        return;
    }
    let file = file();
    let map = map(&file);
    file.set_len(0).unwrap();
    // SAFETY: the mapping is there; that its page is not is what this is about.
    std::hint::black_box(unsafe { map.base.cast::<u8>().read_volatile() });
}
