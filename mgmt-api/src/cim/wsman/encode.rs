//! Instances, values and references as DSP0230 writes them.

use super::super::encode::Wanted;
use super::super::mof::{Class, Member};
use super::super::out::Out;
use super::super::path::ObjectPath;
use super::super::schema::Schema;
use super::super::value::{CimType, Instance, Value};
use super::resource::{Style, write_reference};
use super::time;

/// Writes for one client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Writer<'a> {
    pub(super) schema: &'a Schema,
    pub(super) style: Style,
    /// Of the instances.
    pub(super) namespace: &'a str,
}

impl Writer<'_> {
    pub(super) fn uri(&self, class: &str) -> String {
        self.style.uri(self.namespace, class)
    }

    /// An instance with the properties of `shown`, its class or one above it.
    pub(super) fn instance(
        &self,
        out: &mut Out,
        instance: &Instance,
        shown: &Class,
        wanted: &Wanted,
    ) {
        let uri = self.uri(&shown.name);
        let kind = format!("p:{}_Type", shown.name);
        let element = format!("p:{}", shown.name);
        out.element(&element, &[("xmlns:p", &uri), ("xsi:type", &kind)], |out| {
            self.properties(out, "p", shown, instance, wanted);
        });
    }

    /// An instance with the properties alone that have a value.
    pub(super) fn given(
        &self,
        out: &mut Out,
        instance: &Instance,
        more: &[(&str, &str)],
        wanted: &Wanted,
    ) {
        let Some(class) = self.schema.class(&instance.class) else { return };
        let uri = self.uri(&class.name);
        let kind = format!("p:{}_Type", class.name);
        let mut attributes = vec![("xmlns:p", uri.as_str()), ("xsi:type", &kind)];
        attributes.extend_from_slice(more);
        let names = instance.properties.iter().map(|(name, _)| name.to_string());
        let names = names.filter(|name| wanted.has(name)).collect();
        let wanted = Wanted { properties: Some(names), ..Wanted::default() };
        out.element(&format!("p:{}", class.name), &attributes, |out| {
            self.properties(out, "p", class, instance, &wanted);
        });
    }

    /// `XmlFragment`: the properties that a query selects.
    pub(super) fn fragment(&self, out: &mut Out, instance: &Instance, wanted: &Wanted) {
        let Some(class) = self.schema.class(&instance.class) else { return };
        let uri = self.uri(&class.name);
        out.element("w:XmlFragment", &[("xmlns:p", &uri)], |out| {
            self.properties(out, "p", class, instance, wanted);
        });
    }

    /// `EndpointReference`
    pub(super) fn reference(&self, out: &mut Out, path: &ObjectPath) {
        out.element("a:EndpointReference", &[], |out| write_reference(out, self.style, path));
    }

    fn properties(
        &self,
        out: &mut Out,
        prefix: &str,
        class: &Class,
        instance: &Instance,
        wanted: &Wanted,
    ) {
        for member in class.properties.iter().filter(|member| wanted.has(&member.name)) {
            self.property(out, prefix, member, instance.get(&member.name));
        }
    }

    /// A property or a parameter. An array is one element for each of its values, so an empty one
    /// is nothing.
    pub(super) fn property(
        &self,
        out: &mut Out,
        prefix: &str,
        member: &Member,
        value: Option<&Value>,
    ) {
        let element = format!("{prefix}:{}", member.name);
        match value {
            None => out.leaf(&element, &[("xsi:nil", "true")], ""),
            Some(Value::Array(values)) => {
                for value in values {
                    self.value(out, &element, member, value);
                }
            }
            Some(value) => self.value(out, &element, member, value),
        }
    }

    fn value(&self, out: &mut Out, element: &str, member: &Member, value: &Value) {
        match value {
            Value::Bool(flag) => out.leaf(element, &[], if *flag { "true" } else { "false" }),
            Value::Uint(number) => out.leaf(element, &[], &number.to_string()),
            Value::Sint(number) => out.leaf(element, &[], &number.to_string()),
            Value::Real(number) => out.leaf(element, &[], &format!("{number:e}")),
            Value::Text(text) if member.cim_type == CimType::Datetime => {
                let (kind, text) = time::from_cim(text);
                out.element(element, &[], |out| out.leaf(&format!("cim:{kind}"), &[], &text));
            }
            Value::Text(text) => out.leaf(element, &[], text),
            Value::Reference(path) => {
                out.element(element, &[], |out| write_reference(out, self.style, path));
            }
            Value::Embedded(instance) => {
                let Some(class) = self.schema.class(&instance.class) else { return };
                let uri = self.uri(&class.name);
                let kind = format!("q:{}_Type", class.name);
                out.element(element, &[("xmlns:q", &uri), ("xsi:type", &kind)], |out| {
                    self.properties(out, "q", class, instance, &Wanted::default());
                });
            }
            // There are no arrays in arrays.
            Value::Array(_) => {}
        }
    }
}
