//! Methods of the replication service and of its capabilities.

use job_engine::{Cause, CloneDisk, CreateSnapshots, RequestError, SnapshotId};

use super::fault::Fault;
use super::instances::POOL;
use super::methods::{
    COMPLETED, IN_USE, INVALID_PARAMETER, Inputs, NOT_SUPPORTED, Outcome, started,
};
use super::operations::Work;
use super::replicas::{CLONE_TYPE, SNAPSHOT_TYPE, SYNCHRONIZED};
use super::value::Value;

/// `SyncType`
const SNAPSHOT: u64 = 7;
const CLONE: u64 = 8;
/// `Mode`
const SYNCHRONOUS: u64 = 2;
/// `CopyState`
const COPIED: u16 = 4;
/// `Operation`
const RESTORE: u16 = 15;
const RETURN: u16 = 19;
const LAST_OPERATION: u64 = 27;

/// Refusals that have a return value of their own.
pub(crate) fn job(result: Result<job_engine::JobId, RequestError>) -> Result<Outcome, Fault> {
    match result {
        Ok(id) => Ok(started(&id)),
        Err(refused) if matches!(refused.cause(), Cause::DiskInUse { .. }) => {
            Ok(Outcome::of(IN_USE))
        }
        Err(refused) => Err(refused.into()),
    }
}

impl Work<'_> {
    /// `CreateElementReplica`: a snapshot or a clone, made in a job.
    pub(crate) fn create_replica(&self, inputs: &Inputs) -> Result<Outcome, Fault> {
        const UNSUPPORTED: [&str; 7] = [
            "ReplicationSettingData",
            "SourceAccessPoint",
            "TargetElement",
            "TargetAccessPoint",
            "TargetSettingGoal",
            "ConnectivityCollection",
            "Collections",
        ];
        let kind = inputs.required_number("SyncType")?;
        let source = inputs.required_reference("SourceElement")?;
        if UNSUPPORTED.iter().any(|name| inputs.has(name)) {
            return Ok(Outcome::of(NOT_SUPPORTED));
        }
        let number = |name| inputs.get(name).and_then(Value::as_uint);
        if number("Mode").is_some_and(|mode| mode != SYNCHRONOUS)
            || number("WaitForCopyState").is_some_and(|state| state != u64::from(COPIED))
        {
            return Ok(Outcome::of(NOT_SUPPORTED));
        }
        let Some(disk) = self.engine.disk(&self.disk(source)?) else {
            return Err(Fault::not_found("there is no such storage volume"));
        };
        if let Some(pool) = inputs.reference("TargetPool") {
            let instance = self.existing(pool)?;
            let id = instance.get("InstanceID").and_then(Value::as_text);
            if instance.class != POOL || id != Some(disk.pool.instance_id().as_str()) {
                return Ok(Outcome::of(NOT_SUPPORTED));
            }
        }
        let name = match inputs.get("ElementName").and_then(Value::as_text) {
            Some(name) => name.to_owned(),
            None => format!("{}-{}", disk.name, uuid::Uuid::new_v4().simple()),
        };
        match kind {
            SNAPSHOT => {
                let request = CreateSnapshots { disks: vec![disk.id], name };
                job(self.engine.create_snapshots(request, self.submission()))
            }
            CLONE => {
                let request = CloneDisk { source: disk.id, name, provisioning: None, format: None };
                job(self.engine.clone_disk(request, self.submission()))
            }
            6 | 9 => Ok(Outcome::of(NOT_SUPPORTED)),
            _ => Ok(Outcome::of(INVALID_PARAMETER)),
        }
    }

    /// `ModifyReplicaSynchronization`: gives a snapshot back, or rolls its disk back to it.
    pub(crate) fn modify_synchronization(&self, inputs: &Inputs) -> Result<Outcome, Fault> {
        let operation = inputs.required_number("Operation")?;
        let path = inputs.required_reference("Synchronization")?;
        let association = self.existing(path)?;
        if association.class != SYNCHRONIZED {
            return Err(Fault::invalid_parameter("Synchronization is no CIM_StorageSynchronized"));
        }
        if inputs.has("ReplicationSettingData") || inputs.has("SyncPair") {
            return Ok(Outcome::of(NOT_SUPPORTED));
        }
        let synced = association.get("SyncedElement").and_then(Value::as_reference);
        let id = synced.and_then(|path| path.text_key("DeviceID"));
        let id = id.and_then(|id| id.parse::<SnapshotId>().ok());
        let id = id.ok_or_else(|| Fault::not_found("there is no such snapshot"))?;
        match u16::try_from(operation) {
            Ok(RETURN) => job(self.engine.delete_snapshot(id, self.submission())),
            Ok(RESTORE) => job(self.engine.roll_back(id, self.submission())),
            _ if (2..=LAST_OPERATION).contains(&operation) => Ok(Outcome::of(NOT_SUPPORTED)),
            _ => Ok(Outcome::of(INVALID_PARAMETER)),
        }
    }
}

/// `ConvertSyncTypeToReplicationType`
pub(crate) fn to_replication_type(inputs: &Inputs) -> Result<Outcome, Fault> {
    let number = |name| inputs.get(name).and_then(Value::as_uint);
    let here = number("LocalOrRemote").is_none_or(|place| place == 2);
    let at_once = number("Mode").is_none_or(|mode| mode == SYNCHRONOUS);
    let kind = match inputs.required_number("SyncType")? {
        SNAPSHOT if here && at_once => SNAPSHOT_TYPE,
        CLONE if here && at_once => CLONE_TYPE,
        6..=9 => return Ok(Outcome::of(NOT_SUPPORTED)),
        _ => return Ok(Outcome::of(INVALID_PARAMETER)),
    };
    Ok(Outcome::of(COMPLETED).with("SupportedReplicationTypes", kind))
}

/// `ConvertReplicationTypeToSyncType`
pub(crate) fn to_sync_type(inputs: &Inputs) -> Result<Outcome, Fault> {
    let kind = match replication_type(inputs)? {
        Ok(SNAPSHOT_TYPE) => SNAPSHOT,
        Ok(_) => CLONE,
        Err(returned) => return Ok(Outcome::of(returned)),
    };
    Ok(Outcome::of(COMPLETED)
        .with("SyncType", kind)
        .with("Mode", SYNCHRONOUS)
        .with("LocalOrRemote", 2_u16))
}

/// `GetSupportedFeatures`
pub(crate) fn features(inputs: &Inputs) -> Result<Outcome, Fault> {
    // TargetElement is not given; targets come from the source's pool; clients name them.
    list(inputs, "Features", |_| Value::numbers(&[39, 44, 51]))
}

/// `GetSupportedOperations`: a clone is on its own as soon as it is there.
pub(crate) fn operations(inputs: &Inputs) -> Result<Outcome, Fault> {
    let of = |kind| if kind == SNAPSHOT_TYPE { &[RESTORE, RETURN][..] } else { &[] };
    list(inputs, "SupportedOperations", |kind| Value::numbers(of(kind)))
}

/// `GetSupportedCopyStates` and `GetSupportedWaitForCopyStates`
pub(crate) fn copy_states(inputs: &Inputs) -> Result<Outcome, Fault> {
    list(inputs, "SupportedCopyStates", |_| Value::numbers(&[COPIED]))
}

fn list(inputs: &Inputs, name: &'static str, of: impl Fn(u16) -> Value) -> Result<Outcome, Fault> {
    match replication_type(inputs)? {
        Ok(kind) => Ok(Outcome::of(COMPLETED).with(name, of(kind))),
        Err(returned) => Ok(Outcome::of(returned)),
    }
}

fn replication_type(inputs: &Inputs) -> Result<Result<u16, u32>, Fault> {
    Ok(match inputs.required_number("ReplicationType")? {
        kind if kind == u64::from(SNAPSHOT_TYPE) => Ok(SNAPSHOT_TYPE),
        kind if kind == u64::from(CLONE_TYPE) => Ok(CLONE_TYPE),
        2..=27 => Err(NOT_SUPPORTED),
        _ => Err(INVALID_PARAMETER),
    })
}
