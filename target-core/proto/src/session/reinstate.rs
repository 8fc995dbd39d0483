//! A session between two connections (RFC 7143 §6.3.4).

use super::{Session, TaskId};
use crate::login::LoginOutcome;
use crate::serial::CmdSn;

impl Session {
    /// Goes on over a new connection, as a login with this session's TSIH and CID has settled it
    /// (connection reinstatement, RFC 7143 §6.3.4). At recovery level 0 all tasks end with the old
    /// connection and without an answer; CmdSN and the counters go on.
    pub fn reinstate(&mut self, outcome: &LoginOutcome) {
        let tasks: Vec<TaskId> = self.tasks.iter().map(|(id, _)| id).collect();
        for task in tasks {
            self.finish(task);
        }
        self.aborted.clear();
        self.parameters = outcome.parameters;
        self.stat_sn = outcome.stat_sn;
        self.text.take();
        (self.text_tag, self.pending_text) = (None, None);
    }

    /// ExpCmdSN.
    #[must_use]
    pub const fn exp_cmd_sn(&self) -> CmdSn {
        self.exp_cmd_sn
    }

    /// MaxCmdSN as the initiator was told last.
    #[must_use]
    pub const fn max_cmd_sn_told(&self) -> CmdSn {
        self.max_cmd_sn
    }

    /// MaxCmdSN as it will be when the tasks that are there have ended.
    #[must_use]
    pub fn widest_max_cmd_sn(&self) -> CmdSn {
        let widest = CmdSn(self.exp_cmd_sn.add(self.max_tasks).0.wrapping_sub(1));
        if self.max_cmd_sn.lt(widest) { widest } else { self.max_cmd_sn }
    }
}
