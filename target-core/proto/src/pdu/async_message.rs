//! Asynchronous Message (RFC 7143 §11.9).

use super::{U16, U24, U32, U64, header};

header! {
    /// Asynchronous Message (RFC 7143 §11.9).
    AsyncMessage = opcode::ASYNC_MESSAGE {
        /// 32h.
        pub opcode: u8,
        /// Final bit only.
        pub flags: u8,
        /// Reserved.
        pub reserved: U16,
        /// 0.
        pub total_ahs_length: u8,
        /// Length of sense data and event data.
        pub data_segment_length: U24,
        /// The logical unit of a SCSI event, or whose tasks are terminated.
        pub lun: U64,
        /// The reserved value.
        pub initiator_task_tag: U32,
        /// Reserved.
        pub reserved2: U32,
        /// StatSN.
        pub stat_sn: U32,
        /// ExpCmdSN.
        pub exp_cmd_sn: U32,
        /// MaxCmdSN.
        pub max_cmd_sn: U32,
        /// See [`AsyncEvent`].
        pub async_event: u8,
        /// Vendor code.
        pub async_vcode: u8,
        /// Depends on the event.
        pub parameter1: U16,
        /// Depends on the event.
        pub parameter2: U16,
        /// Depends on the event.
        pub parameter3: U16,
        /// Reserved.
        pub reserved3: U32,
    }
}

/// AsyncEvent (RFC 7143 §11.9.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsyncEvent {
    /// The initiator must log out within this many seconds.
    LogoutRequest {
        /// Parameter3.
        seconds: u16,
    },
    /// The target drops the connection.
    DropConnection {
        /// Parameter1: which.
        cid: u16,
        /// Parameter2, seconds.
        time2wait: u16,
        /// Parameter3, seconds.
        time2retain: u16,
    },
    /// The target drops all connections of the session.
    DropSession {
        /// Parameter2, seconds.
        time2wait: u16,
        /// Parameter3, seconds.
        time2retain: u16,
    },
    /// The initiator must negotiate parameters anew within this many seconds.
    Renegotiate {
        /// Parameter3.
        seconds: u16,
    },
    /// All tasks of the message's logical unit are being terminated; only with
    /// TaskReporting=FastAbort.
    TaskTermination,
}

impl AsyncMessage {
    /// What happens; `None` for a SCSI event (0), a vendor's event (255) and
    /// reserved codes.
    #[must_use]
    pub const fn event(&self) -> Option<AsyncEvent> {
        let (time2wait, seconds) = (self.parameter2.get(), self.parameter3.get());
        Some(match self.async_event {
            1 => AsyncEvent::LogoutRequest { seconds },
            2 => AsyncEvent::DropConnection {
                cid: self.parameter1.get(),
                time2wait,
                time2retain: seconds,
            },
            3 => AsyncEvent::DropSession { time2wait, time2retain: seconds },
            4 => AsyncEvent::Renegotiate { seconds },
            5 => AsyncEvent::TaskTermination,
            _ => return None,
        })
    }
}

impl AsyncEvent {
    /// AsyncEvent, Parameter1, Parameter2, Parameter3.
    #[must_use]
    pub const fn fields(self) -> (u8, u16, u16, u16) {
        match self {
            Self::LogoutRequest { seconds } => (1, 0, 0, seconds),
            Self::DropConnection { cid, time2wait, time2retain } => {
                (2, cid, time2wait, time2retain)
            }
            Self::DropSession { time2wait, time2retain } => (3, 0, time2wait, time2retain),
            Self::Renegotiate { seconds } => (4, 0, 0, seconds),
            Self::TaskTermination => (5, 0, 0, 0),
        }
    }
}
