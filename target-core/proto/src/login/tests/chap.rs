//! CHAP, step by step, and every way around it that must be closed.

use super::*;

const SECRET: &[u8] = b"twelve bytes";
const MUTUAL: &[u8] = b"another twelve";

fn account(name: &str, secret: &[u8]) -> ChapAccount {
    ChapAccount::new(name, Secret::new(secret))
}

fn policy(mutual: bool) -> ChapPolicy {
    ChapPolicy {
        accounts: vec![account("other", b"of somebody else"), account("alice", SECRET)],
        mutual: mutual.then(|| account("disk", MUTUAL)),
        ..ChapPolicy::default()
    }
}

fn run(mutual: bool) -> Run {
    Run::new(AuthPolicy::Chap(policy(mutual)))
}

/// What the target asks.
struct Given {
    algorithm: ChapAlgorithm,
    identifier: u8,
    challenge: Vec<u8>,
}

/// Goes as far as the challenge, with an algorithm that is the strongest both sides have.
fn challenged_with(run: &mut Run, list: &str, algorithm: ChapAlgorithm) -> Given {
    let answer = run.ask(0, &with_names(&["AuthMethod=CHAP,None"]));
    assert_eq!((answer.value("AuthMethod"), answer.next()), (Some("CHAP"), None));
    let answer = run.ask(0, &[&format!("CHAP_A={list}")]);
    assert_eq!(answer.value("CHAP_A"), Some(algorithm.number().to_string().as_str()));
    let identifier = answer.value("CHAP_I").unwrap().parse().unwrap();
    let challenge = binary_from_text(answer.value("CHAP_C").unwrap()).unwrap();
    let random: Vec<u8> = (0x11..).take(algorithm.length()).collect();
    assert_eq!(challenge, random, "not what `random` gave");
    Given { algorithm, identifier, challenge }
}

fn challenged(run: &mut Run) -> Given {
    challenged_with(run, "5,7", ChapAlgorithm::Sha256)
}

fn proof(given: &Given, secret: &[u8]) -> String {
    let secret = Secret::new(secret);
    binary_to_hex(&prove(given.algorithm, given.identifier, &secret, &given.challenge))
}

#[test]
fn the_right_secret_opens_the_door() {
    let mut run = run(false);
    let given = challenged(&mut run);
    let response = format!("CHAP_R={}", proof(&given, SECRET));
    let answer = run.ask(SECURITY_TO_OPERATIONAL, &["CHAP_N=alice", &response]);
    assert_eq!(answer.failed, None);
    assert_eq!(answer.next(), Some(Stage::LoginOperationalNegotiation));
    assert_eq!(answer.value("CHAP_R"), None, "nobody asked the target for proof");
    assert!(run.ask(OPERATIONAL_TO_FULL, &[]).outcome.is_some());
}

#[test]
fn each_algorithm_opens_the_door_for_both_sides() {
    use ChapAlgorithm::{Md5, Sha1, Sha3_256, Sha256};
    for (list, algorithm) in
        [("5", Md5), ("5,6", Sha1), ("7,6,5", Sha256), ("5,6,7,8", Sha3_256), ("8", Sha3_256)]
    {
        let mut run = run(true);
        let given = challenged_with(&mut run, list, algorithm);
        let response = format!("CHAP_R={}", proof(&given, SECRET));
        let keys = ["CHAP_N=alice", &response, "CHAP_I=0xc8", "CHAP_C=0bq83v"];
        let answer = run.ask(SECURITY_TO_FULL, &keys);
        let theirs = Given { identifier: 200, challenge: vec![0xab, 0xcd, 0xef], ..given };
        assert_eq!(answer.value("CHAP_R"), Some(proof(&theirs, MUTUAL).as_str()), "{list}");
        assert!(answer.outcome.is_some(), "{list}");
    }
}

#[test]
fn the_full_feature_phase_can_follow_the_proof_at_once() {
    let mut run = run(false);
    let given = challenged(&mut run);
    let response = format!("CHAP_R={}", proof(&given, SECRET));
    assert!(run.ask(SECURITY_TO_FULL, &["CHAP_N=alice", &response]).outcome.is_some());
}

#[test]
fn both_sides_prove_themselves() {
    let mut run = run(true);
    let given = challenged(&mut run);
    let response = format!("CHAP_R={}", proof(&given, SECRET));
    let answer =
        run.ask(SECURITY_TO_FULL, &["CHAP_N=alice", &response, "CHAP_I=200", "CHAP_C=0xabcdef"]);
    assert_eq!(answer.value("CHAP_N"), Some("disk"));
    let theirs = Given { identifier: 200, challenge: vec![0xab, 0xcd, 0xef], ..given };
    let expected = proof(&theirs, MUTUAL);
    assert_eq!(answer.value("CHAP_R"), Some(expected.as_str()));
    assert!(answer.outcome.is_some());
}

#[test]
fn whatever_is_wrong_with_a_response_the_initiator_hears_the_same() {
    let good = |given: &Given| format!("CHAP_R={}", proof(given, SECRET));
    let wrong = |given: &Given| format!("CHAP_R={}", proof(given, b"a wrong secret"));
    let reflected = |given: &Given| format!("CHAP_C={}", binary_to_hex(&given.challenge));
    type Keys = Vec<String>;
    /// What is wrong, whether the target has an account, the keys that follow the challenge.
    type Case<'a> = (&'a str, bool, &'a dyn Fn(&Given) -> Keys);
    let text = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Keys>();
    let cases: [Case<'_>; 13] = [
        ("wrong secret", true, &|g| vec!["CHAP_N=alice".into(), wrong(g)]),
        ("unknown name", true, &|g| vec!["CHAP_N=nobody".into(), good(g)]),
        ("the secret of another", true, &|g| vec!["CHAP_N=other".into(), good(g)]),
        ("no name", true, &|g| vec![good(g)]),
        ("no response", true, &|_| text(&["CHAP_N=alice"])),
        ("no keys", true, &|_| text(&[])),
        ("reflection", true, &|g| {
            vec!["CHAP_N=alice".into(), good(g), "CHAP_I=1".into(), reflected(g)]
        }),
        ("challenge without identifier", true, &|g| {
            vec!["CHAP_N=alice".into(), good(g), "CHAP_C=0x01".into()]
        }),
        ("reflection with another identifier", true, &|g| {
            let reflected = binary_to_hex(&g.challenge).replace("0x", "0X");
            vec!["CHAP_N=alice".into(), good(g), "CHAP_I=99".into(), format!("CHAP_C={reflected}")]
        }),
        ("identifier without challenge", true, &|g| {
            vec!["CHAP_N=alice".into(), good(g), "CHAP_I=1".into()]
        }),
        ("a challenge of no bytes", true, &|g| {
            vec!["CHAP_N=alice".into(), good(g), "CHAP_I=1".into(), "CHAP_C=0x".into()]
        }),
        ("a response with a byte too much", true, &|g| vec!["CHAP_N=alice".into(), good(g) + "00"]),
        ("proof of a target without account", false, &|g| {
            vec!["CHAP_N=alice".into(), good(g), "CHAP_I=1".into(), "CHAP_C=0x01".into()]
        }),
    ];
    for (what, mutual, keys) in cases {
        let mut run = run(mutual);
        let given = challenged(&mut run);
        let keys = keys(&given);
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let answer = run.ask(SECURITY_TO_FULL, &keys);
        assert_eq!(answer.failed, Some(LoginStatus::AuthenticationFailure), "{what}");
    }
}

#[test]
fn nobody_comes_in_beside_the_security_stage() {
    let begun = |flags, keys: &[&'static str]| run(true).ask(flags, &with_names(keys));
    // Skips the stage.
    assert_eq!(begun(OPERATIONAL_TO_FULL, &[]).failed, Some(LoginStatus::AuthenticationFailure));
    assert_eq!(begun(OPERATIONAL, &[]).failed, Some(LoginStatus::AuthenticationFailure));
    // Wants none, or leaves it unsaid.
    let none = begun(SECURITY_TO_FULL, &["AuthMethod=None"]);
    assert_eq!(none.failed, Some(LoginStatus::AuthenticationFailure));
    assert_eq!(begun(SECURITY_TO_FULL, &[]).failed, Some(LoginStatus::AuthenticationFailure));
    // Comes with an answer before there was a question.
    let early = begun(0, &["AuthMethod=CHAP", "CHAP_N=alice", "CHAP_R=0x00"]);
    assert_eq!(early.failed, Some(LoginStatus::InitiatorError));
    // A discovery session tells names, so it wants proof too.
    let answer = run(true).ask(SECURITY_TO_FULL, &[NAMES[0], "SessionType=Discovery"]);
    assert_eq!(answer.failed, Some(LoginStatus::AuthenticationFailure));
}

#[test]
fn the_target_does_not_leave_the_stage_before_the_proof() {
    let mut run = run(false);
    let answer = run.ask(SECURITY_TO_FULL, &with_names(&["AuthMethod=CHAP"]));
    assert_eq!((answer.failed, answer.next()), (None, None));
    let answer = run.ask(SECURITY_TO_FULL, &["CHAP_A=5"]);
    assert_eq!((answer.failed, answer.next()), (None, None));
    assert!(answer.value("CHAP_C").is_some());
    // The next stage cannot be claimed either.
    let answer = run.ask(OPERATIONAL_TO_FULL, &[]);
    assert_eq!(answer.failed, Some(LoginStatus::InitiatorError));
}

#[test]
fn an_initiator_may_introduce_itself_before_it_negotiates() {
    let mut run = run(false);
    let answer = run.ask(0, &NAMES);
    assert_eq!((answer.failed, answer.value("AuthMethod")), (None, None));
    assert_eq!(run.ask(0, &["AuthMethod=CHAP"]).value("AuthMethod"), Some("CHAP"));
}

#[test]
fn an_algorithm_that_is_unknown_or_not_allowed_is_refused() {
    let md5_only =
        || ChapPolicy { algorithms: [ChapAlgorithm::Md5].into_iter().collect(), ..policy(false) };
    for (policy, list) in [
        (policy(false), "CHAP_A=9,4"),
        (policy(false), "CHAP_A="),
        (policy(false), "CHAP_A=55"),
        (policy(false), "AuthSomething=5"),
        (md5_only(), "CHAP_A=6,7,8"),
        (ChapPolicy { algorithms: [].into_iter().collect(), ..policy(false) }, "CHAP_A=5,6,7,8"),
    ] {
        let mut run = Run::new(AuthPolicy::Chap(policy));
        run.ask(0, &with_names(&["AuthMethod=CHAP"]));
        assert_eq!(run.ask(0, &[list]).failed, Some(LoginStatus::AuthenticationFailure), "{list}");
    }
    let mut run = Run::new(AuthPolicy::Chap(md5_only()));
    challenged_with(&mut run, "8,7,6,5", ChapAlgorithm::Md5);
}

#[test]
fn an_answer_before_the_challenge_is_refused() {
    for keys in [
        &["CHAP_N=alice", "CHAP_R=0x00"][..],
        &["CHAP_A=5", "CHAP_N=alice", "CHAP_R=0x00"],
        &["CHAP_A=5", "CHAP_N=alice"],
        &["CHAP_A=5", "CHAP_I=1", "CHAP_C=0x01"],
        &["CHAP_A=5", "CHAP_X=1"],
    ] {
        let mut run = run(true);
        run.ask(0, &with_names(&["AuthMethod=CHAP"]));
        let failed = run.ask(SECURITY_TO_FULL, keys).failed;
        assert_eq!(failed, Some(LoginStatus::InitiatorError), "{keys:?}");
    }
}

#[test]
fn a_key_that_comes_again_is_refused() {
    let response = |given: &Given| format!("CHAP_R={}", proof(given, SECRET));
    for again in ["CHAP_A=5", "AuthMethod=CHAP", "CHAP_N=alice", "CHAP_R=0x00"] {
        let mut run = run(true);
        let given = challenged(&mut run);
        let failed = run.ask(SECURITY_TO_FULL, &["CHAP_N=alice", &response(&given), again]).failed;
        assert_eq!(failed, Some(LoginStatus::InitiatorError), "{again}");
    }
}

#[test]
fn without_accounts_nobody_gets_in() {
    let mut run = Run::new(AuthPolicy::Chap(ChapPolicy::default()));
    let given = challenged(&mut run);
    let response = format!("CHAP_R={}", proof(&given, b""));
    let answer = run.ask(SECURITY_TO_FULL, &["CHAP_N=", &response]);
    assert_eq!(answer.failed, Some(LoginStatus::AuthenticationFailure));
}

#[test]
fn a_target_whose_secret_is_an_initiators_too_proves_nothing() {
    for reused in [SECRET, b"of somebody else"] {
        let policy = ChapPolicy { mutual: Some(account("disk", reused)), ..policy(false) };
        let mut run = Run::new(AuthPolicy::Chap(policy));
        let given = challenged(&mut run);
        let response = format!("CHAP_R={}", proof(&given, SECRET));
        let keys = ["CHAP_N=alice", &response, "CHAP_I=1", "CHAP_C=0xabcdef"];
        let answer = run.ask(SECURITY_TO_FULL, &keys);
        assert_eq!(answer.failed, Some(LoginStatus::AuthenticationFailure));
    }
}

#[test]
fn a_login_never_prints_a_secret() {
    let mut run = run(true);
    challenged(&mut run);
    let printed = format!("{:?} {:?}", run.login, run.policy.0);
    assert!(printed.contains("alice"));
    for secret in [SECRET, MUTUAL] {
        let text = String::from_utf8_lossy(secret).into_owned();
        let bytes = format!("{secret:?}");
        assert!(!printed.contains(&text) && !printed.contains(bytes.trim_matches(['[', ']'])));
    }
}

#[test]
fn only_who_has_proved_itself_learns_whether_it_may_use_the_target() {
    let names = ["InitiatorName=iqn.2001-04.com.example:stranger", NAMES[1], "AuthMethod=CHAP"];
    for (secret, status) in [
        (SECRET, LoginStatus::AuthorizationFailure),
        (b"not the secret!!".as_slice(), LoginStatus::AuthenticationFailure),
    ] {
        let mut run = run(false);
        assert_eq!(run.ask(0, &names).failed, None);
        let answer = run.ask(0, &["CHAP_A=5"]);
        let given = Given {
            algorithm: ChapAlgorithm::Md5,
            identifier: answer.value("CHAP_I").unwrap().parse().unwrap(),
            challenge: binary_from_text(answer.value("CHAP_C").unwrap()).unwrap(),
        };
        let response = format!("CHAP_R={}", proof(&given, secret));
        let failed = run.ask(SECURITY_TO_FULL, &["CHAP_N=alice", &response]).failed;
        assert_eq!(failed, Some(status));
    }
}

#[test]
fn a_second_try_on_the_same_connection_is_refused() {
    let mut run = run(false);
    let given = challenged(&mut run);
    let response = format!("CHAP_R={}", proof(&given, SECRET));
    assert_eq!(run.ask(0, &["CHAP_N=alice", &response]).failed, None);
    for keys in [["CHAP_N=alice"], ["CHAP_I=1"], ["AuthMethod=None"]] {
        // Each of them is either a key that came before or one that nobody waits for.
        let failed = run.ask(SECURITY_TO_FULL, &keys).failed;
        assert_eq!(failed, Some(LoginStatus::InitiatorError), "{keys:?}");
    }
}

#[test]
fn a_login_without_randomness_fails() {
    struct NoRandom(Policy);
    impl LoginPolicy for NoRandom {
        fn target(&self, i: &IscsiName, t: &IscsiName) -> Result<TargetLogin, LoginStatus> {
            self.0.target(i, t)
        }
        fn discovery(&self, initiator: &IscsiName) -> Result<AuthPolicy, LoginStatus> {
            self.0.discovery(initiator)
        }
        fn random(&self, _: &mut [u8]) -> Result<(), LoginStatus> {
            Err(LoginStatus::TargetError)
        }
    }
    let mut run = run(false);
    run.ask(0, &with_names(&["AuthMethod=CHAP"]));
    let policy = NoRandom(Policy(AuthPolicy::None));
    let request = login_request(0);
    let pdu = Pdu { bhs: request.bytes(), ahs: &[], data: b"CHAP_A=5\0" };
    let step = run.login.handle(&pdu, &policy, &mut Vec::new());
    assert!(matches!(step, LoginStep::Fail(LoginStatus::TargetError)));
}
