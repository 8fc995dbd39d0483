//! Any bytes from an iSNS server, to a client that has something to register.
#![no_main]

use std::time::{Duration, Instant};

use isns::message::Reader;
use isns::{Client, Portal, Registration, Target};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let now = Instant::now();
    let mut client = Client::new("fuzz");
    let portal = Portal { address: ([192, 0, 2, 1], 3260).into(), group: 1 };
    let target = Target { alias: String::new(), groups: [1].into() };
    let targets = [("iqn.2026-01.org.example:t".to_owned(), target)].into();
    client.set(Registration { portals: vec![portal], targets });
    client.connected(Some(([192, 0, 2, 1].into(), 7)));
    client.next(now);
    let mut reader = Reader::default();
    // In pieces, as a stream comes.
    for piece in input.chunks(97) {
        reader.push(piece);
        loop {
            match reader.next() {
                Ok(Some(message)) => {
                    if client.receive(&message, now).is_err() {
                        client.connected(None);
                    }
                    client.next(now + Duration::from_secs(10));
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
});
