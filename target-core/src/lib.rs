//! The data path: iSCSI connections, sessions, logical units and their I/O.
//!
//! A [`Node`] has targets, a target has logical units, [`serve`] lets initiators in. One task
//! runs each connection, from its socket to the image and back, without another task or a lock
//! that connections share; what may sleep goes to threads that may (`io`).
//!
//! Nothing here knows a database, a job or HTTP. What the outside world must know goes through
//! [`Events`].
#![forbid(unsafe_code)]

mod access;
mod access_states;
mod backlog;
mod buffers;
mod clock;
mod config;
mod connection;
mod copies;
mod events;
mod exclusion;
mod fault;
mod io;
mod limits;
mod listener;
mod lobby;
mod login;
mod mode_pages;
mod nexus;
mod node;
mod operation;
mod regions;
mod reservations;
mod sessions;
mod spare;
mod statistics;
mod task_set;
mod tidy;
mod tokens;
mod trace;
mod turn;
mod unit;
mod watch;

pub use access::{AccessEntry, LunMapping};
pub use access_states::{
    AccessStateChange, AccessStateError, AccessStateStore, PortalGroupStatus, StoredAccessState,
};
pub use config::{NodeConfig, ZeroCopyReads};
pub use copies::is_copy;
pub use events::{Events, Fault, NoEvents, SessionEnd};
pub use exclusion::pause;
pub use ipnet::IpNet;
pub use iscsi_proto::login::{
    AuthPolicy, Authentication, ChapAccount, ChapAlgorithm, ChapAlgorithms, ChapPolicy, Redirect,
    Secret,
};
pub use iscsi_proto::names::{InitiatorPattern, IscsiName, PatternError, TargetAddress};
pub use iscsi_proto::parameters::Parameters;
pub use iscsi_proto::session::Counters;
pub use limits::{Limit, Limited};
pub use listener::serve;
pub use mode_pages::{ModePageStore, NoModePageStore};
pub use node::{Node, NodeError, NodeState, PortalGroup, TargetConfig};
pub use operation::{
    NoOperations, OperationControl, OperationError, OperationRefused, OperationRequest, Operations,
    run_operation,
};
pub use reservations::{NoReservationStore, ReservationStore};
pub use sessions::{SessionDetail, SessionSummary};
pub use statistics::{BOUNDS, Kind, TIMED_OF, Times, UnitCounters};
pub use trace::{Trace, TraceError};
pub use unit::{LogicalUnit, UnitConfig};
