use super::*;
use crate::message::Reader;

const A: &str = "iqn.2026-01.org.example:a";
const B: &str = "iqn.2026-01.org.example:b";
const C: &str = "iqn.2026-01.org.example:c";

fn wanted(names: &[&str]) -> Registration {
    let portal = |text: &str, group| Portal { address: text.parse().unwrap(), group };
    let target = Target { alias: String::new(), groups: [1].into() };
    Registration {
        portals: vec![portal("192.0.2.1:3260", 1), portal("[2001:db8::1]:3260", 2)],
        targets: names.iter().map(|name| ((*name).to_owned(), target.clone())).collect(),
    }
}

fn client(names: &[&str]) -> Client {
    let mut client = Client::new("host");
    client.set(wanted(names));
    client.connected(Some(("192.0.2.1".parse().unwrap(), 7000)));
    client
}

/// Tags and values.
type Values = Vec<(u32, Vec<u8>)>;

/// The next request: its function, whether it replaces, and its attributes.
fn next(client: &mut Client, now: Instant) -> Option<(u16, bool, Values)> {
    let bytes = client.next(now)?;
    assert_eq!(client.next(now), None, "one at a time");
    let replaces = bytes[6] & 0x10 != 0;
    let mut reader = Reader::default();
    reader.push(&bytes);
    let message = reader.next().unwrap().unwrap();
    let attributes = message.attributes().unwrap();
    let attributes = attributes.into_iter().map(|(tag, value)| (tag, value.to_vec())).collect();
    Some((message.function, replaces, attributes))
}

fn answer(client: &mut Client, status: u32, more: &Attributes) -> Result<(), ClientError> {
    let transaction = client.transaction;
    let mut bytes = response(function::DEV_ATTR_REG, transaction, more);
    bytes[12..16].copy_from_slice(&status.to_be_bytes());
    let mut reader = Reader::default();
    reader.push(&bytes);
    let message = reader.next().unwrap().unwrap();
    client.receive(&message, Instant::now()).map(|_| ())
}

fn good(client: &mut Client) {
    answer(client, 0, &Attributes::default()).unwrap();
}

/// The texts under a tag.
fn texts(attributes: &[(u32, Vec<u8>)], wanted: u32) -> Vec<&str> {
    let found = attributes.iter().filter(|(tag, _)| *tag == wanted);
    found.map(|(_, value)| std::str::from_utf8(value).unwrap().trim_end_matches('\0')).collect()
}

/// Everything that is due, answered with success; the functions.
fn settle(client: &mut Client) -> Vec<u16> {
    let mut seen = Vec::new();
    while let Some((function, _, _)) = next(client, Instant::now()) {
        good(client);
        seen.push(function);
    }
    assert!(client.is_settled());
    seen
}

#[test]
fn the_first_registration_replaces_what_was_there_and_names_portals_targets_and_groups() {
    let mut client = client(&[A, B]);
    let (function, replaces, attributes) = next(&mut client, Instant::now()).unwrap();
    assert_eq!((function, replaces), (function::DEV_ATTR_REG, true));
    // Source, key; behind the delimiter the entity.
    assert_eq!(texts(&attributes, tag::ISCSI_NAME), [A, A, B]);
    assert_eq!(texts(&attributes, tag::ENTITY_IDENTIFIER), ["host", "host"]);
    let of = |tag| attributes.iter().filter(move |it| it.0 == tag).map(|it| it.1.as_slice());
    let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1];
    assert_eq!(of(tag::PORTAL_IP_ADDRESS).next(), Some(mapped.as_slice()));
    // Only the portal at the address where we listen.
    assert_eq!(of(tag::SCN_PORT).collect::<Vec<_>>(), [[0, 0, 0x1b, 0x58]]);
    // Group 2 has a portal, but none of these targets.
    let groups: Vec<_> = of(tag::PG_TAG).collect();
    assert_eq!(groups, [&[0, 0, 0, 1][..], &[], &[0, 0, 0, 1], &[]]);
    assert!(!client.is_settled());
    good(&mut client);
    assert_eq!(settle(&mut client), [function::SCN_REG]);
    assert_eq!(client.registered(), 2);
}

#[test]
fn changes_are_registered_by_themselves() {
    let mut client = client(&[A, B]);
    settle(&mut client);
    client.set(wanted(&[A, C]));
    let (function, replaces, attributes) = next(&mut client, Instant::now()).unwrap();
    assert_eq!((function, replaces), (function::DEV_ATTR_REG, false));
    assert_eq!(texts(&attributes, tag::ISCSI_NAME), [A, C]);
    good(&mut client);
    let (function, _, attributes) = next(&mut client, Instant::now()).unwrap();
    assert_eq!(function, function::DEV_DEREG);
    assert_eq!(texts(&attributes, tag::ISCSI_NAME), [A, B]);
    good(&mut client);
    assert_eq!(settle(&mut client), []);
    // Without the node in whose name the entity was registered, it is registered anew.
    client.set(wanted(&[C]));
    assert_eq!(
        settle(&mut client),
        [function::DEV_DEREG, function::DEV_ATTR_REG, function::SCN_REG]
    );
    client.set(Registration::default());
    assert_eq!(settle(&mut client), [function::DEV_DEREG]);
    assert_eq!(client.registered(), 0);
}

#[test]
fn a_registration_is_refreshed_in_its_period_and_made_anew_when_it_is_forgotten() {
    let mut client = client(&[A]);
    next(&mut client, Instant::now()).unwrap();
    let begin = Instant::now();
    answer(&mut client, 0, &Attributes::default().number(tag::REGISTRATION_PERIOD, 600)).unwrap();
    settle(&mut client);
    let due = client.wake_at().unwrap();
    let half = Duration::from_secs(300);
    assert!(due >= begin + half && due <= Instant::now() + half);
    assert_eq!(next(&mut client, begin), None);
    let (function, _, attributes) = next(&mut client, due).unwrap();
    assert_eq!(function, function::DEV_ATTR_QRY);
    assert_eq!(texts(&attributes, tag::ENTITY_IDENTIFIER), ["host"]);
    good(&mut client);
    assert!(client.wake_at().unwrap() > due - Duration::from_secs(1));
    let due = client.wake_at().unwrap();
    next(&mut client, due).unwrap();
    answer(&mut client, SOURCE_UNKNOWN, &Attributes::default()).unwrap();
    assert_eq!(settle(&mut client), [function::DEV_ATTR_REG, function::SCN_REG]);
    // After a new connection it is asked at once.
    client.connected(client.scn);
    assert_eq!(next(&mut client, Instant::now()).unwrap().0, function::DEV_ATTR_QRY);
}

#[test]
fn a_refusal_ends_the_connection_and_the_next_one_begins_anew() {
    let mut client = client(&[A]);
    next(&mut client, Instant::now()).unwrap();
    let refused = answer(&mut client, 3, &Attributes::default());
    assert_eq!(refused, Err(ClientError::Refused { request: "DevAttrReg", status: 3 }));
    client.connected(client.scn);
    // Notifications may be refused.
    assert_eq!(next(&mut client, Instant::now()).unwrap().0, function::DEV_ATTR_REG);
    good(&mut client);
    assert_eq!(next(&mut client, Instant::now()).unwrap().0, function::SCN_REG);
    answer(&mut client, 17, &Attributes::default()).unwrap();
    assert!(client.is_settled());
    assert_eq!(answer(&mut client, 0, &Attributes::default()), Err(ClientError::Unexpected));
}

#[test]
fn notifications_are_answered_and_our_own_removal_is_undone() {
    let mut client = client(&[A, B]);
    settle(&mut client);
    let ask = |client: &mut Client, function, attributes: &Attributes| {
        let mut reader = Reader::default();
        reader.push(&request(function, 99, false, attributes));
        let message = reader.next().unwrap().unwrap();
        let (answer, notices) = client.receive(&message, Instant::now()).unwrap();
        reader.push(&answer.unwrap());
        let answer = reader.next().unwrap().unwrap();
        assert_eq!((answer.is_response, answer.transaction, answer.status()), (true, 99, 0));
        (answer, notices)
    };
    let scn = |node: &str, bitmap| {
        Attributes::default()
            .text(tag::ISCSI_NAME, A)
            .with(tag::TIMESTAMP, &[0; 8])
            .number(tag::ISCSI_SCN_BITMAP, bitmap)
            .text(tag::ISCSI_NAME, node)
    };
    let (answer, notices) = ask(&mut client, function::SCN, &scn("iqn.other", 8));
    assert_eq!(notices, [Notice::Changed { node: "iqn.other".to_owned(), bitmap: 8 }]);
    let attributes = answer.attributes().unwrap();
    assert_eq!(attributes.len(), 1);
    assert!(attributes[0].1.starts_with(A.as_bytes()));
    assert!(client.is_settled());
    ask(&mut client, function::SCN, &scn(B, REMOVED));
    assert_eq!(settle(&mut client), [function::DEV_ATTR_REG, function::SCN_REG]);
    let inquiry = Attributes::default().with(tag::TIMESTAMP, &[7; 8]).text(1, "host");
    let (answer, _) = ask(&mut client, function::ESI, &inquiry);
    assert_eq!(answer.attributes().unwrap()[0].1, [7; 8]);
}
