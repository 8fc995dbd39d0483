//! Instances and parameters as DSP0230 writes them, before their types are looked at.

use std::collections::HashMap;

use super::super::mof::{Class, Member};
use super::super::schema::Schema;
use super::super::value::{CimType, Raw, RawInstance};
use super::fault::{self, SoapFault};
use super::node::Node;
use super::resource::Target;
use super::{COMMON, Result, SCHEMA_INSTANCE, time};

/// Instances in instances.
const MAX_DEPTH: usize = 4;

fn invalid(text: String) -> Box<SoapFault> {
    SoapFault::new(&fault::INVALID_REPRESENTATION, text)
}

/// Children of one name together, in the order in which the names came. They are of the namespace
/// of what they stand in.
fn grouped(parent: &Node) -> Result<Vec<(&str, Vec<&Node>)>> {
    let mut groups: Vec<(&str, Vec<&Node>)> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for child in &parent.children {
        let name = child.name.as_str();
        if let Some((_, group)) = places.get(name).and_then(|place| groups.get_mut(*place)) {
            group.push(child);
        } else {
            places.insert(name, groups.len());
            groups.push((name, vec![child]));
        }
    }
    match parent.children.iter().find(|child| child.namespace != parent.namespace) {
        Some(other) => Err(invalid(format!("{} is not in the namespace of its class", other.name))),
        None => Ok(groups),
    }
}

/// The properties of an instance.
pub(super) fn instance(node: &Node, class: &Class, schema: &Schema) -> Result<RawInstance> {
    instance_below(node, class, schema, MAX_DEPTH)
}

fn instance_below(
    node: &Node,
    class: &Class,
    schema: &Schema,
    depth: usize,
) -> Result<RawInstance> {
    let properties = grouped(node)?.into_iter().map(|(name, group)| {
        Ok((name.to_owned(), value(&group, class.property(name), schema, depth)?))
    });
    Ok(RawInstance { class: class.name.clone(), properties: properties.collect::<Result<_>>()? })
}

/// The input parameters of a method: those that are not declared too, so that they are refused.
pub(super) fn parameters(
    input: &Node,
    declared: &[Member],
    schema: &Schema,
) -> Result<Vec<(String, Raw)>> {
    let parameters = grouped(input)?.into_iter().map(|(name, group)| {
        let member = declared.iter().find(|own| own.name.eq_ignore_ascii_case(name));
        Ok((name.to_owned(), value(&group, member, schema, MAX_DEPTH)?))
    });
    parameters.collect()
}

/// What one or more elements of a name hold.
fn value(group: &[&Node], member: Option<&Member>, schema: &Schema, depth: usize) -> Result<Raw> {
    let is_nil = |node: &Node| node.flag(SCHEMA_INSTANCE, "nil");
    let reference = |node: &Node| Target::of_reference(node).map(|target| target.path);
    let (array, cim_type) = match member {
        Some(member) => (member.array, &member.cim_type),
        None => (group.len() > 1, &CimType::String),
    };
    let embedded = member.is_some_and(|member| member.embedded().is_some());
    match group {
        [] => Ok(Raw::Null),
        [one] if is_nil(one) => Ok(Raw::Null),
        [one] if !array => match cim_type {
            CimType::Reference(_) => reference(one).map(Raw::Reference),
            _ if embedded && !one.children.is_empty() => embedded_instance(one, schema, depth),
            CimType::Boolean
            | CimType::String
            | CimType::Char16
            | CimType::Uint(_)
            | CimType::Sint(_)
            | CimType::Real(_)
            | CimType::Datetime => text(one, cim_type).map(Raw::Text),
        },
        [first, _, ..] if !array => Err(invalid(format!("{} comes twice", first.name))),
        all if matches!(cim_type, CimType::Reference(_)) => {
            let paths = all.iter().map(|node| reference(node));
            Ok(Raw::References(paths.collect::<Result<_>>()?))
        }
        [first, ..] if embedded && !first.children.is_empty() => {
            Err(invalid(format!("{}: arrays of instances are not taken", first.name)))
        }
        all => {
            let items = all
                .iter()
                .map(|node| if is_nil(node) { Ok(None) } else { text(node, cim_type).map(Some) });
            Ok(Raw::Array(items.collect::<Result<_>>()?))
        }
    }
}

/// `xsi:type` names the class.
fn embedded_instance(node: &Node, schema: &Schema, depth: usize) -> Result<Raw> {
    let kind = node.attribute(SCHEMA_INSTANCE, "type").unwrap_or_default();
    let name = kind.split_once(':').map_or(kind, |(_, name)| name);
    let class = name.strip_suffix("_Type").and_then(|name| schema.class(name));
    let class = class
        .filter(|_| depth > 0)
        .ok_or_else(|| invalid(format!("{}: {kind:?} is no type of an instance", node.name)))?;
    // Its properties are in the namespace of its own class.
    let mut node = node.clone();
    if let Some(first) = node.children.first() {
        node.namespace = first.namespace.clone();
    }
    instance_below(&node, class, schema, depth - 1).map(Raw::Instance)
}

fn text(node: &Node, cim_type: &CimType) -> Result<String> {
    match node.children.as_slice() {
        [] if *cim_type == CimType::Datetime => Ok(time::to_cim(node.text())),
        [] => Ok(node.whole_text().to_owned()),
        // cimDateTime
        [moment] if &*moment.namespace == COMMON && moment.children.is_empty() => {
            Ok(time::to_cim(moment.text()))
        }
        _ => Err(invalid(format!("{} has elements in it that mean nothing there", node.name))),
    }
}
