//! SANITIZE and FORMAT UNIT.

use proptest::prelude::*;

use super::*;
use crate::operation::{Condition, MediumOperation, Method};

const SANITIZE_FAILED: Condition = Condition::SanitizeFailed { unrestricted: false };

fn claimed(condition: Condition) -> World {
    World { state: MediumState::Claimed(condition, 0x8000), ..World::new() }
}

/// SANITIZE, OVERWRITE with a parameter list of `length` bytes.
fn overwrite(length: u16) -> [u8; 10] {
    let [high, low] = length.to_be_bytes();
    [0x48, 0x01, 0, 0, 0, 0, 0, high, low, 0]
}

fn list(flags: u8, pattern: &[u8]) -> Vec<u8> {
    let mut data = vec![flags, 0];
    data.extend(u16::try_from(pattern.len()).unwrap().to_be_bytes());
    data.extend(pattern);
    data
}

fn of(cdb: &[u8], data: &[u8]) -> Result<MediumOperation, Sense> {
    let mut world = World::new();
    world.data_out = u32::try_from(data.len()).unwrap();
    let plan = plan_with_data(Cdb::new(cdb), &world.context(), data, &mut Vec::new());
    if let Plan::Check(sense) = plan {
        return Err(sense);
    }
    assert_eq!(plan, Plan::MediumOperation);
    Ok(MediumOperation::of(Cdb::new(cdb), data, &device()).unwrap())
}

fn in_list(byte: u16, bit: Option<u8>) -> Option<FieldPointer> {
    Some(FieldPointer { cdb: false, byte, bit })
}

#[test]
fn an_overwrite_says_how_often_what_is_written() {
    let mut world = World::new();
    world.data_out = 516;
    assert_eq!(world.plan(&overwrite(516)).0, Plan::NeedData { length: 516 });
    for length in [0, 1, 4, 517] {
        world.data_out = 600;
        assert_eq!(world.sense(&overwrite(length)).field, field(7, None), "{length}");
    }
    world.data_out = 100;
    assert_eq!(world.sense(&overwrite(516)).field, field(7, None), "less comes than is said");
    let operation = of(&overwrite(6), &list(0x83, &[0xa0, 0x0f])).unwrap();
    let method = Method::Overwrite { pattern: vec![0xa0, 0x0f], passes: 3, invert: true };
    assert_eq!(operation, MediumOperation { method, immediate: false, unrestricted: false });
    let mut cdb = overwrite(5);
    cdb[1] |= 0xa0;
    let operation = of(&cdb, &list(0x1f, &[1])).unwrap();
    assert_eq!((operation.immediate, operation.unrestricted), (true, true));
    for data in [list(0x00, &[1]), list(0x21, &[1]), list(0x01, &[0; 513]), vec![1, 0, 0, 2, 7]] {
        let sense = of(&overwrite(5), &data).unwrap_err();
        let wrong = Sense::illegal(AdditionalSense::INVALID_FIELD_IN_CDB);
        assert_eq!(sense, wrong, "{data:x?}");
    }
}

#[test]
fn the_last_pass_writes_the_pattern_and_every_second_one_before_it_the_opposite() {
    let method =
        |passes, invert| Method::Overwrite { pattern: vec![0xa0, 0x0f, 0x11], passes, invert };
    let first = |passes, invert, pass| method(passes, invert).block(pass, 4);
    assert_eq!(first(3, true, 0), [0xa0, 0x0f, 0x11, 0xa0]);
    assert_eq!(first(3, true, 1), [0x5f, 0xf0, 0xee, 0x5f]);
    assert_eq!(first(3, true, 2), [0xa0, 0x0f, 0x11, 0xa0]);
    assert_eq!(first(2, true, 0), [0x5f, 0xf0, 0xee, 0x5f]);
    assert_eq!(first(2, true, 1), [0xa0, 0x0f, 0x11, 0xa0]);
    assert_eq!(first(2, false, 0), [0xa0, 0x0f, 0x11, 0xa0]);
}

#[test]
fn a_block_erase_has_no_list_and_there_is_no_cryptographic_erase() {
    let world = World::new();
    let mut cdb = [0x48, 0x02, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(world.plan(&cdb).0, Plan::MediumOperation);
    assert_eq!(
        MediumOperation::of(Cdb::new(&cdb), &[], &device()).unwrap().method,
        Method::BlockErase
    );
    cdb[8] = 8;
    assert_eq!(world.sense(&cdb).field, field(8, Some(3)));
    for action in (0..=0x1e).filter(|action| !matches!(action, 1 | 2)) {
        let sense = world.sense(&[0x48, action, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(sense.asc, AdditionalSense::INVALID_FIELD_IN_CDB);
        assert_eq!(sense.field, field(1, Some(4)), "{action:x}");
    }
    // WABEREQ and WACEREQ say the same.
    assert_eq!(world.reply(&[0x12, 1, 0xb1, 0, 255, 0])[7], 0x40);
    // In the usage map stands the service action in its bits, and the others as they are.
    let usage = world.reply(&[0xa3, 0x0c, 2, 0x48, 0, 2, 0, 0, 1, 0, 0, 0]);
    assert_eq!(usage[4..6], [0x48, 0xa2]);
}

#[test]
fn while_an_operation_is_not_over_four_commands_run_and_the_others_hear_how_far_it_is() {
    for (condition, qualifier) in [(Condition::Sanitizing, 0x1b), (Condition::Formatting, 0x04)] {
        let world = claimed(condition);
        let progress = condition.sense(0x8000);
        assert_eq!(
            (progress.key, progress.asc),
            (SenseKey::NotReady, AdditionalSense(4, qualifier))
        );
        assert_eq!(progress.progress, Some(0x8000));
        for command in COMMANDS.iter().filter(|command| command.needs != commands::Needs::Nothing) {
            assert_eq!(world.sense(&cdb_of(command)), progress, "{}", command.name);
        }
        assert_eq!(world.plan(&[0x12, 0, 0, 0, 96, 0]).0, Plan::DataIn);
        assert_eq!(world.plan(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]).0, Plan::DataIn);
        let sense = world.reply(&[0x03, 0, 0, 0, 252, 0]);
        assert_eq!((sense[2], sense[12], sense[13]), (2, 4, qualifier));
        assert_eq!(sense[15..18], [0x80, 0x80, 0x00], "PROGRESS INDICATION");
        // Data that comes for a command that began before is refused too.
        let write = [0x2e, 0, 0, 0, 0, 0, 0, 0, 1, 0];
        let plan = plan_with_data(Cdb::new(&write), &world.context(), &[0; 512], &mut Vec::new());
        assert_eq!(plan, Plan::Check(progress));
    }
}

#[test]
fn after_a_failed_sanitize_only_another_one_helps_or_the_exit_if_it_was_allowed() {
    let exit = [0x48, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut erase = [0x48, 0x02, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(World::new().plan(&exit).0, Plan::Good, "there is nothing to exit from");
    let failed = Sense::new(SenseKey::MediumError, AdditionalSense::SANITIZE_COMMAND_FAILED);
    let mut world = claimed(SANITIZE_FAILED);
    for cdb in [&[0; 6][..], &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], &[0x04, 0, 0, 0, 0, 0]] {
        assert_eq!(world.sense(cdb), failed);
    }
    assert_eq!(world.sense(&exit).field, field(1, Some(4)));
    assert_eq!(world.plan(&erase).0, Plan::MediumOperation);
    // The restriction cannot be got rid of with another operation.
    erase[1] |= 0x20;
    assert_eq!(world.sense(&erase).field, field(1, Some(5)));
    world = claimed(Condition::SanitizeFailed { unrestricted: true });
    assert_eq!(world.sense(&[0; 6]), failed);
    assert_eq!(world.plan(&exit).0, Plan::ExitFailureMode);
    assert_eq!(world.plan(&erase).0, Plan::MediumOperation);
}

#[test]
fn after_a_failed_format_the_medium_is_corrupt_until_it_is_formatted_or_sanitized() {
    let world = claimed(Condition::FormatFailed);
    let corrupt = Sense::new(SenseKey::MediumError, AdditionalSense::MEDIUM_FORMAT_CORRUPTED);
    assert_eq!(world.sense(&[0; 6]), corrupt);
    assert_eq!(world.sense(&[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0]), corrupt);
    assert_eq!(world.plan(&[0x1a, 0, 0x3f, 0, 255, 0]).0, Plan::DataIn);
    assert_eq!(world.plan(&[0x04, 0, 0, 0, 0, 0]).0, Plan::MediumOperation);
    assert_eq!(world.plan(&[0x48, 2, 0, 0, 0, 0, 0, 0, 0, 0]).0, Plan::MediumOperation);
}

#[test]
fn a_format_without_a_list_makes_zeroes() {
    let mut world = World::new();
    assert_eq!(world.plan(&[0x04, 0, 0, 0, 0, 0]).0, Plan::MediumOperation);
    for (byte, bits, at) in [
        (1, 0x40, field(1, Some(7))),
        (1, 0x80, field(1, Some(7))),
        (1, 0x20, field(1, Some(4))),
        (1, 0x08, field(1, Some(4))),
        (1, 0x06, field(1, Some(4))),
        (4, 0x03, field(4, Some(1))),
        (3, 0x01, field(3, Some(0))),
    ] {
        let mut cdb = [0x04, 0, 0, 0, 0, 0];
        cdb[byte] = bits;
        assert_eq!(world.sense(&cdb).field, at, "{cdb:x?}");
    }
    for length in [0, 3, 525] {
        world.data_out = length;
        let sense = world.sense(&[0x04, 0x10, 0, 0, 0, 0]);
        assert_eq!(sense.asc, AdditionalSense::PARAMETER_LIST_LENGTH_ERROR);
    }
    world.data_out = 4;
    assert_eq!(world.plan(&[0x04, 0x10, 0, 0, 0, 0]).0, Plan::NeedData { length: 4 });
    assert_eq!(world.sense(&[0x04, 0x17, 0, 0, 0, 0]).field, field(1, Some(2)));
}

#[test]
fn the_lists_of_a_format_are_read_in_both_lengths() {
    const SHORT: [u8; 6] = [0x04, 0x10, 0, 0, 0, 0];
    const LONG: [u8; 6] = [0x04, 0x30, 0, 0, 0, 0];
    let format = |pattern: Option<Vec<u8>>, immediate| MediumOperation {
        method: Method::Format { pattern },
        immediate,
        unrestricted: false,
    };
    assert_eq!(of(&SHORT, &[0, 0, 0, 0]), Ok(format(None, false)));
    assert_eq!(of(&SHORT, &[0, 0x02, 0, 0]), Ok(format(None, true)));
    // DPRY, DCRT and STPF count only with FOV.
    assert_eq!(of(&SHORT, &[0, 0xf2, 0, 0]), Ok(format(None, true)));
    assert_eq!(of(&LONG, &[0, 0x82, 0, 0, 0, 0, 0, 0]), Ok(format(None, true)));
    let pattern = [0, 0x8a, 0, 0, 0x20, 1, 0, 2, 0xde, 0xad];
    assert_eq!(of(&SHORT, &pattern), Ok(format(Some(vec![0xde, 0xad]), true)));
    let long = [&[0, 0x88, 0, 0, 0, 0, 0, 0][..], &[0, 1, 0, 1, 0xff]].concat();
    assert_eq!(of(&LONG, &long), Ok(format(Some(vec![0xff]), false)));
    assert_eq!(of(&SHORT, &[0, 0x88, 0, 0, 0, 0, 0, 0]), Ok(format(None, false)));
    for (cdb, data, at) in [
        (SHORT, vec![1, 0, 0, 0], in_list(0, Some(2))),
        (SHORT, vec![0, 0x04, 0, 0], in_list(1, Some(2))),
        (SHORT, vec![0, 0x01, 0, 0], in_list(1, Some(0))),
        (SHORT, vec![0, 0x20, 0, 0], in_list(1, Some(7))),
        (SHORT, vec![0, 0x80, 0, 8], in_list(2, None)),
        (LONG, vec![0, 0x80, 0, 0x10, 0, 0, 0, 0], in_list(3, None)),
        (LONG, vec![0, 0x80, 0, 0, 0, 0, 1, 0], in_list(4, None)),
        (SHORT, vec![0, 0x88, 0, 0, 0x80, 1, 0, 1, 7], in_list(4, Some(7))),
        (SHORT, vec![0, 0x88, 0, 0, 0, 2, 0, 1, 7], in_list(5, None)),
        (SHORT, vec![0, 0x88, 0, 0, 0, 1, 0, 0], in_list(6, None)),
        (SHORT, vec![0, 0x88, 0, 0, 0, 1, 2, 1], in_list(6, None)),
        (SHORT, vec![0, 0x88, 0, 0, 0, 0, 0, 1, 7], in_list(6, None)),
    ] {
        let sense = of(&cdb, &data).unwrap_err();
        assert_eq!(
            (sense.asc, sense.field),
            (AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST, at)
        );
    }
    for (cdb, data) in [
        (LONG, vec![0, 0, 0, 0]),
        (SHORT, vec![0, 0x88, 0, 0, 0]),
        (SHORT, vec![0, 0x88, 0, 0, 0, 1, 0, 4, 1, 2, 3]),
    ] {
        let sense = of(&cdb, &data).unwrap_err();
        assert_eq!(sense.asc, AdditionalSense::PARAMETER_LIST_LENGTH_ERROR, "{data:x?}");
    }
}

#[test]
fn a_unit_that_must_not_be_written_is_not_sanitized_and_not_formatted() {
    let world = World::with(|device| device.read_only = true);
    for cdb in [&[0x48, 2, 0, 0, 0, 0, 0, 0, 0, 0][..], &[0x04, 0, 0, 0, 0, 0]] {
        assert_eq!(world.sense(cdb).asc, AdditionalSense::WRITE_PROTECTED);
    }
}

fn methods() -> impl Strategy<Value = Method> {
    let pattern = || prop::collection::vec(any::<u8>(), 1..600);
    prop_oneof![
        (pattern(), 1..=31u8, any::<bool>())
            .prop_map(|(pattern, passes, invert)| Method::Overwrite { pattern, passes, invert }),
        Just(Method::BlockErase),
        prop::option::of(pattern()).prop_map(|pattern| Method::Format { pattern }),
    ]
}

proptest! {
    #[test]
    fn an_operation_is_the_same_after_a_restart(method in methods(), unrestricted in any::<bool>()) {
        let operation = MediumOperation { method, immediate: false, unrestricted };
        prop_assert_eq!(MediumOperation::from_bytes(&operation.to_bytes()), Some(operation.clone()));
        for condition in [operation.during(), operation.otherwise()] {
            prop_assert_eq!(Condition::from_bytes(&condition.to_bytes()), condition);
        }
    }

    #[test]
    fn no_bytes_break_what_reads_them(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = MediumOperation::from_bytes(&bytes);
        let _ = Condition::from_bytes(&bytes);
    }
}

#[test]
fn bytes_that_nobody_wrote_let_nobody_in() {
    assert_eq!(Condition::from_bytes(&[]), SANITIZE_FAILED);
    assert_eq!(Condition::from_bytes(&[99]), SANITIZE_FAILED);
    assert_eq!(MediumOperation::from_bytes(&[1, 0, 0, 0, 7]), None);
}
