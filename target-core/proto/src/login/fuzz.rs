//! Entry points for fuzz targets: whatever comes, nobody gets in without proof.

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
    let account = ChapAccount { name: "initiator".to_owned(), secret };
    let policy = ChapPolicy { accounts: vec![account], ..ChapPolicy::default() };
    assert!(!run(input, &Fixed(AuthPolicy::Chap(policy))), "somebody got in without proof");
}
