//! What makes a byte stream unreadable.

/// The stream cannot be cut into PDUs any more: the connection must be closed (RFC 7143 §7.7,
/// §7.8 at recovery level 0).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// The header digest does not match.
    #[error("header digest mismatch: computed {computed:#010x}, received {received:#010x}")]
    HeaderDigest {
        /// Over the BHS and AHS that came.
        computed: u32,
        /// What came behind them.
        received: u32,
    },
    /// DataSegmentLength is over what was declared.
    #[error("data segment of {length} bytes, {max} are allowed")]
    DataSegmentTooLong {
        /// DataSegmentLength of the header.
        length: u32,
        /// The MaxRecvDataSegmentLength in force.
        max: u32,
    },
    /// TotalAHSLength is over what any request needs.
    #[error("additional header segments of {length} bytes, {max} are allowed")]
    AhsTooLong {
        /// TotalAHSLength in bytes.
        length: u32,
        /// The most that is taken.
        max: u32,
    },
}
