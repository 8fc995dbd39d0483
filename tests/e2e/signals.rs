//! SIGTERM and SIGINT: what is under way is finished, what was answered is in the file.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::support::{PATIENCE, Place, Session, eventually};

const TARGET: &str = "iqn.2026-01.io.lund:demo";
const WRITERS: u64 = 4;
const BLOCK: usize = 4096;
/// Blocks that each writer has for itself, written round and round.
const BLOCKS: u64 = 64;

/// What is in a block after a writer's n-th write.
fn content(writer: u64, number: u64) -> Vec<u8> {
    [writer, number].map(u64::to_be_bytes).concat().repeat(BLOCK / 16)
}

/// Writes until the session ends; sends how many writes were answered with success.
fn write_on(mut session: Session, writer: u64, answered: &AtomicU64, done: &Sender<(u64, u64)>) {
    let mut number = 0;
    loop {
        let lba = (writer * BLOCKS + number % BLOCKS) * (BLOCK as u64 / 512);
        match session.try_write(0, lba, &content(writer, number)) {
            Ok(written) if written.status == 0 => {}
            // Not begun before the end, or begun and ended without an answer.
            Ok(_) | Err(_) => break,
        }
        number += 1;
        answered.fetch_add(1, Ordering::Relaxed);
    }
    done.send((writer, number)).unwrap();
}

fn ends_in_order_after(signal: Signal) {
    let place = Place::new();
    let mut daemon = place.start_demo();
    let file = daemon.file_of("demo");
    let answered = AtomicU64::new(0);
    let (sender, results) = std::sync::mpsc::channel();
    let mut idle = Session::login(daemon.portal, TARGET);
    idle.settle(0);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let mut session = Session::login(daemon.portal, TARGET);
            session.settle(0);
            let (answered, sender) = (&answered, sender.clone());
            scope.spawn(move || write_on(session, writer, answered, &sender));
        }
        eventually("writes are answered", || {
            (answered.load(Ordering::Relaxed) > 500).then_some(())
        });
        let begin = Instant::now();
        daemon.signal(signal);
        let status = daemon.ended();
        assert!(status.success(), "{status}");
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    });
    let disk = File::open(file).unwrap();
    for _ in 0..WRITERS {
        let (writer, count) = results.recv_timeout(PATIENCE).unwrap();
        assert!(count > 0, "writer {writer}");
        for number in count.saturating_sub(BLOCKS)..count {
            let mut block = vec![0; BLOCK];
            let at = writer * BLOCKS + number % BLOCKS;
            disk.read_exact_at(&mut block, at * BLOCK as u64).unwrap();
            // The write after the last answered one may have happened or not.
            let next = number + BLOCKS;
            let possible = block == content(writer, number)
                || (next == count && block == content(writer, next));
            assert!(possible, "writer {writer}, write {number} of {count}: {:?}", &block[..16]);
        }
    }
    // The session that did nothing was closed, not reset.
    let rest = idle.stream().read_to_end(&mut Vec::new());
    assert!(rest.is_ok(), "{rest:?}");
}

#[test]
fn sigterm_ends_it_with_everything_in_the_file_that_was_answered() {
    ends_in_order_after(Signal::TERM);
}

#[test]
fn sigint_ends_it_with_everything_in_the_file_that_was_answered() {
    ends_in_order_after(Signal::INT);
}

#[test]
fn a_management_client_that_says_nothing_does_not_hold_up_the_end() {
    let place = Place::new();
    let mut daemon = place.start(&[]);
    let silent = std::net::TcpStream::connect(daemon.management).unwrap();
    let mut half = std::net::TcpStream::connect(daemon.management).unwrap();
    std::io::Write::write_all(&mut half, b"GET /api/v1/status HTTP/1.1\r\nHost:").unwrap();
    daemon.lunctl(&["status"]).ok();
    daemon.signal(Signal::TERM);
    assert!(daemon.ended().success());
    drop((silent, half));
}
