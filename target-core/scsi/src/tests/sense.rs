//! Sense data and unit attentions.

use super::*;

#[test]
fn sense_data_has_its_fields_where_both_formats_want_them() {
    let mut bytes = [0; Sense::MAX_LENGTH];
    let sense = Sense::invalid_field_in_cdb(0x0102, Some(5));
    assert_eq!(sense.encode(SenseFormat::Fixed, &mut bytes), 18);
    assert_eq!(bytes[..18], [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0xcd, 1, 2]);
    let mut bytes = [0; Sense::MAX_LENGTH];
    assert_eq!(sense.encode(SenseFormat::Descriptor, &mut bytes), 16);
    assert_eq!(bytes[..16], [0x72, 5, 0x24, 0, 0, 0, 0, 8, 2, 6, 0, 0, 0xcd, 1, 2, 0]);
    let mut bytes = [0; Sense::MAX_LENGTH];
    let big = Sense::lba_out_of_range(1 << 40);
    big.encode(SenseFormat::Fixed, &mut bytes);
    assert_eq!(bytes[0], 0x70, "what does not fit is not valid");
    big.encode(SenseFormat::Descriptor, &mut bytes);
    assert_eq!(bytes[8..20], [0, 10, 0x80, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
}

#[test]
fn resets_replace_what_was_before_them() {
    let mut pending = UnitAttentions::new();
    pending.push(UnitAttention::ReportedLunsDataHasChanged);
    pending.push(UnitAttention::BusDeviceReset);
    pending.push(UnitAttention::NexusLoss);
    pending.push(UnitAttention::CapacityDataHasChanged);
    assert_eq!(pending.pop(), Some(UnitAttention::BusDeviceReset));
    assert_eq!(pending.pop(), Some(UnitAttention::CapacityDataHasChanged));
    assert!(pending.is_empty());
}
