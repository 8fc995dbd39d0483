//! Methods of the replication service and of its capabilities.

use job_engine::{Cause, CloneDisk, CreateSnapshots, Exposing, PoolId, RequestError, SnapshotId};

use super::fault::Fault;
use super::instances::POOL;
use super::methods::{
    COMPLETED, IN_USE, INVALID_PARAMETER, Inputs, NOT_SUPPORTED, Outcome, Volume, started,
};
use super::operations::Work;
use super::path::ObjectPath;
use super::replicas::{CLONE_TYPE, SNAPSHOT_TYPE, SYNCHRONIZED, pool_of};
use super::settings::Wish;
use super::value::Value;

/// `SyncType`
const SNAPSHOT: u64 = 7;
const CLONE: u64 = 8;
/// `Mode`
const SYNCHRONOUS: u64 = 2;
/// `CopyState`
const COPIED: u16 = 4;
/// `Operation`
const DETACH: u16 = 8;
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
        const UNSUPPORTED: [&str; 6] = [
            "ReplicationSettingData",
            "SourceAccessPoint",
            "TargetElement",
            "TargetAccessPoint",
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
        self.replicate(source, kind, inputs)
    }

    /// A snapshot or a clone, in the pool of its source if no other is named. Of a snapshot, there are clones.
    fn replicate(&self, source: &ObjectPath, kind: u64, inputs: &Inputs) -> Result<Outcome, Fault> {
        let (source, snapshot) = match self.volume(source)? {
            Volume::Disk(id) => (Some(id), None),
            Volume::Snapshot(id) => {
                let found = self.view.snapshot().snapshots.iter().find(|it| it.id == id);
                (found.map(|it| it.disk), found)
            }
        };
        let Some(disk) = source.and_then(|id| self.engine.disk(&id)) else {
            return Err(Fault::not_found("there is no such storage volume"));
        };
        let mut pool = None;
        if let Some(path) = inputs.reference("TargetPool") {
            let instance = self.existing(path)?;
            if instance.class != POOL {
                return Ok(Outcome::of(INVALID_PARAMETER));
            }
            pool = instance.get("InstanceID").and_then(Value::as_text).map(PoolId::parse);
            // A snapshot lies beside its disk, and what is made of it beside the snapshot.
            let near = match snapshot {
                Some(snapshot) => Some(pool_of(&self.view, snapshot, &disk)),
                None => (kind == SNAPSHOT).then(|| disk.pool.clone()),
            };
            if near.is_some() && pool != near {
                return Ok(Outcome::of(NOT_SUPPORTED));
            }
        }
        let wish = match inputs.reference("TargetSettingGoal") {
            None => Wish::default(),
            Some(goal) => match self.goal(goal)? {
                Some(wish) => wish,
                None => return Ok(Outcome::of(NOT_SUPPORTED)),
            },
        };
        // Only a clone of a disk can be what its source is not.
        if wish != Wish::default() && (kind != CLONE || snapshot.is_some()) {
            return Ok(Outcome::of(NOT_SUPPORTED));
        }
        let name = match inputs.get("ElementName").and_then(Value::as_text) {
            Some(name) => name.to_owned(),
            None => format!("{}-{}", disk.name, uuid::Uuid::new_v4().simple()),
        };
        match (kind, snapshot) {
            (CLONE, Some(of)) => job(self.engine.expose_snapshot(
                of.id,
                name,
                Exposing::default(),
                self.submission(),
            )),
            (_, Some(_)) => Ok(Outcome::of(NOT_SUPPORTED)),
            (SNAPSHOT, None) => {
                let request = CreateSnapshots { disks: vec![disk.id], name };
                job(self.engine.create_snapshots(request, self.submission()))
            }
            (CLONE, None) => {
                let Wish { provisioning, format } = wish;
                let request = CloneDisk { source: disk.id, name, provisioning, format, pool };
                job(self.engine.clone_disk(request, self.submission()))
            }
            (6 | 9, None) => Ok(Outcome::of(NOT_SUPPORTED)),
            (_, None) => Ok(Outcome::of(INVALID_PARAMETER)),
        }
    }

    /// `CreateListReplica`: snapshots of several disks at one instant, in one job.
    pub(crate) fn create_replicas(&self, inputs: &Inputs) -> Result<Outcome, Fault> {
        const UNSUPPORTED: [&str; 7] = [
            "ReplicationSettingData",
            "SourceAccessPoint",
            "TargetElements",
            "TargetAccessPoint",
            "TargetSettingGoal",
            "TargetPool",
            "Collections",
        ];
        let kind = inputs.required_number("SyncType")?;
        let sources = inputs.references("SourceElements");
        if sources.is_empty() {
            return Err(super::arguments::missing("SourceElements"));
        }
        let number = |name| inputs.get(name).and_then(Value::as_uint);
        if kind != SNAPSHOT
            || UNSUPPORTED.iter().any(|name| inputs.has(name))
            || number("Mode").is_some_and(|mode| mode != SYNCHRONOUS)
            || number("WaitForCopyState").is_some_and(|state| state != u64::from(COPIED))
        {
            return Ok(Outcome::of(NOT_SUPPORTED));
        }
        let disks = sources.into_iter().map(|path| self.disk(path)).collect::<Result<_, _>>()?;
        let name = match inputs.texts("ElementNames").as_slice() {
            [] => format!("snapshot-{}", uuid::Uuid::new_v4().simple()),
            [name] => (*name).to_owned(),
            // Those of one instant have one name.
            _ => return Ok(Outcome::of(NOT_SUPPORTED)),
        };
        job(self.engine.create_snapshots(CreateSnapshots { disks, name }, self.submission()))
    }

    /// `CreateReplica`, which older clients call: `CopyType` says which replica.
    pub(crate) fn create_copy(&self, inputs: &Inputs) -> Result<Outcome, Fault> {
        const ASSOCIATED: u64 = 4;
        const UNASSOCIATED: u64 = 5;
        let source = inputs.required_reference("SourceElement")?;
        let kind = match inputs.required_number("CopyType")? {
            ASSOCIATED => SNAPSHOT,
            UNASSOCIATED => CLONE,
            2 | 3 => return Ok(Outcome::of(NOT_SUPPORTED)),
            _ => return Ok(Outcome::of(INVALID_PARAMETER)),
        };
        self.replicate(source, kind, inputs)
    }

    /// `ModifySynchronization`, which older clients call.
    pub(crate) fn modify_copy(&self, inputs: &Inputs) -> Result<Outcome, Fault> {
        const DETACH: u64 = 2;
        const RESTORE: u64 = 5;
        const LAST: u64 = 13;
        let id = self.synchronized(inputs.required_reference("Synchronization")?)?;
        match inputs.required_number("Operation")? {
            DETACH => job(self.engine.detach_snapshot(id, self.submission())),
            RESTORE => job(self.engine.roll_back(id, self.submission())),
            3..=4 | 6..=LAST => Ok(Outcome::of(NOT_SUPPORTED)),
            _ => Ok(Outcome::of(INVALID_PARAMETER)),
        }
    }

    /// The snapshot that an association with its disk is of.
    fn synchronized(&self, path: &ObjectPath) -> Result<SnapshotId, Fault> {
        let association = self.existing(path)?;
        if association.class != SYNCHRONIZED {
            return Err(Fault::invalid_parameter("Synchronization is no CIM_StorageSynchronized"));
        }
        let synced = association.get("SyncedElement").and_then(Value::as_reference);
        let id = synced.and_then(|path| path.text_key("DeviceID"));
        let id = id.and_then(|id| id.parse::<SnapshotId>().ok());
        id.ok_or_else(|| Fault::not_found("there is no such snapshot"))
    }

    /// `ModifyReplicaSynchronization`: gives a snapshot back, or rolls its disk back to it.
    pub(crate) fn modify_synchronization(&self, inputs: &Inputs) -> Result<Outcome, Fault> {
        let operation = inputs.required_number("Operation")?;
        let id = self.synchronized(inputs.required_reference("Synchronization")?)?;
        if inputs.has("ReplicationSettingData") || inputs.has("SyncPair") {
            return Ok(Outcome::of(NOT_SUPPORTED));
        }
        match u16::try_from(operation) {
            Ok(DETACH) => job(self.engine.detach_snapshot(id, self.submission())),
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
    let of = |kind| if kind == SNAPSHOT_TYPE { &[DETACH, RESTORE, RETURN][..] } else { &[] };
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
