//! Access states of portal groups between the data path, the catalogue and the management.

use mgmt_api::api;
use mgmt_api::service::AccessStateRefusal;
use target_core::{AccessStateError, Node, PortalGroupStatus};

pub(crate) fn to_scsi(state: job_engine::AccessState) -> scsi::AccessState {
    use job_engine::AccessState as Stored;
    match state {
        Stored::ActiveOptimized => scsi::AccessState::ActiveOptimized,
        Stored::ActiveNonOptimized => scsi::AccessState::ActiveNonOptimized,
        Stored::Standby => scsi::AccessState::Standby,
        Stored::Unavailable => scsi::AccessState::Unavailable,
        Stored::Transitioning => scsi::AccessState::Transitioning,
    }
}

fn to_stored(state: scsi::AccessState) -> job_engine::AccessState {
    use scsi::AccessState as Scsi;
    match state {
        Scsi::ActiveOptimized => job_engine::AccessState::ActiveOptimized,
        Scsi::ActiveNonOptimized => job_engine::AccessState::ActiveNonOptimized,
        Scsi::Standby => job_engine::AccessState::Standby,
        Scsi::Unavailable => job_engine::AccessState::Unavailable,
        Scsi::Transitioning => job_engine::AccessState::Transitioning,
    }
}

/// As the data path begins with it.
pub(crate) fn restored(stored: job_engine::StoredAccessState) -> target_core::StoredAccessState {
    let job_engine::StoredAccessState { group, target, state, explicit } = stored;
    target_core::StoredAccessState { group, target, state: to_scsi(state), explicit }
}

/// As the catalogue keeps it.
pub(crate) fn change(change: &target_core::AccessStateChange) -> job_engine::AccessStateChange {
    match change {
        target_core::AccessStateChange::Put(put) => {
            job_engine::AccessStateChange::Put(job_engine::StoredAccessState {
                group: put.group,
                target: put.target.clone(),
                state: to_stored(put.state),
                explicit: put.explicit,
            })
        }
        target_core::AccessStateChange::Delete { group, target } => {
            job_engine::AccessStateChange::Delete { group: *group, target: target.clone() }
        }
    }
}

/// As the management shows them.
pub(crate) fn list(node: &Node) -> Vec<api::PortalGroup> {
    let group = |group: PortalGroupStatus| {
        let target = |set: target_core::StoredAccessState| {
            let (state, explicit) = (to_stored(set.state), set.explicit);
            Some(api::TargetState { target: set.target?, state, explicit })
        };
        api::PortalGroup {
            tag: group.tag,
            portals: group.portals.iter().map(ToString::to_string).collect(),
            preferred: group.preferred,
            state: to_stored(group.state),
            configured_state: to_stored(group.configured),
            targets: group.targets.into_iter().filter_map(target).collect(),
        }
    };
    node.portal_group_statuses().into_iter().map(group).collect()
}

pub(crate) fn set(
    node: &Node,
    tag: u16,
    target: Option<&str>,
    state: Option<api::AccessState>,
) -> Result<(), AccessStateRefusal> {
    let holds = job_engine::condition_holds;
    let set = node.set_access_state_if(tag, target, state.map(to_scsi), holds);
    set.map_err(|error| match error {
        AccessStateError::NoSuchGroup(_) => AccessStateRefusal::NoSuchGroup,
        AccessStateError::NoSuchTarget(_) => AccessStateRefusal::NoSuchTarget,
        AccessStateError::NotStored(reason) => AccessStateRefusal::NotStored(reason),
        AccessStateError::ChangedMeanwhile => AccessStateRefusal::Changed,
    })
}
