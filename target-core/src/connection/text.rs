//! Text and Logout requests (RFC 7143 §11.10, §11.14, appendix C).

use iscsi_proto::login::{SessionType, full_feature};
use iscsi_proto::names::TargetAddress;
use iscsi_proto::pdu::{LogoutReason, LogoutResponseCode};
use iscsi_proto::{Cid, InitiatorTaskTag, text};

use super::core::Core;
use crate::events::SessionEnd;

impl Core {
    pub(super) fn text(&mut self, itt: InitiatorTaskTag, received: &[u8]) {
        let mut answer = Vec::new();
        if let Ok(pairs) = text::parse(received) {
            let (send_targets, others): (Vec<text::Pair<'_>>, Vec<_>) =
                pairs.into_iter().partition(|(key, _)| *key == "SendTargets");
            for (_, value) in send_targets {
                self.send_targets(value, &mut answer);
            }
            full_feature(self.session.parameters_mut(), &others, &mut answer);
        }
        self.session.text_response(itt, answer, &mut self.tx);
    }

    /// SendTargets (appendix C): in a discovery session everything that the initiator may use, else
    /// the session's own target. The first address is the one that the initiator came to.
    fn send_targets(&self, value: &str, answer: &mut Vec<u8>) {
        let discovery = self.session.session_type() == SessionType::Discovery;
        let own = self.nexus.port.target_name.as_str();
        let names = self.targets(discovery);
        let wanted = |name: &&String| match value {
            "All" => discovery,
            "" => *name == own,
            // Names compare in lower case.
            other => other.eq_ignore_ascii_case(name) && (discovery || *name == own),
        };
        if value == "All" && !discovery {
            return text::push(answer, "SendTargets", "Reject");
        }
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
