//! A session between two connections (RFC 7143 §6.3.4).

use super::mailbox::Mailbox;
use iscsi_proto::Tsih;
use iscsi_proto::serial::CmdSn;

use super::core::Core;
use crate::events::SessionEnd;

/// A session whose connection is gone, for the one that takes it over. Dropped, it ends.
pub(crate) struct Handover(Option<(Core, Mailbox)>);

impl Handover {
    pub(super) const fn new(core: Core, mailbox: Mailbox) -> Self {
        Self(Some((core, mailbox)))
    }

    /// TSIH, ExpCmdSN and MaxCmdSN of the session.
    pub(crate) fn numbers(&self) -> Option<(Tsih, CmdSn, CmdSn)> {
        let (core, _) = self.0.as_ref()?;
        let session = &core.session;
        Some((core.admission.tsih, session.exp_cmd_sn(), session.widest_max_cmd_sn()))
    }

    pub(super) fn take(mut self) -> Option<(Core, Mailbox)> {
        self.0.take()
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        if let Some((core, _)) = &mut self.0 {
            core.finish(SessionEnd::Disconnected);
        }
    }
}

impl std::fmt::Debug for Handover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Handover").field(&self.numbers()).finish()
    }
}
