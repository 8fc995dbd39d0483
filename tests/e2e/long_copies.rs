//! Long copies are jobs that management sees.

use super::support::{Done, MIB, Place, Session, request};

const TARGET: &str = "iqn.2026-01.io.lund:demo";

/// WRITE USING TOKEN with the block device zero token, of so many blocks from block 0 on.
fn zero(session: &mut Session, blocks: u64) -> std::io::Result<Done> {
    let mut list = vec![0; 536];
    list[16..24].copy_from_slice(&[0xff, 0xff, 0, 1, 0, 0, 0x01, 0xf8]);
    list[535] = 16;
    list.extend([0; 8]);
    list.extend(u32::try_from(blocks).unwrap().to_be_bytes());
    list.extend([0; 4]);
    let length = u16::try_from(list.len() - 2).unwrap();
    list[..2].copy_from_slice(&length.to_be_bytes());
    let mut cdb = [0; 16];
    (cdb[0], cdb[1], cdb[9]) = (0x83, 0x11, 7);
    cdb[10..14].copy_from_slice(&u32::try_from(list.len()).unwrap().to_be_bytes());
    session.run_with(0, &cdb, &list)
}

#[test]
fn a_long_copy_is_a_job_with_its_initiator_and_its_end() {
    let place = Place::new();
    let mut daemon = place.start(&["--demo", "--demo-size", "512MiB"]);
    daemon.read_lines(8);
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    session.write(0, 8, &[0x11; 512]);
    let copies = || {
        let jobs = request(daemon.management, "GET", "/jobs", "").json();
        let jobs = jobs.as_array().unwrap().clone();
        jobs.into_iter().filter(|job| job["kind"] == "copy-blocks").collect::<Vec<_>>()
    };
    zero(&mut session, 255 * MIB / 512).unwrap().good();
    assert_eq!(session.read(0, 8, 1), [0; 512]);
    assert!(copies().is_empty(), "a short one is none");
    zero(&mut session, 256 * MIB / 512).unwrap().good();
    let [job] = &copies()[..] else { panic!("{:?}", copies()) };
    assert_eq!(job["name"], "Copy blocks to disk demo");
    assert!(job["owner"].as_str().unwrap().starts_with("iqn."), "{job}");
    let id = job["id"].as_str().unwrap();
    daemon.lunctl(&["job", "wait", id]).ok();
    let job = request(daemon.management, "GET", &format!("/jobs/{id}"), "").json();
    assert_eq!((&job["state"], &job["percent_complete"]), (&"Completed".into(), &100.into()));
    assert!(daemon.lunctl(&["job", "list"]).ok().contains("copy-blocks"));
    daemon.stop();
}

/// Killed at each step of the job: it does not go on, as its initiator may have written since.
#[cfg(feature = "failpoints")]
#[test]
fn a_long_copy_does_not_go_on_after_a_kill() {
    use super::support::{Daemon, eventually};

    for (step, state) in [
        ("operation.begun.before", "Exception"),
        ("operation.begun.after", "Exception"),
        ("operation.complete.before", "Exception"),
        ("operation.complete.after", "Completed"),
    ] {
        let place = Place::new();
        let mut command = place.command(&["--demo", "--demo-size", "512MiB"]);
        let mut daemon = Daemon::spawn(command.env("LUND_CRASH_AT", step), &place);
        let mut session = Session::login(daemon.portal, TARGET);
        session.settle(0);
        // The connection may break before it is answered.
        drop(zero(&mut session, 256 * MIB / 512));
        daemon.ended();
        let daemon = place.start(&[]);
        let mut session = Session::login(daemon.portal, TARGET);
        session.settle(0);
        session.write(0, 8, &[0x22; 512]);
        let job = eventually("the job has ended", || {
            let jobs = daemon.json(&["job", "list"]);
            let jobs = jobs.as_array().unwrap();
            let copy = jobs.iter().find(|job| job["kind"] == "copy-blocks").unwrap();
            (copy["ended"] == true).then(|| copy.clone())
        });
        assert_eq!(job["state"], state, "{step}: {job}");
        if state == "Exception" {
            assert_eq!(job["errors"][0]["message_id"], "ISCT-JOB-003", "{step}: {job}");
        }
        assert_eq!(session.read(0, 8, 1), [0x22; 512], "{step}");
        daemon.stop();
    }
}
