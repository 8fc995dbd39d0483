//! Logins as initiators do them, right and wrong: stages, headers, bounds, status codes.

mod chap;
mod elsewhere;
mod keys;

use super::*;
use crate::sim::{cut, login_request};

pub(super) const TRANSIT: u8 = FINAL;
/// CSG and NSG of a request, with T.
pub(super) const SECURITY_TO_OPERATIONAL: u8 = TRANSIT | 1;
pub(super) const SECURITY_TO_FULL: u8 = TRANSIT | 3;
pub(super) const OPERATIONAL: u8 = 1 << 2;
pub(super) const OPERATIONAL_TO_FULL: u8 = TRANSIT | OPERATIONAL | 3;

pub(super) const NAMES: [&str; 2] =
    ["InitiatorName=iqn.2001-04.com.example:host", "TargetName=iqn.2001-04.com.example:disk"];

/// Knows one target and hands out ascending "random" bytes.
pub(super) struct Policy(pub(super) AuthPolicy);

impl LoginPolicy for Policy {
    fn target(&self, _: &IscsiName, target: &IscsiName) -> Result<TargetLogin, LoginStatus> {
        if target.as_str() != "iqn.2001-04.com.example:disk" {
            return Err(LoginStatus::NotFound);
        }
        Ok(TargetLogin { auth: self.0.clone(), alias: "a disk".to_owned() })
    }

    fn discovery(&self, initiator: &IscsiName) -> Result<AuthPolicy, LoginStatus> {
        match initiator.as_str().ends_with("stranger") {
            true => Err(LoginStatus::AuthorizationFailure),
            false => Ok(self.0.clone()),
        }
    }

    fn authorize(&self, initiator: &IscsiName, _: &IscsiName) -> Result<(), LoginStatus> {
        match initiator.as_str().ends_with("stranger") {
            true => Err(LoginStatus::AuthorizationFailure),
            false => Ok(()),
        }
    }

    fn random(&self, bytes: &mut [u8]) -> Result<(), LoginStatus> {
        (0x11..).zip(bytes).for_each(|(value, byte)| *byte = value);
        Ok(())
    }
}

/// What came of a request.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: LoginResponse,
    /// The text with `;` for NUL.
    pub(super) text: String,
    /// How the login failed, if it did.
    pub(super) failed: Option<LoginStatus>,
    pub(super) outcome: Option<LoginOutcome>,
}

impl Answer {
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.text
            .split(';')
            .filter_map(|pair| pair.split_once('='))
            .find(|p| p.0 == name)
            .map(|p| p.1)
    }

    /// Next stage if the target has moved on.
    pub(super) fn next(&self) -> Option<Stage> {
        self.response.transit().then(|| self.response.next_stage().unwrap())
    }
}

pub(super) struct Run {
    pub(super) login: Login,
    pub(super) policy: Policy,
    stat_sn: u32,
}

impl Run {
    pub(super) fn new(auth: AuthPolicy) -> Self {
        Self::with_offer(auth, Offer::default())
    }

    pub(super) fn with_offer(auth: AuthPolicy, offer: Offer) -> Self {
        let config = LoginConfig { offer, target_portal_group_tag: 3, window: 32 };
        Self { login: Login::new(config), policy: Policy(auth), stat_sn: 500 }
    }

    /// One request, and what every answer must keep.
    pub(super) fn send(&mut self, request: LoginRequest, text: &[u8]) -> Answer {
        let pdu = Pdu { bhs: request.bytes(), ahs: &[], data: text };
        let mut out = Vec::new();
        let step = self.login.handle(&pdu, &self.policy, &mut out);
        let (failed, outcome) = match step {
            LoginStep::Respond => (None, None),
            LoginStep::Fail(status) => (Some(status), None),
            LoginStep::Admit(outcome) => {
                assert!(out.is_empty(), "answered before anybody was admitted");
                self.login.admit(Ok(Tsih(0x77)), &mut out);
                (None, Some(*outcome))
            }
        };
        let replies = cut(&Decoder::for_login(LOGIN_SEGMENT_LENGTH), &out);
        let [reply] = &replies[..] else { panic!("one request, {} answers", replies.len()) };
        let response = *LoginResponse::view(&reply.bhs);
        assert_eq!(response.opcode, opcode::LOGIN_RESPONSE);
        assert_eq!(response.isid, request.isid);
        assert_eq!(response.initiator_task_tag, request.initiator_task_tag);
        assert_eq!((response.version_max, response.version_active), (0, 0));
        // The login does not use CmdSN up.
        assert_eq!(response.exp_cmd_sn, request.cmd_sn);
        assert_eq!(response.max_cmd_sn.get(), request.cmd_sn.get().wrapping_add(31));
        let status = failed.unwrap_or(LoginStatus::Success).code();
        assert_eq!((response.status_class, response.status_detail), status);
        if failed.is_none() {
            assert_eq!(response.stat_sn.get(), self.stat_sn);
            self.stat_sn += 1;
        } else {
            assert!(reply.data.is_empty() && !response.transit() && !response.continues());
        }
        let text = String::from_utf8(reply.data.clone()).unwrap().replace('\0', ";");
        Answer { response, text, failed, outcome }
    }

    pub(super) fn ask(&mut self, flags: u8, pairs: &[&str]) -> Answer {
        let text: Vec<u8> =
            pairs.iter().flat_map(|pair| [pair.as_bytes(), b"\0"].concat()).collect();
        self.send(login_request(flags), &text)
    }
}

fn open() -> Run {
    Run::new(AuthPolicy::None)
}

fn with_names(more: &[&'static str]) -> Vec<&'static str> {
    [&NAMES, more].concat()
}

#[test]
fn a_login_without_proof_goes_through_both_stages() {
    let mut run = open();
    assert!(run.login.initiator_name().is_none());
    let first = run.ask(SECURITY_TO_OPERATIONAL, &with_names(&["AuthMethod=CHAP,None"]));
    assert_eq!(first.text, "AuthMethod=None;TargetPortalGroupTag=3;TargetAlias=a disk;");
    assert_eq!(first.next(), Some(Stage::LoginOperationalNegotiation));
    assert_eq!(first.response.current_stage(), Some(Stage::SecurityNegotiation));
    assert_eq!(first.response.tsih.get(), 0);
    assert_eq!(run.login.initiator_name().unwrap().as_str(), "iqn.2001-04.com.example:host");

    let last = run.ask(OPERATIONAL_TO_FULL, &["HeaderDigest=CRC32C", "InitiatorAlias=me"]);
    assert_eq!(last.text, "HeaderDigest=CRC32C;MaxRecvDataSegmentLength=262144;");
    assert_eq!(last.next(), Some(Stage::FullFeaturePhase));
    assert_eq!(last.response.current_stage(), Some(Stage::LoginOperationalNegotiation));
    assert_eq!(last.response.tsih.get(), 0x77);
    let outcome = last.outcome.unwrap();
    assert_eq!(outcome.session_type, SessionType::Normal);
    assert_eq!(outcome.target_name.unwrap().as_str(), "iqn.2001-04.com.example:disk");
    assert_eq!((outcome.isid.0, outcome.cid), ([0x80, 0, 0, 0x12, 0x34, 0x56], Cid(7)));
    assert_eq!((outcome.cmd_sn, outcome.requested_tsih), (CmdSn(1000), Tsih::NEW));
    // Two responses went out, from the initiator's ExpStatSN on.
    assert_eq!(outcome.stat_sn, StatSn(502));
    assert!(outcome.parameters.header_digest && !outcome.parameters.data_digest);
    assert_eq!(outcome.parameters.max_recv_data_segment_length, 262_144);
}

#[test]
fn a_login_may_begin_with_the_second_stage() {
    let mut run = open();
    let only = run.ask(OPERATIONAL_TO_FULL, &with_names(&["InitiatorAlias=me"]));
    assert_eq!(
        only.text,
        "TargetPortalGroupTag=3;TargetAlias=a disk;MaxRecvDataSegmentLength=262144;"
    );
    let outcome = only.outcome.unwrap();
    assert_eq!(outcome.initiator_alias.as_deref(), Some("me"));
    assert_eq!(outcome.stat_sn, StatSn(501));
}

#[test]
fn a_login_may_leave_the_second_stage_out() {
    let answer = open().ask(SECURITY_TO_FULL, &NAMES);
    // The target never said how much it takes, so the default holds.
    assert_eq!(answer.value("MaxRecvDataSegmentLength"), None);
    assert_eq!(answer.outcome.unwrap().parameters, Parameters::default());
}

#[test]
fn the_target_stays_in_a_stage_as_long_as_the_initiator_does() {
    let mut run = open();
    let answer = run.ask(0, &with_names(&["AuthMethod=None"]));
    assert_eq!((answer.next(), answer.value("AuthMethod")), (None, Some("None")));
    assert_eq!(
        run.ask(SECURITY_TO_OPERATIONAL, &[]).next(),
        Some(Stage::LoginOperationalNegotiation)
    );
    let answer = run.ask(OPERATIONAL, &["MaxBurstLength=4096"]);
    assert_eq!((answer.next(), answer.value("MaxBurstLength")), (None, Some("4096")));
    // What is settled is not said again.
    let last = run.ask(OPERATIONAL_TO_FULL, &[]);
    assert_eq!(last.text, "");
    assert_eq!(last.outcome.unwrap().parameters.max_burst_length, 4096);
}

#[test]
fn text_may_come_in_several_pdus() {
    let whole = [NAMES[0], "\0", NAMES[1], "\0", "AuthMethod=None\0"].concat();
    for cut in [1, 10, 44, whole.len() - 1] {
        let mut run = open();
        let (head, tail) = whole.as_bytes().split_at(cut);
        let part = run.send(login_request(CONTINUE), head);
        assert_eq!((part.failed, part.text.as_str(), part.next()), (None, "", None));
        let answer = run.send(login_request(SECURITY_TO_FULL), tail);
        assert_eq!(answer.value("AuthMethod"), Some("None"));
        assert!(answer.outcome.is_some());
    }
}

#[test]
fn flags_that_contradict_each_other_or_the_stage_are_refused() {
    for flags in [
        TRANSIT | CONTINUE | 1,    // T and C
        TRANSIT,                   // to the stage it is in
        TRANSIT | 2,               // to the reserved stage
        TRANSIT | OPERATIONAL,     // back
        TRANSIT | OPERATIONAL | 1, // to the stage it is in
        2 << 2,                    // in the reserved stage
        TRANSIT | (3 << 2) | 3,    // already in the last
    ] {
        let answer = open().ask(flags, &NAMES);
        assert_eq!(answer.failed, Some(LoginStatus::InitiatorError), "{flags:#010b}");
    }
    // CSG must be the stage that the target said.
    let mut run = open();
    run.ask(SECURITY_TO_OPERATIONAL, &NAMES);
    assert_eq!(run.ask(SECURITY_TO_FULL, &[]).failed, Some(LoginStatus::InitiatorError));
    let mut run = open();
    run.ask(0, &NAMES);
    assert_eq!(run.ask(OPERATIONAL_TO_FULL, &[]).failed, Some(LoginStatus::InitiatorError));
}

#[test]
fn the_header_stays_the_same_through_the_login() {
    let second = login_request(SECURITY_TO_FULL);
    for other in [
        LoginRequest { isid: [0; 6], ..second },
        LoginRequest { tsih: 1.into(), ..second },
        LoginRequest { cid: 8.into(), ..second },
        LoginRequest { initiator_task_tag: 1.into(), ..second },
        LoginRequest { cmd_sn: 1001.into(), ..second },
        // Never anything but immediate.
        LoginRequest { opcode: opcode::LOGIN_REQUEST, ..second },
    ] {
        let mut run = open();
        assert_eq!(run.ask(0, &NAMES).failed, None);
        assert_eq!(run.send(other, b"").failed, Some(LoginStatus::InitiatorError));
    }
    let mut run = open();
    run.ask(0, &NAMES);
    assert!(run.send(second, b"").outcome.is_some());
}

#[test]
fn header_segments_do_not_belong_into_a_login() {
    let mut run = open();
    let request = login_request(0);
    let pdu = Pdu { bhs: request.bytes(), ahs: &[0; 4], data: b"" };
    let step = run.login.handle(&pdu, &run.policy, &mut Vec::new());
    assert!(matches!(step, LoginStep::Fail(LoginStatus::InitiatorError)), "{step:?}");
}

#[test]
fn only_version_0_is_spoken() {
    let newer = LoginRequest { version_max: 2, version_min: 1, ..login_request(0) };
    assert_eq!(open().send(newer, b"").failed, Some(LoginStatus::UnsupportedVersion));
    let also = LoginRequest { version_max: 2, ..login_request(0) };
    let text = [NAMES[0], "\0", NAMES[1], "\0"].concat();
    assert_eq!(open().send(also, text.as_bytes()).failed, None);
}

#[test]
fn nothing_but_login_requests_may_come() {
    let mut run = open();
    let mut out = Vec::new();
    let bhs = crate::pdu::NopOut { opcode: IMMEDIATE_NOP, ..crate::pdu::NopOut::zeroed() };
    let pdu = Pdu { bhs: bhs.bytes(), ahs: &[], data: b"" };
    let step = run.login.handle(&pdu, &run.policy, &mut out);
    assert!(matches!(step, LoginStep::Fail(LoginStatus::InvalidDuringLogin)));
    assert_eq!(LoginResponse::view(out.first_chunk().unwrap()).status_detail, 0x0b);
}

const IMMEDIATE_NOP: u8 = opcode::NOP_OUT | crate::pdu::IMMEDIATE;

#[test]
fn an_initiator_says_who_it_is_and_where_it_wants_to() {
    for (pairs, status) in [
        (vec![NAMES[1]], LoginStatus::MissingParameter),
        (vec![NAMES[0]], LoginStatus::MissingParameter),
        (vec![], LoginStatus::MissingParameter),
        (vec!["InitiatorName=host", NAMES[1]], LoginStatus::InitiatorError),
        (vec!["InitiatorName=", NAMES[1]], LoginStatus::InitiatorError),
        (vec![NAMES[0], "TargetName=disk"], LoginStatus::NotFound),
        (vec![NAMES[0], "TargetName=iqn.2001-04.com.example:other"], LoginStatus::NotFound),
        (with_names(&["SessionType=Other"]), LoginStatus::SessionTypeNotSupported),
        (with_names(&["SessionType=normal"]), LoginStatus::SessionTypeNotSupported),
        (with_names(&["no pair"]), LoginStatus::InitiatorError),
        (with_names(&["AuthMethod=CHAP"]), LoginStatus::AuthenticationFailure),
        (with_names(&["AuthMethod=KRB5,SRP"]), LoginStatus::AuthenticationFailure),
        (with_names(&["CHAP_A=5"]), LoginStatus::InitiatorError),
    ] {
        let answer = open().ask(SECURITY_TO_OPERATIONAL, &pairs);
        assert_eq!(answer.failed, Some(status), "{pairs:?}");
    }
    // Names mean the same in any case.
    let shouting =
        ["InitiatorName=IQN.2001-04.COM.EXAMPLE:HOST", "TargetName=iqn.2001-04.com.EXAMPLE:disk"];
    assert_eq!(open().ask(SECURITY_TO_FULL, &shouting).failed, None);
}

#[test]
fn who_may_not_use_the_target_is_told_so_whatever_stages_it_goes_through() {
    let names = ["InitiatorName=iqn.2001-04.com.example:stranger", NAMES[1]];
    for flags in [0, SECURITY_TO_OPERATIONAL, SECURITY_TO_FULL, OPERATIONAL, OPERATIONAL_TO_FULL] {
        let failed = open().ask(flags, &names).failed;
        assert_eq!(failed, Some(LoginStatus::AuthorizationFailure), "{flags:#x}");
    }
}

#[test]
fn a_discovery_session_needs_no_target() {
    let answer = open().ask(SECURITY_TO_FULL, &[NAMES[0], "SessionType=Discovery"]);
    assert_eq!(answer.text, "");
    let outcome = answer.outcome.unwrap();
    assert_eq!((outcome.session_type, outcome.target_name), (SessionType::Discovery, None));
    let stranger = ["InitiatorName=iqn.2001-04.com.example:stranger", "SessionType=Discovery"];
    let refused = open().ask(SECURITY_TO_FULL, &stranger);
    assert_eq!(refused.failed, Some(LoginStatus::AuthorizationFailure));
}

#[test]
fn the_session_that_is_asked_for_is_reported() {
    let request = LoginRequest { tsih: 0x1234.into(), ..login_request(SECURITY_TO_FULL) };
    let text = [NAMES[0], "\0", NAMES[1], "\0"].concat();
    let outcome = open().send(request, text.as_bytes()).outcome.unwrap();
    assert_eq!(outcome.requested_tsih, Tsih(0x1234));
}

#[test]
fn nobody_is_admitted_against_the_callers_will() {
    let mut run = open();
    let text = [NAMES[0], "\0", NAMES[1], "\0"].concat();
    let request = login_request(SECURITY_TO_FULL);
    let pdu = Pdu { bhs: request.bytes(), ahs: &[], data: text.as_bytes() };
    let mut out = Vec::new();
    assert!(matches!(run.login.handle(&pdu, &run.policy, &mut out), LoginStep::Admit(_)));
    run.login.admit(Err(LoginStatus::OutOfResources), &mut out);
    assert_eq!(out.len(), 48, "a refusal has no text");
    let response = LoginResponse::view(out.first_chunk().unwrap());
    assert_eq!((response.status_class, response.status_detail), (3, 2));
    assert!(!response.transit());
    // There is nothing left to admit.
    run.login.admit(Ok(Tsih(1)), &mut out);
    assert_eq!(out.len(), 48);
}

#[test]
fn a_stranger_cannot_make_the_target_keep_much_or_answer_for_ever() {
    // 64 KiB of text in all, whatever it says.
    let mut run = open();
    let segment = vec![b'x'; 8192];
    for _ in 0..8 {
        assert_eq!(run.send(login_request(CONTINUE), &segment).failed, None);
    }
    assert_eq!(run.send(login_request(CONTINUE), b"x").failed, Some(LoginStatus::InitiatorError));

    // Text that was taken already counts too.
    let mut run = open();
    run.ask(0, &NAMES);
    let answers = (0..1000).map(|n| run.ask(0, &[&format!("X-{n}={}", "v".repeat(8000))]).failed);
    let failure = answers.enumerate().find_map(|(n, failed)| Some((n, failed?))).unwrap();
    assert_eq!(failure, (8, LoginStatus::InitiatorError));

    let mut run = open();
    run.ask(0, &NAMES);
    let answers = (0..1000).map(|_| run.ask(0, &[]).failed);
    let failure = answers.enumerate().find_map(|(n, failed)| Some((n, failed?))).unwrap();
    assert_eq!(failure, (63, LoginStatus::InitiatorError));
}

#[test]
fn an_answer_never_outgrows_the_segment_an_initiator_takes() {
    let mut run = open();
    run.ask(0, &NAMES);
    // 126 keys of 63 characters, which come back with NotUnderstood: more than 8192 bytes.
    let text: Vec<u8> = (0..126).flat_map(|n| format!("{n:X<63}=\0").into_bytes()).collect();
    let (head, tail) = text.split_at(8000);
    assert_eq!(run.send(login_request(CONTINUE), head).failed, None);
    assert_eq!(run.send(login_request(0), tail).failed, Some(LoginStatus::OutOfResources));
}
