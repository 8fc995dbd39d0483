//! `kill -9` at every step that has a name: a child process dies there, and what it leaves must be
//! whole, complete and able to work on.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "all of this file is a test"
)]

#[path = "kill/check.rs"]
mod check;
#[path = "kill/device.rs"]
mod device;
#[path = "support/loop_device.rs"]
mod loop_device;
#[path = "kill/scenario.rs"]
mod scenario;
#[path = "support/xfs.rs"]
mod xfs;

use std::os::unix::process::ExitStatusExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use job_engine::failpoint::{OVERLAY_STEPS, REFLINK_STEPS, STEPS};
use loop_device::LoopDevice;

/// Far more than any job here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A step is passed more than once in the scenario: it is crashed at up to so many times of them.
const TIMES: u32 = 3;

/// Children at the same time.
const CHILDREN: usize = 3;

const SIGKILL: i32 = 9;

/// The data directory of a child.
const DIRECTORY: &str = "LUND_TEST_DIRECTORY";

#[test]
#[ignore = "the child process of the other test"]
fn child_that_works() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        scenario::run(Path::new(&directory));
    }
}

#[test]
#[ignore = "the child process of the other test"]
fn child_that_recovers() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        check::finish_jobs(&check::open(Path::new(&directory)));
    }
}

/// Not in this process: while it starts a child, that has a copy of every lock for a moment.
#[test]
#[ignore = "the child process of the other test"]
fn child_that_checks() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        check::all(Path::new(&directory));
    }
}

#[test]
#[ignore = "the child process of the other test"]
fn child_that_takes_in_a_device() {
    if let Some(directory) = device::directory() {
        device::run(&directory);
    }
}

#[test]
#[ignore = "the child process of the other test"]
fn child_that_checks_a_device() {
    if let Some(directory) = device::directory() {
        device::judge(&directory);
    }
}

fn child(name: &str, directory: &Path, crash_at: &str) -> ExitStatus {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", name])
        .env(DIRECTORY, directory)
        .env("LUND_CRASH_AT", crash_at)
        .output()
        .unwrap();
    let status = output.status;
    assert!(
        status.success() || status.signal() == Some(SIGKILL),
        "{name}: {status}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    status
}

fn check(directory: &Path) {
    assert!(child("child_that_checks", directory, "").success());
}

/// Dies at the `time`-th passing of a step and checks what is left; `false` if the step is not
/// passed so often.
fn crash(step: &str, time: u32, place: &Path) -> bool {
    let directory = tempfile::tempdir_in(place).unwrap();
    let died = !child("child_that_works", directory.path(), &format!("{step}:{time}")).success();
    if died && time == 1 {
        // The recovery is as mortal as the work.
        child("child_that_recovers", directory.path(), step);
    }
    check(directory.path());
    died
}

/// Dies at each of the steps, in directories in `place`.
fn walk(steps: &[&str], place: &Path) {
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let walk = || {
        while let Some(step) = steps.get(next.fetch_add(1, Ordering::Relaxed)) {
            for time in 1..=TIMES {
                match catch_unwind(AssertUnwindSafe(|| crash(step, time, place))) {
                    Ok(true) => {}
                    Ok(false) if time > 1 => break,
                    Ok(false) => {
                        failures.lock().unwrap().push(format!("{step}: no scenario passes it"));
                        break;
                    }
                    Err(_) => failures.lock().unwrap().push(format!("{step}:{time}")),
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..CHILDREN {
            scope.spawn(walk);
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{failures:?}");
}

/// One of three parts of all the steps, so that none takes as long as a test that hangs.
fn part(number: usize) {
    let steps: Vec<_> = STEPS.iter().skip(number).step_by(3).copied().collect();
    walk(&steps, &std::env::temp_dir());
}

#[test]
fn a_process_that_is_killed_at_any_step_leaves_everything_whole_and_forgets_nothing_1() {
    part(0);
}

#[test]
fn a_process_that_is_killed_at_any_step_leaves_everything_whole_and_forgets_nothing_2() {
    part(1);
}

#[test]
fn a_process_that_is_killed_at_any_step_leaves_everything_whole_and_forgets_nothing_3() {
    part(2);
}

#[test]
fn a_process_that_is_killed_while_images_are_laid_over_each_other_leaves_everything_whole() {
    let place = std::env::temp_dir();
    if disk_image::shares_blocks(&place) {
        println!("left out: files share blocks in {}", place.display());
        return;
    }
    walk(OVERLAY_STEPS, &place);
}

#[test]
fn a_process_that_is_killed_while_files_share_blocks_leaves_everything_whole() {
    let Some(xfs) = xfs::Xfs::mount() else { return };
    let steps: Vec<_> = REFLINK_STEPS.iter().chain(&["plan.done"]).copied().collect();
    walk(&steps, xfs.path());
}

/// Dies at the `time`-th passing of a step, or nowhere, while it takes in a device.
fn crash_with_device(step: &str, time: u32, device: &LoopDevice, pattern: &[u8]) -> bool {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path();
    device::prepare(directory, device, pattern);
    let name = "child_that_takes_in_a_device";
    let died = !child(name, directory, &format!("{step}:{time}")).success();
    if died && time == 1 {
        child("child_that_recovers", directory, step);
    }
    assert!(child("child_that_checks_a_device", directory, "").success());
    device::is_untouched(directory, device, pattern);
    died
}

#[test]
fn a_process_that_is_killed_while_a_device_is_taken_in_place_leaves_that_as_it_is() {
    let pattern = device::pattern();
    let next = AtomicUsize::new(0);
    let dies = || {
        let Some(device) = LoopDevice::attach() else { return };
        while let Some((step, times)) = device::STEPS.get(next.fetch_add(1, Ordering::Relaxed)) {
            for time in 1..=*times {
                let died = || crash_with_device(step, time, &device, &pattern);
                match catch_unwind(AssertUnwindSafe(died)) {
                    Ok(true) => {}
                    Ok(false) if time > 1 => break,
                    Ok(false) => panic!("{step}: it is not passed"),
                    Err(_) => panic!("{step}:{time}"),
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..CHILDREN {
            scope.spawn(dies);
        }
    });
    if let Some(device) = LoopDevice::attach() {
        assert!(!crash_with_device("", 1, &device, &pattern), "nobody kills it");
    }
}

#[test]
fn a_process_that_nobody_kills_does_all_of_it() {
    let directory = tempfile::tempdir().unwrap();
    assert!(child("child_that_works", directory.path(), "").success());
    check(directory.path());
    let promises = std::fs::read_to_string(directory.path().join("promises")).unwrap();
    assert!(promises.lines().count() > 40, "{promises}");
}
