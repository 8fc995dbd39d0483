//! Parameter lists and TransportIDs.

use super::*;
use crate::reservation::nexus::Malformed;

const LENGTH_ERROR: AdditionalSense = AdditionalSense::PARAMETER_LIST_LENGTH_ERROR;

fn with_length(state: &mut Reservations, action: u8, length: usize, list: &[u8]) -> Outcome {
    state.persistent_reserve_out(out_cdb(action, WE, length), list, &nexus('a'), &Fabric)
}

#[test]
fn a_plain_list_has_24_bytes_no_more_and_no_less() {
    let mut state = registered("a");
    for action in [REGISTER, RESERVE, RELEASE, CLEAR, PREEMPT, REGISTER_AND_IGNORE] {
        for length in [0, 1, 23, 25, 28, 64] {
            let list = [basic(0xa, 0xa, 0), vec![0; 64]].concat();
            refused(with_length(&mut state, action, length, &list), LENGTH_ERROR, None);
        }
        let short = &basic(0xa, 0xa, 0)[..20];
        refused(with_length(&mut state, action, 24, short), LENGTH_ERROR, None);
    }
    for length in [0, 23, 24] {
        let list = [0; 24];
        let outcome = with_length(&mut state, REGISTER_AND_MOVE, length, &list[..length]);
        assert_ne!(outcome.verdict, Verdict::Good);
    }
    // What is behind PARAMETER LIST LENGTH is not looked at.
    let list = [basic(0xa, 0xa, 0), vec![0xff; 8]].concat();
    quiet(with_length(&mut state, REGISTER, 24, &list));
}

#[test]
fn the_length_to_gather_is_the_one_of_the_cdb() {
    assert_eq!(parameter_list_length(out_cdb(0, 0, 24), 24), Ok(24));
    assert_eq!(parameter_list_length(out_cdb(0, 0, 24), 512), Ok(24));
    assert_eq!(parameter_list_length(out_cdb(0, 0, 16384), 16384), Ok(16384));
    for (length, sent) in [(24, 23), (0, 24), (23, 23), (16385, 16385), (1 << 31, u32::MAX)] {
        let sense = parameter_list_length(out_cdb(0, 0, length), sent).unwrap_err();
        assert_eq!(sense.asc, LENGTH_ERROR);
    }
}

#[test]
fn spec_i_pt_is_for_register_alone() {
    for action in [RESERVE, RELEASE, CLEAR, PREEMPT, PREEMPT_AND_ABORT, REGISTER_AND_IGNORE] {
        let mut state = registered("a");
        let outcome = send(&mut state, &nexus('a'), action, WE, &basic(0xa, 0xa, SPEC_I_PT));
        wrong_list(outcome, 20, Some(3));
    }
}

#[test]
fn the_length_of_the_transport_id_list_must_be_that_of_the_list() {
    let mut state = Reservations::new();
    let whole = specify(0, 7, 0, &[port_id('b', 1)]);
    for length in 24..whole.len() {
        refused(with_length(&mut state, REGISTER, length, &whole), LENGTH_ERROR, None);
    }
    let long = [whole.clone(), vec![0; 4]].concat();
    refused(with_length(&mut state, REGISTER, long.len(), &long), LENGTH_ERROR, None);
    // A list that ends within a TransportID.
    let mut id = port_id('b', 1);
    id.truncate(id.len() - 4);
    let list = specify(0, 7, 0, &[port_id('c', 1), id]);
    wrong_list(send(&mut state, &nexus('a'), REGISTER, 0, &list), 24, None);
    quiet(send(&mut state, &nexus('a'), REGISTER, 0, &specify(0, 7, 0, &[])));
    assert_eq!(keys(&state), [7]);
}

#[test]
fn aptpl_and_all_tg_pt_are_ignored_where_they_mean_nothing() {
    let mut state = registered("a");
    for action in [RESERVE, RELEASE, PREEMPT, CLEAR] {
        let list = basic(0xa, 0xa, APTPL | ALL_TG_PT);
        let mut state = state.clone();
        fine(send(&mut state, &nexus('a'), action, WE, &list));
        assert!(!state.persists_through_power_loss());
    }
    fine(send(&mut state, &nexus('a'), REGISTER, 0, &basic(0xa, 0xa, APTPL)));
    fine(send(&mut state, &nexus('a'), RESERVE, WE, &basic(0xa, 0, 0)));
    assert!(state.persists_through_power_loss());
}

#[test]
fn transport_ids_are_read_as_initiators_write_them() {
    let parse = |id: &[u8]| TransportId::parse(id).map(|(id, _)| id);
    let port = |isid| Ok(TransportId::Port(InitiatorPort::new("iqn.x:y", isid)));
    let text = |text: &str| parse(&transport_id(1, text));
    assert_eq!(text("iqn.x:y,i,0x00023d000001"), port([0, 2, 0x3d, 0, 0, 1]));
    assert_eq!(text("IQN.X:Y,i,0xABCDEF123456"), port([0xab, 0xcd, 0xef, 0x12, 0x34, 0x56]));
    assert_eq!(text("iqn.x:y,i,0x23d000001"), port([0, 2, 0x3d, 0, 0, 1]));
    let name = parse(&transport_id(0, "IQN.X:Y"));
    assert_eq!(name, Ok(TransportId::Initiator("iqn.x:y".into())));
    for wrong in ["", ",i,0x1", "iqn.x:y", "iqn.x:y,i,0x", "iqn.x:y,i,0x+1", "iqn.x:y,i,0xg"] {
        assert_eq!(text(wrong), Err(Malformed::Field(4, None)), "{wrong}");
    }
    assert_eq!(text("iqn.x:y,i,0x0000023d000001"), Err(Malformed::Field(4, None)));
    assert_eq!(parse(&transport_id(0, "")), Err(Malformed::Field(4, None)));
    assert_eq!(parse(&transport_id(0, &"n".repeat(224))), Err(Malformed::Field(4, None)));
    assert_eq!(parse(&transport_id(2, "iqn.x:y")), Err(Malformed::Field(0, Some(7))));
    assert_eq!(parse(&transport_id(3, "iqn.x:y")), Err(Malformed::Field(0, Some(7))));
    let mut id = transport_id(1, "iqn.x:y,i,0x00023d000001");
    id[3] = 21;
    assert_eq!(parse(&id), Err(Malformed::Field(2, None)));
    id[3] = 16;
    assert_eq!(parse(&id), Err(Malformed::Field(2, None)));
    assert_eq!(parse(&[0x45, 0, 0]), Err(Malformed::Truncated));
    assert_eq!(parse(&[0x45, 0, 0, 20]), Err(Malformed::Truncated));
    let mut id = transport_id(0, "iqn.x:y");
    id[5] = 0xff;
    assert_eq!(parse(&id), Err(Malformed::Field(4, None)));
}

#[test]
fn transport_ids_are_written_as_they_are_read() {
    for name in ["n".to_owned(), "iqn.x:y".to_owned(), "n".repeat(222), "n".repeat(223)] {
        let port = InitiatorPort::new(&name, [1, 2, 3, 4, 5, 0xfe]);
        let mut bytes = Vec::new();
        let length = TransportId::append(&port, &mut bytes);
        assert_eq!((length, bytes.len() % 4, bytes.last()), (bytes.len(), 0, Some(&0)));
        assert!(length >= 24);
        assert_eq!(TransportId::parse(&bytes), Ok((TransportId::Port(port), length)));
    }
}
