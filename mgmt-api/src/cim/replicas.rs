//! Snapshots of disks, and the calls that jobs come from.

use job_engine::{Disk, DiskSnapshot, Engine, Job, JobId, JobKind, PoolId, Purpose};

use super::health::Health;
use super::instances::{Part, Space, VOLUME, View, by_id, in_system, job_path, link};
use super::time;
use super::value::{Instance, Value};

pub(crate) const REPLICATION_SERVICE: &str = "MSISCSITARGET_ReplicationService";
pub(crate) const REPLICATION_CAPABILITIES: &str = "MSISCSITARGET_ReplicationServiceCapabilities";
pub(crate) const SYNCHRONIZED: &str = "MSISCSITARGET_StorageSynchronized";
pub(crate) const RESULT: &str = "LUND_MethodResult";
/// Their `InstanceID`s end so, behind those of the jobs.
const CALL: &str = ":call";
const OF_JOB: &str = "LUND_AssociatedJobMethodResult";

/// `InstanceID` of its capabilities.
pub(crate) const REPLICATION_CAPABILITIES_ID: &str = "MSISCSITARGET:capabilities:replication";

/// `ReplicationType`: snapshots and clones, of one instant, on this system.
pub(crate) const SNAPSHOT_TYPE: u16 = 6;
pub(crate) const CLONE_TYPE: u16 = 10;

/// These classes.
pub(crate) const PART: Part = Part {
    elements: &[
        (REPLICATION_SERVICE, Space::Storage),
        (REPLICATION_CAPABILITIES, Space::Storage),
        (RESULT, Space::Storage),
    ],
    links: &[(SYNCHRONIZED, Space::Storage), (OF_JOB, Space::Storage)],
    instances,
};

/// Whether a job belongs to the replication service.
pub(crate) fn is_replication(job: &Job) -> bool {
    matches!(
        job.kind,
        JobKind::Planned {
            purpose: Purpose::CloneDisk
                | Purpose::CreateSnapshot
                | Purpose::DeleteSnapshot
                | Purpose::RollBack
                | Purpose::ExposeSnapshot
                | Purpose::DetachSnapshot,
            ..
        }
    )
}

fn result_id(job: &JobId) -> String {
    format!("{}{CALL}", job.instance_id())
}

/// The call that an `InstanceID` is of.
pub(crate) fn find_result(engine: &Engine, id: &str) -> Option<Instance> {
    let job = engine.job(&id.strip_suffix(CALL)?.parse().ok()?)?;
    job.kind.method_name().map(|method| result(&job, method))
}

/// Jobs that a method of the model makes, with its name.
fn called<'v>(view: &'v View<'_>) -> impl Iterator<Item = (&'v Job, &'static str)> {
    view.jobs().iter().filter_map(|job| Some((&**job, job.kind.method_name()?)))
}

fn instances(view: &View<'_>, class: &'static str) -> Vec<Instance> {
    match class {
        REPLICATION_SERVICE => vec![view.service(REPLICATION_SERVICE, "Replication")],
        REPLICATION_CAPABILITIES => vec![capabilities()],
        SYNCHRONIZED => view.snapshot().snapshots.iter().map(|it| synchronized(view, it)).collect(),
        RESULT => called(view).map(|(job, method)| result(job, method)).collect(),
        OF_JOB => called(view).map(|(job, _)| of_call(job)).collect(),
        _ => Vec::new(),
    }
}

fn of_call(job: &Job) -> Instance {
    let result = ("JobParameters", by_id(RESULT, &result_id(&job.id)));
    link(OF_JOB, ("Job", job_path(&job.id)), result)
}

/// The associations of a class with a job, if it is a class from here.
pub(crate) fn of_job(class: &str, job: &Job) -> Option<Vec<Instance>> {
    let called = || job.kind.method_name().map(|_| of_call(job)).into_iter().collect();
    (class == OF_JOB).then(called)
}

/// The pool in which a snapshot is: its disk may have been moved since.
pub(crate) fn pool_of(view: &View<'_>, snapshot: &DiskSnapshot, disk: &Disk) -> PoolId {
    let mut pools = view.pools().iter();
    let found = pools.find(|pool| snapshot.path.parent() == Some(pool.directory.as_path()));
    found.map_or_else(|| disk.pool.clone(), |pool| pool.id.clone())
}

/// A disk and a snapshot of it.
fn synchronized(view: &View<'_>, snapshot: &DiskSnapshot) -> Instance {
    let source = ("SystemElement", view.volume_path(snapshot.disk));
    let when = time::datetime(snapshot.created);
    link(SYNCHRONIZED, source, ("SyncedElement", view.snapshot_path(snapshot.id)))
        .with("WhenSynced", when.clone())
        .with("WhenSynchronized", when.clone())
        .with("WhenEstablished", when)
        .with("SyncMaintained", false)
        // Does not follow the disk; made at once, and whole.
        .with("CopyType", 4_u16)
        .with("ReplicaType", 2_u16)
        .with("SyncType", 7_u16)
        .with("Mode", 2_u16)
        .with("SyncState", 6_u16)
        .with("CopyState", 4_u16)
        .with("RequestedCopyState", 15_u16)
        .with("ProgressStatus", 2_u16)
        .with("PercentSynced", 100_u16)
        .with("ReadOnly", 3_u16)
}

fn result(job: &Job, method: &str) -> Instance {
    let call = Instance::new("CIM_InstMethodCall")
        .with("IndicationTime", time::datetime(job.time_submitted))
        .with("MethodName", method);
    // What GetError says is the job's; the call itself went well.
    let before = call.clone().with("PreCall", true);
    let after = call.with("PreCall", false).with("ReturnValue", "4096");
    Instance::new(RESULT)
        .with("InstanceID", result_id(&job.id))
        .with("ElementName", job.name.as_str())
        .with("PreCallIndication", Value::Embedded(Box::new(before)))
        .with("PostCallIndication", Value::Embedded(Box::new(after)))
}

/// A snapshot as a volume: initiators do not see it.
pub(crate) fn volume(view: &View<'_>, snapshot: &DiskSnapshot) -> Instance {
    let disk = view.snapshot().disks.iter().find(|disk| disk.id == snapshot.disk);
    let health = Health::of_snapshot(snapshot, view.troubles());
    volume_of(view.system, snapshot, disk, &health)
}

/// The same, of a disk that may be gone.
pub(crate) fn volume_of(
    system: &str,
    snapshot: &DiskSnapshot,
    disk: Option<&Disk>,
    health: &Health,
) -> Instance {
    let block = disk.map_or(512, |disk| u64::from(disk.block_length.bytes()));
    let count = snapshot.size_bytes / block;
    let name = snapshot.id.uuid().simple().to_string().to_uppercase();
    health
        .show(in_system(system, VOLUME))
        .with("DeviceID", snapshot.id.to_string())
        .with("ElementName", snapshot.name.as_str())
        .with("Caption", snapshot.name.as_str())
        .with("InstallDate", time::datetime(snapshot.created))
        .with("Name", name)
        // Of no standard: no initiator is told this name.
        .with("NameFormat", 1_u16)
        .with("NameNamespace", 1_u16)
        .with("OtherNameNamespace", "lund")
        .with("OtherNameFormat", "UUID")
        .with("OtherIdentifyingInfo", Value::texts([snapshot.id.to_string()]))
        .with("IdentifyingDescriptions", Value::texts(["Snapshot identifier"]))
        .with("EnabledState", 2_u16)
        .with("RequestedState", 12_u16)
        // Readable.
        .with("Access", 1_u16)
        .with("BlockSize", block)
        .with("NumberOfBlocks", count)
        .with("ConsumableBlocks", count)
        .with("IsBasedOnUnderlyingRedundancy", false)
        .with("NoSinglePointOfFailure", false)
        .with("DataRedundancy", 1_u16)
        .with("SequentialAccess", false)
        .with("Primordial", false)
        // The target of a local replica.
        .with("Usage", 8_u16)
        .with("CanDelete", true)
        .with("ThinlyProvisioned", true)
        .with("MSDevicePath", snapshot.path.display().to_string())
        .with("MSType", Value::Sint(3))
}

/// Clients search in the lists: what there is none of is empty, not absent.
fn capabilities() -> Instance {
    Instance::new(REPLICATION_CAPABILITIES)
        .with("InstanceID", REPLICATION_CAPABILITIES_ID)
        .with("ElementName", "Replication")
        .with("SupportedReplicationTypes", Value::numbers(&[SNAPSHOT_TYPE, CLONE_TYPE]))
        .with("SupportedStorageObjects", Value::numbers(&[2]))
        // CreateElementReplica and ModifyReplicaSynchronization.
        .with("SupportedAsynchronousActions", Value::numbers(&[2, 5]))
        .with("SupportedSynchronousActions", Value::numbers(&[]))
}
