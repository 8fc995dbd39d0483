//! CHAP (RFC 1994; RFC 7143 §12.1.3).

use std::fmt;

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::algorithm::{ChapAlgorithm, ChapAlgorithms};
use super::binary::{from_text, to_hex};
use crate::names::{InitiatorPattern, IscsiName};

/// A CHAP secret; never printed, wiped when it goes.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// From its bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }

    /// Whether both are the same, without telling by the time it takes.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A name and the secret that proves it.
#[derive(Debug, Clone)]
pub struct ChapAccount {
    /// CHAP_N.
    pub name: String,
    /// The secret.
    pub secret: Secret,
    /// Initiators that may use it; all of them where there is no list.
    pub initiators: Option<Vec<InitiatorPattern>>,
}

impl ChapAccount {
    /// For every initiator.
    #[must_use]
    pub fn new(name: impl Into<String>, secret: Secret) -> Self {
        Self { name: name.into(), secret, initiators: None }
    }

    fn is_for(&self, initiator: &IscsiName) -> bool {
        let meant = |pattern: &InitiatorPattern| pattern.matches(initiator.as_str());
        self.initiators.as_ref().is_none_or(|patterns| patterns.iter().any(meant))
    }
}

/// Who may log in, and how the target proves itself. Without accounts nobody gets in.
#[derive(Debug, Clone, Default)]
pub struct ChapPolicy {
    /// The initiators' accounts.
    pub accounts: Vec<ChapAccount>,
    /// The target's own account; without it an initiator that wants proof is refused. So it is
    /// if an initiator's account has the same secret.
    pub mutual: Option<ChapAccount>,
    /// The hash functions that may be used.
    pub algorithms: ChapAlgorithms,
}

/// Why CHAP failed; the initiator hears only "authentication failure".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChapError {
    /// A key is missing or is none of binary-value.
    Malformed,
    /// Unknown name or wrong response.
    WrongResponse,
    /// The initiator sent the target's own challenge back.
    Reflected,
    /// The initiator wants proof, and the target has no account.
    NoMutual,
    /// The target's secret is an initiator's too.
    SharedSecret,
}

/// The hash over identifier, secret and challenge (RFC 1994 §4.1).
fn response(
    algorithm: ChapAlgorithm,
    identifier: u8,
    secret: &Secret,
    challenge: &[u8],
) -> Vec<u8> {
    algorithm.hash([&[identifier], &secret.0, challenge])
}

/// The response an initiator gives.
#[cfg(any(test, feature = "sim"))]
#[must_use]
pub fn prove(
    algorithm: ChapAlgorithm,
    identifier: u8,
    secret: &Secret,
    challenge: &[u8],
) -> Vec<u8> {
    response(algorithm, identifier, secret, challenge)
}

/// A challenge that is out.
#[derive(Debug, Clone)]
pub(super) struct Challenge {
    pub(super) algorithm: ChapAlgorithm,
    pub(super) identifier: u8,
    /// As long as the algorithm's responses.
    pub(super) bytes: Vec<u8>,
}

/// What the initiator answered.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Answer<'a> {
    pub(super) name: Option<&'a str>,
    pub(super) response: Option<&'a str>,
    pub(super) identifier: Option<&'a str>,
    pub(super) challenge: Option<&'a str>,
}

impl Challenge {
    /// Checks the answer; the target's own CHAP_N and CHAP_R if the initiator wants them.
    pub(super) fn verify(
        &self,
        policy: &ChapPolicy,
        initiator: &IscsiName,
        answer: Answer<'_>,
    ) -> Result<Option<(String, String)>, ChapError> {
        let name = answer.name.ok_or(ChapError::Malformed)?;
        let proof = answer.response.and_then(from_text).ok_or(ChapError::Malformed)?;
        let usable = |account: &&ChapAccount| account.name == name && account.is_for(initiator);
        let account = policy.accounts.iter().find(usable);
        // An unknown name costs the same time as a wrong response.
        let nobody = Secret::new(b"");
        let secret = account.map_or(&nobody, |account| &account.secret);
        let expected = response(self.algorithm, self.identifier, secret, &self.bytes);
        // Of another length is wrong too.
        let right: bool = expected.ct_eq(&proof).into();
        if !(right && account.is_some()) {
            return Err(ChapError::WrongResponse);
        }
        match (answer.identifier, answer.challenge) {
            (None, None) => Ok(None),
            (Some(identifier), Some(challenge)) => {
                self.prove(policy, identifier, challenge).map(Some)
            }
            _ => Err(ChapError::Malformed),
        }
    }

    fn prove(
        &self,
        policy: &ChapPolicy,
        identifier: &str,
        challenge: &str,
    ) -> Result<(String, String), ChapError> {
        let identifier = super::negotiate::number(identifier)
            .and_then(|n| u8::try_from(n).ok())
            .ok_or(ChapError::Malformed)?;
        let challenge = from_text(challenge).ok_or(ChapError::Malformed)?;
        // With the same bytes the initiator could have had its own answer from the target.
        if challenge.ct_eq(&self.bytes).into() {
            return Err(ChapError::Reflected);
        }
        let own = policy.mutual.as_ref().ok_or(ChapError::NoMutual)?;
        // Of all accounts: with one connection's challenge the target would answer for another,
        // that claims to be the initiator with this secret.
        if policy.accounts.iter().any(|account| account.secret.same_as(&own.secret)) {
            return Err(ChapError::SharedSecret);
        }
        let proof = response(self.algorithm, identifier, &own.secret, &challenge);
        Ok((own.name.clone(), to_hex(&proof)))
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::super::algorithm::tests::PROOFS;
    use super::*;

    fn account(name: &str, secret: &[u8]) -> ChapAccount {
        ChapAccount::new(name, Secret::new(secret))
    }

    fn policy() -> ChapPolicy {
        ChapPolicy {
            accounts: vec![account("alice", b"secret-of-alice"), account("carol", b"third secret")],
            mutual: Some(account("target", b"secret-of-target")),
            ..ChapPolicy::default()
        }
    }

    fn host() -> IscsiName {
        IscsiName::new("iqn.2001-04.com.example:host").unwrap()
    }

    fn challenge(algorithm: ChapAlgorithm) -> Challenge {
        Challenge { algorithm, identifier: 7, bytes: vec![b'Z'; algorithm.length()] }
    }

    fn alice(proof: &str) -> Answer<'_> {
        Answer { name: Some("alice"), response: Some(proof), ..Answer::default() }
    }

    #[test]
    fn the_right_response_is_taken_in_hex_and_base64() {
        for (algorithm, proof) in PROOFS {
            let base64 = format!("0b{}", STANDARD.encode(from_text(proof).unwrap()));
            for proof in [proof, &proof.to_uppercase().replace("0X", "0x"), &base64] {
                assert_eq!(challenge(algorithm).verify(&policy(), &host(), alice(proof)), Ok(None));
            }
        }
    }

    #[test]
    fn an_account_is_good_for_the_initiators_that_it_names() {
        let (algorithm, proof) = PROOFS[0];
        let verify = |patterns: &[&str]| {
            let mut policy = policy();
            let pattern = |text: &&str| InitiatorPattern::new(text).unwrap();
            policy.accounts[0].initiators = Some(patterns.iter().map(pattern).collect());
            challenge(algorithm).verify(&policy, &host(), alice(proof))
        };
        assert_eq!(verify(&["iqn.2001-04.com.example:host"]), Ok(None));
        assert_eq!(verify(&["eui.02004567A425678D", "iqn.2001-04.com.example:*"]), Ok(None));
        // Nobody hears that it is somebody else's.
        assert_eq!(verify(&["iqn.2001-04.com.example:guest"]), Err(ChapError::WrongResponse));
        assert_eq!(verify(&[]), Err(ChapError::WrongResponse));
    }

    #[test]
    fn a_wrong_name_or_response_is_refused() {
        for (algorithm, proof) in PROOFS {
            let empty = prove(algorithm, 7, &Secret::new(b""), &challenge(algorithm).bytes);
            let empty = to_hex(&empty);
            let no_digit = format!("{}g", &proof[..proof.len() - 1]);
            let answer = |name, response| Answer { name, response, ..Answer::default() };
            for (answer, error) in [
                (answer(Some("bob"), Some(proof)), ChapError::WrongResponse),
                (answer(Some("Alice"), Some(proof)), ChapError::WrongResponse),
                (answer(Some("carol"), Some(proof)), ChapError::WrongResponse),
                // An account that is not there has no secret, not an empty one.
                (answer(Some("nobody"), Some(&empty)), ChapError::WrongResponse),
                (answer(None, Some(proof)), ChapError::Malformed),
                (answer(Some("alice"), None), ChapError::Malformed),
                (answer(Some("alice"), Some("nothing")), ChapError::Malformed),
                (answer(Some("alice"), Some("0x")), ChapError::Malformed),
                (answer(Some("alice"), Some(&no_digit)), ChapError::Malformed),
            ] {
                assert_eq!(challenge(algorithm).verify(&policy(), &host(), answer), Err(error));
            }
        }
    }

    #[test]
    fn a_response_has_the_length_of_its_algorithm() {
        for (algorithm, proof) in PROOFS {
            let bytes = from_text(proof).unwrap();
            let shorter = to_hex(&bytes[..bytes.len() - 1]);
            let longer = to_hex(&[&bytes[..], &[0]].concat());
            let padded = to_hex(&[&[0], &bytes[..]].concat());
            for wrong in [&shorter, &longer, &padded, "0x00"] {
                let result = challenge(algorithm).verify(&policy(), &host(), alice(wrong));
                assert_eq!(result, Err(ChapError::WrongResponse), "{algorithm:?} {wrong}");
            }
            // What another algorithm makes of the same challenge is no proof.
            for other in ChapAlgorithm::STRONGEST_FIRST.into_iter().filter(|it| *it != algorithm) {
                let secret = Secret::new(b"secret-of-alice");
                let wrong = to_hex(&prove(other, 7, &secret, &challenge(algorithm).bytes));
                let result = challenge(algorithm).verify(&policy(), &host(), alice(&wrong));
                assert_eq!(result, Err(ChapError::WrongResponse), "{algorithm:?} {other:?}");
            }
        }
    }

    #[test]
    fn the_target_proves_itself_with_the_same_algorithm() {
        // `hashlib.new(name, b"\x09" b"secret-of-target" b"\x0a\x0b\x0c").hexdigest()` of Python.
        let expected = [
            "0x5df09610f76ca70b9af44db6343912ec",
            "0x8bc5b4a632863d20f50a0a5e13c6468476a68873",
            "0x53d362b5c7bae3ec00fe7a507f96931fecae53787e36011d0b3e08551e2313ff",
            "0xe2bab6768f921ca7a6ee7a6cd3041dcafed28fd12acdcb2fd2a7ecdaa7da00b9",
        ];
        for ((algorithm, proof), expected) in PROOFS.into_iter().zip(expected) {
            let answer =
                Answer { identifier: Some("9"), challenge: Some("0x0a0b0c"), ..alice(proof) };
            let (name, proof) =
                challenge(algorithm).verify(&policy(), &host(), answer).unwrap().unwrap();
            assert_eq!((name.as_str(), proof.as_str()), ("target", expected));
        }
    }

    #[test]
    fn no_proof_is_given_for_what_is_no_challenge() {
        let long = to_hex(&[1; 1025]);
        for (algorithm, proof) in PROOFS {
            let ours = challenge(algorithm).bytes;
            let base64 = format!("0b{}", STANDARD.encode(&ours));
            let malformed = Err(ChapError::Malformed);
            let reflected = Err(ChapError::Reflected);
            for (identifier, challenged, result) in [
                (Some("9"), None, malformed.clone()),
                (None, Some("0x01"), malformed.clone()),
                (Some("256"), Some("0x01"), malformed.clone()),
                (Some("-1"), Some("0x01"), malformed.clone()),
                (Some(""), Some("0x01"), malformed.clone()),
                (Some("9"), Some("0x"), malformed.clone()),
                (Some("9"), Some("01"), malformed.clone()),
                (Some("9"), Some(long.as_str()), malformed),
                // Whatever its identifier and form.
                (Some("7"), Some(&to_hex(&ours)), reflected.clone()),
                (Some("9"), Some(&base64), reflected),
            ] {
                let answer = Answer { identifier, challenge: challenged, ..alice(proof) };
                assert_eq!(challenge(algorithm).verify(&policy(), &host(), answer), result);
            }
        }
    }

    #[test]
    fn no_proof_is_given_without_a_secret_of_its_own() {
        let (algorithm, proof) = PROOFS[2];
        let answer = Answer { identifier: Some("9"), challenge: Some("0x01"), ..alice(proof) };
        let one_way = ChapPolicy { mutual: None, ..policy() };
        assert_eq!(
            challenge(algorithm).verify(&one_way, &host(), answer),
            Err(ChapError::NoMutual)
        );
        // Neither the secret of whoever logs in nor that of anybody else.
        for account in policy().accounts {
            let mut reused = policy();
            reused.mutual.as_mut().unwrap().secret = account.secret;
            let result = challenge(algorithm).verify(&reused, &host(), answer);
            assert_eq!(result, Err(ChapError::SharedSecret), "{}", account.name);
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let printed = format!("{:?}", policy());
        assert!(printed.contains("alice"));
        for part in ["secret-of", "third", "115, 101, 99", "736563"] {
            assert!(!printed.contains(part), "{printed}");
        }
    }
}
