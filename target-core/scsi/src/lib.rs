//! SAM, SPC and SBC without I/O: the command table, sense data, mode and VPD pages.
//!
//! [`plan`] looks at a CDB and says what the engine must do for it; nothing here reads a disk,
//! knows a transport or keeps state. The table in [`commands`] is the one place that knows which
//! commands exist: field checks, REPORT SUPPORTED OPERATION CODES and the tests come from it.
#![forbid(unsafe_code)]

mod asc;
mod atomic;
mod basic;
mod capacity;
mod cdb;
mod changes;
mod command;
pub mod commands;
pub mod copy;
mod device;
mod diagnostic;
mod dispatch;
mod inquiry;
mod log;
mod long_cdb;
mod mode;
mod mode_select;
pub mod operation;
mod plan;
mod provisioning;
mod read_write;
mod reply;
mod report;
pub mod reservation;
mod sense;
mod soft_thresholds;
mod status;
mod target_port_groups;
mod timestamp;
mod unit_attention;
mod verify;
mod vpd;

pub use asc::AdditionalSense;
pub use cdb::Cdb;
pub use changes::Changes;
pub use commands::{COMMANDS, Command, lookup};
pub use device::{
    AtomicTransfers, Capacity, Context, Device, Limits, MediumRotation, MediumState,
    ModeParameters, Port, Provisioning, ProvisioningType, Space,
};
pub use dispatch::{clears_unit_attention, plan, plan_with_data};
pub use log::Statistics;
pub use long_cdb::{LONG_COMMANDS, LongCommand, plan_long};
pub use plan::{BlockRange, CopyReport, Plan, WriteSameSource};
pub use provisioning::{LbaStatusReply, ProvisioningStatus};
pub use sense::{FieldPointer, Sense, SenseFormat, SenseKey};
pub use soft_thresholds::SoftThresholds;
pub use status::Status;
pub use target_port_groups::{
    AccessMethods, AccessState, AccessStatus, TargetPortGroup, set_target_port_groups_failed,
    set_target_port_groups_list,
};
pub use unit_attention::{UnitAttention, UnitAttentions};

#[cfg(test)]
mod tests;
