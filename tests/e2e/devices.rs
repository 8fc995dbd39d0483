//! Disks on block devices: loop devices, which need root; without it there is nothing to do here.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::{Daemon, MIB, Place, Session, exchange};

/// A loop device over a file, detached when dropped, and a link to it as udev makes them.
struct Device {
    backing: PathBuf,
    node: PathBuf,
    link: PathBuf,
}

fn call(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

impl Device {
    /// One of 8 MiB, in a directory of its own.
    fn first(place: &Place) -> Option<(Self, PathBuf)> {
        let directory = place.path().canonicalize().unwrap().join("devices");
        std::fs::create_dir(&directory).unwrap();
        Some((Self::attach(&directory, "a", 8 * MIB)?, directory))
    }

    fn attach(directory: &Path, name: &str, bytes: u64) -> Option<Self> {
        let backing = directory.join(format!("{name}.backing"));
        File::create(&backing).unwrap().set_len(bytes).unwrap();
        let Some(node) = call("losetup", &["--find", "--show", backing.to_str().unwrap()]) else {
            eprintln!("left out: there are no loop devices here");
            return None;
        };
        let link = directory.join(name);
        symlink(&node, &link).unwrap();
        Some(Self { backing, node: node.into(), link })
    }

    fn link(&self) -> &str {
        self.link.to_str().unwrap()
    }

    fn read(&self, at: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        File::open(&self.node).unwrap().read_exact_at(&mut bytes, at).unwrap();
        bytes
    }

    /// Becomes longer, and holds something there.
    fn lengthen(&self, from: u64, to: u64) {
        let file = File::options().write(true).open(&self.backing).unwrap();
        file.set_len(to).unwrap();
        call("losetup", &["--set-capacity", self.node.to_str().unwrap()]).unwrap();
        let node = File::options().write(true).open(&self.node).unwrap();
        node.write_all_at(&vec![0xee; usize::try_from(to - from).unwrap()], from).unwrap();
        node.sync_all().unwrap();
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        call("losetup", &["--detach", self.node.to_str().unwrap()]);
    }
}

/// As what is mounted has its device.
const O_EXCL: i32 = 0o200;

/// The devices' directory is the one that the configuration allows.
fn start(place: &Place, directory: &Path) -> Daemon {
    // A snapshot puts such a disk into the pool, and initiators would be told of its thresholds.
    let text = format!("[disks]\nthresholds = []\nallowed_directories = [{directory:?}]\n");
    let config = place.write("lund.toml", &text);
    place.start(&["--config", config.to_str().unwrap()])
}

/// The block of 512 bytes with this byte.
fn lba(at: u64) -> u64 {
    at / 512
}

fn unmap(session: &mut Session, lba: u64, blocks: u32) {
    let mut list = [0; 24];
    (list[1], list[3]) = (22, 16);
    list[8..16].copy_from_slice(&lba.to_be_bytes());
    list[16..20].copy_from_slice(&blocks.to_be_bytes());
    session.run_with(0, &[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], &list).unwrap().good();
}

/// What CIM says of the volumes.
fn volumes(daemon: &Daemon) -> String {
    let body = "<CIM CIMVERSION='2.0' DTDVERSION='2.0'><MESSAGE ID='1' PROTOCOLVERSION='1.0'><SIMPLEREQ>\
                <IMETHODCALL NAME='EnumerateInstances'><LOCALNAMESPACEPATH><NAMESPACE NAME='root'/>\
                <NAMESPACE NAME='cimv2'/><NAMESPACE NAME='storage'/><NAMESPACE NAME='iscsitarget'/>\
                </LOCALNAMESPACEPATH><IPARAMVALUE NAME='ClassName'><CLASSNAME \
                NAME='MSISCSITARGET_StorageVolume'/></IPARAMVALUE></IMETHODCALL></SIMPLEREQ></MESSAGE></CIM>";
    let head = format!(
        "POST /cimom HTTP/1.0\r\nHost: {}\r\nContent-Type: application/xml; charset=\"utf-8\"\r\n\
         CIMOperation: MethodCall\r\nCIMMethod: EnumerateInstances\r\n\
         CIMObject: root/cimv2/storage/iscsitarget\r\nContent-Length: {}\r\n\r\n{body}",
        daemon.management,
        body.len()
    );
    exchange(daemon.management, head.as_bytes()).body
}

fn log_in(daemon: &Daemon, target: &str) -> Session {
    let mut session = Session::login(daemon.portal, target);
    session.settle(0);
    session
}

/// The device is disk `a`, and LUN 0 of a target.
fn taken_in(place: &Place, directory: &Path, device: &Device) -> (Daemon, String, Session) {
    let daemon = start(place, directory);
    daemon.lunctl(&["disk", "import", "--in-place", device.link(), "a"]).ok();
    let target = daemon.expose("t", "a", 0);
    let session = log_in(&daemon, &target);
    (daemon, target, session)
}

/// It is killed, and serves again.
fn killed(daemon: Daemon, place: &Place, directory: &Path, target: &str) -> (Daemon, Session) {
    daemon.kill();
    let daemon = start(place, directory);
    let session = log_in(&daemon, target);
    (daemon, session)
}

#[test]
fn a_block_device_is_a_disk_that_grows_with_it_and_outlives_it() {
    let place = Place::new();
    let Some((device, directory)) = Device::first(&place) else { return };
    let daemon = start(&place, &directory);
    let import = ["disk", "import", "--in-place", device.link(), "a"];
    let taken = File::options().read(true).write(true).custom_flags(O_EXCL).open(&device.node);
    assert!(taken.is_ok());
    daemon.lunctl(&import).fails(5, &["another opener holds it"]);
    drop(taken);
    daemon.lunctl(&import).ok();
    let import = File::options().read(true).write(true).custom_flags(O_EXCL).open(&device.node);
    assert!(import.is_ok(), "nobody has it while it is no LUN");
    drop(import);
    daemon
        .lunctl(&["disk", "import", "--in-place", device.node.to_str().unwrap(), "b"])
        .fails(2, &["none of the allowed directories"]);
    daemon.lunctl(&["disk", "import", "--in-place", device.link(), "b"]).fails(4, &["a", "in use"]);
    let volumes = volumes(&daemon);
    assert!(volumes.contains(&format!(">{}<", device.link())), "not the link to it: {volumes}");
    let disks = daemon.json(&["disk", "list"]);
    assert_eq!(disks[0]["device"], device.link());
    assert_eq!(disks[0]["size_bytes"], 8 * MIB);
    let file = daemon.file_of("a");
    assert_eq!(std::fs::read_link(&file).unwrap(), device.link);
    let target = daemon.expose("t", "a", 0);
    let mut session = log_in(&daemon, &target);
    session.write(0, 100, &[0x11; 4096]);
    session.write(0, 0, &[0x22; 512]);
    session.write(0, 16383, &[0x33; 512]);
    session.synchronize(0);
    assert_eq!(device.read(100 * 512, 4096), [0x11; 4096]);
    // UNMAP of what is no multiple of a page, or of anything but a block.
    unmap(&mut session, 101, 3);
    let wanted = [vec![0x11; 512], vec![0; 3 * 512], vec![0x11; 4 * 512]].concat();
    assert_eq!(session.read(0, 100, 8), wanted);
    // Not beyond its device; and what that holds behind the disk is not shown.
    daemon.lunctl(&["disk", "expand", "a", "--size", "12MiB"]).fails(2, &["its device"]);
    device.lengthen(8 * MIB, 16 * MIB);
    daemon.lunctl(&["disk", "expand", "a", "--size", "12MiB"]).ok();
    session.settle(0);
    assert_eq!(session.capacity(0).0, 12 * MIB / 512);
    assert_eq!(session.read(0, 16383, 3), [vec![0x33; 512], vec![0; 1024]].concat());
    session.write_through(0, 12 * MIB / 512 - 1, &[0x44; 512]);
    drop(session);
    daemon.kill();

    let daemon = start(&place, &directory);
    let mut session = log_in(&daemon, &target);
    assert_eq!(session.capacity(0).0, 12 * MIB / 512);
    assert_eq!(session.read(0, 100, 8), wanted);
    drop(session);
    daemon.lunctl(&["target", "unmap", &target, "0"]).ok();

    // It does not say when it was written, so no checksums are kept of it.
    let job = daemon.json(&["disk", "check", "a", "--checksums"]);
    assert_eq!(job["checksums"]["state"], "void", "{job}");
    daemon.lunctl(&["disk", "shrink", "a", "--size", "11MiB"]).fails(2, &["on a device"]);
    daemon.lunctl(&["disk", "clone", "a", "copy"]).ok();
    assert_eq!(std::fs::read(daemon.file_of("copy")).unwrap()[12 * 1048576 - 1], 0x44);
    daemon.lunctl(&["disk", "delete", "a"]).ok();
    assert!(file.symlink_metadata().is_err());
    assert_eq!(device.read(0, 512), [0x22; 512]);
    assert!(device.link.exists());
    daemon.stop();
}

#[test]
fn snapshots_of_a_disk_on_a_device_lie_over_it_in_the_pool() {
    let place = Place::new();
    let Some((device, directory)) = Device::first(&place) else { return };
    let (daemon, target, mut session) = taken_in(&place, &directory, &device);
    session.write(0, 8, &[1; 512]);
    daemon.lunctl(&["snapshot", "create", "s", "a"]).ok();
    session.write_through(0, 8, &[2; 512]);
    assert_eq!(device.read(4096, 512), [1; 512]);
    daemon
        .lunctl(&["disk", "expand", "a", "--size", "9MiB"])
        .fails(2, &["its device", device.link()]);
    daemon.lunctl(&["snapshot", "rollback", "a@s"]).ok();
    session.settle(0);
    assert_eq!(session.read(0, 8, 1), [1; 512]);
    session.write_through(0, 8, &[3; 512]);
    drop(session);
    daemon.stop();
    let daemon = start(&place, &directory);
    let mut session = log_in(&daemon, &target);
    assert_eq!(session.read(0, 8, 1), [3; 512]);
    daemon.lunctl(&["snapshot", "delete", "a@s"]).ok();
    assert_eq!(session.read(0, 8, 1), [3; 512]);
    assert_eq!(device.read(4096, 512), [3; 512], "merged into it");
    // Into a file: the device is free then, and keeps what it had.
    daemon.lunctl(&["disk", "move", "a", "--pool", "default", "--format", "raw"]).ok();
    assert_eq!(session.read(0, 8, 1), [3; 512]);
    session.write_through(0, 8, &[4; 512]);
    assert_eq!(daemon.json(&["disk", "list"])[0]["device"], serde_json::Value::Null);
    assert_ne!(device.read(4096, 512), [4; 512]);
    daemon.lunctl(&["disk", "import", "--in-place", device.link(), "b"]).ok();
    daemon.lunctl(&["disk", "delete", "b", "--overwrite"]).ok();
    assert!(device.read(0, 8 << 20).iter().all(|byte| *byte == 0));
    drop(session);
    daemon.stop();
}

#[test]
fn a_disk_on_a_device_with_snapshots_grows_as_far_as_the_device_and_shows_none_of_what_that_had() {
    let place = Place::new();
    let Some((device, directory)) = Device::first(&place) else { return };
    let (daemon, target, mut session) = taken_in(&place, &directory, &device);
    let end = lba(8 * MIB);
    session.write(0, end - 1, &[1; 512]);
    daemon.lunctl(&["snapshot", "create", "s", "a"]).ok();
    session.write_through(0, end - 1, &[2; 512]);
    daemon.lunctl(&["disk", "shrink", "a", "--size", "4MiB"]).fails(2, &["on a device"]);
    // What is there behind the disk came while the device was open.
    device.lengthen(8 * MIB, 16 * MIB);
    let expand = |daemon: &Daemon, size| daemon.lunctl(&["disk", "expand", "a", "--size", size]);
    expand(&daemon, "20MiB").fails(2, &["its device", device.link(), "16777216"]);
    expand(&daemon, "12MiB").ok();
    session.settle(0);
    assert_eq!(session.capacity(0).0, lba(12 * MIB));
    assert_eq!(session.read(0, end - 1, 2), [[2; 512], [0; 512]].concat());
    session.write(0, lba(9 * MIB), &[3; 65536]);
    session.write_through(0, lba(10 * MIB), &[4; 65536]);
    // Its clusters show the device again.
    unmap(&mut session, lba(9 * MIB), 128);
    session.synchronize(0);
    drop(session);

    let (daemon, mut session) = killed(daemon, &place, &directory, &target);
    assert_eq!(session.capacity(0).0, lba(12 * MIB));
    assert_eq!(session.read(0, end - 1, 2), [[2; 512], [0; 512]].concat());
    assert_eq!(session.read(0, lba(9 * MIB), 128), [0; 65536]);
    assert_eq!(session.read(0, lba(10 * MIB), 1), [4; 512]);
    assert_eq!(session.read(0, lba(12 * MIB) - 1, 1), [0; 512]);
    // Back to the smaller one, and on again: nothing of what was there.
    daemon.lunctl(&["snapshot", "rollback", "a@s"]).ok();
    session.settle(0);
    assert_eq!(session.capacity(0).0, end);
    assert_eq!(session.read(0, end - 1, 1), [1; 512]);
    expand(&daemon, "12MiB").ok();
    session.settle(0);
    assert_eq!(session.read(0, lba(10 * MIB), 1), [0; 512]);
    session.write_through(0, lba(11 * MIB), &[5; 65536]);
    // An image of somebody else over it.
    daemon.lunctl(&["snapshot", "create", "t", "a"]).ok();
    daemon.lunctl(&["snapshot", "expose", "a@t", "linked", "--linked"]).ok();
    daemon.lunctl(&["disk", "expand", "linked", "--size", "17MiB"]).fails(2, &["its device"]);
    daemon.lunctl(&["disk", "expand", "linked", "--size", "13MiB"]).ok();
    assert_eq!(device.read(12 * MIB, 4096), [0; 4096]);
    assert_eq!(device.read(13 * MIB, 4096), [0xee; 4096], "it is nobody's");
    daemon.lunctl(&["disk", "delete", "linked"]).ok();
    session.write_through(0, lba(11 * MIB) + 128, &[6; 512]);
    // What lies over the device comes into it, the new part, too.
    daemon.lunctl(&["snapshot", "delete", "a@s"]).ok();
    let shows = |session: &mut Session, last: &[u8; 512]| {
        assert_eq!(session.read(0, end - 1, 2), [[1; 512], [0; 512]].concat());
        assert_eq!(session.read(0, lba(10 * MIB), 1), [0; 512]);
        assert_eq!(session.read(0, lba(11 * MIB), 129), [&[5; 65536], &last[..]].concat());
        assert_eq!(session.read(0, lba(12 * MIB) - 1, 1), [0; 512]);
    };
    shows(&mut session, &[6; 512]);
    assert_eq!(device.read(11 * MIB, 65536), [5; 65536]);
    assert_eq!(device.read(11 * MIB + 65536, 512), [0; 512]);
    assert_eq!(device.read(13 * MIB, 4096), [0xee; 4096]);
    drop(session);

    let (daemon, mut session) = killed(daemon, &place, &directory, &target);
    shows(&mut session, &[6; 512]);
    expand(&daemon, "16MiB").ok();
    session.settle(0);
    shows(&mut session, &[6; 512]);
    assert_eq!(session.read(0, lba(12 * MIB), 1), [0; 512]);
    session.write_through(0, lba(16 * MIB) - 1, &[7; 512]);
    daemon.lunctl(&["snapshot", "rollback", "a@t"]).ok();
    session.settle(0);
    assert_eq!(session.capacity(0).0, lba(12 * MIB));
    shows(&mut session, &[0; 512]);
    // Where it has gone, its snapshot has the device still.
    daemon.lunctl(&["disk", "move", "a", "--pool", "default", "--format", "raw"]).ok();
    let import = ["disk", "import", "--in-place", device.link(), "b"];
    daemon.lunctl(&import).fails(4, &["a snapshot of it"]);
    shows(&mut session, &[0; 512]);
    daemon.lunctl(&["snapshot", "delete", "a@t"]).ok();
    daemon.lunctl(&import).ok();
    drop(session);
    daemon.stop();
}
