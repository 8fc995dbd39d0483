//! Limits of what initiators may read and write.

use std::time::{Duration, Instant};

use serde_json::json;

use super::support::{Place, Session};

const TARGET: &str = "iqn.2026-01.io.lund:demo";

/// How long so many reads of a block take, one behind the other.
fn reads(session: &mut Session, count: u64) -> Duration {
    let start = Instant::now();
    (0..count).for_each(|lba| drop(session.read(0, lba, 1)));
    start.elapsed()
}

#[test]
fn a_limit_is_in_force_at_once_and_after_a_restart_until_it_is_lifted() {
    let place = Place::new();
    let mut daemon = place.start_demo();
    assert_eq!(daemon.json(&["limit", "list"]), json!([]));
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    // One in ten milliseconds.
    let limit = ["--iops", "100", "--burst-ms", "0"];
    daemon.lunctl(&[&["limit", "set", "--disk", "demo"], &limit[..]].concat()).ok();
    assert!(reads(&mut session, 31) >= Duration::from_millis(300));
    let shown = |disk, initiator| json!({ "disk": disk, "initiator": initiator, "iops": 100, "burst_ms": 0 });
    assert_eq!(daemon.json(&["limit", "list"]), json!([shown(Some("demo"), None)]));
    drop(session);
    daemon.stop();
    daemon = place.start_demo();
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    assert!(reads(&mut session, 31) >= Duration::from_millis(300));
    daemon.lunctl(&["limit", "lift", "--disk", "demo"]).ok();
    daemon.lunctl(&["limit", "lift", "--disk", "demo"]).fails(3, &["limit"]);

    daemon.lunctl(&[&["limit", "set", "--initiator", Session::NAME], &limit[..]].concat()).ok();
    assert!(reads(&mut session, 31) >= Duration::from_millis(300));
    assert_eq!(daemon.json(&["limit", "list"]), json!([shown(None, Some(Session::NAME))]));
    // A second and more, were it not lifted meanwhile.
    daemon.lunctl(&["limit", "set", "--initiator", Session::NAME, "--bytes-per-second", "1"]).ok();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| reads(&mut session, 3));
        daemon.lunctl(&["limit", "lift", "--initiator", Session::NAME]).ok();
        assert!(reader.join().unwrap() < Duration::from_secs(512), "the rest went on at once");
    });
    assert_eq!(daemon.json(&["limit", "list"]), json!([]));
    for wrong in [&["--iops", "0"][..], &["--bytes-per-second", "0"]] {
        daemon.lunctl(&[&["limit", "set", "--disk", "demo"], wrong].concat()).fails(2, &["limit"]);
    }
    daemon.lunctl(&["limit", "set", "--disk", "none", "--iops", "1"]).fails(3, &["none"]);
}
