//! What exists, as instances: one view of the engine for one request.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use job_engine::error::{NAMESPACE, SYSTEM_CLASS};
use job_engine::{Disk, DiskId, Engine, Job, JobId, JobView, Pool, PoolHealth, PoolId, Snapshot};
use job_engine::{
    DiskSnapshot, INSTANCE_ID_PREFIX, PoolSettings, Provisioning, SnapshotId, Target,
};

use super::encode::path_of;
use super::health::{Health, Troubles};
use super::indications::{self, Indications};
use super::mof::Class;
use super::path::ObjectPath;
use super::schema::Schema;
use super::time;
use super::value::{Instance, Value};
use super::{
    associations, bulk, credentials, masking, network, ports, profiles, replicas, settings,
    statistics, views,
};
use crate::api;
use crate::service::{Host, TotalCounters};

pub(crate) const JOB: &str = "MSISCSITARGET_ConcreteJob";
pub(crate) const POOL: &str = "MSISCSITARGET_StoragePool";
pub(crate) const VOLUME: &str = "MSISCSITARGET_StorageVolume";
pub(crate) const SERVICE: &str = "MSISCSITARGET_StorageConfigurationService";
pub(crate) const CONTROLLER: &str = "MSISCSITARGET_SCSIProtocolController";
pub(crate) const CAPABILITIES: &str = "MSISCSITARGET_StorageConfigurationCapabilities";
pub(crate) const OBJECT_MANAGER: &str = "MSFTSM_ObjectManager";
pub(crate) const INDICATION_SERVICE: &str = "CIM_IndicationService";
/// The host, as the server itself sees it.
pub(crate) const SERVER_SYSTEM: &str = "MSFTSM_System";
const NAMESPACE_CLASS: &str = "MSFTSM_Namespace";

/// Key of the one instance that says what can be done.
const CAPABILITIES_ID: &str = "MSISCSITARGET:capabilities:storage";

/// Name of every service.
pub(crate) const SERVICE_NAME: &str = "lund";

/// Names of the namespace for what describes the server itself; clients try them in this order.
pub(crate) const INTEROP: [&str; 2] = ["interop", "root/interop"];

/// Which kind of namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    /// Everything about storage.
    Storage,
    /// The server itself.
    Interop,
}

/// A part of the model.
pub(crate) struct Part {
    /// Classes that have instances, associations aside.
    pub(crate) elements: &'static [(&'static str, Space)],
    /// Associations.
    pub(crate) links: &'static [(&'static str, Space)],
    /// All instances of exactly this class.
    pub(crate) instances: fn(&View<'_>, &'static str) -> Vec<Instance>,
}

impl Part {
    /// A class of this part, by its name.
    fn class(&self, name: &str) -> Option<&'static str> {
        let mut own = self.elements.iter().chain(self.links).map(|(own, _)| *own);
        own.find(|own| *own == name)
    }
}

/// What is not here.
pub(crate) const PARTS: [&Part; 10] = [
    &associations::PART,
    &profiles::PART,
    &masking::PART,
    &ports::PART,
    &replicas::PART,
    &settings::PART,
    &network::PART,
    &credentials::PART,
    &statistics::PART,
    &bulk::PART,
];

/// Classes that have instances here, associations aside.
const ELEMENTS: [(&str, Space); 13] = [
    (SYSTEM_CLASS, Space::Storage),
    (SERVICE, Space::Storage),
    (CAPABILITIES, Space::Storage),
    (POOL, Space::Storage),
    (VOLUME, Space::Storage),
    (CONTROLLER, Space::Storage),
    (JOB, Space::Storage),
    (OBJECT_MANAGER, Space::Interop),
    (NAMESPACE_CLASS, Space::Interop),
    (INDICATION_SERVICE, Space::Interop),
    (indications::FILTER, Space::Interop),
    (indications::DESTINATION, Space::Interop),
    (indications::SUBSCRIPTION, Space::Interop),
];

/// What exists during one request.
pub(crate) struct View<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) schema: &'a Schema,
    pub(crate) system: &'a str,
    indications: &'a Indications,
    host: Option<&'a dyn Host>,
    snapshot: OnceCell<Snapshot>,
    jobs: OnceCell<Vec<JobView>>,
    pools: OnceCell<Vec<Pool>>,
    groups: OnceCell<Vec<api::PortalGroup>>,
    sessions: OnceCell<Vec<api::SessionDetail>>,
    accounts: OnceCell<Vec<api::ChapAccount>>,
    disks: OnceCell<HashSet<DiskId>>,
    faulty: OnceCell<HashSet<DiskId>>,
    troubles: OnceCell<Vec<Arc<PoolHealth>>>,
}

impl Space {
    /// The one of this name.
    pub(crate) fn of(name: &str) -> Option<Self> {
        let name = name.trim_matches('/');
        if name.eq_ignore_ascii_case(NAMESPACE) {
            return Some(Self::Storage);
        }
        INTEROP.iter().any(|own| own.eq_ignore_ascii_case(name)).then_some(Self::Interop)
    }
}

impl<'a> View<'a> {
    pub(crate) fn new(
        engine: &'a Engine,
        schema: &'a Schema,
        system: &'a str,
        indications: &'a Indications,
    ) -> Self {
        Self {
            engine,
            schema,
            system,
            indications,
            host: None,
            snapshot: OnceCell::new(),
            jobs: OnceCell::new(),
            pools: OnceCell::new(),
            groups: OnceCell::new(),
            sessions: OnceCell::new(),
            accounts: OnceCell::new(),
            disks: OnceCell::new(),
            faulty: OnceCell::new(),
            troubles: OnceCell::new(),
        }
    }

    /// Of this catalogue.
    pub(crate) fn showing(self, snapshot: Snapshot) -> Self {
        Self { snapshot: snapshot.into(), ..self }
    }

    /// With what there is of the data path.
    pub(crate) fn over(self, host: Option<&'a dyn Host>) -> Self {
        Self { host, ..self }
    }

    pub(crate) fn host(&self) -> Option<&'a dyn Host> {
        self.host
    }

    pub(crate) fn chap_accounts(&self) -> &[api::ChapAccount] {
        self.accounts.get_or_init(|| self.host.map(Host::chap_accounts).unwrap_or_default())
    }

    /// What initiators did since the daemon's start.
    pub(crate) fn totals(&self) -> Option<TotalCounters> {
        self.host.map(Host::totals)
    }

    /// What sessions begin their negotiation with.
    pub(crate) fn session_parameters(&self) -> Option<api::SessionParameters> {
        self.host.map(Host::session_parameters)
    }

    pub(crate) fn portal_groups(&self) -> &[api::PortalGroup] {
        self.groups.get_or_init(|| self.host.map(Host::portal_groups).unwrap_or_default())
    }

    pub(crate) fn sessions(&self) -> &[api::SessionDetail] {
        let detail = |host: &dyn Host| {
            let all = host.sessions().into_iter();
            all.filter_map(|session| host.session(session.tsih)).collect()
        };
        self.sessions.get_or_init(|| self.host.map(detail).unwrap_or_default())
    }

    /// What there is, but jobs.
    pub(crate) fn snapshot(&self) -> &Snapshot {
        self.snapshot.get_or_init(|| self.engine.snapshot_without_jobs())
    }

    /// Of jobs there may be thousands, and few requests are about them.
    pub(crate) fn jobs(&self) -> &[JobView] {
        self.jobs.get_or_init(|| self.engine.job_views())
    }

    pub(crate) fn pools(&self) -> &[Pool] {
        self.pools.get_or_init(|| self.engine.pools())
    }

    pub(crate) fn has_disk(&self, id: DiskId) -> bool {
        let all = || self.snapshot().disks.iter().map(|disk| disk.id).collect();
        self.disks.get_or_init(all).contains(&id)
    }

    /// Whether there were errors on the disk that nobody has cleared.
    fn is_faulty(&self, id: DiskId) -> bool {
        let all = || self.engine.job_counts().faults.iter().map(|fault| fault.disk).collect();
        self.faulty.get_or_init(all).contains(&id)
    }

    /// What is wrong with pools.
    pub(crate) fn troubles(&self) -> &Troubles {
        self.troubles.get_or_init(|| self.engine.pool_health())
    }

    /// Classes with instances in this namespace, `class` or below it.
    pub(crate) fn leaves(&self, space: Space, class: &str) -> Vec<Arc<Class>> {
        let parts = PARTS.iter().flat_map(|part| part.elements.iter().chain(part.links)).copied();
        let all = ELEMENTS.into_iter().chain(parts);
        let wanted = all.filter(|(name, own)| *own == space && self.schema.is_a(name, class));
        wanted.filter_map(|(name, _)| self.schema.class(name).cloned()).collect()
    }

    /// All instances of exactly this class.
    pub(crate) fn instances(&self, class: &str) -> Vec<Instance> {
        let state = || self.snapshot();
        match class {
            SYSTEM_CLASS => vec![self.computer_system()],
            SERVICE => vec![self.service(SERVICE, "Storage configuration")],
            CAPABILITIES => vec![capabilities()],
            POOL => {
                let primordial = std::iter::once(primordial(self.pools()));
                primordial.chain(self.pools().iter().map(|it| pool(it, self.troubles()))).collect()
            }
            VOLUME => {
                let disks = state().disks.iter().map(|disk| self.volume(disk));
                let replica = |it: &DiskSnapshot| replicas::volume(self, it);
                disks.chain(state().snapshots.iter().map(replica)).collect()
            }
            CONTROLLER => views::instances(self),
            JOB => self.jobs().iter().map(|job| job_instance(job)).collect(),
            OBJECT_MANAGER => vec![self.object_manager()],
            NAMESPACE_CLASS => self.namespaces(),
            INDICATION_SERVICE => vec![self.indication_service()],
            made if indications::is_ours(made) => self.indications.instances(made),
            other => {
                let found = PARTS.iter().find_map(|part| Some((part, part.class(other)?)));
                found.map(|(part, class)| (part.instances)(self, class)).unwrap_or_default()
            }
        }
    }

    /// The same one after the other.
    pub(crate) fn each(&self, class: &str, mut found: impl FnMut(Instance)) {
        if class == JOB {
            self.jobs().iter().for_each(|job| found(job_instance(job)));
        } else {
            self.instances(class).into_iter().for_each(found);
        }
    }

    /// The instance that a path means; in `space`, unless it says itself where.
    pub(crate) fn find(&self, space: Space, path: &ObjectPath) -> Option<Instance> {
        let space = match &path.namespace {
            Some(name) => Space::of(name)?,
            None => space,
        };
        let class = self.leaves(space, &path.class).into_iter().next();
        let class = class.filter(|found| found.name.eq_ignore_ascii_case(&path.class))?;
        let path = named_keys(&class, path);
        if class.name == JOB {
            // Polling must not cost more when there are many jobs.
            let id = path.text_key("InstanceID")?.parse::<JobId>().ok()?;
            let found = self.engine.job(&id).as_ref().map(job_instance)?;
            return path_of(&class, &found, NAMESPACE).same_as(&path).then_some(found);
        }
        if class.name == replicas::RESULT {
            let found = replicas::find_result(self.engine, path.text_key("InstanceID")?)?;
            return path_of(&class, &found, NAMESPACE).same_as(&path).then_some(found);
        }
        if class.name == VOLUME {
            let id = path.text_key("DeviceID")?.parse::<DiskId>().ok()?;
            let found = self.snapshot().disks.iter().find(|disk| disk.id == id);
            let found = match found {
                Some(disk) => self.volume(disk),
                None => {
                    let mut snapshots = self.snapshot().snapshots.iter();
                    let found = snapshots.find(|one| one.id.uuid() == id.uuid())?;
                    replicas::volume(self, found)
                }
            };
            return path_of(&class, &found, NAMESPACE).same_as(&path).then_some(found);
        }
        if class.name == CONTROLLER {
            let found = views::instance(self, path.text_key("DeviceID")?)?;
            return path_of(&class, &found, NAMESPACE).same_as(&path).then_some(found);
        }
        let namespace = if space == Space::Storage { NAMESPACE } else { INTEROP[0] };
        let all = self.instances(&class.name);
        all.into_iter().find(|instance| path_of(&class, instance, namespace).same_as(&path))
    }

    pub(crate) fn system_path(&self) -> ObjectPath {
        ObjectPath::new(NAMESPACE, SYSTEM_CLASS)
            .with("CreationClassName", SYSTEM_CLASS)
            .with("Name", self.system)
    }

    pub(crate) fn service_path(&self, class: &str) -> ObjectPath {
        ObjectPath::new(NAMESPACE, class)
            .with("SystemCreationClassName", SYSTEM_CLASS)
            .with("SystemName", self.system)
            .with("CreationClassName", class)
            .with("Name", SERVICE_NAME)
    }

    pub(crate) fn namespace_path(&self, name: &str) -> ObjectPath {
        ObjectPath::new(INTEROP[0], NAMESPACE_CLASS)
            .with("SystemCreationClassName", SERVER_SYSTEM)
            .with("SystemName", self.system)
            .with("ObjectManagerCreationClassName", OBJECT_MANAGER)
            .with("ObjectManagerName", SERVICE_NAME)
            .with("CreationClassName", NAMESPACE_CLASS)
            .with("Name", name)
    }

    pub(crate) fn snapshot_path(&self, snapshot: SnapshotId) -> ObjectPath {
        self.device_path(VOLUME, &snapshot.to_string())
    }

    pub(crate) fn volume_path(&self, disk: DiskId) -> ObjectPath {
        self.device_path(VOLUME, &disk.to_string())
    }

    pub(crate) fn controller_path(&self, name: &str) -> ObjectPath {
        self.device_path(CONTROLLER, name)
    }

    fn device_path(&self, class: &str, device: &str) -> ObjectPath {
        ObjectPath::new(NAMESPACE, class)
            .with("SystemCreationClassName", SYSTEM_CLASS)
            .with("SystemName", self.system)
            .with("CreationClassName", class)
            .with("DeviceID", device)
    }

    fn computer_system(&self) -> Instance {
        let own = self.engine.own_alerts();
        computer_system(self.system, &Health::of_system(own.first(), self.troubles()))
    }

    pub(crate) fn service(&self, class: &'static str, title: &str) -> Instance {
        healthy(self.in_system(class))
            .with("Name", SERVICE_NAME)
            .with("ElementName", title)
            .with("Started", true)
            .with("EnabledState", 2_u16)
            .with("RequestedState", 12_u16)
    }

    /// A service access point.
    pub(crate) fn point_instance(&self, class: &'static str, name: &str) -> Instance {
        healthy(self.in_system(class))
            .with("Name", name)
            .with("ElementName", name)
            .with("EnabledState", 2_u16)
            .with("RequestedState", 12_u16)
    }

    fn object_manager(&self) -> Instance {
        healthy(self.in_server(OBJECT_MANAGER))
            .with("Name", SERVICE_NAME)
            .with("ElementName", "lund")
            .with("Description", concat!("lund ", env!("CARGO_PKG_VERSION")))
            .with("GatherStatisticalData", false)
            .with("Started", true)
            .with("EnabledState", 2_u16)
            .with("RequestedState", 12_u16)
    }

    /// Deliveries are tried again for ever, at least every so many seconds.
    fn indication_service(&self) -> Instance {
        healthy(self.in_server(INDICATION_SERVICE))
            .with("Name", SERVICE_NAME)
            .with("ElementName", "Indications")
            .with("FilterCreationEnabled", true)
            .with("DeliveryRetryAttempts", u16::MAX)
            .with("DeliveryRetryInterval", indications::RETRY_SECONDS)
            // Ignore.
            .with("SubscriptionRemovalAction", 4_u16)
            .with("Started", true)
            .with("EnabledState", 2_u16)
            .with("RequestedState", 12_u16)
    }

    fn namespaces(&self) -> Vec<Instance> {
        let names = INTEROP.into_iter().chain([NAMESPACE]);
        let namespace = |name: &str| {
            self.in_server(NAMESPACE_CLASS)
                .with("ObjectManagerCreationClassName", OBJECT_MANAGER)
                .with("ObjectManagerName", SERVICE_NAME)
                .with("Name", name)
                .with("ElementName", name)
                // Of another version than those that it can name.
                .with("ClassInfo", 1_u16)
                .with("DescriptionOfClassInfo", "CIM 2.49")
        };
        names.map(namespace).collect()
    }

    pub(crate) fn volume(&self, disk: &Disk) -> Instance {
        let faulty = self.is_faulty(disk.id);
        volume(self.system, disk, &Health::of_disk(disk, faulty, self.troubles()))
    }

    /// Something of the server itself.
    pub(crate) fn in_server(&self, class: &'static str) -> Instance {
        Instance::new(class)
            .with("SystemCreationClassName", SERVER_SYSTEM)
            .with("SystemName", self.system)
            .with("CreationClassName", class)
    }

    pub(crate) fn in_system(&self, class: &'static str) -> Instance {
        in_system(self.system, class)
    }
}

pub(crate) fn in_system(system: &str, class: &'static str) -> Instance {
    Instance::new(class)
        .with("SystemCreationClassName", SYSTEM_CLASS)
        .with("SystemName", system)
        .with("CreationClassName", class)
}

/// The host of all this.
pub(crate) fn computer_system(system: &str, health: &Health) -> Instance {
    health
        .show(Instance::new(SYSTEM_CLASS))
        .with("CreationClassName", SYSTEM_CLASS)
        .with("Name", system)
        .with("NameFormat", "Other")
        .with("ElementName", system)
        .with("Description", "iSCSI target host")
        // Storage, Block Server.
        .with("Dedicated", Value::numbers(&[3, 15]))
        .with("EnabledState", 2_u16)
        .with("RequestedState", 12_u16)
}

/// A disk.
pub(crate) fn volume(system: &str, disk: &Disk, health: &Health) -> Instance {
    let full = disk.provisioning == Provisioning::Full;
    health
        .show(in_system(system, VOLUME))
        .with("DeviceID", disk.id.to_string())
        .with("ElementName", disk.name.as_str())
        .with("Caption", disk.name.as_str())
        .with("InstallDate", time::datetime(disk.created))
        .with("Name", disk.naa.to_string())
        // NAA, as in VPD page 83h.
        .with("NameFormat", 9_u16)
        .with("NameNamespace", 2_u16)
        .with("OtherIdentifyingInfo", Value::texts([&disk.serial]))
        .with("IdentifyingDescriptions", Value::texts(["Unit serial number"]))
        .with("EnabledState", 2_u16)
        .with("RequestedState", 12_u16)
        .with("Access", 3_u16)
        .with("BlockSize", u64::from(disk.block_length.bytes()))
        .with("NumberOfBlocks", disk.block_count())
        .with("ConsumableBlocks", disk.block_count())
        .with("IsBasedOnUnderlyingRedundancy", false)
        .with("NoSinglePointOfFailure", false)
        .with("DataRedundancy", 1_u16)
        .with("SequentialAccess", false)
        .with("Primordial", false)
        .with("Usage", 2_u16)
        .with("CanDelete", true)
        .with("ThinlyProvisioned", !full)
        .with("MSDevicePath", disk.holder().display().to_string())
        .with("MSType", Value::Sint(if full { 2 } else { 3 }))
}

/// A target, or a view of it.
pub(crate) fn controller_of(system: &str, target: &Target, id: &str, title: &str) -> Instance {
    healthy(in_system(system, CONTROLLER))
        .with("DeviceID", id)
        .with("Name", target.name.as_str())
        // iSCSI name.
        .with("NameFormat", 3_u16)
        .with("ElementName", title)
        .with("InstallDate", time::datetime(target.created))
        .with("EnabledState", 2_u16)
        .with("RequestedState", 12_u16)
        .with("MaxUnitsControlled", u32::from(job_engine::catalogue::MAX_LUN) + 1)
}

pub(crate) fn job_path(id: &JobId) -> ObjectPath {
    ObjectPath::new(NAMESPACE, JOB).with("InstanceID", &id.instance_id())
}

pub(crate) fn pool_path(id: &PoolId) -> ObjectPath {
    ObjectPath::new(NAMESPACE, POOL).with("InstanceID", &id.instance_id())
}

pub(crate) fn capabilities_path() -> ObjectPath {
    by_id(CAPABILITIES, CAPABILITIES_ID)
}

/// The path of an instance of the storage namespace whose key is `InstanceID`.
pub(crate) fn by_id(class: &str, id: &str) -> ObjectPath {
    ObjectPath::new(NAMESPACE, class).with("InstanceID", id)
}

/// `InstanceID` of the pool that the others take their space from.
pub(crate) fn primordial_id() -> String {
    format!("{INSTANCE_ID_PREFIX}primordial")
}

/// An association of two.
pub(crate) fn link(
    class: &'static str,
    from: (&'static str, ObjectPath),
    to: (&'static str, ObjectPath),
) -> Instance {
    Instance::new(class).with(from.0, from.1).with(to.0, to.1)
}

/// Lists of what there is none of are empty, not absent: clients search in them.
fn capabilities() -> Instance {
    Instance::new(CAPABILITIES)
        .with("InstanceID", CAPABILITIES_ID)
        .with("ElementName", "Storage configuration")
        // Creation, return and modification of storage elements.
        .with("SupportedAsynchronousActions", Value::numbers(&[5, 6, 7]))
        .with("SupportedSynchronousActions", Value::numbers(&[]))
        // Storage volumes, thin or not.
        .with("SupportedStorageElementTypes", Value::numbers(&[2, 5]))
        // Creation and modification of storage volumes, from a single pool; more and less capacity.
        .with("SupportedStorageElementFeatures", Value::numbers(&[3, 5, 6, 12, 13]))
        .with("SupportedStoragePoolFeatures", Value::numbers(&[]))
        .with("SupportedCopyTypes", Value::numbers(&[]))
        .with("AutomaticPoolSelectionAllowed", true)
}

/// A single key may come without its name.
pub(crate) fn named_keys(class: &Class, path: &ObjectPath) -> ObjectPath {
    let mut path = path.clone();
    if let [(name, _)] = path.keys.as_mut_slice()
        && name.is_empty()
        && let Some(key) = class.keys().next()
    {
        name.clone_from(&key.name);
    }
    path
}

pub(crate) fn healthy(instance: Instance) -> Instance {
    state(instance, 2, "OK", 5)
}

pub(crate) fn state(instance: Instance, operational: u16, text: &str, health: u16) -> Instance {
    instance
        .with("OperationalStatus", Value::numbers(&[operational]))
        .with("StatusDescriptions", Value::texts([text]))
        .with("HealthState", health)
}

/// The file systems that pools take their space from.
fn primordial(pools: &[Pool]) -> Instance {
    let total = pools.iter().map(|pool| pool.total_bytes).fold(0, u64::saturating_add);
    let health = pools.iter().find_map(Health::unavailable).unwrap_or_else(Health::good);
    health
        .show(Instance::new(POOL))
        .with("InstanceID", primordial_id())
        .with("PoolID", "primordial")
        .with("Name", "primordial")
        .with("ElementName", "primordial")
        .with("Primordial", true)
        .with("TotalManagedSpace", total)
        .with("RemainingManagedSpace", 0_u64)
        .with("ReservedSpace", 0_u64)
        .with("Usage", 2_u16)
}

fn pool(pool: &Pool, told: &Troubles) -> Instance {
    named_pool(&Health::seen(pool, told), &pool.id, &pool.directory)
        .with("TotalManagedSpace", pool.total_bytes)
        .with("RemainingManagedSpace", pool.free_bytes)
        .with("ReservedSpace", pool.reserved_bytes)
}

/// A pool without what its file system says now, which may take long to answer.
pub(crate) fn pool_of(settings: &PoolSettings, health: &Health) -> Instance {
    named_pool(health, &settings.id, &settings.directory)
}

fn named_pool(health: &Health, id: &PoolId, directory: &Path) -> Instance {
    let name = id.to_string();
    health
        .show(Instance::new(POOL))
        .with("InstanceID", id.instance_id())
        .with("PoolID", name.as_str())
        .with("Name", name.as_str())
        .with("ElementName", name)
        .with("Description", directory.display().to_string())
        .with("Primordial", false)
        .with("Usage", 2_u16)
}

pub(crate) fn job_instance(job: &Job) -> Instance {
    let what = match job.kind.method_name() {
        Some(method) => format!("Started by {method}"),
        None => "Errors on the data path".to_owned(),
    };
    Instance::sized(JOB, 28)
        .with("InstanceID", job.instance_id())
        .with("Name", job.name.as_str())
        .with("ElementName", job.name.as_str())
        .with("Caption", job.name.as_str())
        .with("Description", what)
        .with("OperationalStatus", Value::numbers(job.operational_status()))
        .with("StatusDescriptions", Value::texts(job.state.status_descriptions()))
        .with("HealthState", job.health_state())
        .with("JobStatus", job.state.name())
        .with("JobState", job.state.number())
        .with("PercentComplete", job.percent_complete)
        .with("TimeSubmitted", time::datetime(job.time_submitted))
        .with_some("ScheduledStartTime", job.scheduled_start_time.map(time::datetime))
        .with_some("StartTime", job.start_time.map(time::datetime))
        .with("ElapsedTime", time::interval(job.elapsed))
        .with("TimeOfLastStateChange", time::datetime(job.time_of_last_state_change))
        .with("TimeBeforeRemoval", time::interval(job.time_before_removal))
        .with("DeleteOnCompletion", job.delete_on_completion)
        .with("JobRunTimes", 1_u32)
        .with("LocalOrUtcTime", 2_u16)
        .with("Priority", job.priority)
        .with("Owner", job.owner.as_str())
        .with("Notify", job.notify.as_str())
        .with("ErrorCode", job.error_code())
        .with("ErrorDescription", job.error_description())
}
