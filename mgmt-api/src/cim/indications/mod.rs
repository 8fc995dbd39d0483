//! Indications (DSP1054): clients subscribe to changes of jobs, disks, pools and masking and to errors
//! of the data path, and have them delivered over CIM-XML.
//!
//! Filters, destinations and subscriptions survive a restart, and so does what is not delivered: an
//! indication is stored in the transaction of the change that it tells of (`outbox`), and removed
//! when its listener has taken it. A crash between the two delivers it again, with the number that
//! it had. A listener that is away holds up nobody but itself.

mod delivery;
mod differences;
mod health;
mod message;
mod outbox;
mod query;
mod registry;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use jiff::Timestamp;
use job_engine::error::{NAMESPACE, SYSTEM_CLASS};
use job_engine::{
    ChangeKind, CimError, Disk, DiskId, DiskSnapshot, Engine, Job, JobKind, PoolSettings,
};
use parking_lot::Mutex;
use rustls::ClientConfig;

pub(crate) use self::delivery::RETRY_SECONDS;
use self::outbox::Routes;
pub(crate) use self::registry::{
    DESTINATION, FILTER, MAX_DESTINATIONS, MAX_SUBSCRIPTIONS, SUBSCRIPTION, is_ours,
};
use self::registry::{PREFIX, Registry, key, key_of};
use super::encode::path_of;
use super::fault::{Fault, Status};
use super::health::{Health, Troubles};
use super::instances::{job_instance, pool_of, volume};
use super::methods::error_instance;
use super::path::ObjectPath;
use super::replicas;
use super::schema::Schema;
use super::stored;
use super::time;
use super::value::{Instance, Name, RawInstance, Value};

const CREATION: &str = "CIM_InstCreation";
const MODIFICATION: &str = "CIM_InstModification";
const DELETION: &str = "CIM_InstDeletion";
const ALERT: &str = "CIM_AlertIndication";

/// Who wants to hear what.
pub struct Indications {
    schema: Arc<Schema>,
    system: String,
    /// One change of subscriptions at a time: it waits for the store.
    registry: Mutex<Registry>,
    /// For the engine's thread: nobody waits for anything while he holds it.
    routes: Mutex<Routes>,
    /// What changes are looked up in, before anything changes.
    state: OnceLock<Weak<Engine>>,
    /// What deliveries take their messages from, once there are any.
    engine: OnceLock<Weak<Engine>>,
    tls: OnceLock<Arc<ClientConfig>>,
}

impl fmt::Debug for Indications {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Indications").finish_non_exhaustive()
    }
}

/// How many records of errors there are, by disk.
type Faults = HashMap<DiskId, usize>;

/// The disk on which there were the errors that a record is of.
fn fault_of(job: &Job) -> Option<DiskId> {
    matches!(job.kind, JobKind::DataPathFault(_)).then(|| job.kind.disk())
}

/// Something that happened, for whoever wants to hear of it.
struct Happening {
    class: &'static str,
    source: Option<Instance>,
    previous: Option<Instance>,
    /// Of alerts.
    properties: Vec<(Name, Value)>,
}

impl Happening {
    /// Of an instance; a modification has what that was before.
    fn of(class: &'static str, source: Instance, previous: Option<Instance>) -> Self {
        Self { class, source: Some(source), previous, properties: Vec::new() }
    }

    /// If it looks different, it was modified.
    fn modified(previous: Instance, source: Instance) -> Option<Self> {
        (previous != source).then(|| Self::of(MODIFICATION, source, Some(previous)))
    }
}

impl Indications {
    /// To be the outbox of an engine, and then part of a [`super::Cimom`]. `system` is
    /// `CIM_ComputerSystem.Name`.
    ///
    /// # Errors
    /// The text says what is wrong with the built-in class declarations.
    pub fn new(system: String) -> Result<Arc<Self>, String> {
        let (registry, routes) = (Mutex::default(), Mutex::default());
        let schema = Arc::new(Schema::load()?);
        let (state, engine, tls) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Ok(Arc::new(Self { schema, system, registry, routes, state, engine, tls }))
    }

    /// Says which listeners to believe where they are called over https: before anybody is. Without
    /// it, those that the system's authorities have signed.
    pub fn trust(&self, tls: Arc<ClientConfig>) {
        let _ = self.tls.set(tls);
    }

    pub(crate) fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    pub(crate) fn system(&self) -> &str {
        &self.system
    }

    /// Instances of a class, if clients make such.
    pub(crate) fn instances(&self, class: &str) -> Vec<Instance> {
        self.registry.lock().of_class(class).cloned().collect()
    }

    /// `CreateInstance`; the path of the new instance.
    pub(crate) fn create(
        &self,
        engine: &Engine,
        raw: &RawInstance,
        namespace: &str,
    ) -> Result<ObjectPath, Fault> {
        let mut registry = self.registry.lock();
        let instance = registry.check(raw, None, &self.schema, (SYSTEM_CLASS, &self.system))?;
        let (path, key) = self.names(&instance, namespace)?;
        if registry.get(&key).is_some() {
            // CIM_ERR_ALREADY_EXISTS
            let text = format!("there is {} already", path.to_uri());
            return Err(Fault::new(Status::Other(11), text));
        }
        self.store(engine, &key, &instance)?;
        registry.put(key, instance);
        self.refresh(&registry);
        Ok(path)
    }

    /// `ModifyInstance`; what is given takes the place of what was there.
    pub(crate) fn modify(
        &self,
        engine: &Engine,
        path: &ObjectPath,
        raw: &RawInstance,
    ) -> Result<(), Fault> {
        let mut registry = self.registry.lock();
        let key = key(path, &self.schema);
        let before = registry.get(&key).cloned().ok_or_else(|| missing(path))?;
        // It makes room for itself.
        registry.remove(&key);
        let checked = registry
            .check(raw, Some(&before), &self.schema, (SYSTEM_CLASS, &self.system))
            .and_then(|instance| match key_of(&instance, &self.schema) {
                Some(own) if own == key => Ok(instance),
                _ => Err(Fault::invalid_parameter("keys cannot be changed")),
            })
            .and_then(|instance| self.store(engine, &key, &instance).map(|()| instance));
        let (now, result) = match checked {
            Ok(instance) => (instance, Ok(())),
            Err(fault) => (before, Err(fault)),
        };
        registry.put(key, now);
        self.refresh(&registry);
        result
    }

    /// `DeleteInstance`
    pub(crate) fn delete(&self, engine: &Engine, path: &ObjectPath) -> Result<(), Fault> {
        let mut registry = self.registry.lock();
        let key = key(path, &self.schema);
        if registry.get(&key).is_none() {
            return Err(missing(path));
        }
        if registry.user_of(&key, &self.schema).is_some() {
            return Err(Fault::new(Status::Failed, "a subscription uses it: delete that before"));
        }
        engine.save_record(format!("{PREFIX}{key}"), None)?;
        registry.remove(&key);
        self.refresh(&registry);
        Ok(())
    }

    fn names(&self, instance: &Instance, namespace: &str) -> Result<(ObjectPath, String), Fault> {
        let class = self.schema.class(&instance.class);
        let class = class.ok_or_else(|| Fault::new(Status::InvalidClass, "no such class"))?;
        let path = path_of(class, instance, namespace);
        let key = key(&path, &self.schema);
        Ok((path, key))
    }

    fn store(&self, engine: &Engine, key: &str, instance: &Instance) -> Result<(), Fault> {
        let text = stored::write(instance);
        let text = text.ok_or_else(|| Fault::new(Status::Failed, "it cannot be stored"))?;
        Ok(engine.save_record(format!("{PREFIX}{key}"), Some(text))?)
    }

    fn indication(&self, happening: &Happening) -> Instance {
        let embedded = |instance: &Instance| Value::Embedded(Box::new(instance.clone()));
        let path = happening.source.as_ref().and_then(|source| {
            let class = self.schema.class(&source.class)?;
            Some(path_of(class, source, NAMESPACE).to_uri())
        });
        let mut indication = Instance::new(happening.class)
            .with("IndicationIdentifier", uuid::Uuid::now_v7().to_string())
            .with("IndicationTime", time::datetime(Timestamp::now()))
            .with_some("SourceInstance", happening.source.as_ref().map(embedded))
            .with_some("SourceInstanceModelPath", path)
            .with_some("PreviousInstance", happening.previous.as_ref().map(embedded));
        indication.properties.extend(happening.properties.iter().cloned());
        indication
    }
}

fn missing(path: &ObjectPath) -> Fault {
    Fault::not_found(format!("there is no instance {}", path.to_uri()))
}

impl Indications {
    /// All that these changes are to clients.
    fn all_happenings(&self, changes: &[ChangeKind], masking: bool) -> Vec<Happening> {
        let (mut all, here) = match masking {
            true => self.differences(changes),
            false => (Vec::new(), Vec::new()),
        };
        let mut faults = Faults::new();
        let engine = self.state.get().and_then(Weak::upgrade);
        let mut troubles = engine.map(|engine| engine.pool_health()).unwrap_or_default();
        for change in changes {
            all.extend(self.happenings(change, &troubles));
            all.extend(self.volume_changed(change, &mut faults, &troubles));
            all.extend(self.health_changed(change, &mut troubles));
        }
        all.extend(here);
        all
    }

    /// A disk as it was is what the engine still has. The first error on one makes it degraded, and that
    /// no record of an error is left makes it healthy again.
    fn volume_changed(
        &self,
        change: &ChangeKind,
        faults: &mut Faults,
        troubles: &Troubles,
    ) -> Option<Happening> {
        let (id, now, fault) = if let ChangeKind::DiskChanged(disk) = change {
            (disk.id, Some(&**disk), 0)
        } else if let ChangeKind::JobCreated(job) = change {
            (fault_of(job)?, None, 1)
        } else if let ChangeKind::JobDeleted(job) = change {
            (fault_of(job)?, None, -1)
        } else {
            return None;
        };
        let engine = self.state.get().and_then(Weak::upgrade)?;
        let count = faults.entry(id).or_insert_with(|| engine.faults_of(id));
        let before = *count > 0;
        *count = count.saturating_add_signed(fault);
        let after = *count > 0;
        let disk = engine.disk(&id)?;
        let shown = |disk: &Disk, faulty| {
            volume(&self.system, disk, &Health::of_disk(disk, faulty, troubles))
        };
        let previous = shown(&disk, before);
        let source = shown(now.unwrap_or(&disk), after);
        // Where its image lies is told nobody by itself.
        let shown = |volume: &Instance| {
            let mut shown = volume.clone();
            shown.properties.retain(|(name, _)| **name != *"MSDevicePath");
            shown
        };
        let changed = shown(&previous) != shown(&source);
        changed.then(|| Happening::of(MODIFICATION, source, Some(previous)))
    }

    /// What a change is to clients, if it is one by itself.
    fn happenings(&self, change: &ChangeKind, troubles: &Troubles) -> Vec<Happening> {
        let volume =
            |disk: &Disk| volume(&self.system, disk, &Health::of_disk(disk, false, troubles));
        let pool_of = |pool: &PoolSettings| pool_of(pool, &Health::of_pool(&pool.id, troubles));
        let plain = |class, source| vec![Happening::of(class, source, None)];
        match change {
            ChangeKind::JobCreated(job) => {
                let mut all = plain(CREATION, job_instance(job));
                all.extend(self.alert(job));
                all
            }
            ChangeKind::JobChanged { previous, current } => vec![Happening::of(
                MODIFICATION,
                job_instance(current),
                Some(job_instance(previous)),
            )],
            ChangeKind::JobDeleted(job) => plain(DELETION, job_instance(job)),
            ChangeKind::DiskCreated(disk) => plain(CREATION, volume(disk)),
            ChangeKind::DiskDeleted(disk) => plain(DELETION, volume(disk)),
            ChangeKind::SnapshotCreated(made) => plain(CREATION, self.replica(made, troubles)),
            ChangeKind::SnapshotDeleted(gone) => plain(DELETION, self.replica(gone, troubles)),
            ChangeKind::PoolCreated(pool) => plain(CREATION, pool_of(pool)),
            ChangeKind::PoolChanged(pool) => {
                vec![Happening::of(MODIFICATION, pool_of(pool), Some(pool_of(pool)))]
            }
            ChangeKind::PoolDeleted(pool) => plain(DELETION, pool_of(pool)),
            // `health_changed`, `volume_changed` and `differences` tell of these; of conditions
            // volumes show nothing.
            ChangeKind::DiskChanged(_)
            | ChangeKind::ConditionChanged(_)
            | ChangeKind::ConditionOver(_)
            | ChangeKind::PoolHealthChanged { .. }
            | ChangeKind::TargetCreated(_)
            | ChangeKind::TargetChanged(_)
            | ChangeKind::TargetDeleted(_)
            | ChangeKind::MappingCreated(_)
            | ChangeKind::MappingDeleted(_) => Vec::new(),
        }
    }

    /// A snapshot, which has the blocks of its disk.
    fn replica(&self, snapshot: &DiskSnapshot, troubles: &Troubles) -> Instance {
        let engine = self.state.get().and_then(Weak::upgrade);
        let disk = engine.and_then(|engine| engine.disk(&snapshot.disk));
        let health = Health::of_snapshot(snapshot, troubles);
        replicas::volume_of(&self.system, snapshot, disk.as_ref(), &health)
    }

    /// An error of the data path that is new.
    fn alert(&self, job: &Job) -> Option<Happening> {
        let JobKind::DataPathFault(_) = job.kind else { return None };
        Some(self.alert_of(job.errors.first()?, job.time_submitted))
    }

    /// An alert about the element that an error is of.
    fn alert_of(&self, error: &CimError, when: Timestamp) -> Happening {
        let told = error_instance(error);
        let take = |name: &'static str| Some((Name::from(name), told.get(name)?.clone()));
        let own = [
            "Message",
            "MessageArguments",
            "MessageID",
            "OwningEntity",
            "PerceivedSeverity",
            "ProbableCause",
            "ProbableCauseDescription",
            "RecommendedActions",
        ];
        let mut properties: Vec<_> = own.into_iter().filter_map(take).collect();
        let element = told.get("ErrorSource").cloned();
        properties.extend(element.map(|path| ("AlertingManagedElement".into(), path)));
        for (name, value) in [
            // A CIM object path; a device alert.
            ("AlertingElementFormat", Value::Uint(2)),
            ("AlertType", Value::Uint(5)),
            ("EventTime", Value::from(time::datetime(when))),
            ("SystemCreationClassName", Value::from(SYSTEM_CLASS)),
            ("SystemName", Value::from(self.system.as_str())),
            ("ProviderName", Value::from("lund")),
        ] {
            properties.push((name.into(), value));
        }
        Happening { class: ALERT, source: None, previous: None, properties }
    }
}
