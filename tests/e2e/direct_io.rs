//! Pools whose disks are read and written past the page cache.

use std::fs::File;
use std::io::IoSliceMut;
use std::path::Path;

use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::support::{Place, Session, eventually, exit_of};

const TARGET: &str = "iqn.2026-01.io.lund:t";
const LENGTH: usize = 64 << 10;

/// Whether the page cache has the first bytes of a file.
fn is_cached(path: &Path) -> bool {
    has(path, 0)
}

/// How many pieces of a file it has not. From the end: asking has the system read ahead.
fn not_cached(path: &Path) -> usize {
    let pieces = path.metadata().unwrap().len() / LENGTH as u64;
    (0..pieces).rev().filter(|piece| !has(path, piece * LENGTH as u64)).count()
}

fn has(path: &Path, offset: u64) -> bool {
    let mut bytes = vec![0; LENGTH];
    let bufs = &mut [IoSliceMut::new(&mut bytes)];
    match preadv2(File::open(path).unwrap(), bufs, offset, ReadWriteFlags::NOWAIT) {
        Ok(count) => count == LENGTH,
        Err(Errno::AGAIN) => false,
        Err(errno) => panic!("{}: {errno}", path.display()),
    }
}

/// False where the temporary directory is on a file system of which it is not known that it does not go
/// through the page cache all the same.
fn is_able(place: &Place) -> bool {
    const EXT4: u64 = 0xef53;
    const XFS: u64 = 0x5846_5342;
    let magic = u64::try_from(rustix::fs::statfs(place.path()).unwrap().f_type).unwrap();
    let able = [EXT4, XFS].contains(&magic) && disk_image::can_do_direct_io(place.path()).is_ok();
    if !able {
        eprintln!("skipped: it is neither ext4 nor XFS, or without direct I/O");
    }
    able
}

#[test]
fn disks_follow_their_pool_past_the_page_cache_and_back() {
    let place = Place::new();
    if !is_able(&place) {
        return;
    }
    let directory = place.path().canonicalize().unwrap().join("fast");
    std::fs::create_dir(&directory).unwrap();
    let daemon = place.start(&[]);
    let create = ["pool", "create", "fast", directory.to_str().unwrap(), "--direct-io"];
    daemon.lunctl(&create).ok();
    let is_direct = || daemon.json(&["pool", "show", "fast"])["direct_io"].as_bool().unwrap();
    assert!(is_direct());
    assert!(!daemon.json(&["pool", "show", "default"])["direct_io"].as_bool().unwrap());
    daemon.lunctl(&["disk", "create", "a", "--size", "8MiB", "--pool", "fast"]).ok();
    daemon.expose("t", "a", 0);
    let file = daemon.file_of("a");
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    let mut use_it = |byte: u8| {
        session.write(0, 0, &[byte; LENGTH]);
        session.write(0, 8001, &[byte; 512]);
        let blocks = u32::try_from(LENGTH / 512).unwrap();
        assert_eq!(session.read(0, 0, blocks), [byte; LENGTH]);
        assert_eq!(session.read(0, 8001, 1), [byte; 512]);
    };
    use_it(1);
    assert!(!is_cached(&file));
    // Not what was not said.
    daemon.lunctl(&["pool", "change", "fast", "--reserve", "1%"]).ok();
    assert!(is_direct());
    for (on, byte) in [("false", 2), ("true", 3)] {
        daemon.lunctl(&["pool", "change", "fast", "--direct-io", on]).ok();
        assert_eq!(is_direct().to_string(), on);
        eventually("the disk follows its pool", || {
            use_it(byte);
            (is_cached(&file) == (on == "false")).then_some(())
        });
    }
    // What it is laid over, and what is laid over it.
    daemon.lunctl(&["snapshot", "create", "s", "a"]).ok();
    use_it(4);
    session.write(0, 8192, &[4; 16 * LENGTH]);
    let laid_over = daemon.file_of("a");
    // Not where the file system shares blocks.
    if laid_over != file {
        assert!(not_cached(&laid_over) >= 16);
    }
    session.synchronize(0);
    drop(session);
    daemon.stop();
    let daemon = place.start(&[]);
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    assert_eq!(session.read(0, 8001, 1), [4; 512]);
    assert_eq!(session.read(0, 0, 8), [4; 4096]);
    drop(session);
    daemon.lunctl(&["snapshot", "rollback", "a@s"]).ok();
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    assert_eq!(session.read(0, 0, 8), [3; 4096]);
    daemon.stop();
}

#[test]
fn a_file_system_without_is_named() {
    let place = Place::new();
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = memory.path().to_str().unwrap();
    for (key, configuration) in [
        (
            "pools.direct_io",
            format!("[[pools]]\nname = 'p'\ndirectory = '{path}'\ndirect_io = true\n"),
        ),
        // Which would be made.
        ("disks.direct_io", format!("[disks]\n\ndirectory = '{path}/new/one'\ndirect_io = true\n")),
    ] {
        let configuration = place.write("lund.toml", &configuration);
        let (status, message) = exit_of(&mut place.configured(&configuration));
        assert_ne!(status, 0);
        assert!(message.contains(key) && message.contains(path), "{message}");
        assert!(message.contains("lund.toml:4"), "{message}");
    }
    let daemon = place.start(&[]);
    let create = ["pool", "create", "p", path];
    daemon.lunctl(&[&create[..], &["--direct-io"]].concat()).fails(2, &["direct_io", path]);
    daemon.lunctl(&create).ok();
    daemon.lunctl(&["pool", "change", "p", "--direct-io"]).fails(2, &["direct_io", path]);
    daemon.stop();
}
