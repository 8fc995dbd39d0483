//! The exit status of `lunctl`: each one provoked for real, with a message that helps.

use serde_json::Value;

use super::support::{Busy, Place, Run, eventually, free_address, lunctl, lunctl_command};

#[test]
fn wrong_usage_is_2() {
    let place = Place::new();
    let daemon = place.start(&[]);
    let run = |arguments: &[&str]| daemon.lunctl(arguments);
    run(&["disk", "make", "d"]).fails(2, &["make"]);
    run(&["disk", "create", "d"]).fails(2, &["--size"]);
    run(&["disk", "create", "d", "--size", "1 gallon"]).fails(2, &["--size", "as in 10GiB"]);
    run(&["target", "unmap", "t", "x"]).fails(2, &["LUN"]);
    run(&["disk", "create", "d", "--size", "1000"])
        .fails(2, &["1000", "multiple of the block length, 512", "nearest possible size is 1024"]);
    run(&["disk", "create", "d", "--size", "0"]).fails(2, &["at least one block"]);
    run(&["disk", "create", "d", "--size", "1MiB", "--block-length", "1024"])
        .fails(2, &["512", "4096"]);
    run(&["disk", "create", "a/b", "--size", "1MiB"]).fails(2, &["a/b", "`/`"]);
    run(&["target", "create", "iqn.nonsense"]).fails(2, &["iqn.nonsense", "yyyy-mm"]);
    run(&["target", "create", "two words"]).fails(2, &["two words"]);
    lunctl("localhost:1", &["status"]).fails(2, &["--server", "http://"]);
    assert_eq!(daemon.json(&["job", "list"]), serde_json::json!([]));
}

#[test]
fn what_is_not_there_is_3_and_named() {
    let place = Place::new();
    let daemon = place.start_demo();
    let nobody = "00000000-0000-0000-0000-000000000000";
    let cases: &[(&[&str], &str)] = &[
        (&["disk", "delete", "ghost"], "ghost"),
        (&["target", "delete", "ghost"], "iqn.2026-01.io.lund:ghost"),
        (&["target", "map", "ghost", "demo"], "iqn.2026-01.io.lund:ghost"),
        (&["target", "map", "demo", "ghost"], "ghost"),
        (&["target", "unmap", "demo", "77"], "77"),
        (&["job", "show", "ghost"], "ghost"),
        (&["job", "show", nobody], nobody),
        (&["job", "wait", nobody], nobody),
        (&["job", "cancel", nobody], nobody),
        (&["job", "error", nobody], nobody),
        (&["job", "delete", nobody], nobody),
    ];
    for (arguments, name) in cases {
        daemon.lunctl(arguments).fails(3, &[name]);
    }
}

#[test]
fn who_writes_a_name_wrong_is_told_which_one_it_may_be() {
    let place = Place::new();
    let daemon = place.start_demo();
    let run = |arguments: &[&str]| daemon.lunctl(arguments);
    run(&["snapshot", "create", "monday", "demo"]).ok();
    let snapshot = daemon.json(&["job", "list", "--filter", "kind=create-snapshot"]);
    let snapshot = snapshot[0]["id"].as_str().unwrap();
    // A viewer alone: everybody on this machine may go on.
    let secret = place.write("secret", "correct horse battery\n");
    let secret = secret.to_str().unwrap();
    run(&["user", "add", "guest", "--role", "viewer", "--password-file", secret]).ok();
    run(&["token", "create", "backup", "--role", "viewer"]).ok();
    run(&["target", "create", "safe"]).ok();
    run(&["chap", "set", "alice", "--secret-file", secret, "--target", "safe"]).ok();
    let typo = format!("{snapshot}0");
    let (guest, job) = ("did you mean `guest`?", format!("did you mean `{snapshot}`?"));
    let disk = "did you mean `demo`?";
    let target = "did you mean `iqn.2026-01.io.lund:demo`?";
    let pool = "did you mean `default`?";
    let cases: &[(&[&str], &str)] = &[
        (&["disk", "show", "dmeo"], disk),
        (&["disk", "expand", "demoo", "--size", "2MiB"], disk),
        (&["target", "map", "demo", "Demo"], disk),
        (&["target", "show", "dem"], target),
        (&["target", "delete", "demos"], target),
        (&["target", "unmap", "deno", "0"], target),
        (&["target", "open", "iqn.2026-01.io.lund:Demo1"], target),
        (&["snapshot", "rollback", "demo@munday"], "did you mean `demo@monday`?"),
        (&["pool", "show", "defualt"], pool),
        (&["disk", "create", "x", "--size", "1MiB", "--pool", "defalt"], pool),
        (&["snapshot", "rollback", "mondya"], "did you mean `demo@monday`?"),
        (&["user", "show", "gest"], guest),
        (&["user", "role", "guset", "operator"], guest),
        (&["user", "remove", "Guest"], guest),
        (&["token", "show", "backups"], "did you mean `backup`?"),
        (&["token", "revoke", "bakcup"], "did you mean `backup`?"),
        (&["chap", "show", "aliec"], "did you mean `alice`?"),
        (&["chap", "delete", "alicia"], "did you mean `alice`?"),
        (&["job", "show", &snapshot[..30]], &job),
        (&["job", "cancel", &typo], &job),
        (&["job", "delete", &snapshot[1..]], &job),
        (&["portal-group", "show", "7"], "there are: 1"),
    ];
    for (arguments, meant) in cases {
        // It lists what the command is about, whatever else it names.
        let list = format!("`lunctl {} list`", arguments[0]);
        run(arguments).fails(3, &[meant, &list]);
    }
    let other = run(&["disk", "show", "mail"]);
    assert!(!other.stderr.contains("did you mean"), "{}", other.stderr);
}

#[test]
fn a_conflict_is_4_and_names_what_stands_in_the_way() {
    let place = Place::new();
    let daemon = place.start_demo();
    let target = "iqn.2026-01.io.lund:demo";
    let run = |arguments: &[&str]| daemon.lunctl(arguments);
    run(&["disk", "create", "demo", "--size", "1MiB"]).fails(4, &["demo", "in use"]);
    run(&["disk", "delete", "demo"]).fails(4, &[target, "`lunctl disk show DISK`"]);
    run(&["target", "create", "demo"]).fails(4, &[target]);
    run(&["target", "delete", "demo"]).fails(4, &[target, "`lunctl target unmap TARGET LUN`"]);
    run(&["target", "map", "demo", "demo", "--lun", "0"]).fails(4, &["0"]);
    let jobs = daemon.json(&["job", "list"]);
    let done = jobs[0]["id"].as_str().unwrap();
    run(&["job", "cancel", done]).fails(4, &[done, "Completed"]);
}

#[test]
fn a_job_that_failed_is_5_with_its_error_and_what_to_do() {
    let place = Place::new();
    let daemon = place.start(&[]);
    for provisioning in ["thin", "full"] {
        let run = daemon.lunctl(&[
            "disk",
            "create",
            "d",
            "--size",
            "1PiB",
            "--provisioning",
            provisioning,
        ]);
        run.fails(5, &["Not enough capacity", "1125899906842624", "\n  - "]);
    }
    let run = daemon.lunctl(&["disk", "create", "d", "--size", "1PiB", "--json"]);
    run.fails(5, &[]);
    let error: Value = serde_json::from_str(&run.stderr).unwrap();
    assert_eq!(error["exit_status"], 5);
    assert!(error["message"].as_str().unwrap().contains("Not enough capacity"), "{error}");
    assert!(error["error"]["message_id"].is_string(), "{error}");
    assert_eq!(daemon.json(&["disk", "list"]), serde_json::json!([]));
    let names = std::fs::read_dir(place.disks()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.filter(|name| name != ".lund-pool").count(), 0);
}

#[test]
fn a_job_that_was_cancelled_is_6() {
    let busy = Busy::new();
    let daemon = &busy.daemon;
    let create = ["disk", "create", "big", "--size", "1GiB", "--provisioning", "full"];
    let waiting = std::thread::scope(|scope| {
        let server = daemon.server();
        let waiting = scope.spawn(move || lunctl(&server, &create));
        let id = eventually("the job is there", || {
            let jobs = daemon.json(&["job", "list"]);
            let found = jobs
                .as_array()
                .unwrap()
                .iter()
                .find(|job| job["kind"] == "create-disk" && job["ended"] == false);
            found.map(|job| job["id"].as_str().unwrap().to_owned())
        });
        let cancelled = daemon.lunctl(&["job", "cancel", &id]);
        assert_eq!(cancelled.ok(), format!("job {id} is Terminated\n"));
        daemon.lunctl(&["job", "wait", &id]).fails(6, &[&id, "was cancelled", "lunctl"]);
        waiting.join().unwrap()
    });
    waiting.fails(6, &["was cancelled"]);
    assert!(
        daemon.json(&["disk", "list"]).as_array().unwrap().iter().all(|it| it["name"] != "big")
    );
}

#[test]
fn a_job_that_takes_longer_than_one_wants_to_wait_is_1_and_goes_on() {
    let busy = Busy::new();
    let id = busy.submit("later", "1GiB");
    let run = busy.daemon.lunctl(&["job", "wait", &id, "--timeout", "0"]);
    run.fails(1, &[&id, "has not ended"]);
    busy.daemon.lunctl(&["job", "delete", &id]).fails(4, &[&id]);
    busy.daemon.lunctl(&["job", "cancel", &id]).ok();
    busy.daemon.lunctl(&["job", "delete", &id]).ok();
}

#[test]
fn a_daemon_that_is_not_there_is_7() {
    let nobody = format!("http://{}", free_address());
    for arguments in [&["status"][..], &["disk", "list"], &["job", "show", "x"]] {
        lunctl(&nobody, arguments).fails(7, &[&nobody, "--server", "running"]);
    }
    let run = lunctl(&nobody, &["status", "--json"]);
    run.fails(7, &[]);
    let error: Value = serde_json::from_str(&run.stderr).unwrap();
    assert_eq!(error["exit_status"], 7);
    // Nobody is there to be asked for what has been said to be wrong.
    let mut command = lunctl_command("http://no.such.host.invalid", &["status"]);
    Run::of(&mut command).fails(7, &["no.such.host.invalid"]);
}

#[test]
fn something_else_that_answers_is_1() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    let answers = std::thread::spawn(move || {
        let (mut stream, _) = other.accept().unwrap();
        let _ = std::io::Read::read(&mut stream, &mut [0; 4096]).unwrap();
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
        std::io::Write::write_all(&mut stream, text).unwrap();
    });
    lunctl(&format!("http://{address}"), &["status"]).fails(1, &["cannot be read"]);
    answers.join().unwrap();
}
