//! Disks on block devices: loop devices, which need root; without it there is nothing to do here.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::{Daemon, MIB, Place, Session};

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
    let text = format!("[disks]\nallowed_directories = [{directory:?}]\n");
    let config = place.write("lund.toml", &text);
    place.start(&["--config", config.to_str().unwrap()])
}

fn log_in(daemon: &Daemon, target: &str) -> Session {
    let mut session = Session::login(daemon.portal, target);
    session.settle(0);
    session
}

#[test]
fn a_block_device_is_a_disk_that_grows_with_it_and_outlives_it() {
    let place = Place::new();
    let directory = place.path().canonicalize().unwrap().join("devices");
    std::fs::create_dir(&directory).unwrap();
    let Some(device) = Device::attach(&directory, "a", 8 * MIB) else { return };
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
    let mut list = [0; 24];
    (list[1], list[3]) = (22, 16);
    list[8..16].copy_from_slice(&101_u64.to_be_bytes());
    list[16..20].copy_from_slice(&3_u32.to_be_bytes());
    session.run_with(0, &[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], &list).unwrap().good();
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
    daemon.lunctl(&["disk", "shrink", "a", "--size", "11MiB"]).fails(5, &["data"]);
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
    let directory = place.path().canonicalize().unwrap().join("devices");
    std::fs::create_dir(&directory).unwrap();
    let Some(device) = Device::attach(&directory, "a", 8 * MIB) else { return };
    let daemon = start(&place, &directory);
    daemon.lunctl(&["disk", "import", "--in-place", device.link(), "a"]).ok();
    let target = daemon.expose("t", "a", 0);
    let mut session = log_in(&daemon, &target);
    session.write(0, 8, &[1; 512]);
    daemon.lunctl(&["snapshot", "create", "s", "a"]).ok();
    session.write_through(0, 8, &[2; 512]);
    assert_eq!(device.read(4096, 512), [1; 512]);
    daemon.lunctl(&["disk", "expand", "a", "--size", "9MiB"]).fails(2, &["on a device", "move it"]);
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
    daemon.lunctl(&["disk", "expand", "a", "--size", "9MiB"]).fails(2, &["on a device", "move it"]);
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
