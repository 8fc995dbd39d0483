//! Every noun and verb of the command line, for people and as JSON.

use serde_json::{Value, json};

use super::support::{Daemon, Place, Run, Session, eventually, lunctl_command};

/// The value has these fields and no others.
#[track_caller]
fn has_fields(value: &Value, names: &[&str]) {
    let object = value.as_object().unwrap_or_else(|| panic!("no object: {value}"));
    let mut names = names.to_vec();
    names.sort_unstable();
    let mut keys: Vec<_> = object.keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, names, "{value}");
}

const DISK: &[&str] = &[
    "id",
    "name",
    "size_bytes",
    "block_length",
    "provisioning",
    "read_only",
    "format",
    "serial",
    "naa",
    "pool",
    "path",
    "created",
    "allocated_bytes",
    "parent",
    "mappings",
];

const JOB: &[&str] = &[
    "id",
    "instance_id",
    "trace",
    "kind",
    "name",
    "state",
    "job_state",
    "operational_status",
    "ended",
    "percent_complete",
    "disk",
    "owner",
    "time_submitted",
    "scheduled_start_time",
    "start_time",
    "end_time",
    "elapsed_ms",
    "remaining_ms",
    "time_limit_seconds",
    "bandwidth",
    "priority",
    "after",
    "occurrences",
    "affected",
    "errors",
];

fn running() -> (Place, Daemon) {
    let place = Place::new();
    let daemon = place.start(&[]);
    (place, daemon)
}

/// The only row of a table, by words.
#[track_caller]
fn row(table: &str) -> Vec<&str> {
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 2, "{table}");
    lines[1].split_whitespace().collect()
}

#[test]
fn disks_are_created_listed_and_deleted() {
    let (_place, daemon) = running();
    assert_eq!(daemon.lunctl(&["disk", "list"]).ok(), "");
    assert_eq!(daemon.json(&["disk", "list"]), json!([]));
    let create = ["disk", "create", "a disk", "--size", "1.5MiB"];
    assert_eq!(daemon.lunctl(&create).ok(), "disk a disk created\n");
    let list = daemon.lunctl(&["disk", "list"]).ok();
    assert!(list.starts_with("NAME "), "{list}");
    assert_eq!(row(&list)[..4], ["a", "disk", "1.5", "MiB"], "{list}");
    let disks = daemon.json(&["disk", "list"]);
    has_fields(&disks[0], DISK);
    assert_eq!(disks[0]["size_bytes"], 3 << 19);
    assert_eq!(disks[0]["block_length"], 512);
    assert_eq!(disks[0]["provisioning"], "thin");
    assert_eq!(disks[0]["format"], "raw");
    assert_eq!(disks[0]["mappings"], json!([]));
    assert_eq!(daemon.lunctl(&["disk", "delete", "a disk"]).ok(), "disk a disk deleted\n");
    assert_eq!(daemon.json(&["disk", "list"]), json!([]));
}

#[test]
fn a_disk_can_be_full_and_have_large_blocks_and_be_named_by_its_identifier() {
    let (_place, daemon) = running();
    let disk = daemon.json(&[
        "disk",
        "create",
        "f",
        "--size",
        "2MiB",
        "--block-length",
        "4096",
        "--provisioning",
        "full",
    ]);
    has_fields(&disk, DISK);
    assert_eq!((&disk["block_length"], &disk["provisioning"]), (&json!(4096), &json!("full")));
    assert!(disk["allocated_bytes"].as_u64().unwrap() >= 2 << 20, "{disk}");
    let target = daemon.expose("t", disk["id"].as_str().unwrap(), 0);
    let mut session = Session::login(daemon.portal, &target);
    session.settle(0);
    assert_eq!(session.capacity(0), (512, 4096));
    daemon.lunctl(&["target", "unmap", &target, "0"]).ok();
    let job = daemon.json(&["disk", "delete", disk["id"].as_str().unwrap()]);
    has_fields(&job, JOB);
    assert_eq!((&job["kind"], &job["state"]), (&json!("delete-disk"), &json!("Completed")));
}

#[test]
fn targets_are_created_mapped_listed_unmapped_and_deleted() {
    let (_place, daemon) = running();
    let name = "iqn.2026-01.io.lund:shelf";
    let create = ["target", "create", "Shelf", "--alias", "top shelf"];
    assert_eq!(daemon.lunctl(&create).ok(), format!("{name}\n"));
    daemon.lunctl(&["target", "create", "iqn.2001-04.com.example:own"]).ok();
    daemon.lunctl(&["target", "delete", "iqn.2001-04.com.example:own"]).ok();
    daemon.lunctl(&["disk", "create", "d", "--size", "1MiB"]).ok();
    daemon.lunctl(&["disk", "create", "e", "--size", "1MiB"]).ok();
    let list = daemon.lunctl(&["target", "list"]).ok();
    assert_eq!(row(&list)[..3], [name, "-", "-"], "{list}");
    assert_eq!(daemon.lunctl(&["target", "map", "shelf", "d"]).ok(), format!("{name} LUN 0\n"));
    let mapping = daemon.json(&["target", "map", name, "e", "--lun", "4"]);
    assert_eq!(mapping, json!({ "target": name, "lun": 4 }));
    let targets = daemon.json(&["target", "list"]);
    has_fields(&targets[0], &["name", "alias", "created", "access", "luns", "sessions"]);
    assert_eq!((&targets[0]["alias"], &targets[0]["sessions"]), (&json!("top shelf"), &json!(0)));
    has_fields(&targets[0]["luns"][0], &["lun", "disk", "disk_name"]);
    assert_eq!(targets[0]["luns"][1]["lun"], 4);
    let list = daemon.lunctl(&["target", "list"]).ok();
    assert_eq!(list.lines().count(), 3, "{list}");
    let disks = daemon.json(&["disk", "list"]);
    assert_eq!(disks[0]["mappings"], json!([{ "target": name, "lun": 0 }]));
    daemon.lunctl(&["target", "map", "shelf", "d", "--lun", "5"]).fails(4, &["LUN 0"]);
    daemon.lunctl(&["target", "unmap", "shelf", "0"]).ok();
    let gone = daemon.json(&["target", "unmap", "shelf", "4"]);
    assert_eq!(gone, json!({ "target": "shelf", "lun": 4 }));
    let deleted = daemon.lunctl(&["target", "delete", "shelf"]).ok();
    assert_eq!(deleted, "target shelf deleted\n");
    assert_eq!(daemon.json(&["target", "list"]), json!([]));
}

#[test]
fn jobs_are_listed_shown_awaited_and_deleted() {
    let (_place, daemon) = running();
    let create = ["disk", "create", "d", "--size", "1MiB", "--no-wait"];
    let id = daemon.lunctl(&create).ok().trim().to_owned();
    let done = daemon.lunctl(&["job", "wait", &id, "--timeout", "30"]).ok();
    assert_eq!(done, format!("job {id} is Completed\n"));
    let job = daemon.json(&["job", "wait", &id]);
    has_fields(&job, JOB);
    assert_eq!((&job["ended"], &job["percent_complete"]), (&json!(true), &json!(100)));
    assert_eq!((&job["job_state"], &job["operational_status"]), (&json!(7), &json!([2, 17])));
    assert!(job["owner"].as_str().unwrap().starts_with("lunctl"), "{job}");
    assert_eq!(daemon.json(&["job", "show", &id]), job);
    assert_eq!(daemon.json(&["job", "show", job["instance_id"].as_str().unwrap()]), job);
    assert_eq!(daemon.json(&["job", "list"]), json!([job]));
    let list = daemon.lunctl(&["job", "list"]).ok();
    assert_eq!(row(&list)[..3], [id.as_str(), "create-disk", "Completed"], "{list}");
    let shown = daemon.lunctl(&["job", "show", &id]).ok();
    assert!(shown.contains("state      Completed (100 %)"), "{shown}");
    assert_eq!(daemon.lunctl(&["job", "error", &id]).ok(), "no error\n");
    assert_eq!(daemon.json(&["job", "error", &id]), json!([]));
    assert_eq!(daemon.json(&["job", "delete", &id]), json!({ "job": id }));
    assert_eq!(daemon.json(&["job", "list"]), json!([]));
}

#[test]
fn the_error_of_a_failed_job_says_what_to_do() {
    let (_place, daemon) = running();
    let submitted = daemon.json(&["disk", "create", "d", "--size", "1PiB", "--no-wait"]);
    has_fields(&submitted, JOB);
    let id = submitted["id"].as_str().unwrap();
    daemon.lunctl(&["job", "wait", id]).fails(5, &["Not enough capacity"]);
    let errors = daemon.json(&["job", "error", id]);
    let error = &errors[0];
    for field in ["message_id", "message", "owning_entity", "probable_cause_description"] {
        assert!(error[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {error}");
    }
    assert_eq!(error["message_arguments"][2], (1u64 << 50).to_string());
    assert!(!error["recommended_actions"].as_array().unwrap().is_empty());
    let text = daemon.lunctl(&["job", "error", id]).ok();
    assert!(text.contains("Not enough capacity") && text.contains("\n  - "), "{text}");
    let shown = daemon.lunctl(&["job", "show", id]).ok();
    assert!(shown.contains("Not enough capacity"), "{shown}");
    assert_eq!(daemon.json(&["job", "show", id])["errors"], errors);
}

#[test]
fn pools_sessions_and_status_are_shown() {
    let place = Place::new();
    let daemon = place.start_demo();
    let pools = daemon.json(&["pool", "list"]);
    has_fields(
        &pools[0],
        &[
            "id",
            "directory",
            "configured",
            "direct_io",
            "disks",
            "total_bytes",
            "free_bytes",
            "reserved_bytes",
            "provisioned_bytes",
            "overcommit",
            "reserve",
            "soft_thresholds",
            "hard_threshold",
            "exhausted",
            "unavailable",
        ],
    );
    assert_eq!((&pools[0]["unavailable"], &pools[0]["reserved_bytes"]), (&Value::Null, &json!(0)));
    let list = daemon.lunctl(&["pool", "list"]).ok();
    assert_eq!(row(&list).last().copied(), place.disks().to_str(), "{list}");

    assert_eq!(daemon.lunctl(&["session", "list"]).ok(), "");
    let target = "iqn.2026-01.io.lund:demo";
    let mut session = Session::login(daemon.portal, target);
    session.settle(0);
    session.write(0, 0, &[1; 4096]);
    session.read(0, 0, 16);
    let sessions = eventually("the session is counted", || {
        let sessions = daemon.json(&["session", "list"]);
        (sessions[0]["read_bytes"].as_u64() >= Some(8192)).then_some(sessions)
    });
    has_fields(
        &sessions[0],
        &[
            "tsih",
            "isid",
            "initiator",
            "initiator_alias",
            "target",
            "address",
            "since",
            "commands",
            "read_bytes",
            "written_bytes",
        ],
    );
    assert_eq!(sessions[0]["initiator"], Session::NAME);
    assert_eq!(
        (&sessions[0]["target"], &sessions[0]["written_bytes"]),
        (&json!(target), &json!(4096))
    );
    let address = session.stream().local_addr().unwrap().to_string();
    assert_eq!(sessions[0]["address"], address);
    let list = daemon.lunctl(&["session", "list"]).ok();
    assert_eq!(row(&list)[1..4], [Session::NAME, target, &address], "{list}");

    let status = daemon.json(&["status"]);
    has_fields(&status, &["version", "state", "portals", "isns", "alerts"]);
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    let text = daemon.lunctl(&["status"]).ok();
    assert_eq!(text, format!("lund {}\niscsi://{}\n", env!("CARGO_PKG_VERSION"), daemon.portal));
}

#[test]
fn the_daemon_is_found_by_the_environment_too() {
    let (_place, daemon) = running();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lunctl"));
    let run = Run::of(command.arg("status").env("LUND_SERVER", daemon.server()));
    assert!(run.ok().contains("iscsi://"));
    // What is said goes before it; a proxy is for other machines.
    let mut command = lunctl_command(&format!("{}/", daemon.server()), &["status"]);
    command.env("LUND_SERVER", "http://127.0.0.1:1").env("http_proxy", "http://127.0.0.1:1");
    Run::of(&mut command).ok();
}

#[test]
fn names_with_odd_characters_are_handled() {
    let (_place, daemon) = running();
    for name in ["a b", "100%", "ä?x=1&y", "#1", "..", "{}"] {
        daemon.lunctl(&["disk", "create", "--size", "1MiB", "--", name]).ok();
        assert_eq!(daemon.json(&["disk", "list"])[0]["name"], name);
        daemon.lunctl(&["disk", "delete", "--", name]).ok();
        assert_eq!(daemon.json(&["disk", "list"]), json!([]), "{name}");
    }
}
