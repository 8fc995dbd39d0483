//! Instances that clients have made, as the store keeps them.

use serde::{Deserialize, Serialize};

use super::path::ObjectPath;
use super::schema::Schema;
use super::value::{Instance, Name, Value};

/// A property as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stored {
    Bool(bool),
    Uint(u64),
    Text(String),
    Texts(Vec<String>),
    Reference(String),
}

impl Stored {
    fn of(value: &Value) -> Option<Self> {
        Some(match value {
            Value::Bool(flag) => Self::Bool(*flag),
            Value::Uint(number) => Self::Uint(*number),
            Value::Text(text) => Self::Text(text.clone()),
            Value::Reference(path) => Self::Reference(path.to_uri()),
            Value::Array(items) => {
                let texts = items.iter().map(|item| item.as_text().map(str::to_owned));
                Self::Texts(texts.collect::<Option<_>>()?)
            }
            Value::Sint(_) | Value::Real(_) | Value::Embedded(_) => return None,
        })
    }

    fn value(self) -> Option<Value> {
        Some(match self {
            Self::Bool(flag) => Value::Bool(flag),
            Self::Uint(number) => Value::Uint(number),
            Self::Text(text) => Value::Text(text),
            Self::Texts(texts) => Value::texts(texts),
            Self::Reference(uri) => Value::Reference(ObjectPath::parse_uri(&uri)?),
        })
    }
}

/// An object as it is stored.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    class: String,
    properties: Vec<(String, Stored)>,
}

/// What the store keeps of an object.
pub(crate) fn write(instance: &Instance) -> Option<String> {
    let stored = |(name, value): &(Name, Value)| Some((name.to_string(), Stored::of(value)?));
    let properties = instance.properties.iter().filter_map(stored).collect();
    serde_json::to_string(&Record { class: instance.class.to_string(), properties }).ok()
}

/// Reads it again; `None` for what cannot be read.
pub(crate) fn read(text: &str, schema: &Schema) -> Option<Instance> {
    let record: Record = serde_json::from_str(text).ok()?;
    let class = schema.class(&record.class)?;
    let mut instance = Instance::new(class.name.clone());
    for (name, value) in record.properties {
        instance.properties.push((name.into(), value.value()?));
    }
    Some(instance)
}
