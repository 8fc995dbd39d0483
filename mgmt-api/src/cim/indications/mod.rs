//! Indications (DSP1054): clients subscribe to changes of jobs, disks and targets and to errors of
//! the data path, and have them delivered over CIM-XML.
//!
//! Filters, destinations and subscriptions survive a restart; what was not delivered when the
//! daemon ends does not. A listener that is away holds up nobody but itself.

mod delivery;
mod message;
mod query;
mod registry;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};

use jiff::Timestamp;
use job_engine::error::{NAMESPACE, SYSTEM_CLASS};
use job_engine::{ChangeEvent, ChangeKind, CimError, Engine, Job, JobKind};
use parking_lot::Mutex;

use self::delivery::Delivery;
use self::query::Subject;
pub(crate) use self::registry::{DESTINATION, FILTER, SUBSCRIPTION, is_ours};
use self::registry::{PREFIX, Registry, key, key_of};
use super::encode::{Encoder, path_of};
use super::fault::{Fault, Status};
use super::instances::{View, job_instance};
use super::methods::error_instance;
use super::path::ObjectPath;
use super::schema::Schema;
use super::time;
use super::value::{Instance, RawInstance, Value};

const CREATION: &str = "CIM_InstCreation";
const MODIFICATION: &str = "CIM_InstModification";
const DELETION: &str = "CIM_InstDeletion";
const ALERT: &str = "CIM_AlertIndication";

/// The way to a listener, and the numbers of what goes there.
#[derive(Debug)]
struct Listener {
    delivery: Delivery,
    /// `SequenceContext`: anew with every start.
    context: String,
    /// `SequenceNumber` of the next indication.
    next: u64,
}

#[derive(Debug, Default)]
struct State {
    registry: Registry,
    subscriptions: Vec<registry::Subscription>,
    /// By the destination's key.
    listeners: HashMap<String, Listener>,
}

/// Who wants to hear what.
pub(crate) struct Indications {
    schema: Arc<Schema>,
    system: String,
    state: Mutex<State>,
}

impl fmt::Debug for Indications {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Indications").finish_non_exhaustive()
    }
}

/// Something that happened, for whoever wants to hear of it.
struct Happening {
    class: &'static str,
    source: Option<Instance>,
    previous: Option<Instance>,
    /// Of alerts.
    properties: Vec<(String, Value)>,
}

impl Indications {
    /// Takes up what is in the store, and listens to the engine from now on.
    ///
    /// # Errors
    /// The engine has no thread for it, or stops.
    pub(crate) fn start(
        engine: &Arc<Engine>,
        schema: Arc<Schema>,
        system: String,
    ) -> Result<Arc<Self>, String> {
        let registry = Registry::load(engine.records(), &schema);
        let state = Mutex::new(State { registry, ..State::default() });
        let this = Arc::new(Self { schema, system, state });
        this.refresh(&mut this.state.lock());
        let (weak, source) = (Arc::downgrade(&this), Arc::downgrade(engine));
        let hear = move |event: &ChangeEvent| hear(&weak, &source, event);
        engine.subscribe(Box::new(hear)).map_err(|error| error.to_string())?;
        Ok(this)
    }

    /// Instances of a class, if clients make such.
    pub(crate) fn instances(&self, class: &str) -> Vec<Instance> {
        self.state.lock().registry.of_class(class).cloned().collect()
    }

    /// `CreateInstance`; the path of the new instance.
    pub(crate) fn create(
        &self,
        engine: &Engine,
        raw: &RawInstance,
        namespace: &str,
    ) -> Result<ObjectPath, Fault> {
        let mut state = self.state.lock();
        let instance =
            state.registry.check(raw, None, &self.schema, (SYSTEM_CLASS, &self.system))?;
        let (path, key) = self.names(&instance, namespace)?;
        if state.registry.get(&key).is_some() {
            // CIM_ERR_ALREADY_EXISTS
            let text = format!("there is {} already", path.to_uri());
            return Err(Fault::new(Status::Other(11), text));
        }
        self.store(engine, &key, &instance)?;
        state.registry.put(key, instance);
        self.refresh(&mut state);
        Ok(path)
    }

    /// `ModifyInstance`; what is given takes the place of what was there.
    pub(crate) fn modify(
        &self,
        engine: &Engine,
        path: &ObjectPath,
        raw: &RawInstance,
    ) -> Result<(), Fault> {
        let mut state = self.state.lock();
        let key = key(path, &self.schema);
        let before = state.registry.get(&key).cloned().ok_or_else(|| missing(path))?;
        // It makes room for itself.
        state.registry.remove(&key);
        let checked = state
            .registry
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
        state.registry.put(key, now);
        self.refresh(&mut state);
        result
    }

    /// `DeleteInstance`
    pub(crate) fn delete(&self, engine: &Engine, path: &ObjectPath) -> Result<(), Fault> {
        let mut state = self.state.lock();
        let key = key(path, &self.schema);
        if state.registry.get(&key).is_none() {
            return Err(missing(path));
        }
        if state.registry.user_of(&key, &self.schema).is_some() {
            return Err(Fault::new(Status::Failed, "a subscription uses it: delete that before"));
        }
        engine.save_record(format!("{PREFIX}{key}"), None)?;
        state.registry.remove(&key);
        self.refresh(&mut state);
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
        let text = registry::write(instance);
        let text = text.ok_or_else(|| Fault::new(Status::Failed, "it cannot be stored"))?;
        Ok(engine.save_record(format!("{PREFIX}{key}"), Some(text))?)
    }

    /// Makes subscriptions and listeners anew after a change of the registry. A listener that goes
    /// on keeps what waits for it.
    fn refresh(&self, state: &mut State) {
        state.subscriptions = state.registry.subscriptions(&self.schema);
        let destinations: HashMap<_, _> =
            state.registry.destinations(&self.schema).into_iter().collect();
        let used = |key: &String| state.subscriptions.iter().any(|it| it.destination == *key);
        state.listeners.retain(|key, listener| {
            used(key) && destinations.get(key).is_some_and(|url| listener.delivery.url() == url)
        });
        for (key, url) in destinations.iter().filter(|(key, _)| used(key)) {
            if state.listeners.contains_key(key) {
                continue;
            }
            match Delivery::start(url) {
                Ok(delivery) => {
                    let context = uuid::Uuid::new_v4().to_string();
                    let listener = Listener { delivery, context, next: 0 };
                    state.listeners.insert(key.clone(), listener);
                }
                Err(error) => tracing::error!(%error, listener = url, "no thread for a listener"),
            }
        }
    }

    /// Queues what happened for everybody who subscribed to it.
    fn tell(&self, happening: &Happening) {
        let mut state = self.state.lock();
        let State { subscriptions, listeners, .. } = &mut *state;
        let subject = Subject {
            class: happening.class,
            source: happening.source.as_ref(),
            previous: happening.previous.as_ref(),
        };
        for subscription in subscriptions.iter() {
            if !subscription.query.selects(&subject, &self.schema) {
                continue;
            }
            let Some(listener) = listeners.get_mut(&subscription.destination) else { continue };
            let number = listener.next;
            listener.next += 1;
            let indication = self
                .indication(happening)
                .with("IndicationFilterName", subscription.filter_name.as_str())
                .with("SequenceContext", listener.context.as_str())
                .with("SequenceNumber", Value::Sint(i64::try_from(number).unwrap_or(i64::MAX)));
            let encoder = Encoder { schema: &self.schema, host: &self.system };
            listener.delivery.push(number, message::export(&encoder, number, &indication));
        }
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

/// On the engine's thread: waits for no listener, only for a subscription that is being stored.
fn hear(indications: &Weak<Indications>, engine: &Weak<Engine>, event: &ChangeEvent) {
    let (Some(indications), Some(engine)) = (indications.upgrade(), engine.upgrade()) else {
        return;
    };
    if indications.state.lock().subscriptions.is_empty() {
        return;
    }
    for happening in indications.happenings(&engine, &event.change) {
        indications.tell(&happening);
    }
}

impl Indications {
    /// What a change is to clients. Of disks and targets the changes have no before.
    fn happenings(&self, engine: &Engine, change: &ChangeKind) -> Vec<Happening> {
        let view = View::new(engine, &self.schema, &self.system, self);
        let plain = |class, source| {
            vec![Happening { class, source: Some(source), previous: None, properties: Vec::new() }]
        };
        match change {
            ChangeKind::JobCreated(job) => {
                let mut all = plain(CREATION, job_instance(job));
                all.extend(self.alert(job));
                all
            }
            ChangeKind::JobChanged { previous, current } => vec![Happening {
                class: MODIFICATION,
                source: Some(job_instance(current)),
                previous: Some(job_instance(previous)),
                properties: Vec::new(),
            }],
            ChangeKind::JobDeleted(job) => plain(DELETION, job_instance(job)),
            ChangeKind::DiskCreated(disk) => plain(CREATION, view.volume(disk)),
            ChangeKind::DiskDeleted(disk) => plain(DELETION, view.volume(disk)),
            ChangeKind::TargetCreated(target) => plain(CREATION, view.controller(target)),
            ChangeKind::TargetDeleted(target) => plain(DELETION, view.controller(target)),
            ChangeKind::SnapshotCreated(_)
            | ChangeKind::SnapshotDeleted(_)
            | ChangeKind::DiskChanged(_)
            | ChangeKind::ConditionChanged(_)
            | ChangeKind::ConditionOver(_)
            | ChangeKind::TargetChanged(_)
            | ChangeKind::MappingCreated(_)
            | ChangeKind::MappingDeleted(_) => Vec::new(),
        }
    }

    /// An error of the data path that is new.
    fn alert(&self, job: &Job) -> Option<Happening> {
        let JobKind::DataPathFault(_) = job.kind else { return None };
        let error: &CimError = job.errors.first()?;
        let told = error_instance(error);
        let take = |name: &str| Some((name.to_owned(), told.get(name)?.clone()));
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
        properties.extend(element.map(|path| ("AlertingManagedElement".to_owned(), path)));
        for (name, value) in [
            // A CIM object path; a device alert.
            ("AlertingElementFormat", Value::Uint(2)),
            ("AlertType", Value::Uint(5)),
            ("EventTime", Value::from(time::datetime(job.time_submitted))),
            ("SystemCreationClassName", Value::from(SYSTEM_CLASS)),
            ("SystemName", Value::from(self.system.as_str())),
            ("ProviderName", Value::from("lund")),
        ] {
            properties.push((name.to_owned(), value));
        }
        Some(Happening { class: ALERT, source: None, previous: None, properties })
    }
}
