//! Instances, paths and values as DSP0201 writes them.

use super::indications::SUBSCRIPTION;
use super::instances::INTEROP;
use super::mof::{Class, Member, Written};
use super::out::Out;
use super::path::{Key, ObjectPath};
use super::schema::Schema;
use super::value::{CimType, Instance, Value};

/// What of an instance is wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// `None` is everything.
    pub(crate) properties: Option<Vec<String>>,
    /// `IncludeClassOrigin`.
    pub(crate) origin: bool,
}

impl Wanted {
    pub(crate) fn has(&self, name: &str) -> bool {
        self.properties
            .as_ref()
            .is_none_or(|list| list.iter().any(|own| own.eq_ignore_ascii_case(name)))
    }
}

/// Writes what depends on the schema and on the host that the client asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Encoder<'a> {
    pub(crate) schema: &'a Schema,
    pub(crate) host: &'a str,
}

impl Encoder<'_> {
    /// `INSTANCE`: all wanted properties of its class, those without a value too.
    pub(crate) fn instance(&self, out: &mut Out, instance: &Instance, wanted: &Wanted) {
        out.open("INSTANCE", &[("CLASSNAME", &instance.class)]);
        if let Some(class) = self.schema.class(&instance.class) {
            let all = class.properties.iter().zip(&class.written);
            for (member, written) in all.filter(|(member, _)| wanted.has(&member.name)) {
                let value = instance.get(&member.name);
                self.property(out, &instance.class, written, value, wanted.origin);
            }
        }
        out.close("INSTANCE");
    }

    fn property(
        &self,
        out: &mut Out,
        holder: &str,
        written: &Written,
        value: Option<&Value>,
        origin: bool,
    ) {
        let [without, with] = &written.open;
        out.xml(if origin { with } else { without });
        match value {
            None => {}
            Some(Value::Reference(path)) => self.reference(out, holder, path),
            Some(value) => self.value(out, value),
        }
        out.close(written.element);
    }

    /// `VALUE`, `VALUE.ARRAY` or their kin.
    pub(crate) fn value(&self, out: &mut Out, value: &Value) {
        match value {
            Value::Bool(flag) => out.leaf("VALUE", &[], if *flag { "TRUE" } else { "FALSE" }),
            Value::Uint(number) => out.leaf("VALUE", &[], &number.to_string()),
            Value::Sint(number) => out.leaf("VALUE", &[], &number.to_string()),
            Value::Real(number) => out.leaf("VALUE", &[], &format!("{number:e}")),
            Value::Text(text) => out.leaf("VALUE", &[], text),
            Value::Reference(path) => {
                out.element("VALUE.REFERENCE", &[], |out| self.instance_path(out, path));
            }
            Value::Embedded(instance) => {
                let mut inner = Out::default();
                self.instance(&mut inner, instance, &Wanted::default());
                out.leaf("VALUE", &[], &inner.finish());
            }
            Value::Array(values) => {
                let references = matches!(values.first(), Some(Value::Reference(_)));
                let element = if references { "VALUE.REFARRAY" } else { "VALUE.ARRAY" };
                out.element(element, &[], |out| {
                    for value in values {
                        self.value(out, value);
                    }
                });
            }
        }
    }

    /// An output parameter; the caller leaves out those without a value.
    pub(crate) fn parameter(&self, out: &mut Out, member: &Member, value: &Value) {
        let mut attributes = vec![("NAME", member.name.as_str())];
        attributes.push(("PARAMTYPE", member.cim_type.name()));
        attributes.extend(member.embedded().map(|kind| ("EmbeddedObject", kind)));
        out.element("PARAMVALUE", &attributes, |out| self.value(out, value));
    }

    /// `INSTANCENAME`.
    pub(crate) fn instance_name(&self, out: &mut Out, path: &ObjectPath) {
        out.element("INSTANCENAME", &[("CLASSNAME", &path.class)], |out| {
            for (name, key) in &path.keys {
                out.element("KEYBINDING", &[("NAME", name)], |out| match key {
                    Key::Text(text) => {
                        out.leaf("KEYVALUE", &[("VALUETYPE", "string"), ("TYPE", "string")], text);
                    }
                    Key::Reference(inner) => {
                        self.reference(out, &path.class, inner);
                    }
                });
            }
        });
    }

    /// A reference. Those of subscriptions, which lead to their own namespace, go without the host
    /// and are equal then to the paths that clients have of what they lead to.
    fn reference(&self, out: &mut Out, holder: &str, path: &ObjectPath) {
        out.element("VALUE.REFERENCE", &[], |out| {
            if holder == SUBSCRIPTION {
                out.element("LOCALINSTANCEPATH", &[], |out| {
                    local_namespace_path(out, path.namespace.as_deref().unwrap_or(INTEROP[0]));
                    self.instance_name(out, path);
                });
            } else {
                self.instance_path(out, path);
            }
        });
    }

    /// `INSTANCEPATH`, with host and namespace.
    pub(crate) fn instance_path(&self, out: &mut Out, path: &ObjectPath) {
        out.element("INSTANCEPATH", &[], |out| {
            self.namespace_path(out, path.namespace.as_deref().unwrap_or_default());
            self.instance_name(out, path);
        });
    }

    fn namespace_path(&self, out: &mut Out, namespace: &str) {
        out.element("NAMESPACEPATH", &[], |out| {
            out.leaf("HOST", &[], self.host);
            local_namespace_path(out, namespace);
        });
    }
}

/// `LOCALNAMESPACEPATH`
pub(crate) fn local_namespace_path(out: &mut Out, namespace: &str) {
    out.element("LOCALNAMESPACEPATH", &[], |out| {
        for part in namespace.split('/') {
            out.leaf("NAMESPACE", &[("NAME", part)], "");
        }
    });
}

/// The path of an instance, from the keys of its class.
pub(crate) fn path_of(class: &Class, instance: &Instance, namespace: &str) -> ObjectPath {
    let mut path = ObjectPath::new(namespace, &class.name);
    for member in class.keys() {
        let key = match instance.get(&member.name) {
            Some(Value::Reference(inner)) => Key::Reference(Box::new(inner.clone())),
            Some(Value::Text(text)) => Key::Text(text.clone()),
            _ => Key::Text(String::new()),
        };
        path.keys.push((member.name.clone(), key));
    }
    path
}

/// The element that holds a property, and its start tag.
pub(crate) fn property_tag(member: &Member, origin: bool) -> (&'static str, String) {
    let element = property_element(member);
    let mut attributes = vec![("NAME", member.name.as_str())];
    attributes.push(member.type_attribute());
    if origin {
        attributes.push(("CLASSORIGIN", &member.origin));
    }
    attributes.extend(member.embedded().map(|kind| ("EmbeddedObject", kind)));
    let mut out = Out::default();
    out.open(element, &attributes);
    (element, out.finish())
}

/// The element that holds such a property.
pub(crate) fn property_element(member: &Member) -> &'static str {
    if matches!(member.cim_type, CimType::Reference(_)) {
        "PROPERTY.REFERENCE"
    } else if member.array {
        "PROPERTY.ARRAY"
    } else {
        "PROPERTY"
    }
}
