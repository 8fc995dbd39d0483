//! What a session has done so far.

use std::ops::AddAssign;

/// Counts since the session began; a new connection of the session goes on counting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// PDUs received in the full feature phase.
    pub pdus_received: u64,
    /// PDUs queued for sending in the full feature phase.
    pub pdus_sent: u64,
    /// SCSI commands.
    pub commands: u64,
    /// Those of them with data for the initiator (R).
    pub read_commands: u64,
    /// Those of them with data from the initiator (W).
    pub write_commands: u64,
    /// Task management functions.
    pub task_management_functions: u64,
    /// Bytes of Data-In.
    pub data_in_bytes: u64,
    /// Those of them that were sent from where the medium's bytes stand in memory.
    pub in_place_bytes: u64,
    /// Bytes of immediate data and Data-Out.
    pub data_out_bytes: u64,
    /// Rejects sent.
    pub rejects: u64,
    /// PDUs whose data digest did not match.
    pub data_digest_errors: u64,
}

impl AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        self.pdus_received += other.pdus_received;
        self.pdus_sent += other.pdus_sent;
        self.commands += other.commands;
        self.read_commands += other.read_commands;
        self.write_commands += other.write_commands;
        self.task_management_functions += other.task_management_functions;
        self.data_in_bytes += other.data_in_bytes;
        self.in_place_bytes += other.in_place_bytes;
        self.data_out_bytes += other.data_out_bytes;
        self.rejects += other.rejects;
        self.data_digest_errors += other.data_digest_errors;
    }
}
