//! Whoever has not logged in yet can take little from us.

use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::support::{Daemon, MIB, PATIENCE, Pdu, Place, Session};

const TARGET: &str = "iqn.2026-01.io.lund:demo";
const CONNECTIONS: u64 = 200;
/// Text in one Login Request at most (RFC 7143 §13.12).
const SEGMENT: usize = 8192;
/// C: the text goes on in the next request.
const CONTINUES: u8 = 0x44;

/// Memory that the daemon has in use, in bytes.
fn resident(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Sends 60 KiB of login text and stops.
fn half_a_login(portal: SocketAddr, number: u16) -> TcpStream {
    let mut stream = TcpStream::connect(portal).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let [high, low] = number.to_be_bytes();
    let text = |length: usize| [b"X-text=".as_slice(), &vec![b'x'; length - 8], b"\0"].concat();
    for length in [SEGMENT; 7].into_iter().chain([4096]) {
        let request = Pdu::login(CONTINUES, [0x80, 1, 0, 0, high, low], text(length));
        request.send(&mut stream).unwrap();
        let response = Pdu::receive(&mut stream).unwrap();
        assert_eq!(response.header[36..38], [0, 0], "it is allowed to say so much");
    }
    stream
}

#[test]
fn logins_that_stop_half_way_cost_no_more_than_their_text() {
    let place = Place::new();
    let daemon = place.start_demo();
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    drop(half_a_login(daemon.portal, 0));
    let before = resident(&daemon);
    let halves: Vec<_> =
        (1..=CONNECTIONS).map(|it| half_a_login(daemon.portal, it.try_into().unwrap())).collect();
    let grown = resident(&daemon).saturating_sub(before);
    let limit = CONNECTIONS * (64 << 10) + 8 * MIB;
    assert!(grown < limit, "{grown} bytes for {CONNECTIONS} connections, {limit} are allowed");
    let mut real = Session::login(daemon.portal, TARGET);
    real.settle(0);
    real.write(0, 0, &[1; 512]);
    session.ready(0).good();
    drop(halves);
}

#[test]
fn login_text_without_end_is_refused() {
    let place = Place::new();
    let daemon = place.start_demo();
    let mut stream = half_a_login(daemon.portal, 1);
    let request = Pdu::login(CONTINUES, [0x80, 1, 0, 0, 0, 1], vec![b'x'; SEGMENT]);
    request.send(&mut stream).unwrap();
    let response = Pdu::receive(&mut stream).unwrap();
    assert_eq!(response.header[36], 2, "an initiator error: {:02x?}", response.header);
    assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0, "and the end of it");
}

#[test]
fn what_is_no_login_is_cut_off_at_once() {
    let place = Place::new();
    let daemon = place.start_demo();
    let mut large = Pdu::login(CONTINUES, [0x80; 6], Vec::new()).header;
    large[5..8].copy_from_slice(&[0xff; 3]);
    let command = Pdu::new(0x01, 0x81).bytes();
    for bytes in [
        &large[..],
        &command,
        &[0xff; 48],
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(daemon.portal).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        std::io::Write::write_all(&mut stream, bytes).unwrap();
        let begin = Instant::now();
        let mut answer = Vec::new();
        // Closed or reset; a short word before is allowed.
        let _ = stream.read_to_end(&mut answer);
        assert!(begin.elapsed() < Duration::from_secs(5), "{bytes:02x?}");
        assert!(answer.len() < 200, "{answer:02x?}");
    }
    Session::login(daemon.portal, TARGET).logout();
}

#[test]
fn a_connection_that_says_nothing_is_closed_after_a_while() {
    let place = Place::new();
    let daemon = place.start(&[]);
    let begin = Instant::now();
    let mut silent = TcpStream::connect(daemon.portal).unwrap();
    let mut half = TcpStream::connect(daemon.portal).unwrap();
    std::io::Write::write_all(&mut half, &[0x43, 0x87, 0]).unwrap();
    for stream in [&mut silent, &mut half] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let end = stream.read(&mut [0; 16]);
        // Data that nobody reads makes it a reset.
        assert!(matches!(&end, Ok(0)) || end.is_err_and(|it| it.raw_os_error() == Some(104)));
        let passed = begin.elapsed();
        let allowed = Duration::from_secs(10)..Duration::from_secs(20);
        assert!(allowed.contains(&passed), "{passed:?}");
    }
}

#[test]
fn silent_connections_shut_nobody_out() {
    let place = Place::new();
    let config = place.write("lund.toml", "[iscsi]\nmax_logins = 64\n");
    let daemon =
        place.start(&["--demo", "--demo-size", "64MiB", "--config", config.to_str().unwrap()]);
    let flood: Vec<_> = (0..400).map(|_| TcpStream::connect(daemon.portal).unwrap()).collect();
    // At once, though those that came last are all still there.
    for _ in 0..70 {
        Session::try_login(daemon.portal, TARGET).unwrap().logout();
    }
    let mut closed = 0;
    for mut stream in &flood {
        stream.set_nonblocking(true).unwrap();
        closed += usize::from(matches!(stream.read(&mut [0; 1]), Ok(0)));
    }
    assert!(closed >= 400 - 64, "{closed}");
    drop(flood);
    daemon.stop();
}
