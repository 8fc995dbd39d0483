//! Long reads that are sent from the page cache: which are, and that they are what the disk has.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use disk_image::{Image as _, OpenOptions, RawImage};
use target_core::{NodeConfig, ZeroCopyReads};

use crate::initiator::{Data, Initiator};
use crate::task_management::LOGICAL_UNIT_RESET;
use crate::world::{
    BLOCK, Random, TARGET, TEST_UNIT_READY, World, durable_write, eventually, keys, read, write,
};

const LENGTH: usize = 4 << 20;
const BLOCKS: usize = LENGTH / BLOCK;
/// What every operating system has.
const RENO: &str = "reno";

struct Place {
    world: World,
    disk: File,
    image: Weak<RawImage>,
    data: Vec<u8>,
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Place {
    fn new(zero_copy_reads: ZeroCopyReads) -> Self {
        Self::with(zero_copy_reads, RENO).unwrap()
    }

    /// None if there is no such congestion control here.
    fn with(zero_copy_reads: ZeroCopyReads, congestion: &str) -> Option<Self> {
        disk_image::set_hot_budget(256 << 20);
        let config = NodeConfig { zero_copy_reads, ..NodeConfig::default() };
        let world = World::with_congestion(config, congestion)?;
        // Of a file system that is known, wherever the others are.
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let (path, data) = (directory.path().join("disk"), Random::new(5).bytes(LENGTH));
        std::fs::write(&path, &data).unwrap();
        let disk = File::options().read(true).write(true).open(&path).unwrap();
        let opened = Arc::new(RawImage::open(&*path, OpenOptions::default()).unwrap());
        let image = Arc::downgrade(&opened);
        world.unit(0, opened);
        Some(Self { world, disk, image, data, path, _directory: directory })
    }

    /// Reads until all of it is pinned.
    fn heat(&self, initiator: &mut Initiator) {
        eventually(|| {
            assert!(contents(initiator) == self.data);
            self.image.upgrade().unwrap().pinned(0, LENGTH as u64).is_some()
        });
    }

    /// Bytes that were sent in place for a read of all.
    fn sent_in_place(&self, initiator: &mut Initiator) -> u64 {
        let before = self.counted(initiator);
        assert!(contents(initiator) == self.data);
        self.counted(initiator) - before
    }

    fn counted(&self, initiator: &mut Initiator) -> u64 {
        // With this all that was queued before its answer is published.
        initiator.nop();
        let mut bytes = 0;
        eventually(|| {
            let detail = self.world.node.session(initiator.tsih).unwrap();
            bytes = detail.counters.in_place_bytes;
            detail.exp_cmd_sn == initiator.cmd_sn
        });
        bytes
    }
}

fn contents(initiator: &mut Initiator) -> Vec<u8> {
    initiator.execute(0, &read(0, BLOCKS), Data::In(LENGTH)).good()
}

#[test]
fn reads_of_the_only_session_are_sent_in_place_until_another_one_comes() {
    let place = Place::new(ZeroCopyReads::Auto);
    let mut initiator = place.world.initiator(&[0]);
    place.heat(&mut initiator);
    assert_eq!(place.sent_in_place(&mut initiator), LENGTH as u64);
    let mut other = place.world.initiator(&[0]);
    assert_eq!(place.sent_in_place(&mut initiator), 0);
    assert_eq!(place.sent_in_place(&mut other), 0);
    assert_eq!(other.log_out(), 0);
    place.world.events.wait_for_end(other.tsih);
    eventually(|| place.sent_in_place(&mut initiator) == LENGTH as u64);
}

#[test]
fn what_is_written_is_read() {
    let place = Place::new(ZeroCopyReads::Auto);
    let mut initiator = place.world.initiator(&[0]);
    place.heat(&mut initiator);
    let new = Random::new(6).bytes(200 * BLOCK);
    for lba in [0, 1000, BLOCKS - 200] {
        initiator.execute(0, &write(lba as u32, 200), Data::Out(&new)).good();
        let seen = contents(&mut initiator);
        assert!(seen[lba * BLOCK..][..new.len()] == new, "{lba}");
    }
    // Fewer bytes and more than the command reads, and a last PDU that is short.
    let mut expected = contents(&mut initiator);
    let more = initiator.execute(0, &read(0, BLOCKS), Data::In(LENGTH - BLOCK));
    assert!(more.residual == -(BLOCK as i64) && more.data == expected[..LENGTH - BLOCK]);
    let less = initiator.execute(0, &read(0, 1001), Data::In(LENGTH));
    expected.truncate(1001 * BLOCK);
    assert!(less.residual == (LENGTH - expected.len()) as i64 && less.data == expected);
}

/// Sends a read of blocks 0 to 255 and what comes behind it, of which the target cannot know whether the
/// read's data was taken; then waits until it has both.
fn behind_a_read(
    place: &Place,
    initiator: &mut Initiator,
    attribute: u8,
    cdb: &[u8],
    data: Data<'_>,
) -> [u32; 2] {
    let (read, mut bytes) = initiator.command(0, &read(0, 256), Data::In(256 * BLOCK));
    let (tag, mut command) = initiator.command(0, cdb, data);
    command[1] = command[1] & !0x07 | attribute;
    bytes.extend(command);
    let received = || place.world.node.session(initiator.tsih).unwrap().exp_cmd_sn;
    initiator.wire.send_bytes(&bytes);
    eventually(|| received() == initiator.cmd_sn);
    [read, tag]
}

#[test]
fn what_would_change_data_on_its_way_waits_until_it_is_acknowledged() {
    let place = Place::new(ZeroCopyReads::Auto);
    let mut initiator = place.world.initiator(&[0]);
    place.heat(&mut initiator);
    let old = place.data[..256 * BLOCK].to_vec();
    let new = vec![0x77; 8 * BLOCK];
    let write_same = [0x93, 0, 0, 0, 0, 0, 0, 0, 0, 248, 0, 0, 0, 8, 0, 0];
    let (simple, ordered) = (1, 2);
    let on_disk = |lba: usize| {
        let mut bytes = vec![0; new.len()];
        place.disk.read_exact_at(&mut bytes, (lba * BLOCK) as u64).unwrap();
        bytes
    };
    let cases: [(u8, &[u8], usize); 4] = [
        (simple, &write(248, 8), 8),
        (ordered, &write(248, 8), 8),
        (simple, &durable_write(248, 8), 8),
        (simple, &write_same, 1),
    ];
    for (attribute, cdb, blocks) in cases {
        let data = Data::Out(&new[..blocks * BLOCK]);
        let [first, second] = behind_a_read(&place, &mut initiator, attribute, cdb, data);
        assert!(on_disk(248) == old[248 * BLOCK..], "{cdb:x?}");
        assert!(initiator.finish(first).good() == old, "{cdb:x?}");
        initiator.finish(second).good();
        assert!(on_disk(248) == new, "{cdb:x?}");
        initiator.execute(0, &write(248, 8), Data::Out(&old[248 * BLOCK..])).good();
    }
    // And nothing else does.
    let [first, second] =
        behind_a_read(&place, &mut initiator, simple, &write(256, 8), Data::Out(&new));
    eventually(|| on_disk(256) == new);
    assert!(initiator.finish(first).good() == old);
    initiator.finish(second).good();
    assert_eq!(place.world.events.faults(), 0);
}

#[test]
fn what_waits_for_data_on_its_way_can_be_aborted_and_outlives_no_session() {
    let place = Place::new(ZeroCopyReads::Auto);
    let mut initiator = place.world.initiator(&[0]);
    place.heat(&mut initiator);
    let new = vec![0x77; BLOCK];
    let [first, second] = behind_a_read(&place, &mut initiator, 1, &write(0, 1), Data::Out(&new));
    let abort = initiator.start_function(LOGICAL_UNIT_RESET, 0, None);
    assert!(initiator.finish(first).good() == place.data[..256 * BLOCK]);
    assert_eq!(initiator.finish_function(abort), 0);
    assert!(!initiator.is_answered(second));
    initiator.execute(0, &TEST_UNIT_READY, Data::None).check((6, 0x29, 3));
    assert_eq!(place.sent_in_place(&mut initiator), LENGTH as u64);
    behind_a_read(&place, &mut initiator, 1, &write(0, 1), Data::Out(&new));
    let tsih = initiator.tsih;
    drop(initiator);
    place.world.events.wait_for_end(tsih);
    let mut other = place.world.initiator(&[0]);
    assert_eq!(place.sent_in_place(&mut other), LENGTH as u64);
}

#[test]
fn a_unit_that_goes_away_is_closed_although_nothing_is_acknowledged() {
    let place = Place::new(ZeroCopyReads::Auto);
    let mut initiator = place.world.initiator(&[0]);
    place.heat(&mut initiator);
    // The last thing that the initiator says.
    assert!(contents(&mut initiator) == place.data);
    let node = &place.world.node;
    place.world.block_on(node.remove_unit(TARGET, 0)).unwrap();
    eventually(|| RawImage::open(&*place.path, OpenOptions::default()).is_ok());
}

#[test]
fn short_segments_and_digests_want_copies() {
    let place = Place::new(ZeroCopyReads::Always);
    let mut initiator = place.world.initiator(&[0]);
    place.heat(&mut initiator);
    // It is one of several sessions.
    for (key, value) in [("MaxRecvDataSegmentLength", "32768"), ("DataDigest", "CRC32C")] {
        let mut login = place.world.login();
        login.keys.retain(|(known, _)| *known != key);
        login.keys.extend(keys(&[(key, value)]));
        let mut other = place.world.log_in(&login);
        other.execute(0, &TEST_UNIT_READY, Data::None).check((6, 0x29, 0));
        assert_eq!(place.sent_in_place(&mut other), 0, "{key}");
    }
    let mut login = place.world.login();
    login.keys.extend(keys(&[("HeaderDigest", "CRC32C")]));
    let mut other = place.world.log_in(&login);
    other.execute(0, &TEST_UNIT_READY, Data::None).check((6, 0x29, 0));
    assert_eq!(place.sent_in_place(&mut other), LENGTH as u64);
    // And so do traces, from the next read on.
    let trace = place.world.node.trace(initiator.tsih).unwrap();
    initiator.nop();
    assert_eq!(place.sent_in_place(&mut initiator), 0);
    drop(trace);
}

#[test]
fn who_configures_it_has_all_of_it_or_nothing() {
    let place = Place::new(ZeroCopyReads::Always);
    let mut initiator = place.world.initiator(&[0]);
    place.heat(&mut initiator);
    let _other = place.world.initiator(&[0]);
    assert_eq!(place.sent_in_place(&mut initiator), LENGTH as u64);
    drop((initiator, place));
    let place = Place::new(ZeroCopyReads::Never);
    let mut initiator = place.world.initiator(&[0]);
    place.heat(&mut initiator);
    assert_eq!(place.sent_in_place(&mut initiator), 0);
}

#[test]
fn where_it_is_no_gain_reads_are_copied() {
    let Some(place) = Place::with(ZeroCopyReads::Auto, "bbr") else {
        return;
    };
    let mut initiator = place.world.initiator(&[0]);
    place.heat(&mut initiator);
    assert_eq!(place.sent_in_place(&mut initiator), 0);
}

/// An initiator that does not read, and a file that somebody has cut meanwhile.
#[test]
fn a_session_whose_data_is_gone_ends_and_nothing_else_does() {
    let place = Place::new(ZeroCopyReads::Auto);
    let mut initiator = place.world.initiator(&[0]);
    place.heat(&mut initiator);
    let sent = place.counted(&mut initiator);
    let mut bytes = Vec::new();
    for _ in 0..16 {
        bytes.extend(initiator.command(0, &read(0, BLOCKS), Data::In(LENGTH)).1);
    }
    initiator.wire.send_bytes(&bytes);
    let node = &place.world.node;
    // Until the sockets are full.
    let mut before = sent;
    eventually(|| {
        let now = node.session(initiator.tsih).unwrap().counters.in_place_bytes;
        std::mem::replace(&mut before, now) == now && now > sent
    });
    place.disk.set_len(0).unwrap();
    initiator.wire.discard_to_end();
    place.world.events.wait_for_end(initiator.tsih);
    place.disk.set_len(LENGTH as u64).unwrap();
    place.disk.write_all_at(&place.data, 0).unwrap();
    let mut other = place.world.initiator(&[0]);
    assert!(contents(&mut other) == place.data);
}
