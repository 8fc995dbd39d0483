//! The security negotiation stage (RFC 7143 §12).

use super::chap::{Answer, Challenge};
use super::{AuthPolicy, ChapAlgorithm, ChapPolicy, LoginPolicy, LoginStatus};
use crate::names::IscsiName;
use crate::text;

/// How an initiator has proved who it is (RFC 7143 §12).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authentication {
    /// AuthMethod=None: not at all.
    None,
    /// AuthMethod=CHAP.
    Chap {
        /// CHAP_N of the initiator.
        name: String,
        /// The hash function.
        algorithm: ChapAlgorithm,
        /// The target has proved itself too.
        mutual: bool,
    },
}

/// How far the initiator has proved itself.
#[derive(Debug)]
pub(super) enum Security {
    /// No proof is wanted.
    Open,
    /// AuthMethod has not been agreed on.
    MethodWanted(ChapPolicy),
    /// CHAP is agreed on, CHAP_A has not come.
    AlgorithmWanted(ChapPolicy),
    /// A challenge is out.
    ResponseWanted(ChapPolicy, Challenge),
    /// Proved.
    Proved(Authentication),
}

impl Default for Security {
    /// Nobody is known to be anybody: the state before the introduction.
    fn default() -> Self {
        Self::MethodWanted(ChapPolicy::default())
    }
}

fn value<'a>(pairs: &[text::Pair<'a>], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
}

impl Security {
    pub(super) fn new(policy: AuthPolicy) -> Self {
        match policy {
            AuthPolicy::None => Self::Open,
            AuthPolicy::Chap(policy) => Self::MethodWanted(policy),
        }
    }

    /// Whether the stage may be left.
    pub(super) const fn is_done(&self) -> bool {
        matches!(self, Self::Open | Self::Proved(_))
    }

    /// What was proved, once the stage is done.
    pub(super) fn authentication(&self) -> Option<Authentication> {
        match self {
            Self::Open => Some(Authentication::None),
            Self::Proved(authentication) => Some(authentication.clone()),
            Self::MethodWanted(_) | Self::AlgorithmWanted(_) | Self::ResponseWanted(..) => None,
        }
    }

    /// Takes the keys of a request in this stage.
    ///
    /// `transit`: the initiator wants to leave the stage with it.
    pub(super) fn handle(
        &mut self,
        pairs: &[text::Pair<'_>],
        transit: bool,
        initiator: &IscsiName,
        policy: &dyn LoginPolicy,
        answer: &mut Vec<u8>,
    ) -> Result<(), LoginStatus> {
        const FAILURE: LoginStatus = LoginStatus::AuthenticationFailure;
        let chap_keys = pairs.iter().any(|(key, _)| key.starts_with("CHAP_"));
        let method = value(pairs, "AuthMethod");
        let state = std::mem::take(self);
        *self = match state {
            // Keys of a method that was not chosen.
            Self::Open | Self::Proved(_) if chap_keys => return Err(LoginStatus::InitiatorError),
            Self::Open => {
                if let Some(list) = method {
                    if !list.split(',').any(|method| method == "None") {
                        return Err(FAILURE);
                    }
                    text::push(answer, "AuthMethod", "None");
                }
                Self::Open
            }
            Self::MethodWanted(_) if chap_keys => return Err(LoginStatus::InitiatorError),
            Self::MethodWanted(chap) => match method {
                Some(list) if list.split(',').any(|method| method == "CHAP") => {
                    text::push(answer, "AuthMethod", "CHAP");
                    Self::AlgorithmWanted(chap)
                }
                // Some initiators introduce themselves first and negotiate then.
                None if !transit => Self::MethodWanted(chap),
                _ => return Err(FAILURE),
            },
            Self::AlgorithmWanted(chap) => {
                // An answer before there was a question.
                if pairs.iter().any(|(key, _)| key.starts_with("CHAP_") && *key != "CHAP_A") {
                    return Err(LoginStatus::InitiatorError);
                }
                let list = value(pairs, "CHAP_A").ok_or(FAILURE)?;
                let algorithm = chap.algorithms.choose(list).ok_or(FAILURE)?;
                let challenge = new_challenge(algorithm, policy)?;
                text::push(answer, "CHAP_A", &algorithm.number().to_string());
                text::push(answer, "CHAP_I", &challenge.identifier.to_string());
                text::push(answer, "CHAP_C", &super::binary_to_hex(&challenge.bytes));
                Self::ResponseWanted(chap, challenge)
            }
            Self::ResponseWanted(chap, challenge) => {
                let given = Answer {
                    name: value(pairs, "CHAP_N"),
                    response: value(pairs, "CHAP_R"),
                    identifier: value(pairs, "CHAP_I"),
                    challenge: value(pairs, "CHAP_C"),
                };
                let proof = challenge.verify(&chap, initiator, given).map_err(|_| FAILURE)?;
                if let Some((name, proof)) = &proof {
                    text::push(answer, "CHAP_N", name);
                    text::push(answer, "CHAP_R", proof);
                }
                Self::Proved(Authentication::Chap {
                    name: given.name.unwrap_or_default().to_owned(),
                    algorithm: challenge.algorithm,
                    mutual: proof.is_some(),
                })
            }
            Self::Proved(authentication) => Self::Proved(authentication),
        };
        Ok(())
    }
}

fn new_challenge(
    algorithm: ChapAlgorithm,
    policy: &dyn LoginPolicy,
) -> Result<Challenge, LoginStatus> {
    let (mut identifier, mut bytes) = ([0; 1], vec![0; algorithm.length()]);
    policy.random(&mut identifier)?;
    policy.random(&mut bytes)?;
    let [identifier] = identifier;
    Ok(Challenge { algorithm, identifier, bytes })
}
