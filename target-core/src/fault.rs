//! The one mapping from a failed image operation to sense data.

use disk_image::{ImageError, ImageErrorKind, Operation};
use scsi::{AdditionalSense, Sense, SenseKey};

/// What the initiator is told.
#[allow(clippy::wildcard_enum_match_arm, reason = "the enum of another crate may grow")]
pub(crate) fn sense(error: &ImageError, lba: Option<u64>) -> Sense {
    let sense = match error.kind() {
        ImageErrorKind::OutOfSpace => Sense::new(
            SenseKey::DataProtect,
            AdditionalSense::SPACE_ALLOCATION_FAILED_WRITE_PROTECT,
        ),
        ImageErrorKind::ReadOnly | ImageErrorKind::PermissionDenied => {
            Sense::new(SenseKey::DataProtect, AdditionalSense::WRITE_PROTECTED)
        }
        ImageErrorKind::NotFound | ImageErrorKind::InUse => not_ready(),
        ImageErrorKind::OutOfRange => {
            Sense::illegal(AdditionalSense::LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE)
        }
        ImageErrorKind::OutOfMemory => {
            Sense::new(SenseKey::AbortedCommand, AdditionalSense::INSUFFICIENT_RESOURCES)
        }
        _ if reads(error.operation()) => {
            Sense::new(SenseKey::MediumError, AdditionalSense::UNRECOVERED_READ_ERROR)
        }
        _ => Sense::new(SenseKey::MediumError, AdditionalSense::WRITE_ERROR),
    };
    lba.map_or(sense, |lba| sense.with_information(lba))
}

/// The image cannot be reached now.
pub(crate) const fn not_ready() -> Sense {
    Sense::new(
        SenseKey::NotReady,
        AdditionalSense::LOGICAL_UNIT_NOT_READY_MANUAL_INTERVENTION_REQUIRED,
    )
}

/// The image cannot be opened: what can be waited for is becoming ready, all else takes somebody
/// who looks after it. The cause itself stands in the fault.
#[allow(clippy::wildcard_enum_match_arm, reason = "the enum of another crate may grow")]
pub(crate) fn not_opened(error: &ImageError) -> Sense {
    let asc = match error.kind() {
        ImageErrorKind::InUse | ImageErrorKind::OutOfMemory => {
            AdditionalSense::LOGICAL_UNIT_IS_IN_PROCESS_OF_BECOMING_READY
        }
        _ => AdditionalSense::LOGICAL_UNIT_NOT_READY_MANUAL_INTERVENTION_REQUIRED,
    };
    Sense::new(SenseKey::NotReady, asc)
}

/// Data was damaged or lost between the initiator and here (RFC 7143 §11.4.7.2).
pub(crate) const fn data_lost() -> Sense {
    Sense::new(SenseKey::AbortedCommand, AdditionalSense::PROTOCOL_SERVICE_CRC_ERROR)
}

/// There is nothing to do it with now.
pub(crate) const fn no_resources() -> Sense {
    Sense::illegal(AdditionalSense::INSUFFICIENT_REGISTRATION_RESOURCES)
}

/// Something else is being done to the disk, by somebody else than an initiator.
pub(crate) const fn busy() -> Sense {
    Sense::new(SenseKey::NotReady, AdditionalSense::LOGICAL_UNIT_NOT_READY_OPERATION_IN_PROGRESS)
}

/// The LUN is there no more.
pub(crate) const fn no_unit() -> Sense {
    Sense::illegal(AdditionalSense::LOGICAL_UNIT_NOT_SUPPORTED)
}

/// The initiator may only read.
pub(crate) const fn write_protected() -> Sense {
    Sense::new(SenseKey::DataProtect, AdditionalSense::WRITE_PROTECTED)
}

/// A bug of ours, told as what it is.
pub(crate) const fn internal() -> Sense {
    Sense::new(SenseKey::HardwareError, AdditionalSense::INTERNAL_TARGET_FAILURE)
}

fn reads(operation: Operation) -> bool {
    use Operation::{BlockStatus, Health, Open, Read};
    matches!(operation, Read | BlockStatus | Health | Open)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn each_cause_has_the_sense_data_that_initiators_act_upon() {
        let sense = |kind, operation| {
            let error = ImageError::new(kind, operation, Path::new("/x"));
            let sense = sense(&error, Some(7));
            (sense.key as u8, sense.asc.0, sense.asc.1, sense.information)
        };
        use ImageErrorKind as Kind;
        use Operation::{Flush, Read, Write};
        assert_eq!(sense(Kind::Io, Read), (3, 0x11, 0x00, Some(7)));
        assert_eq!(sense(Kind::ShortTransfer, Read), (3, 0x11, 0x00, Some(7)));
        assert_eq!(sense(Kind::Io, Write), (3, 0x0c, 0x00, Some(7)));
        assert_eq!(sense(Kind::SyncFailed, Flush), (3, 0x0c, 0x00, Some(7)));
        assert_eq!(sense(Kind::OutOfSpace, Write), (7, 0x27, 0x07, Some(7)));
        assert_eq!(sense(Kind::ReadOnly, Write), (7, 0x27, 0x00, Some(7)));
        assert_eq!(sense(Kind::NotFound, Read), (2, 0x04, 0x03, Some(7)));
    }
}
