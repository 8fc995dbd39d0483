//! CHAP with MD5 (RFC 1994; RFC 7143 §12.1.3).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// Longest CHAP_C and CHAP_R (RFC 7143 §12.1.3).
const MAX_BINARY_LENGTH: usize = 1024;
/// Length of the challenges that are sent.
pub(super) const CHALLENGE_LENGTH: usize = 16;

/// A CHAP secret; never printed, wiped when it goes.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// From its bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }

    fn same_as(&self, other: &Self) -> bool {
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
}

/// Who may log in, and how the target proves itself.
#[derive(Debug, Clone, Default)]
pub struct ChapPolicy {
    /// The initiators' accounts.
    pub accounts: Vec<ChapAccount>,
    /// The target's own account; without it an initiator that wants proof is refused.
    pub mutual: Option<ChapAccount>,
}

/// Why CHAP failed; the initiator hears only "authentication failure".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChapError {
    /// No algorithm in common.
    Algorithm,
    /// A key is missing or is none of binary-value.
    Malformed,
    /// Unknown name or wrong response.
    WrongResponse,
    /// The initiator sent the target's own challenge back.
    Reflected,
    /// The initiator wants proof, and the target has no account or one with the same secret.
    NoMutual,
}

/// MD5 over identifier, secret and challenge (RFC 1994 §4.1).
fn response(identifier: u8, secret: &Secret, challenge: &[u8]) -> [u8; 16] {
    let mut md5 = Md5::new();
    md5.update([identifier]);
    md5.update(secret.0.as_slice());
    md5.update(challenge);
    md5.finalize().into()
}

/// The response an initiator gives.
#[cfg(any(test, feature = "sim"))]
#[must_use]
pub fn prove(identifier: u8, secret: &Secret, challenge: &[u8]) -> [u8; 16] {
    response(identifier, secret, challenge)
}

/// A binary-value in hexadecimal (RFC 7143 §6.1).
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold("0x".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Reads a binary-value in hexadecimal or base64.
#[must_use]
pub fn from_text(value: &str) -> Option<Vec<u8>> {
    let bytes = match value.get(..2)? {
        "0x" | "0X" => from_hex(value.get(2..)?.as_bytes())?,
        "0b" | "0B" => STANDARD.decode(value.get(2..)?).ok()?,
        _ => return None,
    };
    (bytes.len() <= MAX_BINARY_LENGTH).then_some(bytes)
}

fn from_hex(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|n| u8::try_from(n).ok());
    // An odd number of digits: the first byte has one.
    let (head, pairs) = digits.split_at_checked(digits.len() % 2)?;
    let mut bytes = Vec::with_capacity(digits.len() / 2 + 1);
    if let [only] = head {
        bytes.push(digit(*only)?);
    }
    for pair in pairs.chunks_exact(2) {
        let [high, low] = pair else { return None };
        bytes.push(digit(*high)? << 4 | digit(*low)?);
    }
    Some(bytes)
}

/// Whether the list of algorithms has MD5.
pub(super) fn choose_algorithm(list: &str) -> Result<(), ChapError> {
    list.split(',').any(|algorithm| algorithm == "5").then_some(()).ok_or(ChapError::Algorithm)
}

/// A challenge that is out.
#[derive(Debug, Clone)]
pub(super) struct Challenge {
    pub(super) identifier: u8,
    pub(super) bytes: [u8; CHALLENGE_LENGTH],
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
        answer: Answer<'_>,
    ) -> Result<Option<(String, String)>, ChapError> {
        let name = answer.name.ok_or(ChapError::Malformed)?;
        let proof = answer.response.and_then(from_text).ok_or(ChapError::Malformed)?;
        let account = policy.accounts.iter().find(|account| account.name == name);
        // An unknown name costs the same time as a wrong response.
        let nobody = Secret::new(b"");
        let secret = account.map_or(&nobody, |account| &account.secret);
        let right: bool =
            response(self.identifier, secret, &self.bytes).ct_eq(proof.as_slice()).into();
        if !(right && account.is_some()) {
            return Err(ChapError::WrongResponse);
        }
        match (answer.identifier, answer.challenge) {
            (None, None) => Ok(None),
            (Some(identifier), Some(challenge)) => {
                self.prove(policy, secret, identifier, challenge).map(Some)
            }
            _ => Err(ChapError::Malformed),
        }
    }

    fn prove(
        &self,
        policy: &ChapPolicy,
        initiators: &Secret,
        identifier: &str,
        challenge: &str,
    ) -> Result<(String, String), ChapError> {
        let identifier = super::negotiate::number(identifier)
            .and_then(|n| u8::try_from(n).ok())
            .ok_or(ChapError::Malformed)?;
        let challenge = from_text(challenge).ok_or(ChapError::Malformed)?;
        // With the same bytes the initiator could have had its own answer from the target.
        if challenge == self.bytes {
            return Err(ChapError::Reflected);
        }
        let account = policy.mutual.as_ref().ok_or(ChapError::NoMutual)?;
        if account.secret.same_as(initiators) {
            return Err(ChapError::NoMutual);
        }
        let proof = response(identifier, &account.secret, &challenge);
        Ok((account.name.clone(), to_hex(&proof)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> ChapPolicy {
        let account = |name: &str, secret: &[u8]| ChapAccount {
            name: name.to_owned(),
            secret: Secret::new(secret),
        };
        ChapPolicy {
            accounts: vec![account("alice", b"secret-of-alice")],
            mutual: Some(account("target", b"secret-of-target")),
        }
    }

    fn challenge() -> Challenge {
        Challenge { identifier: 7, bytes: [0x5a; 16] }
    }

    /// MD5("\x07" "secret-of-alice" 16 × "Z"), computed with another implementation.
    const PROOF: &str = "0x794e8f44ede3f3e7b7f2163827f88d96";

    #[test]
    fn binary_values_are_read_in_both_forms() {
        assert_eq!(from_text("0x0102ff").unwrap(), [1, 2, 255]);
        assert_eq!(from_text("0X102").unwrap(), [1, 2]);
        assert_eq!(from_text("0bAQL/").unwrap(), [1, 2, 255]);
        for bad in ["", "0", "102", "0xzz", "0b!", "\u{e9}\u{e9}"] {
            assert_eq!(from_text(bad), None, "{bad}");
        }
        assert!(from_text(&to_hex(&[1; 1024])).is_some());
        assert!(from_text(&to_hex(&[1; 1025])).is_none());
    }

    #[test]
    fn the_right_response_is_taken_in_hex_and_base64() {
        let base64 = format!("0b{}", STANDARD.encode(from_text(PROOF).unwrap()));
        for proof in [PROOF, &base64] {
            let answer = Answer { name: Some("alice"), response: Some(proof), ..Answer::default() };
            assert_eq!(challenge().verify(&policy(), answer), Ok(None));
        }
    }

    #[test]
    fn a_wrong_name_or_response_is_refused() {
        let answer = |name, response| Answer { name, response, ..Answer::default() };
        let short = &PROOF[..PROOF.len() - 2];
        for (answer, error) in [
            (answer(Some("bob"), Some(PROOF)), ChapError::WrongResponse),
            (answer(Some("alice"), Some("0x00")), ChapError::WrongResponse),
            (answer(Some("alice"), Some(short)), ChapError::WrongResponse),
            (answer(None, Some(PROOF)), ChapError::Malformed),
            (answer(Some("alice"), None), ChapError::Malformed),
            (answer(Some("alice"), Some("nothing")), ChapError::Malformed),
        ] {
            assert_eq!(challenge().verify(&policy(), answer), Err(error));
        }
        // A name without an account is refused whatever is sent, the response to an empty
        // secret too.
        let empty = to_hex(&response(7, &Secret::new(b""), &[0x5a; 16]));
        let nobody = answer(Some("nobody"), Some(&empty));
        assert_eq!(challenge().verify(&policy(), nobody), Err(ChapError::WrongResponse));
    }

    #[test]
    fn the_target_proves_itself_but_answers_no_reflection() {
        let mut answer = Answer {
            name: Some("alice"),
            response: Some(PROOF),
            identifier: Some("9"),
            challenge: Some("0x0a0b0c"),
        };
        let (name, proof) = challenge().verify(&policy(), answer).unwrap().unwrap();
        let expected = to_hex(&response(9, &Secret::new(b"secret-of-target"), &[10, 11, 12]));
        assert_eq!((name.as_str(), proof), ("target", expected));

        let ours = to_hex(&[0x5a; 16]);
        answer.challenge = Some(&ours);
        assert_eq!(challenge().verify(&policy(), answer), Err(ChapError::Reflected));

        answer.challenge = Some("0x0a0b0c");
        let one_way = ChapPolicy { mutual: None, ..policy() };
        assert_eq!(challenge().verify(&one_way, answer), Err(ChapError::NoMutual));
        let mut reused = policy();
        reused.mutual.as_mut().unwrap().secret = Secret::new(b"secret-of-alice");
        assert_eq!(challenge().verify(&reused, answer), Err(ChapError::NoMutual));
    }

    #[test]
    fn secrets_are_not_printed() {
        assert!(!format!("{:?}", policy()).contains("secret-of"));
    }
}
