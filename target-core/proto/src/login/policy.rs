//! What a login asks the target: who may log in where, and how.

use super::{ChapPolicy, LoginStatus};
use crate::ids::{Isid, Tsih};
use crate::names::{IscsiName, TargetAddress};
use crate::parameters::Parameters;
use crate::serial::CmdSn;

/// How an initiator must prove itself.
#[derive(Debug, Clone, Default)]
pub enum AuthPolicy {
    /// It need not.
    #[default]
    None,
    /// By CHAP; AuthMethod None is refused.
    Chap(ChapPolicy),
}

/// What a login needs to know of a target.
#[derive(Debug, Clone, Default)]
pub struct TargetLogin {
    /// How the initiator must prove itself.
    pub auth: AuthPolicy,
    /// TargetAlias; may be empty.
    pub alias: String,
}

/// Where a target has moved (RFC 7143 §11.13.5): logins are sent there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// TargetAddress; its portal group tag is not told.
    pub address: TargetAddress,
    /// For good: the initiator may forget this address.
    pub permanent: bool,
}

/// A session that a login wants to belong to.
#[derive(Debug, Clone, Copy)]
pub struct ExistingSession {
    /// What its first login negotiated.
    pub parameters: Parameters,
    /// Its ExpCmdSN, or an earlier one.
    pub exp_cmd_sn: CmdSn,
}

/// The name of a session, as a login gives it (RFC 7143 §4.2.7).
#[derive(Debug, Clone, Copy)]
pub struct SessionName<'a> {
    /// TSIH; never [`Tsih::NEW`].
    pub tsih: Tsih,
    /// ISID.
    pub isid: Isid,
    /// InitiatorName.
    pub initiator: &'a IscsiName,
    /// TargetName; none in a discovery session.
    pub target: Option<&'a IscsiName>,
}

/// Decides who may log in where.
pub trait LoginPolicy {
    /// Before a normal session.
    ///
    /// # Errors
    /// The status that the login ends with.
    fn target(&self, initiator: &IscsiName, target: &IscsiName)
    -> Result<TargetLogin, LoginStatus>;

    /// Before a discovery session.
    ///
    /// # Errors
    /// The status that the login ends with.
    fn discovery(&self, initiator: &IscsiName) -> Result<AuthPolicy, LoginStatus>;

    /// Before a normal session, once the initiator has proved itself as far as it must.
    ///
    /// # Errors
    /// The status that the login ends with: [`LoginStatus::AuthorizationFailure`] for an initiator
    /// that may not use the target.
    fn authorize(&self, _initiator: &IscsiName, _target: &IscsiName) -> Result<(), LoginStatus> {
        Ok(())
    }

    /// Where the initiator is to log in instead, asked after [`LoginPolicy::target`] let it in and
    /// before it has proved itself.
    fn redirect(&self, _initiator: &IscsiName, _target: &IscsiName) -> Option<Redirect> {
        None
    }

    /// The session of that name, if there is one. Whether the login may become its connection is
    /// decided when it asks to be admitted.
    fn session(&self, _name: SessionName<'_>) -> Option<ExistingSession> {
        None
    }

    /// Fills `bytes` with what nobody can guess.
    ///
    /// # Errors
    /// There is no such source now; the login fails.
    fn random(&self, bytes: &mut [u8]) -> Result<(), LoginStatus>;
}
