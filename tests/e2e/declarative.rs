//! The configuration as a file: exported, compared, put in force as a whole.

use std::path::Path;

use serde_json::{Value, json};

use super::support::{Daemon, Place, Run, Session, lunctl};

fn apply(daemon: &Daemon, file: &Path, more: &[&str]) -> Run {
    daemon.lunctl(&[&["apply", "-f", file.to_str().unwrap()], more].concat())
}

fn diff(daemon: &Daemon, file: &Path) -> Run {
    daemon.lunctl(&["diff", "-f", file.to_str().unwrap()])
}

/// Targets by name, each with its LUNs as pairs of number and disk.
fn luns(daemon: &Daemon) -> Vec<(String, Vec<(u64, String)>)> {
    let targets = daemon.json(&["target", "list"]);
    let lun =
        |it: &Value| (it["lun"].as_u64().unwrap(), it["disk_name"].as_str().unwrap().to_owned());
    let target = |it: &Value| {
        let luns = it["luns"].as_array().unwrap().iter().map(lun).collect();
        (it["name"].as_str().unwrap().to_owned(), luns)
    };
    targets.as_array().unwrap().iter().map(target).collect()
}

#[test]
fn a_file_is_put_in_force_as_a_whole_and_what_was_exported_changes_nothing() {
    let place = Place::new();
    let daemon = place.start_demo();
    let wanted = place.write(
        "wanted.toml",
        "[[disks]]\nname = 'mail'\nsize = '2MiB'\nread_only = true\n\
         [[targets]]\nname = 'demo'\nalias = 'lund demo'\nluns = [{ lun = 0, disk = 'demo' }]\n\
         [[targets]]\nname = 'mail'\nalias = 'Mail'\n\
         [[targets.luns]]\nlun = 3\ndisk = 'mail'\n\
         [[targets.access]]\ninitiator = 'iqn.2026-01.example:*'\naddress = '10.1.2.3/8'\n\
         [[limits]]\ndisk = 'mail'\niops = 500\n",
    );
    // Somebody uses what stays.
    let mut session = Session::login(daemon.portal, "iqn.2026-01.io.lund:demo");
    session.settle(0);
    session.write(0, 7, &[0x5a; 512]);
    let before = daemon.json(&["session", "list"]);

    let shown = diff(&daemon, &wanted);
    assert_eq!((shown.status, shown.stderr.as_str()), (9, ""), "{shown:?}");
    for line in ["+name = \"mail\"", "+size = \"2MiB\"", "+read_only = true", "+iops = 500"] {
        assert!(shown.stdout.contains(line), "{line}: {}", shown.stdout);
    }
    let dry = apply(&daemon, &wanted, &["--dry-run"]).ok();
    assert!(dry.contains("create-disk mail") && dry.contains("nothing is changed"), "{dry}");
    assert_eq!(daemon.json(&["disk", "list"]).as_array().unwrap().len(), 1);
    let done = apply(&daemon, &wanted, &[]).ok();
    assert!(done.contains("create target iqn.2026-01.io.lund:mail"), "{done}");
    let (demo, mail) = ("iqn.2026-01.io.lund:demo", "iqn.2026-01.io.lund:mail");
    let pair = |lun, disk: &str| vec![(lun, disk.to_owned())];
    let wanted_luns = [(demo.to_owned(), pair(0, "demo")), (mail.to_owned(), pair(3, "mail"))];
    assert_eq!(luns(&daemon), wanted_luns);
    assert_eq!(daemon.json(&["limit", "list"])[0]["iops"], 500);
    let target = daemon.json(&["target", "show", "mail"]);
    assert_eq!(target["access"][0]["address"], "10.0.0.0/8");

    // Nobody was disturbed.
    assert_eq!(session.ready(0).check(), None);
    assert_eq!(session.read(0, 7, 1), [0x5a; 512]);
    let after = daemon.json(&["session", "list"]);
    for member in ["tsih", "since", "initiator"] {
        assert_eq!(before[0][member], after[0][member], "{member}");
    }
    assert_eq!(after.as_array().unwrap().len(), 1);

    diff(&daemon, &wanted).ok();
    assert!(apply(&daemon, &wanted, &[]).ok().starts_with("nothing to change"));
    let exported = place.path().join("exported.toml");
    daemon.lunctl(&["export", "-o", exported.to_str().unwrap()]).ok();
    assert_eq!(diff(&daemon, &exported).ok(), "");
    assert!(apply(&daemon, &exported, &[]).ok().starts_with("nothing to change"));
    daemon.lunctl(&["export", "-o", exported.to_str().unwrap()]).fails(1, &["exist"]);

    // Somebody else was quicker.
    daemon.lunctl(&["target", "create", "late"]).ok();
    let text = std::fs::read_to_string(&exported).unwrap();
    assert!(text.starts_with("generation = "), "{text}");
    apply(&daemon, &exported, &[]).fails(4, &["somebody has changed", "generation"]);
    let without: String = text.lines().skip(1).map(|line| format!("{line}\n")).collect();
    let without = place.write("without.toml", &without);
    assert!(apply(&daemon, &without, &[]).ok().contains("delete target iqn.2026-01.io.lund:late"));
    assert_eq!(luns(&daemon), wanted_luns);

    // It grows by a job, and a list that is not there is not spoken of.
    let grown =
        place.write("grown.toml", "[[disks]]\nname = 'mail'\nsize = '3MiB'\nread_only = true\n");
    apply(&daemon, &grown, &[]).ok();
    let sizes = daemon.json(&["disk", "list"]);
    assert!(sizes.as_array().unwrap().iter().any(|it| it["size_bytes"] == 3 << 20), "{sizes}");
    assert_eq!(luns(&daemon), wanted_luns);
    for (text, says) in [
        ("[[disks]]\nname = 'mail'\nsize = '1MiB'\n", "disk shrink"),
        ("[[disks]]\nname = 'mail'\nsize = '3MiB'\nblock_length = 4096\n", "block length"),
        ("[[targets]]\nname = 'x'\nluns = [{ lun = 0, disk = 'ghost' }]\n", "ghost"),
        ("[[targets]]\nname = 'x'\nlunes = []\n", "line 3"),
        ("[[targets]]\nname = 'x'\n[[targets]]\nname = 'X'\n", "twice"),
    ] {
        let wrong = place.write("wrong.toml", text);
        let refused = apply(&daemon, &wrong, &[]);
        assert!([2, 3].contains(&refused.status), "{refused:?}");
        assert!(refused.stderr.contains(says), "{says}: {refused:?}");
    }
    assert_eq!(luns(&daemon), wanted_luns);
    assert_eq!(session.ready(0).check(), None);
    session.logout();
    daemon.stop();
    let daemon = place.start_demo();
    diff(&daemon, &without).fails(2, &["disk shrink"]);
    assert_eq!(luns(&daemon), wanted_luns);
}

#[test]
fn secrets_come_from_files_and_are_never_told_and_nothing_is_opened_by_the_way() {
    let place = Place::new();
    let daemon = place.start(&[]);
    place.write("bob", "a secret of bob\n");
    let accounts = "[[targets]]\nname = 't'\n[[chap_accounts]]\nuser = 'bob'\ntargets = ['t']\n";
    let with = place.write("with.toml", &format!("{accounts}secret_file = 'bob'\n"));
    let file = place.write("accounts.toml", accounts);
    apply(&daemon, &file, &[]).fails(2, &["bob", "secret"]);
    assert_eq!(daemon.json(&["target", "list"]), json!([]), "not even the target");
    apply(&daemon, &with, &[]).ok();
    let refused = Session::try_login(daemon.portal, "iqn.2026-01.io.lund:t").unwrap_err();
    assert_eq!(refused.to_string(), "login status 0201");
    let text = daemon.lunctl(&["export"]).ok();
    assert!(text.contains("user = \"bob\"") && !text.contains("a secret"), "{text}");
    // It keeps the one that it has.
    assert!(apply(&daemon, &file, &[]).ok().starts_with("nothing to change"));
    place.write("bob", "another secret\n");
    let shown = diff(&daemon, &with);
    assert!(shown.status == 9 && shown.stdout.contains("bob gets another secret"), "{shown:?}");
    assert!(apply(&daemon, &with, &[]).ok().contains("change chap account bob secret"));
    let none = place.write("none.toml", "chap_accounts = []\n");
    apply(&daemon, &none, &[]).fails(4, &["open to everybody", "iqn.2026-01.io.lund:t"]);
    assert_eq!(daemon.json(&["chap", "list"])[0]["user"], "bob");
    apply(&daemon, &none, &["--open"]).ok();
    Session::login(daemon.portal, "iqn.2026-01.io.lund:t").logout();
}

#[test]
fn access_states_are_a_part_of_it_and_sessions_are_told() {
    let place = Place::new();
    let daemon = place.start_demo();
    let mut session = Session::login(daemon.portal, "iqn.2026-01.io.lund:demo");
    session.settle(0);
    let standby = place.write("s.toml", "[[access_states]]\ngroup = 1\nstate = 'standby'\n");
    apply(&daemon, &standby, &[]).ok();
    assert_eq!(session.settle(0), [(6, 0x2a, 6)]);
    assert_eq!(session.ready(0).check(), Some((2, 0x04, 0x0b)));
    apply(&daemon, &place.write("n.toml", "access_states = []\n"), &[]).ok();
    assert_eq!(session.settle(0), [(6, 0x2a, 6)]);
    assert_eq!(session.ready(0).check(), None);
    let wrong = place.write("w.toml", "[[access_states]]\ngroup = 7\nstate = 'standby'\n");
    apply(&daemon, &wrong, &[]).fails(2, &["no portal group 7"]);
}

/// Two targets with one disk each, of its own sort.
fn pair(place: &Place, sort: &str) -> std::path::PathBuf {
    let text = format!(
        "[[targets]]\nname = '{sort}-one'\nluns = [{{ lun = 0, disk = 'one' }}]\n\
         [[targets]]\nname = '{sort}-two'\nluns = [{{ lun = 1, disk = 'two' }}]\n\
         [[limits]]\ninitiator = 'iqn.2026-01.example:{sort}'\niops = 9\n"
    );
    place.write(&format!("{sort}.toml"), &text)
}

/// The sort that all targets and limits have.
fn sort(daemon: &Daemon) -> String {
    let text = daemon.lunctl(&["export"]).ok();
    let sorts = ["left", "right"].map(|sort| {
        let parts = [":left-one", ":left-two", "example:left"];
        parts.iter().filter(|part| text.contains(&part.replace("left", sort))).count()
    });
    match sorts {
        [3, 0] => "left".to_owned(),
        [0, 3] => "right".to_owned(),
        [0, 0] => String::new(),
        mixed => panic!("{mixed:?}: {text}"),
    }
}

#[test]
fn two_that_are_applied_at_once_never_mix() {
    let place = Place::new();
    let daemon = place.start(&[]);
    for disk in ["one", "two"] {
        daemon.lunctl(&["disk", "create", disk, "--size", "1MiB"]).ok();
    }
    let files = [pair(&place, "left"), pair(&place, "right")];
    for _ in 0..30 {
        let done: Vec<Run> = std::thread::scope(|scope| {
            let both = files.each_ref().map(|file| {
                let (server, file) = (daemon.server(), file.to_str().unwrap());
                scope.spawn(move || lunctl(&server, &["apply", "-f", file]))
            });
            both.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(done.iter().any(|run| run.status == 0), "{done:?}");
        for run in done.iter().filter(|run| run.status != 0) {
            run.fails(4, &["somebody has changed"]);
        }
        assert!(!sort(&daemon).is_empty());
    }
}

#[cfg(feature = "failpoints")]
#[test]
fn a_daemon_that_is_killed_at_the_commit_has_the_old_one_or_the_new_one() {
    use std::os::unix::process::ExitStatusExt as _;
    for (step, then) in [("configuration.before", "left"), ("configuration.after", "right")] {
        let place = Place::new();
        let daemon = place.start(&[]);
        for disk in ["one", "two"] {
            daemon.lunctl(&["disk", "create", disk, "--size", "1MiB"]).ok();
        }
        apply(&daemon, &pair(&place, "left"), &[]).ok();
        daemon.stop();
        let mut command = place.command::<&str>(&[]);
        let mut daemon = Daemon::spawn(command.env("LUND_CRASH_AT", step), &place);
        assert_eq!(apply(&daemon, &pair(&place, "right"), &[]).status, 7);
        assert_eq!(daemon.ended().signal(), Some(9));
        let daemon = place.start(&[]);
        assert_eq!(sort(&daemon), then, "{step}");
        daemon.stop();
    }
}
