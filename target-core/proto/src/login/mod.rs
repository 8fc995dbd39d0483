//! The login phase (RFC 7143 §6.3, §11.12, §11.13), from the first PDU of a connection to the
//! full feature phase.
//!
//! [`Login::handle`] takes each PDU and writes the response; when everything is settled it asks
//! to be admitted, and [`Login::admit`] writes the last response.

mod algorithm;
mod binary;
mod chap;
pub mod fuzz;
mod keys;
mod negotiate;
mod policy;
mod security;
mod status;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use self::keys::SECURITY;
use self::negotiate::Draft;
use self::security::Security;
use crate::codec::{Decoder, encode};
use crate::ids::{Cid, Isid, Tsih};
use crate::names::{IscsiName, TargetAddress};
use crate::parameters::{Offer, Parameters};
use crate::pdu::{CONTINUE, FINAL, LoginRequest, LoginResponse, Pdu, Request, Stage, opcode};
use crate::serial::{CmdSn, StatSn};
use crate::text::{self, TextAccumulator};

pub use algorithm::{ChapAlgorithm, ChapAlgorithms};
pub use binary::{from_text as binary_from_text, to_hex as binary_to_hex};
#[cfg(any(test, feature = "sim"))]
pub use chap::prove;
pub use chap::{ChapAccount, ChapPolicy, Secret};
pub use negotiate::full_feature;
pub use policy::{AuthPolicy, ExistingSession, LoginPolicy, Redirect, SessionName, TargetLogin};
pub use security::Authentication;
pub use status::LoginStatus;

/// MaxRecvDataSegmentLength of both sides during login (RFC 7143 §13.12).
pub const LOGIN_SEGMENT_LENGTH: u32 = 8192;
/// The most text a connection may send before it has logged in.
pub const MAX_LOGIN_TEXT: usize = 64 << 10;
/// The most requests a login may take; initiators need four.
const MAX_REQUESTS: u32 = 64;

/// SessionType (RFC 7143 §13.21).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionType {
    /// SCSI commands.
    Normal,
    /// SendTargets and Logout only.
    Discovery,
}

/// What settles the bounds of a login.
#[derive(Debug, Clone, Copy)]
pub struct LoginConfig {
    /// What the target offers.
    pub offer: Offer,
    /// Portal group of the portal that was connected to.
    pub target_portal_group_tag: u16,
    /// Commands a session may have outstanding; MaxCmdSN starts from it.
    pub window: u32,
}

/// What comes of a login.
#[derive(Debug, Clone)]
pub struct LoginOutcome {
    /// Normal or discovery.
    pub session_type: SessionType,
    /// InitiatorName.
    pub initiator_name: IscsiName,
    /// InitiatorAlias.
    pub initiator_alias: Option<String>,
    /// TargetName, in normal sessions.
    pub target_name: Option<IscsiName>,
    /// How the initiator has proved who it is.
    pub authentication: Authentication,
    /// The initiator's part of the session's name.
    pub isid: Isid,
    /// The TSIH that was asked for; [`Tsih::NEW`] in a new session.
    pub requested_tsih: Tsih,
    /// The connection's ID.
    pub cid: Cid,
    /// The portal group that the initiator came to, in discovery sessions too.
    pub target_portal_group_tag: u16,
    /// The first CmdSN of the full feature phase.
    pub cmd_sn: CmdSn,
    /// The next StatSN of the connection.
    pub stat_sn: StatSn,
    /// What was negotiated.
    pub parameters: Parameters,
}

/// What follows from a PDU.
#[derive(Debug)]
pub enum LoginStep {
    /// Send what was written and go on reading.
    Respond,
    /// Everything is settled: find a session for it, then call [`Login::admit`].
    Admit(Box<LoginOutcome>),
    /// Send what was written, then close.
    Fail(LoginStatus),
}

/// A login that is going on.
#[derive(Debug)]
pub struct Login {
    config: LoginConfig,
    stage: Stage,
    /// From the first request; the rest must be like it.
    first: Option<LoginRequest>,
    requests: u32,
    text: TextAccumulator,
    text_received: usize,
    /// Keys of this login, none of which may come twice (§6.2).
    seen: HashSet<String>,
    peer: Option<Peer>,
    security: Security,
    draft: Draft,
    /// ExpCmdSN and MaxCmdSN of the session, if it is there already.
    numbers: Option<(CmdSn, CmdSn)>,
    /// TargetAddress, if the target has moved.
    moved_to: Option<String>,
    authorized: bool,
    declared: bool,
    stat_sn: StatSn,
    /// The last response, until somebody is admitted.
    pending: Option<(LoginResponse, Vec<u8>)>,
}

#[derive(Debug)]
struct Peer {
    session_type: SessionType,
    initiator_name: IscsiName,
    initiator_alias: Option<String>,
    target_name: Option<IscsiName>,
    alias: String,
}

impl Login {
    /// The state of a connection that has sent nothing yet.
    #[must_use]
    pub fn new(config: LoginConfig) -> Self {
        Self {
            config,
            stage: Stage::SecurityNegotiation,
            first: None,
            requests: 0,
            text: TextAccumulator::new(MAX_LOGIN_TEXT),
            text_received: 0,
            seen: HashSet::new(),
            peer: None,
            security: Security::default(),
            draft: Draft { offer: config.offer, parameters: Parameters::default(), settled: false },
            numbers: None,
            moved_to: None,
            authorized: false,
            declared: false,
            stat_sn: StatSn(0),
            pending: None,
        }
    }

    /// InitiatorName, as soon as it is known.
    #[must_use]
    pub fn initiator_name(&self) -> Option<&IscsiName> {
        self.peer.as_ref().map(|peer| &peer.initiator_name)
    }

    /// Takes a PDU; appends the response, if one is due, to `out`.
    pub fn handle(
        &mut self,
        pdu: &Pdu<'_>,
        policy: &dyn LoginPolicy,
        out: &mut Vec<u8>,
    ) -> LoginStep {
        let Request::Login(request) = pdu.request() else {
            // §6.3: nothing but Login Requests before the full feature phase.
            let echo = LoginRequest::view(pdu.bhs);
            return self.fail(echo, LoginStatus::InvalidDuringLogin, out);
        };
        match self.step(request, pdu, policy, out) {
            Ok(step) => step,
            Err(status) => self.fail(request, status, out),
        }
    }

    /// Ends the login: with the session's TSIH, or with the reason why it cannot be.
    pub fn admit(&mut self, decision: Result<Tsih, LoginStatus>, out: &mut Vec<u8>) {
        let Some((mut response, text)) = self.pending.take() else { return };
        match decision {
            Ok(tsih) => {
                response.tsih = tsih.0.into();
                self.send(&response, &text, out);
            }
            Err(status) => {
                (response.status_class, response.status_detail) = status.code();
                response.flags = 0;
                self.send(&response, &[], out);
            }
        }
    }

    /// Ends a login that has become the connection of a session that was there already, with that
    /// session's ExpCmdSN and MaxCmdSN.
    pub fn admit_into(
        &mut self,
        tsih: Tsih,
        exp_cmd_sn: CmdSn,
        max_cmd_sn: CmdSn,
        out: &mut Vec<u8>,
    ) {
        if let Some((response, _)) = &mut self.pending {
            response.exp_cmd_sn = exp_cmd_sn.0.into();
            response.max_cmd_sn = max_cmd_sn.0.into();
        }
        self.admit(Ok(tsih), out);
    }

    fn step(
        &mut self,
        request: &LoginRequest,
        pdu: &Pdu<'_>,
        policy: &dyn LoginPolicy,
        out: &mut Vec<u8>,
    ) -> Result<LoginStep, LoginStatus> {
        let next = self.check_header(request, pdu)?;
        self.text_received += pdu.data.len();
        if self.text_received > MAX_LOGIN_TEXT || self.requests > MAX_REQUESTS {
            return Err(LoginStatus::InitiatorError);
        }
        self.text.push(pdu.data).map_err(|_| LoginStatus::InitiatorError)?;
        if request.continues() {
            let response = self.response(request);
            self.send(&response, &[], out);
            return Ok(LoginStep::Respond);
        }
        let received = self.text.take();
        let pairs = text::parse(&received).map_err(|_| LoginStatus::InitiatorError)?;
        if pairs.iter().any(|(key, _)| !self.seen_once(key)) {
            return Err(LoginStatus::InitiatorError);
        }
        if self.peer.is_none() {
            self.introduce(request, &pairs, policy)?;
        }
        let mut answer = Vec::new();
        self.negotiate(&pairs, next.is_some(), policy, &mut answer)?;
        self.authorize(policy)?;
        self.declare(&mut answer);
        // Only a heap of unknown keys gets there, and none is worth a continued response.
        if answer.len() > LOGIN_SEGMENT_LENGTH as usize {
            return Err(LoginStatus::OutOfResources);
        }

        let mut response = self.response(request);
        let Some(next) = next.filter(|_| self.may_leave()) else {
            self.send(&response, &answer, out);
            return Ok(LoginStep::Respond);
        };
        response.flags |= FINAL | next.bits();
        self.stage = next;
        if next != Stage::FullFeaturePhase {
            self.send(&response, &answer, out);
            return Ok(LoginStep::Respond);
        }
        let outcome = self.outcome(request)?;
        self.pending = Some((response, answer));
        Ok(LoginStep::Admit(Box::new(outcome)))
    }

    /// A key may come once in a login (§6.2).
    fn seen_once(&mut self, key: &str) -> bool {
        self.seen.insert(key.to_owned())
    }

    /// The rules for the header (§11.12); the stage that is wanted, if T is set.
    fn check_header(
        &mut self,
        request: &LoginRequest,
        pdu: &Pdu<'_>,
    ) -> Result<Option<Stage>, LoginStatus> {
        if request.version_min > 0 {
            return Err(LoginStatus::UnsupportedVersion);
        }
        self.requests += 1;
        if let Some(first) = &self.first {
            let same = first.isid == request.isid
                && first.tsih == request.tsih
                && first.cid == request.cid
                && first.initiator_task_tag == request.initiator_task_tag
                && first.cmd_sn == request.cmd_sn;
            if !same {
                return Err(LoginStatus::InitiatorError);
            }
        } else {
            self.first = Some(*request);
            self.stat_sn = StatSn(request.exp_stat_sn.get());
            // An initiator that needs no security may begin with the second stage.
            if request.current_stage() == Some(Stage::LoginOperationalNegotiation) {
                self.stage = Stage::LoginOperationalNegotiation;
            }
        }
        let immediate = pdu.basic().immediate();
        let sound = immediate
            && request.current_stage() == Some(self.stage)
            && pdu.ahs.is_empty()
            && !(request.transit() && request.continues());
        if !sound {
            return Err(LoginStatus::InitiatorError);
        }
        if !request.transit() {
            return Ok(None);
        }
        match request.next_stage() {
            Some(next) if next.bits() > self.stage.bits() => Ok(Some(next)),
            _ => Err(LoginStatus::InitiatorError),
        }
    }

    /// What the first text must say (§6.3, §13.4, §13.21).
    fn introduce(
        &mut self,
        request: &LoginRequest,
        pairs: &[text::Pair<'_>],
        policy: &dyn LoginPolicy,
    ) -> Result<(), LoginStatus> {
        let value = |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
        let initiator = value("InitiatorName").ok_or(LoginStatus::MissingParameter)?;
        let initiator_name = IscsiName::new(initiator).map_err(|_| LoginStatus::InitiatorError)?;
        let session_type = match value("SessionType") {
            None | Some("Normal") => SessionType::Normal,
            Some("Discovery") => SessionType::Discovery,
            Some(_) => return Err(LoginStatus::SessionTypeNotSupported),
        };
        let (auth, target_name, alias) = match session_type {
            SessionType::Normal => {
                let name = value("TargetName").ok_or(LoginStatus::MissingParameter)?;
                let name = IscsiName::new(name).map_err(|_| LoginStatus::NotFound)?;
                let target = policy.target(&initiator_name, &name)?;
                // Sessions that are there stay there, with all their connections.
                let new = request.tsih.get() == Tsih::NEW.0;
                let redirect = if new { policy.redirect(&initiator_name, &name) } else { None };
                if let Some(redirect) = redirect {
                    return Err(self.move_to(redirect));
                }
                (target.auth, Some(name), target.alias)
            }
            SessionType::Discovery => (policy.discovery(&initiator_name)?, None, String::new()),
        };
        // Whoever skips the security stage has proved nothing.
        if matches!(auth, AuthPolicy::Chap(_)) && self.stage != Stage::SecurityNegotiation {
            return Err(LoginStatus::AuthenticationFailure);
        }
        let tsih = Tsih(request.tsih.get());
        let (isid, target) = (Isid(request.isid), target_name.as_ref());
        let name = SessionName { tsih, isid, initiator: &initiator_name, target };
        let existing = if tsih == Tsih::NEW { None } else { policy.session(name) };
        if let Some(existing) = existing {
            self.draft.parameters = existing.parameters.of_session();
            self.draft.settled = true;
            // The window is not opened before the old connection is gone.
            let closed = CmdSn(existing.exp_cmd_sn.0.wrapping_sub(1));
            self.numbers = Some((existing.exp_cmd_sn, closed));
        }
        self.security = Security::new(auth);
        self.peer = Some(Peer {
            session_type,
            initiator_name,
            initiator_alias: value("InitiatorAlias").map(str::to_owned),
            target_name,
            alias,
        });
        Ok(())
    }

    /// The status that sends the initiator elsewhere. In a redirection the address has no portal
    /// group tag (§13.8).
    fn move_to(&mut self, Redirect { address, permanent }: Redirect) -> LoginStatus {
        let address = TargetAddress { target_portal_group_tag: None, ..address };
        self.moved_to = Some(address.to_string());
        if permanent {
            LoginStatus::TargetMovedPermanently
        } else {
            LoginStatus::TargetMovedTemporarily
        }
    }

    fn negotiate(
        &mut self,
        pairs: &[text::Pair<'_>],
        transit: bool,
        policy: &dyn LoginPolicy,
        answer: &mut Vec<u8>,
    ) -> Result<(), LoginStatus> {
        let in_security = self.stage == Stage::SecurityNegotiation;
        if in_security && let Some(peer) = &self.peer {
            self.security.handle(pairs, transit, &peer.initiator_name, policy, answer)?;
        }
        let discovery =
            self.peer.as_ref().is_some_and(|peer| peer.session_type == SessionType::Discovery);
        // MaxBurstLength bounds FirstBurstLength, whatever their order.
        let (bounds, others): (Vec<_>, Vec<_>) =
            pairs.iter().partition(|(name, _)| *name == "MaxBurstLength");
        for (name, value) in bounds.into_iter().chain(others) {
            if SECURITY.contains(&name) {
                if in_security {
                    continue;
                }
                return Err(LoginStatus::InitiatorError);
            }
            match keys::find(name) {
                Some(key) if in_security && !key.in_security => {
                    return Err(LoginStatus::InitiatorError);
                }
                Some(key) => negotiate::answer(&mut self.draft, key, value, discovery, answer),
                None => text::push(answer, name, "NotUnderstood"),
            }
        }
        Ok(())
    }

    /// Asks once whether the initiator may use the target, when it is known to be who it says:
    /// nobody else learns the answer.
    fn authorize(&mut self, policy: &dyn LoginPolicy) -> Result<(), LoginStatus> {
        if self.authorized || !self.may_leave() {
            return Ok(());
        }
        if let Some(peer) = &self.peer
            && let Some(target) = &peer.target_name
        {
            policy.authorize(&peer.initiator_name, target)?;
        }
        self.authorized = true;
        Ok(())
    }

    /// What the target says of itself, once and as early as it may.
    fn declare(&mut self, answer: &mut Vec<u8>) {
        let Some(peer) = &self.peer else { return };
        if !self.declared && peer.target_name.is_some() {
            let tag = self.config.target_portal_group_tag;
            text::push(answer, "TargetPortalGroupTag", &tag.to_string());
            if !peer.alias.is_empty() {
                text::push(answer, "TargetAlias", &peer.alias);
            }
        }
        self.declared = true;
        if self.stage == Stage::LoginOperationalNegotiation
            && self.draft.parameters.max_recv_data_segment_length
                != self.config.offer.max_recv_data_segment_length
        {
            let length = self.config.offer.max_recv_data_segment_length;
            self.draft.parameters.max_recv_data_segment_length = length;
            text::push(answer, "MaxRecvDataSegmentLength", &length.to_string());
        }
    }

    /// Whether the stage has done what it is for.
    fn may_leave(&self) -> bool {
        self.stage != Stage::SecurityNegotiation || self.security.is_done()
    }

    fn outcome(&mut self, request: &LoginRequest) -> Result<LoginOutcome, LoginStatus> {
        // Cannot happen: nobody gets here without an introduction and proof.
        let authentication = self.security.authentication().filter(|_| self.authorized);
        let authentication = authentication.ok_or(LoginStatus::TargetError)?;
        let peer = self.peer.take().ok_or(LoginStatus::TargetError)?;
        Ok(LoginOutcome {
            session_type: peer.session_type,
            initiator_name: peer.initiator_name,
            initiator_alias: peer.initiator_alias,
            target_name: peer.target_name,
            authentication,
            isid: Isid(request.isid),
            requested_tsih: Tsih(request.tsih.get()),
            cid: Cid(request.cid.get()),
            target_portal_group_tag: self.config.target_portal_group_tag,
            cmd_sn: CmdSn(request.cmd_sn.get()),
            stat_sn: self.stat_sn.next(),
            parameters: self.draft.parameters,
        })
    }

    /// A response in the current stage that goes nowhere.
    fn response(&self, request: &LoginRequest) -> LoginResponse {
        let cmd_sn = CmdSn(request.cmd_sn.get());
        let fresh = (cmd_sn, CmdSn(cmd_sn.add(self.config.window).0.wrapping_sub(1)));
        let (exp_cmd_sn, max_cmd_sn) = self.numbers.unwrap_or(fresh);
        LoginResponse {
            opcode: opcode::LOGIN_RESPONSE,
            flags: self.stage.bits() << 2,
            isid: request.isid,
            tsih: request.tsih,
            initiator_task_tag: request.initiator_task_tag,
            stat_sn: self.stat_sn.0.into(),
            exp_cmd_sn: exp_cmd_sn.0.into(),
            max_cmd_sn: max_cmd_sn.0.into(),
            ..LoginResponse::zeroed()
        }
    }

    fn send(&mut self, response: &LoginResponse, text: &[u8], out: &mut Vec<u8>) {
        let rules = Decoder::for_login(LOGIN_SEGMENT_LENGTH);
        encode(&rules, response.bytes(), &[], text, out);
        self.stat_sn = self.stat_sn.next();
    }

    fn fail(
        &mut self,
        request: &LoginRequest,
        status: LoginStatus,
        out: &mut Vec<u8>,
    ) -> LoginStep {
        let mut response = self.response(request);
        response.flags &= !(FINAL | CONTINUE);
        (response.status_class, response.status_detail) = status.code();
        let mut text = Vec::new();
        if let Some(address) = &self.moved_to {
            text::push(&mut text, "TargetAddress", address);
        }
        self.send(&response, &text, out);
        LoginStep::Fail(status)
    }
}
