//! Who may use a target, and what each initiator sees of it.

use disk_image::Operation;
use iscsi_proto::text;
use target_core::{AccessEntry, AuthPolicy, InitiatorPattern, LunMapping, SessionEnd};

use crate::initiator::{Data, Initiator};
use crate::task_management::{ABORT_TASK_SET, hanging_write};
use crate::wire::{Login, Refusal};
use crate::world::{
    BLOCK, OTHER_TARGET, TARGET, TEST_UNIT_READY, World, durable_write, eventually, keys, memory,
    read, write,
};

const ANN: &str = "iqn.2026-01.org.example:ann";
const BOB: &str = "iqn.2026-01.org.example:bob";
const FORBIDDEN: Refusal = Refusal::Status(0x0202);

const LUNS_CHANGED: (u8, u8, u8) = (6, 0x3f, 0x0e);
const POWER_ON: (u8, u8, u8) = (6, 0x29, 0);
const NO_UNIT: (u8, u8, u8) = (5, 0x25, 0);
const WRITE_PROTECTED: (u8, u8, u8) = (7, 0x27, 0);

/// `(seen, lun, read_only)`.
type Luns<'a> = &'a [(u16, u16, bool)];

fn entry(initiator: &str, address: &str, luns: Luns<'_>) -> AccessEntry {
    let mapping =
        |(seen, lun, read_only): &_| LunMapping { seen: *seen, lun: *lun, read_only: *read_only };
    AccessEntry {
        initiator: (!initiator.is_empty()).then(|| InitiatorPattern::new(initiator).unwrap()),
        address: (!address.is_empty()).then(|| address.parse().unwrap()),
        luns: (!luns.is_empty()).then(|| luns.iter().map(mapping).collect()),
        read_only: false,
    }
}

fn allow(world: &World, target: &str, entries: Vec<AccessEntry>) {
    world.block_on(world.node.set_access(target, Some(entries))).unwrap();
}

fn login_of(world: &World, name: &str) -> Login {
    Login { initiator: name.to_owned(), ..world.login() }
}

/// Logs in and hears of POWER ON of the given LUNs.
fn session(world: &World, name: &str, luns: &[u16]) -> Initiator {
    let mut initiator = world.log_in(&login_of(world, name));
    for lun in luns {
        assert_eq!(ready(&mut initiator, *lun), POWER_ON);
    }
    initiator
}

fn ready(initiator: &mut Initiator, lun: u16) -> (u8, u8, u8) {
    initiator.execute(lun, &TEST_UNIT_READY, Data::None).sense()
}

fn report_luns(initiator: &mut Initiator) -> Vec<u16> {
    let cdb = [0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
    let data = initiator.execute(0, &cdb, Data::In(256)).good();
    data[8..].chunks(8).map(|lun| u16::from_be_bytes([lun[0], lun[1]])).collect()
}

/// WP of MODE SENSE(6).
fn is_protected(initiator: &mut Initiator, lun: u16) -> bool {
    let data = initiator.execute(lun, &[0x1a, 0, 0x3f, 0, 192, 0], Data::In(192)).good();
    data[2] & 0x80 != 0
}

/// LUNs 0, 1 and 2; each says in its first block which it is.
fn three_units() -> World {
    let world = World::new();
    for lun in 0..3 {
        world.unit(lun, memory(1 << 20));
    }
    let mut initiator = world.initiator(&[0, 1, 2]);
    for lun in 0..3 {
        let data = [u8::try_from(lun).unwrap(); BLOCK];
        initiator.execute(lun, &write(0, 1), Data::Out(&data)).good();
    }
    assert_eq!(initiator.log_out(), 0);
    world.events.wait_for_end(initiator.tsih);
    world
}

fn which(initiator: &mut Initiator, lun: u16) -> u8 {
    initiator.execute(lun, &read(0, 1), Data::In(BLOCK)).good()[0]
}

#[test]
fn only_initiators_that_an_entry_names_get_in() {
    let (world, _) = World::with_memory();
    allow(&world, TARGET, vec![entry(ANN, "", &[]), entry("*:web-*", "127.0.0.0/8", &[])]);
    for good in [ANN, "iqn.2026-01.org.example:ANN", "iqn.2001-04.com.example:web-1"] {
        session(&world, good, &[0]);
    }
    for bad in [BOB, "iqn.2001-04.com.example:ann", "iqn.2026-01.org.example:annex"] {
        assert_eq!(world.refusal(&login_of(&world, bad)), FORBIDDEN, "{bad}");
    }
    // Name and address stand in one entry: both count.
    allow(&world, TARGET, vec![entry(ANN, "192.0.2.0/24", &[]), entry("", "127.0.0.2/32", &[])]);
    assert_eq!(world.refusal(&login_of(&world, ANN)), FORBIDDEN);
    allow(&world, TARGET, vec![entry("", "127.0.0.1/32", &[])]);
    session(&world, BOB, &[0]);
    // What is not there is still told from what is forbidden.
    let unknown = Login { target: Some(OTHER_TARGET.to_owned()), ..login_of(&world, BOB) };
    assert_eq!(world.refusal(&unknown), Refusal::Status(0x0203));
    // An empty list lets nobody in; without one, everybody is.
    allow(&world, TARGET, Vec::new());
    assert_eq!(world.refusal(&login_of(&world, BOB)), FORBIDDEN);
    world.block_on(world.node.set_access(TARGET, None)).unwrap();
    session(&world, ANN, &[0]);
}

#[test]
fn send_targets_names_what_the_initiator_may_use() {
    let world = World::new();
    world.target(OTHER_TARGET, AuthPolicy::None);
    allow(&world, TARGET, vec![entry(ANN, "", &[])]);
    allow(&world, OTHER_TARGET, vec![entry("", "192.0.2.0/24", &[]), entry(BOB, "", &[])]);
    let seen_by = |name: &str, asked: &str| -> Vec<String> {
        let login = Login { target: None, keys: Vec::new(), ..login_of(&world, name) };
        let answer = world.log_in(&login).text(format!("SendTargets={asked}\0").as_bytes());
        let pairs = text::parse(&answer).unwrap();
        let names = pairs.iter().filter(|(key, _)| *key == "TargetName");
        names.map(|(_, value)| (*value).to_owned()).collect()
    };
    assert_eq!(seen_by(ANN, "All"), [TARGET]);
    assert_eq!(seen_by(BOB, "All"), [OTHER_TARGET]);
    assert_eq!(seen_by(BOB, TARGET), Vec::<String>::new());
    assert_eq!(seen_by("iqn.2026-01.org.example:eve", "All"), Vec::<String>::new());
    world.block_on(world.node.set_access(TARGET, None)).unwrap();
    assert_eq!(seen_by(BOB, "All"), [TARGET, OTHER_TARGET]);
}

#[test]
fn an_initiator_sees_luns_under_its_own_numbers() {
    let world = three_units();
    let luns = [(0, 2, false), (7, 0, false), (9, 77, false)];
    allow(&world, TARGET, vec![entry(ANN, "", &luns), entry("*", "", &[])]);
    let mut ann = session(&world, ANN, &[0, 7]);
    let mut bob = session(&world, BOB, &[0, 1, 2]);
    assert_eq!(report_luns(&mut ann), [0, 7]);
    assert_eq!((which(&mut ann, 0), which(&mut ann, 7)), (2, 0));
    assert_eq!(ready(&mut ann, 1), NO_UNIT);
    assert_eq!(ready(&mut ann, 2), NO_UNIT);
    assert_eq!(report_luns(&mut bob), [0, 1, 2]);
    assert_eq!((which(&mut bob, 0), which(&mut bob, 2)), (0, 2));
    // Task management goes by the same numbers; what it does concerns the unit, not the number.
    let function = ann.start_function(ABORT_TASK_SET, 2 << 48, None);
    assert_eq!(ann.finish_function(function), 2, "LUN does not exist");
    let reset = ann.start_function(5, 7 << 48, None);
    assert_eq!(ann.finish_function(reset), 0);
    assert_ne!(ready(&mut bob, 0), (0, 0, 0), "LUN 0 was reset as LUN 7");
    assert_eq!(ready(&mut bob, 1), (0, 0, 0));
    assert_eq!(ready(&mut bob, 2), (0, 0, 0));
    // A LUN that appears in the target appears under its number too; the rest is told.
    world.unit(77, memory(1 << 20));
    ann.nop();
    assert_eq!(ready(&mut ann, 0), LUNS_CHANGED);
    assert_eq!(report_luns(&mut ann), [0, 7, 9]);
}

#[test]
fn a_change_of_the_target_that_an_initiator_does_not_see_is_not_told_to_it() {
    let world = three_units();
    allow(&world, TARGET, vec![entry(ANN, "", &[(0, 1, false)]), entry("*", "", &[])]);
    let mut ann = session(&world, ANN, &[0]);
    let mut bob = session(&world, BOB, &[0, 1, 2]);
    world.block_on(world.node.remove_unit(TARGET, 2)).unwrap();
    world.unit(5, memory(1 << 20));
    ann.nop();
    bob.nop();
    assert_eq!(ready(&mut ann, 0), (0, 0, 0));
    assert_eq!(ready(&mut bob, 0), LUNS_CHANGED);
    assert_eq!(ready(&mut bob, 5), POWER_ON);
}

#[test]
fn read_only_concerns_the_initiator_it_is_meant_for() {
    let world = three_units();
    allow(
        &world,
        TARGET,
        vec![entry(ANN, "", &[(0, 0, true), (1, 1, false)]), entry("*", "", &[])],
    );
    let mut ann = session(&world, ANN, &[0, 1]);
    let mut bob = session(&world, BOB, &[0]);
    let data = [0xaa; BLOCK];
    for immediate in ["Yes", "No"] {
        let keys = keys(&[("ImmediateData", immediate), ("InitialR2T", "Yes")]);
        let mut ann = world.log_in(&Login { keys, ..login_of(&world, ANN) });
        assert_eq!(ready(&mut ann, 0), POWER_ON);
        ann.execute(0, &write(0, 1), Data::Out(&data)).check(WRITE_PROTECTED);
    }
    let write_same = [0x93, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0];
    ann.execute(0, &write_same, Data::Out(&data)).check(WRITE_PROTECTED);
    let unmap = [0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0];
    ann.execute(0, &unmap, Data::Out(&[0; 24])).check(WRITE_PROTECTED);
    assert_eq!(which(&mut ann, 0), 0);
    assert!(is_protected(&mut ann, 0) && !is_protected(&mut ann, 1));
    ann.execute(1, &write(0, 1), Data::Out(&data)).good();
    assert!(!is_protected(&mut bob, 0));
    bob.execute(0, &write(0, 1), Data::Out(&data)).good();
    assert_eq!(which(&mut ann, 0), 0xaa, "what others write is seen");
}

#[test]
fn a_revoked_session_is_closed_and_can_write_no_more_and_the_others_notice_nothing() {
    let (world, image) = World::with_memory();
    allow(&world, TARGET, vec![entry(ANN, "", &[]), entry(BOB, "", &[])]);
    let mut ann = session(&world, ANN, &[0]);
    let mut bob = session(&world, BOB, &[0]);
    let gate = image.gate(Operation::Write);
    hanging_write(&mut ann, &gate, 1);
    let node = world.node.clone();
    let revoked = world.spawn(async move {
        node.set_access(TARGET, Some(vec![entry(BOB, "", &[])])).await.unwrap();
    });
    // It is in force before it is done.
    eventually(|| Initiator::log_in(world.address, &login_of(&world, ANN)).is_err());
    assert_eq!(world.refusal(&login_of(&world, ANN)), FORBIDDEN);
    assert!(!revoked.is_finished(), "done while the write can still write");
    assert_eq!(which(&mut bob, 0), 0);
    gate.open();
    world.wait(revoked);
    ann.read_to_end();
    assert_eq!(world.events.wait_for_end(ann.tsih), SessionEnd::AccessRevoked);
    assert_eq!(ready(&mut bob, 0), (0, 0, 0));
    let tsihs: Vec<_> = world.node.sessions().iter().map(|session| session.tsih).collect();
    assert_eq!(tsihs, [bob.tsih]);
}

#[test]
fn a_view_that_changes_is_told_and_commands_for_what_is_gone_end_first() {
    let (world, image) = World::with_memory();
    world.unit(1, memory(1 << 20));
    let mut ann = session(&world, ANN, &[0, 1]);
    let mut bob = session(&world, BOB, &[0, 1]);
    let gate = image.gate(Operation::Write);
    let tag = hanging_write(&mut ann, &gate, 1);
    let node = world.node.clone();
    let hidden = world.spawn(async move {
        let entries = vec![entry(ANN, "", &[(1, 1, false)]), entry("*", "", &[])];
        node.set_access(TARGET, Some(entries)).await.unwrap();
    });
    // Heard of as soon as the session's connection has dealt with it.
    eventually(|| ready(&mut ann, 1) == LUNS_CHANGED);
    assert_eq!(report_luns(&mut ann), [1]);
    assert!(!hidden.is_finished() && !ann.is_answered(tag));
    gate.open();
    world.wait(hidden);
    ann.finish(tag).check(NO_UNIT);
    assert_eq!(ready(&mut ann, 0), NO_UNIT);
    bob.nop();
    assert_eq!((ready(&mut bob, 0), ready(&mut bob, 1)), ((0, 0, 0), (0, 0, 0)));
}

#[test]
fn writes_that_wait_for_their_data_stop_when_the_lun_becomes_read_only() {
    let world = three_units();
    let login = Login {
        keys: keys(&[("ImmediateData", "No"), ("InitialR2T", "Yes")]),
        ..login_of(&world, ANN)
    };
    let mut ann = world.log_in(&login);
    assert_eq!(ready(&mut ann, 0), POWER_ON);
    ann.hold_r2t = true;
    let data = [0xaa; BLOCK];
    let whole = [0x93, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0];
    let tags = [
        ann.start(0, &write(0, 1), Data::Out(&data)),
        ann.start(0, &durable_write(0, 1), Data::Out(&data)),
        // Its data is needed as a whole.
        ann.start(0, &whole, Data::Out(&data)),
    ];
    while ann.held_r2t.len() < tags.len() {
        ann.nop();
    }
    allow(&world, TARGET, vec![entry(ANN, "", &[(0, 0, true)])]);
    ann.hold_r2t = false;
    while let Some(r2t) = ann.held_r2t.pop_front() {
        ann.answer_r2t(&r2t);
    }
    for tag in tags {
        ann.finish(tag).check(WRITE_PROTECTED);
    }
    // MODE PARAMETERS CHANGED: WP is one of them.
    assert_eq!(ready(&mut ann, 0), (6, 0x2a, 1));
    assert_eq!(ready(&mut ann, 0), LUNS_CHANGED);
    assert_eq!(which(&mut ann, 0), 0);
}

#[test]
fn a_reservation_ends_with_the_sight_of_its_unit() {
    let world = three_units();
    let mut ann = session(&world, ANN, &[0, 1]);
    let mut bob = session(&world, BOB, &[0]);
    ann.execute(0, &[0x16, 0, 0, 0, 0, 0], Data::None).good();
    assert_eq!(bob.execute(0, &read(0, 1), Data::In(BLOCK)).status, 0x18);
    allow(&world, TARGET, vec![entry(ANN, "", &[(1, 1, false)]), entry(BOB, "", &[])]);
    ann.nop();
    assert_eq!(which(&mut bob, 0), 0);
}

#[test]
fn faults_are_reported_under_the_targets_lun() {
    let world = World::new();
    let image = memory(1 << 20);
    world.unit(4, image.clone());
    allow(&world, TARGET, vec![entry(ANN, "", &[(0, 4, false)])]);
    let mut ann = session(&world, ANN, &[0]);
    image.inject(disk_image::Fault::errno(Operation::Read, 5));
    ann.execute(0, &read(0, 1), Data::In(BLOCK)).check((3, 0x11, 0));
    assert_eq!(world.events.wait_for_fault().lun, 4);
}
