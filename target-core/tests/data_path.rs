//! The data path from socket to image, as an initiator sees it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::wildcard_enum_match_arm,
    unreachable_pub,
    reason = "tests"
)]

#[path = "data_path/access.rs"]
mod access;
#[path = "data_path/access_states.rs"]
mod access_states;
#[path = "data_path/adjacent.rs"]
mod adjacent;
#[path = "data_path/attentions.rs"]
mod attentions;
#[path = "data_path/connections.rs"]
mod connections;
#[path = "data_path/copies.rs"]
mod copies;
#[path = "data_path/drain.rs"]
mod drain;
#[path = "data_path/faults.rs"]
mod faults;
#[path = "data_path/features_update.rs"]
mod features_update;
#[path = "data_path/forms.rs"]
mod forms;
#[path = "data_path/hand_off.rs"]
mod hand_off;
#[path = "data_path/hanging.rs"]
mod hanging;
#[path = "data_path/in_place.rs"]
mod in_place;
#[path = "data_path/initiator.rs"]
mod initiator;
#[path = "data_path/integrity.rs"]
mod integrity;
#[path = "data_path/limits.rs"]
mod limits;
#[path = "data_path/logins.rs"]
mod logins;
#[path = "data_path/long_cdbs.rs"]
mod long_cdbs;
#[path = "data_path/long_copies.rs"]
mod long_copies;
#[path = "data_path/long_reads.rs"]
mod long_reads;
#[path = "data_path/model.rs"]
mod model;
#[path = "data_path/observe.rs"]
mod observe;
#[path = "data_path/operation.rs"]
mod operation;
#[path = "data_path/ordered.rs"]
mod ordered;
#[path = "data_path/outcome.rs"]
mod outcome;
#[path = "data_path/reinstatement.rs"]
mod reinstatement;
#[path = "data_path/reservations.rs"]
mod reservations;
#[path = "data_path/robustness.rs"]
mod robustness;
#[path = "data_path/serial.rs"]
mod serial;
#[path = "data_path/serial_order.rs"]
mod serial_order;
#[path = "data_path/slow.rs"]
mod slow;
#[path = "data_path/task_management.rs"]
mod task_management;
#[path = "data_path/third_party.rs"]
mod third_party;
#[path = "data_path/tokens.rs"]
mod tokens;
#[path = "data_path/torn.rs"]
mod torn;
#[path = "data_path/wire.rs"]
mod wire;
#[path = "data_path/world.rs"]
mod world;
#[path = "data_path/write_cache.rs"]
mod write_cache;
