//! A daemon whose jobs do not get on.

use std::fs::File;

use super::{Daemon, Place, eventually};

/// A daemon that runs one job at a time, and is kept from working.
pub(crate) struct Busy {
    pub(crate) daemon: Daemon,
    /// As long as somebody has a disk's file locked, its deletion waits, and all behind it.
    pub(crate) lock: File,
    /// The deletion that waits.
    pub(crate) deletion: String,
    pub(crate) place: Place,
}

impl Busy {
    pub(crate) fn new() -> Self {
        let place = Place::new();
        let config = place.write("lund.toml", "[jobs]\nmax_running = 1\n");
        let daemon = Daemon::spawn(&mut place.configured(&config), &place);
        daemon.lunctl(&["disk", "create", "held", "--size", "1MiB"]).ok();
        let lock = File::open(daemon.file_of("held")).unwrap();
        lock.lock().unwrap();
        let deletion = daemon.lunctl(&["disk", "delete", "held", "--no-wait"]).ok();
        let deletion = deletion.trim().to_owned();
        eventually("the deletion runs", || {
            let job = daemon.json(&["job", "show", &deletion]);
            (job["state"] == "Running").then_some(())
        });
        Self { daemon, lock, deletion, place }
    }

    /// Submits the creation of a full disk; its job.
    pub(crate) fn submit(&self, name: &str, size: &str) -> String {
        let create = ["disk", "create", name, "--size", size, "--provisioning", "full"];
        self.daemon.lunctl(&[&create[..], &["--no-wait"]].concat()).ok().trim().to_owned()
    }
}
