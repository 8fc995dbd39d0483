//! Asymmetric logical unit access over two portal groups.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use scsi::{AccessMethods, AccessState, Device};
use target_core::{
    AccessStateChange, AccessStateError, AccessStateStore, AuthPolicy, LogicalUnit, PortalGroup,
    PortalGroupStatus, StoredAccessState, UnitConfig,
};
use tokio::net::TcpListener;

use crate::initiator::{Data, Initiator};
use crate::world::{BLOCK, OTHER_TARGET, TARGET, TEST_UNIT_READY, World, memory, read, write};

const CHANGED: (u8, u8, u8) = (6, 0x2a, 0x06);
const STANDBY: (u8, u8, u8) = (2, 0x04, 0x0b);
const UNAVAILABLE: (u8, u8, u8) = (2, 0x04, 0x0c);
const TRANSITION: (u8, u8, u8) = (2, 0x04, 0x0a);
const SECOND: u16 = 2;

/// Takes what it is given, unless it shall not.
#[derive(Debug, Default)]
struct Store {
    saved: Mutex<Vec<AccessStateChange>>,
    broken: Mutex<bool>,
}

impl AccessStateStore for Store {
    fn save(&self, changes: &[AccessStateChange]) -> Result<(), String> {
        if *self.broken.lock().unwrap() {
            return Err("no space".to_owned());
        }
        self.saved.lock().unwrap().extend_from_slice(changes);
        Ok(())
    }
}

struct TwoGroups {
    world: World,
    store: Arc<Store>,
    second: SocketAddr,
}

/// Two targets with one unit each, reached through two groups; initiators may change states.
fn two_groups() -> TwoGroups {
    let world = World::new();
    let listener = world.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let second = listener.local_addr().unwrap();
    world.spawn(target_core::serve(world.node.clone(), SECOND, listener));
    let preferred = PortalGroup { preferred: true, ..PortalGroup::new(1, vec![world.address]) };
    world.node.set_portal_groups(vec![preferred, PortalGroup::new(SECOND, vec![second])]);
    let store = Arc::new(Store::default());
    world.node.keep_access_states(store.clone(), []);
    world.target(OTHER_TARGET, AuthPolicy::None);
    for (target, name) in [(TARGET, "one"), (OTHER_TARGET, "two")] {
        let image = memory(1 << 20);
        let mut device = Device::new(name, *b"\x60\0\0\x01data-path-ts", 512, 2048);
        device.access_methods = AccessMethods { implicit: true, explicit: true };
        let unit = LogicalUnit::new(UnitConfig::new(name, device, Ok(image)));
        world.node.add_unit(target, 0, unit).unwrap();
    }
    TwoGroups { world, store, second }
}

impl TwoGroups {
    /// A session that has heard of POWER ON.
    fn session(&self, address: SocketAddr, target: &str) -> Initiator {
        let mut login = self.world.login();
        login.target = Some(target.to_owned());
        let mut initiator = Initiator::log_in(address, &login).unwrap();
        test_unit_ready(&mut initiator, (6, 0x29, 0));
        initiator
    }
}

#[track_caller]
fn test_unit_ready(initiator: &mut Initiator, expected: (u8, u8, u8)) {
    // What was sent to a session stands before what comes from its initiator.
    initiator.nop();
    assert_eq!(initiator.execute(0, &TEST_UNIT_READY, Data::None).sense(), expected);
}

/// REPORT TARGET PORT GROUPS: tag, PREF and state, status code of each.
fn groups(initiator: &mut Initiator) -> Vec<(u16, u8, u8)> {
    let cdb = [0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
    let data = initiator.execute(0, &cdb, Data::In(256)).good();
    let group = |it: &[u8]| (u16::from_be_bytes([it[2], it[3]]), it[0], it[5]);
    data[4..].chunks(12).map(group).collect()
}

fn set(initiator: &mut Initiator, states: &[(u8, u8)]) -> (u8, u8, u8) {
    let mut list = vec![0; 4];
    for (tag, state) in states {
        list.extend([*state, 0, 0, *tag]);
    }
    let cdb = [0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, u8::try_from(list.len()).unwrap(), 0, 0];
    initiator.execute(0, &cdb, Data::Out(&list)).sense()
}

#[test]
fn an_operator_changes_a_group_for_all_targets_and_every_session_is_told() {
    let it = two_groups();
    let node = &it.world.node;
    let mut sessions = [
        it.session(it.world.address, TARGET),
        it.session(it.second, TARGET),
        it.session(it.second, OTHER_TARGET),
    ];
    assert_eq!(groups(&mut sessions[0]), [(1, 0x80, 0), (2, 0x00, 0)]);
    for (state, sense, code) in [
        (AccessState::Standby, STANDBY, 2),
        (AccessState::Unavailable, UNAVAILABLE, 3),
        (AccessState::Transitioning, TRANSITION, 0xf),
        (AccessState::ActiveNonOptimized, (0, 0, 0), 1),
    ] {
        node.set_access_state(SECOND, None, Some(state)).unwrap();
        for (number, session) in sessions.iter_mut().enumerate() {
            test_unit_ready(session, CHANGED);
            let expected = if number == 0 { (0, 0, 0) } else { sense };
            test_unit_ready(session, expected);
            assert_eq!(groups(session), [(1, 0x80, 0), (2, code, 2)], "{state:?}");
            let data = [7; BLOCK];
            let written = session.execute(0, &write(1, 1), Data::Out(&data)).sense();
            let read = session.execute(0, &read(1, 1), Data::In(BLOCK)).sense();
            assert_eq!((written, read), (expected, expected), "{state:?}");
        }
        // Who comes now is in it from the start.
        let mut late = it.session_in(it.second, code);
        assert_eq!(groups(&mut late)[1].1, code);
        // The same again is nothing new.
        node.set_access_state(SECOND, None, Some(state)).unwrap();
        test_unit_ready(&mut sessions[0], (0, 0, 0));
    }
    node.set_access_state(SECOND, None, None).unwrap();
    test_unit_ready(&mut sessions[1], CHANGED);
    assert_eq!(groups(&mut sessions[1]), [(1, 0x80, 0), (2, 0, 0)]);
    let missing = node.set_access_state(9, None, Some(AccessState::Standby));
    assert_eq!(missing, Err(AccessStateError::NoSuchGroup(9)));
    let missing = node.set_access_state(1, Some("iqn.no"), Some(AccessState::Standby));
    assert_eq!(missing, Err(AccessStateError::NoSuchTarget("iqn.no".to_owned())));
}

impl TwoGroups {
    /// A session in a group of any state.
    fn session_in(&self, address: SocketAddr, state: u8) -> Initiator {
        let mut initiator = Initiator::log_in(address, &self.world.login()).unwrap();
        test_unit_ready(&mut initiator, (6, 0x29, 0));
        let expected = match state {
            2 => STANDBY,
            3 => UNAVAILABLE,
            0xf => TRANSITION,
            _ => (0, 0, 0),
        };
        test_unit_ready(&mut initiator, expected);
        initiator
    }
}

#[test]
fn an_initiator_changes_the_groups_of_its_target_and_the_others_are_told() {
    let it = two_groups();
    let mut by = it.session(it.world.address, TARGET);
    let mut same_target = it.session(it.second, TARGET);
    let mut other_target = it.session(it.second, OTHER_TARGET);
    assert_eq!(set(&mut by, &[(1, 2), (2, 1)]), (0, 0, 0));
    // It is not told, though its own group is in standby now.
    test_unit_ready(&mut by, STANDBY);
    test_unit_ready(&mut same_target, CHANGED);
    test_unit_ready(&mut same_target, (0, 0, 0));
    test_unit_ready(&mut other_target, (0, 0, 0));
    assert_eq!(groups(&mut same_target), [(1, 0x82, 1), (2, 0x01, 1)]);
    assert_eq!(groups(&mut other_target), [(1, 0x80, 0), (2, 0x00, 0)]);
    let put = |group, state| {
        let target = Some(TARGET.to_owned());
        AccessStateChange::Put(StoredAccessState { group, target, state, explicit: true })
    };
    let saved = vec![put(1, AccessState::Standby), put(2, AccessState::ActiveNonOptimized)];
    assert_eq!(*it.store.saved.lock().unwrap(), saved);
    // What is wrong changes nothing; what is so already is not stored again.
    assert_eq!(set(&mut by, &[(1, 0), (7, 1)]), (5, 0x26, 0));
    assert_eq!(set(&mut by, &[(1, 2)]), (0, 0, 0));
    assert_eq!(it.store.saved.lock().unwrap().len(), 2);
    // What cannot be stored is not done.
    *it.store.broken.lock().unwrap() = true;
    assert_eq!(set(&mut by, &[(1, 0)]), (4, 0x67, 0x0a));
    assert_eq!(groups(&mut by)[0], (1, 0x82, 1));
    *it.store.broken.lock().unwrap() = false;
    // The operator has the last word, for all targets.
    it.world.node.set_access_state(1, None, Some(AccessState::ActiveOptimized)).unwrap();
    test_unit_ready(&mut by, CHANGED);
    test_unit_ready(&mut by, (0, 0, 0));
    assert_eq!(groups(&mut by)[0], (1, 0x80, 2));
    let gone = AccessStateChange::Delete { group: 1, target: Some(TARGET.to_owned()) };
    assert!(it.store.saved.lock().unwrap().contains(&gone));
    // If it is still what the operator has seen.
    let node = &it.world.node;
    let seen = node.portal_group_statuses();
    let standby = |seen: &Vec<PortalGroupStatus>| {
        let holds = || node.portal_group_statuses() == *seen;
        node.set_access_state_if(1, None, Some(AccessState::Standby), holds)
    };
    assert_eq!(set(&mut by, &[(1, 1)]), (0, 0, 0));
    let saved = it.store.saved.lock().unwrap().len();
    assert_eq!(standby(&seen), Err(AccessStateError::ChangedMeanwhile));
    assert_eq!(groups(&mut by)[0], (1, 0x81, 1));
    assert_eq!(it.store.saved.lock().unwrap().len(), saved);
    assert_eq!(standby(&node.portal_group_statuses()), Ok(()));
}

#[test]
fn what_was_stored_is_there_from_the_start_and_an_initiator_that_only_reads_changes_nothing() {
    let it = two_groups();
    let stored = StoredAccessState {
        group: SECOND,
        target: Some(TARGET.to_owned()),
        state: AccessState::Standby,
        explicit: true,
    };
    it.world.node.keep_access_states(it.store.clone(), [stored]);
    let mut session = it.session_in(it.second, 2);
    assert_eq!(groups(&mut session), [(1, 0x80, 0), (2, 0x02, 1)]);
    // Its unit can be made active from a port in standby.
    assert_eq!(set(&mut session, &[(2, 0)]), (0, 0, 0));
    test_unit_ready(&mut session, (0, 0, 0));
    let entry = target_core::AccessEntry {
        initiator: None,
        address: Some("127.0.0.0/8".parse().unwrap()),
        luns: None,
        read_only: true,
    };
    it.world.block_on(it.world.node.set_access(TARGET, Some(vec![entry]))).unwrap();
    let mut reader = it.session(it.second, TARGET);
    assert_eq!(set(&mut reader, &[(2, 3)]), (7, 0x27, 0));
    test_unit_ready(&mut reader, (0, 0, 0));
}
