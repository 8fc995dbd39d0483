//! From a CDB to a plan.

use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, bail};
use scsi::{AccessState, Cdb, Context, Device, MediumState, Plan, Port, Statistics};

/// READ(16) of eight blocks.
pub(crate) fn read16(times: usize) -> Result<Duration> {
    plan(times, &[0x88, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 8, 0, 0], 0)
}

/// WRITE(10) of eight blocks.
pub(crate) fn write10(times: usize) -> Result<Duration> {
    plan(times, &[0x2a, 0, 0, 0, 0x10, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0], 4096)
}

fn plan(times: usize, cdb: &[u8; 16], data_out_length: u32) -> Result<Duration> {
    let device = Device::new("0123456789ABCDEF", *b"\x60icounts--device", 512, 1 << 20);
    let port = Port {
        target_name: "iqn.2026-01.invalid.icounts:disk".to_owned(),
        target_portal_group_tag: 1,
        relative_target_port_id: 1,
    };
    let context = Context {
        device: Some(&device),
        port: &port,
        ports: std::slice::from_ref(&port),
        groups: &[],
        access: AccessState::ActiveOptimized,
        luns: &[0],
        lun: 0,
        mode: device.mode,
        saved_mode: device.mode,
        statistics: &Statistics::default,
        read_only: false,
        state: MediumState::Ready,
        unit_attention: None,
        data_out_length,
        protocol_level: 1,
        clock: SystemTime::now,
    };
    let mut reply = Vec::new();
    let start = Instant::now();
    for _ in 0..times {
        let plan = scsi::plan(Cdb::new(black_box(cdb)), black_box(&context), &mut reply);
        if !matches!(plan, Plan::Read { blocks: 8, .. } | Plan::Write { blocks: 8, .. }) {
            bail!("that is another plan: {plan:?}");
        }
    }
    Ok(start.elapsed())
}
