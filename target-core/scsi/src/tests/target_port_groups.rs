//! Asymmetric logical unit access.

use super::*;
use crate::commands::AccessClass;

const REPORT: [u8; 12] = [0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];

/// Two groups.
fn two() -> World {
    let mut world = World::new();
    world.groups.push(TargetPortGroup { preferred: true, ..group(9, AccessState::Standby) });
    world.data_out = u32::MAX;
    world
}

fn set(world: &World, list: &[u8]) -> Plan {
    let [.., high, low] = list.len().to_be_bytes();
    let cdb = [0xa4, 0x0a, 0, 0, 0, 0, 0, 0, high, low, 0, 0];
    let length = u32::try_from(list.len()).unwrap();
    assert_eq!(world.plan(&cdb).0, Plan::NeedData { length });
    plan_with_data(Cdb::new(&cdb), &world.context(), list, &mut Vec::new())
}

#[test]
fn every_command_runs_in_the_states_of_its_class_and_in_no_other() {
    use AccessState::{ActiveNonOptimized, ActiveOptimized, Standby, Transitioning, Unavailable};
    let mut world = two();
    for command in COMMANDS {
        // What SPC-4 §5.11.2 lets through, and what tells of the unit and touches nothing.
        let class = match (command.operation_code, command.service_action) {
            (0x03 | 0x12 | 0xa0, _) | (0xa3, Some(0x0a)) => AccessClass::Always,
            (0xa4, Some(0x0a)) => AccessClass::Unavailable,
            (0x15 | 0x1a | 0x55 | 0x5a | 0x4c | 0x4d | 0x1c | 0x1d | 0x5e | 0x5f, _)
            | (0x25, _)
            | (0x9e, Some(0x10))
            | (0xa3, _) => AccessClass::Standby,
            _ => AccessClass::Active,
        };
        assert_eq!(command.access, class, "{}", command.name);
        for (state, runs, ascq) in [
            (ActiveOptimized, true, 0),
            (ActiveNonOptimized, true, 0),
            (Standby, class >= AccessClass::Standby, 0x0b),
            (Unavailable, class >= AccessClass::Unavailable, 0x0c),
            (Transitioning, class >= AccessClass::Always, 0x0a),
        ] {
            world.access = state;
            let plan = world.plan(&cdb_of(command)).0;
            let refused = Plan::Check(Sense::new(SenseKey::NotReady, AdditionalSense(0x04, ascq)));
            assert_eq!(plan == refused, !runs, "{} in {state:?}: {plan:?}", command.name);
        }
    }
}

#[test]
fn an_attention_goes_before_the_state_and_request_sense_tells_of_both() {
    let mut world = World::new();
    world.access = AccessState::Standby;
    assert_eq!(world.reply(&[0x03, 1, 0, 0, 252, 0])[..4], [0x72, 2, 0x04, 0x0b]);
    world.attention = Some(UnitAttention::AsymmetricAccessStateChanged.sense());
    assert_eq!(world.sense(&[0; 6]).asc, AdditionalSense(0x2a, 0x06));
    assert_eq!(world.reply(&[0x03, 1, 0, 0, 252, 0])[..4], [0x72, 6, 0x2a, 0x06]);
}

#[test]
fn report_target_port_groups_has_both_formats() {
    let mut world = two();
    world.groups[0].status = AccessStatus::Explicit;
    let groups = [
        [0x00, 0x8f, 0, 1, 0, 1, 0, 1, 0, 0, 0, 1],
        // PREF, standby.
        [0x82, 0x8f, 0, 9, 0, 0, 0, 1, 0, 0, 0, 9],
    ]
    .concat();
    assert_eq!(world.reply(&REPORT), [&[0, 0, 0, 24][..], &groups].concat());
    let mut extended = REPORT;
    extended[1] |= 1 << 5;
    let whole = [&[0, 0, 0, 28, 0x10, 0, 0, 0][..], &groups].concat();
    assert_eq!(world.reply(&extended), whole);
    extended[9] = 9;
    extended[8] = 0;
    assert_eq!(world.reply(&extended), whole[..9]);
    extended[1] |= 2 << 5;
    assert_eq!(world.sense(&extended).field, field(1, Some(7)));
}

#[test]
fn set_target_port_groups_is_checked_as_a_whole() {
    let world = two();
    let list = [0, 0, 0, 0, 0x01, 0, 0, 1, 0x00, 0, 0, 9];
    assert_eq!(set(&world, &list), Plan::SetTargetPortGroups);
    let read: Vec<_> = set_target_port_groups_list(&list).collect();
    assert_eq!(read, [(1, AccessState::ActiveNonOptimized), (9, AccessState::ActiveOptimized)]);
    let wrong = |list: &[u8]| {
        let Plan::Check(sense) = set(&world, list) else { panic!("{list:02x?}") };
        (sense.asc, sense.field.map(|field| (field.cdb, field.byte, field.bit)))
    };
    let invalid = AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST;
    // Transitioning, offline, and what is no state.
    for state in [0x0f, 0x0e, 0x04] {
        let list = [0, 0, 0, 0, 0x01, 0, 0, 1, state, 0, 0, 9];
        assert_eq!(wrong(&list), (invalid, Some((false, 8, Some(3)))), "{state}");
    }
    let unknown = [0, 0, 0, 0, 0x01, 0, 0, 2];
    assert_eq!(wrong(&unknown), (invalid, Some((false, 6, None))));
    let twice = [0, 0, 0, 0, 0x01, 0, 0, 1, 0x02, 0, 0, 1];
    assert_eq!(wrong(&twice), (invalid, Some((false, 10, None))));
    for cut in [1, 3, 5, 11] {
        assert_eq!(wrong(&list[..cut]).0, AdditionalSense::PARAMETER_LIST_LENGTH_ERROR, "{cut}");
    }
    assert_eq!(set(&world, &[0; 4]), Plan::Good);
    assert_eq!(world.plan(&[0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).0, Plan::Good);
    let reader = World { read_only: true, ..two() };
    let sense = reader.sense(&[0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0]);
    assert_eq!(sense.key, SenseKey::DataProtect);
}

#[test]
fn the_methods_decide_which_commands_there_are_and_what_inquiry_says() {
    for (implicit, explicit) in [(false, false), (true, false), (false, true), (true, true)] {
        let methods = AccessMethods { implicit, explicit };
        let world = World::with(|device| device.access_methods = methods);
        let tpgs = u8::from(implicit) | u8::from(explicit) << 1;
        assert_eq!(world.reply(&[0x12, 0, 0, 0, 96, 0])[5] >> 4 & 3, tpgs);
        let is_there = |code: u8| {
            let support = world.reply(&[0xa3, 0x0c, 2, code, 0, 0x0a, 0, 0, 1, 0, 0, 0]);
            support[1] & 7 == 3
        };
        assert_eq!((is_there(0xa3), is_there(0xa4)), (implicit || explicit, explicit));
        if tpgs == 0 {
            assert_eq!(world.sense(&REPORT).field, field(1, Some(4)));
        }
        let identification = world.reply(&[0x12, 1, 0x83, 1, 0, 0]);
        let designator = [0x51, 0x95, 0, 4, 0, 0, 0, 1];
        assert_eq!(identification.windows(8).any(|it| it == designator), tpgs != 0);
    }
    // The service action in place of its bits, and the format's as they are.
    let usage = World::new().reply(&[0xa3, 0x0c, 2, 0xa3, 0, 0x0a, 0, 0, 1, 0, 0, 0]);
    assert_eq!(usage[4..6], [0xa3, 0xea]);
}
