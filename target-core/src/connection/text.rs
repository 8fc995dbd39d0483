//! Text and Logout requests (RFC 7143 §11.10, §11.14, appendix C).

use iscsi_proto::login::{SessionType, full_feature};
use iscsi_proto::names::{IscsiName, TargetAddress};
use iscsi_proto::pdu::{Bhs, LogoutReason, LogoutResponseCode, RejectReason};
use iscsi_proto::{Cid, InitiatorTaskTag, text};

use super::core::Core;
use crate::events::SessionEnd;

const SEND_TARGETS: &str = "SendTargets";

/// A SendTargets that is written otherwise, or whose value is none of those there are (appendix C).
/// Its answer may have no keys but those of targets, so it cannot say what was wrong.
fn is_unsound((key, value): &text::Pair<'_>) -> bool {
    if *key == SEND_TARGETS {
        return !value.is_empty() && *value != "All" && IscsiName::new(value).is_err();
    }
    let start = key.get(..SEND_TARGETS.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(SEND_TARGETS))
}

impl Core {
    pub(super) fn text(&mut self, itt: InitiatorTaskTag, header: &Bhs, received: &[u8]) {
        let sound = text::parse(received).ok().filter(|pairs| !pairs.iter().any(is_unsound));
        let Some(pairs) = sound else {
            return self.session.refuse(RejectReason::ProtocolError, header, &mut self.tx);
        };
        let mut answer = Vec::new();
        let (send_targets, others): (Vec<text::Pair<'_>>, Vec<_>) =
            pairs.into_iter().partition(|(key, _)| *key == SEND_TARGETS);
        for (_, value) in send_targets {
            self.send_targets(value, &mut answer);
        }
        full_feature(self.session.parameters_mut(), &others, &mut answer);
        self.session.text_response(itt, answer, &mut self.tx);
    }

    /// SendTargets (appendix C): in a discovery session everything that the initiator may use, else
    /// the session's own target. The first address is the one that the initiator came to.
    fn send_targets(&self, value: &str, answer: &mut Vec<u8>) {
        let discovery = self.session.session_type() == SessionType::Discovery;
        let own = self.nexus.port.target_name.as_str();
        let names = self.targets(discovery);
        let wanted = |name: &&String| match value {
            // Of an operational session MUST NOT be supported; but its answer has nothing but
            // targets, so that there are none.
            "All" => discovery,
            "" => *name == own,
            // Names compare in lower case.
            other => other.eq_ignore_ascii_case(name) && (discovery || *name == own),
        };
        let came_to = (self.group, self.ends.local);
        for name in names.iter().filter(wanted) {
            text::push(answer, "TargetName", name);
            for (group, portal) in self.node.addresses(name, came_to) {
                let address = TargetAddress::of_portal(portal, group);
                text::push(answer, "TargetAddress", &address.to_string());
            }
        }
    }

    /// Names of the targets that the initiator may use.
    fn targets(&self, discovery: bool) -> Vec<String> {
        if !discovery {
            return vec![self.nexus.port.target_name.clone()];
        }
        self.node.targets_for(&self.nexus.initiator, self.ends.peer.ip())
    }

    pub(super) fn logout(&mut self, itt: InitiatorTaskTag, reason: LogoutReason, cid: Cid) {
        let response = match reason {
            LogoutReason::CloseSession => LogoutResponseCode::Closed,
            LogoutReason::CloseConnection if cid == self.cid => LogoutResponseCode::Closed,
            LogoutReason::CloseConnection => LogoutResponseCode::CidNotFound,
            LogoutReason::RemoveConnectionForRecovery | LogoutReason::Reserved(_) => {
                LogoutResponseCode::RecoveryNotSupported
            }
        };
        self.session.logout_response(itt, response, &mut self.tx);
        if response == LogoutResponseCode::Closed {
            self.close_after_sending(SessionEnd::Logout);
        }
    }
}
