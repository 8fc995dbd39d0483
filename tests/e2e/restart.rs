//! `kill -9` of the daemon at every step of making and deleting a disk: afterwards the disk is
//! whole or was never there, and what was acknowledged is known.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;

use serde_json::Value;

use super::support::{Daemon, Place, Run, Session, eventually};

const SIGKILL: i32 = 9;
const SIZE: u64 = 3 << 20;

const CREATION: &[&str] = &[
    "submit.before",
    "submit.after",
    "starting.before",
    "starting.after",
    "running.before",
    "running.after",
    "create.allocating.before",
    "create.allocating.after",
    "create.piece",
    "progress.before",
    "progress.after",
    "create.named",
    "create.complete.before",
    "create.complete.after",
    // The first ones are those of the new database itself, one for each migration, before anybody is
    // let in.
    "store.flushed:3",
];

const DELETION: &[&str] = &[
    "submit.before",
    "submit.after",
    "starting.before",
    "starting.after",
    "running.before",
    "running.after",
    "delete.unlinking.before",
    "delete.unlinking.after",
    "delete.unlinked",
    "delete.complete.before",
    "delete.complete.after",
];

const EXPANSION: &[&str] = &[
    "expand.allocating.before",
    "expand.allocating.after",
    "expand.piece",
    "expand.extended",
    "expand.complete.before",
    "expand.complete.after",
];

/// Runs a command of a daemon that dies by its own hand at a step; the job, if it was
/// acknowledged.
fn dies_at(step: &str, place: &Place, arguments: &[&str]) -> Option<String> {
    let mut command = place.command::<&str>(&[]);
    let mut daemon = Daemon::spawn(command.env("LUND_CRASH_AT", step), place);
    let Run { status, stdout, stderr, .. } = daemon.lunctl(arguments);
    let end = daemon.ended();
    assert_eq!(end.signal(), Some(SIGKILL), "{step}: {end}");
    match status {
        0 => Some(stdout.trim().to_owned()),
        // The connection broke before the answer was there.
        7 => None,
        _ => panic!("{step}: {status} {stderr}"),
    }
}

/// Waits until nothing is left to do; all jobs.
fn settled(daemon: &Daemon) -> Vec<Value> {
    eventually("all jobs have ended", || {
        let jobs = daemon.json(&["job", "list"]);
        let jobs = jobs.as_array().unwrap();
        jobs.iter().all(|job| job["ended"] == true).then(|| jobs.clone())
    })
}

/// The files in the pool are those of the disks in the catalogue, and whole; the disks' names.
fn whole(step: &str, place: &Place, daemon: &Daemon) -> Vec<String> {
    let list = daemon.json(&["disk", "list"]);
    let disks = list.as_array().unwrap();
    let known: BTreeSet<PathBuf> =
        disks.iter().map(|disk| disk["path"].as_str().unwrap().into()).collect();
    let entries = std::fs::read_dir(place.disks()).unwrap();
    let mut there: BTreeSet<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    there.remove(&place.disks().join(".lund-pool"));
    assert_eq!(there, known, "{step}");
    for path in &known {
        assert_eq!(path.metadata().unwrap().size(), SIZE, "{step}");
    }
    disks.iter().map(|disk| disk["name"].as_str().unwrap().to_owned()).collect()
}

/// The disk can be mapped, written and read to its end.
fn works(step: &str, daemon: &Daemon, disk: &str) {
    let target = daemon.expose("t", disk, 0);
    let mut session = Session::login(daemon.portal, &target);
    session.settle(0);
    assert_eq!(session.capacity(0), (SIZE / 512, 512), "{step}");
    assert_eq!(session.read(0, SIZE / 512 - 1, 1), [0; 512], "{step}");
    session.write_through(0, 0, &[1; 512]);
    assert_eq!(session.read(0, 0, 2), [[1; 512], [0; 512]].concat(), "{step}");
    drop(session);
    daemon.lunctl(&["target", "unmap", "t", "0"]).ok();
    daemon.lunctl(&["disk", "delete", disk]).ok();
}

fn outcome<'a>(step: &str, jobs: &'a [Value], id: &str) -> &'a str {
    let found = jobs.iter().find(|job| job["id"] == id);
    found.unwrap_or_else(|| panic!("{step}: job {id} is forgotten"))["state"].as_str().unwrap()
}

fn creation_dies_at(step: &str) {
    let place = Place::new();
    let size = SIZE.to_string();
    let create = ["disk", "create", "d", "--size", &size, "--provisioning", "full", "--no-wait"];
    let acknowledged = dies_at(step, &place, &create);
    let daemon = place.start(&[]);
    let jobs = settled(&daemon);
    let disks = whole(step, &place, &daemon);
    assert!(jobs.len() <= 1 && disks.len() <= 1, "{step}: {jobs:?} {disks:?}");
    if let Some(id) = &acknowledged {
        outcome(step, &jobs, id);
    }
    // Outcome and catalogue agree.
    let completed = jobs.iter().any(|job| job["state"] == "Completed");
    assert_eq!(disks.len() == 1, completed, "{step}: {jobs:?}");
    if completed {
        works(step, &daemon, "d");
    } else {
        let again = ["disk", "create", "d", "--size", &size];
        daemon.lunctl(&again).ok();
    }
    daemon.stop();
}

fn deletion_dies_at(step: &str) {
    let place = Place::new();
    let daemon = place.start(&[]);
    daemon.lunctl(&["disk", "create", "d", "--size", &SIZE.to_string()]).ok();
    daemon.stop();
    let acknowledged = dies_at(step, &place, &["disk", "delete", "d", "--no-wait"]);
    let daemon = place.start(&[]);
    let jobs = settled(&daemon);
    let disks = whole(step, &place, &daemon);
    assert!(jobs.len() <= 2, "{step}: {jobs:?}");
    if let Some(id) = &acknowledged {
        outcome(step, &jobs, id);
    }
    let deletion = jobs.iter().find(|job| job["kind"] == "delete-disk");
    let completed = deletion.is_some_and(|job| job["state"] == "Completed");
    assert_eq!(disks.is_empty(), completed, "{step}: {jobs:?}");
    if !completed {
        works(step, &daemon, "d");
    }
    daemon.stop();
}

fn expansion_dies_at(step: &str) {
    let place = Place::new();
    let small = (SIZE / 2).to_string();
    let size = SIZE.to_string();
    let daemon = place.start(&[]);
    daemon.lunctl(&["disk", "create", "d", "--size", &small, "--provisioning", "full"]).ok();
    daemon.stop();
    let acknowledged =
        dies_at(step, &place, &["disk", "expand", "d", "--size", &size, "--no-wait"]);
    let daemon = place.start(&[]);
    let jobs = settled(&daemon);
    if let Some(id) = &acknowledged {
        assert_eq!(outcome(step, &jobs, id), "Completed", "{step}");
    } else if !jobs.iter().any(|job| job["kind"] == "expand-disk") {
        daemon.lunctl(&["disk", "expand", "d", "--size", &size]).ok();
    }
    assert_eq!(whole(step, &place, &daemon), ["d"], "{step}");
    works(step, &daemon, "d");
    daemon.stop();
}

/// Two at a time: each step waits for the medium most of the time.
fn walk(steps: &'static [&'static str], each: fn(&str)) {
    std::thread::scope(|scope| {
        for half in [0, 1] {
            scope.spawn(move || {
                for step in steps.iter().skip(half).step_by(2) {
                    eprintln!("{step}");
                    each(step);
                }
            });
        }
    });
}

#[test]
fn a_creation_that_is_killed_at_any_step_leaves_a_whole_disk_or_none() {
    walk(CREATION, creation_dies_at);
}

#[test]
fn an_expansion_that_is_killed_at_any_step_is_done_after_the_restart() {
    walk(EXPANSION, expansion_dies_at);
}

#[test]
fn a_deletion_that_is_killed_at_any_step_leaves_a_whole_disk_or_none() {
    walk(DELETION, deletion_dies_at);
}

/// Makes a target or a mapping of disk `d` while the daemon dies at a step: it is there afterwards
/// if that was acknowledged, and can be made if it is not.
fn exposure_dies_at(step: &str) {
    let (target, map) = (["target", "create", "t"], ["target", "map", "t", "d"]);
    for dying in [&target[..], &map[..]] {
        let place = Place::new();
        let daemon = place.start(&[]);
        daemon.lunctl(&["disk", "create", "d", "--size", &SIZE.to_string()]).ok();
        if dying == map {
            daemon.lunctl(&target).ok();
        }
        daemon.stop();
        let acknowledged = dies_at(step, &place, dying).is_some();
        let daemon = place.start(&[]);
        let again = daemon.lunctl(dying).status;
        assert!(again == 4 || (again == 0 && !acknowledged), "{step}: {dying:?} {again}");
        if dying == target {
            daemon.lunctl(&map).ok();
        }
        let mut session = Session::login(daemon.portal, "iqn.2026-01.io.lund:t");
        session.settle(0);
        session.ready(0).good();
        assert_eq!(session.report_luns(), [0], "{step}");
        daemon.stop();
    }
}

#[test]
fn a_target_or_mapping_whose_making_is_killed_is_there_if_it_was_acknowledged() {
    walk(&["catalogue.before", "catalogue.after"], exposure_dies_at);
}
