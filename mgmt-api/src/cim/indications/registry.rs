//! Filters, destinations and subscriptions that clients have made: checked, and kept in the store.

use std::collections::BTreeMap;

use job_engine::StoredRecord;
use job_engine::error::NAMESPACE;

use super::query::Query;
use crate::cim::encode::path_of;
use crate::cim::fault::{Fault, Status};
use crate::cim::mof::Member;
use crate::cim::path::{Key, ObjectPath};
use crate::cim::schema::Schema;
use crate::cim::stored;
use crate::cim::value::{CimType, Instance, RawInstance, Value, convert};

pub(crate) const FILTER: &str = "CIM_IndicationFilter";
pub(crate) const DESTINATION: &str = "CIM_ListenerDestinationCIMXML";
pub(crate) const SUBSCRIPTION: &str = "CIM_IndicationSubscription";

/// Their names in the store begin so.
pub(super) const PREFIX: &str = "cim:";
/// Objects of each kind; a destination has a thread.
const MAX_FILTERS: u32 = 1024;
pub(crate) const MAX_DESTINATIONS: u32 = 64;
pub(crate) const MAX_SUBSCRIPTIONS: u32 = 1024;
/// `SubscriptionState`
const ENABLED: u16 = 2;
const DISABLED: u16 = 4;
/// Languages whose common part is understood.
const LANGUAGES: [&str; 3] = ["WQL", "DMTF:CQL", "CQL"];

/// A subscription with what it joins.
#[derive(Debug, Clone)]
pub(super) struct Subscription {
    pub(super) filter_name: String,
    pub(super) query: Query,
    /// The destination's key here.
    pub(super) destination: String,
}

/// Everything that was made.
#[derive(Debug, Default)]
pub(super) struct Registry {
    /// By class and path; the path is the key in the store.
    objects: BTreeMap<String, Instance>,
}

impl Registry {
    /// What the store holds; what it holds that cannot be read is left alone.
    pub(super) fn load(records: Vec<StoredRecord>, schema: &Schema) -> Self {
        let mut registry = Self::default();
        for record in records {
            let Some(key) = record.name.strip_prefix(PREFIX) else { continue };
            match stored::read(&record.text, schema).filter(|it| is_ours(&it.class)) {
                Some(instance) => {
                    registry.objects.insert(key.to_owned(), instance);
                }
                None => tracing::warn!(name = record.name, "a stored subscription is unreadable"),
            }
        }
        registry
    }

    pub(super) fn of_class<'a>(&'a self, class: &'a str) -> impl Iterator<Item = &'a Instance> {
        self.objects.values().filter(move |instance| instance.class == class)
    }

    pub(super) fn get(&self, key: &str) -> Option<&Instance> {
        self.objects.get(key)
    }

    pub(super) fn put(&mut self, key: String, instance: Instance) {
        self.objects.insert(key, instance);
    }

    pub(super) fn remove(&mut self, key: &str) {
        self.objects.remove(key);
    }

    /// Enabled subscriptions whose filter and destination are there.
    pub(super) fn subscriptions(&self, schema: &Schema) -> Vec<Subscription> {
        let join = |instance: &Instance| {
            if instance.get("SubscriptionState")?.as_uint() != Some(ENABLED.into()) {
                return None;
            }
            let filter = self.get(&reference(instance, "Filter", schema)?)?;
            let destination = reference(instance, "Handler", schema)?;
            self.get(&destination)?;
            let query = Query::parse(text(filter, "Query")?, schema).ok()?;
            Some(Subscription { filter_name: text(filter, "Name")?.to_owned(), query, destination })
        };
        self.of_class(SUBSCRIPTION).filter_map(join).collect()
    }

    /// Destinations and their URLs.
    pub(super) fn destinations(&self, schema: &Schema) -> Vec<(String, String)> {
        let one = |instance: &Instance| {
            Some((key_of(instance, schema)?, text(instance, "Destination")?.to_owned()))
        };
        self.of_class(DESTINATION).filter_map(one).collect()
    }

    /// The instance that a client wants to have, complete and checked.
    ///
    /// # Errors
    /// What is wrong with which property.
    pub(super) fn check(
        &self,
        raw: &RawInstance,
        before: Option<&Instance>,
        schema: &Schema,
        system: (&str, &str),
    ) -> Result<Instance, Fault> {
        let class = schema.class(&raw.class).filter(|class| is_ours(&class.name));
        let class = class.ok_or_else(|| {
            Fault::not_supported(format!("instances of {} cannot be made", raw.class))
        })?;
        let mut instance = before.cloned().unwrap_or_else(|| Instance::new(class.name.clone()));
        for (name, value) in &raw.properties {
            let property = class.property(name).ok_or_else(|| {
                Fault::new(Status::NoSuchProperty, format!("{} has no {name}", class.name))
            })?;
            let value = convert(value, &property.cim_type, property.array, name)?;
            set(&mut instance, &property.name, value);
        }
        match &*instance.class {
            FILTER => self.check_filter(&mut instance, schema, system)?,
            DESTINATION => self.check_destination(&mut instance, system)?,
            _ => self.check_subscription(&mut instance, schema)?,
        }
        Ok(instance)
    }

    fn check_filter(
        &self,
        instance: &mut Instance,
        schema: &Schema,
        system: (&str, &str),
    ) -> Result<(), Fault> {
        self.room(FILTER, MAX_FILTERS)?;
        name(instance, system);
        let language = text(instance, "QueryLanguage").unwrap_or_default();
        if !LANGUAGES.iter().any(|own| own.eq_ignore_ascii_case(language)) {
            let text = format!("QueryLanguage must be one of {}", LANGUAGES.join(", "));
            // CIM_ERR_QUERY_LANGUAGE_NOT_SUPPORTED
            return Err(Fault::new(Status::Other(14), text));
        }
        let query = text(instance, "Query").unwrap_or_default();
        // CIM_ERR_INVALID_QUERY
        let invalid = |reason| Fault::new(Status::Other(15), format!("Query: {reason}"));
        Query::parse(query, schema).map_err(invalid)?;
        check_namespaces(instance)?;
        let supported = "IndividualSubscriptionSupported";
        match instance.get(supported) {
            Some(Value::Bool(true)) => Ok(()),
            Some(_) => Err(Fault::not_supported(format!("{supported} must be TRUE"))),
            None => {
                set(instance, supported, Some(Value::Bool(true)));
                Ok(())
            }
        }
    }

    fn check_destination(
        &self,
        instance: &mut Instance,
        system: (&str, &str),
    ) -> Result<(), Fault> {
        self.room(DESTINATION, MAX_DESTINATIONS)?;
        name(instance, system);
        let url = text(instance, "Destination").unwrap_or_default();
        let scheme = url.split_once("://").filter(|(_, rest)| !rest.is_empty()).map(|it| it.0);
        let known = |own: &str| scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(own));
        if !known("http") && !known("https") {
            let text = "Destination must be a URL that begins with http:// or https://";
            return Err(Fault::invalid_parameter(text));
        }
        // They would be kept where every viewer reads them.
        for property in ["username", "password"] {
            if instance.get(property).is_some() {
                return Err(Fault::not_supported(format!("{property}: listeners get no password")));
            }
        }
        // Permanent or, what pywbem's manager asks for and removes by itself, transient; CIM-XML.
        one_of(instance, "PersistenceType", &[2, 3])?;
        one_of(instance, "Protocol", &[2])
    }

    fn check_subscription(&self, instance: &mut Instance, schema: &Schema) -> Result<(), Fault> {
        self.room(SUBSCRIPTION, MAX_SUBSCRIPTIONS)?;
        for (property, class) in [("Filter", FILTER), ("Handler", DESTINATION)] {
            let found = reference(instance, property, schema).and_then(|key| self.get(&key));
            if found.is_none_or(|found| found.class != class) {
                let text = format!("{property} must name an instance of {class}");
                return Err(Fault::invalid_parameter(text));
            }
        }
        // It has no end of its own, and each indication is told once.
        for property in ["SubscriptionDuration", "RepeatNotificationInterval"] {
            if instance.get(property).is_some() {
                return Err(Fault::not_supported(format!("{property} cannot be given")));
            }
        }
        one_of(instance, "SubscriptionState", &[ENABLED, DISABLED])?;
        // Ignore: errors of the listener do not end it. None.
        one_of(instance, "OnFatalErrorPolicy", &[2])?;
        one_of(instance, "RepeatNotificationPolicy", &[2])
    }

    fn room(&self, class: &str, limit: u32) -> Result<(), Fault> {
        if u32::try_from(self.of_class(class).count()).is_ok_and(|count| count < limit) {
            return Ok(());
        }
        let text = format!("there are {limit} instances of {class}, which is the limit");
        Err(Fault::new(Status::ServerLimitsExceeded, text))
    }

    /// The first subscription that names an object.
    pub(super) fn user_of(&self, key: &str, schema: &Schema) -> Option<&Instance> {
        self.of_class(SUBSCRIPTION).find(|instance| {
            let names = |property| reference(instance, property, schema).as_deref() == Some(key);
            names("Filter") || names("Handler")
        })
    }
}

/// Whether clients may make instances of this class.
pub(crate) fn is_ours(class: &str) -> bool {
    [FILTER, DESTINATION, SUBSCRIPTION].contains(&class)
}

/// Adds the keys that a client may leave to the server.
fn name(instance: &mut Instance, (system_class, system): (&str, &str)) {
    let class = instance.class.clone();
    let own = uuid::Uuid::now_v7().to_string();
    for (property, value) in [
        ("SystemCreationClassName", system_class),
        ("SystemName", system),
        ("CreationClassName", &*class),
        ("Name", own.as_str()),
    ] {
        if text(instance, property).unwrap_or_default().is_empty() {
            set(instance, property, Some(value.into()));
        }
    }
}

fn set(instance: &mut Instance, name: &str, value: Option<Value>) {
    instance.properties.retain(|(own, _)| !own.eq_ignore_ascii_case(name));
    instance.properties.extend(value.map(|value| (name.to_owned().into(), value)));
}

/// A property that can have these values alone; the first one if it is not given.
fn one_of(instance: &mut Instance, property: &str, allowed: &[u16]) -> Result<(), Fault> {
    let given = instance.get(property).map(Value::as_uint);
    match given {
        None => {
            set(instance, property, allowed.first().map(|value| Value::from(*value)));
            Ok(())
        }
        Some(Some(number)) if allowed.iter().any(|value| u64::from(*value) == number) => Ok(()),
        Some(_) => Err(Fault::not_supported(format!("{property} must be one of {allowed:?}"))),
    }
}

/// A filter is about the storage namespace, if it says any.
fn check_namespaces(instance: &Instance) -> Result<(), Fault> {
    for property in ["SourceNamespace", "SourceNamespaces"] {
        let named: Vec<&str> = match instance.get(property) {
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_text).collect(),
            other => other.and_then(Value::as_text).into_iter().collect(),
        };
        let ours = |name: &&str| name.trim_matches('/').eq_ignore_ascii_case(NAMESPACE);
        if let Some(other) = named.iter().find(|name| !ours(name)) {
            let text = format!("{property}: indications come from {NAMESPACE} alone, not {other}");
            return Err(Fault::invalid_parameter(text));
        }
    }
    Ok(())
}

fn text<'a>(instance: &'a Instance, name: &str) -> Option<&'a str> {
    instance.get(name).and_then(Value::as_text)
}

/// The key of an object here: its path without a namespace, since both names of the namespace mean
/// the same objects.
pub(super) fn key_of(instance: &Instance, schema: &Schema) -> Option<String> {
    let path = path_of(schema.class(&instance.class)?, instance, "");
    Some(key(&path, schema))
}

/// The same from a path as a client writes it.
pub(super) fn key(path: &ObjectPath, schema: &Schema) -> String {
    let class = schema.class(&path.class);
    let name = class.map_or(path.class.as_str(), |class| class.name.as_str());
    let mut canonical = ObjectPath { namespace: None, class: name.to_owned(), keys: Vec::new() };
    for member in class.into_iter().flat_map(|class| class.keys()) {
        let value = match path.key(&member.name) {
            Some(Key::Text(text)) => match ObjectPath::parse_uri(text) {
                Some(inner) if is_reference(member) => key(&inner, schema),
                _ => text.clone(),
            },
            Some(Key::Reference(inner)) => key(inner, schema),
            None => String::new(),
        };
        canonical.keys.push((member.name.clone(), Key::Text(value)));
    }
    canonical.to_uri()
}

fn is_reference(member: &Member) -> bool {
    matches!(member.cim_type, CimType::Reference(_))
}

fn reference(instance: &Instance, property: &str, schema: &Schema) -> Option<String> {
    Some(key(instance.get(property)?.as_reference()?, schema))
}
