//! Instances, paths and values as DSP0201 writes them.

use super::indications::SUBSCRIPTION;
use super::instances::INTEROP;
use super::mof::{Class, Member};
use super::out::Out;
use super::path::{Key, ObjectPath};
use super::schema::Schema;
use super::value::{CimType, Instance, Name, Value};

/// What of an instance is wanted.
#[derive(Debug, Clone, Default, PartialEq)]
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
        let last = out.template.take().filter(|last| last.fits(instance, wanted));
        let template = last.unwrap_or_else(|| self.template(instance, wanted));
        for (before, place) in &template.values {
            out.xml(before);
            match instance.properties.get(*place) {
                None => {}
                Some((_, Value::Reference(path))) => self.reference(out, &instance.class, path),
                Some((_, value)) => self.value(out, value),
            }
        }
        out.xml(&template.end);
        out.template = Some(template);
    }

    fn template(&self, instance: &Instance, wanted: &Wanted) -> Template {
        let (mut text, mut values) = (Out::default(), Vec::new());
        text.open("INSTANCE", &[("CLASSNAME", &instance.class)]);
        if let Some(class) = self.schema.class(&instance.class) {
            let all = class.properties.iter().zip(&class.written);
            for (member, written) in all.filter(|(member, _)| wanted.has(&member.name)) {
                let [without, with] = &written.open;
                text.xml(if wanted.origin { with } else { without });
                values.extend(instance.place(&member.name).map(|place| (text.take(), place)));
                text.close(written.element);
            }
        }
        text.close("INSTANCE");
        let names = instance.properties.iter().map(|(name, _)| name.clone()).collect();
        let (class, wanted) = (instance.class.clone(), wanted.clone());
        Template { class, names, wanted, values, end: text.finish() }
    }

    /// `VALUE`, `VALUE.ARRAY` or their kin.
    pub(crate) fn value(&self, out: &mut Out, value: &Value) {
        match value {
            Value::Bool(true) => out.xml("<VALUE>TRUE</VALUE>"),
            Value::Bool(false) => out.xml("<VALUE>FALSE</VALUE>"),
            Value::Uint(number) => plain(out, number),
            Value::Sint(number) => plain(out, number),
            Value::Real(number) => plain(out, format_args!("{number:e}")),
            Value::Text(text) => {
                out.xml("<VALUE>");
                out.text(text);
                out.xml("</VALUE>");
            }
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

/// How instances of one shape are written: those of one class that have the same properties, and of
/// which the same is wanted, differ in their values alone.
#[derive(Debug)]
pub(super) struct Template {
    class: Name,
    names: Vec<Name>,
    wanted: Wanted,
    /// What stands before each value, and the value's place in the instance.
    values: Vec<(String, usize)>,
    /// What stands behind the last one.
    end: String,
}

impl Template {
    fn fits(&self, instance: &Instance, wanted: &Wanted) -> bool {
        let names = instance.properties.iter().map(|(name, _)| name);
        self.class == instance.class && self.names.iter().eq(names) && self.wanted == *wanted
    }
}

fn plain(out: &mut Out, number: impl std::fmt::Display) {
    out.xml("<VALUE>");
    out.plain(number);
    out.xml("</VALUE>");
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
