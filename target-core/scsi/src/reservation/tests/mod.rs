//! Reservations as initiators see them.

mod bytes;
mod conflict;
mod legacy;
mod lost;
mod move_to;
mod parameters;
mod preempt;
mod properties;
mod read;
mod register;
mod reserve;

use super::*;
use crate::asc::AdditionalSense;
use crate::cdb::Cdb;
use crate::sense::{FieldPointer, SenseKey};

const REGISTER: u8 = 0;
const RESERVE: u8 = 1;
const RELEASE: u8 = 2;
const CLEAR: u8 = 3;
const PREEMPT: u8 = 4;
const PREEMPT_AND_ABORT: u8 = 5;
const REGISTER_AND_IGNORE: u8 = 6;
const REGISTER_AND_MOVE: u8 = 7;
const REPLACE_LOST: u8 = 8;

const APTPL: u8 = 0x01;
const ALL_TG_PT: u8 = 0x04;
const SPEC_I_PT: u8 = 0x08;

const WE: u8 = 1;
const EA: u8 = 3;
const WE_RO: u8 = 5;
const EA_RO: u8 = 6;
const WE_AR: u8 = 7;
const EA_AR: u8 = 8;

fn target(relative_target_port_id: u16) -> Port {
    Port {
        target_name: "iqn.2026-01.io.lund:t".into(),
        target_portal_group_tag: relative_target_port_id,
        relative_target_port_id,
    }
}

fn initiator(letter: char, isid: u8) -> InitiatorPort {
    InitiatorPort::new(&format!("iqn.2026-01.io.lund:{letter}"), [0, 2, 0x3d, 0, 0, isid])
}

fn nexus(letter: char) -> Nexus {
    Nexus { initiator: initiator(letter, 1), target: target(1) }
}

/// The nexus of the same initiator port through the other target port.
fn elsewhere(letter: char) -> Nexus {
    Nexus { target: target(2), ..nexus(letter) }
}

/// Two target ports; the initiator "d" has two ports, every other one has one.
struct Fabric;

impl Ports for Fabric {
    fn initiators(&self, name: &str) -> Vec<InitiatorPort> {
        match name.strip_prefix("iqn.2026-01.io.lund:") {
            Some("d") => vec![initiator('d', 1), initiator('d', 2)],
            Some("nobody") | None => vec![],
            Some(_) => vec![InitiatorPort::new(name, [0, 2, 0x3d, 0, 0, 1])],
        }
    }

    fn targets(&self) -> Vec<Port> {
        vec![target(1), target(2)]
    }
}

fn out_cdb(action: u8, scope_and_type: u8, length: usize) -> Cdb {
    let [a, b, c, d] = u32::try_from(length).unwrap().to_be_bytes();
    Cdb::new(&[0x5f, action, scope_and_type, 0, 0, a, b, c, d, 0])
}

fn basic(key: u64, action_key: u64, flags: u8) -> Vec<u8> {
    let mut list = Vec::new();
    list.extend(key.to_be_bytes());
    list.extend(action_key.to_be_bytes());
    list.extend([0, 0, 0, 0, flags, 0, 0, 0]);
    list
}

fn transport_id(format: u8, text: &str) -> Vec<u8> {
    let mut id = vec![format << 6 | 5, 0, 0, 0];
    id.extend(text.as_bytes());
    id.push(0);
    while !id.len().is_multiple_of(4) || id.len() < 24 {
        id.push(0);
    }
    id[3] = u8::try_from(id.len() - 4).unwrap();
    id
}

/// The TransportID of `initiator(letter, isid)`.
fn port_id(letter: char, isid: u8) -> Vec<u8> {
    transport_id(1, &format!("iqn.2026-01.io.lund:{letter},i,0x00023d0000{isid:02x}"))
}

fn name_id(name: &str) -> Vec<u8> {
    transport_id(0, &format!("iqn.2026-01.io.lund:{name}"))
}

fn specify(key: u64, action_key: u64, flags: u8, ids: &[Vec<u8>]) -> Vec<u8> {
    let ids = ids.concat();
    let mut list = basic(key, action_key, flags | SPEC_I_PT);
    list.extend(u32::try_from(ids.len()).unwrap().to_be_bytes());
    list.extend(ids);
    list
}

fn movement(key: u64, action_key: u64, flags: u8, port: u16, id: &[u8]) -> Vec<u8> {
    let mut list = Vec::new();
    list.extend(key.to_be_bytes());
    list.extend(action_key.to_be_bytes());
    list.extend([0, flags]);
    list.extend(port.to_be_bytes());
    list.extend(u32::try_from(id.len()).unwrap().to_be_bytes());
    list.extend(id);
    list
}

fn send(state: &mut Reservations, from: &Nexus, action: u8, kind: u8, list: &[u8]) -> Outcome {
    let before = state.clone();
    let outcome =
        state.persistent_reserve_out(out_cdb(action, kind, list.len()), list, from, &Fabric);
    if outcome.verdict != Verdict::Good {
        assert_eq!(*state, before, "a refusal changes nothing");
        assert!(outcome.attentions.is_empty() && outcome.abort.is_empty() && !outcome.persist);
    }
    assert_eq!(outcome.persist, before.to_bytes() != state.to_bytes());
    assert!(!outcome.attentions.iter().any(|(told, _)| told == from));
    outcome
}

/// The command with the plain parameter list; the keys are the registered one and the other.
fn out(
    state: &mut Reservations,
    from: &Nexus,
    action: u8,
    kind: u8,
    (key, action_key): (u64, u64),
) -> Outcome {
    send(state, from, action, kind, &basic(key, action_key, 0))
}

#[track_caller]
fn good(outcome: Outcome) -> Outcome {
    assert_eq!(outcome.verdict, Verdict::Good);
    outcome
}

#[track_caller]
fn fine(outcome: Outcome) {
    let _ = good(outcome);
}

#[track_caller]
fn quiet(outcome: Outcome) {
    let outcome = good(outcome);
    assert_eq!((outcome.attentions, outcome.abort), (vec![], vec![]));
}

#[track_caller]
fn conflict(outcome: Outcome) {
    let Outcome { verdict, attentions, abort, .. } = outcome;
    assert_eq!((verdict, attentions, abort), (Verdict::ReservationConflict, vec![], vec![]));
}

#[track_caller]
fn refused(outcome: Outcome, asc: AdditionalSense, field: Option<FieldPointer>) {
    let Outcome { verdict, attentions, abort, .. } = outcome;
    let Verdict::Check(sense) = verdict else { panic!("{verdict:?}") };
    assert_eq!((attentions, abort), (vec![], vec![]));
    assert_eq!((sense.key, sense.asc, sense.field), (SenseKey::IllegalRequest, asc, field));
}

#[track_caller]
fn wrong_list(outcome: Outcome, byte: u16, bit: Option<u8>) {
    let field = Some(FieldPointer { cdb: false, byte, bit });
    refused(outcome, AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST, field);
}

#[track_caller]
fn wrong_cdb(outcome: Outcome, byte: u16, bit: Option<u8>) {
    let field = Some(FieldPointer { cdb: true, byte, bit });
    refused(outcome, AdditionalSense::INVALID_FIELD_IN_CDB, field);
}

/// Registers the nexuses a, b, c with the keys 0xa, 0xb, 0xc.
fn registered(letters: &str) -> Reservations {
    let mut state = Reservations::new();
    for letter in letters.chars() {
        quiet(out(&mut state, &nexus(letter), REGISTER, 0, (0, key(letter))));
    }
    state
}

/// The same, and "a" has reserved.
fn reserved(letters: &str, kind: u8) -> Reservations {
    let mut state = registered(letters);
    quiet(out(&mut state, &nexus('a'), RESERVE, kind, (0xa, 0)));
    state
}

fn key(letter: char) -> u64 {
    u64::from(letter.to_digit(16).unwrap())
}

fn keys(state: &Reservations) -> Vec<u64> {
    state.registrations().map(|(_, key)| key).collect()
}

fn told(attention: UnitAttention, letters: &str) -> Vec<(Nexus, UnitAttention)> {
    letters.chars().map(|letter| (nexus(letter), attention)).collect()
}

/// Type and holder; the holder is "-" where all registrants hold it.
fn held(state: &Reservations) -> Option<(u8, char)> {
    let (kind, holder) = state.reservation()?;
    let letter = holder.map_or('-', |holder| holder.initiator.name().chars().last().unwrap());
    Some((kind.code(), letter))
}

fn check_invariants(state: &Reservations) {
    let registrations: Vec<_> = state.registrations().collect();
    for (index, (nexus, key)) in registrations.iter().enumerate() {
        assert_ne!(*key, 0);
        assert!(registrations[..index].iter().all(|(other, _)| other != nexus));
    }
    if let Some((kind, holder)) = state.reservation() {
        match holder {
            Some(holder) => assert!(registrations.iter().any(|(nexus, _)| *nexus == holder)),
            None => assert!(kind.is_all_registrants() && !registrations.is_empty()),
        }
        assert!(state.unit_reservation().is_none());
    }
    assert!(state.unit_reservation().is_none() || registrations.is_empty());
    assert!(registrations.len() <= Reservations::MAX_REGISTRATIONS);
}
