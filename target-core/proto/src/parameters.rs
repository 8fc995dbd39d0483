//! What login settles for a session and its connection.

/// The parameters in force. The defaults are those of RFC 7143 §13, which hold until others are
/// negotiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameters {
    /// HeaderDigest=CRC32C (§13.1).
    pub header_digest: bool,
    /// DataDigest=CRC32C (§13.1).
    pub data_digest: bool,
    /// MaxConnections (§13.2).
    pub max_connections: u16,
    /// InitialR2T: no unsolicited Data-Out PDUs (§13.10).
    pub initial_r2t: bool,
    /// ImmediateData (§13.11).
    pub immediate_data: bool,
    /// Most bytes of a data segment that the target takes (§13.12).
    pub max_recv_data_segment_length: u32,
    /// Most bytes of a data segment that the initiator takes (§13.12).
    pub initiator_max_recv_data_segment_length: u32,
    /// Most bytes of a Data-In or solicited Data-Out sequence (§13.13).
    pub max_burst_length: u32,
    /// Most bytes of unsolicited data, immediate data included (§13.14).
    pub first_burst_length: u32,
    /// Seconds (§13.15).
    pub default_time2wait: u16,
    /// Seconds (§13.16).
    pub default_time2retain: u16,
    /// MaxOutstandingR2T (§13.17).
    pub max_outstanding_r2t: u16,
    /// DataPDUInOrder (§13.18).
    pub data_pdu_in_order: bool,
    /// DataSequenceInOrder (§13.19).
    pub data_sequence_in_order: bool,
    /// ErrorRecoveryLevel (§13.20).
    pub error_recovery_level: u8,
    /// TaskReporting=FastAbort (§13.23). ResponseFence asks for nothing in a session that has one
    /// connection (§4.2.2.3.3).
    pub fast_abort: bool,
    /// iSCSIProtocolLevel: 0 is RFC 3720, 1 is RFC 7143, 2 has RFC 7144 too (§13.24,
    /// RFC 7144 §7.1.1).
    pub protocol_level: u8,
}

impl Parameters {
    /// What stays in force when the session gets a new connection: everything but the digests and
    /// the segment lengths, which each connection negotiates for itself.
    #[must_use]
    pub fn of_session(self) -> Self {
        let fresh = Self::default();
        Self {
            header_digest: fresh.header_digest,
            data_digest: fresh.data_digest,
            max_recv_data_segment_length: fresh.max_recv_data_segment_length,
            initiator_max_recv_data_segment_length: fresh.initiator_max_recv_data_segment_length,
            ..self
        }
    }
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            header_digest: false,
            data_digest: false,
            max_connections: 1,
            initial_r2t: true,
            immediate_data: true,
            max_recv_data_segment_length: 8192,
            initiator_max_recv_data_segment_length: 8192,
            max_burst_length: 262_144,
            first_burst_length: 65_536,
            default_time2wait: 2,
            default_time2retain: 20,
            max_outstanding_r2t: 1,
            data_pdu_in_order: true,
            data_sequence_in_order: true,
            error_recovery_level: 0,
            fast_abort: false,
            protocol_level: 1,
        }
    }
}

/// What the target offers; a negotiation never goes beyond it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// MaxRecvDataSegmentLength that the target declares.
    pub max_recv_data_segment_length: u32,
    /// Ceiling of MaxBurstLength.
    pub max_burst_length: u32,
    /// Ceiling of FirstBurstLength.
    pub first_burst_length: u32,
    /// Ceiling of MaxOutstandingR2T.
    pub max_outstanding_r2t: u16,
    /// Insist on R2T for all but immediate data.
    pub initial_r2t: bool,
    /// Take immediate data.
    pub immediate_data: bool,
}

impl Default for Offer {
    fn default() -> Self {
        Self {
            max_recv_data_segment_length: 262_144,
            max_burst_length: 1 << 20,
            first_burst_length: 262_144,
            max_outstanding_r2t: 8,
            initial_r2t: false,
            immediate_data: true,
        }
    }
}
