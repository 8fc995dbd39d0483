//! A discovery session: SendTargets=All, as every initiator begins.

use std::net::{SocketAddr, TcpStream};

use super::pdu::{LOGIN_RESPONSE, Pdu, TEXT_RESPONSE};
use super::{PATIENCE, Session};

/// Each target with each of its addresses, in the order in which they are told.
#[track_caller]
pub(crate) fn discover(portal: SocketAddr) -> Vec<(String, String)> {
    let mut stream = TcpStream::connect(portal).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let text = format!("InitiatorName={}\0SessionType=Discovery\0", Session::NAME);
    Pdu::login(0x87, [0x80, 0, 0, 0, 9, 7], text.into_bytes()).send(&mut stream).unwrap();
    let response = Pdu::receive(&mut stream).unwrap();
    assert_eq!(response.operation(), LOGIN_RESPONSE);
    assert_eq!(response.header[36..38], [0, 0], "login status");
    assert_eq!(response.header[1] & 0x80, 0x80);
    let mut request = Pdu::new(0x04, 0x80);
    request.set(16, &[0, 0, 0, 2]).set(20, &[0xff; 4]);
    // CmdSN of the login, which was immediate.
    let (command, status) = (response.word(28), response.word(24).wrapping_add(1));
    request.set(24, &command.to_be_bytes()).set(28, &status.to_be_bytes());
    request.data = b"SendTargets=All\0".to_vec();
    request.send(&mut stream).unwrap();
    let response = Pdu::receive(&mut stream).unwrap();
    assert_eq!(response.operation(), TEXT_RESPONSE);
    assert_eq!(response.header[1] & 0x80, 0x80, "it is all there");
    let text = String::from_utf8(response.data).unwrap();
    let (mut target, mut found) = (String::new(), Vec::new());
    for pair in text.split_terminator('\0') {
        match pair.split_once('=').unwrap() {
            ("TargetName", name) => name.clone_into(&mut target),
            ("TargetAddress", address) => found.push((target.clone(), address.to_owned())),
            other => panic!("{other:?}"),
        }
    }
    found
}
