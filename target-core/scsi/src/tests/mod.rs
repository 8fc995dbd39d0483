//! Behaviour of the command set as a whole.

mod blocks;
mod diagnostic;
mod docs;
mod inquiry;
mod log;
mod long_cdb;
mod mode;
mod operation;
mod proofs;
mod report;
mod sense;
mod table;
mod target_port_groups;
mod timestamp;

use std::time::UNIX_EPOCH;

use crate::*;

/// With every command that there is.
fn device() -> Device {
    let device = Device::new("0123456789ABCDEF", *b"\x60123456789abcdef", 512, 2048);
    device.soft_thresholds.set(&[(3 << 30) + 1, 1 << 20]);
    Device { access_methods: AccessMethods { implicit: true, explicit: true }, ..device }
}

static STATISTICS: fn() -> Statistics = || Statistics {
    read_commands: 1,
    write_commands: 2,
    blocks_read: 3,
    blocks_written: 4,
    stops: 5,
};

fn port() -> Port {
    Port {
        target_name: "iqn.2026-01.io.lund:t".into(),
        target_portal_group_tag: 1,
        relative_target_port_id: 1,
    }
}

struct World {
    device: Option<Device>,
    port: Port,
    ports: Vec<Port>,
    attention: Option<Sense>,
    state: MediumState,
    mode: ModeParameters,
    saved_mode: ModeParameters,
    data_out: u32,
    read_only: bool,
    groups: Vec<TargetPortGroup>,
    access: AccessState,
}

impl World {
    fn new() -> Self {
        let state = MediumState::Ready;
        let mode = ModeParameters::default();
        Self {
            device: Some(device()),
            port: port(),
            ports: vec![port()],
            attention: None,
            state,
            mode,
            saved_mode: mode,
            data_out: 0,
            read_only: false,
            groups: vec![group(1, AccessState::ActiveOptimized)],
            access: AccessState::ActiveOptimized,
        }
    }

    fn with(change: impl FnOnce(&mut Device)) -> Self {
        let mut world = Self::new();
        change(world.device.as_mut().unwrap());
        world
    }

    fn context(&self) -> Context<'_> {
        Context {
            device: self.device.as_ref(),
            port: &self.port,
            ports: &self.ports,
            groups: &self.groups,
            access: self.access,
            luns: &[0],
            mode: self.mode,
            saved_mode: self.saved_mode,
            statistics: &STATISTICS,
            lun: 0,
            read_only: self.read_only,
            state: self.state,
            unit_attention: self.attention,
            data_out_length: self.data_out,
            protocol_level: 1,
            clock: || UNIX_EPOCH,
        }
    }

    fn plan(&self, cdb: &[u8]) -> (Plan, Vec<u8>) {
        let mut reply = Vec::new();
        let plan = plan(Cdb::new(cdb), &self.context(), &mut reply);
        (plan, reply)
    }

    fn reply(&self, cdb: &[u8]) -> Vec<u8> {
        let (plan, reply) = self.plan(cdb);
        assert_eq!(plan, Plan::DataIn, "{cdb:02x?}");
        reply
    }

    fn sense(&self, cdb: &[u8]) -> Sense {
        let (plan, _) = self.plan(cdb);
        let Plan::Check(sense) = plan else { panic!("{cdb:02x?}: {plan:?}") };
        sense
    }
}

fn group(tag: u16, state: AccessState) -> TargetPortGroup {
    TargetPortGroup { tag, state, status: AccessStatus::NoStatus, preferred: false }
}

fn field(byte: u16, bit: Option<u8>) -> Option<FieldPointer> {
    Some(FieldPointer { cdb: true, byte, bit })
}

fn cdb_of(command: &Command) -> Vec<u8> {
    let mut cdb = vec![0; command.usage.len()];
    cdb[0] = command.operation_code;
    cdb[1] = command.service_action.unwrap_or(0);
    cdb
}
