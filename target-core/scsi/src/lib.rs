//! SAM, SPC and SBC without I/O: the command table, sense data, mode and VPD pages.
#![forbid(unsafe_code)]

mod asc;
mod sense;
mod status;
mod unit_attention;

pub use asc::AdditionalSense;
pub use sense::{FieldPointer, Sense, SenseFormat, SenseKey};
pub use status::Status;
pub use unit_attention::{UnitAttention, UnitAttentions};
