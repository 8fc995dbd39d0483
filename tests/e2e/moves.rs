//! Disks that are brought into other pools and formats while initiators write to them.

use std::path::{Path, PathBuf};

use super::support::{Daemon, MIB, Place, Session, eventually};

const TARGET: &str = "iqn.2026-01.io.lund:t";
const SIZE: usize = 8 << 20;
/// Written at once.
const PIECE: usize = 64 << 10;
const UNIT_ATTENTION: u8 = 0x6;
const INQUIRY_DATA_CHANGED: (u8, u8, u8) = (UNIT_ATTENTION, 0x3f, 0x03);

const MODE_PARAMETERS_CHANGED: (u8, u8, u8) = (UNIT_ATTENTION, 0x2a, 0x01);

/// A disk that is a LUN, a second pool, and what the disk holds.
struct Bench {
    place: Place,
    daemon: Option<Daemon>,
    session: Option<Session>,
    model: Vec<u8>,
    told: Vec<(u8, u8, u8)>,
    count: usize,
}

impl Bench {
    fn new(format: &str) -> Self {
        let place = Place::new();
        let daemon = place.start(&[]);
        let other = place.path().canonicalize().unwrap().join("other");
        std::fs::create_dir(&other).unwrap();
        daemon.lunctl(&["pool", "create", "other", other.to_str().unwrap()]).ok();
        daemon.lunctl(&["disk", "create", "d", "--size", "8MiB", "--format", format]).ok();
        daemon.expose("t", "d", 0);
        let (daemon, told) = (Some(daemon), Vec::new());
        let model = vec![0; SIZE];
        let mut bench = Self { place, daemon, session: None, model, told, count: 0 };
        bench.log_in();
        for piece in 0..SIZE / PIECE / 2 {
            bench.write(piece);
        }
        bench
    }

    fn log_in(&mut self) {
        let mut session = Session::login(self.daemon().portal, TARGET);
        session.settle(0);
        self.session = Some(session);
    }

    fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().unwrap()
    }

    fn command(&mut self, cdb: &[u8], data: &[u8], reads: u32) -> Vec<u8> {
        loop {
            let session = self.session.as_mut().unwrap();
            let done = if data.is_empty() {
                session.run(0, cdb, reads).unwrap()
            } else {
                session.run_with(0, cdb, data).unwrap()
            };
            match done.check() {
                Some(told) if told.0 == UNIT_ATTENTION => self.told.push(told),
                _ => return done.good(),
            }
        }
    }

    fn blocks(operation: u8, piece: usize, bytes: usize) -> [u8; 16] {
        let mut cdb = [0; 16];
        cdb[0] = operation;
        cdb[2..10].copy_from_slice(&((piece * PIECE / 512) as u64).to_be_bytes());
        cdb[10..14].copy_from_slice(&u32::try_from(bytes / 512).unwrap().to_be_bytes());
        cdb
    }

    /// Other data each time; now and then none.
    fn write(&mut self, piece: usize) {
        self.count += 1;
        let (at, byte) = (piece * PIECE, u8::try_from(self.count % 251 + 1).unwrap());
        if self.count.is_multiple_of(5) {
            let mut list = [0; 24];
            (list[1], list[3]) = (22, 16);
            list[8..16].copy_from_slice(&((at / 512) as u64).to_be_bytes());
            list[16..20].copy_from_slice(&u32::try_from(PIECE / 512).unwrap().to_be_bytes());
            self.command(&[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], &list, 0);
            self.model[at..at + PIECE].fill(0);
        } else {
            self.command(&Self::blocks(0x8a, piece, PIECE), &vec![byte; PIECE], 0);
            self.model[at..at + PIECE].fill(byte);
        }
    }

    fn compare(&mut self) {
        for piece in 0..SIZE / PIECE {
            let cdb = Self::blocks(0x88, piece, PIECE);
            let read = self.command(&cdb, &[], u32::try_from(PIECE).unwrap());
            let at = piece * PIECE;
            assert!(read == self.model[at..at + PIECE], "piece {piece}: {}", read[0]);
        }
    }

    /// Starts a job that takes a while.
    fn start(&self, words: &[&str], bandwidth: &str) -> String {
        let how = ["--no-wait", "--job-bandwidth", bandwidth];
        self.daemon().lunctl(&[words, &how].concat()).ok().trim().to_owned()
    }

    fn job(&self, id: &str) -> serde_json::Value {
        self.daemon().json(&["job", "show", id])
    }

    fn has_ended(&self, id: &str) -> Option<String> {
        let job = self.job(id);
        (job["ended"] == true).then(|| job["state"].as_str().unwrap().to_owned())
    }

    /// Writes everywhere until the job has ended, and a little longer.
    fn write_during(&mut self, id: &str) -> String {
        let mut left = 3;
        loop {
            for _ in 0..7 {
                let piece = self.count * 37 % (SIZE / PIECE);
                self.write(piece);
            }
            if let Some(state) = self.has_ended(id) {
                left -= 1;
                if left == 0 {
                    return state;
                }
            }
        }
    }

    fn pools(&self) -> Vec<PathBuf> {
        vec![self.place.disks(), self.place.path().join("other")]
    }

    /// There is the disk's file, and no other.
    fn only_file(&self) -> PathBuf {
        let path = self.daemon().file_of("d").canonicalize().unwrap();
        eventually("the old file is gone", || {
            let files: Vec<_> = self.pools().iter().flat_map(|pool| files(pool)).collect();
            (files == [path.clone()]).then_some(())
        });
        path
    }
}

fn files(pool: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(pool).unwrap().map(|entry| entry.unwrap().path());
    let entries = entries.filter(|path| !path.ends_with(".lund-pool"));
    // A journal of atomic writes comes and goes.
    let entries = entries.filter(|path| path.extension().is_none_or(|it| it != "redo"));
    entries.map(|path| path.canonicalize().unwrap_or(path)).collect()
}

#[test]
fn a_disk_goes_through_pools_and_formats_while_it_is_written() {
    let mut bench = Bench::new("raw");
    let identity = bench.session.as_mut().unwrap().vpd(0, 0x83);
    let places = [("other", "qcow2"), ("default", "vhdx"), ("other", "vhd"), ("default", "raw")];
    for (pool, format) in places {
        let words = ["disk", "move", "d", "--pool", pool, "--format", format];
        let id = bench.start(&words, "24MiB");
        assert_eq!(bench.write_during(&id), "Completed", "{}", bench.job(&id));
        bench.compare();
        let disk = bench.daemon().json(&["disk", "show", "d"]);
        assert_eq!((&disk["pool"], &disk["format"]), (&pool.into(), &format.into()));
        let path = bench.only_file();
        assert_eq!(path.extension().unwrap(), format);
        let directory = &bench.pools()[usize::from(pool == "other")];
        assert_eq!(path.parent().unwrap(), directory.canonicalize().unwrap());
        // What can be written as a whole is what this format promises.
        let limits = bench.session.as_mut().unwrap().vpd(0, 0xb0);
        let longest = u32::from_be_bytes(limits[44..48].try_into().unwrap());
        assert_eq!(longest == 8, ["vhdx", "vhd"].contains(&format), "{format}: {longest}");
        let mut told = std::mem::take(&mut bench.told);
        // The pools have other soft thresholds, of which it is told within a second.
        told.retain(|it| *it != MODE_PARAMETERS_CHANGED);
        let changed = ["vhdx", "raw"].contains(&format);
        assert_eq!(told, vec![INQUIRY_DATA_CHANGED; usize::from(changed)], "{format}");
    }
    assert_eq!(bench.session.as_mut().unwrap().vpd(0, 0x83), identity);
    // Another format where it is, and no more space than it needs.
    let id = bench.start(&["disk", "convert", "d", "qcow2"], "24MiB");
    assert_eq!(bench.write_during(&id), "Completed", "{}", bench.job(&id));
    bench.compare();
    for piece in 0..SIZE / PIECE {
        let zeroes = vec![0; PIECE];
        bench.command(&Bench::blocks(0x8a, piece, PIECE), &zeroes, 0);
    }
    bench.model.fill(0);
    let used =
        |bench: &Bench| bench.daemon().json(&["disk", "show", "d"])["allocated_bytes"].clone();
    assert!(used(&bench).as_u64().unwrap() >= 8 * MIB);
    bench.daemon().lunctl(&["disk", "compact", "d"]).ok();
    bench.only_file();
    assert!(used(&bench).as_u64().unwrap() < MIB);
    bench.compare();
    bench.session = None;
    bench.daemon.take().unwrap().stop();
    // It is all in the one file that there is.
    bench.daemon = Some(bench.place.start(&[]));
    bench.log_in();
    bench.compare();
    bench.daemon().lunctl(&["disk", "move", "d", "--pool", "default"]).fails(2, &["already"]);
    bench.daemon().lunctl(&["disk", "move", "d", "--pool", "none"]).fails(3, &["pool none"]);
}

#[test]
fn a_move_keeps_others_away_and_leaves_nothing_when_it_is_cancelled() {
    let mut bench = Bench::new("vhdx");
    let before = bench.daemon().file_of("d");
    let words = ["disk", "move", "d", "--pool", "other", "--format", "raw"];
    let id = bench.start(&words, "1MiB");
    let holder = format!("job {id}");
    let refused = |words: &[&str]| bench.daemon().lunctl(words).fails(4, &[&holder]);
    eventually("it is at work", || {
        (bench.job(&id)["percent_complete"].as_u64().unwrap() > 0).then_some(())
    });
    refused(&["snapshot", "create", "s", "d"]);
    refused(&["disk", "expand", "d", "--size", "9MiB"]);
    refused(&["disk", "clone", "d", "copy"]);
    refused(&["disk", "compact", "d"]);
    for piece in 0..SIZE / PIECE {
        bench.write(piece);
    }
    bench.daemon().lunctl(&["job", "cancel", &id, "--no-wait"]).ok();
    assert_eq!(bench.write_during(&id), "Terminated");
    assert_eq!(bench.daemon().file_of("d"), before);
    bench.only_file();
    bench.compare();
    // Suspended, it keeps what it has, and goes on with it.
    let id = bench.start(&words, "4MiB");
    bench.daemon().lunctl(&["job", "suspend", &id]).ok();
    eventually("it rests", || (bench.job(&id)["state"] == "Suspended").then_some(()));
    for piece in 0..SIZE / PIECE {
        bench.write(piece);
    }
    bench.daemon().lunctl(&["job", "resume", &id]).ok();
    bench.daemon().lunctl(&["job", "set", &id, "--bandwidth", "64MiB"]).ok();
    assert_eq!(bench.write_during(&id), "Completed", "{}", bench.job(&id));
    bench.compare();
    assert_eq!(bench.only_file().extension().unwrap(), "raw");
}

#[test]
fn a_move_goes_on_behind_a_kill_with_what_was_written_since() {
    for (format, to, percent) in [("raw", "qcow2", 5), ("qcow2", "vhdx", 60)] {
        let mut bench = Bench::new(format);
        let words = ["disk", "move", "d", "--pool", "other", "--format", to];
        let id = bench.start(&words, "4MiB");
        eventually("it is at work", || {
            (bench.job(&id)["percent_complete"].as_u64().unwrap() >= percent).then_some(())
        });
        for piece in (0..SIZE / PIECE).step_by(3) {
            bench.write(piece);
        }
        bench.command(&Bench::blocks(0x91, 0, 0), &[], 0);
        bench.session = None;
        bench.daemon.take().unwrap().kill();
        bench.daemon = Some(bench.place.start(&[]));
        bench.log_in();
        bench.compare();
        bench.daemon().lunctl(&["job", "set", &id, "--bandwidth", "64MiB"]).ok();
        assert_eq!(bench.write_during(&id), "Completed", "{}", bench.job(&id));
        bench.compare();
        assert_eq!(bench.only_file().extension().unwrap(), to);
        bench.session = None;
        bench.daemon.take().unwrap().stop();
    }
}

#[test]
fn a_disk_leaves_its_snapshots_behind_and_goes_back_to_what_they_hold() {
    for (format, to) in [("raw", "raw"), ("qcow2", "vhdx")] {
        let mut bench = Bench::new(format);
        let run =
            |bench: &Bench, line: &str| bench.daemon().lunctl(&line.split(' ').collect::<Vec<_>>());
        run(&bench, "snapshot create one d").ok();
        let one = bench.model.clone();
        for piece in (0..SIZE / PIECE).step_by(3) {
            bench.write(piece);
        }
        run(&bench, "snapshot create two d").ok();
        let two = bench.model.clone();
        run(&bench, "disk compact d").fails(4, &["2 snapshots"]);
        let id = bench.start(&["disk", "move", "d", "--pool", "other", "--format", to], "24MiB");
        assert_eq!(bench.write_during(&id), "Completed", "{}", bench.job(&id));
        bench.compare();
        let disk = bench.daemon().json(&["disk", "show", "d"]);
        assert_eq!((&disk["pool"], &disk["format"]), (&"other".into(), &to.into()));
        // One more, where the disk is now.
        run(&bench, "snapshot create three d").ok();
        let three = bench.model.clone();
        bench.write(0);
        for (name, held) in [("one", &one), ("three", &three), ("two", &two)] {
            run(&bench, &format!("snapshot rollback d@{name}")).ok();
            bench.model.clone_from(held);
            bench.compare();
            let disk = bench.daemon().json(&["disk", "show", "d"]);
            assert_eq!(disk["pool"], "other", "{format}: {name}");
            for piece in (0..SIZE / PIECE).step_by(5) {
                bench.write(piece);
            }
            bench.compare();
        }
        // A disk of a snapshot is where the snapshot is, and the pool is not empty before that goes.
        run(&bench, "snapshot expose d@one look --read-only").ok();
        assert_eq!(bench.daemon().json(&["disk", "show", "look"])["pool"], "default");
        let mut session =
            Session::login(bench.daemon().portal, &bench.daemon().expose("l", "look", 0));
        session.settle(0);
        assert!(session.read(0, 0, 64) == one[..64 * 512], "{format}");
        drop(session);
        bench.command(&Bench::blocks(0x91, 0, 0), &[], 0);
        bench.session = None;
        bench.daemon.take().unwrap().kill();
        bench.daemon = Some(bench.place.start(&[]));
        bench.log_in();
        bench.compare();
        run(&bench, "target unmap iqn.2026-01.io.lund:l 0").ok();
        run(&bench, "disk delete look").ok();
        // Home again, and without snapshots: nothing is left of all this.
        run(&bench, "disk move d --pool default").ok();
        run(&bench, "pool delete other").fails(4, &["other"]);
        for name in ["three", "one", "two"] {
            run(&bench, &format!("snapshot delete d@{name}")).ok();
        }
        bench.compare();
        run(&bench, "disk convert d vhd").ok();
        bench.compare();
        bench.only_file();
        run(&bench, "pool delete other").ok();
        bench.session = None;
        bench.daemon.take().unwrap().stop();
    }
}

/// The soft thresholds in the Logical Block Provisioning mode page, in MiB.
fn thresholds(session: &mut Session) -> Vec<u32> {
    let page = session.run(0, &[0x1a, 0x08, 0x1c, 2, 255, 0], 255).unwrap().good();
    let descriptors = page[4 + 16..].chunks_exact(8);
    descriptors.map(|it| u32::from_be_bytes(it[4..].try_into().unwrap())).collect()
}

#[test]
fn initiators_know_the_soft_thresholds_of_the_pool_in_which_a_disk_is_now() {
    let place = Place::new();
    let config = place.write("lund.toml", "[disks]\nthresholds = ['8MiB']\n");
    let daemon = place.start(&["--config", config.to_str().unwrap()]);
    let other = place.path().canonicalize().unwrap().join("other");
    std::fs::create_dir(&other).unwrap();
    let pool = ["pool", "create", "other", other.to_str().unwrap()];
    let soft = ["--soft-threshold", "5MiB", "--soft-threshold", "3MiB"];
    daemon.lunctl(&[&pool[..], &soft].concat()).ok();
    daemon.lunctl(&["disk", "create", "d", "--size", "4MiB"]).ok();
    daemon.expose("t", "d", 0);
    let mut sessions = [(); 2].map(|()| Session::login(daemon.portal, TARGET));
    for session in &mut sessions {
        session.settle(0);
        assert_eq!(thresholds(session), [8]);
    }
    let change = |soft: &str| daemon.lunctl(&["pool", "change", "other", "--soft-threshold", soft]);
    let mut are_told = |wanted: &[u32]| {
        for session in &mut sessions {
            // It is told once the page is that, and of nothing before.
            eventually("the mode page has changed", || {
                session.settle(0).contains(&MODE_PARAMETERS_CHANGED).then_some(())
            });
            assert_eq!(thresholds(session), wanted);
        }
    };
    daemon.lunctl(&["disk", "move", "d", "--pool", "other"]).ok();
    are_told(&[5, 3]);
    change("7MiB").ok();
    are_told(&[7]);
    daemon.lunctl(&["disk", "provision", "d", "full"]).ok();
    are_told(&[]);
    daemon.lunctl(&["disk", "provision", "d", "thin"]).ok();
    are_told(&[7]);
    daemon.stop();
}
