//! Ten thousand connections that never log in, a thousand that log in a byte at a time, and a
//! thousand sessions, all at once.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::support::{Daemon, Pdu, Place, Session, eventually};

const TARGET: &str = "iqn.2026-01.io.lund:demo";
const SILENT: u64 = 10_000;
const SLOW: u64 = 1000;
const SESSIONS: u64 = 1000;

/// How much smaller the storm must be, for want of file descriptors.
fn divisor() -> u64 {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let wanted = SILENT + SLOW + SESSIONS + 500;
    maximum.map_or(1, |maximum| wanted.div_ceil(maximum))
}

fn resident_kib(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

fn open_files(daemon: &Daemon) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count()
}

#[test]
fn a_storm_leaves_sessions_alone_lets_initiators_in_and_leaves_nothing_behind() {
    let divisor = divisor();
    let place = Place::new();
    let daemon = place.start_demo();
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    let (files, memory) = (open_files(&daemon), resident_kib(&daemon));

    let request = Pdu::login(0x87, [0x80, 0, 0, 1, 0, 0], vec![0; 64]).bytes();
    let connect = || TcpStream::connect(daemon.portal).unwrap();
    let mut slow: Vec<_> = (0..SLOW / divisor).map(|_| connect()).collect();
    let mut silent = Vec::new();
    for number in 0..SILENT / divisor {
        silent.push(connect());
        if number % 100 == 0 {
            let byte = usize::try_from(number / 100).unwrap() % request.len();
            // Those that lose their place are reset.
            slow.iter_mut().for_each(|it| drop(it.write_all(&request[byte..=byte])));
            let block = number / 100;
            session.write(0, block, &[number.to_le_bytes()[1]; 512]);
            assert_eq!(session.read(0, block, 1), [number.to_le_bytes()[1]; 512]);
        }
    }
    let mut sessions: Vec<_> = (0..SESSIONS / divisor)
        .map(|number| {
            let mut session = Session::login(daemon.portal, TARGET);
            session.settle(0);
            session.write(0, 1000 + number, &[number.to_le_bytes()[0]; 512]);
            session
        })
        .collect();
    for (number, session) in (0_u64..).zip(&mut sessions) {
        assert_eq!(session.read(0, 1000 + number, 1), [number.to_le_bytes()[0]; 512]);
    }
    // What it may have at once: places to log in, and sessions.
    let grown = resident_kib(&daemon).saturating_sub(memory);
    assert!(grown < 128 << 10, "{grown} KiB");
    assert!(open_files(&daemon) < files + 1024 + sessions.len() + 100);

    drop((slow, silent, sessions));
    eventually("the connections are gone", || (open_files(&daemon) <= files + 4).then_some(()));
    assert_eq!(daemon.json(&["session", "list"]).as_array().unwrap().len(), 1);
    session.write(0, 0, &[0xee; 512]);
    assert_eq!(session.read(0, 0, 1), [0xee; 512]);
    session.logout();
    daemon.stop();
}

#[test]
fn initiators_that_do_not_read_their_data_share_what_memory_there_is() {
    let place = Place::new();
    let config = place.write("lund.toml", "[iscsi]\nmax_backlog = '16MiB'\n");
    let daemon =
        place.start(&["--demo", "--demo-size", "64MiB", "--config", config.to_str().unwrap()]);
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    let memory = resident_kib(&daemon);
    // Each asks for 128 times 256 KiB and reads nothing.
    let mut greedy: Vec<_> = (0..200).map(|_| Session::login(daemon.portal, TARGET)).collect();
    for session in &mut greedy {
        session.settle(0);
        session.start_reads(100, 512);
    }
    // Everybody who reads is served.
    for lba in 0..100 {
        session.write(0, lba, &[lba.to_le_bytes()[0]; 512]);
        assert_eq!(session.read(0, lba, 512).len(), 512 * 512);
    }
    let grown = resident_kib(&daemon).saturating_sub(memory);
    // Without the bound, each would hold more than 1 MiB.
    assert!(grown < 120 << 10, "{grown} KiB");
    // Those that were stopped go on when they read.
    for session in greedy.iter_mut().step_by(20) {
        let mut stream = session.stream();
        let mut left = 100 * 512 * 512;
        let mut piece = vec![0; 1 << 20];
        while left > 0 {
            left -= stream.read(&mut piece).unwrap().min(left);
        }
    }
    drop(greedy);
    daemon.stop();
}
