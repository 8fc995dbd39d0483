//! What APTPL keeps.

use super::*;

fn kept(kind: Option<u8>) -> Reservations {
    let mut state = Reservations::new();
    for letter in ['a', 'b', 'c'] {
        fine(send(&mut state, &nexus(letter), REGISTER, 0, &basic(0, key(letter), APTPL)));
    }
    if let Some(kind) = kind {
        quiet(out(&mut state, &nexus('b'), RESERVE, kind, (0xb, 0)));
    }
    state
}

#[test]
fn a_power_loss_keeps_everything_but_the_generation() {
    for kind in [None, Some(WE), Some(EA), Some(WE_RO), Some(EA_RO), Some(WE_AR), Some(EA_AR)] {
        let state = kept(kind);
        let restored = Reservations::from_bytes(&state.to_bytes()).unwrap();
        assert_eq!(restored, Reservations { generation: 0, ..state });
    }
}

#[test]
fn without_aptpl_a_power_loss_keeps_nothing() {
    let state = reserved("ab", EA);
    assert_eq!(state.to_bytes(), Reservations::new().to_bytes());
    assert_eq!(Reservations::from_bytes(&state.to_bytes()), Ok(Reservations::new()));
}

#[test]
fn the_layout_stays_what_it_is() {
    let mut state = Reservations::new();
    let nexus = Nexus {
        initiator: InitiatorPort::new("i", [1, 2, 3, 4, 5, 6]),
        target: Port {
            target_name: "tt".into(),
            target_portal_group_tag: 9,
            relative_target_port_id: 8,
        },
    };
    fine(send(&mut state, &nexus, REGISTER, 0, &basic(0, 7, APTPL)));
    quiet(out(&mut state, &nexus, RESERVE, EA, (7, 0)));
    let mut expected = vec![1, 1, 3, 0, 0, 0, 0, 1];
    expected.extend([0, 0, 0, 0, 0, 0, 0, 7, 1, 2, 3, 4, 5, 6, 0, 8, 0, 9]);
    expected.extend([0, 1, b'i', 0, 2, b't', b't']);
    assert_eq!(state.to_bytes(), expected);
    assert_eq!(Reservations::new().to_bytes(), [1, 0, 0, 0, 0xff, 0xff, 0, 0]);
}

#[test]
fn bytes_that_are_cut_off_or_too_many_are_refused() {
    let mut bytes = kept(Some(EA)).to_bytes();
    for length in 0..bytes.len() {
        let damage = Reservations::from_bytes(&bytes[..length]).unwrap_err();
        assert_eq!(damage, Damaged::Truncated(length));
    }
    bytes.push(0);
    assert_eq!(Reservations::from_bytes(&bytes), Err(Damaged::Trailing(bytes.len() - 1)));
}

#[test]
fn every_changed_byte_is_refused_or_means_something_else() {
    for kind in [None, Some(EA), Some(WE_AR)] {
        let bytes = kept(kind).to_bytes();
        for at in 0..bytes.len() {
            for change in 1..=255 {
                let mut damaged = bytes.clone();
                damaged[at] ^= change;
                if let Ok(state) = Reservations::from_bytes(&damaged) {
                    check_invariants(&state);
                    assert_eq!(state.to_bytes(), damaged, "byte {at}");
                }
            }
        }
    }
}

#[test]
fn what_is_never_written_is_refused_with_its_place() {
    let bytes = kept(Some(EA)).to_bytes();
    let damage = |at: usize, value: u8| {
        let mut damaged = bytes.clone();
        damaged[at] = value;
        Reservations::from_bytes(&damaged).unwrap_err()
    };
    let field = |at, field| Damaged::Field { at, field };
    assert_eq!(damage(0, 2), Damaged::Version(2));
    assert_eq!(damage(1, 4), field(1, "flags"));
    assert_eq!(damage(1, 2), field(1, "flags"));
    assert_eq!(damage(1, 0), field(6, "number of registrations"));
    assert_eq!(damage(2, 2), field(2, "type"));
    assert_eq!(damage(2, WE_AR), field(4, "holder"));
    assert_eq!(damage(3, 1), field(3, "reserved byte"));
    assert_eq!(damage(5, 3), field(4, "holder"));
    assert_eq!(damage(6, 0xff), field(6, "number of registrations"));
    assert_eq!(damage(15, 0), field(8, "reservation key"));
    assert_eq!(damage(28, b'I'), field(26, "initiator name"));
    // "b" becomes a second "a".
    let name_ends = 28 + nexus('a').initiator.name().len() - 1;
    let registration = (bytes.len() - 8) / 3;
    let damage = damage(name_ends + registration, b'a');
    assert_eq!(damage, field(8 + registration, "second registration of a nexus"));
    let empty = [1, 1, WE_AR, 0, 0xff, 0xff, 0, 0];
    assert_eq!(Reservations::from_bytes(&empty), Err(field(2, "type")));
}
