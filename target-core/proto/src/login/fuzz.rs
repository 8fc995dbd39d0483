//! Entry points for fuzz targets: whatever comes, nobody gets in without proof.

use super::security::Security;
use super::{
    AuthPolicy, ChapAccount, ChapPolicy, Login, LoginConfig, LoginPolicy, LoginStatus, LoginStep,
    Secret, TargetLogin,
};
use crate::codec::{Decoded, Decoder};
use crate::ids::Tsih;
use crate::names::IscsiName;
use crate::parameters::Offer;

struct Fixed(AuthPolicy);

impl LoginPolicy for Fixed {
    fn target(&self, _: &IscsiName, _: &IscsiName) -> Result<TargetLogin, LoginStatus> {
        Ok(TargetLogin { auth: self.0.clone(), alias: String::new() })
    }

    fn discovery(&self, _: &IscsiName) -> Result<AuthPolicy, LoginStatus> {
        Ok(self.0.clone())
    }

    fn random(&self, bytes: &mut [u8]) -> Result<(), LoginStatus> {
        bytes.fill(0x5a);
        Ok(())
    }
}

fn run(input: &[u8], policy: &Fixed) -> bool {
    let rules = Decoder::for_login(super::LOGIN_SEGMENT_LENGTH);
    let config = LoginConfig { offer: Offer::default(), target_portal_group_tag: 1, window: 128 };
    let (mut login, mut rest, mut out) = (Login::new(config), input, Vec::new());
    while let Ok(Decoded::Pdu { pdu, consumed }) = rules.decode(rest) {
        let before = out.len();
        let step = login.handle(&pdu, policy, &mut out);
        // Every request is answered, and no answer is longer than a segment.
        assert!(out.len() - before <= 48 + 8192 + 4096);
        match step {
            LoginStep::Respond => assert!(out.len() > before),
            LoginStep::Fail(_) => return false,
            LoginStep::Admit(_) => {
                login.admit(Ok(Tsih(1)), &mut out);
                return true;
            }
        }
        rest = rest.get(consumed..).unwrap_or_default();
    }
    false
}

/// A target that wants no proof.
pub fn login(input: &[u8]) {
    run(input, &Fixed(AuthPolicy::None));
}

/// A target that wants proof no input can have: the secret is not in it.
pub fn chap(input: &[u8]) {
    let secret = Secret::new(b"\x00no initiator knows this\xff");
    let account = ChapAccount::new("initiator", secret);
    let policy = ChapPolicy { accounts: vec![account], ..ChapPolicy::default() };
    assert!(!run(input, &Fixed(AuthPolicy::Chap(policy))), "somebody got in without proof");
}

/// The values of CHAP_A, CHAP_N, CHAP_R, CHAP_I and CHAP_C, a line each, to a target that proves
/// itself too: nobody gets in without the secret, and what is read as binary is written as it was.
pub fn chap_values(input: &[u8]) {
    let Ok(input) = std::str::from_utf8(input) else { return };
    for value in input.lines() {
        if let Some(bytes) = super::binary_from_text(value) {
            assert_eq!(super::binary_from_text(&super::binary_to_hex(&bytes)), Some(bytes));
        }
    }
    let account = |name: &str, secret: &[u8]| ChapAccount::new(name, Secret::new(secret));
    let Ok(initiator) = IscsiName::new("iqn.2001-04.com.example:fuzz") else { return };
    let chap = ChapPolicy {
        accounts: vec![account("initiator", b"\x00no initiator knows this\xff")],
        mutual: Some(account("target", b"\x01nor that the target's own\xfe")),
        ..ChapPolicy::default()
    };
    let policy = Fixed(AuthPolicy::Chap(chap));
    let mut security = Security::new(policy.0.clone());
    let mut lines = input.lines();
    let keys = ["CHAP_N", "CHAP_R", "CHAP_I", "CHAP_C"];
    let begin = [("AuthMethod", "CHAP"), ("CHAP_A", lines.next().unwrap_or_default())];
    let given: Vec<_> = keys.into_iter().zip(lines).collect();
    let mut answer = Vec::new();
    for pairs in [&begin[..1], &begin[1..], &given] {
        if security.handle(pairs, false, &initiator, &policy, &mut answer).is_err() {
            break;
        }
    }
    assert!(!security.is_done(), "somebody got in without proof");
}
