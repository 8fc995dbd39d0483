//! What is to be told, from the transaction of a change to the listener that takes it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use job_engine::{ChangeKind, Engine, Outbox, StoredRecord};
use serde::{Deserialize, Serialize};

use super::delivery::{Delivery, Source};
use super::query::Subject;
use super::registry::{Registry, Subscription};
use super::{Happening, Indications, differences, message};
use crate::cim::encode::Encoder;
use crate::cim::value::Value;

/// Keys of messages: `<prefix><context>/<number>`, so that they lie in their order.
const MESSAGES: &str = "cim-xml/message/";
/// Keys of what is known of listeners: `<prefix><key of the destination>`.
const LISTENERS: &str = "cim-xml/listener/";

/// When the daemon ends, listeners may take so long to answer what they have been told.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The numbers of what goes to a listener, as they are stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Numbers {
    /// `SequenceContext`
    context: String,
    /// `SequenceNumber` of the next indication.
    next: u64,
}

impl Numbers {
    fn new() -> Self {
        Self { context: uuid::Uuid::new_v4().to_string(), next: 0 }
    }

    fn key(&self) -> String {
        format!("{MESSAGES}{}/{:020}", self.context, self.next)
    }
}

/// The way to a listener.
#[derive(Debug)]
struct Listener {
    delivery: Arc<Delivery>,
    /// Those that are stored, and those with what is about to be.
    durable: Numbers,
    numbers: Numbers,
    /// Messages that are about to be stored.
    told: Vec<String>,
}

/// Who is told what.
#[derive(Debug, Default)]
pub(super) struct Routes {
    subscriptions: Vec<Subscription>,
    /// By the destination's key.
    listeners: HashMap<String, Listener>,
    /// Numbers and messages that the store held, until their listeners are there.
    stored: BTreeMap<String, Numbers>,
    waiting: BTreeMap<String, VecDeque<String>>,
}

/// Messages in the engine's store.
struct Stored(Weak<Engine>);

impl Source for Stored {
    fn text(&self, key: &str) -> Option<String> {
        self.0.upgrade()?.message(key)
    }

    fn delivered(&self, key: String) {
        let removed = self.0.upgrade().map(|engine| engine.remove_messages(vec![key]));
        if let Some(Err(error)) = removed {
            tracing::warn!(%error, "an indication may be delivered again after a restart");
        }
    }
}

impl Routes {
    /// The listeners that subscriptions lead to from now on. One that goes on keeps what waits for
    /// it; the keys of what nobody waits for any more.
    fn lead(&mut self, registry: &Registry, indications: &Indications) -> Vec<String> {
        let schema = &indications.schema;
        self.subscriptions = registry.subscriptions(schema);
        let destinations: HashMap<_, _> = registry.destinations(schema).into_iter().collect();
        let used = |key: &String| self.subscriptions.iter().any(|it| it.destination == *key);
        let mut gone = Vec::new();
        self.listeners.retain(|key, listener| {
            let stays = used(key)
                && destinations.get(key).is_some_and(|url| listener.delivery.url() == url);
            if !stays {
                gone.extend(listener.delivery.keys());
                gone.push(format!("{LISTENERS}{key}"));
            }
            stays
        });
        for (key, url) in destinations.iter().filter(|(key, _)| used(key)) {
            if self.listeners.contains_key(key) {
                continue;
            }
            let numbers = self.stored.remove(key).unwrap_or_else(Numbers::new);
            let messages = self.waiting.remove(&numbers.context).unwrap_or_default();
            let delivery = Arc::new(Delivery::new(url, messages));
            if let Some(engine) = indications.engine.get() {
                start(&delivery, engine, indications);
            }
            let (durable, told) = (numbers.clone(), Vec::new());
            let listener = Listener { delivery, durable, numbers, told };
            self.listeners.insert(key.clone(), listener);
        }
        gone
    }
}

fn start(delivery: &Delivery, engine: &Weak<Engine>, indications: &Indications) {
    let (source, tls) = (Arc::new(Stored(engine.clone())), indications.tls.get().cloned());
    if let Err(error) = delivery.start(source, tls) {
        tracing::error!(%error, listener = delivery.url(), "no thread for a listener");
    }
}

impl Indications {
    /// Begins to deliver.
    pub(crate) fn connect(&self, engine: &Arc<Engine>) {
        let mut orphans = Vec::new();
        {
            let mut routes = self.routes.lock();
            if self.engine.set(Arc::downgrade(engine)).is_err() {
                return;
            }
            for listener in routes.listeners.values() {
                start(&listener.delivery, &Arc::downgrade(engine), self);
            }
            orphans.extend(std::mem::take(&mut routes.waiting).into_values().flatten());
            let stored = std::mem::take(&mut routes.stored).into_keys();
            orphans.extend(stored.map(|key| format!("{LISTENERS}{key}")));
        }
        self.forget(orphans);
    }

    /// Delivers nothing more: what is under way gets a moment, the rest waits for the next start.
    pub fn stop(&self) {
        let deliveries: Vec<Arc<Delivery>> = {
            let routes = self.routes.lock();
            routes.listeners.values().map(|listener| listener.delivery.clone()).collect()
        };
        deliveries.iter().for_each(|delivery| delivery.close());
        let deadline = Instant::now() + LAST_WORDS;
        deliveries.iter().for_each(|delivery| delivery.wait(deadline));
    }

    /// Makes listeners anew after a change of the registry.
    pub(super) fn refresh(&self, registry: &Registry) {
        let gone = self.routes.lock().lead(registry, self);
        self.forget(gone);
    }

    fn forget(&self, keys: Vec<String>) {
        let Some(engine) = self.engine.get().and_then(Weak::upgrade) else { return };
        if keys.is_empty() {
            return;
        }
        if let Err(error) = engine.remove_messages(keys) {
            tracing::warn!(%error, "indications that nobody waits for stay stored");
        }
    }

    /// Messages about one thing that happens, for everybody who subscribed to it.
    fn messages(
        &self,
        routes: &mut Routes,
        happening: &Happening,
        entries: &mut Vec<(String, Option<String>)>,
    ) {
        let Routes { subscriptions, listeners, .. } = routes;
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
            let numbers = &mut listener.numbers;
            let number = numbers.next;
            let indication = self
                .indication(happening)
                .with("IndicationFilterName", subscription.filter_name.as_str())
                .with("SequenceContext", numbers.context.as_str())
                .with("SequenceNumber", Value::Sint(i64::try_from(number).unwrap_or(i64::MAX)));
            let encoder = Encoder { schema: &self.schema, host: &self.system };
            let key = numbers.key();
            entries.push((key.clone(), Some(message::export(&encoder, number, &indication))));
            entries.extend(listener.delivery.make_room().map(|oldest| (oldest, None)));
            numbers.next += 1;
            listener.told.push(key);
        }
    }
}

impl Outbox for Indications {
    fn open(&self, records: Vec<StoredRecord>, messages: Vec<StoredRecord>) {
        let mut registry = self.registry.lock();
        let mut routes = self.routes.lock();
        for StoredRecord { name, text } in messages {
            if let Some(key) = name.strip_prefix(LISTENERS) {
                match serde_json::from_str(&text) {
                    Ok(numbers) => drop(routes.stored.insert(key.to_owned(), numbers)),
                    Err(error) => tracing::warn!(%error, "a listener begins to count anew"),
                }
            } else if let Some((context, _)) =
                name.strip_prefix(MESSAGES).and_then(|rest| rest.split_once('/'))
            {
                let context = context.to_owned();
                routes.waiting.entry(context).or_default().push_back(name);
            }
        }
        *registry = Registry::load(records, &self.schema);
        // What is left over goes when the engine can be called.
        drop(routes.lead(&registry, self));
    }

    fn engine(&self, engine: Weak<Engine>) {
        let _ = self.state.set(engine);
    }

    fn tell(&self, changes: &[ChangeKind]) -> Vec<(String, Option<String>)> {
        let mut entries = Vec::new();
        let mut routes = self.routes.lock();
        if routes.subscriptions.is_empty() {
            return entries;
        }
        let schema = &self.schema;
        let masking = differences::CLASSES.iter().any(|class| {
            routes.subscriptions.iter().any(|it| it.query.may_be_about(class, schema))
        });
        for happening in self.all_happenings(changes, masking) {
            self.messages(&mut routes, &happening, &mut entries);
        }
        for (key, listener) in routes.listeners.iter().filter(|(_, it)| !it.told.is_empty()) {
            let numbers = serde_json::to_string(&listener.numbers).unwrap_or_default();
            entries.push((format!("{LISTENERS}{key}"), Some(numbers)));
        }
        entries
    }

    fn done(&self, durable: bool) {
        for listener in self.routes.lock().listeners.values_mut() {
            let told = std::mem::take(&mut listener.told);
            if durable {
                listener.durable = listener.numbers.clone();
                told.into_iter().for_each(|key| listener.delivery.push(key));
            } else {
                listener.numbers = listener.durable.clone();
            }
        }
    }
}
