//! Any CDB and any data, to units of several kinds: what is planned lies on the medium, and what
//! is answered fits.
#![no_main]

use std::time::UNIX_EPOCH;

use scsi::copy::CopyRequest;
use scsi::operation::Condition;
use scsi::{
    AccessMethods, AccessState, AccessStatus, BlockRange, Cdb, Context, Device, MediumState, Plan,
    Port, Sense, Statistics, TargetPortGroup,
};

/// The first byte chooses the unit, the next 16 are the CDB, or 32 after 7Fh, the rest is the data.
fn dispatch(input: &[u8]) {
    let Some((choice, input)) = input.split_first() else { return };
    let Some((cdb, data)) = input.split_first_chunk::<16>() else { return };
    let long = if cdb[0] == 0x7f { data.len().min(16) } else { 0 };
    let (more, data) = data.split_at(long);
    let bit = |n: u8| choice >> n & 1 != 0;
    let blocks = if bit(0) { 1 << 40 } else { 2048 };
    let mut device = Device::new("fuzz0001", [0x60; 16], if bit(1) { 4096 } else { 512 }, blocks);
    device.read_only = bit(2);
    device.unmap = !bit(3);
    device.mode.descriptor_sense = bit(4);
    device.mode.software_write_protect = bit(7);
    device.soft_thresholds.set(&vec![1 << 30; usize::from(choice % 12)]);
    if bit(1) {
        device.space.set(1 << 40, 1 << 20);
    }
    device.long_cdbs = !bit(5);
    device.management_url = bit(3).then(|| "https://host/".to_owned());
    device.limits.max_compare_and_write_blocks = *choice;
    device.access_methods = AccessMethods { implicit: bit(2), explicit: bit(6) };
    let group = |tag| TargetPortGroup {
        tag,
        state: AccessState::ActiveOptimized,
        status: AccessStatus::NoStatus,
        preferred: bit(5),
    };
    let port = Port {
        target_name: "iqn.2001-04.com.example:fuzz".to_owned(),
        target_portal_group_tag: 1,
        relative_target_port_id: 1,
    };
    let context = Context {
        device: (!bit(5)).then_some(&device),
        port: &port,
        ports: std::slice::from_ref(&port),
        groups: &[group(1), group(2)],
        access: if bit(0) && bit(7) { AccessState::Standby } else { AccessState::ActiveOptimized },
        luns: &[0, 1 << 48],
        lun: 0,
        mode: device.mode,
        saved_mode: device.mode,
        statistics: &Statistics::default,
        read_only: bit(4),
        state: match (bit(6), bit(3)) {
            (true, true) => MediumState::Claimed(Condition::from_bytes(data), 7),
            (true, false) => MediumState::NotReady(Sense::miscompare(0)),
            (false, _) => MediumState::Ready,
        },
        unit_attention: None,
        data_out_length: u32::try_from(data.len()).unwrap_or(u32::MAX),
        protocol_level: if bit(4) { 2 } else { 1 },
        clock: || UNIX_EPOCH,
    };
    let (mut reply, mut ranges) = (Vec::new(), Vec::new());
    let (cdb, plan) = if more.is_empty() {
        let cdb = Cdb::new(cdb);
        (cdb, scsi::plan(cdb, &context, &mut reply))
    } else {
        scsi::plan_long(cdb, more, &context, &mut reply)
    };
    check(plan, &[], blocks);
    let _ = scsi::clears_unit_attention(cdb, &context);
    if let Plan::NeedData { length } = plan {
        assert!(length > 0, "waits for no data");
        // The engine gathers this much, or fewer bytes if the initiator sends fewer.
        let data = data.get(..length as usize).unwrap_or(data);
        let plan = scsi::plan_with_data(cdb, &context, data, &mut ranges);
        check(plan, &ranges, blocks);
        if plan == Plan::ThirdPartyCopy {
            copy(cdb, data, &device);
        }
    }
    // Data that nobody asked for, too.
    let plan = scsi::plan_with_data(cdb, &context, data, &mut ranges);
    if plan == Plan::Unmap {
        check(plan, &ranges, blocks);
    }
    copy(cdb, data, &device);
}

/// Ranges of a parameter list lie on the medium.
fn copy(cdb: Cdb, data: &[u8], device: &Device) {
    let ranges = match CopyRequest::parse(cdb, data, device) {
        Ok(CopyRequest::PopulateToken(it)) => it.ranges,
        Ok(CopyRequest::WriteUsingToken(it)) => {
            let _ = it.rod_token();
            it.ranges
        }
        Ok(CopyRequest::Copy(_)) | Err(_) => return,
    };
    for range in ranges {
        let end = range.lba.checked_add(range.blocks.into());
        assert!(end.is_some_and(|end| end <= device.block_count()), "{range:?}");
    }
}

/// Every range of a plan lies on the medium.
fn check(plan: Plan, ranges: &[BlockRange], size: u64) {
    let inside = |lba: u64, blocks: u64| {
        assert!(lba.checked_add(blocks).is_some_and(|end| end <= size), "{plan:?}");
    };
    match plan {
        Plan::Read { lba, blocks, .. }
        | Plan::Write { lba, blocks, .. }
        | Plan::Verify { lba, blocks }
        | Plan::VerifyCompare { lba, blocks, .. }
        | Plan::WriteAndVerify { lba, blocks, .. }
        | Plan::CompareAndWrite { lba, blocks, .. }
        | Plan::WriteAtomic { lba, blocks, .. }
        | Plan::OrWrite { lba, blocks, .. }
        | Plan::Flush { lba, blocks, .. } => inside(lba, blocks.into()),
        Plan::WriteSame { lba, blocks, .. }
        | Plan::PreFetch { lba, blocks, .. }
        | Plan::LbaStatus { lba, blocks, .. } => {
            inside(lba, blocks);
        }
        Plan::Unmap => ranges.iter().for_each(|range| inside(range.lba, range.blocks.into())),
        Plan::Good
        | Plan::DataIn
        | Plan::NeedData { .. }
        | Plan::StartStop { .. }
        | Plan::ModeSelect { .. }
        | Plan::SetTargetPortGroups
        | Plan::MediumOperation
        | Plan::ExitFailureMode
        | Plan::ThirdPartyCopy
        | Plan::CopyAbort { .. }
        | Plan::RodTokens { .. }
        | Plan::CopyReport { .. }
        | Plan::ReserveIn
        | Plan::ReserveOut
        | Plan::ReserveUnit { .. }
        | Plan::Check(_) => {}
    }
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| dispatch(input));
